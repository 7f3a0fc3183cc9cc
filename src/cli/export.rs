//! `ulmfit export`: a model for other programs.

use std::path::PathBuf;

use serde_json::json;

use super::{Global, output};
use crate::error::{Error, Result};
use crate::models::export::{Target, export};
use crate::models::{self};

/// Write a model for PyTorch, fastai, safetensors or ONNX
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The words and classes are written beside the file: F.vocab.json, for fastai F.vocab.pkl.\n\nExample:\n  ulmfit export --model classifier --to onnx --out classifier.onnx"
)]
pub struct Args {
    /// A model directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Whom it is for: pytorch, fastai, safetensors or onnx
    #[arg(long, value_name = "KIND", value_parser = ["pytorch", "fastai", "safetensors", "onnx"])]
    pub to: String,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub overwrite: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let target = match args.to.as_str() {
        "pytorch" => Target::Pytorch,
        "fastai" => Target::Fastai,
        "safetensors" => Target::Safetensors,
        _ => Target::Onnx,
    };
    if args.out.is_dir() {
        return Err(Error::usage(format!("--out {} is a directory, but a file is written", args.out.display())));
    }
    if args.out.exists() && !args.overwrite {
        let message = format!("--out {} exists", args.out.display());
        return Err(Error::usage(message).hint("replace it with --overwrite"));
    }
    let model = models::load(&args.model)?;
    let written = export(&model, target, &args.out)?;
    let shown: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    let bytes = std::fs::metadata(&args.out).map_err(|e| Error::io(&args.out, "read", &e))?.len();
    let text = format!("{}: {bytes} bytes\nwords: {}", shown[0], shown[1]);
    output::result(global.json, &text, &json!({ "files": shown, "bytes": bytes }))
}
