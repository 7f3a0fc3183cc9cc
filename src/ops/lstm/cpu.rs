//! The LSTM on slices. The recurrence runs by rows of the batch: a thread takes some rows through
//! all steps, because nothing but the weights is shared between rows; no two threads meet before
//! the end of the segment, and a row's bits do not depend on who ran it. A large weight is rather
//! read once for all threads: see [`Share`].

use rayon::prelude::*;

use super::Sizes;
use crate::device::Precision;
use crate::device::cpu::gemm::{self, Matrix, Onto, Packed, Store, gemm, gemm_packed, pack, prefetch};
use crate::device::cpu::isa::{Kernel, dispatch};
use crate::ops::mask::{Dropout, mask_row};
pub(super) use crate::ops::recurrence::put;
use crate::ops::recurrence::{LANES, Rows, by_lanes, load};
use crate::tensor::Real;
use crate::trace;

/// The inputs of the forward pass besides W_hh. Shapes as in [`super::LstmInputs`].
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, T> {
    pub sizes: Sizes,
    pub x: &'a [T],
    pub h0: &'a [T],
    pub c0: &'a [T],
    pub w_ih: &'a [T],
    pub precision: Precision,
}

/// The outputs of the forward pass: `y` `[T, B, H]`, activated `gates` `[T, B, 4H]`, `cells`
/// `[T, B, H]`.
pub(super) struct Trace<'a, T> {
    pub y: &'a mut [T],
    pub gates: &'a mut [T],
    pub cells: &'a mut [T],
}

/// Gradients that arrive: `dy` `[T, B, H]`, `dh` and `dc` (of the final state) `[B, H]`; absent
/// means zero.
#[derive(Clone, Copy)]
pub(super) struct Upstream<'a, T> {
    pub dy: Option<&'a [T]>,
    pub dh: Option<&'a [T]>,
    pub dc: Option<&'a [T]>,
}

/// The tensors that the backward recurrence changes: `gates` become the gradients of the
/// pre-activations; `dh`, `dc` end as those of h0, c0.
pub(super) struct Carried<'a, T> {
    pub gates: &'a mut [T],
    pub dh: &'a mut [T],
    pub dc: &'a mut [T],
}

/// Elements of the buffers that the forward pass packs W_ih and W_hh into. (The backward pass packs
/// W_hh into one that is long enough for either.)
pub(super) fn packed_lens<T: Real>(precision: Precision, sizes: Sizes) -> [usize; 2] {
    let Sizes { i, h, .. } = sizes;
    let len = |rows, columns| gemm::packed_len::<T>(precision, rows, columns);
    [len(i, 4 * h), len(h, 4 * h).max(len(4 * h, h))]
}

/// Packs the transposed of a weight `[4H, columns]`.
pub(super) fn pack_transposed<T: Real>(precision: Precision, w: &[T], h: usize, buffer: &mut [T]) {
    pack(precision, Matrix::new(w, 4 * h, w.len() / (4 * h).max(1)).t(), buffer);
}

/// `dropped = w ⊙ mask`
pub(super) fn drop_weight<T: Real>(w: &[T], weight: &Dropout, h: usize, dropped: &mut [T]) {
    mask_and_put(w, weight, h, dropped, Store::Set);
}

/// Calls `f(first row, rows)` for parts of the batch, in parallel.
pub(super) fn by_rows(b: usize, f: impl Fn(usize, usize) + Sync) {
    // the threads wait for the slowest: equal parts count for more than full tiles; a few rows are
    // not worth reading the weight twice
    let part = b.div_ceil(rayon::current_num_threads()).max(6);
    (0..b.div_ceil(part.max(1))).into_par_iter().for_each(|k| f(k * part, part.min(b - k * part)));
}

/// `sum = p + q`
pub(super) fn add<T: Real>(p: &[T], q: &[T], sum: &mut [T]) {
    sum.iter_mut().zip(p.iter().zip(q)).for_each(|(sum, (&p, &q))| *sum = p + q);
}

