//! Checkpoints: one file with everything that decides how a run goes on, written beside the old
//! one, synced and renamed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::driver::Progress;
use crate::error::{Error, Result};
use crate::files;
use crate::models::{PREVIOUS_FILE, REWIND_FILE, STATE_FILE};
use crate::tensor::{Tensor, file};

/// The facts about a run besides its flags and data: the hardware it computes with, `GPU` or the
/// processor's instruction set.
pub(super) const INSTRUCTION_SET: &str = "the instruction set";
pub(super) const GPU: &str = "of a GPU";

/// Where and when checkpoints are written.
#[derive(Debug)]
pub struct Checkpoints {
    path: Option<PathBuf>,
    /// Everything that must be the same for a resumed run, as text (flags, recipe, hashes of the
    /// data).
    identity: serde_json::Value,
    every: Option<Duration>,
    every_steps: Option<u64>,
    last: Instant,
}

impl Checkpoints {
    /// Checkpoints in a directory, at ends of epochs, on an interrupt, every so many minutes and
    /// every so many steps.
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

    /// Where the last one is, if there is one.
    pub(super) fn place(&self) -> Option<&Path> {
        self.path.as_deref().filter(|path| files::exists(path).unwrap_or(false))
    }

    /// Whether there is one to go on from.
    ///
    /// # Errors
    /// The folder cannot be looked into.
    pub fn exists(&self) -> Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        Ok(files::exists(path)? || files::exists(&path.with_file_name(PREVIOUS_FILE))?)
    }

    /// Whether one is due after this update. (When a checkpoint is written has no influence on the
    /// run.)
    pub fn due(&self, update: u64) -> bool {
        self.enabled()
            && (self.every.is_some_and(|every| self.last.elapsed() >= every)
                || self.every_steps.is_some_and(|n| n > 0 && update.is_multiple_of(n)))
    }

    /// Writes a checkpoint; the one before it is kept. `lines`: of the metrics, up to here.
    pub(super) fn save(
        &mut self,
        progress: &Progress,
        cursor: serde_json::Value,
        lines: Option<u64>,
        tensors: Vec<(String, &Tensor)>,
    ) -> Result<PathBuf> {
        let path = self.path.clone().expect("only enabled checkpoints are saved");
        let state = self.state(progress, cursor, lines, &tensors)?;
        file::save_keeping(&path, &path.with_file_name(PREVIOUS_FILE), tensors, Some(("state", state)))?;
        self.last = Instant::now();
        Ok(path)
    }

    /// Writes the place that a rewind goes back to, where there is none yet.
    pub(super) fn save_rewind(
        &self,
        progress: &Progress,
        cursor: serde_json::Value,
        lines: Option<u64>,
        tensors: Vec<(String, &Tensor)>,
    ) -> Result<()> {
        let Some(path) = self.rewind_path() else { return Ok(()) };
        let state = self.state(progress, cursor, lines, &tensors)?;
        file::save(&path, tensors, Some(("state", state)))
    }

    /// The last checkpoint becomes the place that a rewind goes back to.
    pub(super) fn remember_for_rewind(&self) -> Result<()> {
        match (&self.path, self.rewind_path()) {
            (Some(path), Some(rewind)) => files::link(path, &rewind),
            _ => Ok(()),
        }
    }

    fn rewind_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_file_name(REWIND_FILE))
    }

    /// The place to go back to.
    pub(super) fn load_rewind(&self) -> Result<Option<Snapshot>> {
        let Some(path) = self.rewind_path() else { return Ok(None) };
        if !files::exists(&path)? {
            return Ok(None);
        }
        self.checked(&path).map(Some)
    }

    /// Everything but the tensors, as JSON, with its own checksum in front and those of the
    /// tensors.
    fn state(
        &self,
        progress: &Progress,
        cursor: serde_json::Value,
        lines: Option<u64>,
        tensors: &[(String, &Tensor)],
    ) -> Result<String> {
        let digests: serde_json::Map<String, serde_json::Value> = tensors
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), file::digest(tensor)?.into())))
            .collect::<Result<_>>()?;
        // written directly: as a tree of values the counts of thousands of classes fill the memory
        #[derive(serde::Serialize)]
        struct Saved<'a> {
            progress: &'a Progress,
            cursor: serde_json::Value,
            identity: &'a serde_json::Value,
            metrics_lines: Option<u64>,
            tensors: serde_json::Map<String, serde_json::Value>,
        }
        let saved = Saved { progress, cursor, identity: &self.identity, metrics_lines: lines, tensors: digests };
        let state =
            serde_json::to_string(&saved).map_err(|e| Error::data(format!("the state cannot be written: {e}")))?;
        Ok(sealed(&state))
    }

    /// Reads the checkpoint, whose run must have been the same as this one; where it is damaged,
    /// the one before it, with a warning.
    pub fn load(&self) -> Result<(Snapshot, Option<String>)> {
        let path = self.path.as_ref().expect("only enabled checkpoints are loaded");
        let previous = path.with_file_name(PREVIOUS_FILE);
        let fault = match Snapshot::load(path) {
            Ok(snapshot) => return self.same_run(snapshot).map(|snapshot| (snapshot, None)),
            // a file that cannot be read now may be read later: only a damaged one is given up
            Err(fault) if files::exists(path)? && files::sha256_of(path).is_err() => return Err(fault),
            Err(fault) => fault,
        };
        if !files::exists(&previous)? {
            return Err(fault);
        }
        let snapshot = self.checked(&previous).map_err(|second| match second {
            Error::Usage { .. } => second,
            _ => Error::data(format!("{fault}; the checkpoint before it is of no use either: {second}"))
                .hint("start again with --overwrite"),
        })?;
        let update = snapshot.updates();
        let warning = format!("{fault}: going on from the checkpoint before it, after update {update}");
        Ok((snapshot, Some(warning)))
    }

    fn checked(&self, path: &Path) -> Result<Snapshot> {
        self.same_run(Snapshot::load(path)?)
    }

    fn same_run(&self, snapshot: Snapshot) -> Result<Snapshot> {
        check_same(&snapshot.path, &snapshot.state["identity"], &self.identity)?;
        Ok(snapshot)
    }
}

