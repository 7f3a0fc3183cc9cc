//! The three stages: text and a recipe in, a model directory out.

mod class_weights;
mod classifier;
mod classifier_report;
mod examples;
mod language_model;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

pub(super) use self::class_weights::ClassWeights;
pub(super) use self::classifier::check_sizes;
pub use self::classifier::{
    ClassifierSources, FROM_SCRATCH, Fold, From, all_labelled, check_classes, classifier_parts, train_classifier,
};
pub(super) use self::examples::{check_chunks, check_kind, check_texts};
pub use self::language_model::{LmSources, train_language_model};
use super::assemble;
use super::checkpoint::{Checkpoints, GPU, INSTRUCTION_SET, Snapshot, check_same};
use super::driver::{Progress, Training};
use super::observer::{Event, Observer, StageStarted};
use super::plan::{PACKING, PROGRAM, Slabs};
use super::recipe::{FROM_MODEL, Recipe, TrainingSettings, UnfreezingStep};
use super::rss;
use crate::autodiff::{Graph, Parameters, ParametersBuilder};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::files;
use crate::models::{self, DataRecord, ModelConfig};
use crate::random::Key;
use crate::temporary::TemporaryFolder;
use crate::tensor::DType;
use crate::text::Direction;
use crate::text::{
    BuildOptions, BuildReport, Profile, Source, Storage, TokenStore, Tokenizer, TokenizerPlan, Vocabulary, count_words,
    write_store,
};
use crate::train::Stage;

/// Shared by all stages of a run.
pub struct Context<'a> {
    pub recipe: Recipe,
    pub device: Device,
    /// Format of the operands of large products.
    pub precision: Precision,
    pub seed: u64,
    pub direction: Direction,
    /// Bytes that the memory pool may hold.
    pub memory_limit: Option<usize>,
    /// Go on from the checkpoint in the output directory, if there is one.
    pub resume: bool,
    pub checkpoint_minutes: Option<f64>,
    pub checkpoint_steps: Option<u64>,
    pub observer: &'a mut dyn Observer,
}

/// The result of a stage.
#[derive(Clone, Debug)]
pub struct StageResult {
    /// The keys of docs/CLI.md.
    pub json: serde_json::Value,
}

/// Where token files of a stage live while it runs. They are made again from the text when needed,
/// so nothing of them stays.
struct Workplace {
    directory: PathBuf,
    temporary: Option<TemporaryFolder>,
}

