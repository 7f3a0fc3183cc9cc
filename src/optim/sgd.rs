//! Stochastic gradient descent, with or without momentum.

use rayon::prelude::*;

use super::state::{self, Moments};
use super::{CHUNK, Optimiser, StepRates, cuda};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::real_type;
use crate::tensor::{Real, Tensor};
use crate::trace;

/// Settings that stay the same during a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdSettings {
    /// Whether [`StepRates::momentum`] is used; without it no state is kept.
    pub momentum: bool,
    /// `true`: `p ← p·(1 − lr·wd)` before the update; `false`: `g ← g + wd·p`.
    pub decoupled: bool,
}

/// `p ← p − lr·g`; with momentum μ (no dampening): `b ← μ·b + g`, `p ← p − lr·b`.
#[derive(Debug)]
pub struct Sgd {
    settings: SgdSettings,
    state: Moments,
    table: Option<cuda::Table>,
}

/// The scalars of one update of one parameter.
pub(super) struct Scalars<T> {
    pub lr: T,
    pub gradient_scale: T,
    pub shrink: T,
    pub decay: T,
}

impl<T: Real> Scalars<T> {
    pub(super) fn new(lr: f64, decay: f64, gradient_scale: f64, decoupled: bool) -> Self {
        Scalars {
            lr: T::from_f64(lr),
            gradient_scale: T::from_f64(gradient_scale),
            shrink: T::from_f64(if decoupled { 1.0 - lr * decay } else { 1.0 }),
            decay: T::from_f64(if decoupled { 0.0 } else { decay }),
        }
    }
}

impl From<Scalars<f32>> for cuda::Scalars {
    fn from(s: Scalars<f32>) -> Self {
        let Scalars { lr: rate, gradient_scale, shrink, decay } = s;
        cuda::Scalars { gradient_scale, shrink, decay, rate, ..Self::default() }
    }
}

impl Sgd {
    pub fn new(parameters: &Parameters, settings: SgdSettings) -> Result<Self> {
        let kinds: &[&str] = if settings.momentum { &["b"] } else { &[] };
        let table = cuda::Table::new(parameters.device(), parameters.count())?;
        Ok(Sgd { settings, state: Moments::new("sgd", kinds, parameters)?, table })
    }
}

impl Optimiser for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn step(&mut self, parameters: &mut Parameters, rates: &StepRates) -> Result<()> {
        let _span = trace::operation("sgd");
        self.state.begin_step();
        for id in parameters.ids() {
            if !parameters.is_trainable(id) || !parameters.has_gradient(id) {
                continue;
            }
            self.state.count(id);
            let group = parameters.group(id);
            let (lr, decay) = (rates.lr(group), self.state.decay(id, rates.weight_decay(group)));
            let (p, g) = (parameters.value(id), parameters.gradient(id));
            if let Some(table) = &mut self.table {
                let scalars = Scalars::new(lr, decay, rates.gradient_scale, self.settings.decoupled);
                let momentum = self.settings.momentum.then(|| self.state.slot(0, id));
                let scalars = cuda::Scalars { momentum: rates.momentum as f32, ..scalars.into() };
                table.push(p, g, momentum.as_slice(), scalars);
                continue;
            }
            real_type!("sgd", "parameter", parameters.dtype(), T => {
                let scalars = Scalars::<T>::new(lr, decay, rates.gradient_scale, self.settings.decoupled);
                let (mut p, g) = (p.write::<T>(), g.read::<T>());
                let passes = if self.settings.momentum { 5 } else { 3 };
                let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(passes * g.len());
                if self.settings.momentum {
                    let mut b = self.state.slot(0, id).write::<T>();
                    update_with_momentum(&scalars, T::from_f64(rates.momentum), &mut p, &g, &mut b);
                } else {
                    update(&scalars, &mut p, &g);
                }
            });
        }
        let kernel = if self.settings.momentum { "sgd_momentum_update" } else { "sgd_update" };
        self.table.as_mut().map_or(Ok(()), |table| table.run(&[kernel], &[]))
    }

    fn exempt_from_decay(&mut self, id: ParameterId) {
        self.state.exempt_from_decay(id);
    }

    fn steps(&self) -> u64 {
        self.state.steps()
    }

    fn state(&self) -> Vec<(String, &Tensor)> {
        self.state.named()
    }

    fn restore(&mut self, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        state::restore(&self.state.named(), saved)
    }

    fn reset(&mut self) {
        self.state.reset();
    }
}

pub(super) fn update<T: Real>(s: &Scalars<T>, p: &mut [T], g: &[T]) {
    p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).for_each(|(p, g)| {
        for (p, &g) in p.iter_mut().zip(g) {
            *p = *p * s.shrink - s.lr * (g * s.gradient_scale + s.decay * *p);
        }
    });
}

fn update_with_momentum<T: Real>(s: &Scalars<T>, momentum: T, p: &mut [T], g: &[T], b: &mut [T]) {
    let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(b.par_chunks_mut(CHUNK));
    chunks.for_each(|((p, g), b)| {
        for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
            *b = momentum * *b + (g * s.gradient_scale + s.decay * *p);
            *p = *p * s.shrink - s.lr * *b;
        }
    });
}
