//! Memory and arithmetic of a stage before it runs, from its recipe alone.
//!
//! Memory: the slabs of parameters and gradients, the optimiser's state, and the pool, whose content is found by running the steps
//! without numbers (`dry`). Arithmetic: the matrix products, a multiply-add counted as two; what a backward pass computes again is no
//! useful work and is not counted, nor are element-wise operations.

mod dry;

use serde::Serialize;

use self::dry::{DryGraph, DryState, LstmSizes, Var};
use super::recipe::{ClassifierSettings, LmSettings, OptimiserName, Recipe, TrainingSettings, UnfreezingStep};
use crate::autodiff::Parameters;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::nn::{DropRates, Encoder, EncoderSettings, LanguageModel, LanguageModelSettings};
use crate::random::Stage;
use crate::tensor::DType;

/// Bytes that every thread keeps for the packed operand of a matrix product.
const PACKING: usize = 4 << 20;
/// Bytes of code, stacks, vocabulary and pages of the token file: what a run takes beside its model. (Measured: 12 MiB at 3,000 words, 24 after two million tokens
/// of WikiText-2 with 29,111.)
const PROGRAM: usize = 16 << 20;

/// What cannot be read from a recipe.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Classes of the classifier.
    pub classes: usize,
    /// Tokens of every document of a classifier's batch; without it, as many as are pooled at most.
    pub length: Option<usize>,
    pub threads: usize,
    pub precision: Precision,
}

/// Memory and arithmetic of a stage; serialises to the JSON of `ulmfit plan`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub stage: &'static str,
    pub sizes: Sizes,
    pub bytes: Bytes,
    pub flop: Flop,
}

/// What was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub layers: usize,
    pub classes: Option<usize>,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Steps of a window or chunk as the recipe names it: what `flop` is of.
    pub bptt: usize,
    /// Steps of the largest window that can come: what `bytes` is of.
    pub longest_window: usize,
    /// Tokens of every document (classifier).
    pub length: Option<usize>,
    /// Trained values.
    pub parameters: usize,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Values, running statistics included.
    pub parameters: usize,
    pub gradients: usize,
    pub optimiser: usize,
    /// Copy of the best epoch's parameters (`restore_best`).
    pub best: usize,
    /// The model to start from, which is kept while the stage runs; taken to have the same vocabulary.
    pub start: usize,
    /// What the forward pass leaves for the backward pass.
    pub activations: usize,
    /// What the step takes besides: gradients of activations, scratch.
    pub workspace: usize,
    /// What the evaluation after an epoch takes besides.
    pub evaluation: usize,
    /// Packed blocks of matrix products, by thread.
    pub packing: usize,
    /// Code, stacks, vocabulary, pages of the token file: about, for no recipe tells.
    pub program: usize,
    /// The pool, which `--memory-limit` bounds: activations, workspace and evaluation.
    pub pool: usize,
    /// All of the above.
    pub total: usize,
}

/// Floating-point operations of one update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flop {
    pub forward: u64,
    pub backward: u64,
    pub per_step: u64,
    /// Of the largest window that can come.
    pub longest_window: u64,
    pub per_token: u64,
}

