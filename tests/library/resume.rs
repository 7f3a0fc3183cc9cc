//! A run that was stopped anywhere and resumed ends with the same bits as one that was not:
//! mid-epoch and between epochs, with every optimiser, with averaged and with best weights, on
//! another number of threads.

use std::path::Path;
use std::sync::Arc;

use crate::tasks::{CLASSES, Data, Interrupting, VOCABULARY, classifier_settings, lm_settings};
use ulmfit::answer::gold::Gold;
use ulmfit::autodiff::{Graph, Parameters, ParametersBuilder};
use ulmfit::error::Result;
use ulmfit::nn::{AwdLstmSettings, ClassifierSettings, LanguageModelSettings};
use ulmfit::ops::concat_pool::Masking;
use ulmfit::optim::Schedule;
use ulmfit::random::{Key, Site, Stream};
use ulmfit::tensor::{DType, Device};
use ulmfit::text::{Direction, Storage, StoreWriter, TokenStore, TokenizerKind, Vocabulary, Windows, mark};
use ulmfit::train::Stage;
use ulmfit::train::assemble::{self, Assembled, Examples};
use ulmfit::train::checkpoint::Checkpoints;
use ulmfit::train::driver::{LoopSettings, Progress, Task, Training, UnfreezingPhase};
use ulmfit::train::lm_task::LmTaskSettings;
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::{
    ClassifierSettings as RecipeClassifier, OnNan, OptimiserName, Recipe, TaskName, TrainingSettings,
};

#[derive(Clone, Copy, PartialEq)]
enum Model {
    Language {
        negatives: Option<usize>,
    },
    Classifier {
        masking: Masking,
    },
    /// Of words, by two encoders.
    Tagger,
    /// Another task of documents, perhaps with a language model beside it.
    Task {
        task: TaskName,
        auxiliary: f64,
    },
}

/// The model of a training, and its settings.
struct Case {
    name: &'static str,
    model: Model,
    settings: LoopSettings,
}

#[derive(Default)]
struct Heard {
    notes: Vec<String>,
    epochs: Vec<u64>,
}

impl Observer for Heard {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Note { text, .. } | Event::Warning { text } => self.notes.push(text.clone()),
            Event::Evaluated(evaluated) => self.epochs.push(evaluated.epoch),
            _ => {}
        }
        Ok(())
    }
}

/// Where a run is allowed to get, and from where it comes.
struct Attempt<'a> {
    calls: usize,
    spoilt: Option<u32>,
    directory: Option<&'a Path>,
    /// Updates between two checkpoints.
    every: u64,
}

impl Attempt<'_> {
    const WHOLE: Attempt<'static> = Attempt { calls: usize::MAX, spoilt: None, directory: None, every: 1 };
}

/// The results of a run.
#[derive(Debug)]
struct Left {
    progress: Progress,
    parameters: Vec<Vec<u64>>,
}

