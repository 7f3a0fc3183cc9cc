//! A model as a directory (docs/CLI.md, Conventions): `model.safetensors`, `config.json`,
//! `vocab.json`, and `tokenizer.json` where words are sub-words.

pub mod base;
pub mod export;
mod folder;
pub mod import;
mod lock;
pub mod packed;
pub mod rule;

use std::collections::BTreeMap;
use std::io::ErrorKind;
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

pub use folder::{Folder, abandon, clear, clear_running, clear_stages};

const MODEL_FILE: &str = "model.safetensors";
pub const CONFIG_FILE: &str = "config.json";
const VOCABULARY_FILE: &str = "vocab.json";
/// Beside `vocab.json` where its words are sub-words (`text::tokenizer_path`).
const TOKENIZER_FILE: &str = "tokenizer.json";
/// The files that a running stage keeps beside them, to resume.
pub const STATE_FILE: &str = "state.safetensors";
/// The checkpoint before it, for the case that it is damaged.
pub const PREVIOUS_FILE: &str = "state.previous.safetensors";
/// Where `--on-nan rewind` goes back to.
pub const REWIND_FILE: &str = "rewind.safetensors";
/// Within the folder of a run: what answers.
const CLASSIFIER_FOLDER: &str = "classifier";
pub const METRICS_FILE: &str = "metrics.jsonl";
pub const REPORT_FILE: &str = "report.html";
/// The result of a whole run.
pub const RESULT_FILE: &str = "result.json";

/// The table of true and predicted classes of a split, where it is too large for the report.
pub fn confusion_file(split: &str) -> String {
    format!("confusion-{split}.csv")
}

/// Configurations are smaller: that of 100,000 classes has some megabytes.
const LARGEST_CONFIG: u64 = 256 << 20;

/// Version of the directory's layout.
const FORMAT: u32 = 1;

/// Kind and settings of a model.
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
    /// Hash of the token file, so of the ids in their order.
    pub sha256: String,
}

/// How the outputs of a classifier become answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The class of the highest probability; of labels those of a half or more.
    #[default]
    Likeliest,
    /// Every label whose probability reaches its threshold.
    Thresholds(Vec<f64>),
    /// The number times `deviation` and plus `mean`: those of the training data.
    Scale { mean: f64, deviation: f64 },
}

impl Decision {
    fn is_likeliest(&self) -> bool {
        *self == Decision::Likeliest
    }

    /// The threshold of every label.
    pub fn thresholds(&self, labels: usize) -> Vec<f64> {
        match self {
            Decision::Thresholds(all) => all.clone(),
            _ => vec![0.5; labels],
        }
    }

    pub fn deviation(&self) -> f64 {
        if let Decision::Scale { deviation, .. } = self { *deviation } else { 1.0 }
    }

    /// An output as the answer that it stands for.
    pub fn scaled(&self, output: f64) -> f64 {
        if let Decision::Scale { mean, deviation } = self { output * deviation + mean } else { output }
    }

    /// The output that belongs to an answer.
    pub fn unscaled(&self, answer: f64) -> f64 {
        if let Decision::Scale { mean, deviation } = self { (answer - mean) / deviation } else { answer }
    }
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
    #[serde(default, skip_serializing_if = "Decision::is_likeliest")]
    pub decision: Decision,
    pub vocabulary_hash: String,
    /// The resolved recipe with its sources.
    pub recipe: serde_json::Value,
    pub data: Vec<DataRecord>,
    pub versions: serde_json::Value,
    /// The facts that a run must share with the one that made this, to resume it (`--resume`).
    #[serde(default)]
    pub identity: serde_json::Value,
    /// The stage's result (the keys of docs/CLI.md).
    pub result: serde_json::Value,
    /// CRC-32 of the bytes of every tensor; empty in models of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensors: BTreeMap<String, String>,
    /// SHA-256 of `vocab.json`; empty in models of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vocabulary_sha256: String,
}

/// Key of the SHA-256 of everything else in `config.json`.
const DIGEST: &str = "sha256";

