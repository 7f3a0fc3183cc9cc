//! The flags that every command has.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

use crate::autodiff::Graph;
use crate::device::{DType, Device, Precision, cuda};
use crate::error::{Error, Result};
use crate::report::progress::Detail;
use crate::train::rss;

/// Global flags as given.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global flags")]
pub struct GlobalArgs {
    /// Where to compute: auto, cpu, cuda, cuda:N or cudasim
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto")]
    pub device: Vec<Wanted>,
    /// The GPU that cudasim presents
    #[arg(long, global = true, value_enum, value_name = "GPU")]
    pub gpu_model: Option<GpuModel>,
    /// Number of threads [default: all processors]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
    /// Seed of all random numbers
    #[arg(long, global = true, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Number format of large matrix products [default: f32]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub precision: Option<Format>,
    /// Print one JSON object as the last line of standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Show every setting of a stage and where it comes from
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Refuse to take more memory than this, as 800MB or 2GiB: on a CPU the whole process counts
    #[arg(long, global = true, value_name = "SIZE", value_parser = super::values::size)]
    pub memory_limit: Option<usize>,
    /// Take flags from a TOML file; the command line wins
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

/// Number format of large matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    F32,
    Bf16,
    /// Weights of 8 bits, for prediction
    Int8,
}

/// GPUs that cudasim presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GpuModel {
    V100,
    A100,
    H100,
    Rtx4090,
}

/// A device as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
    CudaSim,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Wanted::Auto),
            "cpu" => Ok(Wanted::Cpu),
            "cuda" => Ok(Wanted::Cuda(0)),
            "cudasim" => Ok(Wanted::CudaSim),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Ok(Wanted::Cuda(ordinal)),
                _ => Err("use auto, cpu, cuda, cuda:N or cudasim".into()),
            },
        }
    }
}

/// Global flags, checked and in force.
#[derive(Clone, Debug)]
pub struct Global {
    pub device: Device,
    /// All that were asked for, `device` first; one but for `bench`.
    pub devices: Vec<Device>,
    /// Format of the operands of large products.
    pub precision: Precision,
    /// Whether weights have 8 bits, for prediction.
    pub int8: bool,
    /// Whether a format was asked for.
    pub precision_given: bool,
    /// Whether the choice was left to the program.
    automatic: bool,
    /// Which device and why, where the choice was left to the program or the device is not what it
    /// seems.
    device_note: Option<String>,
    pub seed: u64,
    pub json: bool,
    pub quiet: bool,
    pub detail: Detail,
    /// In bytes.
    pub memory_limit: Option<usize>,
    /// The configuration file and the flags that came from it.
    pub config: Option<PathBuf>,
    /// Long names.
    pub from_config: BTreeSet<String>,
}

impl Global {
    /// Checks the flags, chooses the device and builds the thread pool.
    pub fn new(args: GlobalArgs, from_config: BTreeSet<String>) -> Result<Self> {
        crate::device::cpu::isa::isa_from_environment()?;
        let wanted = &args.device;
        if args.gpu_model.is_some() && !wanted.contains(&Wanted::CudaSim) {
            return Err(Error::usage("--gpu-model is for --device cudasim: a real GPU is what it is"));
        }
        let precision = match args.precision {
            Some(Format::Bf16) => Precision::Bf16,
            None | Some(Format::F32 | Format::Int8) => Precision::Full,
        };
        let int8 = args.precision == Some(Format::Int8);
        let gpus = wanted.iter().filter(|one| **one != Wanted::Cpu).count();
        if wanted.len() > 1 && (wanted.len() != 2 || gpus != 1 || wanted.contains(&Wanted::Auto)) {
            return Err(
                Error::usage("--device: two of them are the CPU and one GPU").hint("as in --device cpu --device cuda")
            );
        }
        let chosen = wanted
            .iter()
            .map(|&one| if int8 { choose_for_int8(one) } else { choose(one, args.gpu_model, precision) })
            .collect::<Result<Vec<_>>>()?;
        let (devices, notes): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        let device_note = notes.into_iter().flatten().next();
        Ok(Global {
            device: devices[0],
            devices,
            precision,
            int8,
            precision_given: args.precision.is_some(),
            automatic: wanted[..] == [Wanted::Auto],
            device_note,
            seed: args.seed,
            json: args.json,
            quiet: args.quiet,
            detail: match (args.quiet, args.verbose) {
                (true, _) => Detail::Quiet,
                (false, true) => Detail::Verbose,
                (false, false) => Detail::Normal,
            },
            memory_limit: args.memory_limit,
            config: args.config,
            from_config,
        })
    }

