//! `ulmfit run`: the three stages on your own files.

use std::path::PathBuf;

use clap::ArgAction;

use super::recipe::StagedRecipe;
use super::shared::{CorpusArgs, DataArgs, RunArgs, UnlabelledArgs};
use super::{Global, job};
use crate::error::Result;
use crate::text::Role;
use crate::train::pipeline::{RunOptions, RunSources};

/// The three stages on your own files
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A recipe flag holds for every stage, or with a prefix for one: --pretrain-epochs 3, --finetune-lr 0.004, \
                        --classifier-batch-size 32.\n\nExample:\n  ulmfit run --corpus wiki.txt --train train.csv --test test.csv --out model\n  ulmfit run --config recipe.toml --train train.csv --out model --resume"
)]
pub struct Args {
    /// Labelled training data
    #[arg(long, value_name = "FILE", required = true)]
    pub train: String,
    /// Text to pretrain the language model on
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub corpus: Vec<String>,
    /// Text to measure the pretrained language model on
    #[arg(long, value_name = "FILE")]
    pub corpus_valid: Option<String>,
    /// Labelled validation data
    #[arg(long, value_name = "FILE")]
    pub valid: Option<String>,
    /// Labelled test data
    #[arg(long, value_name = "FILE")]
    pub test: Option<String>,
    /// Text of the target domain without labels, for the second stage
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub unlabelled: Vec<String>,
    /// Where models and reports go
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Train from scratch and a linear model, too, to compare with
    #[arg(long)]
    pub compare: bool,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub corpus_data: CorpusArgs,
    #[command(flatten)]
    pub unlabelled_data: UnlabelledArgs,
    #[command(flatten)]
    pub recipe: StagedRecipe,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let recipe = job::staged_recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    let open = |path: &String| job::source(path, &args.data, Role::Dataset);
    let train = open(&args.train)?;
    let mut target = vec![train.clone()];
    target.extend(job::sources(&args.unlabelled, &args.unlabelled_data.data(), Role::Texts)?);
    let of_corpus = args.corpus_data.data();
    let corpus_valid = args.corpus_valid.as_ref().map(|path| job::source(path, &of_corpus, Role::Corpus));
    let sources = RunSources {
        corpus: job::sources(&args.corpus, &of_corpus, Role::Corpus)?,
        corpus_valid: corpus_valid.transpose()?,
        target,
        train,
        valid: args.valid.as_ref().map(open).transpose()?,
        test: args.test.as_ref().map(open).transpose()?,
        labels: args.recipe.general.labels,
    };
    let general = &args.recipe.general;
    let options = RunOptions { bidirectional: general.bidirectional, compare: args.compare };
    let result = job::run_all(global, &recipe, &args.run, general, &args.out, options, &sources)?;
    let directories = job::seed_directories(global, general, &args.out);
    job::print_run(global, &result, &directories)
}
