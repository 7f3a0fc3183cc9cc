//! Finite differences through whole models.

use rayon::prelude::*;

use super::stencil::{ELEMENTS, STENCIL, sample};
use super::verdict::Compared;
use super::{classifier, language_model, words};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::random::{Key, Site, Stream};

/// The step, relative to `max(1, |x|)`. Smaller than for an operation, so that no kink is crossed.
/// At half of this, rounding weighs more and truncation is not felt yet.
pub(super) const STEP: f64 = 5e-4;

/// A model with fixed data, masks and carried state: its loss is a function of its parameters
/// alone.
///
/// What the method detaches (state carried from window to window or from chunk to chunk) is part of
/// the fixed data: it is computed once, from the unperturbed parameters, when the model is built.
/// [`loss`](Self::loss) must not compute it anew, or finite differences would see through a border
/// that gradients do not cross.
pub trait CheckedModel {
    /// The parameters, in f64; the check perturbs their values.
    fn parameters(&mut self) -> &mut Parameters;
    /// The loss at the parameters' present values.
    fn loss(&mut self) -> Result<f64>;
    /// Runs forward and backward, adding gradients to the parameters.
    fn gradients(&mut self) -> Result<()>;
}

/// Makes a fresh copy of a model; every copy is equal.
pub type Build = Box<dyn Fn() -> Result<Box<dyn CheckedModel>> + Send + Sync>;

/// One model-level check.
pub struct ModelCheck {
    /// Name of the model, in the place of an operation's.
    pub model: &'static str,
    /// Sizes and switches; distinct within the model.
    pub case: String,
    pub build: Build,
}

impl ModelCheck {
    pub fn new(
        model: &'static str,
        case: impl Into<String>,
        build: impl Fn() -> Result<Box<dyn CheckedModel>> + Send + Sync + 'static,
    ) -> Self {
        ModelCheck { model, case: case.into(), build: Box::new(build) }
    }

    /// Analytic and numeric gradients of every trainable parameter at the sampled elements.
    pub(super) fn compare(&self) -> Result<Vec<Compared>> {
        self.compare_at(STEP, ELEMENTS)
    }

    /// Analytic gradients of every trainable parameter, and numeric ones with this step, at `most`
    /// elements or one more.
    pub(super) fn compare_at(&self, step: f64, most: usize) -> Result<Vec<Compared>> {
        let mut model = (self.build)()?;
        model.parameters().clear_gradients();
        model.gradients()?;
        let parameters = model.parameters();
        parameters.zero_missing_gradients();
        let trainable: Vec<ParameterId> = parameters.ids().filter(|&id| parameters.is_trainable(id)).collect();
        let gradients: Vec<_> = trainable.iter().map(|&id| (id, parameters.gradient(id).to_f64())).collect();
        gradients.into_par_iter().map(|(id, gradient)| self.parameter(id, &gradient, step, most)).collect()
    }

    fn parameter(&self, id: ParameterId, gradient: &[f64], step: f64, most: usize) -> Result<Compared> {
        let mut model = (self.build)()?;
        let elements = sample(gradient, most);
        let mut numeric = Vec::with_capacity(elements.len());
        for &element in &elements {
            let value = model.parameters().value(id).clone();
            let x = value.read::<f64>()[element];
            let h = step * x.abs().max(1.0);
            let mut loss = |position: f64| {
                value.write::<f64>()[element] = x + position * h;
                model.loss()
            };
            // the sides of a pair are subtracted first: a loss that does not depend on x gives an
            // exact zero
            let near = STENCIL[0].1 * (loss(STENCIL[0].0)? - loss(STENCIL[1].0)?);
            let far = STENCIL[2].1 * (loss(STENCIL[2].0)? - loss(STENCIL[3].0)?);
            value.write::<f64>()[element] = x;
            numeric.push((near + far) / h);
        }
        let analytic = elements.iter().map(|&e| gradient[e]).collect();
        Ok(Compared { name: model.parameters().name(id).to_string(), elements, analytic, numeric })
    }
}

/// The whole models that are checked.
pub(super) fn all() -> Vec<ModelCheck> {
    let mut all = language_model::checks();
    all.extend(classifier::checks());
    all.extend(words::checks());
    all
}

/// Fills all parameters and buffers with uniform values in ±`range`: large enough for every
/// gradient to be felt.
pub(super) fn fill(parameters: &Parameters, key: Key, range: f64) {
    for id in parameters.ids() {
        let mut stream = Stream::new(key, Site::CUSTOM[3], 0, id.index() as u32);
        let values: Vec<f64> =
            (0..parameters.shape(id).len()).map(|_| range * (2.0 * stream.uniform() - 1.0)).collect();
        parameters.value(id).set_f64(&values);
    }
}
