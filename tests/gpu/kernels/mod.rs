//! The tests of kernels on a simulated GPU; a suite says on which one.

pub mod compared;
mod logits;
pub mod lstm;
mod optim;
mod words;

use compared::{GPU, no_findings, operand, orders, precisions};
use ulmfit::autodiff::{Fault, Graph, Store};
use ulmfit::bench::gpu_peaks::GpuPeaks;
use ulmfit::check::compare;
use ulmfit::device::Precision;
use ulmfit::device::cuda;
use ulmfit::device::cuda::gemm::{Matrix, Split, Tile, gemm_parts, gemm_tiled};
use ulmfit::error::Error;
use ulmfit::ops::{self, Data, Dropout};
use ulmfit::random::{Key, Mask, Site};
use ulmfit::tensor::{DType, Device, Tensor};
use ulmfit::text::Direction;
use ulmfit::train::Stage;

pub use self::lstm::{
    a_forced_plan_that_does_not_fit_is_an_error, a_refused_launch_becomes_steps, lstm_plans, the_grid_barrier_repeats,
    the_paper_s_grid,
};
use crate::sim::{self, Sim};

/// All of it, as tests, each run by `$run`, which is given its path and what takes a GPU's name.
macro_rules! suite {
    ($run:expr; $($test:ident)*) => {
        $(#[test]
        fn $test() {
            let run: fn(&str, fn(&str)) = $run;
            run(concat!(module_path!(), "::", stringify!($test)), crate::kernels::$test);
        })*
    };
    ($run:expr) => {
        suite!($run; every_case lstm_plans a_forced_plan_that_does_not_fit_is_an_error a_refused_launch_becomes_steps the_paper_s_grid the_grid_barrier_repeats products_by_every_tile masks_are_those_of_the_cpu planted_errors_are_seen two_runs_give_the_same_bits errors_are_sentences);
    };
}

/// Every case of every operation, the optimisers and norms, in every order of blocks, and every
/// kernel.
pub fn every_case(gpu: &str) {
    let _sim = Sim::new(gpu);
    let context = cuda::context(0).unwrap();
    let before = context.launches();
    for (order, &precision) in orders().iter().flat_map(|order| precisions().iter().map(move |p| (order, p))) {
        sim::set("seed", order);
        for entry in ops::ALL {
            let name = entry.operation.name();
            let (mut cases, mut ratio, mut error, mut worst) = (0, 0.0, 0.0, String::new());
            for case in (entry.cases)() {
                let compared = compare(&case, GPU, precision, None);
                if let Err(lacking @ Error::NoKernels { .. }) = &compared {
                    println!("skipped: {}: {lacking}", case.name);
                    continue;
                }
                let compared = compared
                    .unwrap_or_else(|e| panic!("{name} {precision:?} {}: {e}\n{:#?}", case.name, sim::findings()));
                cases += 1;
                for one in compared {
                    if one.ratio > ratio {
                        (ratio, worst) = (one.ratio, one.what.clone());
                    }
                    error = f64::max(error, one.error);
                    assert!(one.ratio <= 1.0, "{precision:?} {}: {:.2} times the bound", one.what, one.ratio);
                }
            }
            println!(
                "{gpu} order {order} {precision:?} {name}: {cases} cases, worst {ratio:.2} of the bound ({worst}), error {error:.1e} of the largest value"
            );
        }
        products(precision);
        products_of_parts(precision);
        logits::parts(precision);
        logits::without_gradients(precision);
        optim::updates();
        optim::norms();
        words::gradients_of_rows();
        no_findings();
    }
    for case in [ops::tied_softmax::cases::many_rows(), ops::tied_softmax::cases::wide()] {
        for one in compare(&case, GPU, Precision::Full, None).unwrap() {
            assert!(one.ratio <= 1.0, "{}: {:.2} times the bound", one.what, one.ratio);
        }
    }
    log_probabilities();
    adaptive_log_probabilities();
    totals();
    // the benchmarks' probes, which verify themselves
    GpuPeaks::of(GPU).unwrap();
    no_findings();
    // those of the LSTM are asked for in `lstm_plans`
    let since = before.into_iter().zip(context.launches());
    let idle = since.filter(|(before, now)| before == now && !now.0.starts_with("lstm_"));
    let idle: Vec<_> = idle.map(|(_, now)| now.0).collect();
    assert!(idle.is_empty(), "never launched: {idle:?}");
}

