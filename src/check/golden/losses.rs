//! Fixtures of the softmax variants.

use super::fixture::{ANY, Fixture};
use super::sequence::gradient;
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::ops::adaptive_softmax::{AdaptiveDecoder, adaptive_softmax as adaptive, log_probabilities};
use crate::ops::sampled_softmax::{NegativeSampler, exponential_key, sampled_softmax as sampled};
use crate::ops::sigmoid_cross_entropy::sigmoid_cross_entropy;
use crate::ops::softmax_cross_entropy::smoothed_cross_entropy;
use crate::ops::squared_error::squared_error;
use crate::ops::weighted_cross_entropy::{Weighting, weighted_cross_entropy};
use crate::tensor::{DType, Device, Tensor};

/// Sampled softmax and its negatives, with and without bias.
pub(super) fn sampled_softmax(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let weight = f.real("weight", &[ANY, ANY])?;
    let (v, e) = (weight.dims()[0], weight.dims()[1]);
    let (hidden, bias) = (f.real("hidden", &[ANY, e])?, f.real("bias", &[v])?);
    let (targets, negatives) = (f.words("targets", &[hidden.dims()[0]])?, f.words("negatives", &[ANY])?);
    let (unigram, uniforms) = (f.real("unigram", &[v])?.to_f64(), f.real("uniforms", &[v])?.to_f64());
    let keys: Vec<f64> = unigram.iter().zip(&uniforms).map(|(&p, &u)| exponential_key(p, u)).collect();
    f.compare_values("keys", &keys)?;
    let mut found = vec![0; negatives.len()];
    NegativeSampler::new(unigram)?.choose(|word| uniforms[word], &mut found)?;
    f.compare_exactly("negatives", &found)?;
    for (prefix, biased) in [("plain", false), ("biased", true)] {
        g.reset();
        let (h, w) = (g.variable(hidden.clone()), g.variable(weight.clone()));
        let b = biased.then(|| g.variable(bias.clone()));
        let out = sampled(g, h, w, b, &targets, &negatives)?;
        f.compare(&format!("{prefix}.loss"), g.tensor(out.loss))?;
        f.compare(&format!("{prefix}.row_loss"), &out.row_losses)?;
        g.backward(out.loss, &mut Parameters::builder().build(f.dtype)?)?;
        f.compare(&format!("{prefix}.grad.hidden"), &gradient(g, h)?)?;
        f.compare(&format!("{prefix}.grad.weight"), &gradient(g, w)?)?;
        if let Some(b) = b {
            f.compare(&format!("{prefix}.grad.bias"), &gradient(g, b)?)?;
        }
    }
    Ok(())
}

/// Adaptive softmax with tombstones.
pub(super) fn adaptive_softmax(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let weight = f.real("weight", &[ANY, ANY])?;
    let (v, e) = (weight.dims()[0], weight.dims()[1]);
    let splits = f.words("splits", &[ANY])?;
    let splits: Vec<usize> = splits.read::<u32>().iter().map(|&s| s as usize).collect();
    let n = splits.len();
    let (hidden, bias) = (f.real("hidden", &[ANY, e])?, f.real("bias", &[v])?);
    let (vectors, tail_bias) = (f.real("tail_vectors", &[n, e])?, f.real("tail_bias", &[n])?);
    let targets = f.words("targets", &[hidden.dims()[0]])?;
    let decoder = AdaptiveDecoder {
        weight: weight.clone(),
        bias: Some(bias.clone()),
        tails: Some((vectors.clone(), Some(tail_bias.clone()))),
        splits: &splits,
    };
    f.compare("log_probs", &log_probabilities(g, &hidden, &decoder)?)?;
    g.reset();
    let vars = [hidden, weight, bias, vectors, tail_bias].map(|t: Tensor| g.variable(t));
    let [h, weight, bias, vectors, tail_bias] = vars;
    let tails = Some((vectors, Some(tail_bias)));
    let out = adaptive(g, h, AdaptiveDecoder { weight, bias: Some(bias), tails, splits: &splits }, &targets)?;
    f.compare("loss", g.tensor(out.loss))?;
    f.compare("row_loss", &out.row_losses)?;
    g.backward(out.loss, &mut Parameters::builder().build(f.dtype)?)?;
    for (name, var) in ["hidden", "weight", "bias", "tail_vectors", "tail_bias"].into_iter().zip(vars) {
        f.compare(&format!("grad.{name}"), &gradient(g, var)?)?;
    }
    Ok(())
}

/// Losses of a classifier's logits: smoothed, weighted and focal; of labels; of a number.
pub(super) fn label_losses(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let logits = f.real("logits", &[ANY, ANY])?;
    let (b, c) = (logits.dims()[0], logits.dims()[1]);
    let labels = f.words("labels", &[b])?;
    let (weights, targets) = (f.real("weights", &[c])?.to_f64(), f.real("targets", &[b, c])?.to_f64());
    let numbers = f.real("numbers", &[b, c])?.to_f64();
    let (smoothing, gamma) = (f.number("smoothing")?, f.number("gamma")?);
    let weighting = |weighted: bool, focal: f64, smoothing: f64| Weighting {
        weights: if weighted { &weights } else { &[] },
        focal,
        smoothing,
    };
    for name in
        ["smoothed", "weighted", "weighted_smoothed", "focal", "labels", "labels_weighted", "labels_focal", "number"]
    {
        g.reset();
        let z = g.variable(logits.clone());
        let y = g.constant(labels.clone());
        let loss = match name {
            "smoothed" => smoothed_cross_entropy(g, z, y, smoothing)?,
            "weighted" => weighted_cross_entropy(g, z, y, weighting(true, 0.0, 0.0))?,
            "weighted_smoothed" => weighted_cross_entropy(g, z, y, weighting(true, 0.0, smoothing))?,
            "focal" => weighted_cross_entropy(g, z, y, weighting(false, gamma, 0.0))?,
            "labels" => sigmoid_cross_entropy(g, z, &targets, &[], 0.0)?,
            "labels_weighted" => sigmoid_cross_entropy(g, z, &targets, &weights, 0.0)?,
            "labels_focal" => sigmoid_cross_entropy(g, z, &targets, &[], gamma)?,
            _ => squared_error(g, z, &numbers)?,
        };
        f.compare(&format!("{name}.loss"), g.tensor(loss))?;
        g.backward(loss, &mut Parameters::builder().build(f.dtype)?)?;
        f.compare(&format!("{name}.grad"), &gradient(g, z)?)?;
    }
    Ok(())
}

/// A tensor of the fixture's type from f64 values.
pub(super) fn tensor(device: Device, dims: &[usize], dtype: DType, values: &[f64]) -> Result<Tensor> {
    let tensor = Tensor::zeros_on(device, dims, dtype)?;
    tensor.set_f64(values);
    Ok(tensor)
}