/// `bias`: b_ih + b_hh; `recurrent`: W_hh ⊙ mask packed by [`pack_transposed`]; `input`: W_ih, if
/// it is packed whole.
pub(super) fn forward<T: Real>(
    layer: Layer<T>,
    bias: &[T],
    recurrent: Packed<T>,
    input: Option<Packed<T>>,
    trace: Trace<T>,
) {
    let Sizes { t: steps, b, i, h } = layer.sizes;
    if b == 0 || h == 0 {
        return;
    }
    // z = bias + x·W_ihᵀ for all steps at once
    let x = Matrix::new(layer.x, steps * b, i);
    match input {
        None => gemm(layer.precision, x, Matrix::new(layer.w_ih, 4 * h, i).t(), trace.gates, Onto::Row(bias)),
        Some(input) => gemm_packed(x, &input, trace.gates, Onto::Row(bias)),
    }
    let share = if recurrent.bytes() < BY_COLUMNS_FROM { Share::Rows } else { Share::Columns };
    recurrence(layer, recurrent, trace, share);
}

/// Bytes of a packed W_hh from which on its columns are shared. On a Zen 4 with 64 rows in f32
/// columns save 1 to 2 % at H = 1150 (21 MB) and cost 7 % at H = 400 (2.6 MB), where the threads'
/// meetings count; the fewer the rows, the less they pay for reading the weight twice.
const BY_COLUMNS_FROM: usize = 4 << 20;

/// How threads share the forward recurrence. The bits are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    /// Rows of the batch, through all steps: every thread reads all of W_hh, and none waits for
    /// another.
    Rows,
    /// Columns of each step's product: W_hh is read once a step, and the threads meet twice.
    Columns,
}

/// All steps, in place of the pre-activations that lack W_hh·h.
fn recurrence<T: Real>(layer: Layer<T>, recurrent: Packed<T>, trace: Trace<T>, share: Share) {
    let Sizes { t: steps, b, h, .. } = layer.sizes;
    let (y, gates, cells) = (Rows::new(trace.y), Rows::new(trace.gates), Rows::new(trace.cells));
    let product = |t: usize, first: usize, rows: usize| {
        let at = t * b + first;
        // SAFETY: these rows of step t belong to the caller alone.
        let z = unsafe { gates.range(at * 4 * h, rows * 4 * h) };
        let h_before: &[T] = match t {
            0 => &layer.h0[first * h..][..rows * h],
            // SAFETY: step t-1 is only read.
            _ => unsafe { y.range((at - b) * h, rows * h) },
        };
        gemm_packed(Matrix::new(h_before, rows, h), &recurrent, z, Store::Add);
    };
    let cell = |t: usize, first: usize, rows: usize| {
        let at = t * b + first;
        // SAFETY: these rows of step t belong to the caller alone.
        let (z, c, out) = unsafe {
            (gates.range(at * 4 * h, rows * 4 * h), cells.range(at * h, rows * h), y.range(at * h, rows * h))
        };
        let c_before: &[T] = match t {
            0 => &layer.c0[first * h..][..rows * h],
            // SAFETY: step t-1 is only read.
            _ => unsafe { cells.range((at - b) * h, rows * h) },
        };
        dispatch(Cell { h, z, c_before, c, out });
    };
    let span = |rows: usize| trace::phase(trace::ELEMENTWISE).elements::<T>(11 * rows * h);
    match share {
        Share::Rows => {
            let _region = trace::region("recurrence");
            by_rows(b, |first, rows| {
                for t in 0..steps {
                    product(t, first, rows);
                    let _span = span(rows);
                    cell(t, first, rows);
                }
            });
        }
        Share::Columns => trace::in_the_pool(|| {
            for t in 0..steps {
                product(t, 0, b);
                let _span = span(b);
                by_rows(b, |first, rows| cell(t, first, rows));
            }
        }),
    }
}

