//! The language model as a task of the training loop: stages 1 and 2.

use super::driver::{Task, Update};
use crate::answer::Measured;
use crate::answer::language::{Mean, evaluate};
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::{Error, Result};
use crate::nn::{DropRates, LanguageModel, LossSettings, Noise, State};
use crate::ops::sampled_softmax::NegativeSampler;
use crate::random::Key;
use crate::tensor::Tensor;
use crate::text::{LmBatches, LmCursor, Windows};
use crate::trace;

/// Settings of language-model training that are not the loop's.
#[derive(Clone, Copy, Debug)]
pub struct LmTaskSettings {
    pub dropout: DropRates,
    pub losses: LossSettings,
    /// Number of negatives of the sampled softmax; `None` for the full softmax.
    pub negatives: Option<usize>,
    /// Learning rate times window length over bptt.
    pub rescale_rate: bool,
    pub averaging: Mean,
}

/// Stages 1 and 2.
pub struct LmTask<'a> {
    model: &'a LanguageModel,
    settings: LmTaskSettings,
    key: Key,
    train: LmBatches,
    valid: Option<LmBatches>,
    state: State,
    /// The state after the present window; empty between two updates.
    next: State,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    sampler: Option<(NegativeSampler, Vec<u32>)>,
}

impl<'a> LmTask<'a> {
    /// `unigram`: probability of every word, for the sampled softmax. `parameters`: of the model;
    /// the state is where they are.
    pub(super) fn new(
        model: &'a LanguageModel,
        settings: LmTaskSettings,
        key: Key,
        train: LmBatches,
        valid: Option<LmBatches>,
        unigram: Option<Vec<f64>>,
        parameters: &Parameters,
    ) -> Result<Self> {
        let b = train.config().batch_size;
        let sampler = match (settings.negatives, unigram) {
            (Some(n), Some(unigram)) => Some((NegativeSampler::new(unigram)?, vec![0; n])),
            (Some(_), None) => return Err(Error::data("a sampled softmax needs the counts of the vocabulary's words")),
            _ => None,
        };
        let state = model.encoder.zeros(parameters.device(), b, parameters.dtype())?;
        let next = State::empty(model.encoder.slots());
        let (inputs, targets) = (Vec::new(), Vec::new());
        Ok(LmTask { model, settings, key, train, valid, state, next, inputs, targets, sampler })
    }

    /// Total and cross-entropy; leaves `next`.
    fn losses(&mut self, g: &mut Graph, parameters: &Parameters, steps: usize, update: u32) -> Result<(Var, Var)> {
        self.next.copy_handles(&self.state);
        let b = self.train.config().batch_size;
        let (tokens, targets) = (g.indices([steps, b])?, g.indices([steps, b])?);
        tokens.write::<u32>().copy_from_slice(&self.inputs);
        targets.write::<u32>().copy_from_slice(&self.targets);
        let noise = Noise::of(self.key, update, self.settings.dropout);
        let negatives = match &mut self.sampler {
            None => None,
            Some((sampler, chosen)) => {
                sampler.sample(self.key, update, chosen)?;
                let negatives = g.indices([chosen.len()])?;
                negatives.write::<u32>().copy_from_slice(chosen);
                Some(negatives)
            }
        };
        let (losses, negatives) = (&self.settings.losses, negatives.as_ref());
        let out = self.model.window(g, parameters, &tokens, &targets, negatives, &mut self.next, &noise, losses)?;
        Ok((out.total, out.cross_entropy))
    }
}

impl Task for LmTask<'_> {
    fn updates_in_epoch(&mut self, epoch: u32) -> Result<u64> {
        Ok(u64::from(self.train.windows_in_epoch(epoch)))
    }

    fn begin_epoch(&mut self, epoch: u32) -> Result<()> {
        self.train.seek(LmCursor { epoch, ..LmCursor::default() })?;
        self.state.clear();
        Ok(())
    }

    fn forward(&mut self, g: &mut Graph, parameters: &Parameters, update: u32) -> Result<Option<Update>> {
        let span = trace::phase(trace::DATA);
        let Some(steps) = self.train.next_window(&mut self.inputs, &mut self.targets)? else { return Ok(None) };
        drop(span);
        let (total, loss) = self.losses(g, parameters, steps, update)?;
        self.state.advance(&mut self.next, g);
        let config = self.train.config();
        let rate_scale = if self.settings.rescale_rate { steps as f64 / config.bptt as f64 } else { 1.0 };
        let tokens = (steps * config.batch_size) as u64;
        Ok(Some(Update { total, loss, tokens, documents: 0, rate_scale }))
    }

    fn largest(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Var>> {
        if self.train.config().windows == Windows::Fixed {
            return Ok(None);
        }
        let steps = self.train.max_window();
        let cells = steps * self.train.config().batch_size;
        (self.inputs, self.targets) = (vec![0; cells], vec![0; cells]);
        let (total, _) = self.losses(g, parameters, steps, u32::MAX)?;
        self.next.forget();
        Ok(Some(total))
    }

    fn discard(&mut self) {
        self.state.clear();
    }

    fn evaluate(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Measured>> {
        let Some(valid) = &mut self.valid else { return Ok(None) };
        evaluate(self.model, g, parameters, valid, self.settings.averaging).map(Some)
    }

    fn cursor(&self) -> serde_json::Value {
        serde_json::to_value(self.train.cursor()).expect("a cursor is plain data")
    }

    fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.state.named()
    }

    fn restore(&mut self, cursor: &serde_json::Value, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        let cursor: LmCursor = serde_json::from_value(cursor.clone())
            .map_err(|e| Error::data(format!("the checkpoint's place in the text cannot be read: {e}")))?;
        self.train.seek(cursor)?;
        self.state.restore(saved)
    }
}
