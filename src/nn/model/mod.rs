//! Models: an encoder, and a head on it.

mod classifier;
mod embedded;
mod language_model;
mod words;

pub use self::classifier::{Classified, Classifier, ClassifierLosses, ClassifierSettings, SECOND, Truth};
pub use self::embedded::Embedded;
pub use self::language_model::{LanguageModel, LanguageModelSettings, WindowLoss};
use super::head::{Features, HeadLoss};
use crate::autodiff::{Graph, Var};
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
    /// AR on the output after the head's dropout (AWD-LSTM, v2) or before it (0.7, v1); where the
    /// head has none, before it.
    pub ar_on_dropped: bool,
    /// v1 and v2 skip TAR for a batch of one row, 0.7 for a window of one step.
    pub tar_guard: TarGuard,
}

/// Loss of a training batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchLoss {
    /// The loss that is minimised: the sum of the parts, each with its weight.
    pub total: Var,
    /// The loss of the head, which is reported: a mean cross-entropy in nats or a mean squared
    /// error.
    pub loss: Var,
    /// The loss of a second head, before its weight.
    pub auxiliary: Option<Var>,
    /// AR + TAR, if any.
    pub regularisation: Option<Var>,
}

/// The sum of a head's loss, that of a second head with its weight, and AR and TAR of the outputs
/// of each encoder.
fn sum_losses(
    part: trace::Layer,
    g: &mut Graph,
    features: &Features,
    HeadLoss { loss, dropped }: HeadLoss,
    auxiliary: Option<(Var, f64)>,
    losses: &LossSettings,
) -> Result<BatchLoss> {
    let _part = trace::within(part);
    let regularisation = if losses.alpha == 0.0 && losses.beta == 0.0 {
        None
    } else {
        let settings = Regularisation { alpha: losses.alpha, beta: losses.beta, guard: losses.tar_guard };
        let of = match &dropped {
            Some(dropped) if losses.ar_on_dropped => std::slice::from_ref(dropped),
            _ => features.chunks,
        };
        let first = activation_regularisation(g, features.chunks, of, settings)?;
        Some(match features.readings {
            [_, second] => {
                let second = activation_regularisation(g, second.chunks, second.chunks, settings)?;
                weighted_sum(g, &[(first, 1.0), (second, 1.0)])?
            }
            _ => first,
        })
    };
    let total = match (auxiliary, regularisation) {
        (None, None) => loss,
        (None, Some(of)) => weighted_sum(g, &[(loss, 1.0), (of, 1.0)])?,
        (Some(aux), None) => weighted_sum(g, &[(loss, 1.0), aux])?,
        (Some(aux), Some(of)) => weighted_sum(g, &[(loss, 1.0), aux, (of, 1.0)])?,
    };
    Ok(BatchLoss { total, loss, auxiliary: auxiliary.map(|(loss, _)| loss), regularisation })
}
