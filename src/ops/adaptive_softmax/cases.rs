use super::{AdaptiveDecoder, adaptive_softmax};
use crate::ops::case::{Case, Data};

const SPLITS: [&[usize]; 5] = [&[], &[1], &[10, 25], &[4, 5, 9], &[6]];

/// No split, one tail, several, a tail of one word, a tail without a target, and more rows than a
/// block (261).
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (splits, (n, v, e, targets)) in
        SPLITS.into_iter().zip([(5, 9, 3, 9), (1, 2, 2, 2), (12, 50, 8, 50), (23, 31, 5, 9), (261, 13, 2, 13)])
    {
        for bias in [true, false] {
            all.push(case(700 + all.len() as u64, [n, v, e], targets, 0.7, splits, bias));
        }
    }
    all
}

/// `targets`: those below this only: what lies above is a tail without a row. `spread`: of the
/// weights.
fn case(seed: u64, [n, v, e]: [usize; 3], targets: u32, spread: f64, splits: &'static [usize], bias: bool) -> Case {
    let mut data = Data::new(seed);
    let tails = splits.len();
    let mut inputs = vec![
        data.normal("hidden", &[n, e], 1.0),
        data.indices("targets", &[n], targets),
        data.normal("weight", &[v, e], spread),
    ];
    if bias {
        inputs.push(data.normal("bias", &[v], 0.5));
    }
    if tails > 0 {
        inputs.push(data.normal("tail_vectors", &[tails, e], spread));
    }
    if tails > 0 && bias {
        inputs.push(data.normal("tail_bias", &[tails], 0.5));
    }
    let name = format!("N{n} V{v} E{e} splits={splits:?} bias={bias}");
    Case::new("adaptive_softmax", name, inputs, move |g, x| {
        let targets = g.detach(x[1]);
        let rest = &x[3..];
        let (bias, rest) = if bias { (Some(rest[0]), &rest[1..]) } else { (None, rest) };
        let tails = rest.first().map(|&vectors| (vectors, rest.get(1).copied()));
        let decoder = AdaptiveDecoder { weight: x[2], bias, tails, splits };
        Ok(vec![adaptive_softmax(g, x[0], decoder, &targets)?.loss])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [1120, 30_000, 400], 30_000, 0.05, &[2_800, 20_000], true)]
}

#[cfg(test)]
mod tests {
    use super::super::{log_probabilities, splits};
    use super::*;
    use crate::autodiff::Graph;
    use crate::tensor::{DType, Device, Tensor};

    #[test]
    fn losses_are_those_of_a_distribution_over_all_words() {
        let mut data = Data::new(1);
        let (n, v, e) = (6, 17, 4);
        let mut tensor = |shape: &[usize]| data.normal("x", shape, 1.0).tensor;
        let (hidden, weight, bias, vectors, tail_bias) =
            (tensor(&[n, e]), tensor(&[v, e]), tensor(&[v]), tensor(&[2, e]), tensor(&[2]));
        let splits = &[5, 11];
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let decoder = AdaptiveDecoder {
            weight: weight.clone(),
            bias: Some(bias.clone()),
            tails: Some((vectors.clone(), Some(tail_bias.clone()))),
            splits,
        };
        let all = log_probabilities(&mut g, &hidden, &decoder).unwrap().to_f64();
        assert!(all.chunks(v).all(|row| (row.iter().map(|l| l.exp()).sum::<f64>() - 1.0).abs() < 1e-12));
        let [hidden, weight, bias, vectors, tail_bias] =
            [hidden, weight, bias, vectors, tail_bias].map(|t| g.constant(t));
        let decoder = AdaptiveDecoder { weight, bias: Some(bias), tails: Some((vectors, Some(tail_bias))), splits };
        for word in 0..v as u32 {
            let targets = Tensor::from_slice([n], &[word; 6]).unwrap();
            let out = adaptive_softmax(&mut g, hidden, decoder, &targets).unwrap();
            for (row, loss) in all.chunks(v).zip(out.row_losses.to_f64()) {
                assert!((row[word as usize] + loss).abs() < 1e-12, "word {word}");
            }
        }
    }

    /// Above 65,536 words a block of rows has fewer than 256, in every part.
    #[test]
    fn a_tail_may_be_wider_than_65536_words() {
        let mut data = Data::new(2);
        let (n, v, e, splits) = (257, 65_600, 2, &[30]);
        let mut tensor = |shape: &[usize]| data.normal("x", shape, 1.0).tensor;
        let (hidden, weight, vectors) = (tensor(&[n, e]), tensor(&[v, e]), tensor(&[1, e]));
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let decoder =
            AdaptiveDecoder { weight: weight.clone(), bias: None, tails: Some((vectors.clone(), None)), splits };
        let all = log_probabilities(&mut g, &hidden, &decoder).unwrap().to_f64();
        let [hidden, weight, vectors] = [&hidden, &weight, &vectors].map(|t| g.variable(t.clone()));
        let decoder = AdaptiveDecoder { weight, bias: None, tails: Some((vectors, None)), splits };
        let targets: Vec<u32> = (0..n as u32).map(|i| if i % 3 == 0 { i % 30 } else { 40 + 201 * i }).collect();
        let out = adaptive_softmax(&mut g, hidden, decoder, &Tensor::from_slice([n], &targets).unwrap()).unwrap();
        for ((row, &word), loss) in all.chunks(v).zip(&targets).zip(out.row_losses.to_f64()) {
            assert!((row[word as usize] + loss).abs() < 1e-12, "word {word}");
        }
    }

    #[test]
    fn splits_follow_the_size_of_the_vocabulary() {
        assert!(splits(75_000).is_empty());
        assert_eq!(splits(75_500), [2_800, 20_000]);
        assert_eq!(splits(267_735), [2_800, 20_000, 76_000]);
        assert_eq!(splits(500_001), [4_200, 35_000, 180_000]);
    }

    #[test]
    fn wrong_arguments_are_errors() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let [hidden, weight, vectors] =
            [[2, 3], [9, 3], [1, 3]].map(|s| g.constant(Tensor::zeros(s, DType::F64).unwrap()));
        let mut run = |vectors: Option<_>, splits: &[usize], targets: &[u32]| {
            let decoder = AdaptiveDecoder { weight, bias: None, tails: vectors.map(|v| (v, None)), splits };
            adaptive_softmax(&mut g, hidden, decoder, &Tensor::from_slice([targets.len()], targets).unwrap())
        };
        assert!(run(Some(vectors), &[4], &[0, 8]).is_ok());
        for (splits, targets) in
            [(&[4][..], &[0, 9][..]), (&[0], &[0, 1]), (&[9], &[0, 1]), (&[4, 4], &[0, 1]), (&[4], &[0])]
        {
            assert!(run(Some(vectors), splits, targets).is_err(), "{splits:?} {targets:?}");
        }
        assert!(run(None, &[4], &[0, 1]).is_err() && run(Some(vectors), &[], &[0, 1]).is_err());
    }
}
