//! The language model: encoder, locked output dropout, tied decoder, and the losses of docs/SPEC.md §1.3.

use super::encoder::{Encoder, EncoderDropout, EncoderSettings, State};
use super::initial;
use crate::autodiff::{Graph, ParameterId, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::adaptive_softmax::{self, AdaptiveDecoder, adaptive_softmax};
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::sampled_softmax::sampled_softmax;
use crate::ops::tied_softmax::{self, TiedLoss, log_probabilities, tied_softmax};
use crate::ops::weighted_sum::weighted_sum;
use crate::random::Key;
use crate::tensor::{DType, Tensor};
use crate::trace;

/// Names of the adaptive softmax's own parameters.
pub(super) const TAIL_WEIGHT: &str = "decoder.tail.weight";
pub(super) const TAIL_BIAS: &str = "decoder.tail.bias";
/// Rows of an adaptive softmax whose log-probabilities over all words exist at a time.
const EVALUATED_ROWS: usize = 64;

/// A language model's sizes and switches.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelSettings {
    pub encoder: EncoderSettings,
    /// Bias of the decoder: none in 0.7, one in v1, v2 and the AWD code (docs/SPEC.md §1.1).
    pub decoder_bias: bool,
    /// Where an adaptive softmax cuts the vocabulary, ascending: the ends of all parts but the last (docs/SPEC.md §1.4); empty for the full
    /// softmax.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<usize>,
}

/// How the cross-entropy of training is computed; evaluation is always over the full vocabulary.
#[derive(Clone, Debug, Default)]
pub enum Softmax {
    /// The model's own: full, or adaptive where it has splits.
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

/// What an evaluated window leaves: loss and hit of every prediction.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// −log p of the next word, in nats, `[T·B]`.
    pub row_losses: Tensor,
    /// Whether the likeliest word (the first of equals) is the next word, u32 `[T·B]`.
    pub correct: Tensor,
}

impl Evaluated {
    /// Sum of the losses, in nats, and number of hits. On a GPU they are summed there; two numbers are copied.
    pub fn totals(&self, g: &mut Graph) -> Result<(f64, u64)> {
        tied_softmax::totals(g, &self.row_losses, &self.correct)
    }
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
    /// Tombstones of the adaptive softmax, and their bias.
    tails: Option<(ParameterId, Option<ParameterId>)>,
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
    /// [`Error::Usage`] for sizes of zero or beyond what can be counted, and for splits that are not ascending
    /// within the vocabulary.
    pub fn declare(settings: LanguageModelSettings) -> Result<(Self, ParametersBuilder)> {
        settings.encoder.check()?;
        let (v, splits) = (settings.encoder.vocabulary, &settings.splits);
        if splits.first() == Some(&0) || splits.last().is_some_and(|&s| s >= v) || !splits.is_sorted_by(|a, b| a < b) {
            return Err(Error::usage(format!(
                "the splits {splits:?} of the adaptive softmax must ascend between 0 and the {v} words of the vocabulary"
            )));
        }
        let mut builder = Parameters::builder();
        let last = settings.encoder.layers;
        let encoder = Encoder::declare(&mut builder, settings.encoder, last, |l| l);
        let bias = settings.decoder_bias.then(|| builder.add("decoder.bias", &[v], last));
        let tails = (!splits.is_empty()).then(|| {
            let vectors = builder.add(TAIL_WEIGHT, &[splits.len(), settings.encoder.embedding], last);
            (vectors, settings.decoder_bias.then(|| builder.add(TAIL_BIAS, &[splits.len()], last)))
        });
        Ok((LanguageModel { settings, encoder, bias, tails }, builder))
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
        for id in self.tails.iter().flat_map(|&(vectors, bias)| std::iter::once(vectors).chain(bias)) {
            initial::constant(parameters, id, 0.0);
        }
    }

    fn decoder_bias(&self, g: &mut Graph, parameters: &Parameters) -> Option<Var> {
        self.bias.map(|id| g.parameter(parameters, id))
    }

    fn adaptive_decoder(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        weight: Var,
        bias: Option<Var>,
    ) -> Option<AdaptiveDecoder<'_, Var>> {
        let (vectors, tail_bias) = self.tails?;
        let tails = Some((g.parameter(parameters, vectors), tail_bias.map(|id| g.parameter(parameters, id))));
        Some(AdaptiveDecoder { weight, bias, tails, splits: &self.settings.splits })
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
        let _part = trace::within(trace::Layer::Decoder);
        let dropped = locked_dropout(g, raw, &dropout.output())?;
        let bias = self.decoder_bias(g, parameters);
        let cross_entropy = match softmax {
            Softmax::Full => match self.adaptive_decoder(g, parameters, embedding, bias) {
                None => tied_softmax(g, dropped, embedding, bias, targets)?.loss,
                Some(decoder) => adaptive_softmax(g, dropped, decoder, targets)?.loss,
            },
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
    ) -> Result<Evaluated> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let raw = self.encoder.forward_with(g, parameters, embedding, tokens, state, &EncoderDropout::Off)?;
        if self.tails.is_some() {
            let raw = g.detach(raw);
            return self.evaluate_adaptive(g, parameters, &raw, targets);
        }
        let bias = self.decoder_bias(g, parameters);
        let TiedLoss { row_losses, correct, .. } = tied_softmax(g, raw, embedding, bias, targets)?;
        Ok(Evaluated { row_losses, correct })
    }

    /// By blocks of rows, so that the log-probabilities of a window never exist as a whole.
    fn evaluate_adaptive(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        raw: &Tensor,
        targets: &Tensor,
    ) -> Result<Evaluated> {
        let e = self.settings.encoder.embedding;
        let n = raw.len() / e;
        let row_losses = g.uninitialised([n], raw.dtype())?;
        let correct = g.uninitialised([n], DType::U32)?;
        for from in (0..n).step_by(EVALUATED_ROWS) {
            let rows = EVALUATED_ROWS.min(n - from);
            let hidden = g.uninitialised([rows, e], row_losses.dtype())?;
            hidden.copy_elements(0, raw, from * e, rows * e);
            let all = self.log_probabilities(g, parameters, &hidden)?;
            adaptive_softmax::row_results(g, &all, targets, from, &row_losses, &correct)?;
        }
        Ok(Evaluated { row_losses, correct })
    }

    /// Log-probabilities of all words, `[N, V]`, after the rows `[N, E]` of the decoder's input.
    fn log_probabilities(&self, g: &mut Graph, parameters: &Parameters, hidden: &Tensor) -> Result<Tensor> {
        let value = |id| parameters.value(id).clone();
        let (weight, bias) = (value(self.encoder.embedding()), self.bias.map(value));
        match self.tails {
            None => log_probabilities(g, hidden, &weight, bias.as_ref()),
            Some((vectors, tail_bias)) => {
                let tails = Some((value(vectors), tail_bias.map(value)));
                let decoder = AdaptiveDecoder { weight, bias, tails, splits: &self.settings.splits };
                adaptive_softmax::log_probabilities(g, hidden, &decoder)
            }
        }
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
        let raw = g.detach(raw);
        let hidden = raw.reshape([raw.len() / self.settings.encoder.embedding, self.settings.encoder.embedding])?;
        self.log_probabilities(g, parameters, &hidden)
    }
}
