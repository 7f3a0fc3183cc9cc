use crate::autodiff::Store;
use crate::device::cuda::Context;
use crate::device::cuda::gemm::{Matrix, gemm};
use crate::error::Result;
use crate::ops::gpu::column_sums;
use crate::tensor::Tensor;

/// `w` `[O, I]`.
pub(super) fn forward(context: &Context, x: &Tensor, w: &Tensor, b: Option<&Tensor>, y: &Tensor) -> Result<()> {
    let (outputs, inputs) = (w.dims()[0], w.dims()[1]);
    let rows = y.len() / outputs.max(1);
    let (x, w) = (Matrix::new(x.argument(), rows, inputs), Matrix::new(w.argument(), outputs, inputs));
    gemm(context, x, w.t(), b.map(Tensor::argument), y.argument(), Store::Set)
}

/// `dx = dy·W`
pub(super) fn backward_input(context: &Context, dy: &Tensor, w: &Tensor, dx: &Tensor, store: Store) -> Result<()> {
    let (outputs, inputs) = (w.dims()[0], w.dims()[1]);
    let rows = dy.len() / outputs.max(1);
    let (dy, w) = (Matrix::new(dy.argument(), rows, outputs), Matrix::new(w.argument(), outputs, inputs));
    gemm(context, dy, w, None, dx.argument(), store)
}

/// `dW = dyᵀ·x`
pub(super) fn backward_weight(context: &Context, dy: &Tensor, x: &Tensor, dw: &Tensor, store: Store) -> Result<()> {
    let (outputs, inputs) = (dw.dims()[0], dw.dims()[1]);
    let rows = dy.len() / outputs.max(1);
    let (dy, x) = (Matrix::new(dy.argument(), rows, outputs), Matrix::new(x.argument(), rows, inputs));
    gemm(context, dy.t(), x, None, dw.argument(), store)
}

/// `db = Σ_rows dy`
pub(super) fn backward_bias(context: &Context, dy: &Tensor, db: &Tensor, store: Store) -> Result<()> {
    let outputs = db.len();
    column_sums(context, dy.argument(), dy.len() / outputs.max(1), outputs, (db.argument(), store), None)
}
