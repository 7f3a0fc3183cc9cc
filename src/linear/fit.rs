//! Training: the strength of the machines is chosen by cross-validation on the training texts.

use rayon::prelude::*;

use super::blend::folds;
use super::calibration::{Bin, calibration_error, cross_entropy, error_percent, reliability, scale, softmax};
use super::counts::{Counts, FeatureSet, Selection};
use super::matrix::{Matrix, Weighting};
use super::model::LinearModel;
use super::scales::Scales;
use super::svm::{LANES, Machine, train};
use crate::error::{Error, Result};

/// Strengths `C` that cross-validation begins with; where the best is the first or the last of
/// those tried, the next one is tried too.
const STRENGTHS: [f64; 3] = [0.1, 0.3, 1.0];
const FACTOR: f64 = 3.0;
const LEAST: f64 = 0.003;
const LARGEST: f64 = 30.0;
/// The share by which its cross-entropy must be less for a strength to be better than its
/// neighbour.
const GAIN: f64 = 0.01;
/// `C` where there is too little text for a cross-validation.
const STRENGTH: f64 = 1.0;
/// The scale from margins to probabilities that is expected before any evidence.
const SCALE: f64 = 3.0;
/// A text has so few characters in all that n-grams of characters fit into memory (4 bytes an entry
/// and more, one entry a character or two).
const MOST_CHARACTERS: usize = 50_000_000;
/// Features must be in two texts where there are more texts than this.
const FEW_TEXTS: usize = 2000;
/// Most features of a block.
const MOST_FEATURES: usize = 1 << 20;
/// Entries (features of texts) up to which every fold is measured, side by side; of more text one
/// fold is enough to choose a strength.
const SMALL: usize = 10_000_000;
/// Relative duality gaps: of the final machines, and of those that only choose `C`.
const GAP: f64 = 1e-3;
const ROUGH_GAP: f64 = 5e-3;

/// The result of cross-validation.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Texts that were held out, in the order of their folds: all, or a fifth of them where there
    /// is much text.
    pub texts: Vec<u32>,
    /// Their class probabilities, calibrated.
    pub probabilities: Vec<Vec<f64>>,
    /// By strength.
    pub trials: Vec<Trial>,
    /// The one that was chosen.
    pub chosen: Trial,
    /// The reliability diagram of the probabilities.
    pub reliability: Vec<Bin>,
}

/// One strength, measured on texts that were held out.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Trial {
    pub c: f64,
    /// Percent.
    pub error: f64,
    /// Cross-entropy.
    pub loss: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
}

/// Whether to go on: an error (an interrupt) ends the training.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Ranges of the reliability diagram.
const BINS: usize = 10;

/// The data that all trainings share.
struct Task<'a> {
    counts: &'a Counts,
    labels: &'a [u32],
    features: usize,
    words: u32,
    least_texts: u32,
    /// Classes with a machine: all, or the second of two.
    classes: &'a [u32],
}

impl LinearModel {
    /// Trains on texts and their classes, indices into `names`. The result depends on these and the
    /// seed, which draws the folds, alone. `poll` is asked now and then whether to go on. The
    /// cross-validation is missing where there is a single text.
    ///
    /// # Errors
    /// No text, as many labels as texts not given, a label out of range, fewer than two names; and
    /// what `poll` says.
    pub fn fit<T: AsRef<str> + Sync>(
        texts: &[T],
        labels: &[u32],
        names: &[String],
        seed: u64,
        poll: Poll,
    ) -> Result<(Self, Option<Validation>)> {
        check(texts.len(), labels, names)?;
        let n = texts.len();
        let characters = texts.iter().map(|text| text.as_ref().len()).sum::<usize>() <= MOST_CHARACTERS;
        let least_texts = if n > FEW_TEXTS { 2 } else { 1 };
        let set = FeatureSet::of(texts, Selection { characters, least_texts, most: MOST_FEATURES });
        poll()?;
        let counts = set.counts(texts);
        let classes: Vec<u32> = if names.len() == 2 { vec![1] } else { (0..names.len() as u32).collect() };
        let (features, words) = (set.len(), set.words());
        let task = Task { counts: &counts, labels, features, words, least_texts, classes: &classes };
        let validation = task.validate(names.len(), seed, poll)?;
        let (c, scale) = validation.as_ref().map_or((STRENGTH, SCALE), |(found, scale)| (found.chosen.c, *scale));
        let all: Vec<u32> = (0..n as u32).collect();
        let (weighting, x) = task.weigh(&all);
        let weights = task.train(&x, labels, &task.machines(c), GAP);
        poll()?;
        let mut prior = vec![0.0; names.len()];
        labels.iter().for_each(|&label| prior[label as usize] += 1.0 / n as f64);
        let model = LinearModel { labels: names.to_vec(), set, weighting, weights, prior, c, scale };
        Ok((model, validation.map(|(validation, _)| validation)))
    }
}

