//! Every operation of `ops::ALL` at the sizes of the paper's model, forward and backward.

use super::clock::{Effort, Stopwatch, time};
use super::format::Format;
use super::report::{Row, Work};
use super::session::Bench;
use super::verify;
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops;
use crate::ops::case::{Case, Data};
use crate::tensor::Tensor;
use crate::trace::{Kind, Recorder, Recording};

/// Walks `ops::ALL`: for each operation all its small cases are compared with f64, then the large
/// ones are compared and timed.
pub fn run(bench: &mut Bench) -> Result<()> {
    for entry in ops::ALL {
        if !bench.wants(entry.operation.name()) {
            continue;
        }
        for case in (entry.cases)() {
            for &format in bench.formats {
                match compare(&case, format) {
                    Err(Error::NoKernels { .. }) => {}
                    error => drop(error?),
                }
            }
        }
        let cases = if bench.reduced { (entry.cases)().split_off((entry.cases)().len() - 1) } else { (entry.large)() };
        for case in cases {
            timed(bench, "ops", &case, |format| compare(&case, format))?;
        }
    }
    Ok(())
}

/// Verifies and times a case in every format, forward (with what it saves for the backward pass)
/// and backward. `verified` returns the error.
pub fn timed(bench: &mut Bench, suite: &str, case: &Case, verified: impl Fn(Format) -> Result<f64>) -> Result<()> {
    for &format in bench.formats {
        let error = match verified(format) {
            Err(lacking @ Error::NoKernels { .. }) => {
                bench.skip(&lacking);
                continue;
            }
            error => error?,
        };
        let mut subject = Subject::new(case, format)?;
        for (direction, backward) in [("forward", false), ("backward", true)] {
            if backward && !subject.differentiable() {
                continue;
            }
            let work = match format.device {
                Device::Cpu => {
                    subject.run(backward)?;
                    counted(|| subject.run(backward))?
                }
                // the same on the CPU, where phases are recorded
                Device::Cuda(_) => {
                    let mut there = Subject::new(case, Format::F32)?;
                    counted(|| there.run(backward))?
                }
            };
            let timing = time(bench.effort(Effort::SHORT, format), || subject.run(backward))?;
            let names = [suite, case.operation, direction];
            bench.row(Row::new(names, case.name.clone(), format, timing, work).verified(error))?;
        }
    }
    Ok(())
}

/// Runs `work` once and counts what its last pass computes and moves: the forward pass's
/// operations, or the backward pass's.
fn counted(work: impl FnOnce() -> Result<f64>) -> Result<Work> {
    let recorder = Recorder::start().ok_or_else(|| Error::data("something else is being recorded"))?;
    work()?;
    Ok(total(&recorder.finish()))
}

fn total(recording: &Recording) -> Work {
    let events = &recording.events;
    // the work after the beginning of a backward pass, where there is one
    let from = events.iter().filter(|e| e.kind == Kind::Pass).map(|e| e.start).max().unwrap_or(0);
    let inside = |kind: Kind| events.iter().filter(move |e| e.start >= from && e.kind == kind);
    let flop = inside(Kind::Phase).map(|e| e.flop).sum();
    // an operation without phases is measured by what it takes and gives
    let phases: u64 = inside(Kind::Phase).map(|e| e.bytes).sum();
    let bytes = if phases > 0 { phases } else { inside(Kind::Operation).map(|e| e.bytes).sum() };
    Work { flop, bytes }
}

/// A case made ready in one precision.
pub struct Subject<'a> {
    case: &'a Case,
    format: Format,
    graph: Graph,
    parameters: Parameters,
    inputs: Vec<Tensor>,
    /// Weights of the outputs in the scalar that is differentiated.
    pub seeds: Vec<Tensor>,
    inputs_of_graph: Vec<Var>,
    outputs: Vec<Var>,
}

