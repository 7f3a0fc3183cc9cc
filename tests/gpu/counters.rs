//! Bounds of what kernels move and compute, at widths of the paper's model (400, 1150; few time
//! steps and rows, so that it takes seconds).
//!
//! * memory: the sectors that a launch touches, each once, are at most 1.15 times the least that
//!   its shapes allow;
//! * requested: so are all sectors that its warps ask for, which the L2 cache serves (kernels bound
//!   by memory, not products);
//! * sectors: a request has no more sectors than its bytes fill;
//! * conflicts: shared memory has no bank conflicts;
//! * useful: of the floating-point operations of a product, 85 % or more are those of the product
//!   itself.
//!
//! Where a kernel does not keep one of them, the table says which, the bound that it does keep, and
//! why.

use std::collections::BTreeSet;

use ulmfit::autodiff::{Graph, Parameters, Var};
use ulmfit::device::cuda::gemm::{Matrix, ROW_PART, Split, Tile, gemm_tiled};
use ulmfit::device::{DType, Device, Precision, cuda};
use ulmfit::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use ulmfit::ops::adaptive_softmax::AdaptiveDecoder;
use ulmfit::ops::batch_norm::{Mode, batch_norm};
use ulmfit::ops::concat_pool::{Masking, concat_pool};
use ulmfit::ops::lstm::plan::{Force, force};
use ulmfit::ops::{self, Case, Data, Dropout};
use ulmfit::optim::{Adam, AdamSettings, Asgd, AsgdSettings, GradientNorm, Optimiser, Sgd, SgdSettings, StepRates};
use ulmfit::random::{Key, Mask, Site};
use ulmfit::tensor::Tensor;

use crate::sim::{self, Sim};

mod bf16;

const GPU: Device = Device::Cuda(0);
/// Bytes of a sector and of a float.
const SECTOR: f64 = 32.0;
const FLOAT: usize = 4;
/// Bounds that hold where the table names no other.
const MOVED: f64 = 1.15;
const USEFUL: f64 = 0.85;

/// The counters that are bounded.
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
    /// Bound on memory and requests.
    most: f64,
    exceptions: &'static [(What, f64, &'static str)],
}

