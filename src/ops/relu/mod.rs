//! `y = max(x, 0)`.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::Result;
use crate::real_type;

/// See [`relu`].
pub struct Relu;

/// `y = max(x, 0)`, between the blocks of the classifier's head (docs/SPEC.md §1.6).
///
/// * `x`: any shape
///
/// Returns `y`: as `x`. NaN stays NaN. Gradient: `x`; it is 0 at `x = 0`.
pub fn relu(g: &mut Graph, x: Var) -> Result<Var> {
    let _span = crate::trace::operation("relu");
    let y = g.uninitialised(g.shape(x), g.dtype(x))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("relu", "x", g.dtype(x), T => {
            cpu::forward(&g.tensor(x).read::<T>(), &mut y.write::<T>());
        }),
        Device::Cuda(gpu) => cuda::forward(context(gpu)?, g.tensor(x), &y)?,
    }
    g.record(&Relu, &[x], &[], Attributes::none(), y)
}

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let y = b.output(0).clone();
        if let Some((dx, store)) = b.grad_input(0)? {
            match b.device() {
                Device::Cpu if !b.computes() => {}
                Device::Cpu => real_type!("relu", "x", y.dtype(), T => {
                    cpu::backward(&y.read::<T>(), &dy.read::<T>(), &mut dx.write::<T>(), store);
                }),
                Device::Cuda(gpu) => cuda::backward(context(gpu)?, &y, &dy, &dx, store)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Parameters;
    use crate::device::DType;
    use crate::ops::testing;

    #[test]
    fn values_and_the_gradient_at_the_kink() {
        let mut g = testing::graph(DType::F64);
        let x = g.variable(testing::tensor(&[4], &[-2.0, 0.0, 3.0, f64::NAN]));
        let y = relu(&mut g, x).unwrap();
        assert_eq!(g.tensor(y).to_f64()[..3], [0.0, 0.0, 3.0]);
        assert!(g.tensor(y).to_f64()[3].is_nan());
        let mut parameters = Parameters::builder().build(DType::F64).unwrap();
        g.backward_from(&[(y, testing::tensor(&[4], &[5.0; 4]))], &mut parameters).unwrap();
        assert_eq!(g.gradient(x).unwrap().to_f64()[..3], [0.0, 0.0, 5.0]);
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
