use super::AdaptiveDecoder;
use super::cpu::parts;
use crate::autodiff::{Keep, Store};
use crate::device::cuda::gemm::{Matrix, gemm};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{Operand, Parts, Products, add_rows, arguments, column_sums, gather_rows, sum};
use crate::ops::row_parts::{RowGradient, RowParts, SoftmaxRows};
use crate::tensor::{DType, Tensor};

/// No tombstone, as kernels/adaptive_softmax.cu takes it.
const NO_TOMBSTONE: u32 = u32::MAX;

/// On the device. Buffers: `w_head` `[S0+n, E]`, `b_head` `[S0+n]`, `logits`
/// `[block_rows, widest part]`, `rows` and `d_rows` `[block_rows, E]`.
pub(super) struct Scratch<'a> {
    pub w_head: &'a Tensor,
    pub b_head: &'a Tensor,
    pub logits: &'a Tensor,
    pub rows: &'a Tensor,
    pub d_rows: &'a Tensor,
}

/// As `cpu::Gradients`.
pub(super) struct Gradients<'a> {
    pub dh: &'a Tensor,
    pub dw: &'a Tensor,
    pub db: &'a Tensor,
    pub d_head: &'a Tensor,
    pub db_head: &'a Tensor,
}

fn sizes(decoder: &AdaptiveDecoder<Tensor>) -> (usize, usize, usize) {
    let (v, e) = (decoder.weight.dims()[0], decoder.weight.dims()[1]);
    (v, e, decoder.splits.first().copied().unwrap_or(v))
}

/// Weight and bias of the head: its words, then the tombstones.
fn gather_head(decoder: &AdaptiveDecoder<Tensor>, w_head: &Tensor, b_head: &Tensor) {
    let (_, e, head) = sizes(decoder);
    w_head.copy_elements(0, &decoder.weight, 0, head * e);
    if let Some((vectors, _)) = &decoder.tails {
        w_head.copy_elements(head * e, vectors, 0, vectors.len());
    }
    if let Some(bias) = &decoder.bias {
        b_head.copy_elements(0, bias, 0, head);
        if let Some((_, Some(tail_bias))) = &decoder.tails {
            b_head.copy_elements(head, tail_bias, 0, tail_bias.len());
        }
    }
}

/// Weights as operands: that of the head, and that of all words where there is a tail.
struct Weights {
    head: Operand,
    words: Option<Operand>,
}

impl Weights {
    /// `w_head`: by [`gather_head`].
    fn new(products: &mut Products, decoder: &AdaptiveDecoder<Tensor>, w_head: &Tensor) -> Result<Self> {
        let (_, e, head) = sizes(decoder);
        let tails = decoder.splits.len();
        let words = if tails == 0 { None } else { Some(products.kept(&decoder.weight, e, Keep::Weight)?) };
        Ok(Weights { head: products.operand(w_head, 0, [head + tails, e])?, words })
    }
}

/// The operands of the logits of a part: `x·wᵀ + b`.
struct Part<'a> {
    weight: Matrix<'a>,
    bias: Option<Argument<'a>>,
    width: usize,
}

/// The parts of a decoder, the head's bias from its buffer.
fn part<'a>(
    decoder: &'a AdaptiveDecoder<Tensor>,
    weights: &'a Weights,
    b_head: &'a Tensor,
    i: usize,
    words: &std::ops::Range<usize>,
) -> Part<'a> {
    let (_, _, head) = sizes(decoder);
    let bias = decoder.bias.as_ref();
    match &weights.words {
        Some(all) if i > 0 => {
            let weight = all.rows(words.start, words.len());
            Part { weight, bias: bias.map(|b| b.argument_from(words.start)), width: words.len() }
        }
        _ => {
            let width = head + decoder.splits.len();
            Part { weight: weights.head.matrix(), bias: bias.map(|_| b_head.argument()), width }
        }
    }
}

