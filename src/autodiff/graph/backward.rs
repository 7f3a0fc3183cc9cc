//! The backward pass of a graph.

use super::{Graph, Origin, Var, bytes, empty};
use crate::autodiff::parameters::Parameters;
use crate::autodiff::tape::{Backward, Node};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::trace;

impl Graph {
    /// Back-propagates from a scalar loss; consumes the tape. Gradients of parameters are added to
    /// what the slab has since [`Parameters::clear_gradients`].
    pub fn backward(&mut self, loss: Var, parameters: &mut Parameters) -> Result<()> {
        if self.tensor(loss).len() != 1 {
            return Err(Error::shape("backward", "loss", "a scalar", self.shape(loss)));
        }
        let (shape, dtype) = (self.shape(loss), self.dtype(loss));
        let one = self.uninitialised(shape, dtype)?;
        one.set_f64(&[1.0]);
        self.backward_from(&[(loss, one)], parameters)
    }

    /// Back-propagates from given gradients of given values (a vector-Jacobian product); consumes
    /// the tape.
    pub fn backward_from(&mut self, seeds: &[(Var, Tensor)], parameters: &mut Parameters) -> Result<()> {
        for (var, seed) in seeds {
            if seed.shape().len() != self.shape(*var).len() || seed.dtype() != self.dtype(*var) {
                return Err(Error::shape("backward", "seed", self.shape(*var).to_string(), seed.shape()));
            }
            if self.needs_gradient(*var) {
                self.values[var.index as usize].gradient = Some(seed.clone());
            }
        }
        for &(id, _) in &self.early {
            parameters.touch(id);
        }
        // after this pass a gradient is there
        self.values.iter_mut().for_each(|value| value.early = None);
        let _pass = trace::pass(trace::Pass::Backward);
        while self.length > 0 {
            self.length -= 1;
            let mut node = std::mem::replace(&mut self.nodes[self.length], empty());
            if node.outputs.iter().any(|&v| self.gradient(v).is_some()) {
                let operation = node.operation;
                let faulty = self.fault.is_some_and(|f| f.operation == operation.name());
                let _layer = trace::within(node.layer);
                let _span = trace::operation(operation.name());
                trace::traffic(|| self.traffic_of(&node));
                operation.backward(&mut Backward { graph: self, parameters, node: &mut node })?;
                if faulty {
                    self.flip_sign(&node, parameters);
                }
            }
            for &output in &node.outputs {
                // gradients that are no longer needed go back to the pool
                self.values[output.index as usize].gradient = None;
            }
            node.saved.clear();
            self.nodes[self.length] = node;
        }
        self.rounded.clear();
        self.carried.drain(..).for_each(|(from, to)| to.copy_from(&from));
        let all_due = self.early.iter().all(|&(_, due)| due);
        self.early.clear();
        if !all_due {
            return Err(Error::data(
                "a loss that began a gradient in the forward pass is not part of the differentiated loss",
            ));
        }
        Ok(())
    }

    /// Bytes that a backward has to read and write at least: the saved tensors, and the gradients
    /// of outputs and inputs.
    fn traffic_of(&self, node: &Node) -> usize {
        let saved = node.saved.iter().flatten();
        let upstream = node.outputs.iter().filter(|&&v| self.gradient(v).is_some());
        let wanted = node.inputs.iter().filter(|&&v| self.needs_gradient(v));
        saved.chain(upstream.chain(wanted).map(|&v| self.tensor(v))).map(bytes).sum()
    }

    fn flip_sign(&mut self, node: &Node, parameters: &Parameters) {
        let Some(&var) = self.fault.and_then(|f| node.inputs.get(f.input)) else { return };
        let gradient = match self.origin(var) {
            Origin::Parameter(id) => Some(parameters.gradient(id).clone()),
            _ => self.gradient(var).cloned(),
        };
        if let Some(gradient) = gradient {
            let mut values = gradient.to_f64();
            if let Some(v) = values.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())) {
                *v = -*v;
            }
            gradient.set_f64(&values);
        }
    }
}
