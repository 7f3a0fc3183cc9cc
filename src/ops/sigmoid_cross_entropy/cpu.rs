use crate::autodiff::Store;
use crate::tensor::Real;

/// `(σ(z), −ln σ(−z))`: the probability of a logit `z`, and its loss where the label is absent.
fn sigmoid_and_cost<T: Real>(z: T) -> (T, T) {
    let small = (-z.abs()).exp::<false>();
    let sum = T::ONE + small;
    let cost = sum.ln();
    if z > T::ZERO { (T::ONE / sum, z + cost) } else { (small / sum, cost) }
}

/// `p^γ`
fn power<T: Real>(p: T, focal: T) -> T {
    match () {
        () if focal == T::ZERO => T::ONE,
        () if p > T::ZERO => (focal * p.ln()).exp::<false>(),
        () => T::ZERO,
    }
}

/// Mean loss, summed element by element.
pub(super) fn forward<T: Real>(logits: &[T], targets: &[T], weights: &[T], focal: f64) -> T {
    let focal = T::from_f64(focal);
    let mut loss = T::ZERO;
    for (i, (&z, &y)) in logits.iter().zip(targets).enumerate() {
        let w = weights[i % weights.len()];
        let ((p, wrong), (rest, missed)) = (sigmoid_and_cost(z), sigmoid_and_cost(-z));
        loss += w * y * power(rest, focal) * missed + (T::ONE - y) * power(p, focal) * wrong;
    }
    loss / T::from_f64(logits.len() as f64)
}

/// `dz = ((1 − y)·absent − w·y·present)·dloss/n`, with
/// `absent = γ·p^γ·(1 − p)·wrong + p^(γ+1)` and
/// `present = γ·(1 − p)^γ·p·missed + (1 − p)^(γ+1)`
pub(super) fn backward<T: Real>(
    logits: &[T],
    targets: &[T],
    weights: &[T],
    focal: f64,
    dloss: T,
    dlogits: &mut [T],
    store: Store,
) {
    let (scale, focal) = (dloss / T::from_f64(logits.len() as f64), T::from_f64(focal));
    for (i, ((&z, &y), d)) in logits.iter().zip(targets).zip(dlogits).enumerate() {
        let w = weights[i % weights.len()];
        let ((p, wrong), (rest, missed)) = (sigmoid_and_cost(z), sigmoid_and_cost(-z));
        let up = power(p, focal) * (focal * rest * wrong + p);
        let down = power(rest, focal) * (focal * p * missed + rest);
        let value = ((T::ONE - y) * up - w * y * down) * scale;
        *d = if store == Store::Add { *d + value } else { value };
    }
}
