//! The errors that a folder of models is surest of, and the words that decided.

use super::ensemble::Outcome;
use super::explain::{Explanation, Question};
use super::panel::Panel;
use crate::error::{Error, Result};
use crate::linear::{Bin, reliability};
use crate::nn::Answers;
use crate::text::Source;

/// A document with a wrong answer.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// Number of the document in the data, from 1.
    pub row: u64,
    pub text: String,
    /// The class it has.
    pub truth: String,
    /// The probabilities of the class that was said, and of the one it has.
    pub probabilities: [f64; 2],
    /// What spoke for the class that was said, against the one it has.
    pub explanation: Explanation,
}

/// The answers for labelled documents, looked at closely.
#[derive(Clone, Debug)]
pub struct Examined {
    pub outcome: Outcome,
    /// The reliability diagram.
    pub reliability: Vec<Bin>,
    /// The surest ones first.
    pub mistakes: Vec<Mistake>,
}

/// Ranges of the reliability diagram.
const BINS: usize = 10;

/// Answers labelled documents, and explains the `most` errors of the highest confidence.
///
/// # Errors
/// A model that does not give one class for one text; those of reading and of the device.
pub fn examine(panel: &mut Panel, source: &Source, most: usize) -> Result<Examined> {
    if panel.kind() != Answers::Class || panel.is_pair() {
        let message = "errors are explained where a text has one class, but the model answers another question";
        return Err(Error::usage(message).hint("'ulmfit evaluate' measures it"));
    }
    let outcome = panel.evaluate(source)?;
    let answered = outcome.answers.iter().enumerate().filter(|(_, answer)| answer.row.skipped.is_none());
    let (mut rows, mut truths, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (at, answer) in answered {
        let Some(truth) = answer.label else { continue };
        let said = super::classes::decide(&answer.probabilities);
        if said != truth as usize {
            wrong.push((at, said, truth as usize));
        }
        rows.push(answer.probabilities.as_slice());
        truths.push(truth);
    }
    let reliability = if rows.is_empty() { Vec::new() } else { reliability(&rows, &truths, BINS)? };
    let confidence = |&(at, said, _): &(usize, usize, usize)| outcome.answers[at].probabilities[said];
    wrong.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)).then(a.0.cmp(&b.0)));
    wrong.truncate(most);
    let names = panel.labels().to_vec();
    let mut mistakes = Vec::new();
    for (at, document) in source.documents()?.enumerate() {
        let document = document?;
        let Some(&(_, said, truth)) = wrong.iter().find(|(wrong, ..)| *wrong == at) else { continue };
        let question =
            Question { label: Some(names[said].clone()), against: Some(names[truth].clone()), ..Question::default() };
        let p = &outcome.answers[at].probabilities;
        mistakes.push(Mistake {
            row: at as u64 + 1,
            truth: names[truth].clone(),
            probabilities: [p[said], p[truth]],
            explanation: panel.explain(&document, &question)?,
            text: document.text,
        });
    }
    mistakes.sort_by(|a, b| b.probabilities[0].total_cmp(&a.probabilities[0]).then(a.row.cmp(&b.row)));
    Ok(Examined { outcome, reliability, mistakes })
}
