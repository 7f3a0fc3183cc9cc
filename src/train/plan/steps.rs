//! The steps of a stage on a dry graph: as the training loop and its tasks run them, without data.

use super::{Flop, PlanOptions, Planned};
pub(super) use crate::autodiff::Counted as Counts;
use crate::autodiff::{Graph, Parameters, ParametersBuilder, Var};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::nn::{Answers, Classifier, DocumentBatch, LanguageModel, Noise, State, Truth};
use crate::ops::batch_norm::Mode;
use crate::ops::softmax_cross_entropy::softmax;
use crate::random::Key;
use crate::tensor::{DType, Device, Tensor};
use crate::text::Windows;
use crate::train::Stage;
use crate::train::assemble::{classifier_task_settings, lm_task_settings};
use crate::train::lm_task::LmTaskSettings;
use crate::train::recipe::{Recipe, TaskName, UnfreezingStep};

/// Bytes of the pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pool {
    /// In use when the forward pass is over.
    pub activations: usize,
    pub workspace: usize,
    /// The memory that evaluations add.
    pub evaluation: usize,
}

impl Pool {
    /// Of the steps with their evaluations, and of the updates alone. (Blocks that an evaluation
    /// left may serve a layer that thaws later: its share is what is there because of it.)
    fn new(all: &Dry, updates: &Dry) -> Self {
        let bytes = |dry: &Dry| dry.g.pool_statistics().bytes;
        let evaluation = bytes(all).saturating_sub(bytes(updates));
        let activations = updates.used.min(bytes(all) - evaluation);
        Pool { activations, evaluation, workspace: bytes(all) - evaluation - activations }
    }
}

/// A model and its graph without numbers.
struct Dry {
    g: Graph,
    parameters: Parameters,
    /// Most bytes that were in use when a forward pass was over.
    used: usize,
    /// The counts of the most expensive update.
    most: Counts,
}

impl Dry {
    fn new(declared: &ParametersBuilder, precision: Precision) -> Result<Self> {
        let mut g = Graph::dry(DType::F32).with_precision(precision);
        g.promise_unit_loss();
        Ok(Dry { g, parameters: declared.clone().build_dry(DType::F32)?, used: 0, most: Counts::default() })
    }

    fn enter(&mut self, step: &UnfreezingStep) {
        step.trains.iter().enumerate().for_each(|(group, &trains)| self.parameters.set_frozen(group, !trains));
    }

    /// A forward pass and the backward pass from its loss.
    fn update(&mut self, forward: impl FnOnce(&mut Graph, &Parameters) -> Result<Var>) -> Result<()> {
        self.g.reset();
        self.parameters.clear_gradients();
        let loss = forward(&mut self.g, &self.parameters)?;
        self.used = self.used.max(self.g.pool().used_bytes());
        self.g.backward(loss, &mut self.parameters)?;
        self.g.pool().set_reserving(false);
        let counted = self.g.take_counted();
        let sum = |counts: Counts| counts.forward.saturating_add(counts.backward);
        if sum(counted) > sum(self.most) {
            self.most = counted;
        }
        Ok(())
    }

    /// The work after an epoch.
    fn evaluate(&mut self, mut batch: impl FnMut(&mut Graph, &Parameters) -> Result<()>) -> Result<()> {
        self.g.set_recording(false);
        for _ in 0..2 {
            self.g.reset();
            batch(&mut self.g, &self.parameters)?;
        }
        self.g.reset();
        self.g.set_recording(true);
        self.g.take_counted();
        Ok(())
    }
}

/// Refuses batches whose tokens, which a dry graph does have, would themselves not fit.
fn countable(steps: usize, rows: usize) -> Result<()> {
    const MOST: usize = 1 << 28;
    if steps.checked_mul(rows).is_none_or(|tokens| tokens > MOST) {
        let message = format!("a batch of {rows} rows of {steps} tokens cannot be planned: at most {MOST} tokens can");
        return Err(Error::usage(message).hint("lower --batch-size, --bptt or --length"));
    }
    Ok(())
}

/// No mask is drawn.
const KEY: Key = Key([0, 0]);

