//! The heart of every softmax: one row of logits, exponentiated in place.

use crate::device::cpu::isa::Kernel;
use crate::tensor::Real;

/// Independent partial sums of a row: a fixed shape of the reduction, wide enough for every vector
/// register.
const LANES: usize = 16;

/// `row = exp(row − max)`; gives the maximum and the sum of the exponentials.
pub(super) struct Exponentiate<'a, T>(pub &'a mut [T]);

impl<T: Real> Kernel for Exponentiate<'_, T> {
    type Output = (T, T);
    #[inline(always)]
    fn run<const FMA: bool>(self) -> (T, T) {
        exponentiate::<T, FMA>(self.0)
    }
}

/// See [`Exponentiate`]; for use inside another kernel.
#[inline(always)]
pub(super) fn exponentiate<T: Real, const FMA: bool>(row: &mut [T]) -> (T, T) {
    let mut maxima = [T::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (m, &x) in maxima.iter_mut().zip(chunk) {
            *m = if x > *m { x } else { *m };
        }
    }
    let max = maxima.iter().chain(tail).fold(T::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    let mut sums = [T::ZERO; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = (*x - max).exp::<FMA>();
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.into_remainder()) {
        *x = (*x - max).exp::<FMA>();
        *sum += *x;
    }
    (max, sums.into_iter().fold(T::ZERO, |total, sum| total + sum))
}
