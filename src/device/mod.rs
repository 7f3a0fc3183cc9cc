//! Where numbers live: devices, memory blocks, the pool, and (per device) the arithmetic on raw slices.

pub mod cpu;
pub mod cuda;
mod element;
mod memory;
mod pages;
mod pool;

pub use element::{DType, Element, Real};
pub use half::bf16;
pub use memory::{Block, Read, Write};
pub use pool::{Pool, PoolStatistics, shared_limit};

/// A processor that holds tensors and runs operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    Cpu,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}
