//! Kernels with one mistake each: the simulator must find it, say what it is, and name the right
//! place.

#![allow(clippy::type_complexity, clippy::needless_range_loop, clippy::result_large_err)]

mod machine;

use cudasim::report::{Finding, Kind};
use machine::{Run, kernel};

fn zeroed() -> Run {
    Run { zeroed: true, ..Run::default() }
}

fn shared(body: &str) -> String {
    kernel(body).replace(".reg .pred", ".shared .align 16 .b8 buf[1024];\n.reg .pred")
}

fn input(threads: u32) -> Vec<u8> {
    vec![1; 32 * threads as usize]
}

/// The finding, which must lie in the PTX line that holds `at`.
fn found(run: &Run, text: &str, kind: Kind, at: &str) -> Finding {
    let finding = run.text(text, &input(run.threads * run.blocks)).expect_err("the mistake was not seen");
    assert_eq!(finding.kind, kind, "{finding}");
    let place = finding.place.as_ref().unwrap();
    assert!(place.ptx.contains(at), "{finding}");
    assert!(text.lines().nth(place.ptx_line as usize - 1).unwrap().contains(at), "{finding}");
    assert_eq!(place.kernel, "k");
    finding
}

#[test]
fn global_memory_beyond_the_end() {
    let run = Run { blocks: 2, ..zeroed() };
    let f = found(&run, &kernel("ld.global.u32 %r1, [%rd4+32];"), Kind::OutOfBounds, "%rd4+32");
    let place = f.place.as_ref().unwrap();
    assert_eq!((place.block, place.thread), ([1, 0, 0], [31, 0, 0]));
    assert!(f.message.contains("0 bytes past the end of allocation #1 (in, 2048 bytes"), "{f}");
    assert_eq!(f.code, 700);
    found(&run, &kernel("st.global.u32 [%rd3+-2048], %r29;"), Kind::OutOfBounds, "st.global");
    found(&run, &kernel("mov.u64 %rd6, 0;\nld.global.u32 %r1, [%rd6];"), Kind::OutOfBounds, "%rd6");
    found(
        &run,
        &kernel("cvt.u32.u64 %r1, %rd4;\ncvt.u64.u32 %rd6, %r1;\nld.global.u32 %r1, [%rd6];"),
        Kind::OutOfBounds,
        "%rd6",
    );
    found(&run, &kernel("atom.global.add.u32 %r1, [%rd1+4096], 1;"), Kind::OutOfBounds, "atom");
}

#[test]
fn misaligned() {
    let f =
        found(&zeroed(), &kernel("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd4+8];"), Kind::Misaligned, "ld.global.v4");
    assert_eq!(f.code, 716);
    assert_eq!(f.place.unwrap().address.unwrap() % 16, 8);
    found(&zeroed(), &kernel("st.global.u32 [%rd3+2], %r29;"), Kind::Misaligned, "st.global");
    found(&zeroed(), &shared("mov.u64 %rd6, buf;\nst.shared.u64 [%rd6+4], %rd6;"), Kind::Misaligned, "st.shared");
}

#[test]
fn uninitialised() {
    found(&Run::default(), &kernel("ld.global.u32 %r1, [%rd3];"), Kind::Uninitialised, "ld.global.u32 %r1, [%rd3]");
    found(&zeroed(), &shared("mov.u64 %rd6, buf;\nld.shared.u32 %r1, [%rd6];"), Kind::Uninitialised, "ld.shared");
    found(&zeroed(), &kernel("add.u32 %r1, %r2, 1;"), Kind::Uninitialised, "add.u32 %r1, %r2");
    // a copy of an unwritten register may be made, but not used
    let f = found(&zeroed(), &kernel("mov.u32 %r1, %r2;\nadd.u32 %r3, %r1, 1;"), Kind::Uninitialised, "add.u32 %r3");
    assert!(f.message.contains("register"));
    found(&zeroed(), &kernel("@%p4 bra L;\nL:"), Kind::Uninitialised, "@%p4 bra");
    // written by lanes below 7 alone
    let some = kernel("setp.lt.u32 %p1, %r29, 7;\n@%p1 mov.u32 %r1, 1;\nst.global.u32 [%rd3], %r1;");
    let f = found(&zeroed(), &some, Kind::Uninitialised, "st.global");
    assert_eq!(f.place.unwrap().thread, [7, 0, 0]);
}

