use std::ops::Range;

use rayon::prelude::*;

use crate::device::cpu::gemm::{Matrix, Store, gemm};
use crate::device::cpu::isa::dispatch;
use crate::device::{Precision, Write};
use crate::ops::softmax_row::Exponentiate;
use crate::tensor::Real;
use crate::trace;

/// Rows of a block: at most 256, and so few that the logits take no more than 16 million numbers.
pub(super) fn block_rows(n: usize, width: usize) -> usize {
    n.clamp(1, 256.min((1 << 24) / width.max(1)).max(1))
}

/// The words of every part, the head first.
pub(super) fn parts(splits: &[usize], v: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    (0..=splits.len()).map(move |i| {
        let from = if i == 0 { 0 } else { splits[i - 1] };
        from..splits.get(i).copied().unwrap_or(v)
    })
}

/// `weight` `[V, E]`, `bias` `[V]`, `vectors` `[n, E]`, `tail_bias` `[n]`.
pub(super) struct Decoder<'a, T> {
    pub weight: &'a [T],
    pub bias: Option<&'a [T]>,
    pub vectors: &'a [T],
    pub tail_bias: Option<&'a [T]>,
    pub splits: &'a [usize],
    pub v: usize,
    pub e: usize,
    pub precision: Precision,
}

/// Buffers: `w_head` `[S0+n, E]`, `b_head` `[S0+n]`, `logits` `[block_rows, widest part]`, `rows`
/// and `d_rows` `[block_rows, E]`, `order` `[N]`.
pub(super) struct Scratch<'a, T> {
    pub w_head: Write<'a, T>,
    pub b_head: Write<'a, T>,
    pub logits: Write<'a, T>,
    pub rows: Write<'a, T>,
    pub d_rows: Write<'a, T>,
    pub order: Write<'a, u32>,
}

/// The gradients of the mean loss: `dh` `[N, E]`, `dw` `[V, E]`, `db` `[V]`, and of the head's
/// words and tombstones `d_head` `[S0+n, E]`, `db_head` `[S0+n]`.
pub(super) struct Gradients<'a, T> {
    pub dh: &'a mut [T],
    pub dw: &'a mut [T],
    pub db: &'a mut [T],
    pub d_head: &'a mut [T],
    pub db_head: &'a mut [T],
}

/// Weight and bias of the head: its words, then the tombstones.
fn gather_head<T: Real>(d: &Decoder<T>, head: usize, w_head: &mut [T], b_head: &mut [T]) {
    w_head[..head * d.e].copy_from_slice(&d.weight[..head * d.e]);
    w_head[head * d.e..].copy_from_slice(d.vectors);
    if let (Some(bias), n) = (d.bias, d.splits.len()) {
        b_head[..head].copy_from_slice(&bias[..head]);
        b_head[head..].copy_from_slice(d.tail_bias.map_or(&bias[..0], |b| &b[..n]));
    }
}

/// `row_losses` `[N]`.
pub(super) fn forward<T: Real>(
    d: &Decoder<T>,
    hidden: &[T],
    targets: &[u32],
    scratch: &mut Scratch<T>,
    row_losses: &mut [T],
    mut gradients: Option<Gradients<T>>,
) {
    let e = d.e;
    row_losses.fill(T::ZERO);
    if let Some(g) = &mut gradients {
        g.dh.fill(T::ZERO);
    }
    let head = d.splits.first().copied().unwrap_or(d.v);
    let Scratch { w_head, b_head, logits, rows, d_rows, order } = scratch;
    gather_head(d, head, w_head, b_head);
    for (i, words) in parts(d.splits, d.v).enumerate() {
        // the rows that this part concerns: all of them for the head, those with a target in it for
        // a tail
        let mut count = 0;
        for (row, &y) in targets.iter().enumerate() {
            if i == 0 || words.contains(&(y as usize)) {
                order[count] = row as u32;
                count += 1;
            }
        }
        let target = |y: u32| match i {
            0 if (y as usize) < head => y as usize,
            0 => head + d.splits.partition_point(|&split| split <= y as usize) - 1,
            _ => y as usize - words.start,
        };
        let within = words.start * e..words.end * e;
        let part = Part {
            weight: if i == 0 { w_head } else { &d.weight[within.clone()] },
            bias: d.bias.map(|b| if i == 0 { &b_head[..] } else { &b[words.clone()] }),
            e,
            precision: d.precision,
        };
        let gradients = gradients.as_mut().map(|g| {
            let (dw, db) = if i == 0 {
                (&mut g.d_head[..], &mut g.db_head[..])
            } else {
                (&mut g.dw[within], &mut g.db[words.clone()])
            };
            PartGradients { dh: &mut g.dh[..], dw, db }
        });
        part.run(hidden, targets, target, &order[..count], [logits, rows, d_rows], row_losses, gradients);
    }
    if let Some(g) = gradients {
        g.dw[..head * e].copy_from_slice(&g.d_head[..head * e]);
        g.db[..head].copy_from_slice(&g.db_head[..head]);
    }
}

