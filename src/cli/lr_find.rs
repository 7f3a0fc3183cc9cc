//! `ulmfit lr-find`: learning-rate range test with a plot.

use std::path::PathBuf;

use clap::ArgAction;

use super::recipe::RecipeArgs;
use super::shared::{DataArgs, ModelOrNone};
use super::takes::{self, Taker};
use super::{Global, job, output};
use crate::error::{Error, Result};
use crate::files;
use crate::models;
use crate::report::plots::{Chart, Mark, Series, svg};
use crate::text::Role;
use crate::train::lr_find::{self, RangePoint, RangeTest};

/// Learning-rate range test with a plot: all groups that the recipe trains, at rates from 1e-7 to
/// 10
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit lr-find --model lm --text train.csv --plot lr.svg")]
pub struct Args {
    /// The model to start from, or none
    #[arg(long, value_name = "DIR|none")]
    pub model: ModelOrNone,
    /// Text, for a language model
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append, required_unless_present = "train")]
    pub text: Vec<String>,
    /// Labelled data, for a classifier
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub train: Option<String>,
    /// Where the plot goes
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let mut recipe = job::recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    let taker = match (&args.model, &args.train) {
        (ModelOrNone::None, None) => Taker::Pretrain,
        (ModelOrNone::None, Some(_)) => Taker::Scratch,
        (_, None) => Taker::FinetuneLm,
        (_, Some(_)) => Taker::Classifier,
    };
    takes::check_stage(taker, &args.recipe, &|flag| global.is_from_config(flag))?;
    let labelled = job::data_of(&args.data, recipe.classifier.task);
    let train = args.train.as_ref().map(|path| job::source(path, &labelled, Role::Dataset)).transpose()?;
    if let Some(train) = &train {
        recipe = job::tagging(recipe, train)?;
    }
    let text_role = if args.model == ModelOrNone::None { Role::Corpus } else { Role::Texts };
    let text = job::sources(&args.text, &args.data, text_role)?;
    args.data.check_flags(train.iter().chain(&text), global)?;
    if let Some(plot) = &args.plot {
        output::check_place("--plot", plot)?;
    }
    let from = match &args.model {
        ModelOrNone::None => None,
        ModelOrNone::Directory(directory) => Some(models::load_language_model(directory)?),
    };
    let mut direction = args.recipe.reading_direction();
    if let Some(from) = &from {
        recipe = job::sized_like(recipe, &from.config, &args.recipe, train.is_some())?;
        direction = from.config.direction;
    }
    let test = job::trial(global, recipe, direction, |context| match &train {
        Some(train) => lr_find::classifier(context, train, from.as_ref()),
        None => lr_find::language_model(context, &text, from.as_ref()),
    })?;
    let mut lines = format!(
        "suggestion: {:.2e} (the smoothed loss falls most steeply)\na tenth of the rate with the lowest loss: {:.2e}\n",
        test.suggestion, test.minimum_over_10
    );
    let last = test.points.last().map_or(0.0, |p| p.rate);
    lines += &match test.diverged {
        true => format!("{} updates; the loss ran away at {last:.2e}", test.points.len()),
        false => format!("{} updates", test.points.len()),
    };
    if let Some(path) = &args.plot {
        let svg = plot(&test)?.ok_or_else(|| Error::data("the loss has no finite value: there is nothing to plot"))?;
        files::put_output(path, svg)?;
        lines += &format!("\nplot: {}", path.display());
    }
    let value =
        serde_json::to_value(&test).map_err(|e| Error::data(format!("cannot write the result as JSON: {e}")))?;
    output::result(global.json, &lines, &value)
}

/// Loss over the logarithm of the rate.
fn plot(test: &RangeTest) -> Result<Option<String>> {
    let series = |name: &str, mark, colour, value: &dyn Fn(&RangePoint) -> f64| Series {
        name: name.into(),
        points: test.points.iter().map(|p| (p.rate.log10(), value(p))).collect(),
        mark,
        colour,
    };
    let at = |rate: f64| test.points.iter().find(|p| p.rate >= rate * (1.0 - 1e-9)).map(|p| (rate.log10(), p.smoothed));
    let mut all = vec![series("loss", Mark::Faint, 0, &|p| p.loss), series("smoothed", Mark::Line, 0, &|p| p.smoothed)];
    for (name, rate, colour) in [("suggestion", test.suggestion, 1), ("minimum / 10", test.minimum_over_10, 2)] {
        let points = at(rate).into_iter().collect();
        all.push(Series { name: name.into(), points, mark: Mark::Dots, colour });
    }
    svg(&Chart {
        title: "Learning-rate range test".into(),
        x_label: "log10 of the learning rate",
        y_label: "cross-entropy (nats)",
        logarithmic: false,
        x_logarithmic: false,
        from_zero: false,
        series: all,
    })
}
