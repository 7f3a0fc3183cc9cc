//! The one place where a training is put together: a model, its memory, its start values, the
//! weights of an earlier model, the batches, the task. The stages, trials, benchmarks and tests all
//! come here; they differ in what they hand in.

use std::sync::Arc;

use super::classifier_task::{ClassifierTask, ClassifierTaskSettings, Measurable};
use super::driver::{LoopSettings, UnfreezingPhase};
use super::lm_task::{LmTask, LmTaskSettings};
use super::recipe::{ClassifierSettings, LmSettings, TrainingSettings, UnfreezingStep};
use crate::answer::gold::Gold;
use crate::answer::{classes, language};
use crate::autodiff::{Graph, Parameters, ParametersBuilder};
use crate::error::Result;
use crate::models::{Decision, Loaded};
use crate::nn::{self, Classifier, ClassifierLosses, LabelLoss, LanguageModel, LossSettings, weights};
use crate::random::Key;
use crate::text::{ClassifierBatches, Direction, LmBatches, SampleOrder, TokenStore, Vocabulary};
use crate::train::Stage;

/// A model with its values, and the graph that it computes in.
pub struct Assembled<N> {
    pub network: N,
    pub parameters: Parameters,
    pub graph: Graph,
}

/// Weights that a model starts from, in the place of random ones.
#[derive(Debug)]
pub struct Start<'a> {
    pub parameters: &'a Parameters,
    /// For every word of the model's vocabulary, the row that it had.
    pub rows: Vec<Option<u32>>,
    /// The parameters of a second encoder.
    pub second: Option<&'a Parameters>,
}

impl<'a> Start<'a> {
    /// Words keep their rows; those that are new get the mean of all (docs/SPEC.md §2.3).
    pub(super) fn with_words<N>(model: &'a Loaded<N>, vocabulary: &Vocabulary) -> Self {
        Start { parameters: &model.parameters, rows: vocabulary.map_from(&model.vocabulary), second: None }
    }

    /// A model of the same `words`.
    pub fn of(parameters: &'a Parameters, words: usize) -> Self {
        Start { parameters, rows: (0..words as u32).map(Some).collect(), second: None }
    }

    /// Two models of the same `words`, for two encoders.
    pub(super) fn of_both(first: &'a Parameters, second: Option<&'a Parameters>, words: usize) -> Self {
        Start { second, ..Self::of(first, words) }
    }
}

/// Takes the memory of a model (`place`) and fills it: start values, then the weights to start
/// from.
fn assemble<N>(
    (network, declared): (N, ParametersBuilder),
    initialise: impl FnOnce(&N, &Parameters) -> Result<()>,
    start: Option<Start>,
    place: impl FnOnce(ParametersBuilder) -> Result<(Parameters, Graph)>,
) -> Result<Assembled<N>> {
    let (parameters, graph) = place(declared)?;
    initialise(&network, &parameters)?;
    if let Some(start) = start {
        weights::transfer(start.parameters, &parameters, &start.rows)?;
        if let Some(second) = start.second {
            weights::transfer_into(nn::SECOND, second, &parameters, &start.rows)?;
        }
    }
    Ok(Assembled { network, parameters, graph })
}

/// A language model, ready to train.
///
/// # Errors
/// Sizes that no model can have, no memory left, a start of other sizes.
pub fn language_model(
    settings: nn::LanguageModelSettings,
    key: Key,
    start: Option<Start>,
    place: impl FnOnce(ParametersBuilder) -> Result<(Parameters, Graph)>,
) -> Result<Assembled<LanguageModel>> {
    assemble(LanguageModel::declare(settings)?, |network, values| network.initialise(values, key), start, place)
}

/// A classifier, ready to train.
///
/// # Errors
/// As [`language_model`].
pub fn classifier(
    settings: nn::ClassifierSettings,
    key: Key,
    start: Option<Start>,
    place: impl FnOnce(ParametersBuilder) -> Result<(Parameters, Graph)>,
) -> Result<Assembled<Classifier>> {
    assemble(Classifier::declare(settings)?, |network, values| network.initialise(values, key), start, place)
}

/// Documents of a store: these, or all.
pub type Chosen = (Arc<TokenStore>, Option<Vec<u32>>);

/// Documents with their true answers.
#[derive(Clone)]
pub struct Examples {
    pub store: Arc<TokenStore>,
    /// The second texts of pairs, in the same order.
    pub second: Option<Arc<TokenStore>>,
    pub gold: Arc<Gold>,
    /// These of the store, or all.
    pub chosen: Option<Vec<u32>>,
}

impl From<Chosen> for Examples {
    /// Each with its class.
    fn from((store, chosen): Chosen) -> Self {
        Examples { gold: Arc::new(Gold::classes(&store)), store, second: None, chosen }
    }
}

