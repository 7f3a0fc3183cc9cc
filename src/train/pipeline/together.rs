//! The linear model beside the network, and how the two answer together.

use serde_json::{Value, json};

use super::{CLASSIFIER, Run, RunSources};
use crate::answer::ensemble::{Ensemble, Outcome};
use crate::answer::panel::{Panel, Voices};
use crate::answer::{self};
use crate::error::{Error, Result};
use crate::linear::{Blend, LinearModel, calibration_error, reliability};
use crate::models;
use crate::models::rule::{Measured, RULE_FILE, Rule};
use crate::text::{Direction, Source};
use crate::train::observer::Event;
use crate::train::stages::{ClassifierSources, classifier_parts, poll};

/// What the folder of a run answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Together {
    /// The forward network alone, as it was trained.
    #[default]
    Untouched,
    /// The networks, calibrated on the held-out documents.
    Calibrated,
    /// The networks and the linear model, calibrated and blended.
    Blended,
}

/// Ranges of the reliability diagram.
const BINS: usize = 10;

impl Run<'_> {
    /// Trains the linear model on the documents that the classifier learned from, lays it beside
    /// that, and writes the rule by which they answer. Gives `linear` and `answer` of the result.
    pub(super) fn together(&mut self, sources: &RunSources) -> Result<[Value; 2]> {
        let data = ClassifierSources {
            train: sources.train.clone(),
            valid: sources.valid.clone(),
            test: sources.test.clone(),
            labels: sources.labels,
        };
        let parts = classifier_parts(&self.context.recipe, self.context.seed, &data)?;
        let quiet = || poll(crate::text::Progress::default());
        let train = &parts.train;
        let (linear, validation) =
            LinearModel::fit(&train.texts, &train.labels, &train.names, self.context.seed, &quiet)?;
        let directory = self.directory(CLASSIFIER, Direction::Forward);
        linear.save(&directory)?;
        let of_linear = |source: &Option<Source>| -> Result<Option<Outcome>> {
            source.as_ref().map(|source| answer::linear::evaluate(&linear, source)).transpose()
        };
        let (valid, test) = (of_linear(&parts.valid)?, of_linear(&sources.test)?);
        let error =
            |outcome: &Option<Outcome>| outcome.as_ref().and_then(|outcome| outcome.measured.score("error_percent"));
        let told = json!({
            "valid_error": error(&valid),
            "test_error": error(&test),
            "cross_validation_error": validation.map(|validation| validation.chosen.error),
            "c": linear.c(),
        });
        if self.options.together == Together::Untouched {
            models::remove(&directory.join(RULE_FILE))?;
            return Ok([told, Value::Null]);
        }
        let rule = self.rule(parts.valid.as_ref(), valid.as_ref(), linear.labels())?;
        rule.save(&directory)?;
        Ok([told, self.answer(&rule, sources)?])
    }

    /// Temperatures and weight, chosen on the held-out documents.
    fn rule(&mut self, source: Option<&Source>, linear: Option<&Outcome>, labels: &[String]) -> Result<Rule> {
        let blended = self.options.together == Together::Blended;
        let backward = self.directory(CLASSIFIER, Direction::Backward);
        let more = if self.options.bidirectional {
            backward.file_name().map(|name| name.to_string_lossy().into_owned()).into_iter().collect()
        } else {
            Vec::new()
        };
        let rows = |outcome: &Outcome| -> Vec<Vec<f64>> {
            let kept = outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
            kept.map(|answer| answer.probabilities.clone()).collect()
        };
        let documents = linear.map_or(0, |outcome| outcome.measured.count);
        let (Some(source), Some(linear)) = (source, linear.filter(|_| documents >= 2)) else {
            self.context.note("there are too few held-out documents to choose on: nothing is calibrated")?;
            let blend = blended.then_some(Blend { temperatures: [1.0; 2], weight: 0.5 });
            return Ok(Rule::new(more, 1.0, blend, Measured::default()));
        };
        let directions = if self.options.bidirectional {
            &[Direction::Forward, Direction::Backward][..]
        } else {
            &[Direction::Forward]
        };
        let networks = directions.iter().map(|&d| models::load_classifier(&self.directory(CLASSIFIER, d)));
        let graph = self.context.graph(self.context.memory_limit);
        let mut networks = Ensemble::new(networks.collect::<Result<_>>()?, graph)?;
        if networks.labels() != labels {
            return Err(Error::data("the linear model and the network have other classes"));
        }
        let network = networks.evaluate(source)?;
        let (first, second) = (rows(&network), rows(linear));
        let truth: Vec<u32> = network.answers.iter().filter_map(|answer| answer.label).collect();
        let found = Blend::measure(&first, &second, &truth, self.context.seed)?;
        let which = if blended { 2 } else { 0 };
        let answers = if blended { &found.probabilities } else { &found.first };
        let bins = reliability(answers, &truth, BINS)?;
        let [of_network, of_linear, _] = found.errors;
        let measured = Measured {
            documents: truth.len() as u64,
            network_error: Some(of_network),
            linear_error: Some(of_linear),
            error: Some(found.errors[which]),
            loss: Some(found.losses[which]),
            calibration_error: Some(calibration_error(&bins)),
            reliability: bins,
        };
        let n = truth.len();
        let mut said = format!(
            "of {n} held-out documents the network errs on {of_network:.2} %, the linear model on {of_linear:.2} %"
        );
        if of_linear < of_network {
            said += ": the linear model is better here";
        }
        self.context.note(said)?;
        Ok(Rule::new(more, found.blend.temperatures[0], blended.then_some(found.blend), measured))
    }

    /// What the folder answers, on the held-out documents and on the test data.
    fn answer(&mut self, rule: &Rule, sources: &RunSources) -> Result<Value> {
        let mut value = json!({
            "blend": rule.blend,
            "temperature": rule.temperature,
            "valid_size": rule.measured.documents,
            "valid_error": rule.measured.error,
            "valid_loss": rule.measured.loss,
            "valid_calibration_error": rule.measured.calibration_error,
            "test_error": null,
            "test_loss": null,
            "test_calibration_error": null,
        });
        let Some(test) = &sources.test else { return Ok(value) };
        let directory = self.directory(CLASSIFIER, Direction::Forward);
        let graph = || self.context.graph(self.context.memory_limit);
        let outcome = Panel::load(&directory, None, Voices::All, graph)?.evaluate(test)?;
        let kept = || outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
        let rows: Vec<Vec<f64>> = kept().map(|answer| answer.probabilities.clone()).collect();
        let truth: Vec<u32> = kept().filter_map(|answer| answer.label).collect();
        value["test_error"] = json!(outcome.measured.score("error_percent"));
        value["test_loss"] = json!(outcome.measured.loss);
        value["test_calibration_error"] = json!(calibration_error(&reliability(&rows, &truth, BINS)?));
        if let (Some(network), Some(answer)) = (rule.measured.network_error, rule.measured.error) {
            let text =
                format!("answers: error {answer:.2} % on the held-out documents, {network:.2} % of the network alone");
            self.context.observer.observe(&Event::note(text))?;
        }
        Ok(value)
    }
}
