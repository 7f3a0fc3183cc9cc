//! Loads, stores, atomics, asynchronous copies and addresses.

use super::Decoder;
use super::arith::half_type;
use crate::op::*;
use crate::ptx::{Instruction, Operand, PtxError, Type};

type Result<T> = std::result::Result<T, PtxError>;

/// Modifiers that speak of caches, and scopes (see `scope`).
const HINTS: [&str; 24] = [
    "weak",
    "cta",
    "gpu",
    "sys",
    "cluster",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "L1::no_allocate",
    "L1::evict_normal",
    "L1::evict_last",
    "L1::evict_first",
    "L1::evict_unchanged",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "shared::cta",
    "global",
    "shared",
    "local",
];

fn space(i: &Instruction) -> MemSpace {
    for part in &i.opcode[1..] {
        match part.as_str() {
            "global" | "const" => return MemSpace::Global,
            "shared" | "shared::cta" => return MemSpace::Shared,
            "local" => return MemSpace::Local,
            _ => {}
        }
    }
    MemSpace::Generic
}

/// Of an atomic, a fence, or a load or store that orders: the whole GPU where nothing is said.
pub(super) fn scope(i: &Instruction) -> Scope {
    if i.has("cta") || i.has("cluster") { Scope::Block } else { Scope::Gpu }
}

fn order(i: &Instruction) -> Order {
    for part in &i.opcode[1..] {
        match part.as_str() {
            "nc" => return Order::NonCoherent,
            "volatile" | "relaxed" => return Order::Relaxed(scope(i)),
            "acquire" => return Order::Acquire(scope(i)),
            "release" => return Order::Release(scope(i)),
            "acq_rel" => return Order::AcquireRelease(scope(i)),
            _ => {}
        }
    }
    Order::Weak
}

impl Decoder {
    pub(super) fn memory(&mut self, i: &Instruction) -> Result<Option<Op>> {
        let last = i.opcode.last().map(String::as_str).unwrap_or("");
        let ty = Type::parse(last);
        Ok(Some(match (i.opcode[0].as_str(), ty) {
            ("ld", Some(ty)) if i.has("param") => self.load_param(i, ty)?,
            ("ld" | "ldu", Some(ty)) => {
                self.hints(i, &["volatile", "relaxed", "acquire", "nc", "const", "v2", "v4"])?;
                self.count(i, 2)?;
                let regs = self.vector(i, 0, ty, false)?;
                let address = self.address(i, 1)?;
                Op::Load(self.access(i, ty, regs, address, 0)?)
            }
            ("st", Some(ty)) => {
                self.hints(i, &["volatile", "relaxed", "release", "v2", "v4"])?;
                self.count(i, 2)?;
                let address = self.address(i, 0)?;
                let regs = self.vector(i, 1, ty, true)?;
                Op::Store(self.access(i, ty, regs, address, 1)?)
            }
            ("atom" | "red", Some(ty)) => self.atom(i, ty)?,
            ("cvta", Some(Type::U64)) => {
                self.hints(i, &["to", "const"])?;
                self.count(i, 2)?;
                let a = self.source(i, 1, 64)?;
                Op::Cvta { to: i.has("to"), space: space(i), d: self.dest(i, 0, 64)?, a }
            }
            ("cp", _) if i.has("async") => self.cp_async(i)?,
            ("ldmatrix", Some(Type::B16)) => {
                self.hints(i, &["sync", "aligned", "m8n8", "x1", "x2", "x4", "trans"])?;
                self.count(i, 2)?;
                let n = [("x1", 1), ("x2", 2), ("x4", 4)].iter().find(|(m, _)| i.has(m)).map_or(1, |m| m.1);
                let d = self.fragment::<4>(i, 0, n, false)?;
                Op::LdMatrix { n: n as u8, trans: i.has("trans"), d, address: self.address(i, 1)? }
            }
            ("mma", _) => self.mma(i)?,
            _ => return Ok(None),
        }))
    }

    fn hints(&self, i: &Instruction, more: &[&str]) -> Result<()> {
        let mut allowed = HINTS.to_vec();
        allowed.extend_from_slice(more);
        self.only(i, &allowed)
    }

