use crate::autodiff::{Keep, Store};
use crate::device::cuda::gemm::gemm;
use crate::device::cuda::{Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{
    Parts, Products, arguments, column_sums, gather_rows, places_grid, quads_grid, rounded_copy, sum,
};
use crate::ops::row_parts::RowParts;
use crate::tensor::Tensor;

/// `hidden` `[N, E]`, `weight` `[V, E]`, `bias` `[V]`, and `words` `[K + N]`: the negatives, then
/// the targets. All on the device.
pub(super) struct Inputs<'a> {
    pub hidden: &'a Tensor,
    pub weight: &'a Tensor,
    pub bias: Option<&'a Tensor>,
    pub words: &'a Tensor,
}

/// Buffers: `w_k` `[K, E]`, `b_k` `[K]`, `scores` `[block_rows, K]`.
pub(super) struct Scratch<'a> {
    pub w_k: &'a Tensor,
    pub b_k: &'a Tensor,
    pub scores: &'a Tensor,
}

/// As `cpu::Gradients`: `dh` `[N, E]`, `dw` `[K, E]`, `db` `[K]`, `d_target` `[N]`.
pub(super) struct Gradients<'a> {
    pub dh: &'a Tensor,
    pub dw: &'a Tensor,
    pub db: &'a Tensor,
    pub d_target: &'a Tensor,
}

/// `losses` `[N]`, `loss` `[1]`.
pub(super) fn forward(
    products: &mut Products,
    inputs: &Inputs,
    scratch: &Scratch,
    [losses, loss]: [&Tensor; 2],
    gradients: Option<&Gradients>,
) -> Result<()> {
    let &Inputs { hidden, weight, bias, words } = inputs;
    let &Scratch { w_k, b_k, scores } = scratch;
    let (context, n, k, e) = (products.context, losses.len(), w_k.dims()[0], weight.dims()[1]);
    gather_rows(context, weight.argument(), words.argument(), w_k.argument(), [k, e])?;
    if let Some(bias) = bias {
        gather_rows(context, bias.argument(), words.argument(), b_k.argument(), [k, 1])?;
    }
    let scale = (1.0 / n as f64) as f32;
    let (h, w) = (products.kept(hidden, e, Keep::Not)?, products.operand(w_k, 0, [k, e])?);
    let block = [scores.dims()[0], k];
    let told = RowParts::new(products, block[0], k)?;
    let copy = if gradients.is_some() { products.blank(block)? } else { None };
    let d_scores = Products::of_copy(scores, block, copy);
    let dh_parts = if gradients.is_some() { products.parts([block[0], e, k])? } else { None };
    for first in (0..n).step_by(block[0]) {
        let rows = block[0].min(n - first);
        let h = h.rows(first, rows);
        let score_bias = bias.map(|_| b_k.argument());
        told.decode(context, [h, w.matrix()], score_bias, None, gradients.map(|_| scores))?;
        let [parts, tiles] = told.arguments();
        let targets = words.argument_from(k + first);
        // without a bias or gradients their places are taken by something that is not read
        let d_target = gradients.map_or(losses.argument(), |g| g.d_target.argument_from(first));
        context.launch(
            "sampled_rows",
            Grid::blocks([rows, 1, 1]),
            arguments![
                scores.argument(),
                parts,
                tiles,
                hidden.argument_from(first * e),
                weight.argument(),
                bias.unwrap_or(weight).argument(),
                targets,
                losses.argument_from(first),
                d_target,
                k,
                e,
                scale,
                bias.is_some(),
                gradients.is_some(),
                rounded_copy(&d_scores, 0)
            ],
        )?;
        let Some(&Gradients { dh, dw, db, .. }) = gradients else { continue };
        let d_scores = d_scores.rows(0, rows);
        let dh = dh.argument_from(first * e);
        Parts::product(dh_parts.as_ref(), context, [d_scores, w.matrix()], dh)?;
        let arguments = arguments![weight.argument(), targets, d_target, dh, rows, e];
        context.launch("add_targets", quads_grid(rows, e), arguments)?;
        let store = if first == 0 { Store::Set } else { Store::Add };
        gemm(context, d_scores.t(), h, None, dw.argument(), store)?;
        column_sums(context, scores.argument(), rows, k, (db.argument(), store), None)?;
    }
    sum(context, losses, n, scale, loss)
}

/// Adds the gradients of the negatives `d` `[K, E]` and of the rows' targets, `d_target` `[N]`
/// times `hidden` `[N, E]`, times `factor` to their words' rows of `out`. `places`: those of the
/// words (as in [`Inputs`]), sorted. For a bias E is 1, and there is no `hidden`.
pub(super) fn scatter(
    context: &Context,
    places: &Tensor,
    [d, d_target, factor]: [&Tensor; 3],
    hidden: Option<&Tensor>,
    out: &Tensor,
    e: usize,
) -> Result<()> {
    let (n, k) = (places.dims()[0], d.len() / e);
    context.launch(
        "scatter_words",
        places_grid(n, e),
        arguments![
            places.argument(),
            d.argument(),
            d_target.argument(),
            hidden.unwrap_or(d).argument(),
            factor.argument(),
            out.argument(),
            n,
            k,
            e,
            hidden.is_some()
        ],
    )
}
