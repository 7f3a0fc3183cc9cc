//! How large the weight of a feature may be in a machine: as large as it is likely to matter.
//!
//! `r = (1 − β) + β·|ln((p/‖p‖) / (q/‖q‖))| / s`, where `p` and `q` are the numbers of texts with
//! the feature, within the class and without, each and a half (Wang & Manning 2012, "Baselines and
//! Bigrams", the log-count ratio), `‖·‖` their sums over all features, and `s` the root mean square
//! of the ratios over the weights of the texts, so that a strength `C` means the same for every β.
//! β = 0 is the usual machine.

use rayon::prelude::*;

use super::matrix::Matrix;

/// The smoothing: added to every count.
const SMOOTHING: f64 = 0.5;

/// β. On a development part of the training sets of docs/linear.md one half is better than none and
/// as good as .3 and .7.
const BETA: f64 = 0.5;

/// Squares of the scales of features, for every class.
#[derive(Clone, Debug)]
pub struct Scales {
    classes: Vec<u32>,
    /// `r²` as `[class][feature]`.
    squares: Vec<Vec<f32>>,
}

impl Scales {
    /// For the weights `x` of texts with `labels`.
    pub fn of(x: &Matrix, labels: &[u32], features: usize, classes: &[u32]) -> Self {
        // how many texts have a feature, and what its weights are worth together
        let (mut texts, mut worth) = (vec![0u32; features], vec![0.0f64; features]);
        for (&id, &value) in x.ids.iter().zip(&x.values) {
            texts[id as usize] += 1;
            worth[id as usize] += f64::from(value) * f64::from(value);
        }
        let total: f64 = worth.iter().sum();
        let of_class = |&class: &u32| {
            let mut inside = vec![0u32; features];
            for row in (0..x.rows()).filter(|&row| labels[row] == class) {
                x.row(row).0.iter().for_each(|&id| inside[id as usize] += 1);
            }
            // features that no text here has do not count
            let counts = || texts.iter().zip(&inside).filter(|(all, _)| **all > 0);
            let p: f64 = counts().map(|(_, inside)| f64::from(*inside) + SMOOTHING).sum();
            let q: f64 = counts().map(|(all, inside)| f64::from(all - inside) + SMOOTHING).sum();
            let shift = libm::log(q / p);
            let ratio = |(all, inside): (&u32, &u32)| {
                if *all == 0 {
                    return 0.0;
                }
                (libm::log((f64::from(*inside) + SMOOTHING) / (f64::from(all - inside) + SMOOTHING)) + shift).abs()
            };
            let ratios: Vec<f64> = texts.iter().zip(&inside).map(ratio).collect();
            let mean = ratios.iter().zip(&worth).map(|(r, w)| r * r * w).sum::<f64>() / total;
            let s = if mean > 0.0 { mean.sqrt() } else { 1.0 };
            let square = |r: &f64| {
                let scale = (1.0 - BETA) + BETA * r / s;
                (scale * scale) as f32
            };
            ratios.iter().map(square).collect()
        };
        Scales { classes: classes.to_vec(), squares: classes.par_iter().map(of_class).collect() }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.squares.first().map_or(0, Vec::len)
    }

    /// `r²` of every feature for the machine of a class.
    pub fn squares(&self, class: u32) -> &[f32] {
        let class = self.classes.iter().position(|&c| c == class).expect("scales of its class");
        &self.squares[class]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_classes_apart_may_weigh_more() {
        // feature 0 in every text, 1 in the first class alone, 2 in no text
        let (mut x, labels) = (Matrix::default(), [0, 0, 1, 1]);
        for features in [&[0u32, 1][..], &[0, 1], &[0], &[0]] {
            x.ids.extend(features);
            x.values.extend(features.iter().map(|_| 0.5f32));
            x.starts.push(x.ids.len());
        }
        let scales = Scales::of(&x, &labels, 3, &[0, 1]);
        assert_eq!(scales.features(), 3);
        // p = [2.5, 2.5], q = [2.5, .5]: ratios ln(1 · 3/5), ln(5 · 3/5); their squares over 4 and
        // 2 equal weights
        let (common, telling) = ((3.0f64 / 5.0).ln().abs(), 3.0f64.ln());
        let s = ((4.0 * common * common + 2.0 * telling * telling) / 6.0).sqrt();
        for (found, ratio) in scales.squares(0).iter().zip([common, telling, 0.0]) {
            let expected = (0.5 + 0.5 * ratio / s).powi(2);
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
        }
        // of two classes, either is against the other
        for (a, b) in scales.squares(0).iter().zip(scales.squares(1)) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
