use super::relu;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    [&[1, 1][..], &[5, 3], &[3, 7, 11]]
        .iter()
        .enumerate()
        .map(|(seed, shape)| {
            let x = Data::new(seed as u64).away_from_zero("x", shape, 0.1, 2.0);
            // two in three are positive, so that most gradients are not zero
            let sign = |(i, v): (usize, &f64)| if i % 3 == 1 { -v.abs() } else { v.abs() };
            let values: Vec<f64> = x.tensor.to_f64().iter().enumerate().map(sign).collect();
            x.tensor.set_f64(&values);
            Case::new("relu", format!("{shape:?}"), vec![x], |g, v| Ok(vec![relu(g, v[0])?]))
        })
        .collect()
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let x = Data::new(0).away_from_zero("x", &[64, 50], 0.1, 2.0);
    vec![Case::new("relu", "[64, 50]", vec![x], |g, v| Ok(vec![relu(g, v[0])?]))]
}
