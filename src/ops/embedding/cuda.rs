use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context};
use crate::error::Result;
use crate::ops::gpu::{MaskWords, arguments, places_grid, quads_grid};
use crate::ops::mask::Dropout;
use crate::random::Mask;
use crate::tensor::Tensor;

/// `MasksOf` of kernels/embedding.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct MasksWords {
    rows: MaskWords,
    locked: MaskWords,
    rows_given: u32,
    locked_given: u32,
}

/// The two dropouts, as kernels take them.
pub(super) struct Masks<'a> {
    rows: &'a Dropout,
    locked: &'a Dropout,
    words: MasksWords,
}

impl<'a> Masks<'a> {
    /// `counters`: see [`MaskWords::of`].
    pub(super) fn new(
        rows: &'a Dropout,
        locked: &'a Dropout,
        mut counters: impl FnMut(&Mask) -> Result<u64>,
    ) -> Result<Self> {
        let words = MasksWords {
            rows: MaskWords::of(rows, &mut counters)?,
            locked: MaskWords::of(locked, &mut counters)?,
            rows_given: u32::from(rows.given().is_some()),
            locked_given: u32::from(locked.given().is_some()),
        };
        Ok(Masks { rows, locked, words })
    }
}

/// A given mask, or something that is not read.
fn given<'a>(mask: &'a Dropout, other: &'a Tensor) -> Argument<'a> {
    mask.given().unwrap_or(other).argument()
}

/// `tokens`: on the device.
pub(super) fn forward(context: &Context, tokens: &Tensor, w: &Tensor, masks: &Masks, y: &Tensor) -> Result<()> {
    let (n, batch, e) = (tokens.len(), tokens.dims()[1], w.dims()[1]);
    context.launch(
        "embedding_forward",
        quads_grid(n, e),
        arguments![
            tokens.argument(),
            w.argument(),
            given(masks.rows, w),
            given(masks.locked, w),
            Argument::plain(masks.words),
            y.argument(),
            n,
            batch,
            e
        ],
    )
}

/// `places`: those of the tokens, sorted ([`sorted_places`](crate::ops::gpu::sorted_places)).
/// Nothing for the word `pad`.
pub(super) fn backward(
    context: &Context,
    places: &Tensor,
    dy: &Tensor,
    masks: &Masks,
    pad: u32,
    (dw, store): (&Tensor, Store),
) -> Result<()> {
    if store == Store::Set {
        dw.fill_zero();
    }
    let (n, batch, e) = (places.dims()[0], dy.dims()[1], dw.dims()[1]);
    context.launch(
        "embedding_backward",
        places_grid(n, e),
        arguments![
            places.argument(),
            dy.argument(),
            given(masks.rows, dy),
            given(masks.locked, dy),
            Argument::plain(masks.words),
            dw.argument(),
            n,
            batch,
            e,
            pad
        ],
    )
}
