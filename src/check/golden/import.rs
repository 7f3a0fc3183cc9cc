//! Models of other programs, as `make_import.py` saves them beside the fixture: what they compute
//! here and there, and files that must be refused.

use super::fixture::{ANY, Fixture, transpose};
use super::models::columns;
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::models::Architecture;
use crate::models::import::{Asked, Imported, Options, import};
use crate::nn::{Classifier, DocumentBatch, LanguageModel, Noise};
use crate::ops::batch_norm::Mode;
use crate::ops::linear::linear;
use crate::text::{Direction, Rules};

/// Weights, their vocabulary, their kind, and whether they have a decoder's bias.
const LANGUAGE_MODELS: [(&str, &str, Asked, bool); 6] = [
    ("fastai2_lm.pth", "vocab_list.pkl", Asked::Fastai2, true),
    ("fastai2_lm_legacy.pth", "vocab_list_protocol2.pkl", Asked::Fastai2, true),
    ("fastai2_lm_with_opt.pth", "vocab_list.pkl", Asked::Fastai2, true),
    ("awd_lstm_lm_state.pt", "vocab_list.pkl", Asked::Awd, true),
    ("fastai2_encoder.pth", "vocab_list.pkl", Asked::Fastai2, false),
    ("scripts07_lm.h5", "itos_scripts07.pkl", Asked::Scripts, false),
];

const HOSTILE: [(&str, &str); 6] = [
    ("hostile_reduce.pth", "vocab_list.pkl"),
    ("hostile_truncated.pth", "vocab_list.pkl"),
    ("hostile_not_a_pickle.pth", "vocab_list.pkl"),
    ("hostile_shape.pth", "vocab_list.pkl"),
    ("hostile_nan.pth", "vocab_list.pkl"),
    ("fastai2_lm.pth", "hostile_vocab.pkl"),
];

fn read(f: &Fixture, weights: &str, vocabulary: &str, kind: Option<Asked>) -> Result<Imported> {
    let bptt = f.size("seq_len")?;
    let options = Options {
        kind,
        rules: (vocabulary == "itos_scripts07.pkl").then_some(Rules::V07),
        direction: Direction::Forward,
        bptt: Some(bptt),
        max_len: None,
    };
    import(&f.beside(weights), &f.beside(vocabulary), options)
}

/// The same parameters where the replay computes.
fn placed(f: &Fixture, imported: &Imported) -> Result<Parameters> {
    let declared = match &imported.config.architecture {
        Architecture::LanguageModel(settings) => LanguageModel::declare(settings.clone())?.1,
        Architecture::Classifier(settings) => Classifier::declare(settings.clone())?.1,
    };
    let parameters = declared.build_on(f.device, f.dtype)?;
    for id in parameters.ids() {
        parameters.value(id).set_f64(&imported.parameters.value(id).to_f64());
    }
    Ok(parameters)
}

pub(super) fn files(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    g.set_recording(false);
    for (weights, vocabulary, kind, bias) in LANGUAGE_MODELS {
        // its kind must be recognised, too
        let imported = read(f, weights, vocabulary, None)?;
        read(f, weights, vocabulary, Some(kind))?;
        language_model(f, g, &imported, bias)?;
    }
    halved(f)?;
    classifier(f, g)?;
    g.set_recording(true);
    for (weights, vocabulary) in HOSTILE {
        if read(f, weights, vocabulary, None).is_ok() {
            return Err(f.error(format!("{weights} with {vocabulary} must be refused, and was not")));
        }
    }
    Ok(())
}

