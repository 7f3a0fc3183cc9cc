//! Micro-kernels: one tile of the product in registers, one block of k at a time.
//!
//! A tile is `rows × columns` elements of C. Each has an accumulator of its own, which starts at
//! zero and takes the products in the order of k: the bits of an element depend on nothing else,
//! and are the same for every tile shape and vector width.

use super::super::isa::Isa;
use super::bf16::Form;
use crate::device::{Precision, Real};

/// Computes `c = start + a·b` for one tile: `(rows, k, a, b, ahead, c, c_stride, columns, start)`.
///
/// - `k`: packed elements, of which each holds [`Form::depth`] of the operand
/// - `a`: packed, `[k, rows]`, with `1 ≤ rows ≤` [`MicroKernel::rows`]
/// - `b`: packed, `[k, MicroKernel::columns]`; columns beyond `columns` are computed and thrown
///   away
/// - `ahead`: memory to prefetch meanwhile
/// - `c`: `rows` rows of `columns` elements, `c_stride` apart
/// - `start`: of each row as many elements as of `c`
///
/// # Safety
/// The pointers must be valid for these elements, nobody else may touch the elements of `c`
/// meanwhile, and the processor must have the instructions of the kernel.
pub type Run<T> = unsafe fn(usize, usize, *const T, *const T, &mut Ahead, *mut T, usize, usize, Start<T>);

/// The start of the sums of a tile. It may be the tile of C itself.
#[derive(Clone, Copy, Debug)]
pub struct Start<T> {
    /// Null: nothing.
    pub from: *const T,
    /// Elements from one row to the next. 0: one row for all.
    pub stride: usize,
}

impl<T> Start<T> {
    pub const NOTHING: Self = Start { from: std::ptr::null(), stride: 0 };
}

/// Memory that is prefetched while a tile is computed, because it is needed after it; it goes into
/// the second-level cache.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// A part of the next panel of the right operand, if the kernel does that
    /// ([`Prefetch::Panel`]).
    pub right: *const i8,
    /// Cache lines of that part.
    pub right_lines: usize,
    /// The next block of the left operand: so that packing does not wait for a far
    /// cache.
    pub left: Lines,
    /// Cache lines of it that are prefetched during one tile.
    pub left_lines: usize,
}

/// Cache lines of a matrix in memory, row by row.
#[derive(Clone, Debug)]
pub struct Lines {
    next: *const i8,
    /// Left of this row.
    rest: usize,
    /// Lines of a row.
    row: usize,
    /// Bytes from the last one of a row to the first one of the next.
    skip: usize,
    /// Left in all.
    count: usize,
}

impl Lines {
    pub const NONE: Self = Lines { next: std::ptr::null(), rest: 0, row: 0, skip: 0, count: 0 };

    /// The cache lines of `rows` rows of `length` elements each, which are `stride` elements apart.
    pub fn new<T>(from: *const T, rows: usize, length: usize, stride: usize) -> Self {
        // one more, because a row need not start where a line does
        let row = (length * size_of::<T>()).div_ceil(64) + 1;
        let skip = (stride * size_of::<T>()).wrapping_sub((row - 1) * 64);
        Lines { next: from.cast(), rest: row, row, skip, count: rows * row }
    }
}

impl Iterator for Lines {
    type Item = *const i8;

    /// An address in the next line.
    #[inline(always)]
    fn next(&mut self) -> Option<*const i8> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        self.rest -= 1;
        let line = self.next;
        let step = if self.rest == 0 { self.skip } else { 64 };
        self.rest = if self.rest == 0 { self.row } else { self.rest };
        self.next = line.wrapping_add(step);
        Some(line)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Lines {}

/// How a micro-kernel sees to it that the right operand is in a cache when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefetch {
    /// Its own panel, so many rows of k in advance, into the first-level cache.
    Rows(usize),
    /// The next panel ([`Ahead::right`]), into the second-level cache, evenly over the tiles of
    /// this one: with few instructions, and so that a panel that comes from memory has the time of
    /// all of them to do so.
    Panel,
}

