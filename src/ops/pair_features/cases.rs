use super::pair_features;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    vec![case(0, 1, 1), case(1, 3, 5), case(2, 7, 33)]
}

fn case(seed: u64, pairs: usize, f: usize) -> Case {
    let mut data = Data::new(seed);
    let x = data.normal("x", &[2 * pairs, f], 1.0);
    let (first, second): (Vec<u32>, Vec<u32>) =
        ((0..pairs as u32).map(|b| 2 * b + 1).collect(), (0..pairs as u32).map(|b| 2 * b).collect());
    // no two are equal or nearly so: there the distance has a kink
    let mut values = x.tensor.to_f64();
    for b in 0..pairs {
        for i in 0..f {
            let (u, v) = (2 * b * f + i, (2 * b + 1) * f + i);
            if (values[u] - values[v]).abs() < 0.2 {
                values[u] += 0.5;
            }
        }
    }
    x.tensor.set_f64(&values);
    Case::new("pair_features", format!("B{pairs} F{f}"), vec![x], move |g, v| {
        Ok(vec![pair_features(g, v[0], &first, &second)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64, 1200)]
}
