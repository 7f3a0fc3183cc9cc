use super::{Weighting, weighted_cross_entropy};
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (focal, smoothing, weighted) in
        [(0.0, 0.0, true), (2.0, 0.0, false), (0.5, 0.0, true), (1.0, 0.1, true), (0.0, 0.2, true)]
    {
        for (seed, (b, c)) in [(1, 2), (3, 5), (5, 14), (2, 40)].into_iter().enumerate() {
            all.push(case(seed as u64, [b, c], focal, smoothing, weighted));
        }
    }
    all
}

fn case(seed: u64, [b, c]: [usize; 2], focal: f64, smoothing: f64, weighted: bool) -> Case {
    let mut data = Data::new(seed);
    let inputs = vec![data.normal("logits", &[b, c], 1.5), data.indices("labels", &[b], c as u32)];
    let weights = data.uniform("weights", &[c], 0.5, 3.0).tensor.to_f64();
    let weights = if weighted { weights } else { Vec::new() };
    let name = format!("B{b} C{c} weights={weighted} focal={focal} smoothing={smoothing}");
    Case::new("weighted_cross_entropy", name, inputs, move |g, v| {
        let weighting = Weighting { weights: &weights, focal, smoothing };
        Ok(vec![weighted_cross_entropy(g, v[0], v[1], weighting)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [64, 6], 2.0, 0.0, true)]
}
