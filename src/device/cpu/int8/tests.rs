use super::kernels::run;
use super::*;
use crate::random::{Key, Site, Stream};

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut stream = Stream::new(Key::apart(3), Site::CUSTOM[1], seed, 0);
    (0..n).map(|_| stream.below(20_001) as f32 / 10_000.0 - 1.0).collect()
}

/// Calls `test` with every path of this processor, and says which it cannot.
fn for_each_path(mut test: impl FnMut(Path)) {
    for path in Path::ALL {
        if path.supported() {
            test(path);
        } else {
            eprintln!("skipped {}: this processor does not have it", path.name());
        }
    }
}

/// The largest values on both sides, and any others: the sums are those of plain arithmetic.
#[test]
fn all_paths_give_equal_integers() {
    let mut stream = Stream::new(Key::apart(4), Site::CUSTOM[1], 0, 0);
    for (rows, panels) in [(1, 1), (1, 8), (4, 1), (4, 4), (12, 1), (12, 2)] {
        for height in [4, 12, 1152] {
            for extreme in [true, false] {
                let mut byte = |small: u8, large: u8| match (extreme, stream.below(2)) {
                    (true, 0) => small,
                    (true, _) => large,
                    (false, _) => stream.below(256) as u8,
                };
                let left: Vec<u8> = (0..rows * height).map(|_| byte(1, 255)).collect();
                let right: Vec<i8> = (0..panels * PANEL * height).map(|_| byte(129, 127) as i8).collect();
                let expected: Vec<i32> = (0..rows * panels * PANEL)
                    .map(|at| {
                        let (row, n) = (at / (panels * PANEL), at % (panels * PANEL));
                        let w = |k: usize| right[(n / PANEL * height + k / 4 * 4) * PANEL + n % PANEL * 4 + k % 4];
                        (0..height).map(|k| i32::from(left[row * height + k]) * i32::from(w(k))).sum()
                    })
                    .collect();
                for_each_path(|path| {
                    let mut sums = vec![7; expected.len()];
                    run(path, &left, &right, [rows, panels, height], &mut sums);
                    assert!(sums == expected, "{path:?}, {rows} rows, {panels} panels, {height}");
                });
            }
        }
    }
}

struct Sizes {
    rows: usize,
    n: usize,
    k: usize,
}

fn product(path: Path, Sizes { rows, n, k }: &Sizes, x: &[f32], w: &[f32], fixed: bool) -> Vec<f32> {
    let mut packed = vec![0.0; packed_len::<f32>(*n, *k)];
    pack(w, *n, *k, &mut packed);
    let mut left = vec![0.0; left_len::<f32>(*rows, *k)];
    let mut left = Left::new(&mut left, *rows, *k);
    if fixed {
        left.quantise_fixed(x)
    } else {
        left.quantise(x)
    }
    let mut z: Vec<f32> = numbers(rows * n, 77);
    multiply_on(path, &left, *rows, &Weights::new(&packed, *n, *k), &mut z, Onto::C);
    z
}

/// Odd sizes; the same bits on every path and any number of threads; the product but for half a
/// step of each operand.
#[test]
fn products_are_near_and_have_the_same_bits() {
    for sizes in [
        Sizes { rows: 1, n: 1, k: 1 },
        Sizes { rows: 3, n: 17, k: 5 },
        Sizes { rows: 9, n: 300, k: 66 },
        Sizes { rows: 6, n: 700, k: 301 },
        Sizes { rows: 29, n: 51, k: 70 },
    ] {
        let Sizes { rows, n, k } = sizes;
        let (x, w, before) = (numbers(rows * k, 1), numbers(n * k, 2), numbers(rows * n, 77));
        for fixed in [true, false] {
            let plain = product(Path::Portable, &sizes, &x, &w, fixed);
            for_each_path(|path| assert!(product(path, &sizes, &x, &w, fixed) == plain, "{path:?} {rows} {n} {k}"));
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert!(pool.install(|| product(path(), &sizes, &x, &w, fixed)) == plain, "{threads} threads");
            }
            for row in 0..rows {
                for column in 0..n {
                    let pairs = || (0..k).map(|i| (f64::from(x[row * k + i]), f64::from(w[column * k + i])));
                    let exact: f64 = f64::from(before[row * n + column]) + pairs().map(|(x, w)| x * w).sum::<f64>();
                    // half a step of either, at most 1/254, times the other
                    let bound: f64 =
                        pairs().map(|(x, w)| (x.abs() + w.abs() + 1.0 / 254.0) / 254.0).sum::<f64>() + 1e-4;
                    let found = f64::from(plain[row * n + column]);
                    assert!((found - exact).abs() <= bound, "{row} {column}: {found} {exact} {bound}");
                }
            }
        }
    }
}

/// What a row becomes depends on nothing but the row.
#[test]
fn rows_do_not_depend_on_their_neighbours() {
    let (n, k) = (40, 30);
    let (mut x, w) = (numbers(5 * k, 5), numbers(n * k, 6));
    let all = |rows: usize, x: &[f32]| {
        let mut packed = vec![0.0; packed_len::<f32>(n, k)];
        pack(&w, n, k, &mut packed);
        let mut buffer = vec![0.0; left_len::<f32>(rows, k)];
        let mut left = Left::new(&mut buffer, rows, k);
        left.quantise(x);
        let mut z = vec![0.0; rows * n];
        multiply(&left, rows, &Weights::new(&packed, n, k), &mut z, Onto::Nothing);
        z
    };
    let five = all(5, &x);
    for row in 0..5 {
        assert_eq!(all(1, &x[row * k..][..k]), five[row * n..][..n]);
    }
    // a neighbour a thousand times as large
    x[..k].iter_mut().for_each(|x| *x *= 1000.0);
    assert_eq!(all(5, &x)[n..], five[n..]);
}

#[test]
fn zeros_and_what_is_no_number() {
    let sizes = Sizes { rows: 2, n: 3, k: 4 };
    let mut w = numbers(12, 1);
    w[..4].fill(0.0);
    let x = [vec![0.0; 4], numbers(4, 2)].concat();
    let before = numbers(6, 77);
    let found = product(Path::Portable, &sizes, &x, &w, false);
    assert_eq!(found[..3], before[..3], "a row of zeros adds nothing");
    assert_eq!(found[3], before[3], "a weight of zeros adds nothing");
    w[5] = f32::INFINITY;
    let found = product(Path::Portable, &sizes, &x, &w, false);
    assert!(found[4].is_nan() && found[1].is_nan() && found[5].is_finite());
    let x = [vec![f32::NAN, 0.0, 0.0, 0.0], numbers(4, 2)].concat();
    for fixed in [true, false] {
        let found = product(Path::Portable, &sizes, &x, &numbers(12, 1), fixed);
        assert!(found[..3].iter().all(|z| z.is_nan()) && found[3..].iter().all(|z| z.is_finite()));
    }
}

/// A whole number that is halfway goes to the even one, and the largest stay within a byte.
#[test]
fn numbers_are_rounded_to_even() {
    let whole = |x: f64| super::whole(x, 127.0);
    assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5].map(|q| whole(q / 127.0)), [0, 2, 2, 0, -2]);
    assert_eq!([1.0, -1.0, 1.5, -9.0].map(whole), [127, -127, 127, -127]);
}