/// Measured with AVX-512: on Zen 4 8 to 32 rows help, most the last, and 48 are as good; on Zen 5,
/// which multiplies twice as fast, 48 raise the products of one step of the recurrence by 3 to 7 %
/// over 32, large ones by up to 2 %, and 64 or more take that back. With AVX2 a turn has half the
/// products, so that these instructions count: on a Zen 3 whose cores are shared,
/// [`Prefetch::Panel`] and turns of eight rows raise 64x1150x4600 from 64 to 75 % of the peak,
/// large products from 66-83 to 76-86 %.
const FAR: Prefetch = Prefetch::Rows(48);

/// Computes `c = start + a·b` for one row and [`ROW_PANELS`] whole panels: `(k, a, b, c, start)`.
/// One panel's sums are too few to keep the processor busy while the panel comes from a far cache.
///
/// - `a`: `[k]`; `b`: the panels, one behind the other; `c`: as many elements as they have columns;
///   `start`: as many, or null
///
/// # Safety
/// As for [`Run`].
pub type RunRow<T> = unsafe fn(usize, *const T, *const T, *mut T, *const T);

/// Panels that [`RunRow`] goes through at once.
pub const ROW_PANELS: usize = 4;

/// A micro-kernel and the shape of its tiles.
#[derive(Clone, Copy, Debug)]
pub struct MicroKernel<T> {
    /// Most rows of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// How its operands are packed.
    pub form: Form,
    pub run: Run<T>,
    pub run_row: RunRow<T>,
}

/// An element type that has micro-kernels.
pub trait Multiply: Sized + 'static {
    /// The micro-kernel of an instruction set.
    fn kernel(isa: Isa, precision: Precision) -> MicroKernel<Self>;
}

