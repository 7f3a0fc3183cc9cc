//! Whole programs through unmodified cudarc, with kernels compiled by clang
//! (tests/kernels/build.sh).

mod support;

use cudarc::driver::sys::{CUfunction_attribute, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use support::{Sim, counter, counters_json, findings, numbers, reset_counters, set};

const VECTOR_ADD: &str = include_str!("kernels/vector_add.ptx");
const SGEMM: &str = include_str!("kernels/sgemm.ptx");
const BF16_MMA: &str = include_str!("kernels/bf16_mma.ptx");
const LSTM: &str = include_str!("kernels/persistent_lstm.ptx");

fn config(grid: (u32, u32), threads: u32, shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared }
}

#[test]
fn the_device_is_the_one_chosen() {
    for (key, name, sms, shared, cc) in [
        ("v100", "V100", 80, 98304, (7, 0)),
        ("a100", "A100", 108, 166912, (8, 0)),
        ("h100", "H100", 132, 232448, (9, 0)),
        ("rtx4090", "4090", 128, 101376, (8, 9)),
    ] {
        let sim = Sim::new(key);
        assert_eq!(CudaContext::device_count().unwrap(), 1);
        assert!(sim.context.name().unwrap().contains(name));
        assert_eq!(sim.context.compute_capability().unwrap(), cc);
        let attribute = |a: u32| {
            // SAFETY: every number used here is an attribute.
            sim.context
                .attribute(unsafe { std::mem::transmute::<u32, cudarc::driver::sys::CUdevice_attribute>(a) })
                .unwrap()
        };
        assert_eq!((attribute(16), attribute(97), attribute(95)), (sms, shared, 1));
    }
}

#[test]
fn vector_add_is_exact() {
    let sim = Sim::new("v100");
    let stream = sim.context.default_stream();
    let f = sim.function(VECTOR_ADD, "vector_add");
    let n = 1000usize;
    let (a, b) = (numbers(n, 1), numbers(n, 2));
    let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
    let mut dc = stream.alloc_zeros::<f32>(n).unwrap();
    reset_counters();
    let count = n as u32;
    let mut launch = stream.launch_builder(&f);
    launch.arg(&da).arg(&db).arg(&mut dc).arg(&count);
    // SAFETY: the arguments are those of the kernel.
    unsafe { launch.launch(config((4, 1), 256, 0)) }.unwrap();
    let c = stream.clone_dtoh(&dc).unwrap();
    assert!((0..n).all(|i| c[i] == a[i] + b[i]));
    assert_eq!(counter("vector_add", "flops"), 1000);
    assert_eq!(counter("vector_add", "threads"), 1024);
    assert_eq!(counter("vector_add", "global_load_requests"), 2 * 32);
    // 31 full warps of 4 sectors, one of 8 lanes with 1
    assert_eq!(counter("vector_add", "global_load_sectors"), 2 * 125);
    assert_eq!(counter("vector_add", "global_store_bytes"), 4000);
    let json: serde_json::Value = serde_json::from_str(&counters_json()).unwrap();
    assert_eq!(json["vector_add"]["instructions_global_load"], 2000);
}

#[test]
fn atomic_sums_depend_on_the_seed_and_on_nothing_else() {
    let sim = Sim::new("v100");
    let stream = sim.context.default_stream();
    let f = sim.function(VECTOR_ADD, "sum_atomic");
    let n = 4096u32;
    let a = stream.clone_htod(&numbers(n as usize, 3)).unwrap();
    let sum = || {
        let mut out = stream.alloc_zeros::<f32>(1).unwrap();
        let mut launch = stream.launch_builder(&f);
        launch.arg(&a).arg(&mut out).arg(&n);
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch(config((16, 1), 256, 0)) }.unwrap();
        stream.clone_dtoh(&out).unwrap()[0]
    };
    let exact: f64 = numbers(n as usize, 3).iter().map(|&x| f64::from(x)).sum();
    let sums: Vec<f32> = (0..8).map(|_| sum()).collect();
    assert!(sums.iter().all(|s| (f64::from(*s) - exact).abs() < 1e-3));
    assert!(sums.iter().any(|s| s != &sums[0]), "eight launches summed in the same order");
}