/// The four gates of some units of a row `[4, h]`.
#[inline(always)]
fn load_gates<T: Real>(z: &[T], h: usize, k: usize, n: usize) -> [[T; LANES]; 4] {
    std::array::from_fn(|gate| load(&z[gate * h + k..][..n]))
}

#[inline(always)]
fn store_gates<T: Real>(gates: [[T; LANES]; 4], z: &mut [T], h: usize, k: usize, n: usize) {
    for (gate, values) in gates.iter().enumerate() {
        z[gate * h + k..][..n].copy_from_slice(&values[..n]);
    }
}

/// Activates the gates of some rows in place and computes their cell states and outputs.
pub(super) struct Cell<'a, T> {
    pub h: usize,
    pub z: &'a mut [T],
    pub c_before: &'a [T],
    pub c: &'a mut [T],
    pub out: &'a mut [T],
}

impl<T: Real> Kernel for Cell<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let h = self.h;
        for (((z, c_before), c), out) in self
            .z
            .chunks_exact_mut(4 * h)
            .zip(self.c_before.chunks_exact(h))
            .zip(self.c.chunks_exact_mut(h))
            .zip(self.out.chunks_exact_mut(h))
        {
            by_lanes(
                h,
                #[inline(always)]
                |k, n| {
                    let [mut i, mut f, mut g, mut o] = load_gates(z, h, k, n);
                    let (mut cell, mut y) = (load(&c_before[k..][..n]), [T::ZERO; LANES]);
                    for l in 0..LANES {
                        (i[l], f[l]) = (i[l].sigmoid::<FMA>(), f[l].sigmoid::<FMA>());
                        (g[l], o[l]) = (g[l].tanh::<FMA>(), o[l].sigmoid::<FMA>());
                        cell[l] = f[l] * cell[l] + i[l] * g[l];
                        y[l] = o[l] * cell[l].tanh::<FMA>();
                    }
                    store_gates([i, f, g, o], z, h, k, n);
                    c[k..][..n].copy_from_slice(&cell[..n]);
                    out[k..][..n].copy_from_slice(&y[..n]);
                },
            );
        }
    }
}

/// Runs the recurrence backwards, turning gates into gradients of their pre-activations in place.
/// `recurrent`: W_hh ⊙ mask, packed as it lies; `c0` `[B, H]`; `cells` `[T, B, H]`.
pub(super) fn backward_recurrence<T: Real>(
    sizes: Sizes,
    recurrent: Packed<T>,
    c0: &[T],
    upstream: Upstream<T>,
    cells: &[T],
    carried: Carried<T>,
) {
    let Sizes { t: steps, b, h, .. } = sizes;
    if b == 0 || h == 0 {
        return;
    }
    let copy = |source: Option<&[T]>, target: &mut [T]| match source {
        Some(source) => target.copy_from_slice(source),
        None => target.fill(T::ZERO),
    };
    copy(upstream.dh, carried.dh);
    copy(upstream.dc, carried.dc);
    let (gates, dh, dc) = (Rows::new(carried.gates), Rows::new(carried.dh), Rows::new(carried.dc));
    let _region = trace::region("recurrence");
    by_rows(b, |first, rows| {
        // SAFETY: rows first..first+rows belong to this thread alone.
        let (dh, dc) = unsafe { (dh.range(first * h, rows * h), dc.range(first * h, rows * h)) };
        for t in (0..steps).rev() {
            let at = t * b + first;
            // SAFETY: as above.
            let z = unsafe { gates.range(at * 4 * h, rows * 4 * h) };
            let c_before = if t == 0 { &c0[first * h..][..rows * h] } else { &cells[(at - b) * h..][..rows * h] };
            let dy = upstream.dy.map(|dy| &dy[at * h..][..rows * h]);
            {
                let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(15 * rows * h);
                dispatch(CellBackward { h, z, c_before, c: &cells[at * h..][..rows * h], dy, dh, dc });
            }
            gemm_packed(Matrix::new(z, rows, 4 * h), &recurrent, dh, Store::Set);
        }
    });
}

