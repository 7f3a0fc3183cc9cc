//! Optimisers against PyTorch and fastai (tests/golden/README.md), and their promises: state,
//! threads, frozen groups.

use std::path::Path;

use safetensors::SafeTensors;

use super::*;
use crate::autodiff::{ParameterId, Parameters, Role};
use crate::tensor::DType;

/// A fixture file as f64 values.
struct Golden(Vec<u8>);

impl Golden {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Golden(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn get(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).expect("a fixture is a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = tensor.data();
        match tensor.dtype() {
            safetensors::Dtype::F32 => {
                bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
            }
            safetensors::Dtype::F64 => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            safetensors::Dtype::I64 => {
                bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
            }
            other => panic!("{name} has type {other:?}"),
        }
    }
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * e.abs().max(1.0), "{what}[{i}]: {f} for {e}");
    }
}

const TYPES: [(&str, DType, f64); 2] = [("f64", DType::F64, 1e-12), ("f32", DType::F32, 1e-6)];

fn parameters(shapes: &[(&str, &[usize], usize)], dtype: DType) -> (Parameters, Vec<ParameterId>) {
    let mut builder = Parameters::builder();
    let ids = shapes.iter().map(|(name, shape, group)| builder.add(*name, shape, *group)).collect();
    let mut parameters = builder.build(dtype).unwrap();
    parameters.zero_missing_gradients();
    (parameters, ids)
}

/// Replays five steps of a fixture: after each, the parameter must be the fixture's.
fn replay(
    golden: &Golden,
    case: &str,
    dtype: DType,
    tolerance: f64,
    rates: impl Fn(usize) -> (f64, f64, f64),
    make: impl Fn(&Parameters) -> Box<dyn Optimiser>,
    mut check: impl FnMut(usize, &dyn Optimiser),
) {
    let (mut parameters, ids) = parameters(&[("p", &[4, 3], 0)], dtype);
    parameters.value(ids[0]).set_f64(&golden.get("p0"));
    let (gradients, expected) = (golden.get("grads"), golden.get(&format!("{case}.p")));
    let mut optimiser = make(&parameters);
    for t in 0..5 {
        parameters.gradient(ids[0]).set_f64(&gradients[12 * t..12 * (t + 1)]);
        let (lr, momentum, decay) = rates(t);
        let rates = StepRates { lr: &[lr], momentum, weight_decay: &[decay], gradient_scale: 1.0 };
        optimiser.step(&mut parameters, &rates).unwrap();
        let what = format!("{case}.p, step {t}");
        assert_close(&what, &parameters.value(ids[0]).to_f64(), &expected[12 * t..12 * (t + 1)], tolerance);
        check(t, &*optimiser);
    }
    assert_eq!(optimiser.steps(), 5);
}

fn adam(eps: f64) -> impl Fn(&Parameters) -> Box<dyn Optimiser> {
    move |p| Box::new(Adam::new(p, AdamSettings { beta2: 0.99, eps, decoupled: true }).unwrap())
}

fn sgd(momentum: bool, decoupled: bool) -> impl Fn(&Parameters) -> Box<dyn Optimiser> {
    move |p| Box::new(Sgd::new(p, SgdSettings { momentum, decoupled }).unwrap())
}

#[test]
fn adam_is_fastai_s() {
    for (suffix, dtype, tolerance) in TYPES {
        let golden = Golden::read(&format!("optim_{suffix}.safetensors"));
        let (m, v) = (golden.get("adam.grad_avg"), golden.get("adam.sqr_avg"));
        replay(
            &golden,
            "adam",
            dtype,
            tolerance,
            |_| (0.01, 0.7, 0.01),
            adam(1e-5),
            |t, optimiser| {
                let state = optimiser.state();
                let find = |name: &str| state.iter().find(|(n, _)| n == name).expect(name).1.to_f64();
                assert_close("m", &find("adam.m/p"), &m[12 * t..12 * (t + 1)], tolerance);
                assert_close("v", &find("adam.v/p"), &v[12 * t..12 * (t + 1)], tolerance);
            },
        );
        replay(&golden, "adam_nowd_eps1e-8", dtype, tolerance, |_| (0.01, 0.7, 0.0), adam(1e-8), |_, _| {});
        let (lrs, moms) = (golden.get("lrs"), golden.get("moms"));
        replay(&golden, "adam_sched", dtype, tolerance, |t| (lrs[t], moms[t], 0.01), adam(1e-5), |_, _| {});
    }
}

