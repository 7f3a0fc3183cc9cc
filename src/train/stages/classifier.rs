//! Stage 3: a classifier.

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;

use super::super::assemble::{self, Assembled, Examples, Start};
use super::super::observer::Split;
use super::super::recipe::{Recipe, TaskName, ThresholdsName};
use super::class_weights::ClassWeights;
use super::classifier_report::{
    classifier_json, describe_balance, describe_weights, doubt_labels, report_test, show_measured,
};
use super::examples::{self, ExampleSets, check_kind, check_texts};
use super::{Context, StageResult, Workplace};
use crate::answer::classes;
use crate::answer::gold::Gold;
use crate::answer::tags::kinds;
use crate::error::{Error, Result};
use crate::models::{Architecture, Decision, Loaded, ModelConfig};
use crate::nn::{Answers, LanguageModel, weights as model_weights};
use crate::text::{
    Direction, Document, Labelled, Labels, Source, low_shot_subset, random_split, shown_label, stratified_folds,
    stratified_split,
};
use crate::train::Stage;

/// Data of the third stage.
#[derive(Clone)]
pub struct ClassifierSources {
    pub train: Source,
    pub valid: Option<Source>,
    pub test: Option<Source>,
    /// Size of the balanced subset of the training documents (`--labels`).
    pub labels: Option<usize>,
    /// Which of the folds is held out; none: a share of the documents, as the recipe says.
    pub fold: Option<Fold>,
}

/// Begins the part of a run whose classifier stands on no language model.
pub const FROM_SCRATCH: &str = "from scratch";

/// One part of several of the labelled documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// From 0.
    pub index: usize,
    pub count: usize,
}

impl ClassifierSources {
    fn all(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.train).chain(&self.valid).chain(&self.test)
    }
}

/// The language models that a classifier stands on: none, one, or, where words are tagged, one that
/// reads forward and one that reads backward.
pub type From<'a> = [&'a Loaded<LanguageModel>];

