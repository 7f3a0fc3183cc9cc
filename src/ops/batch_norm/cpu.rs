use super::{EPSILON, MOMENTUM};
use crate::autodiff::Store;
use crate::tensor::Real;

/// Mean and biased variance of every column of `x` `[B, F]`, in two passes over the rows.
pub(super) fn moments<T: Real>(x: &[T], mean: &mut [T], variance: &mut [T]) {
    let features = mean.len().max(1);
    let count = T::from_f64((x.len() / features) as f64);
    mean.fill(T::ZERO);
    variance.fill(T::ZERO);
    for row in x.chunks_exact(features) {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
    }
    mean.iter_mut().for_each(|sum| *sum = *sum / count);
    for row in x.chunks_exact(features) {
        for ((sum, &x), &mean) in variance.iter_mut().zip(row).zip(&*mean) {
            *sum += (x - mean) * (x - mean);
        }
    }
    variance.iter_mut().for_each(|sum| *sum = *sum / count);
}

/// Lets a batch of `rows` rows into the running statistics; its variance becomes unbiased on the
/// way.
pub(super) fn update<T: Real>(
    rows: usize,
    mean: &[T],
    variance: &[T],
    running_mean: &mut [T],
    running_variance: &mut [T],
) {
    let (old, new) = (T::from_f64(1.0 - MOMENTUM), T::from_f64(MOMENTUM));
    let unbiased = T::from_f64(rows as f64 / (rows - 1) as f64);
    running_mean.iter_mut().zip(mean).for_each(|(r, &m)| *r = old * *r + new * m);
    running_variance.iter_mut().zip(variance).for_each(|(r, &v)| *r = old * *r + new * (v * unbiased));
}

/// Turns variances into `1/√(variance + ε)`.
pub(super) fn invert<T: Real>(variance: &mut [T]) {
    variance.iter_mut().for_each(|v| *v = T::ONE / (*v + T::from_f64(EPSILON)).sqrt());
}

pub(super) fn forward<T: Real>(x: &[T], mean: &[T], scale: &[T], weight: &[T], bias: &[T], y: &mut [T]) {
    let features = mean.len().max(1);
    for (y, x) in y.chunks_exact_mut(features).zip(x.chunks_exact(features)) {
        for (j, y) in y.iter_mut().enumerate() {
            *y = (x[j] - mean[j]) * scale[j] * weight[j] + bias[j];
        }
    }
}

/// `dweight = Σ_b dy·x̂`, `dbias = Σ_b dy`, row by row.
pub(super) fn backward_affine<T: Real>(x: &[T], dy: &[T], mean: &[T], scale: &[T], dweight: &mut [T], dbias: &mut [T]) {
    let features = mean.len().max(1);
    dweight.fill(T::ZERO);
    dbias.fill(T::ZERO);
    for (x, dy) in x.chunks_exact(features).zip(dy.chunks_exact(features)) {
        for (j, &dy) in dy.iter().enumerate() {
            dweight[j] += dy * ((x[j] - mean[j]) * scale[j]);
            dbias[j] += dy;
        }
    }
}

/// Sums that every row of the gradient of `x` needs, each `[F]`.
#[derive(Clone, Copy)]
pub(super) struct Row<'a, T> {
    pub mean: &'a [T],
    pub scale: &'a [T],
    pub weight: &'a [T],
    pub dweight: &'a [T],
    pub dbias: &'a [T],
}

/// `dx = weight·scale·(dy - mean(dy) - x̂·mean(dy·x̂))`: mean and variance are the batch's own.
pub(super) fn backward_train<T: Real>(x: &[T], dy: &[T], row: Row<T>, dx: &mut [T], store: Store) {
    let features = row.mean.len().max(1);
    let count = T::from_f64((x.len() / features) as f64);
    for ((dx, dy), x) in dx.chunks_exact_mut(features).zip(dy.chunks_exact(features)).zip(x.chunks_exact(features)) {
        for (j, dx) in dx.iter_mut().enumerate() {
            let normal = (x[j] - row.mean[j]) * row.scale[j];
            let centred = dy[j] - row.dbias[j] / count - normal * (row.dweight[j] / count);
            let d = row.weight[j] * row.scale[j] * centred;
            *dx = if store == Store::Add { *dx + d } else { d };
        }
    }
}

/// `dx = weight·scale·dy`: mean and variance are constants.
pub(super) fn backward_fixed<T: Real>(dy: &[T], row: Row<T>, dx: &mut [T], store: Store) {
    let features = row.mean.len().max(1);
    for (dx, dy) in dx.chunks_exact_mut(features).zip(dy.chunks_exact(features)) {
        for (j, dx) in dx.iter_mut().enumerate() {
            let d = row.weight[j] * row.scale[j] * dy[j];
            *dx = if store == Store::Add { *dx + d } else { d };
        }
    }
}

pub(super) fn put<T: Real>(from: &[T], to: &mut [T], store: Store) {
    match store {
        Store::Set => to.copy_from_slice(from),
        Store::Add => to.iter_mut().zip(from).for_each(|(to, &d)| *to += d),
    }
}
