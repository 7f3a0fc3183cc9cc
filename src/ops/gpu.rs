//! Shared by the `cuda.rs` of all operations: launches over elements and rows, sums, masks and
//! indices as kernels take them, operands of products.

use crate::autodiff::{Graph, Keep, Store};
use crate::device::Precision;
use crate::device::cuda::gemm::{Matrix, Split, gemm, gemm_parts, round_operand, rounded_pitch};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::mask::Dropout;
use crate::random::Mask;
use crate::tensor::{DType, Tensor};

/// The arguments of a launch, each converted from its value.
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

/// Numbers of the host as a tensor of the graph's type, on its device.
pub(super) fn numbers(g: &mut Graph, values: &[f64]) -> Result<Tensor> {
    let tensor = g.uninitialised([values.len()], g.compute_type())?;
    tensor.set_f64(values);
    Ok(tensor)
}

/// Columns of a word's row that a warp adds up: `WARP_COLUMNS` of kernels/common.cuh.
const WARP_COLUMNS: usize = 256;

/// The places of words (which live on the host) in the order of words, those of a word in their
/// own: u32 `[N, 2]` on the graph's device, each place with its word above it. Sorted by the host,
/// which prepares a step while the GPU is busy with the one before; the kernels that add up a
/// word's rows then find them side by side.
pub(super) fn sorted_places(g: &mut Graph, words: &[&Tensor]) -> Result<Tensor> {
    let n = words.iter().map(|part| part.len()).sum::<usize>();
    let host = g.indices([n, 2])?;
    {
        let mut pairs = host.write::<u32>();
        let pairs: &mut [u64] = bytemuck::cast_slice_mut(&mut pairs);
        let (mut left, mut place) = (&mut pairs[..], 0);
        for part in words {
            let (of_part, rest) = left.split_at_mut(part.len());
            for (pair, &word) in of_part.iter_mut().zip(part.read::<u32>().iter()) {
                *pair = u64::from(word) << 32 | place;
                place += 1;
            }
            left = rest;
        }
        pairs.sort_unstable();
    }
    indices(g, &host)
}

/// The grid of a kernel that has a thread for every four of `e` columns of `n` rows.
pub(super) fn quads_grid(n: usize, e: usize) -> Grid {
    Grid::elements(n * e.div_ceil(4))
}

/// The grid of a kernel that adds up the rows of `n` sorted places, of `e` columns: a warp for each
/// place and [`WARP_COLUMNS`].
pub(super) fn places_grid(n: usize, e: usize) -> Grid {
    Grid::elements(n * e.div_ceil(WARP_COLUMNS) * 32)
}

/// Repetitions that a thread of `mask_multiply` multiplies by one draw: as many as leave every
/// multiprocessor eight blocks, and at least four, which a draw is worth.
fn mask_span(context: &Context, blocks: usize, outer: usize) -> usize {
    let wanted = (8 * context.multiprocessors()).div_ceil(blocks.max(1));
    outer.div_ceil(wanted).max(4).min(outer.max(1))
}

/// `y (+)= x ⊙ mask`, the `[rows, columns]` mask repeated over what of `x` is before it. `mask`:
/// with its words.
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
            let span = mask_span(context, threads.div_ceil(Grid::BLOCK), outer);
            let mut grid = Grid::elements(threads);
            grid.blocks[1] = outer.div_ceil(span);
            context.launch(
                "mask_multiply",
                grid,
                arguments![x.argument(), y.argument(), outer, span, rows, columns, mask, adds(store)],
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
    context.launch("gather_rows", quads_grid(n, columns), arguments![from, which, to, n, columns])
}

/// `to[which[r]] += from[r]`, `n` rows of `columns`; no row may come twice.
pub(super) fn add_rows(
    context: &Context,
    from: Argument,
    which: Argument,
    to: Argument,
    [n, columns]: [usize; 2],
) -> Result<()> {
    context.launch("add_rows", quads_grid(n, columns), arguments![from, which, to, n, columns])
}

/// `RoundedCopy` of kernels/bf16.cuh.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct CopyWords {
    to: u64,
    pitch: u32,
    nothing: u32,
}

/// A matrix `[rows, columns]` that products take: as it is, or in bf16 where the graph's products
/// are.
pub(super) struct Operand {
    tensor: Tensor,
    /// Element that it begins at.
    first: usize,
    rows: usize,
    columns: usize,
}

impl Operand {
    pub fn is_rounded(&self) -> bool {
        self.tensor.dtype() == DType::BF16
    }

    pub fn matrix(&self) -> Matrix<'_> {
        self.rows(0, self.rows)
    }

    /// Some of the rows.
    pub fn rows(&self, first: usize, rows: usize) -> Matrix<'_> {
        assert!(first + rows <= self.rows, "rows past the end of an operand");
        let data = self.row(first);
        match self.is_rounded() {
            true => Matrix::rounded(data, rows, self.columns),
            false => Matrix::new(data, rows, self.columns),
        }
    }

    /// From a row on.
    pub fn row(&self, first: usize) -> Argument<'_> {
        let pitch = if self.is_rounded() { rounded_pitch(self.columns) } else { self.columns };
        self.tensor.argument_from(self.first + first * pitch)
    }

    /// The copy, to be kept for the rest of the step along with its source.
    pub fn keep_for(&self, graph: &mut Graph, of: &Tensor) {
        if self.is_rounded() {
            graph.keep_rounded(of, &self.tensor);
        }
    }
}

