use super::super::isa::{for_each_isa, multiplies_bf16};
use super::*;

/// Odd and awkward sizes: nothing, one, around the tiles of every kernel, around the blocks of k,
/// several blocks of rows.
const SHAPES: [(usize, usize, usize); 24] = [
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (1, 1, 1),
    (1, 7, 33),
    (2, 3, 5),
    (5, 1, 17),
    (6, 16, 16),
    (7, 17, 31),
    (14, 32, 32),
    (13, 33, 1),
    (15, 9, 65),
    (4, 255, 8),
    (3, 256, 9),
    (29, 257, 47),
    (64, 100, 120),
    (1, 600, 300),
    (65, 513, 3),
    (127, 40, 64),
    (131, 70, 129),
    (260, 31, 37),
    (64, 300, 100),
    (3, 1153, 40),
    (17, 2500, 33),
];

fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
    };
    (0..count).map(next).collect()
}

fn view<T>(data: &[T], rows: usize, columns: usize, transposed: bool) -> Matrix<'_, T> {
    if transposed { Matrix::new(data, columns, rows).t() } else { Matrix::new(data, rows, columns) }
}

/// Both formats of operands with every instruction set of this processor.
fn for_each_way(mut test: impl FnMut(Isa, Precision)) {
    for_each_isa(|isa| [Precision::Full, Precision::Bf16].into_iter().for_each(|precision| test(isa, precision)));
}

/// What a product takes the matrix for.
fn operand<T: Real>(precision: Precision, data: &[T]) -> Vec<T> {
    match precision {
        Precision::Full => data.to_vec(),
        Precision::Bf16 => data.iter().map(|x| x.rounded()).collect(),
    }
}

fn at<T: Real>(m: Matrix<T>, i: usize, j: usize) -> f64 {
    m.data[i * m.row_stride + j * m.column_stride].to_f64()
}

/// Asserts that `c` is the product (plus `before`) up to rounding. A sum of k products, added in
/// any order, errs by at most `k·u·Σ|a||b|` to first order, where u is half the distance from 1 to
/// the next number (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1); the product
/// that is added to C errs once more, and so does the f64 sum that this compares with.
fn assert_is_product<T: Real>(a: Matrix<T>, b: Matrix<T>, before: Option<&[T]>, c: &[T], what: &str) {
    let u = if std::mem::size_of::<T>() == 4 { 2f64.powi(-24) } else { 2.0 * 2f64.powi(-53) };
    for i in 0..a.rows {
        for j in 0..b.columns {
            let start = before.map_or(0.0, |c| c[i * b.columns + j].to_f64());
            let (mut sum, mut size) = (start, start.abs());
            for k in 0..a.columns {
                let product = at(a, i, k) * at(b, k, j);
                sum += product;
                size += product.abs();
            }
            let (found, bound) = (c[i * b.columns + j].to_f64(), (a.columns + 2) as f64 * u * size);
            assert!((found - sum).abs() <= bound, "{what}: ({i}, {j}) is {found}, not {sum} ± {bound}");
        }
    }
}

fn all_shapes<T: Real>() {
    for_each_way(|isa, precision| {
        for (m, k, n) in SHAPES {
            let (a, b, before) = (numbers::<T>(m * k, 1), numbers::<T>(k * n, 2), numbers::<T>(m * n, 3));
            let bias = numbers::<T>(n, 4);
            let biases = bias.repeat(m);
            let (right_a, right_b) = (operand(precision, &a), operand(precision, &b));
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
                let (right_a, right_b) = (view(&right_a, m, k, ta), view(&right_b, k, n, tb));
                for (which, onto) in [Onto::Nothing, Onto::C, Onto::Row(&bias)].into_iter().enumerate() {
                    let what = format!("{isa} {precision:?} {m}x{k}x{n} transposed {ta} {tb} onto {which}");
                    let mut c = before.clone();
                    gemm_on(isa, precision, a, b, &mut c, onto);
                    let start = [None, Some(&before), Some(&biases)][which];
                    assert_is_product(right_a, right_b, start.map(Vec::as_slice), &c, &what);

                    let mut buffer = vec![T::from_f64(f64::NAN); packed_len_on::<T>(isa, precision, k, n)];
                    let packed = pack_on(isa, precision, b, &mut buffer);
                    let mut again = before.clone();
                    gemm_packed(a, &packed, &mut again, onto);
                    assert!(c == again, "{what}: packed differs");
                }
            }
        }
    });
}

#[test]
fn every_shape_f32() {
    all_shapes::<f32>();
}

#[test]
fn every_shape_f64() {
    all_shapes::<f64>();
}

#[test]
fn tiles_cover_every_row_once_and_are_almost_equally_high() {
    for most in 1..=14 {
        for rows in 1..=100 {
            let ranges: Vec<_> = Tiles::new(rows, most).ranges().collect();
            assert_eq!(ranges.len(), rows.div_ceil(most));
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, rows));
            assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
            let heights: Vec<_> = ranges.iter().map(ExactSizeIterator::len).collect();
            assert!(
                heights[0] <= most && heights.iter().all(|&h| h == heights[0] || h + 1 == heights[0]),
                "{heights:?}"
            );
            let counted =
                Tiles::new(rows, most).heights().flat_map(|(count, height)| std::iter::repeat_n(height, count));
            assert!(counted.eq(heights), "{rows} rows, {most} at most");
        }
    }
}

