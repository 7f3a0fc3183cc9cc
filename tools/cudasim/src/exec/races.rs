//! Who accessed a word of global memory last, and whether a later access is ordered after it.
//! Blocks are ordered by release and acquire (or fences around relaxed accesses) as vector clocks
//! of blocks; warps of a block by `bar.sync`.

use std::collections::HashMap;

use super::warp::{Clock, Warp};
use super::{Res, fault};
use crate::memory::Allocation;
use crate::op::Scope;
use crate::report::Kind;

/// Grids with more blocks are not watched between blocks.
pub const MAX_BLOCKS: u32 = 1 << 20;
const EPOCHS: u64 = (1 << 20) - 1;
/// Launch numbers run from 1 to this.
pub const MAX_LAUNCH: u64 = 4095;

/// What each block published at an address.
#[derive(Default)]
pub struct Published {
    at: HashMap<u64, Clock>,
}

/// The thread that accesses now.
pub struct Who<'a> {
    pub launch: u64,
    pub block: u32,
    pub thread: u32,
    pub epoch: u32,
    /// Of a strong access.
    pub scope: Option<Scope>,
    pub known: [Option<&'a Clock>; 2],
}

/// A scope as it is remembered.
fn reach(scope: Option<Scope>) -> u64 {
    match scope {
        None => 0,
        Some(Scope::Block) => 1,
        Some(Scope::Gpu) => 2,
    }
}

/// Last access: launch 12 bits, scope 2 (0 where it is not strong), block 20, thread 10, barriers
/// so far 20.
impl Who<'_> {
    fn stamp(&self) -> u64 {
        self.launch << 52
            | reach(self.scope) << 50
            | u64::from(self.block) << 30
            | u64::from(self.thread) << 20
            | u64::from(self.epoch) & EPOCHS
    }

    /// The thread and block of an access that nothing orders before this one.
    #[inline]
    fn conflict(&self, stamp: u64) -> Option<(u32, u32)> {
        let block = (stamp >> 30) as u32 & 0xf_ffff;
        // of two strong accesses each must have the other's thread in its scope
        let needed = if block == self.block { reach(Some(Scope::Block)) } else { reach(Some(Scope::Gpu)) };
        if stamp >> 52 != self.launch || reach(self.scope).min(stamp >> 50 & 3) >= needed {
            return None;
        }
        let thread = (stamp >> 20) as u32 & 0x3ff;
        let epoch = (stamp & EPOCHS) as u32;
        if block == self.block {
            return (thread / 32 != self.thread / 32 && epoch >= self.epoch).then_some((block, thread));
        }
        let covered = self.known.iter().flatten().any(|clock| {
            let known = clock[block as usize];
            epoch < known >> 5 || (epoch == known >> 5 && thread / 32 == known & 31)
        });
        (!covered).then_some((block, thread))
    }

    /// Notes a read of `words` words from `word` on, and finds writes it races with.
    #[inline]
    pub fn read(&self, a: &mut Allocation, word: usize, words: usize, nc: bool, address: u64) -> Res {
        let stamp = self.stamp();
        for i in word..word + words {
            let written = a.writes[i];
            if nc && written >> 52 == self.launch {
                let text = "ld.global.nc reads what this launch wrote: the read-only cache may hold the old value";
                return fault(Kind::Race, self.thread % 32, Some(address), text);
            }
            if let Some(by) = self.conflict(written) {
                return self.found("reads", "written", by, address);
            }
            // of several readers that nothing orders one is kept, or two; the writer itself is the
            // least useful
            let keep = |before: u64| {
                before >> 52 == self.launch
                    && (before >> 30) as u32 & 0xf_ffff != self.block
                    && self.conflict(before).is_some()
                    && !(written >> 52 == self.launch && written >> 30 & 0xf_ffff == before >> 30 & 0xf_ffff)
            };
            if !keep(a.reads[i]) {
                a.reads[i] = stamp;
            } else if let Some(other) = a.others.get_mut(i)
                && !keep(*other)
            {
                *other = stamp;
            }
        }
        Ok(())
    }

    /// Notes a write, and finds reads and writes it races with. `same` says that the value stays as
    /// it was.
    #[inline]
    pub fn write(&self, a: &mut Allocation, word: usize, words: usize, same: bool, address: u64) -> Res {
        for i in word..word + words {
            if !same && let Some(by) = self.conflict(a.writes[i]) {
                return self.found("writes", "written", by, address);
            }
            let other = a.others.get(i).and_then(|&other| self.conflict(other));
            if let Some(by) = self.conflict(a.reads[i]).or(other) {
                return self.found("writes", "read", by, address);
            }
            a.writes[i] = self.stamp();
        }
        Ok(())
    }

    #[cold]
    fn found(&self, does: &str, done: &str, by: (u32, u32), address: u64) -> Res {
        let (block, thread) = by;
        let how = if block == self.block {
            format!("thread {thread} of the same block, with no bar.sync in between")
        } else {
            format!(
                "thread {thread} of block {block}, with no grid barrier (release, then acquire, of .gpu scope) in between"
            )
        };
        let text = format!("{does} global memory {done} by {how}");
        fault(Kind::Race, self.thread % 32, Some(address), text)
    }
}

