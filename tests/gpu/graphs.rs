//! Training steps as graphs on the simulated GPU: the same bits as without, new masks every time,
//! bounded in number, and few launches.

use ulmfit::autodiff::Graph;
use ulmfit::device::Precision;
use ulmfit::device::cuda::{self, Context, GRAPHS, GraphStatistics, Grid};
use ulmfit::ops::dropout::dropout;
use ulmfit::ops::locked_dropout::locked_dropout;
use ulmfit::ops::lstm::plan::Force;
use ulmfit::ops::mask::Dropout;
use ulmfit::random::{Key, Mask, Site};
use ulmfit::tensor::{DType, Tensor};
use ulmfit::text::Direction;
use ulmfit::train::Stage;

use crate::alone::{alone, is_inside};
use crate::kernels::lstm::Forced;
use crate::sim::{self, Sim};
use crate::stages::{GPU, Heard, STAGES, STEPS, Share, run};
use crate::tasks::Data;

fn gpu() -> &'static Context {
    cuda::context(0).unwrap()
}

/// The counts of work between two moments.
fn since(before: GraphStatistics) -> [u64; 3] {
    let now = gpu().graphs();
    [now.plain - before.plain, now.captured - before.captured, now.launched - before.launched]
}

fn no_findings() {
    let found = sim::findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Losses, norms and bits of the model of a stage, with graphs or without, and what became of its
/// work.
fn train(stage: Stage, data: &Data, spoilt: Option<u32>, graphs: bool) -> (Heard, Vec<u8>, [u64; 3]) {
    let file = data.directory.path().join("model.safetensors");
    let before = gpu().graphs();
    gpu().set_graphs(graphs);
    let share = Share { spoilt, ..Share::whole(GPU) };
    let heard = run(stage, data, share, Some(&file)).unwrap_or_else(|e| panic!("{stage:?}: {e}"));
    gpu().set_graphs(true);
    (heard, std::fs::read(file).unwrap(), since(before))
}

/// Windows of many lengths, layers that thaw, batches of one shape and of many.
#[test]
fn graphs_give_the_bits_of_single_launches() {
    let _sim = Sim::new("h100");
    // 17 words are five chunks, of which the last three are pooled
    for (name, data) in [("documents of any length", Data::new(8)), ("documents of one length", Data::of_length(17))] {
        for stage in STAGES {
            let (plain, plain_bits, none) = train(stage, &data, None, false);
            assert_eq!(none, [0, 0, 0]);
            assert_eq!(plain.steps.len() as u64, STEPS);
            sim::set("seed", "2");
            let (heard, bits, [once, captured, launched]) = train(stage, &data, None, true);
            sim::set("seed", "1");
            println!("{stage:?}, {name}: {once} times piece by piece, {captured} graphs, launched {launched} times");
            // two for every step
            assert_eq!(once + launched, 2 * STEPS, "{stage:?}");
            let again = launched - captured;
            assert!(captured >= 2 && again >= STEPS / 2, "{stage:?}, {name}");
            // updates are two kinds of work, one for each set of frozen layers; batches of one
            // shape add as many
            let few = stage == Stage::Classifier && name.ends_with("one length");
            assert!(!few || again >= 2 * STEPS - 3 * 4, "{stage:?}, {name}");
            assert_eq!((&plain.steps, &plain.valid), (&heard.steps, &heard.valid), "{stage:?}");
            assert!(plain_bits == bits, "{stage:?}: other bits");
        }
    }
    no_findings();
}

/// A second training finds the memory of the first at the same addresses. No graph of the first
/// may be launched for it: its copies belong to memory that was freed.
#[test]
fn graphs_end_with_their_memory() {
    let _sim = Sim::new("h100");
    sim::set("reuse", "on");
    let data = Data::of_length(17);
    for stage in STAGES {
        let (first, first_bits, [_, captured, _]) = train(stage, &data, None, true);
        let (second, second_bits, [once, again, _]) = train(stage, &data, None, true);
        assert!(captured >= 2 && (again, once) != (0, 0), "{stage:?}: {captured} {once} {again}");
        assert_eq!((&first.steps, &first.valid), (&second.steps, &second.valid), "{stage:?}");
        assert!(first_bits == second_bits, "{stage:?}: other bits");
    }
    no_findings();
}

/// An update whose loss is no number is left out, as without graphs: its step was a graph, its
/// update is none.
#[test]
fn an_update_is_left_out() {
    let _sim = Sim::new("h100");
    let data = Data::new(8);
    let spoilt = Some(STEPS as u32 - 4);
    let (plain, plain_bits, _) = train(Stage::Pretrain, &data, spoilt, false);
    let (heard, bits, [once, _, launched]) = train(Stage::Pretrain, &data, spoilt, true);
    assert_eq!((heard.steps.len() as u64, once + launched), (STEPS - 1, 2 * STEPS - 1));
    assert_eq!((&plain.steps, &plain.valid), (&heard.steps, &heard.valid));
    assert!(plain_bits == bits);
    let (whole, ..) = train(Stage::Pretrain, &data, None, true);
    assert!(whole.steps.last() != heard.steps.last());
    no_findings();
}

/// Once a graph is launched nothing is taken any more, of the GPU or of page-locked memory.
#[test]
fn no_memory_is_taken_after_the_first_steps() {
    let _sim = Sim::new("h100");
    let data = Data::of_length(17);
    for stage in STAGES {
        let (heard, ..) = train(stage, &data, None, true);
        // the first step of a phase takes what it needs, and the first after an evaluation may
        let grown: Vec<_> = heard.allocations.windows(2).filter(|w| w[0].0 == w[1].0 && w[0].1 != w[1].1).collect();
        assert!(grown.len() <= 1, "{stage:?}: {grown:?}");
        assert!(heard.allocations.len() as u64 == STEPS);
    }
    no_findings();
}

/// A driver that refuses captures: the same bits piece by piece, nothing captured, nothing kept for
/// a graph.
#[test]
fn a_refused_capture_is_done_piece_by_piece() {
    if sim::lacks_simulator("a driver that refuses captures") {
        return;
    }
    let test = concat!(module_path!(), "::a_refused_capture_is_done_piece_by_piece");
    let _turn = (!is_inside(test)).then(sim::turn);
    // a refusal holds for the rest of the process
    alone(test, || {
        let _sim = Sim::new("h100");
        let data = Data::of_length(17);
        let (plain, plain_bits, _) = train(Stage::Pretrain, &data, None, false);
        sim::set("refuse", "capture");
        let (heard, bits, [once, captured, launched]) = train(Stage::Pretrain, &data, None, true);
        assert!(once > 1 && captured == 0 && launched == 0, "{once} {captured} {launched}");
        assert_eq!((&plain.steps, &plain.valid), (&heard.steps, &heard.valid));
        assert!(plain_bits == bits);
        let leaks = sim::leaks();
        assert!(!leaks.contains("page-locked") && !leaks.contains("graph"), "{leaks}");
        no_findings();
    });
}

fn ones(rows: usize, columns: usize) -> Tensor {
    Tensor::from_slice([rows, columns], &vec![1.0f32; rows * columns]).unwrap().to_device(GPU).unwrap()
}

#[test]
fn replays_draw_new_masks() {
    let _sim = Sim::new("h100");
    let x = ones(5, 33).reshape([1, 5, 33]).unwrap();
    let key = Key::new(11, Stage::Pretrain, Direction::Forward);
    let mut g = Graph::new(GPU, DType::F32, None);
    let mut draw = |step| {
        let collecting = GPU.collect().unwrap();
        assert!(collecting.is_some());
        g.reset();
        let x = g.constant(x.clone());
        let mask = Mask::new(key, step, Site::new(33), 0, 0.4);
        let y = locked_dropout(&mut g, x, &Dropout::random(mask)).unwrap();
        let factors = g.tensor(y).to_f64();
        let scale = f64::from(mask.scale() as f32);
        let truth: Vec<f64> = (0..5 * 33).map(|i| if mask.keeps(i / 33, i % 33) { scale } else { 0.0 }).collect();
        assert_eq!(factors, truth, "step {step}");
        factors
    };
    // memory is taken
    draw(0);
    let before = gpu().graphs();
    let all: Vec<_> = (1..7).map(&mut draw).collect();
    assert_eq!(since(before), [1, 1, 5]);
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b));
    }
    no_findings();
}