    /// The registers of a scalar or vector operand.
    fn vector(&mut self, i: &Instruction, n: usize, ty: Type, source: bool) -> Result<Vec<Slot>> {
        let operand = i.operands.get(n).ok_or_else(|| i.error("an operand is missing"))?.clone();
        let parts = match operand {
            Operand::Vector(parts) => parts,
            single => vec![single],
        };
        let want = if i.has("v4") {
            4
        } else if i.has("v2") {
            2
        } else {
            1
        };
        if parts.len() != want {
            return Err(i.error(format!("{} takes {want} registers, found {}", i.name(), parts.len())));
        }
        let bits = ty.size().max(2) * 8;
        parts
            .iter()
            .map(|p| if source { self.loose_source(i, p, bits) } else { self.dest_of(i, p, bits, true) })
            .collect()
    }

    fn access(&self, i: &Instruction, ty: Type, slots: Vec<Slot>, address: Address, n: usize) -> Result<Access> {
        let mut regs = [NONE; 4];
        regs[..slots.len()].copy_from_slice(&slots);
        let first = match &i.operands[n] {
            Operand::Vector(parts) => &parts[0],
            single => single,
        };
        // a literal that is stored has the width of the type
        let wide = self.width(first).unwrap_or(ty.size() * 8) == 64;
        if ty.size() * slots.len() as u32 > 16 {
            return Err(i.error("a vector access has at most 16 bytes"));
        }
        Ok(Access {
            space: space(i),
            size: ty.size() as u8,
            count: slots.len() as u8,
            signed: ty.is_signed(),
            wide,
            order: order(i),
            regs,
            address,
        })
    }

    fn load_param(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        self.only(i, &["param", "v2", "v4"])?;
        self.count(i, 2)?;
        let slots = self.vector(i, 0, ty, false)?;
        let offset = self.param_offset(i, &i.operands[1])?;
        let a = self.access(i, ty, slots, Address { base: NONE, wide: true, offset: 0 }, 0)?;
        Ok(Op::LoadParam { size: a.size, count: a.count, signed: a.signed, wide: a.wide, regs: a.regs, offset })
    }

    fn atom(&mut self, i: &Instruction, ty: Type) -> Result<Op> {
        let ops = [
            ("add", AtomOp::Add),
            ("exch", AtomOp::Exch),
            ("cas", AtomOp::Cas),
            ("min", AtomOp::Min),
            ("max", AtomOp::Max),
            ("and", AtomOp::And),
            ("or", AtomOp::Or),
            ("xor", AtomOp::Xor),
            ("inc", AtomOp::Inc),
            ("dec", AtomOp::Dec),
        ];
        let mut known: Vec<&str> = ops.iter().map(|o| o.0).collect();
        known.extend(["relaxed", "acquire", "release", "acq_rel", "noftz"]);
        self.hints(i, &known)?;
        let Some(&(_, op)) = ops.iter().find(|(name, _)| i.has(name)) else {
            return Err(i.error(format!("unknown atomic {}", i.name())));
        };
        let ty = match ty {
            Type::U32 | Type::B32 => AtomType::U32,
            Type::S32 => AtomType::S32,
            Type::U64 | Type::B64 => AtomType::U64,
            Type::S64 => AtomType::S64,
            Type::F32 => AtomType::F32,
            Type::F64 => AtomType::F64,
            Type::F16x2 | Type::Bf16x2 => AtomType::Packed(half_type(i, ty)?.0),
            _ => return Err(i.error(format!("{} is not simulated", i.name()))),
        };
        let float = matches!(ty, AtomType::F32 | AtomType::F64 | AtomType::Packed(_));
        let fits = match op {
            AtomOp::Add => true,
            AtomOp::Exch | AtomOp::Cas => !float,
            AtomOp::Inc | AtomOp::Dec => ty == AtomType::U32,
            _ => !float,
        };
        if !fits {
            return Err(i.error(format!("{} does not exist", i.name())));
        }
        let bits = if matches!(ty, AtomType::U64 | AtomType::S64 | AtomType::F64) { 64 } else { 32 };
        let first = usize::from(i.opcode[0] == "atom");
        self.count(i, first + 2 + usize::from(op == AtomOp::Cas))?;
        let address = self.address(i, first)?;
        let b = self.source(i, first + 1, bits)?;
        let c = if op == AtomOp::Cas { self.source(i, first + 2, bits)? } else { NONE };
        let d = if first == 1 { self.dest(i, 0, bits)? } else { NONE };
        // an atomic without an order is relaxed
        let order = if order(i) == Order::Weak { Order::Relaxed(scope(i)) } else { order(i) };
        Ok(Op::Atom(Atom { space: space(i), op, ty, order, d, address, b, c }))
    }

