use rayon::prelude::*;

use crate::device::cpu::gemm::Store;
use crate::tensor::Real;

/// The last of `steps` time steps; empty where there are none.
pub(super) fn last_step<T>(h: &[T], steps: usize) -> &[T] {
    &h[h.len() - h.len() / steps.max(1)..]
}

/// The first of `steps` time steps.
pub(super) fn first_step<T>(h: &[T], steps: usize) -> &[T] {
    &h[..h.len() / steps.max(1)]
}

/// `Σ f(i)` over `0..n`, in 16 lanes that are added in order: vectorises, and the shape of the sum
/// depends on `n` alone.
#[inline(always)]
fn lanes<T: Real>(n: usize, f: impl Fn(usize) -> T) -> f64 {
    const LANES: usize = 16;
    let mut sums = [T::ZERO; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    for i in whole..n {
        sums[i - whole] += f(i);
    }
    sums.iter().map(|s| s.to_f64()).sum()
}

/// `Σ h²` of a chunk; `sums` takes one partial sum per time step.
pub(super) fn squares<T: Real>(h: &[T], sums: &mut [f64]) -> f64 {
    let step = h.len() / sums.len().max(1);
    sums.par_iter_mut().zip(h.par_chunks(step.max(1))).for_each(|(sum, h)| *sum = lanes(h.len(), |i| h[i] * h[i]));
    if h.is_empty() { 0.0 } else { sums.iter().sum() }
}

/// `Σ (h[t] − h[t−1])²` over the time steps `t` of a chunk; `last` is the step before its first,
/// where there is one, with as many rows or more.
pub(super) fn differences<T: Real>(h: &[T], last: Option<&[T]>, sums: &mut [f64]) -> f64 {
    let step = h.len() / sums.len().max(1);
    if step == 0 {
        return 0.0;
    }
    sums.par_iter_mut().enumerate().for_each(|(t, sum)| {
        let now = &h[t * step..][..step];
        let before = if t > 0 { Some(&h[(t - 1) * step..][..step]) } else { last.map(|l| &l[..step]) };
        *sum = before.map_or(0.0, |before| {
            lanes(step, |i| {
                let d = now[i] - before[i];
                d * d
            })
        });
    });
    sums.iter().sum()
}

#[inline(always)]
fn put<T: Real>(d: &mut T, value: T, store: Store) {
    *d = if store == Store::Add { *d + value } else { value };
}

/// `dh = factor·h`
pub(super) fn squares_backward<T: Real>(h: &[T], factor: T, dh: &mut [T], store: Store) {
    const BLOCK: usize = 16_384;
    dh.par_chunks_mut(BLOCK).zip(h.par_chunks(BLOCK)).for_each(|(dh, h)| {
        dh.iter_mut().zip(h).for_each(|(d, &h)| put(d, factor * h, store));
    });
}

/// `dh[t] = factor·((h[t] − h[t−1]) − (h[t+1] − h[t]))`, each difference where it exists: `last` is
/// the step before the chunk (as many rows or more), `next` the one after it (as many rows or
/// fewer).
pub(super) fn differences_backward<T: Real>(
    h: &[T],
    steps: usize,
    last: Option<&[T]>,
    next: Option<&[T]>,
    factor: T,
    dh: &mut [T],
    store: Store,
) {
    let step = h.len() / steps.max(1);
    if step == 0 {
        return;
    }
    dh.par_chunks_mut(step).enumerate().for_each(|(t, dh)| {
        let now = &h[t * step..][..step];
        let before = if t > 0 { Some(&h[(t - 1) * step..][..step]) } else { last.map(|l| &l[..step]) };
        let after = if t + 1 < steps { Some(&h[(t + 1) * step..][..step]) } else { next };
        match before {
            Some(before) => dh
                .iter_mut()
                .zip(now.iter().zip(before))
                .for_each(|(d, (&now, &before))| put(d, factor * (now - before), store)),
            None if store == Store::Set => dh.fill(T::ZERO),
            None => {}
        }
        if let Some(after) = after {
            // shorter where rows end with this chunk
            dh.iter_mut().zip(now.iter().zip(after)).for_each(|(d, (&now, &after))| *d -= factor * (after - now));
        }
    });
}