/// Plans a stage.
///
/// # Errors
/// A recipe without a limit of the vocabulary; sizes that no model can have; a loss that is not there.
pub fn plan(recipe: &Recipe, stage: Stage, options: &PlanOptions) -> Result<Plan> {
    let training = recipe.training(stage);
    let v = training.vocab_size.ok_or_else(|| {
        Error::usage("the recipe does not limit the vocabulary: its size is not known").hint("say --vocab-size N")
    })?;
    let v = v.next_multiple_of(recipe.text.vocab_multiple.max(1));
    let encoder = recipe.encoder(v);
    encoder.check()?;
    let planned = match stage {
        Stage::Classifier => classifier(recipe, &encoder, options),
        _ => language_model(recipe, stage, &encoder, options.precision)?,
    };
    let Planned { parameters: (values, gradients), trained, pool, flop, longest_window, length } = planned;
    let optimiser = 4 * trained * optimiser_slots(training);
    let best = if training.restore_best { values } else { 0 };
    let start =
        if stage == Stage::Pretrain { 0 } else { lm_parameters(&recipe.language_model(Stage::Pretrain, v))?.0.0 };
    let packing = options.threads * PACKING;
    let Pool { activations, workspace, evaluation } = pool;
    let pool = activations + workspace + evaluation;
    Ok(Plan {
        stage: match stage {
            Stage::Pretrain => "pretrain",
            Stage::FinetuneLm => "finetune-lm",
            _ => "train-classifier",
        },
        sizes: Sizes {
            vocabulary: v,
            embedding: encoder.embedding,
            hidden: encoder.hidden,
            layers: encoder.layers,
            classes: (stage == Stage::Classifier).then_some(options.classes),
            batch_size: training.batch_size,
            bptt: training.bptt,
            longest_window,
            length,
            parameters: trained,
        },
        bytes: Bytes {
            parameters: values,
            gradients,
            optimiser,
            best,
            start,
            activations,
            workspace,
            evaluation,
            packing,
            program: PROGRAM,
            pool,
            total: values + gradients + optimiser + best + start + pool + packing + PROGRAM,
        },
        flop,
    })
}

/// What a stage's own rules give.
struct Planned {
    /// Bytes of the slabs of values and of gradients.
    parameters: (usize, usize),
    trained: usize,
    pool: Pool,
    flop: Flop,
    longest_window: usize,
    length: Option<usize>,
}

/// Bytes of the pool.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    activations: usize,
    workspace: usize,
    evaluation: usize,
}

/// State tensors of the size of the parameters. Where averaging may take over, its state counts, too.
fn optimiser_slots(training: &TrainingSettings) -> usize {
    let momentum = usize::from(training.momentum > 0.0);
    match training.optimiser {
        OptimiserName::Adam => 2,
        OptimiserName::Sgd => momentum,
        OptimiserName::NtAsgd => momentum + 1,
        OptimiserName::Asgd => 1,
    }
}

/// Slabs of a language model, and its number of trained values.
fn lm_parameters(settings: &LanguageModelSettings) -> Result<((usize, usize), usize)> {
    let (_, builder) = LanguageModel::declare(settings.clone())?;
    let bias = usize::from(settings.decoder_bias);
    let tails = settings.splits.len() * (settings.encoder.embedding + bias);
    let values = encoder_values(&settings.encoder) + bias * settings.encoder.vocabulary + tails;
    Ok((builder.bytes(DType::F32), values))
}

fn encoder_values(encoder: &EncoderSettings) -> usize {
    let layer = |l| {
        let (input, output) = encoder.layer_sizes(l);
        4 * output * (input + output + 2)
    };
    encoder.vocabulary * encoder.embedding + (0..encoder.layers).map(layer).sum::<usize>()
}

/// The encoder as one window or chunk runs through it.
struct DryEncoder<'a> {
    sizes: &'a EncoderSettings,
    drops: DropRates,
    /// Whether each layer trains.
    layers: &'a [bool],
}

impl DryEncoder<'_> {
    /// Returns the last layer's output, `[T, B, E]`.
    fn forward(&self, g: &mut DryGraph, tokens: &dry::Held, w: Var, state: &mut DryState, t: usize, b: usize) -> Var {
        let mut x = g.embedding(tokens, w, [t, b, self.sizes.embedding]);
        for (l, state) in state.iter_mut().enumerate() {
            let (i, h) = self.sizes.layer_sizes(l);
            if l > 0 {
                x = g.dropout(x, self.drops.hidden, t, [b, i]);
            }
            x = g.lstm(x, state, self.layers[l], LstmSizes { t, b, h });
        }
        x
    }

    /// Operations of the forward and the backward pass over `rows` tokens, for an embedding that trains or not.
    fn flop(&self, rows: usize, embedding: bool) -> (u64, u64) {
        let (mut forward, mut backward) = (0, 0);
        // whether a gradient flows into the layer's input
        let mut below = embedding;
        for (l, &trains) in self.layers.iter().enumerate() {
            let (i, h) = self.sizes.layer_sizes(l);
            let [input, recurrent] = [i, h].map(|n| products(rows, 4 * h, n));
            forward += input + recurrent;
            if trains || below {
                backward += recurrent + if below { input } else { 0 } + if trains { input + recurrent } else { 0 };
            }
            below |= trains;
        }
        (forward, backward)
    }
}

