use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments, sum};
use crate::tensor::Tensor;

/// All on the device: logits, targets, weights, losses of the elements, loss.
pub(super) fn forward(context: &Context, [z, y, w, losses, loss]: [&Tensor; 5], focal: f64) -> Result<()> {
    let (n, classes) = (z.len(), w.len());
    let [z, y, w, each] = [z, y, w, losses].map(Tensor::argument);
    context.launch("sigmoid_forward", Grid::elements(n), arguments![z, y, w, each, n, classes, focal as f32])?;
    sum(context, losses, n, (1.0 / n as f64) as f32, loss)
}

/// Logits, targets, weights, gradient of the loss, gradient of the logits.
pub(super) fn backward(context: &Context, [z, y, w, dloss, dz]: [&Tensor; 5], focal: f64, store: Store) -> Result<()> {
    let (n, classes) = (z.len(), w.len());
    let [z, y, w, dloss, dz] = [z, y, w, dloss, dz].map(Tensor::argument);
    let arguments = arguments![z, y, w, dloss, dz, n, classes, focal as f32, adds(store)];
    context.launch("sigmoid_backward", Grid::elements(n), arguments)
}
