//! The one training loop: phases of unfreezing × epochs × updates, for all three stages.
//!
//! Everything that decides a run is in [`Progress`], the task's cursor, the parameters and the
//! optimiser; all of it goes into the checkpoint, so a run that was stopped anywhere and resumed
//! gives the same bits as one that was not.

mod epoch;
mod health;
mod layers;
mod progress;
mod saving;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use self::progress::Progress;
use super::checkpoint::{Checkpoints, Snapshot};
use super::observer::{CheckpointReason, Event, Observer, Step};
use super::recipe::{OnNan, OptimiserName, TrainingSettings};
use super::{interrupt, rss};
use crate::answer::Measured;
use crate::autodiff::{Graph, ParameterId, Parameters, Role, Var};
use crate::device::cuda::Collecting;
use crate::error::{Error, Result};
use crate::optim::{GradientNorm, Optimiser, Schedule, StepRates, clip_scale};
use crate::tensor::Tensor;
use crate::trace;
use crate::train::Stage;

/// The losses of a task for one update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The loss that is minimised.
    pub total: Var,
    /// The loss of the head alone, which is reported.
    pub loss: Var,
    pub tokens: u64,
    pub documents: u64,
    /// A factor of this update's learning rate (window length over bptt; docs/SPEC.md
    /// §3.1).
    pub rate_scale: f64,
}

/// The task of a stage: it gives losses, is evaluated, and knows its position in the data.
pub trait Task {
    /// Updates of an epoch (counted from 0 over the whole stage).
    fn updates_in_epoch(&mut self, epoch: u32) -> Result<u64>;

    /// Goes to the beginning of an epoch.
    fn begin_epoch(&mut self, epoch: u32) -> Result<()>;

    /// Runs the forward pass of the next update; `None` when the epoch is over.
    fn forward(&mut self, g: &mut Graph, parameters: &Parameters, update: u32) -> Result<Option<Update>>;

    /// Runs a step of the largest sizes that can come, for the memory pool; returns its loss.
    /// `None`: the first update is one.
    fn largest(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Var>> {
        let _ = (g, parameters);
        Ok(None)
    }

    /// An update was left out: the state that it has left for the next one may not be finite.
    fn discard(&mut self) {}

    /// Measures on the validation data; `None` where there is none.
    fn evaluate(&mut self, g: &mut Graph, parameters: &Parameters) -> Result<Option<Measured>>;

    /// The position of the task in its data.
    fn cursor(&self) -> serde_json::Value;

    /// Carried state, under names of its own.
    fn tensors(&self) -> Vec<(String, &Tensor)>;

    /// Goes back to a saved place.
    fn restore(&mut self, cursor: &serde_json::Value, saved: &dyn Fn(&str) -> Option<Tensor>) -> Result<()>;
}

/// One step of unfreezing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnfreezingPhase {
    pub epochs: u32,
    /// By layer group.
    pub trainable: Vec<bool>,
    /// Largest learning rate, by layer group.
    pub rates: Vec<f64>,
    pub schedule: Schedule,
}

/// Settings of the loop.
#[derive(Clone, Debug)]
pub struct LoopSettings {
    pub stage: Stage,
    pub phases: Vec<UnfreezingPhase>,
    /// Optimiser, clipping, stopping and all else that does not depend on the phase.
    pub training: TrainingSettings,
}

impl LoopSettings {
    /// Whether the run looks for the moment to stop, or to begin averaging.
    fn is_non_monotone(&self) -> bool {
        self.training.optimiser == OptimiserName::NtAsgd || self.training.stop_on_nonmono
    }
}

/// Updates of every phase, as far as `max_steps` lets them come.
fn phase_totals(settings: &LoopSettings, task: &mut dyn Task) -> Result<Vec<u64>> {
    let mut left = settings.training.max_steps.unwrap_or(u64::MAX);
    let (mut totals, mut epoch) = (Vec::new(), 0);
    for phase in &settings.phases {
        let mut total = 0;
        for _ in 0..phase.epochs {
            total += task.updates_in_epoch(epoch)?;
            epoch += 1;
        }
        let total = total.min(left);
        left -= total;
        totals.push(total);
    }
    Ok(totals)
}

