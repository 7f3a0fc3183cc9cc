//! `ulmfit gradcheck`: finite differences in f64 for every operation, layer and the whole model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Global, output};
use crate::check;
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::files;
use crate::report::{instruments, plots};

/// Compare every gradient with finite differences in f64; on a GPU, with the CPU's
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit gradcheck --op lstm\n  ulmfit gradcheck --mutate\n  ulmfit gradcheck --op lstm --sweep lstm.svg"
)]
pub struct Args {
    /// Only this operation or model
    #[arg(long, value_name = "NAME")]
    pub op: Option<String>,
    /// Plant an error in every backward, too, and require that the check sees it
    #[arg(long)]
    pub mutate: bool,
    /// Also draw the error by the step of the differences: a picture (.svg) or a page (.html)
    #[arg(long, value_name = "FILE")]
    pub sweep: Option<PathBuf>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let checked = global.for_check("gradcheck")?;
    if global.precision == Precision::Bf16 && checked.device == Device::Cpu {
        return Err(Error::usage("gradcheck differentiates in f64: --precision bf16 is for products in f32")
            .hint("leave --precision out; 'golden --precision bf16' checks results in bf16"));
    }
    if let Some(file) = &args.sweep {
        if checked.device != Device::Cpu {
            return Err(Error::usage("--sweep is of finite differences, which the CPU alone computes"));
        }
        is_page(file)?;
        output::check_place("--sweep", file)?;
    }
    let device = checked.announce_device();
    if device != Device::Cpu {
        return run_on_gpu(args, global, device);
    }
    let report = check::gradient(args.op.as_deref(), device)?;
    let mutants = if args.mutate { Some(check::mutation(args.op.as_deref(), device)?) } else { None };

    let mut text = format!("{:<28} {:>6} {:>9} {:>7}  worst error\n", "operation", "cases", "elements", "failed");
    for row in &report.rows {
        let _ =
            writeln!(text, "{:<28} {:>6} {:>9} {:>7}  {:.1e}", row.op, row.cases, row.elements, row.failed, row.error);
        for failure in row.failures.iter().take(3) {
            let _ = writeln!(text, "    {failure}");
        }
    }
    let (ops, models) = (report.ops, report.models);
    let _ = write!(text, "{ops} operations and {models} models, {} cases, {} failed", report.cases, report.failed);
    let json = |what: &str, e: serde_json::Error| Error::data(format!("cannot write {what} as JSON: {e}"));
    let mut value = serde_json::to_value(&report).map_err(|e| json("the report", e))?;
    let mut missed = 0;
    if let Some(mutants) = &mutants {
        missed = mutants.survivors.len();
        let _ = write!(text, "\n{} planted errors, {missed} not seen", mutants.mutants);
        value["mutation"] = serde_json::to_value(mutants).map_err(|e| json("the mutation report", e))?;
    }
    if let Some(file) = &args.sweep {
        let sweeps = check::sweep(args.op.as_deref(), device)?;
        let drawn = match is_page(file)? {
            true => Some(instruments::sweep(&sweeps)?),
            false => plots::standalone(&instruments::sweep_chart(&sweeps))?,
        };
        files::put_output(file, drawn.unwrap_or_default())?;
        let _ = write!(text, "\nsweep: {}", file.display());
        value["sweep"] = serde_json::to_value(&sweeps).map_err(|e| json("the sweep", e))?;
    }
    output::result(global.json, &text, &value)?;
    if report.failed > 0 {
        return Err(Error::CheckFailed { message: format!("{} of {} cases failed", report.failed, report.cases) });
    }
    if missed > 0 {
        return Err(Error::CheckFailed { message: format!("{missed} planted errors were not seen") });
    }
    Ok(())
}

/// Whether a file is to be a page; else it is a picture.
fn is_page(file: &Path) -> Result<bool> {
    match file.extension().and_then(|end| end.to_str()) {
        Some("html") => Ok(true),
        Some("svg") => Ok(false),
        _ => Err(Error::usage(format!("--sweep {}: name a file that ends in .svg or .html", file.display()))),
    }
}

/// A GPU computes in f32, or in bf16, which is too coarse for finite differences: its results are
/// held to those of the CPU in f64.
fn run_on_gpu(args: &Args, global: &Global, device: Device) -> Result<()> {
    let report = check::parity(args.op.as_deref(), device, global.precision)?;
    let planted =
        if args.mutate { check::parity_mutation(args.op.as_deref(), device, global.precision)? } else { Vec::new() };
    let mut text = format!(
        "{:<28} {:>6} {:>9} {:>7}  error    bound    tensor nearest to it\n",
        "operation", "cases", "elements", "failed"
    );
    for row in &report.rows {
        let worst = row.worst.as_ref();
        let numbers = worst.map_or_else(String::new, |w| format!("{:.1e}  {:.1e}  {}", w.error, w.bound, w.element));
        let note = row.skipped.as_ref().map_or(numbers, |why| format!("skipped: {why}"));
        let _ = writeln!(text, "{:<28} {:>6} {:>9} {:>7}  {note}", row.op, row.cases, row.elements, row.failed);
    }
    let bound = match global.precision {
        Precision::Full => "twice the error of the CPU in f32, and 2^-22",
        Precision::Bf16 => "twice the error of a naive computation in bf16",
    };
    let _ = write!(
        text,
        "{} operations, {} cases, {} failed; errors and bounds are of a tensor's largest value: {bound}",
        report.ops, report.cases, report.failed
    );
    let mut value =
        serde_json::to_value(&report).map_err(|e| Error::data(format!("cannot write the report as JSON: {e}")))?;
    let missed: Vec<&str> = planted.iter().filter(|(_, seen)| !seen).map(|(op, _)| *op).collect();
    if args.mutate {
        let _ = write!(text, "\n{} planted errors, {} not seen", planted.len(), missed.len());
        value["mutation"] = serde_json::json!({ "mutants": planted.len(), "survivors": missed });
    }
    output::result(global.json, &text, &value)?;
    if report.failed > 0 {
        return Err(Error::CheckFailed { message: format!("{} of {} cases failed", report.failed, report.cases) });
    }
    if !missed.is_empty() {
        return Err(Error::CheckFailed { message: format!("planted errors were not seen: {}", missed.join(", ")) });
    }
    Ok(())
}
