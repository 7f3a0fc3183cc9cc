//! Operands in bf16: where the processor multiplies pairs of them (`vdpbf16ps`), a packed element
//! is a pair that follows in k; elsewhere it is one number, rounded. Sums are in the type of the
//! tensors either way.
//!
//! Numbers below the normal ones of f32 count as zero, because that is what the instructions make
//! of them: so the bits of a product do not depend on which of its elements were packed by
//! instructions and which, at an edge, one by one.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use half::bf16;

/// The type of a packed element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An element of the operand.
    Plain,
    /// The same, rounded to bf16.
    Rounded,
    /// Two that follow in k, in bf16, the first in the lower half; after the last of an odd number
    /// a zero.
    Pairs,
}

impl Form {
    /// Elements of k in a packed one.
    pub fn depth(self) -> usize {
        match self {
            Form::Plain | Form::Rounded => 1,
            Form::Pairs => 2,
        }
    }
}

/// A type whose numbers are rounded to bf16, and paired.
pub trait Round {
    fn rounded(self) -> Self;
    /// Both as bf16 in the bits of one number, this one in the lower half.
    fn pair(self, second: Self) -> Self;
}

fn nearest(x: f32) -> bf16 {
    bf16::from_f32(if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x })
}

impl Round for f32 {
    fn rounded(self) -> f32 {
        nearest(self).to_f32()
    }

    fn pair(self, second: f32) -> f32 {
        f32::from_bits(u32::from(nearest(second).to_bits()) << 16 | u32::from(nearest(self).to_bits()))
    }
}

impl Round for f64 {
    fn rounded(self) -> f64 {
        bf16::from_f64(self).to_f64()
    }

    fn pair(self, _: f64) -> f64 {
        unreachable!("products in f64 have no pairs")
    }
}

/// `sum + left·right` for each of sixteen pairs.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn dot(left: __m512, right: __m512, sum: __m512) -> __m512 {
    // SAFETY: as many bits, of which any are valid.
    let [left, right] = unsafe { [left, right].map(|pairs| std::mem::transmute::<__m512, __m512bh>(pairs)) };
    _mm512_dpbf16_ps(sum, left, right)
}

/// Sixteen pairs that follow one another: of 32 elements in a row.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn in_a_row(first: __m512, second: __m512) -> __m512 {
    // SAFETY: as many bits, of which any are valid.
    unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Writes the pairs of two rows of `columns` elements, by parts of `width` for the rows of
/// successive panels: element `c` goes to `to[c / width * panel + c % width]`. Without a second row
/// its elements count as zero.
///
/// # Safety
/// The rows must be valid for `columns` elements, `to` for the places that are named; the processor
/// must have AVX-512 BW and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn pair_rows(
    first: *const f32,
    second: Option<*const f32>,
    columns: usize,
    width: usize,
    panel: usize,
    to: *mut f32,
) {
    // element i of the first, element i of the second
    let interleaved = {
        let mut index = [0u16; 32];
        let mut i = 0;
        while i < 32 {
            index[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        // SAFETY: as many bits, of which any are valid.
        unsafe { std::mem::transmute::<[u16; 32], __m512i>(index) }
    };
    for from in (0..columns).step_by(width) {
        for column in (0..width).step_by(16) {
            let mask = (u32::MAX >> (32 - (width - column).min(16))) as u16;
            // SAFETY: what this function was promised; the mask covers the part alone.
            unsafe {
                let a = _mm512_maskz_loadu_ps(mask, first.add(from + column));
                let b = second.map_or(_mm512_setzero_ps(), |row| _mm512_maskz_loadu_ps(mask, row.add(from + column)));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
                let pairs = _mm512_castsi512_ps(_mm512_permutexvar_epi16(interleaved, both));
                _mm512_mask_storeu_ps(to.add(from / width * panel + column), mask, pairs);
            }
        }
    }
}
