//! `ulmfit golden`: replay reference fixtures and compare every output and gradient.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Global, output};
use crate::check;
use crate::error::{Error, Result};

/// Replay reference fixtures and compare every output and gradient
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit golden golden/")]
pub struct Args {
    /// Fixture files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let device = global.for_check("golden")?.announce_device();
    let report = check::golden(&args.paths, device, global.precision)?;
    let width = report.rows.iter().map(|row| row.file.chars().count()).max().unwrap_or(0).max(4);
    let mut text =
        format!("{:<width$}  {:<16} {:<4} {:>7} {:>7}  worst error\n", "file", "case", "type", "tensors", "failed");
    for row in &report.rows {
        let failed = row.failures.len();
        if let Some(why) = &row.skipped {
            let _ = writeln!(text, "{:<width$}  {:<16} {:<4} skipped: {why}", row.file, row.case, row.dtype);
            continue;
        }
        let worst = row.worst.as_ref().map_or_else(|| "-".into(), |w| format!("{:.1e} {}", w.error, w.tensor));
        let _ = writeln!(
            text,
            "{:<width$}  {:<16} {:<4} {:>7} {failed:>7}  {worst}",
            row.file, row.case, row.dtype, row.tensors
        );
        for tensor in row.failures.iter().take(5) {
            let _ = writeln!(text, "    {tensor}");
        }
    }
    let _ = write!(text, "{} files, {} failed", report.files, report.failed);
    if report.skipped > 0 {
        let _ = write!(text, ", {} skipped", report.skipped);
    }
    if let Some(worst) = &report.worst {
        let _ = write!(
            text,
            "; worst {:.1e}, {:.0e} is allowed of the tensor's largest value",
            worst.error, worst.tolerance
        );
    }
    let value =
        serde_json::to_value(&report).map_err(|e| Error::data(format!("cannot write the report as JSON: {e}")))?;
    output::result(global.json, &text, &value)?;
    if report.failed > 0 {
        let worst = report.worst.as_ref().map_or_else(String::new, |w| {
            format!("; '{}' of {} differs by {:.1e}, and {:.0e} is allowed", w.tensor, w.file, w.error, w.tolerance)
        });
        let message = format!("{} of {} fixtures do not agree{worst}", report.failed, report.files);
        return Err(Error::CheckFailed { message });
    }
    Ok(())
}