impl Workplace {
    /// Within the directory of a model; elsewhere where that cannot be written, as a finished model
    /// may be.
    fn within(out: &Path) -> Result<Self> {
        if !files::is_writable(out) {
            let temporary = TemporaryFolder::new()?;
            return Ok(Workplace { directory: temporary.path().to_path_buf(), temporary: Some(temporary) });
        }
        let directory = out.join("tokens");
        std::fs::create_dir_all(&directory).map_err(|e| Error::io(&directory, "create", &e))?;
        Ok(Workplace { directory, temporary: None })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.tok"))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // a file that cannot be removed is overwritten by the next run
        if self.temporary.is_none() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Tells an interrupted reader of text to stop.
pub(super) fn poll(_: crate::text::Progress) -> Result<()> {
    match super::interrupt::requested() {
        Some(signal) => Err(Error::Interrupted { signal, message: "no training had begun".into() }),
        None => Ok(()),
    }
}

impl Context<'_> {
    pub(super) fn note(&mut self, text: impl Into<String>) -> Result<()> {
        self.observer.observe(&Event::note(text))
    }

    /// A note for those who ask for everything.
    pub(super) fn detail(&mut self, text: impl Into<String>) -> Result<()> {
        self.observer.observe(&Event::detail(text))
    }

    fn warn(&mut self, text: impl Into<String>) -> Result<()> {
        self.observer.observe(&Event::warning(text))
    }

    pub(super) fn key(&self, stage: Stage) -> Key {
        Key::new(self.seed, stage, self.direction)
    }

    /// The resolved recipe as it stands in `config.json`.
    pub(super) fn recipe_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.recipe).expect("a recipe is plain data")
    }

    /// Everything that must be the same when a run is resumed, and when a finished stage counts as
    /// done.
    fn identity(&self, stage: Stage, data: &[DataRecord], start: &str) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for row in self.recipe.stage_rows(stage) {
            all.insert(row.key.clone(), row.value.clone());
        }
        all.insert("--seed".into(), json!(self.seed));
        all.insert("--direction".into(), json!(self.direction));
        if self.precision == Precision::Bf16 {
            all.insert("--precision".into(), json!("bf16"));
        }
        all.insert(FROM_MODEL.into(), json!(start));
        for record in data {
            all.insert(format!("the {} data (hash)", record.role), json!(record.sha256));
        }
        serde_json::Value::Object(all)
    }

    /// A line for every file a stage reads, and a warning for texts that two sets share. Reads the
    /// sets once more; keeps fingerprints.
    fn describe_data<'n>(&mut self, sets: &[(&'n str, &[Source])]) -> Result<Vec<(&'n str, Profile)>> {
        let mut profiles: Vec<(&str, Profile)> = Vec::new();
        for (name, sources) in sets {
            let profile = Profile::of(sources, &mut poll)?;
            self.detail(format!("{name} data: {}", profile.line()))?;
            let called = |one: &Source| one.kind().filter(|_| *name == "train").unwrap_or(name);
            match sources {
                [one] => self.observer.observe(&data_line(called(one), one, &profile))?,
                several => several.iter().try_for_each(|one| {
                    self.observer.observe(&Event::data(one.name(), format!("{}: {}", called(one), one.describe())))
                })?,
            }
            for (earlier, other) in &profiles {
                let shared = other.overlap(&profile);
                if shared > 0 {
                    let texts = if shared == 1 { "text is" } else { "different texts are" };
                    self.warn(format!("{shared} {texts} in the {earlier} data and in the {name} data"))?;
                }
            }
            profiles.push((name, profile));
        }
        Ok(profiles)
    }

    pub(super) fn store<'s>(
        &mut self,
        role: &str,
        sources: &[Source],
        vocabulary: &Vocabulary,
        options: &BuildOptions,
        storage: impl Into<Storage<'s>>,
    ) -> Result<(Arc<TokenStore>, BuildReport)> {
        for source in sources {
            self.detail(format!("{role}: {}", source.describe()))?;
        }
        let tokenizer = Tokenizer::new(vocabulary.tokenizer().clone())?;
        let (store, report) = write_store(sources, &tokenizer, vocabulary, options, storage.into(), &mut poll)?;
        let mut line = format!("{role}: {} documents, {} tokens", report.documents, report.tokens);
        if report.unknown > 0 {
            line += &format!(", {:.2} % unknown", 100.0 * report.unknown as f64 / report.tokens.max(1) as f64);
        }
        self.detail(line)?;
        if let Some(warning) = report.hardly_known(vocabulary.tokenizer()) {
            self.warn(format!("{role}: {warning}"))?;
        }
        if report.skipped_empty > 0 {
            self.warn(format!("{role}: {} empty documents are left out", report.skipped_empty))?;
        }
        if report.skipped_unlabelled > 0 {
            self.warn(format!("{role}: {} documents without a label are left out", report.skipped_unlabelled))?;
        }
        Ok((Arc::new(store), report))
    }

    /// The words of a text; with `united`, all of another vocabulary and those of the text.
    pub(super) fn vocabulary(
        &mut self,
        sources: &[Source],
        plan: TokenizerPlan,
        settings: &TrainingSettings,
        united: Option<&Vocabulary>,
    ) -> Result<Vocabulary> {
        let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
        if let TokenizerPlan::Train { algorithm, .. } = &plan {
            self.detail(format!("training sub-words ({algorithm}) on the text"))?;
        }
        let kind = plan.make(sources, settings.vocab_size, settings.min_freq, &options, &mut poll)?;
        let tokenizer = Tokenizer::new(kind.clone())?;
        let (words, _) = count_words(sources, &tokenizer, &options, &mut poll)?;
        let most = settings.vocab_size.unwrap_or(usize::MAX);
        let vocabulary = match united {
            Some(old) => Vocabulary::united(old, &words, most, settings.min_freq),
            None => Vocabulary::from_counts(&words, kind, most, settings.min_freq)?
                .filled_up(self.recipe.text.vocab_multiple),
        };
        self.detail(format!(
            "vocabulary: {} words, from {} different ones in the text",
            vocabulary.len(),
            words.len()
        ))?;
        Ok(vocabulary)
    }

    #[allow(clippy::too_many_arguments)]
    fn started(
        &mut self,
        stage: Stage,
        progress: &Progress,
        told: Option<u64>,
        total_steps: u64,
        epochs: u64,
        parameters: &Parameters,
        description: Vec<String>,
        part: Option<String>,
    ) -> Result<()> {
        let recipe = self.recipe.shown_rows(stage);
        self.observer.observe(&Event::StageStarted(StageStarted {
            stage,
            direction: self.direction,
            part,
            first_step: progress.update,
            told,
            total_steps,
            epochs,
            parameters: parameters.trainable_values() as u64,
            recipe,
            groups: parameters.group_names().to_vec(),
            description,
        }))
    }

    /// Runs the loop of a stage, from its checkpoint where there is one and that was asked for.
    #[allow(clippy::too_many_arguments)]
    fn train(
        &mut self,
        stage: Stage,
        task: &mut dyn super::driver::Task,
        graph: &mut Graph,
        parameters: &mut Parameters,
        steps: Vec<UnfreezingStep>,
        description: Vec<String>,
        part: Option<String>,
        out: &Path,
        mut identity: serde_json::Value,
    ) -> Result<Progress> {
        let (mut training, mut steps) = (self.recipe.training(stage).clone(), steps);
        bound_updates(&mut training, &mut steps, task.updates_in_epoch(0)?);
        let epochs = steps.iter().map(|step| u64::from(step.epochs)).sum();
        let settings = assemble::loop_settings(stage, &training, steps);
        // another one adds in another order: the bits of the rest would not be those of an
        // uninterrupted run
        let arithmetic = match self.device {
            Device::Cpu => crate::device::cpu::isa::isa().name(),
            Device::Cuda(_) => GPU,
        };
        identity[INSTRUCTION_SET] = json!(arithmetic);
        let checkpoints = Checkpoints::new(out, identity, self.checkpoint_minutes, self.checkpoint_steps);
        let (snapshot, damage) = if self.resume && checkpoints.exists()? {
            let (snapshot, damage) = checkpoints.load()?;
            (Some(snapshot), damage)
        } else {
            (None, None)
        };
        if let Some(damage) = damage {
            self.warn(damage)?;
        }
        if self.resume {
            match &snapshot {
                Some(snapshot) => {
                    self.note("going on from the checkpoint")?;
                    if snapshot.instruction_set().is_some_and(|made_by| made_by != arithmetic) {
                        self.note("it was made on another device: losses go on alike, not bit for bit")?;
                    }
                }
                None => self.note("there is no checkpoint: training starts at the beginning")?,
            }
        }
        let total = super::driver::total_steps(&settings, task)?;
        let progress = match &snapshot {
            Some(snapshot) => snapshot.progress()?,
            None => {
                models::clear(out)?;
                Progress::new(&settings)
            }
        };
        let told = snapshot.as_ref().and_then(Snapshot::metrics_lines);
        self.started(stage, &progress, told, total, epochs, parameters, description, part)?;
        Training::new(settings, task, graph, parameters, self.observer, checkpoints, snapshot)?.run()
    }

    /// The result of a stage that is finished in its directory, for `--resume`.
    ///
    /// # Errors
    /// The result was made with other flags, from other data or from another model; the difference
    /// is named.
    fn finished(&mut self, stage: Stage, out: &Path, identity: &serde_json::Value) -> Result<Option<StageResult>> {
        if !self.resume || !models::is_finished(out)? {
            return Ok(None);
        }
        let config = models::load_config(out)?;
        check_same(&out.join(models::CONFIG_FILE), &config.identity, identity)?;
        // whole, or it is not finished
        models::load(out)?;
        let said = self.make_up(stage, out, &config.result);
        // where nothing can be written nothing is made up for
        if files::is_writable(out) {
            said?;
        }
        self.note(format!("{} is finished", out.display()))?;
        Ok(Some(StageResult { json: config.result }))
    }

    /// The work that a run which died at its end has left: the last line of the metrics, the
    /// checkpoints taken away.
    fn make_up(&mut self, stage: Stage, out: &Path, result: &serde_json::Value) -> Result<()> {
        models::clear_running(out)?;
        self.observer.ensure_finished(&Event::Finished { stage, summary: result.clone() })
    }

    /// A graph that computes as this run does; `limit` bounds its pool, in bytes.
    pub fn graph(&self, limit: Option<usize>) -> Graph {
        Graph::new(self.device, DType::F32, limit).with_precision(self.precision)
    }

    /// A graph that may take what the memory limit leaves now.
    pub fn graph_within_limit(&self) -> Graph {
        self.graph(rss::left(self.memory_limit, self.device))
    }

    /// Takes the memory of a model, and makes a graph: for a while, with no room kept for the rest
    /// of a training.
    pub(super) fn place(&self, declared: ParametersBuilder) -> Result<(Parameters, Graph)> {
        let parameters = declared.build_on(self.device, DType::F32)?;
        Ok((parameters, self.graph_within_limit()))
    }

    /// Takes the memory of a model, and makes a graph that may take the rest of what the limit
    /// allows. On a CPU the limit is that of the whole process: the program as it stands, the
    /// model with all that its training keeps, and the packed blocks of matrix products count,
    /// too. Without a limit of its own, a run stays within what the system has to give: one that
    /// does not fit ends with a sentence, not by the system's hand.
    fn allocate(&self, declared: ParametersBuilder, training: &TrainingSettings) -> Result<(Parameters, Graph)> {
        let (values, gradients) = declared.bytes(DType::F32);
        let slabs = Slabs::new(training, values, gradients);
        let model = slabs.values + slabs.gradients + slabs.optimiser + slabs.best;
        let (available, program) = match self.device {
            Device::Cpu => (rss::available_bytes(), rss::resident_bytes().unwrap_or(0)),
            Device::Cuda(gpu) => (Some(crate::device::cuda::context(gpu)?.free_bytes()?), 0),
        };
        let (limit, beside) = match self.memory_limit {
            Some(limit) if self.device == Device::Cpu => {
                // code, stacks and caches that the first update will touch
                (Some(limit), program + PROGRAM + rayon::current_num_threads() * PACKING)
            }
            limit => (limit.or(available), 0),
        };
        if let Some(limit) = limit.filter(|&limit| beside + model > limit) {
            let what = match beside {
                0 => "the model with its gradients and optimiser".into(),
                _ => format!("the program ({beside} bytes) and the model with its gradients and optimiser"),
            };
            return Err(Error::Memory { what, needed: beside + model, limit, left: limit });
        }
        let graph = self.graph(limit.map(|limit| limit - beside - model));
        Ok((declared.build_on(self.device, DType::F32)?, graph))
    }

    /// Ends a stage: saves the model, removes what only a running stage needs.
    fn finish(
        &mut self,
        stage: Stage,
        out: &Path,
        parameters: &Parameters,
        vocabulary: &Vocabulary,
        config: &ModelConfig,
    ) -> Result<()> {
        models::save(out, parameters, vocabulary, config)?;
        models::clear_running(out)?;
        self.observer.observe(&Event::Finished { stage, summary: config.result.clone() })
    }
}

