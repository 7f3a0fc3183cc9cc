//! Of products in bf16: the kernels of gemm_bf16.cu at the paper's shapes, and what operations do
//! to have their operands in bf16.

use ulmfit::device::Precision;
use ulmfit::device::cpu::gemm::Store;
use ulmfit::device::cuda::gemm::{kernel, round_operand, rounded_pitch};

use super::*;

const ENDS: &str = "k, rows or columns end in the middle of a sector";

const HALF_ROWS: &str = "a warp has eight units of rows of h, in bf16 half a sector";
const OWN_UNITS: &str = "a block owns 10 or 16 units: a warp has parts of 16 bytes of every row of gates, cells and y";

/// Floats that a matrix takes as an operand in bf16.
fn operand([rows, columns]: [usize; 2]) -> usize {
    rows * rounded_pitch(columns) / 2
}

/// That a product `[m, n, k]` reads and writes at least, as they are stored.
fn least([m, n, k]: [usize; 3], [a_transposed, b_transposed]: [bool; 2]) -> usize {
    let stored = |rows, columns, transposed: bool| if transposed { [columns, rows] } else { [rows, columns] };
    operand(stored(m, k, a_transposed)) + operand(stored(k, n, b_transposed)) + m * n
}

const NT: [bool; 2] = [false, true];
const NN: [bool; 2] = [false, false];
const TN: [bool; 2] = [true, false];

/// Counts one product, of operands that are random.
fn count(tile: Tile, [m, n, k]: [usize; 3], [ta, tb]: [bool; 2]) {
    let context = cuda::context(0).unwrap();
    let rounded = |rows, columns| {
        let copy = Tensor::zeros_on(GPU, [rows, rounded_pitch(columns)], DType::BF16).unwrap();
        let from = device(&Data::new(1).normal("", &[rows, columns], 1.0).tensor);
        round_operand(context, from.argument(), copy.argument(), [rows, columns]).unwrap();
        copy
    };
    let a = if ta { rounded(k, m) } else { rounded(m, k) };
    let b = if tb { rounded(n, k) } else { rounded(k, n) };
    let x = if ta { Matrix::rounded(a.argument(), k, m).t() } else { Matrix::rounded(a.argument(), m, k) };
    let y = if tb { Matrix::rounded(b.argument(), n, k).t() } else { Matrix::rounded(b.argument(), k, n) };
    let c = Tensor::zeros_on(GPU, [m, n], DType::F32).unwrap();
    sim::reset_counters();
    gemm_tiled(context, tile, x, y, None, c.argument(), Store::Set).unwrap();
    context.synchronise().unwrap();
}

fn name(tile: Tile, [a_transposed, b_transposed]: [bool; 2]) -> &'static str {
    kernel(Precision::Bf16, tile, a_transposed, b_transposed)
}

/// Every transposition and tile, of edges that tiles fill.
pub fn products(failures: &mut Vec<String>) {
    let sizes @ [m, n, k] = [128, 256, 96];
    for transposed in [NN, NT, TN, [true, true]] {
        for &tile in Tile::of(Precision::Bf16) {
            count(tile, sizes, transposed);
            check(
                "bf16 product",
                &[product(name(tile, transposed), least(sizes, transposed), m * n * k, &[])],
                failures,
            );
        }
    }
}

