//! The whole method: pretrain → fine-tune → classify, in one or both directions, beside what it is
//! compared with.

mod checks;
mod together;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use self::checks::check_inputs;
pub use self::together::Together;
use super::observer::{Event, Observer};
use super::recipe::{FROM_SCRATCH, MOST_FOLDS, Recipe, TaskName};
use super::stages::{
    ClassifierSources, Context, Fold, From, LmSources, StageResult, data_line, poll, train_classifier,
    train_language_model,
};
use crate::answer::ensemble::Ensemble;
use crate::error::Result;
use crate::files;
use crate::models::base::Base;
use crate::models::{self, Folder, Loaded};
use crate::nn::LanguageModel;
use crate::text::Direction;
use crate::text::{Labelled, Labels, Profile, Source};
use crate::train::Stage;

/// Directories of the stages within that of a run.
pub const PRETRAIN: &str = "pretrain";
pub const FINETUNE: &str = "finetune-lm";
pub const CLASSIFIER: &str = "classifier";
/// The classifiers of the second fold and the following ones, by their number.
const FOLD: &str = "classifier-fold-";
const SCRATCH: &str = "from-scratch";

/// Everything a run reads.
pub struct RunSources {
    /// The base of the language model where there is no corpus.
    pub base: Base,
    /// General text; without it there is no pretraining.
    pub corpus: Vec<Source>,
    pub corpus_valid: Option<Source>,
    /// Text of the target domain for the second stage, the training texts among it.
    pub target: Vec<Source>,
    pub train: Source,
    pub valid: Option<Source>,
    pub test: Option<Source>,
    pub labels: Option<usize>,
}

/// The choices of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    pub bidirectional: bool,
    /// Train from scratch, too.
    pub compare: bool,
    /// The models that the folder answers with.
    pub together: Together,
    /// Leaves the answers on the test data to the caller.
    pub unmeasured: bool,
}

/// Makes the observer of a stage: progress, and the metrics of the stage's directory.
pub type StageObserver<'a> = dyn FnMut(&Path) -> Result<Box<dyn Observer>> + 'a;

/// The outputs of a run, and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    pub out: &'a Path,
    /// Models of each stage: one for each seed and direction.
    pub models: u64,
    /// Classifiers from scratch besides.
    pub compare: bool,
    /// Resumes from the checkpoint.
    pub resume: bool,
    /// Whether the models are on a GPU.
    pub on_gpu: bool,
    /// Bytes that the run may take.
    pub memory_limit: Option<usize>,
}

/// A run in progress.
pub struct Run<'a> {
    /// Recipe, seed and so on; its observer hears what belongs to no stage.
    pub context: Context<'a>,
    pub out: &'a Path,
    /// Where the language models lie, if not in `out`.
    pub text: Option<&'a Path>,
    pub options: RunOptions,
    pub stage_observer: &'a mut StageObserver<'a>,
}

