//! The moment tensors of an optimiser, on the parameters' device: one of each kind per trained
//! parameter, and the number of updates each parameter has had.

use crate::autodiff::{ParameterId, Parameters};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

#[derive(Debug)]
pub(super) struct Moments {
    optimiser: &'static str,
    /// By parameter.
    names: Vec<String>,
    /// `[kind][parameter]`; `None` for buffers.
    slots: Vec<Vec<Option<Tensor>>>,
    kinds: &'static [&'static str],
    /// Updates of each parameter, and in the last place calls of `step`; u32.
    counts: Tensor,
    /// By parameter: whether weight decay leaves it alone.
    exempt: Vec<bool>,
}

impl Moments {
    pub(super) fn new(
        optimiser: &'static str,
        kinds: &'static [&'static str],
        parameters: &Parameters,
    ) -> Result<Self> {
        let slot = |id: ParameterId| -> Result<Option<Tensor>> {
            let zeros = || Tensor::zeros_on(parameters.device(), parameters.shape(id), parameters.dtype());
            (!parameters.is_buffer(id)).then(zeros).transpose()
        };
        Ok(Moments {
            optimiser,
            names: parameters.ids().map(|id| parameters.name(id).to_string()).collect(),
            slots: kinds.iter().map(|_| parameters.ids().map(slot).collect()).collect::<Result<_>>()?,
            kinds,
            counts: Tensor::zeros([parameters.count() + 1], DType::U32)?,
            exempt: vec![false; parameters.count()],
        })
    }

    pub(super) fn slot(&self, kind: usize, id: ParameterId) -> &Tensor {
        self.slots[kind][id.index()].as_ref().expect("every parameter that is no buffer has its state")
    }

    pub(super) fn exempt_from_decay(&mut self, id: ParameterId) {
        self.exempt[id.index()] = true;
    }

    /// `decay`, or zero for a parameter that is exempt.
    pub(super) fn decay(&self, id: ParameterId, decay: f64) -> f64 {
        if self.exempt[id.index()] { 0.0 } else { decay }
    }

    /// Counts a call of `step`; returns its number, from 1.
    pub(super) fn begin_step(&self) -> u64 {
        let mut counts = self.counts.write::<u32>();
        let last = counts.last_mut().expect("never empty");
        *last += 1;
        u64::from(*last)
    }

    /// Counts an update of a parameter; returns its number, from 1.
    pub(super) fn count(&self, id: ParameterId) -> u32 {
        let mut counts = self.counts.write::<u32>();
        counts[id.index()] += 1;
        counts[id.index()]
    }

    pub(super) fn updates(&self, id: ParameterId) -> u32 {
        self.counts.read::<u32>()[id.index()]
    }

    pub(super) fn steps(&self) -> u64 {
        u64::from(*self.counts.read::<u32>().last().expect("never empty"))
    }

    pub(super) fn named(&self) -> Vec<(String, &Tensor)> {
        let mut all = vec![(format!("{}.counts", self.optimiser), &self.counts)];
        for (kind, slots) in self.kinds.iter().zip(&self.slots) {
            for (name, slot) in self.names.iter().zip(slots) {
                all.extend(slot.as_ref().map(|slot| (format!("{}.{kind}/{name}", self.optimiser), slot)));
            }
        }
        all
    }

    pub(super) fn reset(&self) {
        self.counts.fill_zero();
        self.slots.iter().flatten().flatten().for_each(Tensor::fill_zero);
    }
}

/// Copies saved tensors into the tensors of a state, after checking all of them.
pub(super) fn restore(state: &[(String, &Tensor)], saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
    let mut found = Vec::with_capacity(state.len());
    for (name, tensor) in state {
        let source = saved(name).ok_or_else(|| Error::data(format!("the saved optimiser state lacks '{name}'")))?;
        if source.dims() != tensor.dims() || source.dtype() != tensor.dtype() {
            return Err(Error::data(format!(
                "the saved optimiser state '{name}' is {} {}, expected {} {}",
                source.dtype(),
                source.shape(),
                tensor.dtype(),
                tensor.shape()
            )));
        }
        found.push(source);
    }
    state.iter().zip(&found).filter(|((_, t), s)| !t.same_memory(s)).for_each(|((_, t), s)| t.copy_from(s));
    Ok(())
}
