//! Integer arithmetic, logic, comparison and moves of a warp.

use super::warp::{Lanes, Warp};
use crate::float::{flush, half_to_f32};
use crate::op::*;

macro_rules! map1 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $f:expr) => {{
        let a = *$w.src($a);
        let f = $f;
        let mut r = [0u32; 32];
        for l in 0..32 {
            r[l] = f(a[l]);
        }
        $w.put($d, &r, $mask);
    }};
}
macro_rules! map2 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $b:expr, $f:expr) => {{
        let (a, b) = (*$w.src($a), *$w.src($b));
        let f = $f;
        let mut r = [0u32; 32];
        for l in 0..32 {
            r[l] = f(a[l], b[l]);
        }
        $w.put($d, &r, $mask);
    }};
}
macro_rules! map3 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $b:expr, $c:expr, $f:expr) => {{
        let (a, b, c) = (*$w.src($a), *$w.src($b), *$w.src($c));
        let f = $f;
        let mut r = [0u32; 32];
        for l in 0..32 {
            r[l] = f(a[l], b[l], c[l]);
        }
        $w.put($d, &r, $mask);
    }};
}
pub(super) use {map1, map2, map3};

/// A value of every lane. A loop, because `std::array::from_fn` is left as a call within code for a
/// later processor.
#[inline(always)]
pub(super) fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; 32] {
    let mut all = [T::default(); 32];
    for (l, value) in all.iter_mut().enumerate() {
        *value = f(l);
    }
    all
}

/// All lanes of a 64-bit operand.
#[inline(always)]
pub(super) fn wide(w: &Warp, slot: Slot) -> [u64; 32] {
    let (low, high) = (w.src(slot), w.src(slot + 1));
    each(|l| u64::from(low[l]) | u64::from(high[l]) << 32)
}

#[inline(always)]
pub(super) fn put_wide(w: &mut Warp, slot: Slot, value: &[u64; 32], mask: u32) {
    let (low, high) = (each(|l| value[l] as u32), each(|l| (value[l] >> 32) as u32));
    w.put64(slot, &low, &high, mask);
}

macro_rules! wide1 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $f:expr) => {{
        let a = wide($w, $a);
        let f = $f;
        let r: [u64; 32] = each(|l| f(a[l]));
        put_wide($w, $d, &r, $mask);
    }};
}
macro_rules! wide2 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $b:expr, $f:expr) => {{
        let (a, b) = (wide($w, $a), wide($w, $b));
        let f = $f;
        let r: [u64; 32] = each(|l| f(a[l], b[l]));
        put_wide($w, $d, &r, $mask);
    }};
}
macro_rules! wide3 {
    ($w:expr, $mask:expr, $d:expr, $a:expr, $b:expr, $c:expr, $f:expr) => {{
        let (a, b, c) = (wide($w, $a), wide($w, $b), wide($w, $c));
        let f = $f;
        let r: [u64; 32] = each(|l| f(a[l], b[l], c[l]));
        put_wide($w, $d, &r, $mask);
    }};
}
pub(super) use {wide1, wide2, wide3};

