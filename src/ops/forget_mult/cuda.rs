use super::Sizes;
use crate::autodiff::Store;
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{MaskWords, adds, arguments};
use crate::ops::mask::Dropout;
use crate::tensor::Tensor;

/// The inputs of both passes. Shapes as in [`super::forget_mult`].
pub(super) struct Layer<'a> {
    pub sizes: Sizes,
    pub gates: &'a Tensor,
    pub c0: &'a Tensor,
    /// The factor of every gate f.
    pub factor: f64,
    /// The mask of zoneout.
    pub mask: &'a Dropout,
    /// `mask`, as kernels take it.
    pub words: MaskWords,
}

impl Layer<'_> {
    /// `states` and `y`: `[T, B, H]`.
    pub(super) fn forward(&self, context: &Context, states: &Tensor, y: &Tensor) -> Result<()> {
        let Sizes { t, b, h } = self.sizes;
        let [gates, c0, states, y] = [self.gates, self.c0, states, y].map(Tensor::argument);
        let (given, with_given) = self.given();
        let (factor, mask) = (self.factor as f32, Argument::plain(self.words));
        context.launch(
            "forget_mult_forward",
            Grid::elements(b * h),
            arguments![gates, c0, given, states, y, t, b, h, factor, with_given, mask],
        )
    }

    /// `d_gates` `[T, B, 3H]`, if it is wanted; `carried` `[B, H]` becomes the gradient of c0.
    /// `upstream`: of y and of the last state; absent means zero.
    pub(super) fn backward(
        &self,
        context: &Context,
        states: &Tensor,
        [dy, dc]: [Option<&Tensor>; 2],
        d_gates: Option<(Tensor, Store)>,
        carried: &Tensor,
    ) -> Result<()> {
        let Sizes { t, b, h } = self.sizes;
        let (given, with_given) = self.given();
        let (factor, mask) = (self.factor as f32, Argument::plain(self.words));
        let (with_dy, with_dc, wanted) = (dy.is_some(), dc.is_some(), d_gates.is_some());
        let add = d_gates.as_ref().is_some_and(|(_, store)| adds(*store));
        let [dy, dc] = [dy, dc].map(|d| d.unwrap_or(states).argument());
        let d_gates = d_gates.as_ref().map_or(carried, |(d, _)| d).argument();
        let [gates, c0, states, carried] = [self.gates, self.c0, states, carried].map(Tensor::argument);
        context.launch(
            "forget_mult_backward",
            Grid::elements(b * h),
            arguments![
                gates, c0, given, states, dy, dc, d_gates, carried, t, b, h, factor, with_given, with_dy, with_dc,
                wanted, add, mask
            ],
        )
    }

    /// A given mask (or something else that is not read), and whether it is one.
    fn given(&self) -> (Argument<'_>, bool) {
        let given = self.mask.given();
        (given.unwrap_or(self.c0).argument(), given.is_some())
    }
}
