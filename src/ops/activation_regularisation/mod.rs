//! Activation and temporal activation regularisation (AR and TAR; Merity et al. 2017, docs/SPEC.md
//! §1.3).

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::cuda::context;
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;

/// See [`activation_regularisation`].
pub struct ActivationRegularisation;

/// When TAR is left out although β is not zero. Every version tests `len(h) > 1`, but of
/// differently laid out outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TarGuard {
    /// Where there is one time step or none (time-major outputs: fastai 0.7).
    #[default]
    Time,
    /// Where the batch has one row or none (batch-first outputs: fastai v1 and v2), and as
    /// [`Time`](Self::Time).
    Batch,
}

/// Weights and switches of [`activation_regularisation`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regularisation {
    /// The weight of the mean square.
    pub alpha: f64,
    /// The weight of the mean squared difference between time steps.
    pub beta: f64,
    pub guard: TarGuard,
}

/// Attributes that the backward pass needs.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Saved {
    /// Number of `raw` inputs; the others are `dropped`.
    raw: u64,
    /// α over the number of elements of AR; 0 where it is off.
    ar: f64,
    /// β over the number of elements of TAR; 0 where it is off.
    tar: f64,
}

/// `α·mean(h̃²) + β·mean((h[t+1] − h[t])²)` of the last layer's output, given in chunks of time.
///
/// * `raw`: the chunks of h in order, `[T_c, B_c, E]`; of each the rows are the first `B_c` of the
///   batch, `B = B_0 ≥ B_1 ≥ …` (documents of a batch end one after the other, the longest first)
/// * `dropped`: the chunks of h̃, on which AR is taken: after the output dropout (AWD-LSTM, fastai
///   v2) or the same as `raw` (fastai 0.7 and v1, and every classifier); shapes like `raw`. May be
///   empty where α is 0.
///
/// Differences run across borders of chunks, row `b` to row `b`, over rows that both have. The
/// means are over all `T·B·E` and `(T−1)·B·E` elements, `T = Σ T_c`, also where later chunks have
/// fewer rows. TAR is 0 for `T ≤ 1`, and see [`TarGuard`].
///
/// Returns a scalar, `[1]`. Gradients: all chunks of both lists.
pub fn activation_regularisation(g: &mut Graph, raw: &[Var], dropped: &[Var], r: Regularisation) -> Result<Var> {
    let _span = crate::trace::operation("activation_regularisation");
    if raw.is_empty() {
        return Err(Error::shape("activation_regularisation", "raw", "at least one chunk", "none"));
    }
    if !r.alpha.is_finite() || !r.beta.is_finite() {
        return Err(Error::shape("activation_regularisation", "alpha, beta", "finite", format!("{r:?}")));
    }
    let dtype = g.dtype(raw[0]);
    let [time, rows, width] = extent(g, raw, "raw")?;
    let steps = time.saturating_sub(1);
    let skipped = steps == 0 || (r.guard == TarGuard::Batch && rows <= 1);
    let tar = if skipped { 0.0 } else { r.beta / (steps * rows * width).max(1) as f64 };
    let mut ar = 0.0;
    if r.alpha != 0.0 {
        let [time, rows, width] = extent(g, dropped, "dropped")?;
        ar = r.alpha / (time * rows * width).max(1) as f64;
    }
    let dropped = if ar == 0.0 { &[] } else { dropped };
    let loss = g.uninitialised([1], dtype)?;
    match g.device() {
        Device::Cpu => {
            let longest = raw.iter().chain(dropped).map(|&v| g.shape(v).dims()[0]).max().unwrap_or(0);
            let sums = g.uninitialised([longest], DType::F64)?;
            if g.computes() {
                real_type!("activation_regularisation", "raw", dtype, T => {
                    let mut sums = sums.write::<f64>();
                    let (mut squares, mut differences) = (0.0, 0.0);
                    for &chunk in dropped {
                        let h = g.tensor(chunk);
                        squares += cpu::squares(&h.read::<T>(), &mut sums[..h.dims()[0]]);
                    }
                    for (c, &chunk) in raw.iter().enumerate().filter(|_| tar != 0.0) {
                        let h = g.tensor(chunk);
                        let before = c.checked_sub(1).map(|c| g.tensor(raw[c]).read::<T>());
                        let last = before.as_deref().map(|h| cpu::last_step(h, g.shape(raw[c - 1]).dims()[0]));
                        differences += cpu::differences(&h.read::<T>(), last, &mut sums[..h.dims()[0]]);
                    }
                    loss.write::<T>()[0] = (ar * squares + tar * differences) as T;
                });
            }
        }
        Device::Cuda(gpu) => {
            let context = context(gpu)?;
            let differences = if tar == 0.0 { &[] } else { raw };
            let count = dropped.iter().chain(differences).map(|&v| cuda::parts(g.tensor(v))).sum();
            let parts = g.uninitialised([count], dtype)?;
            let mut at = 0;
            for &chunk in dropped {
                cuda::squares(context, g.tensor(chunk), ar, parts.argument_from(at))?;
                at += cuda::parts(g.tensor(chunk));
            }
            for (c, &chunk) in differences.iter().enumerate() {
                let before = c.checked_sub(1).map(|c| g.tensor(raw[c]));
                cuda::differences(context, g.tensor(chunk), before, tar, parts.argument_from(at))?;
                at += cuda::parts(g.tensor(chunk));
            }
            gpu::sum(context, &parts, count, 1.0, &loss)?;
        }
    }
    let saved = Attributes::pack(Saved { raw: raw.len() as u64, ar, tar });
    // few chunks are the rule; an array spares the heap
    const CHUNKS: usize = 128;
    let inputs = raw.len() + dropped.len();
    if inputs <= CHUNKS {
        let mut all = [raw[0]; CHUNKS];
        all[..raw.len()].copy_from_slice(raw);
        all[raw.len()..inputs].copy_from_slice(dropped);
        g.record(&ActivationRegularisation, &all[..inputs], &[], saved, loss)
    } else {
        g.record(&ActivationRegularisation, &[raw, dropped].concat(), &[], saved, loss)
    }
}