/// The products of a step of the paper's model, by the tile that is chosen for them. Counted is a
/// part of each, of fewer rows, columns or time steps, of which the tiles leave no smaller share
/// idle.
pub fn of_a_step(failures: &mut Vec<String>) {
    let context = cuda::context(0).unwrap();
    for (case, transposed, [m, n, k], counted, exceptions) in [
        ("W_ih·x, 400", NT, [4480, 4600, 400], [128, 1144, 400], &[][..]),
        ("W_ih·x, 1150", NT, [4480, 4600, 1150], [128, 1144, 1150], &[]),
        ("W_ih·x, 1152", NT, [4480, 4608, 1152], [128, 1152, 1152], &[]),
        ("dx, 400", NN, [4480, 400, 4600], [128, 400, 1144], &[(Sectors, 1.01, ENDS)]),
        ("dx, 1150", NN, [4480, 1150, 4600], [128, 1150, 1144], &[(Sectors, 1.1, ROWS_OF_1150)]),
        ("dW_ih, 400", TN, [4600, 400, 4480], [1144, 400, 128], &[(Sectors, 1.01, ENDS)]),
        ("dW_hh, 1150", TN, [4600, 1150, 4480], [1144, 1150, 128], &[(Sectors, 1.38, ROWS_OF_1150)]),
        ("logits", NT, [4096, 30000, 400], [128, 1840, 400], &[]),
        ("logits, the last block", NT, [384, 30000, 400], [128, 1840, 400], &[]),
        ("dx of logits", NN, [4096, 400, 30000], [128, 400, 1840], &[]),
        ("dx of logits, the last block", NN, [384, 400, 30000], [128, 400, 1840], &[]),
        ("dW of logits", TN, [30000, 400, 4096], [1840, 400, 128], &[]),
    ] {
        let tile = Tile::choose(context, Precision::Bf16, m, n);
        let [rows, columns] = tile.edges();
        let idle = |[m, n, k]: [usize; 3]| {
            let computed = m.next_multiple_of(rows) * n.next_multiple_of(columns) * k.next_multiple_of(32);
            computed as f64 / (m * n * k) as f64
        };
        assert!(idle(counted) >= idle([m, n, k]), "{case}: {counted:?} leaves less idle than {:?}", [m, n, k]);
        count(tile, counted, transposed);
        let all = counted.iter().product();
        let table = [product(name(tile, transposed), least(counted, transposed), all, exceptions)];
        check(&format!("bf16 {case}, {tile:?}"), &table, failures);
    }
}

