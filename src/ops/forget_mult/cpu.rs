//! fo-pooling on slices. A thread takes some columns of `[B, H]` through all steps: nothing is
//! shared between columns, so no two threads meet, and a column's bits do not depend on who
//! computed it. At every step a thread's columns lie side by side, in row after row.

use std::ops::Range;

use rayon::prelude::*;

use super::Sizes;
use crate::autodiff::Store;
use crate::device::cpu::gemm::prefetch;
use crate::device::cpu::isa::{Kernel, dispatch};
use crate::device::cpu::parallel::CHUNK;
use crate::ops::mask::Dropout;
pub(super) use crate::ops::recurrence::put;
use crate::ops::recurrence::{LANES, Rows, by_lanes, load};
use crate::random::Mask;
use crate::tensor::Real;
use crate::trace;

/// The inputs of both passes. Shapes as in [`super::forget_mult`].
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, T> {
    pub sizes: Sizes,
    pub gates: &'a [T],
    pub c0: &'a [T],
    pub zoneout: Factors<'a, T>,
}

/// Gradients that arrive: `dy` `[T, B, H]`, `dc` (of the last state) `[B, H]`; absent means zero.
#[derive(Clone, Copy)]
pub(super) struct Upstream<'a, T> {
    pub dy: Option<&'a [T]>,
    pub dc: Option<&'a [T]>,
}

/// The factors of the gates f.
#[derive(Clone, Copy)]
pub(super) enum Factors<'a, T> {
    All(T),
    /// `[T, B, H]`
    Given(&'a [T]),
    /// 0 and 1, rows of T·B.
    Random(Mask),
}

impl<'a, T: Real> Factors<'a, T> {
    /// `given`: the values of the mask, if it is a given one.
    pub fn new(factor: f64, mask: &Dropout, given: Option<&'a [T]>) -> Self {
        match (mask, given) {
            (Dropout::Random(mask), _) => Factors::Random(*mask),
            (_, Some(given)) => Factors::Given(given),
            _ => Factors::All(T::from_f64(factor)),
        }
    }

    /// The factors of `n` columns from `k` (a multiple of four) on of row `row`, of `h` columns.
    #[inline(always)]
    fn load(&self, row: usize, k: usize, n: usize, h: usize) -> [T; LANES] {
        match self {
            Factors::All(factor) => [*factor; LANES],
            Factors::Given(all) => load(&all[row * h + k..][..n]),
            Factors::Random(mask) => {
                let (lanes, threshold) = (mask.lanes_of::<{ LANES / 4 }>(row as u32, (k / 4) as u32), mask.threshold());
                std::array::from_fn(|l| if u64::from(lanes[l % 4][l / 4]) < threshold { T::ONE } else { T::ZERO })
            }
        }
    }
}

/// Columns of a row that a thread takes together: a multiple of [`LANES`].
const COLUMNS: usize = 256;

/// A thread's part of `[B, H]`, as far as rows go: (row, first column, columns).
#[derive(Clone)]
struct Pieces {
    /// The groups of [`COLUMNS`] that are left.
    groups: Range<usize>,
    /// Of them in a row of `h` columns.
    in_row: usize,
    h: usize,
}

impl Pieces {
    /// Columns of all rows.
    fn elements(&self) -> usize {
        self.clone().map(|(_, _, columns)| columns).sum()
    }
}

impl Iterator for Pieces {
    type Item = (usize, usize, usize);
    fn next(&mut self) -> Option<Self::Item> {
        if self.groups.is_empty() {
            return None;
        }
        let (row, first) = (self.groups.start / self.in_row, self.groups.start % self.in_row);
        let end = (first + self.groups.len()).min(self.in_row);
        self.groups.start += end - first;
        Some((row, first * COLUMNS, (end * COLUMNS).min(self.h) - first * COLUMNS))
    }
}

/// Calls `work` for parts of `[B, H]`, in parallel if there is enough to do.
fn by_columns(Sizes { t, b, h }: Sizes, work: impl Fn(Pieces) + Sync) {
    let in_row = h.div_ceil(COLUMNS);
    let all = b * in_row;
    let parts = if t * b * h < CHUNK { 1 } else { rayon::current_num_threads() };
    let each = all.div_ceil(parts).max(1);
    let run = |part: usize| work(Pieces { groups: part * each..((part + 1) * each).min(all), in_row, h });
    match parts {
        1 => run(0),
        _ => (0..all.div_ceil(each)).into_par_iter().for_each(run),
    }
}

/// `states` and `y`: `[T, B, H]`.
pub(super) fn forward<T: Real>(layer: Layer<T>, states: &mut [T], y: &mut [T]) {
    let Sizes { t: steps, b, h } = layer.sizes;
    if b == 0 || h == 0 {
        return;
    }
    let (states, y) = (Rows::new(states), Rows::new(y));
    let _region = trace::region("recurrence");
    by_columns(layer.sizes, |pieces| {
        let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(5 * steps * pieces.elements());
        for t in 0..steps {
            for (of_batch, from, columns) in pieces.clone() {
                let row = t * b + of_batch;
                let at = row * h + from;
                let c_before: &[T] = match t {
                    0 => &layer.c0[at..][..columns],
                    // SAFETY: the step before is only read, by the thread that wrote it.
                    _ => unsafe { states.range(at - b * h, columns) },
                };
                // SAFETY: these columns belong to this thread alone.
                let (c, y) = unsafe { (states.range(at, columns), y.range(at, columns)) };
                let gates = &layer.gates[row * 3 * h..][..3 * h];
                dispatch(Step { h, row, from, gates, zoneout: layer.zoneout, c_before, c, y });
            }
        }
    });
}

/// Elements that are prefetched.
const AHEAD: usize = 256;

