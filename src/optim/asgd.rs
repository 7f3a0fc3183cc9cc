//! Averaged stochastic gradient descent as AWD-LSTM uses it (docs/SPEC.md §4.5): plain SGD steps,
//! and beside them an average of the iterates, with which evaluation and saving work.

use rayon::prelude::*;

use super::state::{self, Moments};
use super::{CHUNK, Optimiser, StepRates, cuda, sgd};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::real_type;
use crate::tensor::{DType, Real, Tensor};
use crate::trace;

/// Settings that stay the same during a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsgdSettings {
    /// Averaging begins after this many steps.
    pub t0: u32,
    /// PyTorch refreshes the averaging weight and the learning rate at the end of a step, so both
    /// take effect one step late: `ax_k = mean(p_2 … p_k)`, and a rescaled learning rate reaches
    /// the next batch (SPEC §3.1). It keeps both in f32, whatever the parameters' type. `false`:
    /// neither is late, `ax_k = mean(p_1 … p_k)`.
    pub as_pytorch: bool,
    /// `true`: `p ← p·(1 − lr·wd)` before the update; `false` (PyTorch): `g ← g + wd·p`.
    pub decoupled: bool,
}

/// `p ← p − lr·(g + wd·p)`, `ax ← ax + (p − ax)/max(1, t − t0)`; PyTorch's `lambd` is 0, so the
/// rate does not decay.
#[derive(Debug)]
pub struct Asgd {
    settings: AsgdSettings,
    state: Moments,
    table: Option<cuda::Table>,
    /// By parameter, f64: the learning rate of its next update (`as_pytorch`).
    eta: Tensor,
    /// Whether the parameters hold the averages at present.
    swapped: bool,
}

impl Asgd {
    pub fn new(parameters: &Parameters, settings: AsgdSettings) -> Result<Self> {
        Ok(Asgd {
            settings,
            state: Moments::new("asgd", &["ax"], parameters)?,
            table: cuda::Table::new(parameters.device(), parameters.count())?,
            eta: Tensor::zeros([parameters.count()], DType::F64)?,
            swapped: false,
        })
    }

    /// The average of a parameter's iterates; zeros before its first update.
    pub fn average(&self, id: ParameterId) -> &Tensor {
        self.state.slot(0, id)
    }

    fn all(&self) -> Vec<(String, &Tensor)> {
        let mut all = self.state.named();
        all.push(("asgd.eta".into(), &self.eta));
        all
    }
}

impl Optimiser for Asgd {
    fn name(&self) -> &'static str {
        "asgd"
    }

    fn step(&mut self, parameters: &mut Parameters, rates: &StepRates) -> Result<()> {
        assert!(!self.swapped, "an optimiser steps while the averages are in the parameters' place");
        let _span = trace::operation("asgd");
        self.state.begin_step();
        let lag = u32::from(self.settings.as_pytorch);
        for id in parameters.ids() {
            if !parameters.is_trainable(id) || !parameters.has_gradient(id) {
                continue;
            }
            let t = self.state.count(id);
            let group = parameters.group(id);
            let (mut lr, decay) = (rates.lr(group), self.state.decay(id, rates.weight_decay(group)));
            if self.settings.as_pytorch {
                let next = std::mem::replace(&mut self.eta.write::<f64>()[id.index()], lr);
                lr = if t == 1 { lr } else { next };
            }
            let mut weight = 1.0 / f64::from((t - lag).saturating_sub(self.settings.t0).max(1));
            if self.settings.as_pytorch {
                (lr, weight) = (f64::from(lr as f32), f64::from(weight as f32));
            }
            let (p, g) = (parameters.value(id), parameters.gradient(id));
            if let Some(table) = &mut self.table {
                let scalars = sgd::Scalars::new(lr, decay, rates.gradient_scale, self.settings.decoupled);
                let scalars = cuda::Scalars { weight: weight as f32, ..scalars.into() };
                table.push(p, g, &[self.state.slot(0, id)], scalars);
                continue;
            }
            real_type!("asgd", "parameter", parameters.dtype(), T => {
                let scalars = sgd::Scalars::<T>::new(lr, decay, rates.gradient_scale, self.settings.decoupled);
                let mut p = p.write::<T>();
                let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(6 * p.len());
                sgd::update(&scalars, &mut p, &g.read::<T>());
                average(T::from_f64(weight), &p, &mut self.state.slot(0, id).write::<T>());
            });
        }
        self.table.as_mut().map_or(Ok(()), |table| table.run(&["sgd_update", "average_update"], &[]))
    }

    fn exempt_from_decay(&mut self, id: ParameterId) {
        self.state.exempt_from_decay(id);
    }

    fn steps(&self) -> u64 {
        self.state.steps()
    }

    fn state(&self) -> Vec<(String, &Tensor)> {
        assert!(!self.swapped, "the state is read while the averages are in the parameters' place");
        self.all()
    }

    fn restore(&mut self, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        state::restore(&self.all(), saved)?;
        self.swapped = false;
        Ok(())
    }

    fn reset(&mut self) {
        assert!(!self.swapped, "an optimiser is reset while the averages are in the parameters' place");
        self.state.reset();
        self.eta.fill_zero();
    }

    fn swap_averages(&mut self, parameters: &mut Parameters) -> Result<bool> {
        for id in parameters.ids().filter(|&id| !parameters.is_buffer(id) && self.state.updates(id) > 0) {
            let (value, average) = (parameters.value(id), self.state.slot(0, id));
            match (cuda::gpu_of(value)?, value.dtype()) {
                (Some(gpu), _) => cuda::exchange(gpu, value, average)?,
                (None, DType::F64) => value.write::<f64>().swap_with_slice(&mut average.write::<f64>()),
                (None, _) => value.write::<f32>().swap_with_slice(&mut average.write::<f32>()),
            }
        }
        self.swapped = !self.swapped;
        Ok(true)
    }
}

fn average<T: Real>(weight: T, p: &[T], ax: &mut [T]) {
    if weight == T::ONE {
        return ax.copy_from_slice(p);
    }
    ax.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK)).for_each(|(ax, p)| {
        for (ax, &p) in ax.iter_mut().zip(p) {
            *ax += (p - *ax) * weight;
        }
    });
}
