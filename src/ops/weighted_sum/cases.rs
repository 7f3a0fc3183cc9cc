use super::{TERMS, weighted_sum};
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for n in [1, 3, TERMS] {
        all.push(case(all.len() as u64, n));
    }
    let x = Data::new(9).normal("x", &[1], 1.0);
    all.push(Case::new("weighted_sum", "the same twice", vec![x], |g, v| {
        Ok(vec![weighted_sum(g, &[(v[0], 2.0), (v[0], -0.5)])?])
    }));
    all
}

fn case(seed: u64, n: usize) -> Case {
    let mut data = Data::new(seed);
    let inputs = (0..n).map(|_| data.normal("x", &[1], 1.0)).collect();
    Case::new("weighted_sum", format!("N{n}"), inputs, |g, v| {
        let mut terms = [(v[0], 0.0); TERMS];
        for (i, (term, &x)) in terms.iter_mut().zip(v).enumerate() {
            *term = (x, 0.5 + 0.25 * i as f64);
        }
        Ok(vec![weighted_sum(g, &terms[..v.len()])?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 2)]
}
