//! Models: an encoder, and a head on it.

mod classifier;
mod language_model;

pub use self::classifier::{Classified, Classifier, ClassifierSettings};
pub use self::language_model::{LanguageModel, LanguageModelSettings, LossSettings, WindowLoss};
