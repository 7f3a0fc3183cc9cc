//! Matrix instructions of a warp: `ldmatrix` and `mma.sync`. Which lane holds which element follows
//! the figures of the PTX manual, sections "warp-level matrix".

use super::Res;
use super::access::{addresses, split};
use super::grid::{Block, Machine};
use super::warp::{Lanes, Warp};
use crate::float::half_to_f32;
use crate::op::*;

impl Machine<'_> {
    /// Loads `n` matrices of 8 by 8 16-bit elements; lane 8 i + r gives the address of row r of
    /// matrix i.
    pub(super) fn ldmatrix(&mut self, b: &mut Block, w: &mut Warp, op: &Op, mask: u32) -> Res {
        let &Op::LdMatrix { n, trans, d, address } = op else { return Ok(()) };
        let mut at = addresses(w, address);
        split(MemSpace::Generic, &mut at, u32::MAX);
        let checked = self.check.init || self.check.races;
        // row by row four words of two elements each: lane by lane what it gets
        let mut tiles: [Lanes; 4] = [[0; 32]; 4];
        for (i, tile) in tiles[..n as usize].iter_mut().enumerate() {
            self.counters.shared(&at, 0xff << (8 * i), 16, false);
            for (r, row) in tile.chunks_exact_mut(4).enumerate() {
                let lane = 8 * i + r;
                let offset = b.shared.offset(at[lane], 16, lane as u32)?;
                if checked {
                    self.note_shared_read(b, w, lane, offset, 16, false)?;
                }
                for (word, bytes) in row.iter_mut().zip(b.shared.data[offset..offset + 16].chunks_exact(4)) {
                    *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
        }
        for (tile, &d) in tiles[..n as usize].iter().zip(&d) {
            if trans {
                let element = |row: usize, column: usize| tile[4 * row + column / 2] >> (column % 2 * 16) & 0xffff;
                let r = std::array::from_fn(|l| element(l % 4 * 2, l / 4) | element(l % 4 * 2 + 1, l / 4) << 16);
                w.put(d, &r, mask);
            } else {
                w.put(d, tile, mask);
            }
        }
        Ok(())
    }
}

/// d = a b + c of a 16 by k and a k by 8 matrix. Products are exact and summed in f64, then rounded
/// once: a tensor core sums in an order and width of its own. `fast`: as `has_fast` says.
/// `truncate`: as tensor cores of Ampere were found to sum (Fasi, Higham, Mikaitis, Pranesh:
/// "Numerical behavior of NVIDIA tensor cores", 2021), see `truncated`.
#[inline(always)]
pub(super) fn mma(w: &mut Warp, m: &Mma, fast: bool, truncate: bool) {
    let mut a = [[0f64; 16]; 16];
    let mut b = [[0f64; 8]; 16];
    match m.input {
        MmaInput::Half(Half::Bf16) => halves(w, m, &mut a, &mut b, |bits| f32::from_bits(bits << 16)),
        MmaInput::Half(Half::F16) => halves(w, m, &mut a, &mut b, |bits| half_to_f32(bits as u16, Half::F16)),
        MmaInput::Tf32 => {
            // the 13 low bits of an input are not looked at
            let value = |bits: u32| f64::from(f32::from_bits(bits & 0xffff_e000));
            for l in 0..32 {
                let (g, t) = (l / 4, l % 4);
                for (i, &slot) in m.a[..m.k as usize / 2].iter().enumerate() {
                    a[g + i % 2 * 8][t + i / 2 * 4] = value(w.src(slot)[l]);
                }
                for (i, &slot) in m.b[..m.k as usize / 4].iter().enumerate() {
                    b[t + i * 4][g] = value(w.src(slot)[l]);
                }
            }
        }
    }
    // lane by lane two neighbours of a row are those of two registers
    let mut sums = [0f64; 128];
    for (i, &slot) in m.c.iter().enumerate() {
        let c = w.src(slot);
        for l in 0..32 {
            sums[64 * (i / 2) + 2 * l + i % 2] = f64::from(f32::from_bits(c[l]));
        }
    }
    match m.k {
        k if truncate => truncated(&a, &b, &mut sums, k as usize),
        16 => product::<16>(fast, &a, &b, &mut sums),
        8 => product::<8>(fast, &a, &b, &mut sums),
        _ => product::<4>(fast, &a, &b, &mut sums),
    }
    for (i, &d) in m.d.iter().enumerate() {
        let mut r: Lanes = [0; 32];
        for l in 0..32 {
            let sum = sums[64 * (i / 2) + 2 * l + i % 2] as f32;
            r[l] = if sum.is_nan() { crate::float::NAN32 } else { sum.to_bits() };
        }
        w.put(d, &r, u32::MAX);
    }
}

/// Both inputs of 16-bit elements, of which a register has two.
#[inline(always)]
fn halves(w: &Warp, m: &Mma, a: &mut [[f64; 16]; 16], b: &mut [[f64; 8]; 16], value: impl Fn(u32) -> f32) {
    for (i, &slot) in m.a[..m.k as usize / 4].iter().enumerate() {
        let pairs = w.src(slot);
        for g in 0..8 {
            let row = &mut a[g + i % 2 * 8][i / 2 * 8..][..8];
            for t in 0..4 {
                row[2 * t] = f64::from(value(pairs[4 * g + t] & 0xffff));
                row[2 * t + 1] = f64::from(value(pairs[4 * g + t] >> 16));
            }
        }
    }
    for (i, &slot) in m.b[..m.k as usize / 8].iter().enumerate() {
        let pairs = w.src(slot);
        for t in 0..4 {
            let mut rows = [[0f64; 8]; 2];
            for g in 0..8 {
                rows[0][g] = f64::from(value(pairs[4 * g + t] & 0xffff));
                rows[1][g] = f64::from(value(pairs[4 * g + t] >> 16));
            }
            (b[2 * t + 8 * i], b[2 * t + 8 * i + 1]) = (rows[0], rows[1]);
        }
    }
}

/// Adds the products by eights: they and the sum so far are cut off, towards zero, one bit beyond
/// the last place of the largest of them, and what they add up to is cut off to f32.
#[cold]
fn truncated(a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], sums: &mut [f64; 128], k: usize) {
    for (row, sums) in a.iter().zip(sums.chunks_exact_mut(8)) {
        for first in (0..k).step_by(8) {
            for (n, sum) in sums.iter_mut().enumerate() {
                let mut terms = [0.0; 9];
                terms[8] = *sum;
                for q in first..k.min(first + 8) {
                    terms[q - first] = row[q] * b[q][n];
                }
                let largest = terms.iter().fold(0.0f64, |m, t| m.max(t.abs()));
                if largest == 0.0 || !terms.iter().all(|t| t.is_finite()) {
                    *sum = terms.iter().sum();
                    continue;
                }
                // a power of two: of the largest term 24 bits and one more are multiples of it
                let exponent = (largest.to_bits() >> 52) as i32 - 1023;
                let unit = 2f64.powi(exponent - 24);
                let total: f64 = terms.iter().map(|t| (t / unit).trunc() * unit).sum();
                let nearest = total as f32;
                let beyond = f64::from(nearest).abs() > total.abs();
                *sum = f64::from(if beyond { f32::from_bits(nearest.to_bits() - 1) } else { nearest });
            }
        }
    }
}

