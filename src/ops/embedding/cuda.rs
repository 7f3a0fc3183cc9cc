use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{MaskWords, arguments};
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

/// Where each token stands: the places sorted by token (places of one token in order), and where each token's places begin, with their
/// number at the end. The pad row is left out.
pub(super) fn places(tokens: &[u32], pad: u32) -> (Vec<u32>, Vec<u32>) {
    let mut places: Vec<u32> = (0..tokens.len() as u32).filter(|&i| tokens[i as usize] != pad).collect();
    places.sort_by_key(|&i| tokens[i as usize]);
    let token = |i: usize| tokens[places[i] as usize];
    let mut segments: Vec<u32> =
        (0..places.len()).filter(|&i| i == 0 || token(i) != token(i - 1)).map(|i| i as u32).collect();
    segments.push(places.len() as u32);
    (places, segments)
}

/// What the gradient is made of; `tokens`, `places` and `segments` on the device.
pub(super) struct Backward<'a> {
    pub tokens: &'a Tensor,
    pub places: &'a Tensor,
    pub segments: &'a Tensor,
    pub dy: &'a Tensor,
    pub rows: &'a Dropout,
    pub locked: &'a Dropout,
}

impl Backward<'_> {
    pub(super) fn run(&self, context: &Context, dw: &Tensor, store: Store) -> Result<()> {
        let &Backward { tokens, places, segments, dy, rows, locked } = self;
        if store == Store::Set {
            dw.fill_zero();
        }
        let (batch, e) = (dy.dims()[1], dw.dims()[1]);
        context.launch(
            "embedding_backward",
            Grid::blocks([segments.len() - 1, e.div_ceil(4 * Grid::BLOCK), 1]),
            arguments![
                tokens.argument(),
                places.argument(),
                segments.argument(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sorted_by_token_and_in_order() {
        let (places, segments) = places(&[5, 2, 5, 1, 2, 5], 1);
        assert_eq!(places, [1, 4, 0, 2, 5]);
        assert_eq!(segments, [0, 2, 5]);
        assert_eq!(super::places(&[1, 1], 1), (vec![], vec![0]));
    }
}
