//! Adaptive softmax with tombstones, SplitCrossEntropy of awd-lstm-lm (docs/SPEC.md §1.4).

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::{Products, block_rows, put_times};
use crate::real_type;
use crate::tensor::{DType, Tensor};

const NAME: &str = "adaptive_softmax";

/// See [`adaptive_softmax`].
pub struct AdaptiveSoftmax;

/// Where a vocabulary of `v` words (frequent ones first) is split: the ends of all parts but the
/// last; empty for a plain softmax.
///
/// `V > 500,000`: 4,200, 35,000, 180,000; `V > 75,000`: 2,800, 20,000, 76,000 (AWD-LSTM's main.py).
/// A split beyond the vocabulary, which would make a part without words, is left out.
pub fn splits(v: usize) -> Vec<usize> {
    let all: &[usize] = match v {
        500_001.. => &[4_200, 35_000, 180_000],
        75_001.. => &[2_800, 20_000, 76_000],
        _ => &[],
    };
    all.iter().copied().filter(|&split| split < v).collect()
}

/// Where a vocabulary of any size `v` (frequent ones first) is split: at a twelfth and at a third
/// of its words, or above 75,000 words as [`splits`] does.
///
/// By Zipf's law about three quarters of a text are among the first twelfth and nine tenths among
/// the first third, so that a text costs about a fifth of the products of a full softmax. Below 24
/// words there is no split.
pub fn splits_of_any(v: usize) -> Vec<usize> {
    match splits(v) {
        none if none.is_empty() && v >= 24 => vec![v / 12, v / 3],
        all => all,
    }
}

/// The parameters of the output layer.
///
/// * `weight`: `[V, E]`, the (tied) embedding
/// * `bias`: `[V]`, or none
/// * `tail_vectors`: `[n, E]`, row `i` the tombstone of tail `i` (they start at 0 in training;
///   AWD-LSTM numbers them from the end)
/// * `tail_bias`: `[n]`; given iff `bias` is
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveDecoder<'a, V> {
    pub weight: V,
    pub bias: Option<V>,
    /// Tombstones and their bias; none where there are no splits.
    pub tails: Option<(V, Option<V>)>,
    /// Ends of all parts but the last, ascending, between 0 and V: head = words `[0, splits[0])`,
    /// tail `i` = `[splits[i], splits[i+1])`, the last tail up to V.
    pub splits: &'a [usize],
}

/// Outputs of [`adaptive_softmax`].
#[derive(Clone, Debug)]
pub struct AdaptiveLoss {
    /// Mean of −log p over the rows, in nats, `[1]`; a true cross-entropy over the whole
    /// vocabulary.
    pub loss: Var,
    /// −log p of every row's target, in nats, `[N]`; no gradient flows through it.
    pub row_losses: Tensor,
}