/// Where a kernel puts the copy in bf16 of its result, from row `first` of an operand on;
/// nowhere if the operand has none.
pub(super) fn rounded_copy(operand: &Operand, first: usize) -> Argument<'_> {
    if !operand.is_rounded() {
        return no_copy();
    }
    let (to, pitch) = (operand.row(first).address(), rounded_pitch(operand.columns) as u32);
    Argument::plain(CopyWords { to, pitch, nothing: 0 })
}

/// No copy.
pub(super) fn no_copy() -> Argument<'static> {
    Argument::plain(CopyWords { to: 0, pitch: 0, nothing: 0 })
}

/// Rows of a block of `n` rows of logits over `width` words: at most 4096, and at most 512 MiB of
/// logits, because every block costs several launches and a pass over dW. Without gradients nothing
/// of the logits is kept but their row parts, a sixteenth and less.
pub(super) fn block_rows(n: usize, width: usize, gradients: bool) -> usize {
    let most = if gradients { 4096 } else { 65_536 };
    ((128 << 20) / width.max(1)).clamp(32, most).min(n).max(1)
}

/// A product shared out along its inner dimension, with room for a matrix of every part.
pub(super) struct Parts {
    split: Split,
    parts: Tensor,
}

impl Parts {
    /// `to = a·b`, whole where there are no parts; no larger than the matrix that the parts were
    /// made for.
    ///
    /// # Errors
    /// The driver's.
    pub fn product(parts: Option<&Self>, context: &Context, [a, b]: [Matrix; 2], to: Argument) -> Result<()> {
        let Some(Parts { split, parts }) = parts else { return gemm(context, a, b, None, to, Store::Set) };
        let n = a.row_count() * b.column_count();
        gemm_parts(context, a, b, parts.argument(), *split)?;
        let arguments = arguments![parts.argument(), split.count, to, n];
        context.launch("add_parts", Grid::elements(n.div_ceil(4)), arguments)
    }
}

/// Makes operands of products in the precision of a graph, with its buffers.
pub(super) struct Products<'a> {
    pub context: &'a Context,
    pub graph: &'a mut Graph,
}

impl<'a> Products<'a> {
    /// # Errors
    /// A GPU without products in the graph's precision.
    pub fn new(context: &'a Context, graph: &'a mut Graph) -> Result<Self> {
        context.check_precision(graph.precision())?;
        Ok(Products { context, graph })
    }

    /// Shares `[m, k]·[k, n]` out along k where it has few tiles: the room for the parts.
    pub fn parts(&mut self, [m, n, k]: [usize; 3]) -> Result<Option<Parts>> {
        let split = Split::choose(self.context, self.graph.precision(), [m, n, k]);
        if split.count == 1 {
            return Ok(None);
        }
        let parts = self.graph.uninitialised([split.count, m, n], DType::F32)?;
        Ok(Some(Parts { split, parts }))
    }

    pub fn are_rounded(&self) -> bool {
        self.graph.precision() == Precision::Bf16
    }

    /// `[rows, columns]` of a tensor from element `first` on.
    pub fn operand(&mut self, x: &Tensor, first: usize, [rows, columns]: [usize; 2]) -> Result<Operand> {
        match self.blank([rows, columns])? {
            None => Ok(Operand { tensor: x.clone(), first, rows, columns }),
            Some(copy) => {
                round_operand(self.context, x.argument_from(first), copy.tensor.argument(), [rows, columns])?;
                Ok(copy)
            }
        }
    }

    /// All of a tensor as a matrix, whose copy may be needed again; it is rounded once.
    pub fn kept(&mut self, x: &Tensor, columns: usize, keep: Keep) -> Result<Operand> {
        let rows = x.len() / columns.max(1);
        let tensor = match self.are_rounded() {
            true => {
                let (context, shape) = (self.context, [rows, rounded_pitch(columns)]);
                let round = |copy: &Tensor| round_operand(context, x.argument(), copy.argument(), [rows, columns]);
                self.graph.rounded(x, keep, shape, round)?
            }
            false => x.clone(),
        };
        Ok(Operand { tensor, first: 0, rows, columns })
    }

    /// Where products are in bf16: an operand that is to be written, with undefined content.
    pub fn blank(&mut self, [rows, columns]: [usize; 2]) -> Result<Option<Operand>> {
        if !self.are_rounded() {
            return Ok(None);
        }
        let tensor = self.graph.uninitialised([rows, rounded_pitch(columns)], DType::BF16)?;
        Ok(Some(Operand { tensor, first: 0, rows, columns }))
    }

    /// An operand from the result of a kernel in `x`, from its beginning: its copy, or where
    /// products are in f32 itself.
    pub fn of_copy(x: &Tensor, [rows, columns]: [usize; 2], copy: Option<Operand>) -> Operand {
        copy.unwrap_or_else(|| Operand { tensor: x.clone(), first: 0, rows, columns })
    }
}