#[test]
fn races_in_shared_memory() {
    let body = |barrier: &str| {
        shared(&format!(
            "mov.u64 %rd6, buf;\nmul.wide.u32 %rd7, %r29, 4;\nadd.s64 %rd7, %rd6, %rd7;\nst.shared.u32 [%rd7], %r29;\n\
             {barrier}\nxor.b32 %r1, %r29, 32;\nmul.wide.u32 %rd8, %r1, 4;\nadd.s64 %rd8, %rd6, %rd8;\n\
             ld.shared.u32 %r2, [%rd8];\nst.global.u32 [%rd3], %r2;"
        ))
    };
    for seed in 0..5 {
        let run = Run { threads: 64, seed, ..zeroed() };
        run.text(&body("bar.sync 0;"), &input(64)).unwrap();
        // the reader that comes first sees unwritten memory: a race shows as one of two findings
        let f = run.text(&body(""), &input(64)).unwrap_err();
        assert!(matches!(f.kind, Kind::Race | Kind::Uninitialised), "{f}");
        let f = run.text(&body("bar.warp.sync -1;"), &input(64)).unwrap_err();
        assert!(matches!(f.kind, Kind::Race | Kind::Uninitialised), "{f}");
    }
    let f = found(
        &Run { threads: 64, ..zeroed() },
        &shared("mov.u64 %rd6, buf;\nst.shared.u32 [%rd6], %r29;"),
        Kind::Race,
        "st.shared.u32",
    );
    assert!(f.message.contains("bar.warp.sync"), "two lanes of a warp: {f}");
    // written again while another warp may still read
    let again = shared(
        "mov.u64 %rd6, buf;\nsetp.eq.u32 %p1, %r29, 0;\n@%p1 st.shared.u32 [%rd6], 1;\nbar.sync 0;\n\
         ld.shared.u32 %r1, [%rd6];\n@%p1 st.shared.u32 [%rd6], 2;\nst.global.u32 [%rd3], %r1;",
    );
    let f = found(&Run { threads: 64, ..zeroed() }, &again, Kind::Race, "shared.u32");
    assert!(f.message.contains("no bar"), "{f}");
}

#[test]
fn within_a_warp_only_bar_warp_sync_orders() {
    let body = |sync: &str| {
        shared(&format!(
            "mov.u64 %rd6, buf;\nmul.wide.u32 %rd7, %r29, 4;\nadd.s64 %rd7, %rd6, %rd7;\nst.shared.u32 [%rd7], %r29;\n{sync}\n\
             xor.b32 %r1, %r29, 1;\nmul.wide.u32 %rd8, %r1, 4;\nadd.s64 %rd8, %rd6, %rd8;\nld.shared.u32 %r2, [%rd8];"
        ))
    };
    zeroed().text(&body("bar.warp.sync -1;"), &input(32)).unwrap();
    found(&zeroed(), &body(""), Kind::Race, "ld.shared");
    found(&zeroed(), &body("shfl.sync.idx.b32 %r9, %r29, 0, 31, -1;"), Kind::Race, "ld.shared");
}

#[test]
fn races_in_global_memory() {
    let run = Run { blocks: 2, ..zeroed() };
    let f = found(&run, &kernel("st.global.u32 [%rd1], %r31;"), Kind::Race, "st.global");
    assert!(f.message.contains("no grid barrier"), "{f}");
    found(&run, &kernel("st.global.u32 [%rd3], 1;\nld.global.nc.u32 %r1, [%rd3];"), Kind::Race, "ld.global.nc");
    // last block sums up: fences around a relaxed counter make it right, without them it is a race
    let last = |fence: &str| {
        kernel(&format!(
            "setp.ne.u32 %p1, %r29, 0;\n@%p1 bra END;\nst.global.u32 [%rd3+8], 5;\n{fence}\natom.global.add.u32 %r1, [%rd1], 1;\n\
             {fence}\nsetp.ne.u32 %p2, %r1, 1;\n@%p2 bra END;\nld.global.u32 %r2, [%rd1+8];\nld.global.u32 %r3, [%rd1+1032];\n\
             add.u32 %r4, %r2, %r3;\nst.global.u32 [%rd1+4], %r4;\nEND:"
        ))
    };
    for seed in 0..4 {
        let run = Run { blocks: 2, seed, ..zeroed() };
        let out = run.text(&last("membar.gl;"), &input(64)).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(out[4], 10);
        found(&run, &last(""), Kind::Race, "ld.global");
    }
}

