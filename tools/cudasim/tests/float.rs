//! Floating-point and conversion instructions: every rounding mode, NaN, infinities, subnormals and
//! overflow.

// comparisons with NaN are written as PTX defines them
#![allow(
    clippy::double_comparisons,
    clippy::neg_cmp_op_on_partial_ord,
    clippy::type_complexity,
    clippy::nonminimal_bool
)]

mod machine;

use machine::{op32, op64};

const NAN: u32 = 0x7fff_ffff;
const INF: u32 = 0x7f80_0000;

/// Runs `code` from %f1 %f2 %f3 to %f0 on one input.
fn f(code: &str, a: f32, b: f32, c: f32) -> u32 {
    op32(&format!("{code}\nmov.b32 %r0, %f0;"), &[[a.to_bits(), b.to_bits(), c.to_bits()]])[0]
}

fn values() -> Vec<[u32; 3]> {
    let v = [0.0f32, -0.0, 1.0, -1.5, 3.0e38, -1e-40, 1e-30, f32::INFINITY, f32::NAN, 0.1, -7.25, 1.000_000_1];
    (0..32).map(|i| [v[i % 12], v[(i / 3 + i) % 12], v[(i * 5 + 1) % 12]].map(f32::to_bits)).collect()
}

fn check(code: &str, want: impl Fn(f32, f32, f32) -> f32) {
    let inputs = values();
    for (i, got) in inputs.iter().zip(op32(&format!("{code}\nmov.b32 %r0, %f0;"), &inputs)) {
        let want = want(f32::from_bits(i[0]), f32::from_bits(i[1]), f32::from_bits(i[2]));
        let want = if want.is_nan() { NAN } else { want.to_bits() };
        assert_eq!(got, want, "{code} of {:?}", i.map(f32::from_bits));
    }
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

#[test]
fn round_to_nearest() {
    check("add.f32 %f0, %f1, %f2;", |a, b, _| a + b);
    check("add.rn.f32 %f0, %f1, %f2;", |a, b, _| a + b);
    check("sub.f32 %f0, %f1, %f2;", |a, b, _| a - b);
    check("mul.f32 %f0, %f1, %f2;", |a, b, _| a * b);
    check("div.rn.f32 %f0, %f1, %f2;", |a, b, _| a / b);
    check("div.full.f32 %f0, %f1, %f2;", |a, b, _| a / b);
    check("fma.rn.f32 %f0, %f1, %f2, %f3;", |a, b, c| a.mul_add(b, c));
    check("rcp.rn.f32 %f0, %f1;", |a, _, _| 1.0 / a);
    check("sqrt.rn.f32 %f0, %f1;", |a, _, _| a.sqrt());
    assert_eq!(f("abs.f32 %f0, %f1;", -2.5, 0.0, 0.0), 2.5f32.to_bits());
    check("add.ftz.f32 %f0, %f1, %f2;", |a, b, _| flush(flush(a) + flush(b)));
    check("mul.ftz.f32 %f0, %f1, %f2;", |a, b, _| flush(flush(a) * flush(b)));
    check("fma.rn.ftz.f32 %f0, %f1, %f2, %f3;", |a, b, c| flush(flush(a).mul_add(flush(b), flush(c))));
    check("add.sat.f32 %f0, %f1, %f2;", |a, b, _| if (a + b).is_nan() { 0.0 } else { (a + b).clamp(0.0, 1.0) + 0.0 });
    assert_eq!(f("neg.f32 %f0, %f1;", 0.0, 0.0, 0.0), 0x8000_0000);
}

#[test]
fn minimum_and_maximum() {
    for (code, a, b, want) in [
        ("min.f32", 1.0, f32::NAN, 1f32.to_bits()),
        ("max.f32", f32::NAN, -2.0, (-2f32).to_bits()),
        ("min.f32", f32::NAN, f32::NAN, NAN),
        ("min.f32", 0.0, -0.0, 0x8000_0000),
        ("max.f32", -0.0, 0.0, 0),
        ("max.NaN.f32", 1.0, f32::NAN, NAN),
        ("min.NaN.f32", 1.0, 2.0, 1f32.to_bits()),
        ("max.ftz.f32", -1.0, -1e-40, 0x8000_0000),
    ] {
        assert_eq!(f(&format!("{code} %f0, %f1, %f2;"), a, b, 0.0), want, "{code} {a} {b}");
    }
    assert_eq!(f("copysign.f32 %f0, %f1, %f2;", -1.0, 5.0, 0.0), (-5f32).to_bits());
}

#[test]
fn directed_rounding() {
    let one = 0x3f80_0000;
    let tiny = f32::from_bits(1);
    for (code, a, b, c, want) in [
        ("add.rz.f32 %f0, %f1, %f2;", 1.0, 1e-10, 0.0, one),
        ("add.rp.f32 %f0, %f1, %f2;", 1.0, 1e-10, 0.0, one + 1),
        ("add.rm.f32 %f0, %f1, %f2;", 1.0, -1e-10, 0.0, one - 1),
        ("add.rz.f32 %f0, %f1, %f2;", 1.0, -1e-30, 0.0, one - 1),
        ("add.rp.f32 %f0, %f1, %f2;", 1.0, -1e-30, 0.0, one),
        ("sub.rp.f32 %f0, %f1, %f2;", 1.0, -1e-30, 0.0, one + 1),
        ("add.rm.f32 %f0, %f1, %f2;", 1.0, -1.0, 0.0, 0x8000_0000),
        ("add.rn.f32 %f0, %f1, %f2;", 1.0, -1.0, 0.0, 0),
        ("add.rz.f32 %f0, %f1, %f2;", f32::MAX, f32::MAX, 0.0, INF - 1),
        ("add.rp.f32 %f0, %f1, %f2;", f32::MAX, f32::MAX, 0.0, INF),
        ("add.rm.f32 %f0, %f1, %f2;", -f32::MAX, -f32::MAX, 0.0, INF | 1 << 31),
        ("mul.rz.f32 %f0, %f1, %f2;", 1.000_000_1, 1.000_000_1, 0.0, one + 2),
        ("mul.rp.f32 %f0, %f1, %f2;", 1.000_000_1, 1.000_000_1, 0.0, one + 3),
        ("mul.rm.f32 %f0, %f1, %f2;", -1.000_000_1, 1.000_000_1, 0.0, (one + 3) | 1 << 31),
        ("mul.rp.f32 %f0, %f1, %f2;", tiny, 0.25, 0.0, 1),
        ("mul.rz.f32 %f0, %f1, %f2;", tiny, 0.75, 0.0, 0),
        // 1/3 = 0x3eaaaaaa.aaa
        ("div.rz.f32 %f0, %f1, %f2;", 1.0, 3.0, 0.0, 0x3eaa_aaaa),
        ("div.rn.f32 %f0, %f1, %f2;", 1.0, 3.0, 0.0, 0x3eaa_aaab),
        ("div.rm.f32 %f0, %f1, %f2;", -1.0, 3.0, 0.0, 0xbeaa_aaab),
        ("div.rp.f32 %f0, %f1, %f2;", 1.0, -3.0, 0.0, 0xbeaa_aaaa),
        ("rcp.rz.f32 %f0, %f1;", 3.0, 0.0, 0.0, 0x3eaa_aaaa),
        ("rcp.rp.f32 %f0, %f1;", 3.0, 0.0, 0.0, 0x3eaa_aaab),
        // the root of 2 = 0x3fb504f3.33
        ("sqrt.rm.f32 %f0, %f1;", 2.0, 0.0, 0.0, 0x3fb5_04f3),
        ("sqrt.rp.f32 %f0, %f1;", 2.0, 0.0, 0.0, 0x3fb5_04f4),
        ("fma.rz.f32 %f0, %f1, %f2, %f3;", 1.0, 1.0, 1e-20, one),
        ("fma.rp.f32 %f0, %f1, %f2, %f3;", 1.0, 1.0, 1e-20, one + 1),
        ("fma.rm.f32 %f0, %f1, %f2, %f3;", 1.0, 1.0, -1e-20, one - 1),
    ] {
        assert_eq!(f(code, a, b, c), want, "{code} {a} {b} {c}: {:#x}", f(code, a, b, c));
    }
}

#[test]
fn approximations_are_close_and_have_the_right_edges() {
    let near = |code: &str, x: f32, want: f64| {
        let got = f64::from(f32::from_bits(f(&format!("{code} %f0, %f1;"), x, 0.0, 0.0)));
        assert!((got - want).abs() <= want.abs() * 1e-6, "{code} {x}: {got}, not {want}");
    };
    for x in [0.3f32, 1.0, 2.5, 10.0] {
        let d = f64::from(x);
        near("ex2.approx.f32", x, d.exp2());
        near("ex2.approx.ftz.f32", -x, (-d).exp2());
        near("lg2.approx.f32", x, d.log2());
        near("rcp.approx.ftz.f32", x, 1.0 / d);
        near("sqrt.approx.f32", x, d.sqrt());
        near("rsqrt.approx.f32", x, 1.0 / d.sqrt());
        near("sin.approx.f32", x, d.sin());
        near("cos.approx.f32", x, d.cos());
        near("tanh.approx.f32", x, d.tanh());
    }
    assert_eq!(f("ex2.approx.f32 %f0, %f1;", 200.0, 0.0, 0.0), INF);
    assert_eq!(f("ex2.approx.f32 %f0, %f1;", f32::NEG_INFINITY, 0.0, 0.0), 0);
    assert_eq!(f("lg2.approx.f32 %f0, %f1;", -1.0, 0.0, 0.0), NAN);
    assert_eq!(f("rcp.approx.f32 %f0, %f1;", -0.0, 0.0, 0.0), INF | 1 << 31);
    assert_eq!(f("ex2.approx.ftz.f32 %f0, %f1;", -140.0, 0.0, 0.0), 0);
}

#[test]
fn comparisons_with_nan() {
    let all: [(&str, fn(f32, f32) -> bool); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a < b || a > b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| !(a < b || a > b)),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| !(a >= b)),
        ("leu", |a, b| !(a > b)),
        ("gtu", |a, b| !(a <= b)),
        ("geu", |a, b| !(a < b)),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, want) in all {
        let inputs = values();
        let code = format!("setp.{name}.f32 %p1, %f1, %f2;\nselp.u32 %r0, 1, 0, %p1;");
        for (i, got) in inputs.iter().zip(op32(&code, &inputs)) {
            let (a, b) = (f32::from_bits(i[0]), f32::from_bits(i[1]));
            assert_eq!(got == 1, want(a, b), "{name} {a} {b}");
        }
    }
    let ftz = op32("setp.gt.ftz.f32 %p1, %f1, 0f00000000;\nselp.u32 %r0, 1, 0, %p1;", &[[1, 0, 0]]);
    assert_eq!(ftz, [0], "a subnormal is flushed before it is compared");
}