/// The digest of the configuration without its own digest.
fn digest(config: &serde_json::Value) -> String {
    files::hex(&files::sha256(config.to_string().as_bytes()))
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
            decision: Decision::Likeliest,
            vocabulary_hash: vocabulary.hash_hex(),
            recipe,
            data,
            versions: serde_json::json!({ "ulmfit": env!("CARGO_PKG_VERSION"), "tables": crate::text::TABLES_VERSION }),
            identity,
            result,
            tensors: BTreeMap::new(),
            vocabulary_sha256: String::new(),
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
    let words = directory.join(VOCABULARY_FILE);
    vocabulary.save(&words)?;
    let mut config = config.clone();
    config.tensors = weights::digests(parameters)?;
    config.vocabulary_sha256 = files::sha256_of(&words)?;
    let unsaved = |e| Error::data(format!("the configuration cannot be saved: {e}"));
    let mut value = serde_json::to_value(&config).map_err(unsaved)?;
    value[DIGEST] = digest(&value).into();
    let mut json = serde_json::to_vec_pretty(&value).map_err(unsaved)?;
    json.push(b'\n');
    files::put(&directory.join(CONFIG_FILE), json)
}

/// Whether a directory holds a finished model.
///
/// # Errors
/// The directory cannot be looked into.
pub fn is_finished(directory: &Path) -> Result<bool> {
    files::exists(&directory.join(CONFIG_FILE))
}

/// Whether a directory has a linear model and no other.
///
/// # Errors
/// The directory cannot be looked into.
pub fn is_linear(directory: &Path) -> Result<bool> {
    Ok(LinearModel::is_in(directory) && !is_finished(directory)?)
}

/// Whether a folder is that of a classifier, or of a whole run that has one.
///
/// # Errors
/// As [`load_config`].
pub fn is_classifier(directory: &Path) -> Result<bool> {
    Ok(matches!(load_config(&classifier_folder(directory)?)?.architecture, Architecture::Classifier(_)))
}

/// Whether a folder is that of a model that tags words, or of a whole run that has one.
///
/// # Errors
/// As [`load_config`].
pub fn is_tagger(directory: &Path) -> Result<bool> {
    let architecture = load_config(&classifier_folder(directory)?)?.architecture;
    Ok(matches!(architecture, Architecture::Classifier(settings) if settings.answers.is_of_words()))
}

/// Reads `config.json`.
pub fn load_config(directory: &Path) -> Result<ModelConfig> {
    let path = directory.join(CONFIG_FILE);
    if packed::is_packed(directory) {
        return packed::load_config(directory);
    }
    if !directory.is_dir() {
        return Err(match std::fs::metadata(directory) {
            Ok(_) => Error::file(directory, "is not a model directory"),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Error::file(directory, "no such model directory").hint("'ulmfit run' makes one; its last line names it")
            }
            Err(e) => Error::io(directory, "read", &e),
        });
    }
    if is_linear(directory)? {
        let message = "holds a linear model, but this needs a network";
        return Err(Error::file(directory, message).hint("evaluate and predict take a linear model"));
    }
    let bytes = files::read(&path, LARGEST_CONFIG).map_err(|e| {
        let hint = if directory.join(STATE_FILE).exists() {
            "training is not finished: go on with --resume"
        } else {
            "a model is a directory with model.safetensors, config.json and vocab.json"
        };
        e.hint(hint)
    })?;
    parse_config(&path, &bytes)
}

/// The content of `config.json`; `path` names it in errors.
fn parse_config(path: &Path, bytes: &[u8]) -> Result<ModelConfig> {
    let unfit =
        |e: serde_json::Error| Error::line(path, e.line() as u64, format!("is not the configuration of a model: {e}"));
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(unfit)?;
    // a file of an earlier version has none
    let written = value.as_object_mut().and_then(|all| all.shift_remove(DIGEST));
    if written.is_some_and(|written| written != digest(&value)) {
        return Err(
            Error::file(path, "was altered: it does not have the recorded hash").hint("restore the original file")
        );
    }
    let config: ModelConfig = serde_json::from_slice(bytes).map_err(unfit)?;
    if config.format != FORMAT {
        return Err(Error::file(path, format!("has format {}, this program reads {FORMAT}", config.format)));
    }
    Ok(config)
}