/// All transpositions and both tiles, with odd edges and with aligned ones.
fn products(precision: Precision) {
    let context = cuda::context(0).unwrap();
    let mut data = Data::new(5);
    for [m, n, k] in [[1, 1, 1], [65, 63, 9], [130, 68, 24], [3, 132, 0], [70, 129, 17]] {
        for (ta, tb, bias, store) in [
            (false, false, false, Store::Set),
            (false, true, true, Store::Set),
            (true, false, false, Store::Add),
            (true, true, true, Store::Add),
        ] {
            let shape = |rows, columns, transposed| if transposed { [columns, rows] } else { [rows, columns] };
            let mut make = |dims: &[usize]| data.normal("", dims, 1.0).tensor;
            let (a, b) = (make(&shape(m, k, ta)), make(&shape(k, n, tb)));
            let (bias, old) = (if bias { Some(make(&[n])) } else { None }, make(&[m, n]));
            let at = |t: &[f64], row: usize, column: usize, [rows, columns]: [usize; 2], transposed: bool| {
                if transposed { t[column * rows + row] } else { t[row * columns + column] }
            };
            let single = |t: &Tensor| {
                let copy = Tensor::zeros(t.shape(), DType::F32).unwrap();
                copy.set_f64(&t.to_f64());
                copy.to_device(GPU).unwrap()
            };
            // of operands in bf16 products are exact in f32
            let nearest = |t: &Tensor| match precision {
                Precision::Full => t.clone(),
                Precision::Bf16 => rounded(t),
            };
            let (a, b) = (nearest(&a), nearest(&b));
            let (av, bv, oldv) = (a.to_f64(), b.to_f64(), old.to_f64());
            for &tile in Tile::of(precision) {
                let (a, b, c) = (single(&a), single(&b), single(&old));
                let device_bias = bias.as_ref().map(single);
                let matrix = |t, rows, columns, transposed| {
                    let of = if precision == Precision::Full { Matrix::new } else { Matrix::rounded };
                    if transposed { of(t, columns, rows).t() } else { of(t, rows, columns) }
                };
                let (a, b) = (operand(precision, &a), operand(precision, &b));
                let (x, y) = (matrix(a.argument(), m, k, ta), matrix(b.argument(), k, n, tb));
                let bias_argument = device_bias.as_ref().map(Tensor::argument);
                gemm_tiled(context, tile, x, y, bias_argument, c.argument(), store).unwrap();
                for (i, found) in c.to_f64().into_iter().enumerate() {
                    let (row, column) = (i / n, i % n);
                    let term = |q| at(&av, row, q, [m, k], ta) * at(&bv, q, column, [k, n], tb);
                    let mut truth: f64 = (0..k).map(term).sum();
                    let mut size: f64 = (0..k).map(|q| term(q).abs()).sum();
                    for other in [bias.as_ref().map(|b| b.to_f64()[column]), (store == Store::Add).then(|| oldv[i])]
                        .into_iter()
                        .flatten()
                    {
                        truth += other;
                        size += f64::abs(other);
                    }
                    let bound = unit(precision) * (k as f64 + 2.0) * size;
                    assert!(
                        (found - truth).abs() <= bound,
                        "{precision:?} {tile:?} {m}x{n}x{k} {ta} {tb}: {found} at {row}, {column}, not {truth}"
                    );
                }
            }
        }
    }
}

/// The error that a product of k terms may have for each of them and for the additions afterwards,
/// of the sum of their sizes. In f32 k + 2 roundings of half a unit in the last place. Tensor cores
/// of an Ampere add eight terms and the sum so far, all cut off one bit beyond the last place of
/// the largest, and cut their sum off: 9 + 2 halves of a unit for eight terms, and never more than
/// twice k + 2.
fn unit(precision: Precision) -> f64 {
    match precision {
        Precision::Full => 2f64.powi(-24),
        Precision::Bf16 => 2f64.powi(-23),
    }
}

/// A product alone, of which [`every_case`] asks among much else.
pub fn products_by_every_tile(gpu: &str) {
    let _sim = Sim::new(gpu);
    for &precision in precisions() {
        products(precision);
        products_of_parts(precision);
    }
    no_findings();
}

