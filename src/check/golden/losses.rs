//! Fixtures of the softmax variants.

use super::fixture::{ANY, Fixture};
use super::sequence::gradient;
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::ops::adaptive_softmax::{AdaptiveDecoder, adaptive_softmax as adaptive, log_probabilities};
use crate::ops::sampled_softmax::{NegativeSampler, exponential_key, sampled_softmax as sampled};
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

/// A tensor of the fixture's type from f64 values.
pub(super) fn tensor(device: Device, dims: &[usize], dtype: DType, values: &[f64]) -> Result<Tensor> {
    let tensor = Tensor::zeros_on(device, dims, dtype)?;
    tensor.set_f64(values);
    Ok(tensor)
}
