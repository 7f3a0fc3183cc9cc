use crate::device::Precision;
use crate::device::cpu::gemm::{Matrix, Onto, Store, gemm};
use crate::tensor::Real;

pub(super) fn forward<T: Real>(
    precision: Precision,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    [outputs, inputs]: [usize; 2],
    y: &mut [T],
) {
    let rows = y.len() / outputs.max(1);
    let onto = b.map_or(Onto::Nothing, Onto::Row);
    gemm(precision, Matrix::new(x, rows, inputs), Matrix::new(w, outputs, inputs).t(), y, onto);
}

/// `dx = dy·W`
pub(super) fn backward_input<T: Real>(
    precision: Precision,
    dy: &[T],
    w: &[T],
    [outputs, inputs]: [usize; 2],
    dx: &mut [T],
    store: Store,
) {
    let rows = dy.len() / outputs.max(1);
    gemm(precision, Matrix::new(dy, rows, outputs), Matrix::new(w, outputs, inputs), dx, store);
}

/// `dW = dyᵀ·x`
pub(super) fn backward_weight<T: Real>(
    precision: Precision,
    dy: &[T],
    x: &[T],
    [outputs, inputs]: [usize; 2],
    dw: &mut [T],
    store: Store,
) {
    let rows = dy.len() / outputs.max(1);
    gemm(precision, Matrix::new(dy, rows, outputs).t(), Matrix::new(x, rows, inputs), dw, store);
}

/// `db = Σ_rows dy`, row by row.
pub(super) fn backward_bias<T: Real>(dy: &[T], outputs: usize, db: &mut [T], store: Store) {
    if store == Store::Set {
        db.fill(T::ZERO);
    }
    for row in dy.chunks_exact(outputs) {
        db.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
    }
}
