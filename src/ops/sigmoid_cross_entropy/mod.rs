//! Sigmoid and binary cross-entropy in one: every label by itself.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::ops::weighted_cross_entropy::check_weights;
use crate::real_type;
use crate::tensor::Tensor;

const NAME: &str = "sigmoid_cross_entropy";

/// See [`sigmoid_cross_entropy`].
pub struct SigmoidCrossEntropy;

/// The mean over all rows and labels (PyTorch's `binary_cross_entropy_with_logits` with
/// `pos_weight`; the focus is Lin et al. 2017, equation 4).
///
/// ```text
/// loss = mean  w·y·(1 − p)^γ·(−ln p) + (1 − y)·p^γ·(−ln (1 − p))        p = 1/(1 + e^−z)
/// ```
///
/// * `logits`: z, `[B, C]`
/// * `targets`: y, in [0, 1], of every row and label, `B·C` numbers
/// * `weights`: w of every label, above zero; empty: one
/// * `focal`: γ, 0 for none
///
/// Returns the loss: `[1]`. Gradient: `logits`.
///
/// # Errors
/// Shapes that do not fit; a target outside of [0, 1]; a weight that is not above zero; γ below
/// zero.
pub fn sigmoid_cross_entropy(g: &mut Graph, logits: Var, targets: &[f64], weights: &[f64], focal: f64) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let classes = columns(g, logits)?;
    let n = g.tensor(logits).len();
    if targets.len() != n {
        return Err(Error::shape(NAME, "targets", format!("{n} numbers"), targets.len()));
    }
    if let Some(bad) = targets.iter().find(|y| !(0.0..=1.0).contains(*y)) {
        return Err(Error::shape(NAME, "targets", "in [0, 1]", bad));
    }
    if !(focal >= 0.0 && focal.is_finite()) {
        return Err(Error::shape(NAME, "focal", "at least 0", focal));
    }
    check_weights(NAME, weights, classes)?;
    let all: Vec<f64> = (0..classes).map(|class| weights.get(class).copied().unwrap_or(1.0)).collect();
    let (targets, weights) = (gpu::numbers(g, targets)?, gpu::numbers(g, &all)?);
    let loss = g.uninitialised([1], g.dtype(logits))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "logits", g.dtype(logits), T => {
            let (y, w) = (targets.read::<T>(), weights.read::<T>());
            loss.write::<T>()[0] = cpu::forward(&g.tensor(logits).read::<T>(), &y, &w, focal);
        }),
        Device::Cuda(gpu) => {
            let losses = g.uninitialised([n], g.dtype(logits))?;
            cuda::forward(context(gpu)?, [g.tensor(logits), &targets, &weights, &losses, &loss], focal)?;
        }
    }
    g.record(&SigmoidCrossEntropy, &[logits], &[&targets, &weights], Attributes::pack(focal), loss)
}

/// Probabilities for prediction, outside the tape: no gradient flows through them.
///
/// * `logits`: `[B, C]`
///
/// Returns the sigmoid of every logit: `[B, C]`, on the host.
///
/// # Errors
/// No memory left.
pub fn sigmoid(g: &mut Graph, logits: Var) -> Result<Tensor> {
    columns(g, logits)?;
    // few numbers, which are read on the host at once
    let z = g.detach(logits);
    let p = Tensor::zeros(z.shape(), crate::tensor::DType::F64)?;
    if g.computes() {
        p.set_f64(&z.to_f64().iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect::<Vec<_>>());
    }
    Ok(p)
}

fn columns(g: &Graph, logits: Var) -> Result<usize> {
    match *g.shape(logits).dims() {
        [rows, classes] if rows > 0 && classes > 0 => Ok(classes),
        _ => Err(Error::shape(NAME, "logits", "[B, C], at least one of each", g.shape(logits))),
    }
}

impl Operation for SigmoidCrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dloss) = b.grad_output(0).cloned() else { return Ok(()) };
        let focal: f64 = b.attributes();
        let (logits, targets, weights) = (b.input(0).clone(), b.saved(0).clone(), b.saved(1).clone());
        let Some((dlogits, store)) = b.grad_input(0)? else { return Ok(()) };
        match b.device() {
            Device::Cpu if !b.computes() => {}
            Device::Cpu => real_type!(NAME, "logits", logits.dtype(), T => {
                let (z, y, w) = (logits.read::<T>(), targets.read::<T>(), weights.read::<T>());
                let dloss = dloss.read::<T>()[0];
                cpu::backward(&z, &y, &w, focal, dloss, &mut dlogits.write::<T>(), store);
            }),
            Device::Cuda(gpu) => {
                cuda::backward(context(gpu)?, [&logits, &targets, &weights, &dloss, &dlogits], focal, store)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{self, tensor};
    use crate::tensor::DType;

    fn loss(logits: &[f64], targets: &[f64], weights: &[f64], focal: f64) -> f64 {
        let mut g = testing::graph(DType::F64);
        let z = g.variable(tensor(&[logits.len() / 2, 2], logits));
        let loss = sigmoid_cross_entropy(&mut g, z, targets, weights, focal).unwrap();
        g.tensor(loss).scalar()
    }

    #[test]
    fn by_hand() {
        // probabilities 3/4 and 1/2
        let logits = [3f64.ln(), 0.0];
        let [quarter, half] = [4f64.ln(), 2f64.ln()];
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        near(loss(&logits, &[0.0, 1.0], &[], 0.0), (quarter + half) / 2.0);
        near(loss(&logits, &[0.0, 1.0], &[7.0, 3.0], 0.0), (quarter + 3.0 * half) / 2.0);
        near(loss(&logits, &[0.0, 1.0], &[], 2.0), (quarter * 9.0 / 16.0 + half / 4.0) / 2.0);
        // however large a logit is
        near(loss(&[800.0, -800.0], &[0.0, 0.0], &[], 0.0), 400.0);
        near(loss(&[800.0, -800.0], &[1.0, 0.0], &[], 0.5), 0.0);
    }

    #[test]
    fn probabilities() {
        let mut g = testing::graph(DType::F32);
        let z = g.constant(Tensor::from_slice([1, 3], &[0f32, 300.0, -300.0]).unwrap());
        assert_eq!(sigmoid(&mut g, z).unwrap().to_f64()[..2], [0.5, 1.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut g = testing::graph(DType::F64);
        let z = g.variable(tensor(&[1, 2], &[0.0; 2]));
        let mut fault =
            |targets: &[f64], focal| sigmoid_cross_entropy(&mut g, z, targets, &[], focal).unwrap_err().to_string();
        assert_eq!(fault(&[1.0], 0.0), "sigmoid_cross_entropy: targets must be 2 numbers, found 1");
        assert_eq!(fault(&[1.0, 2.0], 0.0), "sigmoid_cross_entropy: targets must be in [0, 1], found 2");
        assert_eq!(fault(&[1.0, 0.0], f64::NAN), "sigmoid_cross_entropy: focal must be at least 0, found NaN");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
