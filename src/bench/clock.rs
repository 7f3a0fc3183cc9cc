//! Times: the median of several runs, and how much of the processor others took meanwhile.

use std::time::{Duration, Instant};

use super::format::Format;
use super::projection;
use super::student::quantile;
use crate::device::{Device, cuda};
use crate::error::{Error, Result};
use crate::trace::{Recorder, Recording};

/// How long to measure one thing.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs at least.
    pub least: usize,
    /// Runs at most.
    pub most: usize,
    /// Further runs begin only within this time.
    pub within: Duration,
}

impl Effort {
    /// For what takes microseconds to milliseconds.
    pub const SHORT: Effort = Effort { least: 5, most: 1000, within: Duration::from_millis(300) };
    /// For what takes up to a second.
    pub(super) const MEDIUM: Effort = Effort { least: 5, most: 15, within: Duration::from_secs(3) };
    /// For what takes seconds.
    pub const LONG: Effort = Effort { least: 3, most: 5, within: Duration::from_secs(15) };

    /// As few runs as give a time at all (`--quick`).
    #[must_use]
    pub fn quick(self, quick: bool) -> Self {
        if quick { Effort { least: 1, most: self.most.min(3), within: self.within / 10 } } else { self }
    }

    /// Nothing is timed where work is counted: one run tells it all.
    #[must_use]
    pub fn on(self, format: Format) -> Self {
        if format.is_counted() { Effort { least: 1, most: 1, within: Duration::ZERO } } else { self }
    }

    /// Whether another run is due. A row that takes ten times the time gets three runs.
    pub(super) fn wants_more(&self, runs: usize, begun: Instant) -> bool {
        let elapsed = begun.elapsed();
        let least = if elapsed > 10 * self.within { self.least.min(3) } else { self.least };
        runs < least || (runs < self.most && elapsed < self.within)
    }
}

/// The times of several runs.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Seconds.
    pub median: f64,
    pub best: f64,
    pub runs: usize,
    /// Half of the 95 % interval of the median over the median; `None` of one run or two.
    pub noise: Option<f64>,
    /// Processors that others had on the average while it was measured; `None` where that cannot be
    /// told, or the time was too short to.
    pub foreign: Option<f64>,
}

impl Timing {
    /// The timing from the seconds of every run. Panics without any.
    pub fn of(seconds: &[f64], foreign: Option<f64>) -> Self {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        let median = 0.5 * (low + high);
        Timing { median, best: sorted[0], runs: sorted.len(), noise: noise(&sorted, median), foreign }
    }
}

/// Half of the 95 % interval of a median over the median: between two of the ascending values, and
/// of few by Student's distribution.
fn noise(sorted: &[f64], median: f64) -> Option<f64> {
    let n = sorted.len();
    let half = match n {
        0..3 => return None,
        3..6 => {
            let mean = sorted.iter().sum::<f64>() / n as f64;
            let squares = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            quantile((n - 1) as f64) * (squares / (n - 1) as f64 / n as f64).sqrt()
        }
        _ => {
            let low = ((n as f64 - 1.96 * (n as f64).sqrt()) / 2.0).max(0.0) as usize;
            0.5 * (sorted[n - 1 - low] - sorted[low])
        }
    };
    (median > 0.0).then(|| half / median)
}

/// Times `run`, which returns the seconds of its timed part. One run before the first that counts
/// warms up, unless one is all there is.
pub fn time(effort: Effort, mut run: impl FnMut() -> Result<f64>) -> Result<Timing> {
    if effort.most > 1 {
        run()?;
    }
    let (watch, begun, mut seconds) = (Foreign::begin(), Instant::now(), Vec::new());
    while effort.wants_more(seconds.len(), begun) {
        seconds.push(run()?);
    }
    Ok(Timing::of(&seconds, watch.end()))
}

/// Measures work on a device, from when all before it is done until it is. On the simulated GPU the
/// seconds are projected from the counters.
#[derive(Debug)]
pub struct Stopwatch {
    format: Format,
    begun: Instant,
}

impl Stopwatch {
    /// # Errors
    /// Errors of earlier work on a GPU.
    pub fn begin(format: Format) -> Result<Self> {
        settle(format)?;
        if format.is_counted() {
            cuda::reset_counters()?;
        }
        Ok(Stopwatch { format, begun: Instant::now() })
    }

