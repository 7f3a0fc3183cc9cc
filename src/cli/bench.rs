//! `ulmfit bench`: verifies, then times.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::{Global, output};
use crate::bench::format::Format;
use crate::bench::gpu_peaks::GpuPeaks;
use crate::bench::report::{Compared, Row};
use crate::bench::verdict::{Judgement, Verdict, judge};
use crate::bench::{Options, Report, Suite, run as measure};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::report::environment::processor;
use crate::report::instruments;

/// Suites by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SuiteName {
    Ops,
    Lstm,
    Step,
    Text,
    Predict,
    All,
}

/// Verify results, then time them, beside the peaks of this machine
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit bench --suite step --json > before.json\n  ulmfit bench --suite step --compare before.json\n  ulmfit bench --compare before.json after.json\n  ulmfit bench --suite ops --html ops.html"
)]
pub struct Args {
    /// What to measure: single operations, the recurrent core, training steps, tokenizers,
    /// prediction, or all of it
    #[arg(long, value_enum, default_value_t = SuiteName::All)]
    pub suite: SuiteName,
    /// Only rows of this name, as lm_step
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Compare with what an earlier run has printed with --json; of two files nothing is measured:
    /// they are compared with each other
    #[arg(long, value_name = "FILE", num_args = 1..=2)]
    pub compare: Vec<PathBuf>,
    /// Write a page with the rows under the roofline of the machine
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// One run of what takes long, and few of what does not: a first look
    #[arg(long)]
    pub quick: bool,
    /// Tiny sizes, to test the benchmark itself; the rows say so
    #[arg(long, hide = true)]
    pub reduced: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    if args.compare.len() > 2 {
        return Err(Error::usage("--compare: two files at most"));
    }
    if let [before, after] = &args.compare[..] {
        if args.html.is_some() || args.only.is_some() || args.quick {
            return Err(Error::usage("--compare with two files measures nothing: leave the other flags out"));
        }
        let judgement = judge(before, after)?;
        let value = serde_json::to_value(&judgement)
            .map_err(|e| Error::data(format!("cannot write the comparison as JSON: {e}")))?;
        return output::result(global.json, &judged(&judgement), &value);
    }
    if let Some(file) = &args.html {
        output::check_place("--html", file)?;
    }
    let global = &global.for_check("bench")?;
    global.announce_device();
    let on_cpu = global.devices.contains(&Device::Cpu);
    if args.suite == SuiteName::Text && !on_cpu {
        return Err(Error::usage("--suite text: tokenizers run on the CPU alone").hint("add --device cpu"));
    }
    let suites = match args.suite {
        SuiteName::Ops => vec![Suite::Ops],
        SuiteName::Lstm => vec![Suite::Lstm],
        SuiteName::Step => vec![Suite::Step],
        SuiteName::Text => vec![Suite::Text],
        SuiteName::Predict => vec![Suite::Predict],
        SuiteName::All => Suite::ALL.into_iter().filter(|suite| on_cpu || *suite != Suite::Text).collect(),
    };
    if global.int8 && suites != [Suite::Predict] {
        return Err(Error::usage("--precision int8 is for prediction").hint("say --suite predict"));
    }
    let mut formats = Vec::new();
    for &device in &global.devices {
        match global.precision {
            _ if !global.precision_given => formats.extend(Format::of_device(device)?),
            Precision::Full if global.int8 => formats.push(Format::INT8),
            Precision::Full => formats.push(Format::F32.on(device)),
            Precision::Bf16 => formats.push(Format::BF16.on(device)),
        }
    }
    let options = Options {
        suites,
        quick: args.quick,
        reduced: args.reduced,
        only: args.only.as_deref(),
        formats,
        compare: args.compare.first().map(PathBuf::as_path),
    };
    let report = measure(&options, &mut |row| {
        if !global.quiet {
            output::to_stderr(&progress(row));
        }
        Ok(())
    })?;
    let mut value =
        serde_json::to_value(&report).map_err(|e| Error::data(format!("cannot write the result as JSON: {e}")))?;
    value["processor"] = processor().into();
    value["version"] = env!("CARGO_PKG_VERSION").into();
    let mut text = table(&report);
    if let Some(file) = &args.html {
        crate::files::put_output(file, instruments::bench(&value)?)?;
        let _ = writeln!(text, "report: {}", file.display());
    }
    output::result(global.json, &text, &value)
}

