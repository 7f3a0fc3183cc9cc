//! Packing: copies of the operands in the order in which micro-kernels read them.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use super::super::isa::{Isa, Kernel, dispatch_on};
use super::Matrix;
use super::bf16::Form;
use super::kernels::prefetch;
use crate::device::pages::Pages;
use crate::device::refusal::no_memory;
use crate::device::{DType, Real};

/// Packs all of `matrix`, `[k, columns]`, as panels of `width` columns: `[k, width]` each, one
/// behind the other. (Two rows of k make one of a panel in [`Form::Pairs`].)
///
/// The last panel may have fewer columns: it is filled with zeros to the full width if `fill`,
/// otherwise it is narrower. Both operands are packed like this, the left one transposed.
pub fn pack_panels<T: Real>(
    isa: Isa,
    form: Form,
    matrix: Matrix<T>,
    width: usize,
    fill: bool,
    to: &mut [MaybeUninit<T>],
) {
    let (whole, height) = (matrix.columns / width, matrix.rows.div_ceil(form.depth()));
    let (to, last) = to.split_at_mut(whole * width * height);
    dispatch_on(isa, Panels { isa, form, matrix: matrix.columns(0..whole * width), width, to });
    let rest = matrix.columns(whole * width..matrix.columns);
    if rest.columns > 0 {
        let width = if fill { width } else { rest.columns };
        pack_any(form, rest, last[..height * width].chunks_exact_mut(width));
    }
}

/// For any matrix that is not wider than the rows `to` of one panel; the rest of those becomes
/// zero.
fn pack_any<'a, T: Real>(form: Form, matrix: Matrix<T>, to: impl Iterator<Item = &'a mut [MaybeUninit<T>]>) {
    for (row, to) in to.enumerate() {
        let (to, zeros) = to.split_at_mut(matrix.columns);
        for (column, to) in to.iter_mut().enumerate() {
            to.write(packed(form, matrix, row, column));
        }
        zeros.fill(MaybeUninit::new(T::ZERO));
    }
}

/// The source of row `row` of `column`.
#[inline(always)]
fn packed<T: Real>(form: Form, matrix: Matrix<T>, row: usize, column: usize) -> T {
    let element = |row| matrix.data[row * matrix.row_stride + column * matrix.column_stride];
    match form {
        Form::Plain => element(row),
        Form::Rounded => element(row).rounded(),
        Form::Pairs => {
            let second = if 2 * row + 1 < matrix.rows { element(2 * row + 1) } else { T::ZERO };
            element(2 * row).pair(second)
        }
    }
}

/// Whole panels.
struct Panels<'a, T> {
    isa: Isa,
    form: Form,
    matrix: Matrix<'a, T>,
    width: usize,
    to: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Panels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        // the widths and heights of the micro-kernels' tiles, for which the inner loops have a
        // fixed length
        match self.width {
            1 => self.pack::<1>(),
            2 => self.pack::<2>(),
            3 => self.pack::<3>(),
            4 => self.pack::<4>(),
            5 => self.pack::<5>(),
            6 => self.pack::<6>(),
            7 => self.pack::<7>(),
            8 => self.pack::<8>(),
            9 => self.pack::<9>(),
            10 => self.pack::<10>(),
            11 => self.pack::<11>(),
            12 => self.pack::<12>(),
            13 => self.pack::<13>(),
            14 => self.pack::<14>(),
            16 => self.pack::<16>(),
            32 => self.pack::<32>(),
            width => unreachable!("no tile is {width} wide or high"),
        }
    }
}

impl<T: Real> Panels<'_, T> {
    #[inline(always)]
    fn pack<const WIDTH: usize>(self) {
        let Panels { isa, form, matrix, to, .. } = self;
        let Matrix { rows: k, row_stride, column_stride, .. } = matrix;
        let height = k.div_ceil(form.depth());
        let (to, _) = to.as_chunks_mut::<WIDTH>();
        if to.is_empty() {
            return;
        }
        if column_stride == 1 {
            by_rows(form, matrix, height, to);
            return;
        }
        for (panel, to) in to.chunks_exact_mut(height).enumerate() {
            let part = matrix.columns(panel * WIDTH..(panel + 1) * WIDTH);
            if row_stride == 1 {
                transpose(isa, form, part, to);
            } else {
                pack_any(form, part, to.iter_mut().map(|row| row.as_mut_slice()));
            }
        }
    }
}

