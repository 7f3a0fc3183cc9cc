//! The results of an evaluation, as data: a new score is a new entry.

use super::Confusion;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Numbers by name, in the order in which they are shown. In files they are keys beside those of
/// what they belong to; `null` counts as not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(Vec<(String, f64)>);

impl Scores {
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.put(name, value);
        self
    }

    /// Adds a score, or replaces the one of that name.
    pub fn put(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_string(), value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        Ok(Scores(all.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()))
    }
}

/// The counts of one class or label. Support is `found + missed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hits {
    /// Present and predicted (true positives).
    pub found: u64,
    /// Predicted and not present (false positives).
    pub wrong: u64,
    /// Present and not predicted (false negatives).
    pub missed: u64,
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Hits {
    pub fn support(&self) -> u64 {
        self.found + self.missed
    }

    /// `None` where it was never said.
    pub fn precision(&self) -> Option<f64> {
        share(self.found, self.found + self.wrong)
    }

    /// `None` where it was never there.
    pub fn recall(&self) -> Option<f64> {
        share(self.found, self.support())
    }

    /// Harmonic mean of the two, `2·found / (2·found + wrong + missed)`; `None` where it was
    /// neither said nor there.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.found, 2 * self.found + self.wrong + self.missed)
    }

    pub fn add(&mut self, other: &Hits) {
        self.found += other.found;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }

    /// Indices of those with the lowest F1; of equals those that are there most often, of these the
    /// first. Those that neither occurred nor were predicted come last.
    pub fn hardest(all: &[Hits], most: usize) -> Vec<usize> {
        let key = |k: usize| all[k].f1().unwrap_or(f64::INFINITY);
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(all[b].support().cmp(&all[a].support())).then(a.cmp(&b)));
        order.truncate(most);
        order
    }

    /// The sum over all classes.
    pub fn sum(all: &[Hits]) -> Hits {
        let mut sum = Hits::default();
        all.iter().for_each(|hits| sum.add(hits));
        sum
    }
}

/// Means over classes, each as much as any other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Macro {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Mean recall of the classes that are there (scikit-learn's `balanced_accuracy_score`).
    pub balanced_accuracy: f64,
}

impl Macro {
    /// A class that is neither there nor ever said is left out; where one of the two is missing,
    /// the share that cannot be formed counts as 0 (scikit-learn's `zero_division`).
    pub fn of(all: &[Hits]) -> Self {
        let there: Vec<&Hits> = all.iter().filter(|h| h.support() + h.wrong > 0).collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let over = |of: fn(&Hits) -> Option<f64>| mean(there.iter().map(|h| of(h).unwrap_or(0.0)).collect());
        Macro {
            precision: over(Hits::precision),
            recall: over(Hits::recall),
            f1: over(Hits::f1),
            balanced_accuracy: mean(all.iter().filter_map(Hits::recall).collect()),
        }
    }
}

/// Result of an evaluation on held-out data.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// The loss per token or per document; in nats where it is a cross-entropy.
    #[serde(deserialize_with = "super::nan")]
    pub loss: f64,
    /// Tokens or documents that were predicted.
    pub count: u64,
    #[serde(flatten)]
    pub scores: Scores,
    /// Which classes are taken for which (one class for a document).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// The hits of every class, label or kind of entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits: Vec<Hits>,
}

impl Measured {
    pub fn score(&self, name: &str) -> Option<f64> {
        self.scores.get(name)
    }
}

/// Wilson's 95 % interval of a share.
pub fn wilson(p: f64, n: u64) -> (f64, f64) {
    let (n, z) = (n.max(1) as f64, 1.959_963_984_540_054_f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an earlier version wrote it, and back and forth.
    #[test]
    fn files_of_both_kinds() {
        let old = r#"{"loss":1.5,"perplexity":null,"bits_per_byte":null,"accuracy":75.0,"error_percent":25.0,"count":8,
            "confusion":[[3,1],[1,3]]}"#;
        let measured: Measured = serde_json::from_str(old).unwrap();
        assert_eq!((measured.loss, measured.count), (1.5, 8));
        assert_eq!(measured.score("error_percent"), Some(25.0));
        assert_eq!((measured.score("perplexity"), measured.score("confusion")), (None, None));
        assert_eq!(measured.confusion.as_ref().unwrap().shown(), Some(vec![vec![3, 1], vec![1, 3]]));
        let again: Measured = serde_json::from_str(&serde_json::to_string(&measured).unwrap()).unwrap();
        assert_eq!(again, measured);
        let bad: Measured = serde_json::from_str(r#"{"loss":null,"count":0}"#).unwrap();
        assert!(bad.loss.is_nan() && bad.scores == Scores::default());
    }

    #[test]
    fn classes_by_hand() {
        // the third class is never said, the fourth neither said nor there
        let confusion = [vec![6, 2, 0, 0], vec![1, 3, 0, 0], vec![2, 0, 0, 0], vec![0; 4]];
        let hits = Confusion::from(&confusion[..]).hits();
        assert_eq!(hits[0], Hits { found: 6, wrong: 3, missed: 2 });
        assert_eq!((hits[2].precision(), hits[2].recall(), hits[2].f1()), (None, Some(0.0), Some(0.0)));
        assert_eq!((hits[3].recall(), hits[3].f1(), hits[1].support()), (None, None, 4));
        let all = Macro::of(&hits);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        near(all.precision, (6.0 / 9.0 + 3.0 / 5.0) / 3.0);
        near(all.recall, (6.0 / 8.0 + 3.0 / 4.0) / 3.0);
        near(all.f1, (12.0 / 17.0 + 6.0 / 9.0) / 3.0);
        near(all.balanced_accuracy, 0.5);
        assert_eq!(Hits::sum(&hits), Hits { found: 9, wrong: 5, missed: 5 });
        assert_eq!(Hits::hardest(&hits, 3), [2, 1, 0]);
    }
}
