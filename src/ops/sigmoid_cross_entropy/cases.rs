use super::sigmoid_cross_entropy;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (focal, weighted) in [(0.0, false), (0.0, true), (2.0, true), (0.5, false)] {
        for (seed, (b, c)) in [(1, 1), (3, 5), (5, 14), (2, 40)].into_iter().enumerate() {
            all.push(case(seed as u64, [b, c], focal, weighted));
        }
    }
    all
}

fn case(seed: u64, [b, c]: [usize; 2], focal: f64, weighted: bool) -> Case {
    let mut data = Data::new(seed);
    let inputs = vec![data.normal("logits", &[b, c], 1.5)];
    let weights = data.uniform("weights", &[c], 0.5, 3.0).tensor.to_f64();
    let weights = if weighted { weights } else { Vec::new() };
    // 0, 1, and between the two
    let mut targets = data.uniform("targets", &[b * c], 0.0, 1.0).tensor.to_f64();
    targets.iter_mut().enumerate().filter(|(i, _)| i % 4 > 0).for_each(|(_, y)| *y = y.round());
    let name = format!("B{b} C{c} weights={weighted} focal={focal}");
    Case::new("sigmoid_cross_entropy", name, inputs, move |g, v| {
        Ok(vec![sigmoid_cross_entropy(g, v[0], &targets, &weights, focal)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [64, 20], 0.0, true)]
}