/// Row by row through all panels, in the order of memory.
#[inline(always)]
fn by_rows<T: Real, const WIDTH: usize>(
    form: Form,
    matrix: Matrix<T>,
    height: usize,
    to: &mut [[MaybeUninit<T>; WIDTH]],
) {
    let Matrix { data, rows: k, columns, row_stride, .. } = matrix;
    for row in 0..k {
        // rows of a part of a matrix are too far from each other for the processor to see what
        // comes next
        let ahead = data.as_ptr().wrapping_add((row + AHEAD) * row_stride);
        for column in (0..columns).step_by(64 / size_of::<T>()) {
            prefetch(ahead.wrapping_add(column).cast());
        }
        let from = &data[row * row_stride..][..columns];
        let (parts, _) = from.as_chunks::<WIDTH>();
        match form {
            Form::Plain => {
                for (panel, from) in parts.iter().enumerate() {
                    to[panel * height + row] = from.map(MaybeUninit::new);
                }
            }
            Form::Rounded => {
                for (panel, from) in parts.iter().enumerate() {
                    to[panel * height + row] = from.map(|x| MaybeUninit::new(x.rounded()));
                }
            }
            Form::Pairs if row % 2 == 1 => {}
            Form::Pairs => {
                let second = (row + 1 < k).then(|| &data[(row + 1) * row_stride..][..columns]);
                pair_rows(from, second, height, &mut to[row / 2..]);
            }
        }
    }
}

