//! The classifier: an encoder over chunks (BPT3C, docs/SPEC.md §1.7), masked concat pooling and
//! head (§1.6).

use std::sync::Arc;

use super::{BatchLoss, LossSettings, sum_losses};
use crate::autodiff::{Graph, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::nn::chunks::{Encoded, Walk};
use crate::nn::documents::{Cap, DocumentBatch, Layout};
use crate::nn::encoder::{Encoder, EncoderSettings};
use crate::nn::head::{
    Answers, Features, Head, Known, LabelLoss, NextWord, Pooled, PooledClasses, Targets, TokenLabels,
};
use crate::nn::noise::Noise;
use crate::nn::sites;
use crate::ops::batch_norm::Mode;
use crate::ops::concat_pool::Masking;
use crate::ops::gather::{Taken, gather};
use crate::ops::locked_dropout::locked_dropout;
use crate::random::Key;
use crate::tensor::{DType, Tensor};

/// A classifier's sizes and switches.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSettings {
    pub encoder: EncoderSettings,
    /// Sizes of the head's inner layers (50).
    pub head: Vec<usize>,
    pub classes: usize,
    /// Whether the head's linear layers have a bias: yes in 0.7 and v1, no in v2 (docs/SPEC.md
    /// §1.6).
    pub linear_bias: bool,
    /// Initial bias of the batch norms: 0, or 1e-3 in v2.
    pub norm_bias: f64,
    /// Layout and pooling: 0.7 and v1 pad in front, v2 (here) at the end.
    pub masking: Masking,
    /// Steps of a chunk (70; v2: 72).
    pub bptt: usize,
    /// Steps that are pooled at most: the last ones (20 · bptt). The last chunk is pooled whatever
    /// its length.
    pub max_steps: usize,
    /// Whether a chunk is kept only if it starts strictly after `length − max_steps` (0.7, v1) or
    /// also at it (v2).
    pub strict_cap: bool,
    /// The kind of answer for a document.
    #[serde(default, skip_serializing_if = "Answers::is_class")]
    pub answers: Answers,
    /// Whether a document is two texts, each encoded by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pair: bool,
    /// A language model's decoder on the same encoder, which learns beside the head; whether it has
    /// a bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<bool>,
}

impl ClassifierSettings {
    /// Refuses sizes that no classifier can have.
    ///
    /// # Errors
    /// [`Error::Usage`]: a size of zero or beyond what can be counted, fewer than two classes, a
    /// cap of zero, several numbers.
    pub fn check(&self) -> Result<()> {
        self.encoder.check()?;
        let size = 1..=1usize << 24;
        let fits = match self.answers {
            Answers::Class => self.classes >= 2,
            Answers::Labels => self.classes >= 1,
            Answers::Number => self.classes == 1,
            // every word counts: nothing is pooled, and padding stands where no word is
            Answers::Tags { .. } => {
                self.classes >= 2 && self.masking == Masking::Version2 && !self.pair && self.auxiliary.is_none()
            }
        } && size.contains(&self.classes)
            && size.contains(&self.bptt)
            && self.max_steps >= 1
            && self.head.len() <= 16
            && self.head.iter().all(|n| size.contains(n))
            && self.norm_bias.is_finite();
        if fits {
            return Ok(());
        }
        Err(Error::usage(format!(
            "a classifier needs two classes or more (or a label, or a number), a bptt of one or more, a cap of one or more, and at most 16 inner layers, none \
             larger than {}: {} classes, bptt {}, cap {}, {} inner layers",
            size.end(),
            self.classes,
            self.bptt,
            self.max_steps,
            self.head.len()
        )))
    }

    fn cap(&self) -> Cap {
        if self.answers.is_of_words() {
            // a word may stand anywhere
            return Cap { bptt: self.bptt, max_steps: usize::MAX, strict: false, masking: self.masking };
        }
        Cap { bptt: self.bptt, max_steps: self.max_steps, strict: self.strict_cap, masking: self.masking }
    }
}

