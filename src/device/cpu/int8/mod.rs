//! Products with weights of 8 bits, for prediction.
//!
//! A weight `[N, K]` is quantised by rows: `w ≈ s·q` with `s = max|w| / 127` and a whole `q` from
//! −127 to 127, rounded to even. Rows of the left operand are quantised as they come, each with a
//! scale of its own or all with a fixed one: the result of a row depends on that row alone.
//! Sums of `q·q` are whole numbers, so every path below gives the same ones, whatever its
//! instructions:
//!
//! | path | instructions |
//! |---|---|
//! | `Avx512Vnni` | `vpdpbusd` on 512 bits |
//! | `AvxVnni` | `vpdpbusd` on 256 bits |
//! | `Avx2` | products of 16 bits (`vpmaddwd`); nothing saturates |
//! | `Portable` | plain code |
//!
//! The left operand is stored as `q + 128`, because `vpdpbusd` multiplies unsigned by signed bytes;
//! 128 times the sum of a row of weights is taken away again.

mod kernels;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::kernels::{PANEL, STEP, Tile};
pub use self::kernels::{Path, path};
use super::super::Real;
use super::gemm::Onto;
use super::isa::{Kernel, dispatch};
use crate::trace;

/// Most columns of a weight: above, a sum could leave 32 bits (255 · 127 · K < 2³¹).
pub const MOST_COLUMNS: usize = 65_536;
/// The largest whole number of a quantised value.
const LARGEST: f64 = 127.0;
/// The offset of a value of the left operand.
const OFFSET: i32 = 128;
/// Products with fewer multiplications than this are computed by the calling thread alone.
const PARALLEL_FROM: usize = 1 << 20;
/// Fewer values than this are quantised by the calling thread alone.
const QUANTISED_TOGETHER: usize = 1 << 16;
/// Values that are looked at side by side.
const LANES: usize = 32;
/// Panels that a thread takes at a time.
const TOGETHER: usize = 16;

/// A weight `[N, K]`, quantised and packed: panels of 16 rows, in them four columns at a time; then
/// the sums and the scales of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, T> {
    data: &'a [i8],
    sums: &'a [i32],
    scales: &'a [T],
    rows: usize,
    columns: usize,
}

/// Sizes of the parts of a packed weight, in bytes: data, sums.
fn parts(rows: usize, columns: usize) -> [usize; 2] {
    let rows = rows.next_multiple_of(PANEL);
    [rows * columns.next_multiple_of(STEP), 4 * rows]
}

/// Elements that [`pack`] needs for a weight `[rows, columns]`.
pub fn packed_len<T>(rows: usize, columns: usize) -> usize {
    let [data, sums] = parts(rows, columns);
    (data + sums) / size_of::<T>() + rows.next_multiple_of(PANEL)
}

/// Quantises and packs a weight `[rows, columns]` into `buffer`, of [`packed_len`] elements. A row
/// with a value that is not finite gets a scale that is no number: whatever is computed of it is
/// none, either.
///
/// # Panics
/// If a length does not fit.
pub fn pack<T: Real>(w: &[T], rows: usize, columns: usize, buffer: &mut [T]) {
    assert!(columns <= MOST_COLUMNS && w.len() == rows * columns, "a weight [{rows}, {columns}] of {}", w.len());
    let _span = trace::phase(trace::PACKING).elements::<T>(2 * w.len());
    let [data, sums] = parts(rows, columns);
    let (words, scales) = buffer[..packed_len::<T>(rows, columns)].split_at_mut((data + sums) / size_of::<T>());
    let (data, sums) = bytemuck::cast_slice_mut::<T, u8>(words).split_at_mut(data);
    let (data, sums) = (bytemuck::cast_slice_mut::<u8, i8>(data), bytemuck::cast_slice_mut::<u8, i32>(sums));
    let height = columns.next_multiple_of(STEP);
    let panels = data.par_chunks_mut(PANEL * height).zip(sums.par_chunks_mut(PANEL)).zip(scales.par_chunks_mut(PANEL));
    panels.enumerate().for_each(|(panel, ((data, sums), scales))| {
        data.fill(0);
        sums.fill(0);
        scales.fill(T::ZERO);
        for lane in 0..PANEL.min(rows - panel * PANEL) {
            let row = &w[(panel * PANEL + lane) * columns..][..columns];
            let (scale, inverse) = scales_of(row);
            scales[lane] = scale;
            for (k, &w) in row.iter().enumerate() {
                let q = whole(w, inverse);
                data[(k / STEP * PANEL + lane) * STEP + k % STEP] = q as i8;
                sums[lane] += q;
            }
        }
    });
}

