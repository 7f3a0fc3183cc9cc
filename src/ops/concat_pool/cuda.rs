use super::cpu::Chunk;
use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

/// Goes on with the pooling of all rows over one more chunk; arguments as on the CPU, all on the
/// device.
pub(super) fn forward(
    context: &Context,
    chunk: Chunk,
    x: &Tensor,
    spans: &Tensor,
    y: &Tensor,
    argmax: &Tensor,
) -> Result<()> {
    let Chunk { begin, steps, rows, size } = chunk;
    let [x, spans, y, argmax] = [x, spans, y, argmax].map(Tensor::argument);
    let arguments = arguments![x, spans, y, argmax, begin, steps, rows, size];
    context.launch("concat_pool_forward", Grid::elements(rows * size), arguments)
}

pub(super) fn backward(
    context: &Context,
    chunk: Chunk,
    dy: &Tensor,
    spans: &Tensor,
    argmax: &Tensor,
    dx: &Tensor,
    store: Store,
) -> Result<()> {
    let Chunk { begin, steps, rows, size } = chunk;
    let [dy, spans, argmax, dx] = [dy, spans, argmax, dx].map(Tensor::argument);
    let arguments = arguments![dy, spans, argmax, dx, begin, steps, rows, size, adds(store)];
    context.launch("concat_pool_backward", Grid::elements(rows * size), arguments)
}