/// The outputs of a classifier for a batch.
#[derive(Clone, Debug)]
pub struct Classified {
    /// `[B, C]`; where words are labelled `[N, C]`, the words of the batch's first document first.
    pub logits: Var,
    /// The kept chunks of the encoder's output, in the order of time; where nothing is recorded,
    /// they may be parts of chunks.
    pub chunks: Vec<Var>,
    /// Position in the batch of every row of logits and pooled vectors (and, but for pairs, of
    /// chunks): padded at the end, rows are sorted by length. Where words are labelled, the
    /// documents in their order.
    pub rows: Vec<u32>,
    /// `[B, 3E]`; where words are labelled their vectors, `[N, E]` or `[N, 2E]`.
    pub pooled: Var,
    /// Inputs of the head's ReLUs, `[B, n]` each.
    pub hidden: Vec<Var>,
}

/// Parameters of a classifier. Layer groups: embedding, one per layer of the encoder, head
/// (docs/SPEC.md §4.2).
#[derive(Clone, Debug)]
pub struct Classifier {
    pub settings: ClassifierSettings,
    pub encoder: Arc<dyn Encoder>,
    /// Reads backward, beside the other.
    pub second: Option<Arc<dyn Encoder>>,
    pub(super) head: OfHead,
    auxiliary: Option<NextWord>,
}

/// The head on the encoder.
#[derive(Clone, Debug)]
pub(super) enum OfHead {
    Documents(PooledClasses),
    Words(TokenLabels),
}

impl OfHead {
    fn as_head(&self) -> &dyn Head {
        match self {
            OfHead::Documents(head) => head,
            OfHead::Words(head) => head,
        }
    }
}

/// Stands before the names of a second encoder's parameters.
pub const SECOND: &str = "backward.";

/// The losses that a classifier minimises.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierLosses {
    /// AR and TAR.
    pub penalties: LossSettings,
    /// How wrong answers count.
    pub counts: LabelLoss,
    /// Weight of the second head's loss, a language model's; 0: none.
    pub auxiliary: f64,
}