/// The task of stage 1 or 2. `counts`: of the vocabulary's words, for negatives.
///
/// # Errors
/// A text that is shorter than a window, no memory left.
#[allow(clippy::too_many_arguments)]
pub fn language_model_task<'a>(
    network: &'a LanguageModel,
    parameters: &Parameters,
    settings: &LmSettings,
    task: LmTaskSettings,
    direction: Direction,
    key: Key,
    (store, documents): Chosen,
    valid: Option<Chosen>,
    counts: &[u64],
) -> Result<LmTask<'a>> {
    let batches = LmBatches::new(store, documents, settings.batches(direction, key))?;
    let (columns, bptt) = (settings.training.valid_batch_size, settings.training.bptt);
    let valid = valid
        .map(|(store, documents)| language::evaluation_batches(store, documents, columns, bptt, direction))
        .transpose()?;
    let unigram = task.negatives.map(|_| unigram(counts));
    LmTask::new(network, task, key, batches, valid, unigram, parameters)
}

/// The task of stage 3.
///
/// # Errors
/// No document to train on.
pub fn classifier_task<'a>(
    network: &'a Classifier,
    settings: &ClassifierSettings,
    task: ClassifierTaskSettings,
    direction: Direction,
    key: Key,
    train: impl Into<Examples>,
    valid: Option<impl Into<Examples>>,
) -> Result<ClassifierTask<'a>> {
    let Examples { store, second, gold, chosen } = train.into();
    let batches = ClassifierBatches::new(store.clone(), chosen, settings.batches(key))?;
    let documents = classes::Documents::new(store, second, direction);
    let rows = settings.training.valid_batch_size;
    let valid = valid.map(|valid| valid.into().into_measurable(rows, SampleOrder::Sorted, direction)).transpose()?;
    Ok(ClassifierTask::new(network, task, key, batches, documents, gold, valid))
}

impl Examples {
    /// Batches of the examples for an evaluation, and their true answers.
    pub(super) fn into_measurable(self, rows: usize, order: SampleOrder, direction: Direction) -> Result<Measurable> {
        let Examples { store, second, gold, chosen } = self;
        let (batches, documents) = classes::evaluation_batches(store, second, chosen, rows, order, direction)?;
        Ok(Measurable { batches, documents, gold })
    }
}

/// The settings of the task of stage 1 or 2, from a recipe. `vocabulary`: its size. Where it has no
/// more words than a sampled softmax would draw, the softmax is over all of them.
pub fn lm_task_settings(settings: &LmSettings, vocabulary: usize) -> LmTaskSettings {
    let training = &settings.training;
    LmTaskSettings {
        dropout: settings.drops(),
        losses: LossSettings {
            alpha: training.alpha,
            beta: training.beta,
            ar_on_dropped: settings.ar_on_dropped,
            tar_guard: training.tar_guard,
        },
        negatives: settings.sampled_negatives(vocabulary),
        rescale_rate: training.lr_rescale,
        averaging: settings.valid_average,
    }
}

/// The same where the stage goes on from a model: an adaptive softmax is not sampled.
pub(super) fn lm_task_settings_from(settings: &LmSettings, model: &nn::LanguageModelSettings) -> LmTaskSettings {
    let task = lm_task_settings(settings, model.encoder.vocabulary());
    LmTaskSettings { negatives: task.negatives.filter(|_| model.splits.is_empty()), ..task }
}

/// The settings of the task of stage 3, from a recipe.
pub fn classifier_task_settings(settings: &ClassifierSettings) -> ClassifierTaskSettings {
    ClassifierTaskSettings {
        dropout: settings.drops(),
        head: settings.head_drops(),
        losses: ClassifierLosses {
            penalties: LossSettings {
                alpha: settings.training.alpha,
                beta: settings.training.beta,
                ar_on_dropped: false,
                tar_guard: settings.training.tar_guard,
            },
            counts: LabelLoss { smoothing: settings.label_smoothing, focal: settings.focal, weights: Vec::new() },
            auxiliary: settings.auxiliary_lm,
        },
        decision: Decision::Likeliest,
        windows: settings.training.windows,
        variable: settings.training.variable_windows(),
        rescale_rate: settings.training.lr_rescale,
        freeze_norm: settings.frozen_norm_eval,
    }
}

/// The loop over some steps of unfreezing.
pub(super) fn loop_settings(stage: Stage, training: &TrainingSettings, steps: Vec<UnfreezingStep>) -> LoopSettings {
    let phase = |step: UnfreezingStep| UnfreezingPhase {
        epochs: step.epochs,
        trainable: step.trains,
        rates: step.lr,
        schedule: step.schedule,
    };
    LoopSettings { stage, phases: steps.into_iter().map(phase).collect(), training: training.clone() }
}

/// Share of every word among all, for negatives.
fn unigram(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    counts.iter().map(|&n| n as f64 / total.max(1) as f64).collect()
}
