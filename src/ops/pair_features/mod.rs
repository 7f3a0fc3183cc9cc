//! Features of a pair of texts: both vectors, their distance and their product.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;
use crate::tensor::Tensor;

const NAME: &str = "pair_features";

/// See [`pair_features`].
pub struct PairFeatures;

/// `y[b] = [u; v; |u − v|; u ⊙ v]` with `u = x[first[b]]` and `v = x[second[b]]` (Conneau et al.
/// 2017, section 3.1).
///
/// * `x`: `[2B, F]`
/// * `first`, `second`: B rows of x each; every row is one of the two once
///
/// Returns y: `[B, 4F]`. Gradient: `x`; that of `|u − v|` is 0 where the two are equal.
///
/// # Errors
/// Shapes that do not fit; a row that is not there, or comes twice.
pub fn pair_features(g: &mut Graph, x: Var, first: &[u32], second: &[u32]) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let [rows, f] = *g.shape(x).dims() else { return Err(Error::shape(NAME, "x", "[2B, F]", g.shape(x))) };
    if rows == 0 || f == 0 || first.len() * 2 != rows || second.len() * 2 != rows {
        let expected = format!("[{}, F], two rows for each pair", 2 * first.len().max(second.len()));
        return Err(Error::shape(NAME, "x", expected, g.shape(x)));
    }
    let mut seen = vec![false; rows];
    for &row in first.iter().chain(second) {
        match seen.get_mut(row as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::shape(NAME, "rows", format!("below {rows}, none twice"), row)),
        }
    }
    let pairs: Vec<u32> = first.iter().zip(second).flat_map(|(&u, &v)| [u, v]).collect();
    let host = g.indices([first.len(), 2])?;
    host.write::<u32>().copy_from_slice(&pairs);
    let pairs = if g.device() == Device::Cpu { host } else { gpu::indices(g, &host)? };
    let y = g.uninitialised([first.len(), 4 * f], g.dtype(x))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "x", g.dtype(x), T => {
            cpu::forward(&g.tensor(x).read::<T>(), &pairs.read::<u32>(), f, &mut y.write::<T>());
        }),
        Device::Cuda(gpu) => cuda::forward(context(gpu)?, g.tensor(x), &pairs, &y)?,
    }
    g.record(&PairFeatures, &[x], &[&pairs], Attributes::none(), y)
}

impl Operation for PairFeatures {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let (x, pairs): (Tensor, Tensor) = (b.input(0).clone(), b.saved(0).clone());
        let Some((dx, store)) = b.grad_input(0)? else { return Ok(()) };
        match b.device() {
            Device::Cpu if !b.computes() => {}
            Device::Cpu => real_type!(NAME, "x", x.dtype(), T => {
                let (f, pairs) = (x.dims()[1], pairs.read::<u32>());
                cpu::backward(&x.read::<T>(), &pairs, f, &dy.read::<T>(), &mut dx.write::<T>(), store);
            }),
            Device::Cuda(gpu) => cuda::backward(context(gpu)?, &x, &pairs, &dy, &dx, store)?,
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
        let x = g.variable(tensor(&[2, 2], &[1.0, -2.0, 4.0, 3.0]));
        let y = pair_features(&mut g, x, &[1], &[0]).unwrap();
        assert_eq!(g.tensor(y).to_f64(), [4.0, 3.0, 1.0, -2.0, 3.0, 5.0, 4.0, -6.0]);
        let mut fault =
            |first: &[u32], second: &[u32]| pair_features(&mut g, x, first, second).unwrap_err().to_string();
        assert_eq!(fault(&[1], &[1]), "pair_features: rows must be below 2, none twice, found 1");
        assert_eq!(fault(&[], &[1]), "pair_features: x must be [2, F], two rows for each pair, found [2, 2]");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
