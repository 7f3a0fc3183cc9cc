use super::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::case::{Case, Data, Input};

const NAMES: [[&str; 3]; 2] = [["h0", "h1", "h2"], ["dropped0", "dropped1", "dropped2"]];

/// AR alone, TAR alone and both; on the same values and on others; one chunk, several, and rows
/// that end.
pub fn cases() -> Vec<Case> {
    let layouts: [&[[usize; 3]]; 5] = [
        &[[1, 1, 1]],
        &[[1, 3, 2]],
        &[[5, 3, 7]],
        &[[4, 3, 5], [4, 3, 5], [2, 3, 5]],
        &[[3, 4, 9], [3, 2, 9], [2, 1, 9]],
    ];
    let mut all = Vec::new();
    for chunks in layouts {
        let sizes: Vec<String> = chunks.iter().map(|[t, b, _]| format!("{t}x{b}")).collect();
        for (alpha, beta, separate) in [(2.0, 1.0, true), (2.0, 1.0, false), (2.0, 0.0, false), (0.0, 1.0, false)] {
            if chunks[0][0] == 1 && alpha == 0.0 {
                continue; // nothing is left of the loss
            }
            let mut data = Data::new(all.len() as u64);
            let lists = if separate { 2 } else { 1 };
            let inputs: Vec<Input> = NAMES[..lists]
                .iter()
                .flat_map(|names| names.iter().zip(chunks))
                .map(|(name, chunk)| data.normal(name, chunk, 1.0))
                .collect();
            let n = chunks.len();
            let r = Regularisation { alpha, beta, guard: TarGuard::Time };
            let name =
                format!("TxB {} E{} alpha={alpha} beta={beta} separate={separate}", sizes.join("+"), chunks[0][2]);
            all.push(Case::new("activation_regularisation", name, inputs, move |g, v| {
                Ok(vec![activation_regularisation(g, &v[..n], &v[v.len() - n..], r)?])
            }));
        }
    }
    let mut data = Data::new(100);
    let inputs = vec![data.normal("h0", &[4, 1, 3], 1.0)];
    let r = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Batch };
    all.push(Case::new("activation_regularisation", "TxB 4x1 E3 guard=batch", inputs, move |g, v| {
        Ok(vec![activation_regularisation(g, v, v, r)?])
    }));
    all
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let mut data = Data::new(0);
    let inputs = vec![data.normal("h0", &[70, 64, 400], 1.0), data.normal("dropped0", &[70, 64, 400], 1.0)];
    let r = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };
    vec![Case::new("activation_regularisation", "T70 B64 E400", inputs, move |g, v| {
        Ok(vec![activation_regularisation(g, &v[..1], &v[1..], r)?])
    })]
}
