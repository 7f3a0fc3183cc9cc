//! One training step taken apart: from recorded spans to rows that do not overlap and add up to the
//! step.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::budget::Budget;
use super::clock::{Effort, Timing};
use super::format::Format;
use super::peaks::{Peaks, Probe};
use super::spans::{Key, Sum, sums};
use super::steps::{self, Next};
use crate::error::{Error, Result};
use crate::trace::Recording;
use crate::train::stages::Context;
use crate::train::trial::Trial;

/// Pairs of a plain and a recorded step: so many at least; more, up to the limits, while no
/// recorded one took about as long as a plain one.
const PAIRS: Effort = Effort { least: 3, most: 8, within: Duration::from_secs(90) };
/// "About as long".
const NEAR: f64 = 0.02;

/// A part of the step that overlaps no other. The keys are those of docs/CLI.md.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leaf {
    pub op: &'static str,
    pub layer: String,
    pub direction: &'static str,
    pub phase: &'static str,
    pub ms: f64,
    /// Useful operations, a multiply-add counted as two.
    pub flop: u64,
    /// Bytes that must be read and written at least; 0 where nobody counts them.
    pub bytes: u64,
    pub peak_fraction: Option<f64>,
    pub calls: u64,
}

/// A profile; serialises to the JSON of `ulmfit profile`.
#[derive(Clone, Debug, Serialize)]
pub struct StepProfile {
    pub rows: Vec<Leaf>,
    /// Median of the steps without instruments.
    pub step_ms: f64,
    /// Sum of the rows: the recorded step that took most nearly as long.
    pub sum_ms: f64,
    /// Every step that was measured, with instruments and without.
    pub plain_ms: Vec<f64>,
    pub recorded_ms: Vec<f64>,
    pub budget: Budget,
    pub peaks: Peaks,
    #[serde(rename = "precision", serialize_with = "in_words")]
    pub format: Format,
    pub stage: &'static str,
    pub vocabulary: usize,
    pub tokens: u64,
    pub documents: u64,
    /// The step that the rows are of.
    #[serde(skip)]
    pub recording: Recording,
}

fn in_words<S: serde::Serializer>(format: &Format, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(format)
}

/// Measures steps of a stage that stands ready: plain and recorded ones in turn, all with the same
/// batch, after two to warm up.
pub fn measure(context: &mut Context, trial: Trial) -> Result<StepProfile> {
    let Trial { stage, training, task, parameters, graph, step, vocabulary, .. } = trial;
    let format = Format { operands: context.precision, ..Format::F32 };
    let mut probe = Probe::new(false);
    let (mut updates, mut plain, mut recorded) = (0, Vec::new(), Vec::<Recording>::new());
    let (mut begun, mut counts) = (Instant::now(), (0, 0));
    steps::run(stage, training, step, task, graph, parameters, &mut |done| {
        updates += 1;
        counts = (done.tokens, done.documents);
        match done.recording {
            None if updates <= 2 => begun = Instant::now(),
            None => {
                plain.push(done.seconds);
                return Next::Recorded;
            }
            Some(recording) => recorded.push(recording),
        }
        let settled = nearest(&plain, &recorded).is_some_and(|(_, difference)| difference <= NEAR);
        let more = recorded.len() < PAIRS.least || !settled && PAIRS.wants_more(recorded.len(), begun);
        if more { Next::Plain } else { Next::Stop }
    })?;
    probe.again();
    let (index, _) = nearest(&plain, &recorded).ok_or_else(|| Error::data("no step was recorded"))?;
    let recorded_ms = recorded.iter().map(|r| r.total as f64 / 1e6).collect();
    let recording = recorded.swap_remove(index);
    let rows = rows(&recording, format, &probe.peaks);
    let mut budget = Budget::of(&recording);
    budget.relate(format, &probe.peaks);
    Ok(StepProfile {
        step_ms: 1e3 * Timing::of(&plain, None).median,
        sum_ms: rows.iter().map(|row| row.ms).sum(),
        plain_ms: plain.iter().map(|s| 1e3 * s).collect(),
        recorded_ms,
        budget,
        rows,
        peaks: probe.peaks,
        format,
        stage: stage.command(),
        vocabulary,
        tokens: counts.0,
        documents: counts.1,
        recording,
    })
}

