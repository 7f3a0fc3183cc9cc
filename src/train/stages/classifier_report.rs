//! The report of stage 3: lines about its data, its tables, and its result as JSON.

use std::path::Path;

use serde_json::json;

use super::Context;
use crate::answer::{Hits, Measured, SHOWN_CLASSES};
use crate::error::Result;
use crate::files;
use crate::models::{self, Decision};
use crate::text::{Profile, shown_label, shown_labels};
use crate::train::Stage;
use crate::train::driver::Progress;
use crate::train::observer::{Evaluated, Event, Split};
use crate::train::recipe::TaskName;
use crate::train::rss;

/// Warns of labels that are hardly classes, and of sets without a document of some class.
pub(super) fn doubt_labels(context: &mut Context, profiles: &[(&str, Profile)]) -> Result<()> {
    let Some((_, train)) = profiles.first() else { return Ok(()) };
    train.doubts().into_iter().try_for_each(|doubt| context.warn(format!("train: {doubt}")))?;
    for (name, profile) in &profiles[1..] {
        let lacking = profile.lacks(train);
        if !lacking.is_empty() {
            context.warn(format!("{name}: no document has the class {}", shown_labels(&lacking)))?;
        }
    }
    Ok(())
}

/// One line on the balance of the classes, and a warning for a class without a training document.
pub(super) fn describe_balance(context: &mut Context, task: TaskName, names: &[String], counts: &[u64]) -> Result<()> {
    if task == TaskName::Tags {
        // every chunk has one word that begins it
        let begun = names.iter().zip(counts).filter_map(|(name, n)| Some((name.strip_prefix("B-")?, n)));
        let shown: Vec<String> = begun.take(20).map(|(kind, n)| format!("{} {n}", shown_label(kind))).collect();
        return context.detail(format!("train: chunks: {}", shown.join(", ")));
    }
    let shown: Vec<String> =
        names.iter().zip(counts).take(20).map(|(n, c)| format!("{} {c}", shown_label(n))).collect();
    let (several, one) = if task == TaskName::Labels { ("labels", "label") } else { ("classes", "class") };
    context.detail(format!("train: {} {several}: {}", names.len(), shown.join(", ")))?;
    match names.iter().zip(counts).find(|(_, c)| **c == 0) {
        Some((name, _)) => context.warn(format!("{one} '{name}' has no training document")),
        None => Ok(()),
    }
}

pub(super) fn describe_weights(context: &mut Context, names: &[String], weights: &[f64]) -> Result<()> {
    if weights.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> =
        names.iter().zip(weights).take(20).map(|(n, w)| format!("{} {w:.3}", shown_label(n))).collect();
    context.detail(format!("weights: {}", shown.join(", ")))
}

pub(super) fn report_test(
    context: &mut Context,
    progress: &Progress,
    measured: &Measured,
    names: &[String],
    out: &Path,
) -> Result<()> {
    context.observer.observe(&Event::Evaluated(Evaluated {
        stage: Stage::Classifier,
        epoch: u64::from(progress.epoch),
        step: progress.update,
        split: Split::Test,
        loss: measured.loss,
        scores: measured.scores.clone(),
        seconds: 0.0,
    }))?;
    show_measured(context, Split::Test, measured, names, out)
}

/// Pairs of classes that are shown in the place of a whole table.
const PAIRS: usize = 50;

/// Reports the tables of an evaluation. With many classes these are the worst pairs and the worst
/// classes; the whole table goes into a file of its own.
pub(super) fn show_measured(
    context: &mut Context,
    split: Split,
    measured: &Measured,
    names: &[String],
    out: &Path,
) -> Result<()> {
    let table = |title: String, columns: &[&str], rows| {
        let columns = columns.iter().map(ToString::to_string).collect();
        Event::Table { split, title, columns, rows }
    };
    if let Some(confusion) = &measured.confusion {
        if let Some(matrix) = confusion.shown() {
            context.observer.observe(&Event::Confusion { split, labels: names.to_vec(), matrix })?;
        } else {
            let file = models::confusion_file(split.name());
            files::put_with(&out.join(&file), |writer| confusion.write_csv(names, writer))?;
            let row = |&(truth, said, n): &(usize, usize, u64)| vec![json!(names[truth]), json!(names[said]), json!(n)];
            let rows = confusion.worst(PAIRS).iter().map(row).collect();
            let title = format!("Most confused ({file} has all)");
            context.observer.observe(&table(title, &["true class", "predicted class", "documents"], rows))?;
        }
    }
    if measured.hits.is_empty() {
        return Ok(());
    }
    let what = match (&measured.confusion, measured.score("tag_accuracy")) {
        (Some(_), _) => "class",
        (None, Some(_)) => "chunk",
        (None, None) => "label",
    };
    let (shown, title) = match names.len() > SHOWN_CLASSES {
        true => {
            let title = format!("By {what}: the {SHOWN_CLASSES} with the lowest F1 of {}", names.len());
            (Hits::hardest(&measured.hits, SHOWN_CLASSES), title)
        }
        false => ((0..measured.hits.len()).collect(), format!("By {what}")),
    };
    let row = |k: &usize| {
        let (name, hits) = (&names[*k], &measured.hits[*k]);
        vec![json!(name), json!(hits.support()), json!(hits.precision()), json!(hits.recall()), json!(hits.f1())]
    };
    let columns = [what, "support", "precision", "recall", "F1"];
    context.observer.observe(&table(title, &columns, shown.iter().map(row).collect()))
}

/// The result of the stage: errors of classes under the names that they have always had, every
/// other score under its own.
pub(super) fn classifier_json(
    progress: &Progress,
    test: Option<&Measured>,
    names: &[String],
    decision: &Decision,
) -> serde_json::Value {
    let valid = progress.last.as_ref();
    let mut json = json!({
        "train_loss": progress.train_loss,
        "valid_error": valid.and_then(|m| m.score("error_percent")),
        "valid_loss": valid.map(|m| m.loss),
        "test_error": test.and_then(|m| m.score("error_percent")),
        "test_loss": test.map(|m| m.loss),
        "test_size": test.map(|m| m.count),
        "label_names": names,
    });
    for (split, measured) in [("valid", valid), ("test", test)] {
        for (name, value) in measured.into_iter().flat_map(|m| m.scores.iter()) {
            if !["error_percent", "accuracy"].contains(&name) {
                json[format!("{split}_{name}")] = json!(value);
            }
        }
    }
    if let Decision::Thresholds(all) = decision {
        json["thresholds"] = json!(all);
    }
    for (key, value) in [
        ("peak_rss_mb", json!(rss::peak_rss_mb())),
        ("seconds", json!(progress.seconds)),
        ("steps", json!(progress.update)),
        ("epochs", json!(progress.epoch)),
        ("best_epoch", json!(progress.best_epoch)),
    ] {
        json[key] = value;
    }
    json
}