/// Loads a model directory, or a packed language model. Sizes are checked before memory is taken,
/// the vocabulary's hash and the weights afterwards.
pub fn load(directory: &Path) -> Result<AnyModel> {
    if packed::is_packed(directory) {
        return packed::load(directory).map(AnyModel::LanguageModel);
    }
    let directory = &classifier_folder(directory)?;
    let config = load_config(directory)?;
    let words = directory.join(VOCABULARY_FILE);
    let vocabulary = Vocabulary::load(&words)?;
    if !config.vocabulary_sha256.is_empty() && files::sha256_of(&words)? != config.vocabulary_sha256 {
        return Err(Error::file(words, "was altered: it does not have the hash recorded in config.json")
            .hint("restore the original file"));
    }
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
            weights::load_model(&path, &parameters, &config.tensors)?;
            AnyModel::LanguageModel(Loaded { network, parameters, vocabulary, config })
        }
        Architecture::Classifier(settings) => {
            if settings.classes != config.labels.len() {
                let sizes = format!("{} classes and {} names for them", settings.classes, config.labels.len());
                return Err(Error::file(directory.join(CONFIG_FILE), format!("has {sizes}")));
            }
            if let Decision::Thresholds(all) = &config.decision
                && all.len() != settings.classes
            {
                let sizes = format!("{} thresholds for {} labels", all.len(), settings.classes);
                return Err(Error::file(directory.join(CONFIG_FILE), format!("has {sizes}")));
            }
            let (network, declared) = Classifier::declare(settings).map_err(unfit)?;
            check_size(&path, &declared)?;
            let parameters = declared.build(DType::F32)?;
            weights::load_model(&path, &parameters, &config.tensors)?;
            AnyModel::Classifier(Loaded { network, parameters, vocabulary, config })
        }
    })
}

/// The folder that a folder stands for: that of a whole run for its classifier.
///
/// # Errors
/// The folder cannot be looked into.
pub fn classifier_folder(directory: &Path) -> Result<PathBuf> {
    let inner = directory.join(CLASSIFIER_FOLDER);
    Ok(if !is_finished(directory)? && is_finished(&inner)? { inner } else { directory.to_path_buf() })
}

/// Refuses a weights file that is smaller than the configuration implies, before
/// memory is taken for it.
fn check_size(path: &Path, declared: &ParametersBuilder) -> Result<()> {
    let length = files::open(path)?.metadata().map_err(|e| Error::io(path, "read", &e))?.len();
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

/// The files by which a change of what a folder answers with is noticed: those of its classifier,
/// of the linear model and the rule beside it, and of the other networks that the rule names.
pub fn files_of(directory: &Path) -> Vec<PathBuf> {
    const OF_NETWORK: [&str; 2] = [CONFIG_FILE, MODEL_FILE];
    let directory = classifier_folder(directory).unwrap_or_else(|_| directory.to_path_buf());
    let directory = directory.canonicalize().unwrap_or(directory);
    let linear = is_linear(&directory).unwrap_or(false);
    let needed: &[&str] = if linear { &[LINEAR_FILE] } else { &OF_NETWORK };
    let mut files: Vec<PathBuf> = needed.iter().map(|name| directory.join(name)).collect();
    if !linear {
        let beside = [LINEAR_FILE, rule::RULE_FILE].map(|name| directory.join(name));
        files.extend(beside.into_iter().filter(|path| path.exists()));
    }
    // a rule that cannot be read is itself a change
    for network in rule::Rule::load(&directory).ok().flatten().into_iter().flat_map(|rule| rule.networks) {
        let beside = directory.parent().unwrap_or(&directory).join(network);
        files.extend(OF_NETWORK.map(|name| beside.join(name)));
    }
    files
}

/// All files that a folder answers with, by the names that they have within the folder of a run
/// (`classifier/config.json`); of a linear model alone by their own. Nothing of reports and of
/// going on is among them.
///
/// # Errors
/// The folder cannot be looked into; the rule in it cannot be read.
pub fn answer_files(directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    const ALL: [&str; 6] = [CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE, TOKENIZER_FILE, LINEAR_FILE, rule::RULE_FILE];
    let directory = classifier_folder(directory)?;
    let directory = directory.canonicalize().map_err(|e| Error::io(&directory, "read", &e))?;
    let first = if is_linear(&directory)? { "" } else { CLASSIFIER_FOLDER };
    let more = rule::Rule::load(&directory)?.into_iter().flat_map(|rule| rule.networks);
    let beside = more.map(|name| (PathBuf::from(&name), directory.parent().unwrap_or(&directory).join(&name)));
    let folders = std::iter::once((PathBuf::from(first), directory.clone())).chain(beside);
    let files = folders.flat_map(|(name, folder)| ALL.map(|file| (name.join(file), folder.join(file))));
    Ok(files.filter(|(_, path)| path.exists()).collect())
}

/// Removes a file that may not be there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Error::io(path, "remove", &e))
        }
        _ => Ok(()),
    }
}
