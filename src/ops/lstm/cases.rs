use super::{LstmInputs, lstm};
use crate::ops::case::{Case, Data, Input};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};

pub fn cases() -> Vec<Case> {
    let key = Key::apart(12);
    let mut all = Vec::new();
    for (t, b, i, h) in [(1, 1, 1, 1), (2, 1, 3, 5), (5, 3, 4, 6), (3, 7, 5, 9), (4, 2, 6, 17)] {
        for kind in ["off", "given", "random"] {
            let mut data = Data::new(200 + all.len() as u64);
            let mut inputs = inputs(&mut data, [t, b, i, h], [1.0, 0.5, 1.5]);
            inputs.push(data.mask("mask", &[4 * h, h], 0.5));
            let name = format!("T{t} B{b} I{i} H{h} weight={kind}");
            all.push(Case::new("lstm", name, inputs, move |g, v| {
                let weight = match kind {
                    "off" => Dropout::Off,
                    "given" => Dropout::Given(g.detach(v[7])),
                    _ => Dropout::random(Mask::new(key, 5, Site::new(65), 0, 0.5)),
                };
                let inputs = LstmInputs { x: v[0], h0: v[1], c0: v[2], w_ih: v[3], w_hh: v[4], b_ih: v[5], b_hh: v[6] };
                let out = lstm(g, inputs, &weight)?;
                Ok(vec![out.y, out.h, out.c])
            }));
        }
    }
    all
}

/// x, h0, c0, w_ih, w_hh, b_ih, b_hh of a layer of `T, B, I, H`. `scales`: standard deviations of x
/// and of h0 and c0; the largest weight and bias times √H.
pub fn inputs(data: &mut Data, [t, b, i, h]: [usize; 4], scales: [f64; 3]) -> Vec<Input> {
    let [of_x, of_state, of_weights] = scales;
    let range = of_weights / (h as f64).sqrt();
    vec![
        data.normal("x", &[t, b, i], of_x),
        data.normal("h0", &[b, h], of_state),
        data.normal("c0", &[b, h], of_state),
        data.uniform("w_ih", &[4 * h, i], -range, range),
        data.uniform("w_hh", &[4 * h, h], -range, range),
        data.uniform("b_ih", &[4 * h], -range, range),
        data.uniform("b_hh", &[4 * h], -range, range),
    ]
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![one([70, 64, 400, 1150])]
}

/// A layer of `T, B, I, H` with half of its hidden-to-hidden weights dropped. Inputs: x, h0, c0,
/// w_ih, w_hh, b_ih, b_hh.
pub fn one([t, b, i, h]: [usize; 4]) -> Case {
    let mut data = Data::new(0);
    let inputs = inputs(&mut data, [t, b, i, h], [0.5, 0.1, 1.0]);
    let mask = Mask::new(Key::apart(12), 5, Site::new(65), 0, 0.5);
    Case::new("lstm", format!("T{t} B{b} {i}->{h}"), inputs, move |g, v| {
        let inputs = LstmInputs { x: v[0], h0: v[1], c0: v[2], w_ih: v[3], w_hh: v[4], b_ih: v[5], b_hh: v[6] };
        let out = lstm(g, inputs, &Dropout::random(mask))?;
        Ok(vec![out.y, out.h, out.c])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::{Graph, Var};
    use crate::ops::testing::graph;
    use crate::ops::tied_softmax::log_probabilities;
    use crate::tensor::{DType, Tensor};

    /// Under the promise that parameters are constant a second pass takes what the first has
    /// packed: its results are the same bits, also of a graph without the promise, and a weight
    /// that was changed against it is not looked at.
    #[test]
    fn what_is_packed_of_constant_parameters_is_kept() {
        let mut data = Data::new(77);
        let mut given = inputs(&mut data, [3, 2, 20, 24], [1.0, 0.5, 1.0]);
        given.push(data.normal("decoder", &[50, 24], 1.0));
        let single = |input: &Input| {
            let tensor = Tensor::zeros(input.tensor.shape(), DType::F32).unwrap();
            tensor.set_f64(&input.tensor.to_f64());
            tensor
        };
        let tensors: Vec<Tensor> = given.iter().map(single).collect();
        let run = |g: &mut Graph, weight: &Dropout| {
            g.reset();
            g.set_recording(false);
            let v: Vec<Var> = tensors.iter().map(|tensor| g.constant(tensor.clone())).collect();
            let inputs = LstmInputs { x: v[0], h0: v[1], c0: v[2], w_ih: v[3], w_hh: v[4], b_ih: v[5], b_hh: v[6] };
            let y = lstm(g, inputs, weight).unwrap().y;
            let y = g.detach(y);
            let words = log_probabilities(g, &y, &tensors[7], None).unwrap().to_f64();
            (y.to_f64(), words)
        };
        let (mut plain, mut promised) = (graph(DType::F32), graph(DType::F32));
        promised.promise_constant_parameters();
        let expected = run(&mut plain, &Dropout::Off);
        assert_eq!(run(&mut promised, &Dropout::Off), expected);
        assert_eq!(run(&mut promised, &Dropout::Off), expected);
        // with weights dropped nothing is kept: every mask is another
        let mask = |step| Dropout::random(Mask::new(Key([1, 2]), step, Site::new(65), 0, 0.5));
        let dropped: Vec<_> = (0..2).map(|step| run(&mut promised, &mask(step))).collect();
        assert_eq!(dropped, (0..2).map(|step| run(&mut plain, &mask(step))).collect::<Vec<_>>());
        assert_ne!(dropped[0], dropped[1]);
        for weight in [3, 4, 7] {
            tensors[weight].set_f64(&vec![0.0; tensors[weight].len()]);
        }
        assert_eq!(run(&mut promised, &Dropout::Off), expected);
        assert_ne!(run(&mut plain, &Dropout::Off), expected);
    }
}