/// The true answers of the documents of a batch, in the batch's order.
#[derive(Clone, Copy, Debug)]
pub enum Truth<'a> {
    /// The class of every document, or of every word of them.
    Classes(&'a [u32]),
    /// For every document 0 or 1 for each label, or the number that is to be estimated; document by
    /// document.
    Numbers(&'a [f64]),
}

impl Classifier {
    /// Declares and allocates the parameters (zeros; see [`initialise`](Self::initialise)).
    ///
    /// # Errors
    /// As [`declare`](Self::declare), or no memory left.
    pub fn new(settings: ClassifierSettings, dtype: DType) -> Result<(Self, Parameters)> {
        let (model, declared) = Self::declare(settings)?;
        Ok((model, declared.build(dtype)?))
    }

    /// Declares the parameters without taking memory for them.
    ///
    /// # Errors
    /// As [`ClassifierSettings::check`].
    pub fn declare(settings: ClassifierSettings) -> Result<(Self, ParametersBuilder)> {
        settings.check()?;
        let mut builder = Parameters::builder();
        let first = builder.group("embedding");
        let layers: Vec<_> = settings.encoder.layer_names().into_iter().map(|name| builder.group(name)).collect();
        let last = builder.group("head");
        let encoder = settings.encoder.declare(&mut builder, first, &layers);
        let mut sizes = vec![if settings.pair { 12 } else { 3 } * settings.encoder.width()];
        sizes.extend(&settings.head);
        sizes.push(settings.classes);
        let ClassifierSettings { answers, masking, linear_bias, norm_bias, .. } = settings;
        let (mut second, width) = (None, settings.encoder.width());
        let head = match answers {
            Answers::Tags { both } => {
                let declare = |builder: &mut ParametersBuilder| settings.encoder.declare(builder, first, &layers);
                second = both.then(|| builder.within(SECOND, declare));
                let width = if both { 2 * width } else { width };
                OfHead::Words(TokenLabels::declare(&mut builder, last, width, settings.classes))
            }
            _ => {
                let builder = &mut builder;
                let head = PooledClasses::declare(builder, last, answers, &sizes, masking, linear_bias, norm_bias);
                OfHead::Documents(head)
            }
        };
        let auxiliary = settings.auxiliary.map(|bias| {
            let shape = [settings.encoder.vocabulary(), settings.encoder.width()];
            NextWord::declare(&mut builder, last, encoder.embedding(), shape, bias, &[])
        });
        Ok((Classifier { settings, encoder, second, head, auxiliary }, builder))
    }

    /// Start values of encoder and head.
    ///
    /// # Errors
    /// As [`Encoder::initialise`].
    pub fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        self.encoder.initialise(parameters, key)?;
        self.second.iter().try_for_each(|second| second.initialise(parameters, key))?;
        self.head.as_head().initialise(parameters, key)?;
        self.auxiliary.iter().try_for_each(|decoder| decoder.initialise(parameters, key))
    }

    /// Loss of a training batch. `truth`: of every document, in the batch's order; of a pair, once;
    /// of every word, where those are labelled. Otherwise as [`forward`](Self::forward), with one
    /// noise for encoder and heads.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); a label that is no class; a second head that is not there.
    #[allow(clippy::too_many_arguments)]
    pub fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        truth: Truth,
        norm: Mode,
        noise: &Noise,
        losses: &ClassifierLosses,
    ) -> Result<BatchLoss> {
        let ClassifierLosses { penalties, counts, auxiliary } = losses;
        if let OfHead::Words(head) = &self.head {
            return self.loss_of_words(head, g, parameters, batch, truth, noise, losses);
        }
        let head_of = self.head.as_head();
        let layout = self.layout(batch);
        let encoded = self.encode(g, parameters, batch, &layout, noise)?;
        let pairs = self.pairs(&encoded);
        let features = self.features(g, parameters, &encoded, pairs.as_ref(), norm);
        // pairs are put back into the batch's order, single documents stand in that of the rows
        let order: Vec<u32> = match &pairs {
            Some([first, _]) => (0..first.len() as u32).collect(),
            None => encoded.rows.clone(),
        };
        let negatives = None;
        let head = match truth {
            Truth::Classes(classes) => {
                let classes: Vec<u32> = order.iter().map(|&row| classes[row as usize]).collect();
                let classes = Tensor::from_slice([classes.len()], &classes)?;
                let targets = Targets { known: Known::Indices(&classes), negatives, counts };
                head_of.loss(g, parameters, &features, &targets, noise)?
            }
            Truth::Numbers(all) => {
                let c = self.settings.classes;
                let of = |&row: &u32| all[row as usize * c..][..c].iter().copied();
                let numbers: Vec<f64> = order.iter().flat_map(of).collect();
                let targets = Targets { known: Known::Numbers(&numbers), negatives, counts };
                head_of.loss(g, parameters, &features, &targets, noise)?
            }
        };
        let auxiliary = match *auxiliary {
            0.0 => None,
            weight => self.next_words(g, parameters, batch, &layout, &encoded, noise)?.map(|loss| (loss, weight)),
        };
        sum_losses(head_of.part(), g, &features, head, auxiliary, penalties)
    }

    /// Mean cross-entropy of the words of a batch after those before them, as the second head sees
    /// it: over the recorded steps, after its dropout. `None` where no document has two words.
    #[allow(clippy::too_many_arguments)]
    fn next_words(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        layout: &Layout,
        encoded: &Encoded,
        noise: &Noise,
    ) -> Result<Option<Var>> {
        let Some(decoder) = &self.auxiliary else {
            return Err(Error::shape("classifier", "auxiliary", "0: there is no second head", "a weight"));
        };
        let _part = crate::trace::within(decoder.part());
        let mask = noise.mask(sites::OUTPUT, noise.rates().output)?;
        let (mut words, mut lists, mut from) = (Vec::new(), Vec::new(), encoded.start);
        for &chunk in &encoded.chunks {
            let [steps, rows, _] = *g.shape(chunk).dims() else { continue };
            let first = words.len() as u32;
            let taken = layout.next_words(batch, from..from + steps, rows, &mut words);
            let places: Vec<u32> = (first..words.len() as u32).collect();
            if !taken.is_empty() {
                lists.push((locked_dropout(g, chunk, &mask)?, taken, places));
            }
            from += steps;
        }
        if words.is_empty() {
            return Ok(None);
        }
        let taken: Vec<Taken> = lists.iter().map(|(from, rows, places)| Taken { from: *from, rows, places }).collect();
        let hidden = gather(g, &taken, words.len(), 1)?;
        let words = Tensor::from_slice([words.len()], &words)?;
        let embedding = g.parameter(parameters, self.encoder.embedding());
        g.expect_any_weight(embedding);
        decoder.cross_entropy(g, parameters, hidden, embedding, &words, None).map(Some)
    }

    pub(super) fn layout(&self, batch: &DocumentBatch) -> Layout {
        Layout::new(&self.settings.cap(), self.settings.encoder.pad().unwrap_or(0), batch)
    }

    fn encode(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        layout: &Layout,
        noise: &Noise,
    ) -> Result<Encoded> {
        Walk { encoder: &*self.encoder, parameters, batch, layout, noise }.run(g)
    }

    /// Where documents are pairs: the rows of the first and of the second text of each. A batch
    /// holds all first texts, then all second.
    fn pairs(&self, encoded: &Encoded) -> Option<[Vec<u32>; 2]> {
        self.settings.pair.then(|| {
            let mut row_of = vec![0; encoded.rows.len()];
            encoded.rows.iter().enumerate().for_each(|(row, &document)| row_of[document as usize] = row as u32);
            let second = row_of.split_off(encoded.rows.len() / 2);
            [row_of, second]
        })
    }

    fn features<'a>(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        encoded: &'a Encoded,
        pairs: Option<&'a [Vec<u32>; 2]>,
        norm: Mode,
    ) -> Features<'a> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let pairs = pairs.map(|[first, second]| [&first[..], &second[..]]);
        let (chunks, start, lengths, readings) = (&*encoded.chunks, encoded.start, &*encoded.lengths, &[][..]);
        Features { embedding, chunks, start, first: start, lengths, norm, pairs, readings }
    }

    /// Runs a batch of documents to logits.
    ///
    /// The state starts at zero for every document, is detached after every chunk, and the last
    /// `max_steps` steps are pooled. While nothing is recorded, memory does not grow with the
    /// documents' lengths beyond the pooled steps; chunks that are not pooled are never recorded
    /// (their gradient is zero; docs/SPEC.md §1.7).
    ///
    /// * `norm`: [`Mode::Train`] for training, [`Mode::Frozen`] where the head is frozen,
    ///   [`Mode::Eval`] otherwise
    /// * `noise`: the encoder's dropouts; `head`: those of the head's blocks
    ///
    /// # Errors
    /// No memory left, tokens outside of the vocabulary.
    pub fn forward(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        norm: Mode,
        noise: &Noise,
        head: &Noise,
    ) -> Result<Classified> {
        let of_documents = match &self.head {
            OfHead::Words(words) => return self.forward_of_words(words, g, parameters, batch, noise),
            OfHead::Documents(head) => head,
        };
        let encoded = self.encode(g, parameters, batch, &self.layout(batch), noise)?;
        let pairs = self.pairs(&encoded);
        let features = self.features(g, parameters, &encoded, pairs.as_ref(), norm);
        let Pooled { logits, pooled, hidden } = of_documents.logits(g, parameters, &features, head)?;
        let rows = match pairs {
            Some([first, _]) => (0..first.len() as u32).collect(),
            None => encoded.rows,
        };
        Ok(Classified { logits, chunks: encoded.chunks, rows, pooled, hidden })
    }
}
