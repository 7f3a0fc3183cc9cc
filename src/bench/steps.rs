//! Whole updates of a training, one after another, through the training loop itself.

use std::time::Instant;

use crate::answer::Measured;
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::{Error, Result};
use crate::optim::Schedule;
use crate::tensor::Tensor;
use crate::trace::{Recorder, Recording};
use crate::train::Stage;
use crate::train::checkpoint::Checkpoints;
use crate::train::driver::{LoopSettings, Task, Training, UnfreezingPhase, Update};
use crate::train::observer::{Event, Observer};
use crate::train::recipe::{TrainingSettings, UnfreezingStep};
use crate::train::trial;

/// An update that is done.
#[derive(Debug)]
pub struct Done {
    pub seconds: f64,
    pub loss: f64,
    pub tokens: u64,
    pub documents: u64,
    /// Where that was asked for.
    pub recording: Option<Recording>,
}

/// The kind of the next update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Plain,
    Recorded,
    /// There is no next update.
    Stop,
}

/// Trains on the first batch of the task's first epoch again and again, at the largest rates of
/// `step`, and asks `next` after every update what is to follow. The first update is a plain one.
pub fn run(
    stage: Stage,
    training: &TrainingSettings,
    step: UnfreezingStep,
    task: &mut dyn Task,
    graph: &mut Graph,
    parameters: &mut Parameters,
    next: &mut dyn FnMut(Done) -> Next,
) -> Result<()> {
    let phase = UnfreezingPhase { epochs: 1, trainable: step.trains, rates: step.lr, schedule: Schedule::Constant };
    let training = trial::without_evaluation(training, None);
    let settings = LoopSettings { stage, phases: vec![phase], training };
    let mut task = Repeated(task);
    let mut watch = Watch { next, recorder: None, begun: Instant::now(), stopped: false };
    let run = Training::new(settings, &mut task, graph, parameters, &mut watch, Checkpoints::none(), None)?.run();
    match run {
        Err(_) if watch.stopped => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Hears of every update, and ends the run by an error of its own.
struct Watch<'a> {
    next: &'a mut dyn FnMut(Done) -> Next,
    recorder: Option<Recorder>,
    begun: Instant,
    stopped: bool,
}

impl Observer for Watch<'_> {
    fn observe(&mut self, event: &Event) -> Result<()> {
        let Event::Step(step) = event else { return Ok(()) };
        let seconds = self.begun.elapsed().as_secs_f64();
        let recording = self.recorder.take().map(Recorder::finish);
        let (loss, tokens, documents) = (step.loss, step.tokens, step.documents);
        let next = (self.next)(Done { seconds, loss, tokens, documents, recording });
        match next {
            Next::Plain => {}
            Next::Recorded => {
                let busy = || Error::data("something else is being recorded");
                self.recorder = Some(Recorder::start().ok_or_else(busy)?);
            }
            Next::Stop => {
                self.stopped = true;
                return Err(Error::data("enough updates were done"));
            }
        }
        self.begun = Instant::now();
        Ok(())
    }
}

/// A task whose every update is its first one: all updates have the same batch.
struct Repeated<'a>(&'a mut dyn Task);

impl Task for Repeated<'_> {
    fn updates_in_epoch(&mut self, _: u32) -> Result<u64> {
        Ok(1 << 20)
    }

    fn begin_epoch(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn forward(&mut self, g: &mut Graph, parameters: &Parameters, update: u32) -> Result<Option<Update>> {
        self.0.begin_epoch(0)?;
        self.0.forward(g, parameters, update)
    }

    fn largest(&mut self, _: &mut Graph, _: &Parameters) -> Result<Option<Var>> {
        Ok(None)
    }

    fn evaluate(&mut self, _: &mut Graph, _: &Parameters) -> Result<Option<Measured>> {
        Ok(None)
    }

    fn cursor(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn tensors(&self) -> Vec<(String, &Tensor)> {
        Vec::new()
    }

    fn restore(&mut self, _: &serde_json::Value, _: &dyn Fn(&str) -> Option<Tensor>) -> Result<()> {
        Ok(())
    }
}
