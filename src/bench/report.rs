//! Rows of a benchmark, and their comparison with those of an earlier run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::clock::Timing;
use super::format::Format;
use super::peaks::AllPeaks;
use crate::error::{Error, Result};
use crate::files;
use crate::trace::Recording;

/// One thing that was verified, then timed. The keys up to `peak_fraction` are those of
/// docs/CLI.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub shape: String,
    pub device: String,
    pub precision: String,
    pub direction: String,
    /// Median; null where nothing was timed.
    pub ms: Option<f64>,
    /// On the simulated GPU, from what was counted: the least that a real one needs by its
    /// published peaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected_ms: Option<f64>,
    /// Useful operations, a multiply-add counted as two; null where none count, or nothing was
    /// timed.
    pub gflops: Option<f64>,
    /// Bytes that must be read and written at least; null where nobody counts them, or nothing was
    /// timed.
    pub gbs: Option<f64>,
    /// Share of the peak of multiply-adds where `gflops` is a number, else of bandwidth.
    pub peak_fraction: Option<f64>,
    pub suite: String,
    pub best_ms: Option<f64>,
    pub runs: usize,
    /// Half of the 95 % interval of the median, as a share of it; null of few runs.
    #[serde(default)]
    pub noise: Option<f64>,
    /// Units done in a second, where there is a unit that users count in.
    #[serde(default)]
    pub rate: Option<f64>,
    #[serde(default)]
    pub unit: Option<String>,
    /// Largest difference from f64 that the verification found, relative to the largest value; null
    /// where it is exact by nature.
    #[serde(default)]
    pub error: Option<f64>,
    /// Processors that other processes had meanwhile.
    #[serde(default)]
    pub foreign: Option<f64>,
    /// The time of the earlier run, and its ratio to this run's (above 1: faster than before).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Where the time of one run more went, which was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    #[serde(skip)]
    work: Work,
    /// The format, where rates are shares of peaks.
    #[serde(skip)]
    format: Option<Format>,
}

/// The arithmetic and bytes of one run of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub flop: u64,
    pub bytes: u64,
}

impl Row {
    pub fn new(
        [suite, name, direction]: [&str; 3],
        shape: impl Into<String>,
        format: Format,
        timing: Timing,
        work: Work,
    ) -> Self {
        let timed = !format.is_counted();
        let rate = |amount: u64| (timed && amount > 0).then(|| amount as f64 / timing.median / 1e9);
        Row {
            name: name.into(),
            shape: shape.into(),
            device: format.device.to_string(),
            precision: format.to_string(),
            direction: direction.into(),
            ms: timed.then_some(1e3 * timing.median),
            projected_ms: (!timed).then_some(1e3 * timing.median),
            gflops: rate(work.flop),
            gbs: rate(work.bytes),
            peak_fraction: None,
            suite: suite.into(),
            best_ms: timed.then_some(1e3 * timing.best),
            runs: timing.runs,
            noise: timing.noise.filter(|_| timed),
            rate: None,
            unit: None,
            error: None,
            foreign: timing.foreign.filter(|_| timed),
            before_ms: None,
            ratio: None,
            budget: None,
            work,
            format: Some(format),
        }
    }

    /// A row without arithmetic: so many bytes go through.
    pub(super) fn moving(names: [&str; 3], shape: impl Into<String>, timing: Timing, bytes: u64) -> Self {
        let row = Self::new(names, shape, Format::F32, timing, Work { flop: 0, bytes });
        Row { precision: String::new(), format: None, ..row }
    }

    /// With what users count: so many units in one run.
    #[must_use]
    pub fn counting(self, units: f64, unit: &str) -> Self {
        let rate = self.ms.map(|ms| 1e3 * units / ms);
        Row { rate, unit: rate.map(|_| unit.into()), ..self }
    }

    /// With the error that the verification found.
    #[must_use]
    pub(super) fn verified(self, error: f64) -> Self {
        Row { error: Some(error), ..self }
    }

    /// With the time budget of a recorded run.
    #[must_use]
    pub fn recorded(self, recording: Option<&Recording>) -> Self {
        Row { budget: recording.map(Budget::of), ..self }
    }

    /// Sets the share of the device's peaks, once those are final.
    pub fn relate(&mut self, peaks: &AllPeaks) {
        let (Some(format), Some(ms)) = (self.format, self.ms) else { return };
        if format.int8 {
            // there is no peak of such products to compare with
            return;
        }
        self.peak_fraction = peaks.share(format, self.work.flop, self.work.bytes, ms / 1e3);
        if let Some(budget) = &mut self.budget {
            budget.relate(format, &peaks.cpu);
        }
    }

    /// Measured or projected.
    pub fn milliseconds(&self) -> Option<f64> {
        self.ms.or(self.projected_ms)
    }

