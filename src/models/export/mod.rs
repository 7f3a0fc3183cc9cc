//! Models for other programs: PyTorch, fastai 2, safetensors, ONNX (docs/CLI.md, `export`).

mod onnx;
mod protobuf;
mod torch;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::torch::{Entry, Values};
use super::{AnyModel, Loaded};
use crate::autodiff::Parameters;
use crate::error::{Error, Result};
use crate::files;
use crate::nn::{Classifier, EncoderSettings, weights};
use crate::ops::concat_pool::Masking;
use crate::text::{Direction, Vocabulary};

/// Whom a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A state dict with this program's names, which are those of PyTorch's modules.
    Pytorch,
    /// A file that `Learner.load` of fastai 2 reads, and the vocabulary as a pickle beside it.
    Fastai,
    /// The names of [`Target::Pytorch`].
    Safetensors,
    Onnx,
}

/// Files that were written, the model first.
pub type Written = Vec<PathBuf>;

/// Writes a model to a file, and the files that it needs beside it: `FILE.vocab.json`, for fastai
/// `FILE.vocab.pkl`.
///
/// # Errors
/// [`Error::Usage`]: a part that the target cannot hold; [`Error::File`]: a file that cannot be
/// written.
pub fn export(model: &AnyModel, target: Target, out: &Path) -> Result<Written> {
    let (parameters, vocabulary, config) = match model {
        AnyModel::LanguageModel(model) => (&model.parameters, &model.vocabulary, &model.config),
        AnyModel::Classifier(model) => (&model.parameters, &model.vocabulary, &model.config),
    };
    let bad = |what: String| Error::file(out, what);
    match target {
        Target::Onnx => {
            let content = match model {
                AnyModel::LanguageModel(model) => onnx::language_model(model, &metadata(model, "language-model"))?,
                AnyModel::Classifier(model) => onnx::classifier(&[model], &metadata(model, "classifier"))?,
            };
            return put(out, content, vocabulary, &config.labels);
        }
        Target::Pytorch => {
            return put(out, torch::file(&plain(parameters)?).map_err(bad)?, vocabulary, &config.labels);
        }
        Target::Safetensors => {
            let beside = put_words(out, vocabulary, &config.labels)?;
            weights::save_model(out, parameters)?;
            return Ok(vec![out.to_path_buf(), beside]);
        }
        Target::Fastai => {}
    }
    let content = torch::file(&fastai(model, parameters)?).map_err(bad)?;
    let words: Vec<&str> = vocabulary.words().collect();
    let labels: Vec<&str> = config.labels.iter().map(String::as_str).collect();
    let lists = if labels.is_empty() { vec![words] } else { vec![words, labels] };
    let beside = out.with_extension("vocab.pkl");
    files::put(&beside, torch::lists(&lists))?;
    files::put_output(out, content)?;
    Ok(vec![out.to_path_buf(), beside])
}

/// Writes networks that answer together as one file of ONNX, which gives the mean of their
/// probabilities. `temperature`: what makes the mean calibrated, for the metadata.
///
/// # Errors
/// As [`export`]; [`Error::Usage`]: networks with other words or classes.
pub fn export_mean(models: &[Loaded<Classifier>], temperature: f64, out: &Path) -> Result<Written> {
    let Some(first) = models.first() else { return Err(Error::usage("there is no network to export")) };
    let words = |model: &Loaded<Classifier>| (model.vocabulary.hash_hex(), json!(model.vocabulary.tokenizer()));
    if models.iter().any(|model| words(model) != words(first) || model.config.labels != first.config.labels) {
        let message = "--to onnx: the networks have other words or classes, and one file takes one kind of tokens";
        return Err(Error::usage(message).hint("--network N writes one of them"));
    }
    let mut metadata = metadata(first, "classifier");
    metadata.push(("networks", models.len().to_string()));
    metadata.push(("temperature", temperature.to_string()));
    if models.iter().any(|model| model.config.direction != first.config.direction) {
        // each network turns the texts for itself
        metadata.iter_mut().filter(|(key, _)| *key == "direction").for_each(|(_, value)| *value = "forward".into());
    }
    let content = onnx::classifier(&models.iter().collect::<Vec<_>>(), &metadata)?;
    put(out, content, &first.vocabulary, &first.config.labels)
}

/// Writes the words and the classes, then the file.
fn put(out: &Path, content: Vec<u8>, vocabulary: &Vocabulary, labels: &[String]) -> Result<Written> {
    let beside = put_words(out, vocabulary, labels)?;
    files::put_output(out, content)?;
    Ok(vec![out.to_path_buf(), beside])
}

