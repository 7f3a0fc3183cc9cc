//! Instruments of speed: benchmarks that verify before they time (`ulmfit bench`), and the profile
//! of a training step (`ulmfit profile`), of which on the simulated GPU nothing is timed: both
//! count there what kernels do and project it ([`projection`]).
//!
//! Useful operations are those of `train::plan`: matrix products, a multiply-add counted as two,
//! nothing that is computed twice. Times are medians of several warm runs. Shares are of peaks
//! measured in the same run ([`peaks`]).

pub mod budget;
pub mod clock;
pub mod format;
pub mod gpu_peaks;
mod lstm;
mod ops;
pub mod peaks;
mod predict;
pub mod profile;
pub mod projection;
pub mod report;
mod session;
mod spans;
mod step;
pub mod steps;
mod student;
mod text;
pub mod trace_file;
pub mod verdict;
pub mod verify;

use std::path::Path;

use serde::Serialize;

use self::format::Format;
use self::gpu_peaks::GpuPeaks;
use self::peaks::{AllPeaks, Probe};
use self::report::{Compared, Earlier, Row};
use self::session::Bench;
use crate::device::{Device, cuda};
use crate::error::{Error, Result};

/// A suite: rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Ops,
    Lstm,
    Step,
    Text,
    Predict,
}

impl Suite {
    pub const ALL: [Suite; 5] = [Suite::Text, Suite::Ops, Suite::Lstm, Suite::Predict, Suite::Step];

    fn run(self, bench: &mut Bench) -> Result<()> {
        match self {
            Suite::Ops => ops::run(bench),
            Suite::Lstm => lstm::run(bench),
            Suite::Step => step::run(bench),
            Suite::Text => text::run(bench),
            Suite::Predict => predict::run(bench),
        }
    }
}

/// Result of a benchmark; serialises to the JSON of `ulmfit bench`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Why some rows are not there: operations without kernels for a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    pub peaks: AllPeaks,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

/// The rows to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub suites: Vec<Suite>,
    pub quick: bool,
    pub reduced: bool,
    /// Only rows of this name.
    pub only: Option<&'a str>,
    pub formats: Vec<Format>,
    /// Saved result of an earlier run.
    pub compare: Option<&'a Path>,
}

/// Runs suites. `told` hears of every row as soon as it is measured (its share of the peak is not
/// known yet).
///
/// # Errors
/// No row of the name asked for; a result that is not that of f64; an earlier run's file that is
/// none (before anything is measured); `told`'s.
pub fn run(options: &Options, told: &mut dyn FnMut(&Row) -> Result<()>) -> Result<Report> {
    let earlier = options.compare.map(Earlier::read).transpose()?;
    let gpu = options.formats.iter().map(|format| format.device).find(|device| *device != Device::Cpu);
    if gpu.is_some() && cuda::is_simulated() {
        // the tests find the faults that a check finds; here a check would only take time
        cuda::switch("checks", "off")?;
    }
    let cuda = gpu.map(GpuPeaks::of).transpose()?;
    let mut bench = Bench {
        quick: options.quick,
        reduced: options.reduced,
        only: options.only,
        formats: &options.formats,
        rows: Vec::new(),
        skipped: Vec::new(),
        told,
    };
    let mut probe = Probe::new(options.reduced);
    for suite in &options.suites {
        suite.run(&mut bench)?;
        // a machine that was disturbed, or not yet awake, while the peaks were measured would
        // flatter every share
        probe.again();
    }
    let (mut rows, skipped, peaks) = (bench.rows, bench.skipped, probe.peaks);
    if let Some(only) = options.only.filter(|_| rows.is_empty()) {
        return Err(Error::usage(format!("--only {only}: the suites have no row of that name")));
    }
    let peaks = AllPeaks { cpu: peaks, cuda };
    rows.iter_mut().for_each(|row| row.relate(&peaks));
    let compared = earlier.map(|earlier| earlier.compare(&mut rows));
    Ok(Report { rows, skipped, peaks, compared })
}
