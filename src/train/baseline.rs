//! The baseline without any sequence: bag of words and multinomial logistic regression.
//!
//! Features are the presence of each word (binary unigrams, as in Wang & Manning 2012, "Baselines and Bigrams"). The loss
//! is the mean cross-entropy plus `λ/2 · ‖W‖²` (biases are free); it is convex, so the result depends on the data alone. It
//! is minimised over all documents at once by L-BFGS from zero, without random numbers and in one fixed order of sums.

use std::collections::VecDeque;

use crate::error::{Error, Result};

/// The strengths λ of the L2 penalty that are tried on the validation set.
pub const L2_GRID: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// λ where there is no validation set.
pub const L2_DEFAULT: f64 = 1e-2;

const ITERATIONS: usize = 300;
/// Pairs of steps and gradient changes that L-BFGS remembers.
const MEMORY: usize = 10;
/// The search ends where no component of the gradient is larger.
const TOLERANCE: f64 = 1e-7;

/// A trained model.
#[derive(Clone, Debug)]
pub struct BagOfWords {
    /// `[V + 1, C]`; the last row holds the biases.
    weights: Vec<f64>,
    classes: usize,
    vocabulary_size: usize,
    l2: f64,
}

impl BagOfWords {
    /// Trains on documents of token ids (`id < vocabulary_size`, any order) and labels (`label < classes`).
    ///
    /// With `valid` (documents and labels) λ is the one of [`L2_GRID`] with the fewest errors there, the largest of equals;
    /// else it is [`L2_DEFAULT`].
    ///
    /// # Errors
    /// No documents, fewer than two classes, as many labels as documents not given, a label or an id out of range.
    pub fn fit(
        documents: &[Vec<u32>],
        labels: &[usize],
        classes: usize,
        vocabulary_size: usize,
        valid: Option<(&[Vec<u32>], &[usize])>,
    ) -> Result<Self> {
        if classes < 2 {
            return Err(Error::data(format!("a classifier needs at least two classes, found {classes}")));
        }
        let problem = Problem {
            documents: &features(documents, vocabulary_size)?,
            labels: checked(labels, documents, classes)?,
            classes,
            vocabulary_size,
        };
        let model = |l2: f64| BagOfWords { weights: problem.minimise(l2), classes, vocabulary_size, l2 };
        let Some((valid_documents, valid_labels)) = valid else { return Ok(model(L2_DEFAULT)) };
        let mut best: Option<(f64, BagOfWords)> = None;
        for &l2 in L2_GRID.iter().rev() {
            let candidate = model(l2);
            let error = candidate.error(valid_documents, valid_labels)?;
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, candidate));
            }
        }
        Ok(best.expect("the grid is not empty").1)
    }

    /// The strength of the penalty that was used.
    pub fn l2(&self) -> f64 {
        self.l2
    }

    /// The most probable class of a document, the first of equals. Ids beyond the vocabulary count for nothing.
    pub fn predict(&self, document: &[u32]) -> usize {
        let known: Vec<u32> = document.iter().copied().filter(|&id| (id as usize) < self.vocabulary_size).collect();
        let mut scores = vec![0.0; self.classes];
        add_scores(&self.weights, &distinct(&known), &mut scores);
        (1..self.classes).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
    }

    /// Percentage of documents that are given a wrong class.
    ///
    /// # Errors
    /// No documents, as many labels as documents not given, a label out of range.
    pub fn error(&self, documents: &[Vec<u32>], labels: &[usize]) -> Result<f64> {
        let labels = checked(labels, documents, self.classes)?;
        let wrong = documents.iter().zip(labels).filter(|(document, label)| self.predict(document) != **label).count();
        Ok(100.0 * wrong as f64 / documents.len() as f64)
    }
}

/// Labels that fit the documents and classes.
fn checked<'a>(labels: &'a [usize], documents: &[Vec<u32>], classes: usize) -> Result<&'a [usize]> {
    if documents.is_empty() {
        return Err(Error::data("bag of words: there are no documents"));
    }
    if labels.len() != documents.len() {
        return Err(Error::data(format!("bag of words: {} documents but {} labels", documents.len(), labels.len())));
    }
    match labels.iter().find(|&&label| label >= classes) {
        Some(label) => Err(Error::data(format!("bag of words: label {label} of {classes} classes"))),
        None => Ok(labels),
    }
}

/// The distinct ids of every document, in ascending order.
fn features(documents: &[Vec<u32>], vocabulary_size: usize) -> Result<Vec<Vec<u32>>> {
    match documents.iter().flatten().find(|&&id| id as usize >= vocabulary_size) {
        Some(id) => Err(Error::data(format!("bag of words: token id {id} in a vocabulary of {vocabulary_size}"))),
        None => Ok(documents.iter().map(|document| distinct(document)).collect()),
    }
}

