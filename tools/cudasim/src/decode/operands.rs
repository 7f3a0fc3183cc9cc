//! Registers, constants and symbols of a kernel, and the operands made of them.

use std::collections::{HashMap, HashSet};

use super::{READ_PREDICATE, SPECIAL};
use crate::op::{Address, NONE, Op, Pred, Slot};
use crate::ptx::{Instruction, Kernel, Operand, PtxError, Type};

type Result<T> = std::result::Result<T, PtxError>;

/// A register: its first slot and its bits (16, 32, 64).
#[derive(Clone, Copy)]
struct Register {
    slot: Slot,
    bits: u32,
}

pub(crate) struct Decoder {
    registers: HashMap<String, Register>,
    predicates: HashMap<String, Pred>,
    labels: HashMap<String, u32>,
    symbols: HashMap<String, u64>,
    params: HashMap<String, u32>,
    /// Registers that hold the address of a parameter (`mov.b64 %rd1, name;`), by the offset.
    param_addresses: HashMap<String, u32>,
    constant_slots: HashMap<(u64, bool), Slot>,
    pub register_count: u32,
    pub predicate_count: u32,
    pub constants: Vec<[u32; 32]>,
    pub reads: Vec<u32>,
}

impl Decoder {
    pub fn new(kernel: &Kernel, symbols: HashMap<String, u64>, offsets: &[u32]) -> Result<Decoder> {
        let mut d = Decoder {
            registers: HashMap::new(),
            predicates: HashMap::new(),
            labels: kernel.labels.iter().map(|(name, at)| (name.clone(), *at as u32)).collect(),
            symbols,
            params: kernel.params.iter().zip(offsets).map(|(p, &o)| (p.name.clone(), o)).collect(),
            param_addresses: HashMap::new(),
            constant_slots: HashMap::new(),
            register_count: SPECIAL.len() as u32,
            predicate_count: 0,
            constants: Vec::new(),
            reads: Vec::new(),
        };
        for (slot, name) in SPECIAL.iter().enumerate() {
            d.registers.insert(name.to_string(), Register { slot: slot as Slot, bits: 32 });
        }
        for (prefix, count, ty) in &kernel.registers {
            let names: Vec<String> = match count {
                Some(n) => (0..*n).map(|i| format!("{prefix}{i}")).collect(),
                None => vec![prefix.clone()],
            };
            for name in names {
                match ty {
                    Some(Type::Pred) => {
                        d.predicates.insert(name, d.predicate_count as Pred);
                        d.predicate_count += 1;
                    }
                    Some(ty) => {
                        let bits = ty.size().max(2) * 8;
                        d.registers.insert(name, Register { slot: d.register_count as Slot, bits });
                        d.register_count += bits.div_ceil(32);
                    }
                    None => {}
                }
            }
            if d.register_count > 60_000 || d.predicate_count > 60_000 {
                return Err(PtxError::new(kernel.line, "the kernel has more than 60000 registers"));
            }
        }
        Ok(d)
    }

    /// A constant of 32 or 64 bits.
    fn constant(&mut self, value: u64, wide: bool) -> Slot {
        let value = if wide { value } else { value & 0xffff_ffff };
        if let Some(&slot) = self.constant_slots.get(&(value, wide)) {
            return slot;
        }
        let slot = (self.register_count as usize + self.constants.len()) as Slot;
        self.constants.push([value as u32; 32]);
        if wide {
            self.constants.push([(value >> 32) as u32; 32]);
        }
        self.constant_slots.insert((value, wide), slot);
        slot
    }

    fn read_register(&mut self, name: &str, bits: u32, at_least: bool, i: &Instruction) -> Result<Slot> {
        let register = *self.registers.get(name).ok_or_else(|| i.error(format!("unknown operand {name}")))?;
        check_bits(register.bits, bits, at_least, name, i)?;
        self.reads.push(u32::from(register.slot));
        Ok(register.slot)
    }

    /// Operand `n` as a source of `bits` bits (16, 32, 64).
    pub fn source(&mut self, i: &Instruction, n: usize, bits: u32) -> Result<Slot> {
        let operand = i.operands.get(n).ok_or_else(|| i.error(format!("operand {} is missing", n + 1)))?.clone();
        self.source_of(i, &operand, bits, false)
    }

    /// A source whose register may be wider than the value, as loads, stores and conversions allow.
    pub fn loose_source(&mut self, i: &Instruction, operand: &Operand, bits: u32) -> Result<Slot> {
        self.source_of(i, operand, bits, true)
    }

