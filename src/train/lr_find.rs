//! Learning-rate range test (Smith 2015, as fastai's `lr_find`): a short training whose rate grows
//! by the same factor every update, until the loss runs away. It is the stage's own loop; nothing
//! of it is kept.

use serde::Serialize;

use super::checkpoint::Checkpoints;
use super::driver::{LoopSettings, Training, UnfreezingPhase};
use super::observer::{Event, Observer};
use super::stages::Context;
use super::trial::{self, Trial};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::LanguageModel;
use crate::optim::Schedule;
use crate::text::Source;

/// First and last learning rate of the test (of the last layer group; the recipe's ladder holds
/// between the groups).
pub const RATES: (f64, f64) = (1e-7, 10.0);
/// Updates of the test.
const UPDATES: u64 = 100;
/// The test ends when the smoothed loss is so many times the lowest one.
const DIVERGED: f64 = 4.0;

/// One update of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangePoint {
    pub rate: f64,
    /// Cross-entropy before the update.
    pub loss: f64,
    /// Its exponentially weighted mean (0.98).
    pub smoothed: f64,
}

/// The result of the test; serialises to the JSON of `ulmfit lr-find`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RangeTest {
    /// The rate at which the smoothed loss falls most steeply; where it never falls,
    /// `minimum_over_10`.
    pub suggestion: f64,
    /// A tenth of the rate at which the smoothed loss is lowest.
    pub minimum_over_10: f64,
    /// Whether the loss ran away before the last rate was reached.
    pub diverged: bool,
    pub points: Vec<RangePoint>,
}

/// Range test of a language model: of one that is to be fine-tuned with `from`, else of a new one.
pub fn language_model(
    context: &mut Context,
    sources: &[Source],
    from: Option<&Loaded<LanguageModel>>,
) -> Result<RangeTest> {
    // the rate of an update is to be the test's
    trial::language_model(context, sources, from, |task| task.rescale_rate = false, range_test)
}

/// Range test of a classifier: on a language model's encoder with `from`, else from scratch.
pub fn classifier(context: &mut Context, source: &Source, from: Option<&Loaded<LanguageModel>>) -> Result<RangeTest> {
    trial::classifier(context, source, from, |_| {}, range_test)
}

/// Trains as the last step of unfreezing does (all groups, unless the recipe never thaws some), at
/// growing rates.
fn range_test(context: &mut Context, trial: Trial) -> Result<RangeTest> {
    let Trial { stage, training, task, parameters, graph, step, .. } = trial;
    let top = step.lr.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let epochs = UPDATES.div_ceil(task.updates_in_epoch(0)?.max(1)) as u32 + 1;
    let phase = UnfreezingPhase {
        epochs,
        trainable: step.trains,
        rates: step.lr.iter().map(|rate| rate / top * RATES.1).collect(),
        schedule: Schedule::Range { ratio: RATES.1 / RATES.0 },
    };
    let training = trial::without_evaluation(training, Some(UPDATES));
    context.note(format!("{UPDATES} updates at rates from {:.0e} to {}", RATES.0, RATES.1))?;
    let mut recorder = Recorder::default();
    let settings = LoopSettings { stage, phases: vec![phase], training };
    let run = Training::new(settings, task, graph, parameters, &mut recorder, Checkpoints::none(), None)?.run();
    let diverged = match run {
        Ok(_) => false,
        Err(Error::NotFinite { .. }) if recorder.points.len() > 1 => true,
        Err(_) if recorder.diverged => true,
        Err(error) => return Err(error),
    };
    Ok(evaluate(recorder.points, diverged))
}

/// Keeps the points, and ends the run when the loss has run away.
#[derive(Default)]
struct Recorder {
    points: Vec<RangePoint>,
    lowest: Option<f64>,
    diverged: bool,
}

impl Observer for Recorder {
    fn observe(&mut self, event: &Event) -> Result<()> {
        let Event::Step(step) = event else { return Ok(()) };
        let rate = step.learning_rates.iter().copied().fold(0.0, f64::max);
        self.points.push(RangePoint { rate, loss: step.loss, smoothed: step.smoothed_loss });
        let lowest = self.lowest.get_or_insert(step.smoothed_loss);
        *lowest = lowest.min(step.smoothed_loss);
        if step.smoothed_loss > DIVERGED * *lowest {
            self.diverged = true;
            return Err(Error::data("the range test is over"));
        }
        Ok(())
    }
}