#[test]
fn a_grid_barrier_orders_and_its_lack_shows() {
    let body = |barrier: bool, first_sync: &str| {
        let arrive = if barrier {
            format!(
                "{first_sync}\nsetp.ne.u32 %p1, %r29, 0;\n@%p1 bra WAITED;\natom.add.release.gpu.global.u32 %r5, [%rd1], 1;\n\
                 SPIN:\nld.acquire.gpu.global.u32 %r6, [%rd1];\nsetp.lt.u32 %p2, %r6, 4;\n@%p2 bra SPIN;\nWAITED:\nbar.sync 0;"
            )
        } else {
            String::new()
        };
        kernel(&format!(
            "st.global.u32 [%rd3+4], %r32;\n{arrive}\nadd.u32 %r7, %r32, 64;\nand.b32 %r7, %r7, 255;\nmul.wide.u32 %rd6, %r7, 32;\n\
             add.s64 %rd6, %rd1, %rd6;\nld.global.u32 %r8, [%rd6+4];\nst.global.u32 [%rd3+8], %r8;"
        ))
    };
    for seed in 0..4 {
        let run = Run { blocks: 4, threads: 64, cooperative: true, seed, ..zeroed() };
        let out = run.text(&body(true, "bar.sync 0;"), &input(256)).unwrap_or_else(|f| panic!("{f}"));
        assert!((0..256).all(|t| out[32 * t + 8] == (t + 64) as u8));
        let f = run.text(&body(false, ""), &input(256)).unwrap_err();
        assert!(f.kind == Kind::Race && f.message.contains("no grid barrier"), "{f}");
        // the block arrives before all its warps have written
        let f = run.text(&body(true, ""), &input(256)).unwrap_err();
        assert_eq!(f.kind, Kind::Race, "{f}");
        // scopes that end at the block's border: of one side, of both, of a fence around relaxed
        // accesses
        let right = body(true, "bar.sync 0;");
        let fenced = |scope: &str| {
            right
                .replace("atom.add.release.gpu", &format!("fence.acq_rel.{scope};\natom.add.relaxed.gpu"))
                .replace("ld.acquire.gpu", "ld.relaxed.gpu")
                .replace("WAITED:", &format!("fence.acq_rel.{scope};\nWAITED:"))
        };
        run.text(&fenced("gpu"), &input(256)).unwrap_or_else(|f| panic!("{f}"));
        run.text(&right.replace(".gpu.", ".sys."), &input(256)).unwrap_or_else(|f| panic!("{f}"));
        for narrow in [
            right.replace("release.gpu", "release.cta"),
            right.replace("acquire.gpu", "acquire.cta"),
            right.replace(".gpu.", ".cta."),
            right.replace(".gpu.", ".cluster."),
            fenced("cta"),
        ] {
            let f = run.text(&narrow, &input(256)).unwrap_err();
            assert!(f.kind == Kind::Race && f.message.contains("of .gpu scope"), "{narrow}\n{f}");
        }
        // blocks that need not run together must not wait for each other
        let alone = Run { cooperative: false, ..Run { blocks: 4, threads: 64, seed, ..zeroed() } };
        found(&alone, &body(true, "bar.sync 0;"), Kind::Deadlock, "");
    }
}

