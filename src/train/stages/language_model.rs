//! Stages 1 and 2: a language model.

use std::path::Path;

use serde_json::json;

use super::super::driver::Progress;
use super::super::lm_task::{LmTask, LmTaskSettings};
use super::super::recipe::{LmSettings, LossName};
use super::super::rss;
use super::{Context, StageResult, Workplace, record};
use crate::answer::Measured;
use crate::answer::language::evaluation_batches;
use crate::error::Result;
use crate::models::{Architecture, Loaded, ModelConfig};
use crate::nn::{LanguageModel, LossSettings, weights};
use crate::random::Stage;
use crate::text::{BuildOptions, LmBatches, Source, TokenizerPlan, Vocabulary, random_split};
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
    let plan = match from {
        Some(model) => TokenizerPlan::Made(model.vocabulary.tokenizer().clone()),
        None => recipe.text.tokenizer_plan()?,
    };
    let vocabulary = context.vocabulary(&sources.train, plan, &settings.training)?;
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
    let start = from.map_or_else(|| Ok("none".to_string()), |from| weights::model_hash(&from.parameters))?;
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
            evaluation_batches(store, documents, b, training.bptt, context.direction)
        })
        .transpose()?;
    let unigram = task_settings.negatives.map(|_| unigram(&vocabulary));
    let mut task = LmTask::new(&model, task_settings, key, batches, valid, unigram, &parameters)?;
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

/// Share of every word among all, for negatives.
pub(in crate::train) fn unigram(vocabulary: &Vocabulary) -> Vec<f64> {
    let total: u64 = vocabulary.counts().iter().sum();
    vocabulary.counts().iter().map(|&n| n as f64 / total.max(1) as f64).collect()
}

/// What the task of stage 1 or 2 takes from a recipe. `vocabulary`: its size. Where it has no more words than a sampled softmax would draw, the softmax is over all of them.
pub fn lm_task_settings(settings: &LmSettings, vocabulary: usize) -> LmTaskSettings {
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
