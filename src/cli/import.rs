//! `ulmfit import`: a model of another program, read without running any code of its file.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::{Global, output, values};
use crate::error::{Error, Result};
use crate::models::import::{Asked, Options, import};
use crate::models::{self, Folder};
use crate::text::{Direction, Rules};

/// Take over a model of fastai, of the authors' scripts or of awd-lstm-lm
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Nothing in the files is run: their pickles are read by a machine that calls nothing.\n\nExamples:\n  ulmfit import --weights wt103-fwd/lstm_fwd.pth --vocab wt103-fwd/itos_wt103.pkl --out wt103\n  ulmfit finetune-lm --model wt103 --text train.csv --out lm"
)]
pub struct Args {
    /// Weights: .pth, .h5 or .pt of torch, or .safetensors
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// Vocabulary: a pickled list (itos.pkl), a JSON list, or a text of one word a line
    #[arg(long, value_name = "FILE")]
    pub vocab: PathBuf,
    /// Where the model goes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What wrote the weights: auto, fastai2, fastai1, scripts, awd or safetensors
    #[arg(long, value_name = "KIND", default_value = "auto", value_parser = ["auto", "fastai2", "fastai1", "scripts", "awd", "safetensors"])]
    pub kind: String,
    /// Rules of the tokenizer that made the vocabulary, where it does not tell: 0.7, v1 or v2
    #[arg(long, value_name = "RULES", value_parser = ["0.7", "v1", "v2"])]
    pub rules: Option<String>,
    /// Which way the model reads
    #[arg(long, value_name = "DIRECTION", default_value = "forward", value_parser = ["forward", "backward"])]
    pub direction: String,
    /// Tokens of a classifier's chunk [default: 72 for fastai 2, else 70]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub bptt: Option<usize>,
    /// Tokens that a classifier pools at most [default: 20 chunks]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_len: Option<usize>,
    /// Replace what is in the output directory
    #[arg(long)]
    pub overwrite: bool,
}

impl Args {
    fn options(&self) -> Options {
        let kind = match self.kind.as_str() {
            "fastai2" => Some(Asked::Fastai2),
            "fastai1" => Some(Asked::Fastai1),
            "scripts" => Some(Asked::Scripts),
            "awd" => Some(Asked::Awd),
            "safetensors" => Some(Asked::Safetensors),
            _ => None,
        };
        let rules = self.rules.as_deref().map(|rules| match rules {
            "0.7" => Rules::V07,
            "v1" => Rules::V1,
            _ => Rules::V2,
        });
        let direction = if self.direction == "backward" { Direction::Backward } else { Direction::Forward };
        Options { kind, rules, direction, bptt: self.bptt, max_len: self.max_len }
    }
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    // everything is read and checked before anything is written or replaced
    let model = import(&args.weights, &args.vocab, args.options())?;
    if model.config.labels.is_empty() && (args.bptt.is_some() || args.max_len.is_some()) {
        return Err(Error::usage("--bptt and --max-len are of classifiers, but these weights are of a language model"));
    }
    let folder = Folder::open(&args.out, None, args.overwrite)?;
    models::clear(folder.path())?;
    model.save(folder.path())?;
    folder.finish()?;
    let values = model.parameters.ids().map(|id| model.parameters.value(id).len()).sum::<usize>();
    let mut text = format!(
        "{} of {}: {} tensors, {values} values, {} words\n",
        if model.config.labels.is_empty() { "a language model" } else { "a classifier" },
        model.kind.name(),
        model.tensors,
        model.vocabulary.len()
    );
    for line in &model.assumed {
        let _ = writeln!(text, "assumed: {line}");
    }
    let _ = write!(text, "model: {}", args.out.display());
    let value = json!({
        "kind": model.kind.name(),
        "tensors": model.tensors,
        "vocabulary": model.vocabulary.len(),
        "assumed": model.assumed,
    });
    output::result(global.json, &text, &value)
}
