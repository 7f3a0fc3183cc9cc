//! `ulmfit train-classifier`: stage 3: train a classifier on a language model.

use std::path::PathBuf;

use super::recipe::RecipeArgs;
use super::shared::{DataArgs, ModelOrNone, RunArgs};
use super::takes::{self, Taker};
use super::{Global, job};
use crate::error::{Error, Result};
use crate::models;
use crate::text::Role;
use crate::train::stages::{ClassifierSources, train_classifier};

/// Stage 3: train a classifier on a language model
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit train-classifier --model tuned --train train.csv --test test.csv --out classifier\n  ulmfit train-classifier --model none --train train.csv --labels 100 --out scratch\n  ulmfit train-classifier --model forward --backward-model backward --train train.conll --out tagger"
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
    /// A second language model, which reads backward; both encoders then tag words together (--task
    /// tags)
    #[arg(long, value_name = "DIR")]
    pub backward_model: Option<PathBuf>,
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
    let train = open(&args.train)?;
    args.data.check_flags([&train], global)?;
    recipe = job::tagging(recipe, &train)?;
    let sources = ClassifierSources {
        train,
        valid: args.valid.as_ref().map(open).transpose()?,
        test: args.test.as_ref().map(open).transpose()?,
        labels: args.recipe.labels,
        fold: None,
    };
    let from = match &args.model {
        ModelOrNone::None => None,
        ModelOrNone::Directory(directory) => Some(models::load_language_model(directory)?),
    };
    let second = args.backward_model.as_deref().map(models::load_language_model).transpose()?;
    if let (ModelOrNone::None, Some(directory)) = (&args.model, &args.backward_model) {
        return Err(Error::usage(format!(
            "--backward-model {} stands beside --model, which is none",
            directory.display()
        )));
    }
    let directory = if let ModelOrNone::Directory(directory) = &args.model { Some(directory) } else { None };
    directory.into_iter().chain(&args.backward_model).try_for_each(|model| job::refuse_own_model(&line.out, model))?;
    if let Some(from) = &from {
        recipe = job::sized_like(recipe, &from.config, &args.recipe, true)?;
    }
    job::train_one(global, recipe, &line.run, &args.recipe, &line.out, "Classifier", |context, out| {
        if let Some(from) = &from {
            context.direction = from.config.direction;
        }
        let from: Vec<_> = from.iter().chain(&second).collect();
        train_classifier(context, &sources, &from, out)
    })
}
