//! Matrix products: packed, blocked for the caches, in parallel, and with the same bits for any
//! number of threads.
//!
//! The scheme is that of Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication*
//! (2008): a block of the right operand is packed once for all threads; each thread packs a block
//! of the left one for itself, and multiplies the two tile by tile in a micro-kernel.
//!
//! An element of C is `((0 + s₁) + s₂) + …` (or starts at what it is added [`Onto`]) where `sᵢ` is
//! the sum over the i-th block of k in order, from zero. The blocks depend on the length of k
//! alone. So the bits depend neither on the shape, nor on threads, nor on whether an operand was
//! packed before, nor on AVX2 or AVX-512; only [`Isa::Portable`] differs, because it rounds
//! products.
//!
//! With [`Precision::Bf16`] operands are rounded to bf16 while they are packed, whatever the
//! instruction set. Where the processor multiplies pairs of bf16 (AVX-512 BF16), sums are taken two
//! elements of k at a time, and bits are its own.

mod bf16;
mod kernels;
mod pack;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod transpose;

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use self::bf16::Form;
pub use self::bf16::Round;
pub use self::kernels::Multiply;
pub(crate) use self::kernels::prefetch;
use self::kernels::{Ahead, Lines, MicroKernel, ROW_PANELS, Start};
use self::pack::{LEFT_BYTES, RIGHT_BYTES, pack_panels, with_left, with_right};
use super::super::{Precision, Real};
use super::isa::{Isa, isa};
use crate::trace;

/// Most packed elements of k in a block. The sums of a tile stay in registers for the whole block,
/// so a long one saves passes over C; the panel of the right operand (144 KiB for AVX-512) streams
/// from the second-level cache, where it shares the room with the left one. (Measured on Zen 4 for
/// 64x1150x4600: blocks of 230, which stay in the first-level cache, reach 91 % of the peak, one of
/// 1150 96 %.)
const fn k_block<T>() -> usize {
    4608 / std::mem::size_of::<T>()
}

/// Most rows of a block of the left operand, where the length of k would allow more: parts of one
/// product that are too large leave threads idle at its end.
const MOST_ROWS: usize = 364;

/// During the last panels (this many) of a block of the left operand the next one is prefetched; it
/// shares a second-level cache with the operands in use. (Measured on Zen 4 for the gradients
/// of a decoder, 30,000 words of 400 dimensions: packing the left operand takes 2 to 4 % of the
/// product instead of 5 to 6 % in f32, 5 % instead of 9 to 11 % in bf16.)
const AHEAD_PANELS: usize = 16;

/// Products with fewer multiplications than this are computed by the calling thread alone: to wake
/// the others would take longer.
const PARALLEL_FROM: usize = 1 << 20;

/// A product of fewer rows takes as long as one of so many: to read the right operand takes longer
/// than to multiply. (Measured on Zen 5 for 500x2000: a row takes 33 µs, four 38.)
const READING_ROWS: usize = 4;

/// Whether a result replaces the old values or is added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Set,
    Add,
}

/// The start of the sums of a product.
#[derive(Clone, Copy, Debug)]
pub enum Onto<'a, T> {
    Nothing,
    /// The content of C.
    C,
    /// A row, as long as those of C, for all of them: a bias.
    Row(&'a [T]),
}

impl<T> From<Store> for Onto<'_, T> {
    fn from(store: Store) -> Self {
        match store {
            Store::Set => Onto::Nothing,
            Store::Add => Onto::C,
        }
    }
}

