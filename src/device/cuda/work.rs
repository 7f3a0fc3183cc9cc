//! Work for the stream: launches, copies, fills, in their order, each with the data to be done
//! or compared.

use std::ffi::c_void;
use std::ops::Range;

use super::driver::{self, CUfunction, CUstream, Shape};
use super::error::failed;
use super::simulate;
use crate::error::Result;
use crate::trace::{Layer, Pass};

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Launch(Launch),
    /// From the host; the bytes are in [`Work::host`], one upload after the other.
    Upload {
        to: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    Zero {
        address: u64,
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    pub kernel: &'static str,
    pub function: CUfunction,
    pub shape: Shape,
    /// Operation, layer and pass of the launch, where spans are recorded.
    pub purpose: Option<(&'static str, Layer, Pass)>,
}

/// Pieces of work in their order. Two of them are equal if they do the same to the same memory;
/// what is uploaded may differ.
#[derive(Debug, Default)]
pub(super) struct Work {
    pieces: Vec<Piece>,
    /// Values of all arguments, each beginning with a new word.
    words: Vec<u64>,
    /// Where each argument begins.
    arguments: Vec<usize>,
    /// Where each launch's arguments begin.
    launches: Vec<usize>,
    host: Vec<u8>,
}

// SAFETY: a function's handle may be used from any thread.
unsafe impl Send for Work {}

impl PartialEq for Work {
    fn eq(&self, other: &Self) -> bool {
        self.pieces == other.pieces && self.words == other.words && self.arguments == other.arguments
    }
}

impl Work {
    /// `arguments`: the bytes of each, in words.
    pub fn launch<'a>(&mut self, launch: Launch, arguments: impl Iterator<Item = &'a [u64]>) {
        self.launches.push(self.arguments.len());
        for words in arguments {
            self.arguments.push(self.words.len());
            self.words.extend_from_slice(words);
        }
        self.pieces.push(Piece::Launch(launch));
    }

    pub fn upload(&mut self, to: u64, bytes: &[u8]) {
        self.host.extend_from_slice(bytes);
        self.pieces.push(Piece::Upload { to, bytes: bytes.len() });
    }

    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) {
        self.pieces.push(Piece::Copy { to, from, bytes });
    }

    pub fn zero(&mut self, address: u64, bytes: usize) {
        self.pieces.push(Piece::Zero { address, bytes });
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it touches this memory. An argument that only looks like one of its addresses
    /// counts.
    pub fn uses(&self, memory: &Range<u64>) -> bool {
        let touches = |piece: &Piece| match *piece {
            Piece::Launch(_) => false,
            Piece::Upload { to, .. } => memory.contains(&to),
            Piece::Copy { to, from, .. } => memory.contains(&to) || memory.contains(&from),
            Piece::Zero { address, .. } => memory.contains(&address),
        };
        self.pieces.iter().any(touches) || self.words.iter().any(|word| memory.contains(word))
    }

    /// All bytes that are uploaded.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Forgets everything but the memory that it takes.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.words.clear();
        self.arguments.clear();
        self.launches.clear();
        self.host.clear();
    }

    /// The same work without what is uploaded, to compare with.
    pub fn pattern(&self) -> Self {
        Work {
            pieces: self.pieces.clone(),
            words: self.words.clone(),
            arguments: self.arguments.clone(),
            ..Self::default()
        }
    }

    /// Gives all of it to a stream, in order. Uploads are read from `host`, which is as long as
    /// [`host`](Self::host).
    pub fn issue(&self, stream: CUstream, host: &[u8]) -> Result<()> {
        let (mut host, mut launches) = (host, self.launches.iter());
        let mut pointers: Vec<*mut c_void> = Vec::with_capacity(32);
        for piece in &self.pieces {
            match *piece {
                Piece::Launch(ref launch) => {
                    let from = *launches.next().expect("every launch is noted");
                    let to = launches.as_slice().first().copied().unwrap_or(self.arguments.len());
                    pointers.clear();
                    let value = |&at: &usize| self.words[at..].as_ptr().cast_mut().cast();
                    pointers.extend(self.arguments[from..to].iter().map(value));
                    launch.issue(stream, &mut pointers)?;
                }
                Piece::Upload { to, bytes } => {
                    let (these, rest) = host.split_at(bytes);
                    host = rest;
                    // SAFETY: the block that the work was made for holds the range. Bytes that can
                    // be swapped out are staged before the call returns; those of a graph stay
                    // where they are (see `Graphs`).
                    unsafe { driver::upload(to, these, stream) }.map_err(|e| failed("copying to the GPU", e))?;
                }
                Piece::Copy { to, from, bytes } => {
                    // SAFETY: the blocks that the work was made for hold the ranges, and are not
                    // the same.
                    unsafe { driver::copy(to, from, bytes, stream) }
                        .map_err(|e| failed("copying within the GPU", e))?;
                }
                Piece::Zero { address, bytes } => {
                    // SAFETY: as above.
                    unsafe { driver::zero(address, bytes, stream) }.map_err(|e| failed("zeroing memory", e))?;
                }
            }
        }
        Ok(())
    }
}

impl Launch {
    fn issue(&self, stream: CUstream, arguments: &mut [*mut c_void]) -> Result<()> {
        simulate::expect_launch(arguments.len(), self.purpose);
        // SAFETY: the function is loaded (no work is made or issued once it is not); number and
        // sizes of the arguments are those that its PTX declares.
        unsafe { driver::launch(self.function, self.shape, stream, arguments) }
            .map_err(|e| failed(&format!("kernel '{}'", self.kernel), e))
    }
}
