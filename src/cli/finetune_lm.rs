//! `ulmfit finetune-lm`: stage 2: fine-tune a language model on the target's text.

use std::path::PathBuf;

use clap::ArgAction;

use super::recipe::RecipeArgs;
use super::shared::{DataArgs, RunArgs};
use super::takes::{self, Taker};
use super::{Global, job};
use crate::error::Result;
use crate::models::base::Base;
use crate::text::Role;
use crate::train::Stage;
use crate::train::stages::{LmSources, train_language_model};

/// Stage 2: fine-tune a language model on the target's text
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit finetune-lm --base lm --text train.csv --out tuned")]
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
    /// The language model to start from: english or tiny (in the program), none, or a folder
    #[arg(long, visible_alias = "model", value_name = "english|tiny|none|DIR")]
    pub base: Base,
    /// Text of the target: a data set (labels are ignored) or plain text
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append, required = true)]
    pub text: Vec<String>,
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
    if let Some(path) = args.base.path() {
        job::refuse_own_model(&line.out, path)?;
    }
    let mut recipe = job::recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    takes::check_stage(Taker::FinetuneLm, &args.recipe, &|flag| global.is_from_config(flag))?;
    let train = job::sources(&args.text, &args.data, Role::Texts)?;
    args.data.check_flags(&train, global)?;
    let valid = args.valid.as_ref().map(|path| job::source(path, &args.data, Role::Texts)).transpose()?;
    let from = args.base.load(args.recipe.asked_direction())?;
    if let Some(from) = &from {
        recipe = job::sized_like(recipe, &from.config, &args.recipe, false)?;
    }
    job::train_one(global, recipe, &line.run, &args.recipe, &line.out, "Fine-tuning", |context, out| {
        if let Some(from) = &from {
            context.direction = from.config.direction;
        }
        train_language_model(context, Stage::FinetuneLm, &LmSources { train, valid }, from.as_ref(), out)
    })
}