/// A comparison of saved results, for people.
fn judged(judgement: &Judgement) -> String {
    let Judgement { before, after, results: [a, b], rows, missing, machine } = judgement;
    let mut text = format!("before: {before} ({a} results); after: {after} ({b} results)\n");
    for (what, ratio) in machine {
        let _ = writeln!(text, "the machine itself, {what}: after {ratio:.2} of before");
    }
    let _ = writeln!(
        text,
        "\n{:<27} {:<44} {:<9} {:>10} {:>10} {:>6}  {:<14} verdict",
        "name", "shape", "direction", "before ms", "after ms", "ratio", "95 % interval"
    );
    for row in rows {
        let words = [&row.name, &row.precision, &row.device].map(String::as_str);
        let name: Vec<&str> = words.into_iter().filter(|word| !word.is_empty() && *word != "cpu").collect();
        let interval = row.interval.map_or_else(|| "-".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        let _ = writeln!(
            text,
            "{:<27} {:<44} {:<9} {:>10} {:>10} {:>6.3}  {interval:<14} {}",
            name.join(" "),
            row.shape,
            row.direction,
            digits(row.before_ms),
            digits(row.after_ms),
            row.ratio,
            row.verdict.words()
        );
    }
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (faster, slower) = (count(Verdict::Faster), count(Verdict::Slower));
    let (same, unknown) = (count(Verdict::NoDifference), count(Verdict::Unknown));
    let _ = writeln!(
        text,
        "\n{faster} faster, {slower} slower, {same} without a difference seen, {unknown} of unknown noise"
    );
    text += "a ratio above 1 is faster after; of 20 rows without any difference one is told of by chance\n";
    if *a.min(b) < 2 {
        text += "single results: the noise between processes is not in it; append several to each file, in turn\n";
    }
    missing.iter().for_each(|row| text += &format!("in {row}\n"));
    text
}

fn progress(row: &Row) -> String {
    let direction = if row.direction.is_empty() { String::new() } else { format!(" {}", row.direction) };
    let (how, ms) = if row.ms.is_some() { ("", row.ms) } else { (" projected", row.projected_ms) };
    let ms = digits(ms.unwrap_or_default());
    format!("{} {}: {} {}{direction}: {ms} ms{how}", row.device, row.suite, row.name, row.shape)
}

/// Three digits or more.
fn digits(x: f64) -> String {
    let places = if x < 1.0 { 4 } else { 3usize.saturating_sub(x.log10() as usize + 1).max(usize::from(x < 100.0)) };
    format!("{x:.places$}")
}

fn table(report: &Report) -> String {
    let peaks = &report.peaks.cpu;
    let mut text = format!("{}, {} threads, instruction set {}\n", processor(), peaks.threads, peaks.isa);
    let rates = [
        ("multiply-adds f32", Some(peaks.f32), "GFLOP/s"),
        ("multiply-adds bf16", peaks.bf16, "GFLOP/s"),
        ("triad", Some(peaks.triad), "GB/s"),
    ];
    for (what, rate, unit) in rates {
        let Some(rate) = rate else { continue };
        let (one, all) = (rate.one_thread, rate.all_threads);
        let _ = writeln!(text, "peak {what:<18} {all:>8.1} {unit} on all threads, {one:.1} on one");
    }
    if let Some(gpu) = &report.peaks.cuda {
        let bf16 = gpu.bf16.map_or_else(String::new, |rate| format!(", {rate:.0} bf16"));
        let GpuPeaks { name, f32, triad, source, .. } = gpu;
        let _ = writeln!(text, "peak of {name}: {f32:.0} GFLOP/s f32{bf16}, triad {triad:.0} GB/s ({source})");
    }
    let compared = report.compared.is_some();
    let _ = write!(
        text,
        "\n{:<27} {:<44} {:<9} {:>10} {:>9} {:>7} {:>6}",
        "name", "shape", "direction", "ms", "GFLOP/s", "GB/s", "peak"
    );
    text += if compared { "  before/now\n" } else { "\n" };
    let mut disturbed = false;
    for row in &report.rows {
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_string(), digits);
        let share = row.peak_fraction.map_or_else(|| "-".to_string(), |x| format!("{:.0} %", 100.0 * x));
        let _ = write!(
            text,
            "{:<27} {:<44} {:<9} {:>10} {:>9} {:>7} {share:>6}",
            title(row),
            row.shape,
            row.direction,
            number(row.milliseconds()),
            number(row.gflops),
            number(row.gbs),
        );
        if let Some(ratio) = row.ratio {
            let _ = write!(text, " {ratio:>11.2}");
        }
        if let (Some(rate), Some(unit)) = (row.rate, &row.unit) {
            let _ = write!(text, "  {} {unit}", digits(rate));
        }
        if row.foreign.is_some_and(|foreign| foreign > 0.1) {
            disturbed = true;
            text += " *";
        }
        text.push('\n');
    }
    if report.rows.iter().any(|row| row.projected_ms.is_some()) {
        text +=
            "on cudasim nothing was timed: milliseconds are projected from what kernels did, by the published peaks\n";
    }
    if disturbed {
        text += "* other processes had more than a tenth of a processor meanwhile\n";
    }
    text += &budgets(report);
    report.skipped.iter().for_each(|why| text += &format!("skipped: {why}\n"));
    if let Some(compared) = &report.compared {
        text += &comparison(compared, report);
    }
    text
}

