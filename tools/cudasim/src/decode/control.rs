//! Branches, barriers, shuffles and votes.

use super::Decoder;
use crate::op::*;
use crate::ptx::{Instruction, Operand, PtxError};

type Result<T> = std::result::Result<T, PtxError>;

impl Decoder {
    pub(super) fn control(&mut self, i: &Instruction) -> Result<Option<Op>> {
        Ok(Some(match i.opcode[0].as_str() {
            "bra" => {
                self.only(i, &["uni"])?;
                Op::Bra { target: self.label(i, 0)? }
            }
            "ret" | "exit" => Op::Ret,
            "trap" => Op::Trap,
            "nanosleep" => Op::Nop,
            "bar" | "barrier" => self.barrier(i)?,
            "membar" | "fence" => {
                self.only(i, &["cta", "gl", "gpu", "sys", "sc", "acq_rel", "cluster"])?;
                Op::Fence { scope: super::memory::scope(i) }
            }
            "shfl" => self.shuffle(i)?,
            "vote" => self.vote(i)?,
            "activemask" => Op::ActiveMask { d: self.dest(i, 0, 32)? },
            "redux" => {
                self.only(i, &["sync", "add", "min", "max", "and", "or", "xor"])?;
                let op = match i.opcode.get(2).map(String::as_str) {
                    Some("add") => IntOp::Add,
                    Some("min") => IntOp::Min,
                    Some("max") => IntOp::Max,
                    Some("and") => IntOp::And,
                    Some("or") => IntOp::Or,
                    Some("xor") => IntOp::Xor,
                    _ => return Err(i.error(format!("unknown instruction {}", i.name()))),
                };
                self.count(i, 3)?;
                let (a, mask) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?);
                Op::Redux { op, signed: i.has("s32"), d: self.dest(i, 0, 32)?, a, mask }
            }
            _ => return Ok(None),
        }))
    }

    /// `bar.sync id{, threads}`, `bar.arrive id, threads`, `bar.warp.sync mask`.
    fn barrier(&mut self, i: &Instruction) -> Result<Op> {
        self.only(i, &["sync", "arrive", "warp", "cta", "aligned"])?;
        if i.has("warp") {
            self.count(i, 1)?;
            return Ok(Op::WarpSync { mask: self.source(i, 0, 32)? });
        }
        if !i.has("sync") && !i.has("arrive") {
            return Err(i.error(format!("{} is not simulated", i.name())));
        }
        let id = self.source(i, 0, 32)?;
        let threads = if i.operands.len() > 1 { self.source(i, 1, 32)? } else { NONE };
        let waits = i.has("sync");
        if !waits && threads == NONE {
            return Err(i.error("bar.arrive needs a number of threads"));
        }
        Ok(Op::Bar { id, threads, waits })
    }

    /// `shfl.sync.mode.b32 d{|p}, a, b, c, mask`
    fn shuffle(&mut self, i: &Instruction) -> Result<Op> {
        self.only(i, &["sync", "up", "down", "bfly", "idx"])?;
        if !i.has("sync") {
            return Err(i.error("a shuffle without .sync does not exist on these GPUs"));
        }
        self.count(i, 5)?;
        let mode = match i.opcode.get(2).map(String::as_str) {
            Some("up") => Shuffle::Up,
            Some("down") => Shuffle::Down,
            Some("bfly") => Shuffle::Bfly,
            Some("idx") => Shuffle::Idx,
            _ => return Err(i.error(format!("unknown instruction {}", i.name()))),
        };
        let (a, b) = (self.source(i, 1, 32)?, self.source(i, 2, 32)?);
        let (c, mask) = (self.source(i, 3, 32)?, self.source(i, 4, 32)?);
        let (d, p) = match &i.operands[0] {
            Operand::Pair(d, p) => {
                (self.dest_of(i, &Operand::Name(d.clone()), 32, false)?, self.write_predicate(p, i)?)
            }
            single => (self.dest_of(i, single, 32, false)?, NONE),
        };
        Ok(Op::Shfl { mode, d, p, a, b, c, mask })
    }

    /// `vote.sync.mode.type d, {!}a, mask`
    fn vote(&mut self, i: &Instruction) -> Result<Op> {
        self.only(i, &["sync", "all", "any", "uni", "ballot"])?;
        self.count(i, 3)?;
        let mode = match i.opcode.get(2).map(String::as_str) {
            Some("all") => Vote::All,
            Some("any") => Vote::Any,
            Some("uni") => Vote::Uni,
            Some("ballot") => Vote::Ballot,
            _ => return Err(i.error(format!("unknown instruction {}", i.name()))),
        };
        if !i.has("sync") || !self.is_predicate(&i.operands[1]) {
            return Err(i.error(format!("{} is not simulated in this form", i.name())));
        }
        let (a, negated) = self.predicate(i, 1)?;
        let mask = self.source(i, 2, 32)?;
        let (d, p) = match (&i.operands[0], mode) {
            (_, Vote::Ballot) => (self.dest(i, 0, 32)?, NONE),
            (Operand::Name(name), _) => (NONE, self.write_predicate(name, i)?),
            _ => return Err(i.error("expected a predicate")),
        };
        Ok(Op::Vote { mode, d, p, a, negated, mask })
    }
}
