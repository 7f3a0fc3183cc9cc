//! Training on texts in memory, by the way that `ulmfit run` goes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use ulmfit::cli::run::Data;
use ulmfit::cli::{self, Command};
use ulmfit::error::{Error, Result};
use ulmfit::models::base::Base;
use ulmfit::report::progress::{Detail, Journal, Progress};
use ulmfit::text::{Document, LABEL_MARK, Origin, Source};
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::TaskName;

use crate::work::{Said, Voice, off_lock};

/// Documents (one text, or the two of a pair) and their labels: one class or number, or any number
/// of labels; one without counts as text alone.
type Labelled = (Vec<Vec<String>>, Vec<Option<Vec<String>>>);

/// Trains into the folder `out`; gives the result's JSON. `task`: what the labels are. `flags`:
/// those of `ulmfit run` that name no data. `verbose`: 0, 1 or 2 (all settings). `hear(kind, text)`
/// gets lines of progress and warnings.
#[pyfunction]
#[pyo3(signature = (out, task, flags, train, valid, test, unlabelled, verbose, hear, threads=None))]
#[allow(clippy::too_many_arguments)]
pub fn train(
    py: Python<'_>,
    out: PathBuf,
    task: String,
    flags: Vec<String>,
    train: Labelled,
    valid: Option<Labelled>,
    test: Option<Labelled>,
    unlabelled: Vec<String>,
    verbose: u8,
    hear: Bound<'_, PyAny>,
    threads: Option<usize>,
) -> PyResult<String> {
    let hear = |said| match said {
        Said::Progress(text) => hear.call1(("progress", text)).map(drop),
        Said::Warning(text) => hear.call1(("warning", text)).map(drop),
    };
    off_lock(py, threads, hear, move |voice| {
        let mut line = ["ulmfit", "run", "--quiet", "--train", "texts", "--out"].map(Into::into).to_vec();
        line.push(out.into_os_string());
        line.extend(flags.into_iter().map(Into::into));
        let (command, global) = cli::parse(line)?;
        let Command::Run(mut args) = command else { return Err(Error::usage("the flags are not those of run")) };
        if args.base.is_none() && args.corpus.is_empty() && args.recipe.general.recipe.is_none() {
            // asked for by name, it is never left out in silence
            args.base = Some(Base::ENGLISH);
        }
        let texts = |texts: Vec<String>| (texts.into_iter().map(|text| vec![text]).collect(), Vec::new());
        let unlabelled = (!unlabelled.is_empty()).then(|| source("unlabelled", texts(unlabelled)));
        let data = Data {
            train: source("the texts", train),
            valid: valid.map(|data| source("valid", data)),
            test: test.map(|data| source("test", data)),
            unlabelled: unlabelled.into_iter().collect(),
        };
        let open = |wanted: TaskName| match wanted {
            TaskName::Tags => Err(Error::usage("from Python, tags of words cannot be learned")
                .hint("train with 'ulmfit run --task tags', and tag with 'ulmfit tag'")),
            wanted if wanted.name() != task => {
                let message = format!("the settings ask for the task '{}'", wanted.name());
                Err(Error::usage(message).hint(format!("say so to fit, too: task='{}'", wanted.name())))
            }
            _ => Ok(data.clone()),
        };
        let detail = match verbose {
            0 => Detail::Quiet,
            1 => Detail::Normal,
            _ => Detail::Verbose,
        };
        let (voice, journal) = (Arc::new(voice), Journal::default());
        let listener = || Box::new(Listener::new(voice.clone(), detail, &journal)) as Box<dyn Observer>;
        let (result, _) = cli::run::train(&args, &global, &open, Some(&listener))?;
        Ok(result.to_string())
    })
}

/// Documents in memory, with their number (from 1) in the place of a line.
fn source(name: &str, (texts, labels): Labelled) -> Source {
    let file: Arc<str> = name.into();
    let labels = labels.into_iter().chain(std::iter::repeat(None));
    let document = |(row, (fields, labels)): (usize, (Vec<String>, Option<Vec<String>>))| {
        let mut document = Document::from_fields(fields);
        document.label = labels.map(|labels| labels.join(&LABEL_MARK.to_string()));
        document.origin = Origin { file: file.clone(), line: 1 + row as u64 };
        document
    };
    let documents: Vec<Document> = texts.into_iter().zip(labels).enumerate().map(document).collect();
    Source::of_texts(name, documents)
}

/// Tells Python what `ulmfit run` tells people.
struct Listener {
    voice: Arc<Voice>,
    progress: Progress,
    quiet: bool,
}

impl Listener {
    fn new(voice: Arc<Voice>, detail: Detail, journal: &Journal) -> Self {
        let progress = Progress::lines(Box::new(Lines(voice.clone())), detail, journal);
        Listener { voice, progress, quiet: detail == Detail::Quiet }
    }
}

impl Observer for Listener {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Warning { text } => self.voice.say(Said::Warning(text.clone())),
            _ if self.quiet => {}
            event => self.progress.observe(event)?,
        }
        Ok(())
    }
}

/// Writes progress to Python.
struct Lines(Arc<Voice>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.say(Said::Progress(String::from_utf8_lossy(bytes).into_owned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
