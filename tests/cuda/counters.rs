//! Bounds of what kernels move and compute, at widths of the paper's model (400, 1150; few time steps and rows, so that it takes seconds).
//!
//! * memory: the sectors that a launch touches, each once, are at most 1.15 times the least that its shapes allow;
//! * requested: so are all sectors that its warps ask for, which the L2 cache serves (kernels bound by memory, not products);
//! * sectors: a request has no more sectors than its bytes fill;
//! * conflicts: shared memory has no bank conflicts;
//! * useful: of the floating-point operations of a product, 85 % or more are those of the product itself.
//!
//! Where a kernel does not keep one of them, the table says which, the bound that it does keep, and why.

use ulmfit::autodiff::{Graph, Parameters, Var};
use ulmfit::device::cuda::gemm::{Matrix, Tile, gemm_tiled};
use ulmfit::device::{DType, Device, cuda};
use ulmfit::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use ulmfit::ops::batch_norm::{Mode, batch_norm};
use ulmfit::ops::concat_pool::{Masking, concat_pool};
use ulmfit::ops::lstm::plan::{Force, force};
use ulmfit::ops::{self, Case, Data, Dropout};
use ulmfit::optim::{Adam, AdamSettings, GradientNorm, Optimiser, StepRates};
use ulmfit::random::{Direction, Key, Mask, Site, Stage};
use ulmfit::tensor::Tensor;

use super::sim::{self, Sim};

const GPU: Device = Device::Cuda(0);
/// Bytes of a sector and of a float.
const SECTOR: f64 = 32.0;
const FLOAT: usize = 4;
/// Bounds that hold where the table names no other.
const MOVED: f64 = 1.15;
const USEFUL: f64 = 0.85;

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Memory,
    Requested,
    Sectors,
}
use What::{Memory, Requested, Sectors};

/// A kernel within a case: over all of its launches there.
struct Of {
    kernel: &'static str,
    /// Bytes that must be read and written.
    least: usize,
    /// Operations of the product that it is; nothing else is bounded by memory.
    product: Option<usize>,
    exceptions: &'static [(What, f64, &'static str)],
}

fn memory(kernel: &'static str, floats: usize, exceptions: &'static [(What, f64, &'static str)]) -> Of {
    Of { kernel, least: FLOAT * floats, product: None, exceptions }
}

fn product(
    kernel: &'static str,
    floats: usize,
    multiply_adds: usize,
    exceptions: &'static [(What, f64, &'static str)],
) -> Of {
    Of { kernel, least: FLOAT * floats, product: Some(2 * multiply_adds), exceptions }
}

/// Holds the counters against the table; what is not kept goes to `failures`.
fn check(case: &str, all: &[Of], failures: &mut Vec<String>) {
    for of in all {
        let count = |name: &str| sim::counter(of.kernel, name) as f64;
        let moved = |load: &str, store: &str| SECTOR * (count(load) + count(store)) / of.least as f64;
        let sectors = count("global_load_sectors") + count("global_store_sectors");
        let mut values = vec![
            (Memory, moved("global_load_distinct", "global_store_distinct"), MOVED),
            (Sectors, sectors / (count("global_load_ideal") + count("global_store_ideal")), 1.0),
        ];
        if of.product.is_none() {
            values.push((Requested, moved("global_load_sectors", "global_store_sectors"), MOVED));
        }
        let mut line = format!("{case} {}:", of.kernel);
        let mut bad = false;
        for (what, value, bound) in values {
            let exception = of.exceptions.iter().find(|e| e.0 == what);
            let bound = exception.map_or(bound, |e| e.1);
            let within = value <= bound + 1e-9;
            // an exception that is not needed is none
            let needed = exception.is_none() || value > if what == Sectors { 1.0 } else { MOVED };
            bad |= !within || !needed;
            line += &format!(" {what:?} {value:.3} of {bound}{}", if needed { "" } else { " (needs no exception)" });
        }
        let conflicts = count("shared_wavefronts") - count("shared_ideal");
        bad |= conflicts != 0.0;
        line += &format!(" conflicts {conflicts}");
        if let Some(product) = of.product {
            let useful = product as f64 / (count("flops") + count("tensor_flops"));
            bad |= !(USEFUL..=1.0).contains(&useful);
            line += &format!(" useful {useful:.3}");
        }
        println!("{line}");
        if bad {
            failures.push(line);
        }
    }
}

