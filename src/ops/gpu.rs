//! What the operations' `cuda.rs` share: launches over elements and rows, sums, masks and indices as kernels take them.

use crate::autodiff::{Backward, Graph, Store};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::mask::Dropout;
use crate::random::Mask;
use crate::tensor::{DType, Tensor};

/// The arguments of a launch, each made of what it is given.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::device::cuda::Argument::from($argument)),*]
    };
}
pub(super) use arguments;

/// Whether to add, as kernels take it.
pub(super) fn adds(store: Store) -> bool {
    store == Store::Add
}

/// `Mask` of kernels/common.cuh.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct MaskWords {
    key: [u32; 2],
    step: u32,
    site: u32,
    threshold: u64,
    scale: f32,
    on: u32,
}

impl MaskWords {
    pub(super) fn new(mask: &Mask) -> Self {
        MaskWords {
            key: mask.key.0,
            step: mask.step,
            site: mask.site,
            threshold: mask.threshold(),
            scale: mask.scale() as f32,
            on: 1,
        }
    }

    /// A given mask counts as off here.
    pub(super) fn of(dropout: &Dropout) -> Self {
        match dropout {
            Dropout::Random(mask) => Self::new(mask),
            Dropout::Off | Dropout::Given(_) => bytemuck::Zeroable::zeroed(),
        }
    }
}

/// A tensor of indices, which lives on the host, in memory of the graph's device.
pub(super) fn indices(g: &mut Graph, host: &Tensor) -> Result<Tensor> {
    let copy = g.uninitialised(host.shape(), host.dtype())?;
    copy.copy_from(host);
    Ok(copy)
}

/// `y (+)= x ⊙ mask`, the `[rows, columns]` mask repeated over what of `x` is before it.
pub(super) fn multiply(
    context: &Context,
    x: &Tensor,
    mask: &Dropout,
    [rows, columns]: [usize; 2],
    y: &Tensor,
    store: Store,
) -> Result<()> {
    let n = x.len();
    match mask {
        Dropout::Off => put_scaled(context, x.argument(), 1.0, y.argument(), n, store),
        Dropout::Given(mask) => context.launch(
            "given_multiply",
            Grid::elements(n),
            arguments![x.argument(), mask.argument(), y.argument(), rows * columns, n, adds(store)],
        ),
        Dropout::Random(_) => {
            let outer = n / (rows * columns).max(1);
            let mask = Argument::plain(MaskWords::of(mask));
            context.launch(
                "mask_multiply",
                Grid::elements(if outer == 0 { 0 } else { rows * columns.div_ceil(4) }),
                arguments![x.argument(), y.argument(), outer, rows, columns, mask, adds(store)],
            )
        }
    }
}

/// `y (+)= c·x`
pub(super) fn put_scaled(context: &Context, x: Argument, c: f32, y: Argument, n: usize, store: Store) -> Result<()> {
    context.launch("put_scaled", Grid::elements(n), arguments![x, c, y, n, adds(store)])
}

/// `y (+)= factor·x`, the factor (an upstream gradient) on the device.
pub(super) fn put_times(context: &Context, x: Argument, factor: &Tensor, y: &Tensor, store: Store) -> Result<()> {
    let n = y.len();
    context.launch("put_times", Grid::elements(n), arguments![x, factor.argument(), y.argument(), n, adds(store)])
}

/// `to[c] (+)= Σ_r x[r, c]`
pub(super) fn column_sums(
    context: &Context,
    x: Argument,
    rows: usize,
    columns: usize,
    to: Argument,
    store: Store,
) -> Result<()> {
    let grid = Grid::blocks([columns.div_ceil(32), 1, 1]);
    context.launch("column_sums", grid, arguments![x, to, rows, columns, adds(store)])
}

/// `to[0] = c·Σ x`
pub(super) fn sum(context: &Context, x: &Tensor, n: usize, c: f32, to: &Tensor) -> Result<()> {
    context.launch("sum", Grid::blocks([1, 1, 1]), arguments![x.argument(), c, to.argument(), n])
}

/// Words and where each of them stands, on the device.
pub(super) struct Places {
    /// `[N]`
    pub words: Tensor,
    /// `[N]`: the places sorted by word, those of one word in order.
    pub places: Tensor,
    /// `[N + 1]`: where each word's places begin, and their number at the end.
    pub segments: Tensor,
    /// Number of different words.
    pub different: usize,
}

impl Places {
    /// A word that is `without` is left out. The tensors' sizes depend on the number of words alone, so that a pool has a place for them.
    pub(super) fn new(b: &mut Backward, words: &[u32], without: u32) -> Result<Self> {
        let (places, segments) = places(words, without);
        let mut put = |list: &[u32], size: usize| -> Result<Tensor> {
            let copy = b.scratch([size], DType::U32)?;
            copy.copy_elements(0, &Tensor::from_slice([list.len()], list)?, 0, list.len());
            Ok(copy)
        };
        let n = words.len();
        let different = segments.len() - 1;
        Ok(Places { words: put(words, n)?, places: put(&places, n)?, segments: put(&segments, n + 1)?, different })
    }
}

/// The places sorted by word, and where each word's places begin, with their number at the end.
fn places(words: &[u32], without: u32) -> (Vec<u32>, Vec<u32>) {
    let mut places: Vec<u32> = (0..words.len() as u32).filter(|&i| words[i as usize] != without).collect();
    places.sort_by_key(|&i| words[i as usize]);
    let word = |i: usize| words[places[i] as usize];
    let mut segments: Vec<u32> =
        (0..places.len()).filter(|&i| i == 0 || word(i) != word(i - 1)).map(|i| i as u32).collect();
    segments.push(places.len() as u32);
    (places, segments)
}

/// `to[r] = from[which[r]]`, `n` rows of `columns`.
pub(super) fn gather_rows(
    context: &Context,
    from: Argument,
    which: Argument,
    to: Argument,
    [n, columns]: [usize; 2],
) -> Result<()> {
    context.launch("gather_rows", Grid::elements(n * columns), arguments![from, which, to, n, columns])
}

/// `to[which[r]] += from[r]`, `n` rows of `columns`; no row may come twice.
pub(super) fn add_rows(
    context: &Context,
    from: Argument,
    which: Argument,
    to: Argument,
    [n, columns]: [usize; 2],
) -> Result<()> {
    context.launch("add_rows", Grid::elements(n * columns), arguments![from, which, to, n, columns])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sorted_by_word_and_in_order() {
        let (places, segments) = places(&[5, 2, 5, 1, 2, 5], 1);
        assert_eq!(places, [1, 4, 0, 2, 5]);
        assert_eq!(segments, [0, 2, 5]);
        assert_eq!(super::places(&[1, 1], 1), (vec![], vec![0]));
    }
}
