//! Experiments on the user's own data: methods side by side, and their errors by the number of
//! labels. A run that is finished in its folder is not done again.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::observer::Observer;
use super::pipeline::{CLASSIFIER, Run, RunOptions, RunSources, StageObserver, Together, classifiers};
use super::recipe::Recipe;
use super::rss;
use super::stages::{ClassifierSources, Context, all_labelled, classifier_parts};
use crate::answer::ensemble::{Answer, Ensemble, Outcome};
use crate::answer::{self};
use crate::autodiff::Graph;
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::models;
use crate::models::base::Base;
use crate::models::rule::Rule;
use crate::tensor::DType;
use crate::text::{Direction, Document, Source};

/// What all runs of an experiment have in common.
pub struct Laboratory<'a> {
    pub recipe: Recipe,
    /// The recipe of the runs from scratch.
    pub scratch: Recipe,
    pub device: Device,
    pub precision: Precision,
    pub memory_limit: Option<usize>,
    pub checkpoint_minutes: f64,
    pub out: PathBuf,
    /// The base of the runs that do not start from scratch.
    pub base: Base,
    pub observer: &'a mut dyn Observer,
    pub stage_observer: &'a mut StageObserver<'a>,
}

/// The data of an experiment.
#[derive(Clone)]
pub struct Data {
    pub train: Source,
    pub valid: Option<Source>,
    pub test: Source,
    pub unlabelled: Vec<Source>,
}

/// Methods that a comparison can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Scratch,
    Backward,
}

/// The result of one method on the test data with one seed.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub method: &'static str,
    pub seed: u64,
    /// Labelled documents, where there are fewer than all.
    pub labels: Option<usize>,
    /// Percent of the test documents.
    pub error: f64,
    /// Cross-entropy in nats.
    pub loss: f64,
    /// Whether each test document was answered rightly, in their order.
    #[serde(skip)]
    pub right: Vec<bool>,
}

/// The methods, in the order of the table.
pub const METHODS: [&str; 6] = [LINEAR, SCRATCH, LABELLED, BASE, BOTH, TOGETHER];
const LINEAR: &str = "linear model";
const SCRATCH: &str = "from scratch";
const LABELLED: &str = "base, labelled text";
const BASE: &str = "base";
const BOTH: &str = "base, both directions";
const TOGETHER: &str = "network and linear model";

fn cell(method: &'static str, seed: u64, labels: Option<usize>, outcome: &Outcome) -> Cell {
    let kept = outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
    let right = kept.map(|a| answer::classes::decide(&a.probabilities) as u32 == a.label.unwrap_or(u32::MAX)).collect();
    let measured = &outcome.measured;
    Cell {
        method,
        seed,
        labels,
        error: measured.score("error_percent").unwrap_or(f64::NAN),
        loss: measured.loss,
        right,
    }
}