    /// The same with another seed.
    pub fn with_seed(&self, seed: u64) -> Self {
        Global { seed, ..self.clone() }
    }

    /// For a command that computes on the CPU alone.
    ///
    /// # Errors
    /// Another device was asked for.
    pub fn on_cpu(&self, command: &str) -> Result<Self> {
        match self.device {
            Device::Cpu => Ok(self.clone()),
            Device::Cuda(_) if self.automatic => {
                let device_note = Some(format!("device: cpu (where all of '{command}' runs)"));
                Ok(Global { device: Device::Cpu, devices: vec![Device::Cpu], device_note, ..self.clone() })
            }
            Device::Cuda(_) => Err(Error::usage(format!("'{command}' does not run on {} yet", self.device))
                .hint("use --device cpu, or leave --device out")),
        }
    }

    /// For a check that is whole on the CPU alone, where f64 is: a GPU is taken only if it was
    /// asked for.
    pub fn for_check(&self, command: &str) -> Result<Self> {
        if self.automatic { self.on_cpu(command) } else { Ok(self.clone()) }
    }

    /// An empty graph for f32 on the device, in the precision and within the memory asked for.
    pub fn graph(&self) -> Graph {
        Graph::new(self.device, DType::F32, rss::left(self.memory_limit, self.device))
            .with_precision(self.precision)
            .with_int8_weights(self.int8)
    }

    /// Whether a flag (without its dashes) comes from the configuration file.
    pub fn is_from_config(&self, flag: &str) -> bool {
        self.from_config.contains(flag)
    }

    /// The device; says on standard error which one was chosen and why, where that was left to the
    /// program. For commands that compute.
    pub fn announce_device(&self) -> Device {
        if let Some(note) = self.device_note.as_ref().filter(|_| !self.quiet) {
            super::output::to_stderr(note);
        }
        self.device
    }

    /// The same for a training: one line with device, reason and seed.
    pub fn announce_run(&self) {
        if !self.quiet {
            let device = self.device_note.clone().unwrap_or_else(|| format!("device: {}", self.device));
            super::output::to_stderr(&format!("{device}, seed {}", self.seed));
        }
    }
}

/// Starts the pool of threads. This thread is one of them: work that it hands out does not have to
/// wake another one first.
pub fn start_threads(wanted: Option<u32>) -> Result<()> {
    let mut builder = rayon::ThreadPoolBuilder::new().use_current_thread();
    if let Some(threads) = wanted {
        builder = builder.num_threads(threads as usize);
    }
    builder.build_global().map_err(|e| Error::data(format!("cannot start the threads: {e}")))
}

/// Weights of 8 bits are multiplied on the CPU alone.
fn choose_for_int8(wanted: Wanted) -> Result<(Device, Option<String>)> {
    match wanted {
        Wanted::Cpu => Ok((Device::Cpu, None)),
        Wanted::Auto => Ok((Device::Cpu, Some("device: cpu (where --precision int8 computes)".into()))),
        Wanted::Cuda(_) | Wanted::CudaSim => {
            Err(Error::usage("--precision int8 computes on the CPU alone").hint("leave --device out"))
        }
    }
}

fn choose(wanted: Wanted, gpu_model: Option<GpuModel>, precision: Precision) -> Result<(Device, Option<String>)> {
    let usable = |found: &cuda::Probe, ordinal: usize| {
        let gpu = found.usable(ordinal)?;
        gpu.check_precision(precision).map(|()| gpu.name.clone())
    };
    match wanted {
        Wanted::Cpu => Ok((Device::Cpu, None)),
        Wanted::Auto => Ok(match cuda::probe().map(|found| usable(&found, 0).map_err(|e| e.to_string())) {
            Ok(Ok(name)) => (Device::Cuda(0), Some(format!("device: cuda:0 ({name}, the first usable GPU)"))),
            Ok(Err(reason)) | Err(reason) => (Device::Cpu, Some(format!("device: cpu ({reason})"))),
        }),
        Wanted::Cuda(ordinal) => {
            let found = cuda::probe().map_err(|reason| {
                Error::data(format!("--device cuda: {reason}")).hint("use --device cpu, or leave --device out")
            })?;
            usable(&found, ordinal)?;
            Ok((Device::Cuda(ordinal), None))
        }
        Wanted::CudaSim => {
            let model = gpu_model.and_then(|model| model.to_possible_value());
            cuda::simulate(model.as_ref().map(|value| value.get_name()))?;
            let found = cuda::probe().map_err(|reason| Error::data(format!("--device cudasim: {reason}")))?;
            let name = usable(&found, 0)?;
            Ok((Device::Cuda(0), Some(format!("device: cudasim (a simulated {name}: results, not times)"))))
        }
    }
}
