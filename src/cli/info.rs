//! `ulmfit info`: what this program would compute with on this machine.

use std::fmt::Write as _;

use serde_json::json;

use super::{Global, output, shared};
use crate::device::{cpu::isa, cuda};
use crate::error::Result;
use crate::report::environment;

/// Processor features in use, threads, CUDA driver and devices, versions
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit info\n  ulmfit info --json")]
pub struct Args {}

/// Rows of a batch, and units of the layers but the last and of the last (docs/SPEC.md §4.4).
const PAPER_BATCH: usize = 64;
const PAPER_HIDDEN: [usize; 2] = [1150, 400];

pub fn run(_args: &Args, global: &Global) -> Result<()> {
    let (features, instructions) = (isa::features(), isa::isa());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let cuda = cuda::probe();
    let version = env!("CARGO_PKG_VERSION");

    let mut text = format!("ulmfit           {version}\n");
    let _ = writeln!(text, "processor        {} ({processors} usable)", environment::processor());
    let _ = writeln!(text, "features         {}", if features.is_empty() { "none".into() } else { features.join(" ") });
    let _ = writeln!(text, "instruction set  {instructions}");
    let _ = writeln!(text, "threads          {threads}");
    let _ = writeln!(text, "device           {}", global.device);
    match &cuda {
        Ok(found) => {
            let _ = writeln!(text, "CUDA driver      {}", found.driver);
            for gpu in &found.gpus {
                let (major, minor) = gpu.compute_capability;
                let gib = gpu.memory_bytes as f64 / (1u64 << 30) as f64;
                let shape = format!(
                    "compute capability {major}.{minor}, {} multiprocessors, {gib:.1} GiB",
                    gpu.multiprocessors
                );
                let _ = writeln!(text, "GPU {}            {}: {shape}", gpu.ordinal, gpu.name);
            }
        }
        Err(reason) => {
            let _ = writeln!(text, "CUDA             none: {reason}");
        }
    }
    let lstm = shared::lstm_plans(global, PAPER_BATCH, &PAPER_HIDDEN)?;
    if let Some(plans) = &lstm {
        text += "LSTM of the paper's model\n";
        text += &shared::lstm_lines(plans);
    }
    let cuda = match cuda {
        Ok(found) => json!({"driver": found.driver, "devices": found.gpus, "reason": null}),
        Err(reason) => json!({"driver": null, "devices": [], "reason": reason}),
    };
    let value = json!({
        "version": version,
        "processor": environment::processor(),
        "processors": processors,
        "features": features,
        "isa": instructions.name(),
        "threads": threads,
        "device": global.device.to_string(),
        "cuda": cuda,
        "lstm": lstm,
        "system": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH},
    });
    output::result(global.json, &text, &value)
}
