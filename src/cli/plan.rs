//! `ulmfit plan`: memory and arithmetic of a configuration before it runs.

use clap::ValueEnum;

use super::recipe::RecipeArgs;
use super::{Global, job, output, shared, values};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::EncoderSettings;
use crate::train::Stage;
use crate::train::plan::{Plan, PlanOptions, plan};

/// Stages that can be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlannedStage {
    Pretrain,
    FinetuneLm,
    TrainClassifier,
}

/// Memory and arithmetic of a configuration before it runs
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit plan pretrain --emb-size 400 --hidden-size 1150 --vocab-size 60000")]
pub struct Args {
    /// The stage to plan
    #[arg(value_enum, value_name = "STAGE")]
    pub stage: PlannedStage,
    /// Number of classes
    #[arg(long, value_name = "N", default_value = "2", value_parser = values::count)]
    pub classes: usize,
    /// Tokens of every document of a classifier's batch [default: as many as are pooled at most]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub length: Option<usize>,
    #[command(flatten)]
    pub recipe: RecipeArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let recipe = job::recipe(&args.recipe, crate::train::recipe::DEFAULT, global)?;
    let stage = match args.stage {
        PlannedStage::Pretrain => Stage::Pretrain,
        PlannedStage::FinetuneLm => Stage::FinetuneLm,
        PlannedStage::TrainClassifier => Stage::Classifier,
    };
    if args.classes < 2 {
        return Err(Error::usage("--classes must be at least 2"));
    }
    let options = PlanOptions {
        classes: args.classes,
        length: args.length,
        threads: rayon::current_num_threads(),
        precision: global.precision,
    };
    let plan = plan(&recipe, stage, &options)?;
    let mut value =
        serde_json::to_value(&plan).map_err(|e| Error::data(format!("cannot write the plan as JSON: {e}")))?;
    // on a CPU the limit is that of the process, on a GPU that of the tensors
    let (what, needed) = match global.device {
        Device::Cpu => ("this stage needs", plan.bytes.total),
        Device::Cuda(_) => ("the pool of this stage needs", plan.bytes.pool),
    };
    let short = global.memory_limit.filter(|&limit| limit < needed);
    if global.memory_limit.is_some() {
        value["fits"] = short.is_none().into();
    }
    let lstm = match recipe.encoder(plan.sizes.vocabulary) {
        EncoderSettings::AwdLstm(encoder) => {
            let mut hidden: Vec<usize> = (0..encoder.layers).map(|l| encoder.layer_sizes(l).1).collect();
            hidden.dedup();
            shared::lstm_plans(global, plan.sizes.batch_size, &hidden)?
        }
        EncoderSettings::Qrnn(_) => None,
    };
    let mut text = describe(&plan);
    if let Some(plans) = &lstm {
        text += &format!("\nLSTM on {}\n{}", global.device, shared::lstm_lines(plans));
    }
    value["lstm"] =
        serde_json::to_value(&lstm).map_err(|e| Error::data(format!("cannot write the plan as JSON: {e}")))?;
    output::result(global.json, &text, &value)?;
    match short {
        None => Ok(()),
        Some(limit) => Err(Error::CheckFailed {
            message: format!("--memory-limit {limit}: {what} {needed} bytes, {} more", needed - limit),
        }),
    }
}

fn describe(plan: &Plan) -> String {
    let Plan { stage, sizes, bytes, flop } = plan;
    let rows = match sizes.length {
        Some(length) => format!("{} documents of {length} tokens, in chunks of {}", sizes.batch_size, sizes.bptt),
        None => {
            format!("{} columns, windows of {} steps, at most {}", sizes.batch_size, sizes.bptt, sizes.longest_window)
        }
    };
    let mut text = format!(
        "{stage}: vocabulary {}, embedding {}, hidden {}, {} layers, {} parameters\n{rows}\n\nmemory\n",
        sizes.vocabulary, sizes.embedding, sizes.hidden, sizes.layers, sizes.parameters
    );
    let lines = [
        ("parameters", bytes.parameters),
        ("gradients", bytes.gradients),
        ("optimiser", bytes.optimiser),
        ("best epoch", bytes.best),
        ("model to start from", bytes.start),
        ("activations", bytes.activations),
        ("workspace", bytes.workspace),
        ("evaluation", bytes.evaluation),
        ("packing", bytes.packing),
        ("program", bytes.program),
        ("total", bytes.total),
    ];
    for (name, bytes) in lines.into_iter().filter(|(_, bytes)| *bytes > 0) {
        text += &format!("  {name:<24} {:>10.1} MiB\n", bytes as f64 / 1048576.0);
    }
    text += "\narithmetic of an update\n";
    for (name, flop) in [
        ("forward", flop.forward),
        ("backward", flop.backward),
        ("both", flop.per_step),
        ("longest window", flop.longest_window),
        ("per token", flop.per_token),
    ] {
        text += &format!("  {name:<24} {:>10.3} GFLOP\n", flop as f64 / 1e9);
    }
    text
}
