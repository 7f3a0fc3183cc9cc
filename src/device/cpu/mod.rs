//! Arithmetic on slices: instruction sets, elementary functions, matrix products.

pub mod gemm;
pub mod int8;
pub mod isa;
pub mod math;
pub mod parallel;
