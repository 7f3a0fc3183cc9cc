//! Where numbers live: devices, memory blocks, the pool, and (per device) the arithmetic on raw
//! slices.

pub mod cpu;
pub mod cuda;
mod element;
mod memory;
mod pages;
mod pool;
mod refusal;

pub use element::{DType, Element, Precision, Real};
pub use half::bf16;
pub use memory::{Block, Read, Write};
pub use pool::{Pool, PoolStatistics};
pub use refusal::Careful;

/// A processor that holds tensors and runs operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    Cpu,
    /// A GPU, by the driver's number.
    Cuda(usize),
}

impl Device {
    /// Begins to collect a GPU's work, to be done as graphs, until what this returns is dropped.
    /// Nothing on the CPU.
    pub fn collect(self) -> crate::error::Result<Option<cuda::Collecting>> {
        match self {
            Device::Cpu => Ok(None),
            Device::Cuda(gpu) => Ok(cuda::context(gpu)?.collect()),
        }
    }

    /// The error of an operation that has no kernels yet.
    pub fn lacks(self, operation: &'static str) -> crate::error::Error {
        crate::error::Error::NoKernels { operation, device: self.to_string() }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(_) if cuda::is_simulated() => f.write_str("cudasim"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}
