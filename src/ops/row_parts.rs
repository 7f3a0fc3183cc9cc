//! Rows of logits over a vocabulary on a GPU. For every row and tile the product writes a row part:
//! the largest logit, the sum of exponentials, the place of the largest, and the target's logit.
//! One launch makes losses and gradients from the parts. So logits are read once, and where no
//! gradient is wanted they are not even stored.

use super::gpu::{Operand, Products, arguments, no_copy, rounded_copy};
use crate::device::cuda::gemm::{Matrix, ROW_PART, Tile, logits};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// The results of a row of logits, as kernels/tied_softmax.cu takes it: nothing else, its gradient,
/// or that in bf16 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowGradient {
    None = 0,
    Full = 1,
    Rounded = 2,
    Both = 3,
}

impl RowGradient {
    /// `sums`: whether gradients are added up, which is done in f32.
    pub fn new(wanted: bool, sums: bool, rounded: bool) -> Self {
        match (wanted, rounded) {
            (false, _) => RowGradient::None,
            (true, false) => RowGradient::Full,
            (true, true) if sums => RowGradient::Both,
            (true, true) => RowGradient::Rounded,
        }
    }
}

/// What products that compute rows of logits over `words` words tell about each of them
/// (kernels/row_parts.cuh), for the kernel that comes after.
pub(super) struct RowParts {
    /// `[rows, tiles, ROW_PART]`
    parts: Tensor,
    words: usize,
    tile: Tile,
}

impl RowParts {
    /// Row parts for at most `rows` rows at a time.
    pub fn new(products: &mut Products, rows: usize, words: usize) -> Result<Self> {
        let tile = Tile::choose(products.context, products.graph.precision(), rows, words);
        let tiles = words.div_ceil(tile.edges()[1]);
        let parts = products.graph.uninitialised([rows, tiles, ROW_PART], DType::F32)?;
        Ok(RowParts { parts, words, tile })
    }

    /// `logits = x·wᵀ + b`, stored only where there is a place for them.
    pub fn decode(
        &self,
        context: &Context,
        [x, w]: [Matrix; 2],
        bias: Option<Argument>,
        targets: Option<Argument>,
        to: Option<&Tensor>,
    ) -> Result<()> {
        logits(context, self.tile, [x, w], bias, targets, to.map(Tensor::argument), self.parts.argument())
    }

    /// Rows of logits, decoded without targets, to log-probabilities.
    pub fn log_softmax(&self, context: &Context, rows: usize, logits: &Tensor) -> Result<()> {
        let [parts, tiles] = self.arguments();
        let arguments = arguments![logits.argument(), parts, tiles, self.words];
        context.launch("log_softmax_rows", Grid::blocks([rows, 1, 1]), arguments)
    }

    /// The parts and how many a row has.
    pub fn arguments(&self) -> [Argument<'_>; 2] {
        [self.parts.argument(), self.parts.dims()[1].into()]
    }

    /// Columns of one part.
    pub fn columns(&self) -> usize {
        self.tile.edges()[1]
    }
}

/// Rows of logits, decoded with their targets, to losses and gradients.
pub(super) struct SoftmaxRows<'a> {
    pub parts: &'a RowParts,
    pub targets: Argument<'a>,
    pub losses: Argument<'a>,
    pub correct: Argument<'a>,
    pub scale: f32,
    pub gradient: RowGradient,
}

impl SoftmaxRows<'_> {
    /// `logits`: not read without a gradient. `d`: where that goes in the precision of the
    /// products.
    pub fn launch(&self, context: &Context, rows: usize, logits: Option<&Tensor>, d: Option<&Operand>) -> Result<()> {
        let &SoftmaxRows { parts, targets, losses, correct, scale, gradient } = self;
        let [of_rows, tiles] = parts.arguments();
        let logits = logits.map_or(of_rows, Tensor::argument);
        let columns = parts.columns();
        let copy = match d {
            Some(d) => rounded_copy(d, 0),
            None => no_copy(),
        };
        context.launch(
            "softmax_rows",
            Grid::blocks([rows, 1, 1]),
            arguments![
                logits,
                of_rows,
                tiles,
                columns,
                targets,
                losses,
                correct,
                parts.words,
                scale,
                gradient as u32,
                copy
            ],
        )
    }
}
