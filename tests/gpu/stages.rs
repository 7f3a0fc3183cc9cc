//! The three stages of a very small model as the tests of training on a GPU run them.

use std::path::Path;

use ulmfit::answer::{classes, language};
use ulmfit::autodiff::{Graph, Parameters, ParametersBuilder};
use ulmfit::device::Precision;
use ulmfit::device::cuda::{self, Copies};
use ulmfit::error::Result;
use ulmfit::nn::classifier::MaskingName;
use ulmfit::nn::{
    Classifier, ClassifierSettings, DropRates, EncoderSettings, LanguageModel, LanguageModelSettings, LossSettings,
    weights,
};
use ulmfit::ops::activation_regularisation::TarGuard;
use ulmfit::optim::Schedule;
use ulmfit::random::{Direction, Key, Stage};
use ulmfit::tensor::{DType, Device};
use ulmfit::text::{
    ClassifierBatches, ClassifierConfig, LmBatches, LmConfig, LmLayout, SampleOrder, VariableWindows, Windows,
};
use ulmfit::train::checkpoint::Checkpoints;
use ulmfit::train::classifier_task::{ClassifierTask, ClassifierTaskSettings};
use ulmfit::train::driver::{LoopSettings, Phase, Task, Training};
use ulmfit::train::lm_task::{LmTask, LmTaskSettings};
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::{OnNan, OptimiserName, Recipe, TrainingSettings, ValidAverage};

use crate::tasks::{CLASSES, Data, Interrupting, VOCABULARY};

pub const GPU: Device = Device::Cuda(0);
/// Updates of a stage.
pub const STEPS: u64 = 20;

/// What a run tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// Cross-entropy and gradient norm of every update.
    pub steps: Vec<(f64, f64)>,
    pub valid: Vec<f64>,
    /// How often memory of the GPU had been taken, after every update, with its epoch.
    pub allocations: Vec<(u64, u64)>,
    /// Launches of every kernel, and copies, before the end of every update.
    pub work: Vec<(Vec<(&'static str, u64)>, Copies)>,
}

impl Observer for Heard {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => {
                self.steps.push((step.loss, step.gradient_norm));
                let gpu = cuda::context(0)?;
                self.allocations.push((step.epoch, gpu.allocations()));
                self.work.push((gpu.launches(), gpu.copies()));
            }
            Event::Evaluated(evaluated) => self.valid.push(evaluated.loss),
            _ => {}
        }
        Ok(())
    }
}

/// One process's share of a stage.
#[derive(Clone, Copy)]
pub struct Share<'a> {
    pub device: Device,
    pub precision: Precision,
    /// Of the encoder.
    pub layers: usize,
    /// The model to start from.
    pub from: Option<&'a Path>,
    /// Of the checkpoint, one after every update; a run that finds one goes on from it.
    pub directory: Option<&'a Path>,
    pub updates: usize,
    /// This update's loss is not a number; it is left out.
    pub spoilt: Option<u32>,
}

impl Share<'_> {
    /// A whole stage of two layers from random values, in f32.
    pub fn whole(device: Device) -> Self {
        Share {
            device,
            precision: Precision::Full,
            layers: 2,
            from: None,
            directory: None,
            updates: usize::MAX,
            spoilt: None,
        }
    }
}

pub const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier];

fn encoder(layers: usize) -> EncoderSettings {
    EncoderSettings { vocabulary: VOCABULARY, embedding: 6, hidden: 9, layers, pad: Some(1) }
}

fn language_model(layers: usize) -> (LanguageModel, ParametersBuilder) {
    let settings = LanguageModelSettings { encoder: encoder(layers), decoder_bias: true, splits: vec![] };
    LanguageModel::declare(settings).unwrap()
}

