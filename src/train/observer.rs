//! The events of a training run, and those who listen to them. Trainers print nothing.
//!
//! An [`Event`] is plain data: the metrics file is one event a line (JSON, tagged by `event`), and
//! the report is made from that file alone. Numbers that are not finite are written as `null` and
//! read back as NaN.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::answer::{Scores, nan};
use crate::error::Result;
use crate::text::Direction;
use crate::train::Stage;

/// Listens to a training run. An error ends the run (a full disk must not be silent).
pub trait Observer {
    fn observe(&mut self, event: &Event) -> Result<()>;

    /// Whether [`Event::Layers`] is wanted, which takes a pass over the weights.
    fn wants_layers(&self) -> bool {
        false
    }

    /// Makes what was told last, and counts it, where this listener keeps it.
    fn told(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The run goes back: events after so many did not happen.
    fn go_back(&mut self, events: u64) -> Result<()> {
        let _ = events;
        Ok(())
    }

    /// A stage was found finished: the event that says so is written if the run that finished could
    /// not.
    fn ensure_finished(&mut self, event: &Event) -> Result<()> {
        let _ = event;
        Ok(())
    }
}

/// Hears nothing.
impl Observer for () {
    fn observe(&mut self, _event: &Event) -> Result<()> {
        Ok(())
    }
}

/// All listeners, in order; the first error is returned.
impl Observer for Vec<Box<dyn Observer>> {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.observe(event))
    }

    fn wants_layers(&self) -> bool {
        self.iter().any(|observer| observer.wants_layers())
    }

    fn told(&mut self) -> Result<Option<u64>> {
        let mut told = None;
        for observer in self {
            told = observer.told()?.or(told);
        }
        Ok(told)
    }

    fn go_back(&mut self, events: u64) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.go_back(events))
    }

    fn ensure_finished(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.ensure_finished(event))
    }
}

/// One line of a resolved recipe: the value and its source (docs/SPEC.md section, command
/// line, configuration file).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeRow {
    pub key: String,
    pub value: String,
    pub source: String,
    /// Whether the recipe's table has another value.
    #[serde(default)]
    pub changed: bool,
}

/// Part of the data that an evaluation ran over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Valid,
    Test,
}

impl Split {
    /// `valid` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }
}

/// Why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointReason {
    /// An epoch ended.
    Epoch,
    /// `--checkpoint-minutes` or `--checkpoint-steps`.
    Interval,
    /// A signal asked the run to stop.
    Interrupt,
    /// The best validation value so far.
    Best,
    /// The run is finished.
    Final,
}

/// A stage begins, or goes on after `--resume`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStarted {
    pub stage: Stage,
    pub direction: Direction,
    /// Which of several models of this stage it is ("fold 2 of 4"), where a run has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Updates done before (0 unless resumed).
    pub first_step: u64,
    /// Events that had been told when the checkpoint was written from which the stage goes on,
    /// where it says so.
    #[serde(skip)]
    pub told: Option<u64>,
    /// Updates of the whole stage.
    pub total_steps: u64,
    pub epochs: u64,
    /// Trainable and frozen parameters together (a tied matrix counts once).
    pub parameters: u64,
    /// The resolved recipe, in the order to show.
    pub recipe: Vec<RecipeRow>,
    /// Names of the layer groups, first layer first; the order of [`Step::learning_rates`].
    pub groups: Vec<String>,
    /// Sentences that describe data and model ("train: 4,952 documents, 6 classes").
    pub description: Vec<String>,
}

/// One update. A trainer may keep one value and change it in place, so that a step allocates
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub stage: Stage,
    /// Counted from 1.
    pub epoch: u64,
    /// Counted from 1 over the whole stage.
    pub step: u64,
    pub total_steps: u64,
    /// Cross-entropy of this update in nats, without AR and TAR.
    #[serde(deserialize_with = "nan")]
    pub loss: f64,
    /// Exponentially smoothed, bias-corrected loss.
    #[serde(deserialize_with = "nan")]
    pub smoothed_loss: f64,
    /// Tokens in this update.
    pub tokens: u64,
    /// Documents in this update; 0 where the data is one stream.
    pub documents: u64,
    /// Seconds of training since the stage began, resumed parts included.
    #[serde(deserialize_with = "nan")]
    pub seconds: f64,
    /// One per layer group; 0 for a frozen group.
    pub learning_rates: Vec<f64>,
    /// Momentum or beta 1.
    #[serde(deserialize_with = "nan")]
    pub momentum: f64,
    /// Global L2 norm before clipping.
    #[serde(deserialize_with = "nan")]
    pub gradient_norm: f64,
    /// What the gradients were multiplied with: less than 1 where they were clipped.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub gradient_scale: f64,
    /// Heap requests of the memory pool so far; constant from step 2 on.
    pub pool_allocations: u64,
    /// Bytes that the pool holds.
    pub pool_bytes: u64,
    /// High-water mark of the process in MiB.
    pub peak_rss_mb: f64,
}

/// The layer groups at one update, at most some 200 times a stage; by group, in the order of
/// [`StageStarted::groups`]. `None` where a group is frozen or has no such numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// As [`Step::step`].
    pub step: u64,
    /// L2 norms of the gradients, before clipping.
    pub gradients: Vec<Option<f64>>,
    /// L2 norms of the weights, after the update.
    pub weights: Vec<Option<f64>>,
    /// Shares of the gates that are nearer than 0.01 to 0 or 1.
    pub saturated: Vec<Option<f64>>,
}

