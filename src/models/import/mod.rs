//! Models of fastai 2 and 1, of the authors' scripts and of awd-lstm-lm, read without running any
//! code of theirs (docs/CLI.md, `import`).

mod machine;
mod names;
pub mod pickle;
pub mod torch;
mod vocabulary;

use std::path::Path;

use serde_json::json;

pub use self::names::Kind;
use self::names::{Found, find};
use self::torch::{Array, Named};
pub use self::vocabulary::Words;
use super::{Architecture, ModelConfig};
use crate::autodiff::{Parameters, ParametersBuilder};
use crate::error::{Error, Result};
use crate::nn::{
    Answers, AwdLstmSettings, Classifier, ClassifierSettings, EncoderSettings, LanguageModel, LanguageModelSettings,
    QrnnSettings,
};
use crate::ops::concat_pool::Masking;
use crate::tensor::DType;
use crate::text::{Direction, PAD_ID, Rules, TokenizerKind, Vocabulary};

/// Largest file that is read.
const LARGEST: u64 = 16 << 30;

/// The facts that the files do not state.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The kind that the weights must have; `None`: the kind is recognised.
    pub kind: Option<Asked>,
    /// Rules of the tokenizer that made the vocabulary, where its special tokens do not tell.
    pub rules: Option<Rules>,
    pub direction: Direction,
    /// Tokens of a chunk of a classifier; `None`: 72 for fastai 2, else 70.
    pub bptt: Option<usize>,
    /// Tokens that a classifier pools at most; `None`: 20 chunks.
    pub max_len: Option<usize>,
}

/// The kind of a file, from the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Fastai2,
    Fastai1,
    Scripts,
    Awd,
    Safetensors,
}

/// A model from elsewhere.
#[derive(Debug)]
pub struct Imported {
    pub kind: Kind,
    /// Tensors that were taken.
    pub tensors: usize,
    pub parameters: Parameters,
    pub vocabulary: Vocabulary,
    pub config: ModelConfig,
    /// The facts that the files do not state, and the values that were assumed.
    pub assumed: Vec<String>,
}

impl Imported {
    /// Writes it as a model directory.
    ///
    /// # Errors
    /// [`Error::File`]: a file that cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        super::save(directory, &self.parameters, &self.vocabulary, &self.config)
    }
}

/// Reads weights and vocabulary.
///
/// # Errors
/// [`Error::File`]: a file that is damaged, of another kind, hostile, or that does not fit the
/// other; [`Error::Usage`]: rules that cannot be told and were not given.
pub fn import(weights: &Path, vocabulary: &Path, options: Options) -> Result<Imported> {
    let bad = |what: String| Error::file(weights, what);
    let bytes = read_file(weights)?;
    let (named, safetensors) = tensors(&bytes).map_err(bad)?;
    drop(bytes);
    let mut found = find(named).map_err(bad)?;
    check_kind(options.kind, found.kind, safetensors).map_err(bad)?;

    let ending = vocabulary.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let words = words(&read_file(vocabulary)?, &ending).map_err(|what| Error::file(vocabulary, what))?;
    if words.words.len() != found.vocabulary {
        let sizes = format!("has {} words, but the embedding has {} rows", words.words.len(), found.vocabulary);
        return Err(Error::file(vocabulary, sizes).hint("take the vocabulary that was saved with these weights"));
    }
    let mut assumed = Vec::new();
    let (names, tokenizer) = named_words(words.words, vocabulary, &options, &mut found, &mut assumed)?;
    let vocabulary = Vocabulary::from_words(names, tokenizer)?;
    let Found { vocabulary: rows, embedding, hidden, layers, .. } = found;
    let encoder: EncoderSettings = match found.qrnn {
        true => QrnnSettings { vocabulary: rows, embedding, hidden, layers, pad: Some(PAD_ID), zoneout: 0.0 }.into(),
        false => AwdLstmSettings { vocabulary: rows, embedding, hidden, layers, pad: Some(PAD_ID) }.into(),
    };
    let (architecture, declared, labels) = match found.head.as_slice() {
        [] => language_model(&found, encoder, &mut assumed)?,
        _ => classifier(&found, encoder, words.classes, &options, &mut assumed).map_err(|e| match e {
            Error::Data { message, .. } => Error::file(weights, message),
            other => other,
        })?,
    };
    let parameters = declared.build(DType::F32)?;
    let tensors = found.tensors.len();
    fill(&parameters, &found).map_err(bad)?;
    let (kind, origin) = (found.kind, json!({ "name": "imported", "kind": found.kind.name() }));
    let result = json!({ "kind": kind.name(), "tensors": tensors, "vocabulary": vocabulary.len(), "assumed": assumed });
    let data = Vec::new();
    let config = ModelConfig::new(
        architecture,
        options.direction,
        0,
        labels,
        &vocabulary,
        origin,
        data,
        serde_json::Value::Null,
        result,
    );
    Ok(Imported { kind, tensors, parameters, vocabulary, config, assumed })
}

