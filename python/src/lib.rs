//! The extension module `ulmfit._ulmfit`: the thin floor under the package `ulmfit`, which knows
//! what users of Python expect. Every long call leaves Python's lock to others, and stops at Ctrl-C
//! ([`work`]); a fault is a `UlmfitError` ([`fault`]).

mod classifier;
mod fault;
mod folder;
mod language;
mod training;
mod work;

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use ulmfit::cli::{self, Command, Global};
use ulmfit::error::Result;

/// The module.
#[pymodule]
mod _ulmfit {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::classifier::Panel;
    #[pymodule_export]
    use crate::fault::UlmfitError;
    #[pymodule_export]
    use crate::folder::Folder;
    #[pymodule_export]
    use crate::language::Speaker;
    #[pymodule_export]
    use crate::training::train;
    #[pymodule_export]
    use crate::{answer_files, close, main};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::fault::keep_panics();
        crate::folder::remember_process();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// The command line: `line` begins with the program's name. Gives the exit status.
#[pyfunction]
fn main(py: Python<'_>, line: Vec<OsString>) -> i32 {
    py.detach(|| ulmfit::cli::process(line))
}

/// A command about a model as the command line reads it, with texts from standard input. `flags`:
/// those that follow.
///
/// # Errors
/// The command line's, for flags that it refuses.
fn command(name: &str, model: PathBuf, flags: Vec<String>) -> Result<(Command, Global)> {
    let mut line = vec!["ulmfit".into(), name.into(), "--model".into(), model.into_os_string()];
    line.extend(flags.into_iter().map(Into::into));
    line.extend(["--quiet", "--input", "-"].map(Into::into));
    cli::parse(line)
}

/// At the end of the interpreter: temporary folders go, a GPU is given back.
#[pyfunction]
fn close(py: Python<'_>) -> PyResult<()> {
    if !folder::is_own_process() {
        return Ok(());
    }
    ulmfit::temporary::remove_all();
    py.detach(ulmfit::device::cuda::close).map_err(|error| fault::of(py, &error))
}

/// The files that the folder of a model answers with: names within the folder of a run, and where
/// they are.
#[pyfunction]
fn answer_files(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<(PathBuf, PathBuf)>> {
    ulmfit::models::answer_files(&folder).map_err(|error| fault::of(py, &error))
}
