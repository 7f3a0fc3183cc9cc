use super::{Mode, batch_norm};
use crate::ops::case::{Case, Data, Input};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for mode in [Mode::Train, Mode::Eval, Mode::Frozen] {
        // at two rows and less the gradient of a training batch is next to nothing
        let least = if mode == Mode::Train { 3 } else { 1 };
        for (b, f) in [(least, 1), (5, 7), (17, 33)] {
            all.push(case(all.len() as u64, b, f, mode));
        }
    }
    all
}

fn case(seed: u64, b: usize, f: usize, mode: Mode) -> Case {
    let mut data = Data::new(seed);
    let constant = |input: Input| Input { differentiable: false, ..input };
    let inputs = vec![
        data.normal("x", &[b, f], 1.5),
        data.away_from_zero("weight", &[f], 0.5, 1.5),
        data.normal("bias", &[f], 0.5),
        constant(data.normal("running_mean", &[f], 0.5)),
        constant(data.uniform("running_variance", &[f], 0.5, 2.0)),
    ];
    Case::new("batch_norm", format!("B{b} F{f} {mode:?}"), inputs, move |g, v| {
        // copies, because training changes them and a case runs many times
        let mut statistic = |i: usize| {
            let copy = g.uninitialised(g.shape(v[i]), g.dtype(v[i]))?;
            copy.copy_from(g.tensor(v[i]));
            Ok(copy)
        };
        let (mean, variance) = (statistic(3)?, statistic(4)?);
        Ok(vec![batch_norm(g, v[0], v[1], v[2], &mean, &variance, mode)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![case(0, 64, 1200, Mode::Train)]
}
