//! Adam (Kingma & Ba 2015), with weight decay inside the gradient or decoupled (Loshchilov & Hutter
//! 2019).

use rayon::prelude::*;

use super::state::{self, Moments};
use super::{CHUNK, Optimiser, StepRates, cuda};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::real_type;
use crate::tensor::{Real, Tensor};
use crate::trace;

/// Settings that stay the same during a training. β1 is [`StepRates::momentum`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    pub beta2: f64,
    pub eps: f64,
    /// `true`: `p ← p·(1 − lr·wd)` before the update (AdamW, fastai 2); `false`: `g ← g + wd·p`
    /// (the authors' scripts).
    pub decoupled: bool,
}

/// `m ← β1·m + (1−β1)·g`, `v ← β2·v + (1−β2)·g²`, `p ← p − lr/(1−β1^t) · m/(√(v/(1−β2^t)) + eps)`.
///
/// `t` counts the updates of that parameter: one that is unfrozen late starts its bias correction
/// late. β1 may change from step to step; the correction uses the present one (as fastai).
#[derive(Debug)]
pub struct Adam {
    settings: AdamSettings,
    state: Moments,
    table: Option<cuda::Table>,
}

const M: usize = 0;
const V: usize = 1;

/// The scalars of one update of one parameter.
struct Scalars<T> {
    gradient_scale: T,
    shrink: T,
    decay: T,
    beta1: T,
    one_minus_beta1: T,
    beta2: T,
    one_minus_beta2: T,
    step_size: T,
    correction2: T,
    eps: T,
}

impl From<Scalars<f32>> for cuda::Scalars {
    fn from(s: Scalars<f32>) -> Self {
        cuda::Scalars {
            gradient_scale: s.gradient_scale,
            shrink: s.shrink,
            decay: s.decay,
            rate: s.step_size,
            momentum: s.beta1,
            one_minus_momentum: s.one_minus_beta1,
            beta2: s.beta2,
            one_minus_beta2: s.one_minus_beta2,
            correction2: s.correction2,
            eps: s.eps,
            ..Self::default()
        }
    }
}

impl Adam {
    pub fn new(parameters: &Parameters, settings: AdamSettings) -> Result<Self> {
        let table = cuda::Table::new(parameters.device(), parameters.count())?;
        Ok(Adam { settings, state: Moments::new("adam", &["m", "v"], parameters)?, table })
    }
}

impl AdamSettings {
    /// The scalars of a parameter's `t`-th update.
    fn scalars<T: Real>(&self, rates: &StepRates, lr: f64, decay: f64, t: f64) -> Scalars<T> {
        let AdamSettings { beta2, eps, decoupled } = *self;
        let correction1 = 1.0 - libm::pow(rates.momentum, t);
        let correction2 = 1.0 - libm::pow(beta2, t);
        Scalars {
            gradient_scale: T::from_f64(rates.gradient_scale),
            shrink: T::from_f64(if decoupled { 1.0 - lr * decay } else { 1.0 }),
            decay: T::from_f64(if decoupled { 0.0 } else { decay }),
            beta1: T::from_f64(rates.momentum),
            one_minus_beta1: T::from_f64(1.0 - rates.momentum),
            beta2: T::from_f64(beta2),
            one_minus_beta2: T::from_f64(1.0 - beta2),
            step_size: T::from_f64(lr / correction1),
            correction2: T::from_f64(correction2),
            eps: T::from_f64(eps),
        }
    }
}

impl Optimiser for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn step(&mut self, parameters: &mut Parameters, rates: &StepRates) -> Result<()> {
        let _span = trace::operation("adam");
        self.state.begin_step();
        for id in parameters.ids() {
            if !parameters.is_trainable(id) || !parameters.has_gradient(id) {
                continue;
            }
            let group = parameters.group(id);
            let (lr, decay) = (rates.lr(group), self.state.decay(id, rates.weight_decay(group)));
            let t = f64::from(self.state.count(id));
            let (p, g) = (parameters.value(id), parameters.gradient(id));
            let moments = [M, V].map(|kind| self.state.slot(kind, id));
            if let Some(table) = &mut self.table {
                table.push(p, g, &moments, self.settings.scalars::<f32>(rates, lr, decay, t).into());
                continue;
            }
            real_type!("adam", "parameter", parameters.dtype(), T => {
                let scalars = self.settings.scalars::<T>(rates, lr, decay, t);
                // parameter, gradient and two moments are read, all but the gradient written
                let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(7 * p.len());
                let [mut m, mut v] = moments.map(|moment| moment.write::<T>());
                update(&scalars, &mut p.write::<T>(), &g.read::<T>(), &mut m, &mut v);
            });
        }
        self.table.as_mut().map_or(Ok(()), |table| table.run(&["adam_update"], &[]))
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

fn update<T: Real>(s: &Scalars<T>, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
    let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    chunks.zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK)).for_each(|(((p, g), m), v)| {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let shrunk = *p * s.shrink;
            let g = g * s.gradient_scale + s.decay * *p;
            *m = s.beta1 * *m + s.one_minus_beta1 * g;
            *v = s.beta2 * *v + s.one_minus_beta2 * g * g;
            *p = shrunk - s.step_size * *m / ((*v / s.correction2).sqrt() + s.eps);
        }
    });
}
