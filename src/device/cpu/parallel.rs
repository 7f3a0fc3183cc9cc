//! Loops over slices on all threads: the bits of a result depend on neither the number of threads
//! nor who computed what.
//!
//! Nothing here allocates. Slices of at most one chunk are computed by the calling thread alone.

use rayon::prelude::*;

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

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 8] = [0, 1, 15, 17, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77];

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
}
