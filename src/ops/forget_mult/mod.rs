//! Gates and pooling of a QRNN layer over a whole sequence, in one operation (docs/SPEC.md §1.5).

pub mod cases;
mod cpu;
mod cuda;

use super::mask::{Dropout, DropoutWords};
use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu::{MaskWords, put_scaled};
use crate::real_type;

/// See [`forget_mult`].
pub struct ForgetMult;

/// Outputs of [`forget_mult`].
#[derive(Clone, Copy, Debug)]
pub struct ForgetMultOutputs {
    /// `[T, B, H]`
    pub y: Var,
    /// `c` after the last step, `[B, H]`
    pub c: Var,
}

/// Elements of the state that keep their value for a step (Krueger et al. 2016; Bradbury et al.
/// 2017, §2.1): there the gate `f` is zero. Unlike in dropout, what is kept of the gate is not
/// scaled.
#[derive(Clone, Debug, Default)]
pub enum Zoneout {
    #[default]
    Off,
    /// Training: the gate is zero where the mask is. A random mask `(T·B, H)` counts with factors 0
    /// and 1, whatever its scale; a given one `[T, B, H]` is multiplied as it is.
    Sampled(Dropout),
    /// Evaluation, with this probability p: the gate's expectation, `(1-p)·f`.
    Expected(f64),
}

impl Zoneout {
    fn check(&self, [rows, columns]: [usize; 2]) -> Result<()> {
        match self {
            Zoneout::Off => Ok(()),
            Zoneout::Sampled(mask) => mask.check(NAME, "zoneout", rows, columns),
            Zoneout::Expected(p) if (0.0..=1.0).contains(p) => Ok(()),
            Zoneout::Expected(p) => Err(Error::shape(NAME, "zoneout", "a probability in [0, 1]", p)),
        }
    }

    /// The factor of every gate, and the mask.
    fn parts(&self) -> (f64, Dropout) {
        match self {
            Zoneout::Off => (1.0, Dropout::Off),
            Zoneout::Sampled(mask) => (1.0, mask.clone()),
            Zoneout::Expected(p) => (1.0 - p, Dropout::Off),
        }
    }
}

const NAME: &str = "forget_mult";

/// Sizes of one execution.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Sizes {
    t: usize,
    b: usize,
    h: usize,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Words {
    sizes: Sizes,
    mask: DropoutWords,
    factor: f64,
}

/// fo-pooling over T steps (Bradbury et al. 2017, eq. 4), with the activations of its gates:
///
/// ```text
/// z = tanh(a_z)   f = σ(a_f)·zoneout   o = σ(a_o)
/// c_t = f_t ⊙ z_t + (1-f_t) ⊙ c_{t-1}               y_t = o_t ⊙ c_t
/// ```
///
/// * `gates`: `[T, B, 3H]`, the pre-activations a_z, a_f, a_o side by side
/// * `c0`: `[B, H]`
///
/// `f` is the share of the new value, as in awd-lstm-lm; the paper's f is `1-f`. Gradients: both
/// inputs. Saved: the states `[T, B, H]`; the backward pass computes the gates again, which costs
/// less than to write and read them, and draws the mask again.
pub fn forget_mult(g: &mut Graph, gates: Var, c0: Var, zoneout: &Zoneout) -> Result<ForgetMultOutputs> {
    let _span = crate::trace::operation(NAME);
    let (shape, dtype) = (g.shape(gates), g.dtype(gates));
    let sizes = match *shape.dims() {
        [t, b, three] if t > 0 && three.is_multiple_of(3) => Sizes { t, b, h: three / 3 },
        _ => return Err(Error::shape(NAME, "gates", "[T, B, 3H] of at least one step", shape)),
    };
    let Sizes { t, b, h } = sizes;
    if g.shape(c0).dims() != [b, h] || g.dtype(c0) != dtype {
        let found = format!("{} {}", g.dtype(c0), g.shape(c0));
        return Err(Error::shape(NAME, "c0", format!("{dtype} [{b}, {h}]"), found));
    }
    zoneout.check([t * b, h])?;
    let (factor, mask) = zoneout.parts();
    if let Some(given) = mask.given()
        && given.dtype() != dtype
    {
        return Err(Error::shape(NAME, "zoneout", dtype.to_string(), given.dtype()));
    }
    let (y, states) = (g.uninitialised([t, b, h], dtype)?, g.uninitialised([t, b, h], dtype)?);
    let last = g.uninitialised([b, h], dtype)?;
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "gates", dtype, T => {
            let given = mask.given().map(|given| given.read::<T>());
            let layer = cpu::Layer {
                sizes,
                gates: &g.tensor(gates).read::<T>(),
                c0: &g.tensor(c0).read::<T>(),
                zoneout: cpu::Factors::new(factor, &mask, given.as_deref()),
            };
            cpu::forward(layer, &mut states.write::<T>(), &mut y.write::<T>());
            last.write::<T>().copy_from_slice(&states.read::<T>()[(t - 1) * b * h..]);
        }),
        Device::Cuda(gpu) => {
            let gpu = context(gpu)?;
            let words = MaskWords::of(&mask, |mask| g.counters(mask))?;
            let layer = cuda::Layer { sizes, gates: g.tensor(gates), c0: g.tensor(c0), factor, mask: &mask, words };
            layer.forward(gpu, &states, &y)?;
            last.copy_elements(0, &states, (t - 1) * b * h, b * h);
        }
    }
    let saved = [&states, mask.given().unwrap_or(&states)];
    let saved = if mask.given().is_some() { &saved[..] } else { &saved[..1] };
    let words = Attributes::pack(Words { sizes, mask: mask.words(), factor });
    let [y, c] = g.record_many(&ForgetMult, &[gates, c0], saved, words, [y, last])?;
    Ok(ForgetMultOutputs { y, c })
}

