//! Sampled softmax of the authors' pre-training script (docs/SPEC.md §1.4): the target against a
//! few thousand shared negatives.

pub mod cases;
mod cpu;
mod cuda;
mod negatives;

pub use negatives::{NegativeSampler, exponential_key, sample_negatives};

use crate::autodiff::{Attributes, Backward, Graph, Operation, Store, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::{Products, block_rows, put_times, sorted_places};
use crate::real_type;
use crate::tensor::{DType, Tensor};

const NAME: &str = "sampled_softmax";

/// See [`sampled_softmax`].
pub struct SampledSoftmax;

/// Outputs of [`sampled_softmax`].
#[derive(Clone, Debug)]
pub struct SampledLoss {
    /// Mean loss over the rows, in nats, `[1]`. Not comparable with a cross-entropy: evaluation
    /// uses the full softmax.
    pub loss: Var,
    /// Loss of every row, in nats, `[N]`; no gradient flows through it.
    pub row_losses: Tensor,
}

/// `loss = mean_n( log(e^{s_y} + Σ_k 2·e^{s_k}) − s_y )`, `s_v = hidden_n·w_v + b_v`, `y` the
/// target of row `n`, `k` over the negatives.
///
/// * `hidden`: decoder input, `[.., E]`, N rows in all
/// * `weight`: `[V, E]`
/// * `bias`: `[V]`, or none (as the script)
/// * `targets`: u32, N in all, each below V
/// * `negatives`: u32 `[K]`, each below V, shared by all rows ([`sample_negatives`]). One that
///   equals a row's target is not treated specially: it counts as target and, twice weighted, as
///   negative (as the script).
///
/// Gradients: `hidden`, `weight`, `bias`; only rows of targets and negatives are non-zero in the
/// latter two. Where they are needed, they are computed in the forward pass, by blocks of rows
/// while the scores are in cache, for an upstream gradient of one; the backward pass scales and
/// scatters them.
pub fn sampled_softmax(
    g: &mut Graph,
    hidden: Var,
    weight: Var,
    bias: Option<Var>,
    targets: &Tensor,
    negatives: &Tensor,
) -> Result<SampledLoss> {
    let _span = crate::trace::operation("sampled_softmax");
    let (hs, ws) = (g.shape(hidden), g.shape(weight));
    let [v, e] = *ws.dims() else { return Err(Error::shape(NAME, "weight", "[V, E]", ws)) };
    if hs.rank() == 0 || hs.dims()[hs.rank() - 1] != e || hs.is_empty() {
        return Err(Error::shape(NAME, "hidden", format!("[.., {e}] with at least one row"), hs));
    }
    let (n, k) = (hs.len() / e, negatives.len());
    check_words("targets", targets, n, v)?;
    check_words("negatives", negatives, k.max(1), v)?;
    if let Some(bias) = bias
        && g.shape(bias).dims() != [v]
    {
        return Err(Error::shape(NAME, "bias", format!("[{v}]"), g.shape(bias)));
    }
    let dtype = g.dtype(hidden);
    let (loss, row_losses) = (g.uninitialised([1], dtype)?, g.uninitialised([n], dtype)?);
    let rows = match g.device() {
        Device::Cpu => cpu::block_rows(n),
        Device::Cuda(_) => block_rows(n, k, true),
    };
    // weight and bias of the negatives side by side, and the scores of a block
    let (w_k, b_k, scores) =
        (g.uninitialised([k, e], dtype)?, g.uninitialised([k], dtype)?, g.uninitialised([rows, k], dtype)?);
    let needs = g.needs_any(&[hidden, weight]) || bias.is_some_and(|b| g.needs_any(&[b]));
    let gradients = if needs {
        let shapes = [hs, [k, e].into(), [k].into(), [n].into()];
        let [a, b, c, d] = shapes.map(|shape| g.uninitialised(shape, dtype));
        Some([a?, b?, c?, d?])
    } else {
        None
    };
    // on a GPU, for the backward; elsewhere nothing reads it
    let mut places = loss.clone();
    g.multiplies([n, k, e]);
    if needs {
        g.multiplies_for_gradients([n, e, k]);
        g.multiplies_for_gradients([k, e, n]);
    }
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "hidden", dtype, T => {
            let bias = bias.map(|b| g.tensor(b).read::<T>());
            let mut gradients = gradients.as_ref().map(|all| all.each_ref().map(|t| t.write::<T>()));
            let total = cpu::forward::<T>(
                &cpu::Inputs {
                    hidden: &g.tensor(hidden).read::<T>(),
                    weight: &g.tensor(weight).read::<T>(),
                    bias: bias.as_deref(),
                    targets: &targets.read::<u32>(),
                    negatives: &negatives.read::<u32>(),
                    e,
                    precision: g.precision(),
                },
                cpu::Scratch { w_k: &mut w_k.write::<T>(), b_k: &mut b_k.write::<T>(), scores: &mut scores.write::<T>() },
                &mut row_losses.write::<T>(),
                gradients.as_mut().map(|[dh, dw, db, dy]| cpu::Gradients { dh, dw, db, dy }),
            );
            loss.set_f64(&[total / n as f64]);
        }),
        Device::Cuda(gpu) => {
            // the negatives first: the order in which the CPU adds their gradients
            let words = g.uninitialised([k + n], DType::U32)?;
            words.copy_elements(0, negatives, 0, k);
            words.copy_elements(k, targets, 0, n);
            if needs {
                places = sorted_places(g, &[negatives, targets])?;
            }
            let bias = bias.map(|b| g.tensor(b).clone());
            let (hidden, weight) = (g.tensor(hidden).clone(), g.tensor(weight).clone());
            let inputs = cuda::Inputs { hidden: &hidden, weight: &weight, bias: bias.as_ref(), words: &words };
            let scratch = cuda::Scratch { w_k: &w_k, b_k: &b_k, scores: &scores };
            let gradients = gradients.as_ref().map(|[dh, dw, db, d_target]| cuda::Gradients { dh, dw, db, d_target });
            let products = &mut Products::new(context(gpu)?, g)?;
            cuda::forward(products, &inputs, &scratch, [&row_losses, &loss], gradients.as_ref())?;
        }
    }
    let saved = gradients.unwrap_or_else(|| [&loss; 4].map(Tensor::clone));
    let saved = [&saved[0], &saved[1], &saved[2], &saved[3], targets, negatives, &places];
    let inputs = [hidden, weight, bias.unwrap_or(weight)];
    let inputs = if bias.is_some() { &inputs[..] } else { &inputs[..2] };
    let loss = g.record(&SampledSoftmax, inputs, &saved, Attributes::none(), loss)?;
    Ok(SampledLoss { loss, row_losses })
}