fn check(texts: usize, labels: &[u32], names: &[String]) -> Result<()> {
    if texts == 0 {
        return Err(Error::data("a linear model needs texts to learn from, there are none"));
    }
    if labels.len() != texts {
        return Err(Error::data(format!("{texts} texts, but {} labels", labels.len())));
    }
    if names.len() < 2 {
        return Err(Error::data(format!("a classifier needs at least two classes, found {}", names.len())));
    }
    match labels.iter().find(|&&label| label as usize >= names.len()) {
        Some(label) => Err(Error::data(format!("label {label} of {} classes", names.len()))),
        None => Ok(()),
    }
}

impl Task<'_> {
    fn weigh(&self, rows: &[u32]) -> (Weighting, Matrix) {
        let weighting = Weighting::of(self.counts, rows, self.features, self.words, self.least_texts);
        let x = weighting.matrix(self.counts, rows);
        (weighting, x)
    }

    /// Weights of machines: a row of them for every feature, the last row the biases.
    fn train(&self, x: &Matrix, labels: &[u32], machines: &[Machine], gap: f64) -> Vec<f32> {
        let scales = Scales::of(x, labels, self.features, self.classes);
        let blocks: Vec<_> = self.blocks(machines).map(|block| train(x, labels, &scales, block, gap)).collect();
        if let [only] = &blocks[..] {
            return only.weights.clone();
        }
        let mut weights = Vec::with_capacity((self.features + 1) * machines.len());
        for feature in 0..=self.features {
            for block in &blocks {
                weights.extend_from_slice(&block.weights[feature * block.machines..][..block.machines]);
            }
        }
        weights
    }

    fn machines(&self, c: f64) -> Vec<Machine> {
        self.classes.iter().map(|&class| Machine { class, c }).collect()
    }

    /// Machines that are trained side by side; for any number of threads the same.
    fn blocks<'m>(&self, machines: &'m [Machine]) -> rayon::slice::Chunks<'m, Machine> {
        // two strengths of a single class already occupy two threads
        machines.par_chunks(if self.classes.len() == 1 { 2 } else { LANES })
    }

    /// Cross-validation, and the scale of the chosen trial.
    fn validate(&self, classes: usize, seed: u64, poll: Poll) -> Result<Option<(Validation, f64)>> {
        let n = self.labels.len();
        let much = self.counts.entries() > SMALL;
        let count = match n {
            0..=1000 => n.min(10),
            1001..=5000 => 5,
            _ if much => 5,
            _ => 3,
        };
        if count < 2 {
            return Ok(None);
        }
        let fold = folds(self.labels, count, seed);
        let measured = if much { 1 } else { count as u32 };
        let mut texts: Vec<u32> = (0..n as u32).filter(|&i| fold[i as usize] < measured).collect();
        texts.sort_by_key(|&i| fold[i as usize]);
        let labels: Vec<u32> = texts.iter().map(|&i| self.labels[i as usize]).collect();
        let mut tried: Vec<Tried> = Vec::new();
        let mut next: Vec<f64> = STRENGTHS.to_vec();
        while !next.is_empty() {
            let of_fold = |k: u32| poll().map(|()| self.held_out(&fold, k, &next, classes));
            let parts: Vec<Vec<Vec<Vec<f64>>>> = (0..measured).into_par_iter().map(of_fold).collect::<Result<_>>()?;
            let of_trial = |(k, &c): (usize, &f64)| {
                let rows: Vec<Vec<f64>> = parts.iter().flat_map(|part| part[k].iter().cloned()).collect();
                Tried::new(c, &rows, &labels)
            };
            tried.extend(next.par_iter().enumerate().map(of_trial).collect::<Result<Vec<_>>>()?);
            next = next_strength(&mut tried, labels.len()).into_iter().collect();
        }
        let trials = tried.iter().map(|tried| tried.trial).collect();
        let Tried { trial, scale, probabilities } = tried.swap_remove(choose(&tried, labels.len()));
        let reliability = reliability(&probabilities, &labels, BINS)?;
        Ok(Some((Validation { texts, probabilities, trials, chosen: trial, reliability }, scale)))
    }

    /// The scores of the classes, `[strength][text][class]`, for the texts of fold `k` from
    /// machines that learned from the others.
    fn held_out(&self, fold: &[u32], k: u32, strengths: &[f64], classes: usize) -> Vec<Vec<Vec<f64>>> {
        let (inside, outside): (Vec<u32>, Vec<u32>) = (0..fold.len() as u32).partition(|&i| fold[i as usize] != k);
        let (weighting, x) = self.weigh(&inside);
        let labels: Vec<u32> = inside.iter().map(|&i| self.labels[i as usize]).collect();
        let machines: Vec<Machine> = strengths.iter().flat_map(|&c| self.machines(c)).collect();
        let weights = self.train(&x, &labels, &machines, ROUGH_GAP);
        let x = weighting.matrix(self.counts, &outside);
        let of_text = |row: usize| -> Vec<Vec<f64>> {
            let all = outputs(&weights, machines.len(), x.row(row));
            all.chunks(self.classes.len()).map(|outputs| scores(outputs, classes)).collect()
        };
        let rows: Vec<Vec<Vec<f64>>> = (0..x.rows()).into_par_iter().map(of_text).collect();
        (0..strengths.len()).map(|s| rows.iter().map(|row| row[s].clone()).collect()).collect()
    }
}

