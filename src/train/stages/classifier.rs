//! Stage 3: a classifier.

use std::path::Path;

use serde_json::json;

use super::super::assemble::{self, Assembled, Start};
use super::super::driver::Progress;
use super::super::observer::{Evaluated, Event, Split};
use super::super::recipe::Recipe;
use super::super::rss;
use super::{Context, StageResult, Workplace, record};
use crate::answer::{Measured, classes};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::{Architecture, Loaded, ModelConfig};
use crate::nn::{Classifier, LanguageModel, weights};
use crate::text::{
    BuildOptions, ClassifierBatches, Document, Labelled, Labels, Profile, Source, TokenStore, low_shot_subset,
    shown_label, shown_labels, stratified_split,
};
use crate::train::Stage;

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
    check_sizes(settings.training.batch_size, sources.labels)?;
    let workplace = Workplace::within(out)?;
    let train_source = std::slice::from_ref(&sources.train);
    let vocabulary = match from {
        Some(model) => model.vocabulary.clone(),
        None => context.vocabulary(train_source, recipe.text.tokenizer_plan()?, &settings.training, None)?,
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
    let start = from.map_or_else(|| Ok("none".to_string()), |from| weights::model_hash(&from.parameters))?;
    let mut identity = context.identity(Stage::Classifier, &data, &start);
    identity["--labels"] = json!(sources.labels);
    if let Some(result) = context.finished(Stage::Classifier, out, &identity)? {
        return Ok(result);
    }
    let mut sets = vec![("train", train_source)];
    sets.extend(sources.valid.as_ref().map(|source| ("valid", std::slice::from_ref(source))));
    sets.extend(sources.test.as_ref().map(|source| ("test", std::slice::from_ref(source))));
    let profiles = context.describe_data(&sets)?;
    doubt_labels(context, &profiles)?;
    let labels: Vec<Option<u32>> = (0..store.documents()).map(|d| store.label(d)).collect();
    let (train_documents, held_out) = choose_documents(context, &labels, valid_store.is_some(), sources.labels)?;
    describe_balance(context, &names, &labels, &train_documents)?;
    let direction = context.direction;
    let valid = match (valid_store, held_out) {
        (Some(valid), _) => Some((valid, None)),
        (None, Some(documents)) if !documents.is_empty() => Some((store.clone(), Some(documents))),
        _ => None,
    };
    let architecture = recipe.classifier_architecture(vocabulary.len(), names.len());
    let key = context.key(Stage::Classifier);
    let start = from.map(|from| Start::of(&from.parameters, vocabulary.len()));
    let place = |declared| context.allocate(declared);
    let Assembled { network, mut parameters, mut graph } =
        assemble::classifier(architecture.clone(), key, start, place)?;
    let description = vec![format!(
        "{} documents for training, {} classes, vocabulary {}",
        train_documents.len(),
        names.len(),
        vocabulary.len()
    )];
    let task = assemble::classifier_task_settings(settings);
    let documents = (store, Some(train_documents));
    let mut task = assemble::classifier_task(&network, settings, task, direction, key, documents, valid)?;
    let steps = settings.steps(parameters.groups());
    let progress = context.train(
        Stage::Classifier,
        &mut task,
        &mut graph,
        &mut parameters,
        steps,
        description,
        out,
        identity.clone(),
    )?;
    if let Some(matrix) = progress.last.as_ref().and_then(|m| m.confusion.clone()) {
        context.observer.observe(&Event::Confusion { split: Split::Valid, labels: names.clone(), matrix })?;
    }
    let test = match test_store {
        Some(store) => {
            let rows = settings.training.valid_batch_size;
            let batches = classes::evaluation_batches(store.clone(), None, rows, classes::order(&network), direction)?;
            let measured = test(&network, &mut graph, &parameters, batches, &store)?;
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
    let (train, held_out) = chosen(&context.recipe, context.seed, labels, has_valid, subset);
    if let Some(valid) = &held_out {
        context.note(format!("valid: {} documents held out of {}", valid.len(), labels.len()))?;
        let classes = |documents: &[u32]| {
            documents.iter().filter_map(|&d| labels[d as usize]).collect::<std::collections::BTreeSet<u32>>().len()
        };
        let learned = (0..labels.len() as u32).filter(|d| valid.binary_search(d).is_err()).collect::<Vec<_>>();
        let (all, held) = (classes(&learned), classes(valid));
        if valid.is_empty() {
            context
                .warn("valid: no document could be held out: nothing is measured while training; --valid gives data")?;
        } else if held < all {
            context.warn(format!("valid: {} of {all} classes have no document among those held out", all - held))?;
        }
    }
    if subset.is_some() {
        context.note(format!("train: a balanced subset of {} documents", train.len()))?;
    }
    Ok((train, held_out))
}

/// The same, without a word.
fn chosen(
    recipe: &Recipe,
    seed: u64,
    labels: &[Option<u32>],
    has_valid: bool,
    subset: Option<usize>,
) -> (Vec<u32>, Option<Vec<u32>>) {
    let fraction = recipe.classifier.training.valid_fraction;
    let (mut train, held_out) = if !has_valid && fraction > 0.0 {
        let (train, valid) = stratified_split(labels, fraction, seed);
        (train, Some(valid))
    } else {
        ((0..labels.len() as u32).collect(), None)
    };
    if let Some(n) = subset {
        train = low_shot_subset(labels, &train, n, seed);
    }
    (train, held_out)
}

/// The documents of stage 3 as texts.
pub struct ClassifierParts {
    /// Those that it learns from.
    pub train: Labelled,
    /// Those that it is measured on while it learns, given or held out; none where there are none.
    pub valid: Option<Source>,
}

/// The documents that stage 3 learns from, and those it is measured on: the same that
/// [`train_classifier`] takes.
///
/// # Errors
/// Those of reading; training data without two classes.
pub fn classifier_parts(recipe: &Recipe, seed: u64, sources: &ClassifierSources) -> Result<ClassifierParts> {
    let all = Labelled::read(&sources.train, &Labels::Collect)?;
    check_classes(&all.names, &sources.train)?;
    let labels: Vec<Option<u32>> = all.labels.iter().map(|&label| Some(label)).collect();
    let (train, held_out) = chosen(recipe, seed, &labels, sources.valid.is_some(), sources.labels);
    let valid = match (&sources.valid, held_out) {
        (Some(valid), _) => Some(valid.clone()),
        (None, Some(held)) if !held.is_empty() => {
            let mut documents = Vec::new();
            for document in sources.train.documents()? {
                let document = document?;
                if document.label.is_some() && !document.is_empty() {
                    documents.push(document);
                }
            }
            let held: Vec<Document> = held.iter().map(|&d| documents[d as usize].clone()).collect();
            Some(Source::of_texts("the held-out documents", held))
        }
        _ => None,
    };
    Ok(ClassifierParts { train: all.part(&train), valid })
}

/// Warns of labels that are hardly classes, and of sets without a document of some class.
fn doubt_labels(context: &mut Context, profiles: &[(&str, Profile)]) -> Result<()> {
    let Some((_, train)) = profiles.first() else { return Ok(()) };
    train.doubts().into_iter().try_for_each(|doubt| context.warn(format!("train: {doubt}")))?;
    for (name, profile) in &profiles[1..] {
        let lacking = profile.lacks(train);
        if !lacking.is_empty() {
            context.warn(format!("{name}: no document has the class {}", shown_labels(&lacking)))?;
        }
    }
    Ok(())
}

/// Refuses batches and subsets of the training documents (`--labels`) that hold a single one.
pub(in crate::train) fn check_sizes(batch_size: usize, labels: Option<usize>) -> Result<()> {
    let (flag, value) = match labels {
        Some(n) if n < 2 => ("--labels", n),
        _ if batch_size < 2 => ("the classifier's --batch-size", batch_size),
        _ => return Ok(()),
    };
    Err(Error::usage(format!("{flag} {value}: a batch norm has nothing to learn from one document; 2 at least")))
}

/// Refuses training data without two classes.
pub fn check_classes(names: &[String], source: &Source) -> Result<()> {
    match names {
        [] => Err(Error::file(source.name(), "has no labels").hint("name the column with --label-column")),
        [only] => Err(Error::file(
            source.name(),
            format!("has a single class, '{}': there is nothing to learn", shown_label(only)),
        )),
        _ => Ok(()),
    }
}

/// One line on the balance of the classes, and a warning for a class without a training document.
fn describe_balance(context: &mut Context, names: &[String], labels: &[Option<u32>], documents: &[u32]) -> Result<()> {
    let mut counts = vec![0u64; names.len()];
    documents.iter().filter_map(|&d| labels[d as usize]).for_each(|l| counts[l as usize] += 1);
    let shown: Vec<String> =
        names.iter().zip(&counts).take(20).map(|(n, c)| format!("{} {c}", shown_label(n))).collect();
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
    (mut batches, mut documents): (ClassifierBatches, classes::Documents),
    store: &TokenStore,
) -> Result<Measured> {
    let predictions = classes::predict(model, graph, parameters, &mut batches, &mut documents)?;
    let labels: Vec<u32> = predictions.documents.iter().map(|&d| store.label(d as usize).unwrap_or(u32::MAX)).collect();
    Ok(classes::measure(&predictions.probabilities, &labels, model.settings.classes))
}

fn report_test(context: &mut Context, progress: &Progress, measured: &Measured, names: &[String]) -> Result<()> {
    context.observer.observe(&Event::Evaluated(Evaluated {
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
