//! Discriminative fine-tuning: how learning rates differ between layer groups (docs/SPEC.md §4.2).

use serde::{Deserialize, Serialize};

/// Learning rates of the layer groups relative to one rate. Group 0 is nearest to the input.
///
/// The groups of a language model: `lstm 1 … lstm L`, `decoder with tied embedding`; of a
/// classifier: `embedding`, `lstm 1 … lstm L`, `head`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ladder {
    /// One rate for all groups.
    Off,
    /// Each group learns at the rate of the one above divided by this (2.6 in the paper).
    Factor(f64),
    /// The authors' language-model fine-tuning: [1/6, 1/3, 1, 1/2]. For any number of layers: the
    /// last group 1/2, the top LSTM 1, the one below it 1/3, and from there every layer half of the
    /// one above.
    LmCode,
    /// The authors' pretraining: as [`LmCode`](Self::LmCode), but the last group learns at the full
    /// rate: [1/6, 1/3, 1, 1].
    PretrainCode,
    /// fastai's `slice(lr/span, lr)`: equal ratios between neighbours, from `1/span` in the first
    /// group to 1 in the last.
    Slice(f64),
    /// fastai's `slice(lr)`: the last group at the full rate, all others at a tenth.
    SliceTop,
}

impl Ladder {
    /// The factor of each of `groups` layer groups.
    pub fn factors(&self, groups: usize) -> Vec<f64> {
        let last = groups.saturating_sub(1);
        let above = |k: usize| (last - k) as f64;
        let code = |k: usize, decoder: f64| match last - k {
            0 => decoder,
            1 => 1.0,
            depth => 1.0 / (3.0 * libm::pow(2.0, (depth - 2) as f64)),
        };
        (0..groups)
            .map(|k| match *self {
                Ladder::Off => 1.0,
                Ladder::Factor(factor) => libm::pow(factor, -above(k)),
                Ladder::LmCode => code(k, 0.5),
                Ladder::PretrainCode => code(k, 1.0),
                Ladder::Slice(span) if last > 0 => libm::pow(span, -above(k) / last as f64),
                Ladder::Slice(_) => 1.0,
                Ladder::SliceTop => {
                    if k == last {
                        1.0
                    } else {
                        0.1
                    }
                }
            })
            .collect()
    }

    /// The rates of `groups` layer groups.
    pub fn rates(&self, lr: f64, groups: usize) -> Vec<f64> {
        self.factors(groups).iter().map(|factor| lr * factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_rates(ladder: Ladder, lr: f64, expected: &[f64]) {
        let rates = ladder.rates(lr, expected.len());
        for (found, expected) in rates.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-3, "{ladder:?}: {rates:?}");
        }
    }

    /// The numbers of docs/SPEC.md §4.2.
    #[test]
    fn ladders_have_the_published_rates() {
        assert_rates(Ladder::Factor(2.6), 0.01, &[2.188e-4, 5.690e-4, 1.479e-3, 3.846e-3, 1e-2]);
        assert_rates(Ladder::LmCode, 4e-3, &[6.667e-4, 1.3333e-3, 4e-3, 2e-3]);
        assert_rates(Ladder::PretrainCode, 6e-3, &[1e-3, 2e-3, 6e-3, 6e-3]);
        assert_rates(Ladder::Slice(100.0), 1.0, &[0.01, 0.1, 1.0]);
        assert_rates(Ladder::Slice(2.6f64.powi(4)), 1e-2, &Ladder::Factor(2.6).rates(1e-2, 5));
        assert_rates(Ladder::SliceTop, 1.0, &[0.1, 0.1, 1.0]);
        assert_rates(Ladder::Off, 0.5, &[0.5, 0.5]);
    }

    #[test]
    fn ladders_hold_for_any_number_of_layers() {
        assert_rates(Ladder::LmCode, 12.0, &[1.0, 2.0, 4.0, 12.0, 6.0]);
        assert_rates(Ladder::LmCode, 1.0, &[1.0, 0.5]);
        for ladder in [Ladder::Off, Ladder::Factor(2.6), Ladder::PretrainCode, Ladder::Slice(9.0), Ladder::SliceTop] {
            assert_eq!(ladder.factors(1), [1.0]);
            assert!(ladder.factors(0).is_empty());
        }
    }
}
