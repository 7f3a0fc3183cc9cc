//! `ulmfit predict`: classify texts: one JSON line each, in input order.

use std::path::PathBuf;

use super::shared::DataArgs;
use super::{Global, job, output};
use crate::answer;
use crate::answer::classes::decide;
use crate::answer::ensemble::{Answer, Ensemble};
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::models;
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
    /// A file with texts, or - for one text a line on standard input
    #[arg(long, value_name = "FILE|-")]
    pub input: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let linear = models::is_linear(&args.model).then(|| LinearModel::load(&args.model)).transpose()?;
    if linear.is_some() && args.ensemble.is_some() {
        return Err(Error::usage("--ensemble is for networks, but --model is a linear model"));
    }
    let mut networks = Vec::new();
    if linear.is_none() {
        networks.push(models::load_classifier(&args.model)?);
    }
    if let Some(second) = &args.ensemble {
        networks.push(models::load_classifier(second)?);
    }
    let texts = match &args.input {
        None => Source::of_texts("the command line", args.texts.iter().map(Document::new).collect::<Vec<_>>()),
        Some(input) => job::source_or_stdin(input, &args.data, Role::Texts)?,
    };
    if args.input.is_some() && !global.quiet {
        output::to_stderr(&texts.describe());
    }
    let (answers, labels) = match &linear {
        Some(model) => (answer::linear::predict(model, &texts)?, model.labels().to_vec()),
        None => {
            global.announce_device();
            let mut ensemble = Ensemble::new(networks, global.graph())?;
            (ensemble.predict(&texts)?, ensemble.labels().to_vec())
        }
    };
    let mut lines = String::new();
    for answer in answers {
        lines += &format!("{}\n", line(&answer, &labels));
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

/// Why a document has no answer.
fn reason(why: Skipped) -> &'static str {
    match why {
        Skipped::Empty => "the text is empty",
        Skipped::Unlabelled => "there is no label",
    }
}
