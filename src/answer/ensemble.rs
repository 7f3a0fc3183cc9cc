//! Prediction and evaluation with one classifier or an ensemble (docs/SPEC.md §4.6: class
//! probabilities are averaged).

use std::ops::Range;
use std::sync::Arc;

use super::Measured;
use super::classes::{Verdict, evaluation_batches, measure, order, predict};
use super::gold::Gold;
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::{Decision, Loaded};
use crate::nn::{Answers, Classifier, weights};
use crate::text::{
    BuildOptions, BuildReport, Labels, Row, Skipped, Source, Storage, TokenStore, Tokenizer, fill_store, nothing_left,
    shown_labels,
};

/// One classifier, or several whose probabilities are averaged.
pub struct Ensemble {
    pub(super) models: Vec<Loaded<Classifier>>,
    pub(super) graph: Graph,
    warning: Option<String>,
}

/// The answer for one document of a source.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where the document stands in its file.
    pub row: Row,
    /// One number for each class or label, or the number that is estimated; empty where the
    /// document is left out ([`Row::skipped`]).
    pub probabilities: Vec<f64>,
    /// Its class, as an index into the labels, where that was asked for and is known.
    pub label: Option<u32>,
    /// The other true answers, where they were asked for: which labels it has, or its number.
    pub known: Known,
}

/// The true answer of a document whose answer is not a class.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known {
    #[default]
    Nothing,
    /// Indices into the labels, ascending.
    Labels(Vec<u32>),
    Number(f64),
}

