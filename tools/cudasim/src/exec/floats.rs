//! Floating-point arithmetic of a warp.

use super::alu::{each, map1, map2, map3, put_wide, wide, wide1, wide2, wide3};
use super::warp::Warp;
use crate::float::*;
use crate::op::*;

/// A NaN as the GPU writes it.
#[inline(always)]
fn canonical(x: f32) -> u32 {
    if x.is_nan() { NAN32 } else { x.to_bits() }
}

#[inline(always)]
fn finish(x: f32, mode: FloatMode) -> u32 {
    let x = if mode.sat { if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) + 0.0 } } else { x };
    let bits = canonical(x);
    if mode.ftz { flush(bits) } else { bits }
}

/// The smaller number; NaN counts as missing, -0 is below +0.
#[inline(always)]
fn min32(x: f32, y: f32) -> f32 {
    if x.is_nan() {
        y
    } else if y.is_nan() {
        x
    } else if x == y {
        f32::from_bits(x.to_bits() | y.to_bits() & 0x8000_0000)
    } else if x < y {
        x
    } else {
        y
    }
}

#[inline(always)]
fn max32(x: f32, y: f32) -> f32 {
    -min32(-x, -y)
}

#[inline(always)]
fn f32_op(op: FloatOp, x: f32, y: f32, round: Round) -> f32 {
    let (p, q) = (f64::from(x), f64::from(y));
    match op {
        FloatOp::Add => round_f32(sum_odd(p, q), round),
        FloatOp::Sub => round_f32(sum_odd(p, -q), round),
        FloatOp::Mul => round_f32(p * q, round),
        FloatOp::Div => round_f32(div_odd(p, q), round),
        FloatOp::Min => min32(x, y),
        FloatOp::Max => max32(x, y),
        FloatOp::MinNan => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                min32(x, y)
            }
        }
        FloatOp::MaxNan => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                max32(x, y)
            }
        }
        FloatOp::CopySign => y.copysign(x),
    }
}

/// Exact zero sums have the sign of the rounding direction.
#[inline(always)]
fn zero_sign(x: f32, round: Round, inputs_negative: bool) -> f32 {
    if x == 0.0 && round == Round::Down && !inputs_negative { -0.0 } else { x }
}

