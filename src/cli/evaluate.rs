//! `ulmfit evaluate`: measure a model on data.

use std::path::PathBuf;

use super::predict::Meaning;
use super::shared::{BlendArg, DataArgs};
use super::{Global, job, output, scores};
use serde_json::{Value, json};

use crate::answer::ensemble::{Known, Outcome};
use crate::answer::language::Speaker;
use crate::answer::panel::Panel;
use crate::answer::tags::Tagger;
use crate::answer::{Confusion, Hits, wilson};
use crate::error::{Error, Result};
use crate::files;
use crate::linear::{calibration_error, reliability};
use crate::models::{self, AnyModel};
use crate::nn::Answers;
use crate::text::{Role, Skipped, shown_label};

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
    /// Labelled data for a classifier, text for a language model; - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub data: String,
    /// auto: as the folder says, with its linear model; off: the network alone, as it was trained
    #[arg(long, value_enum, value_name = "auto|off", default_value = "auto")]
    pub blend: BlendArg,
    /// Save the prediction for every document (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Save the table of true and predicted classes (CSV)
    #[arg(long, value_name = "FILE")]
    pub confusion: Option<PathBuf>,
    #[command(flatten)]
    pub files: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    refuse_same_files(args)?;
    let is_classifier = models::is_linear(&args.model)? || models::is_classifier(&args.model)?;
    if is_classifier && !models::is_linear(&args.model)? && models::is_tagger(&args.model)? {
        return tagger(args, global);
    }
    if is_classifier {
        let voices = args.blend.voices();
        let mut panel = Panel::load(&args.model, args.ensemble.as_deref(), voices, || global.graph())?;
        let several = panel.kind() == Answers::Labels;
        let files = if several { args.files.with_several_labels() } else { args.files.clone() };
        if !several && files.has_several_labels() {
            return Err(Error::usage("--model gives one answer a text, but the flags say that the data have several")
                .hint("name one label column, and leave --label-separator out"));
        }
        let source = job::source_or_stdin(&args.data, &files, Role::Dataset)?;
        args.files.check_flags([&source], global)?;
        if !global.quiet {
            output::to_stderr(&source.describe());
        }
        if panel.has_network() {
            global.announce_device();
        }
        let outcome = panel.evaluate(&source)?;
        output::warn(panel.warning());
        return told(args, global, &outcome, &Meaning::of(&panel));
    }
    match models::load(&args.model)? {
        AnyModel::Classifier(_) => {
            Err(Error::file(&args.model, "is a classifier, but its configuration says otherwise"))
        }
        AnyModel::LanguageModel(model) => {
            if args.ensemble.is_some() || args.predictions.is_some() || args.confusion.is_some() {
                return Err(Error::usage(
                    "--ensemble, --predictions and --confusion are for classifiers, but --model is a language model",
                ));
            }
            let source = job::source_or_stdin(&args.data, &args.files, Role::Corpus)?;
            args.files.check_flags([&source], global)?;
            if !global.quiet {
                output::to_stderr(&source.describe());
            }
            global.announce_device();
            let mut speaker = Speaker::new(model, global.graph())?;
            let measured = speaker.evaluate(&source)?;
            output::warn(speaker.warning());
            let json = json!({
                "loss": measured.loss,
                "perplexity": measured.score("perplexity"),
                "bits_per_byte": measured.score("bits_per_byte"),
                "accuracy": measured.score("accuracy"),
                "tokens": measured.count,
            });
            let text = format!(
                "loss {:.4}  perplexity {:.2}  bits per byte {:.4}  accuracy {:.2} %  {} tokens",
                measured.loss,
                measured.score("perplexity").unwrap_or(f64::NAN),
                measured.score("bits_per_byte").unwrap_or(f64::NAN),
                measured.score("accuracy").unwrap_or(f64::NAN),
                measured.count
            );
            output::result(global.json, &text, &json)
        }
    }
}

/// Refuses results that would take the place of the data, or of each other.
fn refuse_same_files(args: &Args) -> Result<()> {
    let outputs = [("--predictions", &args.predictions), ("--confusion", &args.confusion)];
    for (flag, path) in outputs.iter().filter_map(|(flag, path)| path.as_ref().map(|path| (flag, path))) {
        if files::is_same(path, args.data.as_ref()) {
            return Err(Error::usage(format!("{flag} {}: is the file of --data", path.display())));
        }
        if path.is_dir() {
            return Err(Error::io(path, "write", &std::io::ErrorKind::IsADirectory.into()));
        }
    }
    if args.predictions.is_some() && args.predictions == args.confusion {
        return Err(Error::usage("--predictions and --confusion name one file"));
    }
    Ok(())
}

