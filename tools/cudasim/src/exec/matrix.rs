//! Matrix instructions of a warp: `ldmatrix` and `mma.sync`. Which lane holds which element follows the figures of the
//! PTX manual, sections "warp-level matrix".

use super::Res;
use super::access::{addresses, split};
use super::grid::{Block, Machine};
use super::warp::{Lanes, Warp};
use crate::float::half_to_f32;
use crate::op::*;

impl Machine<'_> {
    /// Loads `n` matrices of 8 by 8 16-bit elements; lane 8 i + r gives the address of row r of matrix i.
    pub(super) fn ldmatrix(&mut self, b: &mut Block, w: &mut Warp, op: &Op, mask: u32) -> Res {
        let &Op::LdMatrix { n, trans, d, address } = op else { return Ok(()) };
        let mut at = addresses(w, address);
        split(MemSpace::Generic, &mut at, u32::MAX);
        let mut tiles = [[[0u16; 8]; 8]; 4];
        for (i, tile) in tiles[..n as usize].iter_mut().enumerate() {
            self.counters.shared(&at, 0xff << (8 * i), 16, false);
            for (r, row) in tile.iter_mut().enumerate() {
                let lane = 8 * i + r;
                let offset = b.shared.offset(at[lane], 16, lane as u32)?;
                self.note_shared_read(b, w, lane, offset, 16, false)?;
                for (c, pair) in b.shared.data[offset..offset + 16].chunks_exact(2).enumerate() {
                    row[c] = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
        }
        for i in 0..n as usize {
            let t = &tiles[i];
            let r: Lanes = std::array::from_fn(|l| {
                let (row, col) = (l / 4, l % 4 * 2);
                let (x, y) = if trans { (t[col][row], t[col + 1][row]) } else { (t[row][col], t[row][col + 1]) };
                u32::from(x) | u32::from(y) << 16
            });
            w.put(d[i], &r, mask);
        }
        Ok(())
    }
}

/// d = a b + c of a 16 by k and a k by 8 matrix. Products are exact and summed in f64, then rounded once: a tensor core
/// sums in an order and width of its own.
pub(super) fn mma(w: &mut Warp, m: &Mma) {
    let k = m.k as usize;
    let mut a = [[0f32; 16]; 16];
    let mut b = [[0f32; 16]; 8];
    for l in 0..32 {
        let (g, t) = (l / 4, l % 4);
        match m.input {
            MmaInput::Half(format) => {
                let pair = |bits: u32| (half_to_f32(bits as u16, format), half_to_f32((bits >> 16) as u16, format));
                for (i, &slot) in m.a[..k / 4].iter().enumerate() {
                    let (x, y) = pair(w.src(slot)[l]);
                    let (row, col) = (g + i % 2 * 8, t * 2 + i / 2 * 8);
                    (a[row][col], a[row][col + 1]) = (x, y);
                }
                for (i, &slot) in m.b[..k / 8].iter().enumerate() {
                    let (x, y) = pair(w.src(slot)[l]);
                    let row = t * 2 + i * 8;
                    (b[g][row], b[g][row + 1]) = (x, y);
                }
            }
            MmaInput::Tf32 => {
                // the 13 low bits of an input are not looked at
                let value = |bits: u32| f32::from_bits(bits & 0xffff_e000);
                for (i, &slot) in m.a[..k / 2].iter().enumerate() {
                    a[g + i % 2 * 8][t + i / 2 * 4] = value(w.src(slot)[l]);
                }
                for (i, &slot) in m.b[..k / 4].iter().enumerate() {
                    b[g][t + i * 4] = value(w.src(slot)[l]);
                }
            }
        }
    }
    let c: [Lanes; 4] = m.c.map(|slot| *w.src(slot));
    for (i, &d) in m.d.iter().enumerate() {
        let r: Lanes = std::array::from_fn(|l| {
            let (row, col) = (l / 4 + i / 2 * 8, l % 4 * 2 + i % 2);
            let mut sum = f64::from(f32::from_bits(c[i][l]));
            for q in 0..k {
                sum += f64::from(a[row][q]) * f64::from(b[col][q]);
            }
            let sum = sum as f32;
            if sum.is_nan() { crate::float::NAN32 } else { sum.to_bits() }
        });
        w.put(d, &r, u32::MAX);
    }
}
