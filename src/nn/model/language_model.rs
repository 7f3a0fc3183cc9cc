//! The language model: an encoder and a tied decoder, and the losses of docs/SPEC.md §1.3.

use std::sync::Arc;

use super::{BatchLoss, LossSettings, sum_losses};
use crate::autodiff::{Graph, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::nn::encoder::{Encoder, EncoderSettings};
use crate::nn::head::{Features, Head, Known, LabelLoss, NextWord, Targets, WordResults};
use crate::nn::noise::Noise;
use crate::nn::state::State;
use crate::ops::batch_norm::Mode;
use crate::random::Key;
use crate::tensor::{DType, Tensor};

/// A language model's sizes and switches.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelSettings {
    pub encoder: EncoderSettings,
    /// Bias of the decoder: none in 0.7, one in v1, v2 and the AWD code (docs/SPEC.md §1.1).
    pub decoder_bias: bool,
    /// Where an adaptive softmax cuts the vocabulary, ascending: the ends of all parts but the last
    /// (docs/SPEC.md §1.4); empty for the full softmax.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<usize>,
}

/// Result of a window.
#[derive(Clone, Debug)]
pub struct WindowLoss {
    /// The loss that is minimised: cross-entropy + AR + TAR.
    pub total: Var,
    /// The cross-entropy alone, in nats per token, which is reported.
    pub cross_entropy: Var,
    /// AR + TAR, if any.
    pub regularisation: Option<Var>,
    /// Last layer's output, before and after its dropout, `[T, B, E]`.
    pub raw: Var,
    pub dropped: Var,
}

/// Parameters of a language model. Layer groups: one per layer of the encoder, then the tied
/// embedding with the decoder's own parameters (docs/SPEC.md §4.2).
#[derive(Clone, Debug)]
pub struct LanguageModel {
    pub settings: LanguageModelSettings,
    pub encoder: Arc<dyn Encoder>,
    head: NextWord,
}

impl LanguageModel {
    /// Declares and allocates the parameters (zeros; see [`initialise`](Self::initialise)).
    ///
    /// # Errors
    /// As [`declare`](Self::declare), or no memory left.
    pub fn new(settings: LanguageModelSettings, dtype: DType) -> Result<(Self, Parameters)> {
        let (model, declared) = Self::declare(settings)?;
        Ok((model, declared.build(dtype)?))
    }

    /// Declares the parameters without taking memory for them.
    ///
    /// # Errors
    /// [`Error::Usage`] for sizes of zero or beyond what can be counted, and for splits that are
    /// not ascending within the vocabulary.
    pub fn declare(settings: LanguageModelSettings) -> Result<(Self, ParametersBuilder)> {
        settings.encoder.check()?;
        let (v, splits) = (settings.encoder.vocabulary(), &settings.splits);
        if splits.first() == Some(&0) || splits.last().is_some_and(|&s| s >= v) || !splits.is_sorted_by(|a, b| a < b) {
            return Err(Error::usage(format!(
                "the splits {splits:?} of the adaptive softmax must ascend between 0 and the {v} words of the vocabulary"
            )));
        }
        let mut builder = Parameters::builder();
        let layers: Vec<_> = settings.encoder.layer_names().into_iter().map(|name| builder.group(name)).collect();
        let last = builder.group("embedding+decoder");
        let encoder = settings.encoder.declare(&mut builder, last, &layers);
        let shape = [v, settings.encoder.width()];
        let head = NextWord::declare(&mut builder, last, encoder.embedding(), shape, settings.decoder_bias, splits);
        Ok((LanguageModel { settings, encoder, head }, builder))
    }

    /// Start values of encoder and decoder.
    ///
    /// # Errors
    /// As [`Encoder::initialise`].
    pub fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        self.encoder.initialise(parameters, key)?;
        self.head.initialise(parameters, key)
    }

    /// Loss of a training window.
    ///
    /// * `tokens`: u32 `[T, B]`; `targets`: u32 `[T, B]`, the words that follow
    /// * `negatives`: u32 `[K]`, shared by the window, for a sampled softmax (docs/SPEC.md §1.4);
    ///   `None`: the model's own softmax, full or adaptive
    /// * `state`: as in [`Encoder::forward`]
    ///
    /// # Errors
    /// As [`Encoder::forward`] and [`Head::loss`].
    #[allow(clippy::too_many_arguments)]
    pub fn window(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        targets: &Tensor,
        negatives: Option<&Tensor>,
        state: &mut State,
        noise: &Noise,
        losses: &LossSettings,
    ) -> Result<WindowLoss> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward(g, parameters, embedding, tokens, state, noise)?;
        let chunks = [raw];
        let (norm, pairs, readings) = (Mode::Train, None, &[][..]);
        let features = Features { embedding, chunks: &chunks, start: 0, first: 0, lengths: &[], norm, pairs, readings };
        let targets = Targets { known: Known::Indices(targets), negatives, counts: &LabelLoss::default() };
        let head = self.head.loss(g, parameters, &features, &targets, noise)?;
        let BatchLoss { total, loss, regularisation, .. } =
            sum_losses(self.head.part(), g, &features, head, None, losses)?;
        let dropped = head.dropped.unwrap_or(raw);
        Ok(WindowLoss { total, cross_entropy: loss, regularisation, raw, dropped })
    }

    /// Cross-entropies of a window without dropout, over the full vocabulary.
    ///
    /// # Errors
    /// As [`Encoder::forward`] and [`NextWord::evaluate`].
    pub fn evaluate(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        targets: &Tensor,
        state: &mut State,
    ) -> Result<WordResults> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward(g, parameters, embedding, tokens, state, &Noise::Off)?;
        self.head.evaluate(g, parameters, embedding, raw, targets)
    }

    /// Log-probabilities of the next word after every position, `[T·B, V]`, without dropout.
    ///
    /// # Errors
    /// As [`Encoder::forward`] and [`NextWord::log_probabilities`].
    pub fn next_word(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        state: &mut State,
    ) -> Result<Tensor> {
        let raw = self.encoder.run(g, parameters, tokens, state, &Noise::Off)?;
        let (raw, e) = (g.detach(raw), self.settings.encoder.width());
        let hidden = raw.reshape([raw.len() / e, e])?;
        self.head.log_probabilities(g, parameters, &hidden)
    }
}
