//! The nodes of the tape, and the view that an operation's backward has of them.

use super::graph::{Graph, Origin, Var};
use super::parameters::Parameters;
use crate::device::cpu::gemm::Store;
use crate::device::{DType, Device, Precision};
use crate::error::{Error, Result};
use crate::random::Mask;
use crate::tensor::{Shape, Tensor};
use crate::trace::Layer;

/// A differentiable operation: a stateless description; the data of one execution is in its node.
pub trait Operation: Sync {
    /// Name as in `ops::ALL`.
    fn name(&self) -> &'static str;

    /// Adds this execution's part to the gradients of its inputs. An operation without a backward
    /// is an error as soon as a gradient is needed through it, never silence.
    fn backward(&self, _: &mut Backward) -> Result<()> {
        Err(Error::NoBackward { operation: self.name() })
    }

    /// For an operation with gates, from the tensors saved on the CPU: the share of gates that are
    /// nearer than 0.01 to 0 or 1.
    fn saturation(&self, _: &[Option<Tensor>]) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// Small plain values that a backward needs, held in the node without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Attributes([u64; 16]);

impl Attributes {
    pub fn none() -> Self {
        Attributes([0; 16])
    }

    /// Packs a plain value of at most 128 bytes.
    pub fn pack<P: bytemuck::Pod>(value: P) -> Self {
        let mut words = [0; 16];
        let bytes = bytemuck::bytes_of(&value);
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Attributes(words)
    }

    /// The value that was packed.
    pub fn unpack<P: bytemuck::Pod>(&self) -> P {
        bytemuck::pod_read_unaligned(&bytemuck::cast_slice::<u64, u8>(&self.0)[..size_of::<P>()])
    }
}

/// One executed operation. Nodes are reused from step to step, with the capacity of their vectors.
pub(super) struct Node {
    pub(super) operation: &'static dyn Operation,
    pub(super) inputs: Vec<Var>,
    pub(super) outputs: Vec<Var>,
    pub(super) saved: Vec<Option<Tensor>>,
    pub(super) attributes: Attributes,
    /// Part of the model it belongs to; known while a profile is recorded.
    pub(super) layer: Layer,
}

/// The view that an operation's backward has of its execution.
pub struct Backward<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) parameters: &'a mut Parameters,
    pub(super) node: &'a mut Node,
}

impl Backward<'_> {
    /// Where this execution runs.
    pub fn device(&self) -> Device {
        self.graph.device()
    }

    /// Format of the operands of large products.
    pub fn precision(&self) -> Precision {
        self.graph.precision()
    }

    /// As [`Graph::computes`].
    pub fn computes(&self) -> bool {
        self.graph.computes()
    }

    /// As [`Graph::multiplies_for_gradients`].
    pub fn multiplies(&mut self, mnk: [usize; 3]) {
        self.graph.multiplies_for_gradients(mnk);
    }

    /// The gradient of a scalar loss as a number; one where nothing is computed. `None` where
    /// nothing depends on the loss.
    pub fn upstream(&self) -> Option<f64> {
        self.grad_output(0).map(|d| if self.computes() { d.scalar() } else { 1.0 })
    }

    /// The graph of the execution: its buffers, and copies that its forward pass has kept.
    pub(crate) fn graph(&mut self) -> &mut Graph {
        self.graph
    }

    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    pub fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    /// Value of the `i`-th input.
    pub fn input(&self, i: usize) -> &Tensor {
        self.graph.tensor(self.node.inputs[i])
    }

    /// Value of the `i`-th output.
    pub fn output(&self, i: usize) -> &Tensor {
        self.graph.tensor(self.node.outputs[i])
    }

    /// The `i`-th saved tensor, left in place.
    pub fn saved(&self, i: usize) -> &Tensor {
        self.node.saved[i].as_ref().expect("an operation takes a saved tensor once")
    }

    /// Takes the `i`-th saved tensor, for instance to turn it into a gradient in place.
    pub fn take_saved(&mut self, i: usize) -> Tensor {
        self.node.saved[i].take().expect("an operation takes a saved tensor once")
    }

    /// The attributes that the forward pass has stored.
    pub fn attributes<P: bytemuck::Pod>(&self) -> P {
        self.node.attributes.unpack()
    }

    /// Gradient of the loss with respect to the `i`-th output; `None` where nothing depends on it
    /// (a zero gradient).
    pub fn grad_output(&self, i: usize) -> Option<&Tensor> {
        self.graph.gradient(self.node.outputs[i])
    }

    /// Whether a gradient of the `i`-th input is wanted.
    pub fn needs(&self, i: usize) -> bool {
        self.graph.needs_gradient(self.node.inputs[i])
    }

    /// The tensor to put the gradient of the `i`-th input into, and whether to set or to add;
    /// `None` where none is wanted.
    pub fn grad_input(&mut self, i: usize) -> Result<Option<(Tensor, Store)>> {
        let var = self.node.inputs[i];
        if !self.graph.needs_gradient(var) {
            return Ok(None);
        }
        match self.graph.origin(var) {
            Origin::Parameter(id) => {
                let store = if self.parameters.touch(id) { Store::Add } else { Store::Set };
                Ok(Some((self.parameters.gradient(id).clone(), store)))
            }
            Origin::Leaf | Origin::Operation => self.graph.gradient_buffer(var).map(Some),
        }
    }

    /// Whether the gradient of the `i`-th input is in place since the forward pass
    /// ([`Graph::early_gradient`], which gave `saved`).
    ///
    /// # Errors
    /// `upstream` is a number but not one, although that was promised. (Where it is not a number,
    /// neither is the loss, and its reader will see.)
    pub fn early_gradient_is_due(&mut self, i: usize, saved: &Tensor, upstream: f64) -> Result<bool> {
        let Origin::Parameter(id) = self.graph.origin(self.node.inputs[i]) else { return Ok(false) };
        if !self.parameters.gradient(id).same_memory(saved) {
            return Ok(false);
        }
        if upstream.is_finite() && upstream != 1.0 {
            return Err(Error::data(format!(
                "{}: a loss enters with weight {upstream}, not with the promised 1",
                self.node.operation.name()
            )));
        }
        self.graph.early_gradient_is_due(id);
        Ok(true)
    }

    /// As [`Graph::counters`].
    pub(crate) fn counters(&mut self, mask: &Mask) -> Result<u64> {
        self.graph.counters(mask)
    }

    /// A temporary tensor with undefined content.
    pub fn scratch(&mut self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.graph.uninitialised(shape, dtype)
    }
}