/// Logits of two calls, the state carried from the first to the second.
fn language_model(f: &mut Fixture, g: &mut Graph, imported: &Imported, bias: bool) -> Result<()> {
    let Architecture::LanguageModel(settings) = &imported.config.architecture else {
        return Err(f.error("has a language model that was taken for a classifier"));
    };
    let (model, _) = LanguageModel::declare(settings.clone())?;
    let parameters = placed(f, imported)?;
    let tokens = f.words("tokens", &[ANY, ANY])?;
    let [b, t] = [tokens.dims()[0], tokens.dims()[1]];
    let tokens = columns(&tokens, 0, t)?;
    let mut state = model.encoder.zeros(f.device, b, f.dtype)?;
    for call in [1, 2] {
        g.reset();
        let raw = model.encoder.run(g, &parameters, &tokens, &mut state, &Noise::Off)?;
        let raw = g.detach(raw);
        let of = |name: &str| parameters.find(name).map(|id| parameters.value(id).clone());
        let weight = of("encoder.weight").ok_or_else(|| f.error("has a model without an embedding"))?;
        let [x, w] = [raw.clone(), weight].map(|t| g.constant(t));
        let b = of("decoder.bias").map(|b| g.constant(b));
        let found = linear(g, x, w, b)?;
        let found = transpose(&g.detach(found))?;
        match (call, bias) {
            (1, true) => {
                f.compare("logits", &found)?;
                f.compare("encoder_out", &transpose(&raw)?)?;
            }
            (1, false) => f.compare("logits_no_bias", &found)?,
            (_, true) => f.compare("logits_second_call", &found)?,
            // the output of the second call without a bias is in no fixture
            (_, false) => {}
        }
    }
    Ok(())
}

/// The file in f16 has the values of the other one, rounded.
fn halved(f: &Fixture) -> Result<()> {
    let whole = read(f, "fastai2_lm.pth", "vocab_list.pkl", None)?.parameters;
    let half = read(f, "fastai1_lm_fp16.pth", "vocab_list.pkl", Some(Asked::Fastai1))?.parameters;
    for id in whole.ids() {
        let rounded = |&v: &f64| f64::from(half::f16::from_f64(v));
        let expected: Vec<f64> = whole.value(id).to_f64().iter().map(rounded).collect();
        if half.value(id).to_f64() != expected {
            return Err(f.error(format!("fastai1_lm_fp16.pth: '{}' is not what f16 makes of it", whole.name(id))));
        }
    }
    Ok(())
}

fn classifier(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let imported = read(f, "fastai2_classifier.pth", "vocab_classifier.pkl", None)?;
    let Architecture::Classifier(settings) = &imported.config.architecture else {
        return Err(f.error("has a classifier that was taken for a language model"));
    };
    let (model, _) = Classifier::declare(settings.clone())?;
    let parameters = placed(f, &imported)?;
    let names = f.names("clf_doc");
    let mut documents = Vec::with_capacity(names.len());
    for i in 0..names.len() {
        documents.push(f.words(&format!("clf_doc{i}"), &[ANY])?.read::<u32>().to_vec());
    }
    g.reset();
    let batch = DocumentBatch::new(documents.iter().map(Vec::as_slice).collect())?;
    let out = model.forward(g, &parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
    let (classes, values) = (settings.classes, g.tensor(out.logits).to_f64());
    let mut logits = vec![0.0; values.len()];
    for (row, &place) in values.chunks_exact(classes).zip(&out.rows) {
        logits[place as usize * classes..][..classes].copy_from_slice(row);
    }
    f.compare_values("clf_logits", &logits)?;
    let mut probabilities = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (v - most).exp()).sum();
        probabilities.extend(row.iter().map(|v| (v - most).exp() / sum));
    }
    f.compare_values("clf_probabilities", &probabilities)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::check::golden::golden;
    use crate::device::{Device, Precision};

    fn path() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/expected.safetensors")
    }

    #[test]
    fn they_compute_nearly_the_same_in_bf16() {
        let report = golden(&[path()], Device::Cpu, Precision::Bf16).unwrap();
        assert!(report.rows[0].failures.is_empty() && report.worst.unwrap().error > 1e-4);
    }

    #[test]
    fn models_of_other_programs_compute_the_same_here() {
        let report = golden(&[path()], Device::Cpu, Precision::Full).unwrap();
        let row = &report.rows[0];
        assert!(row.failures.is_empty() && row.tensors == 16, "{row:?}");
        assert!(report.worst.unwrap().error < 1e-5);
    }
}
