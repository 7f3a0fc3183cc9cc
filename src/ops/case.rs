//! Test cases of operations: one list drives gradient check, parity between devices, and
//! benchmarks.

use crate::autodiff::{Graph, Var};
use crate::error::Result;
use crate::random::{Key, Site, Stream};
use crate::tensor::{Shape, Tensor};

/// The function of a case: from the handles of the inputs to those of the outputs.
pub type Run = Box<dyn Fn(&mut Graph, &[Var]) -> Result<Vec<Var>> + Send + Sync>;

/// One input of a case: f64 values (converted to the precision under test), or u32 indices.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: &'static str,
    /// f64 or u32.
    pub tensor: Tensor,
    /// Whether a gradient with respect to it is checked.
    pub differentiable: bool,
}

/// One (shape, switches) instance of an operation. Values stay away from kinks by construction.
pub struct Case {
    pub operation: &'static str,
    /// Shape and switches, for instance `T5 B3 I4 H6 weight_p=0.5`; distinct within the operation.
    pub name: String,
    pub inputs: Vec<Input>,
    pub run: Run,
}

impl Case {
    pub fn new(
        operation: &'static str,
        name: impl Into<String>,
        inputs: Vec<Input>,
        run: impl Fn(&mut Graph, &[Var]) -> Result<Vec<Var>> + Send + Sync + 'static,
    ) -> Self {
        Case { operation, name: name.into(), inputs, run: Box::new(run) }
    }
}

/// Random values for cases; every call draws from a stream of its own.
pub struct Data {
    key: Key,
    calls: u32,
}

impl Data {
    pub fn new(seed: u64) -> Self {
        Data { key: Key::apart(seed), calls: 0 }
    }

    fn tensor(&mut self, shape: &[usize], mut value: impl FnMut(&mut Stream) -> f64) -> Tensor {
        let mut stream = Stream::new(self.key, Site::CUSTOM[0], 0, self.calls);
        self.calls += 1;
        // rounded to f32, so that the same case runs on both types with equal inputs
        let values: Vec<f64> = (0..Shape::new(shape).len()).map(|_| f64::from(value(&mut stream) as f32)).collect();
        Tensor::from_slice(shape, &values).expect("as many values as the shape has")
    }

    /// A differentiable input, normal with the given standard deviation.
    pub fn normal(&mut self, name: &'static str, shape: &[usize], deviation: f64) -> Input {
        Input { name, tensor: self.tensor(shape, |s| deviation * s.normal()), differentiable: true }
    }

    /// A differentiable input, uniform in `[low, high)`.
    pub fn uniform(&mut self, name: &'static str, shape: &[usize], low: f64, high: f64) -> Input {
        Input { name, tensor: self.tensor(shape, |s| low + (high - low) * s.uniform()), differentiable: true }
    }

    /// A differentiable input with `low ≤ |x| < high`: away from a kink at zero.
    pub fn away_from_zero(&mut self, name: &'static str, shape: &[usize], low: f64, high: f64) -> Input {
        let value = |s: &mut Stream| {
            let sign = if s.uniform() < 0.5 { -1.0 } else { 1.0 };
            sign * (low + (high - low) * s.uniform())
        };
        Input { name, tensor: self.tensor(shape, value), differentiable: true }
    }

    /// A constant multiplicative mask: 0 with probability `p`, else `1/(1-p)`.
    pub fn mask(&mut self, name: &'static str, shape: &[usize], p: f64) -> Input {
        let value = |s: &mut Stream| if s.uniform() < p { 0.0 } else { 1.0 / (1.0 - p) };
        Input { name, tensor: self.tensor(shape, value), differentiable: false }
    }

    /// Constant indices, uniform below `n`.
    pub fn indices(&mut self, name: &'static str, shape: &[usize], n: u32) -> Input {
        let mut stream = Stream::new(self.key, Site::CUSTOM[1], 0, self.calls);
        self.calls += 1;
        let values: Vec<u32> = (0..Shape::new(shape).len()).map(|_| stream.below(n)).collect();
        Self::given(name, shape, &values)
    }

    /// Given constant indices.
    pub fn given(name: &'static str, shape: &[usize], values: &[u32]) -> Input {
        let tensor = Tensor::from_slice(shape, values).expect("as many values as the shape has");
        Input { name, tensor, differentiable: false }
    }
}
