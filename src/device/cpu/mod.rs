//! Arithmetic on slices: instruction sets, elementary functions, matrix products.

pub mod gemm;
pub mod isa;
pub mod math;
pub mod parallel;
