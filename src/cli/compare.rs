//! `ulmfit compare`: every method on your own data, side by side.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::ArgAction;
use serde_json::{Value, json};

use super::recipe::{RecipeArgs, RecipeName};
use super::run::{Effort, base_of, folder_for, sized_like};
use super::shared::{DataArgs, UnlabelledArgs};
use super::values::name_of;
use super::{Global, job, output};
use crate::error::Result;
use crate::models::base::Base;
use crate::report::progress::{Journal, Progress};
use crate::text::Role;
use crate::train::experiment::{Cell, Data, Laboratory, LeftOut, METHODS, Paired, lines};
use crate::train::observer::Observer;
use crate::train::recipe::{Builder, COMMAND_LINE, Recipe};
use crate::train::rss;

/// The linear model, the network from scratch, the base and both together on your own data
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The command goes on where it was stopped: what is finished in --out is not done again.\n\nExample:\n  ulmfit compare --train train.csv --test test.csv --seeds 3 --out comparison"
)]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// Train on a balanced subset of N documents
    #[arg(long, value_name = "N", value_parser = super::values::count)]
    pub labels: Option<usize>,
    /// Leave out the network from scratch, or the backward direction; may be repeated
    #[arg(long, value_enum, value_name = "scratch|backward", action = ArgAction::Append)]
    pub skip: Vec<Skip>,
}

/// What a comparison can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Skip {
    Scratch,
    Backward,
}

impl From<Skip> for LeftOut {
    fn from(skip: Skip) -> Self {
        match skip {
            Skip::Scratch => LeftOut::Scratch,
            Skip::Backward => LeftOut::Backward,
        }
    }
}

/// What experiments are made of.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// Labelled training data
    #[arg(long, value_name = "FILE")]
    pub train: String,
    /// Labelled test data
    #[arg(long, value_name = "FILE")]
    pub test: String,
    /// Labelled validation data
    #[arg(long, value_name = "FILE")]
    pub valid: Option<String>,
    /// Text of the target domain without labels
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub unlabelled: Vec<String>,
    /// The language model to start from: english or tiny (in the program), none, or a folder
    #[arg(long, value_name = "english|tiny|none|DIR")]
    pub base: Option<Base>,
    /// Where models and results go [default: a folder named after the training data]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long to train: quick, normal or best
    #[arg(long, value_enum, value_name = "quick|normal|best")]
    pub effort: Option<Effort>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub unlabelled_data: UnlabelledArgs,
    /// Number of seeds, counted from --seed
    #[arg(long, value_name = "N", default_value = "3", value_parser = super::values::count)]
    pub seeds: usize,
    /// Table of settings to start from
    #[arg(long, value_enum, value_name = "NAME", default_value = "default")]
    pub recipe: RecipeName,
    /// Any line of the recipe by its key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append, value_parser = super::values::assignment)]
    pub set: Vec<(String, String)>,
}

impl Input {
    fn resolved(&self) -> Result<Recipe> {
        let mut builder = Builder::new(&name_of(&self.recipe))?;
        self.set.iter().try_for_each(|(key, value)| builder.key(key, value, COMMAND_LINE))?;
        builder.build()
    }

    /// The data, and the seeds.
    pub fn open(&self, global: &Global) -> Result<(Data, Vec<u64>)> {
        let open = |path: &String| job::source(path, &self.data, Role::Dataset);
        let of_unlabelled = self.unlabelled_data.data();
        if self.unlabelled.is_empty() {
            of_unlabelled.refuse("there is no --unlabelled", global)?;
        }
        let unlabelled = job::sources(&self.unlabelled, &of_unlabelled, Role::Texts)?;
        of_unlabelled.check_flags(&unlabelled, global)?;
        let train = open(&self.train)?;
        self.data.check_flags([&train], global)?;
        let data =
            Data { train, valid: self.valid.as_ref().map(open).transpose()?, test: open(&self.test)?, unlabelled };
        Ok((data, (0..self.seeds as u64).map(|k| global.seed.wrapping_add(k)).collect()))
    }

