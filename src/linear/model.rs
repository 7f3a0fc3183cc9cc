//! A trained model, and its answers.

use rayon::prelude::*;

use super::calibration::softmax;
use super::counts::FeatureSet;
use super::features::Scratch;
use super::fit::{outputs, scores};
use super::matrix::{Frequencies, Matrix, Weighting};

/// A linear classifier of texts.
#[derive(Clone, Debug)]
pub struct LinearModel {
    /// Names of the classes.
    pub(super) labels: Vec<String>,
    pub(super) set: FeatureSet,
    pub(super) weighting: Weighting,
    /// `[features + 1, machines]`; the last row has the biases. One machine where there are two
    /// classes (the second against the first), else one for each class.
    pub(super) weights: Vec<f32>,
    /// Shares of the classes among the training texts.
    pub(super) prior: Vec<f64>,
    /// Strength of the machines.
    pub(super) c: f64,
    /// From scores to logits.
    pub(super) scale: f64,
}

impl LinearModel {
    /// Names of the classes, in the order of the probabilities.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.set.len()
    }

    /// The strength `C` that was chosen.
    pub fn c(&self) -> f64 {
        self.c
    }

    /// Class probabilities of texts, in their order. A text without a known feature has those of
    /// the training set.
    pub fn predict<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Vec<Vec<f64>> {
        let machines = self.weights.len() / (self.set.len() + 1);
        let frequencies = Frequencies::default();
        let new = || (Scratch::default(), Vec::new(), Matrix::default());
        let one = |(scratch, ids, x): &mut (Scratch, Vec<u32>, Matrix), text: &T| {
            let counted = self.set.count(text.as_ref(), scratch, ids);
            let (ids, counts): (Vec<u32>, Vec<u8>) = counted.into_iter().unzip();
            x.clear();
            self.weighting.weigh(&frequencies, &ids, &counts, x);
            if x.row(0).0.is_empty() {
                return self.prior.clone();
            }
            softmax(&scores(&outputs(&self.weights, machines, x.row(0)), self.labels.len()), self.scale)
        };
        texts.par_iter().map_init(new, one).collect()
    }
}