    /// Seconds.
    ///
    /// # Errors
    /// Errors of the work on a GPU.
    pub fn end(self) -> Result<f64> {
        settle(self.format)?;
        if self.format.is_counted() { projection::seconds() } else { Ok(self.begun.elapsed().as_secs_f64()) }
    }
}

/// Waits for a GPU.
fn settle(format: Format) -> Result<()> {
    match format.device {
        Device::Cpu => Ok(()),
        Device::Cuda(gpu) => cuda::context(gpu)?.synchronise(),
    }
}

/// Records one run more on the CPU, for its time budget; nothing on a GPU.
///
/// # Errors
/// Errors of the run.
pub fn recorded<R>(format: Format, run: impl FnOnce() -> Result<R>) -> Result<Option<Recording>> {
    if format.device != Device::Cpu {
        return Ok(None);
    }
    let recorder = Recorder::start().ok_or_else(|| Error::data("something else is being recorded"))?;
    let outcome = run();
    let recording = recorder.finish();
    outcome.map(|_| Some(recording))
}

/// Seconds that `work` takes on the CPU.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Watches what others take of the processors.
#[derive(Debug)]
pub struct Foreign {
    begun: Instant,
    /// Seconds of all processes and of this one.
    before: Option<(f64, f64)>,
}

impl Foreign {
    pub fn begin() -> Self {
        Foreign { begun: Instant::now(), before: busy() }
    }

    /// Processors that others had on the average. The system counts in hundredths of a second, so a
    /// time of less than a fifth says nothing.
    pub fn end(&self) -> Option<f64> {
        let wall = self.begun.elapsed().as_secs_f64();
        let (before, after) = (self.before?, busy()?);
        (wall >= 0.2).then(|| (((after.0 - before.0) - (after.1 - before.1)) / wall).max(0.0))
    }
}

/// Hundredths of a second, in which Linux counts processor time for programs.
const TICK: f64 = 0.01;

/// Seconds that all processors were busy (or taken away by a hypervisor), and seconds of this
/// process.
fn busy() -> Option<(f64, f64)> {
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    parse(&all, &own)
}

fn parse(all: &str, own: &str) -> Option<(f64, f64)> {
    let line = all.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user, nice, system, (idle, waiting), interrupts, soft interrupts, stolen
    let all: f64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|&i| ticks.get(i)).sum();
    // the name of a process may hold anything, a bracket too
    let rest = own.rsplit_once(')')?.1;
    let mut times = rest.split_whitespace().skip(11).map_while(|n| n.parse::<f64>().ok());
    Some((all * TICK, (times.next()? + times.next()?) * TICK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let timing = Timing::of(&[3.0, 1.0, 2.0], None);
        assert_eq!((timing.median, timing.best, timing.runs), (2.0, 1.0, 3));
        let two = Timing::of(&[4.0, 1.0], None);
        assert_eq!((two.median, two.noise), (2.5, None));
        // 4.303 · 1 / √3 over 2
        assert!((timing.noise.unwrap() - 1.2422).abs() < 1e-4, "{timing:?}");
        // of 100 the 41st and the 60th bound it
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(Timing::of(&many, None).noise, Some(0.5 * (60.0 - 41.0) / 50.5));
    }

    #[test]
    fn one_run_warms_up_and_the_least_are_done() {
        let mut runs = 0;
        let effort = Effort { least: 3, most: 9, within: Duration::ZERO };
        let timing = time(effort, || {
            runs += 1;
            Ok(f64::from(runs))
        })
        .unwrap();
        assert_eq!((runs, timing.runs, timing.median), (4, 3, 3.0));
        assert!(time(effort, || Err(crate::error::Error::data("no"))).is_err());
    }

    #[test]
    fn processor_time_of_all_and_of_this_process() {
        let all = "cpu  100 10 20 5000 7 1 2 3 0 0\ncpu0 1 2 3\n";
        let own = "12 (a name) with) S 1 1 1 0 -1 4 10 0 0 0 250 50 0 0 20 0";
        assert_eq!(parse(all, own), Some((1.36, 3.0)));
        assert_eq!(parse("", own), None);
        if cfg!(target_os = "linux") {
            let (all, own) = busy().unwrap();
            assert!(all >= own && own >= 0.0, "{all} {own}");
        }
    }
}