#[test]
fn sgemm_with_ragged_edges() {
    let sim = Sim::new("h100");
    let stream = sim.context.default_stream();
    let f = sim.function(SGEMM, "sgemm");
    let (m, n, k) = (70u32, 65u32, 33u32);
    let (a, b) = (numbers((m * k) as usize, 1), numbers((k * n) as usize, 2));
    let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
    // SAFETY: the kernel writes all of it, and the simulator would see a read of what it did not.
    let mut dc = unsafe { stream.alloc::<f32>((m * n) as usize) }.unwrap();
    reset_counters();
    let mut launch = stream.launch_builder(&f);
    launch.arg(&da).arg(&db).arg(&mut dc).arg(&m).arg(&n).arg(&k);
    // SAFETY: the arguments are those of the kernel.
    unsafe { launch.launch(config((2, 2), 256, 0)) }.unwrap();
    let c = stream.clone_dtoh(&dc).unwrap();
    for i in 0..m as usize {
        for j in 0..n as usize {
            let want: f64 =
                (0..k as usize).map(|q| f64::from(a[i * k as usize + q]) * f64::from(b[q * n as usize + j])).sum();
            assert!((want - f64::from(c[i * n as usize + j])).abs() < 1e-5);
        }
    }
    // 4 blocks, 3 steps of 16, 16 fma a thread and q
    assert_eq!(counter("sgemm", "flops"), 2 * 4 * 256 * 3 * 16 * 16);
    assert_eq!(counter("sgemm", "barriers"), 4 * 3 * 2);
}

#[test]
fn bf16_mma_with_ldmatrix_and_cp_async() {
    let sim = Sim::new("a100");
    let stream = sim.context.default_stream();
    let f = sim.function(BF16_MMA, "bf16_mma");
    let (m, n, k) = (64u32, 32u32, 96u32);
    // small whole numbers: every product and sum is exact
    let whole =
        |len: u32, seed| -> Vec<f32> { numbers(len as usize, seed).iter().map(|x| (x * 8.0).round()).collect() };
    let bits = |v: &[f32]| -> Vec<u16> { v.iter().map(|x| (x.to_bits() >> 16) as u16).collect() };
    let (a, b) = (whole(m * k, 1), whole(n * k, 2));
    let (da, db) = (stream.clone_htod(&bits(&a)).unwrap(), stream.clone_htod(&bits(&b)).unwrap());
    // SAFETY: as above.
    let mut dc = unsafe { stream.alloc::<f32>((m * n) as usize) }.unwrap();
    reset_counters();
    let mut launch = stream.launch_builder(&f);
    launch.arg(&da).arg(&db).arg(&mut dc).arg(&m).arg(&n).arg(&k);
    // SAFETY: the arguments are those of the kernel.
    let run = unsafe { launch.launch(config((n / 32, m / 32), 128, 0)) };
    assert!(run.is_ok(), "{:#?}", findings());
    let c = stream.clone_dtoh(&dc).unwrap();
    for i in 0..m as usize {
        for j in 0..n as usize {
            let want: f32 = (0..k as usize).map(|q| a[i * k as usize + q] * b[j * k as usize + q]).sum();
            assert_eq!(want, c[i * n as usize + j], "row {i} column {j}");
        }
    }
    assert_eq!(counter("bf16_mma", "tensor_flops"), u64::from(2 * m * n * k));
    // ldmatrix reads padded rows without conflicts; of the 48 copies each quarter warp writes two
    // rows that share four banks
    assert_eq!(counter("bf16_mma", "shared_wavefronts"), counter("bf16_mma", "shared_ideal") + 48 * 4);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

struct Lstm {
    steps: u32,
    batch: u32,
    hidden: u32,
    units: u32,
}

/// Runs the kernel, and compares with f64 unless it fails.
fn lstm(sim: &Sim, p: &Lstm, no_barrier: u32) -> Result<f64, CUresult> {
    let stream = sim.context.default_stream();
    let f = sim.function(LSTM, "persistent_lstm");
    let &Lstm { steps, batch, hidden, units } = p;
    let (s, b, h) = (steps as usize, batch as usize, hidden as usize);
    let (x, w) = (numbers(s * b * 4 * h, 1), numbers(4 * h * h, 2));
    let (dx, dw) = (stream.clone_htod(&x).unwrap(), stream.clone_htod(&w).unwrap());
    let mut dh = stream.alloc_zeros::<f32>(2 * b * h).unwrap();
    // SAFETY: the kernel writes all of both.
    let (mut dc, mut out) = unsafe { (stream.alloc::<f32>(b * h).unwrap(), stream.alloc::<f32>(s * b * h).unwrap()) };
    let mut counter = stream.alloc_zeros::<u32>(1).unwrap();
    let shared = 4 * units * hidden * 4;
    f.set_attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared as i32).unwrap();
    let mut launch = stream.launch_builder(&f);
    launch.arg(&dx).arg(&dw).arg(&mut dh).arg(&mut dc).arg(&mut out).arg(&mut counter);
    launch.arg(&steps).arg(&batch).arg(&hidden).arg(&units).arg(&no_barrier);
    // SAFETY: the arguments are those of the kernel.
    unsafe { launch.launch_cooperative(config((hidden / units, 1), units * batch, shared)) }.map_err(|e| e.0)?;
    let got = stream.clone_dtoh(&out).unwrap();
    let (mut hs, mut cs) = (vec![0f64; b * h], vec![0f64; b * h]);
    let mut worst = 0f64;
    for t in 0..s {
        let before = hs.clone();
        for r in 0..b {
            for u in 0..h {
                let g: Vec<f64> = (0..4)
                    .map(|g| {
                        let dot: f64 = (0..h).map(|q| f64::from(w[(g * h + u) * h + q]) * before[r * h + q]).sum();
                        f64::from(x[((t * b + r) * 4 + g) * h + u]) + dot
                    })
                    .collect();
                let c = sigmoid(g[1]) * cs[r * h + u] + sigmoid(g[0]) * g[2].tanh();
                cs[r * h + u] = c;
                hs[r * h + u] = sigmoid(g[3]) * c.tanh();
                worst = worst.max((hs[r * h + u] - f64::from(got[(t * b + r) * h + u])).abs());
            }
        }
    }
    Ok(worst)
}