/// The model was measured on held-out data. Rates are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub stage: Stage,
    /// Epochs done.
    pub epoch: u64,
    /// Updates done.
    pub step: u64,
    pub split: Split,
    /// The loss per token or per document; in nats where it is a cross-entropy.
    #[serde(deserialize_with = "nan")]
    pub loss: f64,
    /// Other scores, by name ([`crate::answer::Measured`]).
    #[serde(flatten)]
    pub scores: Scores,
    /// Seconds that the measurement took.
    pub seconds: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn one() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// Everything a training run tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Processor, instruction set, threads, versions: (name, value) rows, once per process.
    Environment {
        rows: Vec<(String, String)>,
    },
    StageStarted(StageStarted),
    /// One line of information ("going on from the checkpoint").
    Note {
        text: String,
        /// Whether only those want to know it who ask for everything.
        #[serde(default, skip_serializing_if = "is_false")]
        detail: bool,
    },
    /// What a file of data is. Several stages may read it; people are told once.
    Data {
        /// The name of the file, which is in the text, too.
        source: String,
        text: String,
    },
    /// One line the reader should act on or know.
    Warning {
        text: String,
    },
    Step(Step),
    Layers(Layers),
    Evaluated(Evaluated),
    /// Rows are true classes, columns are predictions.
    Confusion {
        split: Split,
        labels: Vec<String>,
        matrix: Vec<Vec<u64>>,
    },
    /// A table of an evaluation: numbers by class, label or kind of entity.
    Table {
        split: Split,
        title: String,
        columns: Vec<String>,
        rows: Vec<Vec<serde_json::Value>>,
    },
    Checkpoint {
        step: u64,
        path: PathBuf,
        reason: CheckpointReason,
    },
    /// Names of the groups that learn from this step on.
    Unfrozen {
        step: u64,
        groups: Vec<String>,
    },
    /// The result of the stage, with the keys of docs/CLI.md.
    Finished {
        stage: Stage,
        summary: serde_json::Value,
    },
}

impl Event {
    pub fn note(text: impl Into<String>) -> Self {
        Event::Note { text: text.into(), detail: false }
    }

    /// A note for those who ask for everything.
    pub fn detail(text: impl Into<String>) -> Self {
        Event::Note { text: text.into(), detail: true }
    }

    /// A line about the file `source`.
    pub fn data(source: impl Into<String>, text: impl Into<String>) -> Self {
        Event::Data { source: source.into(), text: text.into() }
    }

    pub fn warning(text: impl Into<String>) -> Self {
        Event::Warning { text: text.into() }
    }

    /// Updates done when this happened, where the event knows.
    pub fn step(&self) -> Option<u64> {
        match self {
            Event::Step(step) => Some(step.step),
            Event::Layers(layers) => Some(layers.step),
            Event::Evaluated(evaluated) => Some(evaluated.step),
            Event::Checkpoint { step, .. } | Event::Unfrozen { step, .. } => Some(*step),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_tagged_object() {
        let event = Event::Unfrozen { step: 3, groups: vec!["head".into()] };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"event":"unfrozen","step":3,"groups":["head"]}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn not_finite_survives_as_nan() {
        let event = Event::Evaluated(Evaluated {
            stage: Stage::Pretrain,
            epoch: 1,
            step: 2,
            split: Split::Valid,
            loss: f64::INFINITY,
            scores: Scores::default(),
            seconds: 0.5,
        });
        let text = serde_json::to_string(&event).unwrap();
        let Event::Evaluated(back) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert!(back.loss.is_nan() && text.contains(r#""stage":"pretrain""#), "{text}");
    }

    /// As an earlier version wrote it: nobody knows of a clipping.
    #[test]
    fn a_step_without_a_scale() {
        let text = r#"{"event":"step","stage":"pretrain","epoch":1,"step":1,"total_steps":2,"loss":1.0,
            "smoothed_loss":1.0,"tokens":1,"documents":0,"seconds":0.1,"learning_rates":[0.1],"momentum":0.8,
            "gradient_norm":2.0,"pool_allocations":1,"pool_bytes":1,"peak_rss_mb":1.0}"#;
        let Event::Step(mut step) = serde_json::from_str(text).unwrap() else { panic!("no step") };
        assert_eq!(step.gradient_scale, 1.0);
        assert!(!serde_json::to_string(&step).unwrap().contains("gradient_scale"));
        step.gradient_scale = 0.25;
        assert!(serde_json::to_string(&Event::Step(step)).unwrap().contains(r#""gradient_scale":0.25"#));
    }

    #[test]
    fn all_listeners_hear_and_an_error_stops() {
        use std::{cell::Cell, rc::Rc};
        struct Counter(Rc<Cell<usize>>, bool);
        impl Observer for Counter {
            fn observe(&mut self, _: &Event) -> Result<()> {
                self.0.set(self.0.get() + 1);
                if self.1 { Err(crate::error::Error::data("full")) } else { Ok(()) }
            }
        }
        let count = Rc::new(Cell::new(0));
        let make = |fails| Box::new(Counter(count.clone(), fails)) as Box<dyn Observer>;
        let mut all = vec![make(false), make(true), make(false)];
        assert!(all.observe(&Event::note("x")).is_err());
        assert_eq!(count.get(), 2);
    }
}