fn put_words(out: &Path, vocabulary: &Vocabulary, labels: &[String]) -> Result<PathBuf> {
    let words: Vec<&str> = vocabulary.words().collect();
    let value = json!({ "words": words, "labels": labels, "tokenizer": vocabulary.tokenizer() });
    let beside = out.with_extension("vocab.json");
    files::put(&beside, value.to_string().into_bytes())?;
    Ok(beside)
}

fn entry(name: String, parameters: &Parameters, of: &str) -> Result<Entry> {
    let id = parameters.find(of).ok_or_else(|| Error::data(format!("the model has no '{of}'")))?;
    let value = parameters.value(id);
    Ok(Entry { name, shape: value.dims().to_vec(), values: Values::F32(value.read::<f32>().to_vec()) })
}

/// Every parameter and buffer under its own name.
fn plain(parameters: &Parameters) -> Result<Vec<Entry>> {
    parameters.ids().map(|id| entry(parameters.name(id).to_string(), parameters, parameters.name(id))).collect()
}

/// Under fastai 2's names, with its copies of the embedding.
fn fastai(model: &AnyModel, parameters: &Parameters) -> Result<Vec<Entry>> {
    let no = |why: &str| Error::usage(format!("fastai 2 cannot hold this model: {why}")).hint("--to pytorch can");
    let (encoder, prefix, decoder) = match model {
        AnyModel::LanguageModel(model) => {
            let settings = &model.network.settings;
            if !settings.splits.is_empty() {
                return Err(no("it has an adaptive softmax"));
            }
            (settings.encoder, "0.", true)
        }
        AnyModel::Classifier(model) => {
            let settings = &model.network.settings;
            if settings.pair || !settings.answers.is_class() || settings.auxiliary.is_some() {
                return Err(no("it gives no single class of a text, or has a second head"));
            }
            if settings.linear_bias || settings.masking != Masking::Version2 {
                return Err(no("its head is that of fastai 1 or 0.7"));
            }
            (settings.encoder, "0.module.", false)
        }
    };
    let EncoderSettings::AwdLstm(sizes) = encoder else { return Err(no("it is a QRNN")) };
    let embedding = format!("{prefix}encoder.weight");
    let mut all = vec![entry(embedding.clone(), parameters, "encoder.weight")?];
    let shape = all[0].shape.clone();
    let copy = |name: String| Entry { name, shape: shape.clone(), values: Values::Same(embedding.clone()) };
    all.push(copy(format!("{prefix}encoder_dp.emb.weight")));
    for l in 0..sizes.layers {
        for (there, here) in [
            ("weight_hh_l0_raw", "weight_hh_l0"),
            ("module.weight_ih_l0", "weight_ih_l0"),
            ("module.bias_ih_l0", "bias_ih_l0"),
            ("module.bias_hh_l0", "bias_hh_l0"),
        ] {
            all.push(entry(format!("{prefix}rnns.{l}.{there}"), parameters, &format!("rnns.{l}.{here}"))?);
        }
    }
    if decoder {
        all.push(copy("1.decoder.weight".into()));
        if parameters.find("decoder.bias").is_some() {
            all.push(entry("1.decoder.bias".into(), parameters, "decoder.bias")?);
        }
    }
    let blocks = (0..).take_while(|k| parameters.find(&format!("head.{k}.linear.weight")).is_some());
    for k in blocks {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.push(entry(format!("1.layers.{k}.0.{part}"), parameters, &format!("head.{k}.norm.{part}"))?);
        }
        let counter = format!("1.layers.{k}.0.num_batches_tracked");
        all.push(Entry { name: counter, shape: vec![], values: Values::I64(0) });
        // the second is a dropout
        all.push(entry(format!("1.layers.{k}.2.weight"), parameters, &format!("head.{k}.linear.weight"))?);
    }
    Ok(all)
}

/// The metadata of an ONNX file.
fn metadata<N>(model: &Loaded<N>, kind: &str) -> Vec<(&'static str, String)> {
    let direction = if model.config.direction == Direction::Forward { "forward" } else { "backward" };
    vec![
        ("kind", kind.to_string()),
        ("direction", direction.to_string()),
        ("labels", json!(model.config.labels).to_string()),
        ("tokenizer", json!(model.vocabulary.tokenizer()).to_string()),
        ("vocabulary_hash", model.vocabulary.hash_hex()),
    ]
}
