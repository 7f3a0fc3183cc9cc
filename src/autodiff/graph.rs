//! The graph of one step: values, tape, backward pass.

mod backward;
mod counters;
mod dry;
mod health;
mod kept;

pub use dry::Counted;
pub(crate) use kept::Keep;

use counters::Counters;

use super::parameters::{ParameterId, Parameters};
use super::tape::{Attributes, Node, Operation};
use crate::device::cpu::gemm::Store;
use crate::device::{DType, Device, Pool, PoolStatistics, Precision};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use crate::trace;

/// Handle of a value in a [`Graph`], good until [`Graph::reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var {
    index: u32,
    generation: u32,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Leaf,
    Parameter(ParameterId),
    Operation,
}

struct Value {
    /// `None` once a backward pass has released it.
    tensor: Tensor,
    gradient: Option<Tensor>,
    origin: Origin,
    needs_gradient: bool,
    /// For a parameter: its place in the slab, if nothing is there yet ([`Graph::early_gradient`]).
    early: Option<Tensor>,
}

/// A planted error, for tests of the tests: the sign of one element of one input gradient is
/// flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub operation: &'static str,
    pub input: usize,
}

/// Runs operations on one device in one precision, and differentiates what it ran.
pub struct Graph {
    pool: Pool,
    /// The pool of the host, for indices; unused where the host computes.
    host: Pool,
    dtype: DType,
    precision: Precision,
    /// See [`has_int8_weights`](Self::has_int8_weights).
    int8: bool,
    generation: u32,
    recording: bool,
    values: Vec<Value>,
    /// The first `length` nodes are this step's; the others keep their memory for the next.
    nodes: Vec<Node>,
    length: usize,
    /// See [`promise_unit_loss`](Self::promise_unit_loss).
    unit_loss: bool,
    /// See [`promise_constant_parameters`](Self::promise_constant_parameters): weights, the purpose
    /// they are packed for, and the packed copies.
    packed: Option<Vec<(Tensor, &'static str, Tensor)>>,
    /// Matrices of a recorded step and their copies in bf16 (see [`rounded`](Self::rounded)).
    rounded: Vec<(Tensor, Tensor)>,
    /// Parameters whose gradient a forward pass has begun, and whether the backward of that
    /// operation was reached.
    early: Vec<(ParameterId, bool)>,
    counters: Counters,
    /// Copies, from and to, that the next backward pass ends with.
    carried: Vec<(Tensor, Tensor)>,
    /// Test hook of the mutation test; never set in a run.
    fault: Option<Fault>,
    /// The arithmetic that operations have reported to a dry graph.
    counted: Counted,
}

struct Nothing;
impl Operation for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.len() * tensor.dtype().size()
}

/// An empty node, whose vectors are filled later.
fn empty() -> Node {
    Node {
        operation: &Nothing,
        inputs: Vec::new(),
        outputs: Vec::new(),
        saved: Vec::new(),
        attributes: Attributes::none(),
        layer: trace::Layer::NONE,
    }
}

impl Graph {
    /// An empty graph that computes in `dtype` (f32, or f64 for checks); `memory_limit` bounds its
    /// pool, in bytes.
    pub fn new(device: Device, dtype: DType, memory_limit: Option<usize>) -> Self {
        Graph {
            pool: Pool::new(device, memory_limit),
            host: Pool::new(Device::Cpu, None),
            dtype,
            precision: Precision::Full,
            int8: false,
            generation: 0,
            recording: true,
            values: Vec::with_capacity(256),
            nodes: Vec::with_capacity(128),
            length: 0,
            unit_loss: false,
            packed: None,
            rounded: Vec::new(),
            early: Vec::with_capacity(4),
            counters: Counters::default(),
            carried: Vec::new(),
            fault: None,
            counted: Counted::default(),
        }
    }

    pub fn device(&self) -> Device {
        self.pool.device()
    }

    /// The type that this graph computes in.
    pub fn compute_type(&self) -> DType {
        self.dtype
    }

    /// The same graph, with operands of large products in this format.
    pub fn with_precision(self, precision: Precision) -> Self {
        Graph { precision, ..self }
    }

    /// The same graph, which computes with weights of 8 bits where operations know how: on the CPU,
    /// for prediction alone.
    pub fn with_int8_weights(self, int8: bool) -> Self {
        Graph { int8, ..self }
    }

    /// Whether operations that can do so take their weights in 8 bits (`device::cpu::int8`).
    pub fn has_int8_weights(&self) -> bool {
        self.int8
    }

