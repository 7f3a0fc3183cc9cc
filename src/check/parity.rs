//! Every operation on a GPU against the CPU: its gradients cannot be held to finite differences,
//! which need f64, but to those of the CPU, which are.
//!
//! The truth is the CPU in f64. The bound is twice the error that the CPU makes in f32 on the same
//! case, in any element of the tensor, and four roundings of the tensor's largest value:
//! `2·max|cpu32 − f64| + 2⁻²²·max|f64|`. One run of a small case can be exact by luck, so the CPU's
//! error is the largest of four: of the case as it is, and with every input moved by up to one unit
//! in its last place, which is what any f32 computation of it must be expected to do.
//!
//! In bf16 the bound is twice the error of a naive computation as well, which errs by the rounding
//! of its operands (measured in f64, on the same four) and by that of its result:
//! `2·(max|rounded − f64| + 2⁻⁹·max|f64|)`.

use serde::Serialize;

use super::golden::ROUNDING_BF16;
use super::gradient::cases;
use crate::autodiff::{Fault, Graph, Parameters, Var};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::ops::{Case, Data};
use crate::tensor::{DType, Device, Tensor};

/// One comparison of a tensor.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Operation, case and tensor.
    pub what: String,
    pub elements: usize,
    /// The largest error over its bound; at most 1 passes.
    pub ratio: f64,
    /// The largest error over the tensor's largest value.
    pub error: f64,
    /// The bound over the tensor's largest value.
    pub bound: f64,
}

/// All cases of one operation.
#[derive(Clone, Debug, Serialize)]
pub struct ParityRow {
    pub op: String,
    pub cases: usize,
    pub elements: usize,
    /// Cases with an output or gradient outside its bound.
    pub failed: usize,
    /// Why none was run: the operation has no kernels for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The tensor that takes the largest share of its bound.
    pub worst: Option<ParityWorst>,
}

/// A tensor and how far it is from the truth.
#[derive(Clone, Debug, Serialize)]
pub struct ParityWorst {
    pub op: String,
    pub case: String,
    /// Operation, case and tensor.
    pub element: String,
    /// Largest error over the tensor's largest value.
    pub error: f64,
    /// The bound.
    pub bound: f64,
}

/// The result of the comparison; serialises to the JSON of `ulmfit gradcheck --device cuda`.
#[derive(Clone, Debug, Serialize)]
pub struct ParityReport {
    pub ops: usize,
    pub cases: usize,
    pub elements: usize,
    pub failed: usize,
    /// Operations that have no kernels for the device.
    pub skipped: usize,
    pub worst: Option<ParityWorst>,
    pub rows: Vec<ParityRow>,
}

/// Compares outputs and gradients of all operations, or of the one named `op`, on `device` in this
/// precision with the CPU in f64.
///
/// # Errors
/// No operation has that name, or an operation fails.
pub fn parity(op: Option<&str>, device: Device, precision: Precision) -> Result<ParityReport> {
    let cases = cases(op)?;
    if cases.is_empty() {
        let known: Vec<&str> = crate::ops::ALL.iter().map(|entry| entry.operation.name()).collect();
        return Err(Error::usage(format!("no operation is called '{}'", op.unwrap_or_default()))
            .hint(format!("the operations are {}", known.join(", "))));
    }
    let mut rows: Vec<ParityRow> = Vec::new();
    let share = |w: &ParityWorst| w.error / w.bound;
    for case in &cases {
        if rows.last().is_none_or(|row| row.op != case.operation) {
            let op = case.operation.into();
            rows.push(ParityRow { op, cases: 0, elements: 0, failed: 0, skipped: None, worst: None });
        }
        let row = rows.last_mut().expect("a row was just made");
        if row.skipped.is_some() {
            continue;
        }
        let compared = match compare(case, device, precision, None) {
            Err(lacking @ Error::NoKernels { .. }) => {
                row.skipped = Some(lacking.to_string());
                continue;
            }
            compared => compared?,
        };
        row.cases += 1;
        row.failed += usize::from(compared.iter().any(|one| one.ratio > 1.0));
        for one in compared {
            row.elements += one.elements;
            if row.worst.as_ref().is_none_or(|w| one.ratio > share(w)) {
                let (op, case) = (case.operation.to_string(), case.name.clone());
                row.worst = Some(ParityWorst { op, case, element: one.what, error: one.error, bound: one.bound });
            }
        }
    }
    let sum = |f: fn(&ParityRow) -> usize| rows.iter().map(f).sum();
    let worst = rows.iter().filter_map(|r| r.worst.as_ref()).max_by(|a, b| share(a).total_cmp(&share(b))).cloned();
    let (cases, elements, failed) = (sum(|r| r.cases), sum(|r| r.elements), sum(|r| r.failed));
    let skipped = rows.iter().filter(|row| row.skipped.is_some()).count();
    Ok(ParityReport { ops: rows.len() - skipped, cases, elements, failed, skipped, worst, rows })
}

