//! What an instruction counts as.

use crate::op::{FloatOp, FloatUnary, MemSpace, Op};

/// Instruction classes that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Class {
    Integer,
    Float,
    Special,
    Half,
    Tensor,
    Convert,
    Move,
    Predicate,
    GlobalLoad,
    GlobalStore,
    SharedLoad,
    SharedStore,
    LocalMemory,
    Parameter,
    Atomic,
    AsyncCopy,
    Shuffle,
    Barrier,
    Branch,
    Other,
}

/// Names of the classes, in the order of [`Class`].
pub const CLASS_NAMES: [&str; 20] = [
    "integer",
    "float",
    "special",
    "half",
    "tensor",
    "convert",
    "move",
    "predicate",
    "global_load",
    "global_store",
    "shared_load",
    "shared_store",
    "local_memory",
    "parameter",
    "atomic",
    "async_copy",
    "shuffle",
    "barrier",
    "branch",
    "other",
];

impl Op {
    pub fn class(&self) -> Class {
        match self {
            Op::Int { .. }
            | Op::MulWide { .. }
            | Op::Mad { .. }
            | Op::MadWide { .. }
            | Op::IntUnary { .. }
            | Op::Bfe { .. }
            | Op::Bfi { .. }
            | Op::Prmt { .. }
            | Op::Lop3 { .. }
            | Op::Shf { .. } => Class::Integer,
            Op::F32 { .. } | Op::F32Fma { .. } | Op::F64 { .. } | Op::F64Unary { .. } | Op::F64Fma { .. } => {
                Class::Float
            }
            Op::F32Unary { op: FloatUnary::Neg | FloatUnary::Abs, .. } => Class::Float,
            Op::F32Unary { .. } => Class::Special,
            Op::Half { .. } | Op::HalfUnary { .. } | Op::HalfFma { .. } => Class::Half,
            Op::Convert { .. } | Op::ConvertPacked { .. } => Class::Convert,
            Op::Mov { .. } | Op::Pack { .. } | Op::Unpack { .. } | Op::Cvta { .. } | Op::Selp { .. } => Class::Move,
            Op::Setp { .. } | Op::Set { .. } | Op::PredOp { .. } | Op::PredMov { .. } | Op::PredSet { .. } => {
                Class::Predicate
            }
            Op::LoadParam { .. } => Class::Parameter,
            Op::Load(a) => match a.space {
                MemSpace::Shared => Class::SharedLoad,
                MemSpace::Local => Class::LocalMemory,
                _ => Class::GlobalLoad,
            },
            Op::Store(a) => match a.space {
                MemSpace::Shared => Class::SharedStore,
                MemSpace::Local => Class::LocalMemory,
                _ => Class::GlobalStore,
            },
            Op::LdMatrix { .. } => Class::SharedLoad,
            Op::Atom(_) => Class::Atomic,
            Op::CpAsync { .. } | Op::CpCommit | Op::CpWait { .. } => Class::AsyncCopy,
            Op::Mma(_) => Class::Tensor,
            Op::Shfl { .. } | Op::Vote { .. } | Op::Redux { .. } | Op::ActiveMask { .. } => Class::Shuffle,
            Op::WarpSync { .. } | Op::Bar { .. } | Op::Fence { .. } => Class::Barrier,
            Op::Bra { .. } | Op::Ret => Class::Branch,
            Op::Clock { .. } | Op::Trap | Op::Nop => Class::Other,
        }
    }

    /// Floating-point operations of one thread, tensor instructions left out.
    pub fn flops(&self) -> u64 {
        match self {
            Op::F32 { op, .. } | Op::F64 { op, .. } => u64::from(*op != FloatOp::CopySign),
            Op::F32Unary { op, .. } | Op::F64Unary { op, .. } => {
                u64::from(!matches!(op, FloatUnary::Neg | FloatUnary::Abs))
            }
            Op::F32Fma { .. } | Op::F64Fma { .. } => 2,
            Op::Half { packed, .. } => 1 + u64::from(*packed),
            Op::HalfFma { packed, .. } => 2 + 2 * u64::from(*packed),
            _ => 0,
        }
    }

    /// Floating-point operations of one warp in a tensor instruction.
    pub fn tensor_flops(&self) -> u64 {
        match self {
            Op::Mma(mma) => 2 * 16 * 8 * u64::from(mma.k),
            _ => 0,
        }
    }
}
