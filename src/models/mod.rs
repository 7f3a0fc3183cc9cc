//! A model as a directory (docs/CLI.md, Conventions): `model.safetensors`, `config.json`, `vocab.json`, and `tokenizer.json` where words are
//! sub-words.

pub mod base;
pub mod export;
pub mod import;
pub mod packed;
pub mod rule;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::autodiff::{Parameters, ParametersBuilder};
use crate::error::{Error, Result};
use crate::files;
use crate::linear::{LINEAR_FILE, LinearModel};
use crate::nn::{Classifier, ClassifierSettings, LanguageModel, LanguageModelSettings, weights};
use crate::tensor::DType;
use crate::text::Direction;
use crate::text::Vocabulary;

const MODEL_FILE: &str = "model.safetensors";
pub const CONFIG_FILE: &str = "config.json";
const VOCABULARY_FILE: &str = "vocab.json";
/// Beside `vocab.json` where its words are sub-words (`text::tokenizer_path`).
const TOKENIZER_FILE: &str = "tokenizer.json";
/// What a running stage keeps beside them, to go on from.
pub const STATE_FILE: &str = "state.safetensors";
pub const METRICS_FILE: &str = "metrics.jsonl";
pub const REPORT_FILE: &str = "report.html";

/// Version of the directory's layout.
const FORMAT: u32 = 1;

/// What a model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Architecture {
    LanguageModel(LanguageModelSettings),
    Classifier(ClassifierSettings),
}

/// One text that went into a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    pub role: String,
    pub documents: u64,
    pub tokens: u64,
    /// Of the token file, so of the ids in their order.
    pub sha256: String,
}

/// `config.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelConfig {
    format: u32,
    pub architecture: Architecture,
    pub direction: Direction,
    pub seed: u64,
    /// Classes, in the order of the outputs (classifiers).
    pub labels: Vec<String>,
    pub vocabulary_hash: String,
    /// The resolved recipe with its sources.
    pub recipe: serde_json::Value,
    pub data: Vec<DataRecord>,
    pub versions: serde_json::Value,
    /// What a run must have in common with the one that made this, to go on from it (`--resume`).
    #[serde(default)]
    pub identity: serde_json::Value,
    /// The stage's result (the keys of docs/CLI.md).
    pub result: serde_json::Value,
}

impl ModelConfig {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        architecture: Architecture,
        direction: Direction,
        seed: u64,
        labels: Vec<String>,
        vocabulary: &Vocabulary,
        recipe: serde_json::Value,
        data: Vec<DataRecord>,
        identity: serde_json::Value,
        result: serde_json::Value,
    ) -> Self {
        ModelConfig {
            format: FORMAT,
            architecture,
            direction,
            seed,
            labels,
            vocabulary_hash: vocabulary.hash_hex(),
            recipe,
            data,
            versions: serde_json::json!({ "ulmfit": env!("CARGO_PKG_VERSION"), "tables": crate::text::TABLES_VERSION }),
            identity,
            result,
        }
    }
}

/// A model in memory: its network, parameters, words and configuration.
#[derive(Debug)]
pub struct Loaded<N> {
    pub network: N,
    pub parameters: Parameters,
    pub vocabulary: Vocabulary,
    pub config: ModelConfig,
}

/// A language model or a classifier.
#[derive(Debug)]
pub enum AnyModel {
    LanguageModel(Loaded<LanguageModel>),
    Classifier(Loaded<Classifier>),
}

/// Writes a finished model; the configuration comes last, so that its presence means a whole model.
pub fn save(directory: &Path, parameters: &Parameters, vocabulary: &Vocabulary, config: &ModelConfig) -> Result<()> {
    weights::save_model(&directory.join(MODEL_FILE), parameters)?;
    vocabulary.save(&directory.join(VOCABULARY_FILE))?;
    let mut json = serde_json::to_vec_pretty(config)
        .map_err(|e| Error::data(format!("the configuration cannot be saved: {e}")))?;
    json.push(b'\n');
    files::put(&directory.join(CONFIG_FILE), json)
}

/// Whether a directory holds a finished model.
pub fn is_finished(directory: &Path) -> bool {
    directory.join(CONFIG_FILE).exists() && directory.join(MODEL_FILE).exists()
}

