//! Unfreezing: which layer groups train in which step, for how long, at which rates (docs/SPEC.md
//! §4.3).

use super::choices::Unfreezing;
use super::settings::{ClassifierSettings, LmSettings, TrainingSettings, per_step};
use crate::optim::Schedule;

/// One step of a stage: a training of its own, with its own schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfreezingStep {
    /// Whether each layer group trains.
    pub trains: Vec<bool>,
    pub epochs: u32,
    /// Maximal learning rate of each layer group; frozen ones have one too.
    pub lr: Vec<f64>,
    pub schedule: Schedule,
}

impl LmSettings {
    /// The steps of the stage, for a model of that many layer groups (L + 1).
    pub fn steps(&self, groups: usize) -> Vec<UnfreezingStep> {
        // the paper's chain-thaw is about classifiers; here its other groups learn at the same rate
        self.training.steps(groups, 1.0)
    }
}

impl ClassifierSettings {
    /// The steps of the stage, for a model of that many layer groups (L + 2).
    pub fn steps(&self, groups: usize) -> Vec<UnfreezingStep> {
        self.training.steps(groups, self.chain_thaw_factor)
    }
}

impl TrainingSettings {
    /// One step for each entry of `epochs`. Chain-thaw has `groups + 1` steps whatever the list's
    /// length is: the last entry is that of the last step, the one before it repeats; its rates are
    /// `lr` for the last group and `lr·chain_thaw_factor` for the others, and it has no ladder.
    fn steps(&self, groups: usize, chain_thaw_factor: f64) -> Vec<UnfreezingStep> {
        let chain = self.unfreezing == Unfreezing::ChainThaw && groups > 1;
        let steps = if chain { groups + 1 } else { self.epochs.len() };
        let last = groups.saturating_sub(1);
        (0..steps)
            .map(|k| {
                let lr = per_step(&self.lr, k, steps);
                let all = k + 1 == steps;
                let trains = |group: usize| match self.unfreezing {
                    Unfreezing::Full => true,
                    Unfreezing::Last => group == last,
                    Unfreezing::Gradual => all || group + k >= last,
                    Unfreezing::ChainThaw if chain => all || if k == 0 { group == last } else { group == k - 1 },
                    Unfreezing::ChainThaw => true,
                };
                let chain_lr = |group| if group == last { lr } else { lr * chain_thaw_factor };
                UnfreezingStep {
                    trains: (0..groups).map(trains).collect(),
                    epochs: per_step(&self.epochs, k, steps),
                    lr: if chain { (0..groups).map(chain_lr).collect() } else { self.ladder().rates(lr, groups) },
                    schedule: self.schedule(k, steps),
                }
            })
            .collect()
    }
}
