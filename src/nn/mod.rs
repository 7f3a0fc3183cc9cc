//! What is made of operations: the AWD-LSTM encoder, the tied language model, the pooling classifier, and their weights as files.

pub mod classifier;
pub mod encoder;
mod initial;
pub mod language_model;
pub mod weights;

pub use classifier::{Classifier, ClassifierSettings, DocumentBatch, HeadDropout, Masking};
pub use encoder::{DropRates, Encoder, EncoderDropout, EncoderSettings, GivenMasks, State};
pub use language_model::{LanguageModel, LanguageModelSettings, LossSettings, Softmax, WindowLoss};
