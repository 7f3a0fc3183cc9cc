//! Shared by the unit tests of operations: gradients of their cases against central differences,
//! and f32 against f64.

use super::case::{Case, Data};
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::{DType, Device};
use crate::tensor::Tensor;

/// A graph without memory limit.
pub fn graph(dtype: DType) -> Graph {
    Graph::new(Device::Cpu, dtype, None)
}

/// A tensor of f64 values.
pub fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn to(tensor: &Tensor, dtype: DType) -> Tensor {
    let dtype = if tensor.dtype() == DType::U32 { DType::U32 } else { dtype };
    let copy = Tensor::zeros(tensor.shape(), dtype).unwrap();
    copy.set_f64(&tensor.to_f64());
    copy
}

fn run(g: &mut Graph, case: &Case, replaced: Option<(usize, &Tensor)>) -> (Vec<Var>, Vec<Var>) {
    let dtype = g.compute_type();
    let inputs: Vec<Var> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, input)| {
            let tensor = match replaced {
                Some((at, tensor)) if at == i => to(tensor, dtype),
                _ => to(&input.tensor, dtype),
            };
            if input.differentiable { g.variable(tensor) } else { g.constant(tensor) }
        })
        .collect();
    let outputs = (case.run)(g, &inputs).unwrap();
    (inputs, outputs)
}

/// Σ w·y over all outputs.
fn weigh(g: &Graph, outputs: &[Var], weights: &[Tensor]) -> f64 {
    let dot = |y: &Tensor, w: &Tensor| y.to_f64().iter().zip(w.to_f64()).map(|(y, w)| y * w).sum::<f64>();
    outputs.iter().zip(weights).map(|(&y, w)| dot(g.tensor(y), w)).sum()
}

/// Panics unless every gradient of every case agrees with central differences in f64
/// (`|a − n| ≤ 1e-7 + 1e-6·max(|a|, |n|)`), both when it is set and when it is added to what is
/// there, and unless f32 agrees with f64 to `1e-5` of the largest value.
pub fn check(cases: Vec<Case>) {
    let mut parameters = Parameters::builder().build(DType::F64).unwrap();
    for case in cases {
        let what = format!("{} {}", case.operation, case.name);
        let mut g = graph(DType::F64);
        let (inputs, outputs) = run(&mut g, &case, None);
        let mut data = Data::new(99);
        let weights: Vec<Tensor> =
            outputs.iter().map(|&y| data.normal("weight", g.shape(y).dims(), 1.0).tensor).collect();

        let mut single = graph(DType::F32);
        let (single_inputs, single_outputs) = run(&mut single, &case, None);
        for (&y, &z) in outputs.iter().zip(&single_outputs) {
            close(&what, &g.tensor(y).to_f64(), &single.tensor(z).to_f64());
        }

        // the second execution adds to the gradients of the first
        let again = (case.run)(&mut g, &inputs).unwrap();
        let doubled: Vec<Tensor> =
            weights.iter().map(|w| tensor(w.dims(), &w.to_f64().iter().map(|v| 2.0 * v).collect::<Vec<_>>())).collect();
        let seeds: Vec<_> = outputs.iter().copied().zip(weights.iter().map(|w| to(w, DType::F64))).collect();
        let seeds: Vec<_> = seeds.into_iter().chain(again.into_iter().zip(doubled)).collect();
        g.backward_from(&seeds, &mut parameters).unwrap();
        let seeds: Vec<_> = single_outputs.iter().copied().zip(weights.iter().map(|w| to(w, DType::F32))).collect();
        single.backward_from(&seeds, &mut parameters).unwrap();

        for (i, input) in case.inputs.iter().enumerate().filter(|(_, input)| input.differentiable) {
            let analytic: Vec<f64> = g.gradient(inputs[i]).unwrap().to_f64().iter().map(|d| d / 3.0).collect();
            close(&format!("{what}: d{}", input.name), &analytic, &single.gradient(single_inputs[i]).unwrap().to_f64());
            let values = input.tensor.to_f64();
            let mut numeric = Vec::new();
            for j in 0..values.len() {
                let step = 1e-5 * values[j].abs().max(1.0);
                let at = |value: f64| {
                    let mut moved = values.clone();
                    moved[j] = value;
                    let mut g = graph(DType::F64);
                    g.set_recording(false);
                    let (_, outputs) = run(&mut g, &case, Some((i, &tensor(input.tensor.dims(), &moved))));
                    weigh(&g, &outputs, &weights)
                };
                numeric.push((at(values[j] + step) - at(values[j] - step)) / (2.0 * step));
            }
            for (j, (&a, &n)) in analytic.iter().zip(&numeric).enumerate() {
                let bound = 1e-7 + 1e-6 * a.abs().max(n.abs());
                assert!((a - n).abs() <= bound, "{what}: d{}[{j}] is {a}, the difference quotient {n}", input.name);
            }
            let mut sizes: Vec<f64> = numeric.iter().map(|n| n.abs()).collect();
            sizes.sort_by(f64::total_cmp);
            assert!(sizes[sizes.len() / 2] > 1e-3, "{what}: the gradients of {} are too small to tell", input.name);
        }
    }
}

fn close(what: &str, double: &[f64], single: &[f64]) {
    let largest = double.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (d, s)) in double.iter().zip(single).enumerate() {
        assert!((d - s).abs() <= 1e-5 * largest, "{what}[{i}] is {d} in f64, {s} in f32");
    }
}
