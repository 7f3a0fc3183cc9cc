//! Heads: from the output of an encoder for every token to the loss of a task.
//!
//! A new one is a file beside this that declares its parameters and implements [`Head`]; a model
//! (`nn::model`) puts it on an encoder.

mod answers;
mod next_word;
mod pooled_classes;
mod token_labels;

pub use self::answers::Answers;
pub use self::next_word::{NextWord, WordResults};
pub use self::pooled_classes::{AffineBlock, Pooled, PooledClasses};
pub use self::token_labels::{Reading, TokenLabels};
use super::noise::Noise;
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::Result;
use crate::ops::batch_norm::Mode;
use crate::random::Key;
use crate::tensor::Tensor;
use crate::trace;

/// The inputs of a head for a batch.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    /// The encoder's embedding matrix on the graph, for a tied decoder.
    pub embedding: Var,
    /// Outputs of the encoder without dropout, `[T, rows, E]` each, consecutive in time; one where
    /// the batch is a window.
    pub chunks: &'a [Var],
    /// Step at which the first of them begins.
    pub start: usize,
    /// Step from which on they are pooled; `start` or later.
    pub first: usize,
    /// Steps that count, of every row; empty where all do.
    pub lengths: &'a [u32],
    /// How batch norms run.
    pub norm: Mode,
    /// Where documents are pairs of texts: the rows of the first and of the second text of each.
    pub pairs: Option<[&'a [u32]; 2]>,
    /// Where words are labelled: the output of each encoder; its chunks are those of the
    /// first.
    pub readings: &'a [Reading<'a>],
}

/// The targets of the rows of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// u32: next words `[T, B]`, classes `[B]` in the order of the rows, labels `[N]` of the words
    /// of a batch.
    Indices(&'a Tensor),
    /// For every row 0 or 1 for each label, or the number that is to be estimated; row by row.
    Numbers(&'a [f64]),
}

/// How wrong answers count (docs/SPEC.md §1.6).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelLoss {
    /// Share of a label that all classes have alike.
    pub smoothing: f64,
    /// γ of the focal loss; 0: none.
    pub focal: f64,
    /// Weight of every class, or of every label where it is there; empty: one.
    pub weights: Vec<f64>,
}

/// The targets of a head, and its loss.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    pub known: Known<'a>,
    /// Words that a softmax is sampled over besides the targets, u32 `[K]`; `None`: over all.
    pub negatives: Option<&'a Tensor>,
    pub counts: &'a LabelLoss,
}

/// Loss of a batch.
#[derive(Clone, Copy, Debug)]
pub struct HeadLoss {
    /// The loss that is reported: a mean cross-entropy in nats, or a mean squared error.
    pub loss: Var,
    /// The encoder's output as the head has used it, after its dropout, where there is one:
    /// activation regularisation may ask for it.
    pub dropped: Option<Var>,
}

/// A task on top of an encoder: it knows its parameters' numbers, and holds no values.
pub trait Head: std::fmt::Debug + Send + Sync {
    /// Puts start values into its parameters.
    ///
    /// # Errors
    /// More parameters than there are streams of start values.
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()>;

    /// The part of the model that counts the time of a loss that is not the head's own.
    fn part(&self) -> trace::Layer {
        trace::Layer::NONE
    }

    /// Loss of a batch.
    ///
    /// # Errors
    /// No memory left, targets that do not fit.
    fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        features: &Features,
        targets: &Targets,
        noise: &Noise,
    ) -> Result<HeadLoss>;
}
