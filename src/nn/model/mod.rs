//! Models: an encoder, and a head on it.

mod classifier;
mod language_model;

pub use self::classifier::{Classified, Classifier, ClassifierSettings};
pub use self::language_model::{LanguageModel, LanguageModelSettings, WindowLoss};
use super::head::{Features, Head, Targets};
use super::noise::Noise;
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::Result;
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::weighted_sum::weighted_sum;
use crate::trace;

/// Losses of a batch besides the head's (docs/SPEC.md §1.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSettings {
    /// Weight of AR.
    pub alpha: f64,
    /// Weight of TAR.
    pub beta: f64,
    /// AR on the output after the head's dropout (AWD-LSTM, v2) or before it (0.7, v1); where the head has none, before it.
    pub ar_on_dropped: bool,
    /// v1 and v2 skip TAR for a batch of one row, 0.7 for a window of one step.
    pub tar_guard: TarGuard,
    /// Share of a label that all classes have alike (docs/SPEC.md §1.6); of a classifier alone.
    pub label_smoothing: f64,
}

/// Loss of a training batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchLoss {
    /// What is minimised: cross-entropy + AR + TAR.
    pub total: Var,
    /// The cross-entropy alone, in nats: what is reported.
    pub cross_entropy: Var,
    /// AR + TAR, if any.
    pub regularisation: Option<Var>,
}

/// Loss of a head, with AR and TAR of the encoder's outputs; and the output after the head's dropout, where it has one.
fn batch_loss(
    head: &dyn Head,
    g: &mut Graph,
    parameters: &Parameters,
    features: &Features,
    targets: &Targets,
    noise: &Noise,
    losses: &LossSettings,
) -> Result<(BatchLoss, Option<Var>)> {
    let loss = head.loss(g, parameters, features, targets, noise)?;
    let (cross_entropy, dropped) = (loss.cross_entropy, loss.dropped);
    if losses.alpha == 0.0 && losses.beta == 0.0 {
        return Ok((BatchLoss { total: cross_entropy, cross_entropy, regularisation: None }, dropped));
    }
    let _part = trace::within(head.part());
    let settings = Regularisation { alpha: losses.alpha, beta: losses.beta, guard: losses.tar_guard };
    let of = match &dropped {
        Some(dropped) if losses.ar_on_dropped => std::slice::from_ref(dropped),
        _ => features.chunks,
    };
    let regularisation = activation_regularisation(g, features.chunks, of, settings)?;
    let total = weighted_sum(g, &[(cross_entropy, 1.0), (regularisation, 1.0)])?;
    Ok((BatchLoss { total, cross_entropy, regularisation: Some(regularisation) }, dropped))
}