/// Operations of a product of `[m, k]` and `[k, n]`.
fn products(m: usize, n: usize, k: usize) -> u64 {
    2 * m as u64 * n as u64 * k as u64
}

fn language_model(recipe: &Recipe, stage: Stage, encoder: &EncoderSettings, precision: Precision) -> Result<Planned> {
    let settings = recipe.lm(stage);
    let model = recipe.language_model(stage, encoder.vocabulary);
    let training = &settings.training;
    let variable = training.windows() != crate::text::Windows::Fixed;
    let longest = training.bptt + if variable { training.window_excess } else { 0 };
    let (parameters, trained) = lm_parameters(&model)?;
    let steps = settings.steps(encoder.layers + 1);
    // of an adaptive softmax: as if every word were of the head, for how many are is the text's affair
    let words = settings.sampled_negatives(encoder.vocabulary).map_or(encoder.vocabulary, |negatives| negatives + 1);
    let flop = |t: usize| {
        let of = |step: &UnfreezingStep| {
            let (layers, top) = step.trains.split_at(encoder.layers);
            let rows = t * training.batch_size;
            let walk = DryEncoder { sizes: encoder, drops: settings.drops(), layers };
            let (forward, backward) = walk.flop(rows, top[0]);
            let decoder = products(rows, words, encoder.embedding);
            let below = layers.iter().any(|&l| l) || top[0];
            let sides = u64::from(below) + u64::from(top[0]);
            (forward + decoder, backward + sides * decoder)
        };
        most(steps.iter().map(of))
    };
    let tokens = training.bptt * training.batch_size;
    Ok(Planned {
        parameters,
        trained,
        pool: lm_pool(settings, &model, &steps, (longest, variable), precision),
        flop: flop_of(flop(training.bptt), flop(longest), tokens),
        longest_window: longest,
        length: None,
    })
}

/// The most expensive of the steps of unfreezing.
fn most(all: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    all.max_by_key(|(forward, backward)| forward + backward).unwrap_or_default()
}

fn flop_of((forward, backward): (u64, u64), longest: (u64, u64), tokens: usize) -> Flop {
    Flop {
        forward,
        backward,
        per_step: forward + backward,
        longest_window: longest.0 + longest.1,
        per_token: (forward + backward) / tokens.max(1) as u64,
    }
}

/// Two updates of every step of unfreezing, then an evaluation, as the training loop runs them.
fn lm_pool(
    settings: &LmSettings,
    model: &LanguageModelSettings,
    steps: &[UnfreezingStep],
    (longest, variable): (usize, bool),
    precision: Precision,
) -> Pool {
    let (encoder, bias) = (&model.encoder, model.decoder_bias);
    let (b, drops) = (settings.training.batch_size, settings.drops());
    let mut g = DryGraph::new(precision);
    let mut state: DryState = vec![None; encoder.layers];
    let mut pool = Pool::default();
    for (k, step) in steps.iter().enumerate() {
        let (layers, top) = step.trains.split_at(encoder.layers);
        let walk = DryEncoder { sizes: encoder, drops, layers };
        for update in 0..2 {
            g.reset();
            let before = state.clone();
            let loss = lm_window(&mut g, &walk, settings, (model, top[0]), &mut state, longest, b);
            pool.activations = pool.activations.max(g.used_bytes());
            g.backward(loss);
            if k == 0 && update == 0 && variable {
                // the loop makes room with a window that does not count
                state = before;
            }
            g.reset();
            g.end_reserving();
        }
    }
    pool.workspace = g.pool_bytes() - pool.activations;
    g.set_recording(false);
    let walk = DryEncoder { sizes: encoder, drops: DropRates::default(), layers: &vec![false; encoder.layers] };
    let (b, t) = (settings.training.valid_batch_size, settings.training.bptt);
    let mut carried: DryState = vec![None; encoder.layers];
    for _ in 0..2 {
        g.reset();
        let (tokens, _targets) = (g.take(t * b), g.take(t * b));
        let w = g.parameter(false);
        let x = walk.forward(&mut g, &tokens, w, &mut carried, t, b);
        if model.splits.is_empty() {
            let bias = bias.then(|| g.parameter(false));
            g.tied_softmax(x, w, bias, [t * b, encoder.embedding, encoder.vocabulary]);
        } else {
            g.evaluated_adaptively([t * b, encoder.embedding, encoder.vocabulary], &model.splits);
        }
    }
    pool.evaluation = g.pool_bytes() - pool.activations - pool.workspace;
    pool
}

