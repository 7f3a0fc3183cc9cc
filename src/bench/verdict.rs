//! Two sets of saved results, row by row, with a verdict that knows the noise (`bench --compare
//! BEFORE AFTER`).
//!
//! A file may hold several results, one a line. With two or more in both files the noise is how
//! these differ (Welch's interval of the difference of mean log times). With one it is that of its
//! own runs alone ([`Row::noise`]), which is less than that between processes.

use std::path::Path;

use serde::Serialize;

use super::report::{Row, results};
use super::student::quantile;
use crate::error::{Error, Result};

/// What is said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Faster,
    Slower,
    /// The interval holds 1: no difference was seen.
    NoDifference,
    /// Nothing is known of the noise.
    Unknown,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifference => "no difference seen",
            Verdict::Unknown => "noise unknown",
        }
    }
}

/// A row that both files have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    pub name: String,
    pub shape: String,
    pub device: String,
    pub precision: String,
    pub direction: String,
    /// Geometric means over the results of a file.
    pub before_ms: f64,
    pub after_ms: f64,
    /// Above 1: faster after.
    pub ratio: f64,
    /// The 95 % interval of the ratio, where the noise is known.
    pub interval: Option<[f64; 2]>,
    pub verdict: Verdict,
}

/// The comparison; serialises to the JSON of the command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    pub before: String,
    pub after: String,
    /// Results in the two files.
    pub results: [usize; 2],
    pub rows: Vec<Judged>,
    /// Rows that one file alone has.
    pub missing: Vec<String>,
    /// The machine's peaks, after over before: 1 where the machine was the same.
    pub machine: Vec<(String, f64)>,
}

