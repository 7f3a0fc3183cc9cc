//! What the simulator found, said so that it can be mended.

use std::fmt;

/// Kinds of findings. Each maps to the error code that the driver returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OutOfBounds,
    Misaligned,
    Uninitialised,
    Race,
    /// `bar.sync` that not all threads reach.
    DivergentBarrier,
    /// A shuffle, vote or matrix instruction without all the lanes it names.
    WarpSync,
    AsyncCopy,
    Trap,
    /// No thread can go on.
    Deadlock,
    /// Too many instructions.
    Timeout,
    /// A launch the GPU would refuse.
    Launch,
    /// A call of the driver with wrong arguments.
    Call,
    Leak,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::OutOfBounds => "out of bounds",
            Kind::Misaligned => "misaligned address",
            Kind::Uninitialised => "uninitialised read",
            Kind::Race => "race",
            Kind::DivergentBarrier => "divergent barrier",
            Kind::WarpSync => "missing lanes",
            Kind::AsyncCopy => "asynchronous copy",
            Kind::Trap => "trap",
            Kind::Deadlock => "deadlock",
            Kind::Timeout => "timeout",
            Kind::Launch => "refused launch",
            Kind::Call => "wrong call",
            Kind::Leak => "leak",
        }
    }

    /// The `CUresult` of a kernel that fails so.
    pub fn code(self) -> u32 {
        match self {
            Kind::OutOfBounds => 700,
            Kind::Misaligned => 716,
            Kind::Timeout | Kind::Deadlock => 702,
            Kind::Launch | Kind::Call => 1,
            _ => 719,
        }
    }
}

/// Where in a kernel, and which thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub kernel: String,
    /// Line of the PTX, from 1, and its text.
    pub ptx_line: u32,
    pub ptx: String,
    /// `file:line`, where the PTX says it.
    pub source: Option<String>,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    pub address: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub message: String,
    pub place: Option<Place>,
    /// The code the driver returns.
    pub code: u32,
}

impl Finding {
    /// A finding outside of a running kernel.
    pub fn outside(kind: Kind, code: u32, message: impl Into<String>) -> Finding {
        Finding { kind, message: message.into(), place: None, code }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cudasim: {}: {}", self.kind.name(), self.message)?;
        let Some(p) = &self.place else { return Ok(()) };
        write!(f, "\n  kernel {}, PTX line {}: `{}`", p.kernel, p.ptx_line, p.ptx)?;
        if let Some(source) = &p.source {
            write!(f, "\n  source {source}")?;
        }
        let ([bx, by, bz], [tx, ty, tz]) = (p.block, p.thread);
        write!(f, "\n  block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})")?;
        if let Some(address) = p.address {
            write!(f, ", address 0x{address:x}")?;
        }
        Ok(())
    }
}