/// The three gates of some columns of a row `[3, h]`.
#[inline(always)]
fn load_gates<T: Real>(gates: &[T], h: usize, k: usize, n: usize) -> [[T; LANES]; 3] {
    std::array::from_fn(|gate| load(&gates[gate * h + k..][..n]))
}

/// One step of the columns from `from` on, as many as `c` has.
struct Step<'a, T> {
    h: usize,
    row: usize,
    from: usize,
    gates: &'a [T],
    zoneout: Factors<'a, T>,
    c_before: &'a [T],
    c: &'a mut [T],
    y: &'a mut [T],
}

impl<T: Real> Kernel for Step<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Step { h, row, from, gates, zoneout, c_before, c, y } = self;
        by_lanes(
            c.len(),
            #[inline(always)]
            |k, n| {
                // from memory, at too many places for the processor to see what comes next
                (0..3).for_each(|gate| prefetch(gates.as_ptr().wrapping_add(gate * h + from + k + AHEAD).cast()));
                let [z, f, o] = load_gates(gates, h, from + k, n);
                let factors = zoneout.load(row, from + k, n, h);
                let (mut state, mut out) = (load(&c_before[k..][..n]), [T::ZERO; LANES]);
                for l in 0..LANES {
                    let f = f[l].sigmoid::<FMA>() * factors[l];
                    state[l] = f * z[l].tanh::<FMA>() + (T::ONE - f) * state[l];
                    out[l] = o[l].sigmoid::<FMA>() * state[l];
                }
                c[k..][..n].copy_from_slice(&state[..n]);
                y[k..][..n].copy_from_slice(&out[..n]);
            },
        );
    }
}

/// From the last step to the first. `d_gates` `[T, B, 3H]`, if it is wanted; `carried` `[B, H]`
/// becomes the gradient of c0.
pub(super) fn backward<T: Real>(
    layer: Layer<T>,
    states: &[T],
    upstream: Upstream<T>,
    d_gates: Option<(&mut [T], Store)>,
    carried: &mut [T],
) {
    let Sizes { t: steps, b, h } = layer.sizes;
    if b == 0 || h == 0 {
        return;
    }
    match upstream.dc {
        Some(dc) => carried.copy_from_slice(dc),
        None => carried.fill(T::ZERO),
    }
    let d_gates = d_gates.map(|(d, store)| (Rows::new(d), store));
    let carried = Rows::new(carried);
    let _region = trace::region("recurrence");
    by_columns(layer.sizes, |pieces| {
        let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(8 * steps * pieces.elements());
        for t in (0..steps).rev() {
            for (of_batch, from, columns) in pieces.clone() {
                let row = t * b + of_batch;
                let at = row * h + from;
                let c_before = if t == 0 { &layer.c0[at..][..columns] } else { &states[at - b * h..][..columns] };
                // SAFETY: these columns belong to this thread alone.
                let carried = unsafe { carried.range(of_batch * h + from, columns) };
                let d_gates = d_gates.as_ref().map(|(d, store)| {
                    // SAFETY: as above, of each of the three gates.
                    ([0, 1, 2].map(|gate| unsafe { d.range((row * 3 + gate) * h + from, columns) }), *store)
                });
                dispatch(StepBackward {
                    h,
                    row,
                    from,
                    gates: &layer.gates[row * 3 * h..][..3 * h],
                    zoneout: layer.zoneout,
                    c_before,
                    c: &states[at..][..columns],
                    dy: upstream.dy.map(|dy| &dy[at..][..columns]),
                    d_gates,
                    carried,
                });
            }
        }
    });
}

/// One step of the backward pass, of the columns from `from` on: `carried` is the gradient of c,
/// and becomes that of `c_before`.
struct StepBackward<'a, T> {
    h: usize,
    row: usize,
    from: usize,
    gates: &'a [T],
    zoneout: Factors<'a, T>,
    c_before: &'a [T],
    c: &'a [T],
    dy: Option<&'a [T]>,
    d_gates: Option<([&'a mut [T]; 3], Store)>,
    carried: &'a mut [T],
}

impl<T: Real> Kernel for StepBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let StepBackward { h, row, from, gates, zoneout, c_before, c, dy, mut d_gates, carried } = self;
        by_lanes(
            carried.len(),
            #[inline(always)]
            |k, n| {
                (0..3).for_each(|gate| prefetch(gates.as_ptr().wrapping_add(gate * h + from + k + AHEAD).cast()));
                [c, c_before].iter().for_each(|x| prefetch(x.as_ptr().wrapping_add(k + AHEAD).cast()));
                let [mut z, mut f, mut o] = load_gates(gates, h, from + k, n);
                let factors = zoneout.load(row, from + k, n, h);
                let [c, c_before] = [c, c_before].map(|x| load(&x[k..][..n]));
                let dy = dy.map_or([T::ZERO; LANES], |dy| load(&dy[k..][..n]));
                let mut d = load(&carried[k..][..n]);
                for l in 0..LANES {
                    let (new, gate, open) = (z[l].tanh::<FMA>(), f[l].sigmoid::<FMA>(), o[l].sigmoid::<FMA>());
                    let share = gate * factors[l];
                    let d_state = d[l] + dy[l] * open;
                    z[l] = d_state * share * (T::ONE - new * new);
                    f[l] = d_state * (new - c_before[l]) * share * (T::ONE - gate);
                    o[l] = dy[l] * c[l] * open * (T::ONE - open);
                    d[l] = d_state * (T::ONE - share);
                }
                carried[k..][..n].copy_from_slice(&d[..n]);
                if let Some((places, store)) = &mut d_gates {
                    for (place, values) in places.iter_mut().zip([z, f, o]) {
                        put(&values[..n], &mut place[k..][..n], *store);
                    }
                }
            },
        );
    }
}
