//! `ulmfit inspect`: what a model or a file of weights is, without running it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Global, output};
use crate::error::{Error, Result};
use crate::models::{self, AnyModel, Architecture, import};
use crate::nn::Answers;
use crate::text::Vocabulary;

/// Words that are shown.
const WORDS: usize = 12;

/// Show what a model directory or a file of weights holds
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Of a file of torch the tensors are shown; no code of it is run.\n\nExamples:\n  ulmfit inspect classifier\n  ulmfit inspect classifier --card > README.md\n  ulmfit inspect lstm_fwd.pth"
)]
pub struct Args {
    /// A model directory, or a file of weights (.pth, .h5, .pt, .safetensors)
    #[arg(value_name = "DIR|FILE")]
    pub path: PathBuf,
    /// Print a model card in Markdown
    #[arg(long)]
    pub card: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let value = if args.path.is_dir() || !args.path.exists() { of_model(&args.path)? } else { of_file(&args.path)? };
    if args.card {
        if value["architecture"].is_null() {
            let message = format!("{} is a file of weights: a card describes a model directory", args.path.display());
            return Err(Error::usage(message));
        }
        return output::to_stdout(&card(&value));
    }
    output::result(global.json, &text(&value), &value)
}

/// What is told of a tensor.
fn tensor(name: &str, shape: &[usize], values: &[f32]) -> Value {
    let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
    let largest = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let finite = values.iter().all(|v| v.is_finite());
    let rms = (squares / values.len().max(1) as f64).sqrt();
    json!({
        "name": name, "shape": shape, "values": values.len(), "norm": squares.sqrt(), "rms": rms, "largest": largest,
        "finite": finite,
    })
}

fn of_file(path: &Path) -> Result<Value> {
    let (named, safetensors) = import::read_tensors(path)?;
    let tensors: Vec<Value> = named.iter().map(|(name, array)| tensor(name, &array.shape, &array.values)).collect();
    let format = if safetensors { "safetensors" } else { "torch" };
    Ok(json!({ "path": path, "format": format, "tensors": tensors }))
}

fn of_model(path: &Path) -> Result<Value> {
    let model = models::load(path)?;
    let (parameters, vocabulary, config) = match &model {
        AnyModel::LanguageModel(model) => (&model.parameters, &model.vocabulary, &model.config),
        AnyModel::Classifier(model) => (&model.parameters, &model.vocabulary, &model.config),
    };
    let tensors: Vec<Value> = parameters
        .ids()
        .map(|id| {
            let value = parameters.value(id);
            tensor(parameters.name(id), value.dims(), &value.read::<f32>())
        })
        .collect();
    let values: u64 = tensors.iter().filter_map(|t| t["values"].as_u64()).sum();
    // the rows of other stages say nothing of this model
    let stages = ["pretrain.", "finetune.", "classifier."];
    let own = |key: &str| {
        let of_this =
            |stage: &&str| config.identity.as_object().is_some_and(|all| all.keys().any(|k| k.starts_with(*stage)));
        stages.iter().find(|stage| key.starts_with(**stage)).is_none_or(of_this)
    };
    // what the recipe says by itself
    let given = |source: &str| !["docs/", "ours", "the default"].iter().any(|start| source.starts_with(start));
    let wanted = |row: &&Value| row["source"].as_str().is_some_and(given) && row["key"].as_str().is_some_and(own);
    let changed: Vec<Value> = config.recipe["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(wanted)
        .map(|row| json!({ "key": row["key"], "value": row["value"], "source": row["source"] }))
        .collect();
    Ok(json!({
        "path": path,
        "architecture": config.architecture,
        "direction": config.direction,
        "values": values,
        "labels": config.labels,
        "vocabulary": words(vocabulary),
        "recipe": { "name": config.recipe["name"], "changed": changed },
        "seed": config.seed,
        "data": config.data,
        "versions": config.versions,
        "result": config.result,
        "tensors": tensors,
    }))
}

fn words(vocabulary: &Vocabulary) -> Value {
    let counts = vocabulary.counts();
    let mut order: Vec<usize> = (vocabulary.tokenizer().special_tokens().len()..vocabulary.len()).collect();
    // without counts the order of the vocabulary, which is by frequency in most programs
    order.sort_by_key(|&id| std::cmp::Reverse(counts.get(id).copied().unwrap_or(0)));
    let shown = |id: &usize| json!({ "word": vocabulary.word(*id as u32), "count": counts.get(*id) });
    let frequent: Vec<Value> = order.iter().take(WORDS).map(shown).collect();
    json!({
        "words": vocabulary.len(), "hash": vocabulary.hash_hex(), "tokenizer": vocabulary.tokenizer(), "frequent": frequent,
    })
}

/// What a model is, in a few words.
fn kind(architecture: &Value) -> String {
    let Ok(architecture) = serde_json::from_value::<Architecture>(architecture.clone()) else {
        return "an unknown model".into();
    };
    let (what, encoder) = match &architecture {
        Architecture::LanguageModel(settings) => ("language model".to_string(), settings.encoder),
        Architecture::Classifier(settings) => {
            let what = match settings.answers {
                Answers::Class if settings.pair => format!("classifier of pairs, {} classes", settings.classes),
                Answers::Class => format!("classifier of {} classes", settings.classes),
                Answers::Labels => format!("classifier of {} labels", settings.classes),
                Answers::Number => "model of a number".to_string(),
                Answers::Tags { both } => {
                    let kinds = (settings.classes - 1) / 2;
                    let read = if both { ", read in both directions" } else { "" };
                    format!("tagger of words, {kinds} kinds of chunks{read}")
                }
            };
            (what, settings.encoder)
        }
    };
    let widths: Vec<String> = encoder.widths().iter().map(ToString::to_string).collect();
    format!("{what}, {} {}", encoder.name(), widths.join("→"))
}

/// A value for people: fractions to six digits.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(v) if v != 0.0 && (v.abs() < 1e-4 || v.abs() >= 1e6) => format!("{v:.5e}"),
            Some(v) => format!("{v:.6}").trim_end_matches('0').trim_end_matches('.').to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn text(value: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(out, "{name:<12} {what}");
    };
    if value["architecture"].is_null() {
        line("format", shown(&value["format"]));
    } else {
        line("model", format!("{}, {} values", kind(&value["architecture"]), value["values"]));
        line("direction", shown(&value["direction"]));
        let labels: Vec<String> = value["labels"].as_array().into_iter().flatten().map(shown).collect();
        if !labels.is_empty() {
            let more =
                if labels.len() > WORDS { format!(", and {} more", labels.len() - WORDS) } else { String::new() };
            line("labels", labels.iter().take(WORDS).cloned().collect::<Vec<_>>().join(", ") + &more);
        }
        let vocabulary = &value["vocabulary"];
        let frequent: Vec<String> =
            vocabulary["frequent"].as_array().into_iter().flatten().map(|w| shown(&w["word"])).collect();
        line("vocabulary", format!("{} words: {} ..", vocabulary["words"], frequent.join(" ").escape_debug()));
        line("tokenizer", vocabulary["tokenizer"].to_string());
        line("recipe", shown(&value["recipe"]["name"]));
        for row in value["recipe"]["changed"].as_array().into_iter().flatten() {
            line("", format!("{} = {} ({})", shown(&row["key"]), shown(&row["value"]), shown(&row["source"])));
        }
        line("seed", value["seed"].to_string());
        for data in value["data"].as_array().into_iter().flatten() {
            let hash = shown(&data["sha256"]);
            let hash = hash.get(..12).unwrap_or(&hash).to_string();
            line(
                "data",
                format!("{}: {} documents, {} tokens, {hash}", shown(&data["role"]), data["documents"], data["tokens"]),
            );
        }
        line("made by", format!("ulmfit {}", shown(&value["versions"]["ulmfit"])));
        for (key, result) in value["result"].as_object().into_iter().flatten().filter(|(_, v)| v.is_number()) {
            line("result", format!("{} {}", key.replace('_', " "), shown(result)));
        }
    }
    let _ = writeln!(out, "\n{:<40} {:>18} {:>12} {:>10} {:>10}", "tensor", "shape", "norm", "rms", "largest");
    for t in value["tensors"].as_array().into_iter().flatten() {
        let number = |key: &str| t[key].as_f64().unwrap_or(f64::NAN);
        let note = if t["finite"] == false { "  not finite" } else { "" };
        let _ = writeln!(
            out,
            "{:<40} {:>18} {:>12.4} {:>10.5} {:>10.4}{note}",
            shown(&t["name"]),
            t["shape"].to_string(),
            number("norm"),
            number("rms"),
            number("largest")
        );
    }
    out
}