/// Forward and backward of operations whose products are in bf16.
pub fn operations(failures: &mut Vec<String>) {
    let mut data = Data::new(1);

    let [n, i, o] = [128, 1200, 64];
    let inputs = vec![data.normal("x", &[n, i], 1.0), data.normal("w", &[o, i], 0.1), data.normal("b", &[o], 0.1)];
    run_in(
        Precision::Bf16,
        &Case::new("linear", "", inputs, |g, x| Ok(vec![ops::linear::linear(g, x[0], x[1], Some(x[2]))?])),
    );
    let table = [
        product("gemm_bf16_nt_small", least([n, o, i], NT) + o, n * o * i, &[]),
        product("gemm_bf16_nn_small", least([n, i, o], NN), n * o * i, &[]),
        product("gemm_bf16_tn_small", least([o, i, n], TN), n * o * i, &[]),
        // x, W and dy, each once
        memory("round_operand", n * i + o * i + n * o + operand([n, i]) + operand([o, i]) + operand([n, o]), &[]),
    ];
    check("bf16 linear", &table, failures);

    let [n, v, e] = [256, 2000, 400];
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 5 % v as u32).collect();
    let inputs = vec![data.normal("x", &[n, e], 0.1), data.normal("w", &[v, e], 0.1), data.normal("b", &[v], 0.1)];
    run_in(
        Precision::Bf16,
        &Case::new("tied_softmax", "", inputs, move |g, x| {
            let targets = Tensor::from_slice([n], &targets).unwrap();
            Ok(vec![ops::tied_softmax::tied_softmax(g, x[0], x[1], Some(x[2]), &targets)?.loss])
        }),
    );
    let table = [
        product("logits_bf16_small", least([n, v, e], NT) + v + n + told(n, v), n * v * e, &[]),
        memory("softmax_rows", 2 * n * v + operand([n, v]) + told(n, v) + 3 * n, &[]),
        product("gemm_bf16_nn_small", least([n, e, v], NN) + of_parts(Precision::Bf16, [n, e, v]), n * v * e, &[]),
        memory("add_parts", added_parts(Precision::Bf16, [n, e, v]), &[]),
        product("gemm_bf16_tn_small", least([v, e, n], TN), n * v * e, &[]),
        memory("round_operand", n * e + v * e + operand([n, e]) + operand([v, e]), &[]),
        memory("column_sums", n * v + v, &[]),
    ];
    check("bf16 tied_softmax", &table, failures);

    let [n, k, v, e] = [256, 512, 2000, 400];
    run_in(Precision::Bf16, &sampled([n, k, v, e]));
    let table = [
        product("logits_bf16_small", least([n, k, e], NT) + told(n, k), n * k * e, &[(Sectors, 1.01, PARTS)]),
        product("gemm_bf16_nn_small", least([n, e, k], NN) + of_parts(Precision::Bf16, [n, e, k]), n * k * e, &[]),
        product("gemm_bf16_tn_small", least([k, e, n], TN), n * k * e, &[]),
        memory("round_operand", n * e + k * e + operand([n, e]) + operand([k, e]), &[]),
    ];
    check("bf16 sampled_softmax", &table, failures);

    // rows and words of the three parts
    let [n, v, e] = [256, 4096, 400];
    let splits = &[1024, 2048];
    run_in(Precision::Bf16, &adaptive([n, v, e], splits));
    let head = splits[0] + splits.len();
    let parts = [(n, head), (n / 4, splits[1] - splits[0]), (n / 4, v - splits[1])];
    let sum = |f: &dyn Fn(usize, usize) -> usize| parts.iter().map(|&(rows, width)| f(rows, width)).sum::<usize>();
    let multiply_adds = sum(&|rows, width| rows * width * e);
    let table = [
        product(
            "logits_bf16_small",
            sum(&|n, v| least([n, v, e], NT) + v + n + told(n, v)),
            multiply_adds,
            &[(Sectors, 1.02, HEAD_ROWS)],
        ),
        product(
            "gemm_bf16_nn_small",
            sum(&|n, v| least([n, e, v], NN) + of_parts(Precision::Bf16, [n, e, v])),
            multiply_adds,
            &[(Sectors, 1.01, ENDS)],
        ),
        product("gemm_bf16_tn_small", sum(&|n, v| least([v, e, n], TN)), multiply_adds, &[(Sectors, 1.01, ENDS)]),
        memory(
            "softmax_rows",
            sum(&|n, v| 2 * n * v + operand([n, v]) + told(n, v) + 3 * n),
            &[(Sectors, 1.02, HEAD_ROWS)],
        ),
    ];
    check("bf16 adaptive_softmax", &table, failures);

    // a layer of 400 units, step by step
    let [t, b, i, h] = [2, 64, 400, 400];
    force(Some(Force::StepWise));
    run_in(Precision::Bf16, &ops::lstm::cases::one([t, b, i, h]));
    force(None);
    let (rows, gates) = (t * b, 4 * h);
    let table = [
        product(
            "lstm_step_bf16",
            t * (operand([gates, h]) + 2 * operand([b, h]) + 2 * b * gates + 3 * b * h),
            rows * gates * h,
            &[(Sectors, 1.02, HALF_ROWS)],
        ),
        memory(
            "lstm_cell_backward",
            rows * (2 * gates + 6 * h) + operand([rows, gates]) + other_parts(Precision::Bf16, [t, b, h]),
            &[],
        ),
    ];
    check("bf16 lstm 400, step by step", &table, failures);

    // of 1150 units, in one launch a pass: the masked weights, of which a mask of the counters is
    // none to read; then with a part of them in registers
    let [t, b, i, h] = [4, 64, 400, 1150];
    let (rows, gates) = (t * b, 4 * h);
    let states = operand([b, h]) + (2 * t - 1) * operand([b, h]);
    for (plan, backward) in [(None, "lstm_backward_bf16_16"), (Some([10, 16]), "lstm_backward_bf16_16_registers")] {
        force(plan.map(Force::Registers));
        run_in(Precision::Bf16, &ops::lstm::cases::one([t, b, i, h]));
        force(None);
        let table = [
            product(
                "lstm_forward_bf16_10",
                gates * h + 2 * rows * gates + 3 * rows * h + states,
                rows * gates * h,
                &[(Sectors, 1.8, OWN_UNITS)],
            ),
            product(
                backward,
                gates * h + 2 * rows * gates + 2 * operand([rows, gates]) + 2 * rows * h + 5 * b * h,
                rows * gates * h,
                &[(Sectors, 1.47, OWN_UNITS)],
            ),
        ];
        check("bf16 lstm 1150", &table, failures);
    }
}