/// Forward pass of a training window; returns the loss.
fn lm_window(
    g: &mut DryGraph,
    walk: &DryEncoder,
    settings: &LmSettings,
    (model, top): (&LanguageModelSettings, bool),
    state: &mut DryState,
    t: usize,
    b: usize,
) -> Var {
    let (n, e, v) = (t * b, walk.sizes.embedding, walk.sizes.vocabulary);
    let (tokens, targets) = (g.take(n), g.take(n));
    let negatives = settings.sampled_negatives(v).map(|n| (n, g.take(n)));
    let w = g.parameter(top);
    let raw = walk.forward(g, &tokens, w, state, t, b);
    let dropped = g.dropout(raw, walk.drops.output, t, [b, e]);
    let bias = model.decoder_bias.then(|| g.parameter(top));
    let loss = match negatives {
        None if !model.splits.is_empty() => g.adaptive_softmax(dropped, w, bias, [n, e, v], &model.splits),
        None => g.tied_softmax(dropped, w, bias, [n, e, v]),
        Some((k, negatives)) => g.sampled_softmax(dropped, w, bias, [targets.clone(), negatives], [n, e, k]),
    };
    let training = &settings.training;
    if training.alpha == 0.0 && training.beta == 0.0 {
        return loss;
    }
    let of = if settings.ar_on_dropped { dropped } else { raw };
    let of = if training.alpha == 0.0 { &[][..] } else { &[of] };
    g.regularised(loss, &[raw], of, t)
}

/// A classifier's batch of documents of one length.
struct Documents {
    /// Rows.
    b: usize,
    /// Steps of a chunk.
    bptt: usize,
    /// Steps before the pooled ones.
    prefix: usize,
    /// Pooled steps.
    pooled: usize,
}

fn classifier(recipe: &Recipe, encoder: &EncoderSettings, options: &PlanOptions) -> Planned {
    let settings = &recipe.classifier;
    let training = &settings.training;
    let cap = settings.max_len - usize::from(settings.max_len_strict);
    let length = options.length.unwrap_or(cap);
    let mut documents = Documents { b: training.batch_size, bptt: training.bptt, prefix: 0, pooled: length };
    documents.prefix = length.saturating_sub(cap).div_ceil(training.bptt) * training.bptt;
    documents.pooled = length - documents.prefix;
    let mut sizes = vec![3 * encoder.embedding];
    sizes.extend(&settings.head_sizes);
    sizes.push(options.classes);

    let mut builder = Parameters::builder();
    Encoder::declare(&mut builder, *encoder, 0, |_| 0);
    let mut trained = encoder_values(encoder);
    for (k, size) in sizes.windows(2).enumerate() {
        for name in ["weight", "bias"] {
            builder.add(format!("{k}.norm.{name}"), &[size[0]], 0);
            builder.add_buffer(format!("{k}.norm.running {name}"), &[size[0]], 0);
        }
        builder.add(format!("{k}.linear.weight"), &[size[1], size[0]], 0);
        trained += 2 * size[0] + size[0] * size[1];
        if settings.linear_bias {
            builder.add(format!("{k}.linear.bias"), &[size[1]], 0);
            trained += size[1];
        }
    }
    let steps = settings.steps(encoder.layers + 2);
    let of = |step: &UnfreezingStep| {
        let (embedding, layers) = (step.trains[0], &step.trains[1..=encoder.layers]);
        let walk = DryEncoder { sizes: encoder, drops: settings.drops(), layers };
        let (prefix, _) = walk.flop(documents.b * documents.prefix, false);
        let (mut forward, mut backward) = walk.flop(documents.b * documents.pooled, embedding);
        let mut below = embedding || layers.iter().any(|&l| l);
        let trains = step.trains[encoder.layers + 1];
        for size in sizes.windows(2) {
            let linear = products(documents.b, size[1], size[0]);
            // behind the first block's batch norm a gradient flows also if nothing below trains
            forward += linear;
            backward += linear * (u64::from(trains) + u64::from(below || trains));
            below |= trains;
        }
        (forward + prefix, backward)
    };
    let flop = most(steps.iter().map(of));
    Planned {
        parameters: builder.bytes(DType::F32),
        trained,
        pool: classifier_pool(settings, encoder, &sizes, &steps, &documents, options.precision),
        flop: flop_of(flop, flop, length * documents.b),
        longest_window: training.bptt.min(length),
        length: Some(length),
    }
}

