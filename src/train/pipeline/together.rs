//! The linear model beside the network, and how the two answer together.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CLASSIFIER, Run, RunSources};
use crate::answer::ensemble::{Answer, Outcome};
use crate::answer::panel::{Panel, Voices};
use crate::answer::{self};
use crate::error::{Error, Result};
use crate::linear::{Blend, LinearModel, calibration_error, error_percent, reliability};
use crate::models;
use crate::models::rule::{Measured, RULE_FILE, Rule};
use crate::text::{Direction, Labelled, Source};
use crate::train::observer::Event;
use crate::train::stages::{ClassifierSources, Fold, all_labelled, classifier_parts, poll};

/// The models with which the folder of a run answers.
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

/// Held-out documents: the probabilities that network and linear model give them, and their
/// classes.
#[derive(Default)]
struct HeldOut {
    network: Vec<Vec<f64>>,
    linear: Vec<Vec<f64>>,
    truth: Vec<u32>,
}

impl Run<'_> {
    /// Trains the linear model on the documents that the classifier learned from, lays it beside
    /// that, and writes the rule by which they answer. With folds, a document is held out from the
    /// networks and the linear model of one fold, and the linear model that answers learns from
    /// all. `networks`: the answers of all networks on the test data, where they are known. Gives
    /// `linear` and `answer` of the result.
    pub(super) fn together(
        &mut self,
        sources: &RunSources,
        folds: usize,
        networks: Option<Vec<Answer>>,
    ) -> Result<[Value; 2]> {
        let data = ClassifierSources {
            train: sources.train.clone(),
            valid: sources.valid.clone(),
            test: None,
            labels: sources.labels,
            fold: None,
        };
        let seed = self.context.seed;
        let recipe = self.context.recipe.clone();
        let quiet = || poll(crate::text::Progress::default());
        let fit = |train: &Labelled| LinearModel::fit(&train.texts, &train.labels, &train.names, seed, &quiet);
        let mut held = HeldOut::default();
        let (linear, validation) = if folds > 1 {
            for index in 0..folds {
                let data = ClassifierSources { fold: Some(Fold { index, count: folds }), ..data.clone() };
                let parts = classifier_parts(&recipe, seed, &data)?;
                if let Some(valid) = &parts.valid {
                    let (linear, _) = fit(&parts.train)?;
                    self.hold_out(&mut held, &linear, valid, folds, Some(index))?;
                }
            }
            fit(&all_labelled(&recipe, seed, &data)?)?
        } else {
            let parts = classifier_parts(&recipe, seed, &data)?;
            let fitted = fit(&parts.train)?;
            if let Some(valid) = &parts.valid {
                self.hold_out(&mut held, &fitted.0, valid, folds, None)?;
            }
            fitted
        };
        let directory = self.directory(CLASSIFIER, self.context.direction);
        linear.save(&directory)?;
        let valid_error = match held.truth.is_empty() {
            true => None,
            false => Some(error_percent(&held.linear, &held.truth)?),
        };
        let test = self.measured_on(sources).map(|source| answer::linear::evaluate(&linear, source)).transpose()?;
        let told = json!({
            "valid_error": valid_error,
            "test_error": test.as_ref().and_then(|outcome| outcome.measured.score("error_percent")),
            "cross_validation_error": validation.map(|validation| validation.chosen.error),
            "c": linear.c(),
        });
        if self.options.together == Together::Untouched {
            models::remove(&directory.join(RULE_FILE))?;
            return Ok([told, Value::Null]);
        }
        let rule = self.rule(&held, folds)?;
        rule.save(&directory)?;
        let known = networks.zip(test.map(|outcome| outcome.answers));
        Ok([told, self.answer(&rule, sources, known)?])
    }

    /// The directions that this run trains.
    fn directions(&self) -> Vec<Direction> {
        if self.options.bidirectional {
            vec![Direction::Forward, Direction::Backward]
        } else {
            vec![self.context.direction]
        }
    }

    /// Asks the networks (of a fold, if there are several) and a linear model for documents that
    /// they have not seen.
    fn hold_out(
        &mut self,
        held: &mut HeldOut,
        linear: &LinearModel,
        source: &Source,
        folds: usize,
        fold: Option<usize>,
    ) -> Result<()> {
        let of_fold = |direction| self.networks(direction, folds).swap_remove(fold.unwrap_or(0));
        let directories: Vec<PathBuf> = self.directions().into_iter().map(of_fold).collect();
        let mut networks = self.ensemble(&directories)?;
        if networks.labels() != linear.labels() {
            return Err(Error::data("the linear model and the network have other classes"));
        }
        let [network, linear] = [networks.evaluate(source)?, answer::linear::evaluate(linear, source)?];
        let rows = |outcome: &Outcome| -> Vec<Vec<f64>> {
            let kept = outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
            kept.map(|answer| answer.probabilities.clone()).collect()
        };
        held.network.extend(rows(&network));
        held.linear.extend(rows(&linear));
        held.truth.extend(network.answers.iter().filter_map(|answer| answer.label));
        Ok(())
    }

    /// Temperatures and weight, chosen on the held-out documents.
    fn rule(&mut self, held: &HeldOut, folds: usize) -> Result<Rule> {
        let blended = self.options.together == Together::Blended;
        let all = self.directions().into_iter().flat_map(|direction| self.networks(direction, folds));
        // the first is where the rule lies
        let name = |directory: PathBuf| directory.file_name().map(|name| name.to_string_lossy().into_owned());
        let more: Vec<String> = all.skip(1).filter_map(name).collect();
        let n = held.truth.len();
        if n < 2 {
            self.context.note("there are too few held-out documents to choose on: nothing is calibrated")?;
            let blend = blended.then_some(Blend { temperatures: [1.0; 2], weight: 0.5, temperature: 1.0 });
            return Ok(Rule::new(more, 1.0, blend, Measured::default()));
        }
        let found = Blend::measure(&held.network, &held.linear, &held.truth, self.context.seed)?;
        let which = if blended { 2 } else { 0 };
        let answers = if blended { &found.probabilities } else { &found.first };
        let bins = reliability(answers, &held.truth, BINS)?;
        let [of_network, of_linear, _] = found.errors;
        let measured = Measured {
            documents: n as u64,
            network_error: Some(of_network),
            linear_error: Some(of_linear),
            error: Some(found.errors[which]),
            loss: Some(found.losses[which]),
            calibration_error: Some(calibration_error(&bins)),
            reliability: bins,
        };
        let network = if folds > 1 { format!("network ({folds} folds)") } else { "network".into() };
        let mut said = format!(
            "of {n} held-out documents the {network} errs on {of_network:.2} %, the linear model on {of_linear:.2} %"
        );
        if of_linear < of_network {
            said += ": the linear model is better here";
        }
        self.context.detail(said)?;
        Ok(Rule::new(more, found.blend.temperatures[0], blended.then_some(found.blend), measured))
    }

    /// The answers of the folder, on the held-out documents and on the test data. `known`: what
    /// networks and linear model answer there, where they were asked before.
    fn answer(
        &mut self,
        rule: &Rule,
        sources: &RunSources,
        known: Option<(Vec<Answer>, Vec<Answer>)>,
    ) -> Result<Value> {
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
        let Some(test) = self.measured_on(sources) else { return Ok(value) };
        let directory = self.directory(CLASSIFIER, self.context.direction);
        let outcome = match known {
            Some((networks, linear)) => {
                let classes = linear.iter().map(|answer| answer.probabilities.len()).max().unwrap_or(0);
                Outcome::of_rule(networks, rule.blend.is_some().then_some(linear), Some(rule), classes)
            }
            None => {
                let graph = || self.context.graph_within_limit();
                Panel::load(&directory, None, Voices::All, graph)?.evaluate(test)?
            }
        };
        let kept = || outcome.answers.iter().filter(|answer| answer.row.skipped.is_none());
        let rows: Vec<Vec<f64>> = kept().map(|answer| answer.probabilities.clone()).collect();
        let truth: Vec<u32> = kept().filter_map(|answer| answer.label).collect();
        value["test_error"] = json!(outcome.measured.score("error_percent"));
        value["test_loss"] = json!(outcome.measured.loss);
        value["test_calibration_error"] = json!(calibration_error(&reliability(&rows, &truth, BINS)?));
        if let (Some(network), Some(answer)) = (rule.measured.network_error, rule.measured.error) {
            let text =
                format!("answers: error {answer:.2} % on the held-out documents, {network:.2} % of the network alone");
            self.context.observer.observe(&Event::detail(text))?;
        }
        Ok(value)
    }
}
