//! The true answers of labelled documents: a class, labels or a number of each, or a tag of every
//! word; and how right a model's answers are.

use super::classes::Verdict;
use super::{Hits, Macro, Measured, Scores};
use crate::error::{Error, Result};
use crate::models::Decision;
use crate::nn::{Answers, Truth};
use crate::text::{LABEL_MARK, TokenStore, shown_label, shown_labels, sorted_labels};

/// The true answers of every document of a store, by its index.
#[derive(Clone, Debug, PartialEq)]
pub enum Gold {
    /// `u32::MAX`: not known.
    Classes(Vec<u32>),
    /// Which of the labels it has, ascending.
    Labels {
        sets: Vec<Vec<u32>>,
        labels: usize,
    },
    Numbers(Vec<f64>),
    /// The tag of every word, an index into the names.
    Tags {
        tags: Vec<Vec<u32>>,
        names: Vec<String>,
    },
}

/// The same of a batch, in its order.
#[derive(Clone, Debug)]
pub enum GoldBatch {
    Classes(Vec<u32>),
    Numbers(Vec<f64>),
}

impl GoldBatch {
    pub fn truth(&self) -> Truth<'_> {
        match self {
            GoldBatch::Classes(classes) => Truth::Classes(classes),
            GoldBatch::Numbers(numbers) => Truth::Numbers(numbers),
        }
    }
}

/// The name of the only output of a model that gives a number.
pub const NUMBER: &str = "number";

impl Gold {
    /// Classes as the store has them.
    pub fn classes(store: &TokenStore) -> Self {
        Gold::Classes((0..store.documents()).map(|d| store.label(d).unwrap_or(u32::MAX)).collect())
    }

    /// The meaning of a store's labels for a model, and the names of its outputs. `known`: the
    /// names where they are given.
    ///
    /// # Errors
    /// A label that is not among `known`; a label that is no number, where numbers are wanted.
    pub fn of_store(store: &TokenStore, answers: Answers, known: Option<&[String]>) -> Result<(Self, Vec<String>)> {
        let all = store.label_names();
        match answers {
            Answers::Class => Ok((Self::classes(store), all.to_vec())),
            Answers::Labels => {
                let names = match known {
                    Some(known) => known.to_vec(),
                    None => {
                        let found: std::collections::BTreeSet<String> =
                            all.iter().flat_map(|joined| split(joined)).collect();
                        sorted_labels(&found.into_iter().collect::<Vec<_>>()).0
                    }
                };
                let place: std::collections::HashMap<&str, u32> =
                    names.iter().enumerate().map(|(k, name)| (name.as_str(), k as u32)).collect();
                let set = |joined: &String| -> Result<Vec<u32>> {
                    let of = |label: String| {
                        place.get(label.as_str()).copied().ok_or_else(|| {
                            let label = shown_label(&label);
                            let message = format!("has the label '{label}', which is not among those of the model");
                            Error::file(store.path(), message).hint(format!("the labels are: {}", shown_labels(&names)))
                        })
                    };
                    let mut set = split(joined).map(of).collect::<Result<Vec<u32>>>()?;
                    set.sort_unstable();
                    set.dedup();
                    Ok(set)
                };
                let different = all.iter().map(set).collect::<Result<Vec<_>>>()?;
                let of = |d: usize| store.label(d).map_or_else(Vec::new, |l| different[l as usize].clone());
                let sets = (0..store.documents()).map(of).collect();
                Ok((Gold::Labels { sets, labels: names.len() }, names))
            }
            Answers::Tags { .. } => {
                let names = match known {
                    Some(known) => known.to_vec(),
                    None => {
                        let kind = |tag: String| tag.split_once('-').map(|(_, kind)| kind.to_string());
                        let kinds: std::collections::BTreeSet<String> =
                            all.iter().flat_map(|joined| split(joined)).filter_map(kind).collect();
                        super::tags::tags_of(kinds)
                    }
                };
                let place: std::collections::HashMap<&str, u32> =
                    names.iter().enumerate().map(|(k, name)| (name.as_str(), k as u32)).collect();
                let of = |d: usize| -> Result<Vec<u32>> {
                    let joined = store.label(d).map_or("", |label| all[label as usize].as_str());
                    let tags = split(joined).map(|tag| {
                        let unknown =
                            || format!("has the tag '{}', which is not among those of the model", shown_label(&tag));
                        place.get(tag.as_str()).copied().ok_or_else(|| Error::file(store.path(), unknown()))
                    });
                    let tags = tags.collect::<Result<Vec<u32>>>()?;
                    let words = store.document_words(d).len();
                    if tags.len() != words || words == 0 {
                        let message = format!("has a text of {words} words with {} tags", tags.len());
                        return Err(
                            Error::file(store.path(), message).hint("--format conll reads words with their tags")
                        );
                    }
                    Ok(tags)
                };
                let tags = (0..store.documents()).map(of).collect::<Result<_>>()?;
                Ok((Gold::Tags { tags, names: names.clone() }, names))
            }
            Answers::Number => {
                let number = |text: &String| {
                    text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(|| {
                        let message = format!("has '{}' in the place of a number", shown_label(text));
                        Error::file(store.path(), message).hint("--label-column names the column of the numbers")
                    })
                };
                let different = all.iter().map(number).collect::<Result<Vec<f64>>>()?;
                let of = |d: usize| store.label(d).map_or(f64::NAN, |l| different[l as usize]);
                Ok((Gold::Numbers((0..store.documents()).map(of).collect()), vec![NUMBER.to_string()]))
            }
        }
    }

