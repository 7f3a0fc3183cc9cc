//! Optimisers, norm and clipping on the GPU against the CPU. An update rounds after every operation
//! on both: its bits must be the same. The norm is a sum in f64 of exact squares: of n of them, in
//! any order, n roundings of the sum at most.

use ulmfit::autodiff::{ParameterId, Parameters, Role};
use ulmfit::device::cuda;
use ulmfit::ops::Data;
use ulmfit::optim::{
    Adam, AdamSettings, Asgd, AsgdSettings, GradientNorm, Optimiser, Sgd, SgdSettings, StepRates, clip_scale,
    first_non_finite, scale_gradients,
};
use ulmfit::tensor::{DType, Device, Tensor};

use super::compared::GPU;

/// Odd sizes, more than one chunk of a sum, five layer groups, a buffer, and a parameter without a
/// gradient.
fn parameters(device: Device) -> Parameters {
    let mut builder = Parameters::builder();
    builder.add("one", &[1], 0);
    builder.add("matrix", &[33, 71], 0);
    builder.add("late", &[257], 1);
    builder.add("large", &[4099, 3], 2);
    builder.add("never", &[5], 4);
    builder.declare("buffer", &[7], 2, Role::Buffer);
    builder.add("bias", &[19], 3);
    let mut parameters = builder.build_on(device, DType::F32).unwrap();
    let mut data = Data::new(1);
    for id in parameters.ids() {
        parameters.value(id).set_f64(&data.normal("", parameters.shape(id).dims(), 1.0).tensor.to_f64());
    }
    // all have a gradient but 'never'
    parameters.set_frozen(4, true);
    parameters.zero_missing_gradients();
    parameters.set_frozen(4, false);
    parameters
}

/// Gradients of step `t`: of very different sizes, zeros among them.
fn gradients(parameters: &mut Parameters, t: u64) {
    let mut data = Data::new(100 + t);
    for id in parameters.ids().filter(|&id| !parameters.is_buffer(id)) {
        let shape = parameters.shape(id);
        let sizes = data.uniform("", shape.dims(), -12.0, 2.0).tensor.to_f64();
        let values = data.normal("", shape.dims(), 1.0).tensor.to_f64();
        let values: Vec<f64> = values
            .iter()
            .zip(sizes)
            .enumerate()
            .map(|(i, (v, s))| if i % 7 == 3 { 0.0 } else { v * s.exp2() })
            .collect();
        parameters.gradient(id).set_f64(&values);
    }
}

type Make = fn(&Parameters) -> Box<dyn Optimiser>;

fn optimisers() -> Vec<Make> {
    fn adam(p: &Parameters, decoupled: bool) -> Box<dyn Optimiser> {
        Box::new(Adam::new(p, AdamSettings { beta2: 0.99, eps: 1e-7, decoupled }).unwrap())
    }
    fn sgd(p: &Parameters, momentum: bool, decoupled: bool) -> Box<dyn Optimiser> {
        Box::new(Sgd::new(p, SgdSettings { momentum, decoupled }).unwrap())
    }
    fn asgd(p: &Parameters, as_pytorch: bool) -> Box<dyn Optimiser> {
        Box::new(Asgd::new(p, AsgdSettings { t0: 2, as_pytorch, decoupled: !as_pytorch }).unwrap())
    }
    vec![
        |p| adam(p, true),
        |p| adam(p, false),
        |p| sgd(p, false, true),
        |p| sgd(p, true, false),
        |p| asgd(p, true),
        |p| asgd(p, false),
    ]
}

/// Values and state after six clipped steps: group 1 thaws at the fourth, the learning rates differ
/// by group, 'bias' does not decay.
fn train(make: Make, device: Device) -> Vec<(String, Vec<f64>)> {
    let mut p = parameters(device);
    p.set_frozen(1, true);
    let mut optimiser = make(&p);
    optimiser.exempt_from_decay(p.find("bias").unwrap());
    for t in 0..6 {
        p.set_frozen(1, t < 3);
        gradients(&mut p, t);
        let rates = StepRates {
            lr: &[0.1, 0.03 + t as f64 * 0.01, 0.3, 0.004, 0.1],
            momentum: 0.9 - 0.02 * t as f64,
            weight_decay: &[0.01, 0.0, 0.1, 0.2, 0.1],
            gradient_scale: 0.37,
        };
        optimiser.step(&mut p, &rates).unwrap();
    }
    let mut all = named(&p, &*optimiser);
    if optimiser.swap_averages(&mut p).unwrap() {
        all.extend(p.ids().map(|id| (format!("average of {}", p.name(id)), p.value(id).to_f64())));
        optimiser.swap_averages(&mut p).unwrap();
        assert_eq!(named(&p, &*optimiser), all[..named(&p, &*optimiser).len()]);
    }
    all
}

