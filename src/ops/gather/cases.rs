use super::{Taken, gather};
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    vec![case(0, 2, 1, 1), case(1, 3, 5, 1), case(2, 7, 33, 2), case(3, 40, 6, 2)]
}

/// Two tensors for each part; of each all rows but one are taken, the last one first.
fn case(seed: u64, n: usize, e: usize, parts: usize) -> Case {
    let mut data = Data::new(seed);
    let halves = [n - n / 2, n / 2];
    let mut inputs = Vec::new();
    let mut lists: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
    for part in 0..parts as u32 {
        for (half, &rows) in halves.iter().enumerate() {
            inputs.push(data.normal("from", &[rows + 1, 1, e], 1.0));
            let first = (half * halves[0]) as u32;
            let taken: Vec<u32> = (0..=rows as u32).rev().filter(|k| *k != part).collect();
            let places = (0..rows as u32).map(|k| (first + k) * parts as u32 + part).collect();
            lists.push((taken, places));
        }
    }
    Case::new("gather", format!("N{n} E{e} parts={parts}"), inputs, move |g, v| {
        let taken = |(from, (rows, places)): (_, &'_ (Vec<u32>, Vec<u32>))| (from, rows.clone(), places.clone());
        let all: Vec<_> = v.iter().copied().zip(&lists).map(taken).collect();
        let taken: Vec<Taken> = all.iter().map(|(from, rows, places)| Taken { from: *from, rows, places }).collect();
        Ok(vec![gather(g, &taken, n, parts)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64 * 35, 400, 2)]
}