/// A matrix in a slice: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major, contiguous.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::with_strides(data, rows, columns, columns, 1)
    }

    /// With any strides, counted in elements.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn with_strides(data: &'a [T], rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Self {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
            assert!(last < data.len(), "a {rows}x{columns} matrix reaches beyond its {} elements", data.len());
        }
        Matrix { data, rows, columns, row_stride, column_stride }
    }

    /// Transposed view.
    pub fn t(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the matrix has fewer.
    pub fn rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let from = (range.start * self.row_stride).min(self.data.len());
        Matrix { data: &self.data[from..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If the matrix has fewer.
    pub fn columns(self, range: Range<usize>) -> Self {
        self.t().rows(range).t()
    }

    /// `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
}

/// `c = onto + a·b`; `c` is row-major `[a.rows, b.columns]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm<'a, T: Real>(
    precision: Precision,
    a: Matrix<T>,
    b: Matrix<T>,
    c: &'a mut [T],
    onto: impl Into<Onto<'a, T>>,
) {
    gemm_on(isa(), precision, a, b, c, onto.into());
}

fn gemm_on<T: Real>(isa: Isa, precision: Precision, a: Matrix<T>, b: Matrix<T>, c: &mut [T], onto: Onto<T>) {
    assert_eq!(a.columns, b.rows, "the columns of the left matrix must be as many as the rows of the right one");
    let (k, n) = (b.rows, b.columns);
    let _span = span(a.rows, k, n, onto);
    let Some(product) = Product::new(isa, precision, a, n, c, onto) else { return };
    let MicroKernel { columns: width, form, .. } = product.kernel;
    with_right(|right: &mut [T]| {
        let most =
            RIGHT_BYTES / std::mem::size_of::<T>() / k.div_ceil(form.depth()).min(k_block::<T>()) / width * width;
        for columns in blocks(n, most, width) {
            for part in k_blocks::<T>(k, form) {
                let right = &mut right[..columns.len().next_multiple_of(width) * part.len().div_ceil(form.depth())];
                {
                    let _span = trace::phase(trace::PACKING).elements::<T>(2 * part.len() * columns.len());
                    let b = b.rows(part.clone()).columns(columns.clone());
                    pack_right(isa, &product.kernel, b, right, product.parallel);
                }
                product.multiply(columns.clone(), std::iter::once((part, &*right)));
            }
        }
    });
}

/// A profile's span of one product of `[m, k]` and `[k, n]`.
#[inline(always)]
fn span<T>(m: usize, k: usize, n: usize, onto: Onto<T>) -> trace::Span {
    let read = if matches!(onto, Onto::C) { m * n } else { 0 };
    trace::phase(trace::PRODUCTS).flop(2 * m * k * n).elements::<T>(m * k + k * n + m * n + read)
}

/// The right-hand matrix of many products, packed once (for instance the recurrent weight of a
/// segment).
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    isa: Isa,
    precision: Precision,
}

impl<'a, T: Real> Packed<'a, T> {
    /// An operand that [`pack`] has written into `buffer` before, for a `[rows, columns]` matrix.
    ///
    /// # Panics
    /// If the buffer is shorter than [`packed_len`].
    pub fn new(precision: Precision, buffer: &'a [T], rows: usize, columns: usize) -> Self {
        let data = &buffer[..packed_len::<T>(precision, rows, columns)];
        Packed { data, rows, columns, isa: isa(), precision }
    }

    /// Bytes that a product reads of it.
    pub fn bytes(&self) -> usize {
        size_of_val(self.data)
    }
}

/// Elements that [`pack`] needs for a `[rows, columns]` matrix.
pub fn packed_len<T: Real>(precision: Precision, rows: usize, columns: usize) -> usize {
    packed_len_on::<T>(isa(), precision, rows, columns)
}

fn packed_len_on<T: Real>(isa: Isa, precision: Precision, rows: usize, columns: usize) -> usize {
    let MicroKernel { columns: width, form, .. } = T::kernel(isa, precision);
    rows.div_ceil(form.depth()) * columns.next_multiple_of(width)
}

/// Packs `b` into `buffer` (of at least [`packed_len`] elements).
///
/// # Panics
/// If the buffer is too short.
pub fn pack<'a, T: Real>(precision: Precision, b: Matrix<T>, buffer: &'a mut [T]) -> Packed<'a, T> {
    pack_on(isa(), precision, b, buffer)
}

fn pack_on<'a, T: Real>(isa: Isa, precision: Precision, b: Matrix<T>, buffer: &'a mut [T]) -> Packed<'a, T> {
    let (rows, columns) = b.shape();
    let _span = trace::phase(trace::PACKING).elements::<T>(2 * rows * columns);
    let buffer = &mut buffer[..packed_len_on::<T>(isa, precision, rows, columns)];
    let kernel = T::kernel(isa, precision);
    let padded = columns.next_multiple_of(kernel.columns);
    let mut rest = &mut *buffer;
    for part in k_blocks::<T>(rows, kernel.form) {
        let (block, after) = rest.split_at_mut(padded * part.len().div_ceil(kernel.form.depth()));
        rest = after;
        pack_right(isa, &kernel, b.rows(part), block, rows * columns >= PARALLEL_FROM);
    }
    Packed { data: buffer, rows, columns, isa, precision }
}

