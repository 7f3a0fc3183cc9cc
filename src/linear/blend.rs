//! Two models that answer together: `w · p + (1 − w) · q` of their tempered probabilities, tempered
//! once more, since a mean of two that agree is less sure than they should be. All chosen on
//! held-out documents.
//!
//! A choice on few documents is a bad one. So the weight has a beta prior around one half,
//! worth about twenty documents that tell the two apart; and the value of the blend is measured by
//! nested folds: temperatures and weight for a fold come from the other folds alone.

use super::calibration::{check, cross_entropy, error_percent, temper, temperature};
use crate::error::{Error, Result};
use crate::text::stratified_folds;

/// Exponents of the beta prior, less one: its logarithm is `PRIOR · (ln w + ln(1 − w))`.
const PRIOR: f64 = 2.0;
/// Folds at most.
const FOLDS: usize = 10;

/// How two models answer together.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Blend {
    /// Temperatures of the first and of the second model.
    pub temperatures: [f64; 2],
    /// Share of the first model.
    pub weight: f64,
    /// Temperature of the mean.
    #[serde(default = "one")]
    pub temperature: f64,
}

fn one() -> f64 {
    1.0
}

/// A blend, and its scores on documents that had no part in choosing it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Chosen on all held-out documents.
    pub blend: Blend,
    /// Probabilities of every document from a blend chosen on other folds.
    pub probabilities: Vec<Vec<f64>>,
    /// The probabilities of the first model, tempered by other folds.
    pub first: Vec<Vec<f64>>,
    /// Error in percent of the first model, of the second, of the blend.
    pub errors: [f64; 3],
    /// Cross-entropy of the same (the single models tempered by other folds).
    pub losses: [f64; 3],
    /// Documents that the blend alone gets right, less those that the better single model alone
    /// gets right, and their sum.
    pub net_of: [i64; 2],
}

impl Blend {
    /// Chosen on all documents given.
    ///
    /// # Errors
    /// Rows, labels and classes that do not fit.
    pub fn choose(first: &[Vec<f64>], second: &[Vec<f64>], labels: &[u32]) -> Result<Self> {
        check(first, labels)?;
        check(second, labels)?;
        if first[0].len() != second[0].len() {
            let (a, b) = (first[0].len(), second[0].len());
            return Err(Error::data(format!("a blend of a model of {a} classes with one of {b}")));
        }
        let temperatures = [temperature(first, labels)?, temperature(second, labels)?];
        let of_label = |rows: &[Vec<f64>], temperature: f64| -> Vec<f64> {
            rows.iter().zip(labels).map(|(row, &label)| temper(row, temperature)[label as usize]).collect()
        };
        let weight = weight(&of_label(first, temperatures[0]), &of_label(second, temperatures[1]));
        let mut blend = Blend { temperatures, weight, temperature: 1.0 };
        let means: Vec<Vec<f64>> = first.iter().zip(second).map(|(p, q)| blend.apply(p, q)).collect();
        blend.temperature = temperature(&means, labels)?;
        Ok(blend)
    }

    /// The class probabilities of one document.
    pub fn apply(&self, first: &[f64], second: &[f64]) -> Vec<f64> {
        let (p, q) = (temper(first, self.temperatures[0]), temper(second, self.temperatures[1]));
        let mean: Vec<f64> = p.iter().zip(&q).map(|(p, q)| self.weight * p + (1.0 - self.weight) * q).collect();
        temper(&mean, self.temperature)
    }

    /// Chooses a blend and measures it by nested folds, stratified and drawn by `seed`.
    ///
    /// # Errors
    /// As [`Blend::choose`]; fewer than two documents.
    pub fn measure(first: &[Vec<f64>], second: &[Vec<f64>], labels: &[u32], seed: u64) -> Result<Measured> {
        let blend = Blend::choose(first, second, labels)?;
        let n = labels.len();
        if n < 2 {
            return Err(Error::data("a blend is measured on at least two documents"));
        }
        let count = FOLDS.min(n);
        let fold = folds(labels, count, seed);
        let mut rows: [Vec<Vec<f64>>; 3] = std::array::from_fn(|_| vec![Vec::new(); n]);
        for k in 0..count as u32 {
            let others: Vec<usize> = (0..n).filter(|&i| fold[i] != k).collect();
            let part = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> { others.iter().map(|&i| rows[i].clone()).collect() };
            let of_others: Vec<u32> = others.iter().map(|&i| labels[i]).collect();
            let chosen = Blend::choose(&part(first), &part(second), &of_others)?;
            for i in (0..n).filter(|&i| fold[i] == k) {
                rows[0][i] = temper(&first[i], chosen.temperatures[0]);
                rows[1][i] = temper(&second[i], chosen.temperatures[1]);
                rows[2][i] = chosen.apply(&first[i], &second[i]);
            }
        }
        let mut errors = [0.0; 3];
        let mut losses = [0.0; 3];
        for (k, rows) in rows.iter().enumerate() {
            errors[k] = error_percent(rows, labels)?;
            losses[k] = cross_entropy(rows, labels)?;
        }
        let better = usize::from(errors[1] < errors[0]);
        let right = |rows: &[Vec<f64>], i: usize| super::calibration::decide(&rows[i]) == labels[i] as usize;
        let (mut gained, mut lost) = (0, 0);
        for i in 0..n {
            match (right(&rows[2], i), right(&rows[better], i)) {
                (true, false) => gained += 1,
                (false, true) => lost += 1,
                _ => {}
            }
        }
        let [first, _, probabilities] = rows;
        Ok(Measured { blend, probabilities, first, errors, losses, net_of: [gained - lost, gained + lost] })
    }
}