/// Name, precision, and the device where it is a GPU.
fn title(row: &Row) -> String {
    let words = [&row.name, &row.precision, &row.device].map(String::as_str);
    words.into_iter().filter(|word| !word.is_empty() && *word != "cpu").collect::<Vec<_>>().join(" ")
}

/// Where the time of recorded runs went, beside what it would be at the peaks; nothing without any.
fn budgets(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.rows {
        let Some(budget) = &row.budget else { continue };
        if text.is_empty() {
            text = format!(
                "\ntime budget of one run, in ms (operands: those of products, at triad, if nothing were computed meanwhile)\n\
                 {:<27} {:<44} {:<9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
                "", "", "", "products", "at peak", "operands", "memory", "at triad", "remainder"
            );
        }
        let operands = budget.products.bytes as f64 / report.peaks.cpu.triad.all_threads / 1e6;
        let _ = write!(text, "{:<27} {:<44} {:<9}", title(row), row.shape, row.direction);
        let times = [budget.products.ms, budget.products.floor_ms, operands, budget.memory.ms, budget.memory.floor_ms];
        for (ms, width) in times.into_iter().chain([budget.remainder.ms]).zip([10, 9, 9, 9, 9, 9]) {
            let _ = write!(text, " {:>width$}", digits(ms));
        }
        text.push('\n');
    }
    text
}

fn comparison(compared: &Compared, report: &Report) -> String {
    let Compared { file, matched, missing, peaks } = compared;
    let mut text =
        format!("\ncompared with {file}: {matched} of {} rows; above 1 is faster than before\n", report.rows.len());
    let before = |key: &str| peaks["cpu"][key]["all_threads"].as_f64();
    for (what, before, now) in [
        ("multiply-adds", before("f32"), report.peaks.cpu.f32.all_threads),
        ("triad", before("triad"), report.peaks.cpu.triad.all_threads),
    ] {
        if let Some(before) = before {
            let _ = writeln!(text, "the machine itself, {what}: now {:.2} of before", now / before);
        }
    }
    for row in missing {
        let _ = writeln!(text, "only before: {row}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn three_digits_or_more() {
        for (x, shown) in [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (5123.4, "5123")] {
            assert_eq!(super::digits(x), shown);
        }
    }
}
