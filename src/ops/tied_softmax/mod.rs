//! Tied linear layer, softmax and cross-entropy in one, by row blocks: the logits of a batch never
//! exist (docs/SPEC.md §1.1, §1.3).

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cpu::gemm::Packed;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::{self, Products, put_times};
use crate::real_type;
use crate::tensor::{DType, Real, Tensor};

/// See [`tied_softmax`].
pub struct TiedSoftmax;

/// Outputs of [`tied_softmax`].
#[derive(Clone, Debug)]
pub struct TiedLoss {
    /// Mean cross-entropy over the rows, in nats, `[1]`.
    pub loss: Var,
    /// Cross-entropy of every row, in nats, `[N]`; no gradient flows through it.
    pub row_losses: Tensor,
    /// u32 `[N]`: 1 where the most probable word (the first one among equals) is the target.
    pub correct: Tensor,
}

/// `loss = mean_n( logΣ_v exp(x_n·w_v + b_v) − (x_n·w_y + b_y) )`.
///
/// * `x`: decoder input, `[.., E]`, N rows in all
/// * `w`: the embedding matrix, `[V, E]`
/// * `b`: decoder bias `[V]`, or none (docs/SPEC.md §1.1: none in 0.7, present in v1, v2 and the
///   AWD code)
/// * `targets`: u32, N in all, each below V
///
/// Gradients: `x`, `w`, `b`. Where they are needed, they are computed in the forward pass while a
/// block's logits are in cache, for an upstream gradient of one; the backward pass scales them
/// (that of `w` is in place already where [`Graph::promise_unit_loss`] holds).
pub fn tied_softmax(g: &mut Graph, x: Var, w: Var, b: Option<Var>, targets: &Tensor) -> Result<TiedLoss> {
    const NAME: &str = "tied_softmax";
    let _span = crate::trace::operation(NAME);
    let (xs, ws) = (g.shape(x), g.shape(w));
    let [v, e] = *ws.dims() else { return Err(Error::shape(NAME, "w", "[V, E]", ws)) };
    if xs.rank() == 0 || xs.dims()[xs.rank() - 1] != e || xs.is_empty() {
        return Err(Error::shape(NAME, "x", format!("[.., {e}] with at least one row"), xs));
    }
    let n = xs.len() / e;
    if targets.dtype() != DType::U32 || targets.len() != n {
        return Err(Error::shape(
            NAME,
            "targets",
            format!("{n} u32"),
            format!("{} {}", targets.len(), targets.dtype()),
        ));
    }
    if let Some(&bad) = targets.read::<u32>().iter().find(|&&y| y as usize >= v) {
        return Err(Error::shape(NAME, "targets", format!("below {v}"), bad));
    }
    if let Some(b) = b
        && g.shape(b).dims() != [v]
    {
        return Err(Error::shape(NAME, "b", format!("[{v}]"), g.shape(b)));
    }
    let dtype = g.dtype(x);
    let (loss, row_losses, correct) =
        (g.uninitialised([1], dtype)?, g.uninitialised([n], dtype)?, g.uninitialised([n], DType::U32)?);
    let wants = |g: &Graph, var: Option<Var>| var.is_some_and(|var| g.needs_any(&[var]));
    let dx = if wants(g, Some(x)) { Some(g.uninitialised(xs, dtype)?) } else { None };
    // that of the matrix is as large as the model: it is written where it belongs, if that may be
    let early = if g.device() == Device::Cpu { g.early_gradient(w) } else { None };
    let dw = match early {
        None if wants(g, Some(w)) => Some(g.uninitialised(ws, dtype)?),
        early => early,
    };
    let db = if wants(g, b) { Some(g.uninitialised([v], dtype)?) } else { None };
    g.multiplies([n, v, e]);
    for (wanted, product) in [(dx.is_some(), [n, e, v]), (dw.is_some(), [v, e, n])] {
        if wanted {
            g.multiplies_for_gradients(product);
        }
    }
    match g.device() {
        Device::Cpu => real_type!(NAME, "x", dtype, T => {
            let logits = g.uninitialised([block_rows(n, v), v], dtype)?;
            let precision = g.precision();
            let weight = g.tensor(w).clone();
            let for_logits = packed_for_logits::<T>(g, &weight, [v, e])?;
            let for_dx = if dx.is_some() { Some(g.uninitialised([cpu::packed_lens::<T>(precision, v, e)[1]], dtype)?) } else { None };
            if g.computes() {
                let for_logits = for_logits.read::<T>();
                let bias = b.map(|b| g.tensor(b).read::<T>());
                let (mut dx, mut dw, mut db) =
                    (dx.as_ref().map(|d| d.write::<T>()), dw.as_ref().map(|d| d.write::<T>()), db.as_ref().map(|d| d.write::<T>()));
                cpu::forward::<T>(
                    cpu::Decoder { x: &g.tensor(x).read::<T>(), w: &g.tensor(w).read::<T>(), b: bias.as_deref(), targets: &targets.read::<u32>(), e, v, precision },
                    cpu::Buffers {
                        logits: &mut logits.write::<T>(),
                        for_logits: Packed::new(precision, &for_logits, e, v),
                        packed_for_dx: for_dx.as_ref().map(|d| d.write::<T>()).as_deref_mut(),
                    },
                    cpu::Losses { rows: &mut row_losses.write::<T>(), correct: &mut correct.write::<u32>() },
                    cpu::Gradients { dx: dx.as_deref_mut(), dw: dw.as_deref_mut(), db: db.as_deref_mut() },
                );
                let total: f64 = row_losses.read::<T>().iter().map(|&l| crate::tensor::Real::to_f64(l)).sum();
                loss.set_f64(&[total / n as f64]);
            }
        }),
        Device::Cuda(gpu) => {
            let targets = gpu::indices(g, targets)?;
            let (x, w, b) = (g.tensor(x).clone(), g.tensor(w).clone(), b.map(|b| g.tensor(b).clone()));
            let decoder = cuda::Decoder { x: &x, w: &w, b: b.as_ref() };
            let gradients = cuda::Gradients { dx: dx.as_ref(), dw: dw.as_ref(), db: db.as_ref() };
            let products = &mut Products::new(context(gpu)?, g)?;
            decoder.forward(products, [&targets, &row_losses, &correct, &loss], &gradients)?;
        }
    }
    // a gradient that nobody wants is stood in for by the loss, so that the positions stay fixed
    let saved = [&dx, &dw, &db].map(|d| d.as_ref().unwrap_or(&loss).clone());
    let inputs = [x, w, b.unwrap_or(w)];
    let inputs = if b.is_some() { &inputs[..] } else { &inputs[..2] };
    let loss = g.record(&TiedSoftmax, inputs, &[&saved[0], &saved[1], &saved[2]], Attributes::none(), loss)?;
    Ok(TiedLoss { loss, row_losses, correct })
}

