//! What `run` and `demo` say at their end: the result, what it is compared with, time and memory,
//! where everything is, what to type next.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Global, output};
use crate::answer::wilson;
use crate::error::Result;
use crate::models::REPORT_FILE;
use crate::report::{columns, duration, thousands, wrapped};
use crate::train::recipe::TaskName;
use crate::train::rss;

/// Scores of a task that are told.
const SCORES: usize = 4;

/// Prints the result of `run` or `demo`. `directories`: one for each seed, none where nothing was
/// kept.
pub fn print(global: &Global, task: TaskName, result: &Value, directories: &[(u64, PathBuf)]) -> Result<()> {
    let mut lines = Vec::new();
    for (split, name) in [("test", "test"), ("valid", "held-out")] {
        if task == TaskName::Class {
            lines.extend(errors(result, split, name));
        } else {
            lines.extend(scores(&result["classifier"], split).map(|scores| format!("{name}: {scores}")));
        }
    }
    lines.extend(together(result));
    lines.extend(perplexities(result));
    let seconds = result["seconds"].as_f64().unwrap_or(f64::NAN);
    lines.push(format!("time {}, memory {} MiB", duration(seconds), thousands(rss::peak_rss_mb() as u64)));
    match directories {
        [] => {
            lines.push("nothing was kept: --out DIR keeps the models and a report".into());
            lines.push("next: ulmfit run --train FILE (a table with the columns label and text)".into());
        }
        [(_, first), more @ ..] => {
            let others = match more.len() {
                0 => String::new(),
                n => format!(" (and of {n} more seeds beside it)"),
            };
            lines.push(format!("report: {}{others}", first.join(REPORT_FILE).display()));
            lines.push(format!("next: {}", next(task, first)));
        }
    }
    let mut text = lines.join("\n");
    if let (false, Some(columns)) = (global.json, terminal()) {
        text = wrapped(&text, columns);
    }
    output::result(global.json, &text, result)
}

/// Columns of the terminal that reads standard output, if one does.
pub(super) fn terminal() -> Option<usize> {
    use std::io::IsTerminal;
    let out = std::io::stdout();
    out.is_terminal().then(|| columns(&out))
}

fn next(task: TaskName, model: &Path) -> String {
    let (command, texts) = match task {
        TaskName::Tags => ("tag", "\"a text\""),
        TaskName::Pair => ("predict", "\"a text\" \"another\""),
        TaskName::Class | TaskName::Labels | TaskName::Regression => ("predict", "\"a text\""),
    };
    format!("ulmfit {command} --model {} {texts}", model.display())
}

/// The error of what the folder answers on one set, and of each model by itself.
fn errors(result: &Value, split: &str, name: &str) -> Option<String> {
    let key = format!("{split}_error");
    let answer = &result["answer"];
    let parts = [("network", "classifier"), ("linear model", "linear"), ("from scratch", "from_scratch")];
    let of = |part: &str| Some((result[part][&key].as_f64()?, result[part][format!("{key}_sd")].as_f64()));
    let percent = |(error, sd): (f64, Option<f64>)| match sd {
        Some(sd) => format!("{error:.2} ± {sd:.2} %"),
        None => format!("{error:.2} %"),
    };
    let headline = of(if answer.is_null() { "classifier" } else { "answer" })?;
    let size = result["classifier"][format!("{split}_size")].as_u64().or(answer[format!("{split}_size")].as_u64());
    let mut line = format!("{name} error: {}", percent(headline));
    if let Some(size) = size {
        line += &format!(" of {} documents", thousands(size));
    }
    if let (Some(size), None, "test") = (size, headline.1, split) {
        let (low, high) = wilson(headline.0 / 100.0, size);
        line += &format!(" (95 % interval {:.1} to {:.1} %)", 100.0 * low, 100.0 * high);
    }
    let compared = parts.iter().filter(|(_, part)| !(answer.is_null() && *part == "classifier"));
    let compared: Vec<String> =
        compared.filter_map(|(name, part)| Some(format!("{name} {}", percent(of(part)?)))).collect();
    if !compared.is_empty() {
        line += &format!("; {}", compared.join(", "));
    }
    Some(line)
}

/// What else was measured on one set, where the task is not one class a text.
fn scores(classifier: &Value, split: &str) -> Option<String> {
    let prefix = format!("{split}_");
    let shown = |(key, value): (&String, &Value)| {
        let (name, value) = (key.strip_prefix(&prefix)?, value.as_f64()?);
        let is_share = ["f1", "precision", "recall", "exact", "accuracy"].iter().any(|part| name.contains(part));
        let told = !["error", "size", "loss"].contains(&name) && !name.ends_with("_sd");
        let value = if is_share { format!("{:.2} %", 100.0 * value) } else { format!("{value:.4}") };
        told.then(|| format!("{} {value}", name.replace('_', " ")))
    };
    let all: Vec<String> = classifier.as_object()?.iter().filter_map(shown).take(SCORES).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// How the models of a folder answer.
fn together(result: &Value) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(weight) = result["answer"]["blend"]["weight"].as_f64() {
        parts.push(format!("both models answer together, the network's share is {weight:.2}"));
    }
    let (test, valid) = ("test_calibration_error", "valid_calibration_error");
    if let Some(error) = result["answer"][test].as_f64().or(result["answer"][valid].as_f64()) {
        parts.push(format!("calibration error {error:.2}"));
    }
    (!parts.is_empty()).then(|| format!("answers: {}", parts.join("; ")))
}

fn perplexities(result: &Value) -> Option<String> {
    let stages = [("pretrain", "pretraining"), ("finetune_lm", "fine-tuning")];
    let shown = |(key, name): &(&str, &str)| Some(format!("{:.2} after {name}", result[key]["perplexity"].as_f64()?));
    let all: Vec<String> = stages.iter().filter_map(shown).collect();
    (!all.is_empty()).then(|| format!("perplexity: {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_has_its_interval_and_what_it_is_compared_with() {
        let result = json!({
            "classifier": { "test_error": 13.2, "test_size": 500 },
            "linear": { "test_error": 34.0 },
            "answer": { "test_error": 13.4, "blend": { "weight": 0.91 }, "test_calibration_error": 0.04 },
            "from_scratch": null,
        });
        assert_eq!(
            errors(&result, "test", "test").unwrap(),
            "test error: 13.40 % of 500 documents (95 % interval 10.7 to 16.7 %); network 13.20 %, linear model 34.00 %"
        );
        assert_eq!(errors(&result, "valid", "held-out"), None);
        let said = "answers: both models answer together, the network's share is 0.91; calibration error 0.04";
        assert_eq!(together(&result).as_deref(), Some(said));
    }

    #[test]
    fn several_seeds_have_a_deviation_and_no_interval() {
        let classifier = json!({ "test_error": 10.0, "test_error_sd": 0.5, "test_size": 100 });
        let result = json!({ "classifier": classifier, "answer": null, "linear": null, "from_scratch": null });
        assert_eq!(errors(&result, "test", "test").unwrap(), "test error: 10.00 ± 0.50 % of 100 documents");
    }

    #[test]
    fn other_tasks_tell_their_scores() {
        let classifier = json!({ "test_f1": 0.5, "test_pearson": 0.25, "test_size": 3, "test_error": null });
        assert_eq!(scores(&classifier, "test").as_deref(), Some("f1 50.00 %, pearson 0.2500"));
    }
}