impl<'a> Subject<'a> {
    pub fn new(case: &'a Case, format: Format) -> Result<Self> {
        let inputs = case.inputs.iter().map(|input| format.convert(&input.tensor)).collect::<Result<_>>()?;
        let mut this = Subject {
            case,
            format,
            graph: format.graph(),
            parameters: Parameters::builder().build_on(format.device, format.tensors)?,
            inputs,
            seeds: Vec::new(),
            inputs_of_graph: Vec::new(),
            outputs: Vec::new(),
        };
        this.forward()?;
        let mut data = Data::new(99);
        for &output in &this.outputs {
            let seed = data.normal("seed", this.graph.shape(output).dims(), 1.0).tensor;
            this.seeds.push(format.convert(&seed)?);
        }
        this.graph.reset();
        this.graph.pool().set_reserving(false);
        Ok(this)
    }

    fn differentiable(&self) -> bool {
        self.case.inputs.iter().any(|input| input.differentiable)
    }

    fn forward(&mut self) -> Result<()> {
        self.graph.reset();
        self.inputs_of_graph.clear();
        for (input, tensor) in self.case.inputs.iter().zip(&self.inputs) {
            let tensor = tensor.clone();
            let var = if input.differentiable { self.graph.variable(tensor) } else { self.graph.constant(tensor) };
            self.inputs_of_graph.push(var);
        }
        self.outputs = (self.case.run)(&mut self.graph, &self.inputs_of_graph)?;
        Ok(())
    }

    fn backward(&mut self) -> Result<()> {
        let seeds: Vec<(Var, Tensor)> = self.outputs.iter().copied().zip(self.seeds.iter().cloned()).collect();
        self.graph.backward_from(&seeds, &mut self.parameters)
    }

    /// Runs the case; returns the seconds of the forward pass, or of the backward pass behind it.
    pub fn run(&mut self, backward: bool) -> Result<f64> {
        let watch = Stopwatch::begin(self.format)?;
        self.forward()?;
        if !backward {
            return watch.end();
        }
        let watch = Stopwatch::begin(self.format)?;
        self.backward()?;
        watch.end()
    }

    /// Outputs, then gradients of the differentiable inputs, each with a name.
    pub fn values(&mut self) -> Result<Values> {
        self.forward()?;
        let outputs: Vec<Tensor> = self.outputs.iter().map(|&v| self.graph.detach(v)).collect();
        self.backward()?;
        let mut all: Vec<(String, Tensor)> =
            outputs.into_iter().enumerate().map(|(i, tensor)| (format!("output {i}"), tensor)).collect();
        for (input, &var) in self.case.inputs.iter().zip(&self.inputs_of_graph) {
            if let Some(gradient) = self.graph.gradient(var).filter(|_| input.differentiable) {
                all.push((format!("gradient of {}", input.name), gradient.clone()));
            }
        }
        Ok(all)
    }
}

/// Named tensors.
type Values = Vec<(String, Tensor)>;

/// Compares tensors with those in f64; returns the largest relative difference. `naive`: see
/// [`verify::tolerance`].
pub(super) fn same_values(
    what: &str,
    found: Values,
    right: Values,
    naive: impl FnOnce() -> Result<Option<Values>>,
) -> Result<f64> {
    let errors = |values: Values| {
        let pairs = values.iter().zip(&right);
        pairs.map(|((_, a), (_, b))| verify::error(&a.to_f64(), &b.to_f64())).fold(0.0, f64::max)
    };
    let tolerance = verify::tolerance(naive()?.map(errors));
    let mut error = 0.0f64;
    for ((name, found), (_, right)) in found.iter().zip(&right) {
        let what = format!("{what}: {name}");
        error = error.max(verify::compare(&what, &found.to_f64(), &right.to_f64(), tolerance)?);
    }
    Ok(error)
}

/// Compares outputs and gradients of a case with those in f64; returns the largest relative
/// difference.
fn compare(case: &Case, format: Format) -> Result<f64> {
    let values = |format| Subject::new(case, format)?.values();
    same_values(&format!("{} {}", case.operation, case.name), values(format)?, values(Format::F64)?, || {
        format.naive().map(values).transpose()
    })
}
