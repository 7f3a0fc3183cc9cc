use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

/// Elements that one block adds up.
const PART: usize = 4096;

/// Partial sums of a chunk.
pub(super) fn parts(h: &Tensor) -> usize {
    h.len().div_ceil(PART)
}

/// `parts = c·Σ h²`, in [`parts`] pieces.
pub(super) fn squares(context: &Context, h: &Tensor, c: f64, to: Argument) -> Result<()> {
    let grid = Grid::blocks([parts(h), 1, 1]);
    context.launch("regularisation_squares", grid, arguments![h.argument(), c as f32, to, h.len()])
}

/// The last step of a chunk `[T, B, E]`, as an argument.
fn last_step(h: &Tensor) -> Argument<'_> {
    h.argument_from(h.len() - h.len() / h.dims()[0].max(1))
}

fn step(h: &Tensor) -> usize {
    h.len() / h.dims()[0].max(1)
}

/// `parts = c·Σ (h[t] − h[t−1])²`, in [`parts`] pieces; `before` is the chunk before, where there
/// is one.
pub(super) fn differences(context: &Context, h: &Tensor, before: Option<&Tensor>, c: f64, to: Argument) -> Result<()> {
    let last = before.map_or(h.argument(), last_step);
    let arguments = arguments![h.argument(), last, c as f32, to, h.len(), step(h), before.is_some()];
    context.launch("regularisation_differences", Grid::blocks([parts(h), 1, 1]), arguments)
}

/// `dh (+)= c·dy·h`
pub(super) fn squares_backward(
    context: &Context,
    h: &Tensor,
    dy: &Tensor,
    c: f64,
    dh: &Tensor,
    store: Store,
) -> Result<()> {
    let arguments = arguments![h.argument(), dy.argument(), c as f32, dh.argument(), h.len(), adds(store)];
    context.launch("regularisation_squares_backward", Grid::elements(h.len()), arguments)
}

/// `dh[t] (+)= c·dy·((h[t] − h[t−1]) − (h[t+1] − h[t]))`, each difference where it exists;
/// `around`: the chunks before and after.
pub(super) fn differences_backward(
    context: &Context,
    h: &Tensor,
    around: [Option<&Tensor>; 2],
    dy: &Tensor,
    c: f64,
    dh: &Tensor,
    store: Store,
) -> Result<()> {
    let [before, after] = around;
    let last = before.map_or(h.argument(), last_step);
    let next = after.map_or(h.argument(), Tensor::argument);
    context.launch(
        "regularisation_differences_backward",
        Grid::elements(h.len()),
        arguments![
            h.argument(),
            last,
            next,
            dy.argument(),
            c as f32,
            dh.argument(),
            h.len(),
            step(h),
            before.is_some(),
            after.map_or(0, step),
            adds(store)
        ],
    )
}
