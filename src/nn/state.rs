//! The state that an encoder carries from one window to the next.

use std::sync::Arc;

use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Tensor};

/// One tensor of a state, `[rows, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name in checkpoints, after `state/`.
    pub name: String,
    pub width: usize,
}

/// Named tensors of all rows of a batch between two windows, cut loose from any tape.
#[derive(Clone, Debug)]
pub struct State {
    slots: Arc<[Slot]>,
    /// The tensor of every slot; none after [`forget`](Self::forget).
    tensors: Vec<Tensor>,
}

impl State {
    /// All zero, for a batch of `rows`; the slots are an encoder's.
    ///
    /// # Errors
    /// No memory left.
    pub fn zeros(device: Device, slots: &Arc<[Slot]>, rows: usize, dtype: DType) -> Result<Self> {
        let zeros = |slot: &Slot| Tensor::zeros_on(device, [rows, slot.width], dtype);
        Ok(State { slots: slots.clone(), tensors: slots.iter().map(zeros).collect::<Result<_>>()? })
    }

    /// All zero, for one step: on a GPU in memory of the graph's pool, because memory of its own
    /// would be taken anew at every step.
    ///
    /// # Errors
    /// No memory left.
    pub(super) fn zeros_for(g: &mut Graph, slots: &Arc<[Slot]>, rows: usize, dtype: DType) -> Result<Self> {
        if g.device() == Device::Cpu {
            return Self::zeros(Device::Cpu, slots, rows, dtype);
        }
        let tensors = slots.iter().map(|slot| g.zeros([rows, slot.width], dtype)).collect::<Result<_>>()?;
        Ok(State { slots: slots.clone(), tensors })
    }

    /// Without tensors, to be filled by [`copy_handles`](Self::copy_handles).
    pub fn empty(slots: &Arc<[Slot]>) -> Self {
        State { slots: slots.clone(), tensors: Vec::with_capacity(slots.len()) }
    }

    pub fn slots(&self) -> &Arc<[Slot]> {
        &self.slots
    }

    /// The tensor of a slot.
    pub fn get(&self, slot: usize) -> &Tensor {
        &self.tensors[slot]
    }

    /// The tensor of a slot, by its name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.slots.iter().position(|slot| slot.name == name).and_then(|at| self.tensors.get(at))
    }

    /// Puts the state after a window into a slot.
    pub fn set(&mut self, slot: usize, tensor: Tensor) {
        self.tensors[slot] = tensor;
    }

    /// Back to zero.
    pub fn clear(&self) {
        self.tensors.iter().for_each(Tensor::fill_zero);
    }

    /// Lets the tensors go, so that their memory is free.
    pub fn forget(&mut self) {
        self.tensors.clear();
    }

    /// The same tensors (not copies of their values).
    pub fn copy_handles(&mut self, of: &State) {
        self.tensors.clone_from(&of.tensors);
    }

    /// The state that a window has left in `next` becomes the state of the next one; `next` is
    /// empty then. On a GPU the values move when the backward pass is over, because a graph of a
    /// step finds the state always at one place.
    pub fn advance(&mut self, next: &mut State, g: &mut Graph) {
        match g.device() {
            Device::Cpu => std::mem::swap(self, next),
            Device::Cuda(_) => next.tensors.iter().zip(&self.tensors).for_each(|(from, to)| g.carry(from, to)),
        }
        next.forget();
    }

    /// Copies a row of another state into a row of this one.
    pub fn copy_row(&self, row: usize, of: &State, from: usize) {
        self.tensors.iter().zip(&of.tensors).for_each(|(to, of)| to.copy_row(row, of, from));
    }

    /// The tensors under their names in checkpoints.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        self.slots.iter().map(|slot| format!("state/{}", slot.name)).zip(&self.tensors).collect()
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// A tensor is missing or has another shape or type.
    pub fn restore(&self, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        for (name, tensor) in self.named() {
            match saved(&name) {
                Some(found) if found.shape() == tensor.shape() && found.dtype() == tensor.dtype() => {
                    tensor.copy_from(&found);
                }
                _ => return Err(Error::data(format!("the checkpoint has no fitting tensor '{name}'"))),
            }
        }
        Ok(())
    }
}
