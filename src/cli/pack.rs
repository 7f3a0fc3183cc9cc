//! `ulmfit pack`: a language model as one small file, as the program holds its own.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::shared::DataArgs;
use super::{Global, job, output};
use crate::answer::language::Speaker;
use crate::error::Result;
use crate::models::{self, packed};
use crate::text::{Role, Source};

/// Put a language model into one small file, 8 or 16 bits a weight
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The file stands for the model wherever one is read. With --data the loss of packing is measured.\n\nExample:\n  ulmfit pack --model lm --out lm.ulmfit --data valid.txt\n  ulmfit finetune-lm --base lm.ulmfit --text train.csv --out tuned"
)]
pub struct Args {
    /// A language model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// int8: 8 bits a weight, one scale a row; bf16: 16 bits
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "int8")]
    pub weights: Weights,
    /// Text to measure the model on, before and after
    #[arg(long, value_name = "FILE")]
    pub data: Option<String>,
    #[command(flatten)]
    pub files: DataArgs,
}

/// How the weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    Int8,
    Bf16,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    output::check_place("--out", &args.out)?;
    let data = args.data.as_ref().map(|path| job::source(path, &args.files, Role::Corpus)).transpose()?;
    let model = models::load_language_model(&args.model)?;
    let weights = match args.weights {
        Weights::Int8 => packed::Weights::Int8,
        Weights::Bf16 => packed::Weights::Bf16,
    };
    let loss = packed::save(&args.out, &model, weights)?;
    drop(model);
    let mut json = json!({ "bytes": loss.bytes, "values": loss.values, "relative_error": loss.relative_error,
        "largest_error": loss.largest_error, "before": null, "after": null });
    let mut text = format!(
        "{}: {} bytes for {} weights, error {:.3} % of the weights' size, at most {:.3} % of a tensor's largest\n",
        args.out.display(),
        loss.bytes,
        loss.values,
        100.0 * loss.relative_error,
        100.0 * loss.largest_error
    );
    if let Some(source) = &data {
        global.announce_device();
        for (key, path) in [("before", &args.model), ("after", &args.out)] {
            let measured = measure(path, source, global)?;
            let number = |name: &str| measured[name].as_f64().unwrap_or(f64::NAN);
            text += &format!(
                "{key:<8} perplexity {:.3}  bits per byte {:.5}\n",
                number("perplexity"),
                number("bits_per_byte")
            );
            json[key] = measured;
        }
    }
    output::result(global.json, &text, &json)
}

fn measure(model: &Path, source: &Source, global: &Global) -> Result<Value> {
    let measured = Speaker::new(models::load_language_model(model)?, global.graph())?.evaluate(source)?;
    let (perplexity, bits, tokens) = (measured.score("perplexity"), measured.score("bits_per_byte"), measured.count);
    Ok(json!({ "loss": measured.loss, "perplexity": perplexity, "bits_per_byte": bits, "tokens": tokens }))
}
