use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

/// `[T, B, I]`, of a tensor.
fn sizes(x: &Tensor) -> [usize; 3] {
    [x.dims()[0], x.dims()[1], x.dims()[2]]
}

pub(super) fn forward(context: &Context, x: &Tensor, before: &Tensor, y: &Tensor) -> Result<()> {
    let [_, rows, size] = sizes(x);
    let n = x.len();
    let arguments = arguments![x.argument(), before.argument(), y.argument(), n, rows * size, size];
    context.launch("with_previous_forward", Grid::elements(n), arguments)
}

pub(super) fn backward_x(context: &Context, dy: &Tensor, dx: &Tensor, store: Store) -> Result<()> {
    let [_, rows, size] = sizes(dx);
    let n = dx.len();
    let arguments = arguments![dy.argument(), dx.argument(), n, rows * size, size, adds(store)];
    context.launch("with_previous_backward", Grid::elements(n), arguments)
}

pub(super) fn backward_before(context: &Context, dy: &Tensor, d: &Tensor, store: Store) -> Result<()> {
    let (n, size) = (d.len(), d.dims()[1]);
    let arguments = arguments![dy.argument(), d.argument(), n, size, adds(store)];
    context.launch("with_previous_backward_first", Grid::elements(n), arguments)
}
