use crate::autodiff::{Keep, Store};
use crate::device::cuda::Context;
use crate::device::cuda::gemm::gemm;
use crate::error::Result;
use crate::ops::gpu::{Operand, Products, column_sums};
use crate::tensor::Tensor;

/// `w` `[O, I]`. `keep`: whether the backward will need x.
pub(super) fn forward(
    products: &mut Products,
    [x, w]: [&Tensor; 2],
    b: Option<&Tensor>,
    y: &Tensor,
    keep: Keep,
) -> Result<()> {
    let inputs = w.dims()[1];
    let (x, w) = (products.kept(x, inputs, keep)?, products.kept(w, inputs, Keep::Weight)?);
    gemm(products.context, x.matrix(), w.matrix().t(), b.map(Tensor::argument), y.argument(), Store::Set)
}

/// The upstream gradient as an operand.
pub(super) fn upstream(products: &mut Products, dy: &Tensor, outputs: usize) -> Result<Operand> {
    products.operand(dy, 0, [dy.len() / outputs.max(1), outputs])
}

/// `dx = dy·W`
pub(super) fn backward_input(
    products: &mut Products,
    dy: &Operand,
    w: &Tensor,
    dx: &Tensor,
    store: Store,
) -> Result<()> {
    let w = products.kept(w, w.dims()[1], Keep::Weight)?;
    gemm(products.context, dy.matrix(), w.matrix(), None, dx.argument(), store)
}

/// `dW = dyᵀ·x`
pub(super) fn backward_weight(
    products: &mut Products,
    dy: &Operand,
    x: &Tensor,
    dw: &Tensor,
    store: Store,
) -> Result<()> {
    let x = products.kept(x, dw.dims()[1], Keep::Step)?;
    gemm(products.context, dy.matrix().t(), x.matrix(), None, dw.argument(), store)
}

/// `db = Σ_rows dy`
pub(super) fn backward_bias(context: &Context, dy: &Tensor, db: &Tensor, store: Store) -> Result<()> {
    let outputs = db.len();
    column_sums(context, dy.argument(), dy.len() / outputs.max(1), outputs, (db.argument(), store), None)
}