/// Epochs and limit of a stage such that its updates are within the bounds of its recipe, and its
/// patience in epochs. `per_epoch`: updates of an epoch.
fn bound_updates(training: &mut TrainingSettings, steps: &mut [UnfreezingStep], per_epoch: u64) {
    let (Some(last), per_epoch) = (steps.len().checked_sub(1), per_epoch.max(1)) else { return };
    let all = |steps: &[UnfreezingStep]| steps.iter().map(|step| u64::from(step.epochs)).sum::<u64>();
    let effort = training.effort;
    if training.updates_least.is_some() || training.updates_most.is_some() || effort != 1.0 {
        let bound = |updates: Option<u64>, open: f64| updates.map_or(open, |n| n as f64 * effort);
        let epochs = all(steps);
        let (least, most) = (bound(training.updates_least, 1.0), bound(training.updates_most, f64::MAX));
        let updates = ((epochs * per_epoch) as f64 * effort).max(least).min(most).round().max(1.0) as u64;
        let needed = updates.div_ceil(per_epoch);
        let before = epochs - u64::from(steps[last].epochs);
        steps[last].epochs = u32::try_from(needed.saturating_sub(before).max(1)).unwrap_or(u32::MAX);
        training.max_steps = Some(training.max_steps.unwrap_or(u64::MAX).min(updates));
    }
    if let Some(share) = training.patience {
        training.early_stopping = Some(((all(steps) as f64 * share).ceil() as usize).max(1));
    }
}

