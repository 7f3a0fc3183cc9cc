//! Probabilities that mean what they say: a temperature, and how far confidence is from accuracy.
//!
//! Plain matrices of class probabilities or scores, a row for each document, and the true class of
//! each.

use crate::error::{Error, Result};

/// How many documents' worth of evidence speaks for the temperature that is expected beforehand.
const PRIOR: f64 = 2.0;

/// `softmax(scale · scores)`.
pub fn softmax(scores: &[f64], scale: f64) -> Vec<f64> {
    let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let mut p: Vec<f64> = scores.iter().map(|s| libm::exp(scale * (s - largest))).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

/// The scale (1 / temperature, Guo et al. 2017, "On Calibration of Modern Neural Networks") with
/// the least cross-entropy of `softmax(scale · scores)` on held-out documents. A gamma prior with
/// its mode at `expected`, worth two documents, keeps it finite where scores are always right and
/// positive where they are worth nothing; the objective is convex, the search a bisection of its
/// derivative.
///
/// # Errors
/// Rows, labels and classes that do not fit.
pub fn scale(scores: &[Vec<f64>], labels: &[u32], expected: f64) -> Result<f64> {
    check(scores, labels)?;
    // Σ (mean score under p − score of the true class), and the slope of the prior
    let slope = |scale: f64| -> f64 {
        let one = |(scores, &label): (&Vec<f64>, &u32)| {
            let mean: f64 = softmax(scores, scale).iter().zip(scores).map(|(p, s)| p * s).sum();
            mean - scores[label as usize]
        };
        scores.iter().zip(labels).map(one).sum::<f64>() + PRIOR / expected - PRIOR / scale
    };
    let (mut low, mut high) = (expected.ln() - 12.0, expected.ln() + 12.0);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if slope(libm::exp(middle)) > 0.0 { high = middle } else { low = middle }
    }
    Ok(libm::exp(0.5 * (low + high)))
}

/// The temperature `T` for probabilities: `p^(1/T)`, normalised, has the least cross-entropy on
/// held-out documents.
///
/// # Errors
/// Rows, labels and classes that do not fit.
pub fn temperature(probabilities: &[Vec<f64>], labels: &[u32]) -> Result<f64> {
    let scores: Vec<Vec<f64>> = probabilities.iter().map(|row| logs(row)).collect();
    Ok(1.0 / scale(&scores, labels, 1.0)?)
}

/// `p^(1/T)`, normalised.
pub fn temper(probabilities: &[f64], temperature: f64) -> Vec<f64> {
    softmax(&logs(probabilities), 1.0 / temperature)
}

/// Logarithms; a probability of 0 counts as the smallest positive number.
fn logs(probabilities: &[f64]) -> Vec<f64> {
    probabilities.iter().map(|p| libm::log(p.max(f64::MIN_POSITIVE))).collect()
}

/// Mean cross-entropy in nats.
///
/// # Errors
/// Rows, labels and classes that do not fit.
pub fn cross_entropy(probabilities: &[Vec<f64>], labels: &[u32]) -> Result<f64> {
    check(probabilities, labels)?;
    let nats = |(p, &label): (&Vec<f64>, &u32)| -libm::log(p[label as usize].max(f64::MIN_POSITIVE));
    Ok(probabilities.iter().zip(labels).map(nats).sum::<f64>() / labels.len() as f64)
}

/// Percentage of documents whose most probable class, the first of equals, is not theirs.
///
/// # Errors
/// Rows, labels and classes that do not fit.
pub fn error_percent(probabilities: &[Vec<f64>], labels: &[u32]) -> Result<f64> {
    check(probabilities, labels)?;
    let wrong = probabilities.iter().zip(labels).filter(|(p, label)| decide(p) != **label as usize).count();
    Ok(100.0 * wrong as f64 / labels.len() as f64)
}

/// The most probable class, the first of equals.
pub fn decide(probabilities: &[f64]) -> usize {
    let better = |best: usize, (class, &p): (usize, &f64)| if p > probabilities[best] { class } else { best };
    probabilities.iter().enumerate().fold(0, better)
}

/// Documents whose confidence (the probability of the class they are given) lies in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    pub documents: u64,
    /// Mean confidence.
    pub confidence: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

/// The reliability diagram: documents by confidence, in `bins` ranges of equal width.
///
/// # Errors
/// Rows, labels and classes that do not fit; no bins.
pub fn reliability<P: AsRef<[f64]>>(probabilities: &[P], labels: &[u32], bins: usize) -> Result<Vec<Bin>> {
    check(probabilities, labels)?;
    if bins == 0 {
        return Err(Error::data("a reliability diagram needs at least one bin"));
    }
    let mut all = vec![Bin::default(); bins];
    for (p, &label) in probabilities.iter().map(AsRef::as_ref).zip(labels) {
        let class = decide(p);
        let bin = &mut all[((p[class] * bins as f64) as usize).min(bins - 1)];
        bin.documents += 1;
        bin.confidence += p[class];
        bin.accuracy += f64::from(u8::from(class == label as usize));
    }
    for bin in all.iter_mut().filter(|bin| bin.documents > 0) {
        bin.confidence /= bin.documents as f64;
        bin.accuracy /= bin.documents as f64;
    }
    Ok(all)
}

