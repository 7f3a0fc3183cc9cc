//! Shared by operations over sequences on the CPU: rows that threads own through all steps, and
//! loops over registers' worth of columns.

use crate::device::cpu::gemm::Store;
use crate::tensor::Real;

/// Shared mutable access to the rows of a `[T, B, N]` buffer, for threads that own different rows
/// of the batch, or columns of them.
pub(super) struct Rows<T> {
    pointer: *mut T,
    length: usize,
}

// SAFETY: every use touches only what its thread owns: that is the promise of `range`'s callers.
unsafe impl<T: Send> Sync for Rows<T> {}

impl<T> Rows<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Rows { pointer: slice.as_mut_ptr(), length: slice.len() }
    }

    /// # Safety
    /// No other reference to this range may be alive.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn range(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start + length <= self.length);
        // SAFETY: within the buffer; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), length) }
    }
}

/// Elements that loops work on at once, in arrays of their own: nothing can overlap them, so that
/// the loops become vector instructions (of seven slices a compiler cannot know that).
pub(super) const LANES: usize = 16;

/// Up to [`LANES`] elements, the rest zeros.
#[inline(always)]
pub(super) fn load<T: Real>(from: &[T]) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    lanes[..from.len()].copy_from_slice(from);
    lanes
}

/// Calls `work(first element, number of elements)` for the pieces of a row of `h` elements.
#[inline(always)]
pub(super) fn by_lanes(h: usize, mut work: impl FnMut(usize, usize)) {
    let whole = h / LANES * LANES;
    // written twice, so that the first one has a fixed length
    for k in (0..whole).step_by(LANES) {
        work(k, LANES);
    }
    if whole < h {
        work(whole, h - whole);
    }
}

/// `out (+)= values`
#[inline(always)]
pub(super) fn put<T: Real>(values: &[T], out: &mut [T], store: Store) {
    match store {
        Store::Set => out.copy_from_slice(values),
        Store::Add => out.iter_mut().zip(values).for_each(|(o, &v)| *o += v),
    }
}
