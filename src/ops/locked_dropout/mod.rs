//! Dropout whose mask is the same at every time step.

pub mod cases;

use super::dropout::{masked, masked_backward};
use super::mask::Dropout;
use crate::autodiff::{Backward, Graph, Operation, Var};
use crate::error::{Error, Result};

/// See [`locked_dropout`].
pub struct LockedDropout;

/// `y[t, b, f] = x[t, b, f]·mask[b, f]`: one mask for all time steps of a segment ("locked",
/// variational; docs/SPEC.md §1.2: `dropouti`, `dropouth`, and `dropout` of the language model).
///
/// * `x`: `[T, B, F]`
/// * `mask`: over `[B, F]` (row = batch row), factors 0 or `1/(1-p)`; [`Dropout::Off`] gives `x`
///   back
///
/// Returns `y`: `[T, B, F]`. Gradient: `x`. The backward pass computes the mask again.
pub fn locked_dropout(g: &mut Graph, x: Var, mask: &Dropout) -> Result<Var> {
    let xs = g.shape(x);
    let [_, rows, columns] = *xs.dims() else {
        return Err(Error::shape("locked_dropout", "x", "[T, B, F]", xs));
    };
    masked(g, &LockedDropout, x, mask, rows, columns)
}

impl Operation for LockedDropout {
    fn name(&self) -> &'static str {
        "locked_dropout"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        masked_backward(b, "locked_dropout")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing;
    use crate::random::{Key, Mask, Site};
    use crate::tensor::Tensor;

    #[test]
    fn the_mask_is_the_same_at_every_step() {
        let mut g = testing::graph(DType::F64);
        let x = g.constant(testing::tensor(&[3, 2, 5], &[1.0; 30]));
        let m = Mask::new(Key::apart(1), 3, Site::new(2), 0, 0.5);
        let y = locked_dropout(&mut g, x, &Dropout::random(m)).unwrap();
        let expected: Vec<f64> = (0..10).map(|i| if m.keeps(i / 5, i % 5) { 2.0 } else { 0.0 }).collect();
        assert_eq!(g.tensor(y).to_f64(), [&expected[..], &expected, &expected].concat());
        assert!(expected.contains(&0.0) && expected.contains(&2.0));
    }

    /// Large enough for several threads.
    #[test]
    fn one_thread_or_many() {
        let run = || {
            let mut g = testing::graph(DType::F32);
            let values: Vec<f32> = (0..30 * 7 * 401).map(|i| i as f32).collect();
            let x = g.constant(Tensor::from_slice([30, 7, 401], &values).unwrap());
            let m = Mask::new(Key::apart(1), 3, Site::new(2), 0, 0.3);
            let y = locked_dropout(&mut g, x, &Dropout::random(m)).unwrap();
            g.tensor(y).to_f64()
        };
        let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
        assert!(with(1) == with(3));
    }

    #[test]
    fn shapes_are_checked() {
        let mut g = testing::graph(DType::F64);
        let x = g.constant(testing::tensor(&[2, 3], &[1.0; 6]));
        let error = locked_dropout(&mut g, x, &Dropout::Off).unwrap_err();
        assert_eq!(error.to_string(), "locked_dropout: x must be [T, B, F], found [2, 3]");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