#[test]
fn packed_halves() {
    let bf = |x: f32| x.to_bits() >> 16;
    let two = |a: f32, b: f32| bf(a) | bf(b) << 16;
    let run = |code: &str, a: u32, b: u32, c: u32| op32(code, &[[a, b, c]])[0];
    // 256 + 1 * 1 is a tie between 256 and 258 in bf16
    let got = run("fma.rn.bf16x2 %r0, %r1, %r2, %r3;", two(1.0, 2.0), two(1.0, 3.0), two(256.0, 0.5));
    assert_eq!(got, two(256.0, 6.5));
    let nan = run("fma.rn.bf16x2 %r0, %r1, %r2, %r3;", two(f32::INFINITY, 1.0), two(0.0, 1.0), two(1.0, -1.0));
    assert_eq!(nan, 0x7fff);
    assert_eq!(run("max.bf16x2 %r0, %r1, %r2;", two(1.0, -2.0), two(3.0, -5.0), 0), two(3.0, -2.0));
    assert_eq!(run("neg.bf16x2 %r0, %r1;", two(1.0, -2.0), 0, 0), two(-1.0, 2.0));
    // f16: 1 = 3c00, 2 = 4000, 65504 = 7bff
    assert_eq!(run("add.f16x2 %r0, %r1, %r2;", 0x7bff_3c00, 0x7bff_3c00, 0), 0x7c00_4000);
    assert_eq!(run("fma.rn.f16x2 %r0, %r1, %r2, %r3;", 0x3c00_4000, 0x3c00_4000, 0xbc00_0000), 0x0000_4400);
    assert_eq!(
        run("fma.rn.relu.bf16x2 %r0, %r1, %r2, %r3;", two(1.0, 1.0), two(-1.0, 1.0), two(0.0, 0.0)),
        two(0.0, 1.0)
    );
}

