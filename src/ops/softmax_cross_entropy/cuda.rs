use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments, sum};
use crate::tensor::Tensor;

fn rows(context: &Context, z: &Tensor, labels: &Tensor, p: &Tensor, losses: &Tensor, with_loss: bool) -> Result<()> {
    let (rows, classes) = (p.dims()[0], p.dims()[1]);
    let tensors = [z, labels, p, losses].map(Tensor::argument);
    let [z, labels, p, losses] = tensors;
    // a warp a row
    context.launch(
        "softmax_forward",
        Grid::elements(32 * rows),
        arguments![z, labels, p, losses, rows, classes, with_loss],
    )
}

/// `labels`: on the device; `losses` `[B]`: of the rows.
pub(super) fn forward(
    context: &Context,
    z: &Tensor,
    labels: &Tensor,
    p: &Tensor,
    losses: &Tensor,
    loss: &Tensor,
) -> Result<()> {
    rows(context, z, labels, p, losses, true)?;
    sum(context, losses, losses.len(), (1.0 / losses.len() as f64) as f32, loss)
}

pub(super) fn softmax(context: &Context, z: &Tensor, p: &Tensor) -> Result<()> {
    // labels and losses are not touched
    rows(context, z, p, p, p, false)
}

/// `dlogits (+)= (p - 1[label])·dloss/B`
pub(super) fn backward(
    context: &Context,
    p: &Tensor,
    labels: &Tensor,
    dloss: &Tensor,
    dz: &Tensor,
    store: Store,
) -> Result<()> {
    let (rows, classes) = (p.dims()[0], p.dims()[1]);
    let [p, labels, dloss, dz] = [p, labels, dloss, dz].map(Tensor::argument);
    let arguments = arguments![p, labels, dloss, dz, rows, classes, adds(store)];
    context.launch("softmax_backward", Grid::elements(rows * classes), arguments)
}