#[test]
fn adam_with_l2_is_pytorch_s() {
    for (suffix, dtype, tolerance) in TYPES {
        let golden = Golden::read(&format!("adam_l2_{suffix}.safetensors"));
        let make = |p: &Parameters| -> Box<dyn Optimiser> {
            Box::new(Adam::new(p, AdamSettings { beta2: 0.99, eps: 1e-8, decoupled: false }).unwrap())
        };
        replay(&golden, "adam_l2", dtype, tolerance, |_| (0.01, 0.8, 0.01), make, |_, _| {});
    }
}

#[test]
fn sgd_is_pytorch_s() {
    for (suffix, dtype, tolerance) in TYPES {
        let golden = Golden::read(&format!("optim_{suffix}.safetensors"));
        replay(&golden, "sgd_l2", dtype, tolerance, |_| (0.5, 0.0, 1e-3), sgd(false, false), |_, _| {});
        replay(&golden, "sgd_decoupled_wd", dtype, tolerance, |_| (0.5, 0.0, 1e-3), sgd(false, true), |_, _| {});
        replay(&golden, "sgd_mom0.9", dtype, tolerance, |_| (0.1, 0.9, 0.0), sgd(true, false), |_, _| {});
    }
}

#[test]
fn asgd_averages_as_pytorch_and_without_its_lag() {
    for (suffix, dtype, tolerance) in TYPES {
        let golden = Golden::read(&format!("optim_{suffix}.safetensors"));
        for (as_pytorch, name) in [(true, "asgd.ax"), (false, "asgd.mean_of_iterates")] {
            let expected = golden.get(name);
            let make = |p: &Parameters| -> Box<dyn Optimiser> {
                Box::new(Asgd::new(p, AsgdSettings { t0: 0, as_pytorch, decoupled: false }).unwrap())
            };
            replay(
                &golden,
                "asgd",
                dtype,
                tolerance,
                |_| (0.5, 0.0, 1e-3),
                make,
                |t, optimiser| {
                    let state = optimiser.state();
                    let ax = state.iter().find(|(n, _)| n == "asgd.ax/p").unwrap().1;
                    assert_close(name, &ax.to_f64(), &expected[12 * t..12 * (t + 1)], tolerance);
                },
            );
        }
    }
}

#[test]
fn a_changed_rate_reaches_pytorch_s_asgd_one_step_late() {
    let path = |as_pytorch| {
        let (mut parameters, ids) = parameters(&[("p", &[1], 0)], DType::F64);
        parameters.gradient(ids[0]).set_f64(&[1.0]);
        let mut asgd = Asgd::new(&parameters, AsgdSettings { t0: 0, as_pytorch, decoupled: false }).unwrap();
        let mut path = Vec::new();
        for lr in [1.0, 2.0, 4.0] {
            let rates = StepRates { lr: &[lr], momentum: 0.0, weight_decay: &[0.0], gradient_scale: 1.0 };
            asgd.step(&mut parameters, &rates).unwrap();
            path.push(parameters.value(ids[0]).scalar());
        }
        path
    };
    assert_eq!(path(true), [-1.0, -2.0, -4.0]);
    assert_eq!(path(false), [-1.0, -3.0, -7.0]);
}