/// One process's share of a run: everything is built anew, and the checkpoint is all that is left
/// of earlier ones.
fn attempt(case: &Case, data: &Data, attempt: &Attempt, heard: &mut Heard) -> Result<Left> {
    let key = Key::new(4, case.settings.stage, Direction::Forward);
    let encoder = AwdLstmSettings { vocabulary: VOCABULARY, embedding: 6, hidden: 8, layers: 2, pad: Some(1) }.into();
    let place = |declared: ParametersBuilder| -> Result<(Parameters, Graph)> {
        Ok((declared.build(DType::F32)?, Graph::new(Device::Cpu, DType::F32, None)))
    };
    let direction = Direction::Forward;
    let (train, valid) = ((data.train.clone(), None), Some((data.valid.clone(), None)));
    match case.model {
        Model::Language { negatives } => {
            let architecture = LanguageModelSettings { encoder, decoder_bias: true, splits: vec![] };
            let Assembled { network, parameters, graph } = assemble::language_model(architecture, key, None, place)?;
            let mut settings = lm_settings();
            settings.training =
                TrainingSettings { bptt: 8, window_sd: 3.0, window_half_p: 0.3, window_excess: 6, ..settings.training };
            let task = LmTaskSettings { negatives, ..assemble::lm_task_settings(&settings, VOCABULARY) };
            let counts = [1; VOCABULARY];
            let mut task = assemble::language_model_task(
                &network,
                &parameters,
                &settings,
                task,
                direction,
                key,
                train,
                valid,
                &counts,
            )?;
            go_on(case, attempt, &mut task, parameters, graph, heard)
        }
        Model::Classifier { masking } => {
            let architecture = ClassifierSettings {
                encoder,
                head: vec![5],
                classes: CLASSES as usize,
                linear_bias: true,
                norm_bias: 0.0,
                masking,
                bptt: 4,
                max_steps: 12,
                strict_cap: masking != Masking::Version2,
                answers: ulmfit::nn::Answers::Class,
                pair: false,
                auxiliary: None,
            };
            let Assembled { network, parameters, graph } = assemble::classifier(architecture, key, None, place)?;
            let mut settings = classifier_settings();
            settings.training = TrainingSettings {
                windows: Windows::Variable,
                window_sd: 2.0,
                window_half_p: 0.2,
                window_min: 2,
                window_excess: 3,
                lr_rescale: true,
                ..settings.training
            };
            let task = assemble::classifier_task_settings(&settings);
            let mut task = assemble::classifier_task(&network, &settings, task, direction, key, train, valid)?;
            go_on(case, attempt, &mut task, parameters, graph, heard)
        }
        Model::Task { task: kind, auxiliary } => {
            let architecture = ClassifierSettings {
                encoder,
                head: vec![5],
                classes: if kind == TaskName::Regression { 1 } else { CLASSES as usize },
                linear_bias: true,
                norm_bias: 0.0,
                masking: Masking::Version2,
                bptt: 4,
                max_steps: 12,
                strict_cap: false,
                answers: kind.answers(),
                pair: kind == TaskName::Pair,
                auxiliary: (auxiliary > 0.0).then_some(true),
            };
            let Assembled { network, parameters, graph } = assemble::classifier(architecture, key, None, place)?;
            let settings = RecipeClassifier { auxiliary_lm: auxiliary, label_smoothing: 0.0, ..classifier_settings() };
            let (train, valid) = (examples(&data.train, kind), Some(examples(&data.valid, kind)));
            let mut task = assemble::classifier_task_settings(&settings);
            task.decision = train.gold.scale(&[0, 1, 2, 3]);
            let mut task = assemble::classifier_task(&network, &settings, task, direction, key, train, valid)?;
            go_on(case, attempt, &mut task, parameters, graph, heard)
        }
        Model::Tagger => {
            let architecture = ClassifierSettings {
                encoder,
                head: vec![],
                classes: 3,
                linear_bias: true,
                norm_bias: 0.0,
                masking: Masking::Version2,
                bptt: 4,
                max_steps: 12,
                strict_cap: false,
                answers: ulmfit::nn::Answers::Tags { both: true },
                pair: false,
                auxiliary: None,
            };
            let Assembled { network, parameters, graph } = assemble::classifier(architecture, key, None, place)?;
            let settings = classifier_settings();
            let task = assemble::classifier_task_settings(&settings);
            let (train, valid) = (tagged(1, 30), Some(tagged(2, 8)));
            let mut task = assemble::classifier_task(&network, &settings, task, direction, key, train, valid)?;
            go_on(case, attempt, &mut task, parameters, graph, heard)
        }
    }
}

/// The documents of a store with what a task wants to know of them, which follows from their class.
fn examples(store: &Arc<TokenStore>, task: TaskName) -> Examples {
    let all: Vec<u32> = (0..store.documents()).map(|d| store.label(d).unwrap()).collect();
    let gold = match task {
        TaskName::Labels => {
            // its class, and of every third document another label
            let set = |(d, &label): (usize, &u32)| {
                let more = (d % 3 == 0).then_some((label + 1) % CLASSES);
                let mut set: Vec<u32> = std::iter::once(label).chain(more).collect();
                set.sort_unstable();
                set
            };
            Gold::Labels { sets: all.iter().enumerate().map(set).collect(), labels: CLASSES as usize }
        }
        TaskName::Regression => Gold::Numbers(all.iter().map(|&label| 10.0 + 1.5 * f64::from(label)).collect()),
        _ => Gold::Classes(all),
    };
    let second = (task == TaskName::Pair).then(|| store.clone());
    Examples { store: store.clone(), second, gold: Arc::new(gold), chosen: None }
}

