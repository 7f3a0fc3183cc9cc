//! The kernels for compute capability 7.0 on the simulated GPU: see cuda/mod.rs, and cuda/parity.rs for the bound. `ULMFIT_PARITY=full` runs
//! three orders of blocks.

#[macro_use]
mod cuda;

suite!("v100");
