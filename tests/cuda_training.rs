//! The three stages of a very small model on the simulated GPU and on the CPU: the same losses, a run that changes its device on the way, and
//! the same bits every time; then the commands, through the binary.

#[allow(dead_code)]
#[path = "cuda/sim.rs"]
mod sim;
mod support;
#[path = "support/tasks.rs"]
mod tasks;

use std::path::Path;

use tasks::{CLASSES, Data, Interrupting, VOCABULARY};
use ulmfit::autodiff::{Graph, Parameters, ParametersBuilder};
use ulmfit::device::cuda;
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
use ulmfit::train::classifier_task::{self, ClassifierTask, ClassifierTaskSettings};
use ulmfit::train::driver::{LoopSettings, Phase, Task, Training};
use ulmfit::train::lm_task::{self, LmTask, LmTaskSettings};
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::{OptimiserName, Recipe, TrainingSettings, ValidAverage};

const GPU: Device = Device::Cuda(0);
/// Updates of a stage.
const STEPS: u64 = 20;
/// Of losses and gradient norms between the two devices, relative. (At six times these rates the classifier, in batches of five, makes more of the
/// last bits: 2e-3 of the norms between two runs of the CPU that begin with models which differ by roundings.)
const TOLERANCE: f64 = 1e-4;

/// What a run tells.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    /// Cross-entropy and gradient norm of every update.
    steps: Vec<(f64, f64)>,
    valid: Vec<f64>,
    /// How often memory of the GPU had been taken, after every update, with its epoch.
    allocations: Vec<(u64, u64)>,
}

impl Observer for Heard {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => {
                self.steps.push((step.loss, step.gradient_norm));
                self.allocations.push((step.epoch, cuda::context(0)?.allocations()));
            }
            Event::Evaluated(evaluated) => self.valid.push(evaluated.loss),
            _ => {}
        }
        Ok(())
    }
}

/// One process's share of a stage.
#[derive(Clone, Copy)]
struct Share<'a> {
    device: Device,
    /// The model to start from.
    from: Option<&'a Path>,
    /// Of the checkpoint, one after every update; a run that finds one goes on from it.
    directory: Option<&'a Path>,
    updates: usize,
}

const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier];

fn encoder() -> EncoderSettings {
    EncoderSettings { vocabulary: VOCABULARY, embedding: 6, hidden: 9, layers: 2, pad: Some(1) }
}

fn language_model() -> (LanguageModel, ParametersBuilder) {
    let settings = LanguageModelSettings { encoder: encoder(), decoder_bias: true, splits: vec![] };
    LanguageModel::declare(settings).unwrap()
}

