//! Fixtures of operations over sequences: the LSTM, a QRNN layer, pooling.

use super::fixture::{ANY, Fixture, transpose};
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::Result;
use crate::ops::concat_pool::{Masking, concat_pool};
use crate::ops::dropout::dropout;
use crate::ops::forget_mult::{ForgetMultOutputs, Zoneout, forget_mult};
use crate::ops::linear::linear;
use crate::ops::lstm::{LstmInputs, LstmOutputs};
use crate::ops::mask::Dropout;
use crate::ops::with_previous::with_previous;
use crate::tensor::{DType, Tensor};

/// One LSTM layer with weight drop.
pub(super) fn lstm(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let x = f.real("x", &[ANY, ANY, ANY])?;
    let (t, b, i) = (x.dims()[0], x.dims()[1], x.dims()[2]);
    let h0 = f.real("h0", &[b, ANY])?;
    let h = h0.dims()[1];
    let shapes: [(&str, &[usize]); 5] =
        [("c0", &[b, h]), ("w_ih", &[4 * h, i]), ("w_hh", &[4 * h, h]), ("b_ih", &[4 * h]), ("b_hh", &[4 * h])];
    let mut tensors = vec![x, h0];
    for (name, dims) in shapes {
        tensors.push(f.real(name, dims)?);
    }
    let mask = f.real("mask_hh", &[4 * h, h])?;
    let upstream = [f.real("gy", &[t, b, h])?, f.real("gh", &[b, h])?, f.real("gc", &[b, h])?];
    let dropped = f.real("w_hh_dropped", &[4 * h, h])?;
    // gates of a step are internal to the operation; their effect is seen in every output and
    // gradient
    f.skip("gates");

    let (vars, out) = run(g, &tensors, &Dropout::Given(mask))?;
    let outputs = [out.y, out.h, out.c];
    for (name, var) in ["y", "h_n", "c_n"].into_iter().zip(outputs) {
        f.compare(name, g.tensor(var))?;
    }
    let mut loss = 0.0;
    for (var, seed) in outputs.iter().zip(&upstream) {
        loss += g.tensor(*var).to_f64().iter().zip(seed.to_f64()).map(|(y, d)| y * d).sum::<f64>();
    }
    f.compare_values("loss", &[loss])?;
    back(g, &outputs, &upstream)?;
    for (name, var) in ["x", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh"].into_iter().zip(vars) {
        f.compare(&format!("grad.{name}"), &gradient(g, var)?)?;
    }

    // the dropped matrix as the raw one: its gradient is that before the mask
    let raw = std::mem::replace(&mut tensors[4], dropped);
    let (vars, out) = run(g, &tensors, &Dropout::Off)?;
    back(g, &[out.y, out.h, out.c], &upstream)?;
    f.compare("grad.w_hh_dropped", &gradient(g, vars[4])?)?;
    let product: Vec<f64> =
        raw.to_f64().iter().zip(f.real("mask_hh", &[ANY, ANY])?.to_f64()).map(|(w, m)| w * m).collect();
    f.compare_values("w_hh_dropped", &product)?;

    // the cell state after each step: that of a shorter sequence
    let (x, mut cells) = (tensors[0].clone(), Vec::new());
    for steps in 1..=t {
        tensors[0] = x.leading_rows(steps)?;
        let (_, out) = run(g, &tensors, &Dropout::Off)?;
        cells.extend(g.tensor(out.c).to_f64());
    }
    f.compare_values("c_all", &cells)
}

fn run(g: &mut Graph, tensors: &[Tensor], weight: &Dropout) -> Result<(Vec<Var>, LstmOutputs)> {
    g.reset();
    let vars: Vec<Var> = tensors.iter().map(|t| g.variable(t.clone())).collect();
    let [x, h0, c0, w_ih, w_hh, b_ih, b_hh] = vars[..] else { unreachable!("seven inputs were read") };
    let out = crate::ops::lstm::lstm(g, LstmInputs { x, h0, c0, w_ih, w_hh, b_ih, b_hh }, weight)?;
    Ok((vars, out))
}

