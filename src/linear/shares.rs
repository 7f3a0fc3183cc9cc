//! The shares of a text's features in the logit of a class.

use hashbrown::HashMap;

use super::features::{Scratch, named};
use super::matrix::{Frequencies, Matrix};
use super::model::LinearModel;

/// One feature of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureShare {
    /// A word, two words (`^` is the beginning of the text), or characters between `…` (`_` is
    /// white space).
    pub name: String,
    /// How often it is there, 255 at most.
    pub count: u8,
    pub share: f64,
}

/// A logit, feature by feature.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearShares {
    /// `bias` and all shares.
    pub logit: f64,
    pub bias: f64,
    /// The largest first, whatever their sign.
    pub features: Vec<FeatureShare>,
}

impl LinearModel {
    /// `Σ weight · logit` over the classes, feature by feature, where a logit is what the softmax
    /// of [`predict`](Self::predict) is given. `None` for a text without a known feature.
    pub fn shares(&self, text: &str, weights: &[f64]) -> Option<LinearShares> {
        let machines = self.weights.len() / (self.set.len() + 1);
        let counted = self.set.count(text, &mut Scratch::default(), &mut Vec::new());
        let (ids, counts): (Vec<u32>, Vec<u8>) = counted.into_iter().unzip();
        let mut x = Matrix::default();
        self.weighting.weigh(&Frequencies::default(), &ids, &counts, &mut x);
        let (ids_there, values) = x.row(0);
        if ids_there.is_empty() {
            return None;
        }
        // of every machine: one alone is that of the second class, and less is more for the first
        let of_machines: Vec<f64> = match machines {
            1 if self.labels.len() == 2 => vec![weights[1] - weights[0]],
            _ => weights.to_vec(),
        };
        let of_row = |id: usize| -> f64 {
            let row = &self.weights[id * machines..][..machines];
            self.scale * row.iter().zip(&of_machines).map(|(&w, m)| f64::from(w) * m).sum::<f64>()
        };
        let names: HashMap<u64, String> = named(text, self.set.characters()).into_iter().collect();
        let bias = of_row(self.set.len());
        let mut features: Vec<FeatureShare> = ids_there
            .iter()
            .zip(values)
            .map(|(&id, &value)| FeatureShare {
                name: names.get(&self.set.fingerprints()[id as usize]).cloned().unwrap_or_default(),
                count: ids.binary_search(&id).map_or(0, |at| counts[at]),
                share: f64::from(value) * of_row(id as usize),
            })
            .collect();
        let logit = bias + features.iter().map(|feature| feature.share).sum::<f64>();
        features.sort_by(|a, b| b.share.abs().total_cmp(&a.share.abs()).then_with(|| a.name.cmp(&b.name)));
        Some(LinearShares { logit, bias, features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The differences of the logits are those of the logarithms of the probabilities.
    #[test]
    fn shares_sum_to_what_the_probabilities_say() {
        for classes in [2usize, 3] {
            let words = ["good film", "bad plot", "dull cast"];
            let texts: Vec<String> = (0..30).map(|i| format!("the {} {}", words[i % classes], i % 4)).collect();
            let labels: Vec<u32> = (0..30).map(|i| (i % classes) as u32).collect();
            let names: Vec<String> = (0..classes).map(|c| format!("c{c}")).collect();
            let model = LinearModel::fit(&texts, &labels, &names, 1, &|| Ok(())).unwrap().0;
            let text = "a good good film, bad plot";
            let p = &model.predict(&[text])[0];
            let mut weights = vec![0.0; classes];
            (weights[0], weights[1]) = (1.0, -1.0);
            let found = model.shares(text, &weights).unwrap();
            let sum = found.bias + found.features.iter().map(|f| f.share).sum::<f64>();
            assert!((sum - found.logit).abs() < 1e-12);
            assert!((found.logit - (p[0] / p[1]).ln()).abs() < 1e-5, "{} {p:?}", found.logit);
            let good = found.features.iter().find(|f| f.name == "good").unwrap();
            assert!(good.share > 0.0 && good.count == 2, "{good:?}");
            assert!(found.features.iter().find(|f| f.name == "bad plot").unwrap().share < 0.0);
            assert!(found.features.iter().all(|f| !f.name.is_empty()));
            assert!(model.shares("ξ", &weights).is_none());
        }
    }
}
