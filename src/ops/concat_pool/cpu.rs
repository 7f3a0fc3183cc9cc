use rayon::prelude::*;

use crate::autodiff::Store;
use crate::tensor::Real;

/// Place and size of a chunk `[steps, rows, size]`.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// Time of its first step.
    pub begin: usize,
    pub steps: usize,
    pub rows: usize,
    pub size: usize,
}

/// Goes on with the pooling of all rows over one more chunk: `spans` is `[B, 2]`, `y` `[B, 3E]`,
/// `argmax` (a time) `[B, E]`. The mean is a sum until a row's last step.
pub(super) fn forward<T: Real>(chunk: Chunk, x: &[T], spans: &[u32], y: &mut [T], argmax: &mut [u32]) {
    let Chunk { begin, steps, rows, size } = chunk;
    if size == 0 {
        return;
    }
    let rows_of =
        y.par_chunks_exact_mut(3 * size).zip(argmax.par_chunks_exact_mut(size)).zip(spans.par_chunks_exact(2));
    rows_of.take(rows).enumerate().for_each(|(row, ((y, argmax), span))| {
        let (from, to) = (span[0] as usize, span[1] as usize);
        let (last, rest) = y.split_at_mut(size);
        let (max, mean) = rest.split_at_mut(size);
        for t in from.max(begin)..to.min(begin + steps) {
            let x = &x[((t - begin) * rows + row) * size..][..size];
            if t == from {
                max.copy_from_slice(x);
                mean.copy_from_slice(x);
                argmax.fill(t as u32);
            } else {
                mean.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
                for ((max, argmax), &x) in max.iter_mut().zip(&mut *argmax).zip(x) {
                    if x > *max {
                        (*max, *argmax) = (x, t as u32);
                    }
                }
            }
            if t + 1 == to {
                last.copy_from_slice(x);
                let count = T::from_f64((to - from) as f64);
                mean.iter_mut().for_each(|sum| *sum = *sum / count);
            }
        }
    });
}

/// The chunk's gradient from `dy` `[B, 3E]`: the mean's everywhere in the span, the maximum's where
/// it was, the last state's at the end.
pub(super) fn backward<T: Real>(chunk: Chunk, dy: &[T], spans: &[u32], argmax: &[u32], dx: &mut [T], store: Store) {
    let Chunk { begin, rows, size, .. } = chunk;
    if store == Store::Set {
        dx.fill(T::ZERO);
    }
    dx.par_chunks_mut((rows * size).max(1)).enumerate().for_each(|(step, dx)| {
        let t = (begin + step) as u32;
        for (row, dx) in dx.chunks_exact_mut(size).enumerate() {
            let (from, to) = (spans[2 * row], spans[2 * row + 1]);
            if !(from..to).contains(&t) {
                continue;
            }
            let dy = &dy[row * 3 * size..][..3 * size];
            let (last, rest) = dy.split_at(size);
            let (max, mean) = rest.split_at(size);
            let argmax = &argmax[row * size..][..size];
            let count = T::from_f64(f64::from(to - from));
            for (((dx, &mean), &max), &at) in dx.iter_mut().zip(mean).zip(max).zip(argmax) {
                *dx += mean / count + if at == t { max } else { T::ZERO };
            }
            if t + 1 == to {
                dx.iter_mut().zip(last).for_each(|(dx, &d)| *dx += d);
            }
        }
    });
}
