//! CUDA: the only room that touches `cudarc`. So far it finds out what is there.

mod probe;

pub use probe::{Gpu, Probe, probe};