fn memory(kernel: &'static str, floats: usize, exceptions: &'static [(What, f64, &'static str)]) -> Of {
    Of { kernel, least: FLOAT * floats, product: None, most: MOVED, exceptions }
}

/// As [`memory`], within 1.1 of the least.
fn tight(kernel: &'static str, floats: usize, exceptions: &'static [(What, f64, &'static str)]) -> Of {
    Of { most: 1.1, ..memory(kernel, floats, exceptions) }
}

fn product(
    kernel: &'static str,
    floats: usize,
    multiply_adds: usize,
    exceptions: &'static [(What, f64, &'static str)],
) -> Of {
    Of { kernel, least: FLOAT * floats, product: Some(2 * multiply_adds), most: MOVED, exceptions }
}

/// The bytes that a product `[m, n, k]` writes beside its result: the matrices of its other parts.
fn of_parts(precision: Precision, [m, n, k]: [usize; 3]) -> usize {
    (Split::choose(cuda::context(0).unwrap(), precision, [m, n, k]).count - 1) * m * n
}

/// The bytes that adding them up moves: all parts are read, the sum is written.
fn added_parts(precision: Precision, [m, n, k]: [usize; 3]) -> usize {
    match of_parts(precision, [m, n, k]) {
        0 => 0,
        others => others + 2 * m * n,
    }
}

/// The bytes that the cells of the step-wise backward read beside one gradient of h: those that
/// blocks have of their parts of the product (see `Split`).
fn other_parts(precision: Precision, [t, b, h]: [usize; 3]) -> usize {
    let split = Split::choose(cuda::context(0).unwrap(), precision, [b, h, 4 * h]);
    (split.count - 1) * (t - 1) * b * h
}

/// Holds the counters against the table; what is not kept goes to `failures`.
fn check(case: &str, all: &[Of], failures: &mut Vec<String>) {
    for of in all {
        let count = |name: &str| sim::counter(of.kernel, name) as f64;
        let moved = |load: &str, store: &str| SECTOR * (count(load) + count(store)) / of.least as f64;
        let sectors = count("global_load_sectors") + count("global_store_sectors");
        let mut values = vec![
            (Memory, moved("global_load_distinct", "global_store_distinct"), of.most),
            (Sectors, sectors / (count("global_load_ideal") + count("global_store_ideal")), 1.0),
        ];
        if of.product.is_none() {
            values.push((Requested, moved("global_load_sectors", "global_store_sectors"), of.most));
        }
        let mut line = format!("{case} {}:", of.kernel);
        let mut bad = false;
        for (what, value, bound) in values {
            let exception = of.exceptions.iter().find(|e| e.0 == what);
            let bound = exception.map_or(bound, |e| e.1);
            let within = value <= bound + 1e-9;
            // an exception that is not needed is none
            let needed = exception.is_none() || value > if what == Sectors { 1.0 } else { of.most };
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
    run_in(Precision::Full, case);
}

fn run_in(precision: Precision, case: &Case) {
    let mut parameters = Parameters::builder().build(DType::F32).unwrap();
    let mut g = Graph::new(GPU, DType::F32, None).with_precision(precision);
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

fn mask_of(site: Site) -> Mask {
    Mask::new(Key::apart(11), 3, site, 0, 0.4)
}

fn mask(site: Site) -> Dropout {
    Dropout::random(mask_of(site))
}

const ROWS_OF_1150: &str = "rows of 1150 floats do not begin at a sector: a request of 128 bytes may touch five";
const PARTS: &str =
    "what is told about a row and a tile has 16 bytes, half a sector: the other half is of another block";
const HEAD_ROWS: &str = "the head has a column for each tail beside its words: its rows do not begin at a sector";
const NEIGHBOURS: &str = "steps before and after are read again by other blocks, from the L2 cache";
const BY_FEATURE: &str = "four numbers of a feature are read again in every row, from the caches";
const TWO_PASSES: &str = "the variance needs the mean: a second pass, from the caches";
const NINE_UNITS: &str = "a block owns nine units: parts of 36 bytes of every row of gates, cells and y";
const ABOVE_ZERO: &str = "only gradients of what is above zero are read, of a sector perhaps one";
const BIAS: &str = "a bias may begin anywhere, as that of a tail: its floats are read one by one";
const AGAIN: &str = "the row of a word that stands often is read again at each place, from the caches";
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

    embeddings(&mut failures);

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
        memory("lstm_cell_backward", rows * (2 * gates + 6 * h) + other_parts(Precision::Full, [t, b, h]), &[]),
        memory("mask_multiply", 6 * gates * h, &[]),
    ];
    check("lstm 400, step-wise", &table, &mut failures);

    qrnn(&mut failures);

    // the softmax over a vocabulary
    let (n, v, e) = (256, 2000, 400);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 5 % v as u32).collect();
    let inputs = vec![data.normal("x", &[n, e], 0.1), data.normal("w", &[v, e], 0.1), data.normal("b", &[v], 0.1)];
    run(&Case::new("tied_softmax", "", inputs, move |g, x| {
        let targets = Tensor::from_slice([n], &targets).unwrap();
        Ok(vec![ops::tied_softmax::tied_softmax(g, x[0], x[1], Some(x[2]), &targets)?.loss])
    }));
    let table = [
        product("logits_small", n * e + v * e + n * v + v + n + told(n, v), n * v * e, &[(Sectors, 1.01, PARTS)]),
        memory("softmax_rows", 2 * n * v + told(n, v) + 3 * n, &[]),
        memory("column_sums", n * v + v, &[]),
    ];
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
        let y = ops::locked_dropout::locked_dropout(g, v[0], &mask(Site::new(2)))?;
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

    linear(&mut failures);
    sampled_softmax(&mut failures);
    adaptive_softmax(&mut failures);
    updates(&mut failures);
    products(&mut failures);
    bf16::products(&mut failures);
    bf16::of_a_step(&mut failures);
    bf16::operations(&mut failures);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// fo-pooling of 1152 units (rows of gates begin at a sector), of 1150, and a window of two: T6 B32
/// I400.
fn qrnn(failures: &mut Vec<String>) {
    for (h, uneven) in [(1152, false), (1150, true)] {
        let [t, b] = [6, 32];
        run(&ops::forget_mult::cases::one([t, b, h]));
        let (n, states) = (t * b * h, b * h);
        let exceptions: [&[_]; 2] = match uneven {
            true => {
                [&[(Sectors, 1.11, ROWS_OF_1150)], &[(Sectors, 1.13, ROWS_OF_1150), (Requested, 1.13, ROWS_OF_1150)]]
            }
            false => [&[], &[]],
        };
        let table = [
            tight("forget_mult_forward", 5 * n + states, exceptions[0]),
            // beside what every step has: the last state, its gradient, and that of c0
            tight("forget_mult_backward", 8 * n + 3 * states, exceptions[1]),
        ];
        check(&format!("forget_mult {h}"), &table, failures);
    }
    let [t, b, i] = [6, 32, 400];
    let mut data = Data::new(1);
    let inputs = vec![data.normal("x", &[t, b, i], 1.0), data.normal("before", &[b, i], 1.0)];
    run(&Case::new("with_previous", "", inputs, |g, v| Ok(vec![ops::with_previous::with_previous(g, v[0], v[1])?])));
    let n = t * b * i;
    let table = [
        tight("with_previous_forward", 3 * n + b * i, &[]),
        // the right half of the first step is the gradient of what was before
        tight("with_previous_backward", 3 * n - b * i, &[]),
        tight("with_previous_backward_first", 2 * b * i, &[]),
    ];
    check("with_previous", &table, failures);
}

/// A window of the paper's model, T70 B64 E400: with all words different, and with words as
/// frequent as those of a text.
fn embeddings(failures: &mut Vec<String>) {
    let (t, b, e, v) = (70, 64, 400, 5000);
    let n = t * b;
    let different: Vec<u32> = (0..n as u32).map(|i| i * 7 % v + 2).collect();
    // the r-th word about 1/r of the time
    let frequent = (0..n).map(|i| f64::from(v).powf((i as f64 * 0.618_034).fract()) as u32).collect();
    for (name, tokens, again) in [
        ("embedding, all words different", different, &[][..]),
        ("embedding, frequent words", frequent, &[(Requested, 1.65, AGAIN)]),
    ] {
        let different = |tokens: &[u32]| tokens.iter().collect::<BTreeSet<_>>().len();
        // a dropped word has no gradient
        let kept: Vec<u32> = tokens.iter().copied().filter(|&token| mask_of(Site::new(1)).keeps(token, 0)).collect();
        let (words, kept_words) = (different(&tokens), different(&kept));
        let inputs = vec![Data::new(1).normal("w", &[v as usize + 2, e], 1.0), Data::given("tokens", &[t, b], &tokens)];
        run(&Case::new("embedding", "", inputs, |g, x| {
            let tokens = g.detach(x[1]);
            Ok(vec![ops::embedding::embedding(g, &tokens, x[0], &mask(Site::new(1)), &mask(Site::new(2)), None)?])
        }));
        let table = [
            memory("embedding_forward", n * e + words * e + n, again),
            memory("embedding_backward", kept.len() * e + 2 * kept_words * e + 2 * n, &[]),
        ];
        check(name, &table, failures);
    }
}

/// The first layer of a classifier's head, for 128 documents: 1200 to 64 features (the paper's 50
/// leave a fifth of a tile of 64 idle).
fn linear(failures: &mut Vec<String>) {
    let [n, i, o] = [128, 1200, 64];
    let mut data = Data::new(1);
    let inputs = vec![data.normal("x", &[n, i], 1.0), data.normal("w", &[o, i], 0.1), data.normal("b", &[o], 0.1)];
    run(&Case::new("linear", "", inputs, |g, x| Ok(vec![ops::linear::linear(g, x[0], x[1], Some(x[2]))?])));
    let least = n * i + o * i + n * o;
    let table = [
        product("gemm_nt_small", least + o, n * o * i, &[(Sectors, 1.03, BIAS)]),
        product("gemm_nn_small", least, n * o * i, &[]),
        product("gemm_tn_small", least, n * o * i, &[]),
        memory("column_sums", n * o + o, &[]),
    ];
    check("linear", &table, failures);
}

/// Words that a product by small tiles tells about rows of logits.
pub fn told(rows: usize, words: usize) -> usize {
    rows * words.div_ceil(Tile::Small.edges()[1]) * ROW_PART
}

/// Targets and negatives of rows: some targets are negatives, and some stand more than once.
fn sampled_words([n, k, v]: [usize; 3]) -> (Vec<u32>, Vec<u32>) {
    ((0..n as u32).map(|i| i * i % v as u32).collect(), (0..k as u32).map(|i| i * 3).collect())
}

fn sampled([n, k, v, e]: [usize; 4]) -> Case {
    let mut data = Data::new(1);
    let (targets, negatives) = sampled_words([n, k, v]);
    let inputs = vec![data.normal("hidden", &[n, e], 1.0), data.normal("weight", &[v, e], 0.1)];
    Case::new("sampled_softmax", "", inputs, move |g, x| {
        let (targets, negatives) = (Tensor::from_slice([n], &targets)?, Tensor::from_slice([k], &negatives)?);
        Ok(vec![ops::sampled_softmax::sampled_softmax(g, x[0], x[1], None, &targets, &negatives)?.loss])
    })
}

/// 256 rows against 512 negatives of 2000 words, E400.
fn sampled_softmax(failures: &mut Vec<String>) {
    let [n, k, v, e] = [256, 512, 2000, 400];
    let (targets, negatives) = sampled_words([n, k, v]);
    let different = |words: &[u32]| words.iter().collect::<BTreeSet<_>>().len();
    let (of_targets, all) = (different(&targets), different(&[&negatives[..], &targets].concat()));
    run(&sampled([n, k, v, e]));
    let least = n * e + k * e + n * k;
    let table = [
        memory("gather_rows", 2 * k * e + k, &[]),
        product("logits_small", least + told(n, k), n * k * e, &[(Sectors, 1.01, PARTS)]),
        memory("sampled_rows", 2 * n * k + told(n, k) + n * e + of_targets * e + 3 * n, &[]),
        product("gemm_nn_small", least + of_parts(Precision::Full, [n, e, k]), n * k * e, &[]),
        memory("add_parts", added_parts(Precision::Full, [n, e, k]), &[]),
        memory("add_targets", 2 * n * e + of_targets * e + 2 * n, &[]),
        product("gemm_tn_small", least, n * k * e, &[]),
        memory("put_times", 2 * n * e + 1, &[]),
        memory("scatter_words", n * e + k * e + 2 * all * e + 3 * n + 2 * k, &[]),
    ];
    check("sampled_softmax", &table, failures);
}

/// A quarter of the targets in each of two tails, the others in the head.
fn tailed_targets(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| [i, 1100 + i, 500 + i, 3000 + i][i as usize % 4]).collect()
}

fn adaptive([n, v, e]: [usize; 3], splits: &'static [usize]) -> Case {
    let mut data = Data::new(1);
    let inputs = vec![
        data.normal("hidden", &[n, e], 1.0),
        data.normal("weight", &[v, e], 0.1),
        data.normal("bias", &[v], 0.1),
        data.normal("tail_vectors", &[2, e], 0.1),
        data.normal("tail_bias", &[2], 0.1),
    ];
    Case::new("adaptive_softmax", "", inputs, move |g, x| {
        let targets = Tensor::from_slice([n], &tailed_targets(n))?;
        let decoder = AdaptiveDecoder { weight: x[1], bias: Some(x[2]), tails: Some((x[3], Some(x[4]))), splits };
        Ok(vec![ops::adaptive_softmax::adaptive_softmax(g, x[0], decoder, &targets)?.loss])
    })
}

/// 256 rows over 4096 words, of which 1024 are in the head, with two tails, E400; then their
/// log-probabilities, and what an evaluation makes of them.
fn adaptive_softmax(failures: &mut Vec<String>) {
    let splits = &[1024, 2048];
    let [n, v, e] = [256, 4096, 400];
    let head = splits[0] + splits.len();
    let case = adaptive([n, v, e], splits);
    run(&case);
    // rows and words of the three parts
    let parts = [(n, head), (n / 4, splits[1] - splits[0]), (n / 4, v - splits[1])];
    let sum = |f: &dyn Fn(usize, usize) -> usize| parts.iter().map(|&(rows, width)| f(rows, width)).sum::<usize>();
    let least = sum(&|rows, width| rows * e + width * e + rows * width);
    let multiply_adds = sum(&|rows, width| rows * width * e);
    let rows = sum(&|rows, _| rows);
    let table = [
        memory("gather_rows", rows * (2 * e + 1), &[]),
        product("logits_small", least + sum(&told), multiply_adds, &[(Sectors, 1.06, HEAD_ROWS)]),
        memory(
            "softmax_rows",
            sum(&|rows, width| 2 * rows * width + told(rows, width) + 3 * rows),
            &[(Sectors, 1.03, HEAD_ROWS)],
        ),
        product(
            "gemm_nn_small",
            least + sum(&|rows, width| of_parts(Precision::Full, [rows, e, width])),
            multiply_adds,
            &[(Sectors, 1.23, HEAD_ROWS)],
        ),
        memory("add_parts", sum(&|rows, width| added_parts(Precision::Full, [rows, e, width])), &[]),
        memory("add_rows", rows * (3 * e + 1), &[]),
        product("gemm_tn_small", least, multiply_adds, &[(Sectors, 1.05, HEAD_ROWS)]),
        memory("column_sums", sum(&|rows, width| rows * width + width), &[(Sectors, 1.11, HEAD_ROWS)]),
    ];
    check("adaptive_softmax", &table, failures);

    let mut g = Graph::new(GPU, DType::F32, None);
    let [hidden, weight, bias, vectors, tail_bias] = [0, 1, 2, 3, 4].map(|i| device(&case.inputs[i].tensor));
    let decoder = AdaptiveDecoder { weight, bias: Some(bias), tails: Some((vectors, Some(tail_bias))), splits };
    let [losses, correct] =
        [DType::F32, DType::U32].map(|dtype| Tensor::zeros([n], dtype).unwrap().to_device(GPU).unwrap());
    let targets = Tensor::from_slice([n], &tailed_targets(n)).unwrap();
    sim::reset_counters();
    let all = ops::adaptive_softmax::log_probabilities(&mut g, &hidden, &decoder).unwrap();
    ops::adaptive_softmax::row_results(&mut g, &all, &targets, 0, &losses, &correct).unwrap();
    cuda::context(0).unwrap().synchronise().unwrap();
    let widths = head + v - splits[0];
    let table = [
        memory("log_softmax_rows", 2 * n * widths + told(n, widths), &[(Sectors, 1.05, HEAD_ROWS)]),
        memory("place_part", 2 * n * v + 2 * n, &[]),
        memory("row_results", n * v + 3 * n, &[]),
    ];
    check("adaptive_softmax, log-probabilities", &table, failures);
}

/// Updates of a million parameters.
fn updates(failures: &mut Vec<String>) {
    let n = 1 << 20;
    let mut count = |optimiser: fn(&Parameters) -> Box<dyn Optimiser>, table: &[Of]| {
        let mut builder = Parameters::builder();
        builder.add("w", &[n], 0);
        let mut parameters = builder.build_on(GPU, DType::F32).unwrap();
        parameters.set_frozen(0, false);
        parameters.zero_missing_gradients();
        let mut optimiser = optimiser(&parameters);
        let mut norm = GradientNorm::new(&parameters).unwrap();
        let rates = StepRates { lr: &[0.1], momentum: 0.9, weight_decay: &[0.01], gradient_scale: 1.0 };
        sim::reset_counters();
        // the third update of an average is the first that does not copy
        for _ in 0..3 {
            norm.compute(&parameters).unwrap();
            optimiser.step(&mut parameters, &rates).unwrap();
        }
        optimiser.swap_averages(&mut parameters).unwrap();
        cuda::context(0).unwrap().synchronise().unwrap();
        check(optimiser.name(), table, failures);
    };
    count(
        |p| Box::new(Adam::new(p, AdamSettings { beta2: 0.99, eps: 1e-7, decoupled: true }).unwrap()),
        &[memory("adam_update", 3 * 7 * n, &[]), memory("squares", 3 * n, &[])],
    );
    let plain = memory("sgd_update", 3 * 3 * n, &[]);
    count(|p| Box::new(Sgd::new(p, SgdSettings { momentum: false, decoupled: true }).unwrap()), &[plain]);
    count(
        |p| Box::new(Sgd::new(p, SgdSettings { momentum: true, decoupled: true }).unwrap()),
        &[memory("sgd_momentum_update", 3 * 5 * n, &[])],
    );
    count(
        |p| Box::new(Asgd::new(p, AsgdSettings { t0: 0, as_pytorch: true, decoupled: false }).unwrap()),
        &[
            memory("sgd_update", 3 * 3 * n, &[]),
            memory("average_update", 3 * 3 * n, &[]),
            memory("exchange", 4 * n, &[]),
        ],
    );
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
