use super::with_previous;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    [(1, 1, 1), (1, 2, 3), (4, 3, 5), (3, 5, 33)].map(case).into_iter().collect()
}

fn case((t, b, i): (usize, usize, usize)) -> Case {
    let mut data = Data::new(7 + t as u64);
    let inputs = vec![data.normal("x", &[t, b, i], 1.0), data.normal("before", &[b, i], 1.0)];
    Case::new("with_previous", format!("T{t} B{b} I{i}"), inputs, |g, v| Ok(vec![with_previous(g, v[0], v[1])?]))
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case((70, 64, 400))]
}
