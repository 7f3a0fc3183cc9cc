//! Integer, logic, predicate and move instructions against Rust's own arithmetic and values worked
//! out by hand.

#![allow(clippy::type_complexity, clippy::needless_range_loop, clippy::result_large_err)]

mod machine;

use machine::{Run, op32, op64};

const EDGES: [u32; 9] = [0, 1, 2, 31, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1234_5678, 0xdead_beef];

fn pairs() -> Vec<[u32; 3]> {
    let mut all = Vec::new();
    for (i, &a) in EDGES.iter().enumerate() {
        for j in 0..3 {
            all.push([a, EDGES[(i + 3 * j + 1) % 9], EDGES[(i + j) % 9]]);
        }
    }
    all
}

fn check(code: &str, want: impl Fn(u32, u32, u32) -> u32) {
    let inputs = pairs();
    for (input, got) in inputs.iter().zip(op32(code, &inputs)) {
        let want = want(input[0], input[1], input[2]);
        assert_eq!(got, want, "{code} of {input:x?}: {got:#x}, not {want:#x}");
    }
}

fn check64(code: &str, want: impl Fn(u64, u64, u64) -> u64) {
    let edges = [0u64, 1, 63, u64::MAX, i64::MAX as u64, 1 << 63, 0x1234_5678_9abc_def0, 0xffff_ffff, 5];
    let inputs: Vec<[u64; 3]> =
        (0..27).map(|i| [edges[i % 9], edges[(i + i / 9 * 2 + 1) % 9], edges[(i + i / 9) % 9]]).collect();
    for (input, got) in inputs.iter().zip(op64(code, &inputs)) {
        let want = want(input[0], input[1], input[2]);
        assert_eq!(got, want, "{code} of {input:x?}: {got:#x}, not {want:#x}");
    }
}

#[test]
fn arithmetic_of_32_bits() {
    check("add.s32 %r0, %r1, %r2;", |a, b, _| a.wrapping_add(b));
    check("add.u32 %r0, %r1, -7;", |a, _, _| a.wrapping_sub(7));
    check("sub.s32 %r0, %r1, %r2;", |a, b, _| a.wrapping_sub(b));
    check("mul.lo.s32 %r0, %r1, %r2;", |a, b, _| a.wrapping_mul(b));
    check("mul.hi.u32 %r0, %r1, %r2;", |a, b, _| ((a as u64 * b as u64) >> 32) as u32);
    check("mul.hi.s32 %r0, %r1, %r2;", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    check("mad.lo.s32 %r0, %r1, %r2, %r3;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check("mad.hi.u32 %r0, %r1, %r2, %r3;", |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c));
    check("mad.hi.s32 %r0, %r1, %r2, %r3;", |a, b, c| {
        (((a as i32 as i64 * b as i32 as i64) >> 32) as u32).wrapping_add(c)
    });
    check("div.u32 %r0, %r1, %r2;", |a, b, _| a.checked_div(b).unwrap_or(u32::MAX));
    check("div.s32 %r0, %r1, %r2;", |a, b, _| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 });
    check("rem.u32 %r0, %r1, %r2;", |a, b, _| if b == 0 { a } else { a % b });
    check("rem.s32 %r0, %r1, %r2;", |a, b, _| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 });
    check("min.u32 %r0, %r1, %r2;", |a, b, _| a.min(b));
    check("min.s32 %r0, %r1, %r2;", |a, b, _| (a as i32).min(b as i32) as u32);
    check("max.u32 %r0, %r1, %r2;", |a, b, _| a.max(b));
    check("max.s32 %r0, %r1, %r2;", |a, b, _| (a as i32).max(b as i32) as u32);
    check("neg.s32 %r0, %r1;", |a, _, _| a.wrapping_neg());
    check("abs.s32 %r0, %r1;", |a, _, _| (a as i32).wrapping_abs() as u32);
}