/// `hidden` `[N, E]`, `targets` `[N]` (on the host), `losses` `[N]`, `loss` `[1]`.
pub(super) fn forward(
    products: &mut Products,
    decoder: &AdaptiveDecoder<Tensor>,
    [hidden, targets]: [&Tensor; 2],
    scratch: &Scratch,
    [losses, loss]: [&Tensor; 2],
    gradients: Option<&Gradients>,
) -> Result<()> {
    let (context, (v, e, head)) = (products.context, sizes(decoder));
    let n = targets.len();
    let &Scratch { w_head, b_head, logits, rows: gathered, d_rows } = scratch;
    losses.fill_zero();
    if let Some(g) = gradients {
        // of a part without a row, and to be added to
        [g.dh, g.dw, g.db].into_iter().for_each(Tensor::fill_zero);
    }
    gather_head(decoder, w_head, b_head);
    let weights = Weights::new(products, decoder, w_head)?;
    let block = gathered.dims()[0];
    let g = &mut *products.graph;
    let (order, within) = (g.uninitialised([n], DType::U32)?, g.uninitialised([n], DType::U32)?);
    let (block_losses, correct) = (g.uninitialised([block], DType::F32)?, g.uninitialised([block], DType::U32)?);
    let scale = (1.0 / n as f64) as f32;
    for (i, words) in parts(decoder.splits, v).enumerate() {
        // the rows that this part concerns, and their targets in it: all of them for the head,
        // those with a target in it for a tail
        let (mut concerned, mut wanted) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for (row, &y) in targets.read::<u32>().iter().enumerate() {
            let word = y as usize;
            let target = match i {
                0 if word < head => word,
                0 => head + decoder.splits.partition_point(|&split| split <= word) - 1,
                _ if words.contains(&word) => word - words.start,
                _ => continue,
            };
            concerned.push(row as u32);
            wanted.push(target as u32);
        }
        for (to, list) in [(&order, &concerned), (&within, &wanted)] {
            to.copy_elements(0, &Tensor::from_slice([list.len()], list)?, 0, list.len());
        }
        let part = part(decoder, &weights, b_head, i, &words);
        let Part { weight, bias, width } = part;
        let told = RowParts::new(products, block.min(concerned.len()).max(1), width)?;
        let copy = if gradients.is_some() { products.blank([block, width])? } else { None };
        let most = block.min(concerned.len()).max(1);
        let dx_parts = if gradients.is_some() { products.parts([most, e, width])? } else { None };
        let gradient = RowGradient::new(gradients.is_some(), true, copy.is_some());
        let kept = gradients.map(|_| logits);
        let d_logits = Products::of_copy(logits, [block, width], copy);
        for (k, first) in (0..concerned.len()).step_by(block).enumerate() {
            let rows = block.min(concerned.len() - first);
            let which = order.argument_from(first);
            gather_rows(context, hidden.argument(), which, gathered.argument(), [rows, e])?;
            let x = products.operand(gathered, 0, [rows, e])?;
            let targets = within.argument_from(first);
            told.decode(context, [x.matrix(), weight], bias, Some(targets), kept)?;
            let (losses_of_block, correct) = (block_losses.argument(), correct.argument());
            let softmax = SoftmaxRows { parts: &told, targets, losses: losses_of_block, correct, scale, gradient };
            softmax.launch(context, rows, kept, Some(&d_logits))?;
            add_rows(context, losses_of_block, which, losses.argument(), [rows, 1])?;
            let Some(g) = gradients else { continue };
            let d_logits = d_logits.rows(0, rows);
            Parts::product(dx_parts.as_ref(), context, [d_logits, weight], d_rows.argument())?;
            add_rows(context, d_rows.argument(), which, g.dh.argument(), [rows, e])?;
            let (dw, db) = match i {
                0 => (g.d_head.argument(), g.db_head.argument()),
                _ => (g.dw.argument_from(words.start * e), g.db.argument_from(words.start)),
            };
            let store = if k == 0 { Store::Set } else { Store::Add };
            gemm(context, d_logits.t(), x.matrix(), None, dw, store)?;
            column_sums(context, logits.argument(), rows, width, (db, store), None)?;
        }
    }
    if let Some(g) = gradients {
        g.dw.copy_elements(0, g.d_head, 0, head * e);
        g.db.copy_elements(0, g.db_head, 0, head);
    }
    sum(context, losses, n, scale, loss)
}

/// Buffers: `[S0+n, E]`, `[S0+n]`, `[block_rows, widest part]`, `[block_rows, S0+n]`; `out`
/// `[N, V]`.
pub(super) fn log_probabilities(
    products: &mut Products,
    decoder: &AdaptiveDecoder<Tensor>,
    hidden: &Tensor,
    [w_head, b_head, logits, of_head]: [&Tensor; 4],
    out: &Tensor,
) -> Result<()> {
    let (context, (v, e, head)) = (products.context, sizes(decoder));
    let (n, block, head_width) = (hidden.dims()[0], logits.dims()[0], head + decoder.splits.len());
    gather_head(decoder, w_head, b_head);
    let (weights, hidden) = (Weights::new(products, decoder, w_head)?, products.operand(hidden, 0, [n, e])?);
    for first in (0..n).step_by(block) {
        let rows = block.min(n - first);
        for (i, words) in parts(decoder.splits, v).enumerate() {
            let part = part(decoder, &weights, b_head, i, &words);
            let (result, tombstone) = if i == 0 { (of_head, NO_TOMBSTONE) } else { (logits, (head + i - 1) as u32) };
            let told = RowParts::new(products, rows, part.width)?;
            told.decode(context, [hidden.rows(first, rows), part.weight], part.bias, None, Some(result))?;
            told.log_softmax(context, rows, result)?;
            let arguments = arguments![
                result.argument(),
                part.width,
                of_head.argument(),
                head_width,
                tombstone,
                out.argument_from(first * v),
                v,
                words.start,
                words.len(),
                rows
            ];
            context.launch("place_part", Grid::elements(rows * words.len()), arguments)?;
        }
    }
    Ok(())
}

/// `all` `[rows, V]`; the others of these rows, on the device.
pub(super) fn row_results(
    context: &Context,
    all: &Tensor,
    targets: &Tensor,
    [losses, correct]: [Argument; 2],
) -> Result<()> {
    let (rows, v) = (all.dims()[0], all.dims()[1]);
    let arguments = arguments![all.argument(), targets.argument(), losses, correct, v];
    context.launch("row_results", Grid::blocks([rows, 1, 1]), arguments)
}
