//! The operations of the engine: few, and big on purpose.
//!
//! Each is a folder: `mod.rs` (contract, shapes, tape node), `cpu.rs` (arithmetic on slices,
//! generic over f32 and f64), `cases.rs` (test cases), and room for `cuda.rs`. [`ALL`] names them;
//! the gradient check, parity tests, benchmarks and the profile walk that list.

pub mod activation_regularisation;
pub mod adaptive_softmax;
pub mod batch_norm;
pub mod case;
pub mod concat_pool;
pub mod dropout;
pub mod embedding;
pub mod forget_mult;
pub mod gather;
mod gpu;
mod int8;
pub mod linear;
pub mod locked_dropout;
pub mod lstm;
pub mod mask;
pub mod pair_features;
mod recurrence;
pub mod relu;
mod row_parts;
pub mod sampled_softmax;
pub mod sigmoid_cross_entropy;
pub mod softmax_cross_entropy;
mod softmax_row;
pub mod squared_error;
pub mod tied_softmax;
pub mod weighted_cross_entropy;
pub mod weighted_sum;
pub mod with_previous;

#[cfg(test)]
mod testing;

pub use case::{Case, Data, Input};
pub use mask::Dropout;

use crate::autodiff::Operation;

/// An operation as the instruments see it.
pub struct Entry {
    /// The tape's description of it; its name is the entry's name.
    pub operation: &'static dyn Operation,
    /// Its test cases: shapes (odd ones included) and switches.
    pub cases: fn() -> Vec<Case>,
    /// Cases at the sizes of the paper's model, for benchmarks.
    pub large: fn() -> Vec<Case>,
}

macro_rules! all {
    ($($module:ident::$name:ident,)*) => {
        &[$(Entry { operation: &$module::$name, cases: $module::cases::cases, large: $module::cases::large }),*]
    };
}

/// Every operation of the engine, in alphabetical order.
pub static ALL: &[Entry] = all![
    activation_regularisation::ActivationRegularisation,
    adaptive_softmax::AdaptiveSoftmax,
    batch_norm::BatchNorm,
    concat_pool::ConcatPool,
    dropout::OrdinaryDropout,
    embedding::Embedding,
    forget_mult::ForgetMult,
    gather::Gather,
    linear::Linear,
    locked_dropout::LockedDropout,
    lstm::Lstm,
    pair_features::PairFeatures,
    relu::Relu,
    sampled_softmax::SampledSoftmax,
    sigmoid_cross_entropy::SigmoidCrossEntropy,
    softmax_cross_entropy::SoftmaxCrossEntropy,
    squared_error::SquaredError,
    tied_softmax::TiedSoftmax,
    weighted_cross_entropy::WeightedCrossEntropy,
    weighted_sum::WeightedSum,
    with_previous::WithPrevious,
];
