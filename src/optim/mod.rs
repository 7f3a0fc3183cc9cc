//! Optimisers over [`Parameters`], gradient clipping, learning-rate schedules and ladders.
//!
//! Element-wise work runs in parallel over fixed chunks of a parameter, sums over chunks are added
//! in a fixed order: one thread and many give the same bits. Nothing is allocated per step once an
//! optimiser exists.
//!
//! A step: [`GradientNorm::compute`] → [`clip_scale`] → [`Optimiser::step`] with the scale in
//! [`StepRates::gradient_scale`], so that clipping costs no pass of its own over the gradients.

mod adam;
mod asgd;
mod clip;
mod cuda;
pub mod ladder;
pub mod schedule;
mod sgd;
mod state;
#[cfg(test)]
mod tests;
mod trigger;

pub use adam::{Adam, AdamSettings};
pub use asgd::{Asgd, AsgdSettings};
pub use clip::{GradientNorm, clip_scale, first_non_finite, scale_gradients};
pub use ladder::Ladder;
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdSettings};
pub use trigger::{EarlyStopping, NonMonotone};

use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::tensor::Tensor;

/// Elements that one task works on. Part of the definition of [`GradientNorm`] (it fixes the order
/// of its sum), so not a tuning knob.
const CHUNK: usize = 1 << 14;

/// Hyper-parameters that may change at every step.
#[derive(Clone, Copy, Debug)]
pub struct StepRates<'a> {
    /// Learning rate by layer group; one value holds for all groups.
    pub lr: &'a [f64],
    /// β1 of Adam, momentum of SGD; ASGD has none.
    pub momentum: f64,
    /// Weight decay by layer group; one value holds for all groups.
    pub weight_decay: &'a [f64],
    /// Every gradient is multiplied by this first ([`clip_scale`]; 1 changes nothing).
    pub gradient_scale: f64,
}

impl StepRates<'_> {
    fn of(values: &[f64], group: usize, what: &str) -> f64 {
        assert!(values.len() == 1 || group < values.len(), "no {what} for layer group {group}");
        if values.len() == 1 { values[0] } else { values[group] }
    }

    fn lr(&self, group: usize) -> f64 {
        Self::of(self.lr, group, "learning rate")
    }

    fn weight_decay(&self, group: usize) -> f64 {
        Self::of(self.weight_decay, group, "weight decay")
    }
}

/// The interface of all optimisers. Parameters that are frozen, that are buffers or that have no
/// gradient are left alone, as is their state.
pub trait Optimiser: Send + std::fmt::Debug {
    /// Name in configurations and checkpoints.
    fn name(&self) -> &'static str;

    /// One update of every trainable parameter that has a gradient. Panics if `rates` has too few
    /// groups (a bug in the trainer).
    fn step(&mut self, parameters: &mut Parameters, rates: &StepRates) -> Result<()>;

    /// Weight decay leaves this parameter alone from now on, also after [`reset`](Self::reset)
    /// (fastai 2: batch norm and the decoder's bias).
    fn exempt_from_decay(&mut self, id: ParameterId);

    /// Calls of [`step`](Self::step) since construction or [`reset`](Self::reset).
    fn steps(&self) -> u64;

    /// Everything that a resumed run needs, as named tensors (`adam.m/<parameter>`). They share the
    /// optimiser's memory.
    fn state(&self) -> Vec<(String, &Tensor)>;

    /// Takes over a saved state. A missing tensor, or one of another shape or type, is an error and
    /// leaves the state as it was.
    fn restore(&mut self, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()>;

    /// Back to the state after construction (SPEC §4.1: Adam restarts at every stage).
    fn reset(&mut self);

    /// Exchanges the parameters with their averages, for evaluation and saving; a second call
    /// exchanges them back. Tells whether there was anything to exchange: an optimiser without
    /// averages does nothing.
    fn swap_averages(&mut self, parameters: &mut Parameters) -> Result<bool> {
        let _ = parameters;
        Ok(false)
    }
}
