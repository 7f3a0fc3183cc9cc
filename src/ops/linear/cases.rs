use super::linear;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (n, i, o) in [(1, 1, 1), (5, 3, 7), (17, 33, 9)] {
        for bias in [true, false] {
            all.push(case(all.len() as u64, [n, i, o], bias));
        }
    }
    all
}

fn case(seed: u64, [n, i, o]: [usize; 3], bias: bool) -> Case {
    let mut data = Data::new(seed);
    let mut inputs = vec![data.normal("x", &[n, i], 1.0), data.normal("w", &[o, i], 0.5)];
    if bias {
        inputs.push(data.normal("b", &[o], 0.5));
    }
    Case::new("linear", format!("N{n} I{i} O{o} bias={bias}"), inputs, |g, v| {
        Ok(vec![linear(g, v[0], v[1], v.get(2).copied())?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [64, 1200, 50], true)]
}