/// A strength that was tried, and its scores on the held-out texts.
struct Tried {
    trial: Trial,
    scale: f64,
    probabilities: Vec<Vec<f64>>,
}

impl Tried {
    fn new(c: f64, scores: &[Vec<f64>], labels: &[u32]) -> Result<Self> {
        let scale = scale(scores, labels, SCALE)?;
        let probabilities: Vec<Vec<f64>> = scores.iter().map(|row| softmax(row, scale)).collect();
        let error = error_percent(&probabilities, labels)?;
        let loss = cross_entropy(&probabilities, labels)?;
        let calibration_error = calibration_error(&reliability(&probabilities, labels, BINS)?);
        Ok(Tried { trial: Trial { c, error, loss, calibration_error }, scale, probabilities })
    }
}

/// The strength beyond the best one, where that is the first or the last of those tried and better
/// than its neighbour.
fn next_strength(tried: &mut [Tried], texts: usize) -> Option<f64> {
    tried.sort_by(|a, b| a.trial.c.total_cmp(&b.trial.c));
    let best = choose(tried, texts);
    let Trial { c, loss, .. } = tried[best].trial;
    let (beyond, neighbour) = match best {
        0 => (c / FACTOR, 1),
        i if i == tried.len() - 1 => (c * FACTOR, i - 1),
        _ => return None,
    };
    let gained = loss < (1.0 - GAIN) * tried[neighbour].trial.loss;
    (gained && (LEAST..=LARGEST).contains(&beyond)).then_some(beyond)
}

