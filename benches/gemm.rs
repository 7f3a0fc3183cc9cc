//! Speed of the matrix products of an AWD-LSTM (400-1150-1150-400, batch 64, 70 time steps), on one
//! thread and on all.
//!
//! `cargo bench --bench gemm [-- FILTER]`. Prints GFLOP/s and the share of what the processor can
//! do, which is measured first by a loop of multiply-adds in registers; and how many times as fast
//! as the crates `gemm` and `matrixmultiply` this is, all threads of each. Every product is
//! verified before it is timed; the time is the shortest of many runs, of ours and theirs in turn.
//!
//! Operands lie in tensors, as in the program: in huge pages where the system has any, for all
//! three alike.
//!
//! `matrixmultiply` takes its threads from `MATMUL_NUM_THREADS`, four at most. Neither crate packs
//! ahead: against a product whose right operand is packed before, they have the packing to do.

use std::hint::black_box;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use ulmfit::bench::peaks::fma;
use ulmfit::device::Precision;
use ulmfit::device::Real;
use ulmfit::device::cpu::gemm::{Matrix, Store, gemm, gemm_packed, pack, packed_len};
use ulmfit::device::cpu::isa::{isa, isa_from_environment};
use ulmfit::tensor::Tensor;

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
const PRODUCTS: [(&str, usize, usize, usize, Layout); 17] = [
    ("recurrent step, first layer", 64, 1150, 4600, Packed),
    ("recurrent step, last layer", 64, 400, 1600, Packed),
    ("recurrent step backwards", 64, 4600, 1150, Packed),
    ("one document, recurrent step", 1, 1150, 4600, Packed),
    ("small recurrent step", 64, 300, 1200, Packed),
    ("six documents, small step", 6, 500, 2000, Packed),
    ("one document, small step", 1, 500, 2000, Packed),
    ("input, first layer", 4480, 400, 4600, RightTransposed),
    ("input, second layer", 4480, 1150, 4600, RightTransposed),
    ("gradient of the input", 4480, 4600, 400, Plain),
    ("gradient of a weight", 4600, 4480, 1150, LeftTransposed),
    ("logits of a block of rows", 140, 400, 30_000, Packed),
    ("gradient of a block's input", 140, 30_000, 400, Packed),
    ("gradient of the embedding", 30_000, 140, 400, LeftTransposed),
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

fn run<T: Real + Others>(name: &str, filter: &str) {
    let one = fma::<T>(1);
    let many = fma::<T>(rayon::current_num_threads());
    println!("{name}: peak {one:.1} GFLOP/s on one thread, {many:.1} on all");
    println!(
        "{:<30}{:>18}{:>12}{:>8}{:>12}{:>8}{:>10}{:>16}",
        "product", "m x k x n", "1 thread", "peak", "all", "peak", "/ gemm", "/ matrixmultiply"
    );
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for (what, m, k, n, layout) in PRODUCTS {
        if !what.contains(filter) || (name == "f64" && filter.is_empty() && m * k * n > 2_000_000_000) {
            continue;
        }
        let product = Product::<T>::new(m, k, n, layout);
        product.verify(what);
        let alone = single.install(|| product.gflops(Whose::Ours));
        let [mut all, mut gemm, mut matrixmultiply] = [0.0f64; 3];
        for _ in 0..3 {
            all = all.max(product.gflops(Whose::Ours));
            gemm = gemm.max(product.gflops(Whose::Gemm));
            matrixmultiply = matrixmultiply.max(product.gflops(Whose::MatrixMultiply));
        }
        println!(
            "{what:<30}{:>18}{alone:>12.1}{:>7.0}%{all:>12.1}{:>7.0}%{:>10.2}{:>16.2}",
            format!("{m}x{k}x{n}"),
            alone / one * 100.0,
            all / many * 100.0,
            all / gemm,
            all / matrixmultiply
        );
    }
}

/// Whose product it is.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Ours,
    Gemm,
    MatrixMultiply,
}

/// The other crates' products.
trait Others: Sized {
    /// `c = a·b`; each operand with its strides of rows and columns.
    fn multiply(whose: Whose, sizes: [usize; 3], a: (&[Self], [usize; 2]), b: (&[Self], [usize; 2]), c: &mut [Self]);
}