    fn source_of(&mut self, i: &Instruction, operand: &Operand, bits: u32, at_least: bool) -> Result<Slot> {
        let wide = bits == 64;
        match operand {
            Operand::Name(name) if self.registers.contains_key(name) => self.read_register(name, bits, at_least, i),
            Operand::Name(name) if name == "WARP_SZ" => Ok(self.constant(32, wide)),
            Operand::Name(name) if wide && self.params.contains_key(name) => {
                let offset = self.params[name];
                Ok(self.constant(u64::from(offset), true))
            }
            Operand::Name(name) => {
                let value = *self.symbols.get(name).ok_or_else(|| i.error(format!("unknown operand {name}")))?;
                Ok(self.constant(value, wide))
            }
            Operand::Int(value) if bits == 16 => Ok(self.constant(*value as u64 & 0xffff, false)),
            Operand::Int(value) => Ok(self.constant(*value as u64, wide)),
            Operand::Float(value) if bits == 32 => Ok(self.constant(u64::from(*value), false)),
            Operand::Double(value) if wide => Ok(self.constant(*value, true)),
            other => Err(i.error(format!("{other:?} cannot be read as {bits} bits"))),
        }
    }

    /// The bits of the register that operand `n` names, or of a literal's default.
    pub fn width(&self, operand: &Operand) -> Option<u32> {
        match operand {
            Operand::Name(name) => self.registers.get(name).map(|r| r.bits),
            _ => None,
        }
    }

    /// Operand `n` as a destination of `bits` bits.
    pub fn dest(&mut self, i: &Instruction, n: usize, bits: u32) -> Result<Slot> {
        let operand = i.operands.get(n).ok_or_else(|| i.error(format!("operand {} is missing", n + 1)))?.clone();
        self.dest_of(i, &operand, bits, false)
    }

    pub fn dest_of(&mut self, i: &Instruction, operand: &Operand, bits: u32, at_least: bool) -> Result<Slot> {
        match operand {
            Operand::Name(name) if name == "_" => Ok(NONE),
            Operand::Name(name) if !name.starts_with('%') || !SPECIAL.contains(&name.as_str()) => {
                let register = self.registers.get(name).ok_or_else(|| i.error(format!("unknown register {name}")))?;
                check_bits(register.bits, bits, at_least, name, i)?;
                Ok(register.slot)
            }
            other => Err(i.error(format!("{other:?} cannot be written"))),
        }
    }

    pub fn read_predicate(&mut self, name: &str, i: &Instruction) -> Result<Pred> {
        let p = *self.predicates.get(name).ok_or_else(|| i.error(format!("unknown predicate {name}")))?;
        self.reads.push(READ_PREDICATE | u32::from(p));
        Ok(p)
    }

    pub fn write_predicate(&self, name: &str, i: &Instruction) -> Result<Pred> {
        if name == "_" {
            return Ok(NONE);
        }
        self.predicates.get(name).copied().ok_or_else(|| i.error(format!("unknown predicate {name}")))
    }

    /// Operand `n` as a predicate read, perhaps negated.
    pub fn predicate(&mut self, i: &Instruction, n: usize) -> Result<(Pred, bool)> {
        match i.operands.get(n).cloned() {
            Some(Operand::Name(name)) => Ok((self.read_predicate(&name, i)?, false)),
            Some(Operand::Not(name)) => Ok((self.read_predicate(&name, i)?, true)),
            _ => Err(i.error(format!("operand {} must be a predicate", n + 1))),
        }
    }

    pub fn is_predicate(&self, operand: &Operand) -> bool {
        matches!(operand, Operand::Name(n) | Operand::Not(n) if self.predicates.contains_key(n))
    }

    pub fn label(&self, i: &Instruction, n: usize) -> Result<u32> {
        match i.operands.get(n) {
            Some(Operand::Name(name)) => {
                self.labels.get(name).copied().ok_or_else(|| i.error(format!("unknown label {name}")))
            }
            _ => Err(i.error("expected a label")),
        }
    }

    /// Notes `mov.b64 register, parameter;`, the beginning of reads of a structure, and copies of
    /// it: its value is the offset. A register that holds two addresses is refused, because reads
    /// are resolved here.
    pub fn param_address(&mut self, i: &Instruction) -> Result<()> {
        let [Operand::Name(to), Operand::Name(from)] = &i.operands[..] else { return Ok(()) };
        let known = if self.registers.contains_key(from) { &self.param_addresses } else { &self.params };
        let Some(&offset) = known.get(from) else { return Ok(()) };
        match self.param_addresses.insert(to.clone(), offset) {
            Some(other) if other != offset => Err(i.error(format!("{to} holds the addresses of two parameters"))),
            _ => Ok(()),
        }
    }

