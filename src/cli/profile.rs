//! `ulmfit profile`: one training step taken apart.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::shared::ModelOrNone;
use super::{Global, finetune_lm, job, output, pretrain, train_classifier};
use crate::bench::profile::{self, Leaf, StepProfile};
use crate::bench::projection::{self, Projection};
use crate::bench::trace_file;
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::files;
use crate::models;
use crate::report::timeline::{self, Part};
use crate::text::Role;
use crate::train;
use crate::train::recipe::Recipe;
use crate::train::stages::Context;
use crate::train::trial::{self, Trial};

/// Take one training step of a stage apart: where its time goes
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit profile pretrain --corpus wiki.train.txt --vocab-size 30000 --trace step.json"
)]
pub struct Args {
    #[command(subcommand)]
    pub stage: Stage,
}

/// A stage, with its flags.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Stage {
    /// A step of stage 1
    Pretrain(PretrainArgs),
    /// A step of stage 2
    FinetuneLm(FinetuneArgs),
    /// A step of stage 3
    TrainClassifier(ClassifierArgs),
}

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit profile pretrain --corpus wiki.train.txt --vocab-size 30000 --trace step.json"
)]
pub struct PretrainArgs {
    #[command(flatten)]
    pub input: pretrain::Input,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit profile finetune-lm --model lm --text train.csv")]
pub struct FinetuneArgs {
    #[command(flatten)]
    pub input: finetune_lm::Input,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit profile train-classifier --model tuned --train train.csv")]
pub struct ClassifierArgs {
    #[command(flatten)]
    pub input: train_classifier::Input,
    #[command(flatten)]
    pub common: Common,
}

/// What every profile takes besides.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Profile")]
pub struct Common {
    /// Write the step in the Chrome trace format (chrome://tracing, ui.perfetto.dev)
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Write a page with the step's time line and its time as a flame chart
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Taken as the stage's command takes it; nothing is written
    #[arg(long, value_name = "DIR", hide = true)]
    pub out: Option<PathBuf>,
    /// Taken as the stage's command takes it; nothing is written
    #[arg(long, hide = true)]
    pub resume: bool,
    /// Taken as the stage's command takes it; nothing is written
    #[arg(long, hide = true)]
    pub overwrite: bool,
    /// Taken as the stage's command takes it; nothing is written
    #[arg(long, value_name = "X", hide = true)]
    pub checkpoint_minutes: Option<f64>,
    /// Taken as the stage's command takes it; nothing is written
    #[arg(long, value_name = "N", hide = true)]
    pub checkpoint_steps: Option<usize>,
}

/// What a profile is made of.
enum Outcome {
    Timed(StepProfile),
    Counted(Projection),
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let counted = cuda::is_simulated();
    let global = &if counted { global.clone() } else { global.on_cpu("profile")? };
    let (recipe, common, stage) = match &args.stage {
        Stage::Pretrain(args) => (&args.input.recipe, &args.common, train::Stage::Pretrain),
        Stage::FinetuneLm(args) => (&args.input.recipe, &args.common, train::Stage::FinetuneLm),
        Stage::TrainClassifier(args) => (&args.input.recipe, &args.common, train::Stage::Classifier),
    };
    if let Some(file) = &common.trace {
        if counted {
            return Err(Error::usage("--trace shows times, and on cudasim nothing is timed")
                .hint("leave --trace out, or use --device cpu"));
        }
        output::check_place("--trace", file)?;
    }
    if let Some(file) = &common.html {
        if counted {
            return Err(Error::usage("--html shows times, and on cudasim nothing is timed")
                .hint("leave --html out, or use --device cpu"));
        }
        output::check_place("--html", file)?;
    }
    let mut resolved = fixed_windows(job::recipe(recipe, crate::train::recipe::DEFAULT, global)?)?;
    let reduced = if counted { projection::reduce(&mut resolved, stage)? } else { Vec::new() };
    let work = |context: &mut Context, trial: Trial| match counted {
        true => projection::measure(context, trial, &reduced).map(Outcome::Counted),
        false => profile::measure(context, trial).map(Outcome::Timed),
    };
    let outcome = prepared(args, global, resolved, work)?;
    let json = |e: serde_json::Error| Error::data(format!("cannot write the profile as JSON: {e}"));
    let (text, value) = match &outcome {
        Outcome::Counted(counted) => (projected(counted), serde_json::to_value(counted).map_err(json)?),
        Outcome::Timed(profile) => {
            let mut text = describe(profile);
            if let Some(path) = &common.trace {
                let trace = trace_file::chrome(&profile.recording, &format!("ulmfit {}", profile.stage));
                files::put_output(path, trace.to_string())?;
                let _ = write!(text, "\ntrace: {}", path.display());
            }
            if let Some(path) = &common.html {
                files::put_output(path, page(profile))?;
                let _ = write!(text, "\nreport: {}", path.display());
            }
            (text, serde_json::to_value(profile).map_err(json)?)
        }
    };
    output::result(global.json, &text, &value)
}

/// The step's time line and flame chart.
fn page(profile: &StepProfile) -> String {
    let part =
        |row: &Leaf| Part { path: [row.direction, &row.layer, row.op, row.phase].map(ToString::to_string), ms: row.ms };
    let parts: Vec<Part> = profile.rows.iter().map(part).collect();
    timeline::page(&format!("{}: a step of {:.1} ms", profile.stage, profile.sum_ms), &profile.recording, &parts)
}

/// Sets the stage up and hands it to `work`.
fn prepared<R>(
    args: &Args,
    global: &Global,
    resolved: Recipe,
    work: impl FnOnce(&mut Context, Trial) -> Result<R>,
) -> Result<R> {
    match &args.stage {
        Stage::Pretrain(PretrainArgs { input, .. }) => {
            let text = job::sources(&input.corpus, &input.data, Role::Corpus)?;
            input.data.check_flags(&text, global)?;
            let _valid = input.valid.as_ref().map(|path| job::source(path, &input.data, Role::Corpus)).transpose()?;
            let direction = input.recipe.reading_direction();
            job::trial(global, resolved, direction, |context| trial::language_model(context, &text, None, |_| {}, work))
        }
        Stage::FinetuneLm(FinetuneArgs { input, .. }) => {
            let text = job::sources(&input.text, &input.data, Role::Texts)?;
            input.data.check_flags(&text, global)?;
            let _valid = input.valid.as_ref().map(|path| job::source(path, &input.data, Role::Texts)).transpose()?;
            let from = input.base.load(input.recipe.asked_direction())?;
            let (mut resolved, mut direction) = (resolved, input.recipe.reading_direction());
            if let Some(from) = &from {
                (resolved, direction) =
                    (job::sized_like(resolved, &from.config, &input.recipe, false)?, from.config.direction);
            }
            job::trial(global, resolved, direction, |context| {
                trial::language_model(context, &text, from.as_ref(), |_| {}, work)
            })
        }
        Stage::TrainClassifier(ClassifierArgs { input, .. }) => {
            let labelled = job::data_of(&input.data, resolved.classifier.task);
            let train = job::source(&input.train, &labelled, Role::Dataset)?;
            input.data.check_flags([&train], global)?;
            let resolved = job::tagging(resolved, &train)?;
            for path in [&input.valid, &input.test].into_iter().flatten() {
                job::source(path, &labelled, Role::Dataset)?;
            }
            let from = match &input.model {
                ModelOrNone::None => None,
                ModelOrNone::Directory(directory) => Some(models::load_language_model(directory)?),
            };
            let resolved = match &from {
                Some(from) => job::sized_like(resolved, &from.config, &input.recipe, true)?,
                None => resolved,
            };
            let told = input.recipe.reading_direction();
            let direction = from.as_ref().map_or(told, |from| from.config.direction);
            job::trial(global, resolved, direction, |context| {
                trial::classifier(context, &train, from.as_ref(), |_| {}, work)
            })
        }
    }
}

/// All steps are to be alike, and as long as the plan has them: windows and chunks of bptt steps.
fn fixed_windows(mut recipe: Recipe) -> Result<Recipe> {
    for stage in ["pretrain", "finetune", "classifier"] {
        recipe.set(&format!("{stage}.windows"), "fixed".into(), "profile")?;
    }
    Ok(recipe)
}

/// Rows that take less than this share of the step are summed up in one line.
const SMALL: f64 = 5e-4;

fn describe(profile: &StepProfile) -> String {
    let StepProfile { rows, step_ms, sum_ms, stage, vocabulary, tokens, documents, .. } = profile;
    let of =
        if *documents > 0 { format!("{documents} documents, {tokens} tokens") } else { format!("{tokens} tokens") };
    let mut text =
        format!("{stage}: a step over {of}, vocabulary {vocabulary}: {step_ms:.1} ms without instruments\n\n");
    let _ = writeln!(
        text,
        "{:<10} {:<26} {:<9} {:<12} {:>10} {:>6} {:>10} {:>8} {:>5} {:>7}",
        "layer", "operation", "direction", "phase", "ms", "share", "GFLOP/s", "GB/s", "peak", "calls"
    );
    let mut sorted: Vec<&Leaf> = rows.iter().collect();
    sorted.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let (shown, small): (Vec<&Leaf>, Vec<&Leaf>) = sorted.into_iter().partition(|row| row.ms >= SMALL * sum_ms);
    for row in shown {
        let rate = |amount: u64| match amount {
            0 => "-".to_string(),
            amount => format!("{:.1}", amount as f64 / row.ms / 1e6),
        };
        let peak = row.peak_fraction.map_or_else(|| "-".into(), |x| format!("{:.0} %", 100.0 * x));
        let _ = writeln!(
            text,
            "{:<10} {:<26} {:<9} {:<12} {:>10.2} {:>5.1}% {:>10} {:>8} {:>5} {:>7}",
            row.layer,
            row.op,
            row.direction,
            row.phase,
            row.ms,
            100.0 * row.ms / sum_ms,
            rate(row.flop),
            if row.flop > 0 { "-".into() } else { rate(row.bytes) },
            peak,
            row.calls
        );
    }
    if !small.is_empty() {
        let ms: f64 = small.iter().map(|row| row.ms).sum();
        let _ =
            writeln!(text, "{:<60} {ms:>10.2} {:>5.1}%", format!("{} smaller rows", small.len()), 100.0 * ms / sum_ms);
    }
    let _ = writeln!(text, "{:<60} {sum_ms:>10.2} 100.0%", "sum");
    text + &budget(profile)
}

fn budget(profile: &StepProfile) -> String {
    let StepProfile { budget, step_ms, sum_ms, plain_ms, recorded_ms, .. } = profile;
    let (p, m, r) = (&budget.products, &budget.memory, &budget.remainder);
    let (peak, triad) = (profile.peaks.flops(profile.format), profile.peaks.triad.all_threads);
    let mut text = String::from("\ntime budget\n");
    let lines = [
        (
            "products",
            p.ms,
            format!(
                "{:.1} GFLOP at {:.1} GFLOP/s; at the peak of {:.1}: {:.1} ms",
                p.flop as f64 / 1e9,
                p.flop as f64 / p.ms.max(1e-9) / 1e6,
                peak,
                p.floor_ms
            ),
        ),
        (
            "memory-bound parts",
            m.ms,
            format!(
                "{:.2} GB at {:.1} GB/s; at triad's {:.1}: {:.1} ms",
                m.bytes as f64 / 1e9,
                m.bytes as f64 / m.ms.max(1e-9) / 1e6,
                triad,
                m.floor_ms
            ),
        ),
        ("remainder", r.ms, "waiting, lists, and what nobody counts".to_string()),
    ];
    for (name, ms, what) in lines {
        let _ = writeln!(text, "  {name:<20} {ms:>10.1} ms {:>5.1}%  {what}", 100.0 * ms / sum_ms);
    }
    let share = p.flop as f64 / step_ms / 1e6 / peak;
    let _ = writeln!(text, "  the step as a whole reaches {:.1} % of the peak of multiply-adds", 100.0 * share);
    let list = |all: &[f64]| all.iter().map(|ms| format!("{ms:.1}")).collect::<Vec<_>>().join(" ");
    let _ = writeln!(text, "\nsteps without instruments (ms): {}", list(plain_ms));
    let _ = writeln!(text, "steps with instruments (ms):    {}", list(recorded_ms));
    if (sum_ms / step_ms - 1.0).abs() > 0.03 {
        text += "no step with instruments took as long as one without (within 3 %): the machine is disturbed\n";
    }
    text
}

/// A projection: what every kernel did, and what would bound it.
fn projected(projection: &Projection) -> String {
    let Projection { rows, gpu, sizes, stage, vocabulary, tokens, documents, projected_step_ms, note, .. } = projection;
    let of =
        if *documents > 0 { format!("{documents} documents, {tokens} tokens") } else { format!("{tokens} tokens") };
    let mut text = format!("{stage} on {}: {note}\n", gpu.name);
    let _ = writeln!(
        text,
        "a step over {of} (batch size {}, bptt {}), vocabulary {vocabulary}, embedding {}, hidden {}, {} layers",
        sizes.batch_size, sizes.bptt, sizes.embedding, sizes.hidden, sizes.layers
    );
    if !sizes.reduced.is_empty() {
        let _ =
            writeln!(text, "reduced for the simulator: {}; say the size to count another", sizes.reduced.join(", "));
    }
    let _ = writeln!(
        text,
        "\n{:<10} {:<26} {:<9} {:<34} {:>10} {:>6} {:<18} {:>10} {:>9} {:>9} {:>10} {:>5}",
        "layer",
        "operation",
        "direction",
        "kernel",
        "µs",
        "share",
        "bound by",
        "GFLOP",
        "MB",
        "asked MB",
        "conflicts",
        "calls"
    );
    let (shown, small): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.projected_ms >= 5e-3 * projected_step_ms);
    for row in shown {
        let _ = writeln!(
            text,
            "{:<10} {:<26} {:<9} {:<34} {:>10.2} {:>5.1}% {:<18} {:>10.4} {:>9.3} {:>9.3} {:>10} {:>5}",
            row.layer,
            row.op,
            row.direction,
            row.phase,
            1e3 * row.projected_ms,
            100.0 * row.projected_ms / projected_step_ms,
            row.bound.name(),
            row.flop as f64 / 1e9,
            row.bytes as f64 / 1e6,
            row.requested_bytes as f64 / 1e6,
            row.bank_conflicts,
            row.calls
        );
    }
    if !small.is_empty() {
        let ms: f64 = small.iter().map(|row| row.projected_ms).sum();
        let share = 100.0 * ms / projected_step_ms;
        let _ = writeln!(text, "{:<82} {:>10.2} {share:>5.1}%", format!("{} smaller rows", small.len()), 1e3 * ms);
    }
    let _ = writeln!(text, "{:<82} {:>10.2} 100.0%", "sum", 1e3 * projected_step_ms);
    let _ = writeln!(
        text,
        "\n{} launches, {} copies and fills, {:.2} GFLOP, {:.3} GB\nprojected time by what bounds it",
        projection.launches,
        projection.copies,
        projection.flop as f64 / 1e9,
        projection.bytes as f64 / 1e9
    );
    let mut bounds: Vec<_> = projection.bounds.iter().collect();
    bounds.sort_by(|a, b| b.1.total_cmp(a.1));
    for (bound, ms) in bounds {
        let _ = writeln!(text, "  {:<20} {:>10.2} µs {:>5.1}%", bound.name(), 1e3 * ms, 100.0 * ms / projected_step_ms);
    }
    let _ = write!(
        text,
        "peaks: {} GFLOP/s f32, {} tensor, {} GB/s, {} multiprocessors at {} GHz, {} µs a launch ({})",
        gpu.f32_gflops,
        gpu.tensor_gflops,
        gpu.memory_gbs,
        gpu.multiprocessors,
        gpu.clock_ghz,
        gpu.launch_us,
        gpu.source
    );
    text
}
