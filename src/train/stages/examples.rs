//! The labelled documents of stage 3: read, cut into tokens, with their true answers.

use std::sync::Arc;

use super::super::assemble::Examples;
use super::super::recipe::TaskName;
use super::{ClassifierSources, Context, Workplace, check_classes, record};
use crate::answer::gold::Gold;
use crate::answer::tags::{check_tags, kinds};
use crate::error::{Error, Result};
use crate::models::DataRecord;
use crate::text::{BuildOptions, Labels, Source, Vocabulary, nothing_left, shown_label};

/// What stage 3 learns from and is measured on.
pub(super) struct ExampleSets {
    pub train: Examples,
    pub valid: Option<Examples>,
    pub test: Option<Examples>,
    /// The names of the model's outputs.
    pub names: Vec<String>,
    pub data: Vec<DataRecord>,
}

/// Refuses sources whose labels are not of the task's kind. `labels`: size of the balanced subset
/// (`--labels`).
///
/// # Errors
/// Several labels a text where one is wanted; a balanced subset where there are no classes.
pub(in crate::train) fn check_kind<'a>(
    task: TaskName,
    sources: impl IntoIterator<Item = &'a Source>,
    labels: Option<usize>,
) -> Result<()> {
    for source in sources {
        let (name, task_name) = (source.name(), task.name());
        if task != TaskName::Labels && source.has_several_labels() {
            let message = format!("{name}: several labels a text are not for --task {task_name}");
            return Err(Error::usage(message).hint("say --task labels, or name one label column"));
        }
        if task != TaskName::Tags && source.has_tags() {
            let message = format!("{name}: a tag for every word is not for --task {task_name}");
            return Err(Error::usage(message).hint("say --task tags"));
        }
        if task == TaskName::Tags && !source.has_tags() {
            let message = format!("{name}: --task tags learns a tag for every word, and the file has none");
            return Err(Error::usage(message).hint("--format conll reads a word and its tag a line"));
        }
    }
    match labels.filter(|_| !matches!(task, TaskName::Class | TaskName::Pair)) {
        Some(n) => Err(Error::usage(format!(
            "--labels {n}: a balanced subset is one of classes, not for --task {}",
            task.name()
        ))
        .hint("give fewer documents instead")),
        None => Ok(()),
    }
}

/// Reads the sets of the stage.
pub(super) fn read(
    context: &mut Context,
    sources: &ClassifierSources,
    vocabulary: &Vocabulary,
    workplace: &Workplace,
) -> Result<ExampleSets> {
    let task = context.recipe.classifier.task;
    let mut data = Vec::new();
    let (train, names) = one(context, task, "train", &sources.train, None, vocabulary, workplace, &mut data)?;
    match task {
        TaskName::Class | TaskName::Pair => check_classes(&names, &sources.train)?,
        TaskName::Labels if names.is_empty() => {
            return Err(Error::file(sources.train.name(), "has no labels").hint("name the column with --label-column"));
        }
        _ => {}
    }
    let mut others = Vec::new();
    for (role, source) in [("valid", &sources.valid), ("test", &sources.test)] {
        let examples = source.as_ref().map(|source| {
            one(context, task, role, source, Some(&names), vocabulary, workplace, &mut data)
                .map(|(examples, _)| examples)
        });
        others.push(examples.transpose()?);
    }
    let (test, valid) = (others.pop().flatten(), others.pop().flatten());
    Ok(ExampleSets { train, valid, test, names, data })
}

/// Refuses training data without a chunk of words.
///
/// # Errors
/// As told.
pub(in crate::train) fn check_chunks(kinds: &[String], source: &Source) -> Result<()> {
    match kinds {
        [] => Err(Error::file(source.name(), "has no tag but O: there is nothing to learn")
            .hint("--label-column names the column of the tags by its number")),
        _ => Ok(()),
    }
}

/// Reads data of another task than classes to their end: a text, and a number of each where numbers
/// are learned.
///
/// # Errors
/// As told.
pub(in crate::train) fn check_texts(source: &Source, task: TaskName) -> Result<()> {
    let mut labelled = false;
    for document in source.documents()? {
        let document = document?;
        let Some(label) = document.label.as_ref().filter(|_| !document.is_empty()) else { continue };
        labelled |= !label.is_empty();
        if task == TaskName::Regression && !label.trim().parse::<f64>().is_ok_and(f64::is_finite) {
            let message = format!("has '{}' in the place of a number", shown_label(label));
            return Err(Error::line(&*document.origin.file, document.origin.line, message)
                .hint("--label-column names the column of the numbers"));
        }
    }
    match labelled {
        true => Ok(()),
        false => Err(nothing_left(source.name(), true)),
    }
}

#[allow(clippy::too_many_arguments)]
fn one(
    context: &mut Context,
    task: TaskName,
    role: &str,
    source: &Source,
    names: Option<&[String]>,
    vocabulary: &Vocabulary,
    workplace: &Workplace,
    data: &mut Vec<DataRecord>,
) -> Result<(Examples, Vec<String>)> {
    let classes = matches!(task, TaskName::Class | TaskName::Pair);
    if task == TaskName::Tags {
        let found = check_tags(source, names.map(kinds).as_deref())?;
        if names.is_none() {
            check_chunks(&found, source)?;
        }
    }
    let labels = match names {
        Some(names) if classes => Labels::Known(names.to_vec()),
        _ => Labels::Collect,
    };
    // a text without labels is an example, one of a pair may be empty
    let options =
        BuildOptions { labels, skip_empty: task != TaskName::Pair, skip_unlabelled: task != TaskName::Labels };
    let mut store = |context: &mut Context, source: &Source, role: &str| {
        let file = workplace.file(role);
        let (store, _) = context.store(role, std::slice::from_ref(source), vocabulary, &options, &file)?;
        data.push(record(role, &store)?);
        Ok::<_, Error>(store)
    };
    let (store, second) = if task == TaskName::Pair {
        let first = store(context, &source.half_of_pairs(0), role)?;
        (first, Some(store(context, &source.half_of_pairs(1), &format!("{role} (second texts)"))?))
    } else {
        (store(context, source, role)?, None)
    };
    let (gold, names) = Gold::of_store(&store, task.answers(), names)?;
    Ok((Examples { store, second, gold: Arc::new(gold), chosen: None }, names))
}
