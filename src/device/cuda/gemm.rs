//! Matrix products of our own on a GPU, all transpositions, bias and accumulation in the epilogue:
//! true f32 (kernels/gemm.cu), and of operands in bf16 by tensor cores with sums in f32
//! (kernels/gemm_bf16.cu).

use super::arguments::{Argument, Grid};
use super::context::Context;
use crate::device::Precision;
use crate::device::cpu::gemm::Store;
use crate::error::Result;

/// Elements from row to row of an operand in bf16: a multiple of 16, so that every row begins at a
/// sector of memory and can be copied by eights.
pub fn rounded_pitch(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

/// A row-major matrix in memory of a GPU, and whether its transpose is meant.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: Argument<'a>,
    /// Rows of the operand.
    rows: usize,
    columns: usize,
    transposed: bool,
    format: Precision,
}

impl<'a> Matrix<'a> {
    pub fn new(data: Argument<'a>, rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, transposed: false, format: Precision::Full }
    }

    /// In bf16, with rows [`rounded_pitch`] apart and zeros in between (see [`round_operand`]).
    pub fn rounded(data: Argument<'a>, rows: usize, columns: usize) -> Self {
        Matrix { format: Precision::Bf16, ..Matrix::new(data, rows, columns) }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Rows of the operand.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Columns of the operand.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// Columns of the stored matrix.
    fn stored_columns(&self) -> usize {
        if self.transposed { self.rows } else { self.columns }
    }
}

/// Rows and columns that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 64 by 64: enough blocks for products of few rows.
    Small,
    /// 128 by 64, in bf16 alone: for widths, such as 400, that fill the large tile's badly.
    Tall,
    /// 128 by 128: half the traffic.
    Large,
}

impl Tile {
    /// The tiles that products in a format are compiled for.
    pub fn of(format: Precision) -> &'static [Tile] {
        match format {
            Precision::Full => &[Tile::Small, Tile::Large],
            Precision::Bf16 => &[Tile::Small, Tile::Tall, Tile::Large],
        }
    }

    /// Rows and columns.
    pub fn edges(self) -> [usize; 2] {
        match self {
            Tile::Small => [64, 64],
            Tile::Tall => [128, 64],
            Tile::Large => [128, 128],
        }
    }

    /// Tiles of the rows and of the columns of a product.
    fn counts(self, m: usize, n: usize) -> [usize; 2] {
        let [rows, columns] = self.edges();
        [m.div_ceil(rows), n.div_ceil(columns)]
    }

    /// The work of its blocks, unused edges included, weighed by the loss of a smaller tile to
    /// traffic (an estimate, not measured).
    fn cost(self, m: usize, n: usize) -> usize {
        let ([rows, columns], [of_rows, of_columns]) = (self.edges(), self.counts(m, n));
        let weight = match self {
            Tile::Large => 10,
            Tile::Tall => 11,
            Tile::Small => 13,
        };
        rows * of_rows * columns * of_columns * weight
    }

    /// The cheapest of the larger tiles that give every multiprocessor a block, else the small
    /// tile. (In f32 the large one costs no less than it gains: it is taken wherever it gives
    /// enough blocks.)
    pub fn choose(context: &Context, format: Precision, m: usize, n: usize) -> Self {
        let multiprocessors = context.multiprocessors();
        let enough = |tile: &&Tile| tile.counts(m, n).iter().product::<usize>() >= multiprocessors;
        let larger = Tile::of(format).iter().filter(|tile| **tile != Tile::Small).filter(enough);
        larger.min_by_key(|tile| tile.cost(m, n)).copied().unwrap_or(Tile::Small)
    }
}

/// `c (+)= a·b (+ bias in every row)`: `a` `[m, k]`, `b` `[k, n]`, both of one format, `bias`
/// `[n]`, `c` `[m, n]`. In f32 every element is one sum over k in order, whatever the tile; in bf16
/// tensor cores sum 16 products at a time, in that order.
pub fn gemm(context: &Context, a: Matrix, b: Matrix, bias: Option<Argument>, c: Argument, store: Store) -> Result<()> {
    gemm_tiled(context, Tile::choose(context, a.format, a.rows, b.columns), a, b, bias, c, store)
}

