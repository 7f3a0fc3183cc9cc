use super::TERMS;
use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::arguments;
use crate::tensor::Tensor;

/// `Terms` of kernels/weighted_sum.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Terms {
    x: [u64; TERMS],
    c: [f32; TERMS],
    n: u32,
    add: u32,
}

fn terms(all: &[(&Tensor, f64, Store)]) -> Argument<'static> {
    let mut terms = Terms { x: [0; TERMS], c: [0.0; TERMS], n: all.len() as u32, add: 0 };
    for (i, (x, c, store)) in all.iter().enumerate() {
        (terms.x[i], terms.c[i]) = (x.argument().address(), *c as f32);
        terms.add |= u32::from(*store == Store::Add) << i;
    }
    Argument::plain(terms)
}

const ONE_WARP: Grid = Grid { blocks: [1, 1, 1], threads: 32, shared: 0 };

/// Pairs of a scalar and its coefficient.
pub(super) fn forward(context: &Context, all: &[(&Tensor, f64, Store)], y: &Tensor) -> Result<()> {
    context.launch("weighted_sum_forward", ONE_WARP, arguments![terms(all), y.argument()])
}

/// Pairs of a scalar's gradient and the coefficient.
pub(super) fn backward(context: &Context, all: &[(&Tensor, f64, Store)], dy: &Tensor) -> Result<()> {
    context.launch("weighted_sum_backward", ONE_WARP, arguments![terms(all), dy.argument()])
}
