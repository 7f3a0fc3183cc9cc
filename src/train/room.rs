//! Whether memory and the disk have room for a run, before it starts.

use std::path::Path;

use super::pipeline::{RunSources, Work};
use super::plan::{Slabs, slabs};
use super::recipe::Recipe;
use super::rss;
use super::stages::poll;
use crate::error::{Error, Result};
use crate::files;
use crate::text::{BuildOptions, Source, Tokenizer, TokenizerPlan, count_words};
use crate::train::Stage;

/// Words that a recipe without a limit is first taken to find.
const MANY_WORDS: usize = 1 << 20;
/// Files of a checkpoint that are there at a time at most: the last two, and the next one while it
/// is written.
const CHECKPOINTS: u64 = 3;

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// The memory of the largest stage: the model with its gradients and optimiser, as `stages`
    /// takes it.
    memory: u64,
    /// All models, and the checkpoints of the largest stage.
    disk: u64,
}

impl Needs {
    fn add(&mut self, slabs: Slabs, models: u64, checkpoint: &mut u64) {
        let [values, gradients, optimiser, best] =
            [slabs.values, slabs.gradients, slabs.optimiser, slabs.best].map(|n| n as u64);
        self.memory = self.memory.max(values.saturating_add(gradients.saturating_mul(3)));
        self.disk = self.disk.saturating_add(values.saturating_mul(models));
        *checkpoint = (*checkpoint).max(values.saturating_add(optimiser).saturating_add(best));
    }

    fn fit(self, room: Room) -> bool {
        room.memory.is_none_or(|memory| self.memory <= memory) && room.disk.is_none_or(|disk| self.disk <= disk)
    }
}

/// The free memory and disk, where the system reports them.
#[derive(Clone, Copy, Debug)]
struct Room {
    memory: Option<u64>,
    disk: Option<u64>,
}

/// Refuses a run that the disk at `work.out` or the memory has no room for. The sizes of the
/// vocabularies are those of the recipe; where these do not fit, the words of the text are counted
/// first.
///
/// # Errors
/// [`Error::Data`] and [`Error::Memory`] with what is needed and what there is; those of reading.
pub(super) fn check_room(sources: &RunSources, recipe: &Recipe, classes: usize, work: &Work) -> Result<()> {
    let memory = match work.on_gpu {
        // its memory is asked for when it is there
        true => None,
        false => work.memory_limit.or_else(rss::available_bytes).map(|bytes| bytes as u64),
    };
    let written = if work.resume { bytes_in(work.out) } else { 0 };
    let disk = files::free_bytes(work.out).map(|free| free.saturating_add(written));
    let room = Room { memory, disk };
    if needs(sources, recipe, classes, work, false)?.fit(room) {
        return Ok(());
    }
    let needs = needs(sources, recipe, classes, work, true)?;
    if let Some(memory) = memory.filter(|&memory| needs.memory > memory) {
        let what = "the model with its gradients and optimiser".into();
        let (needed, limit) = (needs.memory as usize, memory as usize);
        return Err(Error::Memory { what, needed, limit, left: limit });
    }
    if let Some(disk) = disk.filter(|&disk| needs.disk > disk) {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (out, needed, free) = (work.out.display(), mib(needs.disk), mib(disk));
        return Err(Error::data(format!(
            "--out {out}: the models and checkpoints of this run take {needed} MiB, and {free} MiB are free there"
        ))
        .hint("make room, name a folder on another disk, or lower the sizes of the model"));
    }
    Ok(())
}

fn needs(sources: &RunSources, recipe: &Recipe, classes: usize, work: &Work, counted: bool) -> Result<Needs> {
    let (mut needs, mut checkpoint) = (Needs::default(), 0);
    let target = words(&sources.target, recipe, Stage::FinetuneLm, counted)?;
    if !sources.corpus.is_empty() {
        let corpus = words(&sources.corpus, recipe, Stage::Pretrain, counted)?;
        needs.add(slabs(recipe, Stage::Pretrain, corpus, classes)?, work.models, &mut checkpoint);
    }
    needs.add(slabs(recipe, Stage::FinetuneLm, target, classes)?, work.models, &mut checkpoint);
    let classifiers = work.models + if work.compare { 2 } else { 0 };
    needs.add(slabs(recipe, Stage::Classifier, target, classes)?, classifiers, &mut checkpoint);
    needs.disk = needs.disk.saturating_add(checkpoint.saturating_mul(CHECKPOINTS));
    Ok(needs)
}

/// Rows of the vocabulary that a stage makes at most; `counted`: as its text has them.
fn words(sources: &[Source], recipe: &Recipe, stage: Stage, counted: bool) -> Result<usize> {
    let training = recipe.training(stage);
    let most = training.vocab_size.unwrap_or(MANY_WORDS);
    let plan = recipe.text.tokenizer_plan()?;
    let words = match plan {
        TokenizerPlan::Made(kind) if counted && !matches!(kind, crate::text::TokenizerKind::Subword(_)) => {
            let special = kind.special_tokens().len();
            let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
            let (counts, _) = count_words(sources, &Tokenizer::new(kind)?, &options, &mut poll)?;
            let often = counts.most_common().into_iter().filter(|(_, n)| *n >= training.min_freq).count() + special;
            training.vocab_size.map_or(often, |most| most.min(often))
        }
        _ => most,
    };
    Ok(words.next_multiple_of(recipe.text.vocab_multiple.max(1)))
}

/// The bytes in a folder and its sub-folders: a run that goes on has written a part of what it
/// needs.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