/// One QRNN layer with a window of two, weight drop and zoneout; then as in evaluation, and with a
/// window of one.
pub(super) fn qrnn(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let x = f.real("x", &[ANY, ANY, ANY])?;
    let (t, b, i) = (x.dims()[0], x.dims()[1], x.dims()[2]);
    let c0 = f.real("c0", &[b, ANY])?;
    let h = c0.dims()[1];
    let before = f.real("before", &[b, i])?;
    let (w, bias) = (f.real("w", &[3 * h, 2 * i])?, f.real("b", &[3 * h])?);
    let weight = Dropout::Given(f.real("mask_w", &[3 * h, 2 * i])?);
    let zoneout = Zoneout::Sampled(Dropout::Given(f.real("zoneout", &[t, b, h])?));
    let upstream = [f.real("gy", &[t, b, h])?, f.real("gc", &[b, h])?];
    let held = f.number("zoneout_p")?;

    let mut inputs = vec![x, before, c0, w, bias];
    let (vars, out) = run_qrnn(g, &inputs, &weight, &zoneout)?;
    let outputs = [out.y, out.c];
    f.compare("y", g.tensor(out.y))?;
    f.compare("c_n", g.tensor(out.c))?;
    let dot =
        |g: &Graph, y: Var, d: &Tensor| g.tensor(y).to_f64().iter().zip(d.to_f64()).map(|(y, d)| y * d).sum::<f64>();
    let loss: f64 = outputs.iter().zip(&upstream).map(|(&y, d)| dot(g, y, d)).sum();
    f.compare_values("loss", &[loss])?;
    back(g, &outputs, &upstream)?;
    for (name, var) in ["x", "before", "c0", "w", "b"].into_iter().zip(vars) {
        f.compare(&format!("grad.{name}"), &gradient(g, var)?)?;
    }

    let (_, out) = run_qrnn(g, &inputs, &Dropout::Off, &Zoneout::Expected(held))?;
    f.compare("eval.y", g.tensor(out.y))?;
    f.compare("eval.c_n", g.tensor(out.c))?;

    // the state after each step: that of a shorter sequence
    let (all, mut states) = (inputs[0].clone(), Vec::new());
    let keeps = f.real("zoneout", &[t, b, h])?;
    for steps in 1..=t {
        inputs[0] = all.leading_rows(steps)?;
        let zoneout = Zoneout::Sampled(Dropout::Given(keeps.leading_rows(steps)?));
        let (_, out) = run_qrnn(g, &inputs, &weight, &zoneout)?;
        states.extend(g.tensor(out.c).to_f64());
    }
    f.compare_values("c_all", &states)?;

    // the left half of w alone
    let left: Vec<f64> = inputs[3].to_f64().chunks(2 * i).flat_map(|row| row[..i].to_vec()).collect();
    let half = Tensor::zeros([3 * h, i], inputs[3].dtype())?;
    half.set_f64(&left);
    inputs[3] = half.to_device(inputs[3].device())?;
    let (_, out) = run_qrnn(g, &inputs, &Dropout::Off, &Zoneout::Off)?;
    f.compare("window1.y", g.tensor(out.y))?;
    f.compare("window1.c_n", g.tensor(out.c))
}

/// A layer as the encoder makes it of operations; w tells its window.
fn run_qrnn(
    g: &mut Graph,
    inputs: &[Tensor],
    weight: &Dropout,
    zoneout: &Zoneout,
) -> Result<(Vec<Var>, ForgetMultOutputs)> {
    g.reset();
    let vars: Vec<Var> = inputs.iter().map(|t| g.variable(t.clone())).collect();
    let [x, before, c0, w, bias] = vars[..] else { unreachable!("five inputs were read") };
    let window = g.shape(w).dims()[1] / g.shape(x).dims()[2];
    let source = if window == 2 { with_previous(g, x, before)? } else { x };
    let dropped = dropout(g, w, weight)?;
    let gates = linear(g, source, dropped, Some(bias))?;
    Ok((vars, forget_mult(g, gates, c0, zoneout)?))
}