/// Reads the rates off the curve. The first tenth of the points is left out, for there the mean is
/// of few updates; and the steepest place is looked for in the last fall to the lowest loss alone,
/// where nine tenths of it lie ahead: before that, what slope there is is noise.
fn evaluate(points: Vec<RangePoint>, diverged: bool) -> RangeTest {
    let skip = (points.len() / 10).min(points.len().saturating_sub(1));
    let loss = |i: usize| points[i].smoothed;
    let by_loss = |a: &usize, b: &usize| loss(*a).total_cmp(&loss(*b));
    let lowest = (skip..points.len()).min_by(by_loss).unwrap_or(0);
    let highest = (skip..lowest).map(loss).fold(f64::NEG_INFINITY, f64::max);
    let begun = |i: &usize| loss(*i) >= highest - 0.1 * (highest - loss(lowest));
    let begin = (skip..lowest).rev().find(begun).unwrap_or(skip).max(1);
    // the points are equally far apart in the logarithm of the rate
    let reach = (points.len() / 50).max(1);
    let slope = |i: usize| {
        let (from, to) = (i.saturating_sub(reach), (i + reach).min(points.len() - 1));
        (loss(to) - loss(from)) / (to - from) as f64
    };
    let steepest = (begin..lowest).min_by(|&a, &b| slope(a).total_cmp(&slope(b))).filter(|&i| slope(i) < 0.0);
    let minimum_over_10 = points.get(lowest).map_or(RATES.0, |p| p.rate / 10.0);
    let suggestion = steepest.map_or(minimum_over_10, |i| points[i].rate);
    RangeTest { suggestion, minimum_over_10, diverged, points }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Stage;

    fn points(loss: impl Fn(f64) -> f64) -> Vec<RangePoint> {
        let rate = |i: u64| Schedule::Range { ratio: RATES.1 / RATES.0 }.at(i, UPDATES).factor * RATES.1;
        (0..UPDATES)
            .map(|i| (rate(i), loss(rate(i).log10())))
            .map(|(rate, l)| RangePoint { rate, loss: l, smoothed: l })
            .collect()
    }

    #[test]
    fn rates_grow_by_the_same_factor() {
        let all = points(|_| 1.0);
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(near(all[0].rate, RATES.0) && near(all[99].rate, RATES.1));
        assert!(all.windows(2).all(|w| near(w[1].rate / w[0].rate, (RATES.1 / RATES.0).powf(1.0 / 99.0))));
    }

    #[test]
    fn the_steepest_descent_and_a_tenth_of_the_minimum() {
        // falls like a step around 1e-3, is lowest at 1e-1 and rises from there
        let curve =
            |x: f64| 5.0 - 2.0 / (1.0 + (-4.0 * (x + 3.0)).exp()) + if x > -1.0 { (x + 1.0).powi(2) } else { 0.0 };
        let test = evaluate(points(curve), false);
        assert!((test.suggestion.log10() + 3.0).abs() < 0.1, "{}", test.suggestion);
        assert!((test.minimum_over_10.log10() + 2.0).abs() < 0.2, "{}", test.minimum_over_10);
        // never falls
        let test = evaluate(points(|x| x), true);
        assert_eq!(test.suggestion, test.minimum_over_10);
        assert!(evaluate(Vec::new(), true).points.is_empty());
    }

    #[test]
    fn the_recorder_stops_a_loss_that_runs_away() {
        let mut recorder = Recorder::default();
        let step = |loss: f64| {
            Event::Step(super::super::observer::Step {
                stage: Stage::Pretrain,
                epoch: 1,
                step: 1,
                total_steps: UPDATES,
                loss,
                smoothed_loss: loss,
                tokens: 1,
                documents: 0,
                seconds: 0.0,
                learning_rates: vec![0.5, 1.0],
                momentum: 0.0,
                gradient_norm: 1.0,
                gradient_scale: 1.0,
                pool_allocations: 0,
                pool_bytes: 0,
                peak_rss_mb: 0.0,
            })
        };
        for loss in [3.0, 2.0, 8.0] {
            recorder.observe(&step(loss)).unwrap();
        }
        assert!(recorder.observe(&step(8.1)).is_err() && recorder.diverged);
        assert_eq!((recorder.points.len(), recorder.points[0].rate), (4, 1.0));
    }
}