/// As [`gemm`], with a given tile.
///
/// # Panics
/// If shapes or formats do not fit, or there is no such tile in the format.
pub fn gemm_tiled(
    context: &Context,
    tile: Tile,
    a: Matrix,
    b: Matrix,
    bias: Option<Argument>,
    c: Argument,
    store: Store,
) -> Result<()> {
    launch(context, tile, [a, b], bias, c, store, Split::none(a.columns))
}

/// How the inner dimension of a product is shared out: `count` parts of `part` each, the last one
/// of what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub part: usize,
    pub count: usize,
}

impl Split {
    /// A part is a multiple of this: whole slices of both formats.
    const SLICE: usize = 32;
    /// And no smaller than this: a part's own matrix is written and read again.
    const LEAST: usize = 128;
    /// Matrices to be added are so many at most.
    const MOST: usize = 16;

    /// All of `k` at once.
    fn none(k: usize) -> Self {
        Split { part: k, count: 1 }
    }

    /// About so many parts of `k`.
    ///
    /// # Panics
    /// If they are none.
    pub fn into(k: usize, parts: usize) -> Self {
        let part = k.div_ceil(parts).next_multiple_of(Self::SLICE);
        if part >= k { Split::none(k) } else { Split { part, count: k.div_ceil(part) } }
    }

    /// For a product `[m, n, k]`: one part where its tiles give every multiprocessor a block, else
    /// as many as give it about two.
    pub fn choose(context: &Context, format: Precision, [m, n, k]: [usize; 3]) -> Self {
        let multiprocessors = context.multiprocessors();
        let tiles = Tile::choose(context, format, m, n).counts(m, n).iter().product::<usize>().max(1);
        let wanted = if tiles < multiprocessors { (2 * multiprocessors).div_ceil(tiles) } else { 1 };
        Split::into(k, wanted.min(Self::MOST).min(k / Self::LEAST).max(1))
    }
}

/// `a·b` as a sum of [`Split::count`] matrices `[m, n]`, one after the other from `parts` on. Who
/// adds them from the first to the last gets the same bits every time.
pub fn gemm_parts(context: &Context, a: Matrix, b: Matrix, parts: Argument, split: Split) -> Result<()> {
    let tile = Tile::choose(context, a.format, a.rows, b.columns);
    launch(context, tile, [a, b], None, parts, Store::Set, split)
}

fn launch(
    context: &Context,
    tile: Tile,
    [a, b]: [Matrix; 2],
    bias: Option<Argument>,
    c: Argument,
    store: Store,
    split: Split,
) -> Result<()> {
    assert_eq!(a.columns, b.rows, "the inner sizes of a product differ");
    assert_eq!(a.format, b.format, "the formats of a product's operands differ");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let (mut grid, rows_first) = grid(a.format, tile.counts(m, n));
    grid.blocks[2] = split.count;
    let kernel = kernel(a.format, tile, a.transposed, b.transposed);
    // without a bias its place is taken by something that is not read
    let flags = u32::from(store == Store::Add) | u32::from(bias.is_some()) << 1 | rows_first;
    let bias = bias.unwrap_or(c);
    let (sizes, last) = ([m, n, k].map(Argument::from), [split.part.into(), flags.into()]);
    let pitches = match a.format {
        Precision::Full => &[][..],
        Precision::Bf16 => &[a, b].map(|x| rounded_pitch(x.stored_columns()).into()),
    };
    context.launch(kernel, grid, &[&[a.data, b.data, bias, c][..], &sizes, pitches, &last].concat())
}

/// What [`logits`] tells about a row and a tile's columns, in words of four bytes: `RowPart` of
/// kernels/row_parts.cuh.
pub const ROW_PART: usize = 4;