fn device(tensor: &Tensor) -> Tensor {
    if tensor.dtype() == DType::U32 {
        return tensor.clone();
    }
    let copy = Tensor::zeros(tensor.shape(), DType::F32).unwrap();
    copy.set_f64(&tensor.to_f64());
    copy.to_device(GPU).unwrap()
}

/// Runs a case forward and backward once, and counts that alone.
fn run(case: &Case) {
    let mut parameters = Parameters::builder().build(DType::F32).unwrap();
    let mut g = Graph::new(GPU, DType::F32, None);
    let put = |g: &mut Graph, tensor: Tensor, differentiable: bool| {
        if differentiable { g.variable(tensor) } else { g.constant(tensor) }
    };
    let inputs: Vec<Var> =
        case.inputs.iter().map(|input| put(&mut g, device(&input.tensor), input.differentiable)).collect();
    cuda::context(0).unwrap().synchronise().unwrap();
    sim::reset_counters();
    let outputs = (case.run)(&mut g, &inputs).unwrap();
    let seeds: Vec<(Var, Tensor)> = outputs
        .into_iter()
        .map(|y| {
            let seed = Tensor::zeros(g.shape(y), DType::F32).unwrap();
            seed.set_f64(&vec![1.0; seed.len()]);
            (y, seed.to_device(GPU).unwrap())
        })
        .collect();
    g.backward_from(&seeds, &mut parameters).unwrap();
    cuda::context(0).unwrap().synchronise().unwrap();
}

fn mask(site: Site) -> Dropout {
    Dropout::random(Mask::new(Key::new(11, Stage::Other, Direction::Forward), 3, site, 0, 0.4))
}

const ROWS_OF_1150: &str = "rows of 1150 floats do not begin at a sector: a request of 128 bytes may touch five";
const CACHED_ROW: &str = "a row of the vocabulary is more than a block can keep: the second reading is the L2 cache's";
const NEIGHBOURS: &str = "steps before and after are read again by other blocks, from the L2 cache";
const BY_FEATURE: &str = "four numbers of a feature are read again in every row, from the caches";
const TWO_PASSES: &str = "the variance needs the mean: a second pass, from the caches";
const NINE_UNITS: &str = "a block owns nine units: parts of 36 bytes of every row of gates, cells and y";
const BY_TOKEN: &str =
    "a block looks for its token among all others: 4·N² bytes from the caches, and no list from the host";
const ABOVE_ZERO: &str = "only gradients of what is above zero are read, of a sector perhaps one";
const EDGES: &str = "edges of tiles at rows that do not begin at a sector";