#[test]
fn conversions_between_formats() {
    let run = |code: &str, a: u32, b: u32| op32(code, &[[a, b, 0]])[0];
    let half = |to: &str, x: f32| run(&format!("cvt.{to} %rs1, %f1;\ncvt.u32.u16 %r0, %rs1;"), x.to_bits(), 0);
    assert_eq!(half("rn.bf16.f32", 1.0 + 1.0 / 256.0), 0x3f80);
    assert_eq!(half("rn.bf16.f32", 1.0 + 3.0 / 256.0), 0x3f82);
    assert_eq!(half("rz.bf16.f32", -1.011), 0xbf81);
    assert_eq!(half("rn.bf16.f32", f32::NAN), 0x7fff);
    assert_eq!(half("rn.bf16.f32", f32::MAX), 0x7f80);
    assert_eq!(half("rn.relu.bf16.f32", -3.0), 0);
    assert_eq!(half("rn.f16.f32", 0.1), 0x2e66);
    assert_eq!(half("rn.f16.f32", 70000.0), 0x7c00);
    assert_eq!(half("rz.f16.f32", 70000.0), 0x7bff);
    assert_eq!(half("rn.f16.f32", 2f32.powi(-25) * 1.5), 1);
    assert_eq!(run("cvt.rn.bf16x2.f32 %r0, %f1, %f2;", 1f32.to_bits(), 2f32.to_bits()), 0x3f80_4000);
    assert_eq!(run("cvt.rn.f16x2.f32 %r0, %f1, %f2;", 1f32.to_bits(), 2f32.to_bits()), 0x3c00_4000);
    assert_eq!(
        run("cvt.u16.u32 %rs1, %r1;\ncvt.f32.f16 %f0, %rs1;\nmov.b32 %r0, %f0;", 0x3555, 0),
        0.333_251_95f32.to_bits()
    );
    assert_eq!(
        run("cvt.u16.u32 %rs1, %r1;\ncvt.f32.f16 %f0, %rs1;\nmov.b32 %r0, %f0;", 1, 0),
        2f32.powi(-24).to_bits()
    );
    assert_eq!(run("cvt.rna.tf32.f32 %r0, %f1;", 0x3f80_1000, 0), 0x3f80_2000);
    assert_eq!(run("cvt.rna.tf32.f32 %r0, %f1;", 0x3f80_0fff, 0), 0x3f80_0000);
    assert_eq!(run("cvt.rna.tf32.f32 %r0, %f1;", f32::NAN.to_bits(), 0), NAN);
}

