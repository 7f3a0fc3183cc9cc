//! Updates and norms on a GPU (kernels/optim.cu, kernels/sums.cu), in f32: all parameters in one
//! launch.

use crate::device::cuda::{Argument, Context, Grid, context};
use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};

/// Elements that a block has: `PART_BLOCK` of kernels/common.cuh.
const CHUNK: usize = 16 * Grid::BLOCK;

/// The GPU that a tensor is on; none on the CPU.
pub(super) fn gpu_of(tensor: &Tensor) -> Result<Option<&'static Context>> {
    match tensor.device() {
        Device::Cpu => Ok(None),
        Device::Cuda(gpu) => context(gpu).map(Some),
    }
}

/// `Scalars` of kernels/common.cuh: those of one update of one parameter.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Scalars {
    pub gradient_scale: f32,
    pub shrink: f32,
    pub decay: f32,
    /// Learning rate; of Adam over its first correction.
    pub rate: f32,
    /// Also β1 of Adam.
    pub momentum: f32,
    pub one_minus_momentum: f32,
    pub beta2: f32,
    pub one_minus_beta2: f32,
    pub correction2: f32,
    pub eps: f32,
    /// The weight of the present values in an average.
    pub weight: f32,
    pub unused: f32,
}

/// `Part` of kernels/common.cuh.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Part {
    value: u64,
    gradient: u64,
    states: [u64; 2],
    n: u32,
    first: u32,
    scalars: Scalars,
}

/// The arguments of one launch over several parameters: their addresses, and this step's scalars,
/// in memory of the GPU.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<Part>,
    blocks: usize,
    /// u32, room for as many parts as there are parameters.
    device: Tensor,
}

const WORDS: usize = size_of::<Part>() / 4;

impl Table {
    /// None on the CPU. `parameters`: how many it may have to hold.
    pub(super) fn new(device: Device, parameters: usize) -> Result<Option<Self>> {
        if device == Device::Cpu {
            return Ok(None);
        }
        let table = Tensor::zeros_on(device, [parameters.max(1) * WORDS], DType::U32)?;
        Ok(Some(Table { parts: Vec::with_capacity(parameters), blocks: 0, device: table }))
    }

    /// Adds a parameter with its gradient, the states that the optimiser has, and its scalars.
    pub(super) fn push(&mut self, value: &Tensor, gradient: &Tensor, states: &[&Tensor], scalars: Scalars) {
        let address = |tensor: &Tensor| tensor.argument().address();
        let mut addresses = [0; 2];
        addresses.iter_mut().zip(states).for_each(|(to, state)| *to = address(state));
        self.parts.push(Part {
            value: address(value),
            gradient: address(gradient),
            states: addresses,
            n: u32::try_from(value.len()).expect("a parameter is counted in 32 bits"),
            first: self.blocks as u32,
            scalars,
        });
        self.blocks += value.len().div_ceil(CHUNK);
    }

    /// Launches kernels over what was added, and forgets it. `more`: arguments that follow the
    /// table.
    pub(super) fn run(&mut self, kernels: &[&'static str], more: &[Argument]) -> Result<()> {
        let Some(gpu) = gpu_of(&self.device)? else { return Ok(()) };
        self.device.upload::<u32>(0, bytemuck::cast_slice(&self.parts));
        let mut arguments = vec![self.device.argument(), self.parts.len().into()];
        arguments.extend_from_slice(more);
        let grid = Grid::blocks([self.blocks, 1, 1]);
        self.parts.clear();
        self.blocks = 0;
        kernels.iter().try_for_each(|kernel| gpu.launch(kernel, grid, &arguments))
    }
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
    table: Table,
    /// f64: of each chunk.
    parts: Tensor,
    /// f64 `[1]`
    total: Tensor,
}

impl Squares {
    /// For sums over at most as many tensors and chunks as there are of these lengths; none on the
    /// CPU.
    pub(super) fn new(device: Device, lengths: &[usize]) -> Result<Option<Self>> {
        let Some(table) = Table::new(device, lengths.len())? else { return Ok(None) };
        let chunks: usize = lengths.iter().map(|n| n.div_ceil(CHUNK)).sum();
        let parts = Tensor::zeros_on(device, [chunks.max(1)], DType::F64)?;
        Ok(Some(Squares { table, parts, total: Tensor::zeros_on(device, [1], DType::F64)? }))
    }

    /// Σ x² over all elements of the tensors, in f64 and in an order that their sizes fix. Waits
    /// for the GPU.
    pub(super) fn of<'a>(&mut self, context: &Context, tensors: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
        tensors.for_each(|tensor| self.table.push(tensor, tensor, &[], Scalars::default()));
        let chunks = self.table.blocks;
        self.table.run(&["squares"], &[self.parts.argument()])?;
        let arguments = [self.parts.argument(), self.total.argument(), chunks.into()];
        context.launch("squares_total", Grid::blocks([1, 1, 1]), &arguments)?;
        let total = self.total.scalar();
        context.synchronise()?;
        Ok(total)
    }
}
