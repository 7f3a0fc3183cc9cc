//! From logits to losses and to answers: a class, labels, a number.

use super::{Known, LabelLoss, Targets};
use crate::autodiff::{Graph, Var};
use crate::error::{Error, Result};
use crate::ops::sigmoid_cross_entropy::{sigmoid, sigmoid_cross_entropy};
use crate::ops::softmax_cross_entropy::{smoothed_cross_entropy, softmax};
use crate::ops::squared_error::squared_error;
use crate::ops::weighted_cross_entropy::{Weighting, weighted_cross_entropy};

/// The kind of answer for a document, or for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// One class of several: a softmax.
    #[default]
    Class,
    /// Any number of labels, each by itself: a sigmoid for each.
    Labels,
    /// A number.
    Number,
    /// A tag for every word: a softmax.
    Tags {
        /// From two encoders, the second of which reads backward.
        both: bool,
    },
}

impl Answers {
    /// Whether it is the one that there was before there was a choice.
    pub fn is_class(&self) -> bool {
        *self == Answers::Class
    }

    /// Whether it is an answer for words, not for documents.
    pub fn is_of_words(&self) -> bool {
        matches!(self, Answers::Tags { .. })
    }

    /// The loss of `logits` `[B, C]`.
    ///
    /// # Errors
    /// Targets of another kind, or for other rows; no memory left.
    pub fn loss(self, g: &mut Graph, logits: Var, targets: &Targets) -> Result<Var> {
        let LabelLoss { smoothing, focal, ref weights } = *targets.counts;
        match (self, targets.known) {
            (Answers::Class | Answers::Tags { .. }, Known::Indices(classes)) => {
                let classes = g.constant(classes.clone());
                if weights.is_empty() && focal == 0.0 {
                    return smoothed_cross_entropy(g, logits, classes, smoothing);
                }
                weighted_cross_entropy(g, logits, classes, Weighting { weights, focal, smoothing })
            }
            (Answers::Labels, Known::Numbers(there)) if smoothing > 0.0 => {
                let smoothed: Vec<f64> = there.iter().map(|y| y * (1.0 - smoothing) + smoothing / 2.0).collect();
                sigmoid_cross_entropy(g, logits, &smoothed, weights, focal)
            }
            (Answers::Labels, Known::Numbers(there)) => sigmoid_cross_entropy(g, logits, there, weights, focal),
            (Answers::Number, Known::Numbers(numbers)) => squared_error(g, logits, numbers),
            _ => Err(Error::shape("head", "targets", format!("those of {self:?}"), "another kind")),
        }
    }

    /// The answers of the logits `[B, C]`, in f64: probabilities, or the number itself; `[B, C]`.
    ///
    /// # Errors
    /// No memory left.
    pub fn of_logits(self, g: &mut Graph, logits: Var) -> Result<Vec<f64>> {
        match self {
            Answers::Class | Answers::Tags { .. } => softmax(g, logits).map(|p| p.to_f64()),
            Answers::Labels => sigmoid(g, logits).map(|p| p.to_f64()),
            Answers::Number => Ok(g.detach(logits).to_f64()),
        }
    }
}
