//! The classifier's loss: softmax and cross-entropy in one.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::cuda::context;
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;
use crate::tensor::Tensor;

/// See [`softmax_cross_entropy`].
pub struct SoftmaxCrossEntropy;

/// `loss = mean_b -ln softmax(logits[b])[labels[b]]`, natural logarithm (docs/SPEC.md §1.6: the
/// softmax lives in the loss).
///
/// * `logits`: `[B, C]`
/// * `labels`: u32 `[B]`, below C
///
/// Returns the loss: `[1]`. Gradient: `logits`.
pub fn softmax_cross_entropy(g: &mut Graph, logits: Var, labels: Var) -> Result<Var> {
    smoothed_cross_entropy(g, logits, labels, 0.0)
}

/// As [`softmax_cross_entropy`], against smoothed labels (Szegedy et al. 2016; docs/SPEC.md §1.6):
/// a label counts `1-ε`, and ε is shared by all C classes alike, that of the label among them.
///
/// ```text
/// loss = mean_b -Σ_c target[b, c]·ln softmax(logits[b])[c]        target = (1-ε)·1[label] + ε/C
/// ```
///
/// `smoothing`: ε, in [0, 1).
pub fn smoothed_cross_entropy(g: &mut Graph, logits: Var, labels: Var, smoothing: f64) -> Result<Var> {
    let _span = crate::trace::operation("softmax_cross_entropy");
    if !(0.0..1.0).contains(&smoothing) {
        return Err(Error::shape("softmax_cross_entropy", "smoothing", "in [0, 1)", smoothing));
    }
    let (rows, classes) = sizes(g, logits)?;
    if g.dtype(labels) != DType::U32 || g.shape(labels).dims() != [rows] {
        let found = format!("{} {}", g.dtype(labels), g.shape(labels));
        return Err(Error::shape("softmax_cross_entropy", "labels", format!("u32 [{rows}]"), found));
    }
    let bad = g.tensor(labels).read::<u32>().iter().copied().enumerate().find(|&(_, label)| label as usize >= classes);
    if let Some((row, label)) = bad {
        let found = format!("{label} in row {row}");
        return Err(Error::shape("softmax_cross_entropy", "labels", format!("below {classes}"), found));
    }
    let probabilities = g.uninitialised([rows, classes], g.dtype(logits))?;
    let loss = g.uninitialised([1], g.dtype(logits))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("softmax_cross_entropy", "logits", g.dtype(logits), T => {
            let labels = g.tensor(labels).read::<u32>();
            let logits = g.tensor(logits).read::<T>();
            loss.write::<T>()[0] = cpu::forward(&logits, &labels, classes, smoothing, &mut probabilities.write::<T>());
        }),
        Device::Cuda(gpu) => {
            let labels = gpu::indices(g, &g.detach(labels))?;
            let losses = g.uninitialised([rows], g.dtype(logits))?;
            cuda::forward(context(gpu)?, g.tensor(logits), &labels, smoothing, &probabilities, &losses, &loss)?;
            // the labels' copy is kept for the backward pass
            let attributes = Attributes::pack(smoothing);
            return g.record(&SoftmaxCrossEntropy, &[logits], &[&probabilities, &labels], attributes, loss);
        }
    }
    g.record(&SoftmaxCrossEntropy, &[logits, labels], &[&probabilities], Attributes::pack(smoothing), loss)
}

/// Probabilities for prediction, outside the tape: no gradient flows through them.
///
/// * `logits`: `[B, C]`
///
/// Returns `softmax(logits[b])` in every row: `[B, C]`.
pub fn softmax(g: &mut Graph, logits: Var) -> Result<Tensor> {
    let (rows, classes) = sizes(g, logits)?;
    let probabilities = g.uninitialised([rows, classes], g.dtype(logits))?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("softmax", "logits", g.dtype(logits), T => {
            cpu::softmax(&g.tensor(logits).read::<T>(), classes, &mut probabilities.write::<T>());
        }),
        Device::Cuda(gpu) => cuda::softmax(context(gpu)?, g.tensor(logits), &probabilities)?,
    }
    Ok(probabilities)
}

fn sizes(g: &Graph, logits: Var) -> Result<(usize, usize)> {
    match *g.shape(logits).dims() {
        [rows, classes] if rows > 0 && classes > 0 => Ok((rows, classes)),
        _ => Err(Error::shape("softmax_cross_entropy", "logits", "[B, C], at least one of each", g.shape(logits))),
    }
}