/// Products whose inner dimension blocks share out, the last part of it a short one: matrices that
/// add up to the product.
fn products_of_parts(precision: Precision) {
    let context = cuda::context(0).unwrap();
    let mut data = Data::new(9);
    let [m, n, k] = [65, 70, 170];
    let split = Split::into(k, 3);
    assert_eq!((split, Split::into(k, 1).count, Split::into(16, 2).count), (Split { part: 64, count: 3 }, 1, 1));
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut make = |rows: usize, columns: usize| {
            let values = rounded(&data.normal("", &[rows, columns], 1.0).tensor);
            let copy = Tensor::zeros([rows, columns], DType::F32).unwrap();
            copy.set_f64(&values.to_f64());
            (values.to_f64(), operand(precision, &copy.to_device(GPU).unwrap()))
        };
        let (av, a) = if ta { make(k, m) } else { make(m, k) };
        let (bv, b) = if tb { make(n, k) } else { make(k, n) };
        let of = if precision == Precision::Full { Matrix::new } else { Matrix::rounded };
        let x = if ta { of(a.argument(), k, m).t() } else { of(a.argument(), m, k) };
        let y = if tb { of(b.argument(), n, k).t() } else { of(b.argument(), k, n) };
        let parts = Tensor::zeros_on(GPU, [split.count, m, n], DType::F32).unwrap();
        gemm_parts(context, x, y, parts.argument(), split).unwrap();
        for (i, found) in parts.to_f64().into_iter().enumerate() {
            let (part, row, column) = (i / (m * n), i / n % m, i % n);
            let term = |q: usize| {
                av[if ta { q * m + row } else { row * k + q }] * bv[if tb { column * k + q } else { q * n + column }]
            };
            let of_part = part * split.part..k.min((part + 1) * split.part);
            let truth: f64 = of_part.clone().map(term).sum();
            let size: f64 = of_part.map(|q| term(q).abs()).sum();
            let bound = unit(precision) * split.part as f64 * size;
            assert!((found - truth).abs() <= bound, "{precision:?} {ta} {tb} part {part}: {found}, not {truth}");
        }
    }
}

/// Values rounded to bf16.
fn rounded(t: &Tensor) -> Tensor {
    let values: Vec<f64> = t.to_f64().iter().map(|&x| half::bf16::from_f64(x).to_f64()).collect();
    Tensor::from_slice(t.shape(), &values).unwrap()
}

/// Generation's log-probabilities.
fn log_probabilities() {
    let mut data = Data::new(6);
    let (x, w, b) = (data.normal("x", &[5, 7], 1.0), data.normal("w", &[301, 7], 0.7), data.normal("b", &[301], 0.5));
    let run = |device: Device, dtype: DType| {
        let mut g = Graph::new(device, dtype, None);
        let [x, w, b] = [&x, &w, &b].map(|input| {
            let copy = Tensor::zeros(input.tensor.shape(), dtype).unwrap();
            copy.set_f64(&input.tensor.to_f64());
            copy.to_device(device).unwrap()
        });
        ops::tied_softmax::log_probabilities(&mut g, &x, &w, Some(&b)).unwrap().to_f64()
    };
    let (truth, found) = (run(Device::Cpu, DType::F64), run(GPU, DType::F32));
    let worst = truth.iter().zip(&found).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst < 2e-6, "{worst}");
}

