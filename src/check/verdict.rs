//! When a gradient counts as right.

/// A gradient is right where `|a − n| ≤ ABSOLUTE + RELATIVE·max(|a|, |n|)`; `a` analytic, `n`
/// numeric.
pub const ABSOLUTE: f64 = 1e-7;
/// See [`ABSOLUTE`].
pub const RELATIVE: f64 = 1e-6;
/// The loss of a case is scaled until the median |gradient| of every checked tensor, over its
/// non-zero elements, is at least this. (Masks, padding and words that do not occur make exact
/// zeros by construction; they are compared too, but say nothing of size.)
pub const MEDIAN: f64 = 1e-2;
/// At most this share of a case's elements may pass only because of the absolute term.
pub const ABSOLUTE_SHARE: f64 = 0.01;

/// Gradients of one tensor, analytic and numeric, at the compared elements.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub name: String,
    /// Flat indices of the compared elements.
    pub elements: Vec<usize>,
    pub analytic: Vec<f64>,
    pub numeric: Vec<f64>,
}

/// The result of comparing all tensors of a case.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub elements: usize,
    /// Elements outside the tolerance.
    pub wrong: usize,
    /// Elements inside it only because of the absolute term.
    pub absolute: usize,
    /// Largest `|a − n| / (0.1 + max(|a|, |n|))`: the criterion holds iff this is at most
    /// [`RELATIVE`].
    pub error: f64,
    /// Tensor and flat index of that element.
    pub at: Option<(String, usize)>,
    /// Smallest median |gradient| over the tensors, after scaling.
    pub median: f64,
    /// The factor of the loss.
    pub scale: f64,
}

impl Verdict {
    /// Compares. The loss is scaled by a power of two, which is exact: gradients scale with it, bit
    /// for bit.
    pub fn of(tensors: &[Compared]) -> Self {
        let smallest = tensors.iter().filter_map(median).fold(f64::INFINITY, f64::min);
        let mut scale = 1.0;
        while smallest.is_finite() && smallest > 0.0 && smallest * scale < MEDIAN {
            scale *= 2.0;
        }
        let mut verdict = Verdict { median: smallest * scale, scale, error: -1.0, ..Verdict::default() };
        for tensor in tensors {
            for ((&a, &n), &element) in tensor.analytic.iter().zip(&tensor.numeric).zip(&tensor.elements) {
                let (a, n) = (a * scale, n * scale);
                let (difference, size) = ((a - n).abs(), a.abs().max(n.abs()));
                verdict.elements += 1;
                let right = difference <= ABSOLUTE + RELATIVE * size;
                verdict.wrong += usize::from(!right);
                verdict.absolute += usize::from(right && difference > RELATIVE * size);
                let error = difference / (ABSOLUTE / RELATIVE + size);
                // NaN and infinities become the largest number, so that they win and stay printable
                let error = if error.is_finite() { error } else { f64::MAX };
                if error > verdict.error {
                    verdict.error = error;
                    verdict.at = Some((tensor.name.clone(), element));
                }
            }
        }
        verdict.error = verdict.error.max(0.0);
        verdict
    }

    pub(super) fn absolute_share(&self) -> f64 {
        self.absolute as f64 / self.elements.max(1) as f64
    }

    /// Why the case fails, in words; `None` where it passes.
    pub fn failure(&self) -> Option<String> {
        if self.wrong > 0 {
            let (tensor, element) = self.at.clone().unwrap_or_default();
            return Some(format!(
                "{} of {} elements differ; worst is {tensor}[{element}] with error {:.3e}",
                self.wrong, self.elements, self.error
            ));
        }
        if self.absolute_share() > ABSOLUTE_SHARE {
            return Some(format!(
                "{} of {} elements rest on the absolute term, more than {} %",
                self.absolute,
                self.elements,
                100.0 * ABSOLUTE_SHARE
            ));
        }
        // infinite: no tensor has a non-zero gradient, nothing to scale
        (self.median < MEDIAN).then(|| format!("the median |gradient| is {:.3e}, below {MEDIAN}", self.median))
    }
}

/// Median |gradient| over the elements where either side is not zero.
fn median(tensor: &Compared) -> Option<f64> {
    let sizes = tensor.analytic.iter().zip(&tensor.numeric).map(|(a, n)| a.abs().max(n.abs()));
    let mut sizes: Vec<f64> = sizes.filter(|&s| s != 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(analytic: &[f64], numeric: &[f64]) -> Verdict {
        let elements = (0..analytic.len()).collect();
        Verdict::of(&[Compared { name: "x".into(), elements, analytic: analytic.to_vec(), numeric: numeric.to_vec() }])
    }

    #[test]
    fn the_tolerance_is_the_stated_one() {
        let (analytic, mut numeric) = ([1.0; 200], [1.0; 200]);
        numeric[7] = 1.0 + 1.05e-6;
        let verdict = compare(&analytic, &numeric);
        assert!(verdict.failure().is_none() && (verdict.wrong, verdict.absolute) == (0, 1));
        assert_eq!(verdict.at, Some(("x".to_string(), 7)));
        numeric[8..11].fill(1.0 + 1.05e-6);
        let verdict = compare(&analytic, &numeric);
        assert!(verdict.wrong == 0 && verdict.failure().unwrap().contains("rest on the absolute term"));
        numeric[7] = 1.0 + 1.2e-6;
        let verdict = compare(&analytic, &numeric);
        assert!(verdict.wrong == 1 && verdict.error > RELATIVE && verdict.failure().unwrap().contains("x[7]"));
    }

    #[test]
    fn small_gradients_are_scaled_not_excused() {
        // equal within 1e-7 as they stand, but half wrong
        let verdict = compare(&[1e-8, 2e-8, 3e-8], &[1e-8, 1e-8, 3e-8]);
        assert!(verdict.scale > 1e5 && verdict.wrong == 1, "{verdict:?}");
    }

    #[test]
    fn not_a_number_fails() {
        let verdict = compare(&[1.0, f64::NAN], &[1.0, 1.0]);
        assert!(verdict.wrong == 1 && verdict.error == f64::MAX && verdict.failure().is_some());
        assert!(compare(&[f64::INFINITY], &[f64::INFINITY]).failure().is_some());
    }

    #[test]
    fn zeros_by_construction_do_not_count_towards_the_median() {
        let verdict = compare(&[0.0, 0.0, 0.0, 0.5], &[0.0, 0.0, 0.0, 0.5]);
        assert_eq!((verdict.scale, verdict.median, verdict.elements), (1.0, 0.5, 4));
        assert!(compare(&[0.0; 3], &[0.0; 3]).failure().is_none());
    }
}
