//! A training's checkpoint: its content, and how a run resumes from it.

use std::time::Instant;

use super::{Progress, Task, Training};
use crate::autodiff::Parameters;
use crate::error::{Error, Result};
use crate::optim::Optimiser;
use crate::tensor::Tensor;
use crate::train::checkpoint::Snapshot;
use crate::train::observer::{CheckpointReason, Event};
use crate::train::recipe::OnNan;

impl Training<'_> {
    /// Saves everything a resumed run needs; false where no checkpoints are kept.
    pub(super) fn save(&mut self, reason: CheckpointReason) -> Result<bool> {
        if !self.checkpoints.enabled() {
            return Ok(false);
        }
        // numbers that are not finite stay so: the checkpoint before stays, and where a run
        // goes back, it does at the next update
        if self.settings.training.on_nan == OnNan::Rewind {
            if self.norm.first_non_finite_value(self.parameters)?.is_some() {
                return Ok(false);
            }
        } else {
            self.check_parameters(self.progress.update)?;
        }
        self.progress.seconds = self.seconds();
        let lines = self.observer.told()?;
        let path = self.checkpoints.save(
            &self.progress,
            self.task.cursor(),
            lines,
            saved_tensors(self.parameters, &*self.optimiser, self.task, self.best.as_deref()),
        )?;
        self.observer.observe(&Event::Checkpoint { step: self.progress.update, path, reason })?;
        Ok(true)
    }

    /// With `--on-nan rewind`, remembers the beginning of the stage, unless a place is remembered.
    pub(super) fn remember_beginning(&mut self) -> Result<()> {
        if self.settings.training.on_nan != OnNan::Rewind || self.checkpoints.load_rewind()?.is_some() {
            return Ok(());
        }
        let lines = self.observer.told()?;
        let tensors = saved_tensors(self.parameters, &*self.optimiser, self.task, self.best.as_deref());
        self.checkpoints.save_rewind(&self.progress, self.task.cursor(), lines, tensors)
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let progress = snapshot.progress()?;
        let named = |e: Error| Error::file(snapshot.path(), e.to_string()).hint("start again with --overwrite");
        self.check_progress(&progress).map_err(|what| named(Error::data(what)))?;
        self.progress = progress;
        let saved = |name: &str| snapshot.tensor(name);
        for id in self.parameters.ids() {
            let name = format!("parameter/{}", self.parameters.name(id));
            self.parameters.value(id).copy_from(&snapshot.like(&name, self.parameters.value(id))?);
        }
        self.optimiser = Self::optimiser(&self.settings, self.progress.averaging, self.parameters)?;
        self.optimiser.restore(&saved).map_err(named)?;
        self.task.restore(snapshot.cursor(), &saved).map_err(named)?;
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

impl Training<'_> {
    /// Numbers that no run can come to were not written by one; the fault is the end of a sentence.
    fn check_progress(&self, progress: &Progress) -> std::result::Result<(), String> {
        let phases = self.settings.phases.len();
        let epochs: u64 = self.settings.phases.iter().map(|phase| u64::from(phase.epochs)).sum();
        let total = self.total_steps();
        // behind the last phase the counters of the one that ended are still there
        let of_phase = self.totals.get(progress.phase).copied().unwrap_or(total);
        let of_epochs = self.settings.phases.get(progress.phase).map_or(u32::MAX, |phase| phase.epochs);
        let numbers = [
            ("updates", progress.update, total),
            ("skipped updates", progress.skipped, total),
            ("updates of the phase", progress.update_in_phase, of_phase),
            ("updates of the epoch", progress.epoch_updates, total),
            ("phases", progress.phase as u64, phases as u64),
            ("epochs", u64::from(progress.epoch), epochs),
            ("epochs of the phase", u64::from(progress.epoch_in_phase), u64::from(of_epochs)),
            ("epochs that were measured", progress.history.len() as u64, epochs),
            ("rewinds", u64::from(progress.rewinds), 3),
        ];
        if let Some((what, found, most)) = numbers.into_iter().find(|(_, found, most)| found > most) {
            return Err(format!("tells of {found} {what}, and this run has {most} at most"));
        }
        let sound = progress.rate_factor > 0.0 && progress.rate_factor <= 1.0 && progress.seconds >= 0.0;
        if sound { Ok(()) } else { Err("has numbers that no run comes to".into()) }
    }
}

/// Everything that a checkpoint holds besides numbers.
fn saved_tensors<'a>(
    parameters: &'a Parameters,
    optimiser: &'a dyn Optimiser,
    task: &'a dyn Task,
    best: Option<&'a [Tensor]>,
) -> Vec<(String, &'a Tensor)> {
    let named = |part: &str, id| format!("{part}/{}", parameters.name(id));
    let mut tensors: Vec<(String, &Tensor)> =
        parameters.ids().map(|id| (named("parameter", id), parameters.value(id))).collect();
    tensors.extend(optimiser.state());
    tensors.extend(task.tensors());
    if let Some(best) = best {
        tensors.extend(parameters.ids().map(|id| named("best", id)).zip(best));
    }
    tensors
}
