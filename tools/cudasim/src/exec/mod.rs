//! Runs kernels.

mod access;
mod alu;
mod atomics;
mod convert;
mod floats;
mod grid;
mod matrix;
mod races;
mod shared;
mod step;
mod sync;
mod warp;
mod words;

pub use grid::{Dim, Launch, Outcome, run};
pub use races::MAX_LAUNCH;

use crate::report::Kind;

/// A fault of one lane; the interpreter adds where it happened.
#[derive(Debug)]
pub(crate) struct Fault {
    pub kind: Kind,
    pub lane: u32,
    pub address: Option<u64>,
    pub message: String,
}

pub(crate) type Res<T = ()> = Result<T, Box<Fault>>;

#[cold]
pub(crate) fn fault<T>(kind: Kind, lane: u32, address: Option<u64>, message: impl Into<String>) -> Res<T> {
    Err(Box::new(Fault { kind, lane, address, message: message.into() }))
}

/// Calls `f` for every lane of the mask.
#[inline(always)]
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(lane)
    })
}