impl Laboratory<'_> {
    /// Every method but those of `left_out`, with all labels (or so many) and one seed.
    ///
    /// # Errors
    /// Errors of the runs; no run is left.
    pub fn compare(
        &mut self,
        data: &Data,
        labels: Option<usize>,
        seed: u64,
        left_out: &[LeftOut],
    ) -> Result<Vec<Cell>> {
        let place = self.out.join(format!("seed-{seed}"));
        let without = |what| left_out.contains(&what);
        let both =
            !without(LeftOut::Backward) && self.base.load(Some(Direction::Backward)).is_ok_and(|model| model.is_some());
        let mut cells = Vec::new();
        let (mut last, mut asked) = (place.join("scratch"), None);
        if !without(LeftOut::Scratch) {
            let (scratch, none) = (self.scratch.clone(), Base::None);
            self.run(data, data_text(data), &last, None, (&scratch, &none), labels, seed, false)?;
            asked = Some(self.measure(&last, data, labels, seed, SCRATCH, &mut cells)?);
        } else if self.base == Base::None {
            return Err(Error::usage("without a base there is only the network from scratch, which is left out")
                .hint("name a base, or do not leave scratch out"));
        }
        if self.base != Base::None {
            let (recipe, base) = (self.recipe.clone(), self.base.clone());
            last = place.join("base");
            self.run(data, data_text(data), &last, None, (&recipe, &base), labels, seed, both)?;
            asked = Some(self.measure(&last, data, labels, seed, BASE, &mut cells)?);
        }
        if let Some(networks) = asked {
            self.answers(&last, networks, data, labels, seed, &mut cells)?;
        }
        sorted(&mut cells);
        Ok(cells)
    }

    /// The methods of the paper's Figure 3 with so many labels and one seed: from scratch; the
    /// base, tuned on the labelled texts alone, or on all; the linear model; network and linear
    /// model together.
    ///
    /// # Errors
    /// Errors of the runs.
    pub fn with_labels(&mut self, data: &Data, labels: usize, seed: u64) -> Result<Vec<Cell>> {
        let place = self.out.join(format!("seed-{seed}"));
        let few = place.join(format!("labels-{labels}"));
        let labelled = self.labelled_text(data, labels, seed)?;
        let mut cells = Vec::new();
        let (scratch, none) = (self.scratch.clone(), Base::None);
        let folder = few.join("scratch");
        self.run(data, vec![labelled.clone()], &folder, None, (&scratch, &none), Some(labels), seed, false)?;
        self.measure(&folder, data, Some(labels), seed, SCRATCH, &mut cells)?;
        let (recipe, base) = (self.recipe.clone(), self.base.clone());
        if base != Base::None {
            let folder = few.join("labelled");
            self.run(data, vec![labelled], &folder, None, (&recipe, &base), Some(labels), seed, false)?;
            self.measure(&folder, data, Some(labels), seed, LABELLED, &mut cells)?;
        }
        let folder = few.join("all");
        // the text is the same for every number of labels: the language model is tuned once
        self.run(
            data,
            data_text(data),
            &folder,
            Some(&place.join("text")),
            (&recipe, &base),
            Some(labels),
            seed,
            false,
        )?;
        let networks = self.measure(&folder, data, Some(labels), seed, BASE, &mut cells)?;
        // without a base this was the network from scratch once more
        cells.retain(|cell| base != Base::None || cell.method != BASE);
        self.answers(&folder, networks, data, Some(labels), seed, &mut cells)?;
        sorted(&mut cells);
        Ok(cells)
    }

    /// The labelled documents of a subset, as text.
    fn labelled_text(&self, data: &Data, labels: usize, seed: u64) -> Result<Source> {
        let sources = ClassifierSources {
            train: data.train.clone(),
            valid: data.valid.clone(),
            test: None,
            labels: Some(labels),
            fold: None,
        };
        let texts = if self.recipe.classifier.folds_of(labels, data.valid.is_some()) > 1 {
            all_labelled(&self.recipe, seed, &sources)?.texts
        } else {
            classifier_parts(&self.recipe, seed, &sources)?.train.texts
        };
        let documents: Vec<Document> = texts.into_iter().map(Document::new).collect();
        Ok(Source::of_texts("the labelled texts", documents))
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        &mut self,
        data: &Data,
        target: Vec<Source>,
        out: &Path,
        text: Option<&Path>,
        (recipe, base): (&Recipe, &Base),
        labels: Option<usize>,
        seed: u64,
        bidirectional: bool,
    ) -> Result<()> {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, "create", &e))?;
        let sources = RunSources {
            base: base.clone(),
            corpus: Vec::new(),
            corpus_valid: None,
            target,
            train: data.train.clone(),
            valid: data.valid.clone(),
            test: Some(data.test.clone()),
            labels,
        };
        let context = Context {
            recipe: recipe.clone(),
            device: self.device,
            precision: self.precision,
            seed,
            direction: Direction::Forward,
            memory_limit: self.memory_limit,
            resume: true,
            checkpoint_minutes: Some(self.checkpoint_minutes),
            checkpoint_steps: None,
            observer: &mut *self.observer,
        };
        let options = RunOptions { bidirectional, compare: false, together: Together::Blended, unmeasured: true };
        let mut stage_observer = |directory: &Path| (self.stage_observer)(directory);
        let mut run = Run { context, out, text, options, stage_observer: &mut stage_observer };
        run.run(&sources).map(drop)
    }

    /// The networks of a run alone, and where there are some in the other direction both. Gives the
    /// answers of all of them.
    fn measure(
        &self,
        out: &Path,
        data: &Data,
        labels: Option<usize>,
        seed: u64,
        method: &'static str,
        cells: &mut Vec<Cell>,
    ) -> Result<Vec<Answer>> {
        let [forward, backward] = classifiers(out)?;
        let networks = forward.iter().chain(&backward).map(|directory| models::load_classifier(directory));
        let mut networks = Ensemble::new(networks.collect::<Result<_>>()?, self.graph())?;
        let each = networks.evaluate_each(&data.test)?;
        let mut outcome = networks.outcome(&each, 0..forward.len());
        cells.push(cell(method, seed, labels, &outcome));
        if !backward.is_empty() {
            outcome = networks.outcome(&each, 0..each.len());
            cells.push(cell(BOTH, seed, labels, &outcome));
        }
        Ok(outcome.answers)
    }

    /// The linear model of a run, and the answer of its folder, whose networks answered before.
    fn answers(
        &self,
        out: &Path,
        networks: Vec<Answer>,
        data: &Data,
        labels: Option<usize>,
        seed: u64,
        cells: &mut Vec<Cell>,
    ) -> Result<()> {
        let folder = out.join(CLASSIFIER);
        let model = LinearModel::load(&folder)?;
        let linear = answer::linear::evaluate(&model, &data.test)?;
        cells.push(cell(LINEAR, seed, labels, &linear));
        let rule = Rule::load(&folder)?;
        let blends = rule.as_ref().is_some_and(|rule| rule.blend.is_some());
        let linear = blends.then_some(linear.answers);
        let together = Outcome::of_rule(networks, linear, rule.as_ref(), model.labels().len());
        cells.push(cell(TOGETHER, seed, labels, &together));
        Ok(())
    }

    fn graph(&self) -> Graph {
        Graph::new(self.device, DType::F32, rss::left(self.memory_limit, self.device)).with_precision(self.precision)
    }
}