/// Expected calibration error: `|accuracy − confidence|`, averaged over documents.
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let total: u64 = bins.iter().map(|bin| bin.documents).sum();
    let one = |bin: &Bin| bin.documents as f64 * (bin.accuracy - bin.confidence).abs();
    bins.iter().map(one).sum::<f64>() / total.max(1) as f64
}

/// Rows and labels that belong together.
pub(super) fn check<P: AsRef<[f64]>>(rows: &[P], labels: &[u32]) -> Result<()> {
    let Some(first) = rows.first().map(AsRef::as_ref) else {
        return Err(Error::data("there are no documents to measure"));
    };
    if rows.len() != labels.len() {
        return Err(Error::data(format!("{} rows of probabilities, but {} labels", rows.len(), labels.len())));
    }
    let classes = first.len();
    if let Some(i) =
        rows.iter().map(AsRef::as_ref).position(|row| row.len() != classes || row.iter().any(|v| !v.is_finite()))
    {
        return Err(Error::data(format!("row {i} of the probabilities is not {classes} finite numbers")));
    }
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(Error::data(format!("label {label} of {classes} classes"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    /// Scores of documents, and classes drawn from `softmax(scale · scores)`.
    fn drawn(n: usize, scale: f64) -> (Vec<Vec<f64>>, Vec<u32>) {
        let mut stream = Stream::new(Key::apart(3), Site::CUSTOM[2], 0, 0);
        let one = |stream: &mut Stream| {
            let scores: Vec<f64> = (0..3).map(|_| stream.normal()).collect();
            let p = softmax(&scores, scale);
            let u = stream.uniform();
            let label = if u < p[0] {
                0
            } else if u < p[0] + p[1] {
                1
            } else {
                2
            };
            (scores, label)
        };
        (0..n).map(|_| one(&mut stream)).unzip()
    }

    #[test]
    fn the_scale_that_made_the_classes_is_found() {
        for expected in [0.5, 2.0] {
            let (scores, labels) = drawn(4000, expected);
            let found = scale(&scores, &labels, 1.0).unwrap();
            assert!((found / expected - 1.0).abs() < 0.1, "{found} for {expected}");
            let p: Vec<Vec<f64>> = scores.iter().map(|row| softmax(row, found)).collect();
            let best = cross_entropy(&p, &labels).unwrap();
            for other in [0.9 * found, 1.1 * found] {
                let p: Vec<Vec<f64>> = scores.iter().map(|row| softmax(row, other)).collect();
                assert!(cross_entropy(&p, &labels).unwrap() > best);
            }
            assert!(calibration_error(&reliability(&p, &labels, 10).unwrap()) < 0.03);
        }
    }

    #[test]
    fn few_documents_stay_near_what_is_expected() {
        // always right: without the prior the scale would be infinite
        let scores = vec![vec![1.0, -1.0]; 3];
        let found = scale(&scores, &[0, 0, 0], 3.0).unwrap();
        assert!((3.0..4.0).contains(&found), "{found}");
        // always wrong: without it the scale would be zero
        let found = scale(&scores, &[1, 1, 1], 3.0).unwrap();
        assert!(found > 0.2 && found < 3.0, "{found}");
    }

    #[test]
    fn over_confidence_is_tempered() {
        let (scores, labels) = drawn(4000, 1.0);
        let sharp: Vec<Vec<f64>> = scores.iter().map(|row| softmax(row, 4.0)).collect();
        let t = temperature(&sharp, &labels).unwrap();
        assert!((t - 4.0).abs() < 0.4, "{t}");
        let tempered: Vec<Vec<f64>> = sharp.iter().map(|row| temper(row, t)).collect();
        let error = |p: &[Vec<f64>]| calibration_error(&reliability(p, &labels, 15).unwrap());
        assert!(error(&sharp) > 0.15 && error(&tempered) < 0.03, "{} {}", error(&sharp), error(&tempered));
        assert_eq!(error_percent(&sharp, &labels).unwrap(), error_percent(&tempered, &labels).unwrap());
        assert!(temper(&[1.0, 0.0], 2.0).iter().all(|p| p.is_finite()));
    }

    #[test]
    fn bins_are_those_of_the_definition() {
        let p = vec![vec![0.95, 0.05], vec![0.91, 0.09], vec![0.45, 0.55], vec![1.0, 0.0]];
        let bins = reliability(&p, &[0, 1, 1, 0], 10).unwrap();
        assert_eq!((bins.len(), bins[9].documents, bins[5].documents), (10, 3, 1));
        assert!((bins[9].confidence - 2.86 / 3.0).abs() < 1e-12 && (bins[9].accuracy - 2.0 / 3.0).abs() < 1e-12);
        // (3·|2/3 − 2.86/3| + 1·|1 − .55|) / 4
        assert!((calibration_error(&bins) - (0.86 + 0.45) / 4.0).abs() < 1e-12);
        assert_eq!(calibration_error(&[]), 0.0);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let p = vec![vec![0.5, 0.5]; 2];
        assert!(scale(&[], &[], 1.0).is_err() && scale(&p, &[0], 1.0).is_err() && scale(&p, &[0, 2], 1.0).is_err());
        assert!(cross_entropy(&[vec![0.5, 0.5], vec![1.0]], &[0, 0]).is_err());
        assert!(reliability(&p, &[0, 1], 0).is_err() && error_percent(&[vec![f64::NAN, 0.0]], &[0]).is_err());
    }
}
