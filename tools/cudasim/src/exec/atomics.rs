//! Atomic operations. Lanes take their turns in an order drawn by the seed, as a GPU promises none.

use super::access::{addresses, split, thread};
use super::grid::{Block, Machine};
use super::warp::{Lanes, Warp};
use super::{Res, fault, lanes};
use crate::float::{half_from_f64, half_to_f32, sum_odd};
use crate::op::*;
use crate::report::Kind;

fn wide(ty: AtomType) -> bool {
    matches!(ty, AtomType::U64 | AtomType::S64 | AtomType::F64)
}

/// The new value.
fn apply(op: AtomOp, ty: AtomType, old: u64, b: u64, c: u64) -> u64 {
    let (o32, b32) = (old as u32, b as u32);
    match op {
        AtomOp::Add => match ty {
            AtomType::U32 | AtomType::S32 => u64::from(o32.wrapping_add(b32)),
            AtomType::U64 | AtomType::S64 => old.wrapping_add(b),
            AtomType::F32 => u64::from((f32::from_bits(o32) + f32::from_bits(b32)).to_bits()),
            AtomType::F64 => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
            AtomType::Packed(format) => {
                let half = |n: u32| {
                    let f = |v: u32| f64::from(half_to_f32((v >> n) as u16, format));
                    u64::from(half_from_f64(sum_odd(f(o32), f(b32)), format, Default::default())) << n
                };
                half(0) | half(16)
            }
        },
        AtomOp::Exch => b,
        AtomOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Inc => {
            if o32 >= b32 {
                0
            } else {
                u64::from(o32 + 1)
            }
        }
        AtomOp::Dec => {
            if o32 == 0 || o32 > b32 {
                b
            } else {
                u64::from(o32 - 1)
            }
        }
        AtomOp::Min | AtomOp::Max => {
            let less = match ty {
                AtomType::S32 => (o32 as i32) < b32 as i32,
                AtomType::S64 => (old as i64) < b as i64,
                _ => old < b,
            };
            if less == (op == AtomOp::Min) { old } else { b }
        }
    }
}

impl Machine<'_> {
    pub(super) fn atom(&mut self, b: &mut Block, w: &mut Warp, a: &Atom, mask: u32) -> Res {
        let mut at = addresses(w, a.address);
        let (global, shared, local) = split(a.space, &mut at, mask);
        if local != 0 {
            return fault(Kind::OutOfBounds, local.trailing_zeros(), None, "an atomic on local memory");
        }
        let n = if wide(a.ty) { 8 } else { 4 };
        if global != 0 {
            self.counters.atomic(&at, global, n);
        } else {
            self.counters.shared(&at, shared, n, true);
        }
        let value = |w: &Warp, slot: Slot, l: usize| match (slot, n) {
            (NONE, _) => 0,
            (_, 8) => w.src64(slot, l),
            _ => u64::from(w.src(slot)[l]),
        };
        let (mut low, mut high): (Lanes, Lanes) = ([0; 32], [0; 32]);
        let mut order: Vec<usize> = lanes(mask).collect();
        self.rng.shuffle(&mut order);
        for l in order {
            let (x, y) = (value(w, a.b, l), value(w, a.c, l));
            let old = if global >> l & 1 != 0 {
                let (index, offset) = self.global(at[l], n, l)?;
                if a.order.leaves_block() && (a.order.releases() || w.fenced.is_some()) {
                    let here = (b.index, b.shared.epoch, self.blocks);
                    self.published.release(at[l], w, a.order.releases(), here, b.known.as_ref());
                }
                self.note_global_read(b, w, l, (index, offset, at[l]), a.order, n as usize)?;
                self.note_global_write(b, w, l, (index, offset, at[l]), a.order.scope(), n as usize, false)?;
                if a.order.leaves_block() {
                    self.published.acquire(at[l], w, a.order.acquires());
                }
                exchange(&mut self.mem.allocations[index].data[offset..offset + n as usize], a, x, y)
            } else {
                let offset = b.shared.offset(at[l], n, l as u32)?;
                self.note_shared_read(b, w, l, offset, n as usize, true)?;
                if self.check.races {
                    b.shared.note_write(offset, n as usize, thread(w, l, true), false)?;
                }
                exchange(&mut b.shared.data[offset..offset + n as usize], a, x, y)
            };
            low[l] = old as u32;
            high[l] = (old >> 32) as u32;
        }
        if n == 8 {
            w.put64(a.d, &low, &high, mask);
        } else {
            w.put(a.d, &low, mask);
        }
        w.polls = true;
        self.progress += 1;
        Ok(())
    }
}

fn exchange(bytes: &mut [u8], a: &Atom, x: u64, y: u64) -> u64 {
    let mut old = [0u8; 8];
    old[..bytes.len()].copy_from_slice(bytes);
    let old = u64::from_le_bytes(old);
    let new = apply(a.op, a.ty, old, x, y).to_le_bytes();
    let n = bytes.len();
    bytes.copy_from_slice(&new[..n]);
    old
}