fn named(p: &Parameters, optimiser: &dyn Optimiser) -> Vec<(String, Vec<f64>)> {
    let values = p.ids().map(|id| (p.name(id).to_string(), p.value(id).to_f64()));
    values.chain(optimiser.state().into_iter().map(|(name, t)| (name, t.to_f64()))).collect()
}

pub fn updates() {
    for make in optimisers() {
        let (cpu, gpu) = (train(make, Device::Cpu), train(make, GPU));
        let before = parameters(Device::Cpu);
        for ((name, expected), (_, found)) in cpu.iter().zip(&gpu) {
            assert!(expected.iter().all(|v| v.is_finite()), "{name}");
            assert!(expected == found, "{} {name}: other bits", cpu.last().unwrap().0);
            if let Some(id) = before.find(name) {
                let left_alone = before.is_buffer(id) || name == "never";
                assert_eq!(*expected == before.value(id).to_f64(), left_alone, "{name}");
            }
        }
    }
    restored();
}

/// A state saved on one device goes on with the same bits on the other.
fn restored() {
    for make in optimisers() {
        let [mut a, mut b] = [Device::Cpu, GPU].map(parameters);
        let (mut from, mut to) = (make(&a), make(&b));
        let rates = StepRates { lr: &[0.1], momentum: 0.9, weight_decay: &[0.01], gradient_scale: 1.0 };
        for t in 0..2 {
            gradients(&mut a, t);
            from.step(&mut a, &rates).unwrap();
        }
        a.ids().for_each(|id| b.value(id).copy_from(a.value(id)));
        let saved: Vec<(String, Tensor)> = from.state().into_iter().map(|(n, t)| (n, t.clone())).collect();
        to.restore(&|name| saved.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone())).unwrap();
        gradients(&mut a, 2);
        gradients(&mut b, 2);
        from.step(&mut a, &rates).unwrap();
        to.step(&mut b, &rates).unwrap();
        assert!(named(&a, &*from) == named(&b, &*to));
        to.reset();
        assert!(to.state().iter().all(|(_, t)| t.to_f64().iter().all(|&v| v == 0.0)));
    }
}

pub fn norms() {
    let mut p = parameters(GPU);
    let mut norm = GradientNorm::new(&p).unwrap();
    for (t, frozen) in [(0, None), (1, Some(2)), (2, Some(0))] {
        gradients(&mut p, t);
        (0..p.groups()).for_each(|group| p.set_frozen(group, frozen == Some(group)));
        let trained: Vec<ParameterId> = p.ids().filter(|&id| p.is_trainable(id) && p.has_gradient(id)).collect();
        let squares: Vec<f64> = trained.iter().flat_map(|&id| p.gradient(id).to_f64()).map(|x| x * x).collect();
        let truth = squares.iter().sum::<f64>().sqrt();
        // half of n roundings for the root, and as many for the truth
        let bound = squares.len() as f64 * f64::EPSILON * truth;
        let found = norm.compute(&p).unwrap();
        assert!((found - truth).abs() <= bound, "{found}, not {truth} within {bound}");
        assert_eq!(norm.compute(&p).unwrap(), found);

        let scale = clip_scale(found, Some(0.5));
        assert!(scale < 1.0);
        let before: Vec<Vec<f64>> = p.ids().map(|id| p.gradient(id).to_f64()).collect();
        scale_gradients(&mut p, scale).unwrap();
        for id in p.ids() {
            let factor = if trained.contains(&id) { scale as f32 } else { 1.0 };
            let expected: Vec<f64> = before[id.index()].iter().map(|&x| f64::from(x as f32 * factor)).collect();
            assert!(p.gradient(id).to_f64() == expected, "{}", p.name(id));
        }
    }
    // the squares of the largest numbers are within the range of the sum
    let large = p.find("large").unwrap();
    let n = p.gradient(large).len();
    p.gradient(large).set_f64(&vec![3e38; n]);
    (0..p.groups()).for_each(|group| p.set_frozen(group, group != 2));
    let found = norm.compute(&p).unwrap();
    assert!((found / (f64::from(3e38f32) * (n as f64).sqrt()) - 1.0).abs() < 1e-6, "{found}");
    assert_eq!((first_non_finite(&p).unwrap(), norm.first_non_finite_value(&p).unwrap()), (None, None));
    for (bad, at) in [(f64::NAN, 4096), (f64::INFINITY, n - 1)] {
        let mut values = vec![1.0; n];
        values[at] = bad;
        p.gradient(large).set_f64(&values);
        assert!(!norm.compute(&p).unwrap().is_finite());
        assert_eq!(first_non_finite(&p).unwrap(), Some((large, at)));
        let id = p.find("buffer").unwrap();
        p.value(id).set_f64(&[1.0, 2.0, 3.0, bad, 5.0, 6.0, 7.0]);
        assert_eq!(norm.first_non_finite_value(&p).unwrap(), Some(id));
    }
    cuda::context(0).unwrap().synchronise().unwrap();
}