/// The result of an evaluation.
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
        let verdict = |answer: &Answer| Verdict::of(&answer.probabilities, answer.label.unwrap_or(u32::MAX));
        let measured = measure(kept().filter_map(verdict), kept().count() as u64, classes);
        Outcome { measured, answers }
    }

    /// Measures answers that are labels or numbers.
    fn of_known(answers: Vec<Answer>, labels: usize, decision: &Decision) -> Self {
        let kept: Vec<&Answer> = answers.iter().filter(|answer| answer.row.skipped.is_none()).collect();
        let rows: Vec<Vec<f64>> = kept.iter().map(|answer| answer.probabilities.clone()).collect();
        let number = |answer: &&Answer| if let Known::Number(x) = answer.known { Some(x) } else { None };
        let set = |answer: &&Answer| if let Known::Labels(set) = &answer.known { set.clone() } else { Vec::new() };
        let gold = match kept.first().and_then(number) {
            Some(_) => Gold::Numbers(kept.iter().map(|answer| number(answer).unwrap_or(f64::NAN)).collect()),
            None => Gold::Labels { sets: kept.iter().map(set).collect(), labels },
        };
        let all: Vec<u32> = (0..kept.len() as u32).collect();
        let measured = gold.measure(&all, &rows, decision, labels);
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
    /// On the device of the graph and in its precision. The models must have the same classes in
    /// the same order.
    pub fn new(models: Vec<Loaded<Classifier>>, mut graph: Graph) -> Result<Self> {
        if models.iter().any(|model| model.network.settings.answers.is_of_words()) {
            return Err(Error::data("the model tags words, it has no answer for a text as a whole")
                .hint("'ulmfit tag' tags texts, 'ulmfit evaluate' measures one model that tags"));
        }
        for model in &models[1..] {
            if model.config.labels != models[0].config.labels {
                return Err(Error::data(format!(
                    "--ensemble: the two models have other classes: {} and {}",
                    shown_labels(&models[0].config.labels),
                    shown_labels(&model.config.labels)
                )));
            }
            let kind = |model: &Loaded<Classifier>| {
                let settings = &model.network.settings;
                (settings.answers, settings.pair)
            };
            if kind(model) != kind(&models[0]) {
                return Err(Error::data("--ensemble: the two models answer different questions")
                    .hint("both must have been trained with the same --task"));
            }
        }
        let on_device = |model: Loaded<Classifier>| -> Result<_> {
            Ok(Loaded { parameters: model.parameters.to_device(graph.device())?, ..model })
        };
        let models = models.into_iter().map(on_device).collect::<Result<_>>()?;
        graph.promise_constant_parameters();
        Ok(Ensemble { models, graph, warning: None })
    }

    /// Doubts about the texts that were answered last.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Names of the classes, in the order of the probabilities.
    pub fn labels(&self) -> &[String] {
        &self.models[0].config.labels
    }

    /// Probabilities, or the number, of every document, in their order. One without a text is left
    /// out.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn predict(&mut self, source: &Source) -> Result<Vec<Answer>> {
        let pair = self.models[0].network.settings.pair;
        Ok(averaged(&self.each(source, &BuildOptions { skip_empty: !pair, ..BuildOptions::default() })?))
    }

    /// The scores and the answers on labelled documents.
    ///
    /// # Errors
    /// Errors of reading; no document has a text and a label; a class or label that the model does
    /// not have; no number where one is expected.
    pub fn evaluate(&mut self, source: &Source) -> Result<Outcome> {
        let each = self.evaluate_each(source)?;
        Ok(self.outcome(&each, 0..each.len()))
    }

    /// The answers of every model by itself on labelled documents, in the order of the models.
    /// [`outcome`](Self::outcome) averages and measures them.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_each(&mut self, source: &Source) -> Result<Vec<Vec<Answer>>> {
        let (answers, pair) = (self.kind(), self.models[0].network.settings.pair);
        let labels = match answers {
            Answers::Class => Labels::Known(self.labels().to_vec()),
            Answers::Labels | Answers::Number | Answers::Tags { .. } => Labels::Collect,
        };
        let options = BuildOptions { labels, skip_empty: !pair, skip_unlabelled: answers != Answers::Labels };
        let each = self.each(source, &options)?;
        let skipped = |k: usize| each.iter().find_map(|answers| answers[k].row.skipped);
        let mut all = 0..each.first().map_or(0, Vec::len);
        if all.clone().all(|k| skipped(k).is_some()) {
            return Err(nothing_left(source.name(), all.any(|k| skipped(k) == Some(Skipped::Unlabelled))));
        }
        Ok(each)
    }

    /// The scores of some of the models together. `each`: what
    /// [`evaluate_each`](Self::evaluate_each) gave.
    pub fn outcome(&self, each: &[Vec<Answer>], models: Range<usize>) -> Outcome {
        let answers = averaged(&each[models.clone()]);
        match self.kind() {
            Answers::Class => Outcome::of(answers, self.labels().len()),
            Answers::Labels | Answers::Number | Answers::Tags { .. } => {
                Outcome::of_known(answers, self.labels().len(), &decision(&self.models[models]))
            }
        }
    }

    /// The answer for a document.
    pub fn kind(&self) -> Answers {
        self.models[0].network.settings.answers
    }

    /// Whether a document is a pair of texts.
    pub fn is_pair(&self) -> bool {
        self.models[0].network.settings.pair
    }

    /// How outputs become answers: of several models the mean of their thresholds, as it is with
    /// their probabilities.
    pub fn decision(&self) -> Decision {
        decision(&self.models)
    }

    /// The answers of every model by itself; no probabilities where a model leaves a document out.
    fn each(&mut self, source: &Source, options: &BuildOptions) -> Result<Vec<Vec<Answer>>> {
        self.warning = None;
        let mut each = Vec::with_capacity(self.models.len());
        for model in &self.models {
            let mut rows = Vec::new();
            let pair = model.network.settings.pair;
            let first = if pair { source.half_of_pairs(0) } else { source.clone() };
            let (store, report) = ids(model, &first, options, &mut |row| rows.push(row))?;
            let warning = report.hardly_known(model.vocabulary.tokenizer());
            self.warning = self.warning.take().or(warning.map(|text| format!("{}: {text}", source.name())));
            let kept: Vec<usize> = (0..rows.len()).filter(|&k| rows[k].skipped.is_none()).collect();
            let mut answers: Vec<Answer> = rows.into_iter().map(blank).collect();
            let Some(store) = store else {
                each.push(answers);
                continue;
            };
            let store = Arc::new(store);
            let second = match pair {
                true => ids(model, &source.half_of_pairs(1), options, &mut |_| ())?.0.map(Arc::new),
                false => None,
            };
            let order = order(&model.network);
            let (mut batches, mut documents) =
                evaluation_batches(store.clone(), second, None, BATCH, order, model.config.direction)?;
            let (network, decision) = (&model.network, &model.config.decision);
            let (graph, parameters) = (&mut self.graph, &model.parameters);
            let found = predict(network, graph, parameters, &mut batches, &mut documents, decision)?;
            numbers(model, &found.probabilities)?;
            let kind = model.network.settings.answers;
            let gold = match (kind, &options.labels) {
                (Answers::Class, _) | (_, Labels::Ignore) => None,
                _ => Some(Gold::of_store(&store, kind, Some(&model.config.labels))?.0),
            };
            for (p, &document) in found.probabilities.into_iter().zip(&found.documents) {
                let answer = &mut answers[kept[document as usize]];
                match &gold {
                    None => answer.label = store.label(document as usize),
                    Some(Gold::Labels { sets, .. }) => {
                        answer.known = Known::Labels(sets[document as usize].clone());
                    }
                    Some(Gold::Numbers(numbers)) => answer.known = Known::Number(numbers[document as usize]),
                    Some(Gold::Classes(_) | Gold::Tags { .. }) => {}
                }
                answer.probabilities = p;
            }
            each.push(answers);
        }
        Ok(each)
    }
}