/// Whether a directory has a linear model and no other.
pub fn is_linear(directory: &Path) -> bool {
    LinearModel::is_in(directory) && !directory.join(CONFIG_FILE).exists()
}

/// Whether a folder is that of a classifier, or of a whole run that has one.
///
/// # Errors
/// As [`load_config`].
pub fn is_classifier(directory: &Path) -> Result<bool> {
    Ok(matches!(load_config(&classifier_folder(directory))?.architecture, Architecture::Classifier(_)))
}

/// Reads `config.json`.
pub fn load_config(directory: &Path) -> Result<ModelConfig> {
    let path = directory.join(CONFIG_FILE);
    if packed::is_packed(directory) {
        return packed::load_config(directory);
    }
    if !directory.is_dir() {
        let message = if directory.exists() { "is not a model directory" } else { "no such model directory" };
        return Err(Error::file(directory, message));
    }
    if is_linear(directory) {
        let message = "holds a linear model, but this needs a network";
        return Err(Error::file(directory, message).hint("evaluate and predict take a linear model"));
    }
    let text = std::fs::read(&path).map_err(|e| {
        let hint = if directory.join(STATE_FILE).exists() {
            "training is not finished: go on with --resume"
        } else {
            "a model is a directory with model.safetensors, config.json and vocab.json"
        };
        Error::io(&path, "read", &e).hint(hint)
    })?;
    parse_config(&path, &text)
}

/// The content of `config.json`; `path` names it in errors.
fn parse_config(path: &Path, text: &[u8]) -> Result<ModelConfig> {
    let config: ModelConfig = serde_json::from_slice(text)
        .map_err(|e| Error::line(path, e.line() as u64, format!("is not the configuration of a model: {e}")))?;
    if config.format != FORMAT {
        return Err(Error::file(path, format!("has format {}, this program reads {FORMAT}", config.format)));
    }
    Ok(config)
}

/// Loads a model directory, or a packed language model. Sizes are checked before memory is taken, the vocabulary's hash and the weights afterwards.
pub fn load(directory: &Path) -> Result<AnyModel> {
    if packed::is_packed(directory) {
        return packed::load(directory).map(AnyModel::LanguageModel);
    }
    let directory = &classifier_folder(directory);
    let config = load_config(directory)?;
    let vocabulary = Vocabulary::load(&directory.join(VOCABULARY_FILE))?;
    if vocabulary.hash_hex() != config.vocabulary_hash {
        return Err(Error::file(
            directory.join(VOCABULARY_FILE),
            "is not the vocabulary that the model was trained with",
        )
        .hint("its hash differs from the one in config.json: restore the original file"));
    }
    vocabulary
        .tokenizer()
        .check()
        .map_err(|(message, hint)| Error::file(directory.join(VOCABULARY_FILE), message).hint(hint))?;
    let path = directory.join(MODEL_FILE);
    let encoder = match &config.architecture {
        Architecture::LanguageModel(settings) => settings.encoder,
        Architecture::Classifier(settings) => settings.encoder,
    };
    if encoder.vocabulary() != vocabulary.len() {
        let sizes = format!("{} words, but the vocabulary has {}", encoder.vocabulary(), vocabulary.len());
        return Err(Error::file(directory.join(CONFIG_FILE), format!("describes a model of {sizes}")));
    }
    let unfit = |e: Error| Error::file(directory.join(CONFIG_FILE), format!("describes no model: {e}"));
    Ok(match config.architecture.clone() {
        Architecture::LanguageModel(settings) => {
            let (network, declared) = LanguageModel::declare(settings).map_err(unfit)?;
            check_size(&path, &declared)?;
            let parameters = declared.build(DType::F32)?;
            weights::load_model(&path, &parameters)?;
            AnyModel::LanguageModel(Loaded { network, parameters, vocabulary, config })
        }
        Architecture::Classifier(settings) => {
            if settings.classes != config.labels.len() {
                let sizes = format!("{} classes and {} names for them", settings.classes, config.labels.len());
                return Err(Error::file(directory.join(CONFIG_FILE), format!("has {sizes}")));
            }
            let (network, declared) = Classifier::declare(settings).map_err(unfit)?;
            check_size(&path, &declared)?;
            let parameters = declared.build(DType::F32)?;
            weights::load_model(&path, &parameters)?;
            AnyModel::Classifier(Loaded { network, parameters, vocabulary, config })
        }
    })
}