/// Runs a stage. `out`: where to save the model.
fn run(stage: Stage, data: &Data, share: Share, out: Option<&Path>) -> Result<Heard> {
    let key = Key::new(4, stage, Direction::Forward);
    let dropout = DropRates { embedding: 0.1, input: 0.2, weight: 0.3, hidden: 0.2, output: 0.2 };
    let transfer = |parameters: &Parameters| -> Result<()> {
        let Some(from) = share.from else { return Ok(()) };
        let (_, pretrained) = language_model();
        let pretrained = pretrained.build(DType::F32)?;
        weights::load_model(from, &pretrained)?;
        let rows: Vec<Option<u32>> = (0..VOCABULARY as u32).map(Some).collect();
        weights::transfer(&pretrained, parameters, &rows).map(|_| ())
    };
    if stage == Stage::Classifier {
        let settings = ClassifierSettings {
            encoder: encoder(),
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
        let valid = classifier_task::evaluation_batches(data.valid.clone(), None, 4, Direction::Forward)?;
        let store = data.train.clone();
        let mut task = ClassifierTask::new(&model, task, key, train, store, Direction::Forward, Some(valid));
        return train_stage(stage, &mut task, parameters, share, out);
    }
    let (model, declared) = language_model();
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
    let valid = lm_task::evaluation_batches(data.valid.clone(), None, 3, 8, Direction::Forward)?;
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
    let mut graph = Graph::new(share.device, DType::F32, None);
    let mut heard = Heard::default();
    let mut task = Interrupting { task, calls_left: share.updates, evaluations_are_calls: false, spoilt: None };
    let settings = settings(stage, parameters.groups());
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

fn all_on(device: Device, data: &Data, name: &str) -> Vec<Heard> {
    let mut heard = Vec::new();
    for (i, stage) in STAGES.into_iter().enumerate() {
        let file = |i: usize| data.directory.path().join(format!("{name}-{i}.safetensors"));
        // the classifier starts from the fine-tuned model, that one from the pretrained
        let from = i.checked_sub(1).map(file);
        let share = Share { device, from: from.as_deref(), directory: None, updates: usize::MAX };
        heard.push(run(stage, data, share, Some(&file(i))).unwrap_or_else(|e| panic!("{stage:?}: {e}")));
    }
    heard
}

/// Largest relative difference.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |m, (a, b)| f64::max(m, (a - b).abs() / a.abs().max(b.abs())))
}

#[test]
fn three_stages_on_both_devices() {
    let _sim = sim::Sim::new("h100");
    let data = Data::new(8);
    let cpu = all_on(Device::Cpu, &data, "cpu");
    let gpu = all_on(GPU, &data, "gpu");
    for ((stage, cpu), gpu) in STAGES.into_iter().zip(&cpu).zip(&gpu) {
        assert_eq!((cpu.steps.len(), cpu.valid.len()), (gpu.steps.len(), gpu.valid.len()));
        assert_eq!(cpu.steps.len() as u64, STEPS);
        let split = |heard: &Heard| heard.steps.iter().copied().unzip::<f64, f64, Vec<_>, Vec<_>>();
        let ((losses, norms), (other_losses, other_norms)) = (split(cpu), split(gpu));
        let found =
            [difference(&losses, &other_losses), difference(&norms, &other_norms), difference(&cpu.valid, &gpu.valid)];
        println!(
            "{stage:?}: losses differ by {:.1e}, norms by {:.1e}, validation by {:.1e}",
            found[0], found[1], found[2]
        );
        assert!(found.iter().all(|&d| d <= TOLERANCE), "{stage:?}: {losses:?} and {other_losses:?}");
        // the losses move, so that a difference could be seen
        let (low, high) = losses.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        assert!(high - low > 100.0 * TOLERANCE * high, "{losses:?}");
        if stage == Stage::Pretrain {
            assert!(losses[..3].iter().sum::<f64>() > losses[losses.len() - 3..].iter().sum(), "{losses:?}");
            // within an epoch nothing is taken anew; between two the evaluation may take something
            let same = gpu.allocations.windows(2).filter(|w| w[0].0 == w[1].0);
            let grown: Vec<_> = same.clone().filter(|w| w[0].1 != w[1].1).collect();
            assert!(same.count() > 10 && grown.is_empty(), "{stage:?}: {grown:?}");
        }
    }

    // the same bits in another order of blocks
    sim::set("seed", "2");
    let again = all_on(GPU, &data, "again");
    for (a, b) in gpu.iter().zip(&again) {
        assert_eq!((&a.steps, &a.valid), (&b.steps, &b.valid));
    }
    for (i, stage) in STAGES.iter().enumerate() {
        let read = |name: &str| std::fs::read(data.directory.path().join(format!("{name}-{i}.safetensors"))).unwrap();
        assert!(read("gpu") == read("again"), "{:?}: other bits", stage);
        assert!(read("gpu") != read("cpu") && read("gpu").len() == read("cpu").len());
    }

    // begun on one device, ended on the other
    for (i, stage) in STAGES.into_iter().enumerate() {
        let from = i.checked_sub(1).map(|i| data.directory.path().join(format!("cpu-{i}.safetensors")));
        for [first, second] in [[Device::Cpu, GPU], [GPU, Device::Cpu]] {
            let directory = tempfile::tempdir().unwrap();
            let share = Share { device: first, from: from.as_deref(), directory: Some(directory.path()), updates: 8 };
            let mut steps = run(stage, &data, share, None).unwrap().steps;
            // one call may be that which ends an epoch
            assert!((7..=8).contains(&steps.len()), "{}", steps.len());
            let share = Share { device: second, updates: usize::MAX, ..share };
            steps.extend(run(stage, &data, share, None).unwrap().steps);
            assert_eq!(steps.len() as u64, STEPS);
            let losses = |steps: &[(f64, f64)]| steps.iter().map(|s| s.0).collect::<Vec<_>>();
            let worst = difference(&losses(&steps), &losses(&cpu[i].steps));
            assert!(worst <= TOLERANCE, "{stage:?} from {first} to {second}: {worst:.1e}");
        }
    }
    let found = sim::findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The binary on the simulated GPU.
fn simulated(line: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("ulmfit").unwrap();
    command.args(line).args(["--device", "cudasim"]).env_remove("ULMFIT_CUDASIM").env_remove("ULMFIT_LOG");
    command
}

fn simulated_json(line: &[&str]) -> serde_json::Value {
    let output = simulated(line).args(["--json", "--quiet"]).assert().success().get_output().clone();
    let noise = support::text(&output.stderr);
    assert!(!noise.contains("cudasim:"), "{noise}");
    support::last_line(&output.stdout)
}

/// From text to predictions: a run of three stages there, whose models work on both devices.
#[test]
fn commands() {
    let directory = tempfile::tempdir().unwrap();
    let data = support::Data::new(&directory.path().join("data"));
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (corpus, train, test) = (data.path("corpus.txt"), data.path("train.csv"), data.path("test.csv"));
    let (out, lm, classifier) = (place("run"), place("run/pretrain"), place("run/classifier"));
    let line = ["run", "--corpus", &corpus, "--train", &train, "--test", &test, "--out", &out, "--max-steps", "3"];
    let result = simulated_json(&support::words(&[&line, support::SIZES, support::STAGE]));
    assert_eq!((&result["device"], &result["classifier"]["test_size"]), (&"cudasim".into(), &12.into()));

    // what was trained there answers here, alike
    let near = |a: &serde_json::Value, b: &serde_json::Value| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() <= TOLERANCE * a.abs().max(b.abs()), "{a} and {b}");
    };
    for (model, data, exact) in [(&classifier, &test, "confusion"), (&lm, &corpus, "tokens")] {
        let line = ["evaluate", "--model", model, "--data", data];
        let (there, here) = (simulated_json(&line), support::json(&line));
        near(&there["loss"], &here["loss"]);
        assert_eq!(there[exact], here[exact]);
    }
    let line = ["predict", "--model", &classifier, "--input", &test];
    let lines = |command: &mut assert_cmd::Command| {
        support::json_lines(&support::text(&command.assert().success().get_output().stdout))
    };
    let (there, here) = (lines(&mut simulated(&line)), lines(&mut support::ulmfit(&line)));
    assert_eq!(there.len(), 12);
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there["label"], here["label"]);
        for (class, p) in here["probabilities"].as_object().unwrap() {
            near(&there["probabilities"][class], p);
        }
    }

    // a command that fails when the GPU is open gives it back: its error is all that is said
    let unknown = data.write("unknown.csv", "label,text\nnobody,some words\n");
    let output = simulated(&["evaluate", "--model", &classifier, "--data", &unknown, "--quiet"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let message = support::text(&output.stderr);
    assert!(message.contains("'nobody'") && !message.contains("leak"), "{message}");

    // what is not there is said in a sentence
    for line in [&["bench", "--suite", "lstm"][..], &["profile", "pretrain", "--corpus", &corpus]] {
        let output = simulated(line).assert().code(2).get_output().clone();
        let message = support::text(&output.stderr);
        assert!(message.contains("does not run on cudasim yet") && message.contains("--device cpu"), "{message}");
    }
}

/// The instruments there.
#[test]
fn checks() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let report = simulated_json(&["golden", golden]);
    assert_eq!((&report["failed"], &report["skipped"]), (&0.into(), &12.into()), "{report}");
    assert!(report["rows"].as_array().unwrap().iter().all(|r| r["skipped"].is_string() || r["tensors"] != 0));
    let report = simulated_json(&["gradcheck", "--op", "linear", "--mutate"]);
    assert_eq!((&report["ops"], &report["failed"]), (&1.into(), &0.into()), "{report}");
    assert_eq!((&report["mutation"]["mutants"], &report["mutation"]["survivors"]), (&1.into(), &serde_json::json!([])));
    let worst = &report["worst"];
    assert!(worst["error"].as_f64().unwrap() <= worst["bound"].as_f64().unwrap(), "{worst}");
}