/// Reads two files of `ulmfit bench --json` and judges the rows that both have.
///
/// # Errors
/// A file that cannot be read or holds no result; no row in common.
pub fn judge(before: &Path, after: &Path) -> Result<Judgement> {
    let (a, b) = (results(before)?, results(after)?);
    let rows =
        |all: &[(Vec<Row>, serde_json::Value)]| -> Vec<Row> { all.iter().flat_map(|(rows, _)| rows.clone()).collect() };
    let (rows_a, rows_b) = (rows(&a), rows(&b));
    let (mut judged, mut missing): (Vec<Judged>, Vec<String>) = (Vec::new(), Vec::new());
    for (own, others, which) in [(&rows_a, &rows_b, before), (&rows_b, &rows_a, after)] {
        for (at, row) in own.iter().enumerate() {
            if own[..at].iter().any(|earlier| earlier.key() == row.key()) {
                continue;
            }
            let of = |all: &[Row]| all.iter().filter(|r| r.key() == row.key()).cloned().collect::<Vec<Row>>();
            if of(others).is_empty() {
                missing.push(format!("{} alone: {}", which.display(), row.key().join(" ")));
            } else if std::ptr::eq(own, &rows_a) {
                judged.extend(one(&of(&rows_a), &of(&rows_b)));
            }
        }
    }
    if judged.is_empty() {
        return Err(Error::data(format!("{} and {} have no row in common", before.display(), after.display())));
    }
    let rate = |all: &[(Vec<Row>, serde_json::Value)], key: &str| {
        let rates: Vec<f64> = all.iter().filter_map(|(_, peaks)| peaks["cpu"][key]["all_threads"].as_f64()).collect();
        (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
    };
    let of_machine = |(key, name): (&str, &str)| Some((name.to_string(), rate(&b, key)? / rate(&a, key)?));
    Ok(Judgement {
        before: before.display().to_string(),
        after: after.display().to_string(),
        results: [a.len(), b.len()],
        rows: judged,
        missing,
        machine: [("f32", "multiply-adds"), ("triad", "triad")].into_iter().filter_map(of_machine).collect(),
    })
}

/// Judges one row by its results before and after; none where it has no time.
fn one(before: &[Row], after: &[Row]) -> Option<Judged> {
    let logs = |rows: &[Row]| rows.iter().filter_map(|row| row.milliseconds().map(f64::ln)).collect::<Vec<f64>>();
    let (a, b) = (logs(before), logs(after));
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let row = before.first().filter(|_| !a.is_empty() && !b.is_empty())?;
    let difference = mean(&a) - mean(&b);
    let half = if a.len() > 1 && b.len() > 1 {
        Some(welch(&a, &b))
    } else {
        // of single results what their own runs say
        let noise = |rows: &[Row]| rows.iter().map(|row| row.noise).reduce(|x, y| Some(x?.max(y?))).flatten();
        noise(before).zip(noise(after)).map(|(x, y)| x.hypot(y))
    };
    let verdict = match half {
        None => Verdict::Unknown,
        Some(half) if difference > half => Verdict::Faster,
        Some(half) if difference < -half => Verdict::Slower,
        Some(_) => Verdict::NoDifference,
    };
    Some(Judged {
        name: row.name.clone(),
        shape: row.shape.clone(),
        device: row.device.clone(),
        precision: row.precision.clone(),
        direction: row.direction.clone(),
        before_ms: mean(&a).exp(),
        after_ms: mean(&b).exp(),
        ratio: difference.exp(),
        interval: half.map(|half| [(difference - half).exp(), (difference + half).exp()]),
        verdict,
    })
}

/// Half of the 95 % interval of the difference of two means (Welch).
fn welch(a: &[f64], b: &[f64]) -> f64 {
    // variance of the mean, and its degrees of freedom
    let of = |all: &[f64]| {
        let (n, mean) = (all.len() as f64, all.iter().sum::<f64>() / all.len() as f64);
        (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n, n - 1.0)
    };
    let ((va, da), (vb, db)) = (of(a), of(b));
    let (sum, parts) = (va + vb, va * va / da + vb * vb / db);
    if sum == 0.0 { 0.0 } else { quantile(sum * sum / parts) * sum.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ms: f64, noise: Option<f64>) -> Row {
        let value = serde_json::json!({
            "name": "relu", "shape": "N", "device": "cpu", "precision": "f32", "direction": "forward", "ms": ms,
            "gflops": null, "gbs": null, "peak_fraction": null, "suite": "ops", "best_ms": ms, "runs": 9, "noise": noise,
        });
        serde_json::from_value(value).unwrap()
    }

    fn rows(all: &[f64]) -> Vec<Row> {
        all.iter().map(|&ms| row(ms, Some(0.001))).collect()
    }

    /// By hand: 7.94 degrees of freedom, of which 7 count.
    #[test]
    fn several_results_are_judged_by_how_they_differ() {
        let found = one(&rows(&[10.0, 10.2, 9.9, 10.1, 10.0]), &rows(&[9.0, 9.2, 9.1, 8.9, 9.05])).unwrap();
        assert_eq!(found.verdict, Verdict::Faster);
        let [low, high] = found.interval.unwrap();
        assert!((low - 1.0899).abs() < 1e-4 && (high - 1.1293).abs() < 1e-4, "{low} {high}");
        // the same medians, but results that scatter: the small noise of each says nothing
        let found = one(&rows(&[10.0, 13.0, 8.0, 10.0]), &rows(&[9.0, 7.0, 12.0, 9.0])).unwrap();
        assert_eq!(found.verdict, Verdict::NoDifference);
        assert!(found.ratio > 1.05);
        let found = one(&rows(&[9.0, 9.1]), &rows(&[19.0, 19.1])).unwrap();
        assert_eq!(found.verdict, Verdict::Slower);
    }

    #[test]
    fn single_results_are_judged_by_their_own_runs() {
        let judged = |before, after| one(&[row(10.0, before)], &[row(9.5, after)]).unwrap();
        assert_eq!(judged(Some(0.01), Some(0.01)).verdict, Verdict::Faster);
        assert_eq!(judged(Some(0.01), Some(0.06)).verdict, Verdict::NoDifference);
        let unknown = judged(Some(0.01), None);
        assert_eq!((unknown.verdict, unknown.interval), (Verdict::Unknown, None));
    }
}