#[test]
fn persistent_lstm_with_a_grid_barrier() {
    let sim = Sim::new("h100");
    for seed in ["1", "2", "3"] {
        set("seed", seed);
        let worst = lstm(&sim, &Lstm { steps: 5, batch: 8, hidden: 48, units: 8 }, 0);
        let worst = worst.unwrap_or_else(|e| panic!("{e:?} {:#?}", findings()));
        assert!(worst < 1e-6, "{worst}");
    }
}

#[test]
fn a_missing_grid_barrier_is_a_race() {
    for seed in ["1", "2", "3", "4", "5"] {
        // an error stays with the context
        let sim = Sim::new("h100");
        set("seed", seed);
        let code = lstm(&sim, &Lstm { steps: 3, batch: 8, hidden: 48, units: 8 }, 1).unwrap_err();
        assert_eq!(code, CUresult::CUDA_ERROR_LAUNCH_FAILED);
        let found = findings();
        assert!(found[0].contains("race") && found[0].contains("no grid barrier"), "{}", found[0]);
        assert!(found[0].contains("persistent_lstm.cu:"), "{}", found[0]);
    }
}

#[test]
fn a_captured_graph_replays() {
    let sim = Sim::new("a100");
    let before = support::leaks();
    let stream = sim.context.new_stream().unwrap();
    let f = sim.function(VECTOR_ADD, "vector_add");
    let n = 256u32;
    let mut a = stream.clone_htod(&vec![1f32; 256]).unwrap();
    let b = stream.clone_htod(&vec![2f32; 256]).unwrap();
    let mut c = stream.alloc_zeros::<f32>(256).unwrap();
    let mut d = stream.alloc_zeros::<f32>(256).unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    for (x, y, z) in [(&a, &b, &mut c), (&a, &b, &mut d)] {
        let mut launch = stream.launch_builder(&f);
        launch.arg(x).arg(y).arg(z).arg(&n);
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch(config((1, 1), 256, 0)) }.unwrap();
    }
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&c).unwrap()[0], 0.0, "capturing runs nothing");
    graph.launch().unwrap();
    assert_eq!(stream.clone_dtoh(&c).unwrap(), vec![3f32; 256]);
    stream.memcpy_htod(&vec![10f32; 256], &mut a).unwrap();
    graph.launch().unwrap();
    stream.synchronize().unwrap();
    assert_eq!(stream.clone_dtoh(&c).unwrap(), vec![12f32; 256]);
    assert_eq!(stream.clone_dtoh(&d).unwrap(), vec![12f32; 256]);
    assert!(support::leaks().lines().count() > before.lines().count());
    drop((graph, a, b, c, d, f, stream));
    assert_eq!(support::leaks(), before, "everything was given back");
}

#[test]
fn waiting_inside_a_capture_spoils_it() {
    let sim = Sim::new("a100");
    let stream = sim.context.new_stream().unwrap();
    let mut a = stream.alloc_zeros::<f32>(4).unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    stream.memset_zeros(&mut a).unwrap();
    let wait = stream.synchronize().unwrap_err();
    assert_eq!(wait.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let end = stream.end_capture(CUgraphInstantiate_flags(0)).map(|_| ()).unwrap_err();
    assert_eq!(end.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}