    /// The key by which rows of two reports are compared.
    pub(super) fn key(&self) -> [&str; 5] {
        [&self.name, &self.shape, &self.device, &self.precision, &self.direction]
    }
}

/// The results that a file of `ulmfit bench --json` holds: one, or several, each on a line of its
/// own; their rows and peaks.
///
/// # Errors
/// The file cannot be read, or holds no result.
pub(super) fn results(path: &Path) -> Result<Vec<(Vec<Row>, serde_json::Value)>> {
    let text = files::read_text(path)?;
    let one = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let rows: Vec<Row> = Vec::deserialize(value.get("rows").filter(|_| value.get("peaks").is_some())?).ok()?;
        Some((rows, value["peaks"].clone()))
    };
    let all: Vec<_> = match one(&text) {
        Some(whole) => vec![whole],
        None => text.lines().filter_map(one).collect(),
    };
    if all.is_empty() {
        return Err(Error::file(path, "is no result of a benchmark")
            .hint("--compare takes what 'ulmfit bench --json' has printed"));
    }
    Ok(all)
}

/// An earlier run's rows.
#[derive(Clone, Debug)]
pub struct Earlier {
    path: PathBuf,
    rows: Vec<Row>,
    /// As it stands in the file.
    pub peaks: serde_json::Value,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    pub file: String,
    /// Rows that both runs have.
    pub matched: usize,
    /// Rows of the earlier run alone, as far as this run's suites have the like.
    pub missing: Vec<String>,
    pub peaks: serde_json::Value,
}

impl Earlier {
    /// Reads what `ulmfit bench --json` has printed: the object is the last line of the file, or
    /// all of it.
    ///
    /// # Errors
    /// The file cannot be read, or holds no such object.
    pub fn read(path: &Path) -> Result<Self> {
        // of several the last one
        let last = results(path)?.pop();
        let (rows, peaks) = last.ok_or_else(|| Error::file(path, "is no result of a benchmark"))?;
        Ok(Earlier { path: path.to_path_buf(), rows, peaks })
    }

    /// Sets the ratios of the rows that this run has, too.
    pub fn compare(&self, rows: &mut [Row]) -> Compared {
        let mut matched = 0;
        for row in rows.iter_mut() {
            if let Some(before) = self.rows.iter().find(|before| before.key() == row.key()) {
                matched += 1;
                row.before_ms = before.milliseconds();
                row.ratio = before.milliseconds().zip(row.milliseconds()).map(|(before, now)| before / now);
            }
        }
        let same_suite = |before: &&Row| rows.iter().any(|row| row.suite == before.suite);
        let gone = |before: &&Row| rows.iter().all(|row| row.key() != before.key());
        let missing = self.rows.iter().filter(same_suite).filter(gone).map(|row| row.key().join(" ")).collect();
        Compared { file: self.path.display().to_string(), matched, missing, peaks: self.peaks.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, seconds: f64) -> Row {
        let work = Work { flop: 4_000_000_000, bytes: 0 };
        Row::new(["ops", name, "forward"], "S", Format::F32, Timing::of(&[seconds], None), work)
    }

    #[test]
    fn rates_follow_from_the_median() {
        let row = row("a", 2.0).counting(10.0, "tokens/s").verified(1e-6);
        assert_eq!((row.ms, row.projected_ms, row.gflops, row.gbs), (Some(2e3), None, Some(2.0), None));
        assert_eq!((row.rate, row.error), (Some(5.0), Some(1e-6)));
    }

    #[test]
    fn an_earlier_run_is_read_back_and_compared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let old = serde_json::json!({"rows": [row("a", 3.0), row("gone", 1.0)], "peaks": {"cpu": 1}});
        for text in [format!("some line\n{old}\n"), format!("{old:#}")] {
            std::fs::write(&path, text).unwrap();
            let earlier = Earlier::read(&path).unwrap();
            let mut rows = [row("a", 2.0), row("new", 1.0)];
            let compared = earlier.compare(&mut rows);
            assert_eq!((rows[0].ratio, rows[0].before_ms, rows[1].ratio), (Some(1.5), Some(3e3), None));
            assert_eq!((compared.matched, compared.missing.len()), (1, 1));
            assert!(compared.missing[0].starts_with("gone S cpu f32"), "{:?}", compared.missing);
        }
        for text in ["", "{}", "{\"rows\":[{}],\"peaks\":{}}", "[1]", "nonsense"] {
            std::fs::write(&path, text).unwrap();
            let error = Earlier::read(&path).unwrap_err();
            assert!(error.to_string().contains("a.json: is no result of a benchmark"), "{error}");
        }
        assert!(Earlier::read(&directory.path().join("none.json")).unwrap_err().to_string().contains("no such file"));
    }
}