#[test]
fn averages_swap_in_and_out() {
    let (mut parameters, ids) = parameters(&[("p", &[2], 0), ("frozen", &[1], 1)], DType::F64);
    parameters.set_frozen(1, true);
    parameters.value(ids[1]).set_f64(&[7.0]);
    let mut asgd = Asgd::new(&parameters, AsgdSettings { t0: 0, as_pytorch: false, decoupled: false }).unwrap();
    parameters.gradient(ids[0]).set_f64(&[1.0, 2.0]);
    let rates = StepRates { lr: &[1.0], momentum: 0.0, weight_decay: &[0.0], gradient_scale: 1.0 };
    for _ in 0..3 {
        asgd.step(&mut parameters, &rates).unwrap();
    }
    assert!(asgd.swap_averages(&mut parameters).unwrap());
    assert_eq!(parameters.value(ids[0]).to_f64(), [-2.0, -4.0]);
    assert_eq!(parameters.value(ids[1]).to_f64(), [7.0]);
    asgd.swap_averages(&mut parameters).unwrap();
    assert_eq!(parameters.value(ids[0]).to_f64(), [-3.0, -6.0]);
    assert_eq!(asgd.average(ids[0]).to_f64(), [-2.0, -4.0]);
    assert!(!sgd(false, false)(&parameters).swap_averages(&mut parameters).unwrap());
}

#[test]
fn clipping_is_pytorch_s_and_free_in_the_step() {
    for (suffix, dtype, tolerance) in TYPES {
        let golden = Golden::read(&format!("optim_{suffix}.safetensors"));
        let (mut parameters, ids) = parameters(&[("a", &[3, 2], 0), ("b", &[5], 0), ("frozen", &[1], 1)], dtype);
        parameters.gradient(ids[2]).set_f64(&[1e6]);
        parameters.set_frozen(1, true);
        let load = || (0..2).for_each(|i| parameters.gradient(ids[i]).set_f64(&golden.get(&format!("clip.g{i}"))));
        load();
        let norm = GradientNorm::new(&parameters).unwrap().compute(&parameters).unwrap();
        assert_close("norm", &[norm], &golden.get("clip.norm"), tolerance);
        let scale = clip_scale(norm, Some(0.25));
        assert_eq!(clip_scale(norm, None), 1.0);
        assert_eq!(clip_scale(0.1, Some(0.25)), 1.0);

        // the scale inside a step does what scaling the gradients first does
        let mut optimiser = sgd(false, false)(&parameters);
        let rates = |gradient_scale| StepRates { lr: &[1.0], momentum: 0.0, weight_decay: &[0.0], gradient_scale };
        optimiser.step(&mut parameters, &rates(scale)).unwrap();
        let fused: Vec<_> = parameters.ids().map(|id| parameters.value(id).to_f64()).collect();
        scale_gradients(&mut parameters, scale).unwrap();
        parameters.ids().for_each(|id| parameters.value(id).fill_zero());
        optimiser.step(&mut parameters, &rates(1.0)).unwrap();
        assert_eq!(fused, parameters.ids().map(|id| parameters.value(id).to_f64()).collect::<Vec<_>>());
        for (&id, name) in ids.iter().zip(["clip.out0", "clip.out1"]) {
            assert_close(name, &parameters.gradient(id).to_f64(), &golden.get(name), tolerance);
        }
    }
}

#[test]
fn gradients_that_are_not_finite_are_found() {
    let (mut parameters, ids) = parameters(&[("a", &[3], 0), ("b", &[2], 1)], DType::F32);
    let mut norm = GradientNorm::new(&parameters).unwrap();
    assert_eq!(first_non_finite(&parameters).unwrap(), None);
    for bad in [f64::NAN, f64::INFINITY] {
        parameters.gradient(ids[1]).set_f64(&[f64::from(f32::MAX), bad]);
        assert!(!norm.compute(&parameters).unwrap().is_finite());
        assert_eq!(first_non_finite(&parameters).unwrap(), Some((ids[1], 1)));
    }
    parameters.gradient(ids[1]).set_f64(&[f64::from(f32::MAX), 0.0]);
    assert!(norm.compute(&parameters).unwrap().is_finite(), "squares of large f32 must not overflow");
    parameters.gradient(ids[1]).set_f64(&[f64::NAN, 0.0]);
    parameters.set_frozen(1, true);
    assert_eq!(first_non_finite(&parameters).unwrap(), None);
    assert_eq!(norm.compute(&parameters).unwrap(), 0.0);
}