/// Back-propagates from several outputs.
pub(super) fn back(g: &mut Graph, outputs: &[Var], upstream: &[Tensor]) -> Result<()> {
    let seeds: Vec<(Var, Tensor)> = outputs.iter().copied().zip(upstream.iter().cloned()).collect();
    g.backward_from(&seeds, &mut Parameters::builder().build(g.compute_type())?)
}

/// Gradient of a variable, zero where nothing reached it.
pub(super) fn gradient(g: &Graph, var: Var) -> Result<Tensor> {
    g.gradient(var).cloned().map_or_else(|| Tensor::zeros_on(g.device(), g.shape(var), g.dtype(var)), Ok)
}

pub(super) fn pool_07(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    pool(f, g, Masking::Version07)
}

pub(super) fn pool_v1(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    pool(f, g, Masking::Version1)
}

pub(super) fn pool_v2(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    pool(f, g, Masking::Version2)
}

/// Concat pooling over the whole output of an encoder, given here in two chunks.
fn pool(f: &mut Fixture, g: &mut Graph, masking: Masking) -> Result<()> {
    let x = f.real("enc_out", &[ANY, ANY, ANY])?;
    let (b, t, e) = (x.dims()[0], x.dims()[1], x.dims()[2]);
    let lengths = f.words("lengths", &[b])?;
    let seed = f.real("g", &[b, 3 * e])?;
    let tail = masking == Masking::Version2;
    let pads = |length: u32| {
        let pad = t.saturating_sub(length as usize);
        (0..t).map(move |at| u32::from(if tail { at >= t - pad } else { at < pad }))
    };
    let mask: Vec<u32> = lengths.read::<u32>().iter().flat_map(|&n| pads(n)).collect();
    f.compare_exactly("pad_mask", &mask)?;

    let cut = t.div_ceil(2);
    let values = transpose(&x)?.to_f64();
    let mut chunks = Vec::new();
    for (from, to) in [(0, cut), (cut, t)].into_iter().filter(|(from, to)| from < to) {
        let chunk = Tensor::zeros_on(f.device, [to - from, b, e], f.dtype)?;
        chunk.set_f64(&values[from * b * e..to * b * e]);
        chunks.push(chunk);
    }
    // gradient of Σ y·seed, batch-first
    let run = |g: &mut Graph, seed: &Tensor| -> Result<(Tensor, Tensor)> {
        g.reset();
        let vars: Vec<Var> = chunks.iter().map(|c| g.variable(c.clone())).collect();
        let (lengths, first) = (g.constant(lengths.clone()), g.constant(Tensor::zeros([b], DType::U32)?));
        let y = concat_pool(g, &vars, 0, lengths, first, masking)?;
        let pooled = g.detach(y);
        back(g, &[y], std::slice::from_ref(seed))?;
        let mut all = Vec::new();
        for var in vars {
            all.extend(gradient(g, var)?.to_f64());
        }
        let whole = Tensor::zeros([t, b, e], pooled.dtype())?;
        whole.set_f64(&all);
        Ok((pooled, transpose(&whole)?))
    };
    let (pooled, dx) = run(g, &seed)?;
    f.compare("pooled", &pooled)?;
    f.compare("grad.enc_out", &dx)?;
    // a seed of ones on the maxima alone marks where they are
    let ones: Vec<f64> = (0..b * 3 * e).map(|k| f64::from(u8::from((k % (3 * e)) / e == 1))).collect();
    let only = Tensor::zeros_on(f.device, [b, 3 * e], f.dtype)?;
    only.set_f64(&ones);
    let (_, marks) = run(g, &only)?;
    let marks = marks.to_f64();
    let position = |b: usize, k: usize| (0..t).position(|at| marks[(b * t + at) * e + k] != 0.0).unwrap_or(t);
    let found: Vec<u32> =
        (0..b).flat_map(|b| (0..e).map(move |k| (b, k))).map(|(b, k)| position(b, k) as u32).collect();
    f.compare_exactly("argmax", &found)
}
