//! Weight drop and LSTM over a whole sequence, in one operation (docs/SPEC.md §1.1, §1.2).

pub mod cases;
mod cpu;
mod cuda;
mod int8;
pub mod plan;

use super::mask::{Dropout, DropoutWords};
use crate::autodiff::{Attributes, Backward, Graph, Keep, Operation, Store, Var};
use crate::device::Device;
use crate::device::cpu::gemm::{Matrix, Packed, pack};
use crate::device::cpu::int8::Weights;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::{MaskWords, Products, put_scaled};
use crate::real_type;
use crate::tensor::{Real, Tensor};

/// See [`lstm`].
pub struct Lstm;

/// Inputs of [`lstm`]. B batch, T steps, I input size, H hidden size; gates are stacked i, f, g, o
/// (PyTorch's order).
#[derive(Clone, Copy, Debug)]
pub struct LstmInputs {
    /// `[T, B, I]`
    pub x: Var,
    /// `[B, H]`
    pub h0: Var,
    /// `[B, H]`
    pub c0: Var,
    /// `[4H, I]`
    pub w_ih: Var,
    /// `[4H, H]`
    pub w_hh: Var,
    /// `[4H]`
    pub b_ih: Var,
    /// `[4H]`
    pub b_hh: Var,
}

/// Outputs of [`lstm`].
#[derive(Clone, Copy, Debug)]
pub struct LstmOutputs {
    /// `h` of every step, `[T, B, H]`
    pub y: Var,
    /// `h` after the last step, `[B, H]`
    pub h: Var,
    /// `c` after the last step, `[B, H]`
    pub c: Var,
}

/// Sizes of one execution.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Sizes {
    t: usize,
    b: usize,
    i: usize,
    h: usize,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Words {
    sizes: Sizes,
    weight: DropoutWords,
}

