//! Training steps and evaluation of whole models.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::clock::{Effort, Foreign, Stopwatch, Timing, recorded, time};
use super::format::Format;
use super::report::{Row, Work};
use super::session::{Bench, COUNTED};
use super::steps::{self, Next};
use super::verify;
use crate::answer::language::{Mean, evaluate, evaluation_batches};
use crate::autodiff::{Graph, Parameters};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{LanguageModel, Noise};
use crate::random::{Key, Site, Stream};
use crate::tensor::{DType, Tensor};
use crate::text::Direction;
use crate::text::{Storage, StoreWriter, TokenStore, TokenizerKind, Vocabulary};
use crate::trace::Recording;
use crate::train::Stage;
use crate::train::assemble::{self, Assembled};
use crate::train::driver::Task;
use crate::train::plan::{PlanOptions, plan};
use crate::train::recipe::{Builder, Recipe};

/// Sizes of a model and its batch.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// As the recipe key `model.encoder` has it.
    pub encoder: &'static str,
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub layers: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Steps of a window.
    pub bptt: usize,
    /// Tokens of a classifier's documents.
    pub length: usize,
}

impl Sizes {
    pub const PAPER: Sizes = Sizes {
        encoder: "awd-lstm",
        vocabulary: 30_000,
        embedding: 400,
        hidden: 1150,
        layers: 3,
        batch: 64,
        bptt: 70,
        length: 400,
    };
    const SMALL: Sizes = Sizes { vocabulary: 10_000, embedding: 100, hidden: 300, layers: 2, ..Sizes::PAPER };
    /// Sizes of the verification against f64, and of tests.
    pub(super) const REDUCED: Sizes =
        Sizes { vocabulary: 90, embedding: 20, hidden: 36, batch: 6, bptt: 9, length: 21, ..Sizes::PAPER };

    /// The same widths with the other encoder.
    pub(super) fn qrnn(self) -> Sizes {
        Sizes { encoder: "qrnn", ..self }
    }

    /// `400-1150-1150-400`, and the encoder where it is not the AWD-LSTM.
    fn widths(&self) -> String {
        let last = |l| if l == self.layers { self.embedding } else { self.hidden };
        let all = std::iter::once(self.embedding).chain((1..=self.layers).map(last));
        let widths = all.map(|n| n.to_string()).collect::<Vec<_>>().join("-");
        if self.encoder == Sizes::PAPER.encoder { widths } else { format!("{} {widths}", self.encoder) }
    }

    fn of_language_model(&self) -> String {
        format!("V{} {} B{} T{}", self.vocabulary, self.widths(), self.batch, self.bptt)
    }

    fn of_classifier(&self) -> String {
        format!("V{} {} {}x{} tokens", self.vocabulary, self.widths(), self.batch, self.length)
    }

    /// The paper's recipe (all dropouts, AR and TAR, clipping, Adam) at these sizes, with windows
    /// of one length.
    pub fn recipe(&self) -> Result<Recipe> {
        let mut builder = Builder::new("paper")?;
        let numbers = [
            ("model.emb", self.embedding),
            ("model.hidden", self.hidden),
            ("model.layers", self.layers),
            ("pretrain.vocab_size", self.vocabulary),
            ("pretrain.batch_size", self.batch),
            ("pretrain.valid_batch_size", self.batch),
            ("pretrain.bptt", self.bptt),
            ("classifier.vocab_size", self.vocabulary),
            ("classifier.batch_size", self.batch),
            ("classifier.bptt", self.bptt),
        ];
        for (key, value) in numbers {
            builder.key(key, &value.to_string(), "benchmark")?;
        }
        let words = [
            ("model.encoder", self.encoder),
            ("pretrain.windows", "fixed"),
            ("classifier.windows", "fixed"),
            // as the peer is timed: all groups train, with AR and TAR
            ("classifier.unfreezing", "full"),
            ("classifier.epochs", "1"),
            ("classifier.alpha", "2"),
            ("classifier.beta", "1"),
        ];
        for (key, value) in words {
            builder.key(key, value, "benchmark")?;
        }
        builder.build()
    }
}