/// Checks a list of chunks; returns `[T, B, E]` of the whole.
fn extent(g: &Graph, chunks: &[Var], argument: &'static str) -> Result<[usize; 3]> {
    let (mut time, mut first, mut rows) = (0, None, usize::MAX);
    for &chunk in chunks {
        let shape = g.shape(chunk);
        let [t, b, e] = *shape.dims() else {
            return Err(Error::shape("activation_regularisation", argument, "chunks of [T, B, E]", shape));
        };
        let (_, width) = *first.get_or_insert((b, e));
        if e != width || b > rows || g.dtype(chunk) != g.dtype(chunks[0]) {
            let expected = format!("chunks of at most {rows} rows and width {width}, all of one type");
            return Err(Error::shape("activation_regularisation", argument, expected, shape));
        }
        (time, rows) = (time + t, b);
    }
    let (rows, width) =
        first.ok_or_else(|| Error::shape("activation_regularisation", argument, "at least one chunk", "none"))?;
    Ok([time, rows, width])
}

impl Operation for ActivationRegularisation {
    fn name(&self) -> &'static str {
        "activation_regularisation"
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let Saved { raw, ar, tar } = b.attributes();
        let raw = raw as usize;
        if let Device::Cuda(gpu) = b.device() {
            let context = context(gpu)?;
            for i in 0..b.inputs() {
                let h = b.input(i).clone();
                let before = (i > 0 && i < raw).then(|| b.input(i - 1).clone());
                let after = (i + 1 < raw).then(|| b.input(i + 1).clone());
                let Some((dh, store)) = b.grad_input(i)? else { continue };
                if i >= raw {
                    cuda::squares_backward(context, &h, &dy, 2.0 * ar, &dh, store)?;
                } else {
                    let around = [before.as_ref(), after.as_ref()];
                    cuda::differences_backward(context, &h, around, &dy, 2.0 * tar, &dh, store)?;
                }
            }
            return Ok(());
        }
        let Some(dy) = b.upstream() else { return Ok(()) };
        for i in 0..b.inputs() {
            // of a chunk on which nothing depends the gradient is still set, to zero
            let h = b.input(i).clone();
            let before = (i > 0 && i < raw).then(|| b.input(i - 1).clone());
            let after = (i + 1 < raw).then(|| b.input(i + 1).clone());
            let Some((dh, store)) = b.grad_input(i)? else { continue };
            if !b.computes() {
                continue;
            }
            real_type!("activation_regularisation", "raw", h.dtype(), T => {
                let (h, steps) = (h.read::<T>(), h.dims()[0]);
                let mut dh = dh.write::<T>();
                if i >= raw {
                    cpu::squares_backward(&h, (2.0 * ar * dy) as T, &mut dh, store);
                } else {
                    let before = before.as_ref().map(|t| (t.read::<T>(), t.dims()[0]));
                    let after = after.as_ref().map(|t| (t.read::<T>(), t.dims()[0]));
                    let last = before.as_ref().map(|(h, steps)| cpu::last_step(h, *steps));
                    let next = after.as_ref().map(|(h, steps)| cpu::first_step(h, *steps));
                    cpu::differences_backward(&h, steps, last, next, (2.0 * tar * dy) as T, &mut dh, store);
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn loss(chunks: &[(&[usize], &[f64])], dropped: Option<&[f64]>, r: Regularisation) -> f64 {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let raw: Vec<Var> = chunks.iter().map(|(s, v)| g.constant(Tensor::from_slice(*s, v).unwrap())).collect();
        let other = dropped.map(|v| vec![g.constant(Tensor::from_slice(chunks[0].0, v).unwrap())]);
        let loss = activation_regularisation(&mut g, &raw, other.as_deref().unwrap_or(&raw), r).unwrap();
        g.tensor(loss).scalar()
    }

    const R: Regularisation = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };

    #[test]
    fn by_hand() {
        // T 3, B 2, E 1; differences per row: 1, 3 and 2, 0
        let h: &[f64] = &[1.0, 0.0, 2.0, 2.0, 5.0, 2.0];
        let expected = 2.0 * (1.0 + 4.0 + 4.0 + 25.0 + 4.0) / 6.0 + (1.0 + 9.0 + 4.0) / 4.0;
        assert!((loss(&[(&[3, 2, 1], h)], None, R) - expected).abs() < 1e-14);
        // cut anywhere, nothing changes
        let cut = loss(&[(&[1, 2, 1], &h[..2]), (&[2, 2, 1], &h[2..])], None, R);
        assert!((cut - expected).abs() < 1e-14);
        // row 1 ends after two steps: its terms go, the denominators stay
        let short = loss(&[(&[2, 2, 1], &h[..4]), (&[1, 1, 1], &h[4..5])], None, R);
        assert!((short - (2.0 * (9.0 + 25.0) / 6.0 + 14.0 / 4.0)).abs() < 1e-14);
        // AR on dropped values, TAR on raw ones
        let dropped = loss(&[(&[3, 2, 1], h)], Some(&[0.0, 0.0, 3.0, 0.0, 0.0, 0.0]), R);
        assert!((dropped - (2.0 * 9.0 / 6.0 + 14.0 / 4.0)).abs() < 1e-14);
    }

    #[test]
    fn tar_is_skipped_where_the_versions_skip_it() {
        let (one_step, one_row): (&[usize], &[usize]) = (&[1, 2, 1], &[2, 1, 1]);
        let batch = Regularisation { guard: TarGuard::Batch, ..R };
        assert_eq!(loss(&[(one_step, &[1.0, 3.0])], None, R), 10.0);
        assert_eq!(loss(&[(one_step, &[1.0, 3.0])], None, batch), 10.0);
        assert_eq!(loss(&[(one_row, &[1.0, 3.0])], None, R), 14.0);
        assert_eq!(loss(&[(one_row, &[1.0, 3.0])], None, batch), 10.0);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let [wide, narrow, other, flat] = [&[2, 3, 4][..], &[2, 2, 4], &[2, 2, 5], &[8]]
            .map(|dims| g.constant(Tensor::zeros(dims, DType::F64).unwrap()));
        assert!(activation_regularisation(&mut g, &[wide, narrow], &[wide], R).is_ok());
        for raw in [&[][..], &[flat], &[narrow, wide], &[wide, other]] {
            let error = activation_regularisation(&mut g, raw, &[wide], R).unwrap_err();
            assert!(error.to_string().starts_with("activation_regularisation: raw must be"), "{error}");
        }
        assert!(activation_regularisation(&mut g, &[wide], &[], R).is_err());
        assert!(activation_regularisation(&mut g, &[wide], &[], Regularisation { alpha: 0.0, ..R }).is_ok());
    }
}
