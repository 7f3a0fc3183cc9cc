//! `metrics.jsonl`: one event a line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{self, Patient};
use crate::train::observer::{Event, Observer};

/// Name of the file within a model's directory.
pub const FILE: &str = "metrics.jsonl";

/// Bytes of a line at most: the last one holds a summary.
const LONGEST: u64 = 16 << 20;

/// Appends every event to a file. One write call per event and no buffer beyond the line, so that
/// the file can be followed while the run goes on.
pub struct MetricsWriter {
    path: PathBuf,
    file: Patient,
    line: Vec<u8>,
    /// Lines of the file.
    lines: u64,
}

impl MetricsWriter {
    /// A new, empty file at `path`.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = files::patiently(|| File::create(&path)).map_err(|e| Error::io(&path, "create", &e))?;
        Ok(MetricsWriter { path, file: Patient(file), line: Vec::new(), lines: 0 })
    }

    /// Goes on with the file of a stopped run: keeps what was told up to the checkpoint after
    /// `step` updates and cuts off the rest. `told`: how many events there were when the checkpoint
    /// was written; without it (in checkpoints of earlier versions) the cut is behind the line of
    /// that checkpoint, or else before the first event of a later step. A missing file is created.
    /// Also gives what is wrong with the lines that are kept: they stay as they are.
    pub fn resume(path: impl Into<PathBuf>, step: u64, told: Option<u64>) -> Result<(Self, Vec<String>)> {
        let path = path.into();
        if !files::exists(&path)? {
            let lost = told.filter(|&told| told > 0);
            let lost = lost.map(|told| format!("{}: its {told} lines are gone", path.display()));
            return Ok((Self::create(path)?, lost.into_iter().collect()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(&path, "open for writing", &e))?;
        let kept = Kept::of(&file, step, told).map_err(|e| Error::io(&path, "read", &e))?;
        let warnings = kept.warnings(&path, told);
        let mut writer = MetricsWriter { path, file: Patient(file), line: Vec::new(), lines: 0 };
        writer.cut(kept.bytes, kept.lines)?;
        Ok((writer, warnings))
    }

    fn cut(&mut self, bytes: u64, lines: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(|e| Error::io(&self.path, "truncate", &e))?;
        self.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&self.path, "seek in", &e))?;
        self.lines = lines;
        Ok(())
    }
}

/// The part of a file that is kept.
#[derive(Default)]
struct Kept {
    bytes: u64,
    lines: u64,
    /// Numbers of the lines among them that are no events.
    damaged: Vec<u64>,
}

impl Kept {
    fn of(file: &File, step: u64, told: Option<u64>) -> std::io::Result<Self> {
        let mut reader = BufReader::new(file);
        let (mut at, mut line) = (Kept::default(), Vec::new());
        // behind the line of the checkpoint
        let mut behind = None;
        loop {
            let bytes = next_line(&mut reader, &mut line)?;
            // a line that was being written when the process died, or one that is too long for one
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            let event = serde_json::from_slice::<Event>(whole).ok();
            let is_checkpoint = matches!(event, Some(Event::Checkpoint { step: s, .. }) if s == step);
            match told {
                // its own line was written after it
                Some(told) if at.lines >= told && !is_checkpoint => break,
                Some(told) if at.lines > told => break,
                None if event.as_ref().and_then(Event::step).is_some_and(|s| s > step) => break,
                _ => {}
            }
            at.bytes += bytes;
            at.lines += 1;
            if event.is_none() {
                at.damaged.push(at.lines);
            }
            if is_checkpoint && told.is_none() {
                behind = Some((at.bytes, at.lines));
            }
        }
        if let Some((bytes, lines)) = behind {
            at.damaged.retain(|&n| n <= lines);
            (at.bytes, at.lines) = (bytes, lines);
        }
        Ok(at)
    }

    fn warnings(&self, path: &Path, told: Option<u64>) -> Vec<String> {
        let mut all: Vec<String> = damaged_lines(path, &self.damaged).into_iter().collect();
        if let Some(told) = told.filter(|&told| told > self.lines) {
            all.push(format!("{}: has {} lines of {told}: the others are lost", path.display(), self.lines));
        }
        all
    }
}

