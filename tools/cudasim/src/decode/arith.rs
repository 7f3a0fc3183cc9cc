//! Arithmetic, logic, comparison, conversion and moves.

use super::Decoder;
use crate::float::Round;
use crate::op::*;
use crate::ptx::{Instruction, Operand, PtxError, Type};

type Result<T> = std::result::Result<T, PtxError>;

impl Decoder {
    pub(super) fn arithmetic(&mut self, i: &Instruction) -> Result<Option<Op>> {
        let last = i.opcode.last().map(String::as_str).unwrap_or("");
        let Some(ty) = Type::parse(last) else { return Ok(None) };
        Ok(Some(match i.opcode[0].as_str() {
            "cvt" => return self.convert(i).map(Some),
            "mov" => return self.mov(i).map(Some),
            "setp" => return self.setp(i, ty).map(Some),
            "set" => return self.set(i).map(Some),
            "selp" => {
                self.only(i, &[])?;
                self.count(i, 4)?;
                let bits = ty.size() * 8;
                let (a, b) = (self.source(i, 1, bits)?, self.source(i, 2, bits)?);
                let (p, negated) = self.predicate(i, 3)?;
                Op::Selp { wide: bits == 64, d: self.dest(i, 0, bits)?, a, b, p, negated }
            }
            "and" | "or" | "xor" | "not" if ty == Type::Pred => return self.predicate_logic(i).map(Some),
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" if ty.is_float() => self.float2(i, ty)?,
            "fma" | "mad" if ty.is_float() => self.float3(i, ty)?,
            "neg" | "abs" | "sqrt" | "rsqrt" | "rcp" | "ex2" | "lg2" | "sin" | "cos" | "tanh" if ty.is_float() => {
                self.float1(i, ty)?
            }
            "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "and" | "or" | "xor" | "shl" | "shr" => {
                self.int2(i, ty)?
            }
            "mad" => {
                self.only(i, &["lo", "hi", "wide"])?;
                self.count(i, 4)?;
                let (ty, bits) = int_type(i, ty)?;
                let (a, b) = (self.source(i, 1, bits)?, self.source(i, 2, bits)?);
                if i.has("wide") {
                    let c = self.source(i, 3, bits * 2)?;
                    Op::MadWide { ty, d: self.dest(i, 0, bits * 2)?, a, b, c }
                } else {
                    let c = self.source(i, 3, bits)?;
                    Op::Mad { hi: i.has("hi"), ty, d: self.dest(i, 0, bits)?, a, b, c }
                }
            }
            "neg" | "abs" | "not" | "popc" | "clz" | "brev" | "bfind" => {
                self.only(i, &[])?;
                self.count(i, 2)?;
                let (int, bits) = int_type(i, ty)?;
                let op = match i.opcode[0].as_str() {
                    "neg" => IntUnary::Neg,
                    "abs" => IntUnary::Abs,
                    "not" => IntUnary::Not,
                    "popc" => IntUnary::Popc,
                    "clz" => IntUnary::Clz,
                    "brev" => IntUnary::Brev,
                    _ => IntUnary::Bfind,
                };
                let narrow = matches!(op, IntUnary::Popc | IntUnary::Clz | IntUnary::Bfind);
                let a = self.source(i, 1, bits)?;
                Op::IntUnary { op, ty: int, d: self.dest(i, 0, if narrow { 32 } else { bits })?, a }
            }
            "bfe" => {
                self.only(i, &[])?;
                self.count(i, 4)?;
                let (ty, bits) = int_type(i, ty)?;
                let (a, b, c) = (self.source(i, 1, bits)?, self.source(i, 2, 32)?, self.source(i, 3, 32)?);
                Op::Bfe { ty, d: self.dest(i, 0, bits)?, a, b, c }
            }
            "bfi" => {
                self.only(i, &[])?;
                self.count(i, 5)?;
                let bits = ty.size() * 8;
                let (a, b) = (self.source(i, 1, bits)?, self.source(i, 2, bits)?);
                let (c, len) = (self.source(i, 3, 32)?, self.source(i, 4, 32)?);
                Op::Bfi { wide: bits == 64, d: self.dest(i, 0, bits)?, a, b, c, len }
            }
            "prmt" => {
                self.only(i, &[])?;
                self.count(i, 4)?;
                let (a, b, c) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?, self.source(i, 3, 32)?);
                Op::Prmt { d: self.dest(i, 0, 32)?, a, b, c }
            }
            "lop3" => {
                self.only(i, &[])?;
                self.count(i, 5)?;
                let (a, b, c) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?, self.source(i, 3, 32)?);
                let Some(Operand::Int(table)) = i.operands.get(4) else {
                    return Err(i.error("lop3 needs a table as its last operand"));
                };
                Op::Lop3 { table: *table as u8, d: self.dest(i, 0, 32)?, a, b, c }
            }
            "shf" => {
                self.only(i, &["l", "r", "wrap", "clamp"])?;
                self.count(i, 4)?;
                let (a, b, c) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?, self.source(i, 3, 32)?);
                Op::Shf { left: i.has("l"), wrap: i.has("wrap"), d: self.dest(i, 0, 32)?, a, b, c }
            }
            _ => return Ok(None),
        }))
    }

    fn int2(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        let name = i.opcode[0].as_str();
        self.only(i, if name == "mul" { &["lo", "hi", "wide"] } else { &[] })?;
        self.count(i, 3)?;
        let (int, bits) = int_type(i, ty)?;
        let op = match name {
            "add" => IntOp::Add,
            "sub" => IntOp::Sub,
            "mul" if i.has("hi") => IntOp::MulHi,
            "mul" => IntOp::MulLo,
            "div" => IntOp::Div,
            "rem" => IntOp::Rem,
            "min" => IntOp::Min,
            "max" => IntOp::Max,
            "and" => IntOp::And,
            "or" => IntOp::Or,
            "xor" => IntOp::Xor,
            "shl" => IntOp::Shl,
            _ => IntOp::Shr,
        };
        let shift = matches!(op, IntOp::Shl | IntOp::Shr);
        let (a, b) = (self.source(i, 1, bits)?, self.source(i, 2, if shift { 32 } else { bits })?);
        if name == "mul" && i.has("wide") {
            return Ok(Op::MulWide { ty: int, d: self.dest(i, 0, bits * 2)?, a, b });
        }
        if name == "mul" && !i.has("hi") && !i.has("lo") {
            return Err(i.error("an integer mul needs .lo, .hi or .wide"));
        }
        Ok(Op::Int { op, ty: int, d: self.dest(i, 0, bits)?, a, b })
    }

    fn float2(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        self.only(i, &["rn", "rz", "rm", "rp", "ftz", "sat", "approx", "full", "NaN", "noftz"])?;
        self.count(i, 3)?;
        let op = match i.opcode[0].as_str() {
            "add" => FloatOp::Add,
            "sub" => FloatOp::Sub,
            "mul" => FloatOp::Mul,
            "div" => FloatOp::Div,
            "min" if i.has("NaN") => FloatOp::MinNan,
            "max" if i.has("NaN") => FloatOp::MaxNan,
            "min" => FloatOp::Min,
            "max" => FloatOp::Max,
            _ => FloatOp::CopySign,
        };
        let bits = ty.size() * 8;
        let (a, b) = (self.source(i, 1, bits)?, self.source(i, 2, bits)?);
        let d = self.dest(i, 0, bits)?;
        let mode = mode(i);
        Ok(match ty {
            Type::F32 => Op::F32 { op, mode, d, a, b },
            Type::F64 if mode == FloatMode::default() => Op::F64 { op, d, a, b },
            Type::F64 => return Err(i.error("f64 is simulated with round-to-nearest alone")),
            _ => {
                if matches!(op, FloatOp::Div | FloatOp::CopySign) || mode.ftz || mode.round != Round::Nearest {
                    return Err(i.error(format!("{} is not simulated", i.name())));
                }
                let (format, packed) = half_type(i, ty)?;
                Op::Half { op, format, packed, sat: mode.sat, d, a, b }
            }
        })
    }

    fn float3(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        self.only(i, &["rn", "rz", "rm", "rp", "ftz", "sat", "relu"])?;
        self.count(i, 4)?;
        let bits = ty.size() * 8;
        let (a, b, c) = (self.source(i, 1, bits)?, self.source(i, 2, bits)?, self.source(i, 3, bits)?);
        let d = self.dest(i, 0, bits)?;
        let mode = mode(i);
        Ok(match ty {
            Type::F32 => Op::F32Fma { mode, d, a, b, c },
            Type::F64 if mode == FloatMode::default() => Op::F64Fma { d, a, b, c },
            Type::F64 => return Err(i.error("f64 is simulated with round-to-nearest alone")),
            _ if mode != FloatMode::default() => return Err(i.error(format!("{} is not simulated", i.name()))),
            _ => {
                let (format, packed) = half_type(i, ty)?;
                Op::HalfFma { format, packed, relu: i.has("relu"), d, a, b, c }
            }
        })
    }

    fn float1(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        self.only(i, &["rn", "rz", "rm", "rp", "ftz", "approx"])?;
        self.count(i, 2)?;
        let op = match i.opcode[0].as_str() {
            "neg" => FloatUnary::Neg,
            "abs" => FloatUnary::Abs,
            "sqrt" => FloatUnary::Sqrt,
            "rsqrt" => FloatUnary::Rsqrt,
            "rcp" => FloatUnary::Rcp,
            "ex2" => FloatUnary::Ex2,
            "lg2" => FloatUnary::Lg2,
            "sin" => FloatUnary::Sin,
            "cos" => FloatUnary::Cos,
            _ => FloatUnary::Tanh,
        };
        let exact = matches!(op, FloatUnary::Neg | FloatUnary::Abs | FloatUnary::Sqrt | FloatUnary::Rcp);
        if !exact && !i.has("approx") {
            return Err(i.error(format!("{} needs .approx", i.name())));
        }
        let bits = ty.size() * 8;
        let a = self.source(i, 1, bits)?;
        let d = self.dest(i, 0, bits)?;
        Ok(match ty {
            Type::F32 => Op::F32Unary { op, mode: mode(i), d, a },
            Type::F64 if exact && mode(i) == FloatMode::default() => Op::F64Unary { op, d, a },
            Type::F64 => return Err(i.error(format!("{} is not simulated", i.name()))),
            _ => {
                let (format, packed) = half_type(i, ty)?;
                Op::HalfUnary { op, format, packed, d, a }
            }
        })
    }

    fn predicate_logic(&mut self, i: &Instruction) -> Result<Op> {
        let d = match i.operands.first() {
            Some(Operand::Name(name)) => self.write_predicate(name, i)?,
            _ => return Err(i.error("expected a predicate")),
        };
        let (a, not_a) = self.predicate(i, 1)?;
        if i.opcode[0] == "not" {
            return Ok(Op::PredMov { d, a, negated: !not_a });
        }
        let (b, not_b) = self.predicate(i, 2)?;
        Ok(Op::PredOp { op: bool_op(&i.opcode[0]).unwrap_or(BoolOp::And), d, a, b, not_a, not_b })
    }

    fn compare(&mut self, i: &Instruction, ty: Type) -> Result<(Compare, CompareType, Slot, Slot)> {
        let known = [
            "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
            "num", "nan", "ftz", "and", "or", "xor",
        ];
        self.only(i, &known)?;
        let name = i.opcode[1].as_str();
        let (base, unordered) = match name.strip_suffix('u') {
            Some(base) => (base, true),
            None => (name, false),
        };
        let cmp = match base {
            "eq" => Compare::Eq,
            "ne" => Compare::Ne,
            "lt" | "lo" => Compare::Lt,
            "le" | "ls" => Compare::Le,
            "gt" | "hi" => Compare::Gt,
            "ge" | "hs" => Compare::Ge,
            "num" => Compare::Num,
            "nan" => Compare::Nan,
            _ => return Err(i.error(format!("unknown comparison {name}"))),
        };
        let bits = ty.size() * 8;
        let kind = match ty {
            Type::F32 => CompareType::F32 { unordered, ftz: i.has("ftz") },
            Type::F64 => CompareType::F64 { unordered },
            Type::F16 | Type::Bf16 => CompareType::Half { format: half_type(i, ty)?.0, unordered },
            Type::F16x2 | Type::Bf16x2 => return Err(i.error("packed comparisons are not simulated")),
            _ => CompareType::Int(int_type(i, ty)?.0),
        };
        Ok((cmp, kind, self.source(i, 1, bits)?, self.source(i, 2, bits)?))
    }

    fn setp(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        let combine = match i.opcode[2..i.opcode.len() - 1].iter().find_map(|p| bool_op(p)) {
            Some(op) => {
                self.count(i, 4)?;
                let (p, negated) = self.predicate(i, 3)?;
                Some((op, p, negated))
            }
            None => {
                self.count(i, 3)?;
                None
            }
        };
        let (cmp, ty, a, b) = self.compare(i, ty)?;
        let (p, q) = match &i.operands[0] {
            Operand::Name(p) => (self.write_predicate(p, i)?, NONE),
            Operand::Pair(p, q) => (self.write_predicate(p, i)?, self.write_predicate(q, i)?),
            _ => return Err(i.error("expected a predicate")),
        };
        Ok(Op::Setp { cmp, ty, combine, p, q, a, b })
    }

    /// `set.cmp.dtype.stype d, a, b`
    fn set(&mut self, i: &Instruction) -> Result<Op> {
        self.count(i, 3)?;
        let mut types = i.opcode[1..].iter().filter_map(|p| Type::parse(p));
        let (Some(to), Some(from)) = (types.next(), types.next()) else {
            return Err(i.error("set needs two types"));
        };
        let (cmp, ty, a, b) = self.compare(i, from)?;
        let d = self.dest(i, 0, 32)?;
        Ok(Op::Set { cmp, ty, float: to == Type::F32, d, a, b })
    }

    fn convert(&mut self, i: &Instruction) -> Result<Op> {
        self.only(i, &["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "relu"])?;
        let types: Vec<Type> = i.opcode[1..].iter().filter_map(|p| Type::parse(p)).collect();
        let [to, from] = types[..] else { return Err(i.error("cvt needs two types")) };
        let mode = mode(i);
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            self.count(i, 3)?;
            let (a, b) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?);
            let (format, _) = half_type(i, to)?;
            if from != Type::F32 || mode.sat || mode.ftz {
                return Err(i.error(format!("{} is not simulated", i.name())));
            }
            let d = self.dest(i, 0, 32)?;
            return Ok(Op::ConvertPacked { format, round: mode.round, relu: i.has("relu"), d, a, b });
        }
        self.count(i, 2)?;
        let integral = ["rni", "rzi", "rmi", "rpi"].iter().any(|m| i.has(m));
        let how = Convert { from: scalar(i, from)?, to: scalar(i, to)?, mode, integral, relu: i.has("relu") };
        let rounded = integral || ["rn", "rz", "rm", "rp", "rna"].iter().any(|m| i.has(m));
        let narrows = match (how.from.is_float(), how.to.is_float()) {
            (true, false) => true,
            (false, true) => true,
            (true, true) => to.size() < from.size() || to == Type::Tf32,
            (false, false) => false,
        };
        if narrows && !rounded {
            return Err(i.error(format!("{} needs a rounding mode", i.name())));
        }
        if how.from.is_float() && !how.to.is_float() && !integral {
            return Err(i.error("from float to integer needs .rni, .rzi, .rmi or .rpi"));
        }
        let a = self.loose_source(i, &i.operands[1], from.size().max(2) * 8)?;
        // a register wider than a signed value holds its sign in every bit
        let d = self.dest_of(i, &i.operands[0], to.size().max(2) * 8, true)?;
        let wider = self.width(&i.operands[0]).unwrap_or(0) > to.size().max(2) * 8;
        if wider && to.size() >= 4 {
            return Err(i.error("the destination has the wrong number of bits"));
        }
        Ok(Op::Convert { how, d, a })
    }

    fn mov(&mut self, i: &Instruction) -> Result<Op> {
        self.count(i, 2)?;
        self.only(i, &[])?;
        let ty = Type::parse(&i.opcode[1]).ok_or_else(|| i.error("unknown type"))?;
        let (to, from) = (&i.operands[0], &i.operands[1]);
        if ty == Type::Pred {
            let Operand::Name(name) = to else { return Err(i.error("expected a predicate")) };
            let d = self.write_predicate(name, i)?;
            return match from {
                Operand::Int(value) => Ok(Op::PredSet { d, value: *value != 0 }),
                _ => {
                    let (a, negated) = self.predicate(i, 1)?;
                    Ok(Op::PredMov { d, a, negated })
                }
            };
        }
        let bits = ty.size() * 8;
        self.param_address(i)?;
        if let Operand::Vector(parts) = from {
            let part = part_bits(i, bits, parts.len())?;
            let mut a = [NONE; 4];
            for (slot, operand) in a.iter_mut().zip(parts) {
                *slot = self.loose_source(i, operand, part.max(16))?;
            }
            return Ok(Op::Pack { bits: part as u8, n: parts.len() as u8, d: self.dest(i, 0, bits)?, a });
        }
        if let Operand::Vector(parts) = to {
            let part = part_bits(i, bits, parts.len())?;
            let a = self.source(i, 1, bits)?;
            let mut d = [NONE; 4];
            for (slot, operand) in d.iter_mut().zip(parts) {
                *slot = self.dest_of(i, operand, part.max(16), false)?;
            }
            return Ok(Op::Unpack { bits: part as u8, n: parts.len() as u8, d, a });
        }
        if let Operand::Name(name) = from
            && matches!(name.as_str(), "%clock" | "%clock_lo" | "%clock64" | "%globaltimer" | "%globaltimer_lo")
        {
            return Ok(Op::Clock { wide: bits == 64, d: self.dest(i, 0, bits)? });
        }
        // a literal of f32 in a 32-bit move of any type, and the like
        let a = self.source(i, 1, bits)?;
        Ok(Op::Mov { wide: bits == 64, d: self.dest(i, 0, bits)?, a })
    }
}

