//! Shared by operations with weights of 8 bits ([`crate::device::cpu::int8`]).

use crate::autodiff::{Graph, Var};
use crate::device::cpu::int8::{MOST_COLUMNS, pack, packed_len};
use crate::error::{Error, Result};
use crate::real_type;
use crate::tensor::Tensor;

/// The refusal where a gradient is asked for.
pub(super) fn for_prediction() -> Error {
    Error::usage("weights of 8 bits are for prediction: nothing can be learned with them")
        .hint("leave --precision int8 out")
}

/// Refuses to record, and weights whose sums could leave 32 bits.
pub(super) fn check(operation: &'static str, g: &Graph, weights: &[Var]) -> Result<()> {
    if g.is_recording() {
        return Err(for_prediction());
    }
    for &w in weights {
        let columns = g.shape(w).dims().last().copied().unwrap_or(0);
        if columns > MOST_COLUMNS {
            let expected = format!("at most {MOST_COLUMNS} columns for weights of 8 bits");
            return Err(Error::shape(operation, "weight", expected, columns));
        }
    }
    Ok(())
}

/// A weight `[N, K]`, quantised and packed; once, where parameters are constant.
pub(super) fn packed(g: &mut Graph, w: Var) -> Result<Tensor> {
    let weight = g.tensor(w).clone();
    let &[rows, columns] = weight.dims() else { return Err(Error::shape("int8", "weight", "[N, K]", weight.shape())) };
    real_type!("int8", "weight", weight.dtype(), T => {
        let len = packed_len::<T>(rows, columns);
        g.packed(&weight, "int8", len, |to| pack(&weight.read::<T>(), rows, columns, &mut to.write::<T>()))
    })
}
