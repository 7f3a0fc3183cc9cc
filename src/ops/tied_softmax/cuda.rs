use crate::autodiff::{Keep, Store};
use crate::device::cuda::gemm::gemm;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{Operand, Parts, Products, arguments, block_rows, column_sums, sum};
use crate::ops::row_parts::{RowGradient, RowParts, SoftmaxRows};
use crate::tensor::Tensor;

/// `x` `[N, E]`, `w` `[V, E]`, `b` `[V]`.
pub(super) struct Decoder<'a> {
    pub x: &'a Tensor,
    pub w: &'a Tensor,
    pub b: Option<&'a Tensor>,
}

/// Gradients of the mean loss, where wanted.
pub(super) struct Gradients<'a> {
    pub dx: Option<&'a Tensor>,
    pub dw: Option<&'a Tensor>,
    pub db: Option<&'a Tensor>,
}

/// `totals`: f64 `[2]`.
pub(super) fn totals(context: &Context, losses: &Tensor, correct: &Tensor, totals: &Tensor) -> Result<()> {
    let n = losses.len();
    let arguments = arguments![losses.argument(), correct.argument(), totals.argument(), n];
    context.launch("loss_and_hits", Grid::blocks([1, 1, 1]), arguments)
}

impl Decoder<'_> {
    /// x and w.
    fn operands(&self, products: &mut Products) -> Result<[Operand; 2]> {
        let e = self.w.dims()[1];
        Ok([products.kept(self.x, e, Keep::Not)?, products.kept(self.w, e, Keep::Weight)?])
    }

    /// `targets` `[N]` on the device; `losses` `[N]` and `correct` `[N]` of the rows; `loss` `[1]`.
    pub(super) fn forward(
        &self,
        products: &mut Products,
        [targets, losses, correct, loss]: [&Tensor; 4],
        gradients: &Gradients,
    ) -> Result<()> {
        let (context, v, e, n) = (products.context, self.w.dims()[0], self.w.dims()[1], targets.len());
        let scale = (1.0 / n as f64) as f32;
        let wanted = gradients.dx.is_some() || gradients.dw.is_some() || gradients.db.is_some();
        let block = block_rows(n, v, wanted);
        let [x, w] = self.operands(products)?;
        let parts = RowParts::new(products, block, v)?;
        let logits = if wanted { Some(products.graph.uninitialised([block, v], self.x.dtype())?) } else { None };
        let logits = logits.as_ref();
        let copy = if wanted { products.blank([block, v])? } else { None };
        let gradient = RowGradient::new(wanted, gradients.db.is_some(), copy.is_some());
        let dx_parts = if gradients.dx.is_some() { products.parts([block, e, v])? } else { None };
        let d = logits.map(|logits| Products::of_copy(logits, [block, v], copy));
        for first in (0..n).step_by(block) {
            let rows = block.min(n - first);
            let x = x.rows(first, rows);
            let [targets, losses, correct] = [targets, losses, correct].map(|t| t.argument_from(first));
            parts.decode(context, [x, w.matrix()], self.b.map(Tensor::argument), Some(targets), logits)?;
            let softmax = SoftmaxRows { parts: &parts, targets, losses, correct, scale, gradient };
            softmax.launch(context, rows, logits, d.as_ref())?;
            let (Some(logits), Some(d)) = (logits, &d) else { continue };
            let d = d.rows(0, rows);
            if let Some(dx) = gradients.dx {
                let dx = dx.argument_from(first * e);
                Parts::product(dx_parts.as_ref(), context, [d, w.matrix()], dx)?;
            }
            let store = if first == 0 { Store::Set } else { Store::Add };
            if let Some(dw) = gradients.dw {
                gemm(context, d.t(), x, None, dw.argument(), store)?;
            }
            if let Some(db) = gradients.db {
                column_sums(context, logits.argument(), rows, v, (db.argument(), store), None)?;
            }
        }
        sum(context, losses, n, scale, loss)
    }

    /// `out` `[N, V]`
    pub(super) fn log_probabilities(&self, products: &mut Products, out: &Tensor) -> Result<()> {
        let (context, n, v) = (products.context, out.dims()[0], out.dims()[1]);
        let [x, w] = self.operands(products)?;
        let parts = RowParts::new(products, n, v)?;
        parts.decode(context, [x.matrix(), w.matrix()], self.b.map(Tensor::argument), None, Some(out))?;
        parts.log_softmax(context, n, out)
    }
}
