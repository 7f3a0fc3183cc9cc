//! Shuffles, votes and reductions of a warp.

use super::warp::{Lanes, Warp};
use super::{Res, fault, lanes};
use crate::op::*;
use crate::report::Kind;

/// The lanes an instruction needs, as its member mask says; all executing lanes must say the same.
pub(super) fn members(w: &Warp, slot: Slot, mask: u32) -> Res<u32> {
    let value = w.src(slot);
    let first = mask.trailing_zeros() as usize;
    let members = value[first];
    for l in lanes(mask) {
        if value[l] != members {
            return fault(Kind::WarpSync, l as u32, None, format!("lanes {first} and {l} give different member masks"));
        }
        if members >> l & 1 == 0 {
            return fault(Kind::WarpSync, l as u32, None, format!("lane {l} is not in its own mask 0x{members:08x}"));
        }
    }
    Ok(members)
}

/// `shfl.sync`: `mask` holds the lanes that take part.
pub(super) fn shuffle(w: &mut Warp, op: &Op, mask: u32) -> Res {
    let &Op::Shfl { mode, d, p, a, b, c, .. } = op else { return Ok(()) };
    let (from, by, clamp) = (*w.src(a), *w.src(b), *w.src(c));
    let (mut r, mut valid): (Lanes, u32) = ([0; 32], 0);
    for l in lanes(mask) {
        let lane = l as u32;
        let (segment, bound) = (clamp[l] >> 8 & 31, clamp[l] & 31);
        let n = by[l] & 31;
        // the highest lane of the segment, or the lowest for up
        let max = (lane & segment) | (bound & !segment);
        let (j, ok) = match mode {
            Shuffle::Up => (lane.wrapping_sub(n), lane as i32 - n as i32 >= max as i32),
            Shuffle::Down => (lane + n, lane + n <= max),
            Shuffle::Bfly => (lane ^ n, lane ^ n <= max),
            Shuffle::Idx => {
                let j = (lane & segment) | (n & !segment);
                (j, j <= max)
            }
        };
        let j = if ok { j } else { lane };
        if mask >> j & 1 == 0 {
            let text = format!("the shuffle reads lane {j}, which does not take part");
            return fault(Kind::WarpSync, lane, None, text);
        }
        r[l] = from[j as usize];
        valid |= u32::from(ok) << l;
    }
    w.put(d, &r, mask);
    w.put_pred(p, valid, mask);
    Ok(())
}

pub(super) fn vote(w: &mut Warp, op: &Op, mask: u32) {
    let &Op::Vote { mode, d, p, a, negated, .. } = op else { return };
    let value = if negated { !w.preds[a as usize] } else { w.preds[a as usize] } & mask;
    let all = |yes: bool| if yes { u32::MAX } else { 0 };
    match mode {
        Vote::Ballot => w.put(d, &[value; 32], mask),
        Vote::All => w.put_pred(p, all(value == mask), mask),
        Vote::Any => w.put_pred(p, all(value != 0), mask),
        Vote::Uni => w.put_pred(p, all(value == mask || value == 0), mask),
    }
}

pub(super) fn redux(w: &mut Warp, op: &Op, mask: u32) {
    let &Op::Redux { op, signed, d, a, .. } = op else { return };
    let from = *w.src(a);
    let joined = lanes(mask).map(|l| from[l]).reduce(|x, y| match (op, signed) {
        (IntOp::Add, _) => x.wrapping_add(y),
        (IntOp::Min, false) => x.min(y),
        (IntOp::Max, false) => x.max(y),
        (IntOp::Min, true) => (x as i32).min(y as i32) as u32,
        (IntOp::Max, true) => (x as i32).max(y as i32) as u32,
        (IntOp::And, _) => x & y,
        (IntOp::Or, _) => x | y,
        _ => x ^ y,
    });
    w.put(d, &[joined.unwrap_or(0); 32], mask);
}
