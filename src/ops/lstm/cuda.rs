//! The LSTM on a GPU: the input's product for all steps at once, then the recurrence by one of two
//! plans. Step-wise: one launch a step, in which the cell is the epilogue of the product with W_hh;
//! backward, two launches a step. Persistent: one cooperative launch for all steps.

use super::Sizes;
use super::plan::{LstmPlan, Pass, Persistent, decide};
use crate::autodiff::{Backward, Keep, Store};
use crate::device::Precision;
use crate::device::cuda::gemm::{Split, gemm, gemm_parts, round_operand, rounded_pitch};
use crate::device::cuda::{Argument, Context, Grid};
use crate::error::Result;
use crate::ops::gpu::{
    MaskWords, Operand, Products, arguments, column_sums, multiply, no_copy, put_scaled, rounded_copy,
};
use crate::ops::mask::Dropout;
use crate::tensor::{DType, Tensor};

/// The inputs of both passes.
pub(super) struct Layer<'a> {
    pub sizes: Sizes,
    pub x: &'a Tensor,
    pub h0: &'a Tensor,
    pub c0: &'a Tensor,
    pub w_ih: &'a Tensor,
    /// Without its mask.
    pub w_hh: &'a Tensor,
    pub weight: &'a Dropout,
    /// `weight`, as kernels take it.
    pub words: MaskWords,
}

/// The state that the backward carries from step to step: the gradients of h and c, in the end
/// those of h0 and c0; and the counter of its grid barrier. One tensor, so that one launch zeroes
/// it.
pub(super) struct Carried {
    /// `[2·B·H + 1]`
    all: Tensor,
    /// B·H
    n: usize,
}

impl Carried {
    pub(super) fn new(backward: &mut Backward, Sizes { b, h, .. }: Sizes) -> Result<Self> {
        let n = b * h;
        Ok(Carried { all: backward.scratch([2 * n + 1], DType::F32)?, n })
    }

    /// `[B, H]`
    pub(super) fn dh(&self) -> Argument<'_> {
        self.all.argument()
    }

    /// `[B, H]`
    pub(super) fn dc(&self) -> Argument<'_> {
        self.all.argument_from(self.n)
    }

    fn arrived(&self) -> Argument<'_> {
        self.all.argument_from(2 * self.n)
    }

    /// From upstream gradients of the last h and c; absent means zero.
    fn begin(&self, context: &Context, upstream: [&Option<Tensor>; 2]) -> Result<()> {
        self.all.fill_zero();
        let given = upstream.into_iter().zip([self.dh(), self.dc()]);
        given
            .filter_map(|(from, to)| from.as_ref().map(|from| (from, to)))
            .try_for_each(|(from, to)| put_scaled(context, from.argument(), 1.0, to, self.n, Store::Set))
    }
}

/// How many neighbouring floats of rows of `row` floats can be read at a time, from all of these
/// places.
fn vector(row: usize, places: &[Argument]) -> usize {
    let fits = |n: &usize| row.is_multiple_of(*n) && places.iter().all(|p| p.address().is_multiple_of(4 * *n as u64));
    [4, 2].into_iter().find(fits).unwrap_or(1)
}

