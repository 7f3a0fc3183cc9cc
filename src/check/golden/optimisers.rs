//! Fixtures of optimisers, clipping, triggers and schedules.

use super::fixture::{ANY, Fixture};
use crate::autodiff::{Graph, ParameterId, Parameters};
use crate::error::Result;
use crate::optim::schedule::{OneCycle, Schedule, stlr_raw};
use crate::optim::{
    Adam, AdamSettings, Asgd, AsgdSettings, GradientNorm, NonMonotone, Optimiser, Sgd, SgdSettings, StepRates,
    clip_scale, scale_gradients,
};
use crate::tensor::{DType, Device, Tensor};

/// Parameters with these values on a device, in one layer group, and room for gradients.
fn parameters(values: &[Tensor], device: Device, dtype: DType) -> Result<(Parameters, Vec<ParameterId>)> {
    let mut builder = Parameters::builder();
    let ids: Vec<ParameterId> =
        values.iter().enumerate().map(|(i, t)| builder.add(format!("p{i}"), t.dims(), 0)).collect();
    let mut parameters = builder.build_on(device, dtype)?;
    parameters.zero_missing_gradients();
    ids.iter().zip(values).for_each(|(&id, value)| parameters.value(id).copy_from(value));
    Ok((parameters, ids))
}

/// Learning rate, momentum (β1) and weight decay of one step.
type Rates = (f64, f64, f64);

/// Runs an optimiser over the fixture's gradients; compares the parameter after each step, and
/// states as `(tensor, state)`.
fn replay(
    f: &mut Fixture,
    name: &str,
    rates: &dyn Fn(usize) -> Rates,
    make: &dyn Fn(&Parameters) -> Result<Box<dyn Optimiser>>,
    states: &[(&str, &str)],
) -> Result<()> {
    let p0 = f.real("p0", &[ANY, ANY])?;
    let gradients = f.real("grads", &[ANY, p0.dims()[0], p0.dims()[1]])?;
    let (mut parameters, ids) = parameters(std::slice::from_ref(&p0), f.device, f.dtype)?;
    let mut optimiser = make(&parameters)?;
    let mut path = Vec::new();
    let mut found = vec![Vec::new(); states.len()];
    for (step, gradient) in gradients.to_f64().chunks(p0.len()).enumerate() {
        parameters.gradient(ids[0]).set_f64(gradient);
        let (lr, momentum, decay) = rates(step);
        let rates = StepRates { lr: &[lr], momentum, weight_decay: &[decay], gradient_scale: 1.0 };
        optimiser.step(&mut parameters, &rates)?;
        path.extend(parameters.value(ids[0]).to_f64());
        let state = optimiser.state();
        for ((_, wanted), found) in states.iter().zip(&mut found) {
            let tensor = state.iter().find(|(name, _)| name == wanted);
            found.extend(tensor.ok_or_else(|| f.error(format!("its optimiser has no state '{wanted}'")))?.1.to_f64());
        }
    }
    f.compare_values(&format!("{name}.p"), &path)?;
    for ((tensor, _), found) in states.iter().zip(&found) {
        f.compare_values(tensor, found)?;
    }
    Ok(())
}

fn adam(beta2: f64, eps: f64, decoupled: bool) -> impl Fn(&Parameters) -> Result<Box<dyn Optimiser>> {
    move |p| Ok(Box::new(Adam::new(p, AdamSettings { beta2, eps, decoupled })?))
}

fn sgd(momentum: bool, decoupled: bool) -> impl Fn(&Parameters) -> Result<Box<dyn Optimiser>> {
    move |p| Ok(Box::new(Sgd::new(p, SgdSettings { momentum, decoupled })?))
}

fn asgd(t0: u32, as_pytorch: bool) -> impl Fn(&Parameters) -> Result<Box<dyn Optimiser>> {
    move |p| Ok(Box::new(Asgd::new(p, AsgdSettings { t0, as_pytorch, decoupled: false })?))
}

