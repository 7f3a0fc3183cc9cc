//! Shared by the tests of the training loop: documents to learn from, and a task that ends a run
//! where it likes.
#![allow(dead_code, reason = "each of two binaries uses a part")]

use std::path::Path;
use std::sync::Arc;

use ulmfit::answer::Measured;
use ulmfit::answer::language::Mean;
use ulmfit::autodiff::{Graph, Parameters, Var};
use ulmfit::error::{Error, Result};
use ulmfit::ops::activation_regularisation::TarGuard;
use ulmfit::ops::weighted_sum::weighted_sum;
use ulmfit::random::{Key, Site, Stream};
use ulmfit::tensor::Tensor;
use ulmfit::text::{LmLayout, Windows};
use ulmfit::text::{StoreWriter, TokenStore, TokenizerKind, Vocabulary};
use ulmfit::train::driver::{Task, Update};
use ulmfit::train::recipe::{ClassifierSettings, LmSettings, Recipe, SamplerName, TrainingSettings};

pub const VOCABULARY: usize = 30;
pub const CLASSES: u32 = 3;

/// Documents of 2 to 21 words, or of so many; the class of a document is likely its first word's.
fn store(path: &Path, seed: u32, documents: usize, length: Option<usize>) -> Arc<TokenStore> {
    let words = (0..VOCABULARY).map(|i| format!("w{i}")).collect();
    let vocabulary = Vocabulary::from_words(words, TokenizerKind::Whitespace).unwrap();
    let mut writer = StoreWriter::create(path, &vocabulary).unwrap();
    let mut random = Stream::new(Key([seed, 7]), Site::CUSTOM[0], 0, 0);
    for _ in 0..documents {
        let n = 2 + random.below(20) as usize;
        let n = length.unwrap_or(n);
        // words follow one another, so that there is something to learn
        let mut word = random.below(VOCABULARY as u32 - 2);
        let ids: Vec<u32> = (0..n)
            .map(|_| {
                word = (word + 1 + random.below(3)) % (VOCABULARY as u32 - 2);
                word + 2
            })
            .collect();
        let label = if random.below(4) == 0 { random.below(CLASSES) } else { ids[0] % CLASSES };
        writer.push(&ids, Some(label), n as u64, 4 * n).unwrap();
    }
    let names = (0..CLASSES).map(|c| format!("class {c}")).collect::<Vec<_>>();
    Arc::new(writer.finish(&names, &[0, 1, 2]).unwrap())
}

/// The settings of a recipe that both kinds of stage have.
fn of_recipe(training: TrainingSettings) -> TrainingSettings {
    TrainingSettings {
        drop_mult: 1.0,
        drop_embedding: 0.1,
        drop_input: 0.2,
        drop_weight: 0.3,
        drop_hidden: 0.2,
        alpha: 2.0,
        beta: 1.0,
        tar_guard: TarGuard::Time,
        ..training
    }
}

/// Training of a language model: windows of many lengths, all dropouts, AR and TAR.
pub fn lm_settings() -> LmSettings {
    let settings = Recipe::named("tiny").unwrap().pretrain;
    let training = TrainingSettings {
        batch_size: 4,
        valid_batch_size: 3,
        bptt: 7,
        windows: Windows::Variable,
        window_sd: 2.0,
        window_half_p: 0.2,
        window_min: 2,
        window_excess: 4,
        lr_rescale: true,
        ..of_recipe(settings.training)
    };
    LmSettings {
        training,
        layout: LmLayout::Shuffled,
        drop_output: 0.2,
        ar_on_dropped: true,
        valid_average: Mean::Token,
        ..settings
    }
}

/// Training of a classifier, with all dropouts, AR and TAR.
pub fn classifier_settings() -> ClassifierSettings {
    let settings = Recipe::named("tiny").unwrap().classifier;
    let training = TrainingSettings {
        batch_size: 5,
        valid_batch_size: 4,
        windows: Windows::Fixed,
        lr_rescale: false,
        ..of_recipe(settings.training)
    };
    ClassifierSettings {
        training,
        head_drops: vec![0.2, 0.1],
        label_smoothing: 0.1,
        frozen_norm_eval: true,
        sampler: SamplerName::Sortish,
        drop_last: false,
        ..settings
    }
}

/// Documents, in a directory that lives as long.
pub struct Data {
    pub directory: tempfile::TempDir,
    pub train: Arc<TokenStore>,
    pub valid: Arc<TokenStore>,
}

impl Data {
    /// 30 documents to train on, and so many to validate with.
    pub fn new(valid: usize) -> Self {
        Self::of(valid, None)
    }

    /// The same of documents that are all of one length.
    pub fn of_length(words: usize) -> Self {
        Self::of(8, Some(words))
    }

    fn of(valid: usize, length: Option<usize>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let train = store(&directory.path().join("train.tok"), 1, 30, length);
        let valid = store(&directory.path().join("valid.tok"), 2, valid, length);
        Data { directory, train, valid }
    }
}

/// Ends the run with an error after some calls; may spoil one loss.
pub struct Interrupting<'a> {
    pub task: &'a mut dyn Task,
    /// Forward passes, and evaluations if these are calls.
    pub calls_left: usize,
    pub evaluations_are_calls: bool,
    /// This update's loss is not a number, the first time.
    pub spoilt: Option<u32>,
}

impl Interrupting<'_> {
    fn call(&mut self) -> Result<()> {
        match self.calls_left.checked_sub(1) {
            Some(left) => self.calls_left = left,
            None => return Err(Error::data("stopped by the test")),
        }
        Ok(())
    }
}

impl Task for Interrupting<'_> {
    fn updates_in_epoch(&mut self, epoch: u32) -> Result<u64> {
        self.task.updates_in_epoch(epoch)
    }

    fn begin_epoch(&mut self, epoch: u32) -> Result<()> {
        self.task.begin_epoch(epoch)
    }

    fn forward(&mut self, g: &mut Graph, parameters: &Parameters, update: u32) -> Result<Option<Update>> {
        self.call()?;
        let mut result = self.task.forward(g, parameters, update)?;
        if self.spoilt == Some(update)
            && let Some(result) = &mut result
        {
            self.spoilt = None;
            result.total = weighted_sum(g, &[(result.total, f64::NAN)])?;
        }
        Ok(result)
    }

    fn largest(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Var>> {
        self.task.largest(g, parameters)
    }

    fn evaluate(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Measured>> {
        if self.evaluations_are_calls {
            self.call()?;
        }
        self.task.evaluate(g, parameters)
    }

    fn cursor(&self) -> serde_json::Value {
        self.task.cursor()
    }

    fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.task.tensors()
    }

    fn restore(&mut self, cursor: &serde_json::Value, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        self.task.restore(cursor, saved)
    }
}