/// The mean of the answers of several models for the same documents. By its own rules a model may
/// find nothing where another finds something: then no answer is one of all.
fn averaged(each: &[Vec<Answer>]) -> Vec<Answer> {
    let share = 1.0 / each.len() as f64;
    let of = |k: usize| {
        let first = &each[0][k];
        let mut answer = first.clone();
        answer.row.skipped = each.iter().find_map(|answers| answers[k].row.skipped);
        if answer.row.skipped.is_some() {
            return blank(answer.row);
        }
        answer.probabilities.fill(0.0);
        for answers in each {
            let sums = answer.probabilities.iter_mut();
            sums.zip(&answers[k].probabilities).for_each(|(sum, p)| *sum += share * p);
        }
        answer
    };
    (0..each.first().map_or(0, Vec::len)).map(of).collect()
}

/// How outputs of these models become answers.
fn decision(models: &[Loaded<Classifier>]) -> Decision {
    let share = 1.0 / models.len() as f64;
    match &models[0].config.decision {
        Decision::Thresholds(first) => {
            let mut mean = vec![0.0; first.len()];
            for model in models {
                let thresholds = model.config.decision.thresholds(mean.len());
                mean.iter_mut().zip(thresholds).for_each(|(sum, threshold)| *sum += share * threshold);
            }
            Decision::Thresholds(mean)
        }
        other => other.clone(),
    }
}

/// A document without an answer yet.
fn blank(row: Row) -> Answer {
    Answer { row, probabilities: Vec::new(), label: None, known: Known::Nothing }
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

/// Refuses answers that are no numbers, by the name of the tensor they most likely come from: that
/// with the largest value.
fn numbers(model: &Loaded<Classifier>, probabilities: &[Vec<f64>]) -> Result<()> {
    if probabilities.iter().flatten().all(|p| p.is_finite()) {
        return Ok(());
    }
    Err(not_numbers(&model.parameters))
}

/// The error of a model whose answers are not finite.
pub(super) fn not_numbers(parameters: &Parameters) -> Error {
    let largest = weights::largest(parameters).map_or_else(String::new, |(name, value)| {
        format!("; the largest value of its tensors is {value:e}, in '{name}'")
    });
    Error::data(format!("the answers of the model are not numbers{largest}"))
        .hint("train the model again with a lower --lr, or restore its file")
}