    /// Documents that have each class or label, or words that have each tag, among these.
    pub fn counts(&self, documents: &[u32], names: usize) -> Vec<u64> {
        let mut counts = vec![0; names];
        for &d in documents {
            match self {
                Gold::Classes(classes) => {
                    counts.get_mut(classes[d as usize] as usize).into_iter().for_each(|n| *n += 1);
                }
                Gold::Labels { sets, .. } => sets[d as usize].iter().for_each(|&label| counts[label as usize] += 1),
                Gold::Numbers(_) => {}
                Gold::Tags { tags, .. } => tags[d as usize].iter().for_each(|&tag| counts[tag as usize] += 1),
            }
        }
        counts
    }

    /// The mean and spread of the numbers of these documents, which scale a model's output.
    pub fn scale(&self, documents: &[u32]) -> Decision {
        let Gold::Numbers(all) = self else { return Decision::Likeliest };
        let n = documents.len().max(1) as f64;
        let mean = documents.iter().map(|&d| all[d as usize]).sum::<f64>() / n;
        let variance = documents.iter().map(|&d| (all[d as usize] - mean).powi(2)).sum::<f64>() / n;
        Decision::Scale { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }

    /// The true answers of a batch, as the loss takes them: 0 or 1 for every label, numbers without
    /// their scale.
    pub fn batch(&self, documents: &[u32], decision: &Decision) -> GoldBatch {
        match self {
            Gold::Classes(all) => GoldBatch::Classes(documents.iter().map(|&d| all[d as usize]).collect()),
            Gold::Labels { sets, labels } => {
                let mut numbers = vec![0.0; documents.len() * labels];
                for (row, &d) in numbers.chunks_exact_mut((*labels).max(1)).zip(documents) {
                    sets[d as usize].iter().for_each(|&label| row[label as usize] = 1.0);
                }
                GoldBatch::Numbers(numbers)
            }
            Gold::Numbers(all) => {
                GoldBatch::Numbers(documents.iter().map(|&d| decision.unscaled(all[d as usize])).collect())
            }
            Gold::Tags { tags, .. } => {
                GoldBatch::Classes(documents.iter().flat_map(|&d| tags[d as usize].iter().copied()).collect())
            }
        }
    }

    /// How right the answers for `documents` are: a row of class probabilities, of label
    /// probabilities, or a number for each.
    pub fn measure(&self, documents: &[u32], answers: &[Vec<f64>], decision: &Decision, classes: usize) -> Measured {
        match self {
            Gold::Classes(all) => {
                let verdicts = documents.iter().zip(answers).filter_map(|(&d, p)| Verdict::of(p, all[d as usize]));
                super::classes::measure(verdicts, documents.len() as u64, classes)
            }
            Gold::Labels { sets, labels } => {
                let sets: Vec<&[u32]> = documents.iter().map(|&d| &sets[d as usize][..]).collect();
                labels_measured(answers, &sets, &decision.thresholds(*labels))
            }
            Gold::Numbers(all) => {
                let wanted: Vec<f64> = documents.iter().map(|&d| all[d as usize]).collect();
                let given: Vec<f64> = answers.iter().map(|row| row[0]).collect();
                numbers_measured(&given, &wanted, decision)
            }
            Gold::Tags { tags, names } => {
                let wanted: Vec<&[u32]> = documents.iter().map(|&d| tags[d as usize].as_slice()).collect();
                super::tags::measure(answers, &wanted, names)
            }
        }
    }
}

fn split(joined: &str) -> impl Iterator<Item = String> {
    joined.split(LABEL_MARK).filter(|label| !label.is_empty()).map(String::from)
}

/// Labels whose probability reaches their threshold.
pub fn above(probabilities: &[f64], thresholds: &[f64]) -> Vec<u32> {
    let reached = |(_, (p, threshold)): &(usize, (&f64, &f64))| p >= threshold;
    probabilities.iter().zip(thresholds).enumerate().filter(reached).map(|(label, _)| label as u32).collect()
}

/// Mean binary cross-entropy, and how many labels were found: of all documents together (micro),
/// and as a mean over labels (macro).
fn labels_measured(answers: &[Vec<f64>], sets: &[&[u32]], thresholds: &[f64]) -> Measured {
    let mut hits = vec![Hits::default(); thresholds.len()];
    let (mut nats, mut exact) = (0.0, 0u64);
    for (p, set) in answers.iter().zip(sets) {
        let said = above(p, thresholds);
        exact += u64::from(said == *set);
        for (label, &p) in p.iter().enumerate() {
            let there = set.binary_search(&(label as u32)).is_ok();
            nats -= if there { p } else { 1.0 - p }.max(f64::MIN_POSITIVE).ln();
            match (there, p >= thresholds[label]) {
                (true, true) => hits[label].found += 1,
                (false, true) => hits[label].wrong += 1,
                (true, false) => hits[label].missed += 1,
                (false, false) => {}
            }
        }
    }
    let (count, all, sum) = (answers.len() as u64, Macro::of(&hits), Hits::sum(&hits));
    let scores = Scores::default()
        .with("micro_f1", sum.f1().unwrap_or(0.0))
        .with("macro_f1", all.f1)
        .with("micro_precision", sum.precision().unwrap_or(0.0))
        .with("micro_recall", sum.recall().unwrap_or(0.0))
        .with("macro_precision", all.precision)
        .with("macro_recall", all.recall)
        .with("exact_match", exact as f64 / count.max(1) as f64);
    let loss = nats / (answers.len() * thresholds.len()).max(1) as f64;
    Measured { loss, count, scores, confusion: None, hits }
}

/// For every label the threshold with the highest F1 on these answers: a value in the middle
/// between two probabilities. Of equals the one nearest to a half. A label that no document has
/// keeps a half.
pub fn tuned_thresholds(documents: &[u32], answers: &[Vec<f64>], gold: &Gold) -> Vec<f64> {
    let Gold::Labels { sets, labels } = gold else { return Vec::new() };
    let tune = |label: usize| {
        let mut all: Vec<(f64, bool)> = (documents.iter().zip(answers))
            .map(|(&d, p)| (p[label], sets[d as usize].binary_search(&(label as u32)).is_ok()))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let support = all.iter().filter(|(_, there)| *there).count() as u64;
        let (mut best, mut found) = ((0.0, 0.5), 0u64);
        for (k, &(_, there)) in all.iter().enumerate() {
            let said = k as u64 + 1;
            found += u64::from(there);
            let next = all.get(k + 1).map_or(0.0, |(p, _)| *p);
            if next == all[k].0 {
                continue;
            }
            let f1 = Hits { found, wrong: said - found, missed: support - found }.f1().unwrap_or(0.0);
            let threshold = (all[k].0 + next) / 2.0;
            let nearer = (threshold - 0.5).abs() < (best.1 - 0.5f64).abs();
            if f1 > best.0 || (f1 == best.0 && f1 > 0.0 && nearer) {
                best = (f1, threshold);
            }
        }
        best.1
    };
    (0..*labels).map(tune).collect()
}

/// Errors of numbers, and how far they go together with the right ones.
fn numbers_measured(given: &[f64], wanted: &[f64], decision: &Decision) -> Measured {
    let n = given.len().max(1) as f64;
    let mean = |f: &dyn Fn(f64, f64) -> f64| given.iter().zip(wanted).map(|(&x, &t)| f(x, t)).sum::<f64>() / n;
    let squared = mean(&|x, t| (x - t) * (x - t));
    let scores = Scores::default()
        .with("pearson", correlation(given, wanted))
        .with("spearman", correlation(&ranks(given), &ranks(wanted)))
        .with("mean_squared_error", squared)
        .with("mean_absolute_error", mean(&|x, t| (x - t).abs()));
    // as in training: of the numbers without their scale
    let deviation = decision.deviation();
    Measured { loss: squared / (deviation * deviation), count: given.len() as u64, scores, ..Measured::default() }
}

/// Pearson's coefficient; 0 where one of the two does not vary.
pub fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len().max(1) as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (&x, &y) in x.iter().zip(y) {
        xy += (x - mx) * (y - my);
        xx += (x - mx) * (x - mx);
        yy += (y - my) * (y - my);
    }
    if xx > 0.0 && yy > 0.0 { xy / (xx * yy).sqrt() } else { 0.0 }
}