/// One LSTM layer over T steps, its hidden-to-hidden weight dropped element by element with one
/// mask for all steps (DropConnect):
///
/// ```text
/// z_t = W_ih·x_t + b_ih + (W_hh ⊙ mask)·h_{t-1} + b_hh        i, f, o = σ(z)   g = tanh(z)
/// c_t = f ⊙ c_{t-1} + i ⊙ g                                    h_t = o ⊙ tanh(c_t)
/// ```
///
/// `weight`: mask `(4H, H)`. Gradients: all seven inputs; that of `w_hh` is of the raw weight, so
/// it is zero exactly where the mask is. Saved: the activated gates `[T, B, 4H]` and the cell
/// states `[T, B, H]`; the backward pass turns the gates into their gradients in place and draws
/// the mask again.
pub fn lstm(g: &mut Graph, inputs: LstmInputs, weight: &Dropout) -> Result<LstmOutputs> {
    const NAME: &str = "lstm";
    let _span = crate::trace::operation(NAME);
    let LstmInputs { x, h0, c0, w_ih, w_hh, b_ih, b_hh } = inputs;
    let xs = g.shape(x);
    let [t, b, i] = *xs.dims() else { return Err(Error::shape(NAME, "x", "[T, B, I]", xs)) };
    let h = g.shape(w_hh).dims().last().copied().unwrap_or(0);
    let expected: [(&str, Var, &[usize]); 6] = [
        ("h0", h0, &[b, h]),
        ("c0", c0, &[b, h]),
        ("w_ih", w_ih, &[4 * h, i]),
        ("w_hh", w_hh, &[4 * h, h]),
        ("b_ih", b_ih, &[4 * h]),
        ("b_hh", b_hh, &[4 * h]),
    ];
    for (name, var, dims) in expected {
        if g.shape(var).dims() != dims || g.dtype(var) != g.dtype(x) {
            let found = format!("{} {}", g.dtype(var), g.shape(var));
            return Err(Error::shape(NAME, name, format!("{} {dims:?}", g.dtype(x)), found));
        }
    }
    if t == 0 {
        return Err(Error::shape(NAME, "x", "at least one step", xs));
    }
    weight.check(NAME, "weight", 4 * h, h)?;
    let dtype = g.dtype(x);
    let sizes = Sizes { t, b, i, h };
    let y = g.uninitialised([t, b, h], dtype)?;
    let (h_n, c_n) = (g.uninitialised([b, h], dtype)?, g.uninitialised([b, h], dtype)?);
    let gates = g.uninitialised([t, b, 4 * h], dtype)?;
    let cells = g.uninitialised([t, b, h], dtype)?;
    match g.device() {
        Device::Cpu if g.has_int8_weights() => {
            crate::ops::int8::check(NAME, g, &[w_ih, w_hh])?;
            if !weight.is_off() {
                return Err(crate::ops::int8::for_prediction());
            }
            let [input, recurrent] = [w_ih, w_hh].map(|w| crate::ops::int8::packed(g, w));
            let (input, recurrent) = (input?, recurrent?);
            g.multiplies([t * b, 4 * h, i]);
            g.multiplies([t * b, 4 * h, h]);
            let bias = g.uninitialised([4 * h], dtype)?;
            real_type!(NAME, "x", dtype, T => {
                let left = g.uninitialised([int8::left_of::<T>(sizes)], dtype)?;
                if g.computes() {
                    cpu::add(&g.tensor(b_ih).read::<T>(), &g.tensor(b_hh).read::<T>(), &mut bias.write::<T>());
                    let (input, recurrent) = (input.read::<T>(), recurrent.read::<T>());
                    int8::forward::<T>(
                        cpu::Layer {
                            sizes,
                            x: &g.tensor(x).read::<T>(),
                            h0: &g.tensor(h0).read::<T>(),
                            c0: &g.tensor(c0).read::<T>(),
                            w_ih: &[],
                            precision: g.precision(),
                        },
                        &bias.read::<T>(),
                        &Weights::new(&recurrent, 4 * h, h),
                        &Weights::new(&input, 4 * h, i),
                        cpu::Trace { y: &mut y.write::<T>(), gates: &mut gates.write::<T>(), cells: &mut cells.write::<T>() },
                        &mut left.write::<T>(),
                    );
                    h_n.write::<T>().copy_from_slice(&y.read::<T>()[(t - 1) * b * h..]);
                    c_n.write::<T>().copy_from_slice(&cells.read::<T>()[(t - 1) * b * h..]);
                }
            });
        }
        Device::Cpu => real_type!(NAME, "x", dtype, T => {
            let precision = g.precision();
            let [input_len, recurrent_len] = cpu::packed_lens::<T>(precision, sizes);
            let (w_ih, w_hh) = (g.tensor(w_ih).clone(), g.tensor(w_hh).clone());
            let pack = |w: &Tensor, to: &Tensor| cpu::pack_transposed::<T>(precision, &w.read::<T>(), h, &mut to.write::<T>());
            // a weight that nothing is dropped from needs no copy; of a constant one what is packed
            // is kept
            let recurrent = if weight.is_off() && !g.is_recording() {
                g.packed(&w_hh, "recurrence", recurrent_len, |to| pack(&w_hh, to))?
            } else {
                let dropped = g.uninitialised([4 * h, h], dtype)?;
                let packed = g.uninitialised([recurrent_len], dtype)?;
                if g.computes() {
                    cpu::drop_weight::<T>(&w_hh.read::<T>(), weight, h, &mut dropped.write::<T>());
                    pack(&dropped, &packed);
                }
                packed
            };
            let input = if g.keeps_packed() {
                Some(g.packed(&w_ih, "input", input_len, |to| pack(&w_ih, to))?)
            } else {
                None
            };
            let bias = g.uninitialised([4 * h], dtype)?;
            g.multiplies([t * b, 4 * h, i]);
            g.multiplies([t * b, 4 * h, h]);
            if g.computes() {
                cpu::add(&g.tensor(b_ih).read::<T>(), &g.tensor(b_hh).read::<T>(), &mut bias.write::<T>());
                let (recurrent, input) = (recurrent.read::<T>(), input.as_ref().map(|input| input.read::<T>()));
                cpu::forward::<T>(
                    cpu::Layer {
                        sizes,
                        x: &g.tensor(x).read::<T>(),
                        h0: &g.tensor(h0).read::<T>(),
                        c0: &g.tensor(c0).read::<T>(),
                        w_ih: &w_ih.read::<T>(),
                        precision,
                    },
                    &bias.read::<T>(),
                    Packed::new(precision, &recurrent, h, 4 * h),
                    input.as_deref().map(|input| Packed::new(precision, input, i, 4 * h)),
                    cpu::Trace { y: &mut y.write::<T>(), gates: &mut gates.write::<T>(), cells: &mut cells.write::<T>() },
                );
                h_n.write::<T>().copy_from_slice(&y.read::<T>()[(t - 1) * b * h..]);
                c_n.write::<T>().copy_from_slice(&cells.read::<T>()[(t - 1) * b * h..]);
            }
        }),
        Device::Cuda(gpu) => {
            let gpu = context(gpu)?;
            let [x, h0, c0, w_ih, w_hh] = [x, h0, c0, w_ih, w_hh].map(|v| g.tensor(v).clone());
            let biases = [b_ih, b_hh].map(|v| g.tensor(v).clone());
            let words = MaskWords::of(weight, |mask| g.counters(mask))?;
            let layer = cuda::Layer { sizes, x: &x, h0: &h0, c0: &c0, w_ih: &w_ih, w_hh: &w_hh, weight, words };
            let keep = if g.needs_any(&[inputs.w_ih]) { Keep::Step } else { Keep::Not };
            let products = &mut Products::new(gpu, g)?;
            layer.forward(products, biases.each_ref(), [&y, &gates, &cells], keep)?;
            h_n.copy_elements(0, &y, (t - 1) * b * h, b * h);
            c_n.copy_elements(0, &cells, (t - 1) * b * h, b * h);
        }
    }
    let saved = [&gates, &cells, weight.given().unwrap_or(&gates)];
    let saved = if weight.given().is_some() { &saved[..] } else { &saved[..2] };
    let words = Attributes::pack(Words { sizes, weight: weight.words() });
    let [y, h, c] = g.record_many(&Lstm, &[x, h0, c0, w_ih, w_hh, b_ih, b_hh], saved, words, [y, h_n, c_n])?;
    Ok(LstmOutputs { y, h, c })
}