fn distinct(document: &[u32]) -> Vec<u32> {
    let mut ids = document.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// `scores = bias + Σ weights of the words`; `weights` `[V + 1, C]`, `scores` `[C]`.
fn add_scores(weights: &[f64], words: &[u32], scores: &mut [f64]) {
    let classes = scores.len();
    scores.copy_from_slice(&weights[weights.len() - classes..]);
    for &word in words {
        let row = &weights[word as usize * classes..][..classes];
        scores.iter_mut().zip(row).for_each(|(score, weight)| *score += weight);
    }
}

/// What is minimised.
struct Problem<'a> {
    /// Distinct ids.
    documents: &'a [Vec<u32>],
    labels: &'a [usize],
    classes: usize,
    vocabulary_size: usize,
}

impl Problem<'_> {
    /// Loss at `weights` `[V + 1, C]`; its gradient goes to `gradient`, of the same shape.
    fn loss(&self, weights: &[f64], l2: f64, gradient: &mut [f64]) -> f64 {
        let penalised = self.vocabulary_size * self.classes;
        gradient.fill(0.0);
        let share = 1.0 / self.documents.len() as f64;
        let mut scores = vec![0.0; self.classes];
        let mut loss = 0.0;
        for (words, &label) in self.documents.iter().zip(self.labels) {
            add_scores(weights, words, &mut scores);
            let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let log_sum = largest + libm::log(scores.iter().map(|s| libm::exp(s - largest)).sum::<f64>());
            loss += share * (log_sum - scores[label]);
            for (class, score) in scores.iter_mut().enumerate() {
                *score = share * (libm::exp(*score - log_sum) - f64::from(class == label));
            }
            for row in words.iter().map(|&word| word as usize).chain([self.vocabulary_size]) {
                let row = &mut gradient[row * self.classes..][..self.classes];
                row.iter_mut().zip(&scores).for_each(|(g, d)| *g += d);
            }
        }
        for (g, w) in gradient[..penalised].iter_mut().zip(&weights[..penalised]) {
            loss += 0.5 * l2 * w * w;
            *g += l2 * w;
        }
        loss
    }

    /// L-BFGS (Nocedal & Wright 2006, algorithms 7.4 and 7.5) with halving of the step until the loss falls enough.
    fn minimise(&self, l2: f64) -> Vec<f64> {
        let n = (self.vocabulary_size + 1) * self.classes;
        let mut weights = vec![0.0; n];
        let mut gradient = vec![0.0; n];
        let mut loss = self.loss(&weights, l2, &mut gradient);
        // steps s and gradient changes y, oldest first
        let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
        let (mut next, mut next_gradient) = (vec![0.0; n], vec![0.0; n]);
        for _ in 0..ITERATIONS {
            if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
                break;
            }
            let direction = direction(&gradient, &memory);
            let slope = dot(&direction, &gradient);
            // the first direction is the bare gradient: a unit step along it may be far too long or short
            let mut step = if memory.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
            let fallen = (0..40).find_map(|_| {
                for ((to, from), d) in next.iter_mut().zip(&weights).zip(&direction) {
                    *to = from + step * d;
                }
                let there = self.loss(&next, l2, &mut next_gradient);
                step *= 0.5;
                (there <= loss + 1e-4 * 2.0 * step * slope).then_some(there)
            });
            // no step lowers the loss any more: rounding has the last word
            let Some(there) = fallen else { break };
            let difference = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
            let (s, y) = (difference(&next, &weights), difference(&next_gradient, &gradient));
            if dot(&s, &y) > 0.0 {
                memory.push_back((s, y));
                if memory.len() > MEMORY {
                    memory.pop_front();
                }
            }
            std::mem::swap(&mut weights, &mut next);
            std::mem::swap(&mut gradient, &mut next_gradient);
            loss = there;
        }
        weights
    }
}