/// Sentences in memory; a word's tag follows from it and from the word after it.
fn tagged(seed: u32, sentences: usize) -> Examples {
    let names: Vec<String> = ["O", "B-A", "I-A"].map(String::from).to_vec();
    let words = (0..VOCABULARY).map(|i| format!("w{i}")).collect();
    let vocabulary = Vocabulary::from_words(words, TokenizerKind::Whitespace).unwrap();
    let mut writer = StoreWriter::to(Storage::Memory, Path::new("sentences"), &vocabulary).unwrap();
    let mut random = Stream::new(Key([seed, 9]), Site::CUSTOM[0], 0, 0);
    let mut tags = Vec::new();
    for _ in 0..sentences {
        let n = 3 + random.below(9) as usize;
        let ids: Vec<u32> = (0..n).map(|_| 2 + random.below(VOCABULARY as u32 - 2)).collect();
        writer.push(&ids, None, n as u64 - 1, 4 * n).unwrap();
        // the first token opens the sentence
        writer.mark(&[&[0][..], &vec![mark::BEGINS | mark::ENDS; n - 1]].concat());
        let tag = |t: usize| (ids[t] + ids.get(t + 1).copied().unwrap_or(0)) % 3;
        tags.push((1..n).map(tag).collect());
    }
    let store = Arc::new(writer.finish(&[], &[]).unwrap());
    Examples { store, second: None, gold: Arc::new(Gold::Tags { tags, names }), chosen: None }
}

fn go_on(
    case: &Case,
    attempt: &Attempt,
    task: &mut dyn Task,
    mut parameters: Parameters,
    mut graph: Graph,
    heard: &mut Heard,
) -> Result<Left> {
    let identity = serde_json::json!({ "case": case.name });
    let checkpoints = match attempt.directory {
        Some(directory) => Checkpoints::new(directory, identity, None, Some(attempt.every)),
        None => Checkpoints::none(),
    };
    let snapshot = if checkpoints.exists()? { Some(checkpoints.load()?.0) } else { None };
    let mut task =
        Interrupting { task, calls_left: attempt.calls, evaluations_are_calls: true, spoilt: attempt.spoilt };
    let settings = case.settings.clone();
    let progress =
        Training::new(settings, &mut task, &mut graph, &mut parameters, heard, checkpoints, snapshot)?.run()?;
    let bits = |id| parameters.value(id).read::<f32>().iter().map(|v| u64::from(v.to_bits())).collect();
    let parameters = parameters.ids().map(bits).collect();
    Ok(Left { progress, parameters })
}

fn pools() -> Vec<rayon::ThreadPool> {
    (1..=3).map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect()
}

/// Everything in a run's progress but the time it took.
fn timeless(progress: &Progress) -> serde_json::Value {
    let mut value = serde_json::to_value(progress).unwrap();
    value.as_object_mut().unwrap().remove("seconds");
    value
}