/// Two rows of `columns` for the panels whose rows begin at `to`.
#[inline(always)]
fn pair_rows<T: Real, const WIDTH: usize>(
    first: &[T],
    second: Option<&[T]>,
    height: usize,
    to: &mut [[MaybeUninit<T>; WIDTH]],
) {
    let columns = first.len();
    assert!(T::DTYPE == DType::F32 && second.is_none_or(|row| row.len() == columns) && columns.is_multiple_of(WIDTH));
    assert!(columns == 0 || to.len() > (columns / WIDTH - 1) * height);
    // SAFETY: the lengths and the type were asserted; pairs are packed only for a processor that
    // multiplies them.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        let second = second.map(|row| row.as_ptr().cast());
        super::bf16::pair_rows(first.as_ptr().cast(), second, columns, WIDTH, height * WIDTH, to.as_mut_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("only x86-64 multiplies pairs");
}

/// One panel of a matrix whose columns lie in memory as rows.
#[inline(always)]
fn transpose<T: Real, const WIDTH: usize>(isa: Isa, form: Form, matrix: Matrix<T>, to: &mut [[MaybeUninit<T>; WIDTH]]) {
    let (step, stride) = (if by_registers::<T>(isa, form) { LANES } else { STEP }, matrix.column_stride);
    // an odd last row has no pair in registers
    let done = (matrix.rows / form.depth()) / step * step;
    for (index, to) in to[..done].chunks_exact_mut(step).enumerate() {
        let part = &matrix.data[index * step * form.depth()..];
        for column in 0..WIDTH {
            // the same place of the next panel
            for row in (0..step * form.depth()).step_by(64 / size_of::<T>()) {
                prefetch(part.as_ptr().wrapping_add((WIDTH + column) * stride + row).cast());
            }
        }
        block(isa, form, part, stride, to);
    }
    for (row, to) in to[done..].iter_mut().enumerate() {
        for (column, to) in to.iter_mut().enumerate() {
            to.write(packed(form, matrix, done + row, column));
        }
    }
}

/// Rows that are prefetched while rows are copied.
const AHEAD: usize = 12;

/// Rows that [`block`] transposes, where it has no instructions for it.
const STEP: usize = 8;

/// Rows that [`block`] transposes in registers.
pub const LANES: usize = 16;

/// Whether [`block`] has instructions for it.
#[inline(always)]
fn by_registers<T: Real>(isa: Isa, form: Form) -> bool {
    cfg!(target_arch = "x86_64") && isa == Isa::Avx512 && T::DTYPE == DType::F32 && form != Form::Rounded
}

/// [`transpose`] for [`LANES`] rows if [`by_registers`], for [`STEP`] otherwise.
#[inline(always)]
fn block<T: Real, const WIDTH: usize>(
    isa: Isa,
    form: Form,
    from: &[T],
    stride: usize,
    to: &mut [[MaybeUninit<T>; WIDTH]],
) {
    #[cfg(target_arch = "x86_64")]
    if by_registers::<T>(isa, form) {
        assert!(from.len() >= (WIDTH - 1) * stride + LANES * form.depth() && to.len() == LANES);
        let to = to.as_mut_ptr().cast::<f32>();
        for first in (0..WIDTH).step_by(LANES) {
            let from = from[first * stride..].as_ptr().cast();
            let (width, to) = (LANES.min(WIDTH - first), to.wrapping_add(first));
            // SAFETY: the lengths were asserted; T is f32; whoever packs for AVX-512, or pairs, has
            // found that the processor has it.
            unsafe {
                if form == Form::Pairs {
                    super::transpose::transpose_pairs(from, stride, width, to, WIDTH);
                } else {
                    super::transpose::transpose(from, stride, width, to, WIDTH);
                }
            }
        }
        return;
    }
    let block: [&[T; STEP]; WIDTH] =
        std::array::from_fn(|column| from[column * stride..].first_chunk().expect("eight rows of each column"));
    for (row, to) in to.iter_mut().enumerate() {
        for (to, from) in to.iter_mut().zip(block) {
            to.write(if form == Form::Rounded { from[row].rounded() } else { from[row] });
        }
    }
}

/// Most bytes of a packed block of the left operand: about half of a second-level cache, which it
/// shares with a panel of the right one.
pub const LEFT_BYTES: usize = 576 << 10;
/// Small products take less, so as not to touch pages in vain.
const SMALL_LEFT_BYTES: usize = 32 << 10;

/// Gives room for `elements` of a packed block of the left operand to `work`. It lies on the stack
/// of the thread that multiplies it, so that nothing is allocated.
pub fn with_left<T: Real>(elements: usize, work: impl FnOnce(&mut [MaybeUninit<T>])) {
    #[repr(C, align(64))]
    struct Room<const BYTES: usize>(MaybeUninit<[u8; BYTES]>);
    #[inline(never)]
    fn with_room<T: Real, const BYTES: usize>(work: impl FnOnce(&mut [MaybeUninit<T>])) {
        let mut room = Room::<BYTES>(MaybeUninit::uninit());
        let length = BYTES / std::mem::size_of::<T>();
        // SAFETY: BYTES bytes, aligned to 64, that may be uninitialised.
        work(unsafe { std::slice::from_raw_parts_mut(room.0.as_mut_ptr().cast(), length) });
    }
    if elements * std::mem::size_of::<T>() <= SMALL_LEFT_BYTES {
        with_room::<T, SMALL_LEFT_BYTES>(work);
    } else {
        with_room::<T, LEFT_BYTES>(work);
    }
}

/// Bytes of a packed block of the right operand, which all threads share: a part of a third-level
/// cache.
pub const RIGHT_BYTES: usize = 8 << 20;

/// Gives room for a packed block of the right operand to `work`. Each thread keeps what it once
/// allocated. Where the system refuses the memory the program ends.
pub fn with_right<T: Real, R>(work: impl FnOnce(&mut [T]) -> R) -> R {
    thread_local! {
        // More than one is in use if, while a thread waits for its helpers, it takes over another
        // product that waits to be computed.
        static FREE: RefCell<Vec<Pages>> = const { RefCell::new(Vec::new()) };
    }
    let buffer = FREE
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Pages::new(RIGHT_BYTES).unwrap_or_else(|_| no_memory(RIGHT_BYTES)));
    let length = RIGHT_BYTES / std::mem::size_of::<T>();
    // SAFETY: RIGHT_BYTES zeroed bytes, aligned to 64; T is Pod; the buffer is not in the list
    // while it is used.
    let result = work(unsafe { std::slice::from_raw_parts_mut(buffer.pointer().cast(), length) });
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}