impl Operation for ForgetMult {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Words { sizes, mask, factor } = b.attributes();
        let Sizes { b: batch, h, .. } = sizes;
        let mask = Dropout::from_words(mask, || b.saved(1).clone());
        let (gates, c0, states) = (b.input(0).clone(), b.input(1).clone(), b.saved(0).clone());
        let dtype = gates.dtype();
        let [dy, dc]: [Option<_>; 2] = std::array::from_fn(|k| b.grad_output(k).cloned());
        // becomes the gradient of c0
        let carried = b.scratch([batch, h], dtype)?;
        // without a place for it that of the gates has no reader
        let d_gates = b.grad_input(0)?;
        if let Device::Cuda(gpu) = b.device() {
            let gpu = context(gpu)?;
            let words = MaskWords::of(&mask, |mask| b.counters(mask))?;
            let layer = cuda::Layer { sizes, gates: &gates, c0: &c0, factor, mask: &mask, words };
            layer.backward(gpu, &states, [dy.as_ref(), dc.as_ref()], d_gates, &carried)?;
            if let Some((d, store)) = b.grad_input(1)? {
                put_scaled(gpu, carried.argument(), 1.0, d.argument(), batch * h, store)?;
            }
            return Ok(());
        }
        let d_c0 = b.grad_input(1)?;
        if !b.computes() {
            return Ok(());
        }
        real_type!(NAME, "gates", dtype, T => {
            let given = mask.given().map(|given| given.read::<T>());
            let layer = cpu::Layer {
                sizes,
                gates: &gates.read::<T>(),
                c0: &c0.read::<T>(),
                zoneout: cpu::Factors::new(factor, &mask, given.as_deref()),
            };
            let views = [&dy, &dc].map(|d| d.as_ref().map(|d| d.read::<T>()));
            let mut place = d_gates.as_ref().map(|(d, store)| (d.write::<T>(), *store));
            cpu::backward(
                layer,
                &states.read::<T>(),
                cpu::Upstream { dy: views[0].as_deref(), dc: views[1].as_deref() },
                place.as_mut().map(|(d, store)| (&mut d[..], *store)),
                &mut carried.write::<T>(),
            );
            if let Some((d, store)) = d_c0 {
                cpu::put(&carried.read::<T>(), &mut d.write::<T>(), store);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::testing::{self, tensor};
    use crate::random::{Key, Mask, Site};
    use crate::tensor::Tensor;

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }

    /// Three steps of one unit, by hand: gates of one half and states that halve the way to z.
    #[test]
    fn the_formula() {
        let mut g = testing::graph(DType::F64);
        let z = 0.5f64;
        let gates = g.constant(tensor(&[3, 1, 3], &[z, 0.0, 0.0].repeat(3)));
        let c0 = g.constant(tensor(&[1, 1], &[2.0]));
        let out = forget_mult(&mut g, gates, c0, &Zoneout::Off).unwrap();
        let mut c = 2.0;
        for y in g.tensor(out.y).to_f64() {
            c = 0.5 * z.tanh() + 0.5 * c;
            assert!((y - 0.5 * c).abs() < 1e-15, "{y}");
        }
        assert!((g.tensor(out.c).to_f64()[0] - c).abs() < 1e-15);
    }

    fn mask(p: f64) -> Mask {
        Mask::new(Key::apart(1), 3, Site::CUSTOM[5], 0, p)
    }

    /// States of `[T, B, H]` = `[6, 2, 19]` from random gates.
    fn states(zoneout: &Zoneout) -> (Vec<f64>, Vec<f64>) {
        let mut data = crate::ops::Data::new(4);
        let mut g = testing::graph(DType::F64);
        let gates = data.normal("gates", &[6, 2, 57], 1.0).tensor;
        // the output gate open: y is c
        let mut values = gates.to_f64();
        values.chunks_mut(57).for_each(|row| row[38..].fill(1000.0));
        let (gates, c0) = (g.constant(tensor(&[6, 2, 57], &values)), data.normal("c0", &[2, 19], 1.0).tensor);
        let before = c0.to_f64();
        let c0 = g.constant(c0);
        let out = forget_mult(&mut g, gates, c0, zoneout).unwrap();
        (before, g.tensor(out.y).to_f64())
    }

    #[test]
    fn zoneout_keeps_exactly_what_the_mask_drops() {
        let m = mask(0.4);
        let (c0, y) = states(&Zoneout::Sampled(Dropout::random(m)));
        let (_, free) = states(&Zoneout::Off);
        let (mut kept, n) = (0, 2 * 19);
        for i in 0..y.len() {
            let before = if i < n { c0[i] } else { y[i - n] };
            let held = !m.keeps((i / 19) as u32, (i % 19) as u32);
            assert_eq!(y[i] == before, held, "element {i}");
            kept += usize::from(held);
            // nothing is scaled: a unit that is not held in the first step is as without zoneout
            assert!(i >= n || held || y[i] == free[i]);
        }
        assert!((60..120).contains(&kept), "{kept} of 228");
        // all and nothing
        assert_eq!(states(&Zoneout::Sampled(Dropout::random(mask(1.0)))).1, c0.repeat(6));
        assert_eq!(states(&Zoneout::Sampled(Dropout::random(mask(0.0)))).1, free);
        assert_eq!(states(&Zoneout::Expected(0.0)).1, free);
        assert_eq!(states(&Zoneout::Expected(1.0)).1, c0.repeat(6));
    }

    /// Large enough for several threads, which divide neither rows nor columns evenly.
    #[test]
    fn one_thread_or_many() {
        let [t, b, h] = [9, 3, 1031];
        let run = || {
            let mut data = crate::ops::Data::new(3);
            let mut parameters = crate::autodiff::Parameters::builder().build(DType::F32).unwrap();
            let mut g = testing::graph(DType::F32);
            let mut single = |shape: &[usize]| {
                let copy = Tensor::zeros(shape, DType::F32).unwrap();
                copy.set_f64(&data.normal("x", shape, 1.0).tensor.to_f64());
                copy
            };
            let (gates, c0, dy) = (single(&[t, b, 3 * h]), single(&[b, h]), single(&[t, b, h]));
            let (gates, c0) = (g.variable(gates), g.variable(c0));
            let out = forget_mult(&mut g, gates, c0, &Zoneout::Sampled(Dropout::random(mask(0.3)))).unwrap();
            g.backward_from(&[(out.y, dy)], &mut parameters).unwrap();
            [out.c, gates, c0].map(|v| g.gradient(v).unwrap_or(g.tensor(v)).to_f64())
        };
        let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
        let one = with(1);
        assert!(one.iter().flatten().all(|v| v.is_finite()));
        for threads in [2, 3, 5] {
            assert!(with(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn arguments_are_checked() {
        let mut g = testing::graph(DType::F64);
        let mut value = |shape: &[usize]| g.constant(tensor(shape, &vec![0.0; shape.iter().product()]));
        let (gates, c0, wrong) = (value(&[2, 3, 12]), value(&[3, 4]), value(&[3, 5]));
        let (flat, uneven, none) = (value(&[6, 12]), value(&[2, 3, 13]), value(&[0, 3, 12]));
        let mut error = |gates, c0, zoneout: Zoneout| forget_mult(&mut g, gates, c0, &zoneout).unwrap_err().to_string();
        assert_eq!(error(gates, wrong, Zoneout::Off), "forget_mult: c0 must be f64 [3, 4], found f64 [3, 5]");
        for (gates, found) in [(flat, "[6, 12]"), (uneven, "[2, 3, 13]"), (none, "[0, 3, 12]")] {
            let expected = format!("forget_mult: gates must be [T, B, 3H] of at least one step, found {found}");
            assert_eq!(error(gates, c0, Zoneout::Off), expected);
        }
        assert!(error(gates, c0, Zoneout::Expected(1.5)).contains("zoneout must be a probability"));
        let given = |t: Tensor| Zoneout::Sampled(Dropout::Given(t));
        assert!(error(gates, c0, given(tensor(&[3, 4], &[1.0; 12]))).contains("zoneout must be [6, 4]"));
        let single = Tensor::from_slice([2, 3, 4], &[1.0f32; 24]).unwrap();
        assert_eq!(error(gates, c0, given(single)), "forget_mult: zoneout must be f64, found f32");
    }
}