/// `c = onto + a·b` with a packed `b`: the same bits as [`gemm`].
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm_packed<'a, T: Real>(a: Matrix<T>, b: &Packed<T>, c: &'a mut [T], onto: impl Into<Onto<'a, T>>) {
    assert_eq!(a.columns, b.rows, "the columns of the left matrix must be as many as the rows of the right one");
    let onto = onto.into();
    let _span = span(a.rows, b.rows, b.columns, onto);
    let Some(product) = Product::new(b.isa, b.precision, a, b.columns, c, onto) else { return };
    let MicroKernel { columns: width, form, .. } = product.kernel;
    let (padded, depth) = (b.columns.next_multiple_of(width), form.depth());
    let data = |part: &Range<usize>| &b.data[part.start / depth * padded..part.end.div_ceil(depth) * padded];
    product.multiply(0..b.columns, k_blocks::<T>(b.rows, form).map(|part| (part.clone(), data(&part))));
}

/// The blocks of k.
fn k_blocks<T>(k: usize, form: Form) -> impl Iterator<Item = Range<usize>> + Clone + Sync {
    blocks(k, k_block::<T>() * form.depth(), form.depth())
}

/// `0..length` cut into as few ranges of at most `most` as possible, all but the last equally long
/// and a multiple of `multiple` (which must divide `most`).
fn blocks(length: usize, most: usize, multiple: usize) -> impl Iterator<Item = Range<usize>> + Clone + Sync {
    let step = length.div_ceil(length.div_ceil(most).max(1)).next_multiple_of(multiple).max(1);
    (0..length).step_by(step).map(move |from| from..(from + step).min(length))
}

/// Stripes of columns that each block of rows is cut into, for several threads.
fn stripes_of(panels: usize, row_blocks: usize, threads: usize) -> usize {
    // every stripe packs the rows again: too narrow ones are not worth it
    let stripes = (3 * threads).div_ceil(row_blocks).min(panels / 16).max(1);
    // equal parts, a few more than threads, would leave threads idle at the end; several blocks of
    // rows are a multiple of the threads already
    if row_blocks == 1 && stripes > threads { stripes / threads * threads } else { stripes }
}

/// Calls `work` for `0..count`, on all threads if `parallel`.
fn for_each_index(parallel: bool, count: usize, work: impl Fn(usize) + Sync) {
    if parallel && count > 1 {
        (0..count).into_par_iter().with_max_len(1).for_each(&work);
    } else {
        (0..count).for_each(work);
    }
}

/// [`pack_panels`] with panels of full width, on all threads if `parallel`.
fn pack_right<T: Real>(isa: Isa, kernel: &MicroKernel<T>, b: Matrix<T>, to: &mut [T], parallel: bool) {
    /// Panels that are packed together, so that rows of `b` are read in pieces that are worth their
    /// while.
    const TOGETHER: usize = 8;
    let MicroKernel { columns: width, form, .. } = *kernel;
    let one = |(index, to): (usize, &mut [T])| {
        let from = index * TOGETHER * width;
        // SAFETY: `pack_panels` only writes initialised elements, so that the slice may be seen as
        // one that need not be.
        let to = unsafe { &mut *(std::ptr::from_mut(to) as *mut [MaybeUninit<T>]) };
        pack_panels(isa, form, b.columns(from..(from + TOGETHER * width).min(b.columns)), width, true, to);
    };
    let size = TOGETHER * width * b.rows.div_ceil(form.depth());
    if parallel && rayon::current_num_threads() > 1 {
        to.par_chunks_mut(size).enumerate().for_each(one);
    } else {
        to.chunks_mut(size).enumerate().for_each(one);
    }
}

/// A pointer to C for threads that write different elements of it.
struct Target<T>(*mut T);

// SAFETY: every use is for the elements of one tile, and tiles do not overlap.
unsafe impl<T: Send> Sync for Target<T> {}

/// One product that is being computed.
struct Product<'a, T: 'static> {
    isa: Isa,
    kernel: MicroKernel<T>,
    a: Matrix<'a, T>,
    /// `[a.rows, n]`, borrowed for as long as this exists.
    c: Target<T>,
    n: usize,
    onto: Onto<'a, T>,
    parallel: bool,
    _c: std::marker::PhantomData<&'a mut [T]>,
}

