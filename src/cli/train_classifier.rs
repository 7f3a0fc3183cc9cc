//! `ulmfit train-classifier`: stage 3: train a classifier on a language model.

use std::path::PathBuf;

use super::recipe::RecipeArgs;
use super::shared::{DataArgs, ModelOrNone, RunArgs};
use super::takes::{self, Taker};
use super::{Global, job};
use crate::error::Result;
use crate::models;
use crate::text::Role;
use crate::train::stages::{ClassifierSources, train_classifier};

/// Stage 3: train a classifier on a language model
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit train-classifier --model tuned --train train.csv --test test.csv --out classifier\n  ulmfit train-classifier --model none --train train.csv --labels 100 --out scratch"
)]
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
    /// The language model to start from, or none to train from scratch
    #[arg(long, value_name = "DIR|none")]
    pub model: ModelOrNone,
    /// Labelled training data
    #[arg(long, value_name = "FILE")]
    pub train: String,
    /// Labelled validation data
    #[arg(long, value_name = "FILE")]
    pub valid: Option<String>,
    /// Labelled test data
    #[arg(long, value_name = "FILE")]
    pub test: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

pub fn run(line: &Args, global: &Global) -> Result<()> {
    let args = &line.input;
    let mut recipe = job::recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    let taker = if args.model == ModelOrNone::None { Taker::Scratch } else { Taker::Classifier };
    takes::check_stage(taker, &args.recipe, &|flag| global.is_from_config(flag))?;
    let data = job::data_of(&args.data, recipe.classifier.task);
    let open = |path: &String| job::source(path, &data, Role::Dataset);
    let sources = ClassifierSources {
        train: open(&args.train)?,
        valid: args.valid.as_ref().map(open).transpose()?,
        test: args.test.as_ref().map(open).transpose()?,
        labels: args.recipe.labels,
        fold: None,
    };
    let from = match &args.model {
        ModelOrNone::None => None,
        ModelOrNone::Directory(directory) => Some(models::load_language_model(directory)?),
    };
    if let ModelOrNone::Directory(directory) = &args.model {
        job::refuse_own_model(&line.out, directory)?;
    }
    if let Some(from) = &from {
        recipe = job::sized_like(recipe, &from.config, &args.recipe, true)?;
    }
    job::train_one(global, recipe, &line.run, &args.recipe, &line.out, "Classifier", |context, out| {
        if let Some(from) = &from {
            context.direction = from.config.direction;
        }
        train_classifier(context, &sources, from.as_ref(), out)
    })
}
