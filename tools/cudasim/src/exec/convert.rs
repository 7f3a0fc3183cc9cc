//! `cvt`: between integers and floats of every width.

use super::alu::{each, put_wide, wide};
use super::warp::{Lanes, Warp};
use crate::float::*;
use crate::op::*;

#[inline(always)]
pub(super) fn convert(w: &mut Warp, op: &Op, mask: u32) -> bool {
    match *op {
        Op::Convert { how, d, a } => {
            match (how.from, how.to) {
                (Scalar::U32, Scalar::U64) => {
                    let low = *w.src(a);
                    w.put64(d, &low, &[0; 32], mask);
                    return true;
                }
                (Scalar::U64 | Scalar::S64, Scalar::U32 | Scalar::S32) if !how.mode.sat => {
                    let low = *w.src(a);
                    w.put(d, &low, mask);
                    return true;
                }
                _ => {}
            }
            let from: [u64; 32] = if how.from.is_wide() { wide(w, a) } else { each(|l| u64::from(w.src(a)[l])) };
            let r: [u64; 32] = each(|l| one(how, from[l]));
            if how.to.is_wide() {
                put_wide(w, d, &r, mask);
            } else {
                let r: Lanes = each(|l| r[l] as u32);
                w.put(d, &r, mask);
            }
        }
        Op::ConvertPacked { format, round, relu, d, a, b } => {
            let (x, y) = (*w.src(a), *w.src(b));
            let h = |bits: u32| {
                if format == Half::Bf16 && round == Round::Nearest && !relu {
                    return u32::from(bf16_nearest(bits));
                }
                let v = f64::from(f32::from_bits(bits));
                u32::from(half_from_f64(if relu && v < 0.0 { 0.0 } else { v }, format, round))
            };
            let r: Lanes = each(|l| h(x[l]) << 16 | h(y[l]));
            w.put(d, &r, mask);
        }
        _ => return false,
    }
    true
}

/// The integer in the low bits, its sign extended.
fn integer(ty: Scalar, bits: u64) -> i128 {
    match ty {
        Scalar::U8 => i128::from(bits as u8),
        Scalar::S8 => i128::from(bits as i8),
        Scalar::U16 => i128::from(bits as u16),
        Scalar::S16 => i128::from(bits as i16),
        Scalar::U32 => i128::from(bits as u32),
        Scalar::S32 => i128::from(bits as i32),
        Scalar::S64 => i128::from(bits as i64),
        _ => i128::from(bits),
    }
}

fn limits(ty: Scalar) -> (i128, i128) {
    match ty {
        Scalar::U8 => (0, 255),
        Scalar::S8 => (-128, 127),
        Scalar::U16 => (0, 65535),
        Scalar::S16 => (-32768, 32767),
        Scalar::U32 => (0, i128::from(u32::MAX)),
        Scalar::S32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Scalar::S64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        _ => (0, i128::from(u64::MAX)),
    }
}

fn whole(x: f64, round: Round) -> f64 {
    match round {
        Round::Nearest => x.round_ties_even(),
        Round::NearestAway => x.round(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
    }
}

fn one(how: Convert, bits: u64) -> u64 {
    let Convert { from, to, mode, integral, relu } = how;
    if !from.is_float() {
        let value = integer(from, bits);
        if !to.is_float() {
            let (low, high) = limits(to);
            let value = if mode.sat { value.clamp(low, high) } else { value };
            return store_integer(to, value);
        }
        // rounded to odd where f64 is too short
        let near = value as f64;
        let rest = value - near as i128;
        let odd = if rest == 0 || near.to_bits() & 1 == 1 {
            near
        } else if rest > 0 {
            near.next_up()
        } else {
            near.next_down()
        };
        return store_float(to, if to == Scalar::F64 { near } else { odd }, mode, false);
    }
    let bits =
        if mode.ftz && matches!(from, Scalar::F32 | Scalar::Tf32) { u64::from(flush(bits as u32)) } else { bits };
    let value = match from {
        Scalar::F16 => f64::from(half_to_f32(bits as u16, Half::F16)),
        Scalar::Bf16 => f64::from(half_to_f32(bits as u16, Half::Bf16)),
        Scalar::F64 => f64::from_bits(bits),
        _ => f64::from(f32::from_bits(bits as u32)),
    };
    let value = if integral { whole(value, mode.round) } else { value };
    if to.is_float() {
        return store_float(to, value, mode, relu);
    }
    let (low, high) = limits(to);
    if value.is_nan() {
        // PTX: zero, but the highest bit for 64-bit results
        return if to.is_wide() { 1 << 63 } else { 0 };
    }
    // a float converts with saturation whether .sat is there or not
    store_integer(to, (value as i128).clamp(low, high))
}

/// Results of less than 32 bits are extended to the whole register by their sign.
fn store_integer(to: Scalar, value: i128) -> u64 {
    match to {
        Scalar::U8 => u64::from(value as u8),
        Scalar::S8 => u64::from(i32::from(value as i8) as u32),
        Scalar::U16 => u64::from(value as u16),
        Scalar::S16 => u64::from(i32::from(value as i16) as u32),
        Scalar::U32 | Scalar::S32 => u64::from(value as u32),
        _ => value as u64,
    }
}

fn store_float(to: Scalar, value: f64, mode: FloatMode, relu: bool) -> u64 {
    let value = if mode.sat { if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) + 0.0 } } else { value };
    let value = if relu && value < 0.0 { 0.0 } else { value };
    match to {
        Scalar::F64 => value.to_bits(),
        Scalar::F16 => u64::from(half_from_f64(value, Half::F16, mode.round)),
        Scalar::Bf16 => u64::from(half_from_f64(value, Half::Bf16, mode.round)),
        Scalar::Tf32 => u64::from(tf32((value as f32).to_bits(), mode.round)),
        _ => {
            let r = round_f32(value, mode.round);
            let bits = if r.is_nan() { NAN32 } else { r.to_bits() };
            u64::from(if mode.ftz { flush(bits) } else { bits })
        }
    }
}
