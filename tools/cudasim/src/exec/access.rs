//! Loads, stores and asynchronous copies of a warp.

use super::alu::{each, put_wide, wide};
use super::grid::{Block, Machine};
use super::races::{self, Who};
use super::shared::Thread;
use super::warp::{AsyncCopy, Lanes, Warp};
use super::{Res, fault, lanes};
use crate::op::*;
use crate::report::Kind;

/// Windows of the generic address space.
pub const SHARED_WINDOW: u64 = 0x7a00_0000_0000;
pub const LOCAL_WINDOW: u64 = 0x7b00_0000_0000;
const WINDOW: u64 = 1 << 32;

/// The address of every lane.
#[inline(always)]
pub(super) fn addresses(w: &Warp, address: Address) -> [u64; 32] {
    if address.base == NONE {
        return [address.offset as u64; 32];
    }
    let (low, mut at) = (w.src(address.base), [0u64; 32]);
    if address.wide {
        let high = w.src(address.base + 1);
        for l in 0..32 {
            at[l] = (u64::from(low[l]) | u64::from(high[l]) << 32).wrapping_add(address.offset as u64);
        }
    } else {
        for l in 0..32 {
            at[l] = u64::from(low[l].wrapping_add(address.offset as u32));
        }
    }
    at
}

/// Splits generic addresses by the window they lie in, made relative to it: (global, shared, local)
/// lanes.
#[inline]
pub(super) fn split(space: MemSpace, at: &mut [u64; 32], mask: u32) -> (u32, u32, u32) {
    match space {
        MemSpace::Global => (mask, 0, 0),
        MemSpace::Shared => (0, mask, 0),
        MemSpace::Local => (0, 0, mask),
        MemSpace::Generic => {
            let (mut global, mut shared, mut local) = (0, 0, 0);
            for l in lanes(mask) {
                if at[l].wrapping_sub(SHARED_WINDOW) < WINDOW {
                    at[l] -= SHARED_WINDOW;
                    shared |= 1 << l;
                } else if at[l].wrapping_sub(LOCAL_WINDOW) < WINDOW {
                    at[l] -= LOCAL_WINDOW;
                    local |= 1 << l;
                } else {
                    global |= 1 << l;
                }
            }
            (global, shared, local)
        }
    }
}

#[inline(always)]
fn get(bytes: &[u8], size: usize) -> u64 {
    match size {
        1 => u64::from(bytes[0]),
        2 => u64::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        4 => u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        _ => u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default()),
    }
}

#[inline(always)]
fn extend(value: u64, size: usize, signed: bool) -> u64 {
    match (size, signed) {
        (1, true) => i64::from(value as i8) as u64,
        (2, true) => i64::from(value as i16) as u64,
        (4, true) => i64::from(value as i32) as u64,
        _ => value,
    }
}

/// Values of one instruction: element, then low and high word, then lane.
type Values = [[Lanes; 2]; 4];

#[inline(always)]
fn take(bytes: &[u8], a: &Access, values: &mut Values, lane: usize) {
    let size = a.size as usize;
    for (i, value) in values[..a.count as usize].iter_mut().enumerate() {
        let v = extend(get(&bytes[i * size..], size), size, a.signed);
        value[0][lane] = v as u32;
        value[1][lane] = (v >> 32) as u32;
    }
}

