use crate::autodiff::Store;
use crate::tensor::Real;

/// The labels and how they count.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a, T> {
    labels: &'a [u32],
    /// `[C]`
    weights: &'a [T],
    focal: T,
    /// The share of the label's class in the target.
    of_label: T,
    /// The share of every other class.
    share: T,
    total: T,
}

impl<'a, T: Real> Settings<'a, T> {
    pub(super) fn new(labels: &'a [u32], weights: &'a [T], focal: f64, smoothing: f64, total: f64) -> Self {
        let share = smoothing / weights.len() as f64;
        let [focal, of_label, share, total] = [focal, 1.0 - smoothing + share, share, total].map(T::from_f64);
        Settings { labels, weights, focal, of_label, share, total }
    }

    /// Weight of every class in the loss of a row: `target·w`.
    fn shares(&self, label: u32) -> impl Iterator<Item = T> {
        let Settings { weights, of_label, share, .. } = *self;
        weights
            .iter()
            .enumerate()
            .map(move |(class, &w)| if class == label as usize { of_label * w } else { share * w })
    }

    /// `(1 − p)^γ`
    fn focus(&self, p: T) -> T {
        let rest = T::ONE - p;
        match () {
            () if self.focal == T::ZERO => T::ONE,
            () if rest > T::ZERO => (self.focal * rest.ln()).exp::<false>(),
            () => T::ZERO,
        }
    }

    /// `p·d/dp` of `−(1 − p)^γ·ln p`, by the logarithm of p:
    /// `γ·p·(1 − p)^γ·ln p/(1 − p) − (1 − p)^γ`.
    fn slope(&self, log: T) -> T {
        let p = log.exp::<false>();
        let (rest, focus) = (T::ONE - p, self.focus(p));
        // ln p/(1 − p) is −1 at p = 1, and p·ln p is 0 at p = 0
        let ratio = if rest > T::ZERO { log / rest } else { -T::ONE };
        let first = if p > T::ZERO { self.focal * p * focus * ratio } else { T::ZERO };
        first - focus
    }
}

/// Writes the logarithms of the probabilities and returns the loss, summed row by row.
pub(super) fn forward<T: Real>(logits: &[T], settings: Settings<T>, logs: &mut [T]) -> T {
    let classes = settings.weights.len();
    let mut loss = T::ZERO;
    for ((z, logs), &label) in logits.chunks_exact(classes).zip(logs.chunks_exact_mut(classes)).zip(settings.labels) {
        let max = z.iter().fold(T::NEG_INFINITY, |m, &z| if z > m { z } else { m });
        let sum = z.iter().map(|&z| (z - max).exp::<false>()).sum::<T>().ln();
        logs.iter_mut().zip(z).for_each(|(log, &z)| *log = z - max - sum);
        for (share, &log) in settings.shares(label).zip(&*logs) {
            // a logit of minus infinity is no loss unless its class has a share
            if share > T::ZERO {
                loss += share * settings.focus(log.exp::<false>()) * -log;
            }
        }
    }
    loss / settings.total
}

/// `dlogits[j] = s[j] − p[j]·Σ_c s[c]`, with `s[c] = target·w·slope`, times `dloss/total`.
pub(super) fn backward<T: Real>(logs: &[T], settings: Settings<T>, dloss: T, dlogits: &mut [T], store: Store) {
    let classes = settings.weights.len();
    let scale = dloss / settings.total;
    for ((logs, d), &label) in logs.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes)).zip(settings.labels) {
        let of = |share: T, log: T| if share > T::ZERO { share * settings.slope(log) } else { T::ZERO };
        let sum = settings.shares(label).zip(logs).map(|(share, &log)| of(share, log)).sum::<T>();
        for ((share, &log), d) in settings.shares(label).zip(logs).zip(d) {
            let value = (of(share, log) - log.exp::<false>() * sum) * scale;
            *d = if store == Store::Add { *d + value } else { value };
        }
    }
}