impl Layer<'_> {
    /// `y` `[T, B, H]`, activated `gates` `[T, B, 4H]`, `cells` `[T, B, H]`.
    pub(super) fn forward(
        &self,
        products: &mut Products,
        [b_ih, b_hh]: [&Tensor; 2],
        [y, gates, cells]: [&Tensor; 3],
        keep: Keep,
    ) -> Result<()> {
        let Sizes { b, i, h, .. } = self.sizes;
        let context = products.context;
        let bias = products.graph.uninitialised([4 * h], DType::F32)?;
        let sum = arguments![b_ih.argument(), b_hh.argument(), bias.argument(), 4 * h];
        context.launch("add", Grid::elements(4 * h), sum)?;
        let (x, w_ih) = (products.kept(self.x, i, keep)?, products.kept(self.w_ih, i, Keep::Weight)?);
        gemm(context, x.matrix(), w_ih.matrix().t(), Some(bias.argument()), gates.argument(), Store::Set)?;
        let plan = decide(context, products.graph.precision(), Pass::Forward, b, h)?;
        match plan {
            LstmPlan::StepWise if products.are_rounded() => self.forward_steps_rounded(products, [y, gates, cells]),
            LstmPlan::StepWise => {
                let dropped = products.graph.uninitialised([4 * h, h], DType::F32)?;
                self.forward_steps(context, &dropped, y, gates, cells)
            }
            LstmPlan::Persistent(plan) => self.forward_persistent(products, plan, [y, gates, cells]),
        }
    }

    fn forward_persistent(
        &self,
        products: &mut Products,
        plan: Persistent,
        [y, gates, cells]: [&Tensor; 3],
    ) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        // of its grid barrier
        let arrived = products.graph.zeros([1], DType::F32)?;
        let (context, kernel, arrived) = (products.context, plan.kernel(Pass::Forward), arrived.argument());
        let (w, c0) = (self.w_hh.argument(), self.c0.argument());
        let (gates, cells) = (gates.argument(), cells.argument());
        let (given, with_given, mask) = self.mask();
        match plan.precision {
            Precision::Full => {
                let (h0, y) = (self.h0.argument(), y.argument());
                let (blocks, vector) = (plan.blocks, vector(h, &[h0, y]));
                let all =
                    arguments![h0, c0, w, given, gates, cells, y, arrived, t, b, h, blocks, vector, with_given, mask];
                context.launch_cooperative(kernel, plan.grid(), all)
            }
            Precision::Bf16 => {
                let (h0, all_h) = (products.kept(self.h0, h, Keep::Step)?, self.rounded_states(products, y)?);
                let (ld, y) = (rounded_pitch(h), y.argument());
                let pairs = vector(h, &[c0, w, given, gates, cells, y]) > 1;
                context.launch_cooperative(
                    kernel,
                    plan.grid(),
                    arguments![
                        h0.row(0),
                        c0,
                        w,
                        given,
                        gates,
                        cells,
                        y,
                        all_h.row(0),
                        arrived,
                        t,
                        b,
                        h,
                        ld,
                        plan.blocks,
                        pairs,
                        with_given,
                        mask
                    ],
                )
            }
        }
    }

    /// Where a kernel writes all states of h as an operand, kept for the products with `y`.
    fn rounded_states(&self, products: &mut Products, y: &Tensor) -> Result<Operand> {
        let Sizes { t, b, h, .. } = self.sizes;
        let states = Products::of_copy(y, [t * b, h], products.blank([t * b, h])?);
        states.keep_for(products.graph, y);
        Ok(states)
    }

    /// A given mask (or something else that is not read), whether it is one, and the mask of the
    /// counters.
    fn mask(&self) -> (Argument<'_>, bool, Argument<'_>) {
        let given = self.weight.given();
        let argument = given.map_or(self.w_hh.argument(), |mask| mask.argument());
        (argument, given.is_some(), Argument::plain(self.words))
    }

    /// `dropped = W_hh ⊙ mask`
    fn drop_weight(&self, context: &Context, dropped: &Tensor) -> Result<()> {
        let h = self.sizes.h;
        multiply(context, self.w_hh, (self.weight, self.words), [4 * h, h], dropped, Store::Set)
    }

    fn forward_steps(
        &self,
        context: &Context,
        dropped: &Tensor,
        y: &Tensor,
        gates: &Tensor,
        cells: &Tensor,
    ) -> Result<()> {
        let Sizes { t: steps, b, h, .. } = self.sizes;
        self.drop_weight(context, dropped)?;
        // blocks of 64 rows of the batch and 16 units
        let grid = Grid::blocks([h.div_ceil(16), b.div_ceil(64), 1]);
        for t in 0..steps {
            let at = t * b * h;
            let (h_before, c_before) = match t {
                0 => (self.h0.argument(), self.c0.argument()),
                _ => (y.argument_from(at - b * h), cells.argument_from(at - b * h)),
            };
            context.launch(
                "lstm_step",
                grid,
                arguments![
                    h_before,
                    c_before,
                    dropped.argument(),
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

    /// W_hh, dropped, as an operand.
    fn dropped_operand(&self, products: &mut Products) -> Result<Operand> {
        let h = self.sizes.h;
        if self.weight.is_off() {
            return products.kept(self.w_hh, h, Keep::Weight);
        }
        let dropped = products.graph.uninitialised([4 * h, h], DType::F32)?;
        self.drop_weight(products.context, &dropped)?;
        products.operand(&dropped, 0, [4 * h, h])
    }

    /// The steps with products in bf16; h is written in both formats.
    fn forward_steps_rounded(&self, products: &mut Products, [y, gates, cells]: [&Tensor; 3]) -> Result<()> {
        let Sizes { t: steps, b, h, .. } = self.sizes;
        let dropped = self.dropped_operand(products)?;
        let h0 = products.kept(self.h0, h, Keep::Step)?;
        let all_h = self.rounded_states(products, y)?;
        let grid = Grid::blocks([h.div_ceil(16), b.div_ceil(64), 1]);
        for t in 0..steps {
            let at = t * b * h;
            let (h_before, c_before) = match t {
                0 => (h0.row(0), self.c0.argument()),
                _ => (all_h.row((t - 1) * b), cells.argument_from(at - b * h)),
            };
            products.context.launch(
                "lstm_step_bf16",
                grid,
                arguments![
                    h_before,
                    c_before,
                    dropped.row(0),
                    gates.argument_from(4 * at),
                    cells.argument_from(at),
                    y.argument_from(at),
                    all_h.row(t * b),
                    b,
                    h,
                    rounded_pitch(h)
                ],
            )?;
        }
        Ok(())
    }

    /// Turns `gates` into the gradients of the pre-activations, and returns them as an operand.
    /// `upstream`: of `y`, `h`, `c`; absent means zero.
    pub(super) fn backward_recurrence(
        &self,
        products: &mut Products,
        upstream: &[Option<Tensor>; 3],
        [cells, gates]: [&Tensor; 2],
        carried: &Carried,
    ) -> Result<Operand> {
        let Sizes { t, b, h, .. } = self.sizes;
        let context = products.context;
        let [dy, dh, dc] = upstream;
        carried.begin(context, [dh, dc])?;
        let shape = [t * b, 4 * h];
        let dz = Products::of_copy(gates, shape, products.blank(shape)?);
        match decide(context, products.graph.precision(), Pass::Backward, b, h)? {
            LstmPlan::StepWise => {
                let dropped = self.dropped_operand(products)?;
                let split = Split::choose(context, products.graph.precision(), [b, h, 4 * h]);
                let parts = match split.count {
                    1 => None,
                    count => Some((split, products.graph.uninitialised([count, b, h], DType::F32)?)),
                };
                self.backward_steps(context, &dropped, dy.as_ref(), [cells, gates], &dz, (carried, parts.as_ref()))?;
            }
            LstmPlan::Persistent(plan) if products.are_rounded() && h % 2 == 1 => {
                // blocks would share words of the operand: they pass it on as that of a unit more
                let exchanged = products.blank([t * b, 4 * (h + 1)])?;
                let exchanged = Products::of_copy(gates, [t * b, 4 * (h + 1)], exchanged);
                self.backward_persistent(context, plan, dy.as_ref(), [cells, gates], &exchanged, carried)?;
                round_operand(context, gates.argument(), dz.row(0), shape)?;
            }
            LstmPlan::Persistent(plan) => {
                self.backward_persistent(context, plan, dy.as_ref(), [cells, gates], &dz, carried)?;
            }
        }
        Ok(dz)
    }

    fn backward_persistent(
        &self,
        context: &Context,
        plan: Persistent,
        dy: Option<&Tensor>,
        [cells, gates]: [&Tensor; 2],
        dz: &Operand,
        carried: &Carried,
    ) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        let (kernel, blocks, with_dy) = (plan.kernel(Pass::Backward), plan.blocks, dy.is_some());
        let (w, c0, gates, cells) = (self.w_hh.argument(), self.c0.argument(), gates.argument(), cells.argument());
        let [dh, dc, arrived] = [carried.dh(), carried.dc(), carried.arrived()];
        let dy = dy.map_or(dh, |dy| dy.argument());
        let (given, with_given, mask) = self.mask();
        match plan.precision {
            Precision::Full => {
                let vector = vector(4 * h, &[gates]);
                context.launch_cooperative(
                    kernel,
                    plan.grid(),
                    arguments![
                        c0, cells, dy, w, given, gates, dh, dc, arrived, t, b, h, blocks, vector, with_dy, with_given,
                        mask
                    ],
                )
            }
            Precision::Bf16 => {
                let (ld, pairs) = (
                    rounded_pitch(4 * h.next_multiple_of(2)),
                    vector(h, &[c0, cells, dy, w, given, gates, dh, dc]) > 1,
                );
                context.launch_cooperative(
                    kernel,
                    plan.grid(),
                    arguments![
                        c0,
                        cells,
                        dy,
                        w,
                        given,
                        gates,
                        dz.row(0),
                        dh,
                        dc,
                        arrived,
                        t,
                        b,
                        h,
                        ld,
                        blocks,
                        pairs,
                        with_dy,
                        with_given,
                        mask
                    ],
                )
            }
        }
    }

    /// Two launches a step. `parts`: where blocks of a step's product have matrices of their own,
    /// which the next step adds up; without, `carried` has the whole gradient of h.
    fn backward_steps(
        &self,
        context: &Context,
        dropped: &Operand,
        dy: Option<&Tensor>,
        [cells, gates]: [&Tensor; 2],
        dz: &Operand,
        (carried, parts): (&Carried, Option<&(Split, Tensor)>),
    ) -> Result<()> {
        let Sizes { t: steps, b, h, .. } = self.sizes;
        // with an odd number of units, warps would share words of the copy
        let copies = dz.is_rounded() && h.is_multiple_of(2);
        // the gradient of h, until a step's product is there: the one that was carried in
        let mut dh = (carried.dh(), 1);
        for t in (0..steps).rev() {
            let at = t * b * h;
            let z = gates.argument_from(4 * at);
            let c_before = if t == 0 { self.c0.argument() } else { cells.argument_from(at - b * h) };
            context.launch(
                "lstm_cell_backward",
                Grid::elements(b * h),
                arguments![
                    z,
                    c_before,
                    cells.argument_from(at),
                    dy.map_or(carried.dh(), |dy| dy.argument_from(at)),
                    dh.0,
                    carried.dc(),
                    b,
                    h,
                    dh.1,
                    dy.is_some(),
                    if copies { rounded_copy(dz, t * b) } else { no_copy() }
                ],
            )?;
            if dz.is_rounded() && !copies {
                round_operand(context, z, dz.row(t * b), [b, 4 * h])?;
            }
            let (of_step, w) = (dz.rows(t * b, b), dropped.matrix());
            match parts {
                None => gemm(context, of_step, w, None, carried.dh(), Store::Set)?,
                Some((split, all)) => {
                    gemm_parts(context, of_step, w, all.argument(), *split)?;
                    dh = (all.argument(), split.count);
                }
            }
        }
        match dh {
            (_, 1) => Ok(()),
            (parts, count) => column_sums(context, parts, count, b * h, (carried.dh(), Store::Set), None),
        }
    }

    /// `dx (+)= dz·W_ih`
    pub(super) fn backward_input(
        &self,
        products: &mut Products,
        dz: &Operand,
        dx: &Tensor,
        store: Store,
    ) -> Result<()> {
        let w_ih = products.kept(self.w_ih, self.sizes.i, Keep::Weight)?;
        gemm(products.context, dz.matrix(), w_ih.matrix(), None, dx.argument(), store)
    }

    /// `dW_ih (+)= dzᵀ·x`
    pub(super) fn backward_w_ih(&self, products: &mut Products, dz: &Operand, dw: &Tensor, store: Store) -> Result<()> {
        let x = products.kept(self.x, self.sizes.i, Keep::Step)?;
        gemm(products.context, dz.matrix().t(), x.matrix(), None, dw.argument(), store)
    }

    /// `dW_hh (+)= (Σ_t dz_tᵀ·h_{t-1}) ⊙ mask`; `total` `[4H, H]` is a buffer. h_{t-1} is h0 for
    /// the first step, then y shifted by one.
    pub(super) fn backward_w_hh(
        &self,
        products: &mut Products,
        dz: &Operand,
        y: &Tensor,
        total: &Tensor,
        (dw, store): (&Tensor, Store),
    ) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        let context = products.context;
        let h0 = products.kept(self.h0, h, Keep::Step)?;
        gemm(context, dz.rows(0, b).t(), h0.matrix(), None, total.argument(), Store::Set)?;
        if t > 1 {
            let (y, rows) = (products.kept(y, h, Keep::Step)?, (t - 1) * b);
            gemm(context, dz.rows(b, rows).t(), y.rows(0, rows), None, total.argument(), Store::Add)?;
        }
        multiply(context, total, (self.weight, self.words), [4 * h, h], dw, store)
    }

    /// `db (+)= Σ_rows dz`, of both biases or one.
    pub(super) fn backward_biases(
        &self,
        context: &Context,
        dz: &Tensor,
        all: [Option<(Tensor, Store)>; 2],
    ) -> Result<()> {
        let Sizes { t, b, h, .. } = self.sizes;
        let mut all = all.iter().flatten().map(|(db, store)| (db.argument(), *store));
        let Some(first) = all.next() else { return Ok(()) };
        column_sums(context, dz.argument(), t * b, 4 * h, first, all.next())
    }
}