/// Mean of −log p(target). A word of the head has its log-softmax among the head's words and one
/// tombstone per tail; a word of tail `i` has the log-softmax of tombstone `i` there plus its own
/// within the tail.
///
/// * `hidden`: decoder input, `[.., E]`, N rows in all
/// * `decoder`: see [`AdaptiveDecoder`]
/// * `targets`: u32, N in all, each below V
///
/// Gradients: `hidden`, and all tensors of the decoder. Where they are needed, they are computed in
/// the forward pass, by blocks of rows while the logits are in cache, for an upstream gradient of
/// one; the backward pass scales them.
pub fn adaptive_softmax(
    g: &mut Graph,
    hidden: Var,
    decoder: AdaptiveDecoder<Var>,
    targets: &Tensor,
) -> Result<AdaptiveLoss> {
    let _span = crate::trace::operation("adaptive_softmax");
    let (hs, ws) = (g.shape(hidden), g.shape(decoder.weight));
    let [v, e] = *ws.dims() else { return Err(Error::shape(NAME, "weight", "[V, E]", ws)) };
    if hs.rank() == 0 || hs.dims()[hs.rank() - 1] != e || hs.is_empty() {
        return Err(Error::shape(NAME, "hidden", format!("[.., {e}] with at least one row"), hs));
    }
    let tensors = AdaptiveDecoder {
        weight: g.tensor(decoder.weight).clone(),
        bias: decoder.bias.map(|b| g.tensor(b).clone()),
        tails: decoder.tails.map(|(t, b)| (g.tensor(t).clone(), b.map(|b| g.tensor(b).clone()))),
        splits: decoder.splits,
    };
    check(&tensors)?;
    let n = hs.len() / e;
    if targets.dtype() != DType::U32 || targets.len() != n {
        let found = format!("{} {}", targets.len(), targets.dtype());
        return Err(Error::shape(NAME, "targets", format!("{n} u32"), found));
    }
    if let Some(&bad) = targets.read::<u32>().iter().find(|&&y| y as usize >= v) {
        return Err(Error::shape(NAME, "targets", format!("below {v}"), bad));
    }
    // the order of the node's inputs; those that do not exist are left out
    let mut inputs = vec![hidden, decoder.weight];
    inputs.extend(decoder.bias);
    inputs.extend(decoder.tails.iter().flat_map(|&(t, b)| std::iter::once(t).chain(b)));
    let dtype = g.dtype(hidden);
    let (loss, row_losses) = (g.uninitialised([1], dtype)?, g.uninitialised([n], dtype)?);
    let tails = decoder.splits.len();
    let head = decoder.splits.first().copied().unwrap_or(v);
    let widest = cpu::parts(decoder.splits, v).map(|p| p.len()).max().unwrap_or(0).max(head + tails);
    let rows = match g.device() {
        Device::Cpu => cpu::block_rows(n, widest),
        Device::Cuda(_) => block_rows(n, widest, true),
    };
    let scratch = [
        g.uninitialised([head + tails, e], dtype)?,
        g.uninitialised([head + tails], dtype)?,
        g.uninitialised([rows, widest], dtype)?,
        g.uninitialised([rows, e], dtype)?,
        g.uninitialised([rows, e], dtype)?,
    ];
    let gradients = if g.needs_any(&inputs) {
        // of hidden, weight, bias, head (words and tombstones) and its bias
        let shapes = [hs, ws, [v].into(), [head + tails, e].into(), [head + tails].into()];
        let [a, b, c, d, f] = shapes.map(|shape| g.uninitialised(shape, dtype));
        Some([a?, b?, c?, d?, f?])
    } else {
        None
    };
    let order = if g.device() == Device::Cpu { Some(g.uninitialised([n], DType::U32)?) } else { None };
    if !g.computes() {
        count(g, &decoder, &targets.read::<u32>(), [v, e], gradients.is_some());
    }
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "hidden", dtype, T => {
            let order = order.as_ref().expect("the CPU orders rows in it");
            let (bias, vectors, tail_bias) = (
                tensors.bias.as_ref().map(|b| b.read::<T>()),
                tensors.tails.as_ref().map(|(t, _)| t.read::<T>()),
                tensors.tails.as_ref().and_then(|(_, b)| b.as_ref()).map(|b| b.read::<T>()),
            );
            let [w_head, b_head, logits, rows_of, d_rows] = scratch.each_ref().map(|t| t.write::<T>());
            let mut scratch = cpu::Scratch { w_head, b_head, logits, rows: rows_of, d_rows, order: order.write::<u32>() };
            let mut gradients = gradients.as_ref().map(|all| all.each_ref().map(|t| t.write::<T>()));
            cpu::forward::<T>(
                &cpu::Decoder {
                    weight: &tensors.weight.read::<T>(),
                    bias: bias.as_deref(),
                    vectors: vectors.as_deref().unwrap_or(&[]),
                    tail_bias: tail_bias.as_deref(),
                    splits: decoder.splits,
                    v,
                    e,
                    precision: g.precision(),
                },
                &g.tensor(hidden).read::<T>(),
                &targets.read::<u32>(),
                &mut scratch,
                &mut row_losses.write::<T>(),
                gradients.as_mut().map(|[dh, dw, db, d_head, db_head]| cpu::Gradients { dh, dw, db, d_head, db_head }),
            );
            loss.set_f64(&[row_losses.to_f64().iter().sum::<f64>() / n as f64]);
        }),
        Device::Cuda(gpu) => {
            let [w_head, b_head, logits, rows, d_rows] = &scratch;
            let scratch = cuda::Scratch { w_head, b_head, logits, rows, d_rows };
            let wanted = gradients.as_ref();
            let wanted = wanted.map(|[dh, dw, db, d_head, db_head]| cuda::Gradients { dh, dw, db, d_head, db_head });
            let inputs = [&g.detach(hidden), targets];
            let results = [&row_losses, &loss];
            let products = &mut Products::new(context(gpu)?, g)?;
            cuda::forward(products, &tensors, inputs, &scratch, results, wanted.as_ref())?;
        }
    }
    let saved: Vec<&Tensor> = gradients.iter().flatten().collect();
    let attributes = Attributes::pack([decoder.bias.is_some() as u64, head as u64]);
    let loss = g.record(&AdaptiveSoftmax, &inputs, &saved, attributes, loss)?;
    Ok(AdaptiveLoss { loss, row_losses })
}

