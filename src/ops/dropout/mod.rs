//! Ordinary dropout: every element of a matrix has a mask of its own.

pub mod cases;
mod cpu;

use super::gpu::{MaskWords, multiply};
use super::mask::{Dropout, DropoutWords};
use crate::autodiff::{Attributes, Backward, Graph, Operation, Store, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::real_type;
use crate::tensor::Tensor;

/// See [`dropout`].
pub struct OrdinaryDropout;

/// `y[r, c] = x[r, c]·mask[r, c]`, with a mask that is 0 with probability p, else `1/(1-p)`
/// (inverted; docs/SPEC.md §1.2).
///
/// * `x`: `[.., C]`, all leading axes are rows
/// * `mask`: over `[rows, C]`; [`Dropout::Off`] gives `x` back
///
/// Returns `y`: as `x`. Gradient: `x`. The backward pass computes the mask again.
pub fn dropout(g: &mut Graph, x: Var, mask: &Dropout) -> Result<Var> {
    let xs = g.shape(x);
    if xs.rank() == 0 {
        return Err(Error::shape("dropout", "x", "[.., C]", xs));
    }
    let columns = xs.dims()[xs.rank() - 1];
    masked(g, &OrdinaryDropout, x, mask, xs.len() / columns.max(1), columns)
}

/// `y = x·mask`, the `[rows, columns]` mask repeated over the leading axis of `x`: what both
/// dropouts do.
pub(super) fn masked(
    g: &mut Graph,
    operation: &'static dyn Operation,
    x: Var,
    mask: &Dropout,
    rows: usize,
    columns: usize,
) -> Result<Var> {
    mask.check(operation.name(), "mask", rows, columns)?;
    if mask.is_off() {
        return Ok(x);
    }
    let _span = crate::trace::operation(operation.name());
    let (xs, dtype) = (g.shape(x), g.dtype(x));
    if let Some(given) = mask.given()
        && given.dtype() != dtype
    {
        return Err(Error::shape(operation.name(), "mask", dtype.to_string(), given.dtype()));
    }
    let y = g.uninitialised(xs, dtype)?;
    match g.device() {
        Device::Cpu => real_type!(operation.name(), "x", dtype, T => {
            let factors = match mask.given() {
                Some(given) => given.clone(),
                None => g.uninitialised([rows, columns], dtype)?,
            };
            if mask.given().is_none() && g.computes() {
                mask.fill(columns, &mut factors.write::<T>());
            }
            if g.computes() {
                cpu::multiply(&g.tensor(x).read::<T>(), &factors.read::<T>(), &mut y.write::<T>(), Store::Set);
            }
        }),
        Device::Cuda(gpu) => {
            let words = MaskWords::of(mask, |m| g.counters(m))?;
            multiply(context(gpu)?, g.tensor(x), (mask, words), [rows, columns], &y, Store::Set)?;
        }
    }
    let attributes = Attributes::pack(Words { mask: mask.words(), rows: rows as u64, columns: columns as u64 });
    g.record(operation, &[x], mask.given().as_slice(), attributes, y)
}

/// `dx = dy·mask` of an execution recorded by [`masked`].
pub(super) fn masked_backward(b: &mut Backward, operation: &'static str) -> Result<()> {
    let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
    let Words { mask, rows, columns } = b.attributes();
    let mask = Dropout::from_words(mask, || b.saved(0).clone());
    let dtype = dy.dtype();
    let (rows, columns) = (rows as usize, columns as usize);
    let Some((dx, store)) = b.grad_input(0)? else { return Ok(()) };
    match b.device() {
        Device::Cpu => real_type!(operation, "x", dtype, T => {
            let factors: Tensor = match mask.given() {
                Some(given) => given.clone(),
                None => b.scratch([rows, columns], dtype)?,
            };
            if mask.given().is_none() && b.computes() {
                mask.fill(columns, &mut factors.write::<T>());
            }
            if b.computes() {
                cpu::multiply(&dy.read::<T>(), &factors.read::<T>(), &mut dx.write::<T>(), store);
            }
        }),
        Device::Cuda(gpu) => {
            let words = MaskWords::of(&mask, |m| b.counters(m))?;
            multiply(context(gpu)?, &dy, (&mask, words), [rows, columns], &dx, store)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Words {
    mask: DropoutWords,
    rows: u64,
    columns: u64,
}

impl Operation for OrdinaryDropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        masked_backward(b, "dropout")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing;
    use crate::random::{Key, Mask, Site};

    fn mask(p: f64) -> Mask {
        Mask::new(Key::apart(1), 3, Site::new(16), 0, p)
    }

    #[test]
    fn every_element_has_its_own_factor() {
        let mut g = testing::graph(DType::F64);
        let x = g.constant(testing::tensor(&[5, 7], &[3.0; 35]));
        let m = mask(0.4);
        let y = dropout(&mut g, x, &Dropout::random(m)).unwrap();
        let expected: Vec<f64> = (0..35).map(|i| if m.keeps(i / 7, i % 7) { 3.0 * m.scale() } else { 0.0 }).collect();
        assert_eq!(g.tensor(y).to_f64(), expected);
        assert!(expected.contains(&0.0) && expected.contains(&(3.0 * m.scale())));
    }

    #[test]
    fn the_limits_of_p() {
        let mut g = testing::graph(DType::F64);
        let x = g.variable(testing::tensor(&[2, 3], &[3.0; 6]));
        assert_eq!(dropout(&mut g, x, &Dropout::random(mask(0.0))).unwrap(), x);
        let y = dropout(&mut g, x, &Dropout::random(mask(1.0))).unwrap();
        assert_eq!(g.tensor(y).to_f64(), [0.0; 6]);
        let error = dropout(&mut g, x, &Dropout::random(mask(1.5))).unwrap_err();
        assert_eq!(error.to_string(), "dropout: mask must be a probability in [0, 1], found 1.5");
    }

    #[test]
    fn a_given_mask_must_fit() {
        let mut g = testing::graph(DType::F64);
        let x = g.variable(testing::tensor(&[2, 3], &[3.0; 6]));
        assert!(dropout(&mut g, x, &Dropout::Given(testing::tensor(&[3], &[1.0; 3]))).is_err());
        let single = Tensor::from_slice([2, 3], &[1.0f32; 6]).unwrap();
        let error = dropout(&mut g, x, &Dropout::Given(single)).unwrap_err();
        assert_eq!(error.to_string(), "dropout: mask must be f64, found f32");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