/// Everything at once, because a process has one simulated GPU and what fails is shown together.
#[test]
fn kernels_move_and_compute_little_more_than_they_must() {
    if sim::lacks_simulator("the count of sectors and operations") {
        return;
    }
    let _sim = Sim::new("h100");
    sim::set("checks", "off");
    let mut failures = Vec::new();
    let mut data = Data::new(1);

    // embedding: T4 B64 E400, all tokens different
    let (n, e) = (256, 400);
    let tokens: Vec<u32> = (0..n as u32).map(|i| i * 7 + 2).collect();
    let inputs = vec![data.normal("w", &[2000, e], 1.0), Data::given("tokens", &[4, 64], &tokens)];
    run(&Case::new("embedding", "", inputs, |g, v| {
        let tokens = g.detach(v[1]);
        Ok(vec![ops::embedding::embedding(g, &tokens, v[0], &Dropout::Off, &mask(Site::Input), None)?])
    }));
    let table = [
        memory("embedding_forward", 2 * n * e + n, &[]),
        memory("embedding_backward", 3 * n * e + n, &[(Requested, 1.51, BY_TOKEN)]),
    ];
    check("embedding", &table, &mut failures);

    // a layer of 1150 units: T2 B64 I400
    let [t, b, i, h] = [2, 64, 400, 1150];
    run(&ops::lstm::cases::one([t, b, i, h]));
    let (rows, gates) = (t * b, 4 * h);
    let recurrent = gates * h + 2 * rows * gates + 2 * rows * h + 2 * b * h;
    let table = [
        product("gemm_nt_small", rows * i + gates * i + rows * gates, rows * gates * i, &[(Sectors, 1.1, EDGES)]),
        product("gemm_nn_small", rows * gates + gates * i + rows * i, rows * gates * i, &[]),
        product(
            "gemm_tn_large",
            rows * gates + rows * i + gates * i + rows * (gates + h) + 3 * gates * h,
            rows * gates * (i + h),
            &[(Sectors, 1.6, ROWS_OF_1150)],
        ),
        product("lstm_forward_9x64", recurrent + (t - 1) * 2 * b * h, rows * gates * h, &[(Sectors, 2.1, NINE_UNITS)]),
        product("lstm_backward_9x64", recurrent + 3 * b * h, rows * gates * h, &[(Sectors, 1.6, NINE_UNITS)]),
        memory("mask_multiply", 2 * gates * h, &[(Requested, 1.3, ROWS_OF_1150)]),
        memory("column_sums", rows * gates + gates, &[]),
    ];
    check("lstm 1150", &table, &mut failures);

    // the same by the step-wise plan, of 400 units
    let [t, b, i, h] = [2, 64, 400, 400];
    force(Some(Force::StepWise));
    run(&ops::lstm::cases::one([t, b, i, h]));
    force(None);
    let (rows, gates) = (t * b, 4 * h);
    let table = [
        product("lstm_step", t * (gates * h + 2 * b * gates + 4 * b * h), rows * gates * h, &[]),
        memory("lstm_cell_backward", rows * (2 * gates + 6 * h), &[]),
        memory("mask_multiply", 6 * gates * h, &[]),
    ];
    check("lstm 400, step-wise", &table, &mut failures);

    // the softmax over a vocabulary
    let (n, v, e) = (256, 2000, 400);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 5 % v as u32).collect();
    let inputs = vec![data.normal("x", &[n, e], 0.1), data.normal("w", &[v, e], 0.1), data.normal("b", &[v], 0.1)];
    run(&Case::new("tied_softmax", "", inputs, move |g, x| {
        let targets = Tensor::from_slice([n], &targets).unwrap();
        Ok(vec![ops::tied_softmax::tied_softmax(g, x[0], x[1], Some(x[2]), &targets)?.loss])
    }));
    let table =
        [memory("softmax_rows", 2 * n * v, &[(Requested, 1.54, CACHED_ROW)]), memory("column_sums", n * v + v, &[])];
    check("tied_softmax", &table, &mut failures);

    // activations: T16 B32 E400
    let n = 16 * 32 * 400;
    let inputs = vec![data.normal("h", &[16, 32, 400], 1.0), data.normal("dropped", &[16, 32, 400], 1.0)];
    let r = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };
    run(&Case::new("activation_regularisation", "", inputs, move |g, v| {
        Ok(vec![activation_regularisation(g, &v[..1], &v[1..], r)?])
    }));
    let table = [
        memory("regularisation_squares", n, &[]),
        memory("regularisation_squares_backward", 2 * n, &[]),
        memory("regularisation_differences", n, &[(Requested, 2.0, NEIGHBOURS)]),
        memory("regularisation_differences_backward", 2 * n, &[(Requested, 2.1, NEIGHBOURS)]),
    ];
    check("activation_regularisation", &table, &mut failures);

    let inputs = vec![data.normal("x", &[16, 32, 400], 1.0)];
    run(&Case::new("locked_dropout", "", inputs, |g, v| {
        let y = ops::locked_dropout::locked_dropout(g, v[0], &mask(Site::Input))?;
        Ok(vec![ops::relu::relu(g, y)?])
    }));
    let table = [
        memory("mask_multiply", 4 * n, &[]),
        memory("relu_forward", 2 * n, &[]),
        memory("relu_backward", 3 * n, &[(Sectors, 1.25, ABOVE_ZERO)]),
    ];
    check("locked_dropout, relu", &table, &mut failures);

    // a classifier: documents of 16 steps, pooled; batch norm over 64 rows of 1200
    let (t, b, e) = (16, 32, 400);
    let inputs = vec![
        data.normal("x", &[t, b, e], 1.0),
        Data::given("lengths", &[b], &vec![t as u32; b]),
        Data::given("first", &[b], &vec![0; b]),
    ];
    run(&Case::new("concat_pool", "", inputs, |g, v| {
        Ok(vec![concat_pool(g, &v[..1], 0, v[1], v[2], Masking::Version2)?])
    }));
    let table = [
        memory("concat_pool_forward", t * b * e + 4 * b * e, &[]),
        memory("concat_pool_backward", t * b * e + 4 * b * e, &[]),
    ];
    check("concat_pool", &table, &mut failures);

    let (b, f) = (64, 1200);
    let inputs = vec![data.normal("x", &[b, f], 1.0), data.normal("weight", &[f], 1.0), data.normal("bias", &[f], 1.0)];
    let running = [0.0, 1.0].map(|value| device(&Tensor::from_slice([f], &vec![value; f]).unwrap()));
    run(&Case::new("batch_norm", "", inputs, move |g, v| {
        Ok(vec![batch_norm(g, v[0], v[1], v[2], &running[0], &running[1], Mode::Train)?])
    }));
    let table = [
        memory("batch_norm_statistics", b * f + 6 * f, &[(Requested, 2.0, TWO_PASSES)]),
        memory("batch_norm_forward", 2 * b * f + 4 * f, &[(Requested, 3.0, BY_FEATURE)]),
        memory("batch_norm_sums", 2 * b * f + 4 * f, &[]),
        memory("batch_norm_backward", 3 * b * f + 5 * f, &[(Requested, 2.7, BY_FEATURE)]),
    ];
    check("batch_norm", &table, &mut failures);

    update(&mut failures);
    products(&mut failures);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// An update of a million parameters.
