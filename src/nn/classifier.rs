//! The pooling classifier: encoder over chunks (BPT3C, docs/SPEC.md §1.7), masked concat pooling and head (§1.6).

use std::ops::Range;

use super::encoder::{DropRates, Encoder, EncoderDropout, EncoderSettings, GivenMasks, State};
use super::initial;
use crate::autodiff::{Graph, ParameterId, Parameters, ParametersBuilder, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::batch_norm::{Mode, batch_norm};
pub use crate::ops::concat_pool::Masking;
use crate::ops::concat_pool::concat_pool;
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::mask::Dropout;
use crate::ops::relu::relu;
use crate::random::{Key, Mask, Site};
use crate::tensor::{DType, Tensor};
use crate::trace;

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
    pub masking: MaskingName,
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
}

/// [`Masking`] under its name in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MaskingName {
    #[serde(rename = "0.7")]
    Version07,
    #[serde(rename = "v1")]
    Version1,
    #[serde(rename = "v2")]
    Version2,
}

impl From<MaskingName> for Masking {
    fn from(name: MaskingName) -> Self {
        match name {
            MaskingName::Version07 => Masking::Version07,
            MaskingName::Version1 => Masking::Version1,
            MaskingName::Version2 => Masking::Version2,
        }
    }
}

/// One block of the head: batch norm → dropout → linear, ReLU after all but the last.
#[derive(Clone, Copy, Debug)]
struct Block {
    weight: ParameterId,
    bias: ParameterId,
    mean: ParameterId,
    variance: ParameterId,
    linear: ParameterId,
    linear_bias: Option<ParameterId>,
}

/// Dropouts of the head's blocks.
#[derive(Clone, Copy, Debug)]
pub enum HeadDropout<'a> {
    Off,
    /// One probability for each block (the last repeats).
    Random {
        key: Key,
        step: u32,
        rates: &'a [f64],
    },
    /// One mask `[B, n_in]` for each block.
    Given(&'a [Tensor]),
}

impl HeadDropout<'_> {
    fn block(&self, k: usize) -> Dropout {
        match self {
            HeadDropout::Off => Dropout::Off,
            HeadDropout::Random { key, step, rates } => {
                let p = rates.get(k).or(rates.last()).copied().unwrap_or(0.0);
                Dropout::random(Mask::new(*key, *step, Site::Head(k as u8), 0, p))
            }
            HeadDropout::Given(masks) => Dropout::Given(masks[k].clone()),
        }
    }
}

/// The encoder's dropouts over the chunks of a batch.
#[derive(Clone, Copy, Debug)]
pub enum ChunkDropout<'a> {
    Off,
    /// Masks of chunk `c` come from the counters of (key, step, c).
    Random {
        key: Key,
        step: u32,
        rates: DropRates,
    },
    /// The same masks in every chunk.
    Given(&'a GivenMasks),
}

impl<'a> ChunkDropout<'a> {
    fn chunk(&self, chunk: usize) -> EncoderDropout<'a> {
        match *self {
            ChunkDropout::Off => EncoderDropout::Off,
            ChunkDropout::Random { key, step, rates } => {
                EncoderDropout::Random { key, step, chunk: chunk as u32, rates }
            }
            ChunkDropout::Given(masks) => EncoderDropout::Given(masks),
        }
    }
}

/// Documents of one batch, in the order of the batch's rows.
#[derive(Clone, Debug, Default)]
pub struct DocumentBatch<'a> {
    documents: Vec<&'a [u32]>,
    /// Steps of a chunk, where they are not the settings' bptt.
    chunk: Option<usize>,
}

impl<'a> DocumentBatch<'a> {
    /// No document may be empty (a reader gives every document its xxbos).
    pub fn new(documents: Vec<&'a [u32]>) -> Result<Self> {
        if documents.is_empty() || documents.iter().any(|d| d.is_empty()) {
            return Err(Error::data("a batch of documents is empty, or one of its documents is"));
        }
        Ok(DocumentBatch { documents, chunk: None })
    }

