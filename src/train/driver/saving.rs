//! A training's checkpoint: what goes into it, and how a run goes on from it.

use std::time::Instant;

use super::Training;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::train::checkpoint::Snapshot;
use crate::train::observer::{CheckpointReason, Event};

impl Training<'_> {
    /// Saves everything a resumed run needs; false where no checkpoints are kept.
    pub(super) fn save(&mut self, reason: CheckpointReason) -> Result<bool> {
        if !self.checkpoints.enabled() {
            return Ok(false);
        }
        self.progress.seconds = self.seconds();
        let mut tensors: Vec<(String, &Tensor)> = self
            .parameters
            .ids()
            .map(|id| (format!("parameter/{}", self.parameters.name(id)), self.parameters.value(id)))
            .collect();
        tensors.extend(self.optimiser.state());
        tensors.extend(self.task.tensors());
        if let Some(best) = &self.best {
            let named = self.parameters.ids().map(|id| format!("best/{}", self.parameters.name(id)));
            tensors.extend(named.zip(best));
        }
        let path = self.checkpoints.save(&self.progress, self.task.cursor(), tensors)?;
        self.observer.observe(&Event::Checkpoint { step: self.progress.update, path, reason })?;
        Ok(true)
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.progress = snapshot.progress()?;
        let saved = |name: &str| snapshot.tensor(name);
        for id in self.parameters.ids() {
            let name = format!("parameter/{}", self.parameters.name(id));
            self.parameters.value(id).copy_from(&snapshot.like(&name, self.parameters.value(id))?);
        }
        self.optimiser = Self::optimiser(&self.settings, self.progress.averaging, self.parameters)?;
        self.optimiser.restore(&saved)?;
        self.task.restore(snapshot.cursor(), &saved)?;
        self.best = None;
        if self.settings.training.restore_best && self.progress.best_epoch.is_some() {
            let load = |id| snapshot.like(&format!("best/{}", self.parameters.name(id)), self.parameters.value(id));
            self.best = Some(self.parameters.ids().map(load).collect::<Result<_>>()?);
        }
        if self.progress.phase < self.settings.phases.len() {
            self.enter_phase(false)?;
        }
        self.before = self.progress.seconds;
        self.started = Instant::now();
        Ok(())
    }
}
