//! Runs one warp until its turn is over.

use super::alu::integer;
use super::convert::convert;
use super::floats::float;
use super::grid::{Block, Machine};
use super::warp::{State, Warp};
use super::{Fault, Res, fault, matrix, sync};
use crate::decode::READ_PREDICATE;
use crate::op::*;
use crate::report::Kind;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its length was reached.
    Over,
    /// The warp waits for a change in memory.
    Polls,
    /// The warp is at a barrier.
    Waits,
    Done,
}

#[inline(always)]
fn arithmetic(w: &mut Warp, op: &Op, mask: u32) -> bool {
    integer(w, op, mask) || float(w, op, mask) || convert(w, op, mask)
}

/// Whether the processor has what the fast form of the interpreter is compiled for.
pub fn has_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Instructions that several lanes do together.
fn converges(op: &Op) -> bool {
    matches!(
        op,
        Op::Shfl { .. }
            | Op::Vote { .. }
            | Op::Redux { .. }
            | Op::WarpSync { .. }
            | Op::Bar { .. }
            | Op::Mma(_)
            | Op::LdMatrix { .. }
    )
}

impl Machine<'_> {
    /// Runs a warp for at most `turn` instructions.
    pub(super) fn turn(&mut self, b: &mut Block, w: &mut Warp, turn: u64) -> Res<Turn> {
        #[cfg(target_arch = "x86_64")]
        if self.fast {
            // SAFETY: `fast` comes from `has_fast`, which found every feature of `fast_turn`.
            return unsafe { self.fast_turn(b, w, turn) };
        }
        self.any_turn(b, w, turn)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
    fn fast_turn(&mut self, b: &mut Block, w: &mut Warp, turn: u64) -> Res<Turn> {
        self.any_turn(b, w, turn)
    }

    #[inline(always)]
    fn any_turn(&mut self, b: &mut Block, w: &mut Warp, turn: u64) -> Res<Turn> {
        let program = self.program;
        let mut left = turn;
        w.polls = false;
        loop {
            if (w.mask == 0 || w.pc >= w.next_pc) && !w.reselect() {
                if w.live == 0 {
                    w.state = State::Done;
                    return Ok(Turn::Done);
                }
                return Err(self.stuck(w));
            }
            if left == 0 {
                return Ok(Turn::Over);
            }
            left -= 1;
            self.clock += 1;
            let inst = &program.insts[w.pc as usize];
            self.pc = w.pc;
            if !w.others.is_empty() && converges(&inst.op) {
                w.absorb();
            }
            let mut mask = w.mask;
            if inst.guard != NONE {
                let g = inst.guard as usize;
                if self.check.init && mask & !w.pred_init[g] != 0 {
                    let lane = (mask & !w.pred_init[g]).trailing_zeros();
                    return fault(Kind::Uninitialised, lane, None, "the guard predicate was never written");
                }
                mask &= if inst.guard_negated { !w.preds[g] } else { w.preds[g] };
            }
            let executed = &mut self.counters.executed[w.pc as usize];
            executed[0] += 1;
            executed[1] += u64::from(mask.count_ones());
            if let Op::Bra { target } = inst.op {
                let (here, behind) = (w.pc, w.mask & !mask);
                if behind == 0 {
                    w.pc = target;
                } else if mask == 0 {
                    w.pc += 1;
                } else {
                    w.others.push(super::warp::Group { pc: target, mask, waits: false });
                    w.mask = behind;
                    w.pc += 1;
                    w.next_pc = w.next_pc.min(target);
                    // the lanes furthest behind go first
                    if target < w.pc {
                        w.reselect();
                    }
                }
                if target <= here && mask != 0 && w.polls {
                    return Ok(Turn::Polls);
                }
                continue;
            }
            if mask == 0 {
                w.pc += 1;
                continue;
            }
            if self.check.init && !matches!(inst.op, Op::Mov { .. }) {
                self.check_reads(w, inst, mask)?;
            }
            if arithmetic(w, &inst.op, mask) {
                w.pc += 1;
                continue;
            }
            match inst.op {
                Op::Load(ref a) => {
                    if !self.load_words(b, w, a, mask)? {
                        self.load(b, w, a, mask)?;
                    }
                }
                Op::Store(ref a) => {
                    if !self.store_words(b, w, a, mask)? {
                        self.store(b, w, a, mask)?;
                    }
                }
                Op::Atom(ref a) => self.atom(b, w, a, mask)?,
                Op::LoadParam { .. } => self.load_param(w, &inst.op, mask)?,
                Op::Cvta { .. } => self.cvta(w, &inst.op, mask),
                Op::CpAsync { .. } => self.cp_async(b, w, &inst.op, mask)?,
                Op::CpCommit => super::lanes(mask).for_each(|l| w.committed[l] += 1),
                Op::CpWait { groups } => self.cp_wait(b, w, groups, mask)?,
                Op::Clock { wide, d } => {
                    let (low, high) = ([self.clock as u32; 32], [(self.clock >> 32) as u32; 32]);
                    if wide {
                        w.put64(d, &low, &high, mask);
                    } else {
                        w.put(d, &low, mask);
                    }
                }
                Op::ActiveMask { d } => w.put(d, &[w.mask; 32], mask),
                Op::Fence { scope: Scope::Gpu } => self.fence(b, w),
                // within a block only barriers order, which is asked for anyway
                Op::Fence { scope: Scope::Block } => {}
                Op::Nop => {}
                Op::Trap => return fault(Kind::Trap, mask.trailing_zeros(), None, "the kernel stopped itself"),
                Op::Ret => {
                    w.end_lanes(mask);
                    self.progress += 1;
                    w.pc += 1;
                    continue;
                }
                Op::Bar { id, threads, waits } => {
                    if !self.gather(w, w.full, mask)? {
                        continue;
                    }
                    w.pc += 1;
                    if self.arrive(b, w, (id, threads), waits)? {
                        return Ok(Turn::Waits);
                    }
                    continue;
                }
                Op::Mma(ref m) => {
                    if !self.gather(w, u32::MAX, mask)? {
                        continue;
                    }
                    matrix::mma(w, m, self.fast, self.truncate);
                }
                Op::LdMatrix { .. } => {
                    if !self.gather(w, u32::MAX, mask)? {
                        continue;
                    }
                    self.ldmatrix(b, w, &inst.op, mask)?;
                }
                Op::Shfl { mask: m, .. }
                | Op::Vote { mask: m, .. }
                | Op::Redux { mask: m, .. }
                | Op::WarpSync { mask: m } => {
                    let members = sync::members(w, m, mask)?;
                    if !self.gather(w, members, mask)? {
                        continue;
                    }
                    match inst.op {
                        Op::Shfl { .. } => sync::shuffle(w, &inst.op, mask)?,
                        Op::Vote { .. } => sync::vote(w, &inst.op, mask),
                        Op::Redux { .. } => sync::redux(w, &inst.op, mask),
                        _ => w.sync_epoch += 1,
                    }
                }
                _ => return fault(Kind::Trap, mask.trailing_zeros(), None, "an instruction without an effect"),
            }
            w.pc += 1;
        }
    }

    #[inline]
    fn check_reads(&self, w: &Warp, inst: &Inst, mask: u32) -> Res {
        for &r in &self.program.reads[inst.reads.0 as usize..inst.reads.1 as usize] {
            let init =
                if r & READ_PREDICATE != 0 { w.pred_init[(r & !READ_PREDICATE) as usize] } else { w.init[r as usize] };
            if mask & !init != 0 {
                let lane = (mask & !init).trailing_zeros();
                return fault(Kind::Uninitialised, lane, None, "reads a register that was never written");
            }
        }
        Ok(())
    }

    /// Whether all lanes of `need` are here. If not, those that are wait for the others to come;
    /// false says so.
    fn gather(&mut self, w: &mut Warp, need: u32, mask: u32) -> Res<bool> {
        if need & !mask == 0 {
            return Ok(true);
        }
        let inst = &self.program.insts[w.pc as usize];
        let kind = if matches!(inst.op, Op::Bar { .. }) { Kind::DivergentBarrier } else { Kind::WarpSync };
        let lane = mask.trailing_zeros();
        let off = need & w.mask & !mask;
        if off != 0 {
            let text = format!("lane {} is here with its guard false", off.trailing_zeros());
            return fault(kind, lane, None, text);
        }
        let gone = need & !w.live;
        if gone != 0 {
            let what = if gone & w.full != 0 { "has ended" } else { "does not exist" };
            let text = format!("lane {} is needed here, but {what} (lanes here: 0x{mask:08x})", gone.trailing_zeros());
            return fault(kind, lane, None, text);
        }
        // it counts when it runs
        let executed = &mut self.counters.executed[w.pc as usize];
        executed[0] -= 1;
        executed[1] -= u64::from(mask.count_ones());
        if !w.wait_here() {
            return Err(self.stuck(w));
        }
        Ok(false)
    }

    /// All lanes of a warp wait for each other: the fault lies where the first of them do.
    #[cold]
    fn stuck(&mut self, w: &mut Warp) -> Box<Fault> {
        let insts = &self.program.insts;
        let (pc, mask) = w.others.first().map_or((w.pc, w.live), |g| (g.pc, g.mask));
        self.pc = pc;
        let barrier = matches!(insts[pc as usize].op, Op::Bar { .. });
        let kind = if barrier { Kind::DivergentBarrier } else { Kind::WarpSync };
        let elsewhere: Vec<String> = (w.others.iter().skip(1))
            .map(|g| format!("0x{:08x} at PTX line {}", g.mask, insts[g.pc as usize].line))
            .collect();
        let message = match elsewhere.is_empty() {
            true => format!("only lanes 0x{mask:08x} of the warp come here; the others have ended"),
            false => format!("lanes 0x{mask:08x} wait here, lanes {}", elsewhere.join(", ")),
        };
        Box::new(Fault { kind, lane: mask.trailing_zeros(), address: None, message })
    }
}
