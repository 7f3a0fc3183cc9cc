//! `ulmfit export`: a model for other programs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::json;

use super::{Global, output};
use crate::error::{Error, Result};
use crate::models::export::{Target, export, export_mean};
use crate::models::rule::Rule;
use crate::models::{self, AnyModel};

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
    /// Of a folder with several networks one, from 1, or all: their mean in a file of ONNX [the
    /// default there], else a file each
    #[arg(long, value_name = "N|all")]
    pub network: Option<Which>,
    /// Replace the file if there is one
    #[arg(long)]
    pub overwrite: bool,
}

/// Which networks of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its number, from 1.
    One(usize),
    All,
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Which::All),
            Ok(number) if number > 0 => Ok(Which::One(number)),
            _ => Err("it is neither a number from 1 on nor 'all'".into()),
        }
    }
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let target = match args.to.as_str() {
        "pytorch" => Target::Pytorch,
        "fastai" => Target::Fastai,
        "safetensors" => Target::Safetensors,
        _ => Target::Onnx,
    };
    let folder = models::classifier_folder(&args.model)?;
    let rule = if models::is_classifier(&folder)? { Rule::load(&folder)? } else { None };
    let more = rule.as_ref().map_or_else(Vec::new, |rule| rule.folders(&folder));
    let count = 1 + more.len();
    let chosen: Vec<usize> = match args.network {
        Some(Which::One(number)) if number > count => {
            let networks = if count == 1 { "one network" } else { &format!("{count} networks") };
            return Err(Error::usage(format!("--network {number}: {} has {networks}", args.model.display())));
        }
        Some(Which::One(number)) => vec![number],
        None if count > 1 && target != Target::Onnx => {
            let networks = format!("{} has {count} networks, and --to {} holds one", args.model.display(), args.to);
            return Err(Error::usage(networks).hint("write a file for each with --network all, or one: --network 1"));
        }
        Some(Which::All) | None => (1..=count).collect(),
    };
    let files: Vec<PathBuf> = match target {
        Target::Onnx => vec![args.out.clone()],
        _ if chosen.len() == 1 => vec![args.out.clone()],
        _ => chosen.iter().map(|number| numbered(&args.out, *number)).collect(),
    };
    files.iter().try_for_each(|file| free(file, args.overwrite))?;

    let folders: Vec<&PathBuf> = std::iter::once(&folder).chain(&more).collect();
    let networks: Vec<AnyModel> =
        chosen.iter().map(|number| models::load(folders[number - 1])).collect::<Result<_>>()?;
    let mut written = Vec::new();
    if target == Target::Onnx && networks.len() > 1 {
        let classifiers = networks.into_iter().filter_map(|model| match model {
            AnyModel::Classifier(model) => Some(model),
            AnyModel::LanguageModel(_) => None,
        });
        let temperature = rule.as_ref().map_or(1.0, |rule| rule.temperature);
        written.extend(export_mean(&classifiers.collect::<Vec<_>>(), temperature, &args.out)?);
    } else {
        for (model, file) in networks.iter().zip(&files) {
            written.extend(export(model, target, file)?);
        }
    }

    let mut bytes = 0;
    let mut text = String::new();
    for (file, words) in files.iter().zip(written.chunks(2)) {
        let size = std::fs::metadata(file).map_err(|e| Error::io(file, "read", &e))?.len();
        bytes += size;
        let _ = write!(text, "{}: {size} bytes\nwords: {}\n", file.display(), words[1].display());
    }
    let mut left_out = Vec::new();
    if rule.as_ref().is_some_and(|rule| rule.blend.is_some()) {
        left_out.push("the linear model, which answers beside the networks in 'predict'".to_string());
    }
    if chosen.len() < count {
        left_out.push(format!("{} of the {count} networks, whose mean answers", count - chosen.len()));
    }
    if count > 1 && chosen.len() == count && target == Target::Onnx {
        let _ = writeln!(text, "it gives the mean of {count} networks");
    }
    left_out.iter().for_each(|what| {
        let _ = writeln!(text, "left out: {what}");
    });
    let shown: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    let value = json!({ "files": shown, "bytes": bytes, "networks": chosen, "left_out": left_out });
    output::result(global.json, text.trim_end(), &value)
}

/// `model.pth` → `model-2.pth`
fn numbered(file: &Path, number: usize) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    match file.extension() {
        Some(ending) => file.with_file_name(format!("{stem}-{number}.{}", ending.to_string_lossy())),
        None => file.with_file_name(format!("{stem}-{number}")),
    }
}

/// Refuses a place that is taken.
fn free(file: &Path, overwrite: bool) -> Result<()> {
    if file.is_dir() {
        return Err(Error::usage(format!("--out {} is a directory, but a file is written", file.display())));
    }
    if file.exists() && !overwrite {
        return Err(Error::usage(format!("--out {} exists", file.display())).hint("replace it with --overwrite"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_before_the_ending() {
        assert_eq!(numbered(Path::new("a.b/model.pth"), 2), Path::new("a.b/model-2.pth"));
        assert_eq!(numbered(Path::new("model"), 12), Path::new("model-12"));
    }
}