const CLASSES: usize = 2;

pub fn run(bench: &mut Bench) -> Result<()> {
    let mut sizes = if bench.reduced { [Sizes::REDUCED; 2] } else { [Sizes::PAPER, Sizes::SMALL] };
    if bench.is_counted() && !bench.reduced {
        sizes.iter_mut().for_each(|of| (of.bptt, of.length) = (COUNTED, COUNTED));
    }
    let [paper, small] = sizes;
    let language_models = [
        ("lm_step", "lm_evaluation", paper),
        ("lm_step_small", "lm_evaluation_small", small),
        ("qrnn_lm_step", "qrnn_lm_evaluation", paper.qrnn()),
    ];
    let classifiers = [("classifier_step", paper), ("qrnn_classifier_step", paper.qrnn())];
    for &format in bench.formats {
        for (name, evaluation, sizes) in language_models {
            if bench.wants(name) || bench.wants(evaluation) {
                let error = reduced_language_model(sizes, format)?;
                language_model(bench, [name, evaluation], sizes, format, error)?;
            }
        }
        for (name, sizes) in classifiers {
            if bench.wants(name) {
                let error = reduced_classifier(sizes, format)?;
                classifier(bench, name, sizes, format, error)?;
            }
        }
    }
    Ok(())
}

/// A language model with text of random words, as stage 1 has it.
struct LmSubject {
    sizes: Sizes,
    recipe: Recipe,
    model: LanguageModel,
    parameters: Parameters,
    graph: Graph,
    store: Arc<TokenStore>,
    key: Key,
}

impl LmSubject {
    fn new(sizes: Sizes, format: Format) -> Result<Self> {
        let recipe = sizes.recipe()?;
        let key = Key::new(42, Stage::Pretrain, Direction::Forward);
        let architecture = recipe.language_model(Stage::Pretrain, sizes.vocabulary);
        let Assembled { network: model, parameters, graph } =
            assemble::language_model(architecture, key, None, |declared| format.place(declared))?;
        // a column has one token more than a window: the last target
        let store = store(sizes.vocabulary, 1, sizes.batch * (sizes.bptt + 1))?;
        Ok(LmSubject { sizes, recipe, model, parameters, graph, store, key })
    }

    fn updates(&mut self, next: &mut dyn FnMut(steps::Done) -> Next) -> Result<()> {
        let settings = &self.recipe.pretrain;
        let task = assemble::lm_task_settings(settings, self.sizes.vocabulary);
        let (direction, texts) = (Direction::Forward, (self.store.clone(), None));
        let (model, parameters) = (&self.model, &self.parameters);
        let mut task =
            assemble::language_model_task(model, parameters, settings, task, direction, self.key, texts, None, &[])?;
        let step = settings.steps(self.parameters.groups()).pop();
        let step = step.ok_or_else(|| Error::data("the recipe trains for no epoch"))?;
        let training = &settings.training;
        steps::run(Stage::Pretrain, training, step, &mut task, &mut self.graph, &mut self.parameters, next)
    }
}

/// One document or several of random words; `CLASSES` labels in turn.
fn store(vocabulary: usize, documents: usize, length: usize) -> Result<Arc<TokenStore>> {
    let words = (0..vocabulary).map(|i| format!("w{i}")).collect();
    let vocabulary = Vocabulary::from_words(words, TokenizerKind::Pretokenized)?;
    let mut writer = StoreWriter::to(Storage::Memory, Path::new("bench"), &vocabulary)?;
    let mut random = Stream::new(Key([7, 9]), Site::CUSTOM[0], 0, 0);
    for document in 0..documents {
        let ids: Vec<u32> = (0..length).map(|_| 2 + random.below(vocabulary.len() as u32 - 2)).collect();
        writer.push(&ids, Some((document % CLASSES) as u32), length as u64, 6 * length)?;
    }
    let names: Vec<String> = (0..CLASSES).map(|c| format!("class {c}")).collect();
    Ok(Arc::new(writer.finish(&names, &[0, 1])?))
}