/// Elements that [`CellBackward`] asks for in advance.
const AHEAD: usize = 256;

/// One step of the backward recurrence for some rows: gates → their gradients, `dc` → that of the
/// step before. `dh` is read.
struct CellBackward<'a, T> {
    h: usize,
    z: &'a mut [T],
    c_before: &'a [T],
    c: &'a [T],
    dy: Option<&'a [T]>,
    dh: &'a mut [T],
    dc: &'a mut [T],
}

impl<T: Real> Kernel for CellBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let h = self.h;
        if let Some(dy) = self.dy {
            self.dh.iter_mut().zip(dy).for_each(|(dh, &dy)| *dh += dy);
        }
        for ((((z, c_before), c), dh), dc) in self
            .z
            .chunks_exact_mut(4 * h)
            .zip(self.c_before.chunks_exact(h))
            .zip(self.c.chunks_exact(h))
            .zip(self.dh.chunks_exact(h))
            .zip(self.dc.chunks_exact_mut(h))
        {
            by_lanes(
                h,
                #[inline(always)]
                |k, n| {
                    // these come from memory, too many at a time for the processor to see what
                    // comes next
                    (0..4).for_each(|gate| prefetch(z.as_ptr().wrapping_add(gate * h + k + AHEAD).cast()));
                    [c_before, c].iter().for_each(|x| prefetch(x.as_ptr().wrapping_add(k + AHEAD).cast()));
                    let [mut i, mut f, mut g, mut o] = load_gates(z, h, k, n);
                    let [c_before, c, dh] = [c_before, c, dh].map(|x| load(&x[k..][..n]));
                    let mut d = load(&dc[k..][..n]);
                    for l in 0..LANES {
                        let tanh_c = c[l].tanh::<FMA>();
                        let d_cell = d[l] + dh[l] * o[l] * (T::ONE - tanh_c * tanh_c);
                        d[l] = d_cell * f[l];
                        let d_i = d_cell * g[l] * i[l] * (T::ONE - i[l]);
                        f[l] = d_cell * c_before[l] * f[l] * (T::ONE - f[l]);
                        g[l] = d_cell * i[l] * (T::ONE - g[l] * g[l]);
                        o[l] = dh[l] * tanh_c * o[l] * (T::ONE - o[l]);
                        i[l] = d_i;
                    }
                    store_gates([i, f, g, o], z, h, k, n);
                    dc[k..][..n].copy_from_slice(&d[..n]);
                },
            );
        }
    }
}

/// `out (+)= dz·w`, `dz` `[rows, n]`, `w` `[n, m]`.
pub(super) fn product<T: Real>(
    precision: Precision,
    dz: &[T],
    w: &[T],
    rows: usize,
    n: usize,
    out: &mut [T],
    store: Store,
) {
    gemm(precision, Matrix::new(dz, rows, n), Matrix::new(w, n, w.len() / n.max(1)), out, store);
}

/// `out (+)= dzᵀ·x`, `dz` `[rows, n]`, `x` `[rows, m]`.
pub(super) fn transposed_product<T: Real>(
    precision: Precision,
    dz: &[T],
    x: &[T],
    rows: usize,
    n: usize,
    out: &mut [T],
    store: Store,
) {
    gemm(precision, Matrix::new(dz, rows, n).t(), Matrix::new(x, rows, x.len() / rows.max(1)), out, store);
}