#[test]
fn bits_of_32() {
    check("and.b32 %r0, %r1, %r2;", |a, b, _| a & b);
    check("or.b32 %r0, %r1, %r2;", |a, b, _| a | b);
    check("xor.b32 %r0, %r1, %r2;", |a, b, _| a ^ b);
    check("not.b32 %r0, %r1;", |a, _, _| !a);
    check("shl.b32 %r0, %r1, %r2;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    check("shr.u32 %r0, %r1, %r2;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    check("shr.b32 %r0, %r1, 3;", |a, _, _| a >> 3);
    check("shr.s32 %r0, %r1, %r2;", |a, b, _| ((a as i32) >> b.min(31)) as u32);
    check("popc.b32 %r0, %r1;", |a, _, _| a.count_ones());
    check("clz.b32 %r0, %r1;", |a, _, _| a.leading_zeros());
    check("brev.b32 %r0, %r1;", |a, _, _| a.reverse_bits());
    check("bfind.u32 %r0, %r1;", |a, _, _| if a == 0 { u32::MAX } else { 31 - a.leading_zeros() });
    check("bfind.s32 %r0, %r1;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 { u32::MAX } else { 31 - a.leading_zeros() }
    });
    check("bfe.u32 %r0, %r1, 4, 8;", |a, _, _| a >> 4 & 0xff);
    check("bfe.s32 %r0, %r1, 4, 8;", |a, _, _| i32::from((a >> 4) as i8) as u32);
    check("bfe.u32 %r0, %r1, 28, 8;", |a, _, _| a >> 28);
    check("bfe.s32 %r0, %r1, 28, 8;", |a, _, _| ((a as i32) >> 28) as u32);
    check("bfe.s32 %r0, %r1, 3, 0;", |_, _, _| 0);
    check("bfi.b32 %r0, %r1, %r2, 8, 12;", |a, b, _| (b & !0x000f_ff00) | (a & 0xfff) << 8);
    check("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", |a, b, c| a ^ b ^ c);
    check("lop3.b32 %r0, %r1, %r2, %r3, 0xe8;", |a, b, c| (a & b) | (a & c) | (b & c));
    check("lop3.b32 %r0, %r1, %r2, %r3, 0xca;", |a, b, c| (a & b) | (!a & c));
    check("shf.l.wrap.b32 %r0, %r1, %r2, 8;", |a, b, _| b << 8 | a >> 24);
    check("shf.r.wrap.b32 %r0, %r1, %r2, 8;", |a, b, _| a >> 8 | b << 24);
    check("shf.r.clamp.b32 %r0, %r1, %r2, 40;", |_, b, _| b);
    check("shf.l.wrap.b32 %r0, %r1, %r2, 40;", |a, b, _| b << 8 | a >> 24);
    check("prmt.b32 %r0, %r1, %r2, 0x7531;", |a, b, _| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        u32::from_le_bytes([a[1], a[3], b[1], b[3]])
    });
    check("prmt.b32 %r0, %r1, %r2, 0x0f80;", |a, b, _| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        let sign = |x: u8| ((x as i8) >> 7) as u8;
        u32::from_le_bytes([a[0], sign(a[0]), sign(b[3]), a[0]])
    });
}

#[test]
fn words_of_16_bits() {
    let wrap = |op: &str| {
        format!("cvt.u16.u32 %rs1, %r1;\ncvt.u16.u32 %rs2, %r2;\n{op}.%T %rs3, %rs1, %rs2;\ncvt.u32.u16 %r0, %rs3;")
    };
    let run = |op: &str, ty: &str, f: &dyn Fn(u16, u16) -> u16| {
        check(&wrap(op).replace("%T", ty), |a, b, _| u32::from(f(a as u16, b as u16)));
    };
    run("add", "s16", &|a, b| a.wrapping_add(b));
    run("sub", "u16", &|a, b| a.wrapping_sub(b));
    run("mul.lo", "u16", &|a, b| a.wrapping_mul(b));
    run("mul.hi", "s16", &|a, b| ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16);
    run("min", "s16", &|a, b| (a as i16).min(b as i16) as u16);
    run("max", "u16", &|a, b| a.max(b));
    run("xor", "b16", &|a, b| a ^ b);
    check("cvt.u16.u32 %rs1, %r1;\nshl.b16 %rs2, %rs1, 5;\ncvt.u32.u16 %r0, %rs2;", |a, _, _| {
        u32::from((a as u16) << 5)
    });
    check("cvt.u16.u32 %rs1, %r1;\nshr.s16 %rs2, %rs1, 5;\ncvt.s32.s16 %r0, %rs2;", |a, _, _| {
        i32::from(a as i16 >> 5) as u32
    });
    check("cvt.u16.u32 %rs1, %r1;\ncvt.u16.u32 %rs2, %r2;\nmul.wide.s16 %r0, %rs1, %rs2;", |a, b, _| {
        (i32::from(a as i16) * i32::from(b as i16)) as u32
    });
    check("cvt.u16.u32 %rs1, %r1;\ncvt.u16.u32 %rs2, %r2;\nmul.wide.u16 %r0, %rs1, %rs2;", |a, b, _| {
        u32::from(a as u16) * u32::from(b as u16)
    });
    check("cvt.u16.u32 %rs1, %r1;\nnot.b16 %rs2, %rs1;\nneg.s16 %rs3, %rs2;\ncvt.u32.u16 %r0, %rs3;", |a, _, _| {
        u32::from((a as u16).wrapping_add(1))
    });
}

