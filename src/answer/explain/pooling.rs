//! The exact shares of every pooled step in a logit.
//!
//! In evaluation the head is linear but for its ReLUs. At one input they are linear, too: each unit
//! of a hidden layer is on or off. With this active set the logit is `base + Σ_j a_j (p_j − μ_j)`
//! over the units `p` of the pooled vector (the last state, the maximum, the mean), where `a` are
//! the weights of the head multiplied out, batch norms included, and `μ` is the mean that the first
//! batch norm has seen in training. And a unit of the pooled vector belongs to steps: that of the
//! last state to the last one, a maximum to the step where it was taken, a mean to all of them in
//! equal parts. So the sum of the base and of all shares is the logit: an identity, not an
//! estimate.

use super::{Case, Target};
use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::nn::{AffineBlock, DocumentBatch, Noise};
use crate::ops::batch_norm::Mode;

/// The share of a step or a word, by the parts of the pooled vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    pub last: f64,
    pub max: f64,
    pub mean: f64,
    /// Units of the maximum that it has won.
    pub units: usize,
    /// Whether it is pooled at all.
    pub pooled: bool,
}

impl Parts {
    pub fn sum(&self) -> f64 {
        self.last + self.max + self.mean
    }
}

impl<'a> std::iter::Sum<&'a Parts> for Parts {
    fn sum<I: Iterator<Item = &'a Parts>>(all: I) -> Self {
        all.fold(Parts::default(), |sum, one| Parts {
            last: sum.last + one.last,
            max: sum.max + one.max,
            mean: sum.mean + one.mean,
            units: sum.units + one.units,
            pooled: sum.pooled || one.pooled,
        })
    }
}

/// A logit, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// Computed anew from the states, in f64.
    pub logit: f64,
    /// The logit of an input whose pooled units have the mean of the training, with the same active
    /// set.
    pub base: f64,
    pub tokens: Vec<Parts>,
}

