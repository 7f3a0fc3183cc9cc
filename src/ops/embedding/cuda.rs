use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{MaskWords, Places, arguments};
use crate::ops::mask::Dropout;
use crate::tensor::Tensor;

/// `Masks` of kernels/embedding.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Masks {
    rows: MaskWords,
    locked: MaskWords,
    rows_given: u32,
    locked_given: u32,
}

fn masks(rows: &Dropout, locked: &Dropout) -> Argument<'static> {
    Argument::plain(Masks {
        rows: MaskWords::of(rows),
        locked: MaskWords::of(locked),
        rows_given: u32::from(rows.given().is_some()),
        locked_given: u32::from(locked.given().is_some()),
    })
}

/// A given mask, or something that is not read.
fn given<'a>(mask: &'a Dropout, other: &'a Tensor) -> Argument<'a> {
    mask.given().unwrap_or(other).argument()
}

/// `tokens`: on the device.
pub(super) fn forward(
    context: &Context,
    tokens: &Tensor,
    w: &Tensor,
    rows: &Dropout,
    locked: &Dropout,
    y: &Tensor,
) -> Result<()> {
    let (n, batch, e) = (tokens.len(), tokens.dims()[1], w.dims()[1]);
    context.launch(
        "embedding_forward",
        Grid::elements(n * e.div_ceil(4)),
        arguments![
            tokens.argument(),
            w.argument(),
            given(rows, w),
            given(locked, w),
            masks(rows, locked),
            y.argument(),
            n,
            batch,
            e
        ],
    )
}

/// What the gradient is made of.
pub(super) struct Backward<'a> {
    pub words: &'a Places,
    pub dy: &'a Tensor,
    pub rows: &'a Dropout,
    pub locked: &'a Dropout,
}

impl Backward<'_> {
    pub(super) fn run(&self, context: &Context, dw: &Tensor, store: Store) -> Result<()> {
        let &Backward { words, dy, rows, locked } = self;
        if store == Store::Set {
            dw.fill_zero();
        }
        let (batch, e) = (dy.dims()[1], dw.dims()[1]);
        context.launch(
            "embedding_backward",
            Grid::blocks([words.different, e.div_ceil(4 * Grid::BLOCK), 1]),
            arguments![
                words.words.argument(),
                words.places.argument(),
                words.segments.argument(),
                dy.argument(),
                given(rows, dy),
                given(locked, dy),
                masks(rows, locked),
                dw.argument(),
                batch,
                e
            ],
        )
    }
}
