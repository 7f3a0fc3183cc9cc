//! Heads: from what an encoder gives for every token to the loss of a task.
//!
//! A new one is a file beside this that declares its parameters and implements [`Head`]; a model (`nn::model`) puts it on an encoder.

mod next_word;
mod pooled_classes;

pub use self::next_word::{NextWord, WordResults};
pub use self::pooled_classes::{Pooled, PooledClasses};
use super::noise::Noise;
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::Result;
use crate::ops::batch_norm::Mode;
use crate::random::Key;
use crate::tensor::Tensor;
use crate::trace;

/// What a head is given of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    /// The encoder's embedding matrix on the graph, for a tied decoder.
    pub embedding: Var,
    /// Outputs of the encoder without dropout, `[T, rows, E]` each, consecutive in time; one where the batch is a window.
    pub chunks: &'a [Var],
    /// Step at which the first of them begins.
    pub start: usize,
    /// Steps that count, of every row; empty where all do.
    pub lengths: &'a [u32],
    /// How batch norms run.
    pub norm: Mode,
}

/// What a head is to predict.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// u32: next words `[T, B]`, classes `[B]` in the order of the rows.
    pub indices: &'a Tensor,
    /// Words that a softmax is sampled over besides the targets, u32 `[K]`; `None`: over all.
    pub negatives: Option<&'a Tensor>,
    /// Share of a class that all of them have alike.
    pub smoothing: f64,
}

/// Loss of a batch.
#[derive(Clone, Copy, Debug)]
pub struct HeadLoss {
    /// Mean cross-entropy in nats: what is reported.
    pub cross_entropy: Var,
    /// The encoder's output as the head has used it, after its dropout, where there is one: activation regularisation may ask for it.
    pub dropped: Option<Var>,
}

/// A task on top of an encoder: it knows its parameters' numbers, and holds no values.
pub trait Head: std::fmt::Debug + Send + Sync {
    /// Puts start values into its parameters.
    ///
    /// # Errors
    /// More parameters than there are streams of start values.
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()>;

    /// Where the time of what belongs to the loss, but is not the head's own, is counted.
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