/// One instruction without effects outside of the warp's registers. False if it is not one of
/// these.
#[inline(always)]
pub(super) fn integer(w: &mut Warp, op: &Op, mask: u32) -> bool {
    match *op {
        Op::Int { op, ty, d, a, b } => match ty {
            IntType::U32 | IntType::S32 => int32(w, op, ty == IntType::S32, d, a, b, mask),
            IntType::U64 | IntType::S64 => int64(w, op, ty == IntType::S64, d, a, b, mask),
            IntType::U16 | IntType::S16 => int16(w, op, ty == IntType::S16, d, a, b, mask),
        },
        Op::MulWide { ty, d, a, b } => {
            let (x, y) = (*w.src(a), *w.src(b));
            if bits(ty) == 16 {
                let r: Lanes = each(|l| wide_product(ty, x[l], y[l]) as u32);
                w.put(d, &r, mask);
            } else {
                let r: [u64; 32] = each(|l| wide_product(ty, x[l], y[l]));
                put_wide(w, d, &r, mask);
            }
        }
        Op::MadWide { ty, d, a, b, c } => {
            let (x, y) = (*w.src(a), *w.src(b));
            if bits(ty) == 16 {
                let z = *w.src(c);
                let r: Lanes = each(|l| (wide_product(ty, x[l], y[l]) as u32).wrapping_add(z[l]));
                w.put(d, &r, mask);
            } else {
                let z = wide(w, c);
                let r: [u64; 32] = each(|l| wide_product(ty, x[l], y[l]).wrapping_add(z[l]));
                put_wide(w, d, &r, mask);
            }
        }
        Op::Mad { hi, ty, d, a, b, c } => match (ty, hi) {
            (IntType::U32 | IntType::S32, false) => {
                map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| x.wrapping_mul(y).wrapping_add(z));
            }
            (IntType::U32, true) => {
                map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| mul_hi(x, y).wrapping_add(z));
            }
            (IntType::S32, true) => {
                map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| mul_hi_signed(x, y).wrapping_add(z));
            }
            (IntType::U64 | IntType::S64, false) => {
                wide3!(w, mask, d, a, b, c, |x: u64, y: u64, z: u64| x.wrapping_mul(y).wrapping_add(z));
            }
            (IntType::U64, true) => {
                wide3!(w, mask, d, a, b, c, |x: u64, y: u64, z: u64| mul_hi64(x, y, false).wrapping_add(z));
            }
            (IntType::S64, true) => {
                wide3!(w, mask, d, a, b, c, |x: u64, y: u64, z: u64| mul_hi64(x, y, true).wrapping_add(z));
            }
            (IntType::U16 | IntType::S16, _) => map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| {
                let product = wide_product(ty, x, y) as u32;
                (if hi { product >> 16 } else { product }).wrapping_add(z) & 0xffff
            }),
        },
        Op::IntUnary { op, ty, d, a } => unary(w, op, ty, d, a, mask),
        Op::Bfe { ty, d, a, b, c } => {
            let (start, len) = (*w.src(b), *w.src(c));
            if bits(ty) == 64 {
                let x = wide(w, a);
                let r: [u64; 32] = each(|l| bfe(x[l], start[l], len[l], 64, ty == IntType::S64));
                put_wide(w, d, &r, mask);
            } else {
                let x = *w.src(a);
                let r: Lanes = each(|l| bfe(u64::from(x[l]), start[l], len[l], 32, ty == IntType::S32) as u32);
                w.put(d, &r, mask);
            }
        }
        Op::Bfi { wide: is_wide, d, a, b, c, len } => {
            let (start, n) = (*w.src(c), *w.src(len));
            if is_wide {
                let (x, y) = (wide(w, a), wide(w, b));
                let r: [u64; 32] = each(|l| bfi(x[l], y[l], start[l], n[l], 64));
                put_wide(w, d, &r, mask);
            } else {
                let (x, y) = (*w.src(a), *w.src(b));
                let r: Lanes = each(|l| bfi(u64::from(x[l]), u64::from(y[l]), start[l], n[l], 32) as u32);
                w.put(d, &r, mask);
            }
        }
        Op::Prmt { d, a, b, c } => map3!(w, mask, d, a, b, c, |x: u32, y: u32, s: u32| {
            let both = u64::from(x) | u64::from(y) << 32;
            let mut r = 0u32;
            for i in 0..4 {
                let pick = s >> (4 * i) & 15;
                let byte = (both >> (8 * (pick & 7))) as u8;
                let byte = if pick & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
                r |= u32::from(byte) << (8 * i);
            }
            r
        }),
        Op::Lop3 { table, d, a, b, c } => map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| {
            let mut r = 0u32;
            for i in 0..8u32 {
                let (fx, fy, fz) =
                    (if i & 4 != 0 { x } else { !x }, if i & 2 != 0 { y } else { !y }, if i & 1 != 0 { z } else { !z });
                if table >> i & 1 != 0 {
                    r |= fx & fy & fz;
                }
            }
            r
        }),
        Op::Shf { left, wrap, d, a, b, c } => map3!(w, mask, d, a, b, c, |x: u32, y: u32, s: u32| {
            let n = if wrap { s & 31 } else { s.min(32) };
            let both = u64::from(x) | u64::from(y) << 32;
            if left { (both << n >> 32) as u32 } else { (both >> n) as u32 }
        }),
        Op::Mov { wide, d, a } => {
            // an uninitialised register may be copied; its copy is uninitialised too
            let keep = w.init.get(a as usize).copied();
            let low = *w.src(a);
            if wide {
                let high = *w.src(a + 1);
                w.put64(d, &low, &high, mask);
            } else {
                w.put(d, &low, mask);
            }
            if let (Some(source), true) = (keep, d != NONE) {
                w.init[d as usize] = (w.init[d as usize] & !mask) | (source & mask);
            }
        }
        Op::Pack { bits, n, d, a } => {
            let mut r = [0u64; 32];
            for (i, &slot) in a[..n as usize].iter().enumerate() {
                let part = w.src(slot);
                for l in 0..32 {
                    r[l] |= (u64::from(part[l]) & ((1 << bits) - 1)) << (bits as usize * i);
                }
            }
            if u32::from(bits) * u32::from(n) == 64 {
                put_wide(w, d, &r, mask);
            } else {
                w.put(d, &each(|l| r[l] as u32), mask);
            }
        }
        Op::Unpack { bits, n, d, a } => {
            let from = if u32::from(bits) * u32::from(n) == 64 { wide(w, a) } else { each(|l| u64::from(w.src(a)[l])) };
            for (i, &slot) in d[..n as usize].iter().enumerate() {
                let r = each(|l| (from[l] >> (bits as usize * i) & ((1 << bits) - 1)) as u32);
                w.put(slot, &r, mask);
            }
        }
        Op::Selp { wide, d, a, b, p, negated } => {
            let choose = if negated { !w.preds[p as usize] } else { w.preds[p as usize] };
            for part in 0..=u16::from(wide) {
                let (x, y) = (*w.src(a + part), *w.src(b + part));
                let r: Lanes = each(|l| if choose >> l & 1 != 0 { x[l] } else { y[l] });
                w.put(d + part, &r, mask);
            }
        }
        Op::Setp { cmp, ty, combine, p, q, a, b } => {
            let result = compare(w, cmp, ty, a, b);
            let with = combine.map(|(op, c, negated)| {
                let c = w.preds[c as usize];
                (op, if negated { !c } else { c })
            });
            let join = |x: u32| match with {
                None => x,
                Some((op, c)) => bool_op(op, x, c),
            };
            w.put_pred(p, join(result), mask);
            w.put_pred(q, join(!result), mask);
        }
        Op::Set { cmp, ty, float, d, a, b } => {
            let result = compare(w, cmp, ty, a, b);
            let one = if float { 1f32.to_bits() } else { u32::MAX };
            w.put(d, &each(|l| if result >> l & 1 != 0 { one } else { 0 }), mask);
        }
        Op::PredOp { op, d, a, b, not_a, not_b } => {
            let x = w.preds[a as usize] ^ if not_a { u32::MAX } else { 0 };
            let y = w.preds[b as usize] ^ if not_b { u32::MAX } else { 0 };
            w.put_pred(d, bool_op(op, x, y), mask);
        }
        Op::PredMov { d, a, negated } => {
            let x = w.preds[a as usize];
            w.put_pred(d, if negated { !x } else { x }, mask);
        }
        Op::PredSet { d, value } => w.put_pred(d, if value { u32::MAX } else { 0 }, mask),
        _ => return false,
    }
    true
}