/// Three blocks read a word, and one of them writes it after a barrier with one of the others
/// alone: the third one's read is seen where two are remembered.
#[test]
fn two_readers_of_a_word() {
    // blocks 0 and 1 read; block 2 waits for the one that a counter names, then writes
    let body = |waits_for: u32| {
        kernel(&format!(
            "setp.ne.u32 %p1, %r29, 0;\n@%p1 bra END;\nsetp.eq.u32 %p2, %r31, 2;\n@%p2 bra WRITER;\nld.global.u32 %r1, [%rd2];\n\
             mul.wide.u32 %rd6, %r31, 4;\nadd.s64 %rd7, %rd1, %rd6;\nst.release.gpu.global.u32 [%rd7], 1;\nbra END;\n\
             WRITER:\nld.acquire.gpu.global.u32 %r2, [%rd1+{}];\nsetp.eq.u32 %p3, %r2, 0;\n@%p3 bra WRITER;\n\
             st.global.u32 [%rd2], 7;\nEND:",
            4 * waits_for
        ))
    };
    let mut seen = [0; 2];
    for seed in 0..40 {
        for (readers, seen) in [1, 2].into_iter().zip(&mut seen) {
            let mut run = Run { blocks: 3, cooperative: true, seed, ..zeroed() };
            run.config.readers = readers;
            for waits_for in [0, 1] {
                if let Err(f) = run.text(&body(waits_for), &input(96)) {
                    assert_eq!(f.kind, Kind::Race, "{f}");
                    *seen += 1;
                }
            }
        }
    }
    // unless the other block comes after the write, and then its read is the race
    assert!(seen[1] == 80 && seen[0] < 80, "{seen:?}");
}

#[test]
fn barriers_that_not_all_reach() {
    let part = kernel("setp.lt.u32 %p1, %r29, 9;\n@%p1 bra L;\nbar.sync 0;\nL:");
    let f = found(&zeroed(), &part, Kind::DivergentBarrier, "bar.sync");
    assert_eq!(f.code, 719);
    found(&zeroed(), &kernel("setp.lt.u32 %p1, %r29, 9;\n@%p1 bar.sync 0;"), Kind::DivergentBarrier, "bar.sync");
    found(&zeroed(), &kernel("setp.lt.u32 %p1, %r29, 9;\n@%p1 ret;\nbar.sync 0;"), Kind::DivergentBarrier, "bar.sync");
    let warp = kernel("setp.lt.u32 %p1, %r29, 32;\n@%p1 ret;\nbar.sync 0;");
    let f = found(&Run { threads: 64, ..zeroed() }, &warp, Kind::DivergentBarrier, "bar.sync");
    assert!(f.message.contains("1 of 2 warps"), "{f}");
    let two = kernel("setp.lt.u32 %p1, %r29, 32;\n@%p1 bra A;\nbar.sync 0;\nbra END;\nA:\nbar.sync  0;\nEND:");
    found(&Run { threads: 64, ..zeroed() }, &two, Kind::DivergentBarrier, "bar.sync");
    // bar.warp.sync is no barrier of the block
    let weak = "mov.u64 %rd6, buf;\nsetp.eq.u32 %p1, %r29, 0;\n@%p1 st.shared.u32 [%rd6], 1;\nbar.warp.sync -1;\n\
                ld.shared.u32 %r1, [%rd6];";
    assert!(Run { threads: 64, ..zeroed() }.text(&shared(weak), &input(64)).is_err());
}

#[test]
fn shuffles_without_all_lanes() {
    let half = "setp.ge.u32 %p1, %r29, 16;\n@%p1 bra L;\nshfl.sync.down.b32 %r1, %r29, 8, 31, MASK;\nL:";
    let all = found(&zeroed(), &kernel(&half.replace("MASK", "-1")), Kind::WarpSync, "shfl");
    assert!(all.message.contains("ended"), "{all}");
    // the mask is right, but lanes 8 to 15 read lanes 16 to 23
    let out = found(&zeroed(), &kernel(&half.replace("MASK", "0xffff")), Kind::WarpSync, "shfl");
    assert_eq!(out.place.unwrap().thread, [8, 0, 0]);
    zeroed().text(&kernel(&half.replace("MASK", "0xffff").replace("8, 31", "8, 15")), &input(32)).unwrap();
    found(&zeroed(), &kernel("shfl.sync.idx.b32 %r1, %r29, 0, 31, 0xffff;"), Kind::WarpSync, "shfl");
    let few = Run { threads: 20, ..zeroed() };
    let f = found(&few, &kernel("shfl.sync.idx.b32 %r1, %r29, 0, 31, -1;"), Kind::WarpSync, "shfl");
    assert!(f.message.contains("does not exist"), "{f}");
}

