//! Memory and arithmetic of a stage before it runs, from its recipe alone.
//!
//! Memory: the slabs of parameters and gradients, the optimiser's state, and the pool, whose
//! content is found by running the stage's model on a [dry](crate::autodiff::Graph::dry) graph, in
//! the order of the training loop (`steps`). Arithmetic: the matrix products that operations tell
//! to that graph, a multiply-add counted as two; arithmetic that a backward pass repeats is no
//! useful work and is not counted, nor are element-wise operations.

mod steps;

use serde::Serialize;

use self::steps::{Counts, Pool};
use super::recipe::{OptimiserName, Recipe, TrainingSettings};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::nn::{Classifier, LanguageModel};
use crate::tensor::DType;
use crate::train::Stage;

/// Bytes that every thread keeps for the packed operand of a matrix product.
pub(super) const PACKING: usize = 4 << 20;
/// Bytes of code, stacks, vocabulary and pages of the token file: what a run takes beside its
/// model. (Measured: 12 MiB at 3,000 words, 24 after two million tokens of WikiText-2 with 29,111.)
pub(super) const PROGRAM: usize = 16 << 20;
/// Bytes of a class beside its rows of the model: its name where names are looked up, saved and
/// shown, and its counts. (Measured: 20 MiB at 20,000 classes.)
const CLASS: usize = 1 << 10;

/// The sizes that a recipe does not have.
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

/// The sizes of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub layers: usize,
    pub classes: Option<usize>,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Steps of a window or chunk as the recipe names it, for `flop`.
    pub bptt: usize,
    /// Steps of the largest window that can come, for `bytes`.
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
    /// The model to start from, which is kept while the stage runs; taken to have the same
    /// vocabulary.
    pub start: usize,
    /// Tensors that the forward pass saves for the backward pass.
    pub activations: usize,
    /// The other memory of a step: gradients of activations, scratch.
    pub workspace: usize,
    /// The additional memory of the evaluation after an epoch.
    pub evaluation: usize,
    /// Packed blocks of matrix products, by thread.
    pub packing: usize,
    /// Code, stacks, vocabulary, pages of the token file: about, for no recipe tells.
    pub program: usize,
    /// The pool: activations, workspace and evaluation.
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
    /// Arithmetic of the largest window that can come.
    pub longest_window: u64,
    pub per_token: u64,
}

/// Plans a stage.
///
/// # Errors
/// A recipe without a limit of the vocabulary; sizes that no model can have; a loss that is not
/// there.
pub fn plan(recipe: &Recipe, stage: Stage, options: &PlanOptions) -> Result<Plan> {
    let training = recipe.training(stage);
    let v = training.vocab_size.ok_or_else(|| {
        Error::usage("the recipe does not limit the vocabulary: its size is not known").hint("say --vocab-size N")
    })?;
    let v = v.next_multiple_of(recipe.text.vocab_multiple.max(1));
    let encoder = recipe.encoder(v);
    encoder.check()?;
    let planned = match stage {
        Stage::Classifier => steps::classifier(recipe, v, options)?,
        _ => steps::language_model(recipe, stage, v, options.precision)?,
    };
    let Planned { parameters: (values, gradients), trained, pool, flop, longest_window, length } = planned;
    let optimiser = 4 * trained * optimiser_slots(training);
    let best = if training.restore_best { values } else { 0 };
    let start = match stage {
        Stage::Pretrain => 0,
        _ => LanguageModel::declare(recipe.language_model(Stage::Pretrain, v))?.1.bytes(DType::F32).0,
    };
    let packing = options.threads * PACKING;
    let classes = (stage == Stage::Classifier).then_some(options.classes);
    let program = PROGRAM + classes.unwrap_or(0) * CLASS;
    let Pool { activations, workspace, evaluation } = pool;
    let pool = activations + workspace + evaluation;
    Ok(Plan {
        stage: stage.command(),
        sizes: Sizes {
            vocabulary: v,
            embedding: encoder.width(),
            hidden: recipe.model.hidden,
            layers: encoder.layer_names().len(),
            classes,
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
            program,
            pool,
            total: values + gradients + optimiser + best + start + pool + packing + program,
        },
        flop,
    })
}

/// Bytes of a model in training, and trained values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slabs {
    pub values: usize,
    pub gradients: usize,
    pub optimiser: usize,
    /// Copy of the best epoch.
    pub best: usize,
}

/// The slabs of a stage for a vocabulary, without a look at its steps.
pub(super) fn slabs(recipe: &Recipe, stage: Stage, vocabulary: usize, classes: usize) -> Result<Slabs> {
    recipe.encoder(vocabulary).check()?;
    let declared = match stage {
        Stage::Classifier => Classifier::declare(recipe.classifier_architecture(vocabulary, classes))?.1,
        _ => LanguageModel::declare(recipe.language_model(stage, vocabulary))?.1,
    };
    let (values, gradients) = declared.bytes(DType::F32);
    Ok(Slabs::new(recipe.training(stage), values, gradients))
}

impl Slabs {
    pub(super) fn new(training: &TrainingSettings, values: usize, gradients: usize) -> Self {
        let optimiser = gradients.saturating_mul(optimiser_slots(training));
        Slabs { values, gradients, optimiser, best: if training.restore_best { values } else { 0 } }
    }
}

/// The results of the steps of a stage.
struct Planned {
    /// Bytes of the slabs of values and of gradients.
    parameters: (usize, usize),
    trained: usize,
    pool: Pool,
    flop: Flop,
    longest_window: usize,
    length: Option<usize>,
}

/// State tensors of the size of the parameters. Where averaging may take over, its state counts,
/// too.
fn optimiser_slots(training: &TrainingSettings) -> usize {
    let momentum = usize::from(training.momentum > 0.0);
    match training.optimiser {
        OptimiserName::Adam => 2,
        OptimiserName::Sgd => momentum,
        OptimiserName::NtAsgd => momentum + 1,
        OptimiserName::Asgd => 1,
    }
}

impl Flop {
    /// From an update as the recipe names it, of `tokens` tokens, and one with the longest window.
    fn new(update: Counts, longest: Counts, tokens: usize) -> Self {
        let Counts { forward, backward } = update;
        let per_step = forward.saturating_add(backward);
        let longest_window = longest.forward.saturating_add(longest.backward);
        Flop { forward, backward, per_step, longest_window, per_token: per_step / tokens.max(1) as u64 }
    }
}

#[cfg(test)]
mod tests;
