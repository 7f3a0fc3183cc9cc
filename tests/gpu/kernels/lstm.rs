//! Both plans of the LSTM against the CPU.

use ulmfit::autodiff::{Graph, Parameters};
use ulmfit::check::compare;
use ulmfit::device::{Precision, cuda};
use ulmfit::ops::lstm::plan::{Force, force};
use ulmfit::ops::lstm::{LstmInputs, cases, lstm};
use ulmfit::ops::{Case, Data, Dropout};
use ulmfit::random::{Key, Mask, Site};
use ulmfit::tensor::{DType, Tensor};
use ulmfit::text::Direction;
use ulmfit::train::Stage;

use super::compared::{GPU, no_findings, orders, precisions};
use crate::sim::{self, Sim};

/// One plan for as long as this lives.
pub struct Forced;

impl Forced {
    pub fn new(plan: Force) -> Self {
        force(Some(plan));
        Forced
    }
}

impl Drop for Forced {
    fn drop(&mut self) {
        force(None);
    }
}

/// Two segments, the second with the state of the first and another mask; the gradient goes through
/// both.
fn carried([t, b, i, h]: [usize; 4]) -> Case {
    let mut data = Data::new(91);
    let inputs = cases::inputs(&mut data, [t, b, i, h], [1.0, 0.5, 1.5]);
    let key = Key::new(3, Stage::Pretrain, Direction::Backward);
    Case::new("lstm", format!("two segments of T{t} B{b} I{i} H{h}"), inputs, move |g, v| {
        let mut inputs = LstmInputs { x: v[0], h0: v[1], c0: v[2], w_ih: v[3], w_hh: v[4], b_ih: v[5], b_hh: v[6] };
        let weight = |step| Dropout::random(Mask::new(key, step, Site::new(64), 0, 0.4));
        let first = lstm(g, inputs, &weight(8))?;
        (inputs.h0, inputs.c0) = (first.h, first.c);
        let second = lstm(g, inputs, &weight(9))?;
        Ok(vec![first.y, second.y, second.h, second.c])
    })
}

/// Shapes for what the small cases leave out: more rows than are computed at a time, several chunks
/// of the inner dimension, sizes that are odd, even and multiples of four; for one of the plans in
/// bf16, whose kernels take more of the inner dimension at a time, also more than that.
fn shapes(plan: Force) -> Vec<Case> {
    let mut shapes = vec![
        carried([2, 5, 3, 37]),
        cases::one([2, 17, 4, 67]),
        cases::one([3, 67, 5, 70]),
        cases::one([2, 33, 3, 132]),
        cases::one([2, 2, 3, 135]),
    ];
    if let Force::Persistent([_, 16]) | Force::Registers(_) = plan {
        shapes.push(cases::one([2, 3, 2, 526]));
    }
    shapes
}

/// Every plan in every precision of the GPU.
fn plans() -> Vec<(Force, Precision)> {
    let of = |precision: &Precision| {
        let units: &[[usize; 2]] = match precision {
            Precision::Full => &[[4, 4], [9, 9]],
            Precision::Bf16 => &[[4, 8], [10, 16], [12, 16]],
        };
        let persistent = units.iter().map(|units| Force::Persistent(*units));
        let registers = (*precision == Precision::Bf16).then_some(Force::Registers([10, 16]));
        let plans = std::iter::once(Force::StepWise).chain(persistent).chain(registers);
        plans.map(|plan| (plan, *precision)).collect::<Vec<_>>()
    };
    precisions().iter().flat_map(of).collect()
}

/// Every case of the LSTM and the shapes above, by every plan, in three orders of blocks; each plan
/// runs its own kernels, and all of them.
pub fn lstm_plans(gpu: &str) {
    let _sim = Sim::new(gpu);
    let context = cuda::context(0).unwrap();
    let kernels = || context.launches().into_iter().filter(|(name, _)| name.starts_with("lstm_")).collect::<Vec<_>>();
    for (plan, precision) in plans() {
        let _forced = Forced::new(plan);
        let before = kernels();
        let (mut count, mut ratio, mut worst) = (0, 0.0, String::new());
        let mut ask = |case: &Case, order: &str| {
            sim::set("seed", order);
            let compared = compare(case, GPU, precision, None)
                .unwrap_or_else(|e| panic!("{plan:?} {precision:?} {}: {e}\n{:#?}", case.name, sim::findings()));
            count += 1;
            for one in compared {
                assert!(
                    one.ratio <= 1.0,
                    "{plan:?} {precision:?} order {order} {}: {:.2} times the bound",
                    one.what,
                    one.ratio
                );
                if one.ratio > ratio {
                    (ratio, worst) = (one.ratio, one.what);
                }
            }
        };
        // a GPU has its own order
        let three = if sim::is_real() { &["1"][..] } else { &["1", "2", "3"] };
        for case in cases::cases() {
            for order in three {
                ask(&case, order);
            }
        }
        for case in shapes(plan) {
            for order in orders() {
                ask(&case, order);
            }
        }
        no_findings();
        println!("{gpu} {plan:?} {precision:?}: {count} comparisons, worst {ratio:.2} of the bound ({worst})");
        for ((name, before), (_, after)) in before.into_iter().zip(kernels()) {
            let own = match (plan, precision) {
                (Force::StepWise, Precision::Full) => ["lstm_step", "lstm_cell_backward"].contains(&name),
                (Force::StepWise, Precision::Bf16) => ["lstm_step_bf16", "lstm_cell_backward"].contains(&name),
                (Force::Persistent([units, _]) | Force::Registers([units, _]), Precision::Full) => {
                    name.contains(&format!("_{units}x"))
                }
                (Force::Registers([forward, backward]), Precision::Bf16) => {
                    name == format!("lstm_forward_bf16_{forward}")
                        || name == format!("lstm_backward_bf16_{backward}_registers")
                }
                (Force::Persistent([forward, backward]), Precision::Bf16) => {
                    name == format!("lstm_forward_bf16_{forward}") || name == format!("lstm_backward_bf16_{backward}")
                }
            };
            assert_eq!(after > before, own, "{plan:?} {precision:?} and kernel '{name}'");
        }
    }
}

