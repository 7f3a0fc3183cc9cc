//! How the models of a folder answer together: `answer.json` beside a classifier.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::linear::{Bin, Blend, temper};

/// Its name in the folder of a classifier.
pub const RULE_FILE: &str = "answer.json";
/// Version of the file.
const FORMAT: u32 = 1;

/// From the probabilities of the networks (their mean) and of the linear model to the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    format: u32,
    /// Folders of more networks, beside this one (`classifier-backward`).
    pub networks: Vec<String>,
    /// Temperature of the networks' mean, where they answer alone.
    pub temperature: f64,
    /// With the linear model; none: the networks answer alone.
    pub blend: Option<Blend>,
    pub measured: Measured,
}

/// The scores of the answers on held-out documents, which had no part in temperatures and weight
/// (nested folds).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub documents: u64,
    /// Percent; of the networks, of the linear model, of the answers. None without a linear model
    /// or without documents.
    pub network_error: Option<f64>,
    pub linear_error: Option<f64>,
    pub error: Option<f64>,
    /// Cross-entropy of the answers, in nats.
    pub loss: Option<f64>,
    /// Expected calibration error of the answers.
    pub calibration_error: Option<f64>,
    /// The reliability diagram of the answers.
    pub reliability: Vec<Bin>,
}

impl Rule {
    pub fn new(networks: Vec<String>, temperature: f64, blend: Option<Blend>, measured: Measured) -> Self {
        Rule { format: FORMAT, networks, temperature, blend, measured }
    }

    /// Class probabilities of one document. `linear`: those of the linear model, where it answers.
    pub fn apply(&self, network: &[f64], linear: Option<&[f64]>) -> Vec<f64> {
        match (&self.blend, linear) {
            (Some(blend), Some(linear)) => blend.apply(network, linear),
            _ => temper(network, self.temperature),
        }
    }

    /// The folders of the networks beside that of the classifier.
    pub fn folders(&self, classifier: &Path) -> Vec<PathBuf> {
        let parent = classifier.canonicalize().ok().and_then(|folder| folder.parent().map(Path::to_path_buf));
        let beside = |name: &String| parent.as_ref().map_or_else(|| PathBuf::from(name), |parent| parent.join(name));
        self.networks.iter().map(beside).collect()
    }

    /// Writes `answer.json` into a folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::data(format!("the rule of the answers cannot be saved: {e}")))?;
        json.push(b'\n');
        files::put(&directory.join(RULE_FILE), json)
    }

    /// Reads the rule of a folder; `None` where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is no rule.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(RULE_FILE);
        if !files::exists(&path)? {
            return Ok(None);
        }
        let rule: Rule = serde_json::from_slice(&files::read(&path, files::LARGEST_TEXT)?)
            .map_err(|e| Error::line(&path, e.line() as u64, format!("does not say how models answer: {e}")))?;
        if rule.format != FORMAT {
            return Err(Error::file(&path, format!("has format {}, this program reads {FORMAT}", rule.format)));
        }
        let numbers =
            rule.blend.map_or([1.0; 4], |b| [b.temperatures[0], b.temperatures[1], b.temperature, 1.0 + b.weight]);
        if numbers.iter().chain([&rule.temperature]).any(|x| !(x.is_finite() && *x > 0.0)) {
            return Err(Error::file(&path, "has a temperature or a weight that is none"));
        }
        let beside = |name: &String| name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.');
        if let Some(name) = rule.networks.iter().find(|name| beside(name)) {
            return Err(Error::file(&path, format!("names '{name}', which is no folder beside this one")));
        }
        Ok(Some(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Rule::load(directory.path()).unwrap(), None);
        let blend = Blend { temperatures: [1.5, 0.75], weight: 0.25, temperature: 1.25 };
        let rule = Rule::new(vec!["classifier-backward".into()], 2.0, Some(blend), Measured::default());
        rule.save(directory.path()).unwrap();
        assert_eq!(Rule::load(directory.path()).unwrap(), Some(rule.clone()));
        let path = directory.path().join(RULE_FILE);
        let good = std::fs::read_to_string(&path).unwrap();
        for (from, to, said) in [
            ("\"format\": 1", "\"format\": 2", "has format 2"),
            ("\"weight\": 0.25", "\"weight\": -2.0", "a temperature or a weight"),
            ("2.0", "0.0", "a temperature or a weight"),
            ("classifier-backward", "../other", "no folder beside this one"),
            ("\"weight\"", "\"wait\"", "does not say how models answer"),
        ] {
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let message = Rule::load(directory.path()).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn without_a_blend_the_networks_answer_alone() {
        let (p, q) = ([0.8, 0.2], [0.1, 0.9]);
        let alone = Rule::new(Vec::new(), 1.0, None, Measured::default());
        assert!(alone.apply(&p, Some(&q)).iter().zip(&p).all(|(a, b)| (a - b).abs() < 1e-12));
        let blend = Blend { temperatures: [1.0, 1.0], weight: 0.25, temperature: 1.0 };
        let both = Rule::new(Vec::new(), 1.0, Some(blend), Measured::default()).apply(&p, Some(&q));
        assert!((both[0] - 0.275).abs() < 1e-12 && (both[1] - 0.725).abs() < 1e-12, "{both:?}");
    }
}
