//! The forward pass with weights of 8 bits, for prediction: both products in whole numbers, x with
//! a scale for each of its rows, h with the scale 1/127, because it lies between −1 and 1. Gates
//! and cells are f32.

use super::Sizes;
use super::cpu::{Cell, Layer, Trace, by_rows};
use crate::device::cpu::gemm::Onto;
use crate::device::cpu::int8::{Left, Weights, left_len, multiply};
use crate::device::cpu::isa::dispatch;
use crate::ops::recurrence::Rows;
use crate::tensor::Real;
use crate::trace;

/// Elements of the buffer for quantised rows.
pub(super) fn left_of<T>(sizes: Sizes) -> usize {
    let Sizes { t, b, i, h } = sizes;
    left_len::<T>(t * b, i).max(left_len::<T>(b, h))
}

/// As [`super::cpu::forward`]. `left`: of [`left_of`] elements.
pub(super) fn forward<T: Real>(
    layer: Layer<T>,
    bias: &[T],
    recurrent: &Weights<T>,
    input: &Weights<T>,
    trace: Trace<T>,
    left: &mut [T],
) {
    let Sizes { t: steps, b, i, h } = layer.sizes;
    if b == 0 || h == 0 {
        return;
    }
    let mut x = Left::new(left, steps * b, i);
    x.quantise(layer.x);
    multiply(&x, steps * b, input, trace.gates, Onto::Row(bias));
    let mut before = Left::new(left, b, h);
    trace::in_the_pool(|| {
        for t in 0..steps {
            // h of the step before, and the elements after it
            let (done, now) = trace.y.split_at_mut(t * b * h);
            let h_before = if t == 0 { layer.h0 } else { &done[(t - 1) * b * h..] };
            before.quantise_fixed(&h_before[..b * h]);
            let z = &mut trace.gates[t * b * 4 * h..][..b * 4 * h];
            multiply(&before, b, recurrent, z, Onto::C);
            let _span = trace::phase(trace::ELEMENTWISE).elements::<T>(11 * b * h);
            let (done, cells) = trace.cells.split_at_mut(t * b * h);
            let c_before = if t == 0 { layer.c0 } else { &done[(t - 1) * b * h..] };
            let (z, cells, y) = (Rows::new(z), Rows::new(&mut cells[..b * h]), Rows::new(&mut now[..b * h]));
            by_rows(b, |first, rows| {
                // SAFETY: these rows belong to the caller alone.
                let (z, c, out) = unsafe {
                    let part = first * h;
                    (z.range(4 * part, 4 * rows * h), cells.range(part, rows * h), y.range(part, rows * h))
                };
                dispatch(Cell { h, z, c_before: &c_before[first * h..][..rows * h], c, out });
            });
        }
    });
}