/// A plan that cannot run is an error, and not another plan.
pub fn a_forced_plan_that_does_not_fit_is_an_error(gpu: &str) {
    let _sim = Sim::new(gpu);
    let _forced = Forced::new(Force::Persistent([9, 9]));
    let units = 9 * cuda::context(0).unwrap().gpu().multiprocessors as usize + 1;
    let Err(error) = compare(&cases::one([1, 1, 1, units]), GPU, Precision::Full, None) else {
        panic!("{units} units ran")
    };
    let text = error.to_string();
    assert!(text.starts_with("the persistent LSTM does not run forward on "), "{text}");
    assert!(text.contains(&format!("{units} units on ")), "{text}");
}

/// Where the driver refuses a cooperative launch, the LSTM runs step by step; a plan that was asked
/// for is then an error.
pub fn a_refused_launch_becomes_steps(gpu: &str) {
    if sim::lacks_simulator("a driver that refuses cooperative launches") {
        return;
    }
    let _sim = Sim::new(gpu);
    let context = cuda::context(0).unwrap();
    let launched = |name: &str| context.launches().into_iter().find(|(kernel, _)| *kernel == name).unwrap().1;
    // sizes that no other test has: what a driver refuses is asked once for every kernel and grid
    let case = |hidden| cases::one([2, 3, 2, hidden]);
    sim::set("refuse", "cooperative");
    let before = launched("lstm_step");
    let compared = compare(&case(61), GPU, Precision::Full, None).unwrap();
    assert!(compared.iter().all(|one| one.ratio <= 1.0));
    let stepped = launched("lstm_step");
    assert!(stepped > before);
    let error = {
        let _forced = Forced::new(Force::Persistent([4, 4]));
        compare(&case(62), GPU, Precision::Full, None).err().unwrap().to_string()
    };
    sim::set("refuse", "off");
    assert!(error.starts_with("the persistent LSTM does not run forward on "), "{error}");
    assert!(error.contains("launching 16 blocks of 'lstm_forward_4x16' at a time") && error.contains("720"), "{error}");
    compare(&case(81), GPU, Precision::Full, None).unwrap();
    assert_eq!(launched("lstm_step"), stepped);
    no_findings();
}

/// Whether the tests at full size run: on a GPU, and with `ULMFIT_PARITY=full`.
fn at_full_size(test: &str) -> bool {
    let run = sim::is_real() || orders().len() > 1;
    if !run {
        println!("skipped: {test}, simulated, takes minutes; ULMFIT_PARITY=full asks for it");
    }
    run
}

/// The paper's layer and batch, all rows, forward and backward, by the plan that is chosen.
pub fn the_paper_s_grid(gpu: &str) {
    let _sim = Sim::new(gpu);
    if !at_full_size("the paper's grid") {
        return;
    }
    for &precision in precisions() {
        let compared = compare(&cases::one([3, 64, 40, 1150]), GPU, precision, None).unwrap();
        let worst = compared.into_iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio)).unwrap();
        println!("{gpu} {precision:?}: worst {:.2} of the bound ({})", worst.ratio, worst.what);
        assert!(worst.ratio <= 1.0, "{precision:?} {}: {:.2} times the bound", worst.what, worst.ratio);
        no_findings();
    }
}

/// The barriers of the paper's grid, again and again: the same bits.
pub fn the_grid_barrier_repeats(gpu: &str) {
    let _sim = Sim::new(gpu);
    if !at_full_size("the repeated barrier") {
        return;
    }
    let (steps, times) = if sim::is_real() { (20, 200) } else { (2, 2) };
    let case = cases::one([steps, 64, 40, 1150]);
    let single = |values: &Tensor| {
        let copy = Tensor::zeros(values.shape(), DType::F32).unwrap();
        copy.set_f64(&values.to_f64());
        copy.to_device(GPU).unwrap()
    };
    let inputs: Vec<Tensor> = case.inputs.iter().map(|input| single(&input.tensor)).collect();
    for &precision in precisions() {
        let mut g = Graph::new(GPU, DType::F32, None).with_precision(precision);
        let mut run = || {
            let collecting = GPU.collect().unwrap();
            g.reset();
            let mut parameters = Parameters::builder().build(DType::F32).unwrap();
            let variables: Vec<_> = inputs.iter().map(|input| g.variable(input.clone())).collect();
            let outputs = (case.run)(&mut g, &variables).unwrap();
            let seeds: Vec<_> = outputs.iter().map(|&y| (y, g.tensor(y).clone())).collect();
            g.backward_from(&seeds, &mut parameters).unwrap();
            let mut all: Vec<Vec<f64>> = outputs.iter().map(|&y| g.tensor(y).to_f64()).collect();
            all.extend([1, 2].map(|of| g.gradient(variables[of]).unwrap().to_f64()));
            drop(collecting);
            all.into_iter().flatten().map(f64::to_bits).collect::<Vec<u64>>()
        };
        let first = run();
        for time in 1..times {
            sim::set("seed", &(time + 1).to_string());
            assert!(run() == first, "{precision:?}: other bits the {time}th time");
        }
        println!("{gpu} {precision:?}: {times} times {steps} steps, the same bits");
        no_findings();
    }
}
