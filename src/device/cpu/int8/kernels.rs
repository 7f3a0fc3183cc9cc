//! Tiles of sums of products of bytes, on every path.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::super::isa::{Isa, isa};

/// Rows of a weight in a panel.
pub const PANEL: usize = 16;
/// Columns that lie together.
pub const STEP: usize = 4;

/// Instructions for sums of products of bytes. All give the same sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Portable,
    Avx2,
    AvxVnni,
    Avx512Vnni,
}

impl Path {
    #[cfg(test)]
    pub const ALL: [Path; 4] = [Path::Portable, Path::Avx2, Path::AvxVnni, Path::Avx512Vnni];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Path::Portable => "portable",
            Path::Avx2 => "avx2",
            Path::AvxVnni => "avx-vnni",
            Path::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether this processor has its instructions.
    pub fn supported(self) -> bool {
        match self {
            Path::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Isa::Avx2.supported(),
            #[cfg(target_arch = "x86_64")]
            Path::AvxVnni => Isa::Avx2.supported() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => Isa::Avx512.supported() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// The path of this process, by its instruction set (`ULMFIT_ISA`).
pub fn path() -> Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    *PATH.get_or_init(|| {
        let all: &[Path] = match isa() {
            Isa::Portable => &[],
            Isa::Avx2 => &[Path::AvxVnni, Path::Avx2],
            Isa::Avx512 => &[Path::Avx512Vnni, Path::AvxVnni, Path::Avx2],
        };
        all.iter().copied().find(|path| path.supported()).unwrap_or(Path::Portable)
    })
}

/// How many rows are computed together, and how many panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub rows: usize,
}

impl Tile {
    pub const MOST_ROWS: usize = 12;
    pub const MOST_PANELS: usize = 8;

    /// For so many rows that are left. Many rows by few panels read the fewest weights for a sum;
    /// 512 bits have registers for it.
    pub fn rows(path: Path, left: usize) -> Self {
        let most = if path == Path::Avx512Vnni { Tile::MOST_ROWS } else { 4 };
        Tile {
            rows: if left >= most {
                most
            } else if left >= 4 {
                4
            } else {
                1
            },
        }
    }

    /// For so many panels that are left: as many sums as there are registers for.
    pub fn panels(self, left: usize) -> usize {
        let most = match self.rows {
            1 => Tile::MOST_PANELS,
            4 => 4,
            _ => 2,
        };
        if left >= most { most } else { 1 }
    }
}

/// `sums[r, n] = Σ_k left[r, k]·right[n, k]`.
///
/// * `left`: unsigned `[rows, height]`; `right`: signed, `panels` panels of 16 rows, in each the
///   columns by four: `[height / 4, 16, 4]`
/// * `sums`: `[rows, 16·panels]`
///
/// # Panics
/// If a length does not fit, or this is no tile.
pub fn run(path: Path, left: &[u8], right: &[i8], [rows, panels, height]: [usize; 3], sums: &mut [i32]) {
    assert!(left.len() == rows * height && right.len() == panels * PANEL * height && height.is_multiple_of(STEP));
    assert!(sums.len() == rows * panels * PANEL);
    match (rows, panels) {
        (1, 1) => on::<1, 1>(path, left, right, height, sums),
        (1, 8) => on::<1, 8>(path, left, right, height, sums),
        (4, 1) => on::<4, 1>(path, left, right, height, sums),
        (4, 4) => on::<4, 4>(path, left, right, height, sums),
        (12, 1) => on::<12, 1>(path, left, right, height, sums),
        (12, 2) => on::<12, 2>(path, left, right, height, sums),
        _ => panic!("there is no tile of {rows} rows and {panels} panels"),
    }
}

#[inline(always)]
fn on<const ROWS: usize, const PANELS: usize>(path: Path, left: &[u8], right: &[i8], height: usize, sums: &mut [i32]) {
    assert!(path.supported(), "this processor does not have {}", path.name());
    match path {
        Path::Portable => portable::<ROWS, PANELS>(left, right, height, sums),
        // SAFETY: the processor has the instructions; the lengths were asserted.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { avx2::<ROWS, PANELS>(left, right, height, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::AvxVnni => unsafe { avx_vnni::<ROWS, PANELS>(left, right, height, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { avx512_vnni::<ROWS, PANELS>(left, right, height, sums) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only x86-64 has these"),
    }
}

fn portable<const ROWS: usize, const PANELS: usize>(left: &[u8], right: &[i8], height: usize, sums: &mut [i32]) {
    sums.fill(0);
    for (panel, right) in right.chunks_exact(PANEL * height).enumerate() {
        for (row, left) in left.chunks_exact(height).enumerate() {
            let sums = &mut sums[row * PANELS * PANEL + panel * PANEL..][..PANEL];
            for (right, left) in right.chunks_exact(PANEL * STEP).zip(left.chunks_exact(STEP)) {
                for (sum, right) in sums.iter_mut().zip(right.chunks_exact(STEP)) {
                    let products = left.iter().zip(right).map(|(&a, &w)| i32::from(a) * i32::from(w));
                    *sum += products.sum::<i32>();
                }
            }
        }
    }
}

/// # Safety
/// AVX2; `left` `[ROWS, height]`, `right` of `PANELS` panels, `sums` `[ROWS, 16·PANELS]`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<const ROWS: usize, const PANELS: usize>(left: &[u8], right: &[i8], height: usize, sums: &mut [i32]) {
    for panel in 0..PANELS {
        for row in 0..ROWS {
            // four rows of the panel each, two sums for a row
            let mut parts = [_mm256_setzero_si256(); 4];
            for k in (0..height).step_by(STEP) {
                // SAFETY: four bytes of the row, 64 of the panel, as this function was promised.
                unsafe {
                    let four = left.as_ptr().add(row * height + k).cast::<i32>().read_unaligned();
                    let a = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
                    let w = right.as_ptr().add((panel * height + k) * PANEL);
                    for (i, part) in parts.iter_mut().enumerate() {
                        let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(16 * i).cast()));
                        *part = _mm256_add_epi32(*part, _mm256_madd_epi16(a, w));
                    }
                }
            }
            for (i, part) in parts.iter().enumerate() {
                let mut lanes = [0i32; 8];
                // SAFETY: as many bytes.
                unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *part) };
                for (lane, pair) in lanes.chunks_exact(2).enumerate() {
                    sums[row * PANELS * PANEL + panel * PANEL + 4 * i + lane] = pair[0] + pair[1];
                }
            }
        }
    }
}

