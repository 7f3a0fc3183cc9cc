use super::squared_error;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    [1, 7, 300].into_iter().enumerate().map(|(seed, n)| case(seed as u64, n)).collect()
}

fn case(seed: u64, n: usize) -> Case {
    let mut data = Data::new(seed);
    let inputs = vec![data.normal("x", &[n, 1], 1.5)];
    let targets = data.normal("targets", &[n], 1.0).tensor.to_f64();
    Case::new("squared_error", format!("N{n}"), inputs, move |g, v| Ok(vec![squared_error(g, v[0], &targets)?]))
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64)]
}
