use crate::autodiff::Store;
use crate::device::cpu::parallel::{CHUNK, for_chunks_mut};
use crate::ops::recurrence::put;
use crate::tensor::Real;

/// Rows of `size` elements, so many that a thread has enough to do.
fn rows_together(size: usize) -> usize {
    (CHUNK / size.max(1)).max(1)
}

/// `x` `[T·B, I]` after `before` `[B, I]`, to `y` `[T·B, 2I]`.
pub(super) fn forward<T: Real>(x: &[T], before: &[T], size: usize, y: &mut [T]) {
    if size == 0 {
        return;
    }
    let rows = before.len() / size;
    let together = rows_together(size);
    for_chunks_mut(y, together * 2 * size, |chunk, y| {
        for (k, y) in y.chunks_exact_mut(2 * size).enumerate() {
            let row = chunk * together + k;
            let previous = if row < rows { &before[row * size..] } else { &x[(row - rows) * size..] };
            y[..size].copy_from_slice(&x[row * size..][..size]);
            y[size..].copy_from_slice(&previous[..size]);
        }
    });
}

/// `dx[t] = dy[t]`, left half, `+ dy[t+1]`, right half.
pub(super) fn backward_x<T: Real>(dy: &[T], [rows, size]: [usize; 2], dx: &mut [T], store: Store) {
    if size == 0 {
        return;
    }
    let together = rows_together(size);
    for_chunks_mut(dx, together * size, |chunk, dx| {
        for (k, dx) in dx.chunks_exact_mut(size).enumerate() {
            let row = chunk * together + k;
            put(&dy[row * 2 * size..][..size], dx, store);
            if let Some(next) = dy.get((row + rows) * 2 * size + size..) {
                put(&next[..size], dx, Store::Add);
            }
        }
    });
}

/// `d = dy[0]`, right half.
pub(super) fn backward_before<T: Real>(dy: &[T], size: usize, d: &mut [T], store: Store) {
    if size == 0 {
        return;
    }
    for (d, dy) in d.chunks_exact_mut(size).zip(dy.chunks_exact(2 * size)) {
        put(&dy[size..], d, store);
    }
}