/// Two updates of every step of unfreezing, then an evaluation.
fn classifier_pool(
    settings: &ClassifierSettings,
    encoder: &EncoderSettings,
    head: &[usize],
    steps: &[UnfreezingStep],
    documents: &Documents,
    precision: Precision,
) -> Pool {
    let mut g = DryGraph::new(precision);
    let mut pool = Pool::default();
    for step in steps {
        for _ in 0..2 {
            g.reset();
            let loss = classifier_batch(&mut g, settings, encoder, head, &step.trains, documents, true);
            pool.activations = pool.activations.max(g.used_bytes());
            g.backward(loss);
            g.reset();
            g.end_reserving();
        }
    }
    pool.workspace = g.pool_bytes() - pool.activations;
    g.set_recording(false);
    let documents = Documents { b: settings.training.valid_batch_size, ..*documents };
    for _ in 0..2 {
        g.reset();
        classifier_batch(&mut g, settings, encoder, head, &vec![false; encoder.layers + 2], &documents, false);
    }
    pool.evaluation = g.pool_bytes() - pool.activations - pool.workspace;
    pool
}

/// Forward pass of a batch; returns the loss.
fn classifier_batch(
    g: &mut DryGraph,
    settings: &ClassifierSettings,
    encoder: &EncoderSettings,
    head: &[usize],
    trains: &[bool],
    documents: &Documents,
    training: bool,
) -> Var {
    let &Documents { b, bptt, prefix, pooled } = documents;
    let drops = if training { settings.drops() } else { DropRates::default() };
    let walk = DryEncoder { sizes: encoder, drops, layers: &trains[1..=encoder.layers] };
    let mut state: DryState = vec![None; encoder.layers];
    g.set_recording(false);
    for _ in 0..prefix / bptt {
        let mark = g.mark();
        let tokens = g.take(bptt * b);
        let w = g.parameter(false);
        walk.forward(g, &tokens, w, &mut state, bptt, b);
        g.forget_since(mark, None);
    }
    g.set_recording(training);
    let mut chunks = Vec::new();
    for from in (0..pooled).step_by(bptt) {
        let t = bptt.min(pooled - from);
        let mark = g.mark();
        let tokens = g.take(t * b);
        let w = g.parameter(trains[0]);
        let y = walk.forward(g, &tokens, w, &mut state, t, b);
        chunks.push(if training { y } else { g.forget_since(mark, Some(y)).unwrap_or(y) });
    }
    let mut x = g.concat_pool(&chunks, [b, encoder.embedding]);
    let head_drops = if training { settings.head_drops() } else { vec![0.0] };
    for (k, size) in head.windows(2).enumerate() {
        let p = head_drops.get(k).or(head_drops.last()).copied().unwrap_or(0.0);
        x = g.head_block(x, trains[encoder.layers + 1], p, k == 0, [b, size[0], size[1]]);
    }
    let loss = g.softmax_cross_entropy(x, [b, head[head.len() - 1]]);
    let (alpha, beta) = (settings.training.alpha, settings.training.beta);
    if !training || (alpha == 0.0 && beta == 0.0) {
        return loss;
    }
    let of = if alpha == 0.0 { &[][..] } else { &chunks };
    g.regularised(loss, &chunks, of, bptt.min(pooled))
}

#[cfg(test)]
mod tests;