/// Tells a dry graph of the products: those of a tail are of the rows whose targets are in it.
fn count<V>(g: &mut Graph, decoder: &AdaptiveDecoder<V>, targets: &[u32], [v, e]: [usize; 2], gradients: bool) {
    for (i, words) in cpu::parts(decoder.splits, v).enumerate() {
        let rows = targets.iter().filter(|&&y| i == 0 || words.contains(&(y as usize))).count();
        let width = if i == 0 { words.len() + decoder.splits.len() } else { words.len() };
        g.multiplies([rows, width, e]);
        if gradients {
            g.multiplies_for_gradients([rows, e, width]);
            g.multiplies_for_gradients([width, e, rows]);
        }
    }
}

/// Log-probabilities of the whole vocabulary, `[N, V]`, for evaluation; nothing is recorded.
/// `hidden` is `[N, E]`.
pub fn log_probabilities(g: &mut Graph, hidden: &Tensor, decoder: &AdaptiveDecoder<Tensor>) -> Result<Tensor> {
    check(decoder)?;
    let (v, e) = (decoder.weight.dims()[0], decoder.weight.dims()[1]);
    let [n, width] = *hidden.dims() else { return Err(Error::shape(NAME, "hidden", "[N, E]", hidden.shape())) };
    if width != e {
        return Err(Error::shape(NAME, "hidden", format!("[N, {e}]"), hidden.shape()));
    }
    let dtype = hidden.dtype();
    let out = g.uninitialised([n, v], dtype)?;
    let tails = decoder.splits.len();
    let head = decoder.splits.first().copied().unwrap_or(v);
    let widest = cpu::parts(decoder.splits, v).map(|p| p.len()).max().unwrap_or(0).max(head + tails);
    let rows = match g.device() {
        Device::Cpu => cpu::block_rows(n, widest),
        Device::Cuda(_) => block_rows(n, widest, true),
    };
    let scratch = [
        g.uninitialised([head + tails, e], dtype)?,
        g.uninitialised([head + tails], dtype)?,
        g.uninitialised([rows, widest], dtype)?,
        g.uninitialised([rows, head + tails], dtype)?,
    ];
    if let Device::Cuda(gpu) = g.device() {
        let products = &mut Products::new(context(gpu)?, g)?;
        cuda::log_probabilities(products, decoder, hidden, scratch.each_ref(), &out)?;
        return Ok(out);
    }
    g.multiplies([n, v + tails, e]);
    if !g.computes() {
        return Ok(out);
    }
    real_type!(NAME, "hidden", dtype, T => {
        let (bias, vectors, tail_bias) = (
            decoder.bias.as_ref().map(|b| b.read::<T>()),
            decoder.tails.as_ref().map(|(t, _)| t.read::<T>()),
            decoder.tails.as_ref().and_then(|(_, b)| b.as_ref()).map(|b| b.read::<T>()),
        );
        let [mut w_head, mut b_head, mut logits, mut of_head] = scratch.each_ref().map(|t| t.write::<T>());
        cpu::log_probabilities::<T>(
            &cpu::Decoder {
                weight: &decoder.weight.read::<T>(),
                bias: bias.as_deref(),
                vectors: vectors.as_deref().unwrap_or(&[]),
                tail_bias: tail_bias.as_deref(),
                splits: decoder.splits,
                v,
                e,
                precision: g.precision(),
            },
            &hidden.read::<T>(),
            [&mut w_head, &mut b_head, &mut logits, &mut of_head],
            &mut out.write::<T>(),
        );
    });
    Ok(out)
}