#[test]
fn stripes_of_few_rows_are_shared_evenly_by_the_threads() {
    // 2,000 columns on two threads: three stripes would take as long as four
    assert_eq!(stripes_of(63, 1, 2), 2);
    assert_eq!(stripes_of(144, 1, 2), 6);
    assert_eq!([stripes_of(63, 1, 4), stripes_of(144, 1, 4), stripes_of(10, 1, 4)], [3, 8, 1]);
    // blocks of rows are shared as well
    assert_eq!(stripes_of(63, 2, 2), 3);
}

#[test]
fn nothing_is_written_beyond_the_result() {
    for_each_way(|isa, precision| {
        let (m, k, n) = (7, 5, 19);
        let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
        let mut c = vec![7.0f32; m * n + 64];
        gemm_on(isa, precision, Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut c, Onto::Nothing);
        assert!(c[m * n..].iter().all(|&x| x == 7.0));
    });
}

#[test]
fn a_sum_over_nothing_is_zero() {
    for store in [Store::Set, Store::Add] {
        let mut c = [3.0f32; 6];
        gemm(Precision::Full, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), &mut c, store);
        assert_eq!(c, [if store == Store::Set { 0.0 } else { 3.0 }; 6]);
    }
}

#[test]
fn not_a_number_spreads_to_its_row_and_column_only() {
    for_each_way(|isa, precision| {
        let (m, k, n) = (9, 6, 21);
        let (mut a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
        a[4 * k + 2] = f32::NAN;
        let mut c = vec![0.0; m * n];
        gemm_on(isa, precision, Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut c, Onto::Nothing);
        for (i, row) in c.chunks(n).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (i == 4)), "{isa} {precision:?}: row {i}");
        }
    });
}

/// Large enough for several blocks in each direction, and for threads.
const LARGE: (usize, usize, usize) = (130, 270, 4500);

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (m, k, n) = LARGE;
    let (a, b, before) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2), numbers::<f32>(m * n, 3));
    for_each_way(|isa, precision| {
        for (ta, tb) in [(false, false), (true, true)] {
            let product = || {
                let mut c = before.clone();
                gemm_on(isa, precision, view(&a, m, k, ta), view(&b, k, n, tb), &mut c, Onto::C);
                c
            };
            let packed = || {
                let mut buffer = vec![0.0; packed_len_on::<f32>(isa, precision, k, n)];
                let packed = pack_on(isa, precision, view(&b, k, n, tb), &mut buffer);
                let mut c = before.clone();
                gemm_packed(view(&a, m, k, ta), &packed, &mut c, Onto::C);
                c
            };
            let outside = product();
            assert!(outside == packed(), "{isa} {precision:?}: packed, outside of a pool");
            for threads in [1, 2, 3, 5] {
                assert!(outside == on_threads(threads, product), "{isa} {precision:?}: {threads} threads");
                assert!(outside == on_threads(threads, packed), "{isa} {precision:?}: packed, {threads} threads");
            }
        }
    });
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (m, k, n) = (40, 300, 70);
    let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
    for_each_way(|isa, precision| {
        let product = |rows: Range<usize>, columns: Range<usize>| {
            let mut c = vec![0.0; rows.len() * columns.len()];
            let (a, b) = (Matrix::new(&a, m, k).rows(rows), Matrix::new(&b, k, n).columns(columns));
            gemm_on(isa, precision, a, b, &mut c, Onto::Nothing);
            c
        };
        let whole = product(0..m, 0..n);
        for rows in [0..1, 5..12, 39..40, 3..3] {
            for columns in [0..70, 69..70, 13..40] {
                let part = product(rows.clone(), columns.clone());
                for (row, part) in rows.clone().zip(part.chunks(columns.len())) {
                    assert_eq!(part, &whole[row * n..][columns.clone()], "{isa} {precision:?} {rows:?} {columns:?}");
                }
            }
        }
    });
}

#[test]
fn products_inside_parallel_work_are_right() {
    let (m, k, n) = (64, 300, 400);
    let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
    let product = || {
        let mut c = vec![0.0; m * n];
        gemm(Precision::Full, Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut c, Onto::Nothing);
        c
    };
    let one = product();
    let all: Vec<_> = on_threads(3, || (0..24).into_par_iter().map(|_| product()).collect());
    assert!(all.iter().all(|c| *c == one));
}

fn vector_sets_agree<T: Real>(precision: Precision) {
    for (m, k, n) in SHAPES.into_iter().chain([LARGE]) {
        let (a, b) = (numbers::<T>(m * k, 1), numbers::<T>(k * n, 2));
        let product = |isa| {
            let mut c = vec![T::ZERO; m * n];
            gemm_on(isa, precision, Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut c, Onto::Nothing);
            c
        };
        assert!(product(Isa::Avx2) == product(Isa::Avx512), "{precision:?} {m}x{k}x{n}");
    }
}