macro_rules! multiply {
    ($t:ty, $portable:ident, $avx2:ident, $avx512:ident $(, $bf16:ident)?) => {
        impl Multiply for $t {
            fn kernel(isa: Isa, precision: Precision) -> MicroKernel<$t> {
                let kernel = match isa {
                    Isa::Portable => $portable::KERNEL,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => $avx2::KERNEL,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => $avx512::KERNEL,
                    #[cfg(not(target_arch = "x86_64"))]
                    _ => unreachable!("only x86-64 has these"),
                };
                match precision {
                    Precision::Full => kernel,
                    $(Precision::Bf16 if super::super::isa::multiplies_bf16(isa) => $bf16::KERNEL,)?
                    Precision::Bf16 => MicroKernel { form: Form::Rounded, ..kernel },
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
multiply!(f32, portable_f32, avx2_f32, avx512_f32, avx512_bf16);
#[cfg(not(target_arch = "x86_64"))]
multiply!(f32, portable_f32, avx2_f32, avx512_f32);
multiply!(f64, portable_f64, avx2_f64, avx512_f64);

/// One source for all kernels: `$vector` is a vector of `$lanes` elements, a tile is `$vectors` of
/// them wide, and the list of `$rows` counts up to the most rows of a tile. `$unroll` rows of k
/// make one turn of the inner loop.
macro_rules! kernel {
    (
        $name:ident, $t:ty, $vector:ty, lanes: $lanes:literal, vectors: $vectors:literal, rows: [$($rows:literal)*] $most:literal,
        use: $import:path, zero: $zero:path, broadcast: $broadcast:path, load: $load:path, store: $store:path, add: $add:path,
        multiply_add: $multiply_add:path, form: $form:ident, prefetch: $prefetch:expr, unroll: $unroll:literal $(, feature: $feature:literal)?
    ) => {
        mod $name {
            use super::{Ahead, Form, MicroKernel, Prefetch, ROW_PANELS, Start, copy_part, prefetch, prefetch_second};
            #[allow(unused_imports)]
            use $import::*;

            const COLUMNS: usize = $lanes * $vectors;
            /// Rows of k for which the right operand is prefetched by a product of one
            /// row.
            const AHEAD: usize = 32;
            pub const KERNEL: MicroKernel<$t> = MicroKernel { rows: $most, columns: COLUMNS, form: Form::$form, run, run_row };

            /// See [`super::Run`].
            ///
            /// # Safety
            /// As [`super::Run`].
            #[allow(clippy::too_many_arguments)]
            unsafe fn run(
                rows: usize, k: usize, a: *const $t, b: *const $t, ahead: &mut Ahead, c: *mut $t, c_stride: usize, columns: usize,
                start: Start<$t>,
            ) {
                if columns < COLUMNS && columns != $lanes {
                    let mut whole = [0.0; COLUMNS * $most];
                    // SAFETY: what this function was promised; `whole` has room for a tile.
                    unsafe {
                        run(rows, k, a, b, ahead, whole.as_mut_ptr(), COLUMNS, columns.next_multiple_of($lanes), Start::NOTHING);
                        copy_part(&whole, COLUMNS, c, c_stride, rows, columns, start);
                    }
                    return;
                }
                // SAFETY: what this function was promised.
                unsafe {
                    match (rows, columns) {
                        $(($rows, $lanes) => tile::<$rows, 1>(k, a, b, ahead, c, c_stride, start),
                        ($rows, _) => tile::<$rows, $vectors>(k, a, b, ahead, c, c_stride, start),)*
                        _ => unreachable!("a tile has 1 to {} rows", $most),
                    }
                }
            }

            /// See [`super::RunRow`].
            ///
            /// # Safety
            /// As [`super::Run`].
            #[allow(unused_unsafe)]
            $(#[target_feature(enable = $feature)])?
            unsafe fn run_row(k: usize, a: *const $t, b: *const $t, c: *mut $t, start: *const $t) {
                const LINE: usize = 64 / size_of::<$t>();
                let mut sums = [[$zero(); $vectors]; ROW_PANELS];
                for k_index in 0..k {
                    // SAFETY: `a` has k elements.
                    let left = $broadcast(unsafe { *a.add(k_index) });
                    for (panel, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: row `k_index` of the panel, which has COLUMNS elements.
                        let row = unsafe { b.add((panel * k + k_index) * COLUMNS) };
                        for first in (0..COLUMNS).step_by(LINE) {
                            prefetch(row.wrapping_add(AHEAD * COLUMNS + first).cast());
                        }
                        for (v, sum) in sums.iter_mut().enumerate() {
                            // SAFETY: as above.
                            *sum = $multiply_add(left, unsafe { $load(row.add(v * $lanes)) }, *sum);
                        }
                    }
                }
                for (v, &sum) in sums.iter().flatten().enumerate() {
                    // SAFETY: `c`, and `start` if it is not null, have as many elements as the
                    // panels have columns.
                    unsafe {
                        $store(c.add(v * $lanes), if start.is_null() { sum } else { $add($load(start.add(v * $lanes)), sum) });
                    }
                }
            }

            /// [`super::Run`] for a tile that is `VECTORS` vectors wide.
            ///
            /// # Safety
            /// As [`super::Run`].
            #[allow(unused_unsafe)]
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile<const ROWS: usize, const VECTORS: usize>(
                k: usize, mut a: *const $t, mut b: *const $t, ahead: &mut Ahead, c: *mut $t, c_stride: usize, start: Start<$t>,
            ) {
                const LINE: usize = 64 / size_of::<$t>();
                let mut sums: [[$vector; VECTORS]; ROWS] = [[$zero(); VECTORS]; ROWS];
                let mut step = |unrolled: usize| {
                    for u in 0..unrolled {
                        if let Prefetch::Rows(rows) = $prefetch {
                            for first in (0..COLUMNS).step_by(LINE) {
                                prefetch(b.wrapping_add((u + rows) * COLUMNS + first).cast());
                            }
                        }
                        let mut right = [$zero(); VECTORS];
                        for (v, right) in right.iter_mut().enumerate() {
                            // SAFETY: `b` is `u` rows before row k of the packed panel, which has
                            // COLUMNS elements.
                            *right = unsafe { $load(b.add(u * COLUMNS + v * $lanes)) };
                        }
                        for (i, sums) in sums.iter_mut().enumerate() {
                            // SAFETY: `a` is `u` rows before row k of the packed panel, which has
                            // ROWS elements.
                            let left = $broadcast(unsafe { *a.add(u * ROWS + i) });
                            for (sum, &right) in sums.iter_mut().zip(&right) {
                                *sum = $multiply_add(left, right, *sum);
                            }
                        }
                    }
                    // SAFETY: at most one past the end of the panels.
                    unsafe {
                        a = a.add(unrolled * ROWS);
                        b = b.add(unrolled * COLUMNS);
                    }
                };
                // C is prefetched a row at a time between the products: all rows at once are more
                // lines than a processor can wait for, so that the loads of the operands would wait
                // with them; and the last ones must have come before they are needed.
                let turns = k / $unroll;
                let between = turns / (ROWS + 2);
                let (mut next, mut lines) = (ahead.right, ahead.right_lines);
                let lines_a_turn = lines.div_ceil(turns.max(1));
                let of_left = ahead.left_lines.div_ceil(ROWS + 1);
                for i in 0..=ROWS {
                    ahead.left.by_ref().take(of_left).for_each(prefetch_second);
                    if i < ROWS {
                        let row = c.wrapping_add(i * c_stride);
                        for first in (0..VECTORS * $lanes).step_by(LINE) {
                            prefetch(row.wrapping_add(first).cast());
                        }
                        // rows need not start where a cache line does
                        prefetch(row.wrapping_add(VECTORS * $lanes - 1).cast());
                    }
                    for _ in 0..if i < ROWS { between } else { turns - ROWS * between } {
                        if $prefetch == Prefetch::Panel && lines > 0 {
                            for _ in 0..lines_a_turn {
                                prefetch_second(next);
                                next = next.wrapping_add(64);
                            }
                            lines = lines.saturating_sub(lines_a_turn);
                        }
                        step($unroll);
                    }
                }
                for _ in turns * $unroll..k {
                    step(1);
                }
                for (i, sums) in sums.iter().enumerate() {
                    for (v, &sum) in sums.iter().enumerate() {
                        // SAFETY: row i of the tile, which has VECTORS vectors, as has that of
                        // `start` if it is not null.
                        unsafe {
                            let value = if start.from.is_null() {
                                sum
                            } else {
                                $add($load(start.from.add(i * start.stride + v * $lanes)), sum)
                            };
                            $store(c.add(i * c_stride + v * $lanes), value);
                        }
                    }
                }
            }
        }
    };
}

/// Stores the used part of a tile at the right edge of C.
///
/// # Safety
/// As for [`Run`].
#[inline(never)]
unsafe fn copy_part<T: Real>(
    tile: &[T],
    tile_stride: usize,
    c: *mut T,
    c_stride: usize,
    rows: usize,
    columns: usize,
    start: Start<T>,
) {
    for i in 0..rows {
        for (j, &sum) in tile[i * tile_stride..][..columns].iter().enumerate() {
            // SAFETY: row i of the tile in C, which has `columns` elements, as has that of `start`
            // if it is not null.
            unsafe {
                *c.add(i * c_stride + j) =
                    if start.from.is_null() { sum } else { *start.from.add(i * start.stride + j) + sum };
            }
        }
    }
}

kernel!(
    portable_f32, f32, [f32; 4], lanes: 4, vectors: 2, rows: [1 2 3 4] 4,
    use: super::plain, zero: zero, broadcast: broadcast, load: load, store: store, add: add, multiply_add: multiply_add, form: Plain,
    prefetch: super::FAR, unroll: 1
);
kernel!(
    portable_f64, f64, [f64; 4], lanes: 4, vectors: 1, rows: [1 2 3 4] 4,
    use: super::plain, zero: zero, broadcast: broadcast, load: load, store: store, add: add, multiply_add: multiply_add, form: Plain,
    prefetch: super::FAR, unroll: 1
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2_f32, f32, __m256, lanes: 8, vectors: 2, rows: [1 2 3 4 5 6] 6,
    use: std::arch::x86_64, zero: _mm256_setzero_ps, broadcast: _mm256_set1_ps, load: _mm256_loadu_ps, store: _mm256_storeu_ps,
    add: _mm256_add_ps, multiply_add: _mm256_fmadd_ps, form: Plain, prefetch: Prefetch::Panel, unroll: 8,
    feature: "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2_f64, f64, __m256d, lanes: 4, vectors: 2, rows: [1 2 3 4 5 6] 6,
    use: std::arch::x86_64, zero: _mm256_setzero_pd, broadcast: _mm256_set1_pd, load: _mm256_loadu_pd, store: _mm256_storeu_pd,
    add: _mm256_add_pd, multiply_add: _mm256_fmadd_pd, form: Plain, prefetch: Prefetch::Panel, unroll: 8,
    feature: "avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512_f32, f32, __m512, lanes: 16, vectors: 2, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] 14,
    use: std::arch::x86_64, zero: _mm512_setzero_ps, broadcast: _mm512_set1_ps, load: _mm512_loadu_ps, store: _mm512_storeu_ps,
    add: _mm512_add_ps, multiply_add: _mm512_fmadd_ps, form: Plain, prefetch: super::FAR, unroll: 1,
    feature: "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512_f64, f64, __m512d, lanes: 8, vectors: 2, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] 14,
    use: std::arch::x86_64, zero: _mm512_setzero_pd, broadcast: _mm512_set1_pd, load: _mm512_loadu_pd, store: _mm512_storeu_pd,
    add: _mm512_add_pd, multiply_add: _mm512_fmadd_pd, form: Plain, prefetch: super::FAR, unroll: 1,
    feature: "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512_bf16, f32, __m512, lanes: 16, vectors: 2, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] 14,
    use: std::arch::x86_64, zero: _mm512_setzero_ps, broadcast: _mm512_set1_ps, load: _mm512_loadu_ps, store: _mm512_storeu_ps,
    add: _mm512_add_ps, multiply_add: super::super::bf16::dot, form: Pairs, prefetch: super::FAR, unroll: 1,
    feature: "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma"
);

/// Asks for a cache line that is needed soon (in the first-level cache).
#[inline(always)]
pub fn prefetch(line: *const i8) {
    // SAFETY: a hint; it touches nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line);
    }
}

/// Asks for a cache line in the second-level cache.
#[inline(always)]
fn prefetch_second(line: *const i8) {
    // SAFETY: a hint; it touches nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line);
    }
}

/// Four elements as an array, which compilers keep in whatever registers the target has.
mod plain {
    use crate::device::Real;

    #[inline(always)]
    pub fn zero<T: Real>() -> [T; 4] {
        [T::ZERO; 4]
    }

    #[inline(always)]
    pub fn broadcast<T: Real>(x: T) -> [T; 4] {
        [x; 4]
    }

    /// # Safety
    /// `from` must be valid for reading four elements.
    #[inline(always)]
    pub unsafe fn load<T: Real>(from: *const T) -> [T; 4] {
        // SAFETY: the promise of this function's callers; arrays are aligned like their elements.
        unsafe { *from.cast() }
    }

    /// # Safety
    /// `to` must be valid for writing four elements.
    #[inline(always)]
    pub unsafe fn store<T: Real>(to: *mut T, x: [T; 4]) {
        // SAFETY: what this function was promised; arrays are aligned like their elements.
        unsafe { *to.cast() = x }
    }

    #[inline(always)]
    pub fn add<T: Real>(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    pub fn multiply_add<T: Real>(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}