/// The scale of a row, and the factor of its values.
fn scales_of<T: Real>(row: &[T]) -> (T, T) {
    let Some(most) = dispatch(Largest { row }) else { return (T::from_f64(f64::NAN), T::ZERO) };
    let inverse = T::from_f64(LARGEST) / most;
    // of zeros, and of numbers so small that their reciprocal is none
    if inverse.is_finite() { (most / T::from_f64(LARGEST), inverse) } else { (T::ZERO, T::ZERO) }
}

/// The largest absolute value of a row; `None` where one is not finite.
struct Largest<'a, T> {
    row: &'a [T],
}

impl<T: Real> Kernel for Largest<'_, T> {
    type Output = Option<T>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Option<T> {
        // lane by lane, so that it becomes vectors: a maximum has no order to keep
        let (mut most, mut finite) = ([T::ZERO; LANES], [true; LANES]);
        let whole = self.row.chunks_exact(LANES);
        let rest = whole.remainder();
        let mut take = |part: &[T]| {
            for ((most, finite), &x) in most.iter_mut().zip(&mut finite).zip(part) {
                *most = if x.abs() > *most { x.abs() } else { *most };
                *finite &= x.is_finite();
            }
        };
        whole.for_each(&mut take);
        take(rest);
        let largest = most.into_iter().fold(T::ZERO, |a, b| if b > a { b } else { a });
        finite.iter().all(|&finite| finite).then_some(largest)
    }
}

/// The nearest whole number of a value, to even where two are as near.
#[inline(always)]
fn whole<T: Real>(x: T, inverse: T) -> i32 {
    let (most, rounded) = (T::from_f64(LARGEST), (x * inverse).round_ties_even());
    let rounded = if rounded > most { most } else { rounded };
    (if rounded < -most { -most } else { rounded }).to_i32()
}

impl<'a, T: Real> Weights<'a, T> {
    /// Weights that [`pack`] has written into `buffer` before.
    ///
    /// # Panics
    /// If the buffer is too short.
    pub fn new(buffer: &'a [T], rows: usize, columns: usize) -> Self {
        let [data, sums] = parts(rows, columns);
        let (words, scales) = buffer[..packed_len::<T>(rows, columns)].split_at((data + sums) / size_of::<T>());
        let (data, sums) = bytemuck::cast_slice::<T, u8>(words).split_at(data);
        Weights { data: bytemuck::cast_slice(data), sums: bytemuck::cast_slice(sums), scales, rows, columns }
    }
}

/// Rows of a left operand, quantised.
#[derive(Debug)]
pub struct Left<'a, T> {
    /// `[rows, columns to a multiple of four]`, each `q + 128`
    data: &'a mut [u8],
    scales: &'a mut [T],
    columns: usize,
}

/// Elements that a [`Left`] of so many rows needs.
pub fn left_len<T>(rows: usize, columns: usize) -> usize {
    // the scales begin at a multiple of their size
    (rows * columns.next_multiple_of(STEP)).div_ceil(size_of::<T>()) + rows
}

impl<'a, T: Real> Left<'a, T> {
    /// In a buffer of [`left_len`] elements.
    ///
    /// # Panics
    /// If the buffer is too short.
    pub fn new(buffer: &'a mut [T], rows: usize, columns: usize) -> Self {
        let bytes = rows * columns.next_multiple_of(STEP);
        let (words, scales) = buffer[..left_len::<T>(rows, columns)].split_at_mut(bytes.div_ceil(size_of::<T>()));
        Left { data: &mut bytemuck::cast_slice_mut(words)[..bytes], scales, columns }
    }

    /// Quantises the first rows, each with a scale of its own.
    pub fn quantise(&mut self, x: &[T]) {
        self.each(x, &|row: &[T]| scales_of(row));
    }

    /// Quantises the first rows of numbers from −1 to 1, with the scale 1/127.
    pub fn quantise_fixed(&mut self, x: &[T]) {
        let (scale, inverse) = (T::ONE / T::from_f64(LARGEST), T::from_f64(LARGEST));
        self.each(x, &|row: &[T]| {
            // a value that is not a number stays so
            let finite = dispatch(Largest { row }).is_some();
            if finite { (scale, inverse) } else { (T::from_f64(f64::NAN), T::ZERO) }
        });
    }

