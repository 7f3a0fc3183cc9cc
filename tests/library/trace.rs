//! Every operation shows up in a profile, forward and backward, and nothing is recorded that nobody
//! asked for.

use ulmfit::autodiff::{Graph, Parameters, Var};
use ulmfit::ops::{self, Case};
use ulmfit::tensor::{DType, Device, Tensor};
use ulmfit::trace::{self, Kind, Layer, Pass, Recorder, Recording};

use crate::alone::alone;

fn run(case: &Case) {
    let mut parameters = Parameters::builder().build(DType::F64).unwrap();
    let mut g = Graph::new(Device::Cpu, DType::F64, None);
    let part = trace::within(Layer::named("a layer"));
    let inputs: Vec<Var> = case
        .inputs
        .iter()
        .map(
            |input| {
                if input.differentiable { g.variable(input.tensor.clone()) } else { g.constant(input.tensor.clone()) }
            },
        )
        .collect();
    let outputs = (case.run)(&mut g, &inputs).unwrap();
    drop(part);
    let seeds: Vec<(Var, Tensor)> = outputs
        .into_iter()
        .map(|v| {
            let seed = Tensor::zeros(g.shape(v), DType::F64).unwrap();
            seed.set_f64(&vec![1.0; seed.len()]);
            (v, seed)
        })
        .collect();
    g.backward_from(&seeds, &mut parameters).unwrap();
}

fn record(case: &Case) -> Recording {
    let recorder = Recorder::start().expect("nothing else is recorded");
    run(case);
    recorder.finish()
}

#[test]
fn every_operation_is_seen() {
    // a process records one thing at a time
    alone(concat!(module_path!(), "::every_operation_is_seen"), operations_are_seen);
}

fn operations_are_seen() {
    for entry in ops::ALL {
        let name = entry.operation.name();
        let case = (entry.cases)().pop().expect("every operation has a case");
        let recording = record(&case);
        let driver = || recording.events.iter().filter(|e| e.thread == recording.driver);
        let operations: Vec<_> = driver().filter(|e| e.kind == Kind::Operation).collect();
        let passes: Vec<Pass> = operations.iter().map(|e| e.pass).collect();
        assert_eq!(passes, [Pass::None, Pass::Backward], "{name}: an operation opens a span, see CONTRIBUTING.md");
        assert!(
            operations.iter().all(|e| e.name == name && e.layer == Layer::named("a layer")),
            "{name}: {operations:?}"
        );
        let counted = |pass| driver().filter(move |e| e.pass == pass).any(|e| e.bytes > 0);
        assert!(counted(Pass::None) && counted(Pass::Backward), "{name}: no bytes are counted");
        assert!(recording.events.iter().all(|e| e.start <= e.end && e.end <= recording.total));
        // a large case is of the same operation
        assert!((entry.large)().iter().all(|c| c.operation == name), "{name}");
    }
    // two multiply-adds of a linear layer: 17 rows, 33 inputs, 9 outputs
    let linear = ops::ALL.iter().find(|e| e.operation.name() == "linear").unwrap();
    let recording = record(&(linear.cases)().pop().unwrap());
    let flop = |pass| recording.events.iter().filter(|e| e.pass == pass).map(|e| e.flop).sum::<u64>();
    assert_eq!((flop(Pass::None), flop(Pass::Backward)), (2 * 17 * 33 * 9, 2 * 2 * 17 * 33 * 9));

    run(&(linear.cases)()[0]);
    let recorder = Recorder::start().unwrap();
    assert!(Recorder::start().is_none(), "two recordings at once would mix");
    assert!(recorder.finish().events.is_empty(), "what ran before is not of the recording");
}
