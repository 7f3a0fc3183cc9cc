//! The recurrent core at the paper's sizes: layers forward and backward, the recurrent product, and
//! the other large products of the step in every transposition it uses.

use super::clock::{Effort, Stopwatch, Timing, recorded, seconds, time};
use super::format::Format;
use super::ops::{Subject, same_values, timed};
use super::report::{Row, Work};
use super::session::{Bench, COUNTED};
use super::verify;
use crate::device::cpu::gemm::{Matrix, Round, Store, gemm, gemm_packed, pack, packed_len};
use crate::device::cuda::gemm::{self as on_gpu, round_operand, rounded_pitch};
use crate::device::cuda::{self, Context};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::ops::case::Case;
use crate::ops::lstm::cases::one;
use crate::ops::tied_softmax::block_rows;
use crate::tensor::{DType, Tensor};
use crate::trace::Recording;

/// Rows of the batch that are compared with f64.
const SAMPLED: usize = 2;

pub fn run(bench: &mut Bench) -> Result<()> {
    let (t, b) = if bench.reduced { (3, 5) } else { (if bench.is_counted() { COUNTED } else { 70 }, 64) };
    let layers = if bench.reduced { [(8, 12), (12, 12), (12, 8)] } else { [(400, 1150), (1150, 1150), (1150, 400)] };
    for (i, h) in layers {
        if !bench.wants("lstm") {
            break;
        }
        let case = one([t, b, i, h]);
        timed(bench, "lstm", &case, |format| sampled_rows([t, b, i, h], &case, format))?;
    }
    let (h, e, v) = if bench.reduced { (12, 8, 40) } else { (1150, 400, 30_000) };
    let n = t * b;
    let rows = block_rows(n, v);
    use Layout::{Added, NN, NT, Packed, TN};
    // (what, m, k, n, layout)
    let products = [
        ("recurrent_product", b, h, 4 * h, Packed),
        ("recurrent_product_backward", b, 4 * h, h, Packed),
        ("product", n, e, 4 * h, NT),
        ("product", n, h, 4 * h, NT),
        ("product", n, 4 * h, h, NN),
        ("product", 4 * h, n, h, TN),
        ("product", n, e, v, NT),
        // the loss goes by blocks of rows: its matrix is packed once for all, its gradient added up
        ("product", rows, v, e, Packed),
        ("product", v, rows, e, Added),
    ];
    for (what, m, k, n, layout) in products {
        if !bench.wants(what) {
            continue;
        }
        for &format in bench.formats {
            product(bench, what, [m, k, n], layout, format)?;
        }
    }
    Ok(())
}

/// Rows of a batch do not know each other: some of them, computed in f64 from the same numbers,
/// must come out as they do among all in f32, and so must the gradients of what belongs to them.
fn sampled_rows(sizes: [usize; 4], case: &Case, format: Format) -> Result<f64> {
    let [t, b, i, h] = sizes;
    let rows = SAMPLED.min(b);
    let mut sample = one([t, rows, i, h]);
    for (few, all) in sample.inputs.iter_mut().zip(&case.inputs).take(3) {
        few.tensor.set_f64(&rows_of(&all.tensor, rows));
    }
    for (few, all) in sample.inputs.iter_mut().zip(&case.inputs).skip(3) {
        few.tensor.set_f64(&all.tensor.to_f64());
    }
    let mut found = Subject::new(case, format)?;
    let seeds: Vec<Vec<f64>> = found.seeds.iter().map(|all| rows_of(all, rows)).collect();
    let of_sample = |format| {
        let mut subject = Subject::new(&sample, format)?;
        subject.seeds.iter().zip(&seeds).for_each(|(seed, values)| seed.set_f64(values));
        subject.values()
    };
    // three outputs, then the gradients of x, h0 and c0; those of the weights are of all rows
    let few =
        |(name, all): (String, Tensor)| Ok((name, Tensor::from_slice([rows * all.len() / b], &rows_of(&all, rows))?));
    let found = found.values()?.into_iter().take(6).map(few).collect::<Result<_>>()?;
    same_values(&format!("lstm {}", case.name), found, of_sample(Format::F64)?, || {
        format.naive().map(of_sample).transpose()
    })
}