/// Runs a stage. `out`: where to save the model.
pub fn run(stage: Stage, data: &Data, share: Share, out: Option<&Path>) -> Result<Heard> {
    let key = Key::new(4, stage, Direction::Forward);
    let dropout = DropRates { embedding: 0.1, input: 0.2, weight: 0.3, hidden: 0.2, output: 0.2 };
    let transfer = |parameters: &Parameters| -> Result<()> {
        let Some(from) = share.from else { return Ok(()) };
        let (_, pretrained) = language_model(share.layers);
        let pretrained = pretrained.build(DType::F32)?;
        weights::load_model(from, &pretrained)?;
        let rows: Vec<Option<u32>> = (0..VOCABULARY as u32).map(Some).collect();
        weights::transfer(&pretrained, parameters, &rows).map(|_| ())
    };
    if stage == Stage::Classifier {
        let settings = ClassifierSettings {
            encoder: encoder(share.layers),
            head: vec![5],
            classes: CLASSES as usize,
            linear_bias: true,
            norm_bias: 0.0,
            masking: MaskingName::Version2,
            bptt: 4,
            max_steps: 12,
            strict_cap: false,
        };
        let (model, declared) = Classifier::declare(settings)?;
        let parameters = declared.build_on(share.device, DType::F32)?;
        model.initialise(&parameters, key);
        transfer(&parameters)?;
        let config = ClassifierConfig { batch_size: 5, order: SampleOrder::Sortish, drop_last: false, key };
        let task = ClassifierTaskSettings {
            dropout,
            head: vec![0.2, 0.1],
            alpha: 2.0,
            beta: 1.0,
            tar_guard: TarGuard::Time,
            windows: Windows::Fixed,
            variable: VariableWindows::default(),
            rescale_rate: false,
            freeze_norm: true,
        };
        let train = ClassifierBatches::new(data.train.clone(), None, config)?;
        let valid = classes::evaluation_batches(data.valid.clone(), None, 4, SampleOrder::Sorted, Direction::Forward)?;
        let store = data.train.clone();
        let mut task = ClassifierTask::new(&model, task, key, train, store, Direction::Forward, Some(valid));
        return train_stage(stage, &mut task, parameters, share, out);
    }
    let (model, declared) = language_model(share.layers);
    let parameters = declared.build_on(share.device, DType::F32)?;
    model.initialise(&parameters, key);
    transfer(&parameters)?;
    let config = LmConfig {
        batch_size: 4,
        bptt: 7,
        layout: LmLayout::Shuffled,
        windows: Windows::Variable,
        variable: VariableWindows { deviation: 2.0, half_probability: 0.2, least: 2, excess: 4 },
        direction: Direction::Forward,
        key,
    };
    let task = LmTaskSettings {
        dropout,
        losses: LossSettings { alpha: 2.0, beta: 1.0, ar_on_dropped: true, tar_guard: TarGuard::Time },
        negatives: None,
        rescale_rate: true,
        averaging: ValidAverage::Token,
    };
    let train = LmBatches::new(data.train.clone(), None, config)?;
    let valid = language::evaluation_batches(data.valid.clone(), None, 3, 8, Direction::Forward)?;
    let mut task = LmTask::new(&model, task, key, train, Some(valid), None, &parameters)?;
    train_stage(stage, &mut task, parameters, share, out)
}

/// The last group for one epoch (stages 2 and 3), then all, at rates that differ between groups.
fn settings(stage: Stage, groups: usize) -> LoopSettings {
    let rate = match stage {
        Stage::Pretrain => 0.1,
        Stage::FinetuneLm => 0.5,
        _ => 0.005,
    };
    let rates: Vec<f64> = (0..groups).map(|g| rate / 2.6f64.powi((groups - 1 - g) as i32)).collect();
    let trains = |from: usize| (0..groups).map(|g| g >= from).collect();
    let whole = Phase { epochs: 9, trainable: trains(0), rates: rates.clone(), schedule: Schedule::STLR };
    let last = Phase { epochs: 1, trainable: trains(groups - 1), rates, schedule: Schedule::Constant };
    let training = TrainingSettings {
        max_steps: Some(STEPS),
        optimiser: if stage == Stage::FinetuneLm { OptimiserName::Sgd } else { OptimiserName::Adam },
        momentum: 0.9,
        clip: Some(0.3),
        weight_decay: 0.01,
        restore_best: false,
        early_stopping: None,
        ..Recipe::named("tiny").unwrap().pretrain.training
    };
    let phases = if stage == Stage::Pretrain { vec![whole] } else { vec![last, whole] };
    LoopSettings { stage, phases, training }
}

fn train_stage(
    stage: Stage,
    task: &mut dyn Task,
    mut parameters: Parameters,
    share: Share,
    out: Option<&Path>,
) -> Result<Heard> {
    let checkpoints = match share.directory {
        Some(directory) => Checkpoints::new(directory, serde_json::json!({}), None, Some(1)),
        None => Checkpoints::none(),
    };
    let snapshot = if checkpoints.exists() { Some(checkpoints.load()?) } else { None };
    let mut graph = Graph::new(share.device, DType::F32, None).with_precision(share.precision);
    let mut heard = Heard::default();
    let mut task = Interrupting { task, calls_left: share.updates, evaluations_are_calls: false, spoilt: share.spoilt };
    let mut settings = settings(stage, parameters.groups());
    if share.spoilt.is_some() {
        settings.training.on_nan = OnNan::Skip;
    }
    let training = Training::new(settings, &mut task, &mut graph, &mut parameters, &mut heard, checkpoints, snapshot)?;
    match training.run() {
        Ok(_) => {}
        Err(e) if e.to_string().contains("stopped by the test") => return Ok(heard),
        Err(e) => return Err(e),
    }
    if let Some(out) = out {
        weights::save_model(out, &parameters)?;
    }
    Ok(heard)
}

/// The three stages, each from the model of the one before. `name`: of their files.
pub fn all_on(device: Device, precision: Precision, data: &Data, name: &str) -> Vec<Heard> {
    let mut heard = Vec::new();
    for (i, stage) in STAGES.into_iter().enumerate() {
        let file = |i: usize| data.directory.path().join(format!("{name}-{i}.safetensors"));
        let from = i.checked_sub(1).map(file);
        let share = Share { precision, from: from.as_deref(), ..Share::whole(device) };
        heard.push(run(stage, data, share, Some(&file(i))).unwrap_or_else(|e| panic!("{stage:?}: {e}")));
    }
    heard
}