/// # Safety
/// AVX-VNNI; otherwise as [`avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni<const ROWS: usize, const PANELS: usize>(left: &[u8], right: &[i8], height: usize, sums: &mut [i32]) {
    // a register has half of a panel: so many of them at a time
    for panel in 0..PANELS {
        let mut parts = [[_mm256_setzero_si256(); 2]; ROWS];
        for k in (0..height).step_by(STEP) {
            // SAFETY: four bytes of each row, 64 of the panel, as this function was promised.
            unsafe {
                let w = right.as_ptr().add((panel * height + k) * PANEL);
                let w = [_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(32).cast())];
                for (row, parts) in parts.iter_mut().enumerate() {
                    let a = _mm256_set1_epi32(left.as_ptr().add(row * height + k).cast::<i32>().read_unaligned());
                    parts[0] = _mm256_dpbusd_avx_epi32(parts[0], a, w[0]);
                    parts[1] = _mm256_dpbusd_avx_epi32(parts[1], a, w[1]);
                }
            }
        }
        for (row, parts) in parts.iter().enumerate() {
            let sums = &mut sums[row * PANELS * PANEL + panel * PANEL..][..PANEL];
            // SAFETY: sixteen sums.
            unsafe {
                _mm256_storeu_si256(sums.as_mut_ptr().cast(), parts[0]);
                _mm256_storeu_si256(sums.as_mut_ptr().add(8).cast(), parts[1]);
            }
        }
    }
}

/// # Safety
/// AVX-512 F and VNNI; otherwise as [`avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn avx512_vnni<const ROWS: usize, const PANELS: usize>(
    left: &[u8],
    right: &[i8],
    height: usize,
    sums: &mut [i32],
) {
    let mut parts = [[_mm512_setzero_si512(); PANELS]; ROWS];
    for k in (0..height).step_by(STEP) {
        // SAFETY: four bytes of each row, 64 of each panel, as this function was promised.
        unsafe {
            let mut w = [_mm512_setzero_si512(); PANELS];
            for (panel, w) in w.iter_mut().enumerate() {
                *w = _mm512_loadu_si512(right.as_ptr().add((panel * height + k) * PANEL).cast());
            }
            for (row, parts) in parts.iter_mut().enumerate() {
                let a = _mm512_set1_epi32(left.as_ptr().add(row * height + k).cast::<i32>().read_unaligned());
                for (part, w) in parts.iter_mut().zip(w) {
                    *part = _mm512_dpbusd_epi32(*part, a, w);
                }
            }
        }
    }
    for (row, parts) in parts.iter().enumerate() {
        for (panel, part) in parts.iter().enumerate() {
            let sums = &mut sums[row * PANELS * PANEL + panel * PANEL..][..PANEL];
            // SAFETY: sixteen sums.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), *part) };
        }
    }
}