    /// The same documents in chunks of another length than bptt (variable-length back-propagation; docs/SPEC.md §1.7).
    ///
    /// # Panics
    /// If `steps` is 0.
    #[must_use]
    pub fn in_chunks_of(self, steps: usize) -> Self {
        assert!(steps > 0, "a chunk has at least one step");
        DocumentBatch { chunk: Some(steps), ..self }
    }

    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.documents.iter().map(|d| d.len() as u64).sum()
    }

    /// Length of the longest document.
    pub fn longest(&self) -> usize {
        self.documents.iter().map(|d| d.len()).max().unwrap_or(0)
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

/// What the pooled chunks of a batch begin with.
#[derive(Debug)]
pub enum Borders<'a> {
    /// The state that the chunk before has left, detached.
    Carried,
    /// The same, and every chunk's is kept.
    Recorded(&'a mut Vec<State>),
    /// Given states, one for each pooled chunk: what is before a border has no influence on what is after it, as in the gradients.
    Fixed(&'a [State]),
}

/// Parameters of a classifier. Layer groups: embedding, one per LSTM layer, head (docs/SPEC.md §4.2).
#[derive(Clone, Debug)]
pub struct Classifier {
    pub settings: ClassifierSettings,
    pub encoder: Encoder,
    blocks: Vec<Block>,
}

impl Classifier {
    /// Declares and allocates the parameters (zeros; see [`initialise`](Self::initialise)).
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
        let encoder = Encoder::declare(&mut builder, settings.encoder, 0, |l| l + 1);
        let group = settings.encoder.layers + 1;
        let mut sizes = vec![3 * settings.encoder.embedding];
        sizes.extend(&settings.head);
        sizes.push(settings.classes);
        let blocks = sizes
            .windows(2)
            .enumerate()
            .map(|(k, size)| Block {
                weight: builder.add(format!("head.{k}.norm.weight"), &[size[0]], group),
                bias: builder.add(format!("head.{k}.norm.bias"), &[size[0]], group),
                mean: builder.add_buffer(format!("head.{k}.norm.running_mean"), &[size[0]], group),
                variance: builder.add_buffer(format!("head.{k}.norm.running_var"), &[size[0]], group),
                linear: builder.add(format!("head.{k}.linear.weight"), &[size[1], size[0]], group),
                linear_bias: settings
                    .linear_bias
                    .then(|| builder.add(format!("head.{k}.linear.bias"), &[size[1]], group)),
            })
            .collect();
        Ok((Classifier { settings, encoder, blocks }, builder))
    }

    /// Names of the layer groups, in order.
    pub fn group_names(&self) -> Vec<String> {
        let layers = (1..=self.settings.encoder.layers).map(|l| format!("lstm{l}"));
        ["embedding".to_string()].into_iter().chain(layers).chain(["head".to_string()]).collect()
    }

    /// Encoder as in the language model; linear layers U(±1/√n_in) (Kaiming-uniform with a = √5); batch norms 1 and `norm_bias`.
    pub fn initialise(&self, parameters: &Parameters, key: Key) {
        self.encoder.initialise(parameters, key);
        for block in &self.blocks {
            initial::constant(parameters, block.weight, 1.0);
            initial::constant(parameters, block.bias, self.settings.norm_bias);
            initial::constant(parameters, block.mean, 0.0);
            initial::constant(parameters, block.variance, 1.0);
            let range = 1.0 / (parameters.shape(block.linear).dims()[1] as f64).sqrt();
            initial::uniform(parameters, block.linear, key, range);
            if let Some(bias) = block.linear_bias {
                initial::uniform(parameters, bias, key, range);
            }
        }
    }

    /// Runs a batch of documents to logits.
    ///
    /// The state starts at zero for every document, is detached after every chunk, and the last `max_steps` steps are pooled. While
    /// nothing is recorded, memory does not grow with the documents' lengths beyond the pooled steps; chunks that are not pooled are
    /// never recorded (their gradient is zero; docs/SPEC.md §1.7).
    ///
    /// `norm`: [`Mode::Train`] for training, [`Mode::Frozen`] where the head is frozen, [`Mode::Eval`] otherwise.
    pub fn forward(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        norm: Mode,
        dropout: &ChunkDropout,
        head: &HeadDropout,
    ) -> Result<Classified> {
        self.forward_over(g, parameters, batch, norm, dropout, head, &mut Borders::Carried)
    }

    /// As [`forward`](Self::forward), with a say in what crosses the chunks' borders.
    #[allow(clippy::too_many_arguments)]
    pub fn forward_over(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        norm: Mode,
        dropout: &ChunkDropout,
        head: &HeadDropout,
        borders: &mut Borders,
    ) -> Result<Classified> {
        let plan = Plan::new(&self.settings, batch);
        let dtype = parameters.dtype();
        let mut state = State::zeros_for(g, &self.settings.encoder, batch.len(), dtype)?;
        self.run_prefixes(g, parameters, batch, &plan, &mut state, dropout)?;
        let mut chunks = Vec::new();
        // on a GPU a layer's launch loads its weights once, however many steps it has
        let in_parts =
            !g.is_recording() && plan.tail && matches!(dropout, ChunkDropout::Off) && g.device() == Device::Cpu;
        for c in plan.first_chunk..plan.chunks {
            match borders {
                Borders::Carried => {}
                Borders::Recorded(states) => states.push(state.clone()),
                Borders::Fixed(states) => state = states[c - plan.first_chunk].clone(),
            }
            let (mut from, end) = (c * plan.bptt, plan.steps.min((c + 1) * plan.bptt));
            while from < end {
                let rows = plan.rows_at(from);
                let steps = if in_parts { plan.part(from..end) } else { end - from };
                let tokens = g.indices([steps, rows])?;
                plan.fill(batch, from, &mut tokens.write::<u32>(), rows, self.pad());
                let mark = g.mark();
                let mut y =
                    self.encoder.forward(g, parameters, &tokens, &mut state, &dropout.chunk(plan.prefix_chunks + c))?;
                if !g.is_recording() {
                    let kept = g.detach(y);
                    g.forget_since(mark);
                    y = g.constant(kept);
                }
                chunks.push(y);
                from += steps;
            }
        }
        let (mut lengths, mut first) = (Vec::new(), Vec::new());
        for row in &plan.rows {
            lengths.push(row.pooled as u32);
            first.push((plan.first_chunk * plan.bptt) as u32);
        }
        let lengths = g.constant(Tensor::from_slice([batch.len()], &lengths)?);
        let first = g.constant(Tensor::from_slice([batch.len()], &first)?);
        let start = plan.first_chunk * plan.bptt;
        let part = trace::within(trace::Layer::Pooling);
        let pooled = concat_pool(g, &chunks, start, lengths, first, self.settings.masking.into())?;
        drop(part);
        let (logits, hidden) = self.head(g, parameters, pooled, norm, head)?;
        let rows = plan.rows.iter().map(|r| r.document as u32).collect();
        Ok(Classified { logits, chunks, rows, pooled, hidden })
    }

    fn pad(&self) -> u32 {
        self.settings.encoder.pad.unwrap_or(0)
    }

    /// Runs what comes before the pooled steps, without recording, so that only states remain of it.
    fn run_prefixes(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        plan: &Plan,
        state: &mut State,
        dropout: &ChunkDropout,
    ) -> Result<()> {
        let recording = g.is_recording();
        g.set_recording(false);
        let result = if self.settings.masking == MaskingName::Version2 {
            self.run_long_documents(g, parameters, batch, plan, state, dropout)
        } else {
            self.run_first_chunks(g, parameters, batch, plan, state, dropout)
        };
        g.set_recording(recording);
        result
    }

    /// Padded in front: all rows run together through the chunks that are not kept.
    fn run_first_chunks(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        plan: &Plan,
        state: &mut State,
        dropout: &ChunkDropout,
    ) -> Result<()> {
        for c in 0..plan.first_chunk {
            let mark = g.mark();
            let tokens = g.indices([plan.bptt, batch.len()])?;
            plan.fill(batch, c * plan.bptt, &mut tokens.write::<u32>(), batch.len(), self.pad());
            self.encoder.forward(g, parameters, &tokens, state, &dropout.chunk(c))?;
            g.forget_since(mark);
        }
        Ok(())
    }

    /// Padded at the end: documents longer than the cap run up to their first pooled step, the longest prefix first; their states are
    /// then those that their pooled part begins with.
    fn run_long_documents(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        plan: &Plan,
        state: &mut State,
        dropout: &ChunkDropout,
    ) -> Result<()> {
        let mut long: Vec<usize> = (0..plan.rows.len()).filter(|&r| plan.rows[r].prefix > 0).collect();
        if long.is_empty() {
            return Ok(());
        }
        long.sort_by_key(|&r| (std::cmp::Reverse(plan.rows[r].prefix), r));
        let mut carried = State::zeros_for(g, &self.settings.encoder, long.len(), parameters.dtype())?;
        for c in 0..plan.prefix_chunks {
            let from = c * plan.bptt;
            let active = long.iter().take_while(|&&r| plan.rows[r].prefix > from).count();
            let mark = g.mark();
            let tokens = g.indices([plan.bptt, active])?;
            {
                let mut tokens = tokens.write::<u32>();
                for (column, &row) in long[..active].iter().enumerate() {
                    let document = batch.documents[plan.rows[row].document];
                    for t in 0..plan.bptt {
                        tokens[t * active + column] = document[from + t];
                    }
                }
            }
            self.encoder.forward(g, parameters, &tokens, &mut carried, &dropout.chunk(c))?;
            g.forget_since(mark);
            for (column, &row) in long[..active].iter().enumerate() {
                if plan.rows[row].prefix == from + plan.bptt {
                    for (to, of) in state.h.iter().zip(&carried.h).chain(state.c.iter().zip(&carried.c)) {
                        to.copy_row(row, of, column);
                    }
                }
            }
        }
        Ok(())
    }

    fn head(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        pooled: Var,
        norm: Mode,
        dropouts: &HeadDropout,
    ) -> Result<(Var, Vec<Var>)> {
        let (mut x, mut hidden) = (pooled, Vec::with_capacity(self.blocks.len()));
        for (k, block) in self.blocks.iter().enumerate() {
            let _part = trace::within(trace::Layer::Head(k as u8 + 1));
            if k > 0 {
                hidden.push(x);
                x = relu(g, x)?;
            }
            let (weight, bias) = (g.parameter(parameters, block.weight), g.parameter(parameters, block.bias));
            let (mean, variance) = (parameters.value(block.mean), parameters.value(block.variance));
            x = batch_norm(g, x, weight, bias, mean, variance, norm)?;
            x = dropout(g, x, &dropouts.block(k))?;
            let w = g.parameter(parameters, block.linear);
            let b = block.linear_bias.map(|b| g.parameter(parameters, b));
            x = linear(g, x, w, b)?;
        }
        Ok((x, hidden))
    }
}

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Position in the batch.
    document: usize,
    /// Tokens that run before the pooled part (padded at the end only).
    prefix: usize,
    /// Tokens of the pooled part (padded at the end), or of the whole document (padded in front).
    pooled: usize,
}