#[inline(always)]
pub(super) fn float(w: &mut Warp, op: &Op, mask: u32) -> bool {
    let f = f32::from_bits;
    match *op {
        Op::F32 { op, mode, d, a, b } if mode == FloatMode::default() => match op {
            FloatOp::Add => map2!(w, mask, d, a, b, |x, y| canonical(f(x) + f(y))),
            FloatOp::Sub => map2!(w, mask, d, a, b, |x, y| canonical(f(x) - f(y))),
            FloatOp::Mul => map2!(w, mask, d, a, b, |x, y| canonical(f(x) * f(y))),
            FloatOp::Div => map2!(w, mask, d, a, b, |x, y| canonical(f(x) / f(y))),
            FloatOp::Min => map2!(w, mask, d, a, b, |x, y| canonical(min32(f(x), f(y)))),
            FloatOp::Max => map2!(w, mask, d, a, b, |x, y| canonical(max32(f(x), f(y)))),
            _ => map2!(w, mask, d, a, b, |x, y| canonical(f32_op(op, f(x), f(y), Round::Nearest))),
        },
        Op::F32 { op, mode, d, a, b } => map2!(w, mask, d, a, b, |x, y| {
            let (x, y) = if mode.ftz { (flush(x), flush(y)) } else { (x, y) };
            let (x, y) = (f(x), f(y));
            let r = f32_op(op, x, y, mode.round);
            let r = match op {
                FloatOp::Add => zero_sign(r, mode.round, x == 0.0 && y == 0.0 && x.to_bits() == y.to_bits()),
                FloatOp::Sub => zero_sign(r, mode.round, x == 0.0 && y == 0.0 && x.to_bits() != y.to_bits()),
                _ => r,
            };
            finish(r, mode)
        }),
        Op::F32Fma { mode, d, a, b, c } => {
            if mode == FloatMode::default() {
                map3!(w, mask, d, a, b, c, |x, y, z| canonical(f(x).mul_add(f(y), f(z))));
            } else {
                map3!(w, mask, d, a, b, c, |x, y, z| {
                    let (x, y, z) = if mode.ftz { (flush(x), flush(y), flush(z)) } else { (x, y, z) };
                    let (x, y, z) = (f(x), f(y), f(z));
                    let r = round_f32(fma_odd(x, y, z), mode.round);
                    let product = f64::from(x) * f64::from(y);
                    let same = product == 0.0 && z == 0.0 && product.is_sign_negative() == z.is_sign_negative();
                    finish(zero_sign(r, mode.round, same), mode)
                });
            }
        }
        Op::F32Unary { op, mode, d, a } => match op {
            FloatUnary::Neg => map1!(w, mask, d, a, |x| (if mode.ftz { flush(x) } else { x }) ^ 0x8000_0000),
            FloatUnary::Abs => map1!(w, mask, d, a, |x| (if mode.ftz { flush(x) } else { x }) & 0x7fff_ffff),
            _ => map1!(w, mask, d, a, |x| {
                let x = f(if mode.ftz { flush(x) } else { x });
                finish(unary(op, x, mode.round), mode)
            }),
        },
        Op::F64 { op, d, a, b } => {
            let g = f64::from_bits;
            match op {
                FloatOp::Add => wide2!(w, mask, d, a, b, |x, y| (g(x) + g(y)).to_bits()),
                FloatOp::Sub => wide2!(w, mask, d, a, b, |x, y| (g(x) - g(y)).to_bits()),
                FloatOp::Mul => wide2!(w, mask, d, a, b, |x, y| (g(x) * g(y)).to_bits()),
                FloatOp::Div => wide2!(w, mask, d, a, b, |x, y| (g(x) / g(y)).to_bits()),
                FloatOp::Min | FloatOp::MinNan => wide2!(w, mask, d, a, b, |x, y| g(x).min(g(y)).to_bits()),
                FloatOp::Max | FloatOp::MaxNan => wide2!(w, mask, d, a, b, |x, y| g(x).max(g(y)).to_bits()),
                FloatOp::CopySign => wide2!(w, mask, d, a, b, |x, y| g(y).copysign(g(x)).to_bits()),
            }
        }
        Op::F64Unary { op, d, a } => wide1!(w, mask, d, a, |x| {
            let x = f64::from_bits(x);
            match op {
                FloatUnary::Neg => -x,
                FloatUnary::Abs => x.abs(),
                FloatUnary::Sqrt => x.sqrt(),
                _ => 1.0 / x,
            }
            .to_bits()
        }),
        Op::F64Fma { d, a, b, c } => wide3!(w, mask, d, a, b, c, |x, y, z| {
            f64::from_bits(x).mul_add(f64::from_bits(y), f64::from_bits(z)).to_bits()
        }),
        Op::Half { op, format, packed, sat, d, a, b } => map2!(w, mask, d, a, b, |x: u32, y: u32| {
            halves(packed, |n| {
                let (x, y) = (half_to_f32((x >> n) as u16, format), half_to_f32((y >> n) as u16, format));
                let (p, q) = (f64::from(x), f64::from(y));
                let r = match op {
                    FloatOp::Add => sum_odd(p, q),
                    FloatOp::Sub => sum_odd(p, -q),
                    FloatOp::Mul => p * q,
                    _ => f64::from(f32_op(op, x, y, Round::Nearest)),
                };
                let r = if sat { if r.is_nan() { 0.0 } else { r.clamp(0.0, 1.0) + 0.0 } } else { r };
                half_from_f64(r, format, Round::Nearest)
            })
        }),
        Op::HalfUnary { op, format, packed, d, a } => map1!(w, mask, d, a, |x: u32| {
            halves(packed, |n| {
                let bits = (x >> n) as u16;
                match op {
                    FloatUnary::Neg => bits ^ 0x8000,
                    FloatUnary::Abs => bits & 0x7fff,
                    _ => {
                        let r = unary(op, half_to_f32(bits, format), Round::Nearest);
                        half_from_f64(f64::from(r), format, Round::Nearest)
                    }
                }
            })
        }),
        Op::HalfFma { format, packed, relu, d, a, b, c } => map3!(w, mask, d, a, b, c, |x: u32, y: u32, z: u32| {
            halves(packed, |n| {
                let g = |v: u32| half_to_f32((v >> n) as u16, format);
                let r = fma_odd(g(x), g(y), g(z));
                let r = if relu && !r.is_nan() { r.max(0.0) + 0.0 } else { r };
                half_from_f64(r, format, Round::Nearest)
            })
        }),
        _ => return false,
    }
    true
}

/// Applies to the lower half, and to the upper if there is one.
#[inline(always)]
fn halves(packed: bool, f: impl Fn(u32) -> u16) -> u32 {
    let low = u32::from(f(0));
    if packed { low | u32::from(f(16)) << 16 } else { low }
}

/// Functions of one argument. Approximate ones come out rounded right: a GPU may differ in the last
/// bits.
fn unary(op: FloatUnary, x: f32, round: Round) -> f32 {
    let p = f64::from(x);
    match op {
        FloatUnary::Neg => -x,
        FloatUnary::Abs => x.abs(),
        FloatUnary::Sqrt => round_f32(sqrt_odd(p), round),
        FloatUnary::Rcp => round_f32(div_odd(1.0, p), round),
        FloatUnary::Rsqrt => (1.0 / p.sqrt()) as f32,
        FloatUnary::Ex2 => p.exp2() as f32,
        FloatUnary::Lg2 => p.log2() as f32,
        FloatUnary::Sin => p.sin() as f32,
        FloatUnary::Cos => p.cos() as f32,
        FloatUnary::Tanh => p.tanh() as f32,
    }
}
