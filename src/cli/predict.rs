//! `ulmfit predict`: classify texts: one JSON line each, in input order.

use std::io::Read;
use std::path::PathBuf;

use super::shared::DataArgs;
use super::{Global, output};
use crate::error::{Error, Result};
use crate::text::{Document, Role};
use crate::train::classifier_task::decide;
use crate::train::model_dir;
use crate::train::predict::Ensemble;

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
    let mut models = vec![model_dir::load_classifier(&args.model)?];
    if let Some(second) = &args.ensemble {
        models.push(model_dir::load_classifier(second)?);
    }
    let texts = match &args.input {
        None => args.texts.iter().map(Document::new).collect(),
        Some(input) => read_texts(input, &args.data)?,
    };
    global.announce_device();
    let mut ensemble = Ensemble::new(models, global.graph())?;
    let labels = ensemble.labels().to_vec();
    let mut lines = String::new();
    for p in ensemble.predict(&texts)? {
        lines += &format!("{}\n", line(&p, &labels));
    }
    output::to_stdout(&lines)
}

/// One prediction: `{"label":"…","probabilities":{…}}`.
pub(super) fn line(probabilities: &[f64], labels: &[String]) -> serde_json::Value {
    let all: serde_json::Map<String, serde_json::Value> =
        labels.iter().cloned().zip(probabilities.iter().map(|&p| p.into())).collect();
    serde_json::json!({ "label": labels[decide(probabilities)], "probabilities": all })
}

/// Texts of a file, or the lines of standard input; an empty one is a text, too.
pub(super) fn read_texts(input: &str, data: &DataArgs) -> Result<Vec<Document>> {
    if input != "-" {
        return super::job::source(input, data, Role::Dataset)?.documents()?.collect();
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| Error::io("standard input", "read", &e))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::file("standard input", format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    if text.is_empty() {
        return Err(Error::file("standard input", "is empty"));
    }
    Ok(text.lines().map(Document::new).collect())
}