impl Operation for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn saturation(&self, saved: &[Option<Tensor>]) -> Result<Option<f64>> {
        let Some(Some(gates)) = saved.first() else { return Ok(None) };
        let hidden = gates.shape().dims().last().map_or(0, |width| width / 4);
        let (mut near, mut all) = (0usize, 0usize);
        real_type!("lstm", "gates", gates.dtype(), T => {
            let (low, high) = (T::from_f64(0.01), T::from_f64(0.99));
            for row in gates.read::<T>().chunks_exact(4 * hidden.max(1)) {
                // i, f and o; g is a value, not a gate
                let squashed = row[..2 * hidden].iter().chain(&row[3 * hidden..]);
                near += squashed.filter(|&x| !(low..=high).contains(x)).count();
                all += 3 * hidden;
            }
        });
        Ok((all > 0).then(|| near as f64 / all as f64))
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Words { sizes, weight } = b.attributes();
        let Sizes { t, b: batch, i, h } = sizes;
        let weight = Dropout::from_words(weight, || b.saved(2).clone());
        let (gates, cells) = (b.take_saved(0), b.take_saved(1));
        let (x, h0, c0) = (b.input(0).clone(), b.input(1).clone(), b.input(2).clone());
        let (w_ih, w_hh, y) = (b.input(3).clone(), b.input(4).clone(), b.output(0).clone());
        let dtype = x.dtype();
        let upstream: [Option<_>; 3] = std::array::from_fn(|k| b.grad_output(k).cloned());
        if let Device::Cuda(gpu) = b.device() {
            let gpu = context(gpu)?;
            let carried = cuda::Carried::new(b, sizes)?;
            let words = MaskWords::of(&weight, |mask| b.counters(mask))?;
            let layer =
                cuda::Layer { sizes, x: &x, h0: &h0, c0: &c0, w_ih: &w_ih, w_hh: &w_hh, weight: &weight, words };
            let products = &mut Products::new(gpu, b.graph())?;
            let dz = layer.backward_recurrence(products, &upstream, [&cells, &gates], &carried)?;
            if let Some((dx, store)) = b.grad_input(0)? {
                layer.backward_input(&mut Products::new(gpu, b.graph())?, &dz, &dx, store)?;
            }
            for (k, of_state) in [(1, carried.dh()), (2, carried.dc())] {
                if let Some((d, store)) = b.grad_input(k)? {
                    put_scaled(gpu, of_state, 1.0, d.argument(), batch * h, store)?;
                }
            }
            if let Some((dw, store)) = b.grad_input(3)? {
                layer.backward_w_ih(&mut Products::new(gpu, b.graph())?, &dz, &dw, store)?;
            }
            if let Some((dw, store)) = b.grad_input(4)? {
                let total = b.scratch([4 * h, h], dtype)?;
                layer.backward_w_hh(&mut Products::new(gpu, b.graph())?, &dz, &y, &total, (&dw, store))?;
            }
            let biases = [b.grad_input(5)?, b.grad_input(6)?];
            return layer.backward_biases(gpu, &gates, biases);
        }
        real_type!("lstm", "x", dtype, T => {
            let precision = b.precision();
            let dropped = b.scratch([4 * h, h], dtype)?;
            let [_, packed] = cpu::packed_lens::<T>(precision, sizes);
            let packed = b.scratch([packed], dtype)?;
            let (dh, dc) = (b.scratch([batch, h], dtype)?, b.scratch([batch, h], dtype)?);
            let sums = b.scratch([4 * h], dtype)?;
            let [dx, dh0, dc0, dw_ih] = [b.grad_input(0)?, b.grad_input(1)?, b.grad_input(2)?, b.grad_input(3)?];
            let [dw_hh, db_ih, db_hh] = [b.grad_input(4)?, b.grad_input(5)?, b.grad_input(6)?];
            b.multiplies([t * batch, h, 4 * h]);
            let [input, recurrent] = [i, h].map(|columns| [4 * h, columns, t * batch]);
            for (wanted, product) in
                [(dx.is_some(), [t * batch, i, 4 * h]), (dw_ih.is_some(), input), (dw_hh.is_some(), recurrent)]
            {
                if wanted {
                    b.multiplies(product);
                }
            }
            if !b.computes() {
                return Ok(());
            }
            cpu::drop_weight::<T>(&w_hh.read::<T>(), &weight, h, &mut dropped.write::<T>());
            {
                let views: [Option<_>; 3] = std::array::from_fn(|k| upstream[k].as_ref().map(|d| d.read::<T>()));
                let (mut packed, dropped) = (packed.write::<T>(), dropped.read::<T>());
                cpu::backward_recurrence::<T>(
                    sizes,
                    pack(precision, Matrix::new(&dropped, 4 * h, h), &mut packed),
                    &c0.read::<T>(),
                    cpu::Upstream { dy: views[0].as_deref(), dh: views[1].as_deref(), dc: views[2].as_deref() },
                    &cells.read::<T>(),
                    cpu::Carried { gates: &mut gates.write::<T>(), dh: &mut dh.write::<T>(), dc: &mut dc.write::<T>() },
                );
            }
            let dz = gates.read::<T>();
            if let Some((dx, store)) = dx {
                cpu::product(precision, &dz, &w_ih.read::<T>(), t * batch, 4 * h, &mut dx.write::<T>(), store);
            }
            for (d, carried) in [(dh0, &dh), (dc0, &dc)] {
                if let Some((d, store)) = d {
                    cpu::put(&carried.read::<T>(), &mut d.write::<T>(), store);
                }
            }
            if let Some((dw, store)) = dw_ih {
                cpu::transposed_product(precision, &dz, &x.read::<T>(), t * batch, 4 * h, &mut dw.write::<T>(), store);
            }
            if let Some((dw, store)) = dw_hh {
                // h_{t-1} is h0 for the first step, then y shifted by one: two products instead of
                // a copy
                let mut total = dropped.write::<T>();
                cpu::transposed_product(precision, &dz[..batch * 4 * h], &h0.read::<T>(), batch, 4 * h, &mut total, Store::Set);
                if t > 1 {
                    let rows = (t - 1) * batch;
                    cpu::transposed_product(precision, &dz[batch * 4 * h..], &y.read::<T>()[..rows * h], rows, 4 * h, &mut total, Store::Add);
                }
                cpu::mask_and_put(&total, &weight, h, &mut dw.write::<T>(), store);
            }
            // both biases have the same gradient
            if db_ih.is_some() || db_hh.is_some() {
                cpu::column_sums(&dz, 4 * h, &mut sums.write::<T>());
            }
            for (db, store) in [db_ih, db_hh].into_iter().flatten() {
                cpu::put(&sums.read::<T>(), &mut db.write::<T>(), store);
            }
        });
        Ok(())
    }
}