/// The weight `[V, E]`, packed for the products that give logits.
fn packed_for_logits<T: Real>(g: &mut Graph, w: &Tensor, [v, e]: [usize; 2]) -> Result<Tensor> {
    let precision = g.precision();
    let len = cpu::packed_lens::<T>(precision, v, e)[0];
    g.packed(w, "logits", len, |to| cpu::pack_for_logits::<T>(precision, &w.read::<T>(), [v, e], &mut to.write::<T>()))
}

/// Natural-log probabilities of every word after every row, `[N, V]`: for generation and for tests;
/// this does hold all logits.
pub fn log_probabilities(g: &mut Graph, x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (v, e) = (w.dims()[0], w.dims()[1]);
    let n = x.len() / e.max(1);
    let out = g.uninitialised([n, v], x.dtype())?;
    if let Device::Cuda(gpu) = g.device() {
        cuda::Decoder { x, w, b }.log_probabilities(&mut Products::new(context(gpu)?, g)?, &out)?;
        return Ok(out);
    }
    real_type!("tied_softmax", "x", x.dtype(), T => {
        let packed = packed_for_logits::<T>(g, w, [v, e])?;
        g.multiplies([n, v, e]);
        if !g.computes() {
            return Ok(out);
        }
        let packed = packed.read::<T>();
        let for_logits = Packed::new(g.precision(), &packed, e, v);
        let bias = b.map(|b| b.read::<T>());
        cpu::log_probabilities::<T>(&x.read::<T>(), for_logits, bias.as_deref(), [v, e], &mut out.write::<T>());
    });
    Ok(out)
}

/// Sum of row losses `[N]`, in nats, and number of rows that are `correct` (u32 `[N]`). On a GPU
/// they are summed there, in f64 and in an order that N fixes; two numbers are copied.
pub fn totals(g: &mut Graph, row_losses: &Tensor, correct: &Tensor) -> Result<(f64, u64)> {
    let Device::Cuda(gpu) = g.device() else {
        let hits = correct.read::<u32>().iter().map(|&c| u64::from(c)).sum();
        return Ok((row_losses.to_f64().iter().sum(), hits));
    };
    let totals = Tensor::uninitialised(g.pool(), [2], DType::F64)?;
    cuda::totals(context(gpu)?, row_losses, correct, &totals)?;
    let totals = totals.to_f64();
    context(gpu)?.synchronise()?;
    Ok((totals[0], totals[1] as u64))
}

