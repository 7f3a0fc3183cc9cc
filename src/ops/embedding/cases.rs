use super::embedding;
use crate::ops::case::{Case, Data};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};

/// The last one has every word more than four times, and rows that two warps of a GPU share, by
/// fours.
pub fn cases() -> Vec<Case> {
    let key = Key::apart(11);
    let mut all = Vec::new();
    for (t, b, v, e) in [(1, 1, 2, 1), (3, 2, 5, 7), (4, 3, 6, 67), (9, 4, 3, 260)] {
        for (kind, pad) in [("off", None), ("given", None), ("random", None), ("random", Some(1))] {
            let mut data = Data::new(100 + all.len() as u64);
            let inputs = vec![
                data.normal("w", &[v, e], 1.0),
                data.indices("tokens", &[t, b], v as u32),
                data.mask("rows", &[v, 1], 0.3),
                data.mask("input", &[b, e], 0.4),
            ];
            if pad.is_some() {
                // the suppressed gradient of the pad row is no derivative: its token stays out of a
                // case for finite differences
                inputs[1]
                    .tensor
                    .write::<u32>()
                    .iter_mut()
                    .for_each(|token| *token = if *token == 1 { 0 } else { *token });
            }
            let name = format!("T{t} B{b} V{v} E{e} dropout={kind} pad={pad:?}");
            all.push(Case::new("embedding", name, inputs, move |g, x| {
                let (rows, input) = match kind {
                    "off" => (Dropout::Off, Dropout::Off),
                    "given" => (Dropout::Given(g.detach(x[2])), Dropout::Given(g.detach(x[3]))),
                    _ => (
                        Dropout::random(Mask::new(key, 3, Site::new(1), 0, 0.3)),
                        Dropout::random(Mask::new(key, 3, Site::new(2), 0, 0.4)),
                    ),
                };
                let tokens = g.detach(x[1]);
                Ok(vec![embedding(g, &tokens, x[0], &rows, &input, pad)?])
            }));
        }
    }
    all
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let mut data = Data::new(0);
    let inputs = vec![data.normal("w", &[30_000, 400], 0.1), data.indices("tokens", &[70, 64], 30_000)];
    let key = Key::apart(11);
    vec![Case::new("embedding", "T70 B64 V30000 E400", inputs, move |g, x| {
        let rows = Dropout::random(Mask::new(key, 3, Site::new(1), 0, 0.05));
        let input = Dropout::random(Mask::new(key, 3, Site::new(2), 0, 0.4));
        let tokens = g.detach(x[1]);
        Ok(vec![embedding(g, &tokens, x[0], &rows, &input, Some(1))?])
    })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::{Graph, Parameters};
    use crate::tensor::{DType, Device, Tensor};

    #[test]
    fn the_pad_row_gets_no_gradient_and_repeated_tokens_add_up() {
        let mut parameters = Parameters::builder().build(DType::F64).unwrap();
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let w = g.variable(Tensor::from_slice([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap());
        let tokens = Tensor::from_slice([2, 2], &[1u32, 2, 2, 0]).unwrap();
        let y = embedding(&mut g, &tokens, w, &Dropout::Off, &Dropout::Off, Some(1)).unwrap();
        assert_eq!(g.tensor(y).to_f64(), [3.0, 4.0, 5.0, 6.0, 5.0, 6.0, 1.0, 2.0]);
        let dy = Tensor::from_slice([2, 2, 2], &[1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        g.backward_from(&[(y, dy)], &mut parameters).unwrap();
        assert_eq!(g.gradient(w).unwrap().to_f64(), [7.0, 8.0, 0.0, 0.0, 8.0, 10.0]);
    }
}
