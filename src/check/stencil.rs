//! Numeric derivatives of the cases of operations, by a central stencil of four points in f64.

use super::verdict::Compared;
use crate::autodiff::{Fault, Graph, Parameters, Var};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::ops::Case;
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;

/// Compared elements per tensor; of larger ones a fixed random sample is taken.
pub(super) const ELEMENTS: usize = 4000;

/// Positions of the stencil in steps, and their weights over the step:
/// `f′ ≈ Σ weight·f(x + position·h) / h`, error `h⁴·f⁽⁵⁾/30`.
pub(super) const STENCIL: [(f64, f64); 4] =
    [(1.0, 8.0 / 12.0), (-1.0, -8.0 / 12.0), (2.0, -1.0 / 12.0), (-2.0, 1.0 / 12.0)];

/// The step, relative to `max(1, |x|)`. Truncation (~h⁴) and rounding (~2⁻⁵²/h) are both near 1e-13
/// here, far below the tolerance of 1e-6.
pub(super) const STEP: f64 = 1e-3;

fn key() -> Key {
    Key::apart(0x6772_6164)
}

/// The elements of a tensor that are compared: all, or `most` of them; always the one of the
/// largest gradient.
pub(super) fn sample(gradient: &[f64], most: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..gradient.len()).collect();
    if all.len() > most {
        Stream::new(key(), Site::CUSTOM[1], 0, all.len() as u32).shuffle(&mut all);
        all.truncate(most);
        let largest = (0..gradient.len()).max_by(|&i, &j| gradient[i].abs().total_cmp(&gradient[j].abs()));
        all.extend(largest.filter(|i| !all.contains(i)));
        all.sort_unstable();
    }
    all
}

/// One case with private inputs, and the scalar `f = Σ_k ⟨w_k, output_k⟩` with fixed random weights
/// that is differentiated.
pub(super) struct Stencil<'a> {
    case: &'a Case,
    graph: Graph,
    /// Private copies, restored before every evaluation (an operation may update what it is given,
    /// like running statistics).
    inputs: Vec<Tensor>,
    weights: Vec<Vec<f64>>,
}

impl<'a> Stencil<'a> {
    pub fn new(case: &'a Case, device: Device) -> Result<Self> {
        let copy = |t: &Tensor| -> Result<Tensor> {
            let private = Tensor::zeros(t.shape(), t.dtype())?;
            private.copy_from(t);
            Ok(private)
        };
        let inputs = case.inputs.iter().map(|i| copy(&i.tensor)).collect::<Result<_>>()?;
        Ok(Stencil { case, graph: Graph::new(device, DType::F64, None), inputs, weights: Vec::new() })
    }

    /// Starts anew with the private inputs; returns their handles.
    fn begin(&mut self, recording: bool) -> Vec<Var> {
        let g = &mut self.graph;
        g.reset();
        g.set_recording(recording);
        let input = |(input, t): (&crate::ops::Input, &Tensor)| {
            if input.differentiable { g.variable(t.clone()) } else { g.constant(t.clone()) }
        };
        self.case.inputs.iter().zip(&self.inputs).map(input).collect()
    }

    fn restore(&self) {
        for (private, input) in self.inputs.iter().zip(&self.case.inputs) {
            private.copy_from(&input.tensor);
        }
    }

    /// Analytic gradients of all differentiable inputs, whole, with an error planted where one is
    /// given. The case runs twice on the same inputs and the sum is halved (which is exact): the
    /// first gradient is set, the second is added to it, and both ways are checked.
    pub fn analytic(&mut self, fault: Option<Fault>) -> Result<Vec<(usize, Vec<f64>)>> {
        self.restore();
        self.graph.plant(fault);
        let inputs = self.begin(true);
        let outputs = (self.case.run)(&mut self.graph, &inputs)?;
        self.restore();
        let again = (self.case.run)(&mut self.graph, &inputs)?;
        let mut seeds = Vec::new();
        self.weights.clear();
        for (k, (&output, &again)) in outputs.iter().zip(&again).enumerate() {
            let shape = self.graph.shape(output);
            if self.graph.dtype(output) != DType::F64 {
                return Err(Error::data(format!(
                    "operation '{}', case '{}': output {k} is {}, not f64",
                    self.case.operation,
                    self.case.name,
                    self.graph.dtype(output)
                )));
            }
            let mut stream = Stream::new(key(), Site::CUSTOM[0], 0, k as u32);
            // away from zero, so that no output goes unseen
            let weight = |s: &mut Stream| if s.uniform() < 0.5 { -0.5 - s.uniform() } else { 0.5 + s.uniform() };
            let weights: Vec<f64> = (0..shape.len()).map(|_| weight(&mut stream)).collect();
            seeds.push((output, Tensor::from_slice(shape, &weights)?));
            seeds.push((again, Tensor::from_slice(shape, &weights)?));
            self.weights.push(weights);
        }
        let mut none = Parameters::builder().build(DType::F64)?;
        self.graph.backward_from(&seeds, &mut none)?;
        self.graph.plant(None);
        let gradient = |i: usize| match self.graph.gradient(inputs[i]) {
            Some(gradient) => gradient.to_f64().iter().map(|g| 0.5 * g).collect(),
            None => vec![0.0; self.inputs[i].len()],
        };
        let differentiable = (0..inputs.len()).filter(|&i| self.case.inputs[i].differentiable);
        Ok(differentiable.map(|i| (i, gradient(i))).collect())
    }