/// The first rows of the batch of `[T, B, ..]` or `[B, ..]`.
fn rows_of(tensor: &Tensor, rows: usize) -> Vec<f64> {
    let (values, dims) = (tensor.to_f64(), tensor.dims());
    let axis = dims.len() - 2;
    let width = dims[axis + 1];
    values.chunks_exact(dims[axis] * width).flat_map(|step| &step[..rows * width]).copied().collect()
}

/// How the operands lie: `x·Wᵀ`, `dx = dy·W`, `dW = dyᵀ·x`, and a right operand packed before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    NT,
    NN,
    TN,
    /// `dW += dyᵀ·x`
    Added,
    Packed,
}

impl Layout {
    fn name(self) -> &'static str {
        match self {
            Layout::NT => "NT",
            Layout::NN => "NN",
            Layout::TN => "TN",
            Layout::Added => "TN, added",
            Layout::Packed => "packed",
        }
    }
}

/// Operands of a product of `[m, k]` and `[k, n]`, as they lie; in tensors, because those have huge
/// pages where the system has any.
struct Operands {
    sizes: [usize; 3],
    layout: Layout,
    a: Tensor,
    b: Tensor,
}

impl Operands {
    fn new([m, k, n]: [usize; 3], layout: Layout) -> Result<Self> {
        let numbers = |count: usize, step: u32| {
            let number = |i: u32| (i.wrapping_mul(step) >> 8) as f32 / (1 << 23) as f32 - 1.0;
            Tensor::from_slice([count], &(0..count as u32).map(number).collect::<Vec<_>>())
        };
        Ok(Operands { sizes: [m, k, n], layout, a: numbers(m * k, 2_654_435_761)?, b: numbers(k * n, 2_246_822_519)? })
    }

    fn shape(&self) -> String {
        let [m, k, n] = self.sizes;
        format!("{m}x{k}x{n} {}", self.layout.name())
    }

    fn store(&self) -> Store {
        if self.layout == Layout::Added { Store::Add } else { Store::Set }
    }

    /// Compares about a thousand elements of a product with f64; returns the error. (What is added
    /// to is zero at first.)
    fn verify(&self, what: &str, precision: Precision, c: &[f32]) -> Result<f64> {
        let [m, k, n] = self.sizes;
        let (a, b) = (self.a.read::<f32>(), self.b.read::<f32>());
        let (mut found, mut right) = (Vec::new(), Vec::new());
        for index in (0..m * n).step_by((m * n / 1000).max(1) | 1) {
            let (i, j) = (index / n, index % n);
            // of rounded operands the product is exact: nothing is allowed for them
            let operand = |x: f32| match precision {
                Precision::Full => f64::from(x),
                Precision::Bf16 => f64::from(x.rounded()),
            };
            let along = matches!(self.layout, Layout::TN | Layout::Added);
            let left = |l: usize| operand(a[if along { l * m + i } else { i * k + l }]);
            let other = |l: usize| operand(b[if self.layout == Layout::NT { j * k + l } else { l * n + j }]);
            found.push(f64::from(c[index]));
            right.push((0..k).map(|l| left(l) * other(l)).sum());
        }
        verify::compare(&format!("{what} {}", self.shape()), &found, &right, verify::TOLERANCE)
    }
}

/// The error that the verification found, the time, and one recorded run.
type Measured = (f64, Timing, Option<Recording>);

/// Verifies, then times one product of `[m, k]` and `[k, n]`.
fn product(bench: &mut Bench, what: &str, [m, k, n]: [usize; 3], layout: Layout, format: Format) -> Result<()> {
    let operands = Operands::new([m, k, n], layout)?;
    let effort = bench.effort(Effort::SHORT, format);
    let (error, timing, recording) = match format.device {
        Device::Cpu => product_on_cpu(&operands, what, format, effort)?,
        Device::Cuda(gpu) => product_on_gpu(&operands, what, format, cuda::context(gpu)?, effort)?,
    };
    let work = Work { flop: 2 * (m * k * n) as u64, bytes: ((m * k + k * n + m * n) * size_of::<f32>()) as u64 };
    let direction = if layout == Layout::NT || what == "recurrent_product" { "forward" } else { "backward" };
    let row = Row::new(["lstm", what, direction], operands.shape(), format, timing, work);
    bench.row(row.verified(error).recorded(recording.as_ref()))
}

