//! A stage set up from its data, to be run for a while and thrown away: for the learning-rate range
//! test and the profile. No directory is needed and nothing is kept.

use std::sync::Arc;

use super::assemble::{self, Assembled, Examples, Start};
use super::classifier_task::ClassifierTaskSettings;
use super::driver::Task;
use super::lm_task::LmTaskSettings;
use super::recipe::{OnNan, OptimiserName, TaskName, TrainingSettings, UnfreezingStep, VocabularyName};
use super::stages::{ClassWeights, Context, check_chunks, check_classes, check_kind};
use crate::answer::gold::Gold;
use crate::answer::tags::kinds;
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::LanguageModel;
use crate::text::{BuildOptions, Labels, Source, Storage, TokenizerPlan};
use crate::train::Stage;

/// A stage that stands ready.
pub struct Trial<'a> {
    pub stage: Stage,
    pub training: &'a TrainingSettings,
    pub task: &'a mut dyn Task,
    pub parameters: &'a mut Parameters,
    pub graph: &'a mut Graph,
    /// The last step of unfreezing: all groups, unless the recipe never thaws some.
    pub step: UnfreezingStep,
    /// Words of the vocabulary.
    pub vocabulary: usize,
    /// Classes of a classifier.
    pub classes: Option<usize>,
}

/// Sets up a language model, one that is to be fine-tuned with `from`, else a new one, and hands it
/// to `work`. `adjust` may change the task's settings.
pub fn language_model<R>(
    context: &mut Context,
    sources: &[Source],
    from: Option<&Loaded<LanguageModel>>,
    adjust: impl FnOnce(&mut LmTaskSettings),
    work: impl FnOnce(&mut Context, Trial) -> Result<R>,
) -> Result<R> {
    let recipe = context.recipe.clone();
    let (stage, settings) = match from {
        Some(_) => (Stage::FinetuneLm, &recipe.finetune),
        None => (Stage::Pretrain, &recipe.pretrain),
    };
    let plan = match from {
        Some(model) => TokenizerPlan::Made(model.vocabulary.tokenizer().clone()),
        None => recipe.text.tokenizer_plan()?,
    };
    let united = from.filter(|_| settings.vocabulary == VocabularyName::Union).map(|from| &from.vocabulary);
    let vocabulary = context.vocabulary(sources, plan, &settings.training, united)?;
    let base = from.map(|from| &from.network.settings);
    let architecture = recipe.language_model_from(stage, vocabulary.len(), base);
    let mut task = assemble::lm_task_settings_from(settings, &architecture);
    adjust(&mut task);
    let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
    let (store, _) = context.store("train", sources, &vocabulary, &options, Storage::Temporary)?;
    let (direction, key) = (context.direction, context.key(stage));
    let start = from.map(|from| Start::with_words(from, &vocabulary));
    let Assembled { network, mut parameters, mut graph } =
        assemble::language_model(architecture, key, start, |declared| context.place(declared))?;
    let (texts, counts) = ((store, None), vocabulary.counts());
    let mut task =
        assemble::language_model_task(&network, &parameters, settings, task, direction, key, texts, None, counts)?;
    let step = last(settings.steps(parameters.groups()))?;
    let trial = Trial {
        stage,
        training: &settings.training,
        task: &mut task,
        parameters: &mut parameters,
        graph: &mut graph,
        step,
        vocabulary: vocabulary.len(),
        classes: None,
    };
    work(context, trial)
}

/// Sets up a classifier, on a language model's encoder with `from`, else from scratch, and hands it
/// to `work`.
pub fn classifier<R>(
    context: &mut Context,
    source: &Source,
    from: Option<&Loaded<LanguageModel>>,
    adjust: impl FnOnce(&mut ClassifierTaskSettings),
    work: impl FnOnce(&mut Context, Trial) -> Result<R>,
) -> Result<R> {
    let recipe = context.recipe.clone();
    let settings = &recipe.classifier;
    let sources = std::slice::from_ref(source);
    let vocabulary = match from {
        Some(model) => model.vocabulary.clone(),
        None => context.vocabulary(sources, recipe.text.tokenizer_plan()?, &settings.training, None)?,
    };
    let kind = settings.task;
    check_kind(kind, sources, None)?;
    let (pair, skip_unlabelled) = (kind == TaskName::Pair, kind != TaskName::Labels);
    let options = BuildOptions { labels: Labels::Collect, skip_empty: !pair, skip_unlabelled };
    let mut store = |source: &Source, role: &str| {
        let sources = std::slice::from_ref(source);
        context.store(role, sources, &vocabulary, &options, Storage::Temporary).map(|(store, _)| store)
    };
    let (store, second) = match pair {
        true => {
            (store(&source.half_of_pairs(0), "train")?, Some(store(&source.half_of_pairs(1), "train (second texts)")?))
        }
        false => (store(source, "train")?, None),
    };
    let (gold, names) = Gold::of_store(&store, kind.answers(), None)?;
    match kind {
        TaskName::Class | TaskName::Pair => check_classes(&names, source)?,
        TaskName::Tags => check_chunks(&kinds(&names), source)?,
        TaskName::Labels | TaskName::Regression => {}
    }
    let all: Vec<u32> = (0..store.documents() as u32).collect();
    let (counts, several) = (gold.counts(&all, names.len()), kind == TaskName::Labels);
    let weights = ClassWeights::read(&settings.class_weights)?.of(&names, &counts, all.len() as u64, several)?;
    let architecture = recipe.classifier_architecture(vocabulary.len(), names.len());
    let (direction, key) = (context.direction, context.key(Stage::Classifier));
    let start = from.map(|from| Start::of(&from.parameters, vocabulary.len()));
    let Assembled { network, mut parameters, mut graph } =
        assemble::classifier(architecture, key, start, |declared| context.place(declared))?;
    let mut task = assemble::classifier_task_settings(settings);
    task.losses.counts.weights = weights;
    task.decision = gold.scale(&all);
    adjust(&mut task);
    let examples = Examples { store, second, gold: Arc::new(gold), chosen: None };
    let mut task = assemble::classifier_task(&network, settings, task, direction, key, examples, None::<Examples>)?;
    let step = last(settings.steps(parameters.groups()))?;
    let trial = Trial {
        stage: Stage::Classifier,
        training: &settings.training,
        task: &mut task,
        parameters: &mut parameters,
        graph: &mut graph,
        step,
        vocabulary: vocabulary.len(),
        classes: Some(names.len()),
    };
    work(context, trial)
}

/// Settings under which a trial trains: without evaluations, and so without what hangs on them.
pub fn without_evaluation(training: &TrainingSettings, max_steps: Option<u64>) -> TrainingSettings {
    TrainingSettings {
        max_steps,
        lr_drop_at: Vec::new(),
        early_stopping: None,
        restore_best: false,
        stop_on_nonmono: false,
        // nothing would start the averaging
        optimiser: match training.optimiser {
            OptimiserName::NtAsgd => OptimiserName::Sgd,
            other => other,
        },
        on_nan: OnNan::Stop,
        ..training.clone()
    }
}

fn last(steps: Vec<UnfreezingStep>) -> Result<UnfreezingStep> {
    steps.into_iter().next_back().ok_or_else(|| Error::usage("the recipe trains for no epoch"))
}
