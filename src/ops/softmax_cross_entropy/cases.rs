use super::softmax_cross_entropy;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    [(1, 2), (3, 5), (5, 14)].into_iter().enumerate().map(|(seed, (b, c))| case(seed as u64, b, c)).collect()
}

fn case(seed: u64, b: usize, c: usize) -> Case {
    let mut data = Data::new(seed);
    let inputs = vec![data.normal("logits", &[b, c], 1.5), data.indices("labels", &[b], c as u32)];
    Case::new("softmax_cross_entropy", format!("B{b} C{c}"), inputs, |g, v| {
        Ok(vec![softmax_cross_entropy(g, v[0], v[1])?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64, 6)]
}