/// Among the trials whose error is at most one standard error above the least, the one with the
/// least cross-entropy: a few errors more or less are chance, and the cross-entropy is the steadier
/// measure.
fn choose(tried: &[Tried], texts: usize) -> usize {
    let trial = |i: usize| tried[i].trial;
    let least = tried.iter().map(|tried| tried.trial.error).fold(f64::INFINITY, f64::min);
    let bound = least + (least * (100.0 - least) / texts as f64).sqrt();
    let near = (0..tried.len()).filter(|&i| trial(i).error <= bound);
    near.min_by(|&a, &b| trial(a).loss.total_cmp(&trial(b).loss)).expect("the least is among them")
}

/// The scores of a text, one for each machine.
pub(super) fn outputs(weights: &[f32], machines: usize, (ids, values): (&[u32], &[f32])) -> Vec<f32> {
    let mut sum = weights[weights.len() - machines..].to_vec();
    for (&id, &value) in ids.iter().zip(values) {
        let row = &weights[id as usize * machines..][..machines];
        sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
    }
    sum
}

/// The scores of the classes: a single machine is that of the second of two.
pub(super) fn scores(outputs: &[f32], classes: usize) -> Vec<f64> {
    match outputs {
        [only] if classes == 2 => vec![-f64::from(*only), f64::from(*only)],
        all => all.iter().map(|&output| f64::from(output)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    /// Texts of eight words out of sixty; with `marked` one more of its class.
    fn toy(n: usize, classes: u32, marked: bool) -> (Vec<String>, Vec<u32>, Vec<String>) {
        let mut stream = Stream::new(Key::apart(5), Site::CUSTOM[3], 0, 0);
        let one = |i: usize| {
            let label = i as u32 % classes;
            let mut words: Vec<String> = (0..8).map(|_| format!("w{}", stream.below(60))).collect();
            words.extend(
                marked.then(|| format!("mark{}x", (b'a' + (label % 26) as u8) as char).repeat(1 + label as usize / 26)),
            );
            (words.join(" "), label)
        };
        let (texts, labels) = (0..n).map(one).unzip();
        (texts, labels, names(classes))
    }

    fn names(classes: u32) -> Vec<String> {
        (0..classes).map(|c| format!("class {c}")).collect()
    }

    fn go_on() -> Result<()> {
        Ok(())
    }

    fn fit(texts: &[String], labels: &[u32], names: &[String]) -> (LinearModel, Option<Validation>) {
        LinearModel::fit(texts, labels, names, 1, &go_on).unwrap()
    }

    #[test]
    fn what_is_marked_is_learned_and_noise_is_not() {
        for classes in [2, 3, 9] {
            let (texts, labels, names) = toy(300, classes, true);
            let (model, validation) = fit(&texts[..200], &labels[..200], &names);
            assert_eq!(error_percent(&model.predict(&texts[200..]), &labels[200..]).unwrap(), 0.0, "{classes}");
            let validation = validation.unwrap();
            assert!(validation.chosen.error < 2.0, "{:?}", validation.trials);
            assert_eq!((validation.texts.len(), validation.probabilities.len()), (200, 200));
        }
        let (texts, labels, names) = toy(900, 3, false);
        let (model, validation) = fit(&texts[..300], &labels[..300], &names);
        let p = model.predict(&texts[300..]);
        assert!(error_percent(&p, &labels[300..]).unwrap() > 55.0);
        // and it knows: calibrated on held-out texts, it is hardly surer than chance
        assert!(cross_entropy(&p, &labels[300..]).unwrap() < 1.15 && validation.unwrap().chosen.error > 50.0);
    }

    #[test]
    fn every_row_is_a_distribution_and_nothing_known_is_the_prior() {
        let (texts, labels, names) = toy(30, 3, true);
        let (model, _) = fit(&texts[..29], &labels[..29], &names);
        let p = model.predict(&["", "ξξξ 語", &texts[0], "w1 w2"]);
        assert_eq!(p[0], p[1]);
        for (found, count) in p[0].iter().zip([10.0, 10.0, 9.0]) {
            assert!((found - count / 29.0).abs() < 1e-12);
        }
        assert!(p.iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-9 && row.iter().all(|p| *p >= 0.0)));
    }

    #[test]
    fn awkward_data_still_give_a_model() {
        // two texts; a class of a single text; texts without a word; a class without a text
        let strings = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let (model, validation) = fit(&strings(&["good", "bad"]), &[0, 1], &names(2));
        assert!(validation.is_some());
        assert_eq!(model.predict(&["good", "bad"]).iter().map(|p| super::super::decide(p)).collect::<Vec<_>>(), [0, 1]);
        let (texts, mut labels, _) = toy(60, 2, true);
        labels[7] = 2;
        let (model, _) = fit(&texts, &labels, &names(3));
        assert_eq!(super::super::decide(&model.predict(&texts[7..8])[0]), 2);
        let (mut texts, labels, names) = toy(60, 2, true);
        (0..20).for_each(|i| texts[i].clear());
        fit(&texts, &labels, &names);
        fit(&strings(&["", "", ""]), &[0, 1, 0], &names);
        let (model, _) = fit(&texts, &labels, &self::names(4));
        assert!(model.predict(&texts).iter().flatten().all(|p| p.is_finite()));
        let (one, validation) = fit(&strings(&["good"]), &[1], &names);
        assert!(validation.is_none() && one.predict(&["good"])[0][1] > 0.5);
    }

    #[test]
    fn many_classes() {
        let (texts, labels, names) = toy(600, 150, true);
        let (model, _) = fit(&texts, &labels, &names);
        let p = model.predict(&texts);
        assert_eq!(p[0].len(), 150);
        assert!(error_percent(&p, &labels).unwrap() < 5.0);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let made = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                [2, 5].map(|classes| {
                    let (texts, labels, names) = toy(120, classes, true);
                    let (model, validation) = fit(&texts, &labels, &names);
                    let bits: Vec<u32> = model.weights.iter().map(|w| w.to_bits()).collect();
                    (bits, model.scale.to_bits(), model.c.to_bits(), validation.unwrap().probabilities)
                })
            })
        };
        assert!(made(1) == made(3));
    }

    #[test]
    fn a_strength_at_the_end_is_followed() {
        let tried = |c: f64, loss: f64| Tried {
            trial: Trial { c, error: 10.0, loss, calibration_error: 0.0 },
            scale: 1.0,
            probabilities: Vec::new(),
        };
        let next = |losses: [f64; 3]| {
            let mut all: Vec<Tried> = STRENGTHS.iter().zip(losses).map(|(&c, loss)| tried(c, loss)).collect();
            next_strength(&mut all, 1000)
        };
        assert_eq!(next([0.5, 0.4, 0.45]), None);
        assert_eq!(next([0.5, 0.45, 0.4]), Some(3.0));
        assert!((next([0.4, 0.45, 0.5]).unwrap() - 0.1 / 3.0).abs() < 1e-12);
        // nothing is gained any more
        assert_eq!(next([0.5, 0.401, 0.4]), None);
        // a clearly greater error does not count, however small its cross-entropy
        let mut all = vec![tried(0.1, 0.4), tried(0.3, 0.3), tried(1.0, 0.5)];
        all[1].trial.error = 13.0;
        assert_eq!(choose(&all, 1000), 0);
        assert_eq!(choose(&all, 10), 1);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_an_interrupt_ends_it() {
        let (texts, labels, names) = toy(10, 2, true);
        let refused = |texts: &[String], labels: &[u32], names: &[String]| {
            LinearModel::fit(texts, labels, names, 1, &go_on).map(drop).unwrap_err().to_string()
        };
        assert!(refused(&[], &[], &names).contains("there are none"));
        assert_eq!(refused(&texts, &labels[1..], &names), "10 texts, but 9 labels");
        assert_eq!(refused(&texts, &labels, &names[..1]), "a classifier needs at least two classes, found 1");
        assert_eq!(refused(&texts, &[2; 10], &names), "label 2 of 2 classes");
        let stop = || Err(Error::data("stopped"));
        let stopped = LinearModel::fit(&texts, &labels, &names, 1, &stop).map(drop);
        assert_eq!(stopped.unwrap_err().to_string(), "stopped");
    }
}