/// Measures a model that tags words, as `conlleval` does.
fn tagger(args: &Args, global: &Global) -> Result<()> {
    if args.ensemble.is_some() || args.confusion.is_some() {
        return Err(Error::usage("--ensemble and --confusion are for classes, but --model tags words"));
    }
    let source = job::source_or_stdin(&args.data, &args.files, Role::Dataset)?;
    args.files.check_flags([&source], global)?;
    if !global.quiet {
        output::to_stderr(&source.describe());
    }
    global.announce_device();
    let mut tagger = Tagger::new(models::load_classifier(&args.model)?, global.graph())?;
    let (measured, sentences) = tagger.evaluate(&source)?;
    output::warn(tagger.warning());
    if let Some(path) = &args.predictions {
        let lines = sentences.iter().enumerate().map(|(n, sentence)| {
            let mut line = super::tag::json_of(sentence);
            line["row"] = json!(n + 1);
            line["true"] = json!(sentence.known);
            format!("{line}\n")
        });
        files::put_output(path, lines.collect::<String>())?;
    }
    let (hits, kinds) = (&measured.hits, tagger.kinds());
    let sum = Hits::sum(hits);
    let mut json = json!({});
    for (name, value) in measured.scores.iter() {
        json[name] = json!(value);
    }
    json["loss"] = json!(measured.loss);
    json["words"] = json!(measured.count);
    json["test_size"] = json!(sentences.iter().filter(|sentence| !sentence.words.is_empty()).count());
    json["chunks"] = json!({ "found": sum.found, "wrong": sum.wrong, "missed": sum.missed });
    json["per_kind"] = scores::rows("kind", "chunks", hits, &kinds).into();
    let percent = |name: &str| 100.0 * measured.score(name).unwrap_or(f64::NAN);
    // the first two lines are those of conlleval
    let mut text = format!(
        "processed {} tokens with {} phrases; found: {} phrases; correct: {}.\n\
         accuracy: {:6.2}%; precision: {:6.2}%; recall: {:6.2}%; FB1: {:6.2}\n",
        measured.count,
        sum.support(),
        sum.found + sum.wrong,
        sum.found,
        percent("tag_accuracy"),
        percent("precision"),
        percent("recall"),
        percent("f1"),
    );
    text += &format!("{} sentences, loss {:.4}\n", json["test_size"], measured.loss);
    text += &scores::table("kind", "chunks", hits, &kinds);
    output::result(global.json, text.trim_end(), &json)
}

/// With more classes than this the matrix is not shown, but the pairs that are most confused.
const SHOWN_CLASSES: usize = 20;
/// Pairs that are shown in its place.
const PAIRS: usize = 20;

/// Tells of documents that were left out, saves the predictions where that was asked for, and
/// prints the result.
fn told(args: &Args, global: &Global, outcome: &Outcome, meaning: &Meaning) -> Result<()> {
    for (skipped, why) in [(Skipped::Empty, "empty documents"), (Skipped::Unlabelled, "documents without a label")] {
        let count = outcome.skipped(skipped);
        if count > 0 {
            output::to_stderr(&format!("warning: {}: {count} {why} are left out", args.data));
        }
    }
    if let Some(path) = &args.predictions {
        save_predictions(path, outcome, meaning)?;
    }
    if meaning.answers == Answers::Class {
        return classifier(args, global, outcome, &meaning.labels);
    }
    if args.confusion.is_some() {
        return Err(Error::usage("--confusion is for classes, but --model gives labels or a number"));
    }
    others(global, outcome, meaning)
}

/// Documents that were left out.
fn skipped(outcome: &Outcome) -> usize {
    outcome.answers.iter().filter(|answer| answer.row.skipped.is_some()).count()
}

/// Labels or numbers: every score under its name.
fn others(global: &Global, outcome: &Outcome, meaning: &Meaning) -> Result<()> {
    let measured = &outcome.measured;
    let mut json = json!({});
    let mut text = format!("{} documents, loss {:.4}\n", measured.count, measured.loss);
    for (name, value) in measured.scores.iter() {
        json[name] = json!(value);
        text += &format!("{:<20} {value:.4}\n", name.replace('_', " "));
    }
    json["loss"] = json!(measured.loss);
    json["test_size"] = json!(measured.count);
    json["skipped"] = json!(skipped(outcome));
    if meaning.answers == Answers::Labels {
        let (hits, names) = (&measured.hits, &meaning.labels);
        json["per_label"] = scores::rows("label", "documents", hits, names).into();
        json["thresholds"] = json!(meaning.decision.thresholds(names.len()));
        json["label_names"] = json!(names);
        text += &scores::table("label", "documents", hits, names);
    }
    output::result(global.json, text.trim_end(), &json)
}

