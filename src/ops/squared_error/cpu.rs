use crate::autodiff::Store;
use crate::tensor::Real;

pub(super) fn forward<T: Real>(x: &[T], targets: &[T]) -> T {
    let sum = x.iter().zip(targets).map(|(&x, &t)| (x - t) * (x - t)).sum::<T>();
    sum / T::from_f64(x.len() as f64)
}

/// `dx = 2·(x − t)·dloss/n`
pub(super) fn backward<T: Real>(x: &[T], targets: &[T], dloss: T, dx: &mut [T], store: Store) {
    let scale = T::from_f64(2.0 / x.len() as f64) * dloss;
    for ((&x, &t), d) in x.iter().zip(targets).zip(dx) {
        let value = (x - t) * scale;
        *d = if store == Store::Add { *d + value } else { value };
    }
}
