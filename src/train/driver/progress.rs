//! How far a training has come: the part of a checkpoint that is no tensor.

use serde::{Deserialize, Serialize};

use super::LoopSettings;
use crate::answer::Measured;
use crate::optim::{EarlyStopping, NonMonotone};

/// How far a run has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Updates done in the whole stage.
    pub update: u64,
    pub(super) phase: usize,
    pub(super) update_in_phase: u64,
    /// Epochs done in the whole stage.
    pub epoch: u32,
    pub(super) epoch_in_phase: u32,
    /// Whether `epoch` has begun.
    pub(super) in_epoch: bool,
    pub(super) smoothed: f64,
    pub(super) smoothed_weight: f64,
    pub(super) epoch_loss: f64,
    pub(super) epoch_updates: u64,
    pub(super) non_monotone: Option<NonMonotone>,
    pub(super) averaging: bool,
    pub(super) early: EarlyStopping,
    pub best_epoch: Option<u32>,
    pub(super) rate_factor: f64,
    pub skipped: u64,
    pub(super) rewinds: u32,
    pub tokens: u64,
    /// Mean training loss of the last whole epoch.
    pub train_loss: f64,
    pub last: Option<Measured>,
    /// By epoch, with the validation loss.
    pub history: Vec<(u32, f64, Option<Measured>)>,
    /// Seconds of training, all parts of a resumed run together.
    pub seconds: f64,
    pub finished: bool,
}

impl Progress {
    /// At the beginning.
    pub fn new(settings: &LoopSettings) -> Self {
        let nonmono = settings.is_non_monotone().then(|| NonMonotone::new(settings.training.nonmono));
        Progress {
            update: 0,
            phase: 0,
            update_in_phase: 0,
            epoch: 0,
            epoch_in_phase: 0,
            in_epoch: false,
            smoothed: 0.0,
            smoothed_weight: 0.0,
            epoch_loss: 0.0,
            epoch_updates: 0,
            non_monotone: nonmono,
            averaging: false,
            early: EarlyStopping::new(settings.training.early_stopping.unwrap_or(usize::MAX)),
            best_epoch: None,
            rate_factor: 1.0,
            skipped: 0,
            rewinds: 0,
            tokens: 0,
            train_loss: 0.0,
            last: None,
            history: Vec::new(),
            seconds: 0.0,
            finished: false,
        }
    }
}