fn part_bits(i: &Instruction, bits: u32, parts: usize) -> Result<u32> {
    match (bits, parts) {
        (16 | 32 | 64, 2) | (32 | 64, 4) => Ok(bits / parts as u32),
        _ => Err(i.error(format!("{parts} parts do not make {bits} bits"))),
    }
}

fn bool_op(name: &str) -> Option<BoolOp> {
    match name {
        "and" => Some(BoolOp::And),
        "or" => Some(BoolOp::Or),
        "xor" => Some(BoolOp::Xor),
        _ => None,
    }
}

/// Rounding, `.ftz` and `.sat` of an instruction.
fn mode(i: &Instruction) -> FloatMode {
    let round = match i.opcode[1..].iter().map(String::as_str).find(|p| p.starts_with('r')) {
        Some("rz" | "rzi") => Round::Zero,
        Some("rm" | "rmi") => Round::Down,
        Some("rp" | "rpi") => Round::Up,
        Some("rna") => Round::NearestAway,
        _ => Round::Nearest,
    };
    FloatMode { round, ftz: i.has("ftz"), sat: i.has("sat") }
}

/// The integer type and its bits; untyped bits count as unsigned.
pub(super) fn int_type(i: &Instruction, ty: Type) -> Result<(IntType, u32)> {
    Ok(match ty {
        Type::U16 | Type::B16 => (IntType::U16, 16),
        Type::S16 => (IntType::S16, 16),
        Type::U32 | Type::B32 => (IntType::U32, 32),
        Type::S32 => (IntType::S32, 32),
        Type::U64 | Type::B64 => (IntType::U64, 64),
        Type::S64 => (IntType::S64, 64),
        _ => return Err(i.error(format!("{} has no such type", i.name()))),
    })
}

pub(super) fn half_type(i: &Instruction, ty: Type) -> Result<(Half, bool)> {
    Ok(match ty {
        Type::F16 => (Half::F16, false),
        Type::F16x2 => (Half::F16, true),
        Type::Bf16 => (Half::Bf16, false),
        Type::Bf16x2 => (Half::Bf16, true),
        _ => return Err(i.error(format!("{} has no such type", i.name()))),
    })
}

fn scalar(i: &Instruction, ty: Type) -> Result<Scalar> {
    Ok(match ty {
        Type::U8 => Scalar::U8,
        Type::S8 => Scalar::S8,
        Type::U16 => Scalar::U16,
        Type::S16 => Scalar::S16,
        Type::U32 => Scalar::U32,
        Type::S32 => Scalar::S32,
        Type::U64 => Scalar::U64,
        Type::S64 => Scalar::S64,
        Type::F16 => Scalar::F16,
        Type::Bf16 => Scalar::Bf16,
        Type::Tf32 => Scalar::Tf32,
        Type::F32 => Scalar::F32,
        Type::F64 => Scalar::F64,
        _ => return Err(i.error(format!("{} has no such type", i.name()))),
    })
}