/// JSON with the CRC-32 of the rest in front.
fn sealed(object: &str) -> String {
    format!("{SEAL}{:08x}\",{}", crc32fast::hash(object.as_bytes()), &object[1..])
}

const SEAL: &str = "{\"crc32\":\"";

/// Whether the seal fits. A file of an earlier version has none.
fn seal_fits(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(SEAL) else { return true };
    let parts = rest.get(..8).zip(rest.get(8..).and_then(|rest| rest.strip_prefix("\",")));
    parts.is_some_and(|(sum, body)| format!("{:08x}", crc32fast::hash(format!("{{{body}").as_bytes())) == sum)
}

/// Settings that there was no choice of in earlier versions, and what every run had then: a
/// checkpoint that does not name them had that.
fn before_the_choice(key: &str) -> Option<serde_json::Value> {
    use serde_json::Value;
    match key.split_once('.')? {
        ("model", "encoder") => Some("awd-lstm".into()),
        ("model", "zoneout") | ("classifier", "label_smoothing" | "focal" | "auxiliary_lm") => Some(0.0.into()),
        ("classifier", "task") => Some("class".into()),
        ("classifier", "class_weights") => Some("none".into()),
        ("classifier", "thresholds") => Some("0.5".into()),
        ("model", "bf16") | (_, "fit_batch") => Some(false.into()),
        (_, "updates_least" | "updates_most" | "patience") => Some(Value::Null),
        ("classifier", "folds") => Some(1.into()),
        ("classifier", "folds_below") => Some(2000.into()),
        (_, "effort") => Some(1.0.into()),
        (_, "vocabulary") => Some("text".into()),
        ("text", "invisible") => Some("keep".into()),
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
    // flags before what follows from them
    for key in new.keys().chain(old.keys()) {
        // from a GPU to a processor and back a run may go, though not to another kind of processor
        // without a word
        let moved = key == INSTRUCTION_SET
            && ([old, new].iter().any(|o| o.get(key).is_some_and(|v| v == GPU))
                // which add in the same order, and give the same bits in f32
                || new.get("--precision").is_none()
                    && [old, new].iter().all(|o| o.get(key).is_some_and(|v| v == "avx2" || v == "avx512")));
        let earlier = before_the_choice(key);
        let was = old.get(key).or(earlier.as_ref());
        let alike = key.ends_with(".splits") && same_splits(key, [old, new]);
        if was != new.get(key) && !moved && !alike {
            let (was, is) = (show(was), show(new.get(key)));
            if key == INSTRUCTION_SET {
                return Err(Error::usage(format!("--resume: {key} was {was} in the stopped run and is {is} now"))
                    .hint(format!("set ULMFIT_ISA={} to go on with the same bits", was.trim_matches('"'))));
            }
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
        if !seal_fits(state) {
            return Err(Error::file(path, "was altered: its state does not have the recorded checksum")
                .hint("restore the original file, or start again with --overwrite"));
        }
        let state: serde_json::Value = serde_json::from_str(state).map_err(|_| broken())?;
        // a file of an earlier version has no digests
        if let Some(digests) = state["tensors"].as_object() {
            for (name, tensor) in &tensors {
                if digests.get(name).and_then(serde_json::Value::as_str) != Some(&file::digest(tensor)?) {
                    return Err(Error::file(path, format!("tensor '{name}' was altered"))
                        .hint("restore the original file, or start again with --overwrite"));
                }
            }
        }
        Ok(Snapshot { path: path.to_path_buf(), tensors, state })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that the metrics had when it was written, where it says so.
    pub fn metrics_lines(&self) -> Option<u64> {
        self.state["metrics_lines"].as_u64()
    }

    /// Updates that were done.
    pub fn updates(&self) -> u64 {
        self.state["progress"]["update"].as_u64().unwrap_or(0)
    }

    /// The hardware it was computed with, if on record.
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