/// The tensors of a file of weights under its own names, and whether it is of safetensors.
///
/// # Errors
/// [`Error::File`]: a file that is damaged or of another kind.
pub fn read_tensors(path: &Path) -> Result<(Named, bool)> {
    tensors(&read_file(path)?).map_err(|what| Error::file(path, what))
}

/// Refuses everything but a regular file.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, "read", &e))?;
    if !about.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    if about.len() == 0 {
        return Err(Error::file(path, "is empty"));
    }
    if about.len() > LARGEST {
        return Err(Error::file(path, format!("has {} bytes; at most {LARGEST} are read", about.len())));
    }
    std::fs::read(path).map_err(|e| Error::io(path, "read", &e))
}

/// Words and classes of a vocabulary's file, by the ending of its name.
///
/// # Errors
/// The end of a sentence about the file.
pub fn words(bytes: &[u8], ending: &str) -> std::result::Result<Words, String> {
    vocabulary::read(bytes, ending)
}

/// The tensors of a file of weights under its own names, and whether it is of safetensors.
///
/// # Errors
/// The end of a sentence about the file.
pub fn tensors(bytes: &[u8]) -> std::result::Result<(Named, bool), String> {
    let header = bytes.get(..9).filter(|b| b[8] == b'{');
    let length = header.and_then(|b| b[..8].try_into().ok()).map(u64::from_le_bytes);
    if length.is_some_and(|n| n < bytes.len() as u64) {
        return Ok((of_safetensors(bytes)?, true));
    }
    Ok((torch::read(bytes)?, false))
}

fn of_safetensors(bytes: &[u8]) -> std::result::Result<Named, String> {
    use safetensors::{Dtype, SafeTensors};
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("is not a whole safetensors file: {e}"))?;
    let mut named = Named::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            // counters, which no model needs
            Dtype::I64 | Dtype::I32 => vec![0.0; view.shape().iter().product()],
            other => return Err(format!("has a tensor '{name}' of the type {other:?}, none of f16, bf16, f32, f64")),
        };
        named.push((name, Array { shape: view.shape().to_vec(), values }));
    }
    Ok(named)
}

fn check_kind(asked: Option<Asked>, kind: Kind, safetensors: bool) -> std::result::Result<(), String> {
    let fits = match asked {
        None => true,
        Some(Asked::Safetensors) => safetensors,
        Some(Asked::Fastai2 | Asked::Fastai1) => kind == Kind::Fastai,
        Some(Asked::Scripts) => kind == Kind::Scripts,
        Some(Asked::Awd) => kind == Kind::Awd,
    };
    match fits {
        true => Ok(()),
        false => Err(format!("is not of that kind: its tensors are named as those of '{}'", kind.name())),
    }
}

/// The words under this program's names, in its order, and their tokenizer.
fn named_words(
    words: Vec<String>,
    file: &Path,
    options: &Options,
    found: &mut Found,
    assumed: &mut Vec<String>,
) -> Result<(Vec<String>, TokenizerKind)> {
    if let Some(tokenizer) = vocabulary::tokenizer(&words) {
        let tokenizer = options.rules.map_or(tokenizer, TokenizerKind::word);
        return Ok((words, tokenizer));
    }
    if found.kind == Kind::Awd && words.iter().any(|word| word == "<unk>") {
        let (names, from) = vocabulary::from_awd(&words).map_err(|what| Error::file(file, what))?;
        for name in ["encoder.weight", "decoder.bias"] {
            if let Some(array) = found.tensors.get_mut(name) {
                *array = moved(array, &from);
            }
        }
        found.vocabulary = names.len();
        assumed.push("'xxpad' and 'xxbos' are new words; they begin as the mean of all".into());
        return Ok((names, TokenizerKind::Whitespace));
    }
    let Some(rules) = options.rules else {
        let message = format!("{}: cannot tell which rules made this vocabulary", file.display());
        return Err(Error::usage(message).hint("say --rules 0.7, v1 or v2: those of the tokenizer of that time"));
    };
    let special = TokenizerKind::word(rules).special_tokens().iter().take(2).copied().collect::<Vec<_>>();
    if words[..2] != special[..] {
        let first = words[..2].iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" and ");
        let message =
            format!("begins with {first}; by these rules it begins with '{}' and '{}'", special[0], special[1]);
        return Err(Error::file(file, message));
    }
    Ok((words, TokenizerKind::word(rules)))
}

