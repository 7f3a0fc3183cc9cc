//! The language model: encoder, locked output dropout, tied decoder, and the losses of docs/SPEC.md §1.3.

use super::encoder::{Encoder, EncoderDropout, EncoderSettings, State};
use super::initial;
use crate::autodiff::{Graph, ParameterId, Parameters, ParametersBuilder, Var};
use crate::error::Result;
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::sampled_softmax::sampled_softmax;
use crate::ops::tied_softmax::{TiedLoss, log_probabilities, tied_softmax};
use crate::ops::weighted_sum::weighted_sum;
use crate::random::Key;
use crate::tensor::{DType, Tensor};

/// A language model's sizes and switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelSettings {
    pub encoder: EncoderSettings,
    /// Bias of the decoder: none in 0.7, one in v1, v2 and the AWD code (docs/SPEC.md §1.1).
    pub decoder_bias: bool,
}

/// How the cross-entropy of training is computed; evaluation is always over the full vocabulary.
#[derive(Clone, Debug, Default)]
pub enum Softmax {
    #[default]
    Full,
    /// Over the target and these negatives (u32 `[K]`), shared by the window (docs/SPEC.md §1.4).
    Sampled { negatives: Tensor },
}

/// Losses of a window besides the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSettings {
    /// Weight of AR.
    pub alpha: f64,
    /// Weight of TAR.
    pub beta: f64,
    /// AR on the output after its dropout (AWD-LSTM, v2) or before it (0.7, v1); docs/SPEC.md §1.3.
    pub ar_on_dropped: bool,
    /// v1 and v2 skip TAR for a batch of one row, 0.7 for a window of one step.
    pub tar_guard: TarGuard,
}

/// Result of a window.
#[derive(Clone, Debug)]
pub struct WindowLoss {
    /// What is minimised: cross-entropy + AR + TAR.
    pub total: Var,
    /// The cross-entropy alone, in nats per token: what is reported.
    pub cross_entropy: Var,
    /// AR + TAR, if any.
    pub regularisation: Option<Var>,
    /// Last layer's output, before and after its dropout, `[T, B, E]`.
    pub raw: Var,
    pub dropped: Var,
}

/// Parameters of a language model. Layer groups: one per LSTM layer, then the tied embedding with the decoder's bias
/// (docs/SPEC.md §4.2).
#[derive(Clone, Debug)]
pub struct LanguageModel {
    pub settings: LanguageModelSettings,
    pub encoder: Encoder,
    bias: Option<ParameterId>,
}

impl LanguageModel {
    /// Declares and allocates the parameters (zeros; see [`initialise`](Self::initialise)).
    pub fn new(settings: LanguageModelSettings, dtype: DType) -> Result<(Self, Parameters)> {
        let (model, declared) = Self::declare(settings)?;
        Ok((model, declared.build(dtype)?))
    }

    /// Declares the parameters without taking memory for them.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::error::Error::Usage) for sizes of zero or beyond what can be counted.
    pub fn declare(settings: LanguageModelSettings) -> Result<(Self, ParametersBuilder)> {
        settings.encoder.check()?;
        let mut builder = Parameters::builder();
        let last = settings.encoder.layers;
        let encoder = Encoder::declare(&mut builder, settings.encoder, last, |l| l);
        let bias = settings.decoder_bias.then(|| builder.add("decoder.bias", &[settings.encoder.vocabulary], last));
        Ok((LanguageModel { settings, encoder, bias }, builder))
    }

    /// Names of the layer groups, in order.
    pub fn group_names(&self) -> Vec<String> {
        let layers = self.settings.encoder.layers;
        (1..=layers).map(|l| format!("lstm{l}")).chain(["embedding+decoder".to_string()]).collect()
    }

    pub fn initialise(&self, parameters: &Parameters, key: Key) {
        self.encoder.initialise(parameters, key);
        if let Some(bias) = self.bias {
            initial::constant(parameters, bias, 0.0);
        }
    }

    fn decoder_bias(&self, g: &mut Graph, parameters: &Parameters) -> Option<Var> {
        self.bias.map(|id| g.parameter(parameters, id))
    }

    /// Loss of a training window. `tokens` and `targets`: u32 `[T, B]`; `state` as in [`Encoder::forward`].
    #[allow(clippy::too_many_arguments)]
    pub fn window(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        targets: &Tensor,
        state: &mut State,
        dropout: &EncoderDropout,
        softmax: &Softmax,
        losses: &LossSettings,
    ) -> Result<WindowLoss> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward_with(g, parameters, embedding, tokens, state, dropout)?;
        let dropped = locked_dropout(g, raw, &dropout.output())?;
        let bias = self.decoder_bias(g, parameters);
        let cross_entropy = match softmax {
            Softmax::Full => tied_softmax(g, dropped, embedding, bias, targets)?.loss,
            Softmax::Sampled { negatives } => sampled_softmax(g, dropped, embedding, bias, targets, negatives)?.loss,
        };
        if losses.alpha == 0.0 && losses.beta == 0.0 {
            return Ok(WindowLoss { total: cross_entropy, cross_entropy, regularisation: None, raw, dropped });
        }
        let settings = Regularisation { alpha: losses.alpha, beta: losses.beta, guard: losses.tar_guard };
        let of = if losses.ar_on_dropped { dropped } else { raw };
        let regularisation = activation_regularisation(g, &[raw], &[of], settings)?;
        let total = weighted_sum(g, &[(cross_entropy, 1.0), (regularisation, 1.0)])?;
        Ok(WindowLoss { total, cross_entropy, regularisation: Some(regularisation), raw, dropped })
    }

    /// Cross-entropies of a window without dropout, over the full vocabulary.
    pub fn evaluate(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        targets: &Tensor,
        state: &mut State,
    ) -> Result<TiedLoss> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward_with(g, parameters, embedding, tokens, state, &EncoderDropout::Off)?;
        let bias = self.decoder_bias(g, parameters);
        tied_softmax(g, raw, embedding, bias, targets)
    }

    /// Log-probabilities of the next word after every position, `[T·B, V]`, without dropout.
    pub fn next_word(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        state: &mut State,
    ) -> Result<Tensor> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward_with(g, parameters, embedding, tokens, state, &EncoderDropout::Off)?;
        let bias = self.bias.map(|id| parameters.value(id).clone());
        let (raw, embedding) = (g.detach(raw), g.detach(embedding));
        log_probabilities(g, &raw, &embedding, bias.as_ref())
    }
}