    fn each(&mut self, x: &[T], scale: &(impl Fn(&[T]) -> (T, T) + Sync)) {
        let (columns, height) = (self.columns, self.columns.next_multiple_of(STEP));
        let one = |(x, (data, to)): (&[T], (&mut [u8], &mut T))| {
            let (s, inverse) = scale(x);
            *to = s;
            data.fill(OFFSET as u8);
            dispatch(Quantise { x, inverse, data: &mut data[..columns] });
        };
        let to = self.data.par_chunks_exact_mut(height).zip(&mut *self.scales);
        if x.len() < QUANTISED_TOGETHER {
            let to = self.data.chunks_exact_mut(height).zip(&mut *self.scales);
            x.chunks_exact(columns).zip(to).for_each(one);
        } else {
            x.par_chunks_exact(columns).zip(to).for_each(one);
        }
    }
}

struct Quantise<'a, T> {
    x: &'a [T],
    inverse: T,
    data: &'a mut [u8],
}

impl<T: Real> Kernel for Quantise<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (q, &x) in self.data.iter_mut().zip(self.x) {
            *q = (whole(x, self.inverse) + OFFSET) as u8;
        }
    }
}

/// A pointer to a result for threads that write different columns of it.
struct Target<T>(*mut T);

// SAFETY: every use is for the columns of one task, and tasks do not overlap.
unsafe impl<T: Send> Sync for Target<T> {}

/// `z = onto + a·wᵀ`: `z` `[rows, N]`, `a` the first `rows` rows of the left operand.
///
/// # Panics
/// If the shapes do not fit.
pub fn multiply<T: Real>(a: &Left<T>, rows: usize, w: &Weights<T>, z: &mut [T], onto: Onto<T>) {
    multiply_on(path(), a, rows, w, z, onto);
}

fn multiply_on<T: Real>(path: Path, a: &Left<T>, rows: usize, w: &Weights<T>, z: &mut [T], onto: Onto<T>) {
    let (n, k) = (w.rows, w.columns);
    assert!(a.columns == k && rows <= a.scales.len() && z.len() == rows * n && path.supported());
    let _span = trace::phase(trace::PRODUCTS).flop(2 * rows * n * k).elements::<T>(rows * k / 4 + n * k / 4 + rows * n);
    let height = k.next_multiple_of(STEP);
    let target = Target(z.as_mut_ptr());
    let panels = n.div_ceil(PANEL);
    let task = |task: usize| {
        // the whole, not its pointer alone, is shared
        let target = &target;
        let from = task * TOGETHER;
        let mut sums = [0i32; Tile::MOST_ROWS * Tile::MOST_PANELS * PANEL];
        let mut first = 0;
        while first < rows {
            let tile = Tile::rows(path, rows - first);
            let mut panel = from;
            while panel < (from + TOGETHER).min(panels) {
                let width = tile.panels((from + TOGETHER).min(panels) - panel);
                let left = &a.data[first * height..(first + tile.rows) * height];
                let right = &w.data[panel * PANEL * height..(panel + width) * PANEL * height];
                let sums = &mut sums[..tile.rows * width * PANEL];
                kernels::run(path, left, right, [tile.rows, width, height], sums);
                for (row, sums) in sums.chunks_exact(width * PANEL).enumerate() {
                    let (column, row) = (panel * PANEL, first + row);
                    let count = sums.len().min(n - column);
                    // SAFETY: within z, whose length was asserted; these columns belong to this
                    // task.
                    let z = unsafe { std::slice::from_raw_parts_mut(target.0.add(row * n + column), count) };
                    let (offsets, scales) = (&w.sums[column..][..count], &w.scales[column..][..count]);
                    match onto {
                        Onto::Nothing => z.fill(T::ZERO),
                        Onto::Row(onto) => z.copy_from_slice(&onto[column..][..count]),
                        Onto::C => {}
                    }
                    dispatch(Scale { sums: &sums[..count], offsets, scales, scale: a.scales[row], z });
                }
                panel += width;
            }
            first += tile.rows;
        }
    };
    let tasks = panels.div_ceil(TOGETHER);
    if rows * n * k >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
        (0..tasks).into_par_iter().for_each(task);
    } else {
        (0..tasks).for_each(task);
    }
}

/// `z += (sums − 128·offsets) · scale·scales`
struct Scale<'a, T> {
    sums: &'a [i32],
    offsets: &'a [i32],
    scales: &'a [T],
    scale: T,
    z: &'a mut [T],
}

impl<T: Real> Kernel for Scale<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Scale { sums, offsets, scales, scale, z } = self;
        for (((z, &sum), &offset), &of_row) in z.iter_mut().zip(sums).zip(offsets).zip(scales) {
            *z += T::from_i32(sum - OFFSET * offset) * (scale * of_row);
        }
    }
}
