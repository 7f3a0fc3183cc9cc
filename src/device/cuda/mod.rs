//! CUDA: the only room that touches `cudarc`.
//!
//! One [`Context`] per GPU and process, with one stream on which everything happens in order;
//! memory blocks; the kernels of `kernels/`, as PTX text within the program; and one way to
//! [launch](Context::launch) them, which holds the arguments against the PTX. The driver is loaded
//! at run time; [`simulate`] puts the simulated one (tools/cudasim) in its place.
//!
//! Some calls cannot return an error (a tensor's host copy, the end of a block). An error there
//! is kept and returned by the next call that can: as with the driver itself, an error is never
//! lost, and everything after it fails.
//!
//! A training step is [collected](Context::collect) and launched as graphs.

mod arguments;
mod context;
mod driver;
mod error;
pub mod gemm;
mod graphs;
mod memory;
mod modules;
mod probe;
mod simulate;
mod work;

pub use arguments::{Argument, Grid};
pub use context::{Collecting, Context, Copies, close, context};
pub use graphs::{GRAPHS, GraphStatistics};
pub use memory::Buffer;
pub use modules::kernels;
pub use probe::{Gpu, Probe, probe};
pub use simulate::{counters, is_simulated, kernel_counters, presented, reset_counters, simulate, switch};