    /// Format of the operands of large products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn pool_statistics(&self) -> PoolStatistics {
        self.pool.statistics()
    }

    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Whether operations are recorded for a backward pass (training) or not (evaluation).
    pub fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
    }

    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Plants an error into the gradients, for the mutation test.
    pub fn plant(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Ends the step: drops all values and the tape, keeps the memory. Earlier [`Var`]s become
    /// invalid.
    pub fn reset(&mut self) {
        self.values.clear();
        for node in &mut self.nodes[..self.length] {
            node.saved.clear();
        }
        self.length = 0;
        self.early.clear();
        self.rounded.clear();
        self.carried.clear();
        self.counters.places.clear();
        self.generation = self.generation.wrapping_add(1);
    }

    fn push(&mut self, tensor: Tensor, origin: Origin, needs_gradient: bool) -> Var {
        self.values.push(Value { tensor, gradient: None, origin, needs_gradient, early: None });
        Var { index: self.values.len() as u32 - 1, generation: self.generation }
    }

    /// A value that needs no gradient: data, masks, carried state.
    pub fn constant(&mut self, tensor: Tensor) -> Var {
        self.push(tensor, Origin::Leaf, false)
    }

    /// A value whose gradient can be asked for after the backward pass
    /// ([`gradient`](Self::gradient)).
    pub fn variable(&mut self, tensor: Tensor) -> Var {
        let recording = self.recording;
        self.push(tensor, Origin::Leaf, recording)
    }

    /// A parameter; its gradient goes into the slab, unless it is frozen.
    pub fn parameter(&mut self, parameters: &Parameters, id: ParameterId) -> Var {
        let needs = self.recording && parameters.is_trainable(id);
        let var = self.push(parameters.value(id).clone(), Origin::Parameter(id), needs);
        if self.unit_loss && needs && !parameters.has_gradient(id) {
            self.values[var.index as usize].early = Some(parameters.gradient(id).clone());
        }
        var
    }

    /// Takes a parameter out of the promise of a unit loss: its gradient is of a loss that enters
    /// with another weight.
    pub fn expect_any_weight(&mut self, parameter: Var) {
        self.values[parameter.index as usize].early = None;
    }

    /// A promise that backward passes of this graph start at losses that enter with weight one, as
    /// those of a training do. Then an operation that computes a gradient in its forward pass may
    /// write it into the slab at once ([`early_gradient`](Self::early_gradient)).
    pub fn promise_unit_loss(&mut self) {
        self.unit_loss = true;
    }

    /// Where the forward pass of an operation may write the gradient of a parameter, for an
    /// upstream gradient of one; its backward then calls
    /// [`early_gradient_is_due`](crate::autodiff::Backward::early_gradient_is_due).
    /// `None` where the promise was not made, or another gradient is there already.
    pub fn early_gradient(&mut self, var: Var) -> Option<Tensor> {
        let Origin::Parameter(id) = self.origin(var) else { return None };
        let place = self.values[var.index as usize].early.take()?;
        if self.early.iter().any(|&(other, _)| other == id) {
            return None;
        }
        self.early.push((id, false));
        Some(place)
    }

    pub(super) fn early_gradient_is_due(&mut self, id: ParameterId) {
        self.early.iter_mut().filter(|(other, _)| *other == id).for_each(|(_, due)| *due = true);
    }

    fn value(&self, var: Var) -> &Value {
        assert_eq!(var.generation, self.generation, "a value of an earlier step is used after reset");
        &self.values[var.index as usize]
    }

    pub fn tensor(&self, var: Var) -> &Tensor {
        &self.value(var).tensor
    }

    pub fn shape(&self, var: Var) -> Shape {
        self.tensor(var).shape()
    }

    pub fn dtype(&self, var: Var) -> DType {
        self.tensor(var).dtype()
    }

    /// Whether a gradient has to flow through this value.
    pub fn needs_gradient(&self, var: Var) -> bool {
        self.value(var).needs_gradient
    }

    /// Gradient of a [`variable`](Self::variable) after, or of any value during, the backward pass.
    pub fn gradient(&self, var: Var) -> Option<&Tensor> {
        self.value(var).gradient.as_ref()
    }

    pub(super) fn origin(&self, var: Var) -> Origin {
        self.value(var).origin
    }

    /// The value cut loose from the tape: the only way for state to leave a step.
    pub fn detach(&self, var: Var) -> Tensor {
        self.tensor(var).clone()
    }

    /// Has the next backward pass, at its end, copy a value to where a later step finds it. During
    /// the pass, the old value there may still be needed.
    pub fn carry(&mut self, from: &Tensor, to: &Tensor) {
        self.carried.push((from.clone(), to.clone()));
    }

    /// How many values the graph holds: a mark for [`forget_since`](Self::forget_since).
    pub fn mark(&self) -> usize {
        self.values.len()
    }

    /// Operations that are recorded for the backward pass at present.
    pub fn recorded(&self) -> usize {
        self.length
    }

    /// Drops all values made since a mark, so that a long evaluation runs in bounded memory.
    /// Nothing may have been recorded on them.
    pub fn forget_since(&mut self, mark: usize) {
        let newest = self.nodes[..self.length].iter().flat_map(|n| &n.outputs).map(|v| v.index as usize + 1).max();
        assert!(newest.unwrap_or(0) <= mark, "a recorded value cannot be forgotten");
        self.values.truncate(mark);
    }

    /// A tensor from the pool with undefined content.
    ///
    /// # Errors
    /// No memory left, or f64 on a GPU, which computes in f32.
    pub fn uninitialised(&mut self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        if dtype == DType::F64 && self.device() != Device::Cpu {
            return Err(Error::usage(format!("{} computes in f32, not in f64", self.device()))
                .hint("use --device cpu for models, fixtures and checks in f64"));
        }
        Tensor::uninitialised(&mut self.pool, shape, dtype)
    }

    /// A u32 tensor of indices (tokens, targets) with undefined content. It is on the host whatever
    /// the device: operations check indices there, and copy them when they run.
    pub fn indices(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let pool = if self.device() == Device::Cpu { &mut self.pool } else { &mut self.host };
        Tensor::uninitialised(pool, shape, DType::U32)
    }

    /// A tensor of zeros from the pool.
    pub fn zeros(&mut self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let tensor = self.uninitialised(shape, dtype)?;
        tensor.fill_zero();
        Ok(tensor)
    }

    pub(super) fn gradient_buffer(&mut self, var: Var) -> Result<(Tensor, Store)> {
        if let Some(gradient) = self.gradient(var) {
            return Ok((gradient.clone(), Store::Add));
        }
        let (shape, dtype) = (self.shape(var), self.dtype(var));
        let gradient = self.uninitialised(shape, dtype)?;
        self.values[var.index as usize].gradient = Some(gradient.clone());
        Ok((gradient, Store::Set))
    }

    /// Whether a gradient is needed through any of these inputs, that is, whether a forward pass
    /// must save for its backward.
    pub fn needs_any(&self, inputs: &[Var]) -> bool {
        self.recording && inputs.iter().any(|&v| self.needs_gradient(v))
    }

    /// Records an executed operation of one output; returns the output.
    pub fn record(
        &mut self,
        operation: &'static dyn Operation,
        inputs: &[Var],
        saved: &[&Tensor],
        attributes: Attributes,
        output: Tensor,
    ) -> Result<Var> {
        self.record_many(operation, inputs, saved, attributes, [output]).map(|[v]| v)
    }

    /// Records an executed operation of several outputs. Nothing is kept unless a gradient is
    /// needed through an input.
    pub fn record_many<const N: usize>(
        &mut self,
        operation: &'static dyn Operation,
        inputs: &[Var],
        saved: &[&Tensor],
        attributes: Attributes,
        outputs: [Tensor; N],
    ) -> Result<[Var; N]> {
        trace::traffic(|| inputs.iter().map(|&v| self.tensor(v)).chain(&outputs).map(bytes).sum());
        let needs = self.needs_any(inputs);
        let vars = outputs.map(|tensor| self.push(tensor, Origin::Operation, needs));
        if needs {
            if self.length == self.nodes.len() {
                self.nodes.push(empty());
            }
            let node = &mut self.nodes[self.length];
            self.length += 1;
            node.operation = operation;
            node.attributes = attributes;
            node.layer = trace::layer();
            node.inputs.clear();
            node.inputs.extend_from_slice(inputs);
            node.outputs.clear();
            node.outputs.extend_from_slice(&vars);
            node.saved.clear();
            node.saved.extend(saved.iter().map(|&t| Some(t.clone())));
        }
        Ok(vars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoBackward;
    impl Operation for NoBackward {
        fn name(&self) -> &'static str {
            "no_backward"
        }
    }

    #[test]
    fn an_operation_without_a_backward_is_an_error() {
        let mut parameters = Parameters::builder().build(DType::F64).unwrap();
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let x = g.variable(Tensor::from_slice([1], &[1.0f64]).unwrap());
        let y = g.zeros([1], DType::F64).unwrap();
        let y = g.record(&NoBackward, &[x], &[], Attributes::none(), y).unwrap();
        let error = g.backward(y, &mut parameters).unwrap_err();
        assert!(matches!(error, Error::NoBackward { operation: "no_backward" }));
    }

    #[test]
    fn nothing_is_recorded_without_need() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let x = g.constant(Tensor::from_slice([1], &[1.0f64]).unwrap());
        let y = g.zeros([1], DType::F64).unwrap();
        let y = g.record(&NoBackward, &[x], &[], Attributes::none(), y).unwrap();
        assert!(g.length == 0 && !g.needs_gradient(y));
    }

    #[test]
    #[should_panic(expected = "earlier step")]
    fn values_do_not_outlive_a_step() {
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let x = g.constant(Tensor::from_slice([1], &[1.0f64]).unwrap());
        g.reset();
        g.tensor(x);
    }
}