/// Plants an error in one gradient of one case of every operation that has kernels for the device:
/// names of the operations, and whether the comparison saw it.
pub fn parity_mutation(op: Option<&str>, device: Device, precision: Precision) -> Result<Vec<(&'static str, bool)>> {
    let cases = cases(op)?;
    let mut seen = Vec::new();
    for of_operation in cases.chunk_by(|a, b| a.operation == b.operation) {
        let case = &of_operation[of_operation.len() / 2];
        let compared = match compare(case, device, precision, Some(Fault { operation: case.operation, input: 0 })) {
            Err(Error::NoKernels { .. }) => continue,
            compared => compared?,
        };
        seen.push((case.operation, compared.iter().any(|one| one.ratio > 1.0)));
    }
    Ok(seen)
}

/// The results of a case: outputs, then the gradients of its differentiable inputs, by name.
type Results = Vec<(String, Vec<f64>)>;

fn to(tensor: &Tensor, dtype: DType, device: Device) -> Result<Tensor> {
    if tensor.dtype() == DType::U32 {
        return Ok(tensor.clone());
    }
    let copy = Tensor::zeros(tensor.shape(), dtype)?;
    copy.set_f64(&tensor.to_f64());
    copy.to_device(device)
}

/// The case with every differentiable input moved by up to one unit in the last place (of f32), or
/// as it is.
#[derive(Clone, Copy)]
enum Inputs {
    Exact,
    Moved(u64),
}

/// Runs a case twice and differentiates w·y₁ + 2·w·y₂ for random w: the first gradient of an input
/// is set, the second added.
fn run(
    case: &Case,
    device: Device,
    (dtype, precision): (DType, Precision),
    inputs: Inputs,
    fault: Option<Fault>,
) -> Result<Results> {
    let mut parameters = Parameters::builder().build(dtype)?;
    let mut g = Graph::new(device, dtype, None).with_precision(precision);
    let mut shifts = Data::new(if let Inputs::Moved(seed) = inputs { seed } else { 0 });
    let moves = matches!(inputs, Inputs::Moved(_));
    let mut inputs: Vec<Var> = Vec::with_capacity(case.inputs.len());
    for input in &case.inputs {
        let mut tensor = input.tensor.clone();
        if input.differentiable && moves {
            let shift = shifts.uniform("shift", tensor.dims(), -1.0, 1.0).tensor.to_f64();
            let moved = tensor.to_f64().into_iter().zip(shift).map(|(x, s)| x * (1.0 + s * 2f64.powi(-23)));
            tensor = Tensor::from_slice(tensor.shape(), &moved.collect::<Vec<f64>>())?;
        }
        let tensor = to(&tensor, dtype, device)?;
        inputs.push(if input.differentiable { g.variable(tensor) } else { g.constant(tensor) });
    }
    let outputs = (case.run)(&mut g, &inputs)?;
    let again = (case.run)(&mut g, &inputs)?;
    let mut data = Data::new(77);
    let mut seeds = Vec::new();
    let mut results = Vec::new();
    for (i, (&y, &z)) in outputs.iter().zip(&again).enumerate() {
        let w = data.normal("weight", g.shape(y).dims(), 1.0).tensor;
        let twice = Tensor::from_slice(w.shape(), &w.to_f64().iter().map(|v| 2.0 * v).collect::<Vec<_>>())?;
        seeds.push((y, to(&w, dtype, device)?));
        seeds.push((z, to(&twice, dtype, device)?));
        results.push((format!("output {i}"), g.tensor(y).to_f64()));
    }
    g.plant(fault);
    g.backward_from(&seeds, &mut parameters)?;
    for (input, &var) in case.inputs.iter().zip(&inputs).filter(|(input, _)| input.differentiable) {
        let gradient = g.gradient(var).map(Tensor::to_f64);
        results.push((format!("d{}", input.name), gradient.unwrap_or_else(|| vec![0.0; input.tensor.len()])));
    }
    if let Device::Cuda(ordinal) = device {
        crate::device::cuda::context(ordinal)?.synchronise()?;
    }
    Ok(results)
}

