//! Rows of several tensors, put side by side: the vectors of the tokens that a head wants.

pub mod cases;
mod cpu;
mod cuda;

use crate::autodiff::{Attributes, Backward, Graph, Operation, Var};
use crate::device::Device;
use crate::device::cuda::context;
use crate::error::{Error, Result};
use crate::ops::gpu;
use crate::real_type;
use crate::tensor::{DType, Tensor};

const NAME: &str = "gather";

/// See [`gather`].
pub struct Gather;

/// Rows of one tensor, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// `[.., E]`: all leading axes are rows.
    pub from: Var,
    /// Rows of it, none twice.
    pub rows: &'a [u32],
    /// For each of them its place in the output, counted in vectors of E.
    pub places: &'a [u32],
}

/// `y[place] = from[row]` for every row that is taken; every place of y is written once.
///
/// * `taken`: at least one tensor; all of one width E
/// * `n`, `parts`: rows of y, and vectors of E that stand side by side in each (the two directions
///   of a tagger are two parts); place `r·parts + p` is part `p` of row `r`
///
/// Returns y: `[n, parts·E]`. Gradients: all tensors.
///
/// # Errors
/// Widths that differ; a row that is not there or is taken twice; a place that is written twice or
/// never.
pub fn gather(g: &mut Graph, taken: &[Taken], n: usize, parts: usize) -> Result<Var> {
    let _span = crate::trace::operation(NAME);
    let Some(first) = taken.first() else { return Err(Error::shape(NAME, "taken", "at least one tensor", 0)) };
    let width = |g: &Graph, v: Var| g.shape(v).dims().last().copied().unwrap_or(0);
    let (e, dtype) = (width(g, first.from), g.dtype(first.from));
    if n == 0 || parts == 0 || e == 0 {
        return Err(Error::shape(NAME, "y", "at least one row, part and column", format!("[{n}, {parts}·{e}]")));
    }
    let mut written = vec![false; n * parts];
    for part in taken {
        if width(g, part.from) != e || g.dtype(part.from) != dtype {
            return Err(Error::shape(NAME, "from", format!("[.., {e}] {dtype}"), g.shape(part.from)));
        }
        if part.rows.len() != part.places.len() {
            return Err(Error::shape(NAME, "places", format!("{} of them", part.rows.len()), part.places.len()));
        }
        let mut seen = vec![false; g.shape(part.from).len() / e];
        for (what, list, marks) in [("rows", part.rows, &mut seen), ("places", part.places, &mut written)] {
            for &at in list {
                match marks.get_mut(at as usize) {
                    Some(mark) if !*mark => *mark = true,
                    _ => return Err(Error::shape(NAME, what, format!("below {}, none twice", marks.len()), at)),
                }
            }
        }
    }
    if let Some(place) = written.iter().position(|written| !written) {
        return Err(Error::shape(NAME, "places", "all that there are", format!("place {place} without a row")));
    }
    let y = g.uninitialised([n, parts * e], dtype)?;
    let mut saved: Vec<Tensor> = Vec::with_capacity(2 * taken.len());
    for part in taken {
        for list in [part.rows, part.places] {
            let host = g.indices([list.len()])?;
            host.write::<u32>().copy_from_slice(list);
            saved.push(if g.device() == Device::Cpu { host } else { gpu::indices(g, &host)? });
        }
    }
    match g.device() {
        Device::Cpu if !g.computes() => {}
        Device::Cpu => real_type!(NAME, "from", dtype, T => {
            let mut y = y.write::<T>();
            for part in taken {
                cpu::copy(&g.tensor(part.from).read::<T>(), part.rows, &mut y, part.places, e);
            }
        }),
        Device::Cuda(gpu) => {
            y.fill_zero();
            for (part, lists) in taken.iter().zip(saved.chunks_exact(2)) {
                let between = g.uninitialised([part.rows.len(), e], dtype)?;
                cuda::move_rows(context(gpu)?, g.tensor(part.from), &lists[0], &between, &y, &lists[1], e)?;
            }
        }
    }
    let inputs: Vec<Var> = taken.iter().map(|part| part.from).collect();
    let saved: Vec<&Tensor> = saved.iter().collect();
    g.record(&Gather, &inputs, &saved, Attributes::pack(e as u64), y)
}

impl Operation for Gather {
    fn name(&self) -> &'static str {
        NAME
    }

    fn backward(&self, b: &mut Backward) -> Result<()> {
        let Some(dy) = b.grad_output(0).cloned() else { return Ok(()) };
        let e = b.attributes::<u64>() as usize;
        for i in 0..b.inputs() {
            let (rows, places) = (b.saved(2 * i).clone(), b.saved(2 * i + 1).clone());
            let Some((dx, store)) = b.grad_input(i)? else { continue };
            match b.device() {
                Device::Cpu if !b.computes() => {}
                Device::Cpu => real_type!(NAME, "from", dy.dtype(), T => {
                    let (rows, places) = (rows.read::<u32>(), places.read::<u32>());
                    cpu::give_back(&dy.read::<T>(), &places, &mut dx.write::<T>(), &rows, e, store);
                }),
                Device::Cuda(gpu) => {
                    if store == crate::autodiff::Store::Set {
                        dx.fill_zero();
                    }
                    let between = b.scratch([rows.len(), e], DType::F32)?;
                    cuda::move_rows(context(gpu)?, &dy, &places, &between, &dx, &rows, e)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{self, tensor};

    #[test]
    fn rows_go_where_they_are_sent() {
        let mut g = testing::graph(DType::F64);
        let a = g.constant(tensor(&[2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]));
        let b = g.constant(tensor(&[1, 2], &[8.0, 9.0]));
        let taken =
            [Taken { from: a, rows: &[3, 0, 1], places: &[0, 3, 2] }, Taken { from: b, rows: &[0], places: &[1] }];
        let y = gather(&mut g, &taken, 2, 2).unwrap();
        assert_eq!(g.shape(y).dims(), [2, 4]);
        assert_eq!(g.tensor(y).to_f64(), [6.0, 7.0, 8.0, 9.0, 2.0, 3.0, 0.0, 1.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut g = testing::graph(DType::F64);
        let a = g.constant(tensor(&[3, 2], &[0.0; 6]));
        let mut fault = |rows: &[u32], places: &[u32], n| {
            gather(&mut g, &[Taken { from: a, rows, places }], n, 1).unwrap_err().to_string()
        };
        assert_eq!(fault(&[0, 3], &[0, 1], 2), "gather: rows must be below 3, none twice, found 3");
        assert_eq!(fault(&[1, 1], &[0, 1], 2), "gather: rows must be below 3, none twice, found 1");
        assert_eq!(fault(&[0, 1], &[1, 1], 2), "gather: places must be below 2, none twice, found 1");
        assert_eq!(fault(&[0], &[1], 2), "gather: places must be all that there are, found place 0 without a row");
    }

    #[test]
    fn gradients() {
        testing::check(cases::cases());
    }
}