impl<'a, T: Real> Product<'a, T> {
    /// `None` if there is nothing left to do, because a dimension is 0.
    fn new(
        isa: Isa,
        precision: Precision,
        a: Matrix<'a, T>,
        n: usize,
        c: &'a mut [T],
        onto: Onto<'a, T>,
    ) -> Option<Self> {
        assert!(isa.supported(), "this processor does not have {isa}");
        let (m, k) = a.shape();
        assert!(c.len() >= m * n, "the result needs {} elements, and has {}", m * n, c.len());
        let c = &mut c[..m * n];
        match onto {
            Onto::Row(row) => {
                assert_eq!(row.len(), n, "a row has as many elements as those of the result");
                if k == 0 && n > 0 {
                    c.chunks_exact_mut(n).for_each(|c| c.copy_from_slice(row));
                }
            }
            Onto::Nothing if k == 0 => c.fill(T::ZERO),
            Onto::Nothing | Onto::C => {}
        }
        if m == 0 || n == 0 || k == 0 {
            return None;
        }
        let parallel = m.max(READING_ROWS) * n * k >= PARALLEL_FROM && rayon::current_num_threads() > 1;
        let c = Target(c.as_mut_ptr());
        let kernel = T::kernel(isa, precision);
        Some(Product { isa, kernel, a, c, n, onto, parallel, _c: std::marker::PhantomData })
    }

