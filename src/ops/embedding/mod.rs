//! Embedding with row dropout and locked input dropout (docs/SPEC.md §1.2).

pub mod cases;
mod cpu;
mod cuda;

use super::mask::{Dropout, DropoutWords};
use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;
use crate::tensor::{DType, Tensor};

/// See [`embedding`].
pub struct Embedding;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Words {
    rows: DropoutWords,
    input: DropoutWords,
    /// `u32::MAX` for none.
    pad: u32,
    zero: u32,
}

/// `y[t, b, e] = w[tokens[t, b], e] · row[tokens[t, b]] · input[b, e]`.
///
/// * `tokens`: u32 `[T, B]`, each below V
/// * `w`: `[V, E]`
/// * `rows`: dropout of whole word types, mask `(V, 1)`: a dropped word is dropped wherever it
///   stands (`dropoute`)
/// * `input`: locked dropout, mask `(B, E)`, the same at every step (`dropouti`)
/// * `pad`: a row whose gradient stays zero
///
/// Returns `y`: `[T, B, E]`. Gradient: `w`.
pub fn embedding(
    g: &mut Graph,
    tokens: &Tensor,
    w: Var,
    rows: &Dropout,
    input: &Dropout,
    pad: Option<u32>,
) -> Result<Var> {
    let _span = crate::trace::operation("embedding");
    let ws = g.shape(w);
    let [v, e] = *ws.dims() else { return Err(Error::shape("embedding", "w", "[V, E]", ws)) };
    let [t, b] = *tokens.dims() else { return Err(Error::shape("embedding", "tokens", "[T, B]", tokens.shape())) };
    if tokens.dtype() != DType::U32 {
        return Err(Error::shape("embedding", "tokens", "u32", tokens.dtype()));
    }
    if let Some(&bad) = tokens.read::<u32>().iter().find(|&&token| token as usize >= v) {
        return Err(Error::shape("embedding", "tokens", format!("below {v}"), bad));
    }
    rows.check("embedding", "rows", v, 1)?;
    input.check("embedding", "input", b, e)?;
    let dtype = g.dtype(w);
    let y = g.uninitialised([t, b, e], dtype)?;
    // the part of them that the backward reads
    let mut tokens = tokens.clone();
    match g.device() {
        Device::Cpu => real_type!("embedding", "w", dtype, T => {
            let locked = g.uninitialised([b, e], dtype)?;
            if g.computes() {
                input.fill::<T>(e, &mut locked.write::<T>());
                cpu::forward::<T>(&tokens.read::<u32>(), &g.tensor(w).read::<T>(), rows, &locked.read::<T>(), b, e, &mut y.write::<T>());
            }
        }),
        Device::Cuda(gpu) => {
            let there = gpu::indices(g, &tokens)?;
            let masks = cuda::Masks::new(rows, input, |mask| g.counters(mask))?;
            cuda::forward(context(gpu)?, &there, g.tensor(w), &masks, &y)?;
            if g.needs_any(&[w]) {
                tokens = gpu::sorted_places(g, &[&tokens])?;
            }
        }
    }
    let words = Words { rows: rows.words(), input: input.words(), pad: pad.unwrap_or(u32::MAX), zero: 0 };
    let mut saved = [&tokens; 3];
    let mut count = 1;
    for given in [rows.given(), input.given()].into_iter().flatten() {
        saved[count] = given;
        count += 1;
    }
    g.record(&Embedding, &[w], &saved[..count], Attributes::pack(words), y)
}

impl Operation for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let words: Words = b.attributes();
        let tokens = b.saved(0).clone();
        let mut next = 1;
        let mut given = |b: &Backward| {
            next += 1;
            b.saved(next - 1).clone()
        };
        let rows = Dropout::from_words(words.rows, || given(b));
        let input = Dropout::from_words(words.input, || given(b));
        let (batch, e) = (dy.dims()[1], dy.dims()[2]);
        if let Device::Cuda(gpu) = b.device() {
            let Some((dw, store)) = b.grad_input(0)? else { return Ok(()) };
            let masks = cuda::Masks::new(&rows, &input, |mask| b.counters(mask))?;
            return cuda::backward(context(gpu)?, &tokens, &dy, &masks, words.pad, (&dw, store));
        }
        let locked = b.scratch([batch, e], dy.dtype())?;
        if let Some((dw, store)) = b.grad_input(0)?
            && b.computes()
        {
            real_type!("embedding", "w", dy.dtype(), T => {
                input.fill::<T>(e, &mut locked.write::<T>());
                cpu::backward::<T>(
                    &tokens.read::<u32>(), &dy.read::<T>(), &rows, &locked.read::<T>(), batch, e, words.pad, &mut dw.write::<T>(), store,
                );
            });
        }
        Ok(())
    }
}