/// One softmax: over the head or within a tail.
struct Part<'a, T> {
    weight: &'a [T],
    bias: Option<&'a [T]>,
    e: usize,
    precision: Precision,
}

struct PartGradients<'a, T> {
    /// `[N, E]`, added to.
    dh: &'a mut [T],
    /// Set.
    dw: &'a mut [T],
    db: &'a mut [T],
}

impl<T: Real> Part<'_, T> {
    /// Adds the cross-entropies of the rows `order` to their losses.
    #[allow(clippy::too_many_arguments)] // one call; a struct for it would only move the list
    fn run(
        &self,
        hidden: &[T],
        targets: &[u32],
        target: impl Fn(u32) -> usize + Sync,
        order: &[u32],
        [logits, gathered, d_gathered]: [&mut [T]; 3],
        row_losses: &mut [T],
        mut gradients: Option<PartGradients<T>>,
    ) {
        let e = self.e;
        let width = self.weight.len() / e;
        let weight = Matrix::new(self.weight, width, e);
        if let Some(g) = &mut gradients {
            g.db.fill(T::ZERO);
            if order.is_empty() {
                g.dw.fill(T::ZERO);
            }
        }
        let scale = gradients.is_some().then(|| T::ONE / T::from_f64(targets.len() as f64));
        // as many rows as the buffers hold: they are sized for the widest part
        for (block, order) in order.chunks(gathered.len() / e).enumerate() {
            let rows = order.len();
            for (to, &row) in gathered.chunks_exact_mut(e).zip(order) {
                to.copy_from_slice(&hidden[row as usize * e..][..e]);
            }
            let h = Matrix::new(gathered, rows, e);
            let logits = &mut logits[..rows * width];
            decode(self.precision, h, weight, self.bias, width, logits);
            // the losses of scattered rows: computed in parallel into the other buffer, then added
            // in order
            let losses = &mut d_gathered[..rows];
            let span = trace::phase(trace::ELEMENTWISE).elements::<T>(2 * rows * width);
            logits.par_chunks_mut(width).zip(order).zip(&mut *losses).for_each(|((logits, &row), loss)| {
                *loss = cross_entropy(logits, target(targets[row as usize]), scale);
            });
            drop(span);
            order.iter().zip(losses).for_each(|(&row, loss)| row_losses[row as usize] += *loss);
            let Some(g) = &mut gradients else { continue };
            let _backward = trace::direction(trace::Pass::Backward);
            let d_logits = Matrix::new(logits, rows, width);
            gemm(self.precision, d_logits, weight, &mut d_gathered[..rows * e], Store::Set);
            for (d, &row) in d_gathered.chunks_exact(e).zip(order) {
                g.dh[row as usize * e..][..e].iter_mut().zip(d).for_each(|(dh, &d)| *dh += d);
            }
            gemm(self.precision, d_logits.t(), h, g.dw, if block == 0 { Store::Set } else { Store::Add });
            for row in logits.chunks_exact(width) {
                g.db.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
            }
        }
    }
}