/// An adaptive softmax counts as if every word were of the head: how many are depends on the text.
pub(super) fn language_model(recipe: &Recipe, stage: Stage, v: usize, precision: Precision) -> Result<Planned> {
    let settings = recipe.lm(stage);
    let training = &settings.training;
    let (model, declared) = LanguageModel::declare(recipe.language_model(stage, v))?;
    let (b, bptt) = (training.batch_size, training.bptt);
    let variable = training.windows != Windows::Fixed;
    let longest = bptt + if variable { training.window_excess } else { 0 };
    countable(longest, b)?;
    countable(bptt, training.valid_batch_size)?;
    let task = lm_task_settings(settings, v);
    // for every step of unfreezing three updates: the first may not count, the second begins
    // without a state that an update has left
    let run = |t: usize, evaluates: bool| -> Result<Dry> {
        let mut dry = Dry::new(&declared, precision)?;
        let mut state = model.encoder.zeros(Device::Cpu, b, DType::F32)?;
        for (k, step) in settings.steps(dry.parameters.groups()).iter().enumerate() {
            dry.enter(step);
            for update in 0..3 {
                let mut next = state.clone();
                dry.update(|g, p| window(&model, &task, g, p, [t, b], &mut next))?;
                // the loop makes room with a window that does not count
                if !(k == 0 && update == 0 && variable) {
                    state = next;
                }
            }
            if evaluates {
                let rows = training.valid_batch_size;
                let mut carried = model.encoder.zeros(Device::Cpu, rows, DType::F32)?;
                dry.evaluate(|g, p| {
                    let (tokens, targets) = (indices(g, [bptt, rows])?, indices(g, [bptt, rows])?);
                    model.evaluate(g, p, &tokens, &targets, &mut carried).map(|_| ())
                })?;
            }
        }
        Ok(dry)
    };
    let (all, updates) = (run(longest, true)?, run(longest, false)?);
    let of_bptt = if longest == bptt { updates.most } else { run(bptt, false)?.most };
    Ok(Planned {
        parameters: declared.bytes(DType::F32),
        trained: all.parameters.trainable_values(),
        pool: Pool::new(&all, &updates),
        flop: Flop::new(of_bptt, all.most, bptt * b),
        longest_window: longest,
        length: None,
    })
}

/// Indices of a word that is in every vocabulary, and in the head of every adaptive softmax.
fn indices(g: &mut Graph, shape: impl Into<crate::tensor::Shape>) -> Result<Tensor> {
    let indices = g.indices(shape)?;
    indices.fill_zero();
    Ok(indices)
}

/// Loss of a training window.
fn window(
    model: &LanguageModel,
    task: &LmTaskSettings,
    g: &mut Graph,
    parameters: &Parameters,
    [t, b]: [usize; 2],
    state: &mut State,
) -> Result<Var> {
    let (tokens, targets) = (indices(g, [t, b])?, indices(g, [t, b])?);
    let noise = Noise::of(KEY, 0, task.dropout);
    let negatives = task.negatives.map(|n| indices(g, [n])).transpose()?;
    let negatives = negatives.as_ref();
    Ok(model.window(g, parameters, &tokens, &targets, negatives, state, &noise, &task.losses)?.total)
}

/// Two updates and an evaluation for every step of unfreezing, with documents of one length.
pub(super) fn classifier(recipe: &Recipe, v: usize, options: &PlanOptions) -> Result<Planned> {
    let settings = &recipe.classifier;
    let training = &settings.training;
    let answers = settings.task.answers();
    let classes = if answers == Answers::Number { 1 } else { options.classes };
    let (model, declared) = Classifier::declare(recipe.classifier_architecture(v, classes))?;
    let length = options.length.unwrap_or(settings.max_len - usize::from(settings.max_len_strict));
    countable(length, training.batch_size.max(training.valid_batch_size))?;
    let document = vec![0u32; if answers.is_of_words() { length.max(2) } else { length }];
    let texts = if settings.task == TaskName::Pair { 2 } else { 1 };
    // every token but the first is a word
    let of_words = answers.is_of_words();
    let words: Vec<[u32; 2]> = (1..length.max(2) as u32).map(|t| [t, t]).collect();
    let documents = |rows: usize| {
        let batch = DocumentBatch::new(vec![&document[..]; texts * rows])?;
        if of_words { batch.with_words(vec![words.clone(); rows]) } else { Ok::<_, Error>(batch) }
    };
    let (batch, evaluated) = (documents(training.batch_size)?, documents(training.valid_batch_size)?);
    let task = classifier_task_settings(settings);
    let noise = Noise::of(KEY, 0, task.dropout).with_head(&task.head);
    let rows = training.batch_size;
    let labelled = if of_words { rows * words.len() } else { rows };
    let (labels, numbers) = (vec![0; labelled], vec![0.0; rows * classes]);
    let classified = answers == Answers::Class || of_words;
    let truth = if classified { Truth::Classes(&labels) } else { Truth::Numbers(&numbers) };
    let loss = |g: &mut Graph, p: &Parameters| {
        let frozen = p.is_frozen(p.groups() - 1) && task.freeze_norm;
        let norm = if frozen { Mode::Frozen } else { Mode::Train };
        Ok(model.loss(g, p, &batch, truth, norm, &noise, &task.losses)?.total)
    };
    let run = |evaluates: bool| -> Result<Dry> {
        let mut dry = Dry::new(&declared, options.precision)?;
        for step in &settings.steps(dry.parameters.groups()) {
            dry.enter(step);
            dry.update(loss)?;
            dry.update(loss)?;
            if evaluates {
                dry.evaluate(|g, p| {
                    let out = model.forward(g, p, &evaluated, Mode::Eval, &Noise::Off, &Noise::Off)?;
                    // labels and numbers are read as they are
                    if classified { softmax(g, out.logits).map(|_| ()) } else { Ok(()) }
                })?;
            }
        }
        Ok(dry)
    };
    let (all, updates) = (run(true)?, run(false)?);
    Ok(Planned {
        parameters: declared.bytes(DType::F32),
        trained: all.parameters.trainable_values(),
        pool: Pool::new(&all, &updates),
        flop: Flop::new(all.most, all.most, length * batch.len()),
        longest_window: training.bptt.min(length),
        length: Some(length),
    })
}