fn data_text(data: &Data) -> Vec<Source> {
    std::iter::once(&data.train).chain(&data.unlabelled).cloned().collect()
}

fn sorted(cells: &mut [Cell]) {
    cells.sort_by_key(|cell| METHODS.iter().position(|method| *method == cell.method));
}

/// One line of a table: a method over several seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub method: &'static str,
    pub labels: Option<usize>,
    /// Mean over the seeds, in percent.
    pub error: f64,
    /// Sample's standard deviation; none of one seed.
    pub error_sd: Option<f64>,
    /// By seed.
    pub errors: Vec<f64>,
}

/// The cells by method and number of labels, in the order of the methods.
pub fn lines(cells: &[Cell]) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for cell in cells {
        match all.iter_mut().find(|line| (line.method, line.labels) == (cell.method, cell.labels)) {
            Some(line) => line.errors.push(cell.error),
            None => all.push(Line {
                method: cell.method,
                labels: cell.labels,
                error: 0.0,
                error_sd: None,
                errors: vec![cell.error],
            }),
        }
    }
    for line in &mut all {
        let n = line.errors.len() as f64;
        line.error = line.errors.iter().sum::<f64>() / n;
        let squares = line.errors.iter().map(|e| (e - line.error) * (e - line.error)).sum::<f64>();
        line.error_sd = (line.errors.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
    }
    all.sort_by_key(|line| (METHODS.iter().position(|method| *method == line.method), line.labels));
    all
}

/// A paired test of two methods on the same documents (McNemar, exact).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Documents that the first alone answers rightly, and the second alone.
    pub first_only: u64,
    pub second_only: u64,
    /// Probability of a split at least as uneven if both were equally good.
    pub p: f64,
}

impl Paired {
    /// `first[i]` and `second[i]`: whether document `i` was answered rightly.
    pub fn of(first: &[bool], second: &[bool]) -> Self {
        let count = |a: bool, b: bool| first.iter().zip(second).filter(|(x, y)| (**x, **y) == (a, b)).count() as u64;
        let (first_only, second_only) = (count(true, false), count(false, true));
        Paired { first_only, second_only, p: sign_test(first_only.min(second_only), first_only + second_only) }
    }
}

/// Twice the probability of at most `k` heads in `n` throws of a fair coin, at most 1.
fn sign_test(k: u64, n: u64) -> f64 {
    let (mut term, mut sum) = (-(n as f64) * std::f64::consts::LN_2, 0.0);
    for i in 0..=k {
        sum += libm::exp(term);
        term += ((n - i) as f64 / (i + 1) as f64).max(f64::MIN_POSITIVE).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_is_that_of_the_tables() {
        // 1 of 10: 2 · (1 + 10) / 1024
        assert!((sign_test(1, 10) - 22.0 / 1024.0).abs() < 1e-12);
        assert_eq!((sign_test(0, 0), sign_test(5, 10)), (1.0, 1.0));
        assert!((sign_test(2000, 5000) / 1.0e-45 - 1.0).abs() < 1e3 && sign_test(2000, 5000) > 0.0);
        let paired = Paired::of(&[true, true, false, true], &[true, false, true, false]);
        assert_eq!((paired.first_only, paired.second_only, paired.p), (2, 1, 1.0));
    }

    #[test]
    fn lines_are_means_over_seeds() {
        let cell = |method, seed, labels, error| Cell { method, seed, labels, error, loss: 0.0, right: vec![] };
        let cells = [
            cell(BASE, 0, Some(50), 10.0),
            cell(LINEAR, 0, Some(100), 3.0),
            cell(LINEAR, 0, Some(50), 4.0),
            cell(BASE, 1, Some(50), 14.0),
        ];
        let lines = lines(&cells);
        let shown: Vec<_> = lines.iter().map(|l| (l.method, l.labels, l.error, l.error_sd)).collect();
        let sd = Some(8f64.sqrt());
        assert_eq!(shown, [(LINEAR, Some(50), 4.0, None), (LINEAR, Some(100), 3.0, None), (BASE, Some(50), 12.0, sd)]);
    }
}