fn classifier(args: &Args, global: &Global, outcome: &Outcome, labels: &[String]) -> Result<()> {
    let measured = &outcome.measured;
    let error = measured.score("error_percent").unwrap_or(f64::NAN);
    let nothing = Confusion::default();
    let confusion = measured.confusion.as_ref().unwrap_or(&nothing);
    if let Some(path) = &args.confusion {
        save_confusion(path, confusion, labels)?;
    }
    let pairs = confusion.worst(PAIRS);
    let (low, high) = wilson(error / 100.0, measured.count);
    let kept = || outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
    let probabilities: Vec<&[f64]> = kept().map(|answer| answer.probabilities.as_slice()).collect();
    let truth: Vec<u32> = kept().filter_map(|answer| answer.label).collect();
    let bins = reliability(&probabilities, &truth, 10)?;
    let mut json = json!({
        "error": error,
        "interval": [100.0 * low, 100.0 * high],
        "test_size": measured.count,
        "skipped": skipped(outcome),
        "loss": measured.loss,
        "calibration_error": calibration_error(&bins),
        "reliability": bins,
        "confusion": confusion.shown(),
        "label_names": labels,
        "per_class": scores::rows("class", "documents", &measured.hits, labels),
    });
    for name in ["balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"] {
        json[name] = json!(measured.score(name));
    }
    if labels.len() > SHOWN_CLASSES {
        let pair = |&(row, column, n): &(usize, usize, u64)| json!({ "true": labels[row], "label": labels[column], "documents": n });
        json["most_confused"] = pairs.iter().map(pair).collect();
    }
    let mut text = format!(
        "error {error:.2} %  (95 % interval {:.2} to {:.2})  {} documents, calibration error {:.3}\n",
        100.0 * low,
        100.0 * high,
        measured.count,
        calibration_error(&bins)
    );
    let of_all = |name: &str| 100.0 * measured.score(name).unwrap_or(f64::NAN);
    text += &format!(
        "balanced accuracy {:.2} %  macro precision {:.2} %, recall {:.2} %, F1 {:.2} %\n",
        of_all("balanced_accuracy"),
        of_all("macro_precision"),
        of_all("macro_recall"),
        of_all("macro_f1")
    );
    let names: Vec<String> = labels.iter().map(|label| shown_label(label)).collect();
    if names.len() > SHOWN_CLASSES {
        text += &format!("{} classes; --confusion FILE saves the whole matrix. Most confused:\n", names.len());
        for (row, column, n) in pairs {
            text += &format!("  {n:>8}  true {}, predicted {}\n", names[row], names[column]);
        }
        return output::result(global.json, &text, &json);
    }
    text += &scores::table("class", "documents", &measured.hits, labels);
    let width = names.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(6);
    text += &format!("{:width$}  predicted\n{:width$}", "", "true");
    names.iter().for_each(|label| text += &format!("  {label:>width$}"));
    for (label, row) in names.iter().zip(confusion.rows()) {
        text += &format!("\n{label:width$}");
        row.iter().for_each(|n| text += &format!("  {n:>width$}"));
    }
    output::result(global.json, &text, &json)
}

/// A table: a row for every true class, a column for every predicted one; of very many classes the
/// pairs that occur.
fn save_confusion(path: &std::path::Path, confusion: &Confusion, labels: &[String]) -> Result<()> {
    let mut table = Vec::new();
    confusion.write_csv(labels, &mut table).map_err(|e| Error::io(path, "write", &e))?;
    files::put_output(path, table)
}

fn save_predictions(path: &std::path::Path, outcome: &Outcome, meaning: &Meaning) -> Result<()> {
    let mut lines = String::new();
    for (n, answer) in outcome.answers.iter().enumerate() {
        let mut line = json!({ "row": n + 1 });
        if let (Some(line), Value::Object(rest)) = (line.as_object_mut(), super::predict::line(answer, meaning)) {
            line.extend(rest);
            let known = match &answer.known {
                Known::Nothing => json!(answer.label.map(|label| &meaning.labels[label as usize])),
                Known::Labels(labels) => json!(meaning.names(labels)),
                Known::Number(number) => json!(number),
            };
            line.insert("true".into(), known);
        }
        lines += &format!("{line}\n");
    }
    files::put_output(path, lines)
}
