//! The classifier: an encoder over chunks (BPT3C, docs/SPEC.md §1.7), masked concat pooling and head (§1.6).

use std::sync::Arc;

use super::{BatchLoss, LossSettings, batch_loss};
use crate::autodiff::{Graph, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::nn::chunks::{Encoded, Walk};
use crate::nn::documents::{Cap, DocumentBatch, Layout};
use crate::nn::encoder::{Encoder, EncoderSettings};
use crate::nn::head::{Features, Head, Pooled, PooledClasses, Targets};
use crate::nn::noise::Noise;
use crate::ops::batch_norm::Mode;
use crate::ops::concat_pool::Masking;
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
    /// Whether the head's linear layers have a bias: yes in 0.7 and v1, no in v2 (docs/SPEC.md §1.6).
    pub linear_bias: bool,
    /// Initial bias of the batch norms: 0, or 1e-3 in v2.
    pub norm_bias: f64,
    /// Layout and pooling: 0.7 and v1 pad in front, v2 (here) at the end.
    pub masking: Masking,
    /// Steps of a chunk (70; v2: 72).
    pub bptt: usize,
    /// Steps that are pooled at most: the last ones (20 · bptt). The last chunk is pooled whatever its length.
    pub max_steps: usize,
    /// Whether a chunk is kept only if it starts strictly after `length − max_steps` (0.7, v1) or also at it (v2).
    pub strict_cap: bool,
}

impl ClassifierSettings {
    /// Refuses sizes that no classifier can have.
    ///
    /// # Errors
    /// [`Error::Usage`]: a size of zero or beyond what can be counted, fewer than two classes, a cap of zero.
    pub fn check(&self) -> Result<()> {
        self.encoder.check()?;
        let size = 1..=1usize << 24;
        let fits = self.classes >= 2
            && size.contains(&self.classes)
            && size.contains(&self.bptt)
            && self.max_steps >= 1
            && self.head.len() <= 16
            && self.head.iter().all(|n| size.contains(n))
            && self.norm_bias.is_finite();
        if fits {
            return Ok(());
        }
        Err(Error::usage(format!(
            "a classifier needs two classes or more, a bptt of one or more, a cap of one or more, and at most 16 inner layers, none \
             larger than {}: {} classes, bptt {}, cap {}, {} inner layers",
            size.end(),
            self.classes,
            self.bptt,
            self.max_steps,
            self.head.len()
        )))
    }

    fn cap(&self) -> Cap {
        Cap { bptt: self.bptt, max_steps: self.max_steps, strict: self.strict_cap, masking: self.masking }
    }
}

/// What a classifier computes for a batch.
#[derive(Clone, Debug)]
pub struct Classified {
    /// `[B, C]`
    pub logits: Var,
    /// The kept chunks of the encoder's output, in the order of time; where nothing is recorded, they may be parts of chunks.
    pub chunks: Vec<Var>,
    /// Position in the batch of every row of logits, pooled vectors and chunks: padded at the end, rows are sorted by length.
    pub rows: Vec<u32>,
    /// `[B, 3E]`
    pub pooled: Var,
    /// Inputs of the head's ReLUs, `[B, n]` each.
    pub hidden: Vec<Var>,
}

/// Parameters of a classifier. Layer groups: embedding, one per layer of the encoder, head (docs/SPEC.md §4.2).
#[derive(Clone, Debug)]
pub struct Classifier {
    pub settings: ClassifierSettings,
    pub encoder: Arc<dyn Encoder>,
    head: PooledClasses,
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
        let mut sizes = vec![3 * settings.encoder.width()];
        sizes.extend(&settings.head);
        sizes.push(settings.classes);
        let ClassifierSettings { masking, linear_bias, norm_bias, .. } = settings;
        let head = PooledClasses::declare(&mut builder, last, &sizes, masking, linear_bias, norm_bias);
        Ok((Classifier { settings, encoder, head }, builder))
    }

    /// Start values of encoder and head.
    ///
    /// # Errors
    /// As [`Encoder::initialise`].
    pub fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        self.encoder.initialise(parameters, key)?;
        self.head.initialise(parameters, key)
    }

    /// Loss of a training batch. `labels`: the class of every document, in the batch's order. Otherwise as [`forward`](Self::forward), with
    /// one noise for encoder and head.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); a label that is no class.
    #[allow(clippy::too_many_arguments)]
    pub fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        labels: &[u32],
        norm: Mode,
        noise: &Noise,
        losses: &LossSettings,
    ) -> Result<BatchLoss> {
        let encoded = self.encode(g, parameters, batch, noise)?;
        let labels: Vec<u32> = encoded.rows.iter().map(|&row| labels[row as usize]).collect();
        let labels = Tensor::from_slice([labels.len()], &labels)?;
        let features = self.features(g, parameters, &encoded, norm);
        let targets = Targets { indices: &labels, negatives: None, smoothing: losses.label_smoothing };
        batch_loss(&self.head, g, parameters, &features, &targets, noise, losses).map(|(loss, _)| loss)
    }

    fn encode(&self, g: &mut Graph, parameters: &Parameters, batch: &DocumentBatch, noise: &Noise) -> Result<Encoded> {
        let layout = Layout::new(&self.settings.cap(), self.settings.encoder.pad().unwrap_or(0), batch);
        Walk { encoder: &*self.encoder, parameters, batch, layout, noise }.run(g)
    }

    fn features<'a>(&self, g: &mut Graph, parameters: &Parameters, encoded: &'a Encoded, norm: Mode) -> Features<'a> {
        let embedding = g.parameter(parameters, self.encoder.embedding());
        Features { embedding, chunks: &encoded.chunks, start: encoded.start, lengths: &encoded.lengths, norm }
    }

    /// Runs a batch of documents to logits.
    ///
    /// The state starts at zero for every document, is detached after every chunk, and the last `max_steps` steps are pooled. While
    /// nothing is recorded, memory does not grow with the documents' lengths beyond the pooled steps; chunks that are not pooled are
    /// never recorded (their gradient is zero; docs/SPEC.md §1.7).
    ///
    /// * `norm`: [`Mode::Train`] for training, [`Mode::Frozen`] where the head is frozen, [`Mode::Eval`] otherwise
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
        let encoded = self.encode(g, parameters, batch, noise)?;
        let features = self.features(g, parameters, &encoded, norm);
        let Pooled { logits, pooled, hidden } = self.head.logits(g, parameters, &features, head)?;
        Ok(Classified { logits, chunks: encoded.chunks, rows: encoded.rows, pooled, hidden })
    }
}
