//! Mean squared error: the loss of a number that is estimated.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;

const NAME: &str = "squared_error";

/// See [`squared_error`].
pub struct SquaredError;

/// `loss = mean (x − t)²` (PyTorch's `mse_loss`).
///
/// * `x`: any shape, N elements
/// * `targets`: t, N finite numbers
///
/// Returns the loss: `[1]`. Gradient: `x`.
///
/// # Errors
/// Another number of targets; a target that is not finite.
pub fn squared_error(g: &mut Graph, x: Var, targets: &[f64]) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let n = g.tensor(x).len();
    if n == 0 || targets.len() != n {
        return Err(Error::shape(NAME, "targets", format!("{n} numbers, at least one"), targets.len()));
    }
    if let Some(bad) = targets.iter().find(|t| !t.is_finite()) {
        return Err(Error::shape(NAME, "targets", "finite", bad));
    }
    let targets = gpu::numbers(g, targets)?;
    let loss = g.uninitialised([1], g.dtype(x))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "x", g.dtype(x), T => {
            loss.write::<T>()[0] = cpu::forward(&g.tensor(x).read::<T>(), &targets.read::<T>());
        }),
        Device::Cuda(gpu) => {
            let losses = g.uninitialised([n], g.dtype(x))?;
            cuda::forward(context(gpu)?, [g.tensor(x), &targets, &losses, &loss])?;
        }
    }
    g.record(&SquaredError, &[x], &[&targets], Attributes::none(), loss)
}

impl Operation for SquaredError {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dloss) = b.grad_output(0).cloned() else { return Ok(()) };
        let (x, targets) = (b.input(0).clone(), b.saved(0).clone());
        let Some((dx, store)) = b.grad_input(0)? else { return Ok(()) };
        match b.device() {
            Device::Cpu if !b.computes() => {}
            Device::Cpu => real_type!(NAME, "x", x.dtype(), T => {
                let (x, t) = (x.read::<T>(), targets.read::<T>());
                cpu::backward(&x, &t, dloss.read::<T>()[0], &mut dx.write::<T>(), store);
            }),
            Device::Cuda(gpu) => cuda::backward(context(gpu)?, [&x, &targets, &dloss, &dx], store)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{self, tensor};
    use crate::tensor::DType;

    #[test]
    fn by_hand_and_what_does_not_fit() {
        let mut g = testing::graph(DType::F64);
        let x = g.variable(tensor(&[2, 1], &[3.0, -1.0]));
        let loss = squared_error(&mut g, x, &[1.0, -1.5]).unwrap();
        assert_eq!(g.tensor(loss).scalar(), (4.0 + 0.25) / 2.0);
        let mut fault = |targets: &[f64]| squared_error(&mut g, x, targets).unwrap_err().to_string();
        assert_eq!(fault(&[1.0]), "squared_error: targets must be 2 numbers, at least one, found 1");
        assert_eq!(fault(&[1.0, f64::NAN]), "squared_error: targets must be finite, found NaN");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