/// The folder that a folder stands for: that of a whole run for its classifier.
pub fn classifier_folder(directory: &Path) -> PathBuf {
    let inner = directory.join("classifier");
    if !directory.join(CONFIG_FILE).exists() && is_finished(&inner) { inner } else { directory.to_path_buf() }
}

/// Refuses a weights file that is smaller than what the configuration says it must hold, before memory is taken for it.
fn check_size(path: &Path, declared: &ParametersBuilder) -> Result<()> {
    let length = std::fs::metadata(path).map_err(|e| Error::io(path, "read", &e))?.len();
    let least = declared.values() as u64 * DType::F32.size() as u64;
    if length < least {
        let message =
            format!("has {length} bytes, but the model of config.json needs {least}: one of the two is damaged");
        return Err(Error::file(path, message));
    }
    Ok(())
}

/// Loads a model that must be a language model.
pub fn load_language_model(directory: &Path) -> Result<Loaded<LanguageModel>> {
    match load(directory)? {
        AnyModel::LanguageModel(model) => Ok(model),
        AnyModel::Classifier(_) => Err(Error::file(directory, "is a classifier, but a language model is needed")),
    }
}

/// Loads a model that must be a classifier.
pub fn load_classifier(directory: &Path) -> Result<Loaded<Classifier>> {
    match load(directory)? {
        AnyModel::Classifier(model) => Ok(model),
        AnyModel::LanguageModel(_) => Err(Error::file(directory, "is a language model, but a classifier is needed")
            .hint("make one with train-classifier")),
    }
}

/// Prepares the directory of a run: creates it, and refuses a non-empty one unless `resume` or
/// `overwrite`. `resume` is `None` for a command that cannot go on with a stopped run. What is in
/// the directory stays until training begins ([`clear`]).
pub fn prepare(directory: &Path, resume: Option<bool>, overwrite: bool) -> Result<()> {
    if directory.is_file() {
        return Err(Error::file(directory, "is a file, but --out names a directory"));
    }
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, "create", &e))?;
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, "read", &e))?;
    if entries.count() > 0 && resume != Some(true) && !overwrite {
        let hint = match resume {
            Some(_) => "go on with --resume, or replace what is there with --overwrite",
            None => "replace what is there with --overwrite",
        };
        return Err(Error::usage(format!("--out {} is not empty", directory.display())).hint(hint));
    }
    let probe = directory.join(".writable");
    std::fs::write(&probe, b"").map_err(|e| Error::io(directory, "write into", &e))?;
    remove(&probe)
}

/// The files by which a change of a folder's classifier is noticed.
pub fn files_of(directory: &Path) -> Vec<PathBuf> {
    let names: &[&str] = if is_linear(directory) { &[LINEAR_FILE] } else { &[CONFIG_FILE, MODEL_FILE] };
    let directory = classifier_folder(directory);
    names.iter().map(|name| directory.join(name)).collect()
}

/// Removes what an earlier run left.
pub fn clear(directory: &Path) -> Result<()> {
    // the configuration first: without it nothing counts as a finished model
    let state = STATE_FILE;
    let words = [VOCABULARY_FILE, TOKENIZER_FILE];
    let own = [CONFIG_FILE, MODEL_FILE, METRICS_FILE, REPORT_FILE, LINEAR_FILE, rule::RULE_FILE, state];
    own.iter().chain(&words).try_for_each(|name| remove(&directory.join(name)))
}

/// Takes the directory of a run that failed away if nothing of use came to be in it, so that the corrected command finds it as it was: the
/// metrics of a run that saved neither a state nor a model go with it.
pub fn abandon(directory: &Path) {
    if [STATE_FILE, CONFIG_FILE, MODEL_FILE].iter().all(|name| !directory.join(name).exists()) {
        let _ = std::fs::remove_file(directory.join(METRICS_FILE));
    }
    // fails where something is in it, as it should
    let _ = std::fs::remove_dir(directory);
}

/// Removes a file that may not be there.
pub fn remove(path: &PathBuf) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", &e)),
        _ => Ok(()),
    }
}
