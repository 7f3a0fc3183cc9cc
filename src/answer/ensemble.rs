//! Prediction and evaluation with one classifier or an ensemble (docs/SPEC.md §4.6: class probabilities are averaged).

use std::sync::Arc;

use super::Measured;
use super::classes::{evaluation_batches, measure, order, predict};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::{Classifier, weights};
use crate::text::{
    BuildOptions, BuildReport, Labels, Row, Skipped, Source, Storage, TokenStore, Tokenizer, fill_store, shown_labels,
};

/// One classifier, or several whose probabilities are averaged.
pub struct Ensemble {
    models: Vec<Loaded<Classifier>>,
    graph: Graph,
    warning: Option<String>,
}

/// What is said of one document of a source.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where the document stands in its file.
    pub row: Row,
    /// One number for each class; empty where the document is left out ([`Row::skipped`]).
    pub probabilities: Vec<f64>,
    /// Its class, as an index into the labels, where that was asked for and is known.
    pub label: Option<u32>,
}

/// What an evaluation gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub measured: Measured,
    /// One for every document of the source, in their order.
    pub answers: Vec<Answer>,
}

impl Outcome {
    /// Measures the answers that are there.
    pub(super) fn of(answers: Vec<Answer>, classes: usize) -> Self {
        let kept = || answers.iter().filter(|answer| answer.row.skipped.is_none());
        let probabilities: Vec<Vec<f64>> = kept().map(|answer| answer.probabilities.clone()).collect();
        let labels: Vec<u32> = kept().map(|answer| answer.label.unwrap_or(u32::MAX)).collect();
        let measured = measure(&probabilities, &labels, classes);
        Outcome { measured, answers }
    }

    /// Documents that were left out for that reason.
    pub fn skipped(&self, why: Skipped) -> usize {
        self.answers.iter().filter(|answer| answer.row.skipped == Some(why)).count()
    }
}

/// Documents of a batch. Results do not depend on it.
const BATCH: usize = 64;

impl Ensemble {
    /// On the device of the graph and in its precision. The models must have the same classes in the same order.
    pub fn new(models: Vec<Loaded<Classifier>>, mut graph: Graph) -> Result<Self> {
        for model in &models[1..] {
            if model.config.labels != models[0].config.labels {
                return Err(Error::data(format!(
                    "--ensemble: the two models have other classes: {} and {}",
                    shown_labels(&models[0].config.labels),
                    shown_labels(&model.config.labels)
                )));
            }
        }
        let on_device = |model: Loaded<Classifier>| -> Result<_> {
            Ok(Loaded { parameters: model.parameters.to_device(graph.device())?, ..model })
        };
        let models = models.into_iter().map(on_device).collect::<Result<_>>()?;
        graph.promise_constant_parameters();
        Ok(Ensemble { models, graph, warning: None })
    }

    /// What is doubtful about the texts last answered for.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Names of the classes, in the order of the probabilities.
    pub fn labels(&self) -> &[String] {
        &self.models[0].config.labels
    }

    /// Class probabilities of every document, in their order. One without a text is left out.
    ///
    /// # Errors
    /// Those of reading.
    pub fn predict(&mut self, source: &Source) -> Result<Vec<Answer>> {
        self.averaged(source, &BuildOptions { skip_empty: true, ..BuildOptions::default() })
    }

    /// Error, confusion and probabilities on labelled documents.
    ///
    /// # Errors
    /// Those of reading; no document has a text and a label; a class that the model does not have.
    pub fn evaluate(&mut self, source: &Source) -> Result<Outcome> {
        let options =
            BuildOptions { labels: Labels::Known(self.labels().to_vec()), skip_empty: true, skip_unlabelled: true };
        let answers = self.averaged(source, &options)?;
        let outcome = Outcome::of(answers, self.labels().len());
        if outcome.measured.count == 0 {
            let what = if outcome.skipped(Skipped::Unlabelled) > 0 { "a label" } else { "text" };
            return Err(Error::file(source.name(), format!("holds no document with {what}")));
        }
        Ok(outcome)
    }

    fn averaged(&mut self, source: &Source, options: &BuildOptions) -> Result<Vec<Answer>> {
        let mut answers: Vec<Answer> = Vec::new();
        self.warning = None;
        let share = 1.0 / self.models.len() as f64;
        for model in &self.models {
            let mut rows = Vec::new();
            let (store, report) = ids(model, source, options, &mut |row| rows.push(row))?;
            let warning = report.hardly_known(model.vocabulary.tokenizer());
            self.warning = self.warning.take().or(warning.map(|text| format!("{}: {text}", source.name())));
            let Some(store) = store else {
                return Ok(rows
                    .into_iter()
                    .map(|row| Answer { row, probabilities: Vec::new(), label: None })
                    .collect());
            };
            let store = Arc::new(store);
            let (mut batches, mut documents) =
                evaluation_batches(store.clone(), None, BATCH, order(&model.network), model.config.direction)?;
            let found = predict(&model.network, &mut self.graph, &model.parameters, &mut batches, &mut documents)?;
            numbers(model, &found.probabilities)?;
            if answers.is_empty() {
                let blank = |row| Answer { row, probabilities: Vec::new(), label: None };
                answers = rows.into_iter().map(blank).collect();
            }
            let kept = answers.iter_mut().filter(|answer| answer.row.skipped.is_none());
            for ((answer, p), &document) in kept.zip(&found.probabilities).zip(&found.documents) {
                answer.label = store.label(document as usize);
                answer.probabilities.resize(p.len(), 0.0);
                answer.probabilities.iter_mut().zip(p).for_each(|(sum, p)| *sum += share * p);
            }
        }
        Ok(answers)
    }
}

/// The documents of a source as the words of a model, in memory; `None` where all are left out.
fn ids(
    model: &Loaded<Classifier>,
    source: &Source,
    options: &BuildOptions,
    on_row: &mut (dyn FnMut(Row) + Send),
) -> Result<(Option<TokenStore>, BuildReport)> {
    let (words, sources) = (&model.vocabulary, std::slice::from_ref(source));
    let tokenizer = Tokenizer::new(words.tokenizer().clone())?;
    fill_store(sources, &tokenizer, words, options, Storage::Memory, on_row, &mut |_| Ok(()))
}

/// Refuses answers that are no numbers, by the name of the tensor they most likely come from: that with the largest value.
fn numbers(model: &Loaded<Classifier>, probabilities: &[Vec<f64>]) -> Result<()> {
    if probabilities.iter().flatten().all(|p| p.is_finite()) {
        return Ok(());
    }
    Err(not_numbers(&model.parameters))
}

/// What is said of a model whose answers are no numbers.
pub(super) fn not_numbers(parameters: &Parameters) -> Error {
    let largest = weights::largest(parameters).map_or_else(String::new, |(name, value)| {
        format!("; the largest value of its tensors is {value:e}, in '{name}'")
    });
    Error::data(format!("the answers of the model are not numbers{largest}"))
        .hint("train the model again with a lower --lr, or restore its file")
}
