//! `y = x·Wᵀ + b`, PyTorch's `Linear`.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Keep, Operation, Var};
use crate::device::Device;
use crate::device::cpu::gemm::Onto;
use crate::device::cpu::int8;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::Products;
use crate::real_type;

/// See [`linear`].
pub struct Linear;

/// `y[n, o] = Σ_i x[n, i]·w[o, i] + b[o]`.
///
/// * `x`: `[.., I]`, all leading axes are rows
/// * `w`: `[O, I]`
/// * `b`: `[O]`, or none
///
/// Returns `y`: `[.., O]`. Gradients: all inputs.
pub fn linear(g: &mut Graph, x: Var, w: Var, b: Option<Var>) -> Result<Var> {
    let _span = crate::trace::operation("linear");
    let (xs, ws) = (g.shape(x), g.shape(w));
    let [outputs, inputs] = *ws.dims() else { return Err(Error::shape("linear", "w", "[O, I]", ws)) };
    if xs.rank() == 0 || xs.dims()[xs.rank() - 1] != inputs {
        return Err(Error::shape("linear", "x", format!("[.., {inputs}]"), xs));
    }
    if let Some(b) = b
        && g.shape(b).dims() != [outputs]
    {
        return Err(Error::shape("linear", "b", format!("[{outputs}]"), g.shape(b)));
    }
    let y = g.uninitialised(xs.with_last(outputs), g.dtype(x))?;
    g.multiplies([xs.len() / inputs.max(1), outputs, inputs]);
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!("linear", "x", g.dtype(x), T => {
            let bias = b.map(|b| g.tensor(b).read::<T>());
            cpu::forward(g.precision(), &g.tensor(x).read::<T>(), &g.tensor(w).read::<T>(), bias.as_deref(), [outputs, inputs], &mut y.write::<T>());
        }),
        Device::Cuda(gpu) => {
            let keep = if g.needs_any(&[w]) { Keep::Step } else { Keep::Not };
            let (x, w, b) = (g.tensor(x).clone(), g.tensor(w).clone(), b.map(|b| g.tensor(b).clone()));
            cuda::forward(&mut Products::new(context(gpu)?, g)?, [&x, &w], b.as_ref(), &y, keep)?;
        }
    }
    let (all, two) = ([x, w, b.unwrap_or(w)], [x, w]);
    g.record(&Linear, if b.is_some() { &all } else { &two }, &[], Attributes::none(), y)
}

/// As [`linear`], its weight in 8 bits and every row of `x` with a scale of its own, where the
/// graph has [such weights](Graph::has_int8_weights); elsewhere the same as it. For the layers of
/// encoders: heads stay as they are.
///
/// # Errors
/// As [`linear`]; an operation is recorded.
pub fn linear_of_encoder(g: &mut Graph, x: Var, w: Var, b: Var) -> Result<Var> {
    if !g.has_int8_weights() || g.device() != Device::Cpu {
        return linear(g, x, w, Some(b));
    }
    const NAME: &str = "linear";
    let _span = crate::trace::operation(NAME);
    crate::ops::int8::check(NAME, g, &[w])?;
    let (xs, ws) = (g.shape(x), g.shape(w));
    let [outputs, inputs] = *ws.dims() else { return Err(Error::shape(NAME, "w", "[O, I]", ws)) };
    if xs.dims().last() != Some(&inputs) || g.shape(b).dims() != [outputs] {
        return Err(Error::shape(NAME, "x", format!("[.., {inputs}]"), xs));
    }
    let rows = xs.len() / inputs.max(1);
    let y = g.uninitialised(xs.with_last(outputs), g.dtype(x))?;
    let packed = crate::ops::int8::packed(g, w)?;
    g.multiplies([rows, outputs, inputs]);
    real_type!(NAME, "x", g.dtype(x), T => {
        let left = g.uninitialised([int8::left_len::<T>(rows, inputs)], g.dtype(x))?;
        if g.computes() {
            let (packed, bias, mut y) = (packed.read::<T>(), g.tensor(b).read::<T>(), y.write::<T>());
            let mut left = left.write::<T>();
            let mut left = int8::Left::new(&mut left, rows, inputs);
            left.quantise(&g.tensor(x).read::<T>());
            let weights = int8::Weights::new(&packed, outputs, inputs);
            int8::multiply(&left, rows, &weights, &mut y, Onto::Row(&bias));
        }
    });
    g.record(&Linear, &[x, w, b], &[], Attributes::none(), y)
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let (x, w) = (b.input(0).clone(), b.input(1).clone());
        let (outputs, inputs) = (w.dims()[0], w.dims()[1]);
        if let Device::Cuda(gpu) = b.device() {
            let gpu = context(gpu)?;
            let upstream = cuda::upstream(&mut Products::new(gpu, b.graph())?, &dy, outputs)?;
            if let Some((dx, store)) = b.grad_input(0)? {
                cuda::backward_input(&mut Products::new(gpu, b.graph())?, &upstream, &w, &dx, store)?;
            }
            if let Some((dw, store)) = b.grad_input(1)? {
                cuda::backward_weight(&mut Products::new(gpu, b.graph())?, &upstream, &x, &dw, store)?;
            }
            if b.inputs() > 2
                && let Some((db, store)) = b.grad_input(2)?
            {
                cuda::backward_bias(gpu, &dy, &db, store)?;
            }
            return Ok(());
        }
        let [dx, dw] = [b.grad_input(0)?, b.grad_input(1)?];
        let db = if b.inputs() > 2 { b.grad_input(2)? } else { None };
        let rows = x.len() / inputs.max(1);
        for (wanted, product) in [(dx.is_some(), [rows, inputs, outputs]), (dw.is_some(), [outputs, inputs, rows])] {
            if wanted {
                b.multiplies(product);
            }
        }
        if !b.computes() {
            return Ok(());
        }
        real_type!("linear", "x", x.dtype(), T => {
            if let Some((dx, store)) = dx {
                cpu::backward_input(b.precision(), &dy.read::<T>(), &w.read::<T>(), [outputs, inputs], &mut dx.write::<T>(), store);
            }
            if let Some((dw, store)) = dw {
                cpu::backward_weight(b.precision(), &dy.read::<T>(), &x.read::<T>(), [outputs, inputs], &mut dw.write::<T>(), store);
            }
            if let Some((db, store)) = db {
                cpu::backward_bias(&dy.read::<T>(), outputs, &mut db.write::<T>(), store);
            }
        });
        Ok(())
    }
}
