//! Matrix products of our own on a GPU (kernels/gemm.cu): true f32, all transpositions, bias and accumulation in the epilogue.

use super::arguments::{Argument, Grid};
use super::context::Context;
use crate::device::cpu::gemm::Store;
use crate::error::Result;

/// A row-major matrix in memory of a GPU, and whether its transpose is meant.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: Argument<'a>,
    /// Of what is meant.
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    pub fn new(data: Argument<'a>, rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }
}

/// Edge of the square that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 64: enough blocks for products of few rows.
    Small,
    /// 128: half the traffic.
    Large,
}

impl Tile {
    fn edge(self) -> usize {
        match self {
            Tile::Small => 64,
            Tile::Large => 128,
        }
    }

    /// The large one where it still gives every multiprocessor a block.
    fn choose(context: &Context, m: usize, n: usize) -> Self {
        let blocks = m.div_ceil(Tile::Large.edge()) * n.div_ceil(Tile::Large.edge());
        if blocks >= context.gpu().multiprocessors.max(1) as usize { Tile::Large } else { Tile::Small }
    }
}

/// `c (+)= a·b (+ bias in every row)`: `a` `[m, k]`, `b` `[k, n]`, `bias` `[n]`, `c` `[m, n]`. Every element is one sum over k in order, whatever
/// the tile.
pub fn gemm(context: &Context, a: Matrix, b: Matrix, bias: Option<Argument>, c: Argument, store: Store) -> Result<()> {
    gemm_tiled(context, Tile::choose(context, a.rows, b.columns), a, b, bias, c, store)
}

/// As [`gemm`], with a given tile.
pub fn gemm_tiled(
    context: &Context,
    tile: Tile,
    a: Matrix,
    b: Matrix,
    bias: Option<Argument>,
    c: Argument,
    store: Store,
) -> Result<()> {
    assert_eq!(a.columns, b.rows, "the inner sizes of a product differ");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let kernel = match (tile, a.transposed, b.transposed) {
        (Tile::Small, false, false) => "gemm_nn_small",
        (Tile::Small, false, true) => "gemm_nt_small",
        (Tile::Small, true, false) => "gemm_tn_small",
        (Tile::Small, true, true) => "gemm_tt_small",
        (Tile::Large, false, false) => "gemm_nn_large",
        (Tile::Large, false, true) => "gemm_nt_large",
        (Tile::Large, true, false) => "gemm_tn_large",
        (Tile::Large, true, true) => "gemm_tt_large",
    };
    let flags = u32::from(store == Store::Add) | u32::from(bias.is_some()) << 1;
    let grid = Grid::blocks([n.div_ceil(tile.edge()), m.div_ceil(tile.edge()), 1]);
    // without a bias its place is taken by something that is not read
    let arguments = [a.data, b.data, bias.unwrap_or(c), c, m.into(), n.into(), k.into(), flags.into()];
    context.launch(kernel, grid, &arguments)
}