/// The recorded step that took most nearly as long as the median of the plain ones, and the
/// relative difference.
fn nearest(plain: &[f64], recorded: &[Recording]) -> Option<(usize, f64)> {
    if plain.is_empty() {
        return None;
    }
    let median = Timing::of(plain, None).median;
    let difference = |r: &Recording| (r.total as f64 / 1e9 / median - 1.0).abs();
    let all = recorded.iter().map(difference).enumerate();
    all.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The rows of a recording, which add up to the step.
pub fn rows(recording: &Recording, format: Format, peaks: &Peaks) -> Vec<Leaf> {
    let row = |((pass, layer, op, phase), sum): (Key, Sum)| Leaf {
        op,
        layer: layer.to_string(),
        direction: pass.name(),
        phase,
        ms: sum.time / 1e6,
        flop: sum.flop,
        bytes: sum.bytes,
        peak_fraction: peaks.share(format, sum.flop, sum.bytes, sum.time / 1e9),
        calls: sum.calls,
    };
    sums(recording).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peaks::Rate;
    use crate::trace::{Event, Kind, Layer, Pass};

    fn event(kind: Kind, name: &'static str, thread: usize, start: u64, end: u64) -> Event {
        let (pass, layer) = (Pass::Forward, Layer::named("lstm1"));
        Event { kind, name, layer, pass, thread, start, end, flop: 0, bytes: 0 }
    }

    fn peaks() -> Peaks {
        let rate = Rate { one_thread: 1.0, all_threads: 2.0 };
        Peaks { threads: 2, isa: "x", f32: rate, bf16: None, triad: rate }
    }

    /// Driver 1: a pass with an operation that has a phase, a phase within that, and a region of
    /// two threads.
    fn recording() -> Recording {
        let mut events = vec![
            event(Kind::Phase, "elementwise", 0, 420, 520),
            event(Kind::Phase, "products", 0, 520, 700),
            // of another time: no region is open
            event(Kind::Phase, "products", 0, 10, 900),
            event(Kind::Pass, "forward", 1, 0, 900),
            event(Kind::Operation, "lstm", 1, 100, 800),
            event(Kind::Phase, "products", 1, 100, 400),
            event(Kind::Phase, "packing", 1, 100, 150),
            event(Kind::Region, "recurrence", 1, 400, 700),
            event(Kind::Phase, "products", 1, 410, 690),
            event(Kind::Operation, "relu", 1, 800, 880),
        ];
        events[5].flop = 1000;
        events[8].flop = 500;
        events[1].flop = 500;
        events[6].bytes = 64;
        events[9].bytes = 32;
        events.sort_by_key(|e| (e.thread, e.start, std::cmp::Reverse(e.end), e.kind));
        Recording { events, driver: 1, threads: 2, total: 1000 }
    }

    #[test]
    fn rows_do_not_overlap_and_add_up() {
        let rows = rows(&recording(), Format::F32, &peaks());
        let of = |op: &str, phase: &str| {
            let found: Vec<_> = rows.iter().filter(|r| (r.op, r.phase) == (op, phase)).collect();
            assert_eq!(found.len(), if (op, phase) == ("step", "other") { 2 } else { 1 }, "{op} {phase}");
            let ms: f64 = found.iter().map(|r| r.ms).sum();
            ((ms * 1e6).round(), found.iter().map(|r| r.flop).sum::<u64>(), found.iter().map(|r| r.calls).sum::<u64>())
        };
        // 250 alone, and half of 280 and 180 in the region
        assert_eq!(of("lstm", "products"), (480.0, 2000, 3));
        assert_eq!(of("lstm", "packing"), (50.0, 0, 1));
        assert_eq!(of("lstm", "elementwise"), (50.0, 0, 1));
        // the region's 300 less the halves
        assert_eq!(of("lstm", "waiting"), (20.0, 0, 1));
        assert_eq!(of("lstm", "other"), (100.0, 0, 1));
        assert_eq!(of("relu", "elementwise"), (80.0, 0, 1));
        // of the pass 120, of the step 100
        assert_eq!(of("step", "other"), (220.0, 0, 1));
        let sum: f64 = rows.iter().map(|r| r.ms * 1e6).sum();
        assert_eq!(sum.round(), 1000.0);
        assert!(rows.iter().all(|r| r.layer == "lstm1" || r.op == "step"), "{rows:?}");
    }

    #[test]
    fn the_budget_has_every_row_once() {
        let mut budget = Budget::of(&recording());
        budget.relate(Format::F32, &peaks());
        let sum = budget.products.ms + budget.memory.ms + budget.remainder.ms;
        assert_eq!((sum * 1e6).round(), 1000.0);
        assert_eq!((budget.products.flop, budget.memory.bytes), (2000, 96));
        assert_eq!(budget.products.floor_ms, 2000.0 / 2.0 / 1e6);
    }

    #[test]
    fn the_nearest_recorded_step_is_shown() {
        let of = |total| Recording { total, ..recording() };
        let all = [of(900_000_000), of(1_010_000_000), of(1_200_000_000)];
        let (index, difference) = nearest(&[0.9, 1.0, 1.1], &all).unwrap();
        assert!(index == 1 && (difference - 0.01).abs() < 1e-9);
        assert!(nearest(&[], &all).is_none() && nearest(&[1.0], &[]).is_none());
    }
}
