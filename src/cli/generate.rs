//! `ulmfit generate`: continue a text with a language model.

use std::path::PathBuf;

use super::values;
use super::{Global, output};
use crate::answer::language::{Sampling, Speaker};
use crate::error::Result;
use crate::models;

/// Continue a text with a language model
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit generate --model lm --prompt \"The history of the city\" --seed 7")]
pub struct Args {
    /// A language model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// Tokens to add at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = values::count)]
    pub length: usize,
    /// Below 1 the likely becomes likelier
    #[arg(long, value_name = "X", default_value = "1", value_parser = values::above_zero)]
    pub temperature: f64,
    /// Choose among the N likeliest tokens only
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub top_k: Option<usize>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let model = models::load_language_model(&args.model)?;
    global.announce_device();
    let sampling =
        Sampling { length: args.length, temperature: args.temperature, top_k: args.top_k, seed: global.seed };
    let text = Speaker::new(model, global.graph())?.generate(&args.prompt, sampling)?;
    output::result(global.json, &text, &serde_json::json!({ "text": text }))
}
