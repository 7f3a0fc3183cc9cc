//! Every step beside the one before it: the input of a QRNN layer with a window of two.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::real_type;

/// See [`with_previous`].
pub struct WithPrevious;

const NAME: &str = "with_previous";

/// `y[t] = [x[t], x[t-1]]`, with `x[-1] = before` (docs/SPEC.md §1.5).
///
/// * `x`: `[T, B, I]`
/// * `before`: `[B, I]`
///
/// Returns `y`: `[T, B, 2I]`. Gradients: both inputs.
pub fn with_previous(g: &mut Graph, x: Var, before: Var) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let (shape, dtype) = (g.shape(x), g.dtype(x));
    let [steps, rows, size] = *shape.dims() else { return Err(Error::shape(NAME, "x", "[T, B, I]", shape)) };
    if g.shape(before).dims() != [rows, size] || g.dtype(before) != dtype {
        let found = format!("{} {}", g.dtype(before), g.shape(before));
        return Err(Error::shape(NAME, "before", format!("{dtype} [{rows}, {size}]"), found));
    }
    let y = g.uninitialised([steps, rows, 2 * size], dtype)?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "x", dtype, T => {
            cpu::forward(&g.tensor(x).read::<T>(), &g.tensor(before).read::<T>(), size, &mut y.write::<T>());
        }),
        Device::Cuda(gpu) => cuda::forward(context(gpu)?, g.tensor(x), g.tensor(before), &y)?,
    }
    g.record(&WithPrevious, &[x, before], &[], Attributes::none(), y)
}

impl Operation for WithPrevious {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let size = b.input(1).dims()[1];
        let rows = b.input(1).dims()[0];
        // the last step stands before none of this sequence
        let (of_x, of_before) = (b.grad_input(0)?, b.grad_input(1)?);
        match b.device() {
            Device::Cpu if !b.computes() => {}
            Device::Cpu => real_type!(NAME, "x", dy.dtype(), T => {
                let dy = dy.read::<T>();
                if let Some((dx, store)) = of_x {
                    cpu::backward_x(&dy, [rows, size], &mut dx.write::<T>(), store);
                }
                if let Some((d, store)) = of_before {
                    cpu::backward_before(&dy, size, &mut d.write::<T>(), store);
                }
            }),
            Device::Cuda(gpu) => {
                let gpu = context(gpu)?;
                if let Some((dx, store)) = of_x {
                    cuda::backward_x(gpu, &dy, &dx, store)?;
                }
                if let Some((d, store)) = of_before {
                    cuda::backward_before(gpu, &dy, &d, store)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing::{self, tensor};

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }

    #[test]
    fn the_step_before_is_on_the_right() {
        let mut g = testing::graph(DType::F64);
        let x = g.constant(tensor(&[3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let before = g.constant(tensor(&[1, 2], &[8.0, 9.0]));
        let y = with_previous(&mut g, x, before).unwrap();
        assert_eq!(g.shape(y).dims(), [3, 1, 4]);
        assert_eq!(g.tensor(y).to_f64(), [1.0, 2.0, 8.0, 9.0, 3.0, 4.0, 1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
    }

    #[test]
    fn shapes_are_checked() {
        let mut g = testing::graph(DType::F64);
        let mut value = |shape: &[usize]| g.constant(tensor(shape, &vec![0.0; shape.iter().product()]));
        let (x, flat, wrong) = (value(&[2, 3, 4]), value(&[6, 4]), value(&[3, 5]));
        let mut error = |x, before| with_previous(&mut g, x, before).unwrap_err().to_string();
        assert_eq!(error(x, wrong), "with_previous: before must be f64 [3, 4], found f64 [3, 5]");
        assert_eq!(error(flat, wrong), "with_previous: x must be [T, B, I], found [6, 4]");
    }
}
