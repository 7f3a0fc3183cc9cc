//! Softmax and cross-entropy where classes, or documents that are hard, count for more.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::cuda::context;
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;

const NAME: &str = "weighted_cross_entropy";

/// See [`weighted_cross_entropy`].
pub struct WeightedCrossEntropy;

/// How wrong answers count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weighting<'a> {
    /// Weight of every class, above zero; empty: one.
    pub weights: &'a [f64],
    /// γ of the focal loss (Lin et al. 2017, equation 4), 0 for none.
    pub focal: f64,
    /// ε of smoothed labels, in [0, 1).
    pub smoothing: f64,
}

/// The settings that the backward pass needs.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Kept {
    focal: f64,
    smoothing: f64,
    /// Sum of the labels' weights.
    total: f64,
}

/// The mean of the rows' losses, a row as much as its label's class (PyTorch's `cross_entropy`
/// with `weight` and `label_smoothing`; docs/SPEC.md §1.6).
///
/// ```text
/// loss = Σ_b Σ_c target[b, c]·w[c]·(1 − p[b, c])^γ·(−ln p[b, c])  /  Σ_b w[labels[b]]
/// p = softmax(logits[b])        target = (1 − ε)·1[label] + ε/C
/// ```
///
/// * `logits`: `[B, C]`
/// * `labels`: u32 `[B]`, below C
///
/// Returns the loss: `[1]`. Gradient: `logits`.
///
/// # Errors
/// Shapes that do not fit; a label that is no class; a weight that is not above zero; γ below zero.
pub fn weighted_cross_entropy(g: &mut Graph, logits: Var, labels: Var, weighting: Weighting) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let Weighting { weights, focal, smoothing } = weighting;
    let [rows, classes] = *g.shape(logits).dims() else {
        return Err(Error::shape(NAME, "logits", "[B, C]", g.shape(logits)));
    };
    if rows == 0 || classes == 0 {
        return Err(Error::shape(NAME, "logits", "[B, C], at least one of each", g.shape(logits)));
    }
    if g.dtype(labels) != DType::U32 || g.shape(labels).dims() != [rows] {
        let found = format!("{} {}", g.dtype(labels), g.shape(labels));
        return Err(Error::shape(NAME, "labels", format!("u32 [{rows}]"), found));
    }
    if !(0.0..1.0).contains(&smoothing) {
        return Err(Error::shape(NAME, "smoothing", "in [0, 1)", smoothing));
    }
    if !(focal >= 0.0 && focal.is_finite()) {
        return Err(Error::shape(NAME, "focal", "at least 0", focal));
    }
    check_weights(NAME, weights, classes)?;
    let weight = |class: usize| weights.get(class).copied().unwrap_or(1.0);
    let mut total = 0.0;
    for (row, &label) in g.tensor(labels).read::<u32>().iter().enumerate() {
        if label as usize >= classes {
            return Err(Error::shape(NAME, "labels", format!("below {classes}"), format!("{label} in row {row}")));
        }
        total += weight(label as usize);
    }
    let all: Vec<f64> = (0..classes).map(weight).collect();
    let weights = gpu::numbers(g, &all)?;
    let logs = g.uninitialised([rows, classes], g.dtype(logits))?;
    let loss = g.uninitialised([1], g.dtype(logits))?;
    let kept = Attributes::pack(Kept { focal, smoothing, total });
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "logits", g.dtype(logits), T => {
            let (labels, w) = (g.tensor(labels).read::<u32>(), weights.read::<T>());
            let settings = cpu::Settings::new(&labels, &w, focal, smoothing, total);
            loss.write::<T>()[0] = cpu::forward(&g.tensor(logits).read::<T>(), settings, &mut logs.write::<T>());
        }),
        Device::Cuda(gpu) => {
            let labels = gpu::indices(g, &g.detach(labels))?;
            let losses = g.uninitialised([rows], g.dtype(logits))?;
            let z = g.tensor(logits).clone();
            cuda::forward(context(gpu)?, [&z, &labels, &weights, &logs, &losses, &loss], focal, smoothing, total)?;
            // the labels' copy is kept for the backward pass
            return g.record(&WeightedCrossEntropy, &[logits], &[&logs, &weights, &labels], kept, loss);
        }
    }
    g.record(&WeightedCrossEntropy, &[logits, labels], &[&logs, &weights], kept, loss)
}

/// One weight for each class, or none at all.
pub(super) fn check_weights(operation: &'static str, weights: &[f64], classes: usize) -> Result<()> {
    if !weights.is_empty() && weights.len() != classes {
        return Err(Error::shape(operation, "weights", format!("{classes} of them"), weights.len()));
    }
    match weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
        Some(weight) => Err(Error::shape(operation, "weights", "above 0", weight)),
        None => Ok(()),
    }
}

