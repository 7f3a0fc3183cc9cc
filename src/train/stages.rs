//! The three stages: text and a recipe in, a model directory out.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoints, check_same};
use super::classifier_task::{self, ClassifierTask, ClassifierTaskSettings};
use super::driver::{LoopSettings, Measured, Phase, Progress, Training};
use super::lm_task::{self, LmTask, LmTaskSettings};
use super::model_dir::{self, Architecture, DataRecord, Loaded, ModelConfig};
use super::observer::{Event, Observer, RecipeRow, Split, StageStarted};
use super::recipe::{ClassifierSettings, LmSettings, LossName, Recipe, TrainingSettings, UnfreezingStep};
use super::rss;
use crate::autodiff::{Graph, Parameters, ParametersBuilder};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Classifier, LanguageModel, LossSettings, weights};
use crate::random::{Direction, Key, Stage};
use crate::tensor::DType;
use crate::text::{
    BuildOptions, BuildReport, ClassifierBatches, Labels, LmBatches, Profile, Source, TokenStore, Tokenizer,
    TokenizerKind, Vocabulary, count_words, low_shot_subset, random_split, stratified_split, write_store,
};

/// What all stages of a run have in common.
pub struct Context<'a> {
    pub recipe: Recipe,
    pub device: Device,
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

/// What a stage hands on.
#[derive(Clone, Debug)]
pub struct StageResult {
    /// The keys of docs/CLI.md.
    pub json: serde_json::Value,
}

/// Where token files of a stage live while it runs. They are made again from the text when needed, so nothing of them stays.
struct Workplace {
    directory: PathBuf,
}

impl Workplace {
    fn new(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(|e| Error::io(&directory, "create", &e))?;
        Ok(Workplace { directory })
    }

    /// Within the directory of a model.
    fn within(out: &Path) -> Result<Self> {
        Self::new(out.join("tokens"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.tok"))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // what cannot be removed is overwritten by the next run
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Tells an interrupted reader of text to stop.
fn poll(_: crate::text::Progress) -> Result<()> {
    match super::interrupt::requested() {
        Some(signal) => Err(Error::Interrupted { signal, message: "no training had begun".into() }),
        None => Ok(()),
    }
}

impl Context<'_> {
    pub(super) fn note(&mut self, text: impl Into<String>) -> Result<()> {
        self.observer.observe(&Event::note(text))
    }

    fn warn(&mut self, text: impl Into<String>) -> Result<()> {
        self.observer.observe(&Event::warning(text))
    }

    pub(super) fn key(&self, stage: Stage) -> Key {
        Key::new(self.seed, stage, self.direction)
    }

    /// The resolved recipe as it stands in `config.json`.
    pub fn recipe_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.recipe).expect("a recipe is plain data")
    }

    /// Everything that must be the same when a run is resumed, and when a finished stage counts as done.
    fn identity(&self, stage: Stage, data: &[DataRecord], start: &str) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for row in self.recipe.stage_rows(stage) {
            all.insert(row.key.clone(), row.value.clone());
        }
        all.insert("--seed".into(), json!(self.seed));
        all.insert("--direction".into(), json!(self.direction));
        all.insert("the model to start from".into(), json!(start));
        for record in data {
            all.insert(format!("the {} data (hash)", record.role), json!(record.sha256));
        }
        serde_json::Value::Object(all)
    }

