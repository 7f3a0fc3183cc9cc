//! Answers of a linear model alone.

use super::ensemble::{Answer, Known, Outcome};
use crate::error::Result;
use crate::linear::LinearModel;
use crate::text::{Document, Labels, Row, Skipped, Source};

/// Class probabilities of every document, in their order. One without a text is left out.
///
/// # Errors
/// Errors of reading.
pub fn predict(model: &LinearModel, source: &Source) -> Result<Vec<Answer>> {
    let documents: Vec<Document> = source.documents()?.collect::<Result<_>>()?;
    let skipped = |document: &Document| document.is_empty().then_some(Skipped::Empty);
    Ok(answers(model, documents, skipped))
}

/// Error, confusion and probabilities on labelled documents.
///
/// # Errors
/// Errors of reading; no document has a text and a label; a class that the model does not have.
pub fn evaluate(model: &LinearModel, source: &Source) -> Result<Outcome> {
    // refuses what cannot be measured
    crate::text::Labelled::read(source, &Labels::Known(model.labels().to_vec()))?;
    let documents: Vec<Document> = source.documents()?.collect::<Result<_>>()?;
    let skipped = |document: &Document| match &document.label {
        None => Some(Skipped::Unlabelled),
        Some(_) => document.is_empty().then_some(Skipped::Empty),
    };
    Ok(Outcome::of(answers(model, documents, skipped), model.labels().len()))
}

fn answers(
    model: &LinearModel,
    documents: Vec<Document>,
    skipped: impl Fn(&Document) -> Option<Skipped>,
) -> Vec<Answer> {
    let texts: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
    let probabilities = model.predict(&texts);
    let answer = |(document, probabilities): (&Document, Vec<f64>)| {
        let skipped = skipped(document);
        let place = |label: &String| model.labels().iter().position(|name| name == label).map(|k| k as u32);
        Answer {
            label: document.label.as_ref().and_then(place).filter(|_| skipped.is_none()),
            probabilities: if skipped.is_some() { Vec::new() } else { probabilities },
            known: Known::Nothing,
            row: Row { origin: document.origin.clone(), skipped },
        }
    };
    documents.iter().zip(probabilities).map(answer).collect()
}