/// How a batch is laid out over steps, chunks and rows.
#[derive(Debug)]
struct Plan {
    bptt: usize,
    /// Padded at the end: by pooled length, descending; a chunk holds the rows that reach it. Padded in front: the batch's order.
    rows: Vec<Row>,
    tail: bool,
    /// Steps of the main pass.
    steps: usize,
    chunks: usize,
    /// First chunk that is kept for pooling (0 when padded at the end).
    first_chunk: usize,
    /// Chunks of the longest prefix (0 when padded in front).
    prefix_chunks: usize,
}

impl Plan {
    fn new(settings: &ClassifierSettings, batch: &DocumentBatch) -> Self {
        let (bptt, cap) = (batch.chunk.unwrap_or(settings.bptt), settings.max_steps);
        // first chunk start i with length - i ≤ cap (< cap where strict), the last chunk at the latest
        let first_kept = |length: usize| {
            let cap = if settings.strict_cap { cap - 1 } else { cap };
            length.saturating_sub(cap).div_ceil(bptt).min(length.saturating_sub(1) / bptt)
        };
        let tail = settings.masking == MaskingName::Version2;
        let mut rows: Vec<Row> = batch
            .documents
            .iter()
            .enumerate()
            .map(|(document, d)| {
                let prefix = if tail { first_kept(d.len()) * bptt } else { 0 };
                Row { document, prefix, pooled: d.len() - prefix }
            })
            .collect();
        if tail {
            rows.sort_by_key(|r| (std::cmp::Reverse(r.pooled), r.document));
        }
        let steps = rows.iter().map(|r| r.pooled).max().unwrap_or(0);
        let first_chunk = if tail { 0 } else { first_kept(steps) };
        let prefix_chunks = rows.iter().map(|r| r.prefix / bptt).max().unwrap_or(0);
        Plan { bptt, rows, tail, steps, chunks: steps.div_ceil(bptt), first_chunk, prefix_chunks }
    }

