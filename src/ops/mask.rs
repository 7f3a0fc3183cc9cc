//! Where an operation's dropout mask comes from, and its factors.

use rayon::prelude::*;

use crate::device::cpu::gemm::Store;
use crate::device::cpu::isa::{Kernel, dispatch};
use crate::error::{Error, Result};
use crate::random::{Key, Mask};
use crate::tensor::{Real, Tensor};

/// A dropout: off, from the counters (computed when needed, never stored), or a given
/// multiplicative mask (fixtures, checks).
#[derive(Clone, Debug, Default)]
pub enum Dropout {
    #[default]
    Off,
    Random(Mask),
    /// Factors, 0 or `1/(1-p)`, in the type that the graph computes in.
    Given(Tensor),
}

/// [`Dropout`] as plain words for a node's attributes; a given mask is saved beside them.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct DropoutWords {
    kind: u32,
    key: [u32; 2],
    step: u32,
    site: u32,
    zero: u32,
    p: f64,
}

impl Dropout {
    /// Off where `p` is zero (nothing is drawn), else from the counters.
    pub fn random(mask: Mask) -> Self {
        if mask.p > 0.0 { Dropout::Random(mask) } else { Dropout::Off }
    }

    pub fn is_off(&self) -> bool {
        matches!(self, Dropout::Off)
    }

    /// The given mask, if it is one.
    pub fn given(&self) -> Option<&Tensor> {
        match self {
            Dropout::Given(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Checks a given mask's number of elements against `rows × columns`.
    pub fn check(&self, operation: &'static str, argument: &'static str, rows: usize, columns: usize) -> Result<()> {
        match self {
            Dropout::Given(mask) if mask.len() != rows * columns => {
                Err(Error::shape(operation, argument, format!("[{rows}, {columns}]"), mask.shape()))
            }
            Dropout::Random(mask) if !(0.0..=1.0).contains(&mask.p) => {
                Err(Error::shape(operation, argument, "a probability in [0, 1]", mask.p))
            }
            _ => Ok(()),
        }
    }

    pub fn words(&self) -> DropoutWords {
        let none = DropoutWords { kind: 0, key: [0; 2], step: 0, site: 0, zero: 0, p: 0.0 };
        match self {
            Dropout::Off => none,
            Dropout::Random(m) => DropoutWords { kind: 1, key: m.key.0, step: m.step, site: m.site, zero: 0, p: m.p },
            Dropout::Given(_) => DropoutWords { kind: 2, ..none },
        }
    }

    /// Back from the words; `given` is called for the saved mask where there is one.
    pub fn from_words(words: DropoutWords, given: impl FnOnce() -> Tensor) -> Self {
        match words.kind {
            0 => Dropout::Off,
            1 => Dropout::Random(Mask { key: Key(words.key), step: words.step, site: words.site, p: words.p }),
            _ => Dropout::Given(given()),
        }
    }

    /// Writes the factors of a `rows × columns` mask into `out`.
    pub fn fill<T: Real>(&self, columns: usize, out: &mut [T]) {
        match self {
            Dropout::Off => out.fill(T::ONE),
            Dropout::Given(mask) => out.copy_from_slice(&mask.read::<T>()),
            Dropout::Random(mask) => {
                let fill = |(row, out): (usize, &mut [T])| {
                    mask_row(mask, row, None, out, Store::Set);
                };
                if out.len() < 16_384 {
                    out.chunks_mut(columns.max(1)).enumerate().for_each(fill);
                } else {
                    out.par_chunks_mut(columns.max(1)).enumerate().for_each(fill);
                }
            }
        }
    }
}

/// `out (+)= values ⊙ factors` for one row of a mask, on the calling thread; without values the
/// factors themselves.
pub(super) fn mask_row<T: Real>(mask: &Mask, row: usize, values: Option<&[T]>, out: &mut [T], store: Store) {
    dispatch(MaskRow { mask, row: row as u32, values, out, store });
}

struct MaskRow<'a, T> {
    mask: &'a Mask,
    row: u32,
    values: Option<&'a [T]>,
    out: &'a mut [T],
    store: Store,
}

impl<T: Real> Kernel for MaskRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        /// Counters that are computed together: a vector register of 32-bit numbers.
        const QUADS: usize = 16;
        const COLUMNS: usize = 4 * QUADS;
        let MaskRow { mask, row, values, out, store } = self;
        let (threshold, scale) = (mask.threshold(), T::from_f64(mask.scale()));
        // a mask that keeps all has a threshold that no lane reaches
        let last_kept = threshold.checked_sub(1).map(|last| last as u32);
        for (block, out) in out.chunks_mut(COLUMNS).enumerate() {
            let lanes = mask.lanes_of::<QUADS>(row, (block * QUADS) as u32);
            let mut factors = [T::ZERO; COLUMNS];
            if let Some(last_kept) = last_kept {
                for n in 0..QUADS {
                    for lane in 0..4 {
                        factors[4 * n + lane] = if lanes[lane][n] <= last_kept { scale } else { T::ZERO };
                    }
                }
            }
            let values = values.map(|values| &values[block * COLUMNS..]);
            let products = |i: usize| values.map_or(factors[i], |values| values[i] * factors[i]);
            match store {
                Store::Set => out.iter_mut().enumerate().for_each(|(i, o)| *o = products(i)),
                Store::Add => out.iter_mut().enumerate().for_each(|(i, o)| *o += products(i)),
            }
        }
    }
}
