use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments, sum};
use crate::tensor::Tensor;

/// The target at the label, and elsewhere.
fn target(smoothing: f64, classes: usize) -> (f32, f32) {
    let share = smoothing / classes as f64;
    ((1.0 - smoothing + share) as f32, share as f32)
}

/// All tensors on the device: logits, labels, weights, logarithms `[B, C]`, losses of the rows,
/// loss.
pub(super) fn forward(
    context: &Context,
    [z, labels, weights, logs, losses, loss]: [&Tensor; 6],
    focal: f64,
    smoothing: f64,
    total: f64,
) -> Result<()> {
    let (rows, classes) = (logs.dims()[0], logs.dims()[1]);
    let (of_label, share) = target(smoothing, classes);
    let of = [z, labels, weights, logs, losses].map(Tensor::argument);
    let [z, labels, weights, logs, row_losses] = of;
    // a warp a row
    context.launch(
        "weighted_softmax_forward",
        Grid::elements(32 * rows),
        arguments![z, labels, weights, logs, row_losses, rows, classes, of_label, share, focal as f32],
    )?;
    sum(context, losses, rows, (1.0 / total) as f32, loss)
}

/// Logarithms, labels, weights, gradient of the loss, gradient of the logits.
pub(super) fn backward(
    context: &Context,
    [logs, labels, weights, dloss, dz]: [&Tensor; 5],
    focal: f64,
    smoothing: f64,
    total: f64,
    store: Store,
) -> Result<()> {
    let (rows, classes) = (logs.dims()[0], logs.dims()[1]);
    let (of_label, share) = target(smoothing, classes);
    let [logs, labels, weights, dloss, dz] = [logs, labels, weights, dloss, dz].map(Tensor::argument);
    let (focal, scale) = (focal as f32, (1.0 / total) as f32);
    let arguments =
        arguments![logs, labels, weights, dloss, dz, rows, classes, of_label, share, focal, scale, adds(store)];
    context.launch("weighted_softmax_backward", Grid::elements(32 * rows), arguments)
}
