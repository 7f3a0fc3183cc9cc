//! Warnings about a training that goes on: a loss that jumps, layers that do not learn, gates
//! that hardly move.

use super::Training;
use crate::autodiff::ParameterId;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::train::observer::Event;

/// Looked for at the first update of an epoch and every so many from there.
const EVERY: u64 = 1000;
/// A loss so many times the usual one, and so many nats more, has jumped.
const JUMP: f64 = 3.0;
/// Updates until the usual loss is known, and between two reports of a jump.
const USUAL: u64 = 50;
/// Share of the gates of a layer.
const SATURATED: f64 = 0.9;

/// What was told already: once is enough.
#[derive(Debug, Default)]
pub(super) struct Told {
    texts: Vec<String>,
    jump: Option<u64>,
}

impl Training<'_> {
    /// Whether this update is one at which the health of the model is looked at.
    pub(super) fn is_looked_at(&self) -> bool {
        self.progress.epoch_updates.is_multiple_of(EVERY) && self.parameters.device() == Device::Cpu
    }

    /// Where a parameter is: its layer and its name.
    pub(super) fn place(&self, id: ParameterId) -> String {
        let layer = &self.parameters.group_names()[self.parameters.group(id)];
        format!("layer '{layer}', tensor '{}'", self.parameters.name(id))
    }

    fn tell_once(&mut self, key: String, text: &str) -> Result<()> {
        if self.told.texts.contains(&key) {
            return Ok(());
        }
        self.told.texts.push(key);
        let update = self.progress.update + 1;
        self.observer.observe(&Event::warning(format!("update {update}: {text}")))
    }

    /// After the forward pass: gates that are nearer than 0.01 to 0 or 1, nearly all of a layer.
    pub(super) fn look_at_gates(&mut self) -> Result<()> {
        let mut found = Vec::new();
        self.graph.saturations(|id, share| {
            if share > SATURATED {
                found.extend(id.map(|id| (id, share)));
            }
        })?;
        for (id, share) in found {
            let layer = self.parameters.group_names()[self.parameters.group(id)].clone();
            let text = format!("layer '{layer}': {:.0} % of its gates are saturated: it hardly learns", 100.0 * share);
            self.tell_once(format!("gates of {layer}"), &text)?;
        }
        Ok(())
    }

    /// After the backward pass: parameters whose gradient is nothing but zeros.
    pub(super) fn look_at_gradients(&mut self) -> Result<()> {
        let ids: Vec<ParameterId> = self.parameters.ids().collect();
        for id in ids {
            let learns = self.parameters.is_trainable(id) && self.parameters.has_gradient(id);
            if learns && self.parameters.gradient(id).to_f64().iter().all(|&x| x == 0.0) {
                let place = self.place(id);
                self.tell_once(place.clone(), &format!("{place}: the gradient is zero: it does not learn"))?;
            }
        }
        Ok(())
    }

    /// A loss that is far from that of the updates before.
    pub(super) fn look_at_loss(&mut self, loss: f64) -> Result<()> {
        let p = &self.progress;
        let (usual, update) = (p.smoothed / p.smoothed_weight, p.update + 1);
        let lately = self.told.jump.is_some_and(|at| update < at + USUAL);
        if p.update - p.skipped < USUAL || lately || loss <= JUMP * usual.abs() + JUMP {
            return Ok(());
        }
        self.told.jump = Some(update);
        let text = format!("update {update}: the loss jumped to {loss:.3}, from about {usual:.3}");
        self.observer.observe(&Event::warning(text))
    }

    /// What is not finite in an update whose loss is `loss`: the step, the layer and the tensor.
    pub(super) fn diagnosis(&mut self, loss: f64) -> Result<String> {
        if loss.is_finite() {
            return Ok(match crate::optim::first_non_finite(self.parameters)? {
                Some((id, _)) => {
                    format!("the gradient of '{}' is not finite ({})", self.parameters.name(id), self.place(id))
                }
                None => "the norm of the gradients is not finite".to_string(),
            });
        }
        let told = format!("the loss is {loss}");
        if let Some(id) = self.norm.first_non_finite_value(self.parameters)? {
            return Ok(format!("{told}, for a parameter is not finite ({})", self.place(id)));
        }
        Ok(match self.graph.first_not_finite()? {
            Some((operation, Some(id))) => {
                format!("{told}, first in what {operation} gives ({})", self.place(id))
            }
            Some((operation, None)) => format!("{told}, first in what {operation} gives"),
            None => told,
        })
    }

    /// The end of a training that has diverged.
    pub(super) fn diverged(&self, what: String) -> Error {
        let kept = match self.checkpoints.place() {
            Some(path) => format!("lower --lr, or use --on-nan rewind; {} is the last good state", path.display()),
            None => "lower --lr, or use --on-nan rewind".to_string(),
        };
        Error::NotFinite { message: format!("{what}: training has diverged"), hint: None }.hint(kept)
    }
}