    /// The byte offset of a parameter address.
    pub fn param_offset(&self, i: &Instruction, operand: &Operand) -> Result<u32> {
        match operand {
            Operand::Address(Some(name), offset) => {
                let base = self.params.get(name).or_else(|| self.param_addresses.get(name));
                let base = base.ok_or_else(|| i.error(format!("unknown parameter {name}")))?;
                Ok((i64::from(*base) + offset) as u32)
            }
            _ => Err(i.error("expected the address of a parameter")),
        }
    }

    /// Operand `n` as `[base + offset]`.
    pub fn address(&mut self, i: &Instruction, n: usize) -> Result<Address> {
        match i.operands.get(n).cloned() {
            Some(Operand::Address(Some(name), offset)) => match self.registers.get(&name).map(|r| r.bits) {
                Some(bits @ (32 | 64)) => {
                    let base = self.read_register(&name, bits, false, i)?;
                    Ok(Address { base, wide: bits == 64, offset })
                }
                Some(_) => Err(i.error("an address has 32 or 64 bits")),
                None => {
                    let value = *self.symbols.get(&name).ok_or_else(|| i.error(format!("unknown address {name}")))?;
                    Ok(Address { base: NONE, wide: true, offset: value as i64 + offset })
                }
            },
            Some(Operand::Address(None, offset)) => Ok(Address { base: NONE, wide: true, offset }),
            _ => Err(i.error(format!("operand {} must be an address", n + 1))),
        }
    }

    /// One instruction.
    pub fn instruction(&mut self, i: &Instruction) -> Result<Op> {
        let found = match self.arithmetic(i)? {
            Some(op) => Some(op),
            None => match self.memory(i)? {
                Some(op) => Some(op),
                None => self.control(i)?,
            },
        };
        found.ok_or_else(|| i.error(format!("unknown instruction {}", i.name())))
    }

    /// Refuses modifiers between opcode and type that are not in `allowed`.
    pub fn only(&self, i: &Instruction, allowed: &[&str]) -> Result<()> {
        for part in &i.opcode[1..] {
            if !allowed.contains(&part.as_str()) && Type::parse(part).is_none() {
                return Err(i.error(format!("`.{part}` is not known in {}", i.name())));
            }
        }
        Ok(())
    }

    /// Checks the number of operands.
    pub fn count(&self, i: &Instruction, n: usize) -> Result<()> {
        if i.operands.len() == n {
            Ok(())
        } else {
            Err(i.error(format!("{} takes {n} operands, found {}", i.name(), i.operands.len())))
        }
    }

    /// Registers alive at once in program order, where what lives into a loop lives to its end: a
    /// rough estimate.
    pub fn pressure(&self, kernel: &Kernel) -> u32 {
        let mut ranges: HashMap<Slot, (usize, usize, u32)> = HashMap::new();
        for (at, i) in kernel.body.iter().enumerate() {
            for operand in &i.operands {
                visit(operand, &mut |name| {
                    if let Some(r) = self.registers.get(name).filter(|r| r.slot as usize >= SPECIAL.len()) {
                        ranges.entry(r.slot).and_modify(|e| e.1 = at).or_insert((at, at, r.bits.div_ceil(32)));
                    }
                });
            }
        }
        for (end, i) in kernel.body.iter().enumerate().filter(|(_, i)| i.opcode[0] == "bra") {
            let Ok(start) = self.label(i, 0) else { continue };
            for (first, last, _) in ranges.values_mut() {
                if *first < start as usize && *last >= start as usize && *last < end {
                    *last = end;
                }
            }
        }
        let mut change = vec![0i64; kernel.body.len() + 2];
        for (first, last, units) in ranges.into_values() {
            change[first] += i64::from(units);
            change[last] -= i64::from(units);
        }
        let (mut now, mut most) = (0, 0);
        for c in change {
            now += c;
            most = most.max(now);
        }
        (most as u32 + 8).next_multiple_of(8).min(255)
    }
}

/// Everything that a kernel's instructions name.
pub(super) fn names(kernel: &Kernel) -> HashSet<String> {
    let mut all = HashSet::new();
    for operand in kernel.body.iter().flat_map(|i| &i.operands) {
        visit(operand, &mut |name| {
            all.insert(name.to_string());
        });
    }
    all
}

fn visit(operand: &Operand, f: &mut impl FnMut(&str)) {
    match operand {
        Operand::Name(n) | Operand::Not(n) | Operand::Address(Some(n), _) => f(n),
        Operand::Pair(a, b) => {
            f(a);
            f(b);
        }
        Operand::Vector(parts) => parts.iter().for_each(|p| visit(p, f)),
        _ => {}
    }
}

fn check_bits(have: u32, want: u32, at_least: bool, name: &str, i: &Instruction) -> Result<()> {
    if have == want || (at_least && have > want) {
        Ok(())
    } else {
        Err(i.error(format!("{name} has {have} bits, {} wants {want}", i.name())))
    }
}
