//! Integrated gradients over the embeddings (Sundararajan et al. 2017): `x · ∫₀¹ ∇F(αx) dα`, the
//! path from zero embeddings to those of the text, by the midpoint rule.

use super::{Case, Path};
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::tensor::Tensor;

/// Tokens that are in memory together.
const TOGETHER: usize = 4096;

/// The path, and the share of every token, in the order of the text.
pub(super) fn of(case: &Case, g: &mut Graph, steps: usize) -> Result<(Path, Vec<f64>)> {
    let model = case.model;
    let (width, tokens) = (model.network.settings.encoder.width(), case.ids.len());
    let matrix = model.parameters.value(model.network.encoder.embedding()).to_f64();
    let ids = case.read(&case.ids);
    let x: Vec<f64> = ids.iter().flat_map(|&id| &matrix[id as usize * width..][..width]).copied().collect();
    drop(matrix);
    let scaled = |alphas: &[f64]| -> Vec<f64> { alphas.iter().flat_map(|a| x.iter().map(move |x| a * x)).collect() };
    let recording = g.is_recording();
    let mut shares = vec![0.0; tokens];
    let alphas: Vec<f64> = (0..steps).map(|k| (k as f64 + 0.5) / steps as f64).collect();
    let parameters = &model.parameters;
    // they are frozen: a backward pass has no gradient to put anywhere but into the embeddings
    let mut nowhere = Parameters::builder().build(parameters.dtype())?;
    g.set_recording(true);
    for alphas in alphas.chunks((TOGETHER / tokens).max(1)) {
        g.reset();
        let out = model.network.on_embeddings(g, parameters, &scaled(alphas), alphas.len())?;
        let seed = Tensor::zeros([alphas.len(), case.target.weights.len()], parameters.dtype())?;
        seed.set_f64(&case.target.weights.repeat(alphas.len()));
        g.backward_from(&[(out.logits, seed.to_device(g.device())?)], &mut nowhere)?;
        let gradient = g.gradient(out.embeddings).map(Tensor::to_f64).unwrap_or_default();
        let of_documents = gradient.get(out.before * width..).unwrap_or_default();
        for (at, d) in of_documents.chunks_exact(width).enumerate() {
            let token = at % tokens;
            let x = &x[token * width..][..width];
            shares[token] += x.iter().zip(d).map(|(x, d)| x * d).sum::<f64>() / steps as f64;
        }
    }
    g.set_recording(false);
    g.reset();
    let ends = model.network.on_embeddings(g, parameters, &scaled(&[0.0, 1.0]), 2)?;
    let logits = g.tensor(ends.logits).to_f64();
    let (from, to) = logits.split_at(logits.len() / 2);
    let sum = shares.iter().sum();
    let path = Path { steps, from: case.target.of(from), to: case.target.of(to), sum };
    g.reset();
    g.set_recording(recording);
    Ok((path, case.written(shares)))
}