impl Operation for WeightedCrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dloss) = b.grad_output(0).cloned() else { return Ok(()) };
        let Kept { focal, smoothing, total } = b.attributes();
        let (logs, weights) = (b.saved(0).clone(), b.saved(1).clone());
        let labels = if b.inputs() > 1 { b.input(1).clone() } else { b.saved(2).clone() };
        let Some((dlogits, store)) = b.grad_input(0)? else { return Ok(()) };
        match b.device() {
            Device::Cpu if !b.computes() => {}
            Device::Cpu => real_type!(NAME, "logits", logs.dtype(), T => {
                let (labels, w) = (labels.read::<u32>(), weights.read::<T>());
                let settings = cpu::Settings::new(&labels, &w, focal, smoothing, total);
                cpu::backward(&logs.read::<T>(), settings, dloss.read::<T>()[0], &mut dlogits.write::<T>(), store);
            }),
            Device::Cuda(gpu) => {
                let tensors = [&logs, &labels, &weights, &dloss, &dlogits];
                cuda::backward(context(gpu)?, tensors, focal, smoothing, total, store)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::softmax_cross_entropy::smoothed_cross_entropy;
    use crate::ops::testing::{self, tensor};
    use crate::tensor::Tensor;

    fn loss(logits: &[f64], labels: &[u32], weighting: Weighting) -> f64 {
        let mut g = testing::graph(DType::F64);
        let rows = labels.len();
        let z = g.variable(tensor(&[rows, logits.len() / rows], logits));
        let labels = g.constant(Tensor::from_slice([rows], labels).unwrap());
        let loss = weighted_cross_entropy(&mut g, z, labels, weighting).unwrap();
        g.tensor(loss).scalar()
    }

    #[test]
    fn by_hand() {
        // probabilities 1/4 and 3/4, then 1/2 and 1/2
        let (logits, labels) = ([0.0, 3f64.ln(), 9.0, 9.0], [1, 0]);
        let weights = [2.0, 0.5];
        let plain = loss(&logits, &labels, Weighting { weights: &weights, ..Weighting::default() });
        let expected = (0.5 * (4f64 / 3.0).ln() + 2.0 * 2f64.ln()) / 2.5;
        assert!((plain - expected).abs() < 1e-12, "{plain} {expected}");
        let focal = loss(&logits, &labels, Weighting { focal: 2.0, ..Weighting::default() });
        let expected = ((4f64 / 3.0).ln() / 16.0 + 2f64.ln() / 4.0) / 2.0;
        assert!((focal - expected).abs() < 1e-12, "{focal} {expected}");
    }

    /// With all weights alike and no focus it is the cross-entropy that it generalises.
    #[test]
    fn without_weights_it_is_the_plain_loss() {
        let (logits, labels) = ([0.3, -1.0, 2.0, 1.0, 0.5, -0.7], [2u32, 0]);
        let mut g = testing::graph(DType::F64);
        let z = g.variable(tensor(&[2, 3], &logits));
        let l = g.constant(Tensor::from_slice([2], &labels).unwrap());
        let plain = smoothed_cross_entropy(&mut g, z, l, 0.2).unwrap();
        let weights = [3.0; 3];
        let same = loss(&logits, &labels, Weighting { weights: &weights, focal: 0.0, smoothing: 0.2 });
        assert!((g.tensor(plain).scalar() - same).abs() < 1e-12);
    }

    /// A row whose label is certain has no loss and no gradient, whatever γ is.
    #[test]
    fn certain_rows_are_finite() {
        for focal in [0.0, 0.5, 2.0] {
            let mut g = testing::graph(DType::F32);
            let z = g.variable(Tensor::from_slice([2, 2], &[0f32, 500.0, 400.0, 0.0]).unwrap());
            let labels = g.constant(Tensor::from_slice([2], &[1u32, 1]).unwrap());
            let weighting = Weighting { focal, smoothing: 0.1, ..Weighting::default() };
            let loss = weighted_cross_entropy(&mut g, z, labels, weighting).unwrap();
            let mut parameters = crate::autodiff::Parameters::builder().build(DType::F32).unwrap();
            g.backward(loss, &mut parameters).unwrap();
            let gradient = g.gradient(z).unwrap().to_f64();
            assert!(g.tensor(loss).scalar().is_finite() && gradient.iter().all(|d| d.is_finite()), "{gradient:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut g = testing::graph(DType::F64);
        let z = g.variable(tensor(&[1, 2], &[0.0; 2]));
        let labels = g.constant(Tensor::from_slice([1], &[1u32]).unwrap());
        let mut fault = |weights: &[f64], focal| {
            let weighting = Weighting { weights, focal, smoothing: 0.0 };
            weighted_cross_entropy(&mut g, z, labels, weighting).unwrap_err().to_string()
        };
        assert_eq!(fault(&[1.0], 0.0), "weighted_cross_entropy: weights must be 2 of them, found 1");
        assert_eq!(fault(&[1.0, 0.0], 0.0), "weighted_cross_entropy: weights must be above 0, found 0");
        assert_eq!(fault(&[], -1.0), "weighted_cross_entropy: focal must be at least 0, found -1");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
