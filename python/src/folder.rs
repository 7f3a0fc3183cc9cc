//! A folder for a model that nobody named: gone with its object, and with the process.

use std::path::PathBuf;
use std::sync::OnceLock;

use pyo3::prelude::*;
use ulmfit::temporary::TemporaryFolder;

use crate::fault;

/// The process that imported the module. One that was forked from it owns no folder.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Remembers the process that imports the module.
pub fn remember_process() {
    PROCESS.get_or_init(std::process::id);
}

/// Whether this is the process that imported the module.
pub fn is_own_process() -> bool {
    PROCESS.get() == Some(&std::process::id())
}

/// A temporary folder, open to this user alone.
#[pyclass(frozen)]
pub struct Folder {
    folder: Option<TemporaryFolder>,
    process: u32,
}

#[pymethods]
impl Folder {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let folder = TemporaryFolder::new().map_err(|error| fault::of(py, &error))?;
        Ok(Folder { folder: Some(folder), process: std::process::id() })
    }

    /// A folder within it, for a model: it is not there yet.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("model"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // the folder belongs to the process that made it
        if self.process != std::process::id() {
            std::mem::forget(self.folder.take());
        }
    }
}
