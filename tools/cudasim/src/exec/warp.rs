//! The state of a warp: its registers, and where its lanes are.

use std::sync::Arc;

use crate::op::{NONE, Slot};

pub type Lanes = [u32; 32];
/// The content of a register before it is written: a NaN, and an address that is never valid.
const POISON: u32 = 0xffff_dead;

/// Lanes that are elsewhere than the running ones.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub pc: u32,
    pub mask: u32,
    /// They wait for other lanes at a barrier or shuffle.
    pub waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// At this barrier of the block.
    Barrier(u32),
    Done,
}

/// A copy under way.
#[derive(Clone, Copy, Debug)]
pub struct AsyncCopy {
    pub lane: u8,
    pub bytes: u8,
    /// Bytes that come from `src`; the rest is zero.
    pub src_bytes: u8,
    pub group: u32,
    pub dst: u32,
    pub src: u64,
}

/// The knowledge of other blocks: for each the barrier count and warp up to which its writes are
/// visible.
pub type Clock = Vec<u32>;

pub struct Warp {
    pub id: u32,
    pub regs: Vec<Lanes>,
    constants: Arc<Vec<Lanes>>,
    /// Lanes in which each register was written.
    pub init: Vec<u32>,
    pub preds: Vec<u32>,
    pub pred_init: Vec<u32>,
    pub pc: u32,
    pub mask: u32,
    pub others: Vec<Group>,
    /// Lowest place where other lanes are ready: running lanes stop there.
    pub next_pc: u32,
    /// Lanes that exist.
    pub full: u32,
    /// Lanes that have not ended.
    pub live: u32,
    pub state: State,
    /// Count of `bar.warp.sync`.
    pub sync_epoch: u32,
    pub copies: Vec<AsyncCopy>,
    /// Groups each lane has committed.
    pub committed: Lanes,
    pub known: Option<Clock>,
    /// What a later relaxed write of this warp publishes, since a fence.
    pub fenced: Option<Clock>,
    /// What relaxed reads saw, which a later fence makes known.
    pub seen: Option<Clock>,
    /// A strong load or atomic came by: the next jump back gives others a turn.
    pub polls: bool,
}

impl Warp {
    /// `regs` is memory for the registers, whatever it holds.
    pub fn new(
        id: u32,
        live: u32,
        (registers, predicates): (u32, u32),
        constants: Arc<Vec<Lanes>>,
        mut regs: Vec<Lanes>,
    ) -> Warp {
        regs.clear();
        regs.resize(registers as usize, [POISON; 32]);
        Warp {
            id,
            regs,
            constants,
            init: vec![0; registers as usize],
            preds: vec![0xaaaa_aaaa; predicates as usize],
            pred_init: vec![0; predicates as usize],
            pc: 0,
            mask: live,
            others: Vec::new(),
            next_pc: u32::MAX,
            full: live,
            live,
            state: State::Ready,
            sync_epoch: 0,
            copies: Vec::new(),
            committed: [0; 32],
            known: None,
            fenced: None,
            seen: None,
            polls: false,
        }
    }

    #[inline(always)]
    pub fn src(&self, slot: Slot) -> &Lanes {
        let slot = slot as usize;
        if slot < self.regs.len() { &self.regs[slot] } else { &self.constants[slot - self.regs.len()] }
    }

    /// A 64-bit value of one lane.
    #[inline(always)]
    pub fn src64(&self, slot: Slot, lane: usize) -> u64 {
        u64::from(self.src(slot)[lane]) | u64::from(self.src(slot + 1)[lane]) << 32
    }

    #[inline(always)]
    pub fn put(&mut self, slot: Slot, value: &Lanes, mask: u32) {
        if slot == NONE {
            return;
        }
        let slot = slot as usize;
        self.init[slot] |= mask;
        blend(&mut self.regs[slot], value, mask);
    }

    #[inline(always)]
    pub fn put64(&mut self, slot: Slot, low: &Lanes, high: &Lanes, mask: u32) {
        if slot == NONE {
            return;
        }
        let slot = slot as usize;
        self.init[slot] |= mask;
        blend(&mut self.regs[slot], low, mask);
        blend(&mut self.regs[slot + 1], high, mask);
    }

    #[inline(always)]
    pub fn put_pred(&mut self, p: u16, value: u32, mask: u32) {
        if p == NONE {
            return;
        }
        let p = p as usize;
        self.pred_init[p] |= mask;
        self.preds[p] = (self.preds[p] & !mask) | (value & mask);
    }

    /// Puts the running lanes aside and goes on with those that are ready and furthest behind.
    /// False if none is ready.
    pub fn reselect(&mut self) -> bool {
        if self.mask != 0 {
            self.others.push(Group { pc: self.pc, mask: self.mask, waits: false });
            self.mask = 0;
        }
        let Some(pc) = self.others.iter().filter(|g| !g.waits).map(|g| g.pc).min() else { return false };
        self.pc = pc;
        let mut next = u32::MAX;
        let mut mask = 0;
        self.others.retain(|g| {
            if g.waits {
                return true;
            }
            if g.pc == pc {
                mask |= g.mask;
                return false;
            }
            next = next.min(g.pc);
            true
        });
        self.mask = mask;
        self.next_pc = next;
        true
    }

    /// Takes in the lanes that wait at the place of the running ones.
    pub fn absorb(&mut self) {
        let pc = self.pc;
        let mut mask = self.mask;
        self.others.retain(|g| {
            if g.pc == pc {
                mask |= g.mask;
            }
            g.pc != pc
        });
        self.mask = mask;
        self.next_pc = self.others.iter().filter(|g| !g.waits).map(|g| g.pc).min().unwrap_or(u32::MAX);
    }

    /// Puts the running lanes aside until others come to the same place.
    pub fn wait_here(&mut self) -> bool {
        self.others.push(Group { pc: self.pc, mask: self.mask, waits: true });
        self.mask = 0;
        self.reselect()
    }

    /// Ends the running lanes.
    pub fn end_lanes(&mut self, mask: u32) {
        self.live &= !mask;
        self.mask &= !mask;
    }
}

#[inline(always)]
fn blend(to: &mut Lanes, value: &Lanes, mask: u32) {
    if mask == u32::MAX {
        *to = *value;
    } else {
        for lane in 0..32 {
            let keep = (mask >> lane & 1).wrapping_sub(1);
            to[lane] = (to[lane] & keep) | (value[lane] & !keep);
        }
    }
}