/// Those of an adaptive softmax, of a tail of one word too, and what an evaluation makes of them.
fn adaptive_log_probabilities() {
    let splits = &[5, 11, 30];
    let (n, v, e) = (9, 31, 6);
    let mut data = Data::new(7);
    let tensors = [&[n, e][..], &[v, e], &[v], &[3, e], &[3]].map(|shape| data.normal("", shape, 0.7).tensor);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 4 % v as u32).collect();
    let run = |device: Device, dtype: DType, targets: &[u32]| {
        let mut g = Graph::new(device, dtype, None);
        let [hidden, weight, bias, vectors, tail_bias] = tensors.each_ref().map(|t| {
            let copy = Tensor::zeros(t.shape(), dtype).unwrap();
            copy.set_f64(&t.to_f64());
            copy.to_device(device).unwrap()
        });
        let tails = Some((vectors, Some(tail_bias)));
        let decoder = ops::adaptive_softmax::AdaptiveDecoder { weight, bias: Some(bias), tails, splits };
        let all = ops::adaptive_softmax::log_probabilities(&mut g, &hidden, &decoder).unwrap();
        let losses = g.zeros([n + 2], dtype).unwrap();
        let correct = g.zeros([n + 2], DType::U32).unwrap();
        let padded = [&[0, 0], targets].concat();
        let padded = Tensor::from_slice([n + 2], &padded).unwrap();
        ops::adaptive_softmax::row_results(&mut g, &all, &padded, 2, &losses, &correct).unwrap();
        [all.to_f64(), losses.to_f64(), correct.to_f64()]
    };
    // half of the rows have the likeliest word as their target
    let [all, ..] = run(Device::Cpu, DType::F64, &targets);
    let likeliest = |row: &[f64]| row.iter().enumerate().fold(0, |m, (i, &p)| if p > row[m] { i } else { m }) as u32;
    let targets: Vec<u32> = targets
        .iter()
        .zip(all.chunks(v))
        .enumerate()
        .map(|(i, (&t, row))| if i % 2 == 0 { likeliest(row) } else { t })
        .collect();
    let (truth, found) = (run(Device::Cpu, DType::F64, &targets), run(GPU, DType::F32, &targets));
    assert!(truth[2].iter().sum::<f64>() >= 5.0 && truth[2] == found[2], "{:?} and {:?}", truth[2], found[2]);
    for (truth, found) in truth.iter().zip(&found) {
        let worst = truth.iter().zip(found).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 4e-6, "{worst}");
    }
}

/// Sums of an evaluation: of exact f64 values, so that only the order can differ.
fn totals() {
    for n in [1, 255, 256, 1037] {
        let losses = Data::new(n as u64).uniform("", &[n], 0.0, 9.0).tensor.to_f64();
        let single: Vec<f32> = losses.iter().map(|&l| l as f32).collect();
        let hits: Vec<u32> = (0..n as u32).map(|i| u32::from(i % 3 == 1)).collect();
        let mut g = Graph::new(GPU, DType::F32, None);
        let tensors = (Tensor::from_slice([n], &single).unwrap(), Tensor::from_slice([n], &hits).unwrap());
        let (losses, correct) = (tensors.0.to_device(GPU).unwrap(), tensors.1.to_device(GPU).unwrap());
        let (sum, count) = ops::tied_softmax::totals(&mut g, &losses, &correct).unwrap();
        let truth: f64 = single.iter().map(|&l| f64::from(l)).sum();
        assert!((sum - truth).abs() <= n as f64 * f64::EPSILON * truth, "{sum}, not {truth}");
        assert_eq!(count, hits.iter().map(|&h| u64::from(h)).sum::<u64>());
    }
}

/// Factors of every dropout, bit for bit those of the CPU.
pub fn masks_are_those_of_the_cpu(gpu: &str) {
    let _sim = Sim::new(gpu);
    let key = Key::new(0x1234_5678_9ABC_DEF0, Stage::FinetuneLm, Direction::Backward);
    for (rows, columns, p) in [(1, 1, 0.5), (7, 13, 0.1), (65, 130, 0.4), (3, 64, 0.999), (9, 5, 1.0)] {
        let mask = Mask::new(key, 4_000_000_001, Site::new(66), 77, p);
        let factors = |device: Device| {
            let mut g = Graph::new(device, DType::F32, None);
            let ones = Tensor::from_slice([2, rows, columns], &vec![1.0f32; 2 * rows * columns]).unwrap();
            let x = g.constant(ones.to_device(device).unwrap());
            let y = ops::locked_dropout::locked_dropout(&mut g, x, &Dropout::random(mask)).unwrap();
            g.tensor(y).to_f64()
        };
        assert_eq!(factors(GPU), factors(Device::Cpu), "{rows} x {columns}, p = {p}");

        // an embedding of ones shows the product of its two masks
        let embedded = |device: Device| {
            let mut g = Graph::new(device, DType::F32, None);
            let ones = Tensor::from_slice([rows, columns], &vec![1.0f32; rows * columns]).unwrap();
            let tokens: Vec<u32> = (0..3 * rows as u32).map(|i| i / 3).collect();
            let tokens = Tensor::from_slice([rows, 3], &tokens).unwrap();
            let w = g.constant(ones.to_device(device).unwrap());
            let words = Dropout::random(Mask::new(key, 5, Site::new(1), 0, p));
            let locked = Dropout::random(Mask::new(key, 5, Site::new(2), 0, 0.3));
            let y = ops::embedding::embedding(&mut g, &tokens, w, &words, &locked, None).unwrap();
            g.tensor(y).to_f64()
        };
        assert_eq!(embedded(GPU), embedded(Device::Cpu), "{rows} x {columns}, p = {p}");
    }
    no_findings();
}