fn bits(ty: IntType) -> u32 {
    match ty {
        IntType::U16 | IntType::S16 => 16,
        IntType::U32 | IntType::S32 => 32,
        IntType::U64 | IntType::S64 => 64,
    }
}

#[inline(always)]
fn bool_op(op: BoolOp, x: u32, y: u32) -> u32 {
    match op {
        BoolOp::And => x & y,
        BoolOp::Or => x | y,
        BoolOp::Xor => x ^ y,
    }
}

#[inline(always)]
fn wide_product(ty: IntType, x: u32, y: u32) -> u64 {
    match ty {
        IntType::U16 => u64::from(x & 0xffff) * u64::from(y & 0xffff),
        IntType::S16 => (i64::from(x as i16) * i64::from(y as i16)) as u64,
        IntType::S32 | IntType::S64 => (i64::from(x as i32) * i64::from(y as i32)) as u64,
        IntType::U32 | IntType::U64 => u64::from(x) * u64::from(y),
    }
}

#[inline(always)]
fn mul_hi(x: u32, y: u32) -> u32 {
    ((u64::from(x) * u64::from(y)) >> 32) as u32
}

#[inline(always)]
fn mul_hi_signed(x: u32, y: u32) -> u32 {
    ((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32
}

#[inline(always)]
fn mul_hi64(x: u64, y: u64, signed: bool) -> u64 {
    if signed {
        ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64
    } else {
        ((u128::from(x) * u128::from(y)) >> 64) as u64
    }
}

#[inline(always)]
fn int32(w: &mut Warp, op: IntOp, signed: bool, d: Slot, a: Slot, b: Slot, mask: u32) {
    match (op, signed) {
        (IntOp::Add, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.wrapping_add(y)),
        (IntOp::Sub, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.wrapping_sub(y)),
        (IntOp::MulLo, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.wrapping_mul(y)),
        (IntOp::MulHi, false) => map2!(w, mask, d, a, b, mul_hi),
        (IntOp::MulHi, true) => map2!(w, mask, d, a, b, mul_hi_signed),
        // division by zero gives all ones, its remainder the dividend, as on the hardware
        (IntOp::Div, false) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.checked_div(y).unwrap_or(u32::MAX)),
        (IntOp::Div, true) => map2!(w, mask, d, a, b, |x: u32, y: u32| {
            if y == 0 { u32::MAX } else { (x as i32).wrapping_div(y as i32) as u32 }
        }),
        (IntOp::Rem, false) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.checked_rem(y).unwrap_or(x)),
        (IntOp::Rem, true) => map2!(w, mask, d, a, b, |x: u32, y: u32| {
            if y == 0 { x } else { (x as i32).wrapping_rem(y as i32) as u32 }
        }),
        (IntOp::Min, false) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.min(y)),
        (IntOp::Min, true) => map2!(w, mask, d, a, b, |x: u32, y: u32| (x as i32).min(y as i32) as u32),
        (IntOp::Max, false) => map2!(w, mask, d, a, b, |x: u32, y: u32| x.max(y)),
        (IntOp::Max, true) => map2!(w, mask, d, a, b, |x: u32, y: u32| (x as i32).max(y as i32) as u32),
        (IntOp::And, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x & y),
        (IntOp::Or, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x | y),
        (IntOp::Xor, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| x ^ y),
        (IntOp::Shl, _) => map2!(w, mask, d, a, b, |x: u32, y: u32| if y > 31 { 0 } else { x << y }),
        (IntOp::Shr, false) => map2!(w, mask, d, a, b, |x: u32, y: u32| if y > 31 { 0 } else { x >> y }),
        (IntOp::Shr, true) => map2!(w, mask, d, a, b, |x: u32, y: u32| ((x as i32) >> y.min(31)) as u32),
    }
}