/// Updates of the whole stage.
pub fn total_steps(settings: &LoopSettings, task: &mut dyn Task) -> Result<u64> {
    Ok(phase_totals(settings, task)?.iter().sum())
}

/// The outcome of an update.
enum Outcome {
    Done,
    /// There was no update: the epoch's data are used up.
    EpochOver,
    /// The update failed, and the run is back where the checkpoint was written.
    Rewound,
}

/// A training in progress.
pub struct Training<'a> {
    settings: LoopSettings,
    task: &'a mut dyn Task,
    graph: &'a mut Graph,
    parameters: &'a mut Parameters,
    observer: &'a mut dyn Observer,
    checkpoints: Checkpoints,
    optimiser: Box<dyn Optimiser>,
    norm: GradientNorm,
    progress: Progress,
    best: Option<Vec<Tensor>>,
    /// Updates of every phase, as far as `max_steps` lets them come.
    totals: Vec<u64>,
    rates: Vec<f64>,
    event: Event,
    started: Instant,
    before: f64,
    told: health::Told,
    watch: layers::Watch,
}

impl<'a> Training<'a> {
    /// Prepares a training; with `resume`, from the checkpoint.
    pub fn new(
        settings: LoopSettings,
        task: &'a mut dyn Task,
        graph: &'a mut Graph,
        parameters: &'a mut Parameters,
        observer: &'a mut dyn Observer,
        checkpoints: Checkpoints,
        resume: Option<Snapshot>,
    ) -> Result<Self> {
        let progress = Progress::new(&settings);
        let optimiser = Self::optimiser(&settings, false, parameters)?;
        let totals = phase_totals(&settings, task)?;
        let step = Step {
            stage: settings.stage,
            epoch: 0,
            step: 0,
            total_steps: totals.iter().sum(),
            loss: 0.0,
            smoothed_loss: 0.0,
            tokens: 0,
            documents: 0,
            seconds: 0.0,
            learning_rates: vec![0.0; parameters.groups()],
            momentum: 0.0,
            gradient_norm: 0.0,
            gradient_scale: 1.0,
            pool_allocations: 0,
            pool_bytes: 0,
            peak_rss_mb: 0.0,
        };
        let mut this = Training {
            rates: vec![0.0; parameters.groups()],
            norm: GradientNorm::new(parameters)?,
            watch: layers::Watch::new(parameters),
            settings,
            task,
            graph,
            parameters,
            observer,
            checkpoints,
            optimiser,
            progress,
            best: None,
            totals,
            event: Event::Step(step),
            started: Instant::now(),
            before: 0.0,
            told: health::Told::default(),
        };
        if let Some(snapshot) = resume {
            this.restore(&snapshot)?;
        }
        Ok(this)
    }