    /// Rows of a chunk that starts at `from`.
    fn rows_at(&self, from: usize) -> usize {
        if self.tail { self.rows.partition_point(|r| r.pooled > from) } else { self.rows.len() }
    }

    /// Steps that are run together, the first ones of those left of a chunk: all where no row ends before, else a few, so that a row that ends
    /// is not run on to the end of the chunk.
    fn part(&self, left: Range<usize>) -> usize {
        /// Steps times rows of a product that is large enough to be fast.
        const ENOUGH: usize = 256;
        let rows = self.rows_at(left.start);
        if rows == self.rows_at(left.end - 1) { left.len() } else { (ENOUGH / rows).max(8).min(left.len()) }
    }

    /// Token ids of a chunk, time-major `[T, rows]`.
    fn fill(&self, batch: &DocumentBatch, from: usize, tokens: &mut [u32], rows: usize, pad: u32) {
        for (t, step) in tokens.chunks_exact_mut(rows).enumerate() {
            for (token, row) in step.iter_mut().zip(&self.rows) {
                let document = batch.documents[row.document];
                let at = if self.tail {
                    Some(row.prefix + from + t)
                } else {
                    (from + t).checked_sub(self.steps - document.len())
                };
                *token = at.and_then(|at| document.get(at).copied()).unwrap_or(pad);
            }
        }
    }
}
