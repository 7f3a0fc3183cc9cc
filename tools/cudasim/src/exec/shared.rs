//! Shared memory of a block, and the local memory of its threads.

use super::{Res, fault};
use crate::decode::{LOCAL_BASE, SHARED_BASE};
use crate::memory::POISON;
use crate::report::Kind;

/// Last access: strong 1 bit, by several warps 1, thread 10, barriers of the block 26, barriers of
/// the warp 26.
const STRONG: u64 = 1 << 63;
const SEVERAL: u64 = 1 << 62;
const COUNT: u64 = (1 << 26) - 1;

pub struct Shared {
    pub data: Vec<u8>,
    init: Vec<bool>,
    writes: Vec<u64>,
    reads: Vec<u64>,
    /// Words with an asynchronous copy under way.
    pending: Vec<u8>,
    pub local: Vec<u8>,
    local_init: Vec<bool>,
    local_bytes: u32,
    /// Barriers of the block so far, from 1.
    pub epoch: u32,
}

/// The thread that accesses shared memory now.
#[derive(Clone, Copy)]
pub struct Thread {
    pub id: u32,
    pub sync_epoch: u32,
    pub strong: bool,
}

impl Shared {
    pub fn new(bytes: u32, threads: u32, local_bytes: u32) -> Shared {
        let words = bytes.div_ceil(4) as usize;
        Shared {
            data: vec![POISON; bytes as usize],
            init: vec![false; bytes as usize],
            writes: vec![0; words],
            reads: vec![0; words],
            pending: vec![0; words],
            local: vec![POISON; (threads * local_bytes) as usize],
            local_init: vec![false; (threads * local_bytes) as usize],
            local_bytes,
            epoch: 1,
        }
    }

    /// The offset of an aligned access that lies in the block's memory.
    #[inline]
    pub fn offset(&self, address: u64, bytes: u64, lane: u32) -> Res<usize> {
        let offset = address.wrapping_sub(u64::from(SHARED_BASE));
        let len = self.data.len() as u64;
        if offset >= len || bytes > len - offset {
            let text = if address < u64::from(SHARED_BASE) {
                format!("{bytes} bytes at shared address 0x{address:x}, below where shared memory begins")
            } else {
                format!("{bytes} bytes at byte {offset} of the block's {len} bytes of shared memory")
            };
            return fault(Kind::OutOfBounds, lane, Some(address), text);
        }
        if !address.is_multiple_of(bytes) {
            let text = format!("{bytes} bytes of shared memory need an address that is a multiple of {bytes}");
            return fault(Kind::Misaligned, lane, Some(address), text);
        }
        Ok(offset as usize)
    }

    /// The offset of an access to the local memory of a thread.
    pub fn local_offset(&self, address: u64, bytes: u64, thread: u32) -> Res<usize> {
        let offset = address.wrapping_sub(u64::from(LOCAL_BASE));
        if offset >= u64::from(self.local_bytes) || bytes > u64::from(self.local_bytes) - offset {
            let text =
                format!("{bytes} bytes at byte {offset} of the thread's {} bytes of local memory", self.local_bytes);
            return fault(Kind::OutOfBounds, thread % 32, Some(address), text);
        }
        if !address.is_multiple_of(bytes) {
            let text = format!("{bytes} bytes of local memory need an address that is a multiple of {bytes}");
            return fault(Kind::Misaligned, thread % 32, Some(address), text);
        }
        Ok((thread * self.local_bytes) as usize + offset as usize)
    }

    pub fn check_local_init(&self, offset: usize, bytes: usize, lane: u32, address: u64) -> Res {
        if self.local_init[offset..offset + bytes].iter().all(|&i| i) {
            return Ok(());
        }
        fault(Kind::Uninitialised, lane, Some(address), "reads local memory that was never written")
    }

    pub fn set_local_init(&mut self, offset: usize, bytes: usize) {
        self.local_init[offset..offset + bytes].fill(true);
    }

    #[inline]
    pub fn check_init(&self, offset: usize, bytes: usize, lane: u32) -> Res {
        let mut all = true;
        for &i in &self.init[offset..offset + bytes] {
            all &= i;
        }
        if all { Ok(()) } else { self.not_init(offset, lane) }
    }

