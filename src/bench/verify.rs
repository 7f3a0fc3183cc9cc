//! Nothing is timed before it is known to be right: comparison with the same work in f64.

use super::format::Format;
use crate::error::{Error, Result};

/// Largest difference between `found` and `right`, relative to the largest of `right`.
///
/// # Errors
/// [`Error::CheckFailed`] above [`Format::tolerance`], or where something is not finite.
pub fn compare(format: Format, what: &str, found: &[f64], right: &[f64]) -> Result<f64> {
    if found.len() != right.len() {
        let message = format!("{what}: {} values, {} in f64", found.len(), right.len());
        return Err(Error::CheckFailed { message });
    }
    let largest = right.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut error = 0.0f64;
    for (i, (f, r)) in found.iter().zip(right).enumerate() {
        let difference = (f - r).abs() / largest;
        if difference.is_nan() || difference > format.tolerance() {
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
        assert!((compare(Format::F32, "x", &[1.0, 100.005], &[1.0, 100.0]).unwrap() - 5e-5).abs() < 1e-12);
        for wrong in [&[1.0, 100.1][..], &[f64::NAN, 100.0], &[1.0]] {
            let error = compare(Format::F32, "the sum", wrong, &[1.0, 100.0]).unwrap_err();
            assert!(error.to_string().starts_with("the sum: ") && error.exit_status() == 1, "{error}");
        }
    }
}