/// The whole step at reduced width, with the encoder of `sizes`, in f64 and in `format`: loss, all
/// gradients, and the loss after the update.
fn reduced_language_model(sizes: Sizes, format: Format) -> Result<f64> {
    let reduced = Sizes { encoder: sizes.encoder, ..Sizes::REDUCED };
    let two = |format| {
        let mut subject = LmSubject::new(reduced, format)?;
        losses_of(1, |next| subject.updates(next))?;
        let gradients = gradients(&subject.parameters);
        // from the beginning again: the second loss is the first that the update has a say in
        let mut subject = LmSubject::new(reduced, format)?;
        Ok((losses_of(2, |next| subject.updates(next))?, gradients))
    };
    same_steps(&format!("{} language model at reduced width", sizes.encoder), format, two)
}

/// Losses of two updates, and the gradients of the first.
type TwoSteps = (Vec<f64>, Vec<(String, Vec<f64>)>);

/// Losses of so many updates.
fn losses_of(updates: usize, run: impl FnOnce(&mut dyn FnMut(steps::Done) -> Next) -> Result<()>) -> Result<Vec<f64>> {
    let mut losses = Vec::new();
    run(&mut |done| {
        losses.push(done.loss);
        if losses.len() < updates { Next::Plain } else { Next::Stop }
    })?;
    Ok(losses)
}

/// The results of the last backward pass.
fn gradients(parameters: &Parameters) -> Vec<(String, Vec<f64>)> {
    let trained = parameters.ids().filter(|&id| parameters.has_gradient(id));
    trained.map(|id| (parameters.name(id).to_string(), parameters.gradient(id).to_f64())).collect()
}

/// Compares two steps in a format with those in f64.
fn same_steps(what: &str, format: Format, two: impl Fn(Format) -> Result<TwoSteps>) -> Result<f64> {
    let (found, right, naive) = (two(format)?, two(Format::F64)?, format.naive().map(two).transpose()?);
    let tolerance = verify::tolerance(naive.map(|naive| {
        let gradients = naive.1.iter().zip(&right.1).map(|((_, a), (_, b))| verify::error(a, b));
        gradients.fold(verify::error(&naive.0, &right.0), f64::max)
    }));
    let mut error = verify::compare(&format!("{what}: the losses"), &found.0, &right.0, tolerance)?;
    for ((name, found), (_, right)) in found.1.iter().zip(&right.1) {
        error = error.max(verify::compare(&format!("{what}: the gradient of {name}"), found, right, tolerance)?);
    }
    Ok(error)
}

/// Rows of the batch that are compared with f64 at full width.
const SAMPLED: usize = 2;

/// Some rows of the batch at full width: the encoder's output with all dropouts, and the losses of
/// an evaluation, against f64.
fn sampled_rows(subject: &mut LmSubject, format: Format, name: &str) -> Result<f64> {
    let Sizes { vocabulary, batch, bptt, .. } = subject.sizes;
    let rows = SAMPLED.min(batch);
    let (model, mut right) =
        LanguageModel::new(subject.recipe.language_model(Stage::Pretrain, vocabulary), DType::F64)?;
    for id in right.ids() {
        right.value(id).set_f64(&subject.parameters.value(id).to_f64());
    }
    let mut random = Stream::new(Key([7, 9]), Site::CUSTOM[1], 0, 0);
    let words: Vec<u32> = (0..bptt * batch).map(|_| random.below(vocabulary as u32)).collect();
    let few: Vec<u32> = words.chunks_exact(batch).flat_map(|step| &step[..rows]).copied().collect();
    let key = subject.key;
    let rates = subject.recipe.pretrain.drops();
    let run = |model: &LanguageModel, parameters: &Parameters, g: &mut Graph, words: &[u32], b: usize| {
        let dtype = parameters.dtype();
        let tokens = Tensor::from_slice([bptt, b], words)?;
        let mut state = model.encoder.zeros(g.device(), b, dtype)?;
        let dropout = Noise::of(key, 1, rates);
        g.reset();
        g.set_recording(false);
        let y = model.encoder.run(g, parameters, &tokens, &mut state, &dropout)?;
        let y = g.tensor(y).to_f64();
        state.clear();
        let losses = model.evaluate(g, parameters, &tokens, &tokens, &mut state)?.row_losses.to_f64();
        g.reset();
        g.set_recording(true);
        Ok::<_, Error>((y, losses))
    };
    let (y, losses) = run(&subject.model, &subject.parameters, &mut subject.graph, &words, batch)?;
    let (right_y, right_losses) = run(&model, &right, &mut Format::F64.graph(), &few, rows)?;
    let naive = format.naive().map(|naive| run(&model, &right, &mut naive.graph(), &few, rows)).transpose()?;
    let tolerance = verify::tolerance(
        naive.map(|(y, losses)| verify::error(&y, &right_y).max(verify::error(&losses, &right_losses))),
    );
    right.clear_gradients();
    let width = y.len() / (bptt * batch);
    let of_rows = |all: &[f64], width: usize| -> Vec<f64> {
        all.chunks_exact(batch * width).flat_map(|step| &step[..rows * width]).copied().collect()
    };
    let what = format!("{name}: the encoder's output");
    let a = verify::compare(&what, &of_rows(&y, width), &right_y, tolerance)?;
    let what = format!("{name}: the losses of an evaluation");
    let b = verify::compare(&what, &of_rows(&losses, 1), &right_losses, tolerance)?;
    Ok(a.max(b))
}

