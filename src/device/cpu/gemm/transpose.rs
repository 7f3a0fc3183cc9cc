//! Packing of a transposed operand with AVX-512: sixteen by sixteen elements in registers.

use std::arch::x86_64::*;

use super::bf16;
use super::pack::LANES;

/// Writes `from[column * stride + row]` to `to[row * to_stride + column]` for `width ≤ 16` columns
/// and [`LANES`] rows.
///
/// # Safety
/// `from` must be valid for [`LANES`] elements of each column, `to` for `width` elements of each
/// row; the processor must have AVX-512F.
#[target_feature(enable = "avx512f")]
pub unsafe fn transpose(from: *const f32, stride: usize, width: usize, to: *mut f32, to_stride: usize) {
    let mut v = [_mm512_setzero_ps(); LANES];
    for (column, v) in v.iter_mut().enumerate().take(width) {
        // SAFETY: what this function was promised.
        *v = unsafe { _mm512_loadu_ps(from.add(column * stride)) };
    }
    // SAFETY: as above.
    unsafe { store(exchange(v), width, to, to_stride) };
}

/// The same for rows of pairs: each is of two elements of a column, in bf16.
///
/// # Safety
/// `from` must be valid for twice as many elements; the processor must have AVX-512F and BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn transpose_pairs(from: *const f32, stride: usize, width: usize, to: *mut f32, to_stride: usize) {
    let mut v = [_mm512_setzero_ps(); LANES];
    for (column, v) in v.iter_mut().enumerate().take(width) {
        // SAFETY: what this function was promised.
        *v = unsafe {
            let from = from.add(column * stride);
            bf16::in_a_row(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES)))
        };
    }
    // SAFETY: as above.
    unsafe { store(exchange(v), width, to, to_stride) };
}

/// Exchanges rows and columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn exchange(mut v: [__m512; LANES]) -> [__m512; LANES] {
    // Interleaving row r with row r + 8 moves the highest bit of a row's number to the lowest of a
    // column's: four times, and they are exchanged.
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    for _ in 0..4 {
        let mut next = v;
        for r in 0..LANES / 2 {
            next[2 * r] = _mm512_permutex2var_ps(v[r], low, v[r + LANES / 2]);
            next[2 * r + 1] = _mm512_permutex2var_ps(v[r], high, v[r + LANES / 2]);
        }
        v = next;
    }
    v
}

/// Stores `width` elements of each row.
///
/// # Safety
/// `to` must be valid for them.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(v: [__m512; LANES], width: usize, to: *mut f32, to_stride: usize) {
    let mask = (u32::MAX >> (32 - width)) as u16;
    for (row, v) in v.iter().enumerate() {
        // SAFETY: what this function was promised; the mask covers the row alone.
        unsafe { _mm512_mask_storeu_ps(to.add(row * to_stride), mask, *v) };
    }
}
