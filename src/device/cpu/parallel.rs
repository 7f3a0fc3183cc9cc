//! Loops over slices on all threads: the bits of a result depend on neither the number of threads nor who computed what.
//!
//! Nothing here allocates. Slices of at most one chunk are computed by the calling thread alone.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Real;
use super::isa::{Kernel, dispatch};

/// Elements that one thread takes at a time.
pub const CHUNK: usize = 16_384;

/// Calls `work(index, chunk)` for chunks of `size` elements (the last may be shorter).
///
/// # Panics
/// If `size` is 0.
pub fn for_chunks_mut<T: Send>(slice: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if slice.len() <= size.max(CHUNK) {
        slice.chunks_mut(size).enumerate().for_each(|(index, chunk)| work(index, chunk));
    } else {
        slice.par_chunks_mut(size).enumerate().for_each(|(index, chunk)| work(index, chunk));
    }
}

/// A function of one element, applied to many by [`map`] and [`map_in_place`].
pub trait Map<T>: Copy + Send + Sync {
    /// Write `#[inline(always)]` on it, and pass `FMA` on to [`super::math::Math`].
    fn call<const FMA: bool>(self, x: T) -> T;
}

/// A function of two elements, applied to many by [`zip_in_place`].
pub trait Zip<T>: Copy + Send + Sync {
    /// Write `#[inline(always)]` on it, and pass `FMA` on to [`super::math::Math`].
    fn call<const FMA: bool>(self, x: T, y: T) -> T;
}

/// `y = f(x)`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn map<T: Real>(x: &[T], y: &mut [T], f: impl Map<T>) {
    struct Chunk<'a, T, F>(&'a [T], &'a mut [T], F);
    impl<T: Real, F: Map<T>> Kernel for Chunk<'_, T, F> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (x, y) in self.0.iter().zip(self.1) {
                *y = self.2.call::<FMA>(*x);
            }
        }
    }
    assert_eq!(x.len(), y.len(), "as many results as arguments");
    for_chunks_mut(y, CHUNK, |index, y| dispatch(Chunk(&x[index * CHUNK..][..y.len()], y, f)));
}

/// `x = f(x)`, element by element.
pub fn map_in_place<T: Real>(x: &mut [T], f: impl Map<T>) {
    struct Chunk<'a, T, F>(&'a mut [T], F);
    impl<T: Real, F: Map<T>> Kernel for Chunk<'_, T, F> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for x in self.0 {
                *x = self.1.call::<FMA>(*x);
            }
        }
    }
    for_chunks_mut(x, CHUNK, |_, x| dispatch(Chunk(x, f)));
}

/// `x = f(x, y)`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn zip_in_place<T: Real>(x: &mut [T], y: &[T], f: impl Zip<T>) {
    struct Chunk<'a, T, F>(&'a mut [T], &'a [T], F);
    impl<T: Real, F: Zip<T>> Kernel for Chunk<'_, T, F> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (x, y) in self.0.iter_mut().zip(self.1) {
                *x = self.2.call::<FMA>(*x, *y);
            }
        }
    }
    assert_eq!(x.len(), y.len(), "two slices of one length");
    for_chunks_mut(x, CHUNK, |index, x| dispatch(Chunk(x, &y[index * CHUNK..][..x.len()], f)));
}

/// The sum of `part(range)` over the chunks of `0..length`, added in a binary tree whose shape depends on `length` alone.
pub fn sum_of_chunks(length: usize, part: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    fn tree(range: Range<usize>, part: &(impl Fn(Range<usize>) -> f64 + Sync)) -> f64 {
        let chunks = range.len().div_ceil(CHUNK);
        if chunks <= 1 {
            return if range.is_empty() { 0.0 } else { part(range) };
        }
        let middle = range.start + chunks.div_ceil(2) * CHUNK;
        let (left, right) = rayon::join(|| tree(range.start..middle, part), || tree(middle..range.end, part));
        left + right
    }
    tree(0..length, &part)
}

