//! `ulmfit predict`: classify texts: one JSON line each, in input order.

use std::path::PathBuf;

use super::shared::{BlendArg, DataArgs};
use super::{Global, job, output, values};
use crate::answer::classes::decide;
use crate::answer::ensemble::Answer;
use crate::answer::gold::above;
use crate::answer::panel::Panel;
use crate::error::{Error, Result};
use crate::models::Decision;
use crate::nn::Answers;
use crate::text::{Document, Role, Source};

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
    if args.input.is_none() {
        args.data.refuse("texts of the command line are no file", global)?;
    }
    let voices = args.blend.voices();
    let mut panel = Panel::load(&args.model, args.ensemble.as_deref(), voices, || global.graph())?;
    let pair = panel.is_pair();
    if args.min_confidence.is_some() && panel.kind() != Answers::Class {
        return Err(Error::usage("--min-confidence is for classes, but --model gives labels or a number"));
    }
    let texts = match &args.input {
        None if pair => Source::of_texts("the command line", pairs(&args.texts)?),
        None => Source::of_texts("the command line", args.texts.iter().map(Document::new).collect::<Vec<_>>()),
        Some(input) => job::source_or_stdin(input, &args.data, Role::Texts)?,
    };
    if args.input.is_some() {
        args.data.check_flags([&texts], global)?;
    }
    if args.input.is_some() && !global.quiet {
        output::to_stderr(&texts.describe());
    }
    if panel.has_network() {
        global.announce_device();
    }
    let answers = panel.predict(&texts)?;
    output::warn(panel.warning());
    let meaning = Meaning::of(&panel);
    let mut lines = String::new();
    for answer in answers {
        lines += &format!("{}\n", sure(line(&answer, &meaning), &answer, args.min_confidence));
    }
    output::to_stdout(&lines)
}

/// What the numbers of an answer mean.
pub(super) struct Meaning {
    pub labels: Vec<String>,
    pub answers: Answers,
    pub decision: Decision,
}

impl Meaning {
    pub fn of(panel: &Panel) -> Self {
        Meaning { labels: panel.labels().to_vec(), answers: panel.kind(), decision: panel.decision() }
    }

    /// Names of labels.
    pub fn names(&self, labels: &[u32]) -> Vec<&str> {
        labels.iter().map(|&label| self.labels[label as usize].as_str()).collect()
    }
}

/// The texts of the command line, two and two.
fn pairs(texts: &[String]) -> Result<Vec<Document>> {
    if !texts.len().is_multiple_of(2) {
        let message = format!("the model takes pairs of texts, but {} are given", texts.len());
        return Err(Error::usage(message).hint("ulmfit predict --model DIR FIRST SECOND"));
    }
    Ok(texts.chunks_exact(2).map(|pair| Document::from_fields(pair.to_vec())).collect())
}

/// One prediction: `{"label":"…","probabilities":{…}}`; of a model of labels
/// `{"labels":["…"],"probabilities":{…}}`, of one of numbers `{"number":x}`. `null`, and the
/// reason, where the document is left out.
pub(super) fn line(answer: &Answer, meaning: &Meaning) -> serde_json::Value {
    let Meaning { labels, answers, decision } = meaning;
    let key = match answers {
        Answers::Class => "label",
        Answers::Labels => "labels",
        Answers::Number => "number",
        Answers::Tags { .. } => "tags",
    };
    if let Some(why) = answer.row.skipped {
        let mut line = serde_json::json!({ key: null });
        if *answers != Answers::Number {
            line["probabilities"] = serde_json::Value::Null;
        }
        line["reason"] = why.reason().into();
        return line;
    }
    let p = &answer.probabilities;
    let said: serde_json::Value = match answers {
        Answers::Class | Answers::Tags { .. } => labels[decide(p)].as_str().into(),
        Answers::Labels => meaning.names(&above(p, &decision.thresholds(labels.len()))).into(),
        Answers::Number => return serde_json::json!({ key: p[0] }),
    };
    let all: serde_json::Map<String, serde_json::Value> =
        labels.iter().cloned().zip(p.iter().map(|&p| p.into())).collect();
    serde_json::json!({ key: said, "probabilities": all })
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