/// A wrong sign in one element of one gradient is outside the bound, for every operation.
pub fn planted_errors_are_seen(gpu: &str) {
    let _sim = Sim::new(gpu);
    for entry in ops::ALL {
        let operation = entry.operation.name();
        let cases = (entry.cases)();
        let case = &cases[cases.len() / 2];
        let fault = Fault { operation, input: 0 };
        let compared = match compare(case, GPU, Precision::Full, Some(fault)) {
            Err(lacking @ Error::NoKernels { .. }) => {
                println!("skipped: {lacking}");
                continue;
            }
            compared => compared.unwrap(),
        };
        assert!(compared.iter().any(|one| one.ratio > 1.0), "{operation} {}", case.name);
    }
}

/// Equal inputs give equal bits, in any order of blocks.
pub fn two_runs_give_the_same_bits(gpu: &str) {
    let _sim = Sim::new(gpu);
    let run = |order: &str| {
        sim::set("seed", order);
        let mut g = Graph::new(GPU, DType::F32, None);
        let mut parameters = ulmfit::autodiff::Parameters::builder().build(DType::F32).unwrap();
        let mut data = Data::new(8);
        let mut single = |dims: &[usize]| {
            let tensor = Tensor::zeros(dims, DType::F32).unwrap();
            tensor.set_f64(&data.normal("", dims, 0.5).tensor.to_f64());
            tensor.to_device(GPU).unwrap()
        };
        let (w, x) = (g.variable(single(&[70, 33])), g.variable(single(&[80, 33])));
        let targets: Vec<u32> = (0..80).map(|i| i * 7 % 70).collect();
        let targets = Tensor::from_slice([80], &targets).unwrap();
        let loss = ops::tied_softmax::tied_softmax(&mut g, x, w, None, &targets).unwrap().loss;
        g.backward(loss, &mut parameters).unwrap();
        [g.tensor(loss).to_f64(), g.gradient(w).unwrap().to_f64(), g.gradient(x).unwrap().to_f64()]
    };
    let first = run("1");
    assert!(first.iter().flatten().all(|v| v.is_finite()));
    assert_eq!(first, run("2"));
    assert_eq!(first, run("3"));
    no_findings();
}

/// Work that a GPU cannot do is refused in one sentence.
pub fn errors_are_sentences(gpu: &str) {
    let _sim = Sim::new(gpu);
    let mut g = Graph::new(GPU, DType::F64, None);
    let error = g.zeros([3], DType::F64).unwrap_err();
    assert_eq!((error.to_string(), error.exit_status()), (format!("{GPU} computes in f32, not in f64"), 2));
    assert!(error.hint_text().unwrap().contains("--device cpu"));
    let gpus = cuda::probe().unwrap().gpus.len();
    let error = cuda::context(gpus).unwrap_err();
    assert_eq!(error.to_string(), format!("cuda:{gpus}: the driver presents {gpus} GPU(s), counted from 0"));
    let mut g = Graph::new(GPU, DType::F32, None);
    let error = g.uninitialised([1 << 36], DType::F32).unwrap_err();
    assert!(error.to_string().contains("has no 274877906944 bytes of memory left"), "{error}");
    assert!(error.hint_text().unwrap().contains("--batch-size"));
    let x = g.zeros([4], DType::F32).unwrap();
    let context = cuda::context(0).unwrap();
    let grid = cuda::Grid::elements(4);
    let error = context.launch("relu_forward", grid, &[x.argument(), x.argument()]).unwrap_err();
    assert_eq!(error.to_string(), "kernel 'relu_forward' takes 3 arguments and is given 2");
    let error = context.launch("relu_forwards", grid, &[]).unwrap_err();
    assert_eq!(error.to_string(), "there is no kernel 'relu_forwards'");
}
