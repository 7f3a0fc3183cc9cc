//! Sums of losses.

pub mod cases;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Store, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::real_type;
use crate::tensor::Real;

/// Most terms of one sum.
pub const TERMS: usize = 16;

/// See [`weighted_sum`].
pub struct WeightedSum;

/// `y = Σ_i c_i·x_i`, added in the given order: cross-entropy + α·AR + β·TAR (docs/SPEC.md §1.3).
///
/// * `terms`: pairs of a scalar (`[1]`, all of one type) and its coefficient; 1 to [`TERMS`] of
///   them
///
/// Returns `y`: `[1]`. Gradients: all terms.
pub fn weighted_sum(g: &mut Graph, terms: &[(Var, f64)]) -> Result<Var> {
    let _span = crate::trace::operation("weighted_sum");
    if terms.is_empty() || terms.len() > TERMS {
        return Err(Error::shape("weighted_sum", "terms", format!("1 to {TERMS} scalars"), terms.len()));
    }
    let dtype = g.dtype(terms[0].0);
    let (mut inputs, mut coefficients) = ([terms[0].0; TERMS], [0.0; TERMS]);
    for (i, &(x, coefficient)) in terms.iter().enumerate() {
        if g.tensor(x).len() != 1 {
            return Err(Error::shape("weighted_sum", "terms", "scalars", g.shape(x)));
        }
        if g.dtype(x) != dtype {
            return Err(Error::shape("weighted_sum", "terms", dtype.to_string(), g.dtype(x)));
        }
        (inputs[i], coefficients[i]) = (x, coefficient);
    }
    let y = g.uninitialised([1], dtype)?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("weighted_sum", "terms", dtype, T => {
            let mut sum = T::ZERO;
            for &(x, coefficient) in terms {
                sum += T::from_f64(coefficient) * g.tensor(x).read::<T>()[0];
            }
            y.write::<T>()[0] = sum;
        }),
        Device::Cuda(gpu) => {
            let tensors: Vec<_> = terms.iter().map(|&(x, c)| (g.tensor(x), c, Store::Set)).collect();
            cuda::forward(context(gpu)?, &tensors, &y)?;
        }
    }
    g.record(&WeightedSum, &inputs[..terms.len()], &[], Attributes::pack(coefficients), y)
}

impl Operation for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let coefficients: [f64; TERMS] = b.attributes();
        if let Device::Cuda(gpu) = b.device() {
            let mut gradients = Vec::with_capacity(TERMS);
            for (i, &coefficient) in coefficients[..b.inputs()].iter().enumerate() {
                gradients.extend(b.grad_input(i)?.map(|(dx, store)| (dx, coefficient, store)));
            }
            let tensors: Vec<_> = gradients.iter().map(|(dx, c, store)| (dx, *c, *store)).collect();
            return cuda::backward(context(gpu)?, &tensors, &dy);
        }
        for (i, &coefficient) in coefficients[..b.inputs()].iter().enumerate() {
            if let Some((dx, store)) = b.grad_input(i)?
                && b.computes()
            {
                real_type!("weighted_sum", "terms", dy.dtype(), T => {
                    let d = T::from_f64(coefficient) * dy.read::<T>()[0];
                    let dx = &mut dx.write::<T>()[0];
                    *dx = if store == Store::Add { *dx + d } else { d };
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing;

    #[test]
    fn values_and_limits() {
        let mut g = testing::graph(DType::F64);
        let [x, y] = [3.0, 5.0].map(|v| g.constant(testing::tensor(&[1], &[v])));
        let sum = weighted_sum(&mut g, &[(x, 2.0), (y, -0.5), (x, 1.0)]).unwrap();
        assert_eq!(g.tensor(sum).to_f64(), [6.5]);
        assert!(weighted_sum(&mut g, &[]).is_err() && weighted_sum(&mut g, &[(x, 1.0); 17]).is_err());
        let many = g.constant(testing::tensor(&[2], &[1.0; 2]));
        assert!(weighted_sum(&mut g, &[(x, 1.0), (many, 1.0)]).is_err());
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