/// Rows of a block of `n` rows over `v` words on the CPU: few enough for the logits to stay in a
/// third-level cache (about 16 MiB in f32) until their gradient is consumed, enough to amortise a
/// pass over dW, which is read and written once for every block. Below the most, 512, a multiple of
/// 28, so that two threads have whole tiles of the product that gives dx.
pub(crate) fn block_rows(n: usize, v: usize) -> usize {
    const ROWS: usize = 28;
    let tiles = ((4 << 20) + ROWS / 2 * v) / (ROWS * v.max(1));
    (ROWS * tiles.max(1)).min(512).min(n).max(1)
}

impl Operation for TiedSoftmax {
    fn name(&self) -> &'static str {
        "tied_softmax"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        if let Device::Cuda(gpu) = b.device() {
            let Some(upstream) = b.grad_output(0).cloned() else { return Ok(()) };
            for k in 0..b.inputs() {
                let d = b.saved(k).clone();
                if let Some((out, store)) = b.grad_input(k)? {
                    put_times(context(gpu)?, d.argument(), &upstream, &out, store)?;
                }
            }
            return Ok(());
        }
        let Some(upstream) = b.upstream() else { return Ok(()) };
        for k in 0..b.inputs() {
            let d = b.saved(k).clone();
            if b.early_gradient_is_due(k, &d, upstream)? {
                continue;
            }
            if let Some((out, store)) = b.grad_input(k)?
                && b.computes()
            {
                real_type!("tied_softmax", "x", d.dtype(), T => {
                    cpu::scale_and_put::<T>(&d.read::<T>(), <T as crate::tensor::Real>::from_f64(upstream), &mut out.write::<T>(), store);
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Parameters;
    use crate::ops::embedding::embedding;
    use crate::ops::mask::Dropout;
    use crate::ops::weighted_sum::weighted_sum;

    /// The gradient of a matrix that is embedding and decoder, of a loss that enters with a weight.
    fn gradient(promised: bool, weight: f64, reached: bool) -> Result<Vec<f64>> {
        let mut builder = Parameters::builder();
        let id = builder.add("w", &[5, 3], 0);
        let mut parameters = builder.build(DType::F32)?;
        let values: Vec<f64> = (0..15).map(|i| f64::from(i * 7 % 11) / 8.0 - 0.5).collect();
        parameters.value(id).set_f64(&values);
        let mut g = Graph::new(Device::Cpu, DType::F32, None);
        if promised {
            g.promise_unit_loss();
        }
        let w = g.parameter(&parameters, id);
        let tokens = Tensor::from_slice([2, 2], &[4u32, 0, 2, 4])?;
        let x = embedding(&mut g, &tokens, w, &Dropout::Off, &Dropout::Off, None)?;
        let other = tied_softmax(&mut g, x, w, None, &Tensor::from_slice([4], &[1u32, 2, 3, 4])?)?.loss;
        let loss = tied_softmax(&mut g, x, w, None, &Tensor::from_slice([4], &[0u32, 0, 3, 1])?)?.loss;
        let terms = [(loss, 1.0), (other, weight)];
        let loss = weighted_sum(&mut g, if reached { &terms } else { &terms[..1] })?;
        g.backward(loss, &mut parameters)?;
        Ok(parameters.gradient(id).to_f64())
    }

    #[test]
    fn a_gradient_that_comes_early_is_the_same() {
        let late = gradient(false, 1.0, true).unwrap();
        assert!(late.iter().filter(|d| d.abs() > 1e-3).count() > 10, "{late:?}");
        let early = gradient(true, 1.0, true).unwrap();
        // two losses and the embedding are added in another order
        assert!(late.iter().zip(&early).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0)), "{late:?} {early:?}");
    }

    #[test]
    fn a_block_of_rows_has_whole_tiles_and_fits_a_cache() {
        for v in [1, 50, 10_000, 30_000, 60_001, 149_797, 1_000_000] {
            let rows = block_rows(100_000, v);
            assert!(
                (rows == 512 || rows.is_multiple_of(28)) && (rows == 28 || rows * v * 4 <= 20 << 20),
                "{rows} rows of {v} words"
            );
            assert_eq!(block_rows(5, v), 5);
        }
        assert_eq!([block_rows(4480, 30_000), block_rows(4480, 10_000), block_rows(4480, 50)], [140, 420, 512]);
    }

    #[test]
    fn a_broken_promise_is_an_error() {
        let error = gradient(true, 2.0, true).unwrap_err().to_string();
        assert!(error.contains("weight 2"), "{error}");
        let error = gradient(true, 1.0, false).unwrap_err().to_string();
        assert!(error.contains("not part"), "{error}");
        gradient(false, 2.0, true).unwrap();
    }
}