fn product_on_cpu(operands: &Operands, what: &str, format: Format, effort: Effort) -> Result<Measured> {
    let precision = format.operands;
    let [m, k, n] = operands.sizes;
    let layout = operands.layout;
    let (a, b) = (&*operands.a.read::<f32>(), &*operands.b.read::<f32>());
    let c = Tensor::zeros([m * n], DType::F32)?;
    let c = &mut *c.write::<f32>();
    let room = if layout == Layout::Packed { packed_len::<f32>(precision, k, n) } else { 0 };
    let buffer = Tensor::zeros([room], DType::F32)?;
    let buffer = &mut *buffer.write::<f32>();
    let packed = (layout == Layout::Packed).then(|| pack(precision, Matrix::new(b, k, n), buffer));
    let multiply = |c: &mut [f32]| match (&packed, layout) {
        (Some(packed), _) => gemm_packed(Matrix::new(a, m, k), packed, c, Store::Set),
        (None, Layout::NT) => gemm(precision, Matrix::new(a, m, k), Matrix::new(b, n, k).t(), c, Store::Set),
        (None, Layout::TN | Layout::Added) => {
            gemm(precision, Matrix::new(a, k, m).t(), Matrix::new(b, k, n), c, operands.store())
        }
        (None, _) => gemm(precision, Matrix::new(a, m, k), Matrix::new(b, k, n), c, Store::Set),
    };
    multiply(c);
    let error = operands.verify(what, precision, c)?;
    let timing = time(effort, || Ok(seconds(|| multiply(c))))?;
    let recording = recorded(format, || {
        multiply(c);
        Ok(())
    })?;
    Ok((error, timing, recording))
}

/// Nothing is packed there; operands in bf16 are rounded before.
fn product_on_gpu(
    operands: &Operands,
    what: &str,
    format: Format,
    context: &Context,
    effort: Effort,
) -> Result<Measured> {
    let [m, k, n] = operands.sizes;
    let put = |operand: &Tensor, [rows, columns]: [usize; 2]| {
        let full = operand.reshape([rows, columns])?.to_device(format.device)?;
        if format.operands == Precision::Full {
            return Ok(full);
        }
        let rounded = Tensor::zeros_on(format.device, [rows, rounded_pitch(columns)], DType::BF16)?;
        round_operand(context, full.argument(), rounded.argument(), [rows, columns])?;
        Ok::<_, Error>(rounded)
    };
    let transposed = [matches!(operands.layout, Layout::TN | Layout::Added), operands.layout == Layout::NT];
    let stored = |[rows, columns]: [usize; 2], transposed| if transposed { [columns, rows] } else { [rows, columns] };
    let lies = [stored([m, k], transposed[0]), stored([k, n], transposed[1])];
    let (a, b) = (put(&operands.a, lies[0])?, put(&operands.b, lies[1])?);
    let c = Tensor::zeros_on(format.device, [m, n], DType::F32)?;
    let multiply = || {
        let (a, b) = (on_gpu_as(format, &a, lies[0], transposed[0]), on_gpu_as(format, &b, lies[1], transposed[1]));
        on_gpu::gemm(context, a, b, None, c.argument(), operands.store())
    };
    multiply()?;
    let error = operands.verify(what, format.operands, &c.to_device(Device::Cpu)?.read::<f32>())?;
    let timing = time(effort, || {
        let watch = Stopwatch::begin(format)?;
        multiply()?;
        watch.end()
    })?;
    Ok((error, timing, None))
}

/// An operand as it lies, or its transpose.
fn on_gpu_as(format: Format, x: &Tensor, [rows, columns]: [usize; 2], transposed: bool) -> on_gpu::Matrix<'_> {
    let matrix = match format.operands {
        Precision::Full => on_gpu::Matrix::new(x.argument(), rows, columns),
        Precision::Bf16 => on_gpu::Matrix::rounded(x.argument(), rows, columns),
    };
    if transposed { matrix.t() } else { matrix }
}
