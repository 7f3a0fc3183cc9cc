//! Everything on the simulated GPU, an H100, or with `ULMFIT_REQUIRE_CUDA=1` on the first real one:
//! kernels against the CPU, what they move, training, graphs of steps, commands. Tests in the
//! process take turns (`sim::Sim`); those of another GPU run in processes of their own.

#[path = "../support/alone.rs"]
mod alone;
mod sim;
mod stages;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tasks.rs"]
mod tasks;

#[macro_use]
mod kernels;

mod commands;
mod counters;
mod graphs;
mod parity;
mod parity_sm_70;
mod training;