fn language_model(
    bench: &mut Bench,
    [name, evaluation]: [&str; 2],
    sizes: Sizes,
    format: Format,
    error: f64,
) -> Result<()> {
    let mut subject = LmSubject::new(sizes, format)?;
    let error = error.max(sampled_rows(&mut subject, format, name)?);
    let threads = rayon::current_num_threads();
    let options = PlanOptions { classes: CLASSES, length: None, threads, precision: format.operands };
    let flop = plan(&subject.recipe, Stage::Pretrain, &options)?.flop;
    let shape = sizes.of_language_model();
    if bench.wants(name) {
        let (timing, tokens, recording) = timed_updates(bench, format, 2, |next| subject.updates(next))?;
        let work = Work { flop: flop.per_step, bytes: 0 };
        let row = Row::new(["step", name, "train"], shape.clone(), format, timing, work);
        bench.row(row.counting(tokens, "tokens/s").verified(error).recorded(recording.as_ref()))?;
    }
    if !bench.wants(evaluation) {
        return Ok(());
    }
    let b = sizes.batch;
    let mut batches = evaluation_batches(subject.store.clone(), None, b, sizes.bptt, Direction::Forward)?;
    let mut run = || evaluate(&subject.model, &mut subject.graph, &subject.parameters, &mut batches, Mean::Token);
    let timing = time(bench.effort(Effort::MEDIUM, format), || {
        let watch = Stopwatch::begin(format)?;
        run()?;
        watch.end()
    })?;
    let recording = recorded(format, run)?;
    let predicted = batches.tokens() as usize / b * b - b;
    let work = Work { flop: flop.forward / (b * sizes.bptt) as u64 * predicted as u64, bytes: 0 };
    let row = Row::new(["step", evaluation, "forward"], shape, format, timing, work);
    bench.row(row.counting(predicted as f64, "tokens/s").verified(error).recorded(recording.as_ref()))
}

/// Times updates: some to warm up (the second is the first that takes no fresh memory), then those
/// that count; one more is recorded. Returns the tokens of one, too.
fn timed_updates(
    bench: &Bench,
    format: Format,
    warm_ups: usize,
    run: impl FnOnce(&mut dyn FnMut(steps::Done) -> Next) -> Result<()>,
) -> Result<(Timing, f64, Option<Recording>)> {
    if format.is_counted() {
        return counted_update(format, run).map(|(timing, tokens)| (timing, tokens, None));
    }
    let effort = bench.effort(Effort::LONG, format);
    let (mut warm, mut seconds, mut tokens) = (0, Vec::new(), 0.0);
    let (mut begun, mut watch, mut foreign, mut recording) = (Instant::now(), Foreign::begin(), None, None);
    run(&mut |done| {
        if done.recording.is_some() {
            recording = done.recording;
            return Next::Stop;
        }
        if warm < warm_ups {
            warm += 1;
            (begun, watch) = (Instant::now(), Foreign::begin());
            return Next::Plain;
        }
        seconds.push(done.seconds);
        tokens = done.tokens as f64;
        if effort.wants_more(seconds.len(), begun) {
            return Next::Plain;
        }
        foreign = watch.end();
        if format.device == Device::Cpu { Next::Recorded } else { Next::Stop }
    })?;
    Ok((Timing::of(&seconds, foreign), tokens, recording))
}

