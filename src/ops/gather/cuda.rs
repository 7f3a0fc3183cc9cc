use crate::device::cuda::Context;
use crate::error::Result;
use crate::ops::gpu::{add_rows, gather_rows};
use crate::tensor::Tensor;

/// `to[places[k]] += from[rows[k]]`, rows of `e`, by way of `between` `[rows, E]`; no place twice.
pub(super) fn move_rows(
    context: &Context,
    from: &Tensor,
    rows: &Tensor,
    between: &Tensor,
    to: &Tensor,
    places: &Tensor,
    e: usize,
) -> Result<()> {
    let n = rows.len();
    if n == 0 {
        return Ok(());
    }
    gather_rows(context, from.argument(), rows.argument(), between.argument(), [n, e])?;
    add_rows(context, between.argument(), places.argument(), to.argument(), [n, e])
}
