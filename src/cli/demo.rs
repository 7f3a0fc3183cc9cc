//! `ulmfit demo`: the three stages end to end on an embedded, generated corpus.

use std::path::{Path, PathBuf};

use super::recipe::{RecipeArgs, StagedRecipe};
use super::shared::RunArgs;
use super::{Global, job, output, takes};
use crate::error::{Error, Result};
use crate::files;
use crate::models::Folder;
use crate::models::base::Base;
use crate::report::progress::Journal;
use crate::temporary::TemporaryFolder;
use crate::text::synthetic::{Synthetic, SyntheticSizes};
use crate::text::{Format, OpenOptions, Source};
use crate::train::pipeline::{self, RunOptions, RunSources, Together};

/// The three stages end to end on an embedded, generated corpus
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A recipe flag holds for every stage, or with a prefix for one: --pretrain-epochs 3, --finetune-lr 0.004, \
                        --classifier-batch-size 32.\n\nExample:\n  ulmfit demo\n  ulmfit demo --out demo --seed 1 --pretrain-epochs 2"
)]
pub struct Args {
    /// Keep models and reports in this directory [default: keep nothing]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub recipe: StagedRecipe,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let recipe = job::staged_recipe(&args.recipe, "tiny", global)?;
    takes::check_run(true, &args.recipe, &|flag| global.is_from_config(flag))?;
    let temporary;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => {
            // an interrupt from here on is one that the training sees: the folder goes
            crate::train::interrupt::install()?;
            temporary = TemporaryFolder::new()?;
            temporary.path().join("demo")
        }
    };
    args.run.begin();
    let folder = Folder::open(&out, Some(args.run.resume), args.run.overwrite)?;
    let general = &args.recipe.general;
    let directories = job::seed_directories(global, general, folder.path());
    let mut results = Vec::new();
    // its files are not the user's
    let journal = Journal::without_data();
    if !global.quiet {
        output::to_stderr("data: generated texts, general and of reviews (train, valid, test, unlabelled)");
    }
    for (seed, directory) in &directories {
        let seed = *seed;
        let sources = write_corpus(seed, &directory.join("corpus"), args.recipe.labels())?;
        let (bidirectional, together) = (general.bidirectional, Together::Untouched);
        let options = RunOptions { bidirectional, compare: true, together, unmeasured: false };
        let one = global.with_seed(seed);
        let flags = RecipeArgs { seeds: None, ..general.clone() };
        let (recipe, run, sources) = (&recipe, &args.run, &sources);
        let journal = &journal;
        let whole =
            job::WholeRun { global: &one, recipe, run, args: &flags, options, sources, journal, listener: None };
        results.push(job::run_in(&whole, directory)?);
    }
    folder.finish()?;
    let directories = job::seed_directories(global, general, &out);
    let kept = if args.out.is_some() { &directories[..] } else { &[] };
    super::result::print(global, recipe.classifier.task, &pipeline::over_seeds(&results), kept)
}

/// Writes the generated texts as the files that `run` would read.
fn write_corpus(seed: u64, directory: &Path, labels: Option<usize>) -> Result<RunSources> {
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, "create", &e))?;
    let corpus = Synthetic::new(seed, SyntheticSizes::default());
    let lines = |name: &str, texts: &mut dyn Iterator<Item = String>| -> Result<Source> {
        let text: String = texts.map(|t| t + "\n").collect();
        open(directory, name, text.as_bytes())
    };
    let labelled = |name: &str, documents: Vec<(String, String)>| -> Result<Source> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let fault = |e: csv::Error| Error::data(format!("the generated corpus cannot be written: {e}"));
        writer.write_record(["label", "text"]).map_err(fault)?;
        for (label, text) in documents {
            writer.write_record([label, text]).map_err(fault)?;
        }
        let bytes =
            writer.into_inner().map_err(|e| Error::data(format!("the generated corpus cannot be written: {e}")))?;
        open(directory, name, &bytes)
    };
    let train = labelled("train.csv", corpus.train())?;
    Ok(RunSources {
        base: Base::None,
        corpus: vec![lines("general.txt", &mut corpus.general_documents())?],
        corpus_valid: Some(lines("general-valid.txt", &mut corpus.general_valid())?),
        target: vec![train.clone(), lines("unlabelled.txt", &mut corpus.unlabelled())?],
        train,
        valid: Some(labelled("valid.csv", corpus.valid())?),
        test: Some(labelled("test.csv", corpus.test())?),
        labels,
    })
}

fn open(directory: &Path, name: &str, bytes: &[u8]) -> Result<Source> {
    let path = directory.join(name);
    files::put(&path, bytes)?;
    let format = if name.ends_with(".csv") { "csv" } else { "plain" };
    let options = OpenOptions { format: Some(Format::by_name(format)?), ..OpenOptions::default() };
    Source::open(path.to_string_lossy(), &options)
}
