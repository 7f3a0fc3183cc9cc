//! What the operations' `cuda.rs` share: launches over elements and rows, sums, masks and indices as kernels take them.

use crate::autodiff::{Graph, Store};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::mask::Dropout;
use crate::random::Mask;
use crate::tensor::Tensor;

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

/// `MaskOf` of kernels/common.cuh.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct MaskWords {
    counters: u64,
    threshold: u64,
    site: u32,
    scale: f32,
    on: u32,
    nothing: u32,
}

impl MaskWords {
    /// A given mask counts as off here. `counters`: [`Graph::counters`] or that of `Backward`.
    pub(super) fn of(dropout: &Dropout, counters: impl FnOnce(&Mask) -> Result<u64>) -> Result<Self> {
        Ok(match dropout {
            Dropout::Random(mask) => MaskWords {
                counters: counters(mask)?,
                threshold: mask.threshold(),
                site: mask.site,
                scale: mask.scale() as f32,
                on: 1,
                nothing: 0,
            },
            Dropout::Off | Dropout::Given(_) => bytemuck::Zeroable::zeroed(),
        })
    }
}

/// A tensor of indices, which lives on the host, in memory of the graph's device.
pub(super) fn indices(g: &mut Graph, host: &Tensor) -> Result<Tensor> {
    let copy = g.uninitialised(host.shape(), host.dtype())?;
    copy.copy_from(host);
    Ok(copy)
}

/// `y (+)= x ⊙ mask`, the `[rows, columns]` mask repeated over what of `x` is before it. `mask`: with its words.
pub(super) fn multiply(
    context: &Context,
    x: &Tensor,
    (mask, words): (&Dropout, MaskWords),
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
            let mask = Argument::plain(words);
            // a thread for four columns; a warp for 128 where they do not come in fours
            let threads =
                if columns.is_multiple_of(4) { rows * columns / 4 } else { rows * columns.div_ceil(128) * 32 };
            context.launch(
                "mask_multiply",
                Grid::elements(if outer == 0 { 0 } else { threads }),
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

/// `to[c] (+)= Σ_r x[r, c]`, for one or two `to`.
pub(super) fn column_sums(
    context: &Context,
    x: Argument,
    rows: usize,
    columns: usize,
    to: (Argument, Store),
    other: Option<(Argument, Store)>,
) -> Result<()> {
    let other = other.unwrap_or(to);
    let grid = Grid::blocks([columns.div_ceil(32), 1, 1]);
    context.launch("column_sums", grid, arguments![x, to.0, other.0, rows, columns, adds(to.1), adds(other.1)])
}

/// `to[0] = c·Σ x`
pub(super) fn sum(context: &Context, x: &Tensor, n: usize, c: f32, to: &Tensor) -> Result<()> {
    context.launch("sum", Grid::blocks([1, 1, 1]), arguments![x.argument(), c, to.argument(), n])
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