fn check_words(argument: &'static str, words: &Tensor, n: usize, v: usize) -> Result<()> {
    if words.dtype() != DType::U32 || words.len() != n {
        let found = format!("{} {}", words.len(), words.dtype());
        return Err(Error::shape(NAME, argument, format!("{n} u32"), found));
    }
    match words.read::<u32>().iter().find(|&&word| word as usize >= v) {
        Some(bad) => Err(Error::shape(NAME, argument, format!("below {v}"), bad)),
        None => Ok(()),
    }
}

impl Operation for SampledSoftmax {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(upstream) = b.grad_output(0).cloned() else { return Ok(()) };
        let [dh, dw, db, d_target, targets, negatives] = [0, 1, 2, 3, 4, 5].map(|i| b.saved(i).clone());
        let hidden = b.input(0).clone();
        let e = b.input(1).dims()[1];
        if let Device::Cuda(gpu) = b.device() {
            let gpu = context(gpu)?;
            if let Some((out, store)) = b.grad_input(0)? {
                put_times(gpu, dh.argument(), &upstream, &out, store)?;
            }
            let places = b.saved(6).clone();
            for (i, d, hidden, e) in [(1, &dw, Some(&hidden), e), (2, &db, None, 1)] {
                if i < b.inputs()
                    && let Some((out, store)) = b.grad_input(i)?
                {
                    if store == Store::Set {
                        out.fill_zero();
                    }
                    cuda::scatter(gpu, &places, [d, &d_target, &upstream], hidden, &out, e)?;
                }
            }
            return Ok(());
        }
        let [of_hidden, of_weight] = [b.grad_input(0)?, b.grad_input(1)?];
        let of_bias = if b.inputs() > 2 { b.grad_input(2)? } else { None };
        if !b.computes() {
            return Ok(());
        }
        let dy = upstream.scalar();
        real_type!(NAME, "hidden", hidden.dtype(), T => {
            let (dy, targets, negatives) = (dy as T, targets.read::<u32>(), negatives.read::<u32>());
            if let Some((out, store)) = of_hidden {
                cpu::put_scaled(&dh.read::<T>(), dy, &mut out.write::<T>(), store);
            }
            if let Some((out, store)) = of_weight {
                let mut out = out.write::<T>();
                if store == Store::Set {
                    out.fill(0.0);
                }
                cpu::scatter_rows(&dw.read::<T>(), dy, &negatives, e, &mut out);
                cpu::scatter_targets(&hidden.read::<T>(), &d_target.read::<T>(), dy, &targets, e, &mut out);
            }
            if let Some((out, store)) = of_bias {
                let mut out = out.write::<T>();
                if store == Store::Set {
                    out.fill(0.0);
                }
                cpu::scatter_rows(&db.read::<T>(), dy, &negatives, 1, &mut out);
                cpu::scatter_rows(&d_target.read::<T>(), dy, &targets, 1, &mut out);
            }
        });
        Ok(())
    }
}
