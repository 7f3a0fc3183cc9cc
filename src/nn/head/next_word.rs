//! The next word after every token: locked dropout, then a decoder that is tied to the embedding
//! (docs/SPEC.md §1.3, §1.4).

use super::super::noise::Noise;
use super::super::{initial, sites};
use super::{Features, Head, HeadLoss, Known, LabelLoss, Targets};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Role, Var};
use crate::error::{Error, Result};
use crate::ops::adaptive_softmax::{self, AdaptiveDecoder, adaptive_softmax};
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::sampled_softmax::sampled_softmax;
use crate::ops::tied_softmax::{self, TiedLoss, log_probabilities, tied_softmax};
use crate::random::Key;
use crate::tensor::{DType, Tensor};
use crate::trace;

/// Rows of an adaptive softmax whose log-probabilities over all words exist at a time.
const EVALUATED_ROWS: usize = 64;

/// The results of an evaluated window: loss and hit of every prediction.
#[derive(Clone, Debug)]
pub struct WordResults {
    /// −log p of the next word, in nats, `[T·B]`.
    pub row_losses: Tensor,
    /// Whether the likeliest word (the first of equals) is the next word, u32 `[T·B]`.
    pub correct: Tensor,
}

impl WordResults {
    /// Sum of the losses, in nats, and number of hits. On a GPU they are summed there; two numbers
    /// are copied.
    ///
    /// # Errors
    /// No memory left.
    pub fn totals(&self, g: &mut Graph) -> Result<(f64, u64)> {
        tied_softmax::totals(g, &self.row_losses, &self.correct)
    }
}

/// Parameters of the decoder, besides the embedding matrix that it is tied to.
#[derive(Clone, Debug)]
pub struct NextWord {
    /// E
    width: usize,
    embedding: ParameterId,
    bias: Option<ParameterId>,
    /// Tombstones of the adaptive softmax, and their bias.
    tails: Option<(ParameterId, Option<ParameterId>)>,
    splits: Vec<usize>,
    /// Where its time is counted, with the dropout before it and the loss.
    part: trace::Layer,
}

impl NextWord {
    /// Declares the parameters. `embedding`: the matrix `[V, E]` (`shape`) that the decoder is tied
    /// to; `splits`: where an adaptive softmax cuts the vocabulary, empty for the full one.
    pub fn declare(
        builder: &mut ParametersBuilder,
        group: Group,
        embedding: ParameterId,
        [vocabulary, width]: [usize; 2],
        bias: bool,
        splits: &[usize],
    ) -> Self {
        let parts = splits.len();
        let mut add = |name: &str, shape: &[usize], role| builder.declare(name, shape, group, role);
        let own = bias.then(|| add("decoder.bias", &[vocabulary], Role::VocabularyBias));
        let tails = (parts > 0).then(|| {
            let vectors = add("decoder.tail.weight", &[parts, width], Role::VocabularyParts);
            (vectors, bias.then(|| add("decoder.tail.bias", &[parts], Role::VocabularyParts)))
        });
        let part = trace::Layer::named("decoder");
        NextWord { width, embedding, bias: own, tails, splits: splits.to_vec(), part }
    }

    /// Mean cross-entropy of the words that follow rows of the decoder's input, `[.., E]`, in nats.
    /// `negatives`: of a sampled softmax.
    ///
    /// # Errors
    /// No memory left, words outside of the vocabulary.
    pub fn cross_entropy(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        hidden: Var,
        embedding: Var,
        words: &Tensor,
        negatives: Option<&Tensor>,
    ) -> Result<Var> {
        let bias = self.bias.map(|id| g.parameter(parameters, id));
        Ok(match negatives {
            None => match self.adaptive_decoder(g, parameters, embedding, bias) {
                None => tied_softmax(g, hidden, embedding, bias, words)?.loss,
                Some(decoder) => adaptive_softmax(g, hidden, decoder, words)?.loss,
            },
            Some(negatives) => sampled_softmax(g, hidden, embedding, bias, words, negatives)?.loss,
        })
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
        Some(AdaptiveDecoder { weight, bias, tails, splits: &self.splits })
    }

    /// Loss and hit of every prediction of a window, over the full vocabulary and without dropout.
    ///
    /// # Errors
    /// No memory left, targets outside of the vocabulary.
    pub fn evaluate(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        embedding: Var,
        raw: Var,
        targets: &Tensor,
    ) -> Result<WordResults> {
        if self.tails.is_some() {
            let raw = g.detach(raw);
            return self.evaluate_adaptive(g, parameters, &raw, targets);
        }
        let bias = self.bias.map(|id| g.parameter(parameters, id));
        let TiedLoss { row_losses, correct, .. } = tied_softmax(g, raw, embedding, bias, targets)?;
        Ok(WordResults { row_losses, correct })
    }

    /// By blocks of rows, so that the log-probabilities of a window never exist as a whole.
    fn evaluate_adaptive(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        raw: &Tensor,
        targets: &Tensor,
    ) -> Result<WordResults> {
        let e = self.width;
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
        Ok(WordResults { row_losses, correct })
    }

    /// Log-probabilities of all words, `[N, V]`, after the rows `[N, E]` of the decoder's input.
    ///
    /// # Errors
    /// No memory left.
    pub fn log_probabilities(&self, g: &mut Graph, parameters: &Parameters, hidden: &Tensor) -> Result<Tensor> {
        let value = |id| parameters.value(id).clone();
        let (weight, bias) = (value(self.embedding), self.bias.map(value));
        match self.tails {
            None => log_probabilities(g, hidden, &weight, bias.as_ref()),
            Some((vectors, tail_bias)) => {
                let tails = Some((value(vectors), tail_bias.map(value)));
                let decoder = AdaptiveDecoder { weight, bias, tails, splits: &self.splits };
                adaptive_softmax::log_probabilities(g, hidden, &decoder)
            }
        }
    }
}

impl Head for NextWord {
    /// Zero.
    fn initialise(&self, parameters: &Parameters, _: Key) -> Result<()> {
        let tails = self.tails.iter().flat_map(|&(vectors, bias)| std::iter::once(vectors).chain(bias));
        self.bias.into_iter().chain(tails).for_each(|id| initial::constant(parameters, id, 0.0));
        Ok(())
    }

    fn part(&self) -> trace::Layer {
        self.part
    }

    /// The loss of a window, whose only chunk is `[T, B, E]`.
    fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        features: &Features,
        targets: &Targets,
        noise: &Noise,
    ) -> Result<HeadLoss> {
        let [raw] = *features.chunks else {
            let found = format!("{} chunks", features.chunks.len());
            return Err(Error::shape("next_word", "chunks", "one window", found));
        };
        let Known::Indices(words) = targets.known else {
            return Err(Error::shape("next_word", "targets", "words", "numbers"));
        };
        if *targets.counts != LabelLoss::default() {
            return Err(Error::shape(
                "next_word",
                "counts",
                "alike: words are neither weighted nor smoothed",
                "others",
            ));
        }
        let _part = trace::within(self.part);
        let dropped = locked_dropout(g, raw, &noise.mask(sites::OUTPUT, noise.rates().output)?)?;
        let loss = self.cross_entropy(g, parameters, dropped, features.embedding, words, targets.negatives)?;
        Ok(HeadLoss { loss, dropped: Some(dropped) })
    }
}