    /// Multiplies with some blocks of k of some columns: `right` lists them as `(k, packed panels)`
    /// in the order of k.
    fn multiply<'b>(&self, columns: Range<usize>, right: impl Iterator<Item = (Range<usize>, &'b [T])> + Clone + Sync) {
        let MicroKernel { rows: tile_rows, columns: tile_columns, form, .. } = self.kernel;
        let m = self.a.rows;
        let height = |k: &Range<usize>| k.len().div_ceil(form.depth());
        let longest = right.clone().map(|(k, _)| height(&k)).max().unwrap_or(1);
        let most_rows = (LEFT_BYTES / std::mem::size_of::<T>() / longest).min(MOST_ROWS) / tile_rows * tile_rows;
        // The division of work depends on the number of threads; the results do not.
        let threads = if self.parallel { rayon::current_num_threads() } else { 1 };
        // Few rows are multiplied whole by every thread, each with columns of its own: so a panel
        // is read once.
        let few = m <= most_rows && columns.len().div_ceil(tile_columns) >= 16 * threads;
        let row_blocks =
            if few { 1 } else { m.div_ceil(most_rows).next_multiple_of(threads).min(m.div_ceil(2 * tile_rows)) };
        // a few blocks are equally large, so that no thread waits for another; of many only the
        // last is smaller, and the others have whole tiles
        let multiple = if row_blocks <= 4 * threads { 1 } else { tile_rows };
        let row_blocks = blocks(m, m.div_ceil(row_blocks).next_multiple_of(multiple), multiple);
        let panels = columns.len().div_ceil(tile_columns);
        let stripes = if self.parallel { stripes_of(panels, row_blocks.clone().count(), threads) } else { 1 };
        let stripes = blocks(panels, panels.div_ceil(stripes), 1);
        let stripe_count = stripes.clone().count();
        let rows_of = |index: usize| row_blocks.clone().nth(index / stripe_count);
        let first_k = right.clone().next().map(|(k, _)| k);
        let work = |index: usize, left: &mut [MaybeUninit<T>]| {
            let rows = rows_of(index).expect("index is below the product of both counts");
            let panels = stripes.clone().nth(index % stripe_count).expect("a remainder");
            // as a rule a thread computes one after the other
            let next_rows = rows_of(index + 1).filter(|next| *next != rows);
            let mut parts = right.clone().peekable();
            while let Some((k, right)) = parts.next() {
                let next = match parts.peek() {
                    Some((k, _)) => Some((rows.clone(), k.clone())),
                    None => next_rows.clone().zip(first_k.clone()),
                };
                let next = next.map_or(Lines::NONE, |(rows, k)| self.lines(rows, k));
                let right = &right[panels.start * tile_columns * height(&k)..panels.end * tile_columns * height(&k)];
                let from = columns.start + panels.start * tile_columns;
                let to = (columns.start + panels.end * tile_columns).min(columns.end);
                self.multiply_block(rows.clone(), k, right, from..to, left, next);
            }
        };
        let largest = row_blocks.clone().map(|rows| rows.len()).max().unwrap_or(0) * longest;
        for_each_index(self.parallel, row_blocks.clone().count() * stripe_count, |index| {
            with_left(largest, |left| work(index, left));
        });
    }

    /// The part of A that packing `rows` for one block of k reads.
    fn lines(&self, rows: Range<usize>, k: Range<usize>) -> Lines {
        let a = self.a.rows(rows).columns(k);
        let a = if a.row_stride == 1 { a.t() } else { a };
        Lines::new(a.data.as_ptr(), a.rows, a.columns, a.row_stride)
    }

    /// Multiplies one block: `rows` of A with the packed panels `right` of `columns`, for one block
    /// of k. `next`: the block that is packed after it.
    fn multiply_block(
        &self,
        rows: Range<usize>,
        k: Range<usize>,
        right: &[T],
        columns: Range<usize>,
        left: &mut [MaybeUninit<T>],
        next: Lines,
    ) {
        let MicroKernel { rows: tile_rows, columns: tile_columns, form, run, run_row } = self.kernel;
        let height = k.len().div_ceil(form.depth());
        let first = k.start == 0;
        let start = |row: usize, column: usize| match self.onto {
            Onto::Nothing if first => Start::NOTHING,
            Onto::Row(onto) if first => Start { from: onto[column..].as_ptr(), stride: 0 },
            // SAFETY: the element lies in C.
            _ => Start { from: unsafe { self.c.0.add(row * self.n + column) }, stride: self.n },
        };
        let tiles = Tiles::new(rows.len(), tile_rows);
        let a = self.a.t().rows(k).columns(rows.clone());
        tiles.heights().fold((0, &mut *left), |(from, left), (count, tile)| {
            let (to, left) = left.split_at_mut(count * tile * height);
            pack_panels(self.isa, form, a.columns(from..from + count * tile), tile, false, to);
            (from + count * tile, left)
        });
        // of a single row most panels together, the rest of them as always
        let together = if rows.len() == 1 { columns.len() / (ROW_PANELS * tile_columns) * ROW_PANELS } else { 0 };
        let (whole, right) = right.split_at(together * tile_columns * height);
        for (index, panels) in whole.chunks_exact(ROW_PANELS * tile_columns * height).enumerate() {
            // SAFETY: as below.
            unsafe {
                let from = columns.start + index * ROW_PANELS * tile_columns;
                let c = self.c.0.add(rows.start * self.n + from);
                run_row(height, left.as_ptr().cast(), panels.as_ptr(), c, start(rows.start, from).from);
            }
        }
        let panels = right.len() / (tile_columns * height);
        let last = panels.min(AHEAD_PANELS);
        let left_lines = next.len().div_ceil((last * tiles.count).max(1));
        let mut ahead = Ahead { right: std::ptr::null(), right_lines: 0, left: Lines::NONE, left_lines };
        for (index, panel) in right.chunks_exact(tile_columns * height).enumerate() {
            let from = columns.start + (together + index) * tile_columns;
            if index + last == panels {
                ahead.left = next.clone();
            }
            ahead.right = panel.as_ptr().wrapping_add(panel.len()).cast();
            ahead.right_lines = (size_of_val(panel) / 64).div_ceil(tiles.count);
            for tile in tiles.ranges() {
                let left = &left[tile.start * height..][..tile.len() * height];
                // SAFETY: `left` and `panel` have the lengths that the kernel reads and were packed
                // above; the tile lies in C, which is borrowed mutably, and belongs to this thread
                // alone; `Product::new` asserted that the processor has the instructions.
                unsafe {
                    let row = rows.start + tile.start;
                    let c = self.c.0.add(row * self.n + from);
                    let (used, start) = (tile_columns.min(columns.end - from), start(row, from));
                    run(tile.len(), height, left.as_ptr().cast(), panel.as_ptr(), &mut ahead, c, self.n, used, start);
                }
                ahead.right = ahead.right.wrapping_add(ahead.right_lines * 64);
            }
        }
    }
}

/// Rows cut into as few tiles as possible, of almost the same height: a last tile of a few rows
/// would read the panel for little work.
#[derive(Clone, Copy)]
struct Tiles {
    count: usize,
    /// Rows of the higher ones, which come first.
    height: usize,
    /// So many of them; the others have one row less.
    higher: usize,
}

impl Tiles {
    /// `rows` and `most` of a tile are 1 or more.
    fn new(rows: usize, most: usize) -> Self {
        let count = rows.div_ceil(most);
        let height = rows.div_ceil(count);
        Tiles { count, height, higher: rows - count * (height - 1) }
    }

    /// `(how many, rows of each)`
    fn heights(self) -> impl Iterator<Item = (usize, usize)> {
        [(self.higher, self.height), (self.count - self.higher, self.height - 1)]
            .into_iter()
            .filter(|&(count, _)| count > 0)
    }

    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let start = move |i: usize| i * self.height - i.saturating_sub(self.higher);
        (0..self.count).map(move |i| start(i)..start(i + 1))
    }
}