/// The weight of the first model that maximises `Σ ln(w p + (1 − w) q) + PRIOR (ln w + ln(1 − w))`
/// over the probabilities `p` and `q` that the two give to the true classes: concave, so its
/// derivative is bisected.
fn weight(p: &[f64], q: &[f64]) -> f64 {
    let slope = |w: f64| -> f64 {
        let one = |(p, q): (&f64, &f64)| (p - q) / (w * p + (1.0 - w) * q).max(f64::MIN_POSITIVE);
        p.iter().zip(q).map(one).sum::<f64>() + PRIOR / w - PRIOR / (1.0 - w)
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if slope(middle) > 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The fold of every document, `0..count`, each class spread evenly.
pub(super) fn folds(labels: &[u32], count: usize, seed: u64) -> Vec<u32> {
    let labels: Vec<Option<u32>> = labels.iter().map(|&label| Some(label)).collect();
    stratified_folds(&labels, count, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities of a model that is sure of the class, and right with this share of the
    /// documents: those of `wrong` are not.
    fn model(labels: &[u32], wrong: impl Fn(usize) -> bool) -> Vec<Vec<f64>> {
        let one = |(i, &label): (usize, &u32)| {
            let said = if wrong(i) { 1 - label } else { label };
            if said == 0 { vec![0.9, 0.1] } else { vec![0.1, 0.9] }
        };
        labels.iter().enumerate().map(one).collect()
    }

    fn labels(n: usize) -> Vec<u32> {
        (0..n as u32).map(|i| i % 2).collect()
    }

    #[test]
    fn the_better_model_has_the_greater_weight() {
        let labels = labels(1000);
        let (good, bad) = (model(&labels, |i| i % 20 == 0), model(&labels, |i| i % 3 == 1));
        let blend = Blend::choose(&good, &bad, &labels).unwrap();
        assert!(blend.weight > 0.8, "{blend:?}");
        let turned = Blend::choose(&bad, &good, &labels).unwrap();
        assert!((turned.weight + blend.weight - 1.0).abs() < 1e-6);
        let equal = Blend::choose(&good, &good, &labels).unwrap();
        assert!((equal.weight - 0.5).abs() < 1e-9);
    }

    #[test]
    fn few_documents_leave_the_weight_near_one_half() {
        let few = labels(6);
        let blend = Blend::choose(&model(&few, |_| false), &model(&few, |i| i % 2 == 0), &few).unwrap();
        assert!((0.5..0.8).contains(&blend.weight), "{blend:?}");
    }

    #[test]
    fn models_that_err_apart_help_each_other() {
        let labels = labels(600);
        // unsure where they are wrong
        let model = |k: usize| -> Vec<Vec<f64>> {
            let one = |(i, &label): (usize, &u32)| {
                let p = if i % 6 == k { 0.4 } else { 0.9 };
                if label == 0 { vec![p, 1.0 - p] } else { vec![1.0 - p, p] }
            };
            labels.iter().enumerate().map(one).collect()
        };
        let (a, b) = (model(0), model(3));
        let measured = Blend::measure(&a, &b, &labels, 1).unwrap();
        assert_eq!(measured.errors[2], 0.0);
        assert!(measured.errors[0] > 16.0 && measured.losses[2] < measured.losses[0], "{measured:?}");
        assert_eq!(measured.net_of, [100, 100]);
        assert_eq!(measured.probabilities.len(), 600);
        let again = Blend::measure(&a, &b, &labels, 1).unwrap();
        assert_eq!(again.probabilities, measured.probabilities);
    }

    /// A document has no part in the blend that it is measured with.
    #[test]
    fn folds_are_nested() {
        let labels = labels(40);
        let (a, b) = (model(&labels, |i| i % 4 == 0), model(&labels, |i| i % 5 == 0));
        let before = Blend::measure(&a, &b, &labels, 7).unwrap();
        let mut turned = labels.clone();
        // the classes of two documents of one fold change places: their fold's blend stays, those
        // of the others do not
        let fold = folds(&labels, 10, 7);
        let first = (0..40).find(|&i| fold[i] == 0 && labels[i] == 0).unwrap();
        let second = (0..40).find(|&i| fold[i] == 0 && labels[i] == 1).unwrap();
        turned.swap(first, second);
        let chosen = |labels: &[u32]| {
            let keep: Vec<usize> = (0..40).filter(|&i| fold[i] != 0).collect();
            let part = |rows: &[Vec<f64>]| keep.iter().map(|&i| rows[i].clone()).collect::<Vec<_>>();
            let labels: Vec<u32> = keep.iter().map(|&i| labels[i]).collect();
            Blend::choose(&part(&a), &part(&b), &labels).unwrap()
        };
        assert_eq!(chosen(&labels), chosen(&turned));
        assert_eq!(before.probabilities[first], chosen(&labels).apply(&a[first], &b[first]));
        assert_ne!(Blend::choose(&a, &b, &labels).unwrap(), Blend::choose(&a, &b, &turned).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let p = vec![vec![0.5, 0.5]; 2];
        let q = vec![vec![0.2, 0.3, 0.5]; 2];
        assert_eq!(
            Blend::choose(&p, &q, &[0, 1]).unwrap_err().to_string(),
            "a blend of a model of 2 classes with one of 3"
        );
        assert!(Blend::choose(&p, &p[..1], &[0, 1]).is_err() && Blend::measure(&p[..1], &p[..1], &[0], 1).is_err());
    }
}