#[inline(always)]
fn int16(w: &mut Warp, op: IntOp, signed: bool, d: Slot, a: Slot, b: Slot, mask: u32) {
    let shift = matches!(op, IntOp::Shl | IntOp::Shr);
    map2!(w, mask, d, a, b, |x: u32, y: u32| {
        let (x, y) = if signed {
            (i64::from(x as i16), if shift { i64::from(y.min(16)) } else { i64::from(y as i16) })
        } else {
            (i64::from(x as u16), if shift { i64::from(y.min(16)) } else { i64::from(y as u16) })
        };
        let r = match op {
            IntOp::Add => x + y,
            IntOp::Sub => x - y,
            IntOp::MulLo => x * y,
            IntOp::MulHi => (x * y) >> 16,
            IntOp::Div => x.checked_div(y).unwrap_or(-1),
            IntOp::Rem => x.checked_rem(y).unwrap_or(x),
            IntOp::Min => x.min(y),
            IntOp::Max => x.max(y),
            IntOp::And => x & y,
            IntOp::Or => x | y,
            IntOp::Xor => x ^ y,
            IntOp::Shl => x << y,
            IntOp::Shr => x >> y,
        };
        r as u32 & 0xffff
    });
}

#[inline(always)]
fn int64(w: &mut Warp, op: IntOp, signed: bool, d: Slot, a: Slot, b: Slot, mask: u32) {
    if matches!(op, IntOp::Shl | IntOp::Shr) {
        let (x, n) = (wide(w, a), *w.src(b));
        let r: [u64; 32] = each(|l| match (op, signed) {
            (IntOp::Shl, _) => x[l].checked_shl(n[l]).unwrap_or(0),
            (_, false) => x[l].checked_shr(n[l]).unwrap_or(0),
            (_, true) => ((x[l] as i64) >> n[l].min(63)) as u64,
        });
        put_wide(w, d, &r, mask);
        return;
    }
    match (op, signed) {
        (IntOp::Add, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.wrapping_add(y)),
        (IntOp::Sub, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.wrapping_sub(y)),
        (IntOp::MulLo, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.wrapping_mul(y)),
        (IntOp::MulHi, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| mul_hi64(x, y, signed)),
        (IntOp::Div, false) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.checked_div(y).unwrap_or(u64::MAX)),
        (IntOp::Div, true) => wide2!(w, mask, d, a, b, |x: u64, y: u64| {
            if y == 0 { u64::MAX } else { (x as i64).wrapping_div(y as i64) as u64 }
        }),
        (IntOp::Rem, false) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.checked_rem(y).unwrap_or(x)),
        (IntOp::Rem, true) => wide2!(w, mask, d, a, b, |x: u64, y: u64| {
            if y == 0 { x } else { (x as i64).wrapping_rem(y as i64) as u64 }
        }),
        (IntOp::Min, false) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.min(y)),
        (IntOp::Min, true) => wide2!(w, mask, d, a, b, |x: u64, y: u64| (x as i64).min(y as i64) as u64),
        (IntOp::Max, false) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x.max(y)),
        (IntOp::Max, true) => wide2!(w, mask, d, a, b, |x: u64, y: u64| (x as i64).max(y as i64) as u64),
        (IntOp::And, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x & y),
        (IntOp::Or, _) => wide2!(w, mask, d, a, b, |x: u64, y: u64| x | y),
        _ => wide2!(w, mask, d, a, b, |x: u64, y: u64| x ^ y),
    }
}