/// Rows in another order; the mean of all for new ones (docs/SPEC.md §2.3).
fn moved(array: &Array, from: &[Option<u32>]) -> Array {
    let rows = array.shape[0];
    let width = array.values.len() / rows.max(1);
    let mean: Vec<f32> = (0..width)
        .map(|c| (array.values.iter().skip(c).step_by(width).map(|&v| f64::from(v)).sum::<f64>() / rows as f64) as f32)
        .collect();
    let row = |row: &Option<u32>| match row {
        Some(r) => array.values[*r as usize * width..][..width].to_vec(),
        None => mean.clone(),
    };
    let mut shape = array.shape.clone();
    shape[0] = from.len();
    Array { shape, values: from.iter().flat_map(row).collect() }
}

type Declared = (Architecture, ParametersBuilder, Vec<String>);

fn language_model(found: &Found, encoder: EncoderSettings, assumed: &mut Vec<String>) -> Result<Declared> {
    let decoder_bias = found.tensors.contains_key("decoder.bias");
    if !found.decoder {
        assumed.push("an encoder alone: the decoder shares the embedding and has no bias".into());
    }
    let settings = LanguageModelSettings { encoder, decoder_bias, splits: vec![] };
    let (_, declared) = LanguageModel::declare(settings.clone())?;
    Ok((Architecture::LanguageModel(settings), declared, Vec::new()))
}

fn classifier(
    found: &Found,
    encoder: EncoderSettings,
    classes: Vec<String>,
    options: &Options,
    assumed: &mut Vec<String>,
) -> Result<Declared> {
    let masking = found.masking;
    let bptt = options.bptt.unwrap_or(if masking == Masking::Version2 { 72 } else { 70 });
    let max_steps = options.max_len.unwrap_or(20 * bptt);
    if options.bptt.is_none() || options.max_len.is_none() {
        assumed.push(format!("texts in chunks of {bptt} tokens, of which the last {max_steps} are pooled"));
    }
    let (inner, outputs) = match found.head.as_slice() {
        [_, inner @ .., outputs] => (inner.to_vec(), *outputs),
        _ => return Err(Error::data("has a head without layers")),
    };
    let labels = match classes.len() {
        0 => {
            assumed.push("the classes are named by numbers: no file names them".into());
            (0..outputs).map(|i| format!("class{i}")).collect()
        }
        n if n == outputs => classes,
        n => return Err(Error::data(format!("has {outputs} classes, but the vocabulary's file names {n}"))),
    };
    let settings = ClassifierSettings {
        encoder,
        head: inner,
        classes: outputs,
        linear_bias: found.tensors.contains_key("head.0.linear.bias"),
        norm_bias: 0.0,
        masking,
        bptt,
        max_steps,
        strict_cap: masking != Masking::Version2,
        answers: Answers::Class,
        pair: false,
        auxiliary: None,
    };
    let (_, declared) = Classifier::declare(settings.clone())?;
    Ok((Architecture::Classifier(settings), declared, labels))
}

/// Puts the values into the parameters that the sizes ask for.
fn fill(parameters: &Parameters, found: &Found) -> std::result::Result<(), String> {
    for id in parameters.ids() {
        let name = parameters.name(id);
        let array = found.tensors.get(name).ok_or_else(|| format!("has nothing for '{name}'"))?;
        let value = parameters.value(id);
        if value.dims() != array.shape {
            return Err(format!("has {:?} for '{name}', which is {}", array.shape, value.shape()));
        }
        value.write::<f32>().copy_from_slice(&array.values);
    }
    match found.tensors.keys().find(|name| parameters.find(name).is_none()) {
        Some(name) => Err(format!("has '{name}', for which such a model has no place")),
        None => Ok(()),
    }
}