    fn cp_async(&mut self, i: &Instruction) -> Result<Op> {
        let literal = |n: usize| match i.operands.get(n) {
            Some(Operand::Int(value)) => Ok(*value),
            _ => Err(i.error("expected a whole number")),
        };
        if i.has("commit_group") {
            return Ok(Op::CpCommit);
        }
        if i.has("wait_all") {
            return Ok(Op::CpWait { groups: NONE });
        }
        if i.has("wait_group") {
            return Ok(Op::CpWait { groups: literal(0)? as u16 });
        }
        self.hints(i, &["async"])?;
        if !i.has("ca") && !i.has("cg") {
            return Err(i.error("cp.async needs .ca or .cg"));
        }
        let bytes = literal(2)?;
        if !(bytes == 16 || (i.has("ca") && (bytes == 4 || bytes == 8))) {
            return Err(i.error(format!("{} cannot copy {bytes} bytes", i.name())));
        }
        let (dst, src) = (self.address(i, 0)?, self.address(i, 1)?);
        let src_size = if i.operands.len() > 3 { self.source(i, 3, 32)? } else { NONE };
        Ok(Op::CpAsync { bytes: bytes as u8, dst, src, src_size })
    }

    /// The `n` registers of a matrix fragment.
    fn fragment<const N: usize>(&mut self, i: &Instruction, at: usize, n: usize, source: bool) -> Result<[Slot; N]> {
        let parts = match i.operands.get(at) {
            Some(Operand::Vector(parts)) => parts.clone(),
            Some(single) => vec![single.clone()],
            None => return Err(i.error("an operand is missing")),
        };
        if parts.len() != n {
            return Err(i.error(format!("operand {} needs {n} registers, found {}", at + 1, parts.len())));
        }
        let mut out = [NONE; N];
        for (slot, part) in out.iter_mut().zip(&parts) {
            *slot = if source { self.loose_source(i, part, 32)? } else { self.dest_of(i, part, 32, false)? };
        }
        Ok(out)
    }

    fn mma(&mut self, i: &Instruction) -> Result<Op> {
        self.count(i, 4)?;
        let shape: Vec<&str> = i.opcode[1..].iter().map(String::as_str).collect();
        let (k, types) = match shape[..] {
            ["sync", "aligned", "m16n8k4", "row", "col", ref types @ ..] => (4, types),
            ["sync", "aligned", "m16n8k8", "row", "col", ref types @ ..] => (8, types),
            ["sync", "aligned", "m16n8k16", "row", "col", ref types @ ..] => (16, types),
            _ => return Err(i.error(format!("{} is not simulated", i.name()))),
        };
        let input = match types {
            ["f32", "bf16", "bf16", "f32"] if k >= 8 => MmaInput::Half(Half::Bf16),
            ["f32", "f16", "f16", "f32"] if k >= 8 => MmaInput::Half(Half::F16),
            ["f32", "tf32", "tf32", "f32"] if k <= 8 => MmaInput::Tf32,
            _ => return Err(i.error(format!("{} is not simulated", i.name()))),
        };
        let na = match (input, k) {
            (MmaInput::Half(_), 16) | (MmaInput::Tf32, 8) => 4,
            _ => 2,
        };
        let (a, b) = (self.fragment::<4>(i, 1, na, true)?, self.fragment::<2>(i, 2, na / 2, true)?);
        let c = self.fragment::<4>(i, 3, 4, true)?;
        Ok(Op::Mma(Mma { k, input, d: self.fragment::<4>(i, 0, 4, false)?, a, b, c }))
    }
}