/// Adds to the sums of 16 rows and 8 columns the products of K terms, in their order.
fn product<const K: usize>(fast: bool, a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], sums: &mut [f64; 128]) {
    #[cfg(target_arch = "x86_64")]
    if fast {
        // SAFETY: `fast` comes from `has_fast`, which found every feature of `fast_product`.
        return unsafe { fast_product::<K>(a, b, sums) };
    }
    let _ = fast;
    for (row, sums) in a.iter().zip(sums.chunks_exact_mut(8)) {
        for q in 0..K {
            for n in 0..8 {
                sums[n] += row[q] * b[q][n];
            }
        }
    }
}

/// The same bits: as every product is exact, fusing it with the sum changes nothing. Written out,
/// because the compiler leaves it scalar.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fast_product<const K: usize>(a: &[[f64; 16]; 16], b: &[[f64; 8]; 16], sums: &mut [f64; 128]) {
    use std::arch::x86_64::*;
    // four rows at a time, which stay in registers
    for (rows, sums) in a.chunks_exact(4).zip(sums.chunks_exact_mut(32)) {
        let mut part = [[_mm256_setzero_pd(); 2]; 4];
        for (r, halves) in part.iter_mut().enumerate() {
            for (half, value) in halves.iter_mut().enumerate() {
                // SAFETY: four elements are there.
                *value = unsafe { _mm256_loadu_pd(sums[8 * r + 4 * half..][..4].as_ptr()) };
            }
        }
        for q in 0..K {
            // SAFETY: each half has four elements.
            let [low, high] = unsafe { [_mm256_loadu_pd(b[q][..4].as_ptr()), _mm256_loadu_pd(b[q][4..].as_ptr())] };
            for r in 0..4 {
                let x = _mm256_set1_pd(rows[r][q]);
                part[r] = [_mm256_fmadd_pd(x, low, part[r][0]), _mm256_fmadd_pd(x, high, part[r][1])];
            }
        }
        for (r, halves) in part.iter().enumerate() {
            for (half, value) in halves.iter().enumerate() {
                // SAFETY: four elements are there.
                unsafe { _mm256_storeu_pd(sums[8 * r + 4 * half..][..4].as_mut_ptr(), *value) };
            }
        }
    }
}