/// Minus the gradient times the approximate inverse Hessian (the two-loop recursion).
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for (s, y) in memory.iter().rev() {
        let alpha = dot(s, &q) / dot(s, y);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((s, y)) = memory.back() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / dot(s, y);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    fn random(row: u32) -> Stream {
        Stream::new(Key::apart(1), Site::CUSTOM[1], 0, row)
    }

    /// Documents of ten words out of 40, and one word of their own class (40, 41 or 42) if `marked`.
    fn toy(n: usize, marked: bool) -> (Vec<Vec<u32>>, Vec<usize>) {
        let mut stream = random(0);
        (0..n)
            .map(|k| {
                let label = k % 3;
                let mut words: Vec<u32> = (0..10).map(|_| stream.below(40)).collect();
                words.extend(marked.then_some(40 + label as u32));
                (words, label)
            })
            .unzip()
    }

    #[test]
    fn gradient_is_that_of_finite_differences() {
        let (documents, labels) = toy(20, true);
        let documents = features(&documents, 43).unwrap();
        let problem = Problem { documents: &documents, labels: &labels, classes: 3, vocabulary_size: 43 };
        let mut stream = random(1);
        let mut weights: Vec<f64> = (0..44 * 3).map(|_| 0.5 * stream.normal()).collect();
        let (mut gradient, mut scratch) = (vec![0.0; 132], vec![0.0; 132]);
        problem.loss(&weights, 0.3, &mut gradient);
        for k in 0..weights.len() {
            let here = weights[k];
            let mut at = |w: f64| {
                weights[k] = w;
                problem.loss(&weights, 0.3, &mut scratch)
            };
            let numeric = (at(here + 1e-5) - at(here - 1e-5)) / 2e-5;
            weights[k] = here;
            assert!((gradient[k] - numeric).abs() < 1e-8, "{k}: {} {numeric}", gradient[k]);
        }
    }

    #[test]
    fn the_minimum_is_reached() {
        let (documents, labels) = toy(60, false);
        let documents = features(&documents, 40).unwrap();
        let problem = Problem { documents: &documents, labels: &labels, classes: 3, vocabulary_size: 40 };
        for l2 in L2_GRID {
            let weights = problem.minimise(l2);
            let mut gradient = vec![0.0; weights.len()];
            problem.loss(&weights, l2, &mut gradient);
            let largest = gradient.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(largest < 1e-5, "λ {l2}: gradient {largest}");
        }
    }

    #[test]
    fn separable_data_is_separated() {
        let (documents, labels) = toy(90, true);
        let (train, test) = documents.split_at(60);
        let model = BagOfWords::fit(train, &labels[..60], 3, 43, Some((&train[..30], &labels[..30]))).unwrap();
        assert_eq!(model.error(train, &labels[..60]).unwrap(), 0.0);
        assert_eq!(model.error(test, &labels[60..]).unwrap(), 0.0);
        // without the marks there is nothing to learn
        let (documents, labels) = toy(900, false);
        let model = BagOfWords::fit(&documents[..300], &labels[..300], 3, 43, None).unwrap();
        assert!(model.error(&documents[300..], &labels[300..]).unwrap() > 50.0);
    }

    #[test]
    fn order_and_repetition_do_not_count() {
        let (documents, labels) = toy(30, true);
        let shuffled: Vec<Vec<u32>> =
            documents.iter().map(|d| d.iter().rev().chain(d).copied().collect::<Vec<u32>>()).collect();
        let a = BagOfWords::fit(&documents, &labels, 3, 43, None).unwrap();
        let b = BagOfWords::fit(&shuffled, &labels, 3, 43, None).unwrap();
        assert_eq!(a.weights, b.weights);
    }

    #[test]
    fn the_penalty_is_chosen_on_the_validation_set() {
        // all of the grid separates this data: of equals the largest is taken
        let (documents, labels) = toy(12, true);
        let model = BagOfWords::fit(&documents, &labels, 3, 43, Some((&documents, &labels))).unwrap();
        assert_eq!(model.l2(), 10.0);
        assert_eq!(BagOfWords::fit(&documents, &labels, 3, 43, None).unwrap().l2(), L2_DEFAULT);
        // a strong penalty leaves nothing but the bias, which is wrong about the rarer class
        let skewed = vec![vec![0], vec![0], vec![0], vec![1]];
        let chosen = BagOfWords::fit(&skewed, &[0, 0, 0, 1], 2, 2, Some((&skewed, &[0, 0, 0, 1]))).unwrap();
        assert!(chosen.l2() < 1.0, "λ {}", chosen.l2());
        assert_eq!(chosen.error(&skewed, &[0, 0, 0, 1]).unwrap(), 0.0);
    }

    #[test]
    fn bad_input_is_an_error() {
        let documents = vec![vec![0, 1], vec![2]];
        let fit = |labels: &[usize], classes, vocabulary| {
            BagOfWords::fit(&documents, labels, classes, vocabulary, None).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(fit(&[0, 1], 1, 3), "a classifier needs at least two classes, found 1");
        assert_eq!(fit(&[0], 2, 3), "bag of words: 2 documents but 1 labels");
        assert_eq!(fit(&[0, 2], 2, 3), "bag of words: label 2 of 2 classes");
        assert_eq!(fit(&[0, 1], 2, 2), "bag of words: token id 2 in a vocabulary of 2");
        assert!(BagOfWords::fit(&[], &[], 2, 2, None).is_err());
        let model = BagOfWords::fit(&documents, &[0, 1], 2, 3, None).unwrap();
        assert!(model.error(&[], &[]).is_err());
        assert_eq!(model.predict(&[]), model.predict(&[99]), "an unknown id counts for nothing");
    }
}
