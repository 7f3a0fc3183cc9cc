//! The log: events of a training, at the levels that `ULMFIT_LOG` asks for (nothing without
//! it).

use tracing::{debug, info, trace, warn};

use crate::error::Result;
use crate::train::observer::{Event, Observer};

/// Target of the log's lines, as `ULMFIT_LOG=ulmfit::train=debug` names it.
const TARGET: &str = "ulmfit::train";

/// Writes events to the log: warnings; stages, notes and evaluations (`info`); checkpoints and
/// thawed layers (`debug`); updates (`trace`).
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Observer for Log {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Warning { text } => warn!(target: TARGET, "{text}"),
            Event::Note { text, .. } | Event::Data { text, .. } => info!(target: TARGET, "{text}"),
            Event::StageStarted(started) => {
                info!(target: TARGET, stage = started.stage.name(), parameters = started.parameters, steps = started.total_steps, "begins");
            }
            Event::Evaluated(e) => {
                info!(target: TARGET, epoch = e.epoch, split = e.split.name(), loss = e.loss, "evaluated")
            }
            Event::Finished { stage, .. } => info!(target: TARGET, stage = stage.name(), "finished"),
            Event::Unfrozen { step, groups } => {
                debug!(target: TARGET, step, groups = groups.join(" "), "learn from here")
            }
            Event::Checkpoint { step, path, .. } => debug!(target: TARGET, step, path = %path.display(), "checkpoint"),
            Event::Step(s) => {
                trace!(target: TARGET, step = s.step, loss = s.loss, norm = s.gradient_norm, seconds = s.seconds, "update");
            }
            Event::Environment { rows } => {
                rows.iter().for_each(|(name, value)| debug!(target: TARGET, "{name}: {value}"))
            }
            Event::Layers(_) | Event::Confusion { .. } | Event::Table { .. } => {}
        }
        Ok(())
    }
}