fn unary(w: &mut Warp, op: IntUnary, ty: IntType, d: Slot, a: Slot, mask: u32) {
    let n = bits(ty);
    let signed = matches!(ty, IntType::S16 | IntType::S32 | IntType::S64);
    // the value in the top bits of a word makes one code for all widths
    let f = |x: u64| -> u64 {
        let top = x << (64 - n);
        match op {
            IntUnary::Neg => x.wrapping_neg(),
            IntUnary::Abs if (top as i64) < 0 => x.wrapping_neg(),
            IntUnary::Abs => x,
            IntUnary::Not => !x,
            IntUnary::Popc => u64::from(top.count_ones()),
            IntUnary::Clz => u64::from(top.leading_zeros().min(n)),
            IntUnary::Brev => top.reverse_bits(),
            IntUnary::Bfind => {
                let top = if signed && (top as i64) < 0 { !x << (64 - n) } else { top };
                if top == 0 { 0xffff_ffff } else { u64::from(n - 1 - top.leading_zeros()) }
            }
        }
    };
    let narrow = matches!(op, IntUnary::Popc | IntUnary::Clz | IntUnary::Bfind);
    if n == 64 {
        let x = wide(w, a);
        let r: [u64; 32] = each(|l| f(x[l]));
        if narrow { w.put(d, &each(|l| r[l] as u32), mask) } else { put_wide(w, d, &r, mask) }
    } else {
        let limit = if n == 16 && !narrow { 0xffff } else { u32::MAX };
        map1!(w, mask, d, a, |x: u32| f(u64::from(x)) as u32 & limit);
    }
}

