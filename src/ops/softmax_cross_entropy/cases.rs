use super::smoothed_cross_entropy;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for smoothing in [0.0, 0.1] {
        for (seed, (b, c)) in [(1, 2), (3, 5), (5, 14), (1, 40)].into_iter().enumerate() {
            all.push(case(seed as u64, b, c, smoothing));
        }
    }
    all
}

fn case(seed: u64, b: usize, c: usize, smoothing: f64) -> Case {
    let mut data = Data::new(seed);
    let inputs = vec![data.normal("logits", &[b, c], 1.5), data.indices("labels", &[b], c as u32)];
    Case::new("softmax_cross_entropy", format!("B{b} C{c} smoothing={smoothing}"), inputs, move |g, v| {
        Ok(vec![smoothed_cross_entropy(g, v[0], v[1], smoothing)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64, 6, 0.0)]
}
