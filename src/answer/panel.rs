//! The models of a folder that answer: a network, several, a linear model, or all of them by the
//! rule beside them (`answer.json`).

use std::path::Path;

use super::ensemble::{Answer, Ensemble, Outcome};
use super::linear;
use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::models::{self, Decision, rule::Rule};
use crate::nn::Answers;
use crate::text::Source;

/// Which of a folder's models answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voices {
    /// All, as the folder's rule says.
    #[default]
    All,
    /// The networks without the linear model, as they were trained.
    Network,
}

/// The models of a folder.
pub struct Panel {
    networks: Option<Ensemble>,
    linear: Option<LinearModel>,
    rule: Option<Rule>,
}

impl Panel {
    /// Loads the models of a folder, or of the folder of a whole run. `second`: a network whose
    /// probabilities are averaged with the first one's; then the rule does not hold.
    ///
    /// # Errors
    /// No classifier there; a model that the rule names is missing, damaged or has other classes.
    pub fn load(
        directory: &Path,
        second: Option<&Path>,
        voices: Voices,
        graph: impl FnOnce() -> Graph,
    ) -> Result<Self> {
        if models::is_linear(directory)? {
            if second.is_some() {
                return Err(Error::usage("--ensemble is for networks, but --model is a linear model"));
            }
            return Ok(Panel { networks: None, linear: Some(LinearModel::load(directory)?), rule: None });
        }
        let mut networks = vec![models::load_classifier(directory)?];
        let directory = models::classifier_folder(directory)?;
        let mut rule = if second.is_some() { None } else { Rule::load(&directory)? };
        if let Some(second) = second {
            networks.push(models::load_classifier(second)?);
        }
        for beside in rule.iter().flat_map(|rule| rule.folders(&directory)) {
            networks.push(models::load_classifier(&beside)?);
        }
        if voices == Voices::Network {
            rule = None;
        }
        let blends = rule.as_ref().is_some_and(|rule| rule.blend.is_some());
        let linear = blends.then(|| LinearModel::load(&directory)).transpose()?;
        let networks = Ensemble::new(networks, graph())?;
        if linear.as_ref().is_some_and(|linear| linear.labels() != networks.labels()) {
            return Err(Error::file(&directory, "the linear model and the network have other classes"));
        }
        Ok(Panel { networks: Some(networks), linear, rule })
    }

    /// Names of the classes, in the order of the probabilities.
    pub fn labels(&self) -> &[String] {
        match (&self.networks, &self.linear) {
            (Some(networks), _) => networks.labels(),
            (None, Some(linear)) => linear.labels(),
            (None, None) => &[],
        }
    }

    /// Doubts about the texts that were answered last.
    pub fn warning(&self) -> Option<&str> {
        self.networks.as_ref().and_then(Ensemble::warning)
    }

    /// The answer for a text.
    pub fn kind(&self) -> Answers {
        self.networks.as_ref().map_or(Answers::Class, Ensemble::kind)
    }

    /// How outputs become answers.
    pub fn decision(&self) -> Decision {
        self.networks.as_ref().map_or(Decision::Likeliest, Ensemble::decision)
    }

    /// Whether a document is a pair of texts.
    pub fn is_pair(&self) -> bool {
        self.networks.as_ref().is_some_and(Ensemble::is_pair)
    }

    /// Whether a network is among them.
    pub fn has_network(&self) -> bool {
        self.networks.is_some()
    }

    pub(super) fn networks_mut(&mut self) -> Option<&mut Ensemble> {
        self.networks.as_mut()
    }

    pub(super) fn linear(&self) -> Option<&LinearModel> {
        self.linear.as_ref()
    }

    /// Class probabilities of every document, in their order. One without a text is left out.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn predict(&mut self, source: &Source) -> Result<Vec<Answer>> {
        match (&mut self.networks, &self.linear) {
            (Some(networks), None) => Ok(ruled(networks.predict(source)?, None, self.rule.as_ref())),
            (None, Some(model)) => linear::predict(model, source),
            (Some(networks), Some(model)) => {
                let second = linear::predict(model, source)?;
                Ok(ruled(networks.predict(source)?, Some(second), self.rule.as_ref()))
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Error, confusion and probabilities on labelled documents.
    ///
    /// # Errors
    /// As [`Ensemble::evaluate`].
    pub fn evaluate(&mut self, source: &Source) -> Result<Outcome> {
        let classes = self.labels().len();
        match (&mut self.networks, &self.linear) {
            (Some(networks), None) if self.rule.is_none() => networks.evaluate(source),
            (Some(networks), model) => {
                let first = networks.evaluate(source)?.answers;
                let second = model.as_ref().map(|model| linear::evaluate(model, source)).transpose()?;
                Ok(Outcome::of_rule(first, second.map(|outcome| outcome.answers), self.rule.as_ref(), classes))
            }
            (None, Some(model)) => linear::evaluate(model, source),
            (None, None) => Ok(Outcome::of(Vec::new(), classes)),
        }
    }
}

impl Outcome {
    /// What the networks' answers and those of a linear model come to by a rule, measured.
    /// `classes`: how many there are.
    pub fn of_rule(networks: Vec<Answer>, linear: Option<Vec<Answer>>, rule: Option<&Rule>, classes: usize) -> Self {
        Outcome::of(ruled(networks, linear, rule), classes)
    }
}

/// Applies the rule to every answer that is there.
fn ruled(mut first: Vec<Answer>, second: Option<Vec<Answer>>, rule: Option<&Rule>) -> Vec<Answer> {
    let Some(rule) = rule else { return first };
    for (k, answer) in first.iter_mut().enumerate().filter(|(_, answer)| answer.row.skipped.is_none()) {
        let linear = second.as_ref().map(|second| second[k].probabilities.as_slice());
        answer.probabilities = rule.apply(&answer.probabilities, linear);
    }
    first
}