#[test]
fn words_of_64_bits() {
    check64("add.s64 %rd9, %rd6, %rd7;", |a, b, _| a.wrapping_add(b));
    check64("sub.s64 %rd9, %rd6, %rd7;", |a, b, _| a.wrapping_sub(b));
    check64("mul.lo.s64 %rd9, %rd6, %rd7;", |a, b, _| a.wrapping_mul(b));
    check64("mul.hi.u64 %rd9, %rd6, %rd7;", |a, b, _| ((a as u128 * b as u128) >> 64) as u64);
    check64("mul.hi.s64 %rd9, %rd6, %rd7;", |a, b, _| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    check64("mad.lo.s64 %rd9, %rd6, %rd7, %rd8;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check64("div.u64 %rd9, %rd6, %rd7;", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX));
    check64("rem.s64 %rd9, %rd6, %rd7;", |a, b, _| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
    check64("min.s64 %rd9, %rd6, %rd7;", |a, b, _| (a as i64).min(b as i64) as u64);
    check64("max.u64 %rd9, %rd6, %rd7;", |a, b, _| a.max(b));
    check64("and.b64 %rd9, %rd6, %rd7;", |a, b, _| a & b);
    check64("or.b64 %rd9, %rd6, %rd7;", |a, b, _| a | b);
    check64("xor.b64 %rd9, %rd6, %rd7;", |a, b, _| a ^ b);
    check64("not.b64 %rd9, %rd6;", |a, _, _| !a);
    check64("neg.s64 %rd9, %rd6;", |a, _, _| a.wrapping_neg());
    check64("cvt.u32.u64 %r1, %rd7;\nshl.b64 %rd9, %rd6, %r1;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    check64("shr.u64 %rd9, %rd6, 9;", |a, _, _| a >> 9);
    check64("shr.s64 %rd9, %rd6, 9;", |a, _, _| (a as i64 >> 9) as u64);
    check64("bfe.u64 %rd9, %rd6, 30, 10;", |a, _, _| a >> 30 & 0x3ff);
    check64("bfi.b64 %rd9, %rd6, %rd7, 30, 10;", |a, b, _| (b & !(0x3ff << 30)) | (a & 0x3ff) << 30);
    check64("popc.b64 %r1, %rd6;\ncvt.u64.u32 %rd9, %r1;", |a, _, _| a.count_ones().into());
    check64("clz.b64 %r1, %rd6;\ncvt.u64.u32 %rd9, %r1;", |a, _, _| a.leading_zeros().into());
    check64("cvt.u32.u64 %r1, %rd6;\ncvt.u32.u64 %r2, %rd7;\nmul.wide.u32 %rd9, %r1, %r2;", |a, b, _| {
        u64::from(a as u32) * u64::from(b as u32)
    });
    check64("cvt.u32.u64 %r1, %rd6;\ncvt.u32.u64 %r2, %rd7;\nmul.wide.s32 %rd9, %r1, %r2;", |a, b, _| {
        (i64::from(a as i32) * i64::from(b as i32)) as u64
    });
    check64("cvt.u32.u64 %r1, %rd6;\ncvt.u32.u64 %r2, %rd7;\nmad.wide.u32 %rd9, %r1, %r2, %rd8;", |a, b, c| {
        (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c)
    });
    check64("cvt.u32.u64 %r1, %rd6;\ncvt.s64.s32 %rd9, %r1;", |a, _, _| i64::from(a as i32) as u64);
    check64("mov.b64 {%r1, %r2}, %rd6;\nmov.b64 %rd9, {%r2, %r1};", |a, _, _| a.rotate_left(32));
    check64("mov.b64 {%rs1, %rs2, %rs3, %rs4}, %rd6;\nmov.b64 %rd9, {%rs4, %rs3, %rs2, %rs1};", |a, _, _| {
        (0..4).fold(0, |r, i| r | (a >> (16 * i) & 0xffff) << (48 - 16 * i))
    });
}

#[test]
fn comparisons_and_predicates() {
    let flag = |code: &str, f: &dyn Fn(u32, u32) -> bool| {
        check(&format!("{code}\nselp.u32 %r0, 1, 0, %p1;"), |a, b, _| f(a, b).into());
    };
    flag("setp.eq.s32 %p1, %r1, %r2;", &|a, b| a == b);
    flag("setp.ne.b32 %p1, %r1, %r2;", &|a, b| a != b);
    flag("setp.lt.s32 %p1, %r1, %r2;", &|a, b| (a as i32) < b as i32);
    flag("setp.lt.u32 %p1, %r1, %r2;", &|a, b| a < b);
    flag("setp.lo.u32 %p1, %r1, %r2;", &|a, b| a < b);
    flag("setp.le.s32 %p1, %r1, %r2;", &|a, b| a as i32 <= b as i32);
    flag("setp.gt.u32 %p1, %r1, %r2;", &|a, b| a > b);
    flag("setp.ge.s32 %p1, %r1, %r2;", &|a, b| a as i32 >= b as i32);
    flag("setp.hs.u32 %p1, %r1, %r2;", &|a, b| a >= b);
    flag("setp.lt.u32 %p2, %r1, 5;\nsetp.gt.and.u32 %p1, %r2, 5, %p2;", &|a, b| b > 5 && a < 5);
    flag("setp.lt.u32 %p2, %r1, 5;\nsetp.gt.or.u32 %p1, %r2, 5, !%p2;", &|a, b| b > 5 || a >= 5);
    flag("setp.lt.u32 %p2|%p1, %r1, %r2;", &|a, b| a >= b);
    flag("setp.lt.u32 %p2, %r1, 5;\nsetp.lt.u32 %p3, %r2, 5;\nand.pred %p1, %p2, %p3;", &|a, b| a < 5 && b < 5);
    flag("setp.lt.u32 %p2, %r1, 5;\nsetp.lt.u32 %p3, %r2, 5;\nor.pred %p1, %p2, %p3;", &|a, b| a < 5 || b < 5);
    flag("setp.lt.u32 %p2, %r1, 5;\nsetp.lt.u32 %p3, %r2, 5;\nxor.pred %p1, %p2, %p3;", &|a, b| (a < 5) != (b < 5));
    flag("setp.lt.u32 %p2, %r1, 5;\nnot.pred %p1, %p2;", &|a, _| a >= 5);
    flag("setp.lt.u32 %p2, %r1, 5;\nmov.pred %p1, %p2;", &|a, _| a < 5);
    flag("mov.pred %p1, 1;", &|_, _| true);
    check("setp.lt.u32 %p1, %r1, %r2;\nselp.b32 %r0, %r2, %r3, %p1;", |a, b, c| if a < b { b } else { c });
    check("mov.u32 %r0, 9;\nsetp.lt.u32 %p1, %r1, %r2;\n@%p1 mov.u32 %r0, %r1;", |a, b, _| if a < b { a } else { 9 });
    check("mov.u32 %r0, 9;\nsetp.lt.u32 %p1, %r1, %r2;\n@!%p1 mov.u32 %r0, %r1;", |a, b, _| if a < b { 9 } else { a });
    check("set.lt.u32.u32 %r0, %r1, %r2;", |a, b, _| if a < b { u32::MAX } else { 0 });
    check(
        "set.gt.f32.s32 %f4, %r1, %r2;\nmov.b32 %r0, %f4;",
        |a, b, _| {
            if a as i32 > b as i32 { 1f32.to_bits() } else { 0 }
        },
    );
    check64("setp.lt.s64 %p1, %rd6, %rd7;\nselp.b64 %rd9, %rd6, %rd7, %p1;", |a, b, _| (a as i64).min(b as i64) as u64);
    check64("setp.gt.u64 %p1, %rd6, %rd7;\nselp.b64 %rd9, %rd6, %rd7, %p1;", |a, b, _| a.max(b));
}

#[test]
fn divergent_branches_come_together_again() {
    // lane l loops l times, odd lanes add 100, and a shuffle afterwards needs all lanes
    let body = "mov.u32 %r0, 0;\nmov.u32 %r1, %laneid;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra DONE;\n\
                LOOP:\nadd.u32 %r0, %r0, 1;\nsetp.lt.u32 %p2, %r0, %r1;\n@%p2 bra LOOP;\nDONE:\nand.b32 %r2, %r1, 1;\n\
                setp.eq.u32 %p3, %r2, 0;\n@%p3 bra EVEN;\nadd.u32 %r0, %r0, 100;\nEVEN:\n\
                shfl.sync.bfly.b32 %r3, %r0, 1, 31, 0xffffffff;\nst.global.v2.u32 [%rd3], {%r0, %r3};";
    let out = Run::default().body(body, &[0; 1024]).unwrap();
    for l in 0..32u32 {
        let value = |l: u32| l + 100 * (l & 1);
        let at = |i: usize| u32::from_le_bytes(out[i..i + 4].try_into().unwrap());
        assert_eq!((at(32 * l as usize), at(32 * l as usize + 4)), (value(l), value(l ^ 1)));
    }
}

#[test]
fn cold_code_behind_a_barrier() {
    // lane 0 leaves for code that lies behind the barrier, and comes back to it
    let body = "mov.u32 %r0, 1;\nsetp.eq.u32 %p1, %r29, 0;\n@%p1 bra COLD;\nBACK:\nbar.sync 0;\n\
                st.global.u32 [%rd3], %r0;\nret;\nCOLD:\nmov.u32 %r0, 2;\nbra.uni BACK;";
    let out = Run { threads: 64, ..Run::default() }.body(body, &[0; 2048]).unwrap();
    assert!((0..64).all(|t| out[32 * t] == if t == 0 { 2 } else { 1 }));
}

#[test]
fn special_registers() {
    let body = "mov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %nctaid.x;\nmov.u32 %r2, %warpid;\nmov.u32 %r3, %lanemask_lt;\n\
                st.global.v4.u32 [%rd3], {%r0, %r1, %r2, %r3};\nmov.u32 %r4, %lanemask_ge;\nst.global.u32 [%rd3+16], %r4;";
    let run = Run { blocks: 3, threads: 48, ..Run::default() };
    let out = run.body(body, &[0; 32 * 144]).unwrap();
    for t in 0..144u32 {
        let at = |i: u32| u32::from_le_bytes(out[(32 * t + 4 * i) as usize..][..4].try_into().unwrap());
        let lane = t % 48 % 32;
        assert_eq!([at(0), at(1), at(2), at(3)], [t / 48, 3, t % 48 / 32, (1 << lane) - 1]);
        assert_eq!(at(4), !((1 << lane) - 1));
    }
}

/// Reads of a structure begin with the address of a parameter; only what a kernel names counts as
/// its shared memory.
#[test]
fn addresses_of_parameters_and_shared_memory_outside_of_kernels() {
    let text = machine::kernel(
        "mov.b64 %rd11, in;\nmov.u64 %rd6, %rd11;\nld.param.u64 %rd7, [%rd6+0];\nsub.s64 %rd8, %rd7, %rd2;\nst.global.u64 [%rd3], %rd8;\n\
         mov.b64 %rd9, out;\nld.param.u32 %r1, [%rd9+4];\nshr.u64 %rd10, %rd1, 32;\nst.global.u32 [%rd3+8], %r1;\n\
         st.global.u64 [%rd3+16], %rd10;",
    );
    let text = text.replace(".visible", ".shared .align 4 .b8 elsewhere[60000];\n.visible");
    let module = cudasim::ptx::parse(&text).unwrap();
    let programs = cudasim::decode::decode(&module, &std::collections::HashMap::new()).unwrap();
    assert_eq!(programs[0].static_shared, 0);
    let run = Run { threads: 1, zeroed: true, ..Run::default() };
    let out = run.text(&text, &[0; 32]).unwrap();
    let word = |at: usize| u64::from_le_bytes(out[at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(8)), (0, word(16)));
    let two = text.replace("mov.b64 %rd9, out;", "mov.b64 %rd6, out;");
    let module = cudasim::ptx::parse(&two).unwrap();
    let error = cudasim::decode::decode(&module, &std::collections::HashMap::new()).err().unwrap();
    assert!(error.to_string().contains("two parameters"), "{error}");
}
