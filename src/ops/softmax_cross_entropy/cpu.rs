use crate::autodiff::Store;
use crate::tensor::Real;

/// Softmax of one row; returns its maximum and the sum of `exp(z - maximum)`.
fn softmax_row<T: Real>(z: &[T], p: &mut [T]) -> (T, T) {
    let max = z.iter().fold(T::NEG_INFINITY, |m, &z| if z > m { z } else { m });
    let mut sum = T::ZERO;
    for (p, &z) in p.iter_mut().zip(z) {
        *p = (z - max).exp::<false>();
        sum += *p;
    }
    p.iter_mut().for_each(|p| *p = *p / sum);
    (max, sum)
}

pub(super) fn softmax<T: Real>(logits: &[T], classes: usize, p: &mut [T]) {
    for (z, p) in logits.chunks_exact(classes).zip(p.chunks_exact_mut(classes)) {
        softmax_row(z, p);
    }
}

/// Writes the probabilities and returns the mean loss, summed row by row.
pub(super) fn forward<T: Real>(logits: &[T], labels: &[u32], classes: usize, smoothing: f64, p: &mut [T]) -> T {
    let (sharp, share) = (T::from_f64(1.0 - smoothing), T::from_f64(smoothing / classes as f64));
    let mut loss = T::ZERO;
    for ((z, p), &label) in logits.chunks_exact(classes).zip(p.chunks_exact_mut(classes)).zip(labels) {
        let (max, sum) = softmax_row(z, p);
        let of_label = z[label as usize] - max;
        // a logit of minus infinity is no loss unless its class has a share
        let expected = match smoothing {
            0.0 => of_label,
            _ => sharp * of_label + share * z.iter().map(|&z| z - max).sum::<T>(),
        };
        loss += sum.ln() - expected;
    }
    loss / T::from_f64(labels.len() as f64)
}

/// `dlogits = (p - target)·dloss/B`, the target `1-ε+ε/C` at the label and `ε/C` elsewhere.
pub(super) fn backward<T: Real>(
    p: &[T],
    labels: &[u32],
    classes: usize,
    smoothing: f64,
    dloss: T,
    dlogits: &mut [T],
    store: Store,
) {
    let scale = dloss / T::from_f64(labels.len() as f64);
    let share = smoothing / classes as f64;
    let (of_label, share) = (T::from_f64(1.0 - smoothing + share), T::from_f64(share));
    for ((p, d), &label) in p.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes)).zip(labels) {
        for (class, (d, &p)) in d.iter_mut().zip(p).enumerate() {
            let difference = p - if class == label as usize { of_label } else { share };
            *d = if store == Store::Add { *d + difference * scale } else { difference * scale };
        }
    }
}