fn update(failures: &mut Vec<String>) {
    let n = 1 << 20;
    let mut builder = Parameters::builder();
    builder.add("w", &[n], 0);
    let mut parameters = builder.build_on(GPU, DType::F32).unwrap();
    parameters.set_frozen(0, false);
    parameters.zero_missing_gradients();
    let mut adam = Adam::new(&parameters, AdamSettings { beta2: 0.99, eps: 1e-7, decoupled: true }).unwrap();
    let mut norm = GradientNorm::new(&parameters).unwrap();
    sim::reset_counters();
    norm.compute(&parameters).unwrap();
    let rates = StepRates { lr: &[0.1], momentum: 0.9, weight_decay: &[0.01], gradient_scale: 1.0 };
    adam.step(&mut parameters, &rates).unwrap();
    cuda::context(0).unwrap().synchronise().unwrap();
    check("update", &[memory("adam_update", 7 * n, &[]), memory("squares", n, &[])], failures);
}

/// Every transposition and tile, of edges that tiles fill.
fn products(failures: &mut Vec<String>) {
    let context = cuda::context(0).unwrap();
    let [m, n, k] = [128, 256, 96];
    for (small, large, ta, tb) in [
        ("gemm_nn_small", "gemm_nn_large", false, false),
        ("gemm_nt_small", "gemm_nt_large", false, true),
        ("gemm_tn_small", "gemm_tn_large", true, false),
        ("gemm_tt_small", "gemm_tt_large", true, true),
    ] {
        let make = |rows, columns| device(&Data::new(1).normal("", &[rows, columns], 1.0).tensor);
        let (a, b, c) = (make(m, k), make(k, n), make(m, n));
        for (kernel, tile) in [(small, Tile::Small), (large, Tile::Large)] {
            let x = if ta { Matrix::new(a.argument(), k, m).t() } else { Matrix::new(a.argument(), m, k) };
            let y = if tb { Matrix::new(b.argument(), n, k).t() } else { Matrix::new(b.argument(), k, n) };
            sim::reset_counters();
            gemm_tiled(context, tile, x, y, None, c.argument(), ulmfit::device::cpu::gemm::Store::Set).unwrap();
            context.synchronise().unwrap();
            check("product", &[product(kernel, m * k + k * n + m * n, m * n * k, &[])], failures);
        }
    }
}
