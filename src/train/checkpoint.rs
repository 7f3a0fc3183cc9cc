//! Checkpoints: one file with everything that decides how a run goes on, written beside the old one, synced and renamed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::driver::Progress;
use crate::error::{Error, Result};
use crate::models::STATE_FILE;
use crate::tensor::{Tensor, file};

/// What a run says of itself besides its flags and data: with what it computes, `GPU` or the processor's instruction set.
pub(super) const INSTRUCTION_SET: &str = "the instruction set";
pub(super) const GPU: &str = "of a GPU";

/// Where and when checkpoints are written.
#[derive(Debug)]
pub struct Checkpoints {
    path: Option<PathBuf>,
    /// Everything that must be the same for a resumed run, as text (flags, recipe, hashes of the data).
    identity: serde_json::Value,
    every: Option<Duration>,
    every_steps: Option<u64>,
    last: Instant,
}

impl Checkpoints {
    /// Checkpoints in a directory, at every epoch, on an interrupt, every so many minutes and every so many steps.
    pub fn new(directory: &Path, identity: serde_json::Value, minutes: Option<f64>, steps: Option<u64>) -> Self {
        Checkpoints {
            path: Some(directory.join(STATE_FILE)),
            identity,
            // more minutes than a duration can hold: never
            every: minutes.and_then(|m| Duration::try_from_secs_f64(m * 60.0).ok()),
            every_steps: steps,
            last: Instant::now(),
        }
    }

    /// None at all.
    pub fn none() -> Self {
        Checkpoints {
            path: None,
            identity: serde_json::Value::Null,
            every: None,
            every_steps: None,
            last: Instant::now(),
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.path.is_some()
    }

    pub fn exists(&self) -> bool {
        self.path.as_ref().is_some_and(|p| p.exists())
    }

    /// Whether one is due after this update. (When a checkpoint is written has no influence on the run.)
    pub fn due(&self, update: u64) -> bool {
        self.enabled()
            && (self.every.is_some_and(|every| self.last.elapsed() >= every)
                || self.every_steps.is_some_and(|n| n > 0 && update.is_multiple_of(n)))
    }

    pub(super) fn save(
        &mut self,
        progress: &Progress,
        cursor: serde_json::Value,
        tensors: Vec<(String, &Tensor)>,
    ) -> Result<PathBuf> {
        let path = self.path.clone().expect("only enabled checkpoints are saved");
        let state = serde_json::json!({ "progress": progress, "cursor": cursor, "identity": self.identity });
        file::save(&path, tensors, Some(("state", state.to_string())))?;
        self.last = Instant::now();
        Ok(path)
    }

    /// Reads the checkpoint, whose run must have been the same as this one.
    pub fn load(&self) -> Result<Snapshot> {
        let path = self.path.as_ref().expect("only enabled checkpoints are loaded");
        let snapshot = Snapshot::load(path)?;
        check_same(path, &snapshot.state["identity"], &self.identity)?;
        Ok(snapshot)
    }
}

/// Settings that there was no choice of in earlier versions, and what every run had then: a checkpoint that does not name them had that.
fn before_the_choice(key: &str) -> Option<serde_json::Value> {
    use serde_json::Value;
    match key.split_once('.')? {
        ("model", "encoder") => Some("awd-lstm".into()),
        ("model", "zoneout") | ("classifier", "label_smoothing") => Some(0.0.into()),
        ("model", "bf16") | (_, "fit_batch") => Some(false.into()),
        (_, "updates_least" | "updates_most" | "patience") => Some(Value::Null),
        (_, "effort") => Some(1.0.into()),
        (_, "vocabulary") => Some("text".into()),
        _ => None,
    }
}

/// Whether two runs cut the vocabulary alike: an empty list was what the rule of the AWD code was
/// called in earlier versions, and without an adaptive softmax nothing is cut.
fn same_splits(key: &str, runs: [&serde_json::Map<String, serde_json::Value>; 2]) -> bool {
    let loss = key.replace(".splits", ".loss");
    if runs.iter().all(|run| run.get(&loss).is_some_and(|loss| loss != "adaptive")) {
        return true;
    }
    let [old, new] = runs.map(|run| match run.get(key) {
        Some(serde_json::Value::Array(all)) if all.is_empty() => Some("awd".into()),
        other => other.cloned(),
    });
    old == new
}

/// Names what differs between the run that wrote `path` and this one, if anything does.
pub(super) fn check_same(path: &Path, old: &serde_json::Value, new: &serde_json::Value) -> Result<()> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return Err(Error::file(path, "does not say which run it belongs to").hint("start again with --overwrite"));
    };
    // the lines of the recipe are those of one stage
    let stage = |of: &serde_json::Map<String, serde_json::Value>| {
        let stages = [("pretrain.", "pretraining"), ("finetune.", "fine-tuning"), ("classifier.", "a classifier")];
        stages.into_iter().find(|(start, _)| of.keys().any(|key| key.starts_with(start))).map(|(_, name)| name)
    };
    if let (Some(was), Some(is)) = (stage(old), stage(new))
        && was != is
    {
        let place = path.parent().unwrap_or(path).display();
        return Err(Error::usage(format!("--resume: {place} is the folder of another stage, {was}, not {is}"))
            .hint("give the folder of the run that is to go on, or another --out"));
    }
    let show = |v: Option<&serde_json::Value>| v.map_or("not set".to_string(), |v| v.to_string());
    for key in old.keys().chain(new.keys()) {
        // from a GPU to a processor and back a run may go, though not to another kind of processor without a word
        let moved = key == INSTRUCTION_SET && [old, new].iter().any(|o| o.get(key).is_some_and(|v| v == GPU));
        let earlier = before_the_choice(key);
        let was = old.get(key).or(earlier.as_ref());
        let alike = key.ends_with(".splits") && same_splits(key, [old, new]);
        if was != new.get(key) && !moved && !alike {
            let (was, is) = (show(was), show(new.get(key)));
            return Err(Error::usage(format!("--resume: {key} was {was} in the stopped run and is {is} now"))
                .hint("resume with the flags and files of the stopped run, or start again with --overwrite"));
        }
    }
    Ok(())
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    state: serde_json::Value,
}

