use rayon::prelude::*;

use super::block_rows;
use crate::device::Precision;
use crate::device::cpu::gemm::{self, Matrix, Packed, Store, gemm, gemm_packed, pack};
use crate::device::cpu::isa::{Kernel, dispatch};
use crate::ops::softmax_row::exponentiate;
use crate::tensor::Real;
use crate::trace::{self, Pass};

/// Elements of the buffers that the weight is packed into, once for all blocks: for the logits, and
/// for dx.
pub(super) fn packed_lens<T: Real>(precision: Precision, v: usize, e: usize) -> [usize; 2] {
    [gemm::packed_len::<T>(precision, e, v), gemm::packed_len::<T>(precision, v, e)]
}

/// Packs the transposed of a weight `[V, E]` into the first buffer of [`packed_lens`].
pub(super) fn pack_for_logits<T: Real>(precision: Precision, w: &[T], [v, e]: [usize; 2], buffer: &mut [T]) {
    pack(precision, Matrix::new(w, v, e).t(), buffer);
}

/// See [`block_rows`] and [`packed_lens`]; the last one only where dx is wanted.
pub(super) struct Buffers<'a, T> {
    pub logits: &'a mut [T],
    /// The weight, by [`pack_for_logits`].
    pub for_logits: Packed<'a, T>,
    pub packed_for_dx: Option<&'a mut [T]>,
}

/// `x` `[N, E]`, `w` `[V, E]`, `b` `[V]`, `targets` `[N]`.
pub(super) struct Decoder<'a, T> {
    pub x: &'a [T],
    pub w: &'a [T],
    pub b: Option<&'a [T]>,
    pub targets: &'a [u32],
    pub e: usize,
    pub v: usize,
    pub precision: Precision,
}

pub(super) struct Losses<'a, T> {
    pub rows: &'a mut [T],
    pub correct: &'a mut [u32],
}

/// Gradients of the mean loss, where wanted.
pub(super) struct Gradients<'a, T> {
    pub dx: Option<&'a mut [T]>,
    pub dw: Option<&'a mut [T]>,
    pub db: Option<&'a mut [T]>,
}

pub(super) fn forward<T: Real>(
    decoder: Decoder<T>,
    buffers: Buffers<T>,
    losses: Losses<T>,
    mut gradients: Gradients<T>,
) {
    let Decoder { x, w, b, targets, e, v, precision } = decoder;
    let Buffers { logits, for_logits, packed_for_dx } = buffers;
    let n = targets.len();
    let block = block_rows(n, v);
    let wanted = gradients.dx.is_some() || gradients.dw.is_some() || gradients.db.is_some();
    let scale = T::ONE / T::from_f64(n as f64);
    let weight = Matrix::new(w, v, e);
    // gradients are backward work, although they are computed here
    let as_backward = || trace::direction(Pass::Backward);
    let backward = as_backward();
    let for_dx = packed_for_dx.map(|buffer| pack(precision, weight, buffer));
    drop(backward);
    for first in (0..n).step_by(block) {
        let rows = block.min(n - first);
        let logits = &mut logits[..rows * v];
        let hidden = Matrix::new(&x[first * e..], rows, e);
        gemm_packed(hidden, &for_logits, logits, Store::Set);
        let span = trace::phase(trace::ELEMENTWISE).elements::<T>(2 * rows * v);
        logits
            .par_chunks_mut(v)
            .zip(&targets[first..first + rows])
            .zip(losses.rows[first..].par_iter_mut())
            .zip(losses.correct[first..].par_iter_mut())
            .for_each(|(((row, &target), loss), correct)| {
                let target = target as usize;
                (*loss, *correct) = dispatch(SoftmaxRow { row, bias: b, target, gradient: wanted.then_some(scale) });
            });
        drop(span);
        let _backward = as_backward();
        if let (Some(dx), Some(for_dx)) = (&mut gradients.dx, &for_dx) {
            gemm_packed(Matrix::new(logits, rows, v), for_dx, &mut dx[first * e..][..rows * e], Store::Set);
        }
        let store = if first == 0 { Store::Set } else { Store::Add };
        if let Some(dw) = &mut gradients.dw {
            gemm(precision, Matrix::new(logits, rows, v).t(), hidden, dw, store);
        }
        if let Some(db) = &mut gradients.db {
            let _span = trace::phase(trace::SUMS).elements::<T>(rows * v);
            if store == Store::Set {
                db.fill(T::ZERO);
            }
            let block = 1024;
            db.par_chunks_mut(block).enumerate().for_each(|(k, db)| {
                for row in logits.chunks_exact(v) {
                    db.iter_mut().zip(&row[k * block..]).for_each(|(sum, &d)| *sum += d);
                }
            });
        }
    }
}

/// One row of logits, which lack the bias: its loss, whether the target is the most probable; with
/// `gradient`, the row becomes `(softmax − onehot)·gradient`.
struct SoftmaxRow<'a, T> {
    row: &'a mut [T],
    bias: Option<&'a [T]>,
    target: usize,
    gradient: Option<T>,
}

impl<T: Real> Kernel for SoftmaxRow<'_, T> {
    type Output = (T, u32);
    #[inline(always)]
    fn run<const FMA: bool>(self) -> (T, u32) {
        let SoftmaxRow { row, bias, target, gradient } = self;
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
        }
        let of_target = row[target];
        let (max, sum) = exponentiate::<T, FMA>(row);
        // correct: nothing exceeds the target, and nothing before it equals it
        let top = row[target] == T::ONE && of_target == max;
        let correct = top && row[..target].iter().all(|&p| p < T::ONE);
        let loss = sum.ln() + max - of_target;
        if let Some(scale) = gradient {
            let factor = scale / sum;
            row.iter_mut().for_each(|p| *p *= factor);
            row[target] -= scale;
        }
        (loss, u32::from(correct))
    }
}

/// `for_logits`: see [`Buffers`].
pub(super) fn log_probabilities<T: Real>(
    x: &[T],
    for_logits: Packed<T>,
    b: Option<&[T]>,
    [v, e]: [usize; 2],
    out: &mut [T],
) {
    gemm_packed(Matrix::new(x, out.len() / v.max(1), e), &for_logits, out, Store::Set);
    out.par_chunks_mut(v).for_each(|row| {
        if let Some(bias) = b {
            row.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
        }
        let mut copy = row.to_vec();
        let (max, sum) = exponentiate::<T, false>(&mut copy);
        let shift = max + sum.ln();
        row.iter_mut().for_each(|x| *x -= shift);
    });
}

/// `out (+)= factor·d`
pub(super) fn scale_and_put<T: Real>(d: &[T], factor: T, out: &mut [T], store: Store) {
    let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(2 * d.len());
    out.par_chunks_mut(16_384).zip(d.par_chunks(16_384)).for_each(|(out, d)| match store {
        Store::Set => out.iter_mut().zip(d).for_each(|(o, &d)| *o = factor * d),
        Store::Add => out.iter_mut().zip(d).for_each(|(o, &d)| *o += factor * d),
    });
}
