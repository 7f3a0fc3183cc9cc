//! The health of a step: where its numbers stop being finite, and gates that hardly
//! move.

use super::{Graph, Var};
use crate::autodiff::ParameterId;
use crate::device::{DType, Device};
use crate::error::Result;
use crate::tensor::Tensor;

impl Graph {
    /// The first operation of this step with an output that is not finite: its name, and the first
    /// parameter that it or one before it took. Good until [`reset`](Self::reset), after a backward
    /// pass, too; values without a gradient are not looked at.
    ///
    /// # Errors
    /// Errors of a GPU.
    pub fn first_not_finite(&self) -> Result<Option<(&'static str, Option<ParameterId>)>> {
        let mut before = None;
        for node in self.nodes.iter().take_while(|node| node.outputs.iter().all(|v| self.is_of_this_step(*v))) {
            let parameter = node.inputs.iter().find_map(|&v| self.parameter_of(v));
            before = parameter.or(before);
            for &output in &node.outputs {
                if !is_finite(self.tensor(output))? {
                    return Ok(Some((node.operation.name(), before)));
                }
            }
        }
        Ok(None)
    }

    /// Tells for every recurrent operation of this step the share of its gates that are nearer than
    /// 0.01 to 0 or 1, and its first parameter. Before the backward pass, which takes the gates; on
    /// the CPU alone. Nothing is taken from the heap.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn saturations(&self, mut tell: impl FnMut(Option<ParameterId>, f64)) -> Result<()> {
        if self.device() != Device::Cpu {
            return Ok(());
        }
        for node in &self.nodes[..self.length] {
            if let Some(share) = node.operation.saturation(&node.saved)? {
                tell(node.inputs.iter().find_map(|&v| self.parameter_of(v)), share);
            }
        }
        Ok(())
    }

    fn is_of_this_step(&self, var: Var) -> bool {
        var.generation == self.generation && (var.index as usize) < self.values.len()
    }

    fn parameter_of(&self, var: Var) -> Option<ParameterId> {
        match self.values.get(var.index as usize)?.origin {
            super::Origin::Parameter(id) if self.is_of_this_step(var) => Some(id),
            _ => None,
        }
    }
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    if tensor.dtype() == DType::U32 {
        return Ok(true);
    }
    Ok(tensor.to_device(Device::Cpu)?.to_f64().iter().all(|x| x.is_finite()))
}
