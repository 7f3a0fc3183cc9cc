use rayon::prelude::*;

use crate::device::Precision;
use crate::device::cpu::gemm::{Matrix, Store, gemm};
use crate::device::cpu::isa::dispatch;
use crate::ops::softmax_row::Exponentiate;
use crate::tensor::Real;
use crate::trace;

/// How often a negative counts (docs/SPEC.md §1.4).
const NEGATIVE_WEIGHT: f64 = 2.0;

/// Rows of a block: few enough for the scores to stay near the processor, enough to amortise a pass
/// over the negatives.
pub(super) fn block_rows(n: usize) -> usize {
    n.clamp(1, 256)
}

/// `hidden` `[N, E]`, `weight` `[V, E]`, `bias` `[V]`, `targets` `[N]`, `negatives` `[K]`.
pub(super) struct Inputs<'a, T> {
    pub hidden: &'a [T],
    pub weight: &'a [T],
    pub bias: Option<&'a [T]>,
    pub targets: &'a [u32],
    pub negatives: &'a [u32],
    pub e: usize,
    pub precision: Precision,
}

/// Buffers: `w_k` `[K, E]`, `b_k` `[K]`, `scores` `[block_rows, K]`.
pub(super) struct Scratch<'a, T> {
    pub w_k: &'a mut [T],
    pub b_k: &'a mut [T],
    pub scores: &'a mut [T],
}

/// The gradients of the mean loss: `dh` `[N, E]`; `dw` `[K, E]` and `db` `[K]` of the negatives
/// alone; `dy` `[N]`, the gradient of the target's score.
pub(super) struct Gradients<'a, T> {
    pub dh: &'a mut [T],
    pub dw: &'a mut [T],
    pub db: &'a mut [T],
    pub dy: &'a mut [T],
}

fn row<T>(matrix: &[T], i: u32, e: usize) -> &[T] {
    &matrix[i as usize * e..][..e]
}

/// Returns the sum of the row losses.
pub(super) fn forward<T: Real>(
    inputs: &Inputs<T>,
    scratch: Scratch<T>,
    row_losses: &mut [T],
    mut gradients: Option<Gradients<T>>,
) -> f64 {
    let &Inputs { hidden, weight, bias, targets, negatives, e, precision } = inputs;
    let Scratch { w_k, b_k, scores } = scratch;
    let (n, k) = (targets.len(), negatives.len());
    w_k.par_chunks_mut(e).zip(negatives).for_each(|(to, &word)| to.copy_from_slice(row(weight, word, e)));
    if let Some(bias) = bias {
        b_k.iter_mut().zip(negatives).for_each(|(to, &word)| *to = bias[word as usize]);
    }
    let scale = T::ONE / T::from_f64(n as f64);
    for first in (0..n).step_by(block_rows(n)) {
        let rows = block_rows(n).min(n - first);
        let here = first..first + rows;
        let h = Matrix::new(&hidden[first * e..], rows, e);
        let scores = &mut scores[..rows * k];
        let store = if bias.is_some() {
            scores.par_chunks_mut(k).for_each(|row| row.copy_from_slice(b_k));
            Store::Add
        } else {
            Store::Set
        };
        gemm(precision, h, Matrix::new(w_k, k, e).t(), scores, store);
        let losses = row_losses[here.clone()].par_iter_mut();
        let rows_of = scores.par_chunks_mut(k).zip(losses).zip(&targets[here.clone()]).zip(here.clone());
        let span = trace::phase(trace::ELEMENTWISE).elements::<T>(2 * rows * k);
        let compute = |(((scores, loss), &target), i): (((&mut [T], &mut T), &u32), usize)| {
            let of_target =
                dot(&hidden[i * e..][..e], row(weight, target, e)) + bias.map_or(T::ZERO, |bias| bias[target as usize]);
            let (value, factor, d_target) = softmax(scores, of_target, scale);
            *loss = value;
            (factor, d_target)
        };
        match &mut gradients {
            None => {
                rows_of.for_each(|row| {
                    compute(row);
                });
                drop(span);
            }
            Some(Gradients { dh, dw, db, dy }) => {
                rows_of.zip(dy[here].par_iter_mut()).for_each(|((((scores, loss), target), i), dy)| {
                    let (factor, d_target) = compute((((&mut *scores, loss), target), i));
                    scores.iter_mut().for_each(|s| *s *= factor);
                    *dy = d_target;
                });
                drop(span);
                let _backward = trace::direction(trace::Pass::Backward);
                let d_scores = Matrix::new(scores, rows, k);
                let dh = &mut dh[first * e..][..rows * e];
                gemm(precision, d_scores, Matrix::new(w_k, k, e), dh, Store::Set);
                dh.par_chunks_mut(e).zip(&targets[first..]).zip(&dy[first..]).for_each(|((dh, &target), &d)| {
                    dh.iter_mut().zip(row(weight, target, e)).for_each(|(dh, &w)| *dh += d * w);
                });
                let store = if first == 0 { Store::Set } else { Store::Add };
                gemm(precision, d_scores.t(), h, dw, store);
                if store == Store::Set {
                    db.fill(T::ZERO);
                }
                for row in scores.chunks_exact(k) {
                    db.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
                }
            }
        }
    }
    row_losses.iter().map(|l| l.to_f64()).sum()
}

/// Turns the scores of the negatives into their exponentials; returns the loss, what to multiply
/// the exponentials by to get the gradients of the scores, and the gradient of the target's score.
fn softmax<T: Real>(scores: &mut [T], of_target: T, scale: T) -> (T, T, T) {
    let (max, sum) = dispatch(Exponentiate(scores));
    let top = if of_target > max { of_target } else { max };
    // the exponentials are relative to their own maximum; bring them and the target's to the common
    // one
    let shift = T::from_f64(NEGATIVE_WEIGHT) * (max - top).exp::<false>();
    let target = (of_target - top).exp::<false>();
    let total = shift * sum + target;
    // 1 − p of the target, without cancellation where p is close to 1
    let rest = shift * sum / total;
    (total.ln() + top - of_target, shift / total * scale, -rest * scale)
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += a * b);
    }
    sums.into_iter().fold(T::ZERO, |total, sum| total + sum)
}

/// `out (+)= factor·d`
pub(super) fn put_scaled<T: Real>(d: &[T], factor: T, out: &mut [T], store: Store) {
    out.par_chunks_mut(16_384).zip(d.par_chunks(16_384)).for_each(|(out, d)| match store {
        Store::Set => out.iter_mut().zip(d).for_each(|(o, &d)| *o = factor * d),
        Store::Add => out.iter_mut().zip(d).for_each(|(o, &d)| *o += factor * d),
    });
}

/// `out[words[i]] += factor·d[i]`, rows of `e`, in order.
pub(super) fn scatter_rows<T: Real>(d: &[T], factor: T, words: &[u32], e: usize, out: &mut [T]) {
    for (d, &word) in d.chunks_exact(e).zip(words) {
        out[word as usize * e..][..e].iter_mut().zip(d).for_each(|(o, &d)| *o += factor * d);
    }
}

/// `out[targets[i]] += factor·dy[i]·hidden[i]`, in order (two rows may share a target).
pub(super) fn scatter_targets<T: Real>(hidden: &[T], dy: &[T], factor: T, targets: &[u32], e: usize, out: &mut [T]) {
    for ((hidden, &d), &word) in hidden.chunks_exact(e).zip(dy).zip(targets) {
        let d = factor * d;
        out[word as usize * e..][..e].iter_mut().zip(hidden).for_each(|(o, &h)| *o += d * h);
    }
}