impl Run<'_> {
    /// Trains the stages that are not finished, and gives the JSON of docs/CLI.md.
    pub fn run(&mut self, sources: &RunSources) -> Result<Value> {
        let begun = std::time::Instant::now();
        self.describe(sources)?;
        let first = self.context.direction;
        let task = self.context.recipe.classifier.task;
        // words are tagged by one model that has both encoders
        let one = task == TaskName::Tags;
        let folds = self.folds(sources)?;
        let forward = if one { self.tagger(sources)? } else { self.direction(sources, first, folds)? };
        let perplexity = |r: &Value| json!({ "perplexity": r["perplexity"], "bits_per_byte": r["bits_per_byte"] });
        let mut result = json!({
            "pretrain": forward.pretrain.as_ref().map(perplexity),
            "finetune_lm": perplexity(&forward.finetune),
            "classifier": {
                "valid_error": forward.classifier["valid_error"],
                "test_error": forward.classifier["test_error"],
                "test_size": forward.classifier["test_size"],
            },
            "from_scratch": null,
            "linear": null,
            "answer": null,
        });
        if task != TaskName::Class {
            // the scores depend on the task
            let all = forward.classifier.as_object().into_iter().flatten();
            let scores = all.filter(|(name, _)| name.starts_with("valid_") || name.starts_with("test_"));
            scores.for_each(|(name, value)| result["classifier"][name] = value.clone());
        }
        if self.options.bidirectional && !one {
            self.direction(sources, Direction::Backward, folds)?;
        }
        let mut all = self.networks(first, folds);
        let of_one = all.len();
        if self.options.bidirectional && !one {
            all = [Direction::Forward, Direction::Backward].map(|direction| self.networks(direction, folds)).concat();
            for name in ["forward", "backward"] {
                result[name] = json!({ "test_error": null });
            }
        }
        let mut answers = None;
        if let (true, Some(test)) = (all.len() > 1, self.measured_on(sources)) {
            let mut networks = self.ensemble(&all)?;
            let each = networks.evaluate_each(test)?;
            if all.len() > of_one {
                for (name, models) in [("forward", 0..of_one), ("backward", of_one..all.len())] {
                    let error = networks.outcome(&each, models).measured.score("error_percent");
                    result[name]["test_error"] = json!(error);
                }
            }
            let outcome = networks.outcome(&each, 0..all.len());
            answers = Some(outcome.answers);
            let measured = outcome.measured;
            result["classifier"]["test_error"] = json!(measured.score("error_percent"));
            result["classifier"]["test_size"] = json!(measured.count);
            if task != TaskName::Class {
                for (name, value) in measured.scores.iter().filter(|(name, _)| *name != "error_percent") {
                    result["classifier"][format!("test_{name}")] = json!(value);
                }
            }
        }
        if self.options.compare {
            result["from_scratch"] = self.scratch(sources)?;
        }
        // the linear model knows one class a text, and nothing else
        let [linear, answer] =
            if task == TaskName::Class { self.together(sources, folds, answers)? } else { [Value::Null, Value::Null] };
        (result["linear"], result["answer"]) = (linear, answer);
        result["seconds"] = json!(begun.elapsed().as_secs_f64());
        result["device"] = json!(self.context.device.to_string());
        Ok(result)
    }

    /// Tells of the labelled files. Warns of texts of the test set among those that language models
    /// learn from: their score is then not that of new texts.
    fn describe(&mut self, sources: &RunSources) -> Result<()> {
        let files =
            [("train", Some(&sources.train)), ("valid", sources.valid.as_ref()), ("test", sources.test.as_ref())];
        let mut test = None;
        for (role, source) in files {
            let Some(source) = source else { continue };
            let profile = Profile::of(std::slice::from_ref(source), &mut poll)?;
            self.context.observer.observe(&data_line(role, source, &profile))?;
            test = (role == "test").then_some(profile);
        }
        let Some(test) = test else { return Ok(()) };
        for (what, texts) in [("the corpus", &sources.corpus), ("the texts for fine-tuning", &sources.target)] {
            let shared = Profile::of(texts, &mut poll)?.overlap(&test);
            if shared > 0 {
                let (of, all) = ("different texts of the test set are among", test.distinct());
                self.context.observer.observe(&Event::warning(format!("{shared} of {all} {of} {what}")))?;
            }
        }
        Ok(())
    }

    /// The directory of a stage. In a run of both directions, the name of the second direction
    /// follows that of the stage.
    fn directory(&self, stage: &str, direction: Direction) -> PathBuf {
        let out = self.text.filter(|_| !stage.starts_with(CLASSIFIER)).unwrap_or(self.out);
        if direction == self.context.direction {
            out.join(stage)
        } else {
            out.join(format!("{stage}-{}", direction.name()))
        }
    }

    /// In how many folds the labelled documents are cut. More than 1 where the recipe asks for
    /// folds, the documents are few, and no validation data are given.
    fn folds(&self, sources: &RunSources) -> Result<usize> {
        let settings = &self.context.recipe.classifier;
        let given = sources.valid.is_some();
        if settings.folds_of(2, given) == 1 {
            return Ok(1);
        }
        let documents = Labelled::read(&sources.train, &Labels::Collect)?.labels.len();
        Ok(settings.folds_of(sources.labels.unwrap_or(usize::MAX).min(documents), given))
    }

    /// Folders of the classifiers of one direction, that of the first fold first.
    fn networks(&self, direction: Direction, folds: usize) -> Vec<PathBuf> {
        let stages = (0..folds).map(|fold| if fold == 0 { CLASSIFIER.into() } else { format!("{FOLD}{}", fold + 1) });
        stages.map(|stage| self.directory(&stage, direction)).collect()
    }

    /// The test data, unless the caller measures on them.
    fn measured_on<'s>(&self, sources: &'s RunSources) -> Option<&'s Source> {
        sources.test.as_ref().filter(|_| !self.options.unmeasured)
    }

    /// The networks of these folders, which answer together.
    fn ensemble(&self, directories: &[PathBuf]) -> Result<Ensemble> {
        let networks = directories.iter().map(|directory| models::load_classifier(directory));
        Ensemble::new(networks.collect::<Result<_>>()?, self.context.graph_within_limit())
    }

    /// Runs a stage in its directory, unless (with `--resume`) it is finished there.
    fn stage(
        &mut self,
        recipe: &Recipe,
        directory: &Path,
        direction: Direction,
        work: impl FnOnce(&mut Context, &Path) -> Result<StageResult>,
    ) -> Result<Value> {
        let resume = self.context.resume;
        let folder = Folder::open(directory, Some(resume), !resume)?;
        let directory = folder.path();
        let mut observer = (self.stage_observer)(directory)?;
        let mut context = Context {
            recipe: recipe.clone(),
            device: self.context.device,
            precision: self.context.precision,
            seed: self.context.seed,
            direction,
            memory_limit: self.context.memory_limit,
            resume,
            checkpoint_minutes: self.context.checkpoint_minutes,
            checkpoint_steps: self.context.checkpoint_steps,
            observer: &mut *observer,
        };
        let result = work(&mut context, directory).inspect_err(|_| folder.abandon())?;
        drop(observer);
        folder.finish()?;
        Ok(result.json)
    }

    fn direction(&mut self, sources: &RunSources, direction: Direction, folds: usize) -> Result<DirectionResult> {
        let recipe = self.context.recipe.clone();
        let (pretrain, finetune, from) = self.language_model(sources, direction)?;
        let mut all = Vec::new();
        for (index, directory) in self.networks(direction, folds).iter().enumerate() {
            let fold = (folds > 1).then_some(Fold { index, count: folds });
            all.push(self.classifier(&recipe, sources, direction, &[&from], fold, directory)?);
        }
        let mut classifier = all[0].clone();
        if folds > 1 {
            // of several networks the mean on what each has not seen
            let errors: Option<Vec<f64>> = all.iter().map(|json| json["valid_error"].as_f64()).collect();
            classifier["valid_error"] = json!(errors.map(|e| e.iter().sum::<f64>() / e.len() as f64));
        }
        Ok(DirectionResult { pretrain, finetune, classifier })
    }

    /// A model that tags words, on the language models of one direction or of both. The results of
    /// the language model are those of the first direction.
    fn tagger(&mut self, sources: &RunSources) -> Result<DirectionResult> {
        let (recipe, direction) = (self.context.recipe.clone(), self.context.direction);
        let (pretrain, finetune, first) = self.language_model(sources, direction)?;
        let second = match self.options.bidirectional {
            true => Some(self.language_model(sources, Direction::Backward)?.2),
            false => None,
        };
        let from: Vec<&Loaded<LanguageModel>> = std::iter::once(&first).chain(&second).collect();
        let directory = self.directory(CLASSIFIER, direction);
        let classifier = self.classifier(&recipe, sources, direction, &from, None, &directory)?;
        Ok(DirectionResult { pretrain, finetune, classifier })
    }

    /// The results of pretraining, where there is one, and of tuning, and the tuned language model.
    fn language_model(
        &mut self,
        sources: &RunSources,
        direction: Direction,
    ) -> Result<(Option<Value>, Value, Loaded<LanguageModel>)> {
        let recipe = self.context.recipe.clone();
        let mut pretrain = None;
        let start: Option<Loaded<LanguageModel>>;
        if !sources.corpus.is_empty() {
            let directory = self.directory(PRETRAIN, direction);
            let texts = LmSources { train: sources.corpus.clone(), valid: sources.corpus_valid.clone() };
            pretrain = Some(self.stage(&recipe, &directory, direction, |context, out| {
                train_language_model(context, Stage::Pretrain, &texts, None, out)
            })?);
            start = Some(models::load_language_model(&directory)?);
        } else {
            start = sources.base.load(Some(direction))?;
        }
        let directory = self.directory(FINETUNE, direction);
        let mut texts = LmSources { train: sources.target.clone(), valid: None };
        if let (true, Some(test)) = (recipe.finetune.test_text, &sources.test) {
            texts.train.push(test.clone());
            let text =
                "the texts (not the labels) of the test set are in language-model tuning: the result is transductive";
            self.context.observer.observe(&Event::warning(text))?;
        }
        let finetune = self.stage(&recipe, &directory, direction, |context, out| {
            train_language_model(context, Stage::FinetuneLm, &texts, start.as_ref(), out)
        })?;
        Ok((pretrain, finetune, models::load_language_model(&directory)?))
    }

    fn classifier(
        &mut self,
        recipe: &Recipe,
        sources: &RunSources,
        direction: Direction,
        from: &From,
        fold: Option<Fold>,
        directory: &Path,
    ) -> Result<Value> {
        let data = ClassifierSources {
            train: sources.train.clone(),
            valid: sources.valid.clone(),
            // the networks of all folds are measured together
            test: self.measured_on(sources).cloned().filter(|_| fold.is_none()),
            labels: sources.labels,
            fold,
        };
        self.stage(recipe, directory, direction, |context, out| train_classifier(context, &data, from, out))
    }

    /// The same classifier without a language model: the same architecture and number of updates,
    /// all layers from the start, one rate for all; the better of two rates, the recipe's and a
    /// tenth of it.
    fn scratch(&mut self, sources: &RunSources) -> Result<Value> {
        let mut best: Option<(f64, Value)> = None;
        let top = self.context.recipe.classifier.training.lr.last().copied().unwrap_or(0.01);
        for (name, rate) in [("a", top), ("b", top / 10.0)] {
            let recipe = from_scratch_recipe(&self.context.recipe, rate)?;
            let directory = self.out.join(format!("{SCRATCH}-{name}"));
            let json = self.classifier(&recipe, sources, self.context.direction, &[], None, &directory)?;
            // no test label decides; without validation data the recipe's own rate stands
            let error = json["valid_error"].as_f64().unwrap_or(f64::INFINITY);
            if best.as_ref().is_none_or(|(b, _)| error < *b) {
                let shown = json!({ "test_error": json["test_error"], "valid_error": json["valid_error"], "lr": rate });
                best = Some((error, shown));
            }
        }
        Ok(best.map_or(Value::Null, |(_, shown)| shown))
    }
}

