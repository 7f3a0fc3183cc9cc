//! Stages 1 and 2: a language model.

use std::path::Path;

use serde_json::json;

use super::super::assemble::{self, Assembled, Start};
use super::super::driver::Progress;
use super::super::recipe::{LossName, VocabularyName};
use super::super::rss;
use super::{Context, StageResult, Workplace, record};
use crate::answer::Measured;
use crate::error::Result;
use crate::models::{Architecture, Loaded, ModelConfig};
use crate::nn::{LanguageModel, weights};
use crate::text::{BuildOptions, Source, TokenizerPlan, random_split};
use crate::train::Stage;
/// Texts of a language-model stage.
pub struct LmSources {
    pub train: Vec<Source>,
    /// Without it a share of the training documents is held out.
    pub valid: Option<Source>,
}

/// Stages 1 and 2: trains a language model; with `from`, starting from a pretrained one
/// (docs/SPEC.md §2.3).
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
    let united = from.filter(|_| settings.vocabulary == VocabularyName::Union).map(|from| &from.vocabulary);
    let vocabulary = context.vocabulary(&sources.train, plan, &settings.training, united)?;
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
            context.detail(format!("valid: {} documents held out of {}", valid.len(), store.documents()))?;
            (Some(train), Some((store.clone(), Some(valid))))
        }
        None => (None, None),
    };
    let start = from.map_or_else(|| Ok("none".to_string()), |from| weights::model_hash(&from.parameters))?;
    let identity = context.identity(stage, &data, &start);
    if let Some(result) = context.finished(stage, out, &identity)? {
        return Ok(result);
    }
    let mut sets = vec![("train", sources.train.as_slice())];
    sets.extend(sources.valid.as_ref().map(|source| ("valid", std::slice::from_ref(source))));
    context.describe_data(&sets)?;
    let base = from.map(|from| &from.network.settings);
    let architecture = recipe.language_model_from(stage, vocabulary.len(), base);
    if architecture.splits != recipe.language_model(stage, vocabulary.len()).splits {
        let kind = if architecture.splits.is_empty() { "over all words" } else { "adaptive" };
        context.detail(format!("softmax: {kind}, as in the model to start from"))?;
    }
    let key = context.key(stage);
    let start = from.map(|from| Start::with_words(from, &vocabulary));
    // every vocabulary has the special tokens: they say nothing of the words
    let special = vocabulary.tokenizer().special_tokens();
    let is_word = |id: usize| vocabulary.word(id as u32).is_some_and(|word| !special.contains(&word));
    let known = start.as_ref().map(|start| {
        let words = start.rows.iter().enumerate().filter(|(id, _)| is_word(*id));
        words.fold((0, 0), |(known, all), (_, row)| (known + usize::from(row.is_some()), all + 1))
    });
    let place = |declared| context.allocate(declared, &settings.training);
    let Assembled { network, mut parameters, mut graph } =
        assemble::language_model(architecture.clone(), key, start, place)?;
    if let Some((known, all)) = known {
        context.detail(format!("{known} of {all} words are known to the pretrained model"))?;
    }
    let task = assemble::lm_task_settings_from(settings, &architecture);
    if architecture.splits.is_empty() && settings.loss == LossName::Sampled && task.negatives.is_none() {
        let (all, wanted) = (vocabulary.len(), settings.negatives);
        context.detail(format!(
            "softmax over all {all} words: they are no more than the {wanted} negatives of the recipe"
        ))?;
    }
    let tokens = match &train_documents {
        Some(all) => all.iter().map(|&d| store.document_len(d as usize) as u64).sum(),
        None => store.tokens(),
    };
    let columns = settings.fitting_columns(tokens);
    if columns < settings.training.batch_size {
        context.detail(format!("{columns} columns: the text fills no more with a window each"))?;
    }
    let mut settings = settings.clone();
    settings.training.batch_size = columns;
    let settings = &settings;
    let (direction, texts) = (context.direction, (store.clone(), train_documents));
    let counts = vocabulary.counts();
    let mut task =
        assemble::language_model_task(&network, &parameters, settings, task, direction, key, texts, valid, counts)?;
    let steps = settings.steps(parameters.groups());
    let description = vec![format!("{} tokens for training, vocabulary {}", store.tokens(), vocabulary.len())];
    let progress = context.train(
        stage,
        &mut task,
        &mut graph,
        &mut parameters,
        steps,
        description,
        None,
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

fn lm_json(progress: &Progress) -> serde_json::Value {
    let measured = progress.last.clone();
    let field = |f: fn(&Measured) -> Option<f64>| measured.as_ref().and_then(f);
    json!({
        "train_loss": progress.train_loss,
        "valid_loss": field(|m| Some(m.loss)),
        "perplexity": field(|m| m.score("perplexity")),
        "bits_per_byte": field(|m| m.score("bits_per_byte")),
        "accuracy": field(|m| m.score("accuracy")),
        "tokens": progress.tokens,
        "tokens_per_second": progress.tokens as f64 / progress.seconds.max(1e-9),
        "peak_rss_mb": rss::peak_rss_mb(),
        "seconds": progress.seconds,
        "steps": progress.update,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
    })
}