/// `x·wᵀ (+ bias in every row)`, `x` `[m, k]`, `w` `[n, k]` (as it lies), and of every row what a
/// softmax needs to know beforehand: largest, sum and target, one [`ROW_PART`] for each of the
/// tile's columns, into `parts` `[m, n / columns of the tile]`. The logits themselves are stored in
/// `c` `[m, n]` where one is given. `targets`: u32 `[m]`.
///
/// # Panics
/// If shapes or formats do not fit.
pub fn logits(
    context: &Context,
    tile: Tile,
    [x, w]: [Matrix; 2],
    bias: Option<Argument>,
    targets: Option<Argument>,
    c: Option<Argument>,
    parts: Argument,
) -> Result<()> {
    assert_eq!(x.columns, w.columns, "the inner sizes of a product differ");
    assert!(
        x.format == w.format && !x.transposed && !w.transposed,
        "logits are of operands of one format, as they lie"
    );
    let (m, n, k) = (x.rows, w.rows, x.columns);
    let kernel = match (x.format, tile) {
        (Precision::Full, Tile::Small) => "logits_small",
        (Precision::Full, Tile::Large) => "logits_large",
        (Precision::Full, Tile::Tall) => panic!("products in f32 have no tall tile"),
        (Precision::Bf16, Tile::Small) => "logits_bf16_small",
        (Precision::Bf16, Tile::Tall) => "logits_bf16_tall",
        (Precision::Bf16, Tile::Large) => "logits_bf16_large",
    };
    let (grid, rows_first) = grid(x.format, tile.counts(m, n));
    let flag = |there: bool, bit: u32| u32::from(there) << bit;
    let flags = flag(bias.is_some(), 1) | rows_first | flag(targets.is_some(), 3) | flag(c.is_some(), 4);
    // elements beyond the matrix are not read or written
    let [bias, targets, c] = [bias, targets, c].map(|argument| argument.unwrap_or(parts));
    let (first, sizes) = ([x.data, w.data, bias, targets, c, parts], [m, n, k].map(Argument::from));
    match x.format {
        Precision::Full => context.launch(kernel, grid, &[&first[..], &sizes, &[flags.into()]].concat()),
        Precision::Bf16 => {
            let pitch = rounded_pitch(k).into();
            context.launch(kernel, grid, &[&first[..], &sizes, &[pitch, pitch, flags.into()]].concat())
        }
    }
}

/// The grid of a product of so many tiles of rows and columns, and the flag that says which of them
/// its first dimension counts.
fn grid(format: Precision, [of_rows, of_columns]: [usize; 2]) -> (Grid, u32) {
    const ROWS_FIRST: u32 = 4;
    match format {
        Precision::Bf16 if of_rows <= of_columns => (Grid::blocks([of_rows, of_columns, 1]), ROWS_FIRST),
        _ => (Grid::blocks([of_columns, of_rows, 1]), 0),
    }
}

/// The kernel of a product whose operands are transposed or not.
pub fn kernel(format: Precision, tile: Tile, a_transposed: bool, b_transposed: bool) -> &'static str {
    let of_tile = match (format, tile) {
        (Precision::Full, Tile::Small) => ["gemm_nn_small", "gemm_nt_small", "gemm_tn_small", "gemm_tt_small"],
        (Precision::Full, Tile::Large) => ["gemm_nn_large", "gemm_nt_large", "gemm_tn_large", "gemm_tt_large"],
        (Precision::Full, Tile::Tall) => panic!("products in f32 have no tall tile"),
        (Precision::Bf16, Tile::Small) => {
            ["gemm_bf16_nn_small", "gemm_bf16_nt_small", "gemm_bf16_tn_small", "gemm_bf16_tt_small"]
        }
        (Precision::Bf16, Tile::Tall) => {
            ["gemm_bf16_nn_tall", "gemm_bf16_nt_tall", "gemm_bf16_tn_tall", "gemm_bf16_tt_tall"]
        }
        (Precision::Bf16, Tile::Large) => {
            ["gemm_bf16_nn_large", "gemm_bf16_nt_large", "gemm_bf16_tn_large", "gemm_bf16_tt_large"]
        }
    };
    of_tile[usize::from(a_transposed) * 2 + usize::from(b_transposed)]
}

/// Rounds a matrix `[rows, columns]` of f32 to an operand in bf16, of `rows` times
/// [`rounded_pitch`] elements.
pub fn round_operand(context: &Context, x: Argument, rounded: Argument, [rows, columns]: [usize; 2]) -> Result<()> {
    let pitch = rounded_pitch(columns);
    let fits = |n: &usize| columns.is_multiple_of(*n) && x.address().is_multiple_of(4 * *n as u64);
    let vector = [4, 2].into_iter().find(fits).unwrap_or(1);
    let arguments = [x, rounded, rows.into(), columns.into(), pitch.into(), vector.into()];
    context.launch("round_operand", Grid::elements(rows * pitch / vector), &arguments)
}