#[test]
fn vector_instruction_sets_agree() {
    if !Isa::Avx512.supported() {
        eprintln!("skipped: this processor has no AVX-512 to compare AVX2 with");
        return;
    }
    vector_sets_agree::<f32>(Precision::Full);
    vector_sets_agree::<f64>(Precision::Full);
    vector_sets_agree::<f64>(Precision::Bf16);
    if !multiplies_bf16(Isa::Avx512) {
        vector_sets_agree::<f32>(Precision::Bf16);
    }
}

#[test]
fn bf16_is_the_nearest_with_ties_to_even() {
    // half an ulp of 1 is 2⁻⁸
    let ulp = 1.0f32 / 128.0;
    for (x, nearest) in [
        (1.0, 1.0),
        (1.0 + ulp / 2.0, 1.0),
        (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
        (1.0 + 0.51 * ulp, 1.0 + ulp),
        (-1.0 - 0.49 * ulp, -1.0),
        (f32::MAX, f32::INFINITY),
        (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
        (f32::MIN_POSITIVE / 2.0, 0.0),
        (-f32::MIN_POSITIVE / 2.0, -0.0),
    ] {
        assert!(x.rounded().to_bits() == nearest.to_bits(), "{x} became {}", x.rounded());
        assert_eq!(x.pair(1.0).to_bits(), 0x3f80 << 16 | nearest.to_bits() >> 16, "{x}");
    }
    assert!(f32::NAN.rounded().is_nan());
}

/// Numbers for which instructions have rules of their own come out of them as they do one by one.
#[test]
fn packed_pairs_do_not_depend_on_who_packs_them() {
    if !multiplies_bf16(Isa::Avx512) {
        eprintln!("skipped: this processor has no AVX-512 BF16");
        return;
    }
    let special = [f32::MIN_POSITIVE / 3.0, -1e-40, f32::MAX, f32::INFINITY, 0.0, -0.0, 1.0 / 3.0, -1.003_906_3, 3e-39];
    let (k, n) = (67, 45);
    let b: Vec<f32> = (0..k * n).map(|i| special[i * 7 % special.len()] * if i % 5 == 0 { 0.7 } else { 1.0 }).collect();
    for transposed in [false, true] {
        let b = view(&b, k, n, transposed);
        let mut buffer = vec![0.0; packed_len_on::<f32>(Isa::Avx512, Precision::Bf16, k, n)];
        let width = f32::kernel(Isa::Avx512, Precision::Bf16).columns;
        pack_on(Isa::Avx512, Precision::Bf16, b, &mut buffer);
        for (i, &found) in buffer.iter().enumerate() {
            let (panel, row, column) = (i / (width * k.div_ceil(2)), i / width % k.div_ceil(2), i % width);
            let column = panel * width + column;
            let element = |row: usize| if row < k && column < n { at(b, row, column) as f32 } else { 0.0 };
            let right = element(2 * row).pair(element(2 * row + 1));
            assert_eq!(found.to_bits(), right.to_bits(), "transposed {transposed}: pair {row} of column {column}");
        }
    }
}

#[test]
#[should_panic(expected = "columns of the left matrix")]
fn shapes_must_fit() {
    gemm(Precision::Full, Matrix::new(&[0.0f32; 6], 2, 3), Matrix::new(&[0.0; 8], 2, 4), &mut [0.0; 8], Store::Set);
}

#[test]
#[should_panic(expected = "reaches beyond")]
fn a_matrix_lies_in_its_slice() {
    let _ = Matrix::with_strides(&[0.0f32; 6], 2, 3, 4, 1);
}

#[test]
fn blocks_cover_everything_once() {
    for (length, most, multiple) in [(0, 4, 1), (1, 4, 2), (1150, 256, 1), (4600, 4096, 16), (130, 126, 6)] {
        let mut next = 0;
        for block in blocks(length, most, multiple) {
            assert!(block.start == next && !block.is_empty() && block.len() <= most);
            assert!(block.end == length || block.len().is_multiple_of(multiple));
            next = block.end;
        }
        assert_eq!(next, length);
    }
}

#[test]
fn what_is_asked_for_ahead_is_every_line_of_every_row_and_no_other() {
    let line = |address: usize| address / 64;
    for (from, rows, length, stride) in [(64, 3, 16, 16), (1020, 5, 14, 1000), (8, 4, 364, 30_001), (132, 1, 1, 7)] {
        let asked: Vec<usize> =
            Lines::new(from as *const f32, rows, length, stride).map(|p| line(p as usize)).collect();
        let row = |r: usize| line(from + 4 * r * stride)..=line(from + 4 * (r * stride + length) - 1);
        assert!((0..rows).flat_map(row).all(|line| asked.contains(&line)), "{asked:?}");
        // at most one more behind each row
        assert!(asked.len() <= rows * (length.div_ceil(16) + 1), "{asked:?}");
        assert!(asked.iter().all(|line| (0..rows).any(|r| *row(r).start() <= *line && *line <= row(r).end() + 1)));
    }
}
