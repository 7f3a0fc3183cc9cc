use super::{EPSILON, MOMENTUM};
use crate::autodiff::Store;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{adds, arguments};
use crate::tensor::Tensor;

/// A block has 32 features.
fn by_feature(features: usize) -> Grid {
    Grid::blocks([features.div_ceil(32), 1, 1])
}

/// `statistics` `[2, F]` of a batch, which enters the running ones.
pub(super) fn statistics(
    context: &Context,
    x: &Tensor,
    statistics: &Tensor,
    running_mean: &Tensor,
    running_variance: &Tensor,
) -> Result<()> {
    let (rows, features) = (x.dims()[0], x.dims()[1]);
    let [x, statistics, mean, variance] = [x, statistics, running_mean, running_variance].map(Tensor::argument);
    let arguments = arguments![x, statistics, mean, variance, rows, features, EPSILON as f32, MOMENTUM as f32];
    context.launch("batch_norm_statistics", by_feature(features), arguments)
}

/// `statistics` from the running ones.
pub(super) fn running(
    context: &Context,
    running_mean: &Tensor,
    running_variance: &Tensor,
    statistics: &Tensor,
) -> Result<()> {
    let features = running_mean.len();
    let [mean, variance, statistics] = [running_mean, running_variance, statistics].map(Tensor::argument);
    let arguments = arguments![mean, variance, statistics, features, EPSILON as f32];
    context.launch("batch_norm_running", Grid::elements(features), arguments)
}

pub(super) fn forward(
    context: &Context,
    x: &Tensor,
    statistics: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    y: &Tensor,
) -> Result<()> {
    let (n, features) = (x.len(), weight.len());
    let [x, statistics, weight, bias, y] = [x, statistics, weight, bias, y].map(Tensor::argument);
    context.launch("batch_norm_forward", Grid::elements(n), arguments![x, statistics, weight, bias, y, n, features])
}

/// `sums` `[2, F]`: the gradients of weight and bias.
pub(super) fn sums(context: &Context, x: &Tensor, dy: &Tensor, statistics: &Tensor, sums: &Tensor) -> Result<()> {
    let (rows, features) = (x.dims()[0], x.dims()[1]);
    let [x, dy, statistics, sums] = [x, dy, statistics, sums].map(Tensor::argument);
    context.launch("batch_norm_sums", by_feature(features), arguments![x, dy, statistics, sums, rows, features])
}

/// The operands of the gradient of `x`.
pub(super) struct Backward<'a> {
    pub x: &'a Tensor,
    pub dy: &'a Tensor,
    pub statistics: &'a Tensor,
    pub sums: &'a Tensor,
    pub weight: &'a Tensor,
    /// Whether mean and variance are the batch's own.
    pub train: bool,
}

impl Backward<'_> {
    pub(super) fn run(&self, context: &Context, dx: &Tensor, store: Store) -> Result<()> {
        let (rows, features) = (self.x.dims()[0], self.x.dims()[1]);
        let tensors = [self.x, self.dy, self.statistics, self.sums, self.weight, dx];
        let [x, dy, statistics, sums, weight, dx] = tensors.map(Tensor::argument);
        context.launch(
            "batch_norm_backward",
            Grid::elements(rows * features),
            arguments![x, dy, statistics, sums, weight, dx, rows, features, self.train, adds(store)],
        )
    }
}