/// The second update, as the simulated GPU counts it.
fn counted_update(
    format: Format,
    run: impl FnOnce(&mut dyn FnMut(steps::Done) -> Next) -> Result<()>,
) -> Result<(Timing, f64)> {
    let (mut watch, mut seconds, mut tokens) = (None, None, 0.0);
    run(&mut |done| match watch.take() {
        None => {
            watch = Some(Stopwatch::begin(format));
            Next::Plain
        }
        Some(watch) => {
            seconds = Some(watch.and_then(Stopwatch::end));
            tokens = done.tokens as f64;
            Next::Stop
        }
    })?;
    let seconds = seconds.ok_or_else(|| Error::data("no update was done"))??;
    Ok((Timing::of(&[seconds], None), tokens))
}

/// Updates of a classifier on documents of one length, from scratch: head and all groups train.
fn classifier_updates(
    sizes: Sizes,
    format: Format,
    next: &mut dyn FnMut(steps::Done) -> Next,
) -> Result<(Recipe, Parameters)> {
    let recipe = sizes.recipe()?;
    let settings = &recipe.classifier;
    let key = Key::new(42, Stage::Classifier, Direction::Forward);
    let architecture = recipe.classifier_architecture(sizes.vocabulary, CLASSES);
    let Assembled { network, mut parameters, mut graph } =
        assemble::classifier(architecture, key, None, |declared| format.place(declared))?;
    let documents = (store(sizes.vocabulary, sizes.batch, sizes.length)?, None);
    let task = assemble::classifier_task_settings(settings);
    let mut task = assemble::classifier_task(
        &network,
        settings,
        task,
        Direction::Forward,
        key,
        documents,
        None::<assemble::Chosen>,
    )?;
    task.begin_epoch(0)?;
    let step = settings.steps(parameters.groups()).pop();
    let step = step.ok_or_else(|| Error::data("the recipe trains for no epoch"))?;
    steps::run(Stage::Classifier, &settings.training, step, &mut task, &mut graph, &mut parameters, next)?;
    Ok((recipe, parameters))
}

fn reduced_classifier(sizes: Sizes, format: Format) -> Result<f64> {
    let reduced = Sizes { encoder: sizes.encoder, ..Sizes::REDUCED };
    let run = |updates, format| {
        let mut left = Vec::new();
        let losses = losses_of(updates, |next| {
            left = gradients(&classifier_updates(reduced, format, next)?.1);
            Ok(())
        })?;
        Ok::<_, Error>((losses, left))
    };
    let two = |format| Ok::<_, Error>((run(2, format)?.0, run(1, format)?.1));
    same_steps(&format!("{} classifier at reduced width", sizes.encoder), format, two)
}

fn classifier(bench: &mut Bench, name: &str, sizes: Sizes, format: Format, error: f64) -> Result<()> {
    let mut recipe = None;
    let (timing, tokens, recording) = timed_updates(bench, format, 1, |next| {
        recipe = Some(classifier_updates(sizes, format, next)?.0);
        Ok(())
    })?;
    let recipe = recipe.ok_or_else(|| Error::data("no update was done"))?;
    let threads = rayon::current_num_threads();
    let options = PlanOptions { classes: CLASSES, length: Some(sizes.length), threads, precision: format.operands };
    let work = Work { flop: plan(&recipe, Stage::Classifier, &options)?.flop.per_step, bytes: 0 };
    let row = Row::new(["step", name, "train"], sizes.of_classifier(), format, timing, work);
    bench.row(row.counting(tokens, "tokens/s").verified(error).recorded(recording.as_ref()))
}