/// A model card: what the directory knows, and places for what only its maker knows.
fn card(value: &Value) -> String {
    let mut out = format!("# {}\n\n", kind(&value["architecture"]));
    let _ = writeln!(
        out,
        "Made by ulmfit {}, recipe `{}`, seed {}.",
        shown(&value["versions"]["ulmfit"]),
        shown(&value["recipe"]["name"]),
        value["seed"]
    );
    let _ = writeln!(out, "{} values; reads text {}.\n", value["values"], shown(&value["direction"]));
    let _ = writeln!(out, "## Intended use\n\n_What the model is for, and what it is not for._\n");
    let labels: Vec<String> =
        value["labels"].as_array().into_iter().flatten().map(|l| format!("`{}`", shown(l))).collect();
    if !labels.is_empty() {
        let _ = writeln!(out, "Labels: {}.\n", labels.join(", "));
    }
    let _ = writeln!(out, "## Data\n\n_Where the text comes from, and its licence._\n");
    let _ = writeln!(out, "| role | documents | tokens | SHA-256 of the tokens |\n|---|---|---|---|");
    for data in value["data"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "| {} | {} | {} | `{}` |",
            shown(&data["role"]),
            data["documents"],
            data["tokens"],
            shown(&data["sha256"])
        );
    }
    let vocabulary = &value["vocabulary"];
    let _ = writeln!(out, "\nVocabulary: {} words, tokenizer `{}`.\n", vocabulary["words"], vocabulary["tokenizer"]);
    let _ = writeln!(out, "## Training\n\n| key | value |\n|---|---|");
    for row in value["recipe"]["changed"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "| `{}` | {} |", shown(&row["key"]), shown(&row["value"]));
    }
    let _ = writeln!(out, "\nEverything else is as the recipe says.\n\n## Results\n\n| | |\n|---|---|");
    for (key, result) in value["result"].as_object().into_iter().flatten().filter(|(_, v)| v.is_number()) {
        let _ = writeln!(out, "| {} | {} |", key.replace('_', " "), shown(result));
    }
    let _ =
        writeln!(out, "\n## Limits\n\n_Languages, kinds of text and groups of people for which it was not measured._");
    out
}
