//! `ulmfit predict`: classify texts: one JSON line each, in input order.

use std::path::PathBuf;

use super::shared::{BlendArg, DataArgs};
use super::{Global, job, output, values};
use crate::answer::classes::decide;
use crate::answer::ensemble::Answer;
use crate::answer::panel::Panel;
use crate::error::Result;
use crate::text::{Document, Role, Skipped, Source};

/// Classify texts: one JSON line each, in input order
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit predict --model classifier \"What is the capital of France?\"\n  cat questions.txt | ulmfit predict --model classifier --input -"
)]
pub struct Args {
    /// A classifier
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A second (backward) classifier, whose probabilities are averaged with the first one's
    #[arg(long, value_name = "DIR")]
    pub ensemble: Option<PathBuf>,
    /// Texts to classify
    #[arg(value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    pub texts: Vec<String>,
    /// Give no label where the probability of the best class is below this
    #[arg(long, value_name = "P", value_parser = values::share)]
    pub min_confidence: Option<f64>,
    /// auto: as the folder says, with its linear model; off: the network alone, as it was trained
    #[arg(long, value_enum, value_name = "auto|off", default_value = "auto")]
    pub blend: BlendArg,
    /// A file with texts, or - for one text a line on standard input
    #[arg(long, value_name = "FILE|-")]
    pub input: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let voices = args.blend.voices();
    let mut panel = Panel::load(&args.model, args.ensemble.as_deref(), voices, || global.graph())?;
    let texts = match &args.input {
        None => Source::of_texts("the command line", args.texts.iter().map(Document::new).collect::<Vec<_>>()),
        Some(input) => job::source_or_stdin(input, &args.data, Role::Texts)?,
    };
    if args.input.is_some() && !global.quiet {
        output::to_stderr(&texts.describe());
    }
    if panel.has_network() {
        global.announce_device();
    }
    let answers = panel.predict(&texts)?;
    output::warn(panel.warning());
    let labels = panel.labels();
    let mut lines = String::new();
    for answer in answers {
        lines += &format!("{}\n", sure(line(&answer, labels), &answer, args.min_confidence));
    }
    output::to_stdout(&lines)
}

/// One prediction: `{"label":"…","probabilities":{…}}`; `null` for both, and the reason, where the document is left out.
pub(super) fn line(answer: &Answer, labels: &[String]) -> serde_json::Value {
    if let Some(why) = answer.row.skipped {
        return serde_json::json!({ "label": null, "probabilities": null, "reason": reason(why) });
    }
    let p = &answer.probabilities;
    let all: serde_json::Map<String, serde_json::Value> =
        labels.iter().cloned().zip(p.iter().map(|&p| p.into())).collect();
    serde_json::json!({ "label": labels[decide(p)], "probabilities": all })
}

/// The prediction, without a label where its probability is less than asked for.
fn sure(mut line: serde_json::Value, answer: &Answer, least: Option<f64>) -> serde_json::Value {
    let Some(least) = least.filter(|_| answer.row.skipped.is_none()) else { return line };
    let confidence = answer.probabilities[decide(&answer.probabilities)];
    if confidence < least {
        line["label"] = serde_json::Value::Null;
        line["reason"] = format!("the confidence is {confidence:.3}, less than {least}").into();
    }
    line
}

/// Why a document has no answer.
fn reason(why: Skipped) -> &'static str {
    match why {
        Skipped::Empty => "the text is empty",
        Skipped::Unlabelled => "there is no label",
    }
}
