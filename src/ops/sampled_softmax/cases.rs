use super::sampled_softmax;
use crate::ops::case::{Case, Data};

/// Among the targets some are negatives too, and some come twice, or often; 261 rows are more than
/// one block.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (n, v, e, k) in [(1, 3, 2, 2), (7, 30, 5, 8), (19, 33, 17, 21), (19, 9, 12, 21), (261, 11, 3, 4)] {
        for bias in [true, false] {
            all.push(case(500 + all.len() as u64, [n, v, e, k], 0.7, bias));
        }
    }
    all
}

/// `spread`: of the weights.
fn case(seed: u64, [n, v, e, k]: [usize; 4], spread: f64, bias: bool) -> Case {
    let mut data = Data::new(seed);
    let negatives: Vec<u32> = (0..k as u32).map(|i| (7 * i + 1) % v as u32).collect();
    let targets: Vec<u32> = (0..n as u32).map(|i| 5 * i % v as u32).collect();
    let mut inputs = vec![
        data.normal("hidden", &[n, e], 1.0),
        data.normal("weight", &[v, e], spread),
        Data::given("targets", &[n], &targets),
        Data::given("negatives", &[k], &negatives),
    ];
    if bias {
        inputs.push(data.normal("bias", &[v], 0.5));
    }
    Case::new("sampled_softmax", format!("N{n} V{v} E{e} K{k} bias={bias}"), inputs, |g, x| {
        let (targets, negatives) = (g.detach(x[2]), g.detach(x[3]));
        Ok(vec![sampled_softmax(g, x[0], x[1], x.get(4).copied(), &targets, &negatives)?.loss])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [1120, 30_000, 400, 15_000], 0.05, false)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Graph;
    use crate::tensor::{DType, Device, Tensor};

    #[test]
    fn the_loss_is_the_formula() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        // scores of the words are 0, 1, 2, 300: the largest exponential overflows nothing
        let hidden = g.constant(Tensor::from_slice([2, 1], &[1.0f64, 1.0]).unwrap());
        let weight = g.constant(Tensor::from_slice([4, 1], &[0.0f64, 1.0, 2.0, 800.0]).unwrap());
        let targets = Tensor::from_slice([2], &[1u32, 3]).unwrap();
        let negatives = Tensor::from_slice([3], &[0u32, 1, 2]).unwrap();
        let out = sampled_softmax(&mut g, hidden, weight, None, &targets, &negatives).unwrap();
        let e = std::f64::consts::E;
        let first = (e + 2.0 * (1.0 + e + e * e)).ln() - 1.0;
        let rows = out.row_losses.to_f64();
        assert!((rows[0] - first).abs() < 1e-14 && rows[1] == 0.0, "{rows:?}");
        assert!((g.tensor(out.loss).scalar() - first / 2.0).abs() < 1e-14);
    }

    #[test]
    fn wrong_words_are_errors() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let hidden = g.constant(Tensor::zeros([2, 3], DType::F64).unwrap());
        let weight = g.constant(Tensor::zeros([4, 3], DType::F64).unwrap());
        let words = |words: &[u32]| Tensor::from_slice([words.len()], words).unwrap();
        let mut run = |targets: &[u32], negatives: &[u32]| {
            sampled_softmax(&mut g, hidden, weight, None, &words(targets), &words(negatives))
        };
        assert!(run(&[0, 3], &[1]).is_ok());
        for (targets, negatives) in [(&[0, 4][..], &[1][..]), (&[0], &[1]), (&[0, 1], &[4]), (&[0, 1], &[])] {
            assert!(run(targets, negatives).is_err(), "{targets:?} {negatives:?}");
        }
    }
}