/// From log-probabilities `[rows, V]`: −log p of the targets of rows `from..from + rows`, and
/// whether each is the first of the likeliest words.
///
/// * `targets`: u32, on the host; `row_losses`, `correct` (u32): of all rows
pub fn row_results(
    g: &mut Graph,
    all: &Tensor,
    targets: &Tensor,
    from: usize,
    row_losses: &Tensor,
    correct: &Tensor,
) -> Result<()> {
    let [rows, v] = *all.dims() else { return Err(Error::shape(NAME, "all", "[rows, V]", all.shape())) };
    if let Device::Cuda(gpu) = g.device() {
        let of_rows = g.uninitialised([rows], DType::U32)?;
        of_rows.copy_elements(0, targets, from, rows);
        let results = [row_losses.argument_from(from), correct.argument_from(from)];
        return cuda::row_results(context(gpu)?, all, &of_rows, results);
    }
    if !g.computes() {
        return Ok(());
    }
    let targets = targets.read::<u32>();
    real_type!(NAME, "all", all.dtype(), T => {
        let (all, mut losses, mut correct) = (all.read::<T>(), row_losses.write::<T>(), correct.write::<u32>());
        for (i, row) in all.chunks_exact(v).enumerate() {
            let target = targets[from + i] as usize;
            let likeliest = (1..row.len()).fold(0, |best, w| if row[w] > row[best] { w } else { best });
            losses[from + i] = -row[target];
            correct[from + i] = u32::from(likeliest == target);
        }
    });
    Ok(())
}

fn check(decoder: &AdaptiveDecoder<Tensor>) -> Result<()> {
    let ws = decoder.weight.shape();
    let [v, e] = *ws.dims() else { return Err(Error::shape(NAME, "weight", "[V, E]", ws)) };
    let splits = decoder.splits;
    if splits.first() == Some(&0) || splits.last().is_some_and(|&s| s >= v) || !splits.is_sorted_by(|a, b| a < b) {
        return Err(Error::shape(NAME, "splits", format!("ascending, between 0 and {v}"), format!("{splits:?}")));
    }
    let expect = |argument, tensor: Option<&Tensor>, dims: &[usize]| match tensor {
        Some(t) if t.dims() != dims => Err(Error::shape(NAME, argument, format!("{dims:?}"), t.shape())),
        _ => Ok(()),
    };
    expect("bias", decoder.bias.as_ref(), &[v])?;
    let n = splits.len();
    let (vectors, tail_bias) = match &decoder.tails {
        Some((vectors, bias)) => (Some(vectors), bias.as_ref()),
        None => (None, None),
    };
    if vectors.is_some() != (n > 0) {
        return Err(Error::shape(NAME, "tail_vectors", format!("[{n}, {e}]"), if n > 0 { "none" } else { "some" }));
    }
    if n > 0 && tail_bias.is_some() != decoder.bias.is_some() {
        return Err(Error::shape(NAME, "tail_bias", "given iff bias is", "one without the other"));
    }
    expect("tail_vectors", vectors, &[n, e])?;
    expect("tail_bias", tail_bias, &[n])
}

impl Operation for AdaptiveSoftmax {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(upstream) = b.grad_output(0).cloned() else { return Ok(()) };
        let [bias, head]: [u64; 2] = b.attributes();
        let (bias, head) = (bias == 1, head as usize);
        let e = b.input(1).dims()[1];
        // where each input's gradient was saved, and from which element on
        let (dh, dw, db, d_head, db_head) = ((0, 0), (1, 0), (2, 0), (3, head * e), (4, head));
        let parts = if bias { [dh, dw, db, d_head, db_head] } else { [dh, dw, d_head, dh, dh] };
        for (i, &(saved, from)) in parts.iter().enumerate().take(b.inputs()) {
            let gradient = b.saved(saved).clone();
            if let Some((out, store)) = b.grad_input(i)? {
                if let Device::Cuda(gpu) = b.device() {
                    put_times(context(gpu)?, gradient.argument_from(from), &upstream, &out, store)?;
                    continue;
                }
                if !b.computes() {
                    continue;
                }
                let dy = upstream.scalar();
                real_type!(NAME, "hidden", out.dtype(), T => {
                    let gradient = gradient.read::<T>();
                    cpu::put_scaled(&gradient[from..], dy as T, &mut out.write::<T>(), store);
                });
            }
        }
        Ok(())
    }
}
