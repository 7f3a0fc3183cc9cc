//! A classifier's answers: class probabilities of documents, decisions, and how right they are.

use std::sync::Arc;

use super::Measured;
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::nn::{Classifier, DocumentBatch, Noise};
use crate::ops::batch_norm::Mode;
use crate::ops::concat_pool::Masking;
use crate::ops::softmax_cross_entropy::softmax;
use crate::random::Key;
use crate::text::Direction;
use crate::text::{ClassifierBatches, ClassifierConfig, ClassifierCursor, SampleOrder, TokenStore};

/// Documents of a store in reading direction.
pub struct Documents {
    store: Arc<TokenStore>,
    direction: Direction,
    buffers: Vec<Vec<u32>>,
}

impl Documents {
    pub fn new(store: Arc<TokenStore>, direction: Direction) -> Self {
        Documents { store, direction, buffers: Vec::new() }
    }

    pub fn store(&self) -> &TokenStore {
        &self.store
    }

    /// Reads the documents of a batch.
    ///
    /// # Errors
    /// Those of [`TokenStore::read`].
    pub fn read(&mut self, documents: &[u32]) -> Result<DocumentBatch<'_>> {
        self.buffers.resize_with(documents.len().max(self.buffers.len()), Vec::new);
        for (buffer, &document) in self.buffers.iter_mut().zip(documents) {
            let range = self.store.document(document as usize);
            buffer.resize((range.end - range.start) as usize, 0);
            self.store.read(range.start, buffer)?;
            if self.direction == Direction::Backward {
                buffer.reverse();
            }
        }
        DocumentBatch::new(self.buffers[..documents.len()].iter().map(Vec::as_slice).collect())
    }
}

/// Class probabilities of documents, in the order of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Indices into the store, ascending.
    pub documents: Vec<u32>,
    /// One row of class probabilities for each document.
    pub probabilities: Vec<Vec<f64>>,
}

/// Batches for evaluation and prediction: sorted by length, so that little is computed on padding.
pub fn evaluation_batches(
    store: Arc<TokenStore>,
    documents: Option<Vec<u32>>,
    batch_size: usize,
    order: SampleOrder,
    direction: Direction,
) -> Result<(ClassifierBatches, Documents)> {
    let config = ClassifierConfig { batch_size, order, drop_last: false, key: Key([0, 0]) };
    Ok((ClassifierBatches::new(store.clone(), documents, config)?, Documents::new(store, direction)))
}

/// The order in which documents are answered for, so that no answer depends on the others of its batch: padded in front, a row would begin
/// with as many pads as the longest one of its batch has tokens more.
pub fn order(model: &Classifier) -> SampleOrder {
    match model.settings.masking {
        Masking::Version2 => SampleOrder::Sorted,
        Masking::Version07 | Masking::Version1 => SampleOrder::SortedAlike,
    }
}

/// Predicts the documents of sorted batches; the answer is in the order of the store.
pub fn predict(
    model: &Classifier,
    g: &mut Graph,
    parameters: &Parameters,
    batches: &mut ClassifierBatches,
    documents: &mut Documents,
) -> Result<Predictions> {
    let recording = g.is_recording();
    g.set_recording(false);
    batches.seek(ClassifierCursor::default())?;
    let mut all: Vec<(u32, Vec<f64>)> = Vec::with_capacity(batches.documents());
    while let Some(rows) = batches.next_documents() {
        g.reset();
        let rows = rows.to_vec();
        let batch = documents.read(&rows)?;
        let out = model.forward(g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
        let probabilities = softmax(g, out.logits)?.to_f64();
        for (row, p) in out.rows.iter().zip(probabilities.chunks_exact(model.settings.classes)) {
            all.push((rows[*row as usize], p.to_vec()));
        }
    }
    g.reset();
    g.set_recording(recording);
    all.sort_by_key(|(document, _)| *document);
    let (documents, probabilities) = all.into_iter().unzip();
    Ok(Predictions { documents, probabilities })
}

pub use crate::linear::decide;

/// Error, accuracy, mean cross-entropy and confusion of predictions.
pub fn measure(probabilities: &[Vec<f64>], labels: &[u32], classes: usize) -> Measured {
    let mut confusion = vec![vec![0u64; classes]; classes];
    let (mut wrong, mut nats) = (0u64, 0.0);
    for (p, &label) in probabilities.iter().zip(labels) {
        let Some(row) = confusion.get_mut(label as usize) else { continue };
        let decided = decide(p);
        row[decided] += 1;
        wrong += u64::from(decided != label as usize);
        nats -= p[label as usize].max(f64::MIN_POSITIVE).ln();
    }
    let count = labels.len() as u64;
    let error = 100.0 * wrong as f64 / count.max(1) as f64;
    Measured {
        loss: nats / count.max(1) as f64,
        perplexity: None,
        bits_per_byte: None,
        accuracy: Some(100.0 - error),
        error_percent: Some(error),
        count,
        confusion: Some(confusion),
    }
}
