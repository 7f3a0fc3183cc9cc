use super::tied_softmax;
use crate::ops::case::{Case, Data};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (n, v, e) in [(1, 2, 3), (7, 23, 6), (5, 37, 9), (259, 5, 2)] {
        for bias in [true, false] {
            all.push(case(300 + all.len() as u64, [n, v, e], 0.7, bias));
        }
    }
    // over several tiles of a GPU's product
    all.push(case(308, [9, 150, 4], 0.7, true));
    // over so many words that a GPU shares the gradient of x out along them, with a ragged last
    // part
    all.push(case(310, [3, 533, 5], 0.7, true));
    all
}

/// `spread`: of the weights.
fn case(seed: u64, [n, v, e]: [usize; 3], spread: f64, bias: bool) -> Case {
    let mut data = Data::new(seed);
    let mut inputs = vec![
        data.normal("x", &[n, e], 1.0),
        data.normal("w", &[v, e], spread),
        data.indices("targets", &[n], v as u32),
    ];
    if bias {
        inputs.push(data.normal("b", &[v], 0.5));
    }
    Case::new("tied_softmax", format!("N{n} V{v} E{e} bias={bias}"), inputs, |g, x| {
        let targets = g.detach(x[2]);
        Ok(vec![tied_softmax(g, x[0], x[1], x.get(3).copied(), &targets)?.loss])
    })
}

/// More rows than a block has on any device.
pub fn many_rows() -> Case {
    case(299, [4100, 3, 2], 0.7, true)
}

/// Logits of a hundred and more, whose exponentials differ by all that f32 can hold.
pub fn wide() -> Case {
    case(309, [6, 131, 7], 20.0, true)
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, [4480, 30_000, 400], 0.05, false)]
}

#[cfg(test)]
mod tests {
    use super::super::log_probabilities;
    use super::*;
    use crate::autodiff::Graph;
    use crate::tensor::{DType, Device, Tensor};

    #[test]
    fn losses_and_accuracy_agree_with_the_log_probabilities() {
        let mut data = Data::new(9);
        let (x, w, b) = (data.normal("x", &[9, 4], 1.0), data.normal("w", &[21, 4], 1.0), data.normal("b", &[21], 1.0));
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let all = log_probabilities(&mut g, &x.tensor, &w.tensor, Some(&b.tensor)).unwrap().to_f64();
        let best = |row: &[f64]| row.iter().enumerate().fold(0, |m, (i, &p)| if p > row[m] { i } else { m });
        let targets: Vec<u32> =
            all.chunks(21).enumerate().map(|(n, row)| if n % 2 == 0 { best(row) as u32 } else { 0 }).collect();
        assert!(all.chunks(21).all(|row| (row.iter().map(|l| l.exp()).sum::<f64>() - 1.0).abs() < 1e-12));
        let [x, w, b] = [x, w, b].map(|i| g.constant(i.tensor));
        let out = tied_softmax(&mut g, x, w, Some(b), &Tensor::from_slice([9], &targets).unwrap()).unwrap();
        for (n, row) in all.chunks(21).enumerate() {
            assert!((out.row_losses.to_f64()[n] + row[targets[n] as usize]).abs() < 1e-12);
            assert_eq!(out.correct.read::<u32>()[n] == 1, best(row) == targets[n] as usize);
        }
        let mean = out.row_losses.to_f64().iter().sum::<f64>() / 9.0;
        assert!((g.tensor(out.loss).scalar() - mean).abs() < 1e-12);
    }
}
