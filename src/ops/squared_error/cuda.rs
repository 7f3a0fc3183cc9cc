use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments, sum};
use crate::tensor::Tensor;

/// Estimates, targets, squares, loss.
pub(super) fn forward(context: &Context, [x, targets, squares, loss]: [&Tensor; 4]) -> Result<()> {
    let n = x.len();
    let arguments = arguments![x.argument(), targets.argument(), squares.argument(), n];
    context.launch("squared_error_forward", Grid::elements(n), arguments)?;
    sum(context, squares, n, (1.0 / n as f64) as f32, loss)
}

/// Estimates, targets, gradient of the loss, gradient of the estimates.
pub(super) fn backward(context: &Context, [x, targets, dloss, dx]: [&Tensor; 4], store: Store) -> Result<()> {
    let n = x.len();
    let [x, targets, dloss, dx] = [x, targets, dloss, dx].map(Tensor::argument);
    let arguments = arguments![x, targets, dloss, dx, n, (2.0 / n as f64) as f32, adds(store)];
    context.launch("squared_error_backward", Grid::elements(n), arguments)
}
