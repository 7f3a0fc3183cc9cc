//! The kernels for compute capability 8.0 and newer: see kernels/mod.rs, and kernels/compared.rs
//! for the bound. `ULMFIT_PARITY=full` runs three orders of blocks.

suite!(|_, test| test("h100"));
