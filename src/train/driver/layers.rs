//! What is told of the layer groups while a training goes on: norms of gradients and weights, and
//! gates that hardly move. Nothing here decides anything, and nothing is taken from the heap.

use super::Training;
use crate::autodiff::Parameters;
use crate::device::Device;
use crate::error::Result;
use crate::train::observer::{Event, Layers};

/// Times that a stage tells of its layers, at most.
const TIMES: u64 = 200;

/// The layers of one update.
pub(super) struct Watch {
    event: Event,
    /// Sum and number of the shares of saturated gates, by group: a layer may run several times.
    gates: Vec<(f64, u32)>,
    /// Whether this update is one of those that are told of.
    now: bool,
}

impl Watch {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let groups = parameters.groups();
        let none = || vec![None; groups];
        let layers = Layers { step: 0, gradients: none(), weights: none(), saturated: none() };
        Watch { event: Event::Layers(layers), gates: vec![(0.0, 0); groups], now: false }
    }
}

impl Training<'_> {
    /// Before the backward pass, which takes the gates. On the CPU alone: on a GPU these passes
    /// would be launches of their own.
    pub(super) fn watch_gates(&mut self) -> Result<()> {
        let every = self.total_steps().div_ceil(TIMES).max(1);
        let due = self.progress.update.is_multiple_of(every) && self.parameters.device() == Device::Cpu;
        self.watch.now = due && self.observer.wants_layers();
        if !self.watch.now {
            return Ok(());
        }
        let (gates, parameters) = (&mut self.watch.gates, &*self.parameters);
        gates.fill((0.0, 0));
        self.graph.saturations(|id, share| {
            if let Some(id) = id {
                let (sum, count) = &mut gates[parameters.group(id)];
                *sum += share;
                *count += 1;
            }
        })
    }

    /// After the update: measures and tells.
    pub(super) fn tell_layers(&mut self) -> Result<()> {
        if !self.watch.now {
            return Ok(());
        }
        let Event::Layers(layers) = &mut self.watch.event else { return Ok(()) };
        layers.step = self.progress.update;
        for group in 0..self.parameters.groups() {
            let frozen = self.parameters.is_frozen(group);
            layers.gradients[group] = self.norm.of_group(group);
            layers.weights[group] = if frozen { None } else { Some(self.norm.of_values(self.parameters, group)?) };
            let (sum, count) = self.watch.gates[group];
            layers.saturated[group] = (count > 0).then(|| sum / f64::from(count));
        }
        self.observer.observe(&self.watch.event)
    }
}