/// The recipe of the comparison from scratch: all groups from the start at one rate, as many epochs
/// as all unfreezing steps together.
fn from_scratch_recipe(recipe: &Recipe, rate: f64) -> Result<Recipe> {
    let mut changed = recipe.clone();
    let epochs: u32 = recipe.classifier.training.epochs.iter().sum();
    let source = FROM_SCRATCH;
    changed.set("classifier.epochs", json!([epochs]), source)?;
    changed.set("classifier.lr", json!([rate]), source)?;
    changed.set("classifier.unfreezing", json!("full"), source)?;
    changed.set("classifier.ladder", json!("off"), source)?;
    Ok(changed)
}

struct DirectionResult {
    pretrain: Option<Value>,
    finetune: Value,
    classifier: Value,
}

/// The directories that stages of a run can have, in the order of the stages.
fn all_directories(out: &Path) -> Vec<PathBuf> {
    let folds = (2..=MOST_FOLDS).map(|fold| format!("{FOLD}{fold}"));
    let stages = [PRETRAIN, FINETUNE, CLASSIFIER].into_iter().map(String::from).chain(folds);
    let stages = stages.flat_map(|s| [s.clone(), format!("{s}-backward")]);
    let all = stages.chain(["a", "b"].map(|rate| format!("{SCRATCH}-{rate}")));
    all.map(|name| out.join(name)).collect()
}

