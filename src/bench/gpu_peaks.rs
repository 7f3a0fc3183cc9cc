//! The peaks of a GPU: measured by kernels/probe.cu, on the simulated one as published.

use serde::Serialize;

use super::clock::{Effort, Stopwatch, time};
use super::format::Format;
use super::projection;
use crate::device::cuda::{self, Argument, Context, Grid};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Peaks of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuPeaks {
    pub name: String,
    /// Fused multiply-adds of f32 on registers, GFLOP/s.
    pub f32: f64,
    /// The same of bf16 by tensor cores, added to f32; none before compute capability 8.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bf16: Option<f64>,
    /// `a = b + s·c` over arrays that no cache holds, three transfers an element, GB/s.
    pub triad: f64,
    /// `measured`, or where the numbers were published.
    pub source: String,
}

/// Chains of every thread: `CHAINS` of kernels/probe.cu.
const PROBE_CHAINS: usize = 8;
/// Multiply-adds of a warp in one `mma.sync.m16n8k16`.
const FRAGMENT: usize = 16 * 8 * 16;
/// Threads of a warp.
const WARP: usize = 32;
/// Blocks for every multiprocessor: as many threads as it holds.
const BLOCKS: usize = 8;
/// Steps of a chain.
const STEPS: usize = 1 << 14;
/// Floats in each of the triad's arrays: 256 MiB, more than any cache.
const TRIAD: usize = 64 << 20;

impl GpuPeaks {
    /// Verifies the probes, then measures; on the simulated GPU nothing is measured.
    ///
    /// # Errors
    /// No such GPU, no memory for the arrays, what went wrong there, or a probe that computes
    /// something else.
    pub fn of(device: Device) -> Result<Self> {
        let Device::Cuda(ordinal) = device else { unreachable!("a CPU has peaks of its own") };
        let context = cuda::context(ordinal)?;
        let gpu = context.gpu();
        let probe = Probe { device, context, multiprocessors: gpu.multiprocessors.max(1) as usize };
        let rounds = context.check_precision(Precision::Bf16).is_ok();
        probe.verify(rounds)?;
        if cuda::is_simulated() {
            let published = projection::presented()?;
            return Ok(GpuPeaks {
                name: published.name,
                f32: published.f32_gflops,
                bf16: rounds.then_some(published.tensor_gflops),
                triad: published.memory_gbs,
                source: published.source,
            });
        }
        Ok(GpuPeaks {
            name: gpu.name.clone(),
            f32: probe.multiply_adds(Precision::Full)?,
            bf16: if rounds { Some(probe.multiply_adds(Precision::Bf16)?) } else { None },
            triad: probe.triad()?,
            source: "measured".into(),
        })
    }
}

struct Probe {
    device: Device,
    context: &'static Context,
    multiprocessors: usize,
}

/// The factor and the summand of the chains.
const BY: f32 = 0.5;

impl Probe {
    /// Sums of the chains of every thread.
    fn chains(&self, precision: Precision, sums: &Tensor, steps: usize) -> Result<()> {
        let kernel = match precision {
            Precision::Full => "probe_multiply_adds",
            Precision::Bf16 => "probe_multiply_adds_bf16",
        };
        let arguments = [sums.argument(), Argument::F32(BY), steps.into()];
        self.context.launch(kernel, Grid::elements(sums.len()), &arguments)
    }

    fn scaled(&self, [a, b, c]: [&Tensor; 3]) -> Result<()> {
        let quads = a.len() / 4;
        let arguments = [a.argument(), b.argument(), c.argument(), Argument::F32(BY), quads.into()];
        self.context.launch("probe_triad", Grid::elements(quads), &arguments)
    }

    /// All of them, in small, against the same on the CPU, bit for bit.
    fn verify(&self, rounds: bool) -> Result<()> {
        const FEW: usize = 32;
        let hold = |what: &str, found: &Tensor, right: f32| match found.to_f64().iter().all(|&x| x == f64::from(right))
        {
            true => Ok(()),
            false => Err(Error::CheckFailed {
                message: format!("probe of {what}: not {right}; nothing is timed that is not right"),
            }),
        };
        let sums = Tensor::zeros_on(self.device, [Grid::BLOCK], DType::F32)?;
        self.chains(Precision::Full, &sums, FEW)?;
        let chain = |c: usize| (0..FEW).fold(BY + c as f32, |x, _| x.mul_add(BY, BY));
        hold("multiply-adds", &sums, (0..PROBE_CHAINS).map(chain).sum())?;
        if rounds {
            self.chains(Precision::Bf16, &sums, FEW)?;
            // four elements of every chain; 16 products a step
            let chain = |c: usize| 4.0 * (c as f32 + FEW as f32 * 16.0 * BY * BY);
            hold("multiply-adds in bf16", &sums, (0..PROBE_CHAINS).map(chain).sum())?;
        }
        let of = |value: f32| Tensor::from_slice([FEW], &[value; FEW])?.to_device(self.device);
        let [a, b, c] = [of(0.0)?, of(1.0)?, of(3.0)?];
        self.scaled([&a, &b, &c])?;
        hold("bandwidth", &a, 1.0 + BY * 3.0)
    }

    /// GFLOP/s.
    fn multiply_adds(&self, precision: Precision) -> Result<f64> {
        let threads = BLOCKS * self.multiprocessors * Grid::BLOCK;
        let of_thread = match precision {
            Precision::Full => PROBE_CHAINS * STEPS,
            Precision::Bf16 => PROBE_CHAINS * STEPS * FRAGMENT / WARP,
        };
        let sums = Tensor::zeros_on(self.device, [threads], DType::F32)?;
        Ok((2 * threads * of_thread) as f64 / self.nanoseconds(|| self.chains(precision, &sums, STEPS))?)
    }

    /// GB/s.
    fn triad(&self) -> Result<f64> {
        let array = || Tensor::zeros_on(self.device, [TRIAD], DType::F32);
        let [a, b, c] = [array()?, array()?, array()?];
        Ok((3 * TRIAD * size_of::<f32>()) as f64 / self.nanoseconds(|| self.scaled([&a, &b, &c]))?)
    }

    /// Nanoseconds of one launch.
    fn nanoseconds(&self, launch: impl Fn() -> Result<()>) -> Result<f64> {
        let timing = time(Effort::SHORT, || {
            let watch = Stopwatch::begin(Format::F32.on(self.device))?;
            launch()?;
            watch.end()
        })?;
        Ok(1e9 * timing.best)
    }
}
