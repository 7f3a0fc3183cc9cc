//! The LSTM on a GPU, step-wise: the input's product for all steps at once, then one launch a step, in which the cell is the epilogue of the
//! product with W_hh; backward, two launches a step.

use super::Sizes;
use crate::autodiff::Store;
use crate::device::cuda::gemm::{Matrix, gemm};
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{arguments, column_sums, multiply, put_scaled};
use crate::ops::mask::Dropout;
use crate::tensor::Tensor;

/// What both passes read. `dropped` is W_hh ⊙ mask, `[4H, H]`.
pub(super) struct Layer<'a> {
    pub sizes: Sizes,
    pub x: &'a Tensor,
    pub h0: &'a Tensor,
    pub c0: &'a Tensor,
    pub w_ih: &'a Tensor,
    pub dropped: &'a Tensor,
}

/// `dropped = w ⊙ mask`
pub(super) fn drop_weight(context: &Context, w: &Tensor, weight: &Dropout, dropped: &Tensor) -> Result<()> {
    multiply(context, w, weight, [w.dims()[0], w.dims()[1]], dropped, Store::Set)
}

/// `bias` `[4H]` takes `b_ih + b_hh`.
pub(super) fn add_biases(context: &Context, b_ih: &Tensor, b_hh: &Tensor, bias: &Tensor) -> Result<()> {
    let n = bias.len();
    context.launch("add", Grid::elements(n), arguments![b_ih.argument(), b_hh.argument(), bias.argument(), n])
}

impl Layer<'_> {
    /// Blocks of 64 rows of the batch and 16 units.
    fn step_grid(&self) -> Grid {
        Grid::blocks([self.sizes.h.div_ceil(16), self.sizes.b.div_ceil(64), 1])
    }

    /// `y` `[T, B, H]`, activated `gates` `[T, B, 4H]`, `cells` `[T, B, H]`.
    pub(super) fn forward(
        &self,
        context: &Context,
        bias: &Tensor,
        y: &Tensor,
        gates: &Tensor,
        cells: &Tensor,
    ) -> Result<()> {
        let Sizes { t: steps, b, i, h } = self.sizes;
        let x = Matrix::new(self.x.argument(), steps * b, i);
        let w_ih = Matrix::new(self.w_ih.argument(), 4 * h, i);
        gemm(context, x, w_ih.t(), Some(bias.argument()), gates.argument(), Store::Set)?;
        for t in 0..steps {
            let at = t * b * h;
            let (h_before, c_before) = match t {
                0 => (self.h0.argument(), self.c0.argument()),
                _ => (y.argument_from(at - b * h), cells.argument_from(at - b * h)),
            };
            context.launch(
                "lstm_step",
                self.step_grid(),
                arguments![
                    h_before,
                    c_before,
                    self.dropped.argument(),
                    gates.argument_from(4 * at),
                    cells.argument_from(at),
                    y.argument_from(at),
                    b,
                    h
                ],
            )?;
        }
        Ok(())
    }

    /// Turns `gates` into the gradients of the pre-activations. `upstream`: of `y`, `h`, `c`; absent means zero. `dh` and `dc` `[B, H]` end as the
    /// gradients of h0 and c0.
    pub(super) fn backward_recurrence(
        &self,
        context: &Context,
        upstream: &[Option<Tensor>; 3],
        cells: &Tensor,
        gates: &Tensor,
        [dh, dc]: [&Tensor; 2],
    ) -> Result<()> {
        let Sizes { t: steps, b, h, .. } = self.sizes;
        for (from, to) in [(&upstream[1], dh), (&upstream[2], dc)] {
            match from {
                Some(from) => put_scaled(context, from.argument(), 1.0, to.argument(), b * h, Store::Set)?,
                None => to.fill_zero(),
            }
        }
        let w = Matrix::new(self.dropped.argument(), 4 * h, h);
        for t in (0..steps).rev() {
            let at = t * b * h;
            let z = gates.argument_from(4 * at);
            let c_before = if t == 0 { self.c0.argument() } else { cells.argument_from(at - b * h) };
            let dy = upstream[0].as_ref();
            context.launch(
                "lstm_cell_backward",
                Grid::elements(b * h),
                arguments![
                    z,
                    c_before,
                    cells.argument_from(at),
                    dy.map_or(dh.argument(), |dy| dy.argument_from(at)),
                    dh.argument(),
                    dc.argument(),
                    b,
                    h,
                    dy.is_some()
                ],
            )?;
            gemm(context, Matrix::new(z, b, 4 * h), w, None, dh.argument(), Store::Set)?;
        }
        Ok(())
    }

    /// `dx (+)= dz·W_ih`
    pub(super) fn backward_input(&self, context: &Context, dz: &Tensor, dx: &Tensor, store: Store) -> Result<()> {
        let Sizes { t, b, i, h } = self.sizes;
        let dz = Matrix::new(dz.argument(), t * b, 4 * h);
        gemm(context, dz, Matrix::new(self.w_ih.argument(), 4 * h, i), None, dx.argument(), store)
    }

    /// `dW_ih (+)= dzᵀ·x`
    pub(super) fn backward_w_ih(&self, context: &Context, dz: &Tensor, dw: &Tensor, store: Store) -> Result<()> {
        let Sizes { t, b, i, h } = self.sizes;
        let dz = Matrix::new(dz.argument(), t * b, 4 * h);
        gemm(context, dz.t(), Matrix::new(self.x.argument(), t * b, i), None, dw.argument(), store)
    }

    /// `dW_hh (+)= (Σ_t dz_tᵀ·h_{t-1}) ⊙ mask`; `total` `[4H, H]` is a buffer. h_{t-1} is h0 for the first step, then y shifted by one.
    pub(super) fn backward_w_hh(
        &self,
        context: &Context,
        [dz, y]: [&Tensor; 2],
        weight: &Dropout,
        total: &Tensor,
        dw: &Tensor,
        store: Store,
    ) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        let first = Matrix::new(dz.argument(), b, 4 * h);
        gemm(context, first.t(), Matrix::new(self.h0.argument(), b, h), None, total.argument(), Store::Set)?;
        if t > 1 {
            let rows = (t - 1) * b;
            let later = Matrix::new(dz.argument_from(b * 4 * h), rows, 4 * h);
            gemm(context, later.t(), Matrix::new(y.argument(), rows, h), None, total.argument(), Store::Add)?;
        }
        multiply(context, total, weight, [4 * h, h], dw, store)
    }

    /// `db (+)= Σ_rows dz`
    pub(super) fn backward_bias(&self, context: &Context, dz: &Tensor, db: &Tensor, store: Store) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        column_sums(context, dz.argument(), t * b, 4 * h, db.argument(), store)
    }
}
