//! The error of finite differences by the size of their step: a right gradient has a valley, with
//! truncation on its one side and rounding on the other. A wrong one has a plain.

use rayon::prelude::*;
use serde::Serialize;

use super::gradient::{Subject, subjects};
use super::verdict::Verdict;
use crate::device::Device;
use crate::error::Result;

/// Steps, relative to `max(1, |x|)`: three for each power of ten, from 1e-1 to 1e-10.
const STEPS: usize = 28;
/// Compared elements of a tensor.
pub(super) const ELEMENTS: usize = 24;

/// The largest error of an operation or model at each step.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    pub op: String,
    /// Step and error (`|a − n| / (0.1 + max(|a|, |n|))`).
    pub points: Vec<(f64, f64)>,
}

/// Sweeps over every operation and model, or the one named `op`.
///
/// # Errors
/// As [`gradient`](super::gradient).
pub fn sweep(op: Option<&str>, device: Device) -> Result<Vec<Sweep>> {
    let subjects = subjects(op)?;
    let steps: Vec<f64> = (0..STEPS).map(|k| 10f64.powf(-1.0 - k as f64 / 3.0)).collect();
    let errors = |subject: &Subject| -> Result<Vec<f64>> {
        let at = |&step: &f64| subject.compared_at(device, step).map(|compared| Verdict::of(&compared).error);
        steps.iter().map(at).collect()
    };
    let all = subjects.par_iter().map(errors).collect::<Result<Vec<_>>>()?;
    let mut sweeps: Vec<Sweep> = Vec::new();
    for (subject, errors) in subjects.iter().zip(all) {
        let points: Vec<(f64, f64)> = steps.iter().copied().zip(errors).collect();
        match sweeps.last_mut().filter(|sweep| sweep.op == subject.name()) {
            Some(sweep) => {
                sweep.points.iter_mut().zip(points).for_each(|(most, (_, error))| most.1 = most.1.max(error))
            }
            None => sweeps.push(Sweep { op: subject.name().to_string(), points }),
        }
    }
    Ok(sweeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth operation: at large steps the error falls with their fourth power, at small ones it
    /// rises as they fall, and between it is far below the tolerance.
    #[test]
    fn a_valley() {
        let sweep = &sweep(Some("lstm"), Device::Cpu).unwrap()[0];
        let error = |step: f64| sweep.points.iter().find(|(s, _)| (s / step).ln().abs() < 1e-6).unwrap().1;
        assert_eq!((sweep.op.as_str(), sweep.points.len()), ("lstm", STEPS));
        let fall = error(1e-1) / error(1e-2);
        assert!((1e3..1e5).contains(&fall), "{fall}: not the fourth power");
        assert!(error(1e-3) < 1e-9 && error(1e-9) > 10.0 * error(1e-3), "{:?}", sweep.points);
    }
}