impl Operation for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dloss) = b.grad_output(0).cloned() else { return Ok(()) };
        let smoothing = b.attributes::<f64>();
        if let Device::Cuda(gpu) = b.device() {
            let (probabilities, labels) = (b.saved(0).clone(), b.saved(1).clone());
            if let Some((dlogits, store)) = b.grad_input(0)? {
                cuda::backward(context(gpu)?, &probabilities, &labels, smoothing, &dloss, &dlogits, store)?;
            }
            return Ok(());
        }
        let (labels, probabilities) = (b.input(1).clone(), b.saved(0).clone());
        let classes = probabilities.dims()[1];
        if let Some((dlogits, store)) = b.grad_input(0)?
            && b.computes()
        {
            real_type!("softmax_cross_entropy", "logits", probabilities.dtype(), T => {
                let (p, labels) = (probabilities.read::<T>(), labels.read::<u32>());
                let dloss = dloss.read::<T>()[0];
                cpu::backward(&p, &labels, classes, smoothing, dloss, &mut dlogits.write::<T>(), store);
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Parameters;
    use crate::ops::testing::{self, tensor};

    fn near(found: &[f64], expected: &[f64]) {
        let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12);
        assert!(close && found.len() == expected.len(), "{found:?}, not {expected:?}");
    }

    #[test]
    fn values_and_gradient() {
        let mut g = testing::graph(DType::F64);
        // probabilities 1/4 and 3/4; 1/2 and 1/2 however large the logits are
        let logits = g.variable(tensor(&[2, 2], &[0.0, 3f64.ln(), 5000.0, 5000.0]));
        let labels = g.constant(Tensor::from_slice([2], &[1u32, 0]).unwrap());
        let loss = softmax_cross_entropy(&mut g, logits, labels).unwrap();
        near(&g.tensor(loss).to_f64(), &[((4f64 / 3.0).ln() + 2f64.ln()) / 2.0]);
        near(&softmax(&mut g, logits).unwrap().to_f64(), &[0.25, 0.75, 0.5, 0.5]);
        let mut parameters = Parameters::builder().build(DType::F64).unwrap();
        g.backward(loss, &mut parameters).unwrap();
        near(&g.gradient(logits).unwrap().to_f64(), &[0.125, -0.125, -0.25, 0.25]);
    }

    /// Against the definition, and without smoothing the same bits as without the word.
    #[test]
    fn smoothed_labels() {
        let mut g = testing::graph(DType::F64);
        let logits = g.variable(tensor(&[2, 3], &[0.0, 3f64.ln(), 0.0, 1.0, 2.0, 3.0]));
        let labels = g.constant(Tensor::from_slice([2], &[1u32, 0]).unwrap());
        let p = softmax(&mut g, logits).unwrap().to_f64();
        let loss = smoothed_cross_entropy(&mut g, logits, labels, 0.3).unwrap();
        let targets = [0.1, 0.8, 0.1, 0.8, 0.1, 0.1];
        let expected = -p.iter().zip(targets).map(|(p, t)| t * p.ln()).sum::<f64>() / 2.0;
        near(&g.tensor(loss).to_f64(), &[expected]);
        let mut parameters = Parameters::builder().build(DType::F64).unwrap();
        g.backward(loss, &mut parameters).unwrap();
        let gradient: Vec<f64> = p.iter().zip(targets).map(|(p, t)| (p - t) / 2.0).collect();
        near(&g.gradient(logits).unwrap().to_f64(), &gradient);
        let labels = g.constant(Tensor::from_slice([2], &[1u32, 0]).unwrap());
        let error = smoothed_cross_entropy(&mut g, logits, labels, 1.0).unwrap_err();
        assert_eq!(error.to_string(), "softmax_cross_entropy: smoothing must be in [0, 1), found 1");
    }

    #[test]
    fn labels_are_checked() {
        let mut g = testing::graph(DType::F64);
        let logits = g.variable(tensor(&[2, 3], &[0.0; 6]));
        let labels = g.constant(Tensor::from_slice([2], &[2u32, 3]).unwrap());
        let error = softmax_cross_entropy(&mut g, logits, labels).unwrap_err();
        assert_eq!(error.to_string(), "softmax_cross_entropy: labels must be below 3, found 3 in row 1");
        let labels = g.constant(Tensor::from_slice([1], &[2u32]).unwrap());
        assert!(softmax_cross_entropy(&mut g, logits, labels).is_err());
        let nothing = g.variable(tensor(&[0, 3], &[]));
        assert!(softmax(&mut g, nothing).is_err());
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
