//! `ulmfit linear`: a linear classifier, trained in seconds.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::shared::DataArgs;
use super::{Global, job, output, scores, values};
use crate::answer::{self, Confusion, wilson};
use crate::error::{Error, Result};
use crate::linear::{LinearModel, Validation};
use crate::models::{self, Folder};
use crate::text::{Labelled, Labels, Role, Source, TextFingerprints, low_shot_subset};
use crate::train::stages::check_classes;
use crate::train::{interrupt, rss};

/// Train a linear classifier on words, pairs of words and characters, in seconds
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "What a network must be better than. Its strength is chosen by cross-validation on the training data.\n\nExample:\n  ulmfit linear --train train.csv --test test.csv --out linear\n  ulmfit predict --model linear \"What is the capital of France?\""
)]
pub struct Args {
    /// Labelled training data
    #[arg(long, value_name = "FILE")]
    pub train: String,
    /// Labelled test data
    #[arg(long, value_name = "FILE")]
    pub test: Option<String>,
    /// Where the model goes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Train on a balanced subset of N documents
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub labels: Option<usize>,
    /// Replace what is in the output directory
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub data: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let begun = Instant::now();
    if args.data.has_several_labels() {
        return Err(Error::usage("several labels a text are not for the linear model, which knows one class")
            .hint("train-classifier --task labels learns them"));
    }
    let source = job::source(&args.train, &args.data, Role::Dataset)?;
    args.data.check_flags([&source], global)?;
    let test = args.test.as_ref().map(|path| job::source(path, &args.data, Role::Dataset)).transpose()?;
    let mut train = Labelled::read(&source, &Labels::Collect)?;
    check_classes(&train.names, &source)?;
    left_out(&args.train, &train);
    if let Some(test) = &test {
        look_for_test_text(&train, &Labelled::read(test, &Labels::Known(train.names.clone()))?);
    }
    if let Some(n) = args.labels {
        let labels: Vec<Option<u32>> = train.labels.iter().map(|&label| Some(label)).collect();
        let all: Vec<u32> = (0..labels.len() as u32).collect();
        train = train.part(&low_shot_subset(&labels, &all, n, global.seed));
    }
    let folder = Folder::open(&args.out, None, args.overwrite)?;
    interrupt::install()?;
    let poll = || match interrupt::requested() {
        Some(signal) => Err(Error::Interrupted { signal, message: "nothing was saved".into() }),
        None => Ok(()),
    };
    let fitted = LinearModel::fit(&train.texts, &train.labels, &train.names, global.seed, &poll);
    let (model, validation) = fitted.inspect_err(|_| folder.abandon())?;
    models::clear(folder.path())?;
    model.save(folder.path())?;
    folder.finish()?;
    let mut json = describe(&model, validation.as_ref(), &train);
    let mut text = summary(&json);
    if let Some(test) = &test {
        measure(&model, test, &mut json, &mut text)?;
    }
    json["seconds"] = json!(begun.elapsed().as_secs_f64());
    json["peak_rss_mb"] = json!(rss::peak_rss_mb());
    text += &format!("model: {}", args.out.display());
    output::result(global.json, &text, &json)
}

fn left_out(path: &str, set: &Labelled) {
    for (count, what) in [(set.skipped_empty, "empty documents"), (set.skipped_unlabelled, "documents without a label")]
    {
        if count > 0 {
            output::to_stderr(&format!("warning: {path}: {count} {what} are left out"));
        }
    }
}

fn look_for_test_text(train: &Labelled, test: &Labelled) {
    let fingerprints = |set: &Labelled| {
        let mut all = TextFingerprints::default();
        set.texts.iter().for_each(|text| all.add(text));
        all
    };
    let shared = fingerprints(train).overlap(&fingerprints(test));
    if shared > 0 {
        output::to_stderr(&format!("warning: {shared} different texts are in the train data and in the test data"));
    }
}

/// What is known without a test set.
fn describe(model: &LinearModel, validation: Option<&Validation>, train: &Labelled) -> Value {
    json!({
        "train_size": train.texts.len(),
        "features": model.features(),
        "c": model.c(),
        "valid_error": validation.map(|v| v.chosen.error),
        "valid_loss": validation.map(|v| v.chosen.loss),
        "calibration_error": validation.map(|v| v.chosen.calibration_error),
        "reliability": validation.map(|v| &v.reliability),
        "trials": validation.map(|v| &v.trials),
        "test_error": null,
        "interval": null,
        "test_size": null,
        "test_loss": null,
        "confusion": null,
        "per_class": null,
        "label_names": model.labels(),
    })
}

fn summary(json: &Value) -> String {
    let mut text = format!("{} documents, {} features\n", json["train_size"], json["features"]);
    let trials = json["trials"].as_array().into_iter().flatten();
    for trial in trials {
        let number = |key: &str| trial[key].as_f64().unwrap_or(f64::NAN);
        let mark = if trial["c"] == json["c"] { "  chosen" } else { "" };
        let (c, error, loss) = (number("c"), number("error"), number("loss"));
        let _ = writeln!(text, "strength {c:<8.3} error {error:6.2} %  loss {loss:.4} in cross-validation{mark}");
    }
    text
}

/// Adds what the model does on test data.
fn measure(model: &LinearModel, test: &Source, json: &mut Value, text: &mut String) -> Result<()> {
    let outcome = answer::linear::evaluate(model, test)?;
    let measured = &outcome.measured;
    let error = measured.score("error_percent").unwrap_or(f64::NAN);
    let (low, high) = wilson(error / 100.0, measured.count);
    let per_class = scores::rows("class", "documents", &measured.hits, model.labels());
    let (low, high) = (100.0 * low, 100.0 * high);
    let _ =
        writeln!(text, "test error {error:.2} %  (95 % interval {low:.2} to {high:.2})  {} documents", measured.count);
    text.push_str(&scores::table("class", "documents", &measured.hits, model.labels()));
    for (key, value) in [
        ("test_error", json!(error)),
        ("interval", json!([low, high])),
        ("test_size", json!(measured.count)),
        ("test_loss", json!(measured.loss)),
        ("confusion", json!(measured.confusion.as_ref().and_then(Confusion::shown))),
        ("per_class", json!(per_class)),
    ] {
        json[key] = value;
    }
    Ok(())
}
