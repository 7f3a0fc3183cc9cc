//! The common accesses, of 32-bit words in one allocation or in shared memory, 32 lanes at a time.
//! What is wrong with an address is left to `access.rs`, which goes lane by lane.

use super::access::{addresses, split, thread};
use super::grid::{Block, Machine};
use super::warp::{Lanes, Warp};
use super::{Res, lanes};
use crate::decode::SHARED_BASE;
use crate::op::*;

/// Where the lanes of an access are.
struct Place {
    /// The allocation, or `None` for shared memory.
    index: Option<usize>,
    at: [u64; 32],
    /// In bytes; every lane's bytes lie in the memory. Zero for lanes that take no part.
    offsets: [u32; 32],
}

/// Offsets from `base`; `None` if a lane's `bytes` do not lie in the `len` bytes from there or are
/// misaligned.
#[inline(always)]
fn offsets(at: &[u64; 32], mask: u32, base: u64, len: usize, bytes: u64) -> Option<[u32; 32]> {
    let last = u32::try_from((len as u64).checked_sub(bytes)?).unwrap_or(u32::MAX);
    let mut offsets = [0u32; 32];
    let (mut high, mut low, mut most) = (0u64, 0u64, 0u32);
    for l in 0..32 {
        let on = (u64::from(mask) >> l & 1).wrapping_neg();
        let offset = at[l].wrapping_sub(base) & on;
        high |= offset >> 32;
        low |= at[l] & on;
        most = most.max(offset as u32);
        offsets[l] = offset as u32;
    }
    (high == 0 && low & (bytes - 1) == 0 && most <= last).then_some(offsets)
}

impl Machine<'_> {
    /// `None` if lanes are in several memories, or one's address is wrong.
    #[inline(always)]
    fn place(&self, b: &Block, w: &Warp, a: &Access, mask: u32) -> Option<Place> {
        let bytes = 4 * u64::from(a.count);
        let mut at = addresses(w, a.address);
        let (global, shared, _) = split(a.space, &mut at, mask);
        if global == mask && !a.order.is_strong() {
            let (index, _) = self.mem.find(at[mask.trailing_zeros() as usize], bytes).ok()?;
            let found = &self.mem.allocations[index];
            let offsets = offsets(&at, mask, found.base, found.data.len(), bytes)?;
            Some(Place { index: Some(index), at, offsets })
        } else if shared == mask {
            let offsets = offsets(&at, mask, u64::from(SHARED_BASE), b.shared.data.len(), bytes)?;
            Some(Place { index: None, at, offsets })
        } else {
            None
        }
    }

    /// False if it is none of the common loads.
    #[inline(always)]
    pub(super) fn load_words(&mut self, b: &mut Block, w: &mut Warp, a: &Access, mask: u32) -> Res<bool> {
        if a.size != 4 || a.wide {
            return Ok(false);
        }
        let Some(Place { index, at, offsets }) = self.place(b, w, a, mask) else { return Ok(false) };
        let bytes = 4 * usize::from(a.count);
        if index.is_some() {
            self.counters.global(&at, mask, bytes as u64, false);
        } else {
            self.counters.shared(&at, mask, bytes as u64, false);
        }
        if self.check.init || self.check.races {
            self.note_reads(b, w, a, &Place { index, at, offsets }, mask)?;
        }
        let data = match index {
            Some(index) => &self.mem.allocations[index].data,
            None => &b.shared.data,
        };
        for (i, &d) in a.regs[..a.count as usize].iter().enumerate() {
            let mut words: Lanes = [0; 32];
            for l in 0..32 {
                let at = offsets[l] as usize + 4 * i;
                debug_assert!(at + 4 <= data.len());
                // SAFETY: `offsets` is of this memory, in which `bytes` lie from each of them on; i
                // is less than bytes / 4.
                words[l] = u32::from_le(unsafe { data.as_ptr().add(at).cast::<u32>().read_unaligned() });
            }
            w.put(d, &words, mask);
        }
        w.polls |= a.order.is_strong();
        Ok(true)
    }

    fn note_reads(&mut self, b: &mut Block, w: &Warp, a: &Access, place: &Place, mask: u32) -> Res {
        let bytes = 4 * usize::from(a.count);
        for l in lanes(mask) {
            let offset = place.offsets[l] as usize;
            match place.index {
                Some(index) => self.note_global_read(b, w, l, (index, offset, place.at[l]), a.order, bytes)?,
                None => self.note_shared_read(b, w, l, offset, bytes, a.order.is_strong())?,
            }
        }
        Ok(())
    }

    /// False if it is none of the common stores.
    #[inline(always)]
    pub(super) fn store_words(&mut self, b: &mut Block, w: &Warp, a: &Access, mask: u32) -> Res<bool> {
        if a.size != 4 || a.wide {
            return Ok(false);
        }
        let Some(Place { index, at, offsets }) = self.place(b, w, a, mask) else { return Ok(false) };
        let count = usize::from(a.count);
        let bytes = 4 * count;
        if index.is_some() {
            self.counters.global(&at, mask, bytes as u64, true);
        } else {
            self.counters.shared(&at, mask, bytes as u64, true);
        }
        // by lanes: of two that write one place the later wins
        let words: [&Lanes; 4] = std::array::from_fn(|i| w.src(a.regs[if i < count { i } else { 0 }]));
        for l in lanes(mask) {
            let offset = offsets[l] as usize;
            let parts = || words[..count].iter().enumerate().map(|(i, words)| (offset + 4 * i, words[l].to_le_bytes()));
            let same = |data: &[u8]| parts().all(|(at, word)| data[at..at + 4] == word);
            match index {
                Some(index) => {
                    let same = self.check.races && same(&self.mem.allocations[index].data);
                    self.note_global_write(b, w, l, (index, offset, at[l]), None, bytes, same)?;
                }
                None => {
                    if self.check.races {
                        let same = same(&b.shared.data);
                        b.shared.note_write(offset, bytes, thread(w, l, a.order.is_strong()), same)?;
                    }
                    if self.check.init {
                        b.shared.set_init(offset, bytes);
                    }
                }
            }
            let data = match index {
                Some(index) => &mut self.mem.allocations[index].data,
                None => &mut b.shared.data,
            };
            parts().for_each(|(at, word)| data[at..at + 4].copy_from_slice(&word));
        }
        self.progress += 1;
        Ok(true)
    }
}
