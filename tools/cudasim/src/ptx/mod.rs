//! PTX text: tokens and the syntax tree.

mod contract;
mod lexer;
mod parser;

pub use contract::contract;
pub use parser::parse;

use std::fmt;

/// A PTX text that cannot be read or holds what the simulator does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxError {
    /// Line in the PTX text, from 1.
    pub line: u32,
    pub message: String,
}

impl PtxError {
    pub fn new(line: u32, message: impl Into<String>) -> Self {
        PtxError { line, message: message.into() }
    }
}

impl fmt::Display for PtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for PtxError {}

/// Types of PTX values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
}

impl Type {
    /// The type of a name without its dot, such as `u32`.
    pub fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "tf32" => Type::Tf32,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes of a value in memory.
    pub fn size(self) -> u32 {
        match self {
            Type::Pred | Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            _ => 4,
        }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn is_float(self) -> bool {
        matches!(self, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 | Type::Tf32 | Type::F32 | Type::F64)
    }
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, special register, variable or label.
    Name(String),
    /// `!name`
    Not(String),
    /// `name|name`; `_` leaves one out.
    Pair(String, String),
    Int(i64),
    /// Bits of a `0f` literal.
    Float(u32),
    /// Bits of a `0d` literal.
    Double(u64),
    Vector(Vec<Operand>),
    /// `[base+offset]`; without a base the offset is the address.
    Address(Option<String>, i64),
}

/// Where a line of the PTX came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Number of the `.file`; 0 where none is known.
    pub file: u32,
    pub line: u32,
}

#[derive(Clone, Debug)]
pub struct Instruction {
    /// The guard: predicate register, and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// The opcode split at its dots: `ld`, `global`, `f32`.
    pub opcode: Vec<String>,
    pub operands: Vec<Operand>,
    pub line: u32,
    pub location: Location,
}

impl Instruction {
    /// Whether the opcode has the modifier, `has("ftz")`.
    pub fn has(&self, modifier: &str) -> bool {
        self.opcode[1..].iter().any(|part| part == modifier)
    }

    pub fn name(&self) -> String {
        self.opcode.join(".")
    }

    /// An error at the line of this instruction.
    pub fn error(&self, message: impl Into<String>) -> PtxError {
        PtxError::new(self.line, message)
    }
}

/// State spaces of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Global,
    Const,
    Shared,
    Local,
}

#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub align: u32,
    /// Bytes; 0 for `name[]`, whose size the launch gives.
    pub size: u32,
    /// Initial bytes, shorter than `size` where the rest is zero.
    pub initial: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: String,
    pub size: u32,
    pub align: u32,
}

/// A `.entry`.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub name: String,
    pub params: Vec<Param>,
    /// Register declarations: name, or prefix and count of `%r<8>`.
    pub registers: Vec<(String, Option<u32>, Option<Type>)>,
    pub variables: Vec<Variable>,
    pub body: Vec<Instruction>,
    /// Label to index into `body`.
    pub labels: Vec<(String, usize)>,
    /// Product of `.maxntid` or `.reqntid`.
    pub max_threads: Option<u32>,
    /// `.reqntid` as given.
    pub required_threads: Option<[u32; 3]>,
    pub line: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Module {
    pub version: (u32, u32),
    /// 80 for `sm_80`.
    pub target: u32,
    pub files: Vec<(u32, String)>,
    pub variables: Vec<Variable>,
    pub kernels: Vec<Kernel>,
    /// The lines of the text, for reports.
    pub text: Vec<String>,
}