    /// Runs `work` in a folder that is there already, or is made: `suffix` ends its name.
    pub fn laboratory<R>(
        &self,
        suffix: &str,
        global: &Global,
        work: impl FnOnce(&mut Laboratory) -> Result<R>,
    ) -> Result<(R, PathBuf)> {
        let mut recipe = self.resolved()?;
        if let Some(effort) = self.effort {
            effort.apply(&mut recipe)?;
        }
        let base = base_of(self.base.as_ref(), false, global);
        let scratch = recipe.clone();
        let recipe = sized_like(recipe, &base, &RecipeArgs::default(), false)?;
        let stem = folder_for(&self.train).to_string_lossy().trim_end_matches("-model").to_string();
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}-{suffix}")));
        if let Some(path) = base.path() {
            job::refuse_own_model(&out, path)?;
        }
        let device = global.announce_device();
        crate::train::interrupt::install()?;
        let precision = job::precision(&recipe, global);
        let journal = Journal::default();
        let mut observer: Box<dyn Observer> = Box::new(Progress::new(global.detail, &journal));
        let mut stage_observer = |directory: &std::path::Path| job::observers(directory, global, &journal);
        let mut laboratory = Laboratory {
            recipe,
            scratch,
            device,
            precision,
            memory_limit: global.memory_limit,
            checkpoint_minutes: 10.0,
            out: out.clone(),
            base,
            observer: &mut *observer,
            stage_observer: &mut stage_observer,
        };
        work(&mut laboratory).map(|result| (result, out))
    }
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let begun = Instant::now();
    let (data, seeds) = args.input.open(global)?;
    let left_out: Vec<LeftOut> = args.skip.iter().map(|&skip| skip.into()).collect();
    let (cells, out) = args.input.laboratory("comparison", global, |laboratory| {
        let mut cells = Vec::new();
        for &seed in &seeds {
            cells.extend(laboratory.compare(&data, args.labels, seed, &left_out)?);
        }
        Ok(cells)
    })?;
    let paired = paired(&cells, seeds[0]);
    let json = json!({ "rows": lines(&cells), "cells": cells, "paired": paired, "seconds": begun.elapsed().as_secs_f64(),
        "peak_rss_mb": rss::peak_rss_mb() });
    crate::files::put(&out.join("comparison.json"), format!("{json:#}\n"))?;
    output::result(global.json, &format!("{}\nresults: {}", table(&cells, &paired), out.display()), &json)
}

/// The last method against every other, on the test documents of one seed.
fn paired(cells: &[Cell], seed: u64) -> Vec<Value> {
    let of = |method: &str| cells.iter().find(|cell| cell.method == method && cell.seed == seed);
    let Some(last) = METHODS.last().and_then(|method| of(method)) else { return Vec::new() };
    let others = METHODS[..METHODS.len() - 1].iter().filter_map(|method| of(method));
    let one = |cell: &Cell| {
        let test = Paired::of(&last.right, &cell.right);
        json!({ "method": last.method, "against": cell.method, "seed": seed, "method_only": test.first_only,
            "against_only": test.second_only, "p": test.p })
    };
    others.map(one).collect()
}

fn table(cells: &[Cell], paired: &[Value]) -> String {
    let mut text = format!("{:<26} {:>8}  {:>6}  by seed\n", "method", "error", "sd");
    for line in lines(cells) {
        let sd = line.error_sd.map_or("-".to_string(), |sd| format!("{sd:.2}"));
        let by_seed: Vec<String> = line.errors.iter().map(|e| format!("{e:.2}")).collect();
        let _ = writeln!(text, "{:<26} {:>6.2} %  {sd:>6}  {}", line.method, line.error, by_seed.join(" "));
    }
    for test in paired {
        let _ = writeln!(
            text,
            "{} against {}: right alone {} and {} times, p = {:.3} (McNemar, first seed)",
            test["method"].as_str().unwrap_or_default(),
            test["against"].as_str().unwrap_or_default(),
            test["method_only"],
            test["against_only"],
            test["p"].as_f64().unwrap_or(f64::NAN)
        );
    }
    text.trim_end().to_string()
}
