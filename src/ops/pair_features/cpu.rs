use crate::autodiff::Store;
use crate::tensor::Real;

/// `pairs`: rows of u and v in turn.
pub(super) fn forward<T: Real>(x: &[T], pairs: &[u32], f: usize, y: &mut [T]) {
    for (pair, y) in pairs.chunks_exact(2).zip(y.chunks_exact_mut(4 * f)) {
        let (u, v) = (&x[pair[0] as usize * f..][..f], &x[pair[1] as usize * f..][..f]);
        for (i, (&u, &v)) in u.iter().zip(v).enumerate() {
            (y[i], y[f + i], y[2 * f + i], y[3 * f + i]) = (u, v, (u - v).abs(), u * v);
        }
    }
}

pub(super) fn backward<T: Real>(x: &[T], pairs: &[u32], f: usize, dy: &[T], dx: &mut [T], store: Store) {
    for (pair, dy) in pairs.chunks_exact(2).zip(dy.chunks_exact(4 * f)) {
        let [at_u, at_v] = [pair[0] as usize * f, pair[1] as usize * f];
        for i in 0..f {
            let (u, v) = (x[at_u + i], x[at_v + i]);
            let distance = match () {
                () if u > v => dy[2 * f + i],
                () if u < v => -dy[2 * f + i],
                () => T::ZERO,
            };
            let product = dy[3 * f + i];
            let [du, dv] = [dy[i] + distance + v * product, dy[f + i] - distance + u * product];
            for (at, d) in [(at_u + i, du), (at_v + i, dv)] {
                dx[at] = if store == Store::Add { dx[at] + d } else { d };
            }
        }
    }
}
