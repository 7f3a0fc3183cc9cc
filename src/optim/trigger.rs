//! Decisions from the history of validation losses. Serialisable: a resumed run decides as an
//! uninterrupted one.

use serde::{Deserialize, Deserializer, Serialize};

/// The non-monotone trigger of NT-ASGD (Merity et al. 2018; docs/SPEC.md §4.5): fires when the loss
/// is worse than the best of all but the last `n` earlier ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonMonotone {
    n: usize,
    #[serde(deserialize_with = "with_nan")]
    history: Vec<f64>,
    fired: bool,
}

/// JSON has no NaN and no infinity: `null` stands for both, and for the trigger both are the same.
fn with_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let losses = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(losses.into_iter().map(|loss| loss.unwrap_or(f64::NAN)).collect())
}

impl NonMonotone {
    pub fn new(n: usize) -> Self {
        NonMonotone { n, history: Vec::new(), fired: false }
    }

    /// Checks the loss of one more validation, then remembers it. True once, when the trigger
    /// fires; from then on nothing is remembered and the answer is false.
    pub fn check(&mut self, loss: f64) -> bool {
        if self.fired {
            return false;
        }
        if self.history.len() > self.n {
            let earlier = &self.history[..self.history.len() - self.n];
            self.fired = loss > earlier.iter().copied().fold(f64::INFINITY, f64::min);
        }
        self.history.push(loss);
        self.fired
    }
}

/// Stops when the loss has not improved for more than `patience` epochs (docs/SPEC.md §4.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    patience: usize,
    best: Option<f64>,
    since_best: usize,
}

impl EarlyStopping {
    pub fn new(patience: usize) -> Self {
        EarlyStopping { patience, best: None, since_best: 0 }
    }

    /// Takes the loss of one more epoch; tells whether it is the best so far (one that is not
    /// finite never is).
    pub fn is_best(&mut self, loss: f64) -> bool {
        let better = loss.is_finite() && self.best.is_none_or(|best| loss < best);
        if better {
            self.best = Some(loss);
        }
        self.since_best = if better { 0 } else { self.since_best + 1 };
        better
    }

    pub fn should_stop(&self) -> bool {
        self.since_best > self.patience
    }

    pub fn best(&self) -> Option<f64> {
        self.best
    }
}