    /// Analytic and numeric gradients of all differentiable inputs at the sampled elements.
    pub fn compare(&mut self) -> Result<Vec<Compared>> {
        self.compare_at(STEP, ELEMENTS)
    }

    /// Analytic gradients of all differentiable inputs, and numeric ones with this step, at `most`
    /// elements or one more.
    pub fn compare_at(&mut self, step: f64, most: usize) -> Result<Vec<Compared>> {
        let mut all = Vec::new();
        for (input, gradient) in self.analytic(None)? {
            let elements = sample(&gradient, most);
            let numeric = elements.iter().map(|&e| self.numeric(input, e, step)).collect::<Result<_>>()?;
            let analytic = elements.iter().map(|&e| gradient[e]).collect();
            all.push(Compared { name: self.case.inputs[input].name.to_string(), elements, analytic, numeric });
        }
        Ok(all)
    }

    fn numeric(&mut self, input: usize, element: usize, step: f64) -> Result<f64> {
        let x = self.case.inputs[input].tensor.read::<f64>()[element];
        let h = step * x.abs().max(1.0);
        // outputs are subtracted before they are weighted and summed: those that do not depend on x
        // cancel exactly
        let mut derivative: Vec<Vec<f64>> = self.weights.iter().map(|w| vec![0.0; w.len()]).collect();
        for pair in STENCIL.chunks_exact(2) {
            let (mut sides, weight) = (Vec::with_capacity(2), pair[0].1);
            for &(position, _) in pair {
                self.restore();
                self.inputs[input].write::<f64>()[element] = x + position * h;
                let inputs = self.begin(false);
                let outputs = (self.case.run)(&mut self.graph, &inputs)?;
                sides.push(outputs.iter().map(|&v| self.graph.tensor(v).to_f64()).collect::<Vec<_>>());
            }
            for ((sum, plus), minus) in derivative.iter_mut().zip(&sides[0]).zip(&sides[1]) {
                for ((sum, plus), minus) in sum.iter_mut().zip(plus).zip(minus) {
                    *sum += weight * (plus - minus) / h;
                }
            }
        }
        let weighted = derivative.iter().zip(&self.weights);
        Ok(weighted.map(|(d, w)| d.iter().zip(w).map(|(d, w)| d * w).sum::<f64>()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stencil_is_exact_for_quartics() {
        let f = |x: f64| 3.0 * x.powi(4) - x.powi(3) + 2.0 * x;
        let (x, h) = (0.7, 0.25);
        let numeric: f64 = STENCIL.iter().map(|(position, weight)| weight * f(x + position * h) / h).sum();
        assert!((numeric - (12.0 * x.powi(3) - 3.0 * x * x + 2.0)).abs() < 1e-13);
    }

    #[test]
    fn a_sample_holds_the_largest_gradient_and_repeats() {
        let mut gradient = vec![0.1; 3 * ELEMENTS];
        for largest in [0, 17, 3 * ELEMENTS - 1] {
            gradient.fill(0.1);
            gradient[largest] = -2.0;
            let elements = sample(&gradient, ELEMENTS);
            assert!(elements.contains(&largest) && elements.len() <= ELEMENTS + 1 && elements.is_sorted());
            assert_eq!(elements, sample(&gradient, ELEMENTS));
        }
        assert_eq!(sample(&gradient[..9], ELEMENTS), (0..9).collect::<Vec<_>>());
    }
}
