//! `ulmfit doctor`: what this machine has, what of it is used, how fast it is, what is missing.

use serde::Serialize;
use serde_json::json;

use super::{Global, output};
use crate::bench::peaks::{Peaks, Probe, Rate};
use crate::bench::verify::{TOLERANCE, compare};
use crate::device::cpu::gemm::{Matrix, Onto, gemm};
use crate::device::cpu::isa::{Isa, features, isa, multiplies_bf16};
use crate::device::{Precision, cuda};
use crate::error::Result;
use crate::models::base::Base;
use crate::report::{environment, wrapped};
use crate::text::Direction;
use crate::train::rss;

/// Processor, memory, GPUs, measured peaks, and what is missing on this machine
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit doctor\n  ulmfit doctor --json")]
pub struct Args {}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    name: &'static str,
    found: String,
    /// What is missing, and how to get it; none where all is well.
    advice: Option<String>,
}

impl Finding {
    fn new(name: &'static str, found: impl Into<String>) -> Self {
        Finding { name, found: found.into(), advice: None }
    }

    fn advise(mut self, advice: Option<impl Into<String>>) -> Self {
        self.advice = advice.map(Into::into);
        self
    }
}

pub fn run(_args: &Args, global: &Global) -> Result<()> {
    let error = verify()?;
    let peaks = Probe::new(false).peaks;
    let mut all = processor();
    all.extend(memory());
    all.push(Finding::new("product checked", format!("largest error {error:.1e} of the largest value")));
    all.extend(rates(&peaks));
    all.extend(gpus());
    all.push(english());
    let value = json!({
        "version": super::VERSION,
        "device": global.device.to_string(),
        "findings": all,
        "peaks": peaks,
        "error": error,
        "peak_rss_mb": rss::peak_rss_mb(),
    });
    output::result(global.json, &table(&all), &value)
}

/// The engine's product of two matrices against f64; nothing is timed before it is right.
fn verify() -> Result<f64> {
    const SIZES: [usize; 3] = [70, 130, 90];
    let [m, k, n] = SIZES;
    // values between -0.5 and 0.5 that do not repeat with the rows
    let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5).collect() };
    let (a, b) = (values(m * k), values(k * n));
    let mut found = vec![0.0f32; m * n];
    gemm(Precision::Full, Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut found, Onto::Nothing);
    let element = |at: usize| {
        let (row, column) = (at / n, at % n);
        (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column])).sum::<f64>()
    };
    let right: Vec<f64> = (0..m * n).map(element).collect();
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    compare("a product of matrices", &found, &right, TOLERANCE)
}

fn processor() -> Vec<Finding> {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let (threads, has) = (rayon::current_num_threads(), features());
    let used = isa();
    let slow = match used {
        Isa::Avx512 => None,
        Isa::Avx2 if has.contains(&"avx512f") => Some("AVX-512 is there, and ULMFIT_ISA asks for less"),
        Isa::Avx2 => Some("a processor with AVX-512 has vectors twice as wide"),
        Isa::Portable if has.contains(&"avx2") => Some("AVX2 is there, and ULMFIT_ISA asks for less"),
        Isa::Portable => Some("training is slow without AVX2 and FMA"),
    };
    let bf16 = if multiplies_bf16(used) { "yes" } else { "no" };
    let no_bf16 = (!multiplies_bf16(used)).then_some("--precision bf16 is no faster here; it needs AVX-512 BF16");
    let idle = (threads < usable).then(|| format!("{usable} processors may be used; --threads sets the number"));
    vec![
        Finding::new("processor", environment::processor()),
        Finding::new("features", if has.is_empty() { "none that matter here".into() } else { has.join(" ") }),
        Finding::new("instructions used", used.name()).advise(slow),
        Finding::new("multiplies bf16", bf16).advise(no_bf16),
        Finding::new("threads", format!("{threads} of {usable}")).advise(idle),
        Finding::new("caches", caches()),
    ]
}

