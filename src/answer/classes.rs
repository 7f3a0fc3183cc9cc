//! A classifier's answers: class probabilities of documents, decisions, and how right they are.

use std::sync::Arc;

use super::{Confusion, Macro, Measured, Scores};
use crate::autodiff::{Graph, Parameters};
use crate::error::Result;
use crate::models::Decision;
use crate::nn::{Classifier, DocumentBatch, Noise};
use crate::ops::batch_norm::Mode;
use crate::ops::concat_pool::Masking;
use crate::random::Key;
use crate::text::Direction;
use crate::text::{ClassifierBatches, ClassifierConfig, ClassifierCursor, SampleOrder, TokenStore};

/// Documents of a store in reading direction; of pairs those of two stores.
pub struct Documents {
    store: Arc<TokenStore>,
    /// The second texts, in the same order.
    second: Option<Arc<TokenStore>>,
    direction: Direction,
    buffers: Vec<Vec<u32>>,
}

impl Documents {
    pub fn new(store: Arc<TokenStore>, second: Option<Arc<TokenStore>>, direction: Direction) -> Self {
        Documents { store, second, direction, buffers: Vec::new() }
    }

    pub fn store(&self) -> &TokenStore {
        &self.store
    }

    /// Reads the documents of a batch; of pairs all first texts, then all second.
    ///
    /// # Errors
    /// As [`TokenStore::read`].
    pub fn read(&mut self, documents: &[u32]) -> Result<DocumentBatch<'_>> {
        let texts = documents.len() * if self.second.is_some() { 2 } else { 1 };
        self.buffers.resize_with(texts.max(self.buffers.len()), Vec::new);
        let stores = std::iter::once(&self.store).chain(&self.second);
        let places = stores.flat_map(|store| documents.iter().map(move |&document| (store, document)));
        for (buffer, (store, document)) in self.buffers.iter_mut().zip(places) {
            let range = store.document(document as usize);
            buffer.resize((range.end - range.start) as usize, 0);
            store.read(range.start, buffer)?;
            if self.direction == Direction::Backward {
                buffer.reverse();
            }
        }
        let batch = DocumentBatch::new(self.buffers[..texts].iter().map(Vec::as_slice).collect())?;
        if !self.store.has_words() {
            return Ok(batch);
        }
        let words = |&document: &u32| {
            let last = self.store.document_len(document as usize).saturating_sub(1) as u32;
            let mut words = self.store.document_words(document as usize);
            if self.direction == Direction::Backward {
                words.iter_mut().for_each(|[first, end]| (*first, *end) = (last - *end, last - *first));
            }
            words
        };
        // of pairs nobody asks for words
        if self.second.is_some() { Ok(batch) } else { batch.with_words(documents.iter().map(words).collect()) }
    }
}

/// Answers for documents, in the order of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Indices into the store, ascending.
    pub documents: Vec<u32>,
    /// For each document a row of probabilities, of classes or of labels, or a number; or rows of
    /// probabilities, one after the other, for its words.
    pub probabilities: Vec<Vec<f64>>,
}

/// Batches for evaluation and prediction: sorted by length, so that little is computed on padding.
pub fn evaluation_batches(
    store: Arc<TokenStore>,
    second: Option<Arc<TokenStore>>,
    documents: Option<Vec<u32>>,
    batch_size: usize,
    order: SampleOrder,
    direction: Direction,
) -> Result<(ClassifierBatches, Documents)> {
    let config = ClassifierConfig { batch_size, order, drop_last: false, key: Key([0, 0]) };
    Ok((ClassifierBatches::new(store.clone(), documents, config)?, Documents::new(store, second, direction)))
}

/// The order in which documents are answered for, so that no answer depends on the others of its
/// batch: padded in front, a row would begin with as many pads as the longest one of its batch has
/// tokens more.
pub fn order(model: &Classifier) -> SampleOrder {
    match model.settings.masking {
        Masking::Version2 => SampleOrder::Sorted,
        Masking::Version07 | Masking::Version1 => SampleOrder::SortedAlike,
    }
}

/// Predicts the documents of sorted batches; the answers are in the order of the store.
///
/// # Errors
/// Errors of reading and of the forward pass.
pub fn predict(
    model: &Classifier,
    g: &mut Graph,
    parameters: &Parameters,
    batches: &mut ClassifierBatches,
    documents: &mut Documents,
    decision: &Decision,
) -> Result<Predictions> {
    let mut all: Vec<(u32, Vec<f64>)> = Vec::with_capacity(batches.documents());
    predict_each(model, g, parameters, batches, documents, decision, &mut |document, row| all.push((document, row)))?;
    all.sort_by_key(|(document, _)| *document);
    let (documents, probabilities) = all.into_iter().unzip();
    Ok(Predictions { documents, probabilities })
}

/// Hands over every document with its answer, in the order of the batches.
///
/// # Errors
/// As [`predict`].
pub fn predict_each(
    model: &Classifier,
    g: &mut Graph,
    parameters: &Parameters,
    batches: &mut ClassifierBatches,
    documents: &mut Documents,
    decision: &Decision,
    take: &mut dyn FnMut(u32, Vec<f64>),
) -> Result<()> {
    let recording = g.is_recording();
    g.set_recording(false);
    batches.seek(ClassifierCursor::default())?;
    while let Some(rows) = batches.next_documents() {
        g.reset();
        let rows = rows.to_vec();
        let batch = documents.read(&rows)?;
        let out = model.forward(g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
        let of_words = model.settings.answers.is_of_words();
        let answers = model.settings.answers.of_logits(g, out.logits)?;
        let mut rest = answers.as_slice();
        for &row in &out.rows {
            let answered = if of_words { batch.words()[row as usize].len() } else { 1 };
            let (own, others) = rest.split_at(answered * model.settings.classes);
            take(rows[row as usize], own.iter().map(|&p| decision.scaled(p)).collect());
            rest = others;
        }
    }
    g.reset();
    g.set_recording(recording);
    Ok(())
}

pub use crate::linear::decide;

/// The verdict on an answer that is a class.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The class that is right.
    pub label: u32,
    /// The class that was said.
    pub said: u32,
    /// Probability of the right one.
    pub probability: f64,
}

impl Verdict {
    /// `None` where the label is no class.
    pub fn of(probabilities: &[f64], label: u32) -> Option<Self> {
        let probability = *probabilities.get(label as usize)?;
        Some(Verdict { label, said: decide(probabilities) as u32, probability })
    }
}

/// Error, accuracy, mean cross-entropy, confusion, and scores that count every class alike; of
/// `count` documents.
pub fn measure(verdicts: impl Iterator<Item = Verdict>, count: u64, classes: usize) -> Measured {
    let mut confusion = Confusion::new(classes);
    let (mut wrong, mut nats) = (0u64, 0.0);
    for Verdict { label, said, probability } in verdicts {
        confusion.add(label as usize, said as usize);
        wrong += u64::from(said != label);
        nats -= probability.max(f64::MIN_POSITIVE).ln();
    }
    let error = 100.0 * wrong as f64 / count.max(1) as f64;
    let hits = confusion.hits();
    let all = Macro::of(&hits);
    let scores = Scores::default()
        .with("error_percent", error)
        .with("accuracy", 100.0 - error)
        .with("balanced_accuracy", all.balanced_accuracy)
        .with("macro_precision", all.precision)
        .with("macro_recall", all.recall)
        .with("macro_f1", all.f1);
    Measured { loss: nats / count.max(1) as f64, count, scores, confusion: Some(confusion), hits }
}