/// Other work every time: only the last of it is remembered, and the graphs of what is forgotten
/// are given back.
#[test]
fn graphs_are_bounded_in_number() {
    if sim::lacks_simulator("memory of forgotten graphs") {
        return;
    }
    let _sim = Sim::new("h100");
    let x = ones(1, 4 * GRAPHS);
    let mut g = Graph::new(GPU, DType::F32, None);
    let mut work = |columns: usize| {
        let _collecting = GPU.collect().unwrap();
        g.reset();
        let x = g.constant(x.reshape([4 * GRAPHS]).unwrap().leading_rows(columns).unwrap());
        let mask = Mask::new(Key([1, 2]), columns as u32, Site::new(16), 0, 0.4);
        let y = dropout(&mut g, x, &Dropout::random(mask)).unwrap();
        assert_eq!(g.tensor(y).to_f64().len(), columns);
    };
    // the first takes memory that the others find
    work(4 * GRAPHS);
    let taken = |what: &str| -> usize {
        let leaks = sim::leaks();
        let line = leaks.lines().find(|line| line.contains(what));
        line.map_or(0, |line| line.split_whitespace().next().unwrap().parse().unwrap())
    };
    let before = gpu().graphs();
    for columns in 1..=2 * GRAPHS {
        (0..3).for_each(|_| work(columns));
    }
    assert_eq!(since(before), [2, 2, 4].map(|n| n * GRAPHS as u64));
    assert_eq!(gpu().graphs().kept, GRAPHS);
    assert_eq!([taken("graph(s)"), taken("page-locked")], [GRAPHS; 2], "{}", sim::leaks());
    let before = gpu().graphs();
    // the last is there, the first is not; what was met now is not the next to be forgotten
    work(GRAPHS + 1);
    work(1);
    work(GRAPHS + 1);
    assert_eq!(since(before), [1, 0, 2]);
    assert_eq!(gpu().graphs().kept, GRAPHS);
    no_findings();
}

