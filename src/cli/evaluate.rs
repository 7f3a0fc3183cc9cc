//! `ulmfit evaluate`: measure a model on data.

use std::path::PathBuf;

use super::shared::DataArgs;
use super::{Global, job, output};
use serde_json::{Value, json};

use crate::answer;
use crate::answer::ensemble::{Ensemble, Outcome};
use crate::answer::language::Speaker;
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::models::{self, AnyModel};
use crate::text::{Role, Skipped};

/// Measure a model on data
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit evaluate --model classifier --data test.csv\n  ulmfit evaluate --model forward --ensemble backward --data test.csv --predictions p.jsonl"
)]
pub struct Args {
    /// A classifier or a language model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A second (backward) classifier, whose probabilities are averaged with the first one's
    #[arg(long, value_name = "DIR")]
    pub ensemble: Option<PathBuf>,
    /// Labelled data for a classifier, text for a language model
    #[arg(long, value_name = "FILE")]
    pub data: String,
    /// Save the prediction for every document (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    #[command(flatten)]
    pub files: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    if models::is_linear(&args.model) {
        return linear(args, global);
    }
    let first = models::load(&args.model)?;
    match first {
        AnyModel::Classifier(model) => {
            let source = job::source(&args.data, &args.files, Role::Dataset)?;
            let mut models = vec![model];
            if let Some(second) = &args.ensemble {
                models.push(models::load_classifier(second)?);
            }
            global.announce_device();
            let mut ensemble = Ensemble::new(models, global.graph())?;
            let outcome = ensemble.evaluate(&source)?;
            told(args, global, &outcome, ensemble.labels())
        }
        AnyModel::LanguageModel(model) => {
            if args.ensemble.is_some() || args.predictions.is_some() {
                return Err(Error::usage(
                    "--ensemble and --predictions are for classifiers, but --model is a language model",
                ));
            }
            let source = job::source(&args.data, &args.files, Role::Corpus)?;
            global.announce_device();
            let measured = Speaker::new(model, global.graph())?.evaluate(&source)?;
            let json = json!({
                "loss": measured.loss,
                "perplexity": measured.perplexity,
                "bits_per_byte": measured.bits_per_byte,
                "accuracy": measured.accuracy,
                "tokens": measured.count,
            });
            let text = format!(
                "loss {:.4}  perplexity {:.2}  bits per byte {:.4}  accuracy {:.2} %  {} tokens",
                measured.loss,
                measured.perplexity.unwrap_or(f64::NAN),
                measured.bits_per_byte.unwrap_or(f64::NAN),
                measured.accuracy.unwrap_or(f64::NAN),
                measured.count
            );
            output::result(global.json, &text, &json)
        }
    }
}

/// A linear model alone.
fn linear(args: &Args, global: &Global) -> Result<()> {
    if args.ensemble.is_some() {
        return Err(Error::usage("--ensemble is for networks, but --model is a linear model"));
    }
    let model = LinearModel::load(&args.model)?;
    let source = job::source(&args.data, &args.files, Role::Dataset)?;
    told(args, global, &answer::linear::evaluate(&model, &source)?, model.labels())
}

/// Tells of documents that were left out, saves the predictions where that was asked for, and prints the result.
fn told(args: &Args, global: &Global, outcome: &Outcome, labels: &[String]) -> Result<()> {
    for (skipped, why) in [(Skipped::Empty, "empty documents"), (Skipped::Unlabelled, "documents without a label")] {
        let count = outcome.skipped(skipped);
        if count > 0 {
            output::to_stderr(&format!("warning: {}: {count} {why} are left out", args.data));
        }
    }
    if let Some(path) = &args.predictions {
        save_predictions(path, outcome, labels)?;
    }
    classifier(global, outcome, labels)
}

fn classifier(global: &Global, outcome: &Outcome, labels: &[String]) -> Result<()> {
    let measured = &outcome.measured;
    let error = measured.error_percent.unwrap_or(f64::NAN);
    let confusion = measured.confusion.clone().unwrap_or_default();
    let (low, high) = wilson(error / 100.0, measured.count);
    let json = json!({
        "error": error,
        "interval": [100.0 * low, 100.0 * high],
        "test_size": measured.count,
        "skipped": outcome.answers.iter().filter(|answer| answer.row.skipped.is_some()).count(),
        "loss": measured.loss,
        "confusion": confusion,
        "label_names": labels,
    });
    let mut text = format!(
        "error {error:.2} %  (95 % interval {:.2} to {:.2})  {} documents\n",
        100.0 * low,
        100.0 * high,
        measured.count
    );
    let width = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(6);
    text += &format!("{:width$}  predicted\n{:width$}", "", "true");
    labels.iter().for_each(|label| text += &format!("  {label:>width$}"));
    for (label, row) in labels.iter().zip(&confusion) {
        text += &format!("\n{label:width$}");
        row.iter().for_each(|n| text += &format!("  {n:>width$}"));
    }
    output::result(global.json, &text, &json)
}

/// Wilson's 95 % interval of a share.
pub(super) fn wilson(p: f64, n: u64) -> (f64, f64) {
    let (n, z) = (n.max(1) as f64, 1.959_963_984_540_054_f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

fn save_predictions(path: &std::path::Path, outcome: &Outcome, labels: &[String]) -> Result<()> {
    let mut lines = String::new();
    for (n, answer) in outcome.answers.iter().enumerate() {
        let mut line = json!({ "row": n + 1 });
        if let (Some(line), Value::Object(rest)) = (line.as_object_mut(), super::predict::line(answer, labels)) {
            line.extend(rest);
            line.insert("true".into(), json!(answer.label.map(|label| &labels[label as usize])));
        }
        lines += &format!("{line}\n");
    }
    crate::files::put(path, lines)
}
