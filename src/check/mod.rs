//! Instruments that hold the engine to account: finite differences, planted errors, reference
//! fixtures.
//!
//! * [`gradient`] compares every gradient of every operation (`ops::ALL`) and of the whole models
//!   with finite differences in f64.
//! * [`mutation`] plants an error into each backward and reports whether that comparison notices.
//! * [`parity`] compares every operation on a GPU with the CPU.
//! * [`golden`] replays reference fixtures made with PyTorch and fastai.
//!
//! A failed comparison is part of a report, not an error; errors are for files and models that
//! cannot be checked at all.

mod classifier;
mod golden;
mod gradient;
mod language_model;
mod model;
mod mutation;
mod parity;
mod stencil;
mod sweep;
mod verdict;
mod words;

pub use golden::{Difference, GoldenReport, GoldenRow, ROUNDING_BF16, TOLERANCE_F32, TOLERANCE_F64, golden};
pub use gradient::{GradientReport, GradientRow, Worst, gradient, gradient_of};
pub use model::{CheckedModel, ModelCheck};
pub use mutation::{Mutant, MutationReport, mutation};
pub use parity::{Compared, ParityReport, ParityRow, ParityWorst, compare, parity, parity_mutation, rounded_alike};
pub use sweep::{Sweep, sweep};
pub use verdict::{ABSOLUTE, ABSOLUTE_SHARE, MEDIAN, RELATIVE};