/// `out (+)= values ⊙ mask`, rows of `h` elements.
pub(super) fn mask_and_put<T: Real>(values: &[T], weight: &Dropout, h: usize, out: &mut [T], store: Store) {
    let _span = trace::phase(trace::MASKS).elements::<T>(2 * out.len());
    if weight.is_off() {
        return put(values, out, store);
    }
    if let Dropout::Given(mask) = weight {
        let mask = mask.read::<T>();
        for ((o, &d), &m) in out.iter_mut().zip(values).zip(mask.iter()) {
            *o = if store == Store::Add { *o + d * m } else { d * m };
        }
        return;
    }
    let Dropout::Random(mask) = weight else { return };
    out.par_chunks_mut(h)
        .zip(values.par_chunks(h))
        .enumerate()
        .for_each(|(row, (out, values))| mask_row(mask, row, Some(values), out, store));
}

/// `out = Σ_rows dz`, row by row; columns in parallel.
pub(super) fn column_sums<T: Real>(dz: &[T], n: usize, out: &mut [T]) {
    let _span = trace::phase(trace::SUMS).elements::<T>(dz.len());
    // a page of each row
    let block = 4096 / size_of::<T>();
    out.par_chunks_mut(block).enumerate().for_each(|(k, out)| dispatch(ColumnSums { dz, n, from: k * block, out }));
}

/// Sums of the columns from `from` on, as many as `out` has.
struct ColumnSums<'a, T> {
    dz: &'a [T],
    n: usize,
    from: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel for ColumnSums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        /// Rows that are added in one pass over the sums, one after the other.
        const TOGETHER: usize = 4;
        let ColumnSums { dz, n, from, out } = self;
        out.fill(T::ZERO);
        let width = out.len();
        let part = |row: usize| &dz[row * n + from..][..width];
        let rows = dz.len() / n;
        let whole = rows / TOGETHER * TOGETHER;
        for first in (0..whole).step_by(TOGETHER) {
            let parts: [&[T]; TOGETHER] = std::array::from_fn(|i| part(first + i));
            for (k, sum) in out.iter_mut().enumerate() {
                parts.iter().for_each(|part| *sum += part[k]);
            }
        }
        for row in whole..rows {
            out.iter_mut().zip(part(row)).for_each(|(sum, &d)| *sum += d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    /// Sizes whose products are large enough for several threads; two and three do not divide the
    /// rows.
    #[test]
    fn shared_rows_and_shared_columns_give_the_same_bits() {
        let sizes = Sizes { t: 3, b: 7, i: 5, h: 203 };
        let Sizes { t, b, i, h } = sizes;
        let mut random = Stream::new(Key([3, 5]), Site::CUSTOM[1], 0, 0);
        let mut numbers = |n: usize| (0..n).map(|_| random.below(2001) as f32 / 4000.0 - 0.25).collect::<Vec<f32>>();
        let (w_hh, gates, h0, c0) = (numbers(4 * h * h), numbers(t * b * 4 * h), numbers(b * h), numbers(b * h));
        for precision in [Precision::Full, Precision::Bf16] {
            let mut buffer = vec![0.0; packed_lens::<f32>(precision, sizes)[1]];
            pack_transposed(precision, &w_hh, h, &mut buffer);
            let layer = Layer { sizes, x: &vec![0.0; t * b * i], h0: &h0, c0: &c0, w_ih: &[], precision };
            let run = |share, threads| {
                let (mut y, mut gates, mut cells) = (vec![0.0; t * b * h], gates.clone(), vec![0.0; t * b * h]);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let trace = Trace { y: &mut y, gates: &mut gates, cells: &mut cells };
                    recurrence(layer, Packed::new(precision, &buffer, h, 4 * h), trace, share);
                });
                [y, gates, cells]
            };
            let rows = run(Share::Rows, 1);
            assert!(rows[0].iter().all(|y| y.abs() > 0.0), "{precision:?}");
            for threads in 1..=3 {
                assert!(run(Share::Columns, threads) == rows, "{precision:?}, columns on {threads} threads");
                assert!(run(Share::Rows, threads) == rows, "{precision:?}, rows on {threads} threads");
            }
        }
    }
}
