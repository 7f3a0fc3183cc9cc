//! Types, modes and operands that operations are made of.

use super::Slot;
use crate::float::Round;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntType {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOp {
    Add,
    Sub,
    MulLo,
    MulHi,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntUnary {
    Neg,
    Abs,
    Not,
    Popc,
    Clz,
    Brev,
    /// Position of the highest set bit (of the highest bit that differs from the sign).
    Bfind,
}

/// Rounding, flush-to-zero and saturation of a floating-point instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloatMode {
    pub round: Round,
    pub ftz: bool,
    pub sat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatOp {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// NaN if an input is NaN.
    MinNan,
    MaxNan,
    CopySign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatUnary {
    Neg,
    Abs,
    Sqrt,
    Rsqrt,
    Rcp,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

/// 16-bit floating-point formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Neither is NaN.
    Num,
    /// One is NaN.
    Nan,
}

/// How operands are compared; for floats `unordered` makes a comparison with NaN true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareType {
    Int(IntType),
    F32 { unordered: bool, ftz: bool },
    F64 { unordered: bool },
    Half { format: Half, unordered: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoolOp {
    And,
    Or,
    Xor,
}

/// Scalar types that `cvt` converts between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
}

impl Scalar {
    pub fn is_float(self) -> bool {
        matches!(self, Scalar::F16 | Scalar::Bf16 | Scalar::Tf32 | Scalar::F32 | Scalar::F64)
    }

    pub fn is_wide(self) -> bool {
        matches!(self, Scalar::U64 | Scalar::S64 | Scalar::F64)
    }
}

/// `integral` rounds a float to a whole number first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    pub from: Scalar,
    pub to: Scalar,
    pub mode: FloatMode,
    pub integral: bool,
    pub relu: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemSpace {
    Generic,
    Global,
    Shared,
    Local,
}

/// Threads that an access or a fence orders with. There is one GPU, and the host waits: `.gpu` and
/// `.sys` are the same. There are no clusters: a block is all of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `.cta` and `.cluster`
    Block,
    /// `.gpu` and `.sys`
    Gpu,
}

/// Ordering of a load, store or atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Weak,
    /// `.nc`: through the cache that is not kept coherent.
    NonCoherent,
    /// `.volatile` and `.relaxed`
    Relaxed(Scope),
    Acquire(Scope),
    Release(Scope),
    AcquireRelease(Scope),
}

impl Order {
    /// The scope of a strong access.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Order::Weak | Order::NonCoherent => None,
            Order::Relaxed(scope) | Order::Acquire(scope) | Order::Release(scope) | Order::AcquireRelease(scope) => {
                Some(scope)
            }
        }
    }

    pub fn is_strong(self) -> bool {
        self.scope().is_some()
    }

    /// Whether other blocks may see something by it.
    pub fn leaves_block(self) -> bool {
        self.scope() == Some(Scope::Gpu)
    }

    pub fn acquires(self) -> bool {
        matches!(self, Order::Acquire(_) | Order::AcquireRelease(_))
    }

    pub fn releases(self) -> bool {
        matches!(self, Order::Release(_) | Order::AcquireRelease(_))
    }
}

/// `[base + offset]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub base: Slot,
    pub wide: bool,
    pub offset: i64,
}

/// A load or store of `count` elements of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub space: MemSpace,
    pub size: u8,
    pub count: u8,
    /// Loads of less than 32 bits: copy the sign upwards.
    pub signed: bool,
    /// The registers are 64 bits wide.
    pub wide: bool,
    pub order: Order,
    pub regs: [Slot; 4],
    pub address: Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomOp {
    Add,
    Exch,
    Cas,
    Min,
    Max,
    And,
    Or,
    Xor,
    Inc,
    Dec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomType {
    U32,
    S32,
    U64,
    S64,
    F32,
    F64,
    Packed(Half),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom {
    pub space: MemSpace,
    pub op: AtomOp,
    pub ty: AtomType,
    pub order: Order,
    pub d: Slot,
    pub address: Address,
    pub b: Slot,
    pub c: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

/// Input type of a matrix instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmaInput {
    Half(Half),
    Tf32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mma {
    /// 4, 8 or 16; the other sizes are 16 and 8.
    pub k: u8,
    pub input: MmaInput,
    pub d: [Slot; 4],
    pub a: [Slot; 4],
    pub b: [Slot; 2],
    pub c: [Slot; 4],
}
