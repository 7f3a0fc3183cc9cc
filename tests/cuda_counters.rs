//! What the kernels do to a GPU's memory and units, counted by the simulator at shapes of the paper's model: see cuda/counters.rs.

#[path = "cuda/counters.rs"]
mod counters;
#[path = "cuda/sim.rs"]
#[allow(dead_code)]
mod sim;
