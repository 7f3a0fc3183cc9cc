//! Packed or rounded copies of a tensor that are used more than once.

use super::Graph;
use crate::device::DType;
use crate::error::Result;
use crate::tensor::Tensor;

/// Who needs the copy of a matrix in bf16 again ([`Graph::rounded`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// A parameter's: its products in this step, and in later ones if it is constant.
    Weight,
    /// The backward of this step.
    Step,
    Not,
}

impl Graph {
    /// A promise that nobody changes the parameters that this graph computes with, as nobody does
    /// in prediction. Then what products pack of them is packed once and kept.
    pub fn promise_constant_parameters(&mut self) {
        self.packed = Some(Vec::new());
    }

    /// The packed copy of a weight for `purpose`, `len` elements: made by `pack`, unless it was
    /// before and is kept.
    ///
    /// # Errors
    /// No memory left.
    pub fn packed(
        &mut self,
        weight: &Tensor,
        purpose: &'static str,
        len: usize,
        pack: impl FnOnce(&Tensor),
    ) -> Result<Tensor> {
        let found = |(of, what, _): &&(Tensor, &str, Tensor)| of.same_memory(weight) && *what == purpose;
        if let Some((_, _, buffer)) = self.packed.iter().flatten().find(found) {
            return Ok(buffer.clone());
        }
        let buffer = self.uninitialised([len], weight.dtype())?;
        if self.computes() {
            pack(&buffer);
        }
        if let Some(packed) = &mut self.packed {
            packed.push((weight.clone(), purpose, buffer.clone()));
        }
        Ok(buffer)
    }

    /// The copy of a matrix in bf16, of this shape: made by `round`, unless there is one. In a step
    /// that is recorded a copy of what is to be kept serves to the end of its backward pass,
    /// because until then nobody may change what it was made of; under the promise of constant
    /// parameters, that of a weight serves for good.
    ///
    /// # Errors
    /// No memory left, or of `round`.
    pub(crate) fn rounded(
        &mut self,
        of: &Tensor,
        keep: Keep,
        shape: [usize; 2],
        round: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        const PURPOSE: &str = "bf16";
        let kept = match &self.packed {
            _ if self.recording => self.rounded.iter().find(|(matrix, _)| matrix.same_memory(of)).map(|(_, copy)| copy),
            packed => {
                let mut packed = packed.iter().flatten();
                packed.find(|(weight, what, _)| weight.same_memory(of) && *what == PURPOSE).map(|(.., copy)| copy)
            }
        };
        if let Some(copy) = kept.filter(|copy| copy.dims() == shape) {
            return Ok(copy.clone());
        }
        let copy = self.uninitialised(shape, DType::BF16)?;
        round(&copy)?;
        match &mut self.packed {
            _ if self.recording && keep != Keep::Not => self.rounded.push((of.clone(), copy.clone())),
            Some(packed) if keep == Keep::Weight => packed.push((of.clone(), PURPOSE, copy.clone())),
            _ => {}
        }
        Ok(copy)
    }

    /// Keeps a copy in bf16 that a kernel wrote along with a matrix, for the rest of a recorded
    /// step.
    pub(crate) fn keep_rounded(&mut self, of: &Tensor, copy: &Tensor) {
        if self.recording {
            self.rounded.push((of.clone(), copy.clone()));
        }
    }

    /// Whether [`packed`](Self::packed) keeps anything.
    pub fn keeps_packed(&self) -> bool {
        self.packed.is_some()
    }
}
