//! The classifier as a task of the training loop: stage 3.

use std::sync::Arc;

use super::driver::{Task, Update};
use crate::answer::Measured;
use crate::answer::classes::{Documents, Predictions, Verdict, measure, predict, predict_each};
use crate::answer::gold::{Gold, tuned_thresholds};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::Decision;
use crate::nn::{BatchLoss, Classifier, ClassifierLosses, DropRates, Noise};
use crate::ops::batch_norm::Mode;
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;
use crate::text::{ClassifierBatches, ClassifierCursor, VariableWindows, Windows};
use crate::trace;

/// Settings of classifier training that are not the loop's.
#[derive(Clone, Debug)]
pub struct ClassifierTaskSettings {
    /// Dropouts of the encoder (`output` is not used).
    pub dropout: DropRates,
    /// Dropout of every block of the head.
    pub head: Vec<f64>,
    pub losses: ClassifierLosses,
    /// How outputs become answers.
    pub decision: Decision,
    /// Lengths of the chunks in training: fixed, or drawn anew for every update.
    pub windows: Windows,
    pub variable: VariableWindows,
    /// Learning rate times chunk length over bptt.
    pub rescale_rate: bool,
    /// Batch norm of a frozen head uses its running statistics (0.7; docs/SPEC.md §1.2).
    pub freeze_norm: bool,
}

/// Documents to measure a model on.
pub(super) struct Measurable {
    pub batches: ClassifierBatches,
    pub documents: Documents,
    pub gold: Arc<Gold>,
}

impl Measurable {
    /// The model's answers for them.
    pub(super) fn predict(
        &mut self,
        model: &Classifier,
        g: &mut Graph,
        parameters: &Parameters,
        decision: &Decision,
    ) -> Result<Predictions> {
        predict(model, g, parameters, &mut self.batches, &mut self.documents, decision)
    }

    pub(super) fn measure(
        &mut self,
        model: &Classifier,
        g: &mut Graph,
        parameters: &Parameters,
        decision: &Decision,
    ) -> Result<Measured> {
        if let Gold::Classes(labels) = &*self.gold {
            // with many classes the probabilities of all documents are more than the memory has
            let (batches, documents) = (&mut self.batches, &mut self.documents);
            let mut all: Vec<(u32, Option<Verdict>)> = Vec::with_capacity(batches.documents());
            let mut take =
                |document: u32, p: Vec<f64>| all.push((document, Verdict::of(&p, labels[document as usize])));
            predict_each(model, g, parameters, batches, documents, decision, &mut take)?;
            all.sort_by_key(|(document, _)| *document);
            let (count, classes) = (all.len() as u64, model.settings.classes);
            return Ok(measure(all.into_iter().filter_map(|(_, verdict)| verdict), count, classes));
        }
        let Predictions { documents, probabilities } = self.predict(model, g, parameters, decision)?;
        Ok(self.gold.measure(&documents, &probabilities, decision, model.settings.classes))
    }
}

/// Stage 3.
pub struct ClassifierTask<'a> {
    model: &'a Classifier,
    settings: ClassifierTaskSettings,
    key: Key,
    train: ClassifierBatches,
    documents: Documents,
    gold: Arc<Gold>,
    valid: Option<Measurable>,
}

impl<'a> ClassifierTask<'a> {
    pub(super) fn new(
        model: &'a Classifier,
        settings: ClassifierTaskSettings,
        key: Key,
        train: ClassifierBatches,
        documents: Documents,
        gold: Arc<Gold>,
        valid: Option<Measurable>,
    ) -> Self {
        ClassifierTask { model, settings, key, train, documents, gold, valid }
    }

    /// For every label the threshold with the highest F1 on the validation data; `None` without
    /// such data.
    ///
    /// # Errors
    /// Errors of prediction.
    pub(super) fn tune_thresholds(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Vec<f64>>> {
        let Some(valid) = &mut self.valid else { return Ok(None) };
        let found = valid.predict(self.model, g, parameters, &self.settings.decision)?;
        Ok(Some(tuned_thresholds(&found.documents, &found.probabilities, &valid.gold)))
    }

    /// Measures on the validation data with another decision than that of the training.
    pub(super) fn measure_with(
        &mut self,
        g: &mut Graph,
        parameters: &Parameters,
        decision: &Decision,
    ) -> Result<Option<Measured>> {
        let valid = self.valid.as_mut();
        valid.map(|valid| valid.measure(self.model, g, parameters, decision)).transpose()
    }

    /// Steps of a chunk in an update. As in the language model, a first window that is longer than
    /// all others opens the training where the setting says so.
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
        let gold = self.gold.batch(rows, &self.settings.decision);
        let count = rows.len() as u64;
        let batch = self.documents.read(rows)?.in_chunks_of(chunk);
        let tokens = batch.tokens();
        drop(span);
        let head_frozen = parameters.is_frozen(parameters.groups() - 1);
        let norm = if head_frozen && self.settings.freeze_norm { Mode::Frozen } else { Mode::Train };
        let noise = Noise::of(self.key, update, self.settings.dropout).with_head(&self.settings.head);
        let truth = gold.truth();
        let BatchLoss { total, loss, .. } =
            self.model.loss(g, parameters, &batch, truth, norm, &noise, &self.settings.losses)?;
        let bptt = self.model.settings.bptt as f64;
        let rate_scale = if self.settings.rescale_rate { chunk as f64 / bptt } else { 1.0 };
        Ok(Some(Update { total, loss, tokens, documents: count, rate_scale }))
    }

    fn evaluate(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Measured>> {
        let Some(valid) = &mut self.valid else { return Ok(None) };
        valid.measure(self.model, g, parameters, &self.settings.decision).map(Some)
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
