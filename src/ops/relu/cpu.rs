use crate::autodiff::Store;
use crate::tensor::Real;

pub(super) fn forward<T: Real>(x: &[T], y: &mut [T]) {
    // asked this way round, NaN passes
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x < T::ZERO { T::ZERO } else { x });
}

/// `dx = dy` where `y > 0`; the output knows enough.
pub(super) fn backward<T: Real>(y: &[T], dy: &[T], dx: &mut [T], store: Store) {
    let passed = y.iter().zip(dy).map(|(&y, &dy)| if y > T::ZERO { dy } else { T::ZERO });
    match store {
        Store::Set => dx.iter_mut().zip(passed).for_each(|(dx, d)| *dx = d),
        Store::Add => dx.iter_mut().zip(passed).for_each(|(dx, d)| *dx += d),
    }
}
