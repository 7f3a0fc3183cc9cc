use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

/// `pairs` `[B, 2]`, on the device.
pub(super) fn forward(context: &Context, x: &Tensor, pairs: &Tensor, y: &Tensor) -> Result<()> {
    let (rows, f) = (pairs.dims()[0], x.dims()[1]);
    let arguments = arguments![x.argument(), pairs.argument(), y.argument(), rows, f];
    context.launch("pair_features_forward", Grid::elements(rows * f), arguments)
}

pub(super) fn backward(
    context: &Context,
    x: &Tensor,
    pairs: &Tensor,
    dy: &Tensor,
    dx: &Tensor,
    store: Store,
) -> Result<()> {
    let (rows, f) = (pairs.dims()[0], x.dims()[1]);
    let [x, pairs, dy, dx] = [x, pairs, dy, dx].map(Tensor::argument);
    let arguments = arguments![x, pairs, dy, dx, rows, f, adds(store)];
    context.launch("pair_features_backward", Grid::elements(rows * f), arguments)
}
