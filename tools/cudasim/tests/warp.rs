//! Loads, stores, atomics, shuffles, votes, asynchronous copies and matrix instructions.

#![allow(clippy::type_complexity, clippy::needless_range_loop, clippy::result_large_err)]

mod machine;

use machine::{Run, kernel};

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// First word of every thread's output.
fn first(out: &[u8]) -> Vec<u32> {
    out.chunks(32).map(|c| word(c, 0)).collect()
}

fn run(body: &str) -> Vec<u8> {
    let input: Vec<u8> = (0..1024u32).map(|i| (i * 7 + i / 256) as u8).collect();
    Run { zeroed: true, ..Run::default() }.body(body, &input).unwrap_or_else(|f| panic!("{body}\n{f}"))
}

#[test]
fn loads_and_stores_of_every_width() {
    let input: Vec<u8> = (0..1024u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let copies = [
        "ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd4];\nst.global.v4.u32 [%rd3], {%r1,%r2,%r3,%r4};\n\
         ld.global.nc.v2.f32 {%f1,%f2}, [%rd4+16];\nst.global.v2.f32 [%rd3+16], {%f1,%f2};\n\
         ld.global.cg.u64 %rd6, [%rd4+24];\nst.global.u64 [%rd3+24], %rd6;",
        "ld.global.v2.u64 {%rd6,%rd7}, [%rd4];\nst.global.v2.b64 [%rd3], {%rd6,%rd7};\n\
         ld.global.v4.u16 {%rs1,%rs2,%rs3,%rs4}, [%rd4+16];\nst.global.v4.u16 [%rd3+16], {%rs1,%rs2,%rs3,%rs4};\n\
         ld.volatile.global.f64 %fd1, [%rd4+24];\nst.volatile.global.f64 [%rd3+24], %fd1;",
        "ld.u32 %r1, [%rd4];\nst.u32 [%rd3], %r1;\nld.global.u16 %rs1, [%rd4+4];\nst.global.u16 [%rd3+4], %rs1;\n\
         ld.global.u8 %rs2, [%rd4+6];\nst.global.u8 [%rd3+6], %rs2;\nld.global.s8 %r2, [%rd4+7];\n\
         st.global.u8 [%rd3+7], %r2;\nld.relaxed.gpu.global.u64 %rd6, [%rd4+8];\nst.relaxed.gpu.global.u64 [%rd3+8], %rd6;\n\
         ld.global.v2.b64 {%rd7,%rd8}, [%rd4+16];\nst.global.v2.b64 [%rd3+16], {%rd7,%rd8};",
    ];
    for body in copies {
        assert_eq!(run(body), input, "{body}");
    }
    let out = run("ld.global.s8 %r1, [%rd4];\nst.global.u32 [%rd3], %r1;");
    assert!((0..32).all(|l| word(&out, 32 * l) as i32 == i32::from(input[32 * l] as i8)));
    let out = run("ld.global.s16 %r1, [%rd4];\nst.global.u32 [%rd3], %r1;");
    assert_eq!(word(&out, 0) as i32, i32::from(i16::from_le_bytes([input[0], input[1]])));
}

#[test]
fn shared_local_and_generic_addresses() {
    let text = kernel(
        "mov.u64 %rd6, buf;\ncvta.shared.u64 %rd7, %rd6;\nmul.wide.u32 %rd8, %r29, 4;\nadd.s64 %rd9, %rd7, %rd8;\n\
         add.u32 %r1, %r29, 100;\nst.u32 [%rd9], %r1;\nbar.sync 0;\nxor.b32 %r2, %r29, 1;\nmul.wide.u32 %rd8, %r2, 4;\n\
         add.s64 %rd10, %rd6, %rd8;\nld.shared.u32 %r3, [%rd10];\nmov.u64 %rd11, stack;\nst.local.u32 [%rd11+4], %r3;\n\
         cvta.local.u64 %rd12, %rd11;\nld.u32 %r4, [%rd12+4];\nst.global.u32 [%rd3], %r4;",
    )
    .replace(".reg .pred", ".shared .align 4 .b8 buf[128];\n.local .align 4 .b8 stack[8];\n.reg .pred");
    let out = Run { zeroed: true, ..Run::default() }.text(&text, &[0; 1024]).unwrap();
    assert!(first(&out).iter().enumerate().all(|(l, &v)| v as usize == (l ^ 1) + 100));
}

#[test]
fn atomics() {
    // all lanes on one word: the sum of what they saw is that of some order, the end is the same
    // for all
    let cases: [(&str, u32, fn(u32) -> u32); 9] = [
        ("atom.global.add.u32 %r2, [%rd1], %r29;", 0, |_| 496),
        ("atom.global.max.s32 %r2, [%rd1], %r29;", 0, |_| 31),
        ("atom.global.min.u32 %r2, [%rd1], %r29;", 0, |_| 0),
        ("atom.global.or.b32 %r2, [%rd1], %r29;", 0, |_| 31),
        ("atom.global.xor.b32 %r2, [%rd1], %r29;", 0, |_| 0),
        ("atom.global.inc.u32 %r2, [%rd1], 9;", 0, |_| 2),
        ("atom.global.dec.u32 %r2, [%rd1], 9;", 0, |_| 8),
        ("red.global.add.u32 [%rd1], 2;", 0, |_| 64),
        ("atom.acq_rel.gpu.global.add.u32 %r2, [%rd1], 1;", 0, |_| 32),
    ];
    for (code, start, want) in cases {
        let out = run(code);
        assert_eq!(word(&out, 0), want(start), "{code}");
    }
    let out = run("cvt.rn.f32.u32 %f1, %r29;\natom.global.add.f32 %f2, [%rd1], %f1;");
    assert_eq!(f32::from_bits(word(&out, 0)), 496.0);
    let out = run("cvt.u64.u32 %rd6, %r29;\nred.global.add.u64 [%rd1], %rd6;");
    assert_eq!(word(&out, 0), 496);
    let out = run("mov.b32 %r1, 0x3f804000;\nred.global.add.noftz.bf16x2 [%rd1], %r1;");
    assert_eq!(word(&out, 0), 0x4200_4280, "32 times 1 and 2");
    // exactly one lane wins
    let out = run("add.u32 %r3, %r29, 1;\natom.global.cas.b32 %r2, [%rd1], 0, %r3;\nst.global.u32 [%rd3+4], %r2;");
    let winners = (0..32).filter(|l| word(&out, 32 * l + 4) == 0).count();
    assert_eq!(winners, 1);
    assert!((1..=32).contains(&word(&out, 0)));
    let out = run("atom.global.exch.b32 %r2, [%rd1], %r29;\nst.global.u32 [%rd3+4], %r2;");
    let mut seen: Vec<u32> = (0..32).map(|l| word(&out, 32 * l + 4)).chain([word(&out, 0)]).collect();
    seen.sort_unstable();
    assert_eq!(seen[2..], (1..32).collect::<Vec<u32>>(), "every value comes out once, and 0 twice");
    let shared = kernel(
        "mov.u64 %rd6, buf;\nsetp.eq.u32 %p1, %r29, 0;\n@%p1 st.shared.u32 [%rd6], 0;\nbar.sync 0;\n\
         atom.shared.add.u32 %r2, [%rd6], 1;\nbar.sync 0;\nld.shared.u32 %r3, [%rd6];\nst.global.u32 [%rd3], %r3;",
    )
    .replace(".reg .pred", ".shared .align 4 .b8 buf[4];\n.reg .pred");
    assert_eq!(
        first(&Run::default().text(&shared, &[0; 1024]).map(|o| o[..32].to_vec()).unwrap_or_else(|f| panic!("{f}"))),
        [32]
    );
}

#[test]
fn shuffles() {
    let cases: [(&str, fn(u32) -> (u32, bool)); 7] = [
        ("bfly.b32 %r2|%p1, %r29, 4, 31, -1", |l| (l ^ 4, true)),
        ("idx.b32 %r2|%p1, %r29, 7, 31, -1", |_| (7, true)),
        ("up.b32 %r2|%p1, %r29, 3, 0, -1", |l| if l >= 3 { (l - 3, true) } else { (l, false) }),
        ("down.b32 %r2|%p1, %r29, 3, 31, -1", |l| if l + 3 < 32 { (l + 3, true) } else { (l, false) }),
        // segments of 8: the clamp's upper bits are 0x18
        ("down.b32 %r2|%p1, %r29, 3, 0x1807, -1", |l| if l % 8 + 3 < 8 { (l + 3, true) } else { (l, false) }),
        ("up.b32 %r2|%p1, %r29, 3, 0x1800, -1", |l| if l % 8 >= 3 { (l - 3, true) } else { (l, false) }),
        ("idx.b32 %r2|%p1, %r29, 1, 0x1807, -1", |l| (l / 8 * 8 + 1, true)),
    ];
    for (code, want) in cases {
        let out = run(&format!("shfl.sync.{code};\nselp.u32 %r3, 1, 0, %p1;\nst.global.v2.u32 [%rd3], {{%r2, %r3}};"));
        for l in 0..32 {
            let (value, valid) = want(l);
            let at = 32 * l as usize;
            assert_eq!((word(&out, at), word(&out, at + 4)), (value, valid.into()), "{code} lane {l}");
        }
    }
}

#[test]
fn votes_and_reductions() {
    let vote = |code: &str| {
        let body = format!("setp.lt.u32 %p1, %r29, 5;\nsetp.lt.u32 %p2, %r29, 40;\n{code}\nst.global.u32 [%rd3], %r2;");
        let all = first(&run(&body));
        assert!(all.iter().all(|v| *v == all[0]));
        all[0]
    };
    assert_eq!(vote("vote.sync.ballot.b32 %r2, %p1, -1;"), 31);
    assert_eq!(vote("vote.sync.ballot.b32 %r2, !%p1, -1;"), !31);
    let flag = |mode: &str, p: &str| vote(&format!("vote.sync.{mode}.pred %p3, {p}, -1;\nselp.u32 %r2, 1, 0, %p3;"));
    assert_eq!((flag("any", "%p1"), flag("all", "%p1"), flag("uni", "%p1")), (1, 0, 0));
    assert_eq!((flag("any", "!%p2"), flag("all", "%p2"), flag("uni", "%p2")), (0, 1, 1));
    assert_eq!(vote("activemask.b32 %r2;"), u32::MAX);
    assert_eq!(vote("redux.sync.add.u32 %r2, %r29, -1;"), 496);
    assert_eq!(vote("neg.s32 %r3, %r29;\nredux.sync.min.s32 %r2, %r3, -1;"), -31i32 as u32);
}

#[test]
fn asynchronous_copies_land_at_the_wait() {
    let text = |wait: &str| {
        kernel(&format!(
            "mov.u64 %rd6, buf;\ncvt.u32.u64 %r1, %rd6;\nmul.lo.u32 %r2, %r29, 16;\nadd.u32 %r1, %r1, %r2;\n\
             cp.async.cg.shared.global [%r1], [%rd4], 16;\ncp.async.commit_group;\n\
             cp.async.ca.shared.global [%r1+512], [%rd4+16], 4, 0;\ncp.async.commit_group;\n{wait}\n\
             ld.shared.u32 %r3, [%r1+4];\nst.global.u32 [%rd3], %r3;\n"
        ))
        .replace(".reg .pred", ".shared .align 16 .b8 buf[1024];\n.reg .pred")
    };
    let input: Vec<u8> = (0..1024u32).map(|i| (i * 3) as u8).collect();
    let run = Run { zeroed: true, ..Run::default() };
    let out = run.text(&text("cp.async.wait_group 1;"), &input).unwrap();
    assert!((0..32).all(|l| word(&out, 32 * l) == word(&input, 32 * l + 4)));
    let zero = "cp.async.wait_all;\nld.shared.u32 %r4, [%r1+512];\nst.global.u32 [%rd3+4], %r4;";
    let out = run.text(&text(zero), &input).unwrap();
    assert!((0..32).all(|l| word(&out, 32 * l + 4) == 0), "a source size of 0 fills with zeros");
    let late = run.text(&text("cp.async.wait_group 2;"), &input).unwrap_err();
    assert!(late.message.contains("wait_group"), "{late}");
}

/// Runs one mma whose fragments each lane builds by `a` and `b`, and returns the 16 by 8 result.
fn mma(op: &str, na: usize, a: impl Fn(usize, usize) -> u32, b: impl Fn(usize, usize) -> u32) -> Vec<Vec<f32>> {
    mma_in(Run { zeroed: true, ..Run::default() }, op, na, a, b)
}

fn mma_in(
    run: Run,
    op: &str,
    na: usize,
    a: impl Fn(usize, usize) -> u32,
    b: impl Fn(usize, usize) -> u32,
) -> Vec<Vec<f32>> {
    let mut input = vec![0u8; 1024];
    for l in 0..32 {
        for i in 0..na {
            input[32 * l + 4 * i..][..4].copy_from_slice(&a(l, i).to_le_bytes());
        }
        for i in 0..na / 2 {
            input[32 * l + 16 + 4 * i..][..4].copy_from_slice(&b(l, i).to_le_bytes());
        }
    }
    let (ra, rb) = if na == 4 { ("%r1,%r2,%r3,%r4", "%r5,%r6") } else { ("%r1,%r2", "%r5") };
    let body = format!(
        "ld.global.v4.u32 {{%r1,%r2,%r3,%r4}}, [%rd4];\nld.global.v2.u32 {{%r5,%r6}}, [%rd4+16];\nmov.f32 %f1, 0f3F000000;\n\
         mma.sync.aligned.{op} {{%f2,%f3,%f4,%f5}}, {{{ra}}}, {{{rb}}}, {{%f1,%f1,%f1,%f1}};\n\
         st.global.v4.f32 [%rd3], {{%f2,%f3,%f4,%f5}};"
    );
    let out = run.body(&body, &input).unwrap_or_else(|f| panic!("{f}"));
    let mut d = vec![vec![0f32; 8]; 16];
    for l in 0..32 {
        for i in 0..4 {
            d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = f32::from_bits(word(&out, 32 * l + 4 * i));
        }
    }
    d
}

#[test]
fn matrix_products() {
    // small whole numbers, so that every order of summation gives the same; 0.5 is what is added
    let (a, b) =
        (|r: usize, k: usize| ((r * 3 + k * 5) % 7) as f32 - 3.0, |k: usize, c: usize| ((k * 2 + c) % 5) as f32 - 2.0);
    let check = |d: Vec<Vec<f32>>, depth: usize| {
        for r in 0..16 {
            for c in 0..8 {
                let want: f32 = (0..depth).map(|k| a(r, k) * b(k, c)).sum();
                assert_eq!(d[r][c], want + 0.5, "row {r} column {c}");
            }
        }
    };
    let bf16 = |x: f32, y: f32| x.to_bits() >> 16 | (y.to_bits() & 0xffff_0000);
    // f16 of whole numbers up to 4
    let h = |x: f32| [0u32, 0x3c00, 0x4000, 0x4200][x.abs() as usize] | if x < 0.0 { 0x8000 } else { 0 };
    for (op, depth, half) in [
        ("m16n8k16.row.col.f32.bf16.bf16.f32", 16, false),
        ("m16n8k8.row.col.f32.bf16.bf16.f32", 8, false),
        ("m16n8k16.row.col.f32.f16.f16.f32", 16, true),
    ] {
        let pack = |x: f32, y: f32| if half { h(x) | h(y) << 16 } else { bf16(x, y) };
        let fa = |l: usize, i: usize| {
            let (r, k) = (l / 4 + i % 2 * 8, l % 4 * 2 + i / 2 * 8);
            pack(a(r, k), a(r, k + 1))
        };
        let fb = |l: usize, i: usize| {
            let (k, c) = (l % 4 * 2 + i * 8, l / 4);
            pack(b(k, c), b(k + 1, c))
        };
        check(mma(op, depth / 4, fa, fb), depth);
    }
    for (op, depth) in [("m16n8k8.row.col.f32.tf32.tf32.f32", 8), ("m16n8k4.row.col.f32.tf32.tf32.f32", 4)] {
        // low bits of TF32 inputs are not looked at
        let fa = |l: usize, i: usize| a(l / 4 + i % 2 * 8, l % 4 + i / 2 * 4).to_bits() | 0xfff;
        let fb = |l: usize, i: usize| b(l % 4 + i * 4, l / 4).to_bits();
        check(mma(op, depth / 2, fa, fb), depth);
    }
}

/// With `mma=truncate` what is small beside the largest of eight products is cut off, and so is
/// their sum.
#[test]
fn matrix_products_cut_off() {
    let bf16 = |x: f32, y: f32| x.to_bits() >> 16 | (y.to_bits() & 0xffff_0000);
    let (op, depth) = ("m16n8k16.row.col.f32.bf16.bf16.f32", 16);
    // rows of factors: the first product is 1, the others `small`, all from `first` on
    let sum = |truncate: bool, first: usize, small: f32| {
        let mut run = Run { zeroed: true, ..Run::default() };
        run.config.truncate = truncate;
        let a = |k: usize| {
            if k == 0 {
                1.0
            } else if k >= first {
                small
            } else {
                0.0
            }
        };
        let fa = |l: usize, i: usize| {
            let k = l % 4 * 2 + i / 2 * 8;
            bf16(a(k), a(k + 1))
        };
        mma_in(run, op, depth / 4, fa, |_, _| bf16(1.0, 1.0))[3][5]
    };
    let unit = 2f32.powi(-23);
    // of 1.5 the last place is `unit`; 0.75 of it is kept to a half where it is cut off, fifteen
    // times in two groups
    assert_eq!(sum(false, 1, 0.75 * unit), 1.5 + 11.0 * unit);
    assert_eq!(sum(true, 1, 0.75 * unit), 1.5 + 7.0 * unit);
    // a half is kept; the sum of three of them is cut off to one
    assert_eq!(sum(true, 13, 0.5 * unit), 1.5 + unit);
    assert_eq!(sum(false, 13, 0.5 * unit), 1.5 + 2.0 * unit);
    assert_eq!(sum(true, 13, -0.5 * unit), 1.5 - 2.0 * unit);
}

#[test]
fn ldmatrix_gives_rows_and_columns() {
    let body = |form: &str| {
        kernel(&format!(
            "mov.u64 %rd6, buf;\ncvt.u32.u64 %r1, %rd6;\nmul.lo.u32 %r2, %r29, 16;\nadd.u32 %r1, %r1, %r2;\n\
             ld.global.v4.u32 {{%r3,%r4,%r5,%r6}}, [%rd4];\nst.shared.v4.u32 [%r1], {{%r3,%r4,%r5,%r6}};\nbar.sync 0;\n\
             ldmatrix.sync.aligned.m8n8.x4{form}.shared.b16 {{%r7,%r8,%r9,%r10}}, [%r1];\n\
             st.global.v4.u32 [%rd3], {{%r7,%r8,%r9,%r10}};"
        ))
        .replace(".reg .pred", ".shared .align 16 .b8 buf[512];\n.reg .pred")
    };
    // element (row, column) of the 32 by 8 matrix is 8 row + column
    let mut input = vec![0u8; 1024];
    for l in 0..32 {
        for c in 0..8 {
            input[32 * l + 2 * c..][..2].copy_from_slice(&((8 * l + c) as u16).to_le_bytes());
        }
    }
    let run = Run { zeroed: true, ..Run::default() };
    let (plain, turned) = (run.text(&body(""), &input).unwrap(), run.text(&body(".trans"), &input).unwrap());
    for l in 0..32usize {
        for i in 0..4 {
            let at = 32 * l + 4 * i;
            let e = |r: usize, c: usize| (8 * (8 * i + r) + c) as u32;
            let (r, c) = (l / 4, l % 4 * 2);
            assert_eq!(word(&plain, at), e(r, c) | e(r, c + 1) << 16);
            assert_eq!(word(&turned, at), e(c, r) | e(c + 1, r) << 16);
        }
    }
}