#[test]
fn copies_that_nobody_waited_for() {
    let body = |wait: &str| {
        shared(&format!(
            "mov.u64 %rd6, buf;\ncvt.u32.u64 %r1, %rd6;\nmul.lo.u32 %r2, %r29, 16;\nadd.u32 %r1, %r1, %r2;\n\
             cp.async.cg.shared.global [%r1], [%rd4], 16;\ncp.async.commit_group;\n{wait}\nxor.b32 %r3, %r2, 16;\n\
             cvt.u32.u64 %r4, %rd6;\nadd.u32 %r4, %r4, %r3;\nld.shared.u32 %r5, [%r4];"
        ))
    };
    zeroed().text(&body("cp.async.wait_group 0;\nbar.sync 0;"), &input(32)).unwrap();
    let f = found(&zeroed(), &body("bar.sync 0;"), Kind::AsyncCopy, "ld.shared");
    assert!(f.message.contains("wait_group"), "{f}");
    found(&zeroed(), &body("cp.async.wait_group 1;\nbar.sync 0;"), Kind::AsyncCopy, "ld.shared");
    // waiting is for one's own copies alone
    found(&zeroed(), &body("cp.async.wait_group 0;"), Kind::Race, "ld.shared");
}

#[test]
fn kernels_that_never_end() {
    let spin = kernel("L:\nld.volatile.global.u32 %r1, [%rd4];\nsetp.ne.u32 %p1, %r1, 7;\n@%p1 bra L;");
    found(&Run { cooperative: true, ..zeroed() }, &spin, Kind::Deadlock, "");
    let mut run = zeroed();
    run.config.limit = 100_000;
    found(&run, &kernel("L:\nbra L;"), Kind::Timeout, "bra L");
    found(&zeroed(), &kernel("trap;"), Kind::Trap, "trap");
}

#[test]
fn source_lines_and_unknown_text() {
    let text = kernel(".loc 1 42 7\nld.global.u32 %r1, [%rd4+4096];").replace(".visible", ".file 1 \"k.cu\"\n.visible");
    let f = found(&zeroed(), &text, Kind::OutOfBounds, "4096");
    assert_eq!(f.place.as_ref().unwrap().source.as_deref(), Some("k.cu:42"));
    assert!(f.to_string().contains("source k.cu:42\n  block (0, 0, 0), thread (0, 0, 0), address 0x"), "{f}");
    for (code, says) in [
        ("frobnicate.b32 %r1, %r2;", "unknown instruction frobnicate.b32"),
        ("add.s32 %r1, %rd1, 1;", "%rd1 has 64 bits"),
        ("add.wrong.s32 %r1, %r2, 1;", "`.wrong` is not known"),
        ("bra NOWHERE;", "unknown label NOWHERE"),
        ("mul.s32 %r1, %r2, %r3;", "needs .lo, .hi or .wide"),
        ("ex2.f32 %f1, %f2;", "needs .approx"),
        ("cvt.f16.f32 %rs1, %f1;", "needs a rounding mode"),
        ("add.s32 %r1, %r2;", "takes 3 operands"),
    ] {
        let text = kernel(code);
        let module = cudasim::ptx::parse(&text).unwrap();
        let error = cudasim::decode::decode(&module, &Default::default()).unwrap_err();
        assert!(error.message.contains(says), "{error}");
        assert!(text.lines().nth(error.line as usize - 1).unwrap().contains(code), "{error}");
    }
    assert!(cudasim::ptx::parse("hello").is_err());
    assert!(cudasim::ptx::parse("").is_err());
}