fn join(to: &mut Option<Clock>, from: &Clock) {
    let to = to.get_or_insert_with(|| vec![0; from.len()]);
    for (t, f) in to.iter_mut().zip(from) {
        // two warps of a block in one epoch: take both by counting the epoch as over
        *t = if *t >> 5 == *f >> 5 && *t != *f { ((*t >> 5) + 1) << 5 } else { (*t).max(*f) };
    }
}

/// What the warp may publish: all it knows, and its block up to here.
fn current(w: &Warp, block: u32, epoch: u32, blocks: u32, known: Option<&Clock>) -> Clock {
    let mut clock = Some(vec![0; blocks as usize]);
    for other in [known, w.known.as_ref()].into_iter().flatten() {
        join(&mut clock, other);
    }
    let mut clock = clock.unwrap_or_default();
    clock[block as usize] = epoch << 5 | w.id;
    clock
}

impl Published {
    /// A release at the address, or a relaxed write after a fence.
    pub fn release(&mut self, address: u64, w: &Warp, releases: bool, at: (u32, u32, u32), known: Option<&Clock>) {
        let (block, epoch, blocks) = at;
        if releases {
            let clock = current(w, block, epoch, blocks, known);
            let mut entry = self.at.remove(&address);
            join(&mut entry, &clock);
            self.at.insert(address, entry.unwrap_or_default());
        } else if let Some(clock) = &w.fenced {
            let mut entry = self.at.remove(&address);
            join(&mut entry, clock);
            self.at.insert(address, entry.unwrap_or_default());
        }
    }

    /// A strong read at the address.
    pub fn acquire(&self, address: u64, w: &mut Warp, acquires: bool) {
        if let Some(clock) = self.at.get(&address) {
            join(if acquires { &mut w.known } else { &mut w.seen }, clock);
        }
    }
}

/// A fence: relaxed reads before it count as acquires, relaxed writes after it as releases.
pub fn fence(w: &mut Warp, block: u32, epoch: u32, blocks: u32, known: Option<&Clock>) {
    if let Some(seen) = w.seen.take() {
        join(&mut w.known, &seen);
    }
    w.fenced = Some(current(w, block, epoch, blocks, known));
}

/// After a barrier of the block every warp knows what each knew, and fences of all its warps hold
/// for the whole block. `epoch` is the count of barriers with this one.
pub fn barrier(warps: &mut [Warp], known: &mut Option<Clock>, block: u32, epoch: u32) {
    for w in warps.iter_mut() {
        if let Some(clock) = w.known.take() {
            join(known, &clock);
        }
    }
    if warps.iter().all(|w| w.fenced.is_some()) {
        let mut all = None;
        for w in warps.iter() {
            if let Some(clock) = &w.fenced {
                join(&mut all, clock);
            }
        }
        if let Some(clock) = &mut all {
            clock[block as usize] = epoch << 5;
        }
        warps.iter_mut().for_each(|w| w.fenced.clone_from(&all));
    }
}
