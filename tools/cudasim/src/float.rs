//! Floating-point arithmetic with every rounding mode, by way of values rounded to odd: a f64 whose
//! last bit is set when it is not exact rounds correctly to any shorter format in any mode.

use crate::op::Half;

/// Rounding modes of PTX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Round {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// To the nearest, ties away from zero.
    NearestAway,
    Zero,
    Down,
    Up,
}

/// What a GPU writes for any NaN of f32.
pub const NAN32: u32 = 0x7fff_ffff;

/// `value` is an exact result rounded to nearest, `error` has the sign of what was cut off; the
/// result is rounded to odd.
fn to_odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || error.is_nan() || !value.is_finite() || value.to_bits() & 1 == 1 {
        value
    } else if error > 0.0 {
        value.next_up()
    } else {
        value.next_down()
    }
}

/// a + b rounded to odd.
pub fn sum_odd(a: f64, b: f64) -> f64 {
    let s = a + b;
    let bb = s - a;
    to_odd(s, (a - (s - bb)) + (b - bb))
}

/// a / b rounded to odd.
pub fn div_odd(a: f64, b: f64) -> f64 {
    let q = a / b;
    let rest = (-q).mul_add(b, a);
    to_odd(q, if b.is_sign_negative() { -rest } else { rest })
}

/// The square root rounded to odd.
pub fn sqrt_odd(a: f64) -> f64 {
    let q = a.sqrt();
    to_odd(q, (-q).mul_add(q, a))
}

/// A value rounded to odd (or exact) to f32.
pub fn round_f32(x: f64, round: Round) -> f32 {
    let r = x as f32;
    let back = f64::from(r);
    match round {
        Round::Nearest => r,
        Round::NearestAway => {
            // only a tie differs: half an ulp away, exactly
            let other = if back.abs() < x.abs() { if x > 0.0 { r.next_up() } else { r.next_down() } } else { r };
            if other != r && (f64::from(other) - x).abs() == (x - back).abs() { other } else { r }
        }
        Round::Zero if back.abs() > x.abs() => {
            if x > 0.0 {
                r.next_down()
            } else {
                r.next_up()
            }
        }
        Round::Down if back > x => r.next_down(),
        Round::Up if back < x => r.next_up(),
        _ => r,
    }
}

