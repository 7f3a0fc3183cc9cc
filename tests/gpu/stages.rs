//! The three stages of a very small model as the tests of training on a GPU run them.

use std::path::Path;

use ulmfit::autodiff::{Graph, Parameters, ParametersBuilder};
use ulmfit::device::Precision;
use ulmfit::device::cuda::{self, Copies};
use ulmfit::error::Result;
use ulmfit::nn::{
    AwdLstmSettings, ClassifierSettings, EncoderSettings, LanguageModel, LanguageModelSettings, QrnnSettings, weights,
};
use ulmfit::ops::concat_pool::Masking;
use ulmfit::optim::Schedule;
use ulmfit::random::Key;
use ulmfit::tensor::{DType, Device};
use ulmfit::text::Direction;
use ulmfit::train::Stage;
use ulmfit::train::assemble::{self, Assembled, Start};
use ulmfit::train::checkpoint::Checkpoints;
use ulmfit::train::driver::{LoopSettings, Task, Training, UnfreezingPhase};
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::{OnNan, OptimiserName, Recipe, TrainingSettings};

use crate::tasks::{CLASSES, Data, Interrupting, VOCABULARY, classifier_settings, lm_settings};

pub const GPU: Device = Device::Cuda(0);
/// Updates of a stage.
pub const STEPS: u64 = 20;

/// The events of a run.
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
    /// Whether it is a QRNN, else an AWD-LSTM.
    pub qrnn: bool,
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
            qrnn: false,
            from: None,
            directory: None,
            updates: usize::MAX,
            spoilt: None,
        }
    }
}

pub const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier];

fn encoder(Share { layers, qrnn, .. }: Share) -> EncoderSettings {
    let (vocabulary, embedding, hidden, pad) = (VOCABULARY, 6, 9, Some(1));
    match qrnn {
        true => QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout: 0.1 }.into(),
        false => AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into(),
    }
}

fn language_model(share: Share) -> LanguageModelSettings {
    LanguageModelSettings { encoder: encoder(share), decoder_bias: true, splits: vec![] }
}

fn classifier(share: Share) -> ClassifierSettings {
    ClassifierSettings {
        encoder: encoder(share),
        head: vec![5],
        classes: CLASSES as usize,
        linear_bias: true,
        norm_bias: 0.0,
        masking: Masking::Version2,
        bptt: 4,
        max_steps: 12,
        strict_cap: false,
        answers: ulmfit::nn::Answers::Class,
        pair: false,
        auxiliary: None,
    }
}

/// Runs a stage. `out`: where to save the model.
pub fn run(stage: Stage, data: &Data, share: Share, out: Option<&Path>) -> Result<Heard> {
    let (key, direction) = (Key::new(4, stage, Direction::Forward), Direction::Forward);
    let pretrained = match share.from {
        Some(from) => {
            let (_, pretrained) = LanguageModel::new(language_model(share), DType::F32)?;
            weights::load_model(from, &pretrained, &std::collections::BTreeMap::new())?;
            Some(pretrained)
        }
        None => None,
    };
    let start = pretrained.as_ref().map(|pretrained| Start::of(pretrained, VOCABULARY));
    let place = |declared: ParametersBuilder| -> Result<(Parameters, Graph)> {
        let graph = Graph::new(share.device, DType::F32, None).with_precision(share.precision);
        Ok((declared.build_on(share.device, DType::F32)?, graph))
    };
    let (train, valid) = ((data.train.clone(), None), Some((data.valid.clone(), None)));
    if stage == Stage::Classifier {
        let Assembled { network, parameters, graph } = assemble::classifier(classifier(share), key, start, place)?;
        let settings = classifier_settings();
        let task = assemble::classifier_task_settings(&settings);
        let mut task = assemble::classifier_task(&network, &settings, task, direction, key, train, valid)?;
        return train_stage(stage, &mut task, parameters, graph, share, out);
    }
    let Assembled { network, parameters, graph } = assemble::language_model(language_model(share), key, start, place)?;
    let settings = lm_settings();
    let task = assemble::lm_task_settings(&settings, VOCABULARY);
    let mut task =
        assemble::language_model_task(&network, &parameters, &settings, task, direction, key, train, valid, &[])?;
    train_stage(stage, &mut task, parameters, graph, share, out)
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
    let whole = UnfreezingPhase { epochs: 9, trainable: trains(0), rates: rates.clone(), schedule: Schedule::STLR };
    let last = UnfreezingPhase { epochs: 1, trainable: trains(groups - 1), rates, schedule: Schedule::Constant };
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
    mut graph: Graph,
    share: Share,
    out: Option<&Path>,
) -> Result<Heard> {
    let checkpoints = match share.directory {
        Some(directory) => Checkpoints::new(directory, serde_json::json!({}), None, Some(1)),
        None => Checkpoints::none(),
    };
    let snapshot = if checkpoints.exists()? { Some(checkpoints.load()?.0) } else { None };
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
    all_of(Share { precision, ..Share::whole(device) }, data, name)
}

/// The same of any encoder.
pub fn all_of(of: Share, data: &Data, name: &str) -> Vec<Heard> {
    let mut heard = Vec::new();
    for (i, stage) in STAGES.into_iter().enumerate() {
        let file = |i: usize| data.directory.path().join(format!("{name}-{i}.safetensors"));
        let from = i.checked_sub(1).map(file);
        let share = Share { from: from.as_deref(), ..of };
        heard.push(run(stage, data, share, Some(&file(i))).unwrap_or_else(|e| panic!("{stage:?}: {e}")));
    }
    heard
}
