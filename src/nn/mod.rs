//! Networks made of operations: encoders, heads, the models that put the two together, and their
//! weights as files.
//!
//! The way of the data: tokens → [`encoder`] (window by window, its carried state in [`state`], its
//! dropouts from [`noise`]; documents chunk by chunk) → [`head`] → loss. What random numbers are
//! for is listed in [`sites`].

mod chunks;
pub mod documents;
pub mod encoder;
pub mod head;
mod initial;
pub mod model;
pub mod noise;
pub mod sites;
pub mod state;
pub mod weights;

pub use documents::DocumentBatch;
pub use encoder::{AwdLstmSettings, Encoder, EncoderSettings, QrnnSettings};
pub use head::{AffineBlock, Answers, LabelLoss, WordResults};
pub use model::{
    BatchLoss, Classified, Classifier, ClassifierLosses, ClassifierSettings, Embedded, LanguageModel,
    LanguageModelSettings, LossSettings, SECOND, Truth, WindowLoss,
};
pub use noise::{DropRates, GivenMasks, Noise};
pub use state::State;
