use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

pub(super) fn forward(context: &Context, x: &Tensor, y: &Tensor) -> Result<()> {
    context.launch("relu_forward", Grid::elements(x.len()), arguments![x.argument(), y.argument(), x.len()])
}

/// `dx (+)= dy` where `y > 0`.
pub(super) fn backward(context: &Context, y: &Tensor, dy: &Tensor, dx: &Tensor, store: Store) -> Result<()> {
    let arguments = arguments![y.argument(), dy.argument(), dx.argument(), y.len(), adds(store)];
    context.launch("relu_backward", Grid::elements(y.len()), arguments)
}