#[test]
fn conversions_with_integers() {
    let to_int = |how: &str, x: f32| op32(&format!("cvt.{how}.f32 %r0, %f1;"), &[[x.to_bits(), 0, 0]])[0] as i32;
    for (how, x, want) in [
        ("rzi.s32", -2.7, -2),
        ("rni.s32", 2.5, 2),
        ("rni.s32", 3.5, 4),
        ("rmi.s32", -2.1, -3),
        ("rpi.s32", 2.1, 3),
        ("rzi.s32", 1e20, i32::MAX),
        ("rzi.s32", -1e20, i32::MIN),
        ("rzi.s32", f32::NAN, 0),
        ("rzi.u32", -5.0, 0),
        ("rzi.u32", 4e9, 4_000_000_000u32 as i32),
    ] {
        assert_eq!(to_int(how, x), want, "{how} {x}");
    }
    let from =
        |how: &str, x: u32| f32::from_bits(op32(&format!("cvt.{how} %f0, %r1;\nmov.b32 %r0, %f0;"), &[[x, 0, 0]])[0]);
    assert_eq!(from("rn.f32.u32", u32::MAX), 4_294_967_296.0);
    assert_eq!(from("rz.f32.u32", u32::MAX), 4_294_967_040.0);
    assert_eq!(from("rn.f32.s32", -16_777_217i32 as u32), -16_777_216.0);
    assert_eq!(from("rm.f32.s32", -16_777_217i32 as u32), -16_777_218.0);
    let wide = |how: &str, x: u64| {
        op64(&format!("cvt.{how} %f0, %rd6;\nmov.b32 %r0, %f0;\ncvt.u64.u32 %rd9, %r0;"), &[[x, 0, 0]])[0] as u32
    };
    assert_eq!(f32::from_bits(wide("rn.f32.u64", u64::MAX)), 18_446_744_073_709_551_616.0);
    assert_eq!(f32::from_bits(wide("rz.f32.s64", i64::MIN as u64)), -9_223_372_036_854_775_808.0);
    let sat = |x: i32| op32("cvt.sat.s16.s32 %rs1, %r1;\ncvt.s32.s16 %r0, %rs1;", &[[x as u32, 0, 0]])[0] as i32;
    assert_eq!((sat(70_000), sat(-70_000), sat(-5)), (32_767, -32_768, -5));
    assert_eq!(op32("cvt.s32.s8 %r0, %r1;", &[[0x1ff, 0, 0]])[0] as i32, -1);
    assert_eq!(op32("cvt.u32.u8 %r0, %r1;", &[[0x1ff, 0, 0]])[0], 255);
    assert_eq!(f("cvt.rmi.f32.f32 %f0, %f1;", -2.5, 0.0, 0.0), (-3f32).to_bits());
    assert_eq!(f("cvt.rni.f32.f32 %f0, %f1;", 2.5, 0.0, 0.0), 2f32.to_bits());
    assert_eq!(f("cvt.sat.f32.f32 %f0, %f1;", 2.5, 0.0, 0.0), 1f32.to_bits());
}

