//! `ulmfit curve`: errors by the number of labels, on your own data (the paper's Figure 3).

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::json;

use super::compare::Input;
use super::{Global, output, values};
use crate::error::{Error, Result};
use crate::report::plots::{self, Chart, Mark, Series};
use crate::report::{figure, page};
use crate::train::experiment::{Line, METHODS, lines};

/// Errors by the number of labels: a figure for your own data
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The command goes on where it was stopped: what is finished in --out is not done again.\n\nExample:\n  ulmfit curve --train train.csv --test test.csv --labels 50,100,200,500 --seeds 3 --out curve"
)]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// Numbers of labelled documents
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', required = true, value_parser = values::count)]
    pub labels: Vec<usize>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let begun = Instant::now();
    if args.labels.iter().any(|&n| n < 2) || !args.labels.is_sorted_by(|a, b| a < b) {
        return Err(Error::usage("--labels: numbers of at least 2 that ascend"));
    }
    let (data, seeds) = args.input.open(global)?;
    let (cells, out) = args.input.laboratory("curve", global, |laboratory| {
        let mut cells = Vec::new();
        for &labels in &args.labels {
            for &seed in &seeds {
                cells.extend(laboratory.with_labels(&data, labels, seed)?);
            }
        }
        Ok(cells)
    })?;
    let rows = lines(&cells);
    let json = json!({ "rows": rows, "cells": cells, "seconds": begun.elapsed().as_secs_f64() });
    crate::files::put(&out.join("curve.json"), format!("{json:#}\n"))?;
    let (picture, chart) = (out.join("curve.svg"), chart(&rows));
    if let Some(svg) = plots::standalone(&chart)? {
        crate::files::put(&picture, svg)?;
    }
    let mut body = String::new();
    figure::charts(&mut body, std::slice::from_ref(&chart))?;
    crate::files::put(&out.join("curve.html"), page::page("Errors by the number of labels", &body))?;
    output::result(global.json, &format!("{}\nfigure: {}", table(&rows, &args.labels), picture.display()), &json)
}

/// A line for every method, over a band from the lowest to the highest seed.
fn chart(rows: &[Line]) -> Chart {
    let mut series = Vec::new();
    for (colour, method) in METHODS.iter().enumerate() {
        let of: Vec<&Line> = rows.iter().filter(|line| line.method == *method).collect();
        if of.is_empty() {
            continue;
        }
        let x = |line: &Line| line.labels.unwrap_or(0) as f64;
        let least = |line: &Line| line.errors.iter().copied().fold(f64::INFINITY, f64::min);
        let most = |line: &Line| line.errors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = of.iter().map(|line| (x(line), least(line)));
        let high = of.iter().rev().map(|line| (x(line), most(line)));
        let name = (*method).to_string();
        series.push(Series { name: name.clone(), points: low.chain(high).collect(), mark: Mark::Band, colour });
        let points = of.iter().map(|line| (x(line), line.error)).collect();
        series.push(Series { name, points, mark: Mark::Dots, colour });
    }
    Chart {
        title: "Test error by the number of labelled documents".into(),
        x_label: "labelled documents",
        y_label: "test error (%)",
        logarithmic: false,
        x_logarithmic: false,
        from_zero: true,
        series,
    }
}

fn table(rows: &[Line], steps: &[usize]) -> String {
    let mut text = format!("{:<26}", "test error (%), sd");
    steps.iter().for_each(|n| text += &format!(" {n:>14}"));
    for method in METHODS {
        let of: Vec<&Line> = rows.iter().filter(|line| line.method == method).collect();
        if of.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{method:<26}");
        for n in steps {
            let line = of.iter().find(|line| line.labels == Some(*n));
            let shown = line.map_or(String::new(), |line| {
                line.error_sd.map_or(format!("{:.2}", line.error), |sd| format!("{:.2} ({sd:.2})", line.error))
            });
            let _ = write!(text, " {shown:>14}");
        }
    }
    text
}
