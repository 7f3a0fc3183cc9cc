use rayon::prelude::*;

use crate::autodiff::Store;
use crate::ops::mask::Dropout;
use crate::tensor::Real;
use crate::trace;

/// The factor of the row of a word type.
fn row_factor<T: Real>(rows: &Dropout, given: Option<&[T]>, token: u32) -> T {
    match rows {
        Dropout::Off => T::ONE,
        Dropout::Random(mask) => {
            if mask.keeps(token, 0) {
                T::from_f64(mask.scale())
            } else {
                T::ZERO
            }
        }
        Dropout::Given(_) => given.map_or(T::ONE, |mask| mask[token as usize]),
    }
}

/// `locked`: `[B, E]`; the other arguments as in [`super::embedding`].
pub(super) fn forward<T: Real>(
    tokens: &[u32],
    w: &[T],
    rows: &Dropout,
    locked: &[T],
    batch: usize,
    e: usize,
    y: &mut [T],
) {
    if e == 0 || batch == 0 {
        return;
    }
    let _span = trace::phase(trace::ROWS).elements::<T>(2 * y.len());
    let given = rows.given().map(|mask| mask.read::<T>());
    let given = given.as_deref();
    y.par_chunks_mut(batch * e).zip(tokens.par_chunks(batch)).for_each(|(y, tokens)| {
        for ((y, &token), locked) in y.chunks_exact_mut(e).zip(tokens).zip(locked.chunks_exact(e)) {
            let row = &w[token as usize * e..][..e];
            let factor = row_factor(rows, given, token);
            for ((y, &w), &m) in y.iter_mut().zip(row).zip(locked) {
                *y = w * factor * m;
            }
        }
    });
}

/// Columns that one task accumulates: every element of `dw` is summed in the order of the tokens,
/// by one thread.
const COLUMNS: usize = 64;

#[allow(clippy::too_many_arguments)]
pub(super) fn backward<T: Real>(
    tokens: &[u32],
    dy: &[T],
    rows: &Dropout,
    locked: &[T],
    batch: usize,
    e: usize,
    pad: u32,
    dw: &mut [T],
    store: Store,
) {
    if store == Store::Set {
        let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(dw.len());
        dw.fill(T::ZERO);
    }
    let _span = trace::phase(trace::ROWS).elements::<T>(3 * dy.len());
    if e == 0 || batch == 0 {
        return;
    }
    let given = rows.given().map(|mask| mask.read::<T>());
    let given = given.as_deref();
    let matrix = ColumnBlocks { pointer: dw.as_mut_ptr(), length: dw.len() };
    (0..e.div_ceil(COLUMNS)).into_par_iter().for_each(|block| {
        let matrix = &matrix;
        let columns = block * COLUMNS..((block + 1) * COLUMNS).min(e);
        for (i, &token) in tokens.iter().enumerate() {
            let factor = row_factor(rows, given, token);
            if token == pad || factor == T::ZERO {
                continue;
            }
            let (dy, locked) = (&dy[i * e..][..e][columns.clone()], &locked[i % batch * e..][..e][columns.clone()]);
            let at = token as usize * e + columns.start;
            assert!(at + columns.len() <= matrix.length);
            // SAFETY: tasks own disjoint column ranges of every row, so no element is touched by
            // two of them; the range was checked.
            let dw = unsafe { std::slice::from_raw_parts_mut(matrix.pointer.add(at), columns.len()) };
            for ((dw, &dy), &m) in dw.iter_mut().zip(dy).zip(locked) {
                *dw += dy * m * factor;
            }
        }
    });
}

/// A matrix whose column blocks are written by different threads.
struct ColumnBlocks<T> {
    pointer: *mut T,
    length: usize,
}

// SAFETY: used only above, where every thread writes columns of its own.
unsafe impl<T: Send> Sync for ColumnBlocks<T> {}