/// `Σ x`, in f64: the same bits for every instruction set.
pub fn sum<T: Real>(x: &[T]) -> f64 {
    sum_of_chunks(x.len(), |range| dispatch(Lanes(&x[range], |x: T| x.to_f64())))
}

/// `Σ x²`, in f64: the same bits for every instruction set.
pub fn sum_of_squares<T: Real>(x: &[T]) -> f64 {
    sum_of_chunks(x.len(), |range| dispatch(Lanes(&x[range], |x: T| x.to_f64() * x.to_f64())))
}

/// Interleaved sums of terms in one chunk, so that the loop runs on vectors, added pairwise.
struct Lanes<'a, T, F>(&'a [T], F);

impl<T: Real, F: Fn(T) -> f64> Kernel for Lanes<'_, T, F> {
    type Output = f64;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let Lanes(x, term) = self;
        let mut sums = [0.0; 16];
        let (groups, rest) = x.as_chunks::<16>();
        for group in groups {
            for (sum, &x) in sums.iter_mut().zip(group) {
                *sum += term(x);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += term(x);
        }
        let mut width = sums.len();
        while width > 1 {
            width /= 2;
            for i in 0..width {
                sums[i] += sums[i + width];
            }
        }
        sums[0]
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::Math;
    use super::*;

    const LENGTHS: [usize; 8] = [0, 1, 15, 17, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77];

    fn numbers(count: usize) -> Vec<f32> {
        (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[derive(Clone, Copy)]
    struct Tanh;
    impl<T: Real> Map<T> for Tanh {
        #[inline(always)]
        fn call<const FMA: bool>(self, x: T) -> T {
            x.tanh::<FMA>()
        }
    }

    #[derive(Clone, Copy)]
    struct Axpy(f32);
    impl Zip<f32> for Axpy {
        #[inline(always)]
        fn call<const FMA: bool>(self, x: f32, y: f32) -> f32 {
            Math::mul_add::<FMA>(y, self.0, x)
        }
    }

    #[test]
    fn every_chunk_is_visited_once_with_its_index() {
        for length in LENGTHS {
            for size in [1000, CHUNK, 3 * CHUNK] {
                let mut x = vec![0usize; length];
                for_chunks_mut(&mut x, size, |index, chunk| chunk.iter_mut().for_each(|x| *x += index + 1));
                assert!(x.iter().enumerate().all(|(i, &x)| x == i / size + 1), "{length} by {size}");
            }
        }
    }

    #[test]
    fn maps_do_what_the_function_does() {
        for length in LENGTHS {
            let x = numbers(length);
            let mut y = vec![9.0; length];
            map(&x, &mut y, Tanh);
            assert!(x.iter().zip(&y).all(|(&x, &y)| (f64::from(y) - libm::tanh(f64::from(x))).abs() < 2e-7));
            let mut z = x.clone();
            map_in_place(&mut z, Tanh);
            assert_eq!(y, z);
            zip_in_place(&mut z, &x, Axpy(2.0));
            assert!(z.iter().zip(&y).zip(&x).all(|((&z, &y), &x)| (z - (y + 2.0 * x)).abs() <= 4e-7));
        }
    }

    #[test]
    fn sums_are_right_and_the_same_for_any_number_of_threads() {
        for length in LENGTHS {
            let x = numbers(length);
            let (one, square) = on_threads(1, || (sum(&x), sum_of_squares(&x)));
            let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
            let exact_square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            assert!((one - exact).abs() <= 1e-9 && (square - exact_square).abs() <= 1e-9 * exact_square);
            for threads in [2, 3, 7] {
                let (other, other_square) = on_threads(threads, || (sum(&x), sum_of_squares(&x)));
                assert_eq!((one.to_bits(), square.to_bits()), (other.to_bits(), other_square.to_bits()));
            }
            assert_eq!(one.to_bits(), sum(&x).to_bits(), "outside of a pool");
        }
    }
}
