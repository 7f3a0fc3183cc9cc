//! A graph without memory and arithmetic, and the products that operations report to it.

use super::Graph;
use crate::device::{DType, Device, Pool};
use crate::trace;

/// Arithmetic of matrix products as a dry graph counts it: floating-point operations, a
/// multiply-add as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub forward: u64,
    /// Arithmetic of gradients, also of those that a forward pass computes.
    pub backward: u64,
}

impl Graph {
    /// A graph of the CPU that runs operations without memory and without arithmetic: they take the
    /// same buffers, whose sizes its pool keeps, and tell what they would multiply. Only indices
    /// have values. What it is for: `train::plan`, which knows the needs of a step from running it
    /// dry.
    pub fn dry(dtype: DType) -> Self {
        Graph { pool: Pool::dry(), ..Graph::new(Device::Cpu, dtype, None) }
    }

    /// Whether operations compute; those of a [dry](Self::dry) graph do not, and leave out all that
    /// reads or writes numbers.
    pub fn computes(&self) -> bool {
        !self.pool.is_dry()
    }

    /// Tells a dry graph of products `[m, k]` by `[k, n]` that an operation computes in its forward
    /// pass: `[m, n, k]`.
    pub fn multiplies(&mut self, mnk: [usize; 3]) {
        self.count(trace::Pass::Forward, mnk);
    }

    /// As [`multiplies`](Self::multiplies), of gradients, which an operation may compute in either
    /// pass.
    pub fn multiplies_for_gradients(&mut self, mnk: [usize; 3]) {
        self.count(trace::Pass::Backward, mnk);
    }

    fn count(&mut self, pass: trace::Pass, [m, n, k]: [usize; 3]) {
        if self.computes() {
            return;
        }
        let flop = [m, n, k].iter().fold(2u64, |flop, &size| flop.saturating_mul(size as u64));
        let side = match pass {
            trace::Pass::Backward => &mut self.counted.backward,
            _ => &mut self.counted.forward,
        };
        *side = side.saturating_add(flop);
    }

    /// The arithmetic that was reported to a dry graph since the last call.
    pub fn take_counted(&mut self) -> Counted {
        std::mem::take(&mut self.counted)
    }
}