/// What a file of labelled documents or of text is, in one line.
pub(super) fn data_line(role: &str, source: &Source, profile: &Profile) -> Event {
    Event::data(source.name(), format!("{role}: {}, {}", source.describe(), profile.brief()))
}

fn record(role: &str, store: &TokenStore) -> Result<DataRecord> {
    let sha256 = files::sha256_of(store.path())?;
    Ok(DataRecord { role: role.into(), documents: store.documents() as u64, tokens: store.tokens(), sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(set: &[(&str, &str)], per_epoch: u64) -> (Vec<u32>, Option<u64>, Option<usize>) {
        let mut builder = super::super::recipe::Builder::new("fastai2").unwrap();
        set.iter().for_each(|(key, value)| builder.key(&format!("classifier.{key}"), value, "test").unwrap());
        let recipe = builder.build().unwrap();
        let (mut training, mut steps) = (recipe.classifier.training.clone(), recipe.classifier.steps(5));
        bound_updates(&mut training, &mut steps, per_epoch);
        (steps.iter().map(|step| step.epochs).collect(), training.max_steps, training.early_stopping)
    }

    /// fastai2 has the epochs 1, 1, 1, 2.
    #[test]
    fn updates_follow_the_size_of_the_data() {
        assert_eq!(bounded(&[], 7), (vec![1, 1, 1, 2], None, None));
        assert_eq!(bounded(&[("updates_least", "50")], 4), (vec![1, 1, 1, 10], Some(50), None));
        assert_eq!(bounded(&[("updates_least", "50")], 400), (vec![1, 1, 1, 2], Some(2000), None));
        assert_eq!(bounded(&[("updates_most", "900")], 200), (vec![1, 1, 1, 2], Some(900), None));
        assert_eq!(bounded(&[("updates_most", "900")], 2000), (vec![1, 1, 1, 1], Some(900), None));
        assert_eq!(bounded(&[("updates_least", "50"), ("effort", "2")], 4), (vec![1, 1, 1, 22], Some(100), None));
        assert_eq!(bounded(&[("effort", "0.5"), ("max_steps", "9")], 10), (vec![1, 1, 1, 1], Some(9), None));
        assert_eq!(bounded(&[("patience", "0.5")], 7), (vec![1, 1, 1, 2], None, Some(3)));
    }
}
