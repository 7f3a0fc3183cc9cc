//! `ulmfit pretrain`: stage 1: train a language model on a general corpus.

use std::path::PathBuf;

use clap::ArgAction;

use super::recipe::RecipeArgs;
use super::shared::{DataArgs, RunArgs};
use super::takes::{self, Taker};
use super::{Global, job};
use crate::error::Result;
use crate::text::Role;
use crate::train::Stage;
use crate::train::stages::{LmSources, train_language_model};

/// Stage 1: train a language model on a general corpus
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit pretrain --corpus wiki.train.txt --valid wiki.valid.txt --out lm")]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// Where the model goes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the stage is made of.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// Text to learn from
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append, required = true)]
    pub corpus: Vec<String>,
    /// Text to measure on
    #[arg(long, value_name = "FILE")]
    pub valid: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

pub fn run(line: &Args, global: &Global) -> Result<()> {
    let args = &line.input;
    let recipe = job::recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    takes::check_stage(Taker::Pretrain, &args.recipe, &|flag| global.is_from_config(flag))?;
    let train = job::sources(&args.corpus, &args.data, Role::Corpus)?;
    args.data.check_flags(&train, global)?;
    let valid = args.valid.as_ref().map(|path| job::source(path, &args.data, Role::Corpus)).transpose()?;
    job::train_one(global, recipe, &line.run, &args.recipe, &line.out, "Pretraining", |context, out| {
        train_language_model(context, Stage::Pretrain, &LmSources { train, valid }, None, out)
    })
}
