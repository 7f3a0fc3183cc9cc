use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments, sum};
use crate::tensor::Tensor;

/// `smoothing`: of the losses, which are computed where it is given.
fn rows(context: &Context, [z, labels, p, losses]: [&Tensor; 4], smoothing: Option<f64>) -> Result<()> {
    let (rows, classes) = (p.dims()[0], p.dims()[1]);
    let [z, labels, p, losses] = [z, labels, p, losses].map(Tensor::argument);
    let (with_loss, smoothing) = (smoothing.is_some(), smoothing.unwrap_or(0.0) as f32);
    // a warp a row
    context.launch(
        "softmax_forward",
        Grid::elements(32 * rows),
        arguments![z, labels, p, losses, rows, classes, with_loss, smoothing],
    )
}

/// `labels`: on the device; `losses` `[B]`: of the rows.
pub(super) fn forward(
    context: &Context,
    z: &Tensor,
    labels: &Tensor,
    smoothing: f64,
    p: &Tensor,
    losses: &Tensor,
    loss: &Tensor,
) -> Result<()> {
    rows(context, [z, labels, p, losses], Some(smoothing))?;
    sum(context, losses, losses.len(), (1.0 / losses.len() as f64) as f32, loss)
}

pub(super) fn softmax(context: &Context, z: &Tensor, p: &Tensor) -> Result<()> {
    // labels and losses are not touched
    rows(context, [z, p, p, p], None)
}

/// `dlogits (+)= (p - target)·dloss/B`
pub(super) fn backward(
    context: &Context,
    p: &Tensor,
    labels: &Tensor,
    smoothing: f64,
    dloss: &Tensor,
    dz: &Tensor,
    store: Store,
) -> Result<()> {
    let (rows, classes) = (p.dims()[0], p.dims()[1]);
    let [p, labels, dloss, dz] = [p, labels, dloss, dz].map(Tensor::argument);
    let share = smoothing / classes as f64;
    let (of_label, share) = ((1.0 - smoothing + share) as f32, share as f32);
    let arguments = arguments![p, labels, dloss, dz, rows, classes, of_label, share, adds(store)];
    context.launch("softmax_backward", Grid::elements(rows * classes), arguments)
}
