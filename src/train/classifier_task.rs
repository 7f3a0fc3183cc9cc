//! The classifier as a task of the training loop: stage 3.

use std::sync::Arc;

use super::driver::{Task, Update};
use crate::answer::Measured;
use crate::answer::classes::{Documents, measure, predict};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::nn::{BatchLoss, Classifier, DropRates, LossSettings, Noise};
use crate::ops::batch_norm::Mode;
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;
use crate::text::Direction;
use crate::text::{ClassifierBatches, ClassifierCursor, TokenStore, VariableWindows, Windows};
use crate::trace;

/// Settings of classifier training that are not the loop's.
#[derive(Clone, Debug)]
pub struct ClassifierTaskSettings {
    /// Dropouts of the encoder (`output` is not used).
    pub dropout: DropRates,
    /// Dropout of every block of the head.
    pub head: Vec<f64>,
    pub losses: LossSettings,
    /// Lengths of the chunks in training: fixed, or drawn anew for every update.
    pub windows: Windows,
    pub variable: VariableWindows,
    /// Learning rate times chunk length over bptt.
    pub rescale_rate: bool,
    /// Batch norm of a frozen head uses its running statistics (0.7; docs/SPEC.md §1.2).
    pub freeze_norm: bool,
}

/// Stage 3.
pub struct ClassifierTask<'a> {
    model: &'a Classifier,
    settings: ClassifierTaskSettings,
    key: Key,
    train: ClassifierBatches,
    documents: Documents,
    valid: Option<(ClassifierBatches, Documents)>,
    store: Arc<TokenStore>,
}

impl<'a> ClassifierTask<'a> {
    pub(super) fn new(
        model: &'a Classifier,
        settings: ClassifierTaskSettings,
        key: Key,
        train: ClassifierBatches,
        store: Arc<TokenStore>,
        direction: Direction,
        valid: Option<(ClassifierBatches, Documents)>,
    ) -> Self {
        let documents = Documents::new(store.clone(), direction);
        ClassifierTask { model, settings, key, train, documents, valid, store }
    }

    /// Steps of a chunk in an update. As in the language model, a first window that is longer than all others opens the training where
    /// the setting says so.
    fn chunk(&self, update: u32) -> usize {
        let ClassifierTaskSettings { windows, variable, .. } = &self.settings;
        let bptt = self.model.settings.bptt;
        match windows {
            Windows::Fixed => bptt,
            Windows::VariableFirstLong if update == 0 => bptt + variable.excess,
            Windows::Variable | Windows::VariableFirstLong => {
                variable.draw(bptt, &mut Stream::new(self.key, Site::WINDOW, 0, update))
            }
        }
    }
}

impl Task for ClassifierTask<'_> {
    fn updates_in_epoch(&mut self, _epoch: u32) -> Result<u64> {
        Ok(self.train.len() as u64)
    }

    fn begin_epoch(&mut self, epoch: u32) -> Result<()> {
        self.train.seek(ClassifierCursor { epoch, ..ClassifierCursor::default() })
    }

    fn forward(&mut self, g: &mut Graph, parameters: &Parameters, update: u32) -> Result<Option<Update>> {
        let chunk = self.chunk(update);
        let span = trace::phase(trace::DATA);
        let Some(rows) = self.train.next_documents() else { return Ok(None) };
        let labels: Vec<u32> = rows.iter().map(|&d| self.store.label(d as usize).unwrap_or(u32::MAX)).collect();
        let count = rows.len() as u64;
        let batch = self.documents.read(rows)?.in_chunks_of(chunk);
        let tokens = batch.tokens();
        drop(span);
        let head_frozen = parameters.is_frozen(parameters.groups() - 1);
        let norm = if head_frozen && self.settings.freeze_norm { Mode::Frozen } else { Mode::Train };
        let noise = Noise::of(self.key, update, self.settings.dropout).with_head(&self.settings.head);
        let BatchLoss { total, cross_entropy, .. } =
            self.model.loss(g, parameters, &batch, &labels, norm, &noise, &self.settings.losses)?;
        let bptt = self.model.settings.bptt as f64;
        let rate_scale = if self.settings.rescale_rate { chunk as f64 / bptt } else { 1.0 };
        Ok(Some(Update { total, cross_entropy, tokens, documents: count, rate_scale }))
    }

    fn evaluate(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Measured>> {
        let Some((batches, documents)) = &mut self.valid else { return Ok(None) };
        let predictions = predict(self.model, g, parameters, batches, documents)?;
        let labels: Vec<u32> =
            predictions.documents.iter().map(|&d| documents.store().label(d as usize).unwrap_or(u32::MAX)).collect();
        Ok(Some(measure(&predictions.probabilities, &labels, self.model.settings.classes)))
    }

    fn cursor(&self) -> serde_json::Value {
        serde_json::to_value(self.train.cursor()).expect("a cursor is plain data")
    }

    fn tensors(&self) -> Vec<(String, &Tensor)> {
        Vec::new()
    }

    fn restore(&mut self, cursor: &serde_json::Value, _: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        let cursor: ClassifierCursor = serde_json::from_value(cursor.clone())
            .map_err(|e| Error::data(format!("the checkpoint's place in the data cannot be read: {e}")))?;
        self.train.seek(cursor)
    }
}