macro_rules! others {
    ($t:ty, $matrixmultiply:path) => {
        impl Others for $t {
            fn multiply(
                whose: Whose,
                [m, k, n]: [usize; 3],
                (a, [a_row, a_column]): (&[$t], [usize; 2]),
                (b, [b_row, b_column]): (&[$t], [usize; 2]),
                c: &mut [$t],
            ) {
                assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n);
                let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                let [a_row, a_column, b_row, b_column, width] =
                    [a_row, a_column, b_row, b_column, n].map(|s| s as isize);
                // SAFETY: the slices hold whole matrices with these strides, as was asserted; `c`
                // is borrowed mutably.
                match whose {
                    Whose::Ours => unreachable!("ours is called by its own name"),
                    Whose::Gemm => unsafe {
                        let threads = gemm::Parallelism::Rayon(0);
                        gemm::gemm(
                            m, n, k, c, 1, width, false, a, a_column, a_row, b, b_column, b_row, 0.0, 1.0, false,
                            false, false, threads,
                        );
                    },
                    Whose::MatrixMultiply => unsafe {
                        $matrixmultiply(m, k, n, 1.0, a, a_row, a_column, b, b_row, b_column, 0.0, c, width, 1);
                    },
                }
            }
        }
    };
}
others!(f32, matrixmultiply::sgemm);
others!(f64, matrixmultiply::dgemm);

struct Product<T> {
    m: usize,
    k: usize,
    n: usize,
    layout: Layout,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    packed: Tensor,
    element: PhantomData<T>,
}

impl<T: Real + Others> Product<T> {
    fn new(m: usize, k: usize, n: usize, layout: Layout) -> Self {
        let numbers = |count: usize, step: u32| {
            let number = |i: u32| T::from_f64(f64::from(i.wrapping_mul(step) >> 8) / f64::from(1 << 23) - 1.0);
            Tensor::from_slice([count], &(0..count as u32).map(number).collect::<Vec<_>>())
                .expect("room for an operand")
        };
        let zeros = |count| Tensor::zeros([count], T::DTYPE).expect("room for a matrix");
        Product {
            m,
            k,
            n,
            layout,
            a: numbers(m * k, 2_654_435_761),
            b: numbers(k * n, 2_246_822_519),
            c: zeros(m * n),
            packed: zeros(if layout == Packed { packed_len::<T>(Precision::Full, k, n) } else { 0 }),
            element: PhantomData,
        }
    }

    fn gflops(&self, whose: Whose) -> f64 {
        let Product { m, k, n, layout, .. } = *self;
        let (a, b) = (&*self.a.read::<T>(), &*self.b.read::<T>());
        let (c, packed) = (&mut *self.c.write::<T>(), &mut *self.packed.write::<T>());
        let time = match (whose, layout) {
            (Whose::Ours, Plain) => {
                shortest(|| gemm(Precision::Full, Matrix::new(a, m, k), Matrix::new(b, k, n), c, Store::Set))
            }
            (Whose::Ours, LeftTransposed) => {
                shortest(|| gemm(Precision::Full, Matrix::new(a, k, m).t(), Matrix::new(b, k, n), c, Store::Set))
            }
            (Whose::Ours, RightTransposed) => {
                shortest(|| gemm(Precision::Full, Matrix::new(a, m, k), Matrix::new(b, n, k).t(), c, Store::Set))
            }
            (Whose::Ours, Packed) => {
                let packed = pack(Precision::Full, Matrix::new(b, k, n), packed);
                shortest(|| gemm_packed(Matrix::new(a, m, k), &packed, c, Store::Set))
            }
            (whose, layout) => {
                let left = if layout == LeftTransposed { [1, m] } else { [k, 1] };
                let right = if layout == RightTransposed { [1, k] } else { [n, 1] };
                shortest(|| T::multiply(whose, [m, k, n], (a, left), (b, right), c))
            }
        };
        2.0 * (m * k * n) as f64 / time.as_secs_f64() / 1e9
    }

    /// Compares some elements with a plain sum in f64.
    fn verify(&self, what: &str) {
        for whose in [Whose::Ours, Whose::Gemm, Whose::MatrixMultiply] {
            self.c.fill_zero();
            self.gflops(whose);
            self.check(&format!("{what}, {whose:?}"));
        }
    }

    fn check(&self, what: &str) {
        let (m, k, n) = (self.m, self.k, self.n);
        let (a, b, c) = (self.a.read::<T>(), self.b.read::<T>(), self.c.read::<T>());
        let u = if std::mem::size_of::<T>() == 4 { 2f64.powi(-24) } else { 2f64.powi(-52) };
        for index in (0..m * n).step_by((m * n / 1000).max(1) | 1) {
            let (i, j) = (index / n, index % n);
            let (mut sum, mut size) = (0.0, 0.0);
            for l in 0..k {
                let left = a[if self.layout == LeftTransposed { l * m + i } else { i * k + l }].to_f64();
                let right = b[if self.layout == RightTransposed { j * k + l } else { l * n + j }].to_f64();
                sum += left * right;
                size += (left * right).abs();
            }
            let found = c[index].to_f64();
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