/// `logits = x·wᵀ + b`
fn decode<T: Real>(precision: Precision, x: Matrix<T>, w: Matrix<T>, b: Option<&[T]>, width: usize, logits: &mut [T]) {
    let store = match b {
        Some(b) => {
            logits.par_chunks_mut(width).for_each(|row| row.copy_from_slice(b));
            Store::Add
        }
        None => Store::Set,
    };
    gemm(precision, x, w.t(), logits, store);
}

/// Cross-entropy of one row of logits; with a scale, the row becomes `(softmax − onehot)·scale`.
fn cross_entropy<T: Real>(logits: &mut [T], target: usize, scale: Option<T>) -> T {
    let of_target = logits[target];
    let (max, sum) = dispatch(Exponentiate(logits));
    if let Some(scale) = scale {
        let factor = scale / sum;
        logits.iter_mut().for_each(|p| *p *= factor);
        logits[target] -= scale;
    }
    sum.ln() + max - of_target
}

/// Buffers: `[S0+n, E]`, `[S0+n]`, `[block_rows, widest part]`, `[block_rows, S0+n]`.
pub(super) fn log_probabilities<T: Real>(d: &Decoder<T>, hidden: &[T], buffers: [&mut [T]; 4], out: &mut [T]) {
    let [w_head, b_head, logits, of_head] = buffers;
    let (v, e) = (d.v, d.e);
    let head = d.splits.first().copied().unwrap_or(v);
    let width = head + d.splits.len();
    gather_head(d, head, w_head, b_head);
    let rows = logits.len() / parts(d.splits, v).map(|p| p.len()).max().unwrap_or(1).max(width).max(1);
    for (out, hidden) in out.chunks_mut((rows * v).max(1)).zip(hidden.chunks((rows * e).max(1))) {
        let rows = out.len() / v;
        let h = Matrix::new(hidden, rows, e);
        let of_head = &mut of_head[..rows * width];
        decode(d.precision, h, Matrix::new(w_head, width, e), d.bias.map(|_| &b_head[..]), width, of_head);
        normalise(of_head, width);
        for (i, words) in parts(d.splits, v).enumerate() {
            if i == 0 {
                for (out, of_head) in out.chunks_exact_mut(v).zip(of_head.chunks_exact(width)) {
                    out[..head].copy_from_slice(&of_head[..head]);
                }
                continue;
            }
            let part = &mut logits[..rows * words.len()];
            let weight = Matrix::new(&d.weight[words.start * e..words.end * e], words.len(), e);
            decode(d.precision, h, weight, d.bias.map(|b| &b[words.clone()]), words.len(), part);
            normalise(part, words.len());
            let rows = out.chunks_exact_mut(v).zip(part.chunks_exact(words.len()).zip(of_head.chunks_exact(width)));
            for (out, (part, of_head)) in rows {
                let tombstone = of_head[head + i - 1];
                out[words.clone()].iter_mut().zip(part).for_each(|(o, &p)| *o = tombstone + p);
            }
        }
    }
}

/// `row −= log Σ exp(row)`, for every row.
fn normalise<T: Real>(rows: &mut [T], width: usize) {
    rows.par_chunks_mut(width).for_each(|row| {
        let mut copy = row.to_vec();
        let (max, sum) = dispatch(Exponentiate(&mut copy));
        let shift = max + sum.ln();
        row.iter_mut().for_each(|x| *x -= shift);
    });
}

/// `out (+)= factor·d`
pub(super) fn put_scaled<T: Real>(d: &[T], factor: T, out: &mut [T], store: Store) {
    out.par_chunks_mut(16_384).zip(d.par_chunks(16_384)).for_each(|(out, d)| match store {
        Store::Set => out.iter_mut().zip(d).for_each(|(o, &d)| *o = factor * d),
        Store::Add => out.iter_mut().zip(d).for_each(|(o, &d)| *o += factor * d),
    });
}