/// Ranks from 1; equal values share the mean of theirs.
pub fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let (mut ranks, mut before) = (vec![0.0; x.len()], 0);
    for run in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let rank = before as f64 + (run.len() as f64 + 1.0) / 2.0;
        run.iter().for_each(|&i| ranks[i] = rank);
        before += run.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    fn labels() -> (Vec<Vec<f64>>, Gold) {
        let answers = vec![vec![0.9, 0.2, 0.4], vec![0.6, 0.7, 0.3], vec![0.1, 0.6, 0.2]];
        let sets = vec![vec![0, 2], vec![1], vec![]];
        (answers, Gold::Labels { sets, labels: 3 })
    }

    #[test]
    fn labels_by_hand() {
        let (answers, gold) = labels();
        let measured = gold.measure(&[0, 1, 2], &answers, &Decision::Likeliest, 3);
        let score = |name| measured.score(name).unwrap();
        // found: 0 of the first, 1 of the second; wrong: 0 of the second, 1 of the third; missed: 2
        // of the first
        assert_eq!(measured.hits[1], Hits { found: 1, wrong: 1, missed: 0 });
        near(score("micro_f1"), 2.0 * 2.0 / (2.0 * 2.0 + 2.0 + 1.0));
        near(score("macro_f1"), (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0);
        near(score("exact_match"), 0.0);
        let right = [0.9f64, 0.8, 0.4, 0.4, 0.7, 0.7, 0.9, 0.4, 0.8];
        near(measured.loss, -right.iter().map(|p| p.ln()).sum::<f64>() / 9.0);
        let lower = Decision::Thresholds(vec![0.8, 0.65, 0.35]);
        let measured = gold.measure(&[0, 1, 2], &answers, &lower, 3);
        assert_eq!((measured.score("micro_f1"), measured.score("exact_match")), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn thresholds_are_those_of_the_highest_f1() {
        let (answers, gold) = labels();
        let found = tuned_thresholds(&[0, 1, 2], &answers, &gold);
        found.iter().zip([0.75, 0.65, 0.35]).for_each(|(&f, e)| near(f, e));
        // other documents in another order, and a label that nobody has
        let gold = Gold::Labels { sets: vec![vec![], vec![0], vec![0]], labels: 2 };
        let answers = vec![vec![0.3, 0.9], vec![0.3, 0.1], vec![0.8, 0.1]];
        let found = tuned_thresholds(&[2, 1, 0], &answers, &gold);
        assert_eq!(found[1], 0.5);
        near(found[0], 0.15);
    }

    #[test]
    fn numbers_by_hand() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        near(correlation(&[1.0, 2.0, 4.0], &[-1.0, -3.0, -7.0]), -1.0);
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
        let gold = Gold::Numbers(vec![1.0, 3.0, 9.0]);
        let scale = gold.scale(&[0, 1]);
        assert_eq!(scale, Decision::Scale { mean: 2.0, deviation: 1.0 });
        let GoldBatch::Numbers(batch) = gold.batch(&[2, 0], &scale) else { panic!() };
        assert_eq!(batch, [7.0, -1.0]);
        let decision = Decision::Scale { mean: 0.0, deviation: 2.0 };
        let measured = gold.measure(&[0, 1, 2], &[vec![2.0], vec![3.0], vec![5.0]], &decision, 1);
        let score = |name| measured.score(name).unwrap();
        near(score("mean_squared_error"), 17.0 / 3.0);
        near(score("mean_absolute_error"), 5.0 / 3.0);
        near(score("spearman"), 1.0);
        near(measured.loss, 17.0 / 12.0);
    }
}
