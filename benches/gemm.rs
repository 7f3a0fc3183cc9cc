//! Speed of the matrix products of an AWD-LSTM (400-1150-1150-400, batch 64, 70 time steps), on one thread and on all.
//!
//! `cargo bench --bench gemm [-- FILTER]`. Prints GFLOP/s and the share of what the processor can do, which is measured first by a
//! loop of multiply-adds in registers. Every product is verified before it is timed; the time is the shortest of many runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ulmfit::device::Real;
use ulmfit::device::cpu::gemm::{Matrix, Store, gemm, gemm_packed, pack, packed_len};
use ulmfit::device::cpu::isa::{Isa, isa, isa_from_environment};

/// How the operands lie: `a` or `b` transposed, or `b` packed before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Plain,
    LeftTransposed,
    RightTransposed,
    Packed,
}
use Layout::*;

/// (what, m, k, n, layout)
const PRODUCTS: [(&str, usize, usize, usize, Layout); 14] = [
    ("recurrent step, first layer", 64, 1150, 4600, Packed),
    ("recurrent step, last layer", 64, 400, 1600, Packed),
    ("recurrent step backwards", 64, 4600, 1150, Packed),
    ("one document, recurrent step", 1, 1150, 4600, Packed),
    ("small recurrent step", 64, 300, 1200, Packed),
    ("input, first layer", 4480, 400, 4600, RightTransposed),
    ("input, second layer", 4480, 1150, 4600, RightTransposed),
    ("gradient of the input", 4480, 4600, 400, Plain),
    ("gradient of a weight", 4600, 4480, 1150, LeftTransposed),
    ("logits", 4480, 400, 30_000, RightTransposed),
    ("gradient of the embedding", 7500, 1120, 400, LeftTransposed),
    ("classifier", 64, 1200, 50, RightTransposed),
    ("tiny", 8, 50, 64, RightTransposed),
    ("square", 2048, 2048, 2048, Plain),
];

fn main() {
    isa_from_environment().expect("ULMFIT_ISA names an instruction set of this processor");
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    println!("instruction set {}, {} threads", isa(), rayon::current_num_threads());
    run::<f32>("f32", &filter);
    run::<f64>("f64", &filter);
}

fn run<T: Real>(name: &str, filter: &str) {
    let one = peak::<T>();
    println!("{name}: peak {one:.1} GFLOP/s on one thread");
    println!("{:<30}{:>18}{:>12}{:>8}{:>12}{:>8}", "product", "m x k x n", "1 thread", "peak", "all", "peak");
    let threads = rayon::current_num_threads();
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for (what, m, k, n, layout) in PRODUCTS {
        if !what.contains(filter) || (name == "f64" && filter.is_empty() && m * k * n > 2_000_000_000) {
            continue;
        }
        let mut product = Product::<T>::new(m, k, n, layout);
        product.verify(what);
        let alone = single.install(|| product.gflops());
        let all = product.gflops();
        println!(
            "{what:<30}{:>18}{alone:>12.1}{:>7.0}%{all:>12.1}{:>7.0}%",
            format!("{m}x{k}x{n}"),
            alone / one * 100.0,
            all / (one * threads as f64) * 100.0
        );
    }
}

struct Product<T> {
    m: usize,
    k: usize,
    n: usize,
    layout: Layout,
    a: Vec<T>,
    b: Vec<T>,
    c: Vec<T>,
    packed: Vec<T>,
}

impl<T: Real> Product<T> {
    fn new(m: usize, k: usize, n: usize, layout: Layout) -> Self {
        let numbers = |count: usize, step: u32| -> Vec<T> {
            let number = |i: u32| T::from_f64(f64::from(i.wrapping_mul(step) >> 8) / f64::from(1 << 23) - 1.0);
            (0..count as u32).map(number).collect()
        };
        Product {
            m,
            k,
            n,
            layout,
            a: numbers(m * k, 2_654_435_761),
            b: numbers(k * n, 2_246_822_519),
            c: vec![T::ZERO; m * n],
            packed: vec![T::ZERO; if layout == Packed { packed_len::<T>(k, n) } else { 0 }],
        }
    }