fn bfe(x: u64, start: u32, len: u32, n: u32, signed: bool) -> u64 {
    let (start, len) = (start & 255, len & 255);
    let msb = n - 1;
    let sign = if !signed || len == 0 { 0 } else { x >> msb.min(start + len - 1) & 1 };
    let mut r = 0;
    for i in 0..n {
        let bit = if i < len && start + i <= msb { x >> (start + i) & 1 } else { sign };
        r |= bit << i;
    }
    r
}

fn bfi(a: u64, b: u64, start: u32, len: u32, n: u32) -> u64 {
    let (start, len) = (start & 255, len & 255);
    let mut r = b;
    for i in 0..len {
        if start + i >= n {
            break;
        }
        r = (r & !(1 << (start + i))) | (a >> i & 1) << (start + i);
    }
    r
}

#[inline(always)]
fn collect(f: impl Fn(usize) -> bool) -> u32 {
    let mut r = 0;
    for l in 0..32 {
        r |= u32::from(f(l)) << l;
    }
    r
}

#[inline(always)]
fn ordered<T: PartialOrd>(cmp: Compare, x: T, y: T) -> bool {
    match cmp {
        Compare::Eq => x == y,
        Compare::Ne => x != y,
        Compare::Lt => x < y,
        Compare::Le => x <= y,
        Compare::Gt => x > y,
        Compare::Ge => x >= y,
        Compare::Num => true,
        Compare::Nan => false,
    }
}

#[inline(always)]
fn float_compare(cmp: Compare, unordered: bool, x: f64, y: f64) -> bool {
    if x.is_nan() || y.is_nan() { unordered || cmp == Compare::Nan } else { ordered(cmp, x, y) }
}

#[inline(always)]
fn compare(w: &Warp, cmp: Compare, ty: CompareType, a: Slot, b: Slot) -> u32 {
    let (x, y) = (w.src(a), w.src(b));
    match ty {
        CompareType::Int(IntType::U32) => match cmp {
            Compare::Eq => collect(|l| x[l] == y[l]),
            Compare::Lt => collect(|l| x[l] < y[l]),
            _ => collect(|l| ordered(cmp, x[l], y[l])),
        },
        CompareType::Int(IntType::S32) => collect(|l| ordered(cmp, x[l] as i32, y[l] as i32)),
        CompareType::Int(IntType::U16) => collect(|l| ordered(cmp, x[l] as u16, y[l] as u16)),
        CompareType::Int(IntType::S16) => collect(|l| ordered(cmp, x[l] as i16, y[l] as i16)),
        CompareType::Int(IntType::U64) => collect(|l| ordered(cmp, w.src64(a, l), w.src64(b, l))),
        CompareType::Int(IntType::S64) => collect(|l| ordered(cmp, w.src64(a, l) as i64, w.src64(b, l) as i64)),
        CompareType::F32 { unordered, ftz } => {
            let f = |x: u32| f64::from(f32::from_bits(if ftz { flush(x) } else { x }));
            collect(|l| float_compare(cmp, unordered, f(x[l]), f(y[l])))
        }
        CompareType::F64 { unordered } => {
            collect(|l| float_compare(cmp, unordered, f64::from_bits(w.src64(a, l)), f64::from_bits(w.src64(b, l))))
        }
        CompareType::Half { format, unordered } => {
            let f = |x: u32| f64::from(half_to_f32(x as u16, format));
            collect(|l| float_compare(cmp, unordered, f(x[l]), f(y[l])))
        }
    }
}