/// Adam, SGD, ASGD, clipping by the global norm, the non-monotone trigger.
pub(super) fn optimisers(f: &mut Fixture, _: &mut Graph) -> Result<()> {
    let a = |f: &Fixture, word: &str| f.setting("adam", word);
    let (lr, beta1, beta2, eps, wd) = (a(f, "lr")?, a(f, "beta1")?, a(f, "beta2")?, a(f, "eps")?, a(f, "wd")?);
    let states = [("adam.grad_avg", "adam.m/p0"), ("adam.sqr_avg", "adam.v/p0")];
    replay(f, "adam", &|_| (lr, beta1, wd), &adam(beta2, eps, true), &states)?;
    for name in f.names("adam_nowd_eps") {
        let Some(name) = name.strip_suffix(".p") else { continue };
        let eps: f64 = name["adam_nowd_eps".len()..].parse().map_err(|_| f.error(format!("'{name}' names no eps")))?;
        replay(f, name, &|_| (lr, beta1, 0.0), &adam(beta2, eps, true), &[])?;
    }
    let steps = f.real("grads", &[ANY, ANY, ANY])?.dims()[0];
    let (lrs, moms) = (f.real("lrs", &[steps])?.to_f64(), f.real("moms", &[steps])?.to_f64());
    replay(f, "adam_sched", &|t| (lrs[t], moms[t], wd), &adam(beta2, eps, true), &[])?;

    let (lr, wd) = (f.setting("sgd", "lr")?, f.setting("sgd", "wd")?);
    replay(f, "sgd_l2", &|_| (lr, 0.0, wd), &sgd(false, false), &[])?;
    replay(f, "sgd_decoupled_wd", &|_| (lr, 0.0, wd), &sgd(false, true), &[])?;
    let (lr, mom, wd) = (f.setting("sgd_mom", "lr")?, f.setting("sgd_mom", "mom")?, f.setting("sgd_mom", "wd")?);
    replay(f, &format!("sgd_mom{mom}"), &|_| (lr, mom, wd), &sgd(true, false), &[])?;
    let (lr, t0, wd) = (f.setting("asgd", "lr")?, f.setting("asgd", "t0")? as u32, f.setting("asgd", "wd")?);
    replay(f, "asgd", &|_| (lr, 0.0, wd), &asgd(t0, true), &[("asgd.ax", "asgd.ax/p0")])?;
    let mean = [("asgd.mean_of_iterates", "asgd.ax/p0")];
    replay(f, "asgd", &|_| (lr, 0.0, wd), &asgd(t0, false), &mean)?;

    let gradients = [f.real("clip.g0", &[ANY, ANY])?, f.real("clip.g1", &[ANY])?];
    let (mut parameters, ids) = parameters(&gradients, f.device, f.dtype)?;
    ids.iter().zip(&gradients).for_each(|(&id, g)| parameters.gradient(id).copy_from(g));
    let norm = GradientNorm::new(&parameters)?.compute(&parameters)?;
    f.compare_values("clip.norm", &[norm])?;
    scale_gradients(&mut parameters, clip_scale(norm, Some(f.number("clip_max_norm")?)))?;
    f.compare("clip.out0", parameters.gradient(ids[0]))?;
    f.compare("clip.out1", parameters.gradient(ids[1]))?;

    let losses = f.real("nt.val_losses", &[ANY])?.to_f64();
    let mut trigger = NonMonotone::new(f.size("nonmono")?);
    let fired = losses.iter().position(|&loss| trigger.check(loss)).unwrap_or(losses.len());
    f.compare_exactly("nt.trigger_index", &[fired as u32])
}

/// Adam with the decay inside the gradient.
pub(super) fn adam_l2(f: &mut Fixture, _: &mut Graph) -> Result<()> {
    let (lr, beta1, beta2) = (f.number("lr")?, f.number("beta1")?, f.number("beta2")?);
    let (eps, wd, decoupled) = (f.number("eps")?, f.number("wd")?, f.number("decoupled")? != 0.0);
    let states = [("adam_l2.grad_avg", "adam.m/p0"), ("adam_l2.sqr_avg", "adam.v/p0")];
    replay(f, "adam_l2", &|_| (lr, beta1, wd), &adam(beta2, eps, decoupled), &states)
}

/// The slanted triangular schedule, the formula as it stands: `lr_T100`,
/// `lr_T100_cut0.25_ratio20_max0.004`.
pub(super) fn stlr(f: &mut Fixture, _: &mut Graph) -> Result<()> {
    for name in f.names("lr_T") {
        let (mut cut, mut ratio, mut max) = (f.number("cut_frac")?, f.number("ratio")?, f.number("lr_max")?);
        let mut total = 0;
        for part in name["lr_".len()..].split('_') {
            let at = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
            let (key, value) = part.split_at(at);
            let value: f64 = value.parse().map_err(|_| f.error(format!("tensor '{name}' names no number")))?;
            match key {
                "T" => total = value as u64,
                "cut" => cut = value,
                "ratio" => ratio = value,
                "max" => max = value,
                other => return Err(f.error(format!("tensor '{name}' names the unknown setting '{other}'"))),
            }
        }
        over(f, &name, total, |t, total| max * stlr_raw(t, total, cut, ratio))?;
    }
    Ok(())
}

/// The schedules as training uses them.
pub(super) fn schedules(f: &mut Fixture, _: &mut Graph) -> Result<()> {
    let lr = f.number("lr_max")?;
    let one_cycle = Schedule::OneCycle(OneCycle::V2);
    type Value<'a> = &'a dyn Fn(u64, u64) -> f64;
    let kinds: [(&str, Value); 4] = [
        ("cosine_T", &|t, total| lr * Schedule::Cosine.at(t, total).factor),
        ("one_cycle_lr_T", &|t, total| lr * one_cycle.at(t, total).factor),
        ("one_cycle_mom_T", &|t, total| one_cycle.at(t, total).momentum.unwrap_or(f64::NAN)),
        ("stlr_clamped_T", &|t, total| lr * Schedule::STLR.at(t, total).factor),
    ];
    for (prefix, value) in kinds {
        for name in f.names(prefix) {
            let total =
                name[prefix.len()..].parse().map_err(|_| f.error(format!("tensor '{name}' names no length")))?;
            over(f, &name, total, value)?;
        }
    }
    Ok(())
}

/// Compares a schedule at every step of `total`.
fn over(f: &mut Fixture, name: &str, total: u64, value: impl Fn(u64, u64) -> f64) -> Result<()> {
    let found = f.real(name, &[ANY])?.len();
    if found as u64 != total {
        return Err(f.error(format!("tensor '{name}' holds {found} values")));
    }
    let values: Vec<f64> = (0..total).map(|t| value(t, total)).collect();
    f.compare_values(name, &values)
}