#[test]
fn the_non_monotone_trigger_fires_where_awd_lstm_s_does() {
    let golden = Golden::read("optim_f64.safetensors");
    let losses = golden.get("nt.val_losses");
    let mut trigger = NonMonotone::new(5);
    let mut fired = Vec::new();
    for (i, &loss) in losses.iter().enumerate() {
        // a resumed run goes on with the same history
        trigger = serde_json::from_str(&serde_json::to_string(&trigger).unwrap()).unwrap();
        if trigger.check(loss) {
            fired.push(i as f64);
        }
    }
    assert_eq!(fired, golden.get("nt.trigger_index"));
    // having fired, it never does again
    assert!(!trigger.check(f64::MAX));
}

#[test]
fn losses_that_are_not_finite_survive_a_checkpoint() {
    let mut whole = NonMonotone::new(0);
    let mut resumed = whole.clone();
    let mut early = EarlyStopping::new(9);
    for loss in [f64::INFINITY, f64::NAN, 3.0, 2.0, 2.5] {
        resumed = serde_json::from_str(&serde_json::to_string(&resumed).unwrap()).unwrap();
        early = serde_json::from_str(&serde_json::to_string(&early).unwrap()).unwrap();
        assert_eq!((whole.check(loss), early.is_best(loss)), (resumed.check(loss), [3.0, 2.0].contains(&loss)));
    }
    assert!(!whole.check(f64::MAX) && !resumed.check(f64::MAX), "both have fired");
}

#[test]
fn early_stopping_waits_more_than_its_patience() {
    let mut early = EarlyStopping::new(1);
    let seen: Vec<_> = [3.0, 2.0, 2.5, f64::NAN, 1.0].map(|loss| (early.is_best(loss), early.should_stop())).into();
    assert_eq!(seen, [(true, false), (true, false), (false, false), (false, true), (true, false)]);
    assert_eq!(early.best(), Some(1.0));
}

#[test]
fn stlr_is_equation_3() {
    for (suffix, _, tolerance) in TYPES {
        let golden = Golden::read(&format!("stlr_{suffix}.safetensors"));
        for (name, total, cut_frac, ratio, lr) in [
            ("lr_T100", 100, 0.1, 32.0, 0.01),
            ("lr_T57", 57, 0.1, 32.0, 0.01),
            ("lr_T1234", 1234, 0.1, 32.0, 0.01),
            ("lr_T100_cut0.25_ratio20_max0.004", 100, 0.25, 20.0, 0.004),
        ] {
            let found: Vec<f64> = (0..total).map(|t| lr * schedule::stlr_raw(t, total, cut_frac, ratio)).collect();
            assert_close(name, &found, &golden.get(name), tolerance);
        }
    }
}

#[test]
fn schedules_are_the_libraries() {
    for (suffix, _, tolerance) in TYPES {
        let golden = Golden::read(&format!("schedules_{suffix}.safetensors"));
        for total in [1, 7, 57, 100, 1234] {
            let lr = |schedule: Schedule| (0..total).map(|t| 0.01 * schedule.at(t, total).factor).collect::<Vec<_>>();
            let one_cycle = Schedule::OneCycle(schedule::OneCycle::V2);
            let momentum = (0..total).map(|t| one_cycle.at(t, total).momentum.unwrap()).collect();
            for (name, found) in [
                ("cosine", lr(Schedule::Cosine)),
                ("stlr_clamped", lr(Schedule::STLR)),
                ("one_cycle_lr", lr(one_cycle)),
                ("one_cycle_mom", momentum),
            ] {
                let name = format!("{name}_T{total}");
                assert_close(&name, &found, &golden.get(&name), tolerance);
            }
        }
    }
}

