//! Every operation on a (simulated) GPU against the CPU.
//!
//! The truth is the CPU in f64. The bound is twice the error that the CPU makes in f32 on the same case, in any element of the tensor, and four
//! roundings of the tensor's largest value: `2·max|cpu32 − f64| + 2⁻²²·max|f64|`. One run of a small case can be exact by luck, so the CPU's error
//! is the largest of four: of the case as it is, and with every input moved by up to one unit in its last place, which is what any f32
//! computation of it must be expected to do.

use ulmfit::autodiff::{Fault, Graph, Parameters, Var};
use ulmfit::ops::{Case, Data};
use ulmfit::tensor::{DType, Device, Tensor};

use super::sim::findings;

pub const GPU: Device = Device::Cuda(0);

/// One comparison of a tensor.
pub struct Compared {
    pub what: String,
    /// The largest error over its bound; at most 1 passes.
    pub ratio: f64,
    /// The largest error over the tensor's largest value.
    pub error: f64,
}

/// What a case gives: outputs, then the gradients of its differentiable inputs, by name.
type Results = Vec<(String, Vec<f64>)>;

fn to(tensor: &Tensor, dtype: DType, device: Device) -> Tensor {
    if tensor.dtype() == DType::U32 {
        return tensor.clone();
    }
    let copy = Tensor::zeros(tensor.shape(), dtype).unwrap();
    copy.set_f64(&tensor.to_f64());
    copy.to_device(device).unwrap()
}

/// The case with every differentiable input moved by up to one unit in the last place (of f32), or as it is.
#[derive(Clone, Copy)]
enum Inputs {
    Exact,
    Moved(u64),
}

/// Runs a case twice and differentiates w·y₁ + 2·w·y₂ for random w: the first gradient of an input is set, the second added.
fn run(
    case: &Case,
    device: Device,
    dtype: DType,
    inputs: Inputs,
    fault: Option<Fault>,
) -> ulmfit::error::Result<Results> {
    let mut parameters = Parameters::builder().build(dtype)?;
    let mut g = Graph::new(device, dtype, None);
    let mut shifts = Data::new(if let Inputs::Moved(seed) = inputs { seed } else { 0 });
    let inputs: Vec<Var> = case
        .inputs
        .iter()
        .map(|input| {
            let mut tensor = input.tensor.clone();
            if input.differentiable && matches!(inputs, Inputs::Moved(_)) {
                let shift = shifts.uniform("shift", tensor.dims(), -1.0, 1.0).tensor.to_f64();
                let moved = tensor.to_f64().into_iter().zip(shift).map(|(x, s)| x * (1.0 + s * 2f64.powi(-23)));
                tensor = Tensor::from_slice(tensor.shape(), &moved.collect::<Vec<f64>>()).unwrap();
            }
            let tensor = to(&tensor, dtype, device);
            if input.differentiable { g.variable(tensor) } else { g.constant(tensor) }
        })
        .collect();
    let outputs = (case.run)(&mut g, &inputs)?;
    let again = (case.run)(&mut g, &inputs)?;
    let mut data = Data::new(77);
    let mut seeds = Vec::new();
    let mut results = Vec::new();
    for (i, (&y, &z)) in outputs.iter().zip(&again).enumerate() {
        let w = data.normal("weight", g.shape(y).dims(), 1.0).tensor;
        let twice = Tensor::from_slice(w.shape(), &w.to_f64().iter().map(|v| 2.0 * v).collect::<Vec<_>>())?;
        seeds.push((y, to(&w, dtype, device)));
        seeds.push((z, to(&twice, dtype, device)));
        results.push((format!("output {i}"), g.tensor(y).to_f64()));
    }
    g.plant(fault);
    g.backward_from(&seeds, &mut parameters)?;
    for (input, &var) in case.inputs.iter().zip(&inputs).filter(|(input, _)| input.differentiable) {
        let gradient = g.gradient(var).map(Tensor::to_f64);
        results.push((format!("d{}", input.name), gradient.unwrap_or_else(|| vec![0.0; input.tensor.len()])));
    }
    if let Device::Cuda(ordinal) = device {
        ulmfit::device::cuda::context(ordinal)?.synchronise()?;
    }
    Ok(results)
}

/// Runs a case in f64 and f32 on the CPU and in f32 on the GPU.
///
/// # Errors
/// Of the run on the GPU.
pub fn compare(case: &Case, fault: Option<Fault>) -> ulmfit::error::Result<Vec<Compared>> {
    let truth = run(case, Device::Cpu, DType::F64, Inputs::Exact, None).unwrap();
    let ways = [Inputs::Exact, Inputs::Moved(1), Inputs::Moved(2), Inputs::Moved(3)];
    let singles = ways.map(|inputs| run(case, Device::Cpu, DType::F32, inputs, None).unwrap());
    let found = run(case, GPU, DType::F32, Inputs::Exact, fault)?;
    let largest = |values: &[f64]| values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let error = |a: &[f64], b: &[f64]| {
        // NaN is the largest error
        a.iter().zip(b).fold(0.0f64, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() })
    };
    Ok(truth
        .iter()
        .zip(&found)
        .enumerate()
        .map(|(i, ((name, truth), (_, found)))| {
            assert_eq!(truth.len(), found.len());
            let error_of_gpu = error(found, truth);
            let error_of_cpu = singles.iter().map(|single| error(&single[i].1, truth)).fold(0.0, f64::max);
            let bound = 2.0 * error_of_cpu + 2f64.powi(-22) * largest(truth);
            let ratio = if error_of_gpu == 0.0 { 0.0 } else { error_of_gpu / bound };
            let what = format!("{} {}: {name}", case.operation, case.name);
            Compared { what, ratio, error: error_of_gpu / largest(truth).max(f64::MIN_POSITIVE) }
        })
        .collect())
}

/// Seeds of the order of blocks and warps: three where `ULMFIT_PARITY=full`, else one.
pub fn orders() -> &'static [&'static str] {
    match std::env::var("ULMFIT_PARITY").as_deref() {
        Ok("full") => &["1", "2", "3"],
        _ => &["1"],
    }
}

/// The simulator has found nothing.
pub fn no_findings() {
    let found = findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