#[test]
fn doubles() {
    let run = |code: &str, a: f64, b: f64, c: f64| {
        f64::from_bits(op64(&format!("{code}\nmov.b64 %rd9, %fd0;"), &[[a.to_bits(), b.to_bits(), c.to_bits()]])[0])
    };
    assert_eq!(run("add.f64 %fd0, %fd6, %fd7;", 0.1, 0.2, 0.0), 0.1 + 0.2);
    assert_eq!(run("mul.rn.f64 %fd0, %fd6, %fd7;", 0.1, 0.2, 0.0), 0.1 * 0.2);
    assert_eq!(run("div.rn.f64 %fd0, %fd6, %fd7;", 0.1, 0.3, 0.0), 0.1 / 0.3);
    assert_eq!(run("fma.rn.f64 %fd0, %fd6, %fd7, %fd8;", 0.1, 0.3, -0.03), 0.1f64.mul_add(0.3, -0.03));
    assert_eq!(run("sqrt.rn.f64 %fd0, %fd6;", 2.0, 0.0, 0.0), 2f64.sqrt());
    assert_eq!(run("cvt.rn.f32.f64 %f1, %fd6;\ncvt.f64.f32 %fd0, %f1;", 0.1, 0.0, 0.0), f64::from(0.1f32));
    assert_eq!(
        run("cvt.rp.f32.f64 %f1, %fd6;\ncvt.f64.f32 %fd0, %f1;", 1.0 + 1e-12, 0.0, 0.0),
        f64::from(1f32.next_up())
    );
}