/// Subnormals to zero of the same sign.
#[inline(always)]
pub fn flush(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

/// (mantissa bits without the leading one, exponent bias) of a 16-bit format.
fn shape(format: Half) -> (i32, i32) {
    match format {
        Half::F16 => (10, 15),
        Half::Bf16 => (7, 127),
    }
}

/// The bits of a 16-bit float for a value that is exact or rounded to odd.
pub fn half_from_f64(x: f64, format: Half, round: Round) -> u16 {
    let (mantissa, bias) = shape(format);
    let sign = u16::from(x.is_sign_negative()) << 15;
    let infinity = (2 * bias as u16 + 1) << mantissa;
    if x.is_nan() {
        return 0x7fff;
    }
    if x.is_infinite() {
        return sign | infinity;
    }
    let magnitude = x.abs();
    if magnitude == 0.0 {
        return sign;
    }
    // exponent of the value, and of its last kept bit
    let exponent = (((magnitude.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(1 - bias);
    let scaled = magnitude * 2f64.powi(mantissa - exponent);
    let floor = scaled.floor();
    let rest = scaled - floor;
    let up = match round {
        Round::Nearest => rest > 0.5 || (rest == 0.5 && floor % 2.0 == 1.0),
        Round::NearestAway => rest >= 0.5,
        Round::Zero => false,
        Round::Down => rest > 0.0 && sign != 0,
        Round::Up => rest > 0.0 && sign == 0,
    };
    let units = floor as u32 + u32::from(up);
    // a carry into the next exponent comes out right by addition
    let one = 1u32 << mantissa;
    let bits = if exponent == 1 - bias { units } else { units - one + (((exponent + bias) as u32) << mantissa) };
    if bits >= u32::from(infinity) {
        let largest = infinity - 1;
        let stays = matches!((round, sign != 0), (Round::Zero, _) | (Round::Down, false) | (Round::Up, true));
        return sign | if stays { largest } else { infinity };
    }
    sign | bits as u16
}

/// The value of a 16-bit float.
pub fn half_to_f32(bits: u16, format: Half) -> f32 {
    match format {
        Half::Bf16 => f32::from_bits(u32::from(bits) << 16),
        Half::F16 => {
            let sign = u32::from(bits & 0x8000) << 16;
            let (exponent, mantissa) = (u32::from(bits >> 10) & 31, u32::from(bits) & 0x3ff);
            match exponent {
                31 => f32::from_bits(sign | 0x7f80_0000 | (mantissa << 13)),
                0 => {
                    let value = mantissa as f32 * 2f32.powi(-24);
                    f32::from_bits(sign | value.to_bits())
                }
                _ => f32::from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13)),
            }
        }
    }
}

/// f32 to bf16 to nearest even; the common case made short.
#[inline(always)]
pub fn bf16_nearest(bits: u32) -> u16 {
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return 0x7fff;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// f32 to TF32: 10 bits of mantissa in a f32 register.
pub fn tf32(bits: u32, round: Round) -> u32 {
    if bits & 0x7f80_0000 == 0x7f80_0000 {
        return if bits & 0x007f_ffff != 0 { NAN32 } else { bits };
    }
    let added = match round {
        Round::Nearest => 0xfff + ((bits >> 13) & 1),
        Round::NearestAway => 0x1000,
        _ => 0,
    };
    (bits + added) & 0xffff_e000
}

/// fma on hosts without the instruction: the product of two f32 is exact in f64.
pub fn fma_odd(a: f32, b: f32, c: f32) -> f64 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    // sum_odd turns an exact -0 + -0 into -0 and keeps NaN and infinity
    if c == 0.0 && product == 0.0 { product + c } else { sum_odd(product, c) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_there_and_back() {
        for format in [Half::F16, Half::Bf16] {
            for bits in 0..=u16::MAX {
                let value = half_to_f32(bits, format);
                let back = half_from_f64(f64::from(value), format, Round::Nearest);
                assert_eq!(back, if value.is_nan() { 0x7fff } else { bits }, "{format:?} {bits:04x}");
            }
        }
    }

    #[test]
    fn ties_and_directions() {
        let h = |x: f64, r| half_from_f64(x, Half::Bf16, r);
        // 1 + 1/256 lies halfway between 1 and 1 + 1/128
        assert_eq!(h(1.00390625, Round::Nearest), 0x3f80);
        assert_eq!(h(1.00390625, Round::NearestAway), 0x3f81);
        assert_eq!(h(1.00390625, Round::Up), 0x3f81);
        assert_eq!(h(-1.00390625, Round::Up), 0xbf80);
        assert_eq!(h(-1.00390625, Round::Down), 0xbf81);
        assert_eq!(h(1e39, Round::Zero), 0x7f7f);
        assert_eq!(h(1e39, Round::Nearest), 0x7f80);
        assert_eq!(half_from_f64(65520.0, Half::F16, Round::Nearest), 0x7c00);
        assert_eq!(half_from_f64(65519.9, Half::F16, Round::Nearest), 0x7bff);
    }

    #[test]
    fn fallback_fma_is_the_fused_one() {
        let mut s = 1u64;
        for _ in 0..20_000 {
            let mut next = || {
                s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                f32::from_bits((s >> 32) as u32)
            };
            let (a, b, c) = (next(), next(), next());
            let (want, got) = (a.mul_add(b, c), round_f32(fma_odd(a, b, c), Round::Nearest));
            assert!(want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()), "{a} {b} {c}");
        }
    }
}
