#![doc = include_str!("../README.md")]

pub mod class;
pub mod config;
pub mod counters;
pub mod decode;
pub mod devices;
mod driver;
mod exec;
pub mod float;
pub mod memory;
pub mod op;
pub mod ptx;
pub mod report;
pub mod rng;

pub(crate) use exec::lanes as exec_lanes;
pub use exec::{Dim, Launch, Outcome, run};