/// Work that waits is done before the memory that it is for is given back.
#[test]
fn memory_outlives_the_work_for_it() {
    let _sim = Sim::new("h100");
    let collecting = GPU.collect().unwrap();
    let mut g = Graph::new(GPU, DType::F32, None);
    let x = ones(7, 9);
    let copy = Tensor::zeros_on(GPU, [7, 9], DType::F32).unwrap();
    copy.copy_from(&x);
    drop(x);
    let y = {
        let copy = g.constant(copy);
        let mask = Dropout::random(Mask::new(Key([1, 2]), 3, Site::new(16), 0, 0.5));
        let y = dropout(&mut g, copy, &mask).unwrap();
        g.detach(y)
    };
    drop(g);
    drop(collecting);
    let kept = y.to_f64().into_iter().filter(|&v| v == 2.0).count();
    assert!((10..53).contains(&kept), "{kept} of 63");
    no_findings();
}

/// An error in a graph is one sentence, whether the driver tells at once or when it is
/// waited for.
#[test]
fn a_kernel_that_fails_in_a_graph_is_a_sentence() {
    if sim::lacks_simulator("errors of graphs") {
        return;
    }
    let _sim = Sim::new("h100");
    let (from, to) = (ones(4, 8), ones(2, 8));
    let which = Tensor::zeros_on(GPU, [2], DType::U32).unwrap();
    let gather = |row: u32| {
        let _collecting = GPU.collect().unwrap();
        which.copy_from(&Tensor::from_slice([2], &[0, row]).unwrap());
        let arguments = [from.argument(), which.argument(), to.argument(), 2usize.into(), 8usize.into()];
        gpu().launch("gather_rows", Grid::elements(16), &arguments).unwrap();
        gpu().synchronise()
    };
    let before = gpu().graphs();
    (1..4).for_each(|row| gather(row).unwrap());
    assert_eq!(since(before), [1, 1, 2]);
    for (delay, doing) in [("off", "launching a graph"), ("on", "waiting for the GPU")] {
        sim::set("delay_errors", delay);
        let error = gather(1 << 20).unwrap_err().to_string();
        assert_eq!(error, format!("{doing}: a kernel reached outside its memory (CUDA error 700)"));
        sim::clear();
    }
    sim::set("delay_errors", "off");
    gather(3).unwrap();
    no_findings();
}

/// Launches of a step of the language model with three layers, all dropouts, both regularisations
/// and a decoder's bias, by name.
fn launches(stage: Stage, precision: Precision, plan: Force) -> Vec<(String, u64)> {
    let _forced = Forced::new(plan);
    let data = Data::of_length(17);
    let share = Share { precision, layers: 3, ..Share::whole(GPU) };
    let heard = run(stage, &data, share, None).unwrap();
    let steps = heard.work.windows(2).zip(heard.allocations.windows(2));
    // the last that follows another of its epoch
    let (step, _) = steps.rev().find(|(_, epochs)| epochs[0].0 == epochs[1].0).unwrap();
    let [(before, copies_before), (after, copies)] = step else { unreachable!() };
    let kernels = before.iter().zip(after).map(|(b, a)| (a.0.to_string(), a.1 - b.1)).filter(|(_, n)| *n > 0);
    let copies = [
        ("(copies to the GPU)", copies.uploads - copies_before.uploads),
        ("(copies within)", copies.within - copies_before.within),
        ("(zeros)", copies.fills - copies_before.fills),
    ];
    kernels.chain(copies.map(|(name, n)| (name.to_string(), n))).collect()
}

#[test]
fn a_step_of_the_language_model_has_few_launches() {
    /// Launches of kernels; copies and fills of a step are not counted in it.
    const MOST: u64 = 80;
    let _sim = Sim::new("h100");
    let count = |all: &[(String, u64)]| {
        let kernels = all.iter().filter(|(name, _)| !name.starts_with('(')).map(|(_, n)| n).sum::<u64>();
        (kernels, all.iter().map(|(_, n)| n).sum::<u64>())
    };
    for (precision, units) in [(Precision::Full, [4, 4]), (Precision::Bf16, [4, 8])] {
        let persistent = launches(Stage::Pretrain, precision, Force::Persistent(units));
        let (kernels, pieces) = count(&persistent);
        for (name, n) in &persistent {
            println!("{n:3} {name}");
        }
        println!("{precision:?}: {kernels} launches, {pieces} pieces of work");
        // here one block of rows holds all logits; 4480 rows of WikiText-103's 60 000 words are
        // three blocks of five launches
        assert!(kernels + 2 * 5 <= MOST, "{persistent:?}");
        // the bound says something: two launches a step and layer are too many
        let (kernels, _) = count(&launches(Stage::Pretrain, precision, Force::StepWise));
        assert!(kernels > MOST);
    }
    no_findings();
}
