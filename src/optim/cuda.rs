//! Updates and norms on a GPU (kernels/optim.cu, kernels/sums.cu), in f32: one launch a parameter.

use super::{adam, sgd};
use crate::device::cuda::{Argument, Context, Grid, context};
use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};

/// Elements whose squares a block sums: `SQUARES_CHUNK` of kernels/sums.cu.
const CHUNK: usize = 16 * Grid::BLOCK;

/// The GPU that a tensor is on; none on the CPU.
pub(super) fn gpu_of(tensor: &Tensor) -> Result<Option<&'static Context>> {
    match tensor.device() {
        Device::Cpu => Ok(None),
        Device::Cuda(gpu) => context(gpu).map(Some),
    }
}

/// See [`adam`]; `m` and `v` are the moments.
pub(super) fn adam(
    context: &Context,
    scalars: &adam::Scalars<f32>,
    p: &Tensor,
    g: &Tensor,
    [m, v]: [&Tensor; 2],
) -> Result<()> {
    let n = p.len();
    let [scalars, p, g, m, v] =
        [Argument::plain(scalars.words()), p.argument(), g.argument(), m.argument(), v.argument()];
    context.launch("adam_update", Grid::elements(n), &[scalars, p, g, m, v, n.into()])
}

/// See [`sgd`]; `momentum`: its factor and state.
pub(super) fn sgd(
    context: &Context,
    scalars: &sgd::Scalars<f32>,
    p: &Tensor,
    g: &Tensor,
    momentum: Option<(f32, &Tensor)>,
) -> Result<()> {
    let (n, grid, scalars) = (p.len(), Grid::elements(p.len()), Argument::plain(scalars.words()));
    match momentum {
        None => context.launch("sgd_update", grid, &[scalars, p.argument(), g.argument(), n.into()]),
        Some((factor, b)) => {
            let arguments = [scalars, factor.into(), p.argument(), g.argument(), b.argument(), n.into()];
            context.launch("sgd_momentum_update", grid, &arguments)
        }
    }
}

/// `average ← average + (p − average)·weight`
pub(super) fn average(context: &Context, weight: f32, p: &Tensor, average: &Tensor) -> Result<()> {
    let n = p.len();
    context.launch("average_update", Grid::elements(n), &[weight.into(), p.argument(), average.argument(), n.into()])
}

/// Exchanges two tensors of one length.
pub(super) fn exchange(context: &Context, a: &Tensor, b: &Tensor) -> Result<()> {
    let n = a.len();
    context.launch("exchange", Grid::elements(n), &[a.argument(), b.argument(), n.into()])
}

/// `g ← scale·g`
pub(super) fn scale(context: &Context, scale: f32, g: &Tensor) -> Result<()> {
    let n = g.len();
    context.launch("put_scaled", Grid::elements(n), &[g.argument(), scale.into(), g.argument(), n.into(), false.into()])
}

/// Sums of squares, with their scratch memory.
#[derive(Debug)]
pub(super) struct Squares {
    /// f64: of each chunk.
    parts: Tensor,
    /// f64 `[1]`
    total: Tensor,
}

impl Squares {
    /// For sums over at most as many chunks as these tensors have together.
    pub(super) fn new<'a>(device: Device, tensors: impl Iterator<Item = &'a Tensor>) -> Result<Self> {
        let chunks: usize = tensors.map(|t| t.len().div_ceil(CHUNK)).sum();
        Ok(Squares {
            parts: Tensor::zeros_on(device, [chunks.max(1)], DType::F64)?,
            total: Tensor::zeros_on(device, [1], DType::F64)?,
        })
    }

    /// Σ x² over all elements of the tensors, in f64 and in an order that their sizes fix. Waits for the GPU.
    pub(super) fn of<'a>(&self, context: &Context, tensors: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
        let mut used = 0;
        for tensor in tensors {
            let (n, chunks) = (tensor.len(), tensor.len().div_ceil(CHUNK));
            let arguments = [tensor.argument(), self.parts.argument_from(used), n.into()];
            context.launch("squares", Grid::blocks([chunks, 1, 1]), &arguments)?;
            used += chunks;
        }
        let arguments = [self.parts.argument(), self.total.argument(), used.into()];
        context.launch("squares_total", Grid::blocks([1, 1, 1]), &arguments)?;
        let total = self.total.scalar();
        context.synchronise()?;
        Ok(total)
    }
}