    /// A line for every set a stage reads, and a warning for texts that two sets share. Reads the sets once more; keeps fingerprints.
    fn describe_data(&mut self, sets: &[(&str, &[Source])]) -> Result<()> {
        let mut profiles: Vec<(&str, Profile)> = Vec::new();
        for (name, sources) in sets {
            let profile = Profile::of(sources)?;
            self.note(format!("{name} data: {}", profile.line()))?;
            for (earlier, other) in &profiles {
                let shared = other.overlap(&profile);
                if shared > 0 {
                    let texts = if shared == 1 { "text is" } else { "different texts are" };
                    self.warn(format!("{shared} {texts} in the {earlier} data and in the {name} data"))?;
                }
            }
            profiles.push((name, profile));
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        role: &str,
        sources: &[Source],
        vocabulary: &Vocabulary,
        options: &BuildOptions,
        path: &Path,
    ) -> Result<(Arc<TokenStore>, BuildReport)> {
        for source in sources {
            self.note(format!("{role}: {}", source.describe()))?;
        }
        let tokenizer = Tokenizer::new(vocabulary.tokenizer().clone())?;
        let (store, report) = write_store(sources, &tokenizer, vocabulary, options, path, &mut poll)?;
        let mut line = format!("{role}: {} documents, {} tokens", report.documents, report.tokens);
        if report.unknown > 0 {
            line += &format!(", {:.2} % unknown", 100.0 * report.unknown as f64 / report.tokens.max(1) as f64);
        }
        self.note(line)?;
        if report.skipped_empty > 0 {
            self.warn(format!("{role}: {} empty documents are left out", report.skipped_empty))?;
        }
        if report.skipped_unlabelled > 0 {
            self.warn(format!("{role}: {} documents without a label are left out", report.skipped_unlabelled))?;
        }
        Ok((Arc::new(store), report))
    }

    pub(super) fn vocabulary(
        &mut self,
        sources: &[Source],
        kind: TokenizerKind,
        settings: &TrainingSettings,
    ) -> Result<Vocabulary> {
        let tokenizer = Tokenizer::new(kind.clone())?;
        let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
        let (words, _) = count_words(sources, &tokenizer, &options, &mut poll)?;
        let vocabulary =
            Vocabulary::from_counts(&words, kind, settings.vocab_size.unwrap_or(usize::MAX), settings.min_freq)?
                .filled_up(self.recipe.text.vocab_multiple);
        self.note(format!("vocabulary: {} words, from {} different ones in the text", vocabulary.len(), words.len()))?;
        Ok(vocabulary)
    }

    fn started(
        &mut self,
        stage: Stage,
        progress: &Progress,
        total_steps: u64,
        parameters: &Parameters,
        groups: Vec<String>,
        description: Vec<String>,
    ) -> Result<()> {
        let recipe = self.recipe.stage_rows(stage);
        let recipe =
            recipe.map(|r| RecipeRow { key: r.key.clone(), value: r.text(), source: r.source.clone() }).collect();
        let epochs = self.recipe.training(stage).epochs.iter().map(|&n| u64::from(n)).sum();
        self.observer.observe(&Event::StageStarted(StageStarted {
            stage,
            direction: self.direction,
            first_step: progress.update,
            total_steps,
            epochs,
            parameters: parameters.trainable_values() as u64,
            recipe,
            groups,
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
        groups: Vec<String>,
        description: Vec<String>,
        out: &Path,
        mut identity: serde_json::Value,
    ) -> Result<Progress> {
        let settings = loop_settings(stage, self.recipe.training(stage), steps);
        // another one adds in another order: the bits of the rest would not be those of an uninterrupted run
        identity["the instruction set"] = json!(crate::device::cpu::isa::isa().name());
        let checkpoints = Checkpoints::new(out, identity, self.checkpoint_minutes, self.checkpoint_steps);
        let snapshot = if self.resume && checkpoints.exists() { Some(checkpoints.load()?) } else { None };
        if self.resume {
            match &snapshot {
                Some(_) => self.note("going on from the checkpoint")?,
                None => self.note("there is no checkpoint: training starts at the beginning")?,
            }
        }
        let total = super::driver::total_steps(&settings, task)?;
        let progress = match &snapshot {
            Some(snapshot) => snapshot.progress()?,
            None => {
                model_dir::clear(out)?;
                Progress::new(&settings)
            }
        };
        self.started(stage, &progress, total, parameters, groups, description)?;
        Training::new(settings, task, graph, parameters, self.observer, checkpoints, snapshot)?.run()
    }

    /// The result of a stage that is finished in its directory, for `--resume`.
    ///
    /// # Errors
    /// It was made with other flags, from other data or from another model; the difference is named.
    fn finished(&mut self, out: &Path, identity: &serde_json::Value) -> Result<Option<StageResult>> {
        if !self.resume || !model_dir::is_finished(out) {
            return Ok(None);
        }
        let config = model_dir::load_config(out)?;
        check_same(&out.join(model_dir::CONFIG_FILE), &config.identity, identity)?;
        self.note(format!("{} is finished", out.display()))?;
        Ok(Some(StageResult { json: config.result }))
    }

    /// Takes the memory of a model, and makes a graph that may take the rest of what the limit allows. Without a limit of its own, a run
    /// stays within what the system has to give: one that does not fit ends with a sentence, not by the system's hand.
    fn allocate(&self, declared: ParametersBuilder) -> Result<(Parameters, Graph)> {
        let (values, gradients) = declared.bytes(DType::F32);
        // the optimiser keeps two more values for every trained one at most
        let needed = values + 3 * gradients;
        let limit = self.memory_limit.or_else(rss::available_bytes);
        if let Some(limit) = limit.filter(|&limit| needed > limit) {
            let what = "the model with its gradients and optimiser".into();
            return Err(Error::Memory { what, needed, limit, left: limit });
        }
        let graph = Graph::new(self.device, DType::F32, limit.map(|limit| limit - needed));
        Ok((declared.build(DType::F32)?, graph))
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
        model_dir::save(out, parameters, vocabulary, config)?;
        model_dir::remove(&out.join(super::checkpoint::STATE_FILE))?;
        self.observer.observe(&Event::Finished { stage, summary: config.result.clone() })
    }
}

fn loop_settings(stage: Stage, settings: &TrainingSettings, steps: Vec<UnfreezingStep>) -> LoopSettings {
    let phase = |step: UnfreezingStep| Phase {
        epochs: step.epochs,
        trainable: step.trains,
        rates: step.lr,
        schedule: step.schedule,
    };
    LoopSettings { stage, phases: steps.into_iter().map(phase).collect(), training: settings.clone() }
}

fn record(role: &str, store: &TokenStore) -> Result<DataRecord> {
    let fault = |e: std::io::Error| Error::io(store.path(), "read", &e);
    let (mut file, mut hash) = (std::fs::File::open(store.path()).map_err(fault)?, Sha256::new());
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(fault)? {
            0 => break,
            n => hash.update(&block[..n]),
        }
    }
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(DataRecord { role: role.into(), documents: store.documents() as u64, tokens: store.tokens(), sha256 })
}

/// Texts of a language-model stage.
pub struct LmSources {
    pub train: Vec<Source>,
    /// Without it a share of the training documents is held out.
    pub valid: Option<Source>,
}

/// Stages 1 and 2: trains a language model; with `from`, starting from a pretrained one (docs/SPEC.md §2.3).
pub fn train_language_model(
    context: &mut Context,
    stage: Stage,
    sources: &LmSources,
    from: Option<&Loaded<LanguageModel>>,
    out: &Path,
) -> Result<StageResult> {
    let recipe = context.recipe.clone();
    let settings = recipe.lm(stage);
    let workplace = Workplace::within(out)?;
    let kind = match from {
        Some(model) => model.vocabulary.tokenizer().clone(),
        None => recipe.text.tokenizer_kind()?,
    };
    let vocabulary = context.vocabulary(&sources.train, kind, &settings.training)?;
    let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
    let (store, _) = context.store("train", &sources.train, &vocabulary, &options, &workplace.file("train"))?;
    let mut data = vec![record("train", &store)?];
    let (train_documents, valid) = match &sources.valid {
        Some(source) => {
            let sources = std::slice::from_ref(source);
            let (valid, _) = context.store("valid", sources, &vocabulary, &options, &workplace.file("valid"))?;
            data.push(record("valid", &valid)?);
            (None, Some((valid, None)))
        }
        None if settings.training.valid_fraction > 0.0 && store.documents() > 1 => {
            let (train, valid) = random_split(store.documents(), settings.training.valid_fraction, context.seed);
            context.note(format!("valid: {} documents held out of {}", valid.len(), store.documents()))?;
            (Some(train), Some((store.clone(), Some(valid))))
        }
        None => (None, None),
    };
    let start = from.map_or_else(|| Ok("none".to_string()), |from| weights_hash(&from.parameters))?;
    let identity = context.identity(stage, &data, &start);
    if let Some(result) = context.finished(out, &identity)? {
        return Ok(result);
    }
    let mut sets = vec![("train", sources.train.as_slice())];
    sets.extend(sources.valid.as_ref().map(|source| ("valid", std::slice::from_ref(source))));
    context.describe_data(&sets)?;
    let architecture = recipe.language_model(stage, vocabulary.len());
    let (model, declared) = LanguageModel::declare(architecture.clone())?;
    let (mut parameters, mut graph) = context.allocate(declared)?;
    let key = context.key(stage);
    model.initialise(&parameters, key);
    if let Some(from) = from {
        let rows = vocabulary.map_from(&from.vocabulary);
        let known = rows.iter().flatten().count();
        weights::transfer(&from.parameters, &parameters, &rows)?;
        context.note(format!("{known} of {} words are known to the pretrained model", rows.len()))?;
    }
    let (task_settings, training) = (lm_task_settings(settings, vocabulary.len()), &settings.training);
    if settings.loss == LossName::Sampled && task_settings.negatives.is_none() {
        let (all, wanted) = (vocabulary.len(), settings.negatives);
        context.note(format!(
            "softmax over all {all} words: they are no more than the {wanted} negatives of the recipe"
        ))?;
    }
    let batches = LmBatches::new(store.clone(), train_documents, settings.batches(context.direction, key))?;
    let valid = valid
        .map(|(store, documents)| {
            let b = training.valid_batch_size;
            lm_task::evaluation_batches(store, documents, b, training.bptt, context.direction)
        })
        .transpose()?;
    let unigram = task_settings.negatives.map(|_| unigram(&vocabulary));
    let mut task = LmTask::new(&model, task_settings, key, batches, valid, unigram, DType::F32)?;
    let steps = settings.steps(parameters.groups());
    let groups = model.group_names();
    let description = vec![format!("{} tokens for training, vocabulary {}", store.tokens(), vocabulary.len())];
    let progress = context.train(
        stage,
        &mut task,
        &mut graph,
        &mut parameters,
        steps,
        groups,
        description,
        out,
        identity.clone(),
    )?;
    let json = lm_json(&progress);
    let config = ModelConfig::new(
        Architecture::LanguageModel(architecture),
        context.direction,
        context.seed,
        Vec::new(),
        &vocabulary,
        context.recipe_json(),
        data,
        identity,
        json.clone(),
    );
    context.finish(stage, out, &parameters, &vocabulary, &config)?;
    Ok(StageResult { json })
}

fn weights_hash(parameters: &Parameters) -> Result<String> {
    Ok(Sha256::digest(weights::model_bytes(parameters)?).iter().map(|b| format!("{b:02x}")).collect())
}

/// Share of every word among all, for negatives.
pub(super) fn unigram(vocabulary: &Vocabulary) -> Vec<f64> {
    let total: u64 = vocabulary.counts().iter().sum();
    vocabulary.counts().iter().map(|&n| n as f64 / total.max(1) as f64).collect()
}

/// `vocabulary`: its size. Where it has no more words than a sampled softmax would draw, the softmax is over all of them.
pub(super) fn lm_task_settings(settings: &LmSettings, vocabulary: usize) -> LmTaskSettings {
    let training = &settings.training;
    LmTaskSettings {
        dropout: settings.drops(),
        losses: LossSettings {
            alpha: training.alpha,
            beta: training.beta,
            ar_on_dropped: settings.ar_on_dropped,
            tar_guard: training.tar_guard.into(),
        },
        negatives: settings.sampled_negatives(vocabulary),
        rescale_rate: training.lr_rescale,
        averaging: settings.valid_average,
    }
}

fn lm_json(progress: &Progress) -> serde_json::Value {
    let measured = progress.last.clone();
    let field = |f: fn(&Measured) -> Option<f64>| measured.as_ref().and_then(f);
    json!({
        "train_loss": progress.train_loss,
        "valid_loss": field(|m| Some(m.loss)),
        "perplexity": field(|m| m.perplexity),
        "bits_per_byte": field(|m| m.bits_per_byte),
        "accuracy": field(|m| m.accuracy),
        "tokens": progress.tokens,
        "tokens_per_second": progress.tokens as f64 / progress.seconds.max(1e-9),
        "peak_rss_mb": rss::peak_rss_mb(),
        "seconds": progress.seconds,
        "steps": progress.update,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
    })
}

/// Data of the third stage.
pub struct ClassifierSources {
    pub train: Source,
    pub valid: Option<Source>,
    pub test: Option<Source>,
    /// Size of the balanced subset of the training documents (`--labels`).
    pub labels: Option<usize>,
}

/// Stage 3: trains a classifier; with `from`, on top of a language model's encoder.
pub fn train_classifier(
    context: &mut Context,
    sources: &ClassifierSources,
    from: Option<&Loaded<LanguageModel>>,
    out: &Path,
) -> Result<StageResult> {
    let recipe = context.recipe.clone();
    let settings = &recipe.classifier;
    let workplace = Workplace::within(out)?;
    let train_source = std::slice::from_ref(&sources.train);
    let vocabulary = match from {
        Some(model) => model.vocabulary.clone(),
        None => context.vocabulary(train_source, recipe.text.tokenizer_kind()?, &settings.training)?,
    };
    let options = BuildOptions { labels: Labels::Collect, skip_empty: true, skip_unlabelled: true };
    let (store, _) = context.store("train", train_source, &vocabulary, &options, &workplace.file("train"))?;
    let names = store.label_names().to_vec();
    check_classes(&names, &sources.train)?;
    let mut data = vec![record("train", &store)?];
    let known = BuildOptions { labels: Labels::Known(names.clone()), ..options };
    let mut others = Vec::new();
    for (role, source) in [("valid", &sources.valid), ("test", &sources.test)] {
        others.push(match source {
            Some(source) => {
                let source = std::slice::from_ref(source);
                let (store, _) = context.store(role, source, &vocabulary, &known, &workplace.file(role))?;
                data.push(record(role, &store)?);
                Some(store)
            }
            None => None,
        });
    }
    let (test_store, valid_store) = (others.pop().flatten(), others.pop().flatten());
    let start = from.map_or_else(|| Ok("none".to_string()), |from| weights_hash(&from.parameters))?;
    let mut identity = context.identity(Stage::Classifier, &data, &start);
    identity["--labels"] = json!(sources.labels);
    if let Some(result) = context.finished(out, &identity)? {
        return Ok(result);
    }
    let mut sets = vec![("train", train_source)];
    sets.extend(sources.valid.as_ref().map(|source| ("valid", std::slice::from_ref(source))));
    sets.extend(sources.test.as_ref().map(|source| ("test", std::slice::from_ref(source))));
    context.describe_data(&sets)?;
    let labels: Vec<Option<u32>> = (0..store.documents()).map(|d| store.label(d)).collect();
    let (train_documents, held_out) = choose_documents(context, &labels, valid_store.is_some(), sources.labels)?;
    describe_balance(context, &names, &labels, &train_documents)?;
    let direction = context.direction;
    let evaluation = |store: Arc<TokenStore>, documents: Option<Vec<u32>>| {
        classifier_task::evaluation_batches(store, documents, settings.training.valid_batch_size, direction)
    };
    let valid = match (valid_store, held_out) {
        (Some(valid), _) => Some(evaluation(valid, None)?),
        (None, Some(documents)) if !documents.is_empty() => Some(evaluation(store.clone(), Some(documents))?),
        _ => None,
    };
    let architecture = recipe.classifier_architecture(vocabulary.len(), names.len());
    let (model, declared) = Classifier::declare(architecture.clone())?;
    let (mut parameters, mut graph) = context.allocate(declared)?;
    let key = context.key(Stage::Classifier);
    model.initialise(&parameters, key);
    if let Some(from) = from {
        let rows: Vec<Option<u32>> = (0..vocabulary.len() as u32).map(Some).collect();
        weights::transfer(&from.parameters, &parameters, &rows)?;
    }
    let description = vec![format!(
        "{} documents for training, {} classes, vocabulary {}",
        train_documents.len(),
        names.len(),
        vocabulary.len()
    )];
    let batches = ClassifierBatches::new(store.clone(), Some(train_documents), settings.batches(key))?;
    let mut task =
        ClassifierTask::new(&model, classifier_task_settings(settings), key, batches, store, direction, valid);
    let steps = settings.steps(parameters.groups());
    let progress = context.train(
        Stage::Classifier,
        &mut task,
        &mut graph,
        &mut parameters,
        steps,
        model.group_names(),
        description,
        out,
        identity.clone(),
    )?;
    if let Some(matrix) = progress.last.as_ref().and_then(|m| m.confusion.clone()) {
        context.observer.observe(&Event::Confusion { split: Split::Valid, labels: names.clone(), matrix })?;
    }
    let test = match test_store {
        Some(store) => {
            let measured = test(&model, &mut graph, &parameters, evaluation(store.clone(), None)?, &store)?;
            report_test(context, &progress, &measured, &names)?;
            Some(measured)
        }
        None => None,
    };
    let json = classifier_json(&progress, test.as_ref(), &names);
    let config = ModelConfig::new(
        Architecture::Classifier(architecture),
        direction,
        context.seed,
        names,
        &vocabulary,
        context.recipe_json(),
        data,
        identity,
        json.clone(),
    );
    context.finish(Stage::Classifier, out, &parameters, &vocabulary, &config)?;
    Ok(StageResult { json })
}

/// Which documents of the training file are trained on, and which are held out for validation.
fn choose_documents(
    context: &mut Context,
    labels: &[Option<u32>],
    has_valid: bool,
    subset: Option<usize>,
) -> Result<(Vec<u32>, Option<Vec<u32>>)> {
    let fraction = context.recipe.classifier.training.valid_fraction;
    let (mut train, held_out) = if !has_valid && fraction > 0.0 {
        let (train, valid) = stratified_split(labels, fraction, context.seed);
        context.note(format!("valid: {} documents held out of {}", valid.len(), labels.len()))?;
        (train, Some(valid))
    } else {
        ((0..labels.len() as u32).collect(), None)
    };
    if let Some(n) = subset {
        train = low_shot_subset(labels, &train, n, context.seed);
        context.note(format!("train: a balanced subset of {} documents", train.len()))?;
    }
    Ok((train, held_out))
}

/// Token ids and labels of some documents.
pub type IdSet = (Vec<Vec<u32>>, Vec<usize>);

/// What the bag of words is trained and tested on.
pub struct BagOfWordsSets {
    pub classes: usize,
    /// Size of the vocabulary.
    pub words: usize,
    pub train: IdSet,
    pub valid: Option<IdSet>,
    pub test: IdSet,
}

/// The documents of stage 3 for a model without order; `None` without test data.
pub fn bag_of_words_sets(
    context: &mut Context,
    sources: &ClassifierSources,
    out: &Path,
) -> Result<Option<BagOfWordsSets>> {
    let Some(test) = &sources.test else { return Ok(None) };
    let workplace = Workplace::new(out.to_path_buf())?;
    let train_source = std::slice::from_ref(&sources.train);
    let kind = context.recipe.text.tokenizer_kind()?;
    let settings = context.recipe.classifier.training.clone();
    let vocabulary = context.vocabulary(train_source, kind, &settings)?;
    let options = BuildOptions { labels: Labels::Collect, skip_empty: true, skip_unlabelled: true };
    let (store, _) = context.store("train", train_source, &vocabulary, &options, &workplace.file("train"))?;
    let names = store.label_names().to_vec();
    let known = BuildOptions { labels: Labels::Known(names.clone()), ..options };
    let labels: Vec<Option<u32>> = (0..store.documents()).map(|d| store.label(d)).collect();
    let (documents, held_out) = choose_documents(context, &labels, sources.valid.is_some(), sources.labels)?;
    let ids = |store: &TokenStore, documents: &[u32]| -> IdSet {
        let one = |&d: &u32| (store.document_ids(d as usize), store.label(d as usize).unwrap_or(0) as usize);
        documents.iter().map(one).unzip()
    };
    let all = |store: &TokenStore| ids(store, &(0..store.documents() as u32).collect::<Vec<_>>());
    let valid = match &sources.valid {
        Some(source) => {
            let source = std::slice::from_ref(source);
            Some(all(&context.store("valid", source, &vocabulary, &known, &workplace.file("valid"))?.0))
        }
        None => held_out.filter(|h| !h.is_empty()).map(|h| ids(&store, &h)),
    };
    let (tests, _) = context.store("test", std::slice::from_ref(test), &vocabulary, &known, &workplace.file("test"))?;
    let sets = BagOfWordsSets {
        classes: names.len(),
        words: vocabulary.len(),
        train: ids(&store, &documents),
        valid,
        test: all(&tests),
    };
    Ok(Some(sets))
}

/// Refuses training data without two classes.
pub(super) fn check_classes(names: &[String], source: &Source) -> Result<()> {
    match names {
        [] => Err(Error::file(source.name(), "has no labels").hint("name the column with --label-column")),
        [only] => Err(Error::file(source.name(), format!("has a single class, '{only}': there is nothing to learn"))),
        _ => Ok(()),
    }
}

/// One line on the balance of the classes, and a warning for a class without a training document.
fn describe_balance(context: &mut Context, names: &[String], labels: &[Option<u32>], documents: &[u32]) -> Result<()> {
    let mut counts = vec![0u64; names.len()];
    documents.iter().filter_map(|&d| labels[d as usize]).for_each(|l| counts[l as usize] += 1);
    let shown: Vec<String> = names.iter().zip(&counts).take(20).map(|(n, c)| format!("{n} {c}")).collect();
    context.note(format!("train: {} classes: {}", names.len(), shown.join(", ")))?;
    match names.iter().zip(&counts).find(|(_, c)| **c == 0) {
        Some((name, _)) => context.warn(format!("class '{name}' has no training document")),
        None => Ok(()),
    }
}

fn test(
    model: &Classifier,
    graph: &mut Graph,
    parameters: &Parameters,
    (mut batches, mut documents): (ClassifierBatches, classifier_task::Documents),
    store: &TokenStore,
) -> Result<Measured> {
    let predictions = classifier_task::predict(model, graph, parameters, &mut batches, &mut documents)?;
    let labels: Vec<u32> = predictions.documents.iter().map(|&d| store.label(d as usize).unwrap_or(u32::MAX)).collect();
    Ok(classifier_task::measure(&predictions.probabilities, &labels, model.settings.classes))
}

fn report_test(context: &mut Context, progress: &Progress, measured: &Measured, names: &[String]) -> Result<()> {
    context.observer.observe(&Event::Evaluated(super::observer::Evaluated {
        stage: Stage::Classifier,
        epoch: u64::from(progress.epoch),
        step: progress.update,
        split: Split::Test,
        loss: measured.loss,
        perplexity: None,
        bits_per_byte: None,
        accuracy: measured.accuracy,
        error_percent: measured.error_percent,
        seconds: 0.0,
    }))?;
    let matrix = measured.confusion.clone().unwrap_or_default();
    context.observer.observe(&Event::Confusion { split: Split::Test, labels: names.to_vec(), matrix })
}

pub(super) fn classifier_task_settings(settings: &ClassifierSettings) -> ClassifierTaskSettings {
    ClassifierTaskSettings {
        dropout: settings.drops(),
        head: settings.head_drops(),
        alpha: settings.training.alpha,
        beta: settings.training.beta,
        tar_guard: settings.training.tar_guard.into(),
        windows: settings.training.windows(),
        variable: settings.training.variable_windows(),
        rescale_rate: settings.training.lr_rescale,
        freeze_norm: settings.frozen_norm_eval,
    }
}

fn classifier_json(progress: &Progress, test: Option<&Measured>, names: &[String]) -> serde_json::Value {
    let valid = progress.last.as_ref();
    json!({
        "train_loss": progress.train_loss,
        "valid_error": valid.and_then(|m| m.error_percent),
        "valid_loss": valid.map(|m| m.loss),
        "test_error": test.and_then(|m| m.error_percent),
        "test_loss": test.map(|m| m.loss),
        "test_size": test.map(|m| m.count),
        "label_names": names,
        "peak_rss_mb": rss::peak_rss_mb(),
        "seconds": progress.seconds,
        "steps": progress.update,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
    })
}
