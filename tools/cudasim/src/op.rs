//! The compact form of instructions that the interpreter runs.

mod kinds;

pub use self::kinds::*;
use crate::float::Round;
use crate::ptx::Location;

/// A place in a warp's register file. Slots below the kernel's register count are registers (a
/// 64-bit register takes two), those above are constants.
pub type Slot = u16;
/// A predicate register.
pub type Pred = u16;
/// No register: the destination is thrown away, or the operand is left out.
pub const NONE: u16 = u16::MAX;

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
    Fence {
        scope: Scope,
    },
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
