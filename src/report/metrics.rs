//! `metrics.jsonl`: one event a line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::train::observer::{Event, Observer};

/// Name of the file within a model's directory.
pub const FILE: &str = "metrics.jsonl";

/// Appends every event to a file. One write call per event and no buffer beyond the line, so that the file can be followed
/// while the run goes on.
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl MetricsWriter {
    /// A new, empty file at `path`.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::create(&path).map_err(|e| Error::io(&path, "create", &e))?;
        Ok(MetricsWriter { path, file, line: Vec::new() })
    }

    /// Goes on with the file of a stopped run: keeps what was told up to the checkpoint after `step` updates and cuts off the
    /// rest. The cut is behind the line of that checkpoint; if the process died before it was written, before the first
    /// event of a later step. A missing file is created.
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        if !path.exists() {
            return Self::create(path);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(&path, "open for writing", &e))?;
        let keep = kept_length(&file, step).map_err(|e| Error::io(&path, "read", &e))?;
        let mut writer = MetricsWriter { path, file, line: Vec::new() };
        writer.file.set_len(keep).map_err(|e| Error::io(&writer.path, "truncate", &e))?;
        writer.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&writer.path, "seek in", &e))?;
        Ok(writer)
    }
}

/// Length in bytes of what belongs to the first `step` updates.
fn kept_length(file: &File, step: u64) -> std::io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut at, mut line, mut behind_checkpoint) = (0u64, Vec::new(), None);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        // an unfinished or damaged line ends what can be trusted
        let Some(event) = line.strip_suffix(b"\n").and_then(|l| serde_json::from_slice::<Event>(l).ok()) else { break };
        if event.step().is_some_and(|s| s > step) {
            break;
        }
        at += length;
        if matches!(event, Event::Checkpoint { step: s, .. } if s == step) {
            behind_checkpoint = Some(at);
        }
    }
    Ok(behind_checkpoint.unwrap_or(at))
}

impl Observer for MetricsWriter {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)
            .map_err(|e| Error::file(&self.path, format!("cannot write the event as JSON: {e}")))?;
        self.line.push(b'\n');
        self.file.write_all(&self.line).map_err(|e| Error::io(&self.path, "write", &e))
    }
}

/// The metrics file of a stage, touched only when training begins: a run that is refused before leaves an earlier file as it was. What
/// is told before waits until then.
pub struct StageMetrics {
    path: PathBuf,
    waiting: Vec<Event>,
    writer: Option<MetricsWriter>,
}

impl StageMetrics {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StageMetrics { path: path.into(), waiting: Vec::new(), writer: None }
    }
}

impl Observer for StageMetrics {
    fn observe(&mut self, event: &Event) -> Result<()> {
        if let Event::StageStarted(stage) = event {
            let writer = match stage.first_step {
                0 => MetricsWriter::create(&self.path)?,
                done => MetricsWriter::resume(&self.path, done)?,
            };
            let writer = self.writer.insert(writer);
            self.waiting.drain(..).try_for_each(|event| writer.observe(&event))?;
        }
        match &mut self.writer {
            Some(writer) => writer.observe(event),
            None => {
                self.waiting.push(event.clone());
                Ok(())
            }
        }
    }
}

/// All events of a file; lines that are not events (an unfinished last line) are left out.
pub fn read(path: &Path) -> Result<Vec<Event>> {
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    let mut events = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|e| Error::io(path, "read", &e))?;
        events.extend(serde_json::from_slice::<Event>(&line));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::observer::CheckpointReason;

    fn unfrozen(step: u64) -> Event {
        Event::Unfrozen { step, groups: vec![] }
    }

    fn checkpoint(step: u64) -> Event {
        Event::Checkpoint { step, path: "state".into(), reason: CheckpointReason::Interval }
    }

    fn write(path: &Path, events: &[Event]) {
        let mut writer = MetricsWriter::create(path).unwrap();
        events.iter().for_each(|e| writer.observe(e).unwrap());
    }

    #[test]
    fn resume_cuts_behind_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let before = [Event::note("start"), unfrozen(1), unfrozen(2), checkpoint(2)];
        // something else at the same step, told after the checkpoint, will be told again
        let after = [unfrozen(2), unfrozen(3), checkpoint(3)];
        write(&path, &[&before[..], &after[..]].concat());
        let mut writer = MetricsWriter::resume(&path, 2).unwrap();
        writer.observe(&unfrozen(9)).unwrap();
        assert_eq!(read(&path).unwrap(), [&before[..], &[unfrozen(9)]].concat());
    }

    #[test]
    fn resume_without_the_checkpoint_line_and_with_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write(&path, &[unfrozen(1), unfrozen(2), unfrozen(3)]);
        MetricsWriter::resume(&path, 2).unwrap();
        assert_eq!(read(&path).unwrap(), [unfrozen(1), unfrozen(2)]);

        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\":\"unfr").unwrap();
        let mut writer = MetricsWriter::resume(&path, 7).unwrap();
        writer.observe(&unfrozen(8)).unwrap();
        assert_eq!(read(&path).unwrap(), [unfrozen(1), unfrozen(2), unfrozen(8)]);

        MetricsWriter::resume(dir.path().join("new.jsonl"), 7).unwrap();
        assert!(read(&dir.path().join("new.jsonl")).unwrap().is_empty());
    }

    #[test]
    fn a_stage_that_never_begins_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let before = [unfrozen(1), unfrozen(2), unfrozen(3)];
        write(&path, &before);
        let started = |first_step| {
            Event::StageStarted(crate::train::observer::StageStarted {
                stage: crate::train::Stage::Pretrain,
                direction: crate::text::Direction::Forward,
                first_step,
                total_steps: 3,
                epochs: 1,
                parameters: 1,
                recipe: vec![],
                groups: vec![],
                description: vec![],
            })
        };
        let observe = |events: &[Event]| {
            let mut metrics = StageMetrics::new(&path);
            events.iter().for_each(|e| metrics.observe(e).unwrap());
            read(&path).unwrap()
        };
        assert_eq!(observe(&[Event::note("refused")]), before);
        let resumed = [Event::note("going on"), started(2), unfrozen(3)];
        assert_eq!(observe(&resumed), [&before[..2], &resumed[..]].concat());
        let fresh = [Event::note("anew"), started(0), unfrozen(1)];
        assert_eq!(observe(&fresh), fresh);
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = MetricsWriter::create("/nonexistent/metrics.jsonl").err().unwrap();
        assert_eq!(error.to_string(), "/nonexistent/metrics.jsonl: cannot create: no such file or directory");
    }
}
