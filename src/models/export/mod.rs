//! Models for other programs: PyTorch, fastai 2, safetensors, ONNX (docs/CLI.md, `export`).

mod onnx;
mod protobuf;
mod torch;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::torch::{Entry, Values};
use super::AnyModel;
use crate::autodiff::Parameters;
use crate::error::{Error, Result};
use crate::files;
use crate::nn::{EncoderSettings, weights};
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
    let labels: Vec<&str> = config.labels.iter().map(String::as_str).collect();
    let bad = |what: String| Error::file(out, what);
    let content = match target {
        Target::Pytorch => torch::file(&plain(parameters)?).map_err(bad)?,
        Target::Safetensors => Vec::new(),
        Target::Fastai => torch::file(&fastai(model, parameters)?).map_err(bad)?,
        Target::Onnx => {
            let metadata = metadata(model, vocabulary, &labels);
            match model {
                AnyModel::LanguageModel(model) => onnx::language_model(model, &metadata)?,
                AnyModel::Classifier(model) => onnx::classifier(model, &metadata)?,
            }
        }
    };
    let (beside, words) = match target {
        Target::Fastai => {
            let words: Vec<&str> = vocabulary.words().collect();
            let lists = if labels.is_empty() { vec![words] } else { vec![words, labels] };
            (out.with_extension("vocab.pkl"), torch::lists(&lists))
        }
        _ => {
            let words: Vec<&str> = vocabulary.words().collect();
            let value = json!({ "words": words, "labels": labels, "tokenizer": vocabulary.tokenizer() });
            (out.with_extension("vocab.json"), value.to_string().into_bytes())
        }
    };
    files::put(&beside, words)?;
    match target {
        Target::Safetensors => weights::save_model(out, parameters)?,
        _ => files::put_output(out, content)?,
    }
    Ok(vec![out.to_path_buf(), beside])
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
fn metadata(model: &AnyModel, vocabulary: &Vocabulary, labels: &[&str]) -> Vec<(&'static str, String)> {
    let (kind, direction) = match model {
        AnyModel::LanguageModel(model) => ("language-model", model.config.direction),
        AnyModel::Classifier(model) => ("classifier", model.config.direction),
    };
    let direction = if direction == Direction::Forward { "forward" } else { "backward" };
    vec![
        ("kind", kind.to_string()),
        ("direction", direction.to_string()),
        ("labels", json!(labels).to_string()),
        ("tokenizer", json!(vocabulary.tokenizer()).to_string()),
        ("vocabulary_hash", vocabulary.hash_hex()),
    ]
}