    #[cold]
    fn not_init(&self, offset: usize, lane: u32) -> Res {
        let first = offset + self.init[offset..].iter().position(|i| !i).unwrap_or(0);
        let address = first as u64 + u64::from(SHARED_BASE);
        fault(Kind::Uninitialised, lane, Some(address), format!("reads byte {first} of shared memory, never written"))
    }

    #[inline]
    pub fn set_init(&mut self, offset: usize, bytes: usize) {
        self.init[offset..offset + bytes].fill(true);
    }

    fn stamp(&self, t: Thread) -> u64 {
        (if t.strong { STRONG } else { 0 })
            | u64::from(t.id) << 52
            | (u64::from(self.epoch) & COUNT) << 26
            | u64::from(t.sync_epoch) & COUNT
    }

    /// The thread of an access that nothing orders before this one.
    #[inline]
    fn conflict(&self, stamp: u64, t: Thread) -> Option<u32> {
        if stamp == 0 || (stamp >> 26 & COUNT) < u64::from(self.epoch) & COUNT || (t.strong && stamp & STRONG != 0) {
            return None;
        }
        let other = (stamp >> 52) as u32 & 0x3ff;
        if stamp & SEVERAL != 0 {
            return Some(other);
        }
        if other == t.id || (other / 32 == t.id / 32 && stamp & COUNT < u64::from(t.sync_epoch) & COUNT) {
            return None;
        }
        Some(other)
    }

    #[inline]
    pub fn note_read(&mut self, offset: usize, bytes: usize, t: Thread) -> Res {
        let stamp = self.stamp(t);
        for i in offset / 4..(offset + bytes).div_ceil(4) {
            if self.pending[i] != 0 {
                return self.under_way(i, t.id, "reads");
            }
            if let Some(other) = self.conflict(self.writes[i], t) {
                return self.found(i, t.id, "reads", "written", other);
            }
            let before = self.reads[i];
            let now = before >> 26 & COUNT == u64::from(self.epoch) & COUNT && before != 0;
            if now && before & SEVERAL != 0 {
                continue;
            }
            let other = (before >> 52) as u32 & 0x3ff;
            let several = now && other / 32 != t.id / 32;
            self.reads[i] = stamp | if several { SEVERAL } else { 0 };
        }
        Ok(())
    }

    #[inline]
    pub fn note_write(&mut self, offset: usize, bytes: usize, t: Thread, same: bool) -> Res {
        let stamp = self.stamp(t);
        for i in offset / 4..(offset + bytes).div_ceil(4) {
            if self.pending[i] != 0 {
                return self.under_way(i, t.id, "writes");
            }
            if !same && let Some(other) = self.conflict(self.writes[i], t) {
                return self.found(i, t.id, "writes", "written", other);
            }
            if let Some(other) = self.conflict(self.reads[i], t) {
                return self.found(i, t.id, "writes", "read", other);
            }
            self.writes[i] = stamp;
        }
        Ok(())
    }

    /// Counts words as under way (`by` 1) or as landed (`by` -1).
    pub fn set_pending(&mut self, offset: usize, bytes: usize, by: i8) {
        for p in &mut self.pending[offset / 4..(offset + bytes).div_ceil(4)] {
            *p = p.saturating_add_signed(by);
        }
    }

    #[cold]
    fn under_way(&self, word: usize, thread: u32, does: &str) -> Res {
        let address = word as u64 * 4 + u64::from(SHARED_BASE);
        let text = format!(
            "{does} byte {} of shared memory while a cp.async to it is under way: cp.async.wait_group (and a barrier) is \
             missing",
            word * 4
        );
        fault(Kind::AsyncCopy, thread % 32, Some(address), text)
    }

    #[cold]
    fn found(&self, word: usize, thread: u32, does: &str, done: &str, other: u32) -> Res {
        let address = word as u64 * 4 + u64::from(SHARED_BASE);
        let barrier = if other / 32 == thread / 32 { "bar.warp.sync" } else { "bar.sync" };
        let text = format!(
            "{does} byte {} of shared memory, {done} by thread {other} of the block with no {barrier} in between",
            word * 4
        );
        fault(Kind::Race, thread % 32, Some(address), text)
    }
}