/// The warning about lines that are no events; it names three of them.
fn damaged_lines(path: &Path, lines: &[u64]) -> Option<String> {
    let named: Vec<String> = lines.iter().take(3).map(u64::to_string).collect();
    let (path, named) = (path.display(), named.join(", "));
    match lines.len() {
        0 => None,
        1 => Some(format!("{path}:{named}: is no event: the line is damaged")),
        n => Some(format!("{path}: {n} lines are no events ({named}{})", if n > 3 { ", …" } else { "" })),
    }
}

impl Observer for MetricsWriter {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)
            .map_err(|e| Error::file(&self.path, format!("cannot write the event as JSON: {e}")))?;
        self.line.push(b'\n');
        self.file.write_all(&self.line).map_err(|e| Error::io(&self.path, "write", &e))?;
        self.lines += 1;
        Ok(())
    }

    fn wants_layers(&self) -> bool {
        true
    }

    fn told(&mut self) -> Result<Option<u64>> {
        self.file.sync_data().map_err(|e| Error::io(&self.path, "write", &e))?;
        Ok(Some(self.lines))
    }

    fn go_back(&mut self, events: u64) -> Result<()> {
        let file = files::open(&self.path)?;
        let (mut reader, mut bytes, mut lines) = (BufReader::new(file), 0, 0);
        while lines < events {
            match reader.skip_until(b'\n').map_err(|e| Error::io(&self.path, "read", &e))? {
                0 => break,
                n => bytes += n as u64,
            }
            lines += 1;
        }
        self.cut(bytes, lines)
    }
}

/// The metrics file of a stage, touched only when training begins: a run that is refused before
/// leaves an earlier file as it was. Events before that wait until then.
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
            let (writer, warnings) = match (stage.first_step, stage.told) {
                (0, None) => (MetricsWriter::create(&self.path)?, Vec::new()),
                (done, told) => MetricsWriter::resume(&self.path, done, told)?,
            };
            let writer = self.writer.insert(writer);
            self.waiting.drain(..).try_for_each(|event| writer.observe(&event))?;
            for text in warnings {
                warn(&text);
                writer.observe(&Event::warning(text))?;
            }
        }
        match &mut self.writer {
            Some(writer) => writer.observe(event),
            None => {
                self.waiting.push(event.clone());
                Ok(())
            }
        }
    }

    fn wants_layers(&self) -> bool {
        true
    }

    fn told(&mut self) -> Result<Option<u64>> {
        self.writer.as_mut().map_or(Ok(None), MetricsWriter::told)
    }

    fn go_back(&mut self, events: u64) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.go_back(events))
    }

    fn ensure_finished(&mut self, event: &Event) -> Result<()> {
        if says_finished(&self.path)? {
            return Ok(());
        }
        MetricsWriter::resume(&self.path, u64::MAX, None)?.0.observe(event)
    }
}

fn warn(text: &str) {
    // nobody there is no fault
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// The next line with its end, and its bytes. The end of the file, and a line that is too long,
/// have no line end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    Ok(reader.take(LONGEST).read_until(b'\n', line)? as u64)
}

/// All events of a file. Lines that are none are left out with a warning; an unfinished last line
/// without.
pub fn read(path: &Path) -> Result<Vec<Event>> {
    let mut reader = BufReader::new(files::open(path)?);
    let (mut events, mut damaged, mut line) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1.. {
        let length = next_line(&mut reader, &mut line).map_err(|e| Error::io(path, "read", &e))?;
        let whole = line.ends_with(b"\n");
        match serde_json::from_slice::<Event>(&line) {
            Ok(event) => events.push(event),
            Err(_) if whole || length == LONGEST => damaged.push(number),
            Err(_) => {}
        }
        if !whole {
            break;
        }
    }
    damaged_lines(path, &damaged).iter().for_each(|text| warn(text));
    Ok(events)
}