impl Snapshot {
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, metadata) = file::load(path)?;
        let broken = || Error::file(path, "is not a checkpoint of this program").hint("start again with --overwrite");
        let state = metadata.get("state").ok_or_else(broken)?;
        let state = serde_json::from_str(state).map_err(|_| broken())?;
        Ok(Snapshot { path: path.to_path_buf(), tensors, state })
    }

    /// Updates that were done.
    pub fn updates(&self) -> u64 {
        self.state["progress"]["update"].as_u64().unwrap_or(0)
    }

    /// What it was computed with, where it says so.
    pub(super) fn instruction_set(&self) -> Option<&str> {
        self.state["identity"][INSTRUCTION_SET].as_str()
    }

    pub(super) fn progress(&self) -> Result<Progress> {
        serde_json::from_value(self.state["progress"].clone())
            .map_err(|e| Error::file(&self.path, format!("its progress cannot be read: {e}")))
    }

    pub(super) fn cursor(&self) -> &serde_json::Value {
        &self.state["cursor"]
    }

    pub(super) fn tensor(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).cloned()
    }

    /// A tensor that must have the shape and type of another.
    pub(super) fn like(&self, name: &str, other: &Tensor) -> Result<Tensor> {
        let found = self.tensor(name).ok_or_else(|| Error::file(&self.path, format!("has no tensor '{name}'")))?;
        if found.shape() != other.shape() || found.dtype() != other.dtype() {
            return Err(Error::file(&self.path, format!("tensor '{name}' is {} {}", found.dtype(), found.shape())));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn same(old: &serde_json::Value, new: &serde_json::Value) -> bool {
        check_same(Path::new("out/state.safetensors"), old, new).is_ok()
    }

    /// A run of an earlier version, whose list of cuts was empty, goes on where its softmax is the
    /// same.
    #[test]
    fn cuts_of_earlier_versions_are_known() {
        let run = |loss: &str, splits: serde_json::Value| json!({ "pretrain.loss": loss, "pretrain.splits": splits });
        let old = |loss| run(loss, json!([]));
        assert!(same(&old("adaptive"), &run("adaptive", json!("awd"))));
        assert!(!same(&old("adaptive"), &run("adaptive", json!("auto"))));
        assert!(!same(&old("adaptive"), &run("adaptive", json!([8]))));
        assert!(same(&old("sampled"), &run("sampled", json!("auto"))));
        assert!(!same(&old("sampled"), &run("adaptive", json!("awd"))));
    }
}