/// The caches of the first processor, as the system describes them.
fn caches() -> String {
    let one = |index: usize| {
        let read = |file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
        };
        let (level, kind, size) = (read("level")?, read("type")?, read("size")?);
        let kind = match kind.as_str() {
            "Data" => " data",
            "Instruction" => " instructions",
            _ => "",
        };
        Some(format!("L{level}{kind} {size}"))
    };
    let all: Vec<String> = (0..8).map_while(one).collect();
    if all.is_empty() { "the system does not tell".into() } else { all.join(", ") }
}

fn memory() -> Vec<Finding> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
        Some(value.parse::<f64>().ok()? / f64::from(1 << 20))
    };
    let found = match (gib("MemTotal:"), gib("MemAvailable:")) {
        (Some(total), Some(free)) => format!("{total:.1} GiB, {free:.1} GiB available"),
        _ => "the system does not tell".into(),
    };
    let little = gib("MemAvailable:").is_some_and(|free| free < 2.0);
    let little = little.then_some("'ulmfit plan STAGE' tells what a training needs; --memory-limit bounds it");
    let pages = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let mode = pages.split(['[', ']']).nth(1).unwrap_or("the system does not tell").to_string();
    let small = (mode != "always")
        .then_some("the program asks for none; root may write always into /sys/kernel/mm/transparent_hugepage/enabled");
    vec![
        Finding::new("memory", found).advise(little),
        Finding::new("huge pages", format!("transparent: {mode}")).advise(small),
    ]
}

fn rates(peaks: &Peaks) -> Vec<Finding> {
    let shown = |rate: Rate, unit: &str| {
        format!("{:.1} {unit} with one thread, {:.1} with {}", rate.one_thread, rate.all_threads, peaks.threads)
    };
    let mut all = vec![Finding::new("multiply-adds f32", shown(peaks.f32, "GFLOP/s"))];
    all.extend(peaks.bf16.map(|rate| Finding::new("multiply-adds bf16", shown(rate, "GFLOP/s"))));
    all.push(Finding::new("memory bandwidth", shown(peaks.triad, "GB/s")));
    all
}

fn gpus() -> Vec<Finding> {
    match cuda::probe() {
        Ok(found) => {
            let gpu = |gpu: &cuda::Gpu| {
                let (major, minor) = gpu.compute_capability;
                let gib = gpu.memory_bytes as f64 / f64::from(1 << 30);
                let usable = found.usable(gpu.ordinal).err().map(|e| e.to_string());
                Finding::new("GPU", format!("{}, compute capability {major}.{minor}, {gib:.1} GiB", gpu.name))
                    .advise(usable)
            };
            let driver = Finding::new("CUDA driver", found.driver.clone());
            std::iter::once(driver).chain(found.gpus.iter().map(gpu)).collect()
        }
        Err(reason) => {
            let advice = "a GPU needs NVIDIA's driver, nothing else; without one everything runs on the CPU";
            vec![Finding::new("CUDA driver", format!("none: {reason}")).advise(Some(advice))]
        }
    }
}

fn english() -> Finding {
    let here = [Direction::Forward, Direction::Backward].map(|direction| Base::ENGLISH.is_here(direction));
    let (found, missing) = match here {
        [true, true] => ("forward and backward", None),
        [true, false] => ("forward", Some("'run --bidirectional' needs --base DIR with a model for each direction")),
        _ => ("none", Some("'ulmfit get wt103-fwd' and 'ulmfit import' give one; --base takes it")),
    };
    Finding::new("English model", found).advise(missing)
}

/// Two columns, and what is missing below what it belongs to.
fn table(all: &[Finding]) -> String {
    let width = all.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { name, found, advice } in all {
        text += &format!("{name:width$}  {found}\n");
        if let Some(advice) = advice {
            text += &format!("{:width$}  hint: {advice}\n", "");
        }
    }
    match super::result::terminal() {
        Some(columns) => wrapped(&text, columns),
        None => text,
    }
}