/// Whether the last event of a file says that the stage is finished.
fn says_finished(path: &Path) -> Result<bool> {
    if !files::exists(path)? {
        return Ok(false);
    }
    let file = files::open(path)?;
    let fault = |e: std::io::Error| Error::io(path, "read", &e);
    let length = file.metadata().map_err(fault)?.len();
    let begin = length.saturating_sub(LONGEST);
    let mut end = vec![0; (length - begin) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, begin).map_err(fault)?;
    let last = end.strip_suffix(b"\n").and_then(|all| all.rsplit(|&b| b == b'\n').next());
    Ok(last.is_some_and(|line| matches!(serde_json::from_slice(line), Ok(Event::Finished { .. }))))
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
        let mut writer = MetricsWriter::resume(&path, 2, None).unwrap().0;
        writer.observe(&unfrozen(9)).unwrap();
        assert_eq!(read(&path).unwrap(), [&before[..], &[unfrozen(9)]].concat());
    }

    #[test]
    fn resume_without_the_checkpoint_line_and_with_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        write(&path, &[unfrozen(1), unfrozen(2), unfrozen(3)]);
        MetricsWriter::resume(&path, 2, None).unwrap();
        assert_eq!(read(&path).unwrap(), [unfrozen(1), unfrozen(2)]);

        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\":\"unfr").unwrap();
        let mut writer = MetricsWriter::resume(&path, 7, None).unwrap().0;
        writer.observe(&unfrozen(8)).unwrap();
        assert_eq!(read(&path).unwrap(), [unfrozen(1), unfrozen(2), unfrozen(8)]);

        MetricsWriter::resume(dir.path().join("new.jsonl"), 7, None).unwrap();
        assert!(read(&dir.path().join("new.jsonl")).unwrap().is_empty());
    }

    /// The number of lines decides, whatever the lines are; the checkpoint's own line came after
    /// it.
    /// A hole of 64 GiB is one line that no memory has room for.
    #[test]
    fn a_line_without_an_end() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE);
        write(&path, &[unfrozen(0), checkpoint(1)]);
        let whole = std::fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1 << 36).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        let (_, warnings) = MetricsWriter::resume(&path, 1, Some(1)).unwrap();
        assert_eq!((warnings.len(), std::fs::metadata(&path).unwrap().len()), (0, whole));
    }

    #[test]
    fn resume_by_the_number_of_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        // an interval's checkpoint, more of the same step, the epoch's checkpoint
        let all = [unfrozen(1), checkpoint(1), unfrozen(1), checkpoint(1), unfrozen(2)];
        for (told, kept) in [(1, 2), (3, 4), (4, 4), (5, 5)] {
            write(&path, &all);
            let (_, warnings) = MetricsWriter::resume(&path, 1, Some(told)).unwrap();
            assert_eq!((read(&path).unwrap().as_slice(), warnings.len()), (&all[..kept], 0), "{told}");
        }
        write(&path, &all[..3]);
        let (mut writer, warnings) = MetricsWriter::resume(&path, 1, Some(3)).unwrap();
        assert_eq!((writer.told().unwrap(), warnings.len()), (Some(3), 0), "without the checkpoint's own line");
        writer.observe(&unfrozen(7)).unwrap();
        writer.go_back(2).unwrap();
        writer.observe(&unfrozen(8)).unwrap();
        assert_eq!(read(&path).unwrap(), [&all[..2], &[unfrozen(8)]].concat());
        let text = std::fs::read_to_string(&path).unwrap().replacen('{', "[", 1);
        std::fs::write(&path, text).unwrap();
        let (_, warnings) = MetricsWriter::resume(&path, 1, Some(4)).unwrap();
        assert!(warnings[0].contains("metrics.jsonl:1: is no event"), "{warnings:?}");
        assert!(warnings[1].contains("has 3 lines of 4"), "{warnings:?}");
        assert_eq!(read(&path).unwrap(), [checkpoint(1), unfrozen(8)], "what follows is kept");
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
                told: None,
                part: None,
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
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("missing").join(FILE);
        let error = MetricsWriter::create(&path).err().unwrap();
        let expected = format!("{}: cannot create: no such file or directory", path.display());
        assert_eq!(error.to_string(), expected);
    }
}
