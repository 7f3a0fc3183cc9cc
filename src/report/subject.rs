//! A folder that a page is about: of a model, or of a run with several.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::html::{Run, Section, sections};
use super::metrics;
use crate::answer::mistakes::Examined;
use crate::error::{Error, Result};
use crate::files;
use crate::models::RESULT_FILE;
use crate::train::pipeline;
use crate::train::stages::FROM_SCRATCH;

/// What is known of a folder.
pub struct Subject {
    /// As the user names it.
    pub name: String,
    pub runs: Vec<Run>,
    /// `result.json` of a whole run.
    pub result: Option<Value>,
    /// Its answers for labelled texts, where they were asked for.
    pub examined: Option<Examined>,
}

impl Subject {
    /// Reads the metrics of a model's folder, or those of all stages of a run, finished or not.
    ///
    /// # Errors
    /// There are none; a file that cannot be read.
    pub fn load(directory: &Path) -> Result<Self> {
        if !files::exists(directory)? {
            return Err(Error::io(directory, "read", &std::io::ErrorKind::NotFound.into()));
        }
        let folders: Vec<PathBuf> = if files::exists(&directory.join(metrics::FILE))? {
            vec![directory.to_path_buf()]
        } else {
            pipeline::begun_directories(directory)?
        };
        if folders.is_empty() {
            let message = "is no folder of a model or of a run: nothing of it has metrics";
            return Err(Error::file(directory, message)
                .hint("a run over several seeds has a folder for each: name these (OUT/seed-42 OUT/seed-43)"));
        }
        let result = directory.join(RESULT_FILE);
        let result = match files::exists(&result)? {
            true => Some(read_json(&result)?),
            false => None,
        };
        Ok(Subject {
            name: directory.display().to_string().trim_end_matches('/').to_string(),
            runs: folders.iter().map(|folder| Run::load(folder)).collect::<Result<_>>()?,
            result,
            examined: None,
        })
    }

    /// Its stages, each with a name that the like of other subjects have, too: models of one kind
    /// are numbered, and those from scratch count apart where there are others.
    pub(super) fn stages(&self) -> Vec<(String, Section<'_>)> {
        let all = || self.runs.iter().flat_map(|run| sections(&run.events));
        let from_scratch =
            |section: &Section| section.started.part.as_ref().is_some_and(|p| p.starts_with(FROM_SCRATCH));
        let mut named: Vec<(String, Section)> = Vec::new();
        for section in all() {
            let mut name = section.title().to_string();
            let other = |other: &Section| other.title() == section.title() && !from_scratch(other);
            if from_scratch(&section) && all().any(|section| other(&section)) {
                name += &format!(", {FROM_SCRATCH}");
            }
            let same = named.iter().filter(|(_, other)| other.title() == section.title());
            let same = same.filter(|(_, other)| from_scratch(other) == from_scratch(&section)).count();
            if same > 0 {
                name += &format!(", model {}", same + 1);
            }
            named.push((name, section));
        }
        named
    }
}

fn read_json(path: &Path) -> Result<Value> {
    serde_json::from_str(&files::read_text(path)?).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))
}