/// A model of three groups, one of several chunks, with gradients that differ at each step.
fn toy(dtype: DType) -> Parameters {
    let mut builder = Parameters::builder();
    builder.add("big", &[3, CHUNK], 0);
    builder.add("mean", &[11], 1);
    builder.declare("statistics", &[2], 1, Role::Buffer);
    builder.add("head", &[CHUNK + 5], 2);
    let mut parameters = builder.build(dtype).unwrap();
    parameters.zero_missing_gradients();
    fill(&parameters, 0, |id| parameters.value(id).clone());
    parameters
}

fn fill(parameters: &Parameters, step: usize, of: impl Fn(ParameterId) -> Tensor) {
    for id in parameters.ids() {
        let value = |i: usize| ((i * 37 + step * 101 + id.index() * 7) % 1009) as f64 / 500.0 - 1.0;
        of(id).set_f64(&(0..of(id).len()).map(value).collect::<Vec<_>>());
    }
}

fn train(parameters: &mut Parameters, optimiser: &mut dyn Optimiser, steps: std::ops::Range<usize>) {
    let mut norm = GradientNorm::new(parameters).unwrap();
    for step in steps {
        fill(parameters, step + 1, |id| parameters.gradient(id).clone());
        let lr = 0.01 / (1.0 + step as f64);
        let gradient_scale = clip_scale(norm.compute(parameters).unwrap(), Some(0.5));
        let rates = StepRates {
            lr: &[lr / 4.0, lr / 2.0, lr],
            momentum: 0.8 - 0.01 * step as f64,
            weight_decay: &[0.01],
            gradient_scale,
        };
        optimiser.step(parameters, &rates).unwrap();
    }
}

fn values(parameters: &Parameters) -> Vec<Vec<f64>> {
    parameters.ids().map(|id| parameters.value(id).to_f64()).collect()
}

type Make = Box<dyn Fn(&Parameters) -> Box<dyn Optimiser> + Sync>;

fn all_optimisers() -> Vec<Make> {
    let asgd = |p: &Parameters| -> Box<dyn Optimiser> {
        Box::new(Asgd::new(p, AsgdSettings { t0: 0, as_pytorch: true, decoupled: false }).unwrap())
    };
    let adam_l2 = |p: &Parameters| -> Box<dyn Optimiser> {
        Box::new(Adam::new(p, AdamSettings { beta2: 0.99, eps: 1e-8, decoupled: false }).unwrap())
    };
    vec![
        Box::new(adam(1e-5)),
        Box::new(adam_l2),
        Box::new(sgd(false, true)),
        Box::new(sgd(true, false)),
        Box::new(asgd),
    ]
}

#[test]
fn a_restored_optimiser_goes_on_with_the_same_bits() {
    for make in all_optimisers() {
        let mut whole = toy(DType::F32);
        let mut optimiser = make(&whole);
        train(&mut whole, &mut *optimiser, 0..4);

        let mut first = toy(DType::F32);
        let mut stopped = make(&first);
        train(&mut first, &mut *stopped, 0..2);
        let saved: Vec<(String, DType, Vec<f64>, Vec<usize>)> =
            stopped.state().into_iter().map(|(n, t)| (n, t.dtype(), t.to_f64(), t.dims().to_vec())).collect();
        let lookup = |name: &str| {
            let (_, dtype, values, dims) = saved.iter().find(|(n, ..)| n == name)?;
            let tensor = Tensor::zeros(&dims[..], *dtype).unwrap();
            tensor.set_f64(values);
            Some(tensor)
        };
        let mut resumed = make(&first);
        resumed.restore(&lookup).unwrap();
        assert_eq!(resumed.steps(), 2);
        train(&mut first, &mut *resumed, 2..4);
        assert_eq!(values(&first), values(&whole), "{}", optimiser.name());

        // a reset optimiser is a new one
        let (mut a, mut b) = (toy(DType::F32), toy(DType::F32));
        optimiser.reset();
        assert_eq!(optimiser.steps(), 0);
        train(&mut a, &mut *optimiser, 0..2);
        train(&mut b, &mut *make(&whole), 0..2);
        assert_eq!(values(&a), values(&b), "{} after reset", optimiser.name());
    }
}