    /// Updates of the whole stage.
    pub fn total_steps(&self) -> u64 {
        self.totals.iter().sum()
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Where a trainer tells about its stage.
    pub fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    fn optimiser(settings: &LoopSettings, averaging: bool, parameters: &Parameters) -> Result<Box<dyn Optimiser>> {
        let training = &settings.training;
        let mut optimiser =
            if averaging { training.new_averaging(parameters)? } else { training.new_optimiser(parameters)? };
        if !training.decay_norm_and_bias {
            let exempt = |id: &ParameterId| matches!(parameters.role(*id), Role::Norm | Role::VocabularyBias);
            parameters.ids().filter(exempt).for_each(|id| optimiser.exempt_from_decay(id));
        }
        Ok(optimiser)
    }

    /// Trains to the end. Afterwards the parameters are those to keep (averaged, or of the best
    /// epoch, where the settings say so).
    pub fn run(mut self) -> Result<Progress> {
        self.started = Instant::now();
        self.before = self.progress.seconds;
        if self.progress.update < self.total_steps() && self.progress.phase < self.settings.phases.len() {
            self.reserve()?;
        }
        self.remember_beginning()?;
        while !self.progress.finished {
            let over = self.progress.phase == self.settings.phases.len() || self.progress.update >= self.total_steps();
            // a run that was stopped between the last update and its evaluation still has the epoch
            // to end
            if over && !self.progress.in_epoch {
                self.finish()?;
            } else {
                self.epoch()?;
            }
        }
        self.graph.reset();
        Ok(self.progress)
    }

    /// Freezes and thaws for the present phase.
    fn enter_phase(&mut self, announce: bool) -> Result<()> {
        let phase = &self.settings.phases[self.progress.phase];
        for (group, &trainable) in phase.trainable.iter().enumerate() {
            self.parameters.set_frozen(group, !trainable);
        }
        if announce && self.settings.phases.len() > 1 {
            let named = self.parameters.group_names().iter().zip(&phase.trainable);
            let groups = named.filter(|(_, learns)| **learns).map(|(name, _)| name.clone()).collect();
            self.observer.observe(&Event::Unfrozen { step: self.progress.update, groups })?;
        }
        Ok(())
    }

    /// Fills the memory pool with a step of the largest sizes.
    fn reserve(&mut self) -> Result<()> {
        self.enter_phase(false)?;
        self.graph.reset();
        self.graph.promise_unit_loss();
        self.graph.pool().set_reserving(true);
        if let Some(loss) = self.task.largest(self.graph, self.parameters)? {
            self.parameters.clear_gradients();
            self.graph.backward(loss, self.parameters)?;
            self.parameters.clear_gradients();
            self.graph.reset();
            self.graph.pool().set_reserving(false);
        }
        Ok(())
    }

    fn epoch(&mut self) -> Result<()> {
        if self.progress.update_in_phase == 0 && self.progress.epoch_in_phase == 0 && !self.progress.in_epoch {
            self.enter_phase(true)?;
            if self.settings.training.reset_optimiser && self.progress.phase > 0 {
                self.optimiser.reset();
            }
        }
        if !self.progress.in_epoch {
            self.task.begin_epoch(self.progress.epoch)?;
            self.progress.in_epoch = true;
            (self.progress.epoch_loss, self.progress.epoch_updates) = (0.0, 0);
        }
        while self.progress.update < self.total_steps() {
            self.poll_interrupt()?;
            match self.update()? {
                Outcome::Done => {}
                Outcome::EpochOver => break,
                // the run may now be between two epochs
                Outcome::Rewound => return Ok(()),
            }
            if self.checkpoints.due(self.progress.update) {
                self.save(CheckpointReason::Interval)?;
            }
        }
        self.end_epoch()
    }

    fn poll_interrupt(&mut self) -> Result<()> {
        let Some(signal) = interrupt::requested() else { return Ok(()) };
        let saved = self.save(CheckpointReason::Interrupt)?;
        let message = if saved {
            format!("the state after update {} is saved; go on with --resume", self.progress.update)
        } else {
            format!("{} updates were done; nothing was to be saved", self.progress.update)
        };
        Err(Error::Interrupted { signal, message })
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// On a GPU two graphs: up to the norm, for which the host waits, and the update that it
    /// decides (DESIGN.md, "On a GPU").
    fn update(&mut self) -> Result<Outcome> {
        let collecting = self.graph.device().collect()?;
        self.graph.reset();
        self.graph.set_recording(true);
        self.parameters.clear_gradients();
        let number = u32::try_from(self.progress.update)
            .map_err(|_| Error::data("more updates than the counters can number"))?;
        let pass = trace::pass(trace::Pass::Forward);
        let Some(update) = self.task.forward(self.graph, self.parameters, number)? else {
            return Ok(Outcome::EpochOver);
        };
        drop(pass);
        let looked_at = self.is_looked_at();
        if looked_at {
            self.look_at_gates()?;
        }
        self.watch_gates()?;
        self.graph.backward(update.total, self.parameters)?;
        let pass = trace::pass(trace::Pass::Update);
        let norm = self.norm.compute(self.parameters)?;
        let loss = self.graph.tensor(update.loss).scalar();
        let total = self.graph.tensor(update.total).scalar();
        self.graph.pool().set_reserving(false);
        if !total.is_finite() || !norm.is_finite() {
            drop(collecting);
            return self.not_finite(total);
        }
        self.look_at_loss(loss)?;
        if looked_at {
            self.look_at_gradients()?;
        }
        let phase = &self.settings.phases[self.progress.phase];
        let point = phase.schedule.at(self.progress.update_in_phase, self.totals[self.progress.phase]);
        let drops = self.settings.training.lr_drop_at.iter().filter(|&&e| e <= self.progress.epoch).count() as i32;
        let factor = point.factor * update.rate_scale * self.progress.rate_factor * 0.1f64.powi(drops);
        for ((rate, &max), &trainable) in self.rates.iter_mut().zip(&phase.rates).zip(&phase.trainable) {
            *rate = if trainable { max * factor } else { 0.0 };
        }
        let scale = clip_scale(norm, self.settings.training.clip);
        let momentum = point.momentum.unwrap_or(self.settings.training.base_momentum());
        self.optimiser.step(
            self.parameters,
            &StepRates {
                lr: &self.rates,
                momentum,
                weight_decay: &[self.settings.training.weight_decay],
                gradient_scale: scale,
            },
        )?;
        collecting.map_or(Ok(()), Collecting::finish)?;
        drop(pass);
        let p = &mut self.progress;
        p.update += 1;
        p.update_in_phase += 1;
        p.epoch_loss += loss;
        p.epoch_updates += 1;
        p.tokens += update.tokens;
        p.smoothed = 0.98 * p.smoothed + 0.02 * loss;
        p.smoothed_weight = 0.98 * p.smoothed_weight + 0.02;
        let pool = self.graph.pool_statistics();
        let (seconds, total_steps) = (self.seconds(), self.total_steps());
        if let Event::Step(step) = &mut self.event {
            let p = &self.progress;
            step.epoch = u64::from(p.epoch) + 1;
            (step.step, step.total_steps) = (p.update, total_steps);
            (step.loss, step.smoothed_loss) = (loss, p.smoothed / p.smoothed_weight);
            (step.tokens, step.documents) = (update.tokens, update.documents);
            (step.seconds, step.momentum) = (seconds, momentum);
            (step.gradient_norm, step.gradient_scale) = (norm, scale);
            step.learning_rates.copy_from_slice(&self.rates);
            (step.pool_allocations, step.pool_bytes) = (pool.allocations as u64, pool.bytes as u64);
            if p.update % 16 == 1 {
                step.peak_rss_mb = rss::peak_rss_mb();
            }
        }
        self.observer.observe(&self.event)?;
        self.tell_layers()?;
        Ok(Outcome::Done)
    }

    fn not_finite(&mut self, loss: f64) -> Result<Outcome> {
        let at = self.progress.update + 1;
        let what = self.diagnosis(loss)?;
        match self.settings.training.on_nan {
            OnNan::Skip => {
                self.check_parameters(at)?;
                self.task.discard();
                self.progress.skipped += 1;
                self.progress.update += 1;
                self.progress.update_in_phase += 1;
                self.observer.observe(&Event::warning(format!("update {at} is left out: {what}")))?;
                Ok(Outcome::Done)
            }
            // to the last end of an epoch, which does not depend on checkpoints
            OnNan::Rewind if self.progress.rewinds < 3 && self.checkpoints.enabled() => {
                let Some(snapshot) = self.checkpoints.load_rewind()? else {
                    return Err(Error::data(format!("update {at}: {what}, and there is no place to go back to")));
                };
                let (rewinds, factor) = (self.progress.rewinds + 1, self.progress.rate_factor / 2.0);
                self.restore(&snapshot)?;
                (self.progress.rewinds, self.progress.rate_factor) = (rewinds, factor);
                if let Some(lines) = snapshot.metrics_lines() {
                    self.observer.go_back(lines)?;
                }
                let update = self.progress.update;
                let text = format!("update {at}: {what}; back to update {update}, learning rates times {factor}");
                self.observer.observe(&Event::warning(text))?;
                Ok(Outcome::Rewound)
            }
            _ => Err(self.diverged(format!("update {at}: {what}"))),
        }
    }

    /// A parameter that is not finite stays so, and a model with such a parameter is of no use.
    fn check_parameters(&mut self, update: u64) -> Result<()> {
        let Some(id) = self.norm.first_non_finite_value(self.parameters)? else { return Ok(()) };
        Err(self.diverged(format!("update {update}: a parameter is not finite ({})", self.place(id))))
    }
}