impl Machine<'_> {
    /// Finds the bytes of a global access: allocation and offset.
    #[inline]
    pub(super) fn global(&self, address: u64, bytes: u64, lane: usize) -> Res<(usize, usize)> {
        if address & (bytes - 1) != 0 {
            let text = format!("{bytes} bytes of global memory need an address that is a multiple of {bytes}");
            return fault(Kind::Misaligned, lane as u32, Some(address), text);
        }
        match self.mem.find(address, bytes) {
            Ok(found) => Ok(found),
            Err(bad) => fault(Kind::OutOfBounds, lane as u32, Some(address), bad.0),
        }
    }

    #[cold]
    fn uninitialised(&self, index: usize, address: u64, lane: usize) -> Res {
        let a = &self.mem.allocations[index];
        let text =
            format!("reads byte {} of allocation #{} ({}), which was never written", address - a.base, a.id, a.label);
        fault(Kind::Uninitialised, lane as u32, Some(address), text)
    }

    #[inline]
    pub(super) fn note_global_read(
        &mut self,
        b: &Block,
        w: &Warp,
        lane: usize,
        at: (usize, usize, u64),
        order: Order,
        bytes: usize,
    ) -> Res {
        let (index, offset, address) = at;
        if self.check.init && !self.mem.allocations[index].is_init(offset, bytes.min(8)) {
            return self.uninitialised(index, address, lane);
        }
        if bytes == 16 && self.check.init && !self.mem.allocations[index].is_init(offset + 8, 8) {
            return self.uninitialised(index, address + 8, lane);
        }
        if self.check.races {
            let who = self.who(b, w, lane, order.scope());
            let a = &mut self.mem.allocations[index];
            a.track(self.readers);
            let words = (offset + bytes).div_ceil(4) - offset / 4;
            who.read(a, offset / 4, words, order == Order::NonCoherent, address)?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn who<'a>(&self, b: &'a Block, w: &'a Warp, lane: usize, scope: Option<Scope>) -> Who<'a> {
        Who {
            launch: self.launch,
            block: b.index,
            thread: w.id * 32 + lane as u32,
            epoch: b.shared.epoch,
            scope,
            known: [b.known.as_ref(), w.known.as_ref()],
        }
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn note_global_write(
        &mut self,
        b: &Block,
        w: &Warp,
        lane: usize,
        at: (usize, usize, u64),
        scope: Option<Scope>,
        bytes: usize,
        same: bool,
    ) -> Res {
        let (index, offset, address) = at;
        if self.check.races {
            let who = self.who(b, w, lane, scope);
            let a = &mut self.mem.allocations[index];
            a.track(self.readers);
            let words = (offset + bytes).div_ceil(4) - offset / 4;
            who.write(a, offset / 4, words, same, address)?;
        }
        self.mem.allocations[index].set_init(offset, bytes);
        Ok(())
    }

    pub(super) fn load(&mut self, b: &mut Block, w: &mut Warp, a: &Access, mask: u32) -> Res {
        let mut at = addresses(w, a.address);
        let (global, shared, local) = split(a.space, &mut at, mask);
        let bytes = a.size as usize * a.count as usize;
        let mut values: Values = [[[0; 32]; 2]; 4];
        if global != 0 {
            self.counters.global(&at, global, bytes as u64, false);
            for l in lanes(global) {
                let (index, offset) = self.global(at[l], bytes as u64, l)?;
                self.note_global_read(b, w, l, (index, offset, at[l]), a.order, bytes)?;
                take(&self.mem.allocations[index].data[offset..offset + bytes], a, &mut values, l);
            }
            if a.order.leaves_block() && self.check.races {
                for l in lanes(global) {
                    self.published.acquire(at[l], w, a.order.acquires());
                }
            }
        }
        if shared != 0 {
            self.counters.shared(&at, shared, bytes as u64, false);
            for l in lanes(shared) {
                let offset = b.shared.offset(at[l], bytes as u64, l as u32)?;
                self.note_shared_read(b, w, l, offset, bytes, a.order.is_strong())?;
                take(&b.shared.data[offset..offset + bytes], a, &mut values, l);
            }
        }
        for l in lanes(local) {
            let offset = b.shared.local_offset(at[l], bytes as u64, w.id * 32 + l as u32)?;
            if self.check.init {
                b.shared.check_local_init(offset, bytes, l as u32, at[l])?;
            }
            take(&b.shared.local[offset..offset + bytes], a, &mut values, l);
        }
        for (value, &d) in values.iter().zip(&a.regs[..a.count as usize]) {
            if a.wide {
                w.put64(d, &value[0], &value[1], mask);
            } else {
                w.put(d, &value[0], mask);
            }
        }
        w.polls |= a.order.is_strong();
        Ok(())
    }

    #[inline]
    pub(super) fn note_shared_read(
        &self,
        b: &mut Block,
        w: &Warp,
        lane: usize,
        offset: usize,
        bytes: usize,
        strong: bool,
    ) -> Res {
        if self.check.races {
            b.shared.note_read(offset, bytes, thread(w, lane, strong))?;
        }
        if self.check.init {
            b.shared.check_init(offset, bytes, lane as u32)?;
        }
        Ok(())
    }

    pub(super) fn store(&mut self, b: &mut Block, w: &mut Warp, a: &Access, mask: u32) -> Res {
        let mut at = addresses(w, a.address);
        let (global, shared, local) = split(a.space, &mut at, mask);
        let size = a.size as usize;
        let bytes = size * a.count as usize;
        let line = |w: &Warp, l: usize| {
            let mut line = [0u8; 16];
            for (i, &slot) in a.regs[..a.count as usize].iter().enumerate() {
                let v = if a.wide { w.src64(slot, l) } else { u64::from(w.src(slot)[l]) };
                line[i * size..(i + 1) * size].copy_from_slice(&v.to_le_bytes()[..size]);
            }
            line
        };
        if global != 0 {
            self.counters.global(&at, global, bytes as u64, true);
            for l in lanes(global) {
                let line = line(w, l);
                let (index, offset) = self.global(at[l], bytes as u64, l)?;
                let same = self.mem.allocations[index].data[offset..offset + bytes] == line[..bytes];
                self.note_global_write(b, w, l, (index, offset, at[l]), a.order.scope(), bytes, same)?;
                self.mem.allocations[index].data[offset..offset + bytes].copy_from_slice(&line[..bytes]);
                if a.order.leaves_block() && self.check.races {
                    let here = (b.index, b.shared.epoch, self.blocks);
                    self.published.release(at[l], w, a.order.releases(), here, b.known.as_ref());
                }
            }
            self.progress += 1;
        }
        if shared != 0 {
            self.counters.shared(&at, shared, bytes as u64, true);
            for l in lanes(shared) {
                let line = line(w, l);
                let offset = b.shared.offset(at[l], bytes as u64, l as u32)?;
                let same = b.shared.data[offset..offset + bytes] == line[..bytes];
                if self.check.races {
                    b.shared.note_write(offset, bytes, thread(w, l, a.order.is_strong()), same)?;
                }
                if self.check.init {
                    b.shared.set_init(offset, bytes);
                }
                b.shared.data[offset..offset + bytes].copy_from_slice(&line[..bytes]);
            }
            self.progress += 1;
        }
        for l in lanes(local) {
            let line = line(w, l);
            let offset = b.shared.local_offset(at[l], bytes as u64, w.id * 32 + l as u32)?;
            b.shared.set_local_init(offset, bytes);
            b.shared.local[offset..offset + bytes].copy_from_slice(&line[..bytes]);
        }
        Ok(())
    }

    pub(super) fn load_param(&self, w: &mut Warp, op: &Op, mask: u32) -> Res {
        let &Op::LoadParam { size, count, signed, wide, regs, offset } = op else { return Ok(()) };
        let bytes = usize::from(size) * usize::from(count);
        let Some(from) = self.params.get(offset as usize..offset as usize + bytes) else {
            return fault(Kind::OutOfBounds, mask.trailing_zeros(), None, "reads beyond the kernel's parameters");
        };
        for (i, &d) in regs[..count as usize].iter().enumerate() {
            let v = extend(get(&from[i * size as usize..], size.into()), size.into(), signed);
            if wide {
                w.put64(d, &[v as u32; 32], &[(v >> 32) as u32; 32], mask);
            } else {
                w.put(d, &[v as u32; 32], mask);
            }
        }
        Ok(())
    }

    pub(super) fn cvta(&self, w: &mut Warp, op: &Op, mask: u32) {
        let &Op::Cvta { to, space, d, a } = op else { return };
        let window = match space {
            MemSpace::Shared => SHARED_WINDOW,
            MemSpace::Local => LOCAL_WINDOW,
            _ => 0,
        };
        let shift = if to { 0u64.wrapping_sub(window) } else { window };
        let from = wide(w, a);
        put_wide(w, d, &each(|l| from[l].wrapping_add(shift)), mask);
    }

    /// `cp.async`: noted now, copied at the wait.
    pub(super) fn cp_async(&mut self, b: &mut Block, w: &mut Warp, op: &Op, mask: u32) -> Res {
        let &Op::CpAsync { bytes, dst, src, src_size } = op else { return Ok(()) };
        let (mut to, mut from) = (addresses(w, dst), addresses(w, src));
        split(MemSpace::Generic, &mut to, mask);
        split(MemSpace::Generic, &mut from, mask);
        let n = u64::from(bytes);
        // lanes that only fill with zeros read nothing
        let reads = |l: &usize| src_size == NONE || w.src(src_size)[*l] > 0;
        let reading = lanes(mask).filter(reads).fold(0u32, |m, l| m | 1 << l);
        self.counters.global(&from, reading, n, false);
        self.counters.shared(&to, mask, n, true);
        for l in lanes(mask) {
            let src_bytes = if src_size == NONE { u32::from(bytes) } else { w.src(src_size)[l] };
            if src_bytes > u32::from(bytes) {
                let text = format!("cp.async of {bytes} bytes cannot read {src_bytes}");
                return fault(Kind::OutOfBounds, l as u32, Some(from[l]), text);
            }
            let offset = b.shared.offset(to[l], n, l as u32)?;
            if src_bytes > 0 {
                // the address must be aligned and valid now, as it is read from now on
                if from[l] % n != 0 {
                    self.global(from[l], n, l)?;
                }
                if let Err(bad) = self.mem.find(from[l], u64::from(src_bytes)) {
                    return fault(Kind::OutOfBounds, l as u32, Some(from[l]), bad.0);
                }
            }
            if self.check.races {
                b.shared.note_write(offset, n as usize, thread(w, l, false), false)?;
            }
            b.shared.set_pending(offset, n as usize, 1);
            w.copies.push(AsyncCopy {
                lane: l as u8,
                bytes,
                src_bytes: src_bytes as u8,
                group: w.committed[l],
                dst: offset as u32,
                src: from[l],
            });
        }
        Ok(())
    }

    /// `cp.async.wait_group`: copies of all but the last `groups` groups of each lane land.
    pub(super) fn cp_wait(&mut self, b: &mut Block, w: &mut Warp, groups: u16, mask: u32) -> Res {
        let mut copies = std::mem::take(&mut w.copies);
        let mut rest = 0;
        for i in 0..copies.len() {
            let c = copies[i];
            let l = c.lane as usize;
            let done = groups == NONE || c.group + u32::from(groups) < w.committed[l];
            if mask >> l & 1 == 0 || !done {
                copies[rest] = c;
                rest += 1;
                continue;
            }
            let (offset, n, used) = (c.dst as usize, c.bytes as usize, c.src_bytes as usize);
            // without copies of a length that only the instruction knows, which are calls
            let mut line = 0u128;
            if used > 0 {
                let (index, from) = match self.mem.find(c.src, used as u64) {
                    Ok(found) => found,
                    Err(bad) => return fault(Kind::OutOfBounds, c.lane.into(), Some(c.src), bad.0),
                };
                if self.check.init || self.check.races {
                    // the address is aligned to n; what is read of it ends anywhere
                    let step = if used == n { n } else { 4 };
                    for part in (0..used).step_by(step) {
                        let at = (index, from + part, c.src + part as u64);
                        self.note_global_read(b, w, l, at, Order::Weak, step.min(used - part))?;
                    }
                }
                let data = &self.mem.allocations[index].data[from..from + used];
                line = match data.first_chunk() {
                    Some(all) => u128::from_le_bytes(*all),
                    None => data.iter().rev().fold(0, |line, &byte| line << 8 | u128::from(byte)),
                };
            }
            b.shared.set_pending(offset, n, -1);
            if self.check.races {
                b.shared.note_write(offset, n, thread(w, l, false), false)?;
            }
            if self.check.init {
                b.shared.set_init(offset, n);
            }
            for (i, part) in b.shared.data[offset..offset + n].chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&((line >> (32 * i)) as u32).to_le_bytes());
            }
        }
        copies.truncate(rest);
        w.copies = copies;
        Ok(())
    }

    pub(super) fn fence(&self, b: &Block, w: &mut Warp) {
        if self.check.races {
            races::fence(w, b.index, b.shared.epoch, self.blocks, b.known.as_ref());
        }
    }
}

pub(super) fn thread(w: &Warp, lane: usize, strong: bool) -> Thread {
    Thread { id: w.id * 32 + lane as u32, sync_epoch: w.sync_epoch, strong }
}