#[test]
fn an_unfit_saved_state_is_refused_and_changes_nothing() {
    let mut p = toy(DType::F32);
    let mut optimiser = adam(1e-5)(&p);
    train(&mut p, &mut *optimiser, 0..1);
    let before: Vec<Vec<f64>> = optimiser.state().iter().map(|(_, t)| t.to_f64()).collect();
    let error = optimiser.restore(&|_| None).unwrap_err().to_string();
    assert!(error.contains("lacks 'adam.counts'"), "{error}");
    let unfit = |name: &str| {
        Some(match name {
            "adam.counts" => Tensor::zeros([5], DType::U32).unwrap(),
            _ => Tensor::zeros([1], DType::F32).unwrap(),
        })
    };
    let error = optimiser.restore(&unfit).unwrap_err().to_string();
    assert!(error.contains("'adam.m/big'"), "{error}");
    assert_eq!(before, optimiser.state().iter().map(|(_, t)| t.to_f64()).collect::<Vec<_>>());
}

#[test]
fn one_thread_and_many_give_the_same_bits() {
    for make in all_optimisers() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut p = toy(DType::F32);
                let mut optimiser = make(&p);
                train(&mut p, &mut *optimiser, 0..3);
                (values(&p), GradientNorm::new(&p).unwrap().compute(&p).unwrap())
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }
}

#[test]
fn frozen_groups_buffers_and_missing_gradients_are_left_alone() {
    for make in all_optimisers() {
        let mut p = toy(DType::F64);
        let before = values(&p);
        let mut optimiser = make(&p);
        p.set_frozen(0, true);
        train(&mut p, &mut *optimiser, 0..2);
        let after = values(&p);
        assert_eq!((&before[0], &before[2]), (&after[0], &after[2]), "{}", optimiser.name());
        assert!(before[1] != after[1] && before[3] != after[3], "{}", optimiser.name());
        // unfrozen late: its bias correction starts then, so a first Adam step has the size of its
        // learning rate
        p.set_frozen(0, false);
        train(&mut p, &mut *optimiser, 2..3);
        assert!(before[0] != values(&p)[0]);
        p.clear_gradients();
        let still = values(&p);
        let rates = StepRates { lr: &[1.0], momentum: 0.9, weight_decay: &[0.1], gradient_scale: 1.0 };
        optimiser.step(&mut p, &rates).unwrap();
        assert_eq!(still, values(&p));
    }
}

#[test]
fn a_late_parameter_starts_its_own_bias_correction() {
    let (mut p, ids) = parameters(&[("early", &[1], 0), ("late", &[1], 1)], DType::F64);
    ids.iter().for_each(|&id| p.gradient(id).set_f64(&[0.3]));
    let mut optimiser = adam(0.0)(&p);
    let rates = StepRates { lr: &[0.1], momentum: 0.9, weight_decay: &[0.0], gradient_scale: 1.0 };
    p.set_frozen(1, true);
    for _ in 0..7 {
        optimiser.step(&mut p, &rates).unwrap();
    }
    p.set_frozen(1, false);
    optimiser.step(&mut p, &rates).unwrap();
    assert!((p.value(ids[1]).scalar() + 0.1).abs() < 1e-12, "a first step of Adam has the size of the learning rate");
}

#[test]
fn an_exempt_parameter_does_not_decay() {
    for make in all_optimisers() {
        let (mut p, ids) = parameters(&[("decayed", &[1], 0), ("exempt", &[1], 0)], DType::F64);
        ids.iter().for_each(|&id| p.value(id).set_f64(&[1.0]));
        let mut optimiser = make(&p);
        optimiser.exempt_from_decay(ids[1]);
        optimiser.reset();
        let rates = StepRates { lr: &[0.1], momentum: 0.9, weight_decay: &[0.5], gradient_scale: 1.0 };
        optimiser.step(&mut p, &rates).unwrap();
        assert!(p.value(ids[0]).scalar() < 1.0, "{}", optimiser.name());
        assert_eq!(p.value(ids[1]).scalar(), 1.0, "{}", optimiser.name());
    }
}
