//! Batch normalisation of feature vectors, PyTorch's `BatchNorm1d`.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::put_scaled;
use crate::real_type;
use crate::tensor::Tensor;

/// Added to the variance (PyTorch's default, which every version of the head keeps; docs/SPEC.md
/// §1.6).
pub const EPSILON: f64 = 1e-5;

/// Share of the new batch in the running statistics (PyTorch's default).
pub const MOMENTUM: f64 = 0.1;

/// See [`batch_norm`].
pub struct BatchNorm;

/// Which statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The statistics of the batch, which also enter the running statistics.
    Train,
    /// The running ones.
    Eval,
    /// The running ones, in training: a frozen layer group (docs/SPEC.md §1.2, the trap of 0.7).
    /// Computes what `Eval` computes; gradients flow to `x`, and to `weight` and `bias` where they
    /// are trainable.
    Frozen,
}

/// `y[b, f] = (x[b, f] - mean[f]) / √(variance[f] + 1e-5) · weight[f] + bias[f]`.
///
/// * `x`: `[B, F]`
/// * `weight`, `bias`: `[F]`
/// * `running_mean`, `running_variance`: `[F]`, in `x`'s type. In training mode they become
///   `0.9·old + 0.1·(the batch's)`, in place.
///
/// In training mode the batch's biased variance (divided by B) normalises, and the unbiased one (by
/// B-1) enters the running statistics, as in PyTorch. A batch of one sample has no variance: an
/// error in training mode.
///
/// Returns `y`: `[B, F]`. Gradients: `x`, `weight`, `bias`; in training mode also through the
/// batch's statistics.
pub fn batch_norm(
    g: &mut Graph,
    x: Var,
    weight: Var,
    bias: Var,
    running_mean: &Tensor,
    running_variance: &Tensor,
    mode: Mode,
) -> Result<Var> {
    let _span = crate::trace::operation("batch_norm");
    let (shape, dtype) = (g.shape(x), g.dtype(x));
    let [rows, features] = *shape.dims() else { return Err(Error::shape("batch_norm", "x", "[B, F]", shape)) };
    let per_feature = [
        ("weight", g.tensor(weight)),
        ("bias", g.tensor(bias)),
        ("running_mean", running_mean),
        ("running_variance", running_variance),
    ];
    for (argument, tensor) in per_feature {
        if tensor.dims() != [features] || tensor.dtype() != dtype {
            let found = format!("{} {}", tensor.dtype(), tensor.shape());
            return Err(Error::shape("batch_norm", argument, format!("{dtype} [{features}]"), found));
        }
    }
    if mode == Mode::Train && rows < 2 {
        return Err(Error::data(format!("batch normalisation cannot train on a batch of {rows}: it has no variance"))
            .hint("choose a batch size that is at least 2 and does not leave a last batch of 1"));
    }
    let y = g.uninitialised(shape, dtype)?;
    // [2, F]: mean, and 1/√(variance + ε)
    let statistics = g.uninitialised([2, features], dtype)?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("batch_norm", "x", dtype, T => {
            let (x, mut statistics) = (g.tensor(x).read::<T>(), statistics.write::<T>());
            let (mean, scale) = statistics.split_at_mut(features);
            if mode == Mode::Train {
                cpu::moments(&x, mean, scale);
                cpu::update(rows, mean, scale, &mut running_mean.write::<T>(), &mut running_variance.write::<T>());
            } else {
                mean.copy_from_slice(&running_mean.read::<T>());
                scale.copy_from_slice(&running_variance.read::<T>());
            }
            cpu::invert(scale);
            let (weight, bias) = (g.tensor(weight).read::<T>(), g.tensor(bias).read::<T>());
            cpu::forward(&x, mean, scale, &weight, &bias, &mut y.write::<T>());
        }),
        Device::Cuda(gpu) => {
            let gpu = context(gpu)?;
            let [x, weight, bias] = [x, weight, bias].map(|v| g.tensor(v));
            if mode == Mode::Train {
                cuda::statistics(gpu, x, &statistics, running_mean, running_variance)?;
            } else {
                cuda::running(gpu, running_mean, running_variance, &statistics)?;
            }
            cuda::forward(gpu, x, &statistics, weight, bias, &y)?;
        }
    }
    let attributes = Attributes::pack(u64::from(mode == Mode::Train));
    g.record(&BatchNorm, &[x, weight, bias], &[&statistics], attributes, y)
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let train = b.attributes::<u64>() == 1;
        let (x, weight, statistics) = (b.input(0).clone(), b.input(1).clone(), b.saved(0).clone());
        let features = weight.len();
        // [2, F]: the gradients of weight and bias, which those of x also need
        let sums = b.scratch([2, features], x.dtype())?;
        if let Device::Cuda(gpu) = b.device() {
            let gpu = context(gpu)?;
            cuda::sums(gpu, &x, &dy, &statistics, &sums)?;
            if let Some((dx, store)) = b.grad_input(0)? {
                let (x, dy, statistics, sums, weight) = (&x, &dy, &statistics, &sums, &weight);
                cuda::Backward { x, dy, statistics, sums, weight, train }.run(gpu, &dx, store)?;
            }
            for i in [1, 2] {
                if let Some((d, store)) = b.grad_input(i)? {
                    let sum = sums.argument_from((i - 1) * features);
                    put_scaled(gpu, sum, 1.0, d.argument(), features, store)?;
                }
            }
            return Ok(());
        }
        let [dx, d_of_weight, d_of_bias] = [b.grad_input(0)?, b.grad_input(1)?, b.grad_input(2)?];
        if !b.computes() {
            return Ok(());
        }
        real_type!("batch_norm", "x", x.dtype(), T => {
            let (x, dy, statistics) = (x.read::<T>(), dy.read::<T>(), statistics.read::<T>());
            let (mean, scale) = statistics.split_at(features);
            let mut sums = sums.write::<T>();
            let (dweight, dbias) = sums.split_at_mut(features);
            cpu::backward_affine(&x, &dy, mean, scale, dweight, dbias);
            if let Some((dx, store)) = dx {
                let (weight, dx) = (weight.read::<T>(), &mut dx.write::<T>());
                let row = cpu::Row { mean, scale, weight: &weight, dweight, dbias };
                if train {
                    cpu::backward_train(&x, &dy, row, dx, store);
                } else {
                    cpu::backward_fixed(&dy, row, dx, store);
                }
            }
            for (d, sum) in [(d_of_weight, dweight), (d_of_bias, dbias)] {
                if let Some((d, store)) = d {
                    cpu::put(sum, &mut d.write::<T>(), store);
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing::{self, tensor};

    /// Weight 2, bias 1, running mean 1 and variance 4; the statistics afterwards and the result.
    fn run(x: &Tensor, mode: Mode) -> Result<(Vec<f64>, f64, f64)> {
        let mut g = testing::graph(DType::F64);
        let (mean, variance) = (tensor(&[1], &[1.0]), tensor(&[1], &[4.0]));
        let [x, w, b] = [x.clone(), tensor(&[1], &[2.0]), tensor(&[1], &[1.0])].map(|t| g.constant(t));
        let y = batch_norm(&mut g, x, w, b, &mean, &variance, mode)?;
        Ok((g.tensor(y).to_f64(), mean.scalar(), variance.scalar()))
    }

    fn near(found: &[f64], expected: &[f64]) {
        let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12);
        assert!(close && found.len() == expected.len(), "{found:?}, not {expected:?}");
    }

    #[test]
    fn training_normalises_with_the_biased_and_keeps_the_unbiased_variance() {
        // mean 3, biased variance 8/3, unbiased 4
        let (y, mean, variance) = run(&tensor(&[3, 1], &[1.0, 3.0, 5.0]), Mode::Train).unwrap();
        let d = 4.0 / (8.0f64 / 3.0 + 1e-5).sqrt();
        near(&y, &[1.0 - d, 1.0, 1.0 + d]);
        near(&[mean, variance], &[0.9 + 0.3, 3.6 + 0.4]);
    }

    #[test]
    fn evaluation_uses_and_keeps_the_running_statistics() {
        for mode in [Mode::Eval, Mode::Frozen] {
            let (y, mean, variance) = run(&tensor(&[1, 1], &[3.0]), mode).unwrap();
            near(&y, &[1.0 + 4.0 / (4.0f64 + 1e-5).sqrt()]);
            near(&[mean, variance], &[1.0, 4.0]);
        }
    }

    #[test]
    fn one_sample_cannot_be_trained_on() {
        let error = run(&tensor(&[1, 1], &[3.0]), Mode::Train).unwrap_err();
        assert_eq!(error.to_string(), "batch normalisation cannot train on a batch of 1: it has no variance");
        assert!(error.hint_text().unwrap().contains("batch size"));
        let error = run(&tensor(&[2, 2], &[3.0; 4]), Mode::Train).unwrap_err();
        assert_eq!(error.to_string(), "batch_norm: weight must be f64 [2], found f64 [1]");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
