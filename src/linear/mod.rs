//! The linear classifier on words, pairs of words and characters, trained in
//! seconds.
//!
//! TF-IDF features (`features.rs`, `counts.rs`, `matrix.rs`), support vector machines of the
//! classes against the rest (`svm.rs`, `scales.rs`), their strength by cross-validation and
//! probabilities by a temperature on its held-out texts (`fit.rs`, `calibration.rs`). And what two
//! models answer together (`blend.rs`).

mod blend;
mod calibration;
mod counts;
mod features;
mod file;
mod fit;
mod matrix;
mod model;
mod scales;
mod shares;
mod svm;

pub use blend::{Blend, Measured};
pub use calibration::{
    Bin, calibration_error, cross_entropy, decide, error_percent, reliability, softmax, temper, temperature,
};
pub use file::LINEAR_FILE;
pub use fit::{Poll, Trial, Validation};
pub use model::LinearModel;
pub use shares::{FeatureShare, LinearShares};