/// The classifiers of a finished run, forward and backward: of every fold, if there are several.
pub(in crate::train) fn classifiers(out: &Path) -> Result<[Vec<PathBuf>; 2]> {
    let all = stage_directories(out)?;
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let all = all.into_iter().filter(|path| name(path).starts_with(CLASSIFIER));
    let (backward, forward) = all.partition(|path| name(path).ends_with("-backward"));
    Ok([forward, backward])
}

/// The directories of a run that hold a model, in the order of the stages.
pub fn stage_directories(out: &Path) -> Result<Vec<PathBuf>> {
    let finished = |directory: PathBuf| Ok(models::is_finished(&directory)?.then_some(directory));
    all_directories(out).into_iter().filter_map(|directory| finished(directory).transpose()).collect()
}

/// The directories of a run in which a stage has begun, in the order of the stages.
///
/// # Errors
/// The directory cannot be looked into.
pub fn begun_directories(out: &Path) -> Result<Vec<PathBuf>> {
    let begun = |directory: PathBuf| Ok(files::exists(&directory.join(models::METRICS_FILE))?.then_some(directory));
    all_directories(out).into_iter().filter_map(|directory| begun(directory).transpose()).collect()
}

/// Means over several seeds, with `…_sd` (the sample's standard deviation) beside every error,
/// perplexity and bits per byte.
pub fn over_seeds(results: &[Value]) -> Value {
    let [first, rest @ ..] = results else { return Value::Null };
    if rest.is_empty() {
        return first.clone();
    }
    fn merge(values: &[&Value]) -> Value {
        let Value::Object(first) = values[0] else { return values[0].clone() };
        let mut all = serde_json::Map::new();
        for (key, value) in first {
            let column: Vec<&Value> = values.iter().map(|v| &v[key]).collect();
            let numbers: Option<Vec<f64>> = column.iter().map(|v| v.as_f64()).collect();
            match numbers {
                Some(numbers) if ["error", "perplexity", "bits_per_byte"].iter().any(|end| key.ends_with(end)) => {
                    let n = numbers.len() as f64;
                    let mean = numbers.iter().sum::<f64>() / n;
                    let variance = numbers.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
                    all.insert(key.clone(), json!(mean));
                    all.insert(format!("{key}_sd"), json!(variance.sqrt()));
                    all.insert(format!("{key}_by_seed"), json!(numbers));
                }
                Some(numbers) if key == "seconds" => {
                    all.insert(key.clone(), json!(numbers.iter().sum::<f64>()));
                }
                _ => {
                    all.insert(key.clone(), if value.is_object() { merge(&column) } else { value.clone() });
                }
            }
        }
        Value::Object(all)
    }
    let mut merged = merge(&results.iter().collect::<Vec<_>>());
    merged["seeds"] = json!(results.len());
    merged
}
