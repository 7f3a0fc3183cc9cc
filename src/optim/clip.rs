//! Clipping by the global norm of the gradients, and the search for gradients that are not finite.

use rayon::prelude::*;

use super::{CHUNK, cuda};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::real_type;
use crate::tensor::{Device, Real, Tensor};
use crate::trace;

/// L2 norm over the gradients of all trainable parameters, with its scratch memory.
#[derive(Debug)]
pub struct GradientNorm {
    /// Sum of squares of each chunk of one parameter (CPU).
    partial: Vec<f64>,
    /// Sum of squares of the gradients of each layer group, of the last call; none where the group
    /// has no gradient (CPU).
    groups: Vec<Option<f64>>,
    /// The same for all parameters (GPU).
    squares: Option<cuda::Squares>,
}

impl GradientNorm {
    pub fn new(parameters: &Parameters) -> Result<Self> {
        // as much as all values need: [`first_non_finite_value`](Self::first_non_finite_value)
        let lengths: Vec<usize> = parameters.ids().map(|id| parameters.value(id).len()).collect();
        let squares = cuda::Squares::new(parameters.device(), &lengths)?;
        let chunks = |id| parameters.gradient(id).len().div_ceil(CHUNK);
        let most = if squares.is_some() { 0 } else { parameters.ids().map(chunks).max().unwrap_or(0) };
        Ok(GradientNorm { partial: vec![0.0; most], groups: vec![None; parameters.groups()], squares })
    }

    /// The norm of the gradients of a layer group at the last [`compute`](Self::compute); none
    /// where they were not asked for, and on a GPU.
    pub fn of_group(&self, group: usize) -> Option<f64> {
        self.groups[group].map(f64::sqrt)
    }

    /// The norm of the trainable values of a layer group, in the same order of sums; on the CPU
    /// alone.
    ///
    /// # Errors
    /// Values of a type without arithmetic.
    pub fn of_values(&mut self, parameters: &Parameters, group: usize) -> Result<f64> {
        let mut total = 0.0;
        for id in parameters.ids().filter(|&id| parameters.group(id) == group && !parameters.is_buffer(id)) {
            real_type!("norm of weights", "value", parameters.dtype(), T => {
                total += squares_of(&parameters.value(id).read::<T>(), &mut self.partial);
            });
        }
        Ok(total.sqrt())
    }

    /// The norm, summed in f64 in an order that does not depend on threads. It is finite if and
    /// only if every gradient is (f32). On a GPU this waits for the launches before.
    pub fn compute(&mut self, parameters: &Parameters) -> Result<f64> {
        let _span = trace::operation("gradient_norm");
        if let (Some(squares), Device::Cuda(gpu)) = (&mut self.squares, parameters.device()) {
            let trained = |&id: &ParameterId| parameters.is_trainable(id) && parameters.has_gradient(id);
            let gradients = parameters.ids().filter(trained).map(|id| parameters.gradient(id));
            return Ok(squares.of(crate::device::cuda::context(gpu)?, gradients)?.sqrt());
        }
        let mut total = 0.0;
        self.groups.fill(None);
        for id in parameters.ids() {
            if !parameters.is_trainable(id) || !parameters.has_gradient(id) {
                continue;
            }
            real_type!("gradient norm", "gradient", parameters.dtype(), T => {
                let g = parameters.gradient(id).read::<T>();
                let _span = trace::phase(trace::SUMS).elements::<T>(g.len());
                let sum = squares_of(&g, &mut self.partial);
                total += sum;
                *self.groups[parameters.group(id)].get_or_insert(0.0) += sum;
            });
        }
        Ok(total.sqrt())
    }

    /// The first parameter or buffer with a value that is NaN or infinite.
    pub fn first_non_finite_value(&mut self, parameters: &Parameters) -> Result<Option<ParameterId>> {
        for id in parameters.ids() {
            let value = parameters.value(id);
            let finite = match (&mut self.squares, cuda::gpu_of(value)?) {
                (Some(squares), Some(gpu)) => squares.of(gpu, std::iter::once(value))?.is_finite(),
                _ => real_type!("parameters", "value", parameters.dtype(), T => {
                    value.read::<T>().iter().all(|x| x.is_finite())
                }),
            };
            if !finite {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// Σ x² over chunks, in parallel; `partial` has room for the sum of each chunk.
fn squares_of<T: Real>(values: &[T], partial: &mut [f64]) -> f64 {
    let partial = &mut partial[..values.len().div_ceil(CHUNK)];
    values.par_chunks(CHUNK).zip(partial.par_iter_mut()).for_each(|(x, sum)| *sum = sum_of_squares(x));
    partial.iter().sum()
}

/// Eight interleaved sums (so that the loop runs on vectors), added pairwise.
fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let mut groups = values.chunks_exact(8);
    for group in &mut groups {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane += x.to_f64() * x.to_f64();
        }
    }
    for (lane, x) in lanes.iter_mut().zip(groups.remainder()) {
        *lane += x.to_f64() * x.to_f64();
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// The factor of all gradients, so that their norm is at most `limit`:
/// `min(1, limit/(norm + 1e-6))`, as PyTorch. No limit: 1.
pub fn clip_scale(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// Multiplies the gradients of all trainable parameters, for those who want to see clipped
/// gradients; training uses [`StepRates::gradient_scale`](super::StepRates::gradient_scale)
/// instead.
pub fn scale_gradients(parameters: &mut Parameters, scale: f64) -> Result<()> {
    for id in parameters.ids() {
        if parameters.is_trainable(id) && parameters.has_gradient(id) {
            if let Some(gpu) = cuda::gpu_of(parameters.gradient(id))? {
                cuda::scale(gpu, scale as f32, parameters.gradient(id))?;
                continue;
            }
            real_type!("clip", "gradient", parameters.dtype(), T => {
                let scale = T::from_f64(scale);
                let mut g = parameters.gradient(id).write::<T>();
                g.par_chunks_mut(CHUNK).for_each(|g| g.iter_mut().for_each(|x| *x *= scale));
            });
        }
    }
    Ok(())
}

/// The first trainable parameter with a gradient that is NaN or infinite, and the first such
/// element. From a GPU the gradients are copied.
pub fn first_non_finite(parameters: &Parameters) -> Result<Option<(ParameterId, usize)>> {
    for id in parameters.ids() {
        if parameters.is_trainable(id) && parameters.has_gradient(id) {
            let gradient: Tensor = parameters.gradient(id).to_device(Device::Cpu)?;
            let found = real_type!("non-finite", "gradient", parameters.dtype(), T => {
                gradient.read::<T>().iter().position(|x| !x.is_finite())
            });
            if let Some(index) = found {
                return Ok(Some((id, index)));
            }
        }
    }
    Ok(None)
}