/// Stage 3: trains a classifier; with `from`, on top of a language model's encoder.
pub fn train_classifier(
    context: &mut Context,
    sources: &ClassifierSources,
    from: &From,
    out: &Path,
) -> Result<StageResult> {
    let recipe = context.recipe.clone();
    let settings = &recipe.classifier;
    check_from(from, settings.task)?;
    let (both, from) = (from.get(1).copied(), from.first().copied());
    check_sizes(settings.training.batch_size, sources.labels)?;
    check_kind(settings.task, sources.all(), sources.labels)?;
    if settings.task == TaskName::Regression {
        sources.all().try_for_each(|source| check_texts(source, settings.task))?;
    }
    let weights = ClassWeights::read(&settings.class_weights)?;
    let workplace = Workplace::within(out)?;
    let train_source = std::slice::from_ref(&sources.train);
    let vocabulary = match from {
        Some(model) => model.vocabulary.clone(),
        None => context.vocabulary(train_source, recipe.text.tokenizer_plan()?, &settings.training, None)?,
    };
    let ExampleSets { mut train, valid, test, names, data } =
        examples::read(context, sources, &vocabulary, &workplace)?;
    let mut start = from.map_or_else(|| Ok("none".to_string()), |from| model_weights::model_hash(&from.parameters))?;
    if let Some(both) = both {
        start += &format!(" and {}", model_weights::model_hash(&both.parameters)?);
    }
    let mut identity = context.identity(Stage::Classifier, &data, &start);
    identity["--labels"] = json!(sources.labels);
    if let Some(fold) = sources.fold {
        identity["fold"] = json!([fold.index, fold.count]);
    }
    if let ClassWeights::Given(_, given) = &weights {
        identity["--class-weights (content)"] = json!(given);
    }
    if let Some(result) = context.finished(Stage::Classifier, out, &identity)? {
        return Ok(result);
    }
    let mut sets = vec![("train", train_source)];
    let others = [("valid", &sources.valid), ("test", &sources.test)];
    sets.extend(others.iter().filter_map(|(role, source)| Some((*role, std::slice::from_ref(source.as_ref()?)))));
    let profiles = context.describe_data(&sets)?;
    if !matches!(settings.task, TaskName::Regression | TaskName::Tags) {
        doubt_labels(context, &profiles)?;
    }
    let chosen = choose_documents(context, &train, valid.is_some(), sources)?;
    if settings.task != TaskName::Regression {
        describe_balance(context, settings.task, &names, &train.gold.counts(&chosen.0, names.len()))?;
    }
    let (train_documents, held_out) = chosen;
    let weights = weights.of(
        &names,
        &train.gold.counts(&train_documents, names.len()),
        train_documents.len() as u64,
        settings.task == TaskName::Labels,
    )?;
    describe_weights(context, &names, &weights)?;
    let direction = context.direction;
    let valid = match (valid, held_out) {
        (Some(valid), _) => Some(valid),
        (None, Some(documents)) if !documents.is_empty() => Some(Examples { chosen: Some(documents), ..train.clone() }),
        _ => None,
    };
    if valid.is_none() && settings.thresholds == ThresholdsName::Tuned {
        return Err(Error::usage("--thresholds tuned: there are no validation data to tune them on")
            .hint("give --valid, or hold a part out with --valid-fraction"));
    }
    let mut architecture = recipe.classifier_architecture(vocabulary.len(), names.len());
    if both.is_some() {
        architecture.answers = Answers::Tags { both: true };
    }
    let key = context.key(Stage::Classifier);
    let start = from.map(|from| Start::of_both(&from.parameters, both.map(|both| &both.parameters), vocabulary.len()));
    let place = |declared| context.allocate(declared, &settings.training);
    let Assembled { network, mut parameters, mut graph } =
        assemble::classifier(architecture.clone(), key, start, place)?;
    let what = match settings.task {
        TaskName::Class => format!("{} classes", names.len()),
        TaskName::Pair => format!("pairs of texts, {} classes", names.len()),
        TaskName::Labels => format!("{} labels", names.len()),
        TaskName::Regression => "a number of each".into(),
        TaskName::Tags => format!("{} kinds of chunks", kinds(&names).len()),
    };
    let documents = train_documents.len();
    let description = vec![format!("{documents} documents for training, {what}, vocabulary {}", vocabulary.len())];
    let part = match (sources.fold, from) {
        (Some(fold), _) => Some(format!("fold {} of {}", fold.index + 1, fold.count)),
        (None, None) => {
            let rates: Vec<String> = settings.training.lr.iter().map(f64::to_string).collect();
            Some(format!("{FROM_SCRATCH}, rate {}", rates.join(", ")))
        }
        (None, Some(_)) => None,
    };
    let mut task = assemble::classifier_task_settings(settings);
    task.losses.counts.weights = weights;
    task.decision = train.gold.scale(&train_documents);
    let mut decision = task.decision.clone();
    train.chosen = Some(train_documents);
    let mut task = assemble::classifier_task(&network, settings, task, direction, key, train, valid)?;
    let steps = settings.steps(parameters.groups());
    let mut progress = context.train(
        Stage::Classifier,
        &mut task,
        &mut graph,
        &mut parameters,
        steps,
        description,
        part,
        out,
        identity.clone(),
    )?;
    graph.set_recording(false);
    if settings.task == TaskName::Labels {
        decision = match settings.thresholds {
            ThresholdsName::Half => Decision::Likeliest,
            ThresholdsName::Tuned => {
                let found = task.tune_thresholds(&mut graph, &parameters)?;
                let tuned = Decision::Thresholds(found.unwrap_or_default());
                progress.last = task.measure_with(&mut graph, &parameters, &tuned)?;
                tuned
            }
        };
    }
    let shown = if settings.task == TaskName::Tags { kinds(&names) } else { names.clone() };
    if let Some(measured) = &progress.last {
        show_measured(context, Split::Valid, measured, &shown, out)?;
    }
    let test = match test {
        Some(test) => {
            // no answer may depend on its neighbours, as in `evaluate`
            let (rows, order) = (settings.training.valid_batch_size, classes::order(&network));
            let mut test = test.into_measurable(rows, order, direction)?;
            let measured = test.measure(&network, &mut graph, &parameters, &decision)?;
            report_test(context, &progress, &measured, &shown, out)?;
            Some(measured)
        }
        None => None,
    };
    let json = classifier_json(&progress, test.as_ref(), &names, &decision);
    let mut config = ModelConfig::new(
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
    config.decision = decision;
    context.finish(Stage::Classifier, out, &parameters, &vocabulary, &config)?;
    Ok(StageResult { json })
}

/// Refuses two language models where one is wanted, and two that do not fit each other.
fn check_from(from: &From, task: TaskName) -> Result<()> {
    let [first, second] = *from else { return Ok(()) };
    if task != TaskName::Tags {
        let message = format!("two language models are for --task tags, not for --task {}", task.name());
        return Err(Error::usage(message).hint("train one classifier on each; --ensemble averages them"));
    }
    let directions = [first, second].map(|model| model.config.direction);
    if directions != [Direction::Forward, Direction::Backward] {
        let [first, second] = directions.map(Direction::name);
        return Err(Error::usage(format!(
            "of two language models the first reads forward and the second backward, but these read {first} and {second}"
        )));
    }
    if first.vocabulary != second.vocabulary {
        return Err(Error::usage("the two language models have other vocabularies")
            .hint("make both from the same text with the same flags"));
    }
    if first.network.settings.encoder != second.network.settings.encoder {
        return Err(Error::usage("the two language models have encoders of other sizes"));
    }
    Ok(())
}

/// Which documents of the training file are trained on, and which are held out for validation: of
/// classes a share of each, else of all.
fn choose_documents(
    context: &mut Context,
    train: &Examples,
    has_valid: bool,
    sources: &ClassifierSources,
) -> Result<(Vec<u32>, Option<Vec<u32>>)> {
    if let Gold::Classes(_) = &*train.gold {
        let labels: Vec<Option<u32>> = (0..train.store.documents()).map(|d| train.store.label(d)).collect();
        return choose_by_class(context, &labels, has_valid, sources);
    }
    let (n, fraction) = (train.store.documents(), context.recipe.classifier.training.valid_fraction);
    if has_valid || fraction == 0.0 {
        return Ok(((0..n as u32).collect(), None));
    }
    let (train, valid) = random_split(n, fraction, context.seed);
    context.detail(format!("valid: {} documents held out of {n}", valid.len()))?;
    if valid.is_empty() {
        context.warn("valid: no document could be held out: nothing is measured while training; --valid gives data")?;
    }
    Ok((train, Some(valid)))
}

fn choose_by_class(
    context: &mut Context,
    labels: &[Option<u32>],
    has_valid: bool,
    sources: &ClassifierSources,
) -> Result<(Vec<u32>, Option<Vec<u32>>)> {
    let (train, held_out) = chosen(&context.recipe, context.seed, labels, has_valid, sources);
    if let Some(valid) = &held_out {
        let of = if sources.fold.is_some() { train.len() + valid.len() } else { labels.len() };
        context.detail(format!("valid: {} documents held out of {of}", valid.len()))?;
        let classes = |documents: &[u32]| {
            documents.iter().filter_map(|&d| labels[d as usize]).collect::<std::collections::BTreeSet<u32>>().len()
        };
        let (all, held) = (classes(&train), classes(valid));
        if valid.is_empty() {
            context
                .warn("valid: no document could be held out: nothing is measured while training; --valid gives data")?;
        } else if held < all {
            context.warn(format!("valid: {} of {all} classes have no document among those held out", all - held))?;
        }
    }
    if sources.labels.is_some() {
        context.detail(format!("train: a balanced subset of {} documents", train.len()))?;
    }
    Ok((train, held_out))
}

/// The same, without a word.
fn chosen(
    recipe: &Recipe,
    seed: u64,
    labels: &[Option<u32>],
    has_valid: bool,
    sources: &ClassifierSources,
) -> (Vec<u32>, Option<Vec<u32>>) {
    let all = || (0..labels.len() as u32).collect::<Vec<u32>>();
    if let Some(fold) = sources.fold {
        return of_fold(
            fold,
            seed,
            labels,
            sources.labels.map_or_else(all, |n| low_shot_subset(labels, &all(), n, seed)),
        );
    }
    let fraction = recipe.classifier.training.valid_fraction;
    let (mut train, held_out) = if !has_valid && fraction > 0.0 {
        let (train, valid) = stratified_split(labels, fraction, seed);
        (train, Some(valid))
    } else {
        (all(), None)
    };
    if let Some(n) = sources.labels {
        train = low_shot_subset(labels, &train, n, seed);
    }
    (train, held_out)
}

/// The documents outside a fold, and those in it. The only document of a class is never held out.
fn of_fold(fold: Fold, seed: u64, labels: &[Option<u32>], documents: Vec<u32>) -> (Vec<u32>, Option<Vec<u32>>) {
    let classes: Vec<Option<u32>> = documents.iter().map(|&d| labels[d as usize]).collect();
    let mut sizes: HashMap<Option<u32>, usize> = HashMap::new();
    classes.iter().for_each(|&class| *sizes.entry(class).or_default() += 1);
    let folds = stratified_folds(&classes, fold.count, seed);
    let held = |k: usize| folds[k] == fold.index as u32 && sizes[&classes[k]] > 1;
    let part = |wanted: bool| (0..documents.len()).filter(|&k| held(k) == wanted).map(|k| documents[k]).collect();
    (part(false), Some(part(true)))
}

/// The documents of stage 3 as texts.
pub struct ClassifierParts {
    /// The documents that it learns from.
    pub train: Labelled,
    /// The documents that it is measured on while it learns, given or held out, if any.
    pub valid: Option<Source>,
}

/// The documents that stage 3 learns from, and those it is measured on: the same that
/// [`train_classifier`] takes.
///
/// # Errors
/// Errors of reading; training data without two classes.
pub fn classifier_parts(recipe: &Recipe, seed: u64, sources: &ClassifierSources) -> Result<ClassifierParts> {
    let all = Labelled::read(&sources.train, &Labels::Collect)?;
    check_classes(&all.names, &sources.train)?;
    let labels: Vec<Option<u32>> = all.labels.iter().map(|&label| Some(label)).collect();
    let (train, held_out) = chosen(recipe, seed, &labels, sources.valid.is_some(), sources);
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

/// All labelled documents that stage 3 has, the held-out ones among them, or the subset of
/// `--labels`.
///
/// # Errors
/// As [`classifier_parts`].
pub fn all_labelled(recipe: &Recipe, seed: u64, sources: &ClassifierSources) -> Result<Labelled> {
    let mut recipe = recipe.clone();
    recipe.classifier.training.valid_fraction = 0.0;
    let sources = ClassifierSources { fold: None, ..sources.clone() };
    Ok(classifier_parts(&recipe, seed, &sources)?.train)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every document is held out once, but for the only one of a class.
    #[test]
    fn folds_hold_out_every_document_once() {
        let labels: Vec<Option<u32>> = (0..23).map(|d| Some(if d == 7 { 2 } else { d % 2 })).collect();
        let parts = |index| of_fold(Fold { index, count: 4 }, 5, &labels, (0..23).collect());
        let mut times = [0; 23];
        for (train, held) in (0..4).map(parts) {
            let held = held.unwrap();
            assert_eq!(train.len() + held.len(), 23);
            assert!(train.contains(&7) && train.iter().all(|d| !held.contains(d)));
            held.iter().for_each(|&d| times[d as usize] += 1);
        }
        assert!(times.iter().enumerate().all(|(d, &n)| n == u32::from(d != 7)), "{times:?}");
    }
}
