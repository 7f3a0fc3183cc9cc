use rayon::prelude::*;

use crate::autodiff::Store;
use crate::tensor::Real;

/// Below this many elements one thread is faster than two.
const PARALLEL: usize = 65_536;

/// `y = x·factors` or `y += x·factors`, the factors repeated until `y` is full.
pub(super) fn multiply<T: Real>(x: &[T], factors: &[T], y: &mut [T], store: Store) {
    let step = |(y, x): (&mut [T], &[T])| {
        let products = x.iter().zip(factors).map(|(&x, &factor)| x * factor);
        match store {
            Store::Set => y.iter_mut().zip(products).for_each(|(y, v)| *y = v),
            Store::Add => y.iter_mut().zip(products).for_each(|(y, v)| *y += v),
        }
    };
    let size = factors.len().max(1);
    if y.len() < PARALLEL {
        y.chunks_mut(size).zip(x.chunks(size)).for_each(step);
    } else {
        y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(step);
    }
}
