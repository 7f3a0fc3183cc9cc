//! The compact form of instructions that the interpreter runs.

use crate::float::Round;
use crate::ptx::Location;

/// A place in a warp's register file. Slots below the kernel's register count are registers (a 64-bit register takes two),
/// those above are constants.
pub type Slot = u16;
/// A predicate register.
pub type Pred = u16;
/// No register: the destination is thrown away, or the operand is left out.
pub const NONE: u16 = u16::MAX;

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

/// Ordering of a load, store or atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Weak,
    /// `.nc`: through the cache that is not kept coherent.
    NonCoherent,
    /// `.volatile` and `.relaxed`
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

impl Order {
    pub fn is_strong(self) -> bool {
        !matches!(self, Order::Weak | Order::NonCoherent)
    }

    pub fn acquires(self) -> bool {
        matches!(self, Order::Acquire | Order::AcquireRelease)
    }

    pub fn releases(self) -> bool {
        matches!(self, Order::Release | Order::AcquireRelease)
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

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Int {
        op: IntOp,
        ty: IntType,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// Twice as wide as its inputs.
    MulWide {
        ty: IntType,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Mad {
        hi: bool,
        ty: IntType,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    MadWide {
        ty: IntType,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    IntUnary {
        op: IntUnary,
        ty: IntType,
        d: Slot,
        a: Slot,
    },
    Bfe {
        ty: IntType,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Bfi {
        wide: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        len: Slot,
    },
    Prmt {
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Lop3 {
        table: u8,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// Funnel shift.
    Shf {
        left: bool,
        wrap: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    F32 {
        op: FloatOp,
        mode: FloatMode,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    F32Unary {
        op: FloatUnary,
        mode: FloatMode,
        d: Slot,
        a: Slot,
    },
    F32Fma {
        mode: FloatMode,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    F64 {
        op: FloatOp,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    F64Unary {
        op: FloatUnary,
        d: Slot,
        a: Slot,
    },
    F64Fma {
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Half {
        op: FloatOp,
        format: Half,
        packed: bool,
        sat: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    HalfUnary {
        op: FloatUnary,
        format: Half,
        packed: bool,
        d: Slot,
        a: Slot,
    },
    HalfFma {
        format: Half,
        packed: bool,
        relu: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Convert {
        how: Convert,
        d: Slot,
        a: Slot,
    },
    /// Two f32 to a packed pair; `a` goes to the upper half.
    ConvertPacked {
        format: Half,
        round: Round,
        relu: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Mov {
        wide: bool,
        d: Slot,
        a: Slot,
    },
    /// Joins `n` parts, the first lowest, of 8, 16 or 32 bits each.
    Pack {
        bits: u8,
        n: u8,
        d: Slot,
        a: [Slot; 4],
    },
    Unpack {
        bits: u8,
        n: u8,
        d: [Slot; 4],
        a: Slot,
    },
    /// The count of instructions so far, for `%clock` and its like.
    Clock {
        wide: bool,
        d: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    Setp {
        cmp: Compare,
        ty: CompareType,
        combine: Option<(BoolOp, Pred, bool)>,
        p: Pred,
        q: Pred,
        a: Slot,
        b: Slot,
    },
    /// `set`: all ones, or 1.0 if `float`.
    Set {
        cmp: Compare,
        ty: CompareType,
        float: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Selp {
        wide: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        p: Pred,
        negated: bool,
    },
    PredOp {
        op: BoolOp,
        d: Pred,
        a: Pred,
        b: Pred,
        not_a: bool,
        not_b: bool,
    },
    PredMov {
        d: Pred,
        a: Pred,
        negated: bool,
    },
    PredSet {
        d: Pred,
        value: bool,
    },
    LoadParam {
        size: u8,
        count: u8,
        signed: bool,
        wide: bool,
        regs: [Slot; 4],
        offset: u32,
    },
    Load(Access),
    Store(Access),
    Atom(Atom),
    /// To or from an address of a window of the generic space.
    Cvta {
        to: bool,
        space: MemSpace,
        d: Slot,
        a: Slot,
    },
    CpAsync {
        bytes: u8,
        dst: Address,
        src: Address,
        src_size: Slot,
    },
    CpCommit,
    /// Waits until at most this many groups of the thread are under way; `NONE` waits for all.
    CpWait {
        groups: u16,
    },
    LdMatrix {
        n: u8,
        trans: bool,
        d: [Slot; 4],
        address: Address,
    },
    Mma(Mma),
    Shfl {
        mode: Shuffle,
        d: Slot,
        p: Pred,
        a: Slot,
        b: Slot,
        c: Slot,
        mask: Slot,
    },
    Vote {
        mode: Vote,
        d: Slot,
        p: Pred,
        a: Pred,
        negated: bool,
        mask: Slot,
    },
    Redux {
        op: IntOp,
        signed: bool,
        d: Slot,
        a: Slot,
        mask: Slot,
    },
    WarpSync {
        mask: Slot,
    },
    /// `threads` is `NONE` for all of the block.
    Bar {
        id: Slot,
        threads: Slot,
        waits: bool,
    },
    Fence,
    Bra {
        target: u32,
    },
    Ret,
    Trap,
    Nop,
}

/// One instruction with what a report needs.
#[derive(Clone, Debug)]
pub struct Inst {
    pub op: Op,
    /// Guard predicate, or `NONE`.
    pub guard: Pred,
    pub guard_negated: bool,
    /// Range of `Program::reads`.
    pub reads: (u32, u32),
    pub line: u32,
    pub location: Location,
}
