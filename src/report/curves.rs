//! Which charts a stage has.

use super::plots::{Chart, Mark, Series};
use crate::train::observer::{Evaluated, Event, Layers, Split, Step};

/// Points of the curve of clipped updates.
const WINDOWS: usize = 60;

/// What one stage told of its course.
pub(super) struct Course<'a> {
    steps: Vec<&'a Step>,
    layers: Vec<&'a Layers>,
    evaluated: Vec<&'a Evaluated>,
}

impl<'a> Course<'a> {
    pub(super) fn of(events: &'a [Event]) -> Self {
        let mut course = Course { steps: Vec::new(), layers: Vec::new(), evaluated: Vec::new() };
        for event in events {
            match event {
                Event::Step(step) => course.steps.push(step),
                Event::Layers(layers) => course.layers.push(layers),
                Event::Evaluated(evaluated) => course.evaluated.push(evaluated),
                _ => {}
            }
        }
        course
    }

    /// A value of every update.
    pub(super) fn over_steps(&self, name: &str, mark: Mark, colour: usize, value: impl Fn(&Step) -> f64) -> Series {
        let points = self.steps.iter().map(|s| (s.step as f64, value(s))).collect();
        Series { name: name.into(), points, mark, colour }
    }

    /// A value of every measurement on a part of the data, where it has one.
    pub(super) fn over_evaluations(
        &self,
        name: &str,
        split: Split,
        colour: usize,
        value: impl Fn(&Evaluated) -> Option<f64>,
    ) -> Series {
        let of_split = self.evaluated.iter().filter(|e| e.split == split);
        let points = of_split.filter_map(|e| Some((e.step as f64, value(e)?))).collect();
        Series { name: name.into(), points, mark: Mark::Dots, colour }
    }

    /// Whether a score was measured.
    pub(super) fn has(&self, score: &str) -> bool {
        self.evaluated.iter().any(|e| e.scores.get(score).is_some())
    }

    /// The score that other tasks than those of classes and words have first.
    pub(super) fn first_score(&self) -> Option<&'a str> {
        let (name, _) = self.evaluated.first()?.scores.iter().next()?;
        (!["perplexity", "error_percent"].contains(&name)).then_some(name)
    }

    /// What the loss is.
    pub(super) fn loss_label(&self) -> &'static str {
        if self.has("mean_squared_error") { "squared error (standardised)" } else { "cross-entropy (nats)" }
    }

    /// Share of the updates whose gradients were clipped, in percent, over windows of updates; no
    /// points where none was.
    pub(super) fn clipped(&self, name: &str, colour: usize) -> Series {
        let clipped = |s: &&&Step| s.gradient_scale < 1.0;
        let share = |part: &[&Step]| {
            let middle = (part[0].step + part[part.len() - 1].step) as f64 / 2.0;
            (middle, 100.0 * part.iter().filter(clipped).count() as f64 / part.len() as f64)
        };
        let any = self.steps.iter().any(|s| clipped(&s));
        let window = self.steps.len().div_ceil(WINDOWS).max(1);
        let points = if any { self.steps.chunks(window).map(share).collect() } else { Vec::new() };
        Series { name: name.into(), points, mark: Mark::Line, colour }
    }

    /// A line for every layer group.
    fn by_group(&self, groups: &[String], value: impl Fn(&Layers) -> &[Option<f64>]) -> Vec<Series> {
        let line = |(g, name): (usize, &String)| Series {
            name: name.clone(),
            points: (self.layers.iter())
                .filter_map(|layers| Some((layers.step as f64, (*value(layers).get(g)?)?)))
                .collect(),
            mark: Mark::Line,
            colour: g,
        };
        groups.iter().enumerate().map(line).filter(|series| !series.points.is_empty()).collect()
    }
}

/// A chart over updates.
pub(super) fn over_updates(title: &str, y_label: &'static str, series: Vec<Series>) -> Chart {
    Chart { title: title.into(), x_label: "update", y_label, series, ..Chart::default() }
}

/// The charts of one stage's events; `groups` are the names of the layer groups.
pub(super) fn charts(events: &[Event], groups: &[String]) -> Vec<Chart> {
    let course = Course::of(events);
    let mut charts = scores(&course);
    let count = course.steps.iter().map(|s| s.learning_rates.len()).max().unwrap_or(0);
    let rates = (0..count).map(|g| {
        let name = groups.get(g).cloned().unwrap_or_else(|| format!("group {g}"));
        course.over_steps(&name, Mark::Line, g, |s| s.learning_rates.get(g).copied().unwrap_or(f64::NAN))
    });
    let from_zero = |chart: Chart| Chart { from_zero: true, ..chart };
    charts.push(from_zero(over_updates("Learning rates", "learning rate", rates.collect())));
    let norm = course.over_steps("before clipping", Mark::Line, 3, |s| s.gradient_norm);
    charts.push(from_zero(over_updates("Gradient norm", "L2 norm", vec![norm])));
    let clipped = course.clipped("clipped", 3);
    charts.push(from_zero(over_updates("Clipped updates", "share of the updates (%)", vec![clipped])));
    let norms = course.by_group(groups, |layers| &layers.gradients);
    charts.push(Chart { logarithmic: true, ..over_updates("Gradient norm by layer", "L2 norm", norms) });
    let norms = course.by_group(groups, |layers| &layers.weights);
    charts.push(over_updates("Weight norm by layer", "L2 norm", norms));
    let mut gates = course.by_group(groups, |layers| &layers.saturated);
    gates.iter_mut().flat_map(|series| &mut series.points).for_each(|point| point.1 *= 100.0);
    charts.push(from_zero(over_updates("Saturated gates", "share of the gates (%)", gates)));
    charts
}

/// Loss, and perplexity, error or the score of another task.
fn scores(course: &Course) -> Vec<Chart> {
    let mut charts = vec![over_updates(
        "Loss",
        course.loss_label(),
        vec![
            course.over_steps("train, each update", Mark::Faint, 0, |s| s.loss),
            course.over_steps("train, smoothed", Mark::Line, 0, |s| s.smoothed_loss),
            course.over_evaluations("valid", Split::Valid, 1, |e| Some(e.loss)),
            course.over_evaluations("test", Split::Test, 2, |e| Some(e.loss)),
        ],
    )];
    let measured = |name: &str| {
        vec![
            course.over_evaluations("valid", Split::Valid, 1, |e| e.scores.get(name)),
            course.over_evaluations("test", Split::Test, 2, |e| e.scores.get(name)),
        ]
    };
    if course.has("perplexity") {
        let mut series = vec![course.over_steps("train, smoothed", Mark::Line, 0, |s| s.smoothed_loss.exp())];
        series.extend(measured("perplexity"));
        charts.push(Chart { logarithmic: true, ..over_updates("Perplexity", "perplexity", series) });
    }
    if course.has("error_percent") {
        let chart = over_updates("Error", "wrong documents (%)", measured("error_percent"));
        charts.push(Chart { from_zero: true, ..chart });
    }
    if let Some(name) = course.first_score() {
        charts.push(over_updates(&name.replace('_', " "), "score", measured(name)));
    }
    charts
}