    fn gflops(&mut self) -> f64 {
        let Product { m, k, n, layout, ref a, ref b, ref mut c, ref mut packed } = *self;
        let time = match layout {
            Plain => shortest(|| gemm(Matrix::new(a, m, k), Matrix::new(b, k, n), c, Store::Set)),
            LeftTransposed => shortest(|| gemm(Matrix::new(a, k, m).t(), Matrix::new(b, k, n), c, Store::Set)),
            RightTransposed => shortest(|| gemm(Matrix::new(a, m, k), Matrix::new(b, n, k).t(), c, Store::Set)),
            Packed => {
                let packed = pack(Matrix::new(b, k, n), packed);
                shortest(|| gemm_packed(Matrix::new(a, m, k), &packed, c, Store::Set))
            }
        };
        2.0 * (m * k * n) as f64 / time.as_secs_f64() / 1e9
    }

    /// Compares some elements with a plain sum in f64.
    fn verify(&mut self, what: &str) {
        self.gflops();
        let (m, k, n) = (self.m, self.k, self.n);
        let u = if std::mem::size_of::<T>() == 4 { 2f64.powi(-24) } else { 2f64.powi(-52) };
        for index in (0..m * n).step_by((m * n / 1000).max(1) | 1) {
            let (i, j) = (index / n, index % n);
            let (mut sum, mut size) = (0.0, 0.0);
            for l in 0..k {
                let left = self.a[if self.layout == LeftTransposed { l * m + i } else { i * k + l }].to_f64();
                let right = self.b[if self.layout == RightTransposed { j * k + l } else { l * n + j }].to_f64();
                sum += left * right;
                size += (left * right).abs();
            }
            let found = self.c[index].to_f64();
            assert!((found - sum).abs() <= (k + 2) as f64 * u * size, "{what}: ({i}, {j}) is {found}, not {sum}");
        }
    }
}

/// The shortest of the runs in about half a second, after one to warm up.
fn shortest(mut work: impl FnMut()) -> Duration {
    work();
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        work();
        black_box(());
        best = best.min(start.elapsed());
    }
    best
}

/// GFLOP/s of independent multiply-adds in the registers of one thread.
fn peak<T: Real>() -> f64 {
    const STEPS: usize = 1 << 20;
    let (lanes, vectors) = match isa() {
        Isa::Portable => (4, 8),
        Isa::Avx2 => (32 / std::mem::size_of::<T>(), 12),
        Isa::Avx512 => (64 / std::mem::size_of::<T>(), 24),
    };
    let single = std::mem::size_of::<T>() == 4;
    let time = shortest(|| match isa() {
        Isa::Portable => portable::<T>(STEPS),
        // SAFETY: the processor has the instructions, or `isa` would not say so.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { if single { x86::avx2_f32(STEPS) } else { x86::avx2_f64(STEPS) } },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { if single { x86::avx512_f32(STEPS) } else { x86::avx512_f64(STEPS) } },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only x86-64 has these"),
    });
    (2 * STEPS * lanes * vectors) as f64 / time.as_secs_f64() / 1e9
}

fn portable<T: Real>(steps: usize) {
    let x = black_box([T::from_f64(0.5); 4]);
    let mut sums = black_box([[T::ZERO; 4]; 8]);
    for _ in 0..steps {
        for sum in &mut sums {
            for (sum, &x) in sum.iter_mut().zip(&x) {
                *sum = *sum * x + x;
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    macro_rules! peak {
        ($name:ident, $feature:literal, $vectors:literal, $set:ident, $x:literal, $multiply_add:ident) => {
            #[target_feature(enable = $feature)]
            pub fn $name(steps: usize) {
                let x = black_box($set($x));
                let mut sums = [x; $vectors];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $multiply_add(*sum, x, x);
                    }
                }
                black_box(sums);
            }
        };
    }
    peak!(avx2_f32, "avx2,fma", 12, _mm256_set1_ps, 0.5, _mm256_fmadd_ps);
    peak!(avx2_f64, "avx2,fma", 12, _mm256_set1_pd, 0.5, _mm256_fmadd_pd);
    peak!(avx512_f32, "avx512f", 24, _mm512_set1_ps, 0.5, _mm512_fmadd_ps);
    peak!(avx512_f64, "avx512f", 24, _mm512_set1_pd, 0.5, _mm512_fmadd_pd);
}
