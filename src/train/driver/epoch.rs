//! The end of an epoch: the measurement on held-out data, and its consequences.

use std::time::Instant;

use super::Training;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::train::observer::{CheckpointReason, Evaluated, Event, Split};
use crate::train::recipe::OnNan;

/// Checkpoints at ends of epochs that a stage of many epochs has, about.
const CHECKPOINTS: u32 = 20;

impl Training<'_> {
    /// Evaluates, decides what follows from it, and saves.
    pub(super) fn end_epoch(&mut self) -> Result<()> {
        self.graph.reset();
        self.check_parameters(self.progress.update)?;
        if self.progress.epoch_updates == 0 && self.progress.skipped > 0 {
            let epoch = self.progress.epoch + 1;
            let message = format!("every update of epoch {epoch} was left out: training has diverged");
            return Err(Error::NotFinite { message, hint: None }.hint("lower --lr, or use --on-nan rewind"));
        }
        self.progress.train_loss = self.progress.epoch_loss / self.progress.epoch_updates.max(1) as f64;
        let begun = Instant::now();
        self.graph.set_recording(false);
        self.optimiser.swap_averages(self.parameters)?;
        let measured = self.task.evaluate(self.graph, self.parameters)?;
        self.graph.reset();
        if let Some(m) = &measured {
            self.progress.last = measured.clone();
            if self.progress.early.is_best(m.loss) {
                self.progress.best_epoch = Some(self.progress.epoch + 1);
                if self.settings.training.restore_best {
                    self.remember_best()?;
                }
            }
        }
        self.optimiser.swap_averages(self.parameters)?;
        self.graph.set_recording(true);
        self.progress.epoch += 1;
        self.progress.epoch_in_phase += 1;
        self.progress.in_epoch = false;
        if let Some(m) = &measured {
            self.observer.observe(&Event::Evaluated(Evaluated {
                stage: self.settings.stage,
                epoch: u64::from(self.progress.epoch),
                step: self.progress.update,
                split: Split::Valid,
                loss: m.loss,
                scores: m.scores.clone(),
                seconds: begun.elapsed().as_secs_f64(),
            }))?;
            self.trigger(m.loss)?;
        }
        self.progress.history.push((self.progress.epoch, self.progress.train_loss, measured));
        if self.settings.training.early_stopping.is_some() && self.progress.early.should_stop() {
            self.observer.observe(&Event::detail("the validation loss has stopped improving: training ends early"))?;
            self.progress.phase = self.settings.phases.len();
        } else if self
            .settings
            .phases
            .get(self.progress.phase)
            .is_some_and(|p| self.progress.epoch_in_phase >= p.epochs)
        {
            self.progress.phase += 1;
            (self.progress.epoch_in_phase, self.progress.update_in_phase) = (0, 0);
        }
        let rewinds = self.settings.training.on_nan == OnNan::Rewind;
        let saved = (rewinds || self.keeps_epoch()) && self.save(CheckpointReason::Epoch)?;
        if saved && rewinds {
            self.checkpoints.remember_for_rewind()?;
        }
        Ok(())
    }

    /// Whether a checkpoint belongs to the end of this epoch. Of many short epochs, as little data
    /// have, a twentieth does: writing each took as long as training.
    fn keeps_epoch(&self) -> bool {
        let phases = &self.settings.phases;
        let all: u32 = phases.iter().map(|phase| phase.epochs).sum();
        let every = (all / CHECKPOINTS).max(1);
        self.progress.epoch.is_multiple_of(every) || self.progress.phase >= phases.len()
    }

    /// From SGD to averaged SGD, when the validation loss says so.
    fn trigger(&mut self, loss: f64) -> Result<()> {
        let fired = self.progress.non_monotone.as_mut().is_some_and(|trigger| trigger.check(loss));
        if fired && self.settings.training.stop_on_nonmono {
            self.observer.observe(&Event::detail("the validation loss has stopped falling: training ends"))?;
            self.progress.phase = self.settings.phases.len();
        } else if fired {
            self.progress.averaging = true;
            self.optimiser = Self::optimiser(&self.settings, true, self.parameters)?;
            self.observer.observe(&Event::detail(format!("averaging begins after epoch {}", self.progress.epoch)))?;
        }
        Ok(())
    }

    fn remember_best(&mut self) -> Result<()> {
        let best = match &self.best {
            Some(best) => best,
            None => {
                let copy = |id| Tensor::zeros(self.parameters.shape(id), self.parameters.dtype());
                self.best.insert(self.parameters.ids().map(copy).collect::<Result<_>>()?)
            }
        };
        self.parameters.ids().zip(best).for_each(|(id, copy)| copy.copy_from(self.parameters.value(id)));
        Ok(())
    }

    /// Leaves the parameters to keep. (The last checkpoint is the last epoch's; a run resumed from
    /// it comes here again.)
    pub(super) fn finish(&mut self) -> Result<()> {
        self.optimiser.swap_averages(self.parameters)?;
        if let Some(best) = &self.best {
            self.parameters.ids().zip(best).for_each(|(id, copy)| self.parameters.value(id).copy_from(copy));
            if let Some(epoch) = self.progress.best_epoch
                && let Some((_, _, measured)) = self.progress.history.iter().find(|(e, _, _)| *e == epoch)
            {
                self.progress.last = measured.clone();
            }
        }
        self.progress.finished = true;
        self.progress.seconds = self.seconds();
        Ok(())
    }
}
