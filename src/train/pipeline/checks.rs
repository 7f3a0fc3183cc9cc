//! The checks of a run before any work starts.

use std::collections::BTreeSet;

use super::{RunSources, Work};
use crate::answer::tags::{check_tags, tags_of};
use crate::error::{Error, Result};
use crate::random::Key;
use crate::text::{
    Direction, Scratch, Source, Tokenizer, TokenizerPlan, nothing_left, random_split, shown_label, shown_labels,
};
use crate::train::recipe::{Recipe, TaskName};
use crate::train::room::check_room;
use crate::train::stages::{ClassWeights, check_chunks, check_classes, check_kind, check_sizes, check_texts};

/// Finds before any work starts what the stages of a run would stumble over: files that cannot be
/// read, data without a text or a label, training data of one class, a class that only other data
/// have, batches that the data cannot fill, models that memory or the disk have no room for.
pub fn check_inputs(sources: &RunSources, recipe: &Recipe, seed: u64, work: &Work) -> Result<()> {
    if work.compare && recipe.classifier.task != TaskName::Class {
        let message =
            format!("--compare: the linear model knows one class a text, not --task {}", recipe.classifier.task.name());
        return Err(Error::usage(message).hint("leave --compare out"));
    }
    check_sizes(recipe.classifier.training.batch_size, sources.labels)?;
    let task = recipe.classifier.task;
    let labelled = || std::iter::once(&sources.train).chain(&sources.valid).chain(&sources.test);
    check_kind(task, labelled(), sources.labels)?;
    let weights = ClassWeights::read(&recipe.classifier.class_weights)?;
    let outputs = match task {
        TaskName::Class | TaskName::Pair => {
            let classes = check_labelled(&sources.train, None)?;
            check_classes(&classes, &sources.train)?;
            weights.of(&classes, &vec![1; classes.len()], 1, false)?;
            for source in sources.valid.iter().chain(&sources.test) {
                check_labelled(source, Some(&classes))?;
            }
            classes.len()
        }
        TaskName::Tags => {
            let kinds = check_tags(&sources.train, None)?;
            check_chunks(&kinds, &sources.train)?;
            for source in sources.valid.iter().chain(&sources.test) {
                check_tags(source, Some(&kinds))?;
            }
            tags_of(kinds).len()
        }
        TaskName::Labels | TaskName::Regression => {
            labelled().try_for_each(|source| check_texts(source, task))?;
            // a column of the last layer: nothing beside the rest
            1
        }
    };
    if task == TaskName::Pair {
        let texts = labelled().map(|source| source.half_of_pairs(1));
        texts.into_iter().try_for_each(|source| source.documents()?.try_for_each(|document| document.map(drop)))?;
    }
    // the corpus of the first stage is read by that at once
    if let Some(source) = &sources.corpus_valid {
        source.documents()?.try_for_each(|document| document.map(drop))?;
    }
    check_tuning_text(sources, recipe, seed)?;
    check_room(sources, recipe, outputs, work)
}

/// Reads labelled data to their end; the classes, sorted. `known`: those that they may have.
fn check_labelled(source: &Source, known: Option<&[String]>) -> Result<Vec<String>> {
    let mut classes: BTreeSet<String> = BTreeSet::new();
    let mut text = false;
    for document in source.documents()? {
        let document = document?;
        if document.is_empty() {
            continue;
        }
        text = true;
        let Some(label) = document.label else { continue };
        if let Some(known) = known.filter(|known| known.binary_search(&label).is_err()) {
            let (place, label) = (&document.origin, shown_label(&label));
            let message = format!("has the class '{label}', which is not among the classes of the training data");
            return Err(Error::line(&*place.file, place.line, message)
                .hint(format!("the classes are: {}", shown_labels(known))));
        }
        if !classes.contains(&label) {
            classes.insert(label);
        }
    }
    if !text {
        return Err(nothing_left(source.name(), false));
    }
    if classes.is_empty() && known.is_some() {
        return Err(nothing_left(source.name(), true));
    }
    Ok(classes.into_iter().collect())
}

/// Whether the text of the second stage fills a batch. It is read to its end; a small one is
/// counted to the token.
fn check_tuning_text(sources: &RunSources, recipe: &Recipe, seed: u64) -> Result<()> {
    let settings = &recipe.finetune;
    let batch = settings.training.batch_size as u64;
    let tokenizer = match recipe.text.tokenizer_plan()? {
        TokenizerPlan::Made(kind) => Some(Tokenizer::new(kind)?),
        // sub-words are not known yet
        TokenizerPlan::Train { .. } => None,
    };
    // the held-out part is less than the whole, and every document has a token
    let enough = 100 * batch;
    let (mut lengths, mut total, mut scratch) = (Vec::new(), 0u64, Scratch::default());
    for source in &sources.target {
        for document in source.documents()? {
            let document = document?;
            if let Some(tokenizer) = tokenizer.as_ref().filter(|_| total < enough && !document.is_empty()) {
                let mut tokens = 0u64;
                tokenizer.tokenize(&document, &mut scratch, &mut |_| tokens += 1);
                lengths.push(tokens);
                total += tokens;
            }
        }
    }
    if tokenizer.is_none() || total >= enough || settings.test_text || settings.fit_batch {
        return Ok(());
    }
    let fraction = settings.training.valid_fraction;
    if fraction > 0.0 && lengths.len() > 1 {
        let (train, _) = random_split(lengths.len(), fraction, seed);
        total = train.iter().map(|&d| lengths[d as usize]).sum();
    }
    let layout = settings.batches(Direction::Forward, Key([0, 0])).layout;
    layout.columns(total, batch).map(drop).map_err(|e| {
        Error::data(format!("fine-tuning: {e}"))
            .hint("lower --finetune-batch-size, or give more text with --unlabelled")
    })
}
