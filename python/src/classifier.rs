//! What the folder of a classifier answers, by the way that `ulmfit predict` goes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use ulmfit::answer::panel;
use ulmfit::cli::Command;
use ulmfit::error::{Error, Result};
use ulmfit::nn::Answers;
use ulmfit::text::{Document, Source};

use crate::work::{go_on, off_lock};

/// Texts that are answered between two looks for Ctrl-C. An answer depends on its own text alone.
const AT_ONCE: usize = 512;

/// Probabilities of a text, or nothing where it has no words.
type Row = Option<Vec<f64>>;

/// The models of a folder.
#[pyclass(frozen)]
pub struct Panel {
    panel: Arc<Mutex<panel::Panel>>,
    labels: Vec<String>,
    answers: Answers,
    thresholds: Vec<f64>,
    pair: bool,
}

#[pymethods]
impl Panel {
    /// `flags`: those of `ulmfit predict` besides `--model` and the texts.
    #[new]
    fn new(py: Python<'_>, folder: PathBuf, flags: Vec<String>) -> PyResult<Self> {
        let loaded = off_lock(
            py,
            None,
            |_| Ok(()),
            move |_| {
                let (command, global) = crate::command("predict", folder, flags)?;
                let Command::Predict(args) = command else {
                    return Err(Error::usage("the flags are not those of predict"));
                };
                let (second, voices) = (args.ensemble.as_deref(), args.blend.voices());
                panel::Panel::load(&args.model, second, voices, || global.graph())
            },
        )?;
        let labels = loaded.labels().to_vec();
        Ok(Panel {
            answers: loaded.kind(),
            thresholds: loaded.decision().thresholds(labels.len()),
            pair: loaded.is_pair(),
            labels,
            panel: Arc::new(Mutex::new(loaded)),
        })
    }

    /// Names of the classes, in the order of the probabilities.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.labels.clone()
    }

    /// What is said of a text: `class`, `labels` or `number`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.answers {
            Answers::Class => "class",
            Answers::Labels => "labels",
            Answers::Number => "number",
            Answers::Tags { .. } => "tags",
        }
    }

    /// From which probability on a label is there.
    #[getter]
    fn thresholds(&self) -> Vec<f64> {
        self.thresholds.clone()
    }

    /// Whether a document is a pair of texts.
    #[getter]
    fn is_pair(&self) -> bool {
        self.pair
    }

    /// The probabilities of every document (its fields; one field: a text), and what is doubtful
    /// about the texts.
    #[pyo3(signature = (documents, threads=None))]
    fn predict(
        &self,
        py: Python<'_>,
        documents: Vec<Vec<String>>,
        threads: Option<usize>,
    ) -> PyResult<(Vec<Row>, Option<String>)> {
        let panel = self.panel.clone();
        off_lock(
            py,
            threads,
            |_| Ok(()),
            move |_| {
                let broken = |_| Error::data("an earlier call broke off within this model: load it again");
                answers(&mut *panel.lock().map_err(broken)?, documents)
            },
        )
    }
}

/// Answers by parts, so that Ctrl-C is seen in between.
fn answers(panel: &mut panel::Panel, documents: Vec<Vec<String>>) -> Result<(Vec<Row>, Option<String>)> {
    let (mut rows, mut warning) = (Vec::with_capacity(documents.len()), None);
    for part in documents.chunks(AT_ONCE) {
        go_on()?;
        let documents: Vec<Document> = part.iter().cloned().map(Document::from_fields).collect();
        let answers = panel.predict(&Source::of_texts("the texts", documents))?;
        warning = warning.or_else(|| panel.warning().map(str::to_string));
        rows.extend(answers.into_iter().map(|a| a.row.skipped.is_none().then_some(a.probabilities)));
    }
    Ok((rows, warning))
}