/// Runs a text as `predict` does. The logit that the network gives, and the shares of all of its
/// tokens in reading order.
pub(super) fn of(case: &Case, g: &mut Graph) -> Result<(f64, Shares)> {
    let (network, parameters) = (&case.model.network, &case.model.parameters);
    let ids = case.read(&case.ids);
    let recording = g.is_recording();
    g.set_recording(false);
    g.reset();
    let batch = DocumentBatch::new(vec![&ids])?;
    let out = network.forward(g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
    let states: Vec<f64> = out.chunks.iter().flat_map(|&chunk| g.tensor(chunk).to_f64()).collect();
    let logits = g.tensor(out.logits).to_f64();
    g.reset();
    g.set_recording(recording);
    if !logits.iter().all(|z| z.is_finite()) {
        return Err(crate::answer::ensemble::not_numbers(parameters));
    }
    let width = network.settings.encoder.width();
    let mut found = shares(&states, width, &network.affine_head(parameters)?, &case.target);
    // the kept steps are the last ones
    let before = ids.len().checked_sub(found.tokens.len()).ok_or_else(|| Error::data("more steps than tokens"))?;
    found.tokens.splice(0..0, std::iter::repeat_n(Parts::default(), before));
    Ok((case.target.of(&logits), found))
}

/// The shares of the steps of `states` `[T, E]`, all of them pooled, through the blocks of a head.
///
/// # Panics
/// If sizes do not fit, or there is no step or no block.
pub fn shares(states: &[f64], width: usize, head: &[AffineBlock], target: &Target) -> Shares {
    let steps: Vec<&[f64]> = states.chunks_exact(width).collect();
    let (last, count) = (steps.len() - 1, steps.len() as f64);
    // the first step with the largest value, as the network decides
    let mut winner = vec![0; width];
    for (t, h) in steps.iter().enumerate() {
        (0..width).filter(|&j| h[j] > steps[winner[j]][j]).collect::<Vec<_>>().into_iter().for_each(|j| winner[j] = t);
    }
    let max = (0..width).map(|j| steps[winner[j]][j]);
    let mean = (0..width).map(|j| steps.iter().map(|h| h[j]).sum::<f64>() / count);
    let pooled: Vec<f64> = steps[last].iter().copied().chain(max).chain(mean).collect();

    let (logits, active) = forward(head, &pooled, None);
    let reference = &head[0].mean;
    let base = target.of(&forward(head, reference, Some(&active)).0);
    let slopes = slopes(head, &active, target);
    let (of_last, rest) = slopes.split_at(width);
    let (of_max, of_mean) = rest.split_at(width);
    let (mean_of_last, rest) = reference.split_at(width);
    let (mean_of_max, mean_of_mean) = rest.split_at(width);
    let share = |slopes: &[f64], h: &[f64], reference: &[f64]| -> f64 {
        slopes.iter().zip(h.iter().zip(reference)).map(|(a, (h, r))| a * (h - r)).sum()
    };
    let mut tokens: Vec<Parts> = steps
        .iter()
        .map(|h| Parts { mean: share(of_mean, h, mean_of_mean) / count, pooled: true, ..Parts::default() })
        .collect();
    tokens[last].last = share(of_last, steps[last], mean_of_last);
    for (j, &t) in winner.iter().enumerate() {
        tokens[t].max += of_max[j] * (steps[t][j] - mean_of_max[j]);
        tokens[t].units += 1;
    }
    Shares { logit: target.of(&logits), base, tokens }
}

/// Logits, and which units of every hidden layer are on; or, with those units given, of the linear
/// map that the head then is.
fn forward(head: &[AffineBlock], input: &[f64], given: Option<&[Vec<bool>]>) -> (Vec<f64>, Vec<Vec<bool>>) {
    let (mut x, mut active) = (input.to_vec(), Vec::new());
    for (k, block) in head.iter().enumerate() {
        if k > 0 {
            let on = match given {
                Some(given) => given[k - 1].clone(),
                None => x.iter().map(|&x| x > 0.0).collect(),
            };
            x.iter_mut().zip(&on).filter(|(_, on)| !**on).for_each(|(x, _)| *x = 0.0);
            active.push(on);
        }
        let normal: Vec<f64> =
            x.iter().zip(block.scale.iter().zip(&block.shift)).map(|(x, (s, t))| x * s + t).collect();
        let row = |(w, b): (&[f64], &f64)| w.iter().zip(&normal).map(|(w, z)| w * z).sum::<f64>() + b;
        x = block.weight.chunks_exact(normal.len()).zip(&block.bias).map(row).collect();
    }
    (x, active)
}

/// The derivatives of the target by the units of the pooled vector.
fn slopes(head: &[AffineBlock], active: &[Vec<bool>], target: &Target) -> Vec<f64> {
    let mut d = target.weights.clone();
    for (k, block) in head.iter().enumerate().rev() {
        let width = block.scale.len();
        let mut below = vec![0.0; width];
        for (w, d) in block.weight.chunks_exact(width).zip(&d) {
            below.iter_mut().zip(w).for_each(|(sum, w)| *sum += w * d);
        }
        below.iter_mut().zip(&block.scale).for_each(|(d, s)| *d *= s);
        if k > 0 {
            below.iter_mut().zip(&active[k - 1]).filter(|(_, on)| !**on).for_each(|(d, _)| *d = 0.0);
        }
        d = below;
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    fn numbers(n: usize, seed: u32) -> Vec<f64> {
        let mut stream = Stream::new(Key::apart(7), Site::CUSTOM[2], seed, 0);
        (0..n).map(|_| f64::from(stream.below(2001)) / 1000.0 - 1.0).collect()
    }

    fn head(sizes: &[usize]) -> Vec<AffineBlock> {
        let block = |(k, size): (usize, &[usize])| AffineBlock {
            scale: numbers(size[0], 5 * k as u32 + 1),
            shift: numbers(size[0], 5 * k as u32 + 2),
            mean: numbers(size[0], 5 * k as u32 + 3),
            weight: numbers(size[0] * size[1], 5 * k as u32 + 4),
            bias: numbers(size[1], 5 * k as u32 + 5),
        };
        sizes.windows(2).enumerate().map(block).collect()
    }

    /// Base and shares are the logit, whatever the depth of the head.
    #[test]
    fn shares_sum_to_the_logit() {
        let (width, steps) = (6, 5);
        let states = numbers(width * steps, 99);
        for sizes in [&[18, 4][..], &[18, 7, 4], &[18, 7, 5, 4]] {
            let (head, target) = (head(sizes), Target { weights: vec![0.0, 1.0, -1.0, 0.5], offset: 0.25 });
            let found = shares(&states, width, &head, &target);
            let sum = found.base + found.tokens.iter().map(Parts::sum).sum::<f64>();
            assert!((sum - found.logit).abs() < 1e-12, "{sizes:?}: {sum} {}", found.logit);
            assert_eq!(found.tokens.iter().map(|t| t.units).sum::<usize>(), width);
            assert!(found.tokens[..4].iter().all(|t| t.last == 0.0) && found.tokens[4].last != 0.0);
            let hidden = forward(&head, &numbers(18, 3), None).1;
            assert!(hidden.iter().all(|on| on.iter().any(|on| *on) && on.iter().any(|on| !on)), "both kinds of units");
        }
    }

    /// A unit that is larger by a little changes the logit by what the shares say.
    #[test]
    fn shares_are_those_of_the_steps() {
        let (width, steps) = (4, 3);
        let (states, head) = (numbers(width * steps, 42), head(&[12, 5, 2]));
        let target = Target { weights: vec![1.0, 0.0], offset: 0.0 };
        let found = shares(&states, width, &head, &target);
        for at in 0..states.len() {
            let mut moved = states.clone();
            moved[at] += 1e-7;
            let other = shares(&moved, width, &head, &target);
            for (t, (a, b)) in found.tokens.iter().zip(&other.tokens).enumerate() {
                let change = b.sum() - a.sum();
                // the shares of other steps stay as they are
                assert!(t == at / width || change.abs() < 1e-12, "{at} {t}: {change}");
            }
            let change: f64 =
                other.tokens.iter().map(Parts::sum).sum::<f64>() - found.tokens.iter().map(Parts::sum).sum::<f64>();
            assert!((change - (other.logit - found.logit)).abs() < 1e-12);
        }
    }

    /// Of equal values the first has won, as in the network.
    #[test]
    fn the_first_of_equals_wins() {
        let target = Target { weights: vec![1.0], offset: 0.0 };
        let found = shares(&[1.0, 1.0, 0.0], 1, &head(&[3, 1]), &target);
        assert_eq!(found.tokens.iter().map(|t| t.units).collect::<Vec<_>>(), [1, 0, 0]);
    }
}