/// Runs a case whole and, on changing numbers of threads, in pieces of `pieces` calls each in turn,
/// with a checkpoint every `every` updates. Returns what the whole run told.
fn check(case: &Case, data: &Data, pieces: &[usize], every: u64) -> Heard {
    let pools = pools();
    let mut heard = Heard::default();
    let whole = pools[1].install(|| attempt(case, data, &Attempt::WHOLE, &mut heard)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut stops = 0;
    let resumed = loop {
        let part =
            Attempt { calls: pieces[stops % pieces.len()], directory: Some(directory.path()), every, ..Attempt::WHOLE };
        match pools[stops % pools.len()].install(|| attempt(case, data, &part, &mut Heard::default())) {
            Ok(left) => break left,
            Err(e) => assert!(e.to_string().contains("stopped by the test"), "{}: {e}", case.name),
        }
        stops += 1;
        assert!(stops < 1000, "{}: the run does not get on", case.name);
    };
    assert!(stops >= 3, "{}: {stops} stops", case.name);
    assert_eq!(timeless(&resumed.progress), timeless(&whole.progress), "{}", case.name);
    let differs = resumed.parameters.iter().zip(&whole.parameters).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{}: parameter {differs:?} differs after {stops} stops", case.name);
    // a training that has ended stays at its end
    let again = pools[0].install(|| {
        let end = Attempt { calls: 0, directory: Some(directory.path()), every, ..Attempt::WHOLE };
        attempt(case, data, &end, &mut Heard::default())
    });
    assert_eq!(again.unwrap().parameters, whole.parameters, "{}: resumed at its end", case.name);
    heard
}

/// Two phases: the last group for one epoch, then all for `epochs`.
fn phases(groups: usize, epochs: u32, rate: f64) -> Vec<UnfreezingPhase> {
    let mut last = vec![false; groups];
    last[groups - 1] = true;
    let rates = vec![rate; groups];
    vec![
        UnfreezingPhase { epochs: 1, trainable: last, rates: rates.clone(), schedule: Schedule::Constant },
        UnfreezingPhase { epochs, trainable: vec![true; groups], rates, schedule: Schedule::STLR },
    ]
}

fn training() -> TrainingSettings {
    TrainingSettings {
        max_steps: None,
        optimiser: OptimiserName::Adam,
        clip: Some(0.5),
        weight_decay: 0.01,
        restore_best: false,
        early_stopping: None,
        reset_optimiser: false,
        stop_on_nonmono: false,
        lr_drop_at: Vec::new(),
        on_nan: OnNan::Stop,
        ..Recipe::named("tiny").unwrap().pretrain.training
    }
}

fn language(name: &'static str, epochs: u32, rate: f64, training: TrainingSettings) -> Case {
    let settings = LoopSettings { stage: Stage::Pretrain, phases: phases(3, epochs, rate), training };
    Case { name, model: Model::Language { negatives: None }, settings }
}

fn classifier(name: &'static str, masking: Masking, rate: f64, training: TrainingSettings) -> Case {
    let settings = LoopSettings { stage: Stage::Classifier, phases: phases(4, 2, rate), training };
    Case { name, model: Model::Classifier { masking }, settings }
}

#[test]
fn the_other_tasks_of_documents() {
    for (name, task, auxiliary) in [
        ("labels", TaskName::Labels, 0.0),
        ("regression", TaskName::Regression, 0.0),
        ("pair", TaskName::Pair, 0.0),
        ("auxiliary", TaskName::Class, 0.5),
    ] {
        let settings = LoopSettings { stage: Stage::Classifier, phases: phases(4, 1, 5e-3), training: training() };
        check(&Case { name, model: Model::Task { task, auxiliary }, settings }, &Data::new(6), &[4, 5], 1);
    }
}

#[test]
fn a_tagger_with_two_encoders() {
    let settings = LoopSettings { stage: Stage::Classifier, phases: phases(4, 2, 5e-3), training: training() };
    check(&Case { name: "tagger", model: Model::Tagger, settings }, &Data::new(2), &[5, 4], 1);
}

#[test]
fn language_model_with_adam() {
    let data = Data::new(12);
    let case = language("adam", 2, 1e-2, TrainingSettings { reset_optimiser: true, ..training() });
    // 3 calls may be: the last update again, the end of the epoch, its evaluation
    check(&case, &data, &[3, 4, 5], 1);
    let sampled = Case { model: Model::Language { negatives: Some(8) }, ..case };
    check(&sampled, &data, &[11, 7], 3);
}

#[test]
fn stopped_after_every_single_update() {
    let data = Data::new(12);
    let case = language("every update", 1, 1e-2, TrainingSettings { optimiser: OptimiserName::Sgd, ..training() });
    check(&case, &data, &[3], 1);
}

#[test]
fn language_model_with_sgd_and_best_weights() {
    let data = Data::new(12);
    let settings = TrainingSettings { optimiser: OptimiserName::Sgd, momentum: 0.9, restore_best: true, ..training() };
    let heard = check(&language("sgd", 3, 1.5, settings), &data, &[9, 6], 2);
    assert_eq!(heard.epochs, [1, 2, 3, 4]);
}

#[test]
fn averaging_begins_and_goes_on() {
    let data = Data::new(12);
    for restore_best in [false, true] {
        let settings = TrainingSettings {
            optimiser: OptimiserName::NtAsgd,
            nonmono: 0,
            momentum: 0.0,
            clip: None,
            restore_best,
            ..training()
        };
        let heard = check(&language("nt-asgd", 5, 20.0, settings), &data, &[10, 7], 2);
        let begins = heard.notes.iter().filter(|note| note.contains("averaging begins")).count();
        assert_eq!(begins, 1, "the case is there to average: {:?}", heard.notes);
        assert!(!heard.notes.iter().any(|note| note.contains("averaging begins after epoch 6")), "{:?}", heard.notes);
    }
}

#[test]
fn early_endings() {
    let data = Data::new(12);
    let sgd = TrainingSettings { optimiser: OptimiserName::Sgd, clip: None, momentum: 0.0, nonmono: 0, ..training() };
    let patience = TrainingSettings { early_stopping: Some(0), restore_best: true, ..sgd.clone() };
    let heard = check(&language("patience", 6, 20.0, patience), &data, &[8, 5], 2);
    assert!(
        heard.notes.iter().any(|note| note.contains("stopped improving")) && heard.epochs.len() < 7,
        "{:?}",
        heard.notes
    );
    let trigger = TrainingSettings { stop_on_nonmono: true, ..sgd };
    let heard = check(&language("trigger", 6, 20.0, trigger), &data, &[8, 5], 2);
    assert!(
        heard.notes.iter().any(|note| note.contains("stopped falling")) && heard.epochs.len() < 7,
        "{:?}",
        heard.notes
    );
    // the limit falls into the middle of an epoch
    let limited = TrainingSettings { max_steps: Some(17), lr_drop_at: vec![1], ..training() };
    let heard = check(&language("limit", 6, 1e-2, limited), &data, &[4, 6, 3], 1);
    assert!(heard.epochs.len() < 7);
}

#[test]
fn classifiers() {
    let data = Data::new(12);
    let best = TrainingSettings { restore_best: true, ..training() };
    check(&classifier("classifier v2", Masking::Version2, 1e-2, best.clone()), &data, &[3, 4, 5], 1);
    check(&classifier("classifier 0.7", Masking::Version07, 1e-2, best), &data, &[7, 4], 3);
    let sgd = TrainingSettings { optimiser: OptimiserName::Sgd, momentum: 0.9, ..training() };
    check(&classifier("classifier sgd", Masking::Version1, 0.1, sgd), &data, &[5], 2);
}

/// A loss that is not a number sends the run back to its checkpoint; every epoch is run and counted
/// once.
#[test]
fn rewinding() {
    let data = Data::new(12);
    let settings = TrainingSettings { on_nan: OnNan::Rewind, ..training() };
    let case = language("rewind", 3, 1e-2, settings);
    let plain = attempt(&case, &data, &Attempt::WHOLE, &mut Heard::default()).unwrap();
    let per_epoch = plain.progress.update / 4;
    // checkpoints between epochs alone, and within them
    for every in [1_000_000, 2] {
        let directory = tempfile::tempdir().unwrap();
        let mut heard = Heard::default();
        let spoilt = Some(2 * per_epoch as u32 + 3);
        let rewinding = Attempt { spoilt, directory: Some(directory.path()), every, ..Attempt::WHOLE };
        let left = attempt(&case, &data, &rewinding, &mut heard).unwrap();
        assert_eq!(heard.epochs, [1, 2, 3, 4], "checkpoint every {every}: {:?}", heard.notes);
        assert_eq!(left.progress.update, plain.progress.update);
        assert_eq!(heard.notes.iter().filter(|note| note.contains("learning rates times 0.5")).count(), 1);
        assert_ne!(left.parameters, plain.parameters, "the rates are halved");
        assert!(left.parameters.iter().flatten().all(|&v| f32::from_bits(v as u32).is_finite()));
    }
}

/// The checkpoint of another run is not resumed.
#[test]
fn another_run_is_refused() {
    let data = Data::new(12);
    let directory = tempfile::tempdir().unwrap();
    let case = language("one", 1, 1e-2, training());
    let part = Attempt { calls: 4, directory: Some(directory.path()), ..Attempt::WHOLE };
    attempt(&case, &data, &part, &mut Heard::default()).unwrap_err();
    let other = Case { name: "another", ..case };
    let error = attempt(&other, &data, &part, &mut Heard::default()).unwrap_err();
    assert!(error.to_string().contains(r#"case was "one" in the stopped run and is "another" now"#), "{error}");
}
