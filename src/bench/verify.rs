//! Nothing is timed before it is known to be right: comparison with the same work in f64.

use crate::check::ROUNDING_BF16;
use crate::error::{Error, Result};

/// Largest difference allowed between f32 and f64, relative to the largest value: far above
/// rounding, far below any mistake.
pub const TOLERANCE: f64 = 1e-4;

/// Largest difference between two lists of values, relative to the largest of `right`.
pub fn error(found: &[f64], right: &[f64]) -> f64 {
    found.iter().zip(right).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs())) / largest(right)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()))
}

/// The bound: [`TOLERANCE`], or, where operands were rounded to bf16, twice the error of a
/// naive computation ([`ROUNDING_BF16`]) of the same work. `naive`: the largest error of f64 with
/// operands rounded in the same way, over all that is compared, because that of a small tensor may
/// be small by luck.
pub fn tolerance(naive: Option<f64>) -> f64 {
    naive.map_or(TOLERANCE, |naive| 2.0 * (naive + ROUNDING_BF16))
}

/// The [`error`] of `found`.
///
/// # Errors
/// [`Error::CheckFailed`] above the tolerance, or where something is not finite.
pub fn compare(what: &str, found: &[f64], right: &[f64], tolerance: f64) -> Result<f64> {
    if found.len() != right.len() {
        let message = format!("{what}: {} values, {} in f64", found.len(), right.len());
        return Err(Error::CheckFailed { message });
    }
    let largest = largest(right);
    let mut error = 0.0f64;
    for (i, (f, r)) in found.iter().zip(right).enumerate() {
        let difference = (f - r).abs() / largest;
        if difference.is_nan() || difference > tolerance {
            let message = format!("{what}: value {i} is {f}, in f64 {r}; nothing is timed that is not right");
            return Err(Error::CheckFailed { message });
        }
        error = error.max(difference);
    }
    Ok(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_to_the_largest_value() {
        assert!((compare("x", &[1.0, 100.005], &[1.0, 100.0], TOLERANCE).unwrap() - 5e-5).abs() < 1e-12);
        for wrong in [&[1.0, 100.1][..], &[f64::NAN, 100.0], &[1.0]] {
            let error = compare("the sum", wrong, &[1.0, 100.0], TOLERANCE).unwrap_err();
            assert!(error.to_string().starts_with("the sum: ") && error.exit_status() == 1, "{error}");
        }
    }

    #[test]
    fn rounded_operands_may_err_twice_what_naive_ones_do() {
        let right = [1.0, 100.0];
        let allowed = tolerance(Some(error(&[1.0, 100.5], &right)));
        assert!((allowed - 2.0 * (0.005 + 1.0 / 512.0)).abs() < 1e-12, "{allowed}");
        for (found, fits) in [(101.3, true), (101.4, false), (f64::NAN, false)] {
            assert_eq!(compare("x", &[1.0, found], &right, allowed).is_ok(), fits, "{found}");
        }
        assert_eq!(tolerance(None), TOLERANCE);
    }
}
