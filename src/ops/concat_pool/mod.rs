//! Concat pooling over the outputs of an encoder that was run in chunks.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::cuda::context;
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;
use crate::tensor::Tensor;

/// See [`concat_pool`].
pub struct ConcatPool;

/// How padding is treated (docs/SPEC.md §1.6). Let `end` be the step after the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Masking {
    /// fastai 0.7, the paper's code: documents end at `end`, padded at the front; pads enter mean
    /// and maximum. Pools `first .. end`; lengths play no part.
    #[serde(rename = "0.7")]
    Version07,
    /// fastai v1: documents end at `end`, padded at the front; real tokens only. Pools
    /// `max(first, end - length) .. end`.
    #[serde(rename = "v1")]
    Version1,
    /// fastai v2: documents begin at step 0, padded at the end; real tokens only. Pools
    /// `first .. length`.
    #[serde(rename = "v2")]
    Version2,
}

/// `y[b] = [h_last, max_t h_t, mean_t h_t]` over a span of the time steps of row `b` (paper eq. 4;
/// docs/SPEC.md §1.6, 1.7).
///
/// * `chunks`: `[T_c, B_c, E]` each, consecutive in time; `B_c` may shrink from chunk to chunk, but
///   never grows: chunk `c` holds the first `B_c` rows (tail-padded batches sorted by length,
///   descending). Every step that is pooled must be there.
/// * `start`: time of the first step of `chunks[0]` (earlier chunks only supplied state);
///   `end = start + Σ T_c`
/// * `lengths`: u32 `[B]`, tokens of each document, counted from its beginning (not from `start`)
/// * `first`: u32 `[B]`, time of the first step that may be pooled, `start ≤ first[b]`. Padded at
///   the front, all rows have the same, usually `start`; padded at the end, a document longer than
///   the cap has its own: of its last blocks' first step.
/// * `masking`: which of these steps count; it also decides where a document ends
///
/// Returns `y`: `[B, 3E]`. `h_last` is the last pooled step; among equal values the first is the
/// maximum. Gradients: all chunks (steps that are not pooled get 0). Sums run over time in order,
/// whatever the number of threads.
pub fn concat_pool(
    g: &mut Graph,
    chunks: &[Var],
    start: usize,
    lengths: Var,
    first: Var,
    masking: Masking,
) -> Result<Var> {
    let _span = crate::trace::operation("concat_pool");
    let fail = |argument, expected: String, found: String| Err(Error::shape("concat_pool", argument, expected, found));
    let Some(&chunk) = chunks.first() else {
        return fail("chunks", "at least one chunk".into(), "none".into());
    };
    let (dtype, shape) = (g.dtype(chunk), g.shape(chunk));
    let [_, rows, size] = *shape.dims() else { return fail("chunks", "[T, B, E]".into(), shape.to_string()) };
    let (mut end, mut held) = (start, rows);
    for &chunk in chunks {
        let shape = g.shape(chunk);
        let [steps, b, e] = *shape.dims() else { return fail("chunks", "[T, B, E]".into(), shape.to_string()) };
        if e != size || b > held || g.dtype(chunk) != dtype {
            let expected = format!("{dtype} [T, at most {held}, {size}]");
            return fail("chunks", expected, format!("{} {shape}", g.dtype(chunk)));
        }
        (end, held) = (end + steps, b);
    }
    for (argument, var) in [("lengths", lengths), ("first", first)] {
        if g.dtype(var) != DType::U32 || g.shape(var).dims() != [rows] {
            return fail(argument, format!("u32 [{rows}]"), format!("{} {}", g.dtype(var), g.shape(var)));
        }
    }
    // [B, 2]: first pooled step, and the step after the last
    let mut spans = match g.device() {
        Device::Cpu => g.uninitialised([rows, 2], DType::U32)?,
        Device::Cuda(_) => Tensor::zeros([rows, 2], DType::U32)?,
    };
    {
        let (lengths, first, mut spans) =
            (g.tensor(lengths).read::<u32>(), g.tensor(first).read::<u32>(), spans.write::<u32>());
        for (row, span) in spans.chunks_exact_mut(2).enumerate() {
            let (length, first) = (lengths[row] as usize, first[row] as usize);
            if masking != Masking::Version07 && !(1..=end).contains(&length) {
                return fail("lengths", format!("1 to {end}"), format!("{length} in row {row}"));
            }
            let (from, to) = match masking {
                Masking::Version07 => (first, end),
                Masking::Version1 => (first.max(end - length), end),
                Masking::Version2 => (first, length),
            };
            if first < start || first >= to {
                return fail("first", format!("{start} or more, and below {to}"), format!("{first} in row {row}"));
            }
            let mut begin = start;
            for &chunk in chunks {
                let (steps, held) = (g.shape(chunk).dims()[0], g.shape(chunk).dims()[1]);
                if row >= held && from < begin + steps && begin < to {
                    let expected =
                        format!("such that row {row}, pooled over {from}..{to}, is in the chunk at step {begin}");
                    return fail("chunks", expected, format!("{held} rows"));
                }
                begin += steps;
            }
            (span[0], span[1]) = (from as u32, to as u32);
        }
    }
    let y = g.uninitialised([rows, 3 * size], dtype)?;
    let argmax = g.uninitialised([rows, size], DType::U32)?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("concat_pool", "chunks", dtype, T => {
            let mut begin = start;
            for &chunk in chunks {
                let x = g.tensor(chunk);
                let part = cpu::Chunk { begin, steps: x.dims()[0], rows: x.dims()[1], size };
                cpu::forward(part, &x.read::<T>(), &spans.read(), &mut y.write::<T>(), &mut argmax.write());
                begin += part.steps;
            }
        }),
        Device::Cuda(gpu) => {
            spans = gpu::indices(g, &spans)?;
            let mut begin = start;
            for &chunk in chunks {
                let x = g.tensor(chunk);
                let part = cpu::Chunk { begin, steps: x.dims()[0], rows: x.dims()[1], size };
                cuda::forward(context(gpu)?, part, x, &spans, &y, &argmax)?;
                begin += part.steps;
            }
        }
    }
    g.record(&ConcatPool, chunks, &[&spans, &argmax], Attributes::pack(start as u64), y)
}

impl Operation for ConcatPool {
    fn name(&self) -> &'static str {
        "concat_pool"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let (spans, argmax): (Tensor, Tensor) = (b.saved(0).clone(), b.saved(1).clone());
        let size = argmax.dims()[1];
        let mut begin = b.attributes::<u64>() as usize;
        for i in 0..b.inputs() {
            let dims = b.input(i).shape();
            let part = cpu::Chunk { begin, steps: dims.dims()[0], rows: dims.dims()[1], size };
            if let Some((dx, store)) = b.grad_input(i)? {
                match b.device() {
                    Device::Cpu if !b.computes() => {}
                    Device::Cpu => real_type!("concat_pool", "chunks", dy.dtype(), T => {
                        cpu::backward(part, &dy.read::<T>(), &spans.read(), &argmax.read(), &mut dx.write::<T>(), store);
                    }),
                    Device::Cuda(gpu) => cuda::backward(context(gpu)?, part, &dy, &spans, &argmax, &dx, store)?,
                }
            }
            begin += part.steps;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