/// The largest difference; NaN is larger than any number.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0f64, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() })
}

/// Runs a case in f64 and f32 on the CPU and in this precision on `device`, there with a planted
/// fault if one is given.
///
/// # Errors
/// Errors of the runs.
pub fn compare(case: &Case, device: Device, precision: Precision, fault: Option<Fault>) -> Result<Vec<Compared>> {
    let truth = run(case, Device::Cpu, (DType::F64, Precision::Full), Inputs::Exact, None)?;
    let ways = [Inputs::Exact, Inputs::Moved(1), Inputs::Moved(2), Inputs::Moved(3)];
    // the error of a naive computation: in f32; or in f64, which errs by the rounding of operands
    // alone
    let naive = match precision {
        Precision::Full => DType::F32,
        Precision::Bf16 => DType::F64,
    };
    let naive = ways.into_iter().map(|inputs| run(case, Device::Cpu, (naive, precision), inputs, None));
    let naive = naive.collect::<Result<Vec<_>>>()?;
    let found = run(case, device, (DType::F32, precision), Inputs::Exact, fault)?;
    let largest = |values: &[f64]| values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    Ok(truth
        .iter()
        .zip(&found)
        .enumerate()
        .map(|(i, ((name, truth), (_, found)))| {
            let error_of_gpu = difference(found, truth);
            let error = naive.iter().map(|naive| difference(&naive[i].1, truth)).fold(0.0, f64::max);
            let bound = match precision {
                Precision::Full => 2.0 * error + 2f64.powi(-22) * largest(truth),
                Precision::Bf16 => 2.0 * (error + ROUNDING_BF16 * largest(truth)),
            };
            let ratio = if error_of_gpu == 0.0 { 0.0 } else { error_of_gpu / bound };
            let what = format!("{} {}: {name}", case.operation, case.name);
            let size = largest(truth).max(f64::MIN_POSITIVE);
            Compared { what, elements: truth.len(), ratio, error: error_of_gpu / size, bound: bound / size }
        })
        .collect())
}

/// For every tensor of a case in bf16 its name, and how far `device` is from the same computation
/// in f64 with operands rounded to bf16, over how far that is from one that rounds nothing; both as
/// norms. A device that rounds the same operands is far below 1, one that rounds others is not.
/// `None` where rounding changes nothing.
///
/// # Errors
/// Errors of the runs.
pub fn rounded_alike(case: &Case, device: Device) -> Result<Vec<(String, Option<f64>)>> {
    let on_cpu = |precision| run(case, Device::Cpu, (DType::F64, precision), Inputs::Exact, None);
    let (exact, rounded) = (on_cpu(Precision::Full)?, on_cpu(Precision::Bf16)?);
    let found = run(case, device, (DType::F32, Precision::Bf16), Inputs::Exact, None)?;
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let all = exact.into_iter().zip(rounded).zip(found);
    Ok(all
        .map(|(((name, exact), (_, rounded)), (_, found))| {
            let (of_rounding, of_device) = (distance(&exact, &rounded), distance(&found, &rounded));
            (name, (of_rounding > 0.0).then(|| of_device / of_rounding))
        })
        .collect())
}
