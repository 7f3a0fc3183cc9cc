//! The simulated driver in the place of the real one.

use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::Library;

use crate::error::{Error, Result};

/// Takes the number of arguments of the next launch of this thread.
type ExpectArguments = unsafe extern "C" fn(u32) -> u32;

static SIMULATOR: OnceLock<Option<ExpectArguments>> = OnceLock::new();

const FILE: &str = "libcudasim.so";

/// Loads the simulated driver: from `$ULMFIT_CUDASIM`, or from beside the program. Must come before every other call of this room, because
/// the first call decides on the driver for the whole life of the process.
///
/// # Errors
/// Where the library is not found or cannot be loaded.
pub fn simulate() -> Result<()> {
    if SIMULATOR.get().is_some() {
        return Ok(());
    }
    let path = find().ok_or_else(|| {
        Error::usage(format!("the simulated CUDA driver ({FILE}) is not there"))
            .hint("build it with 'cargo build --release -p cudasim', or name it in ULMFIT_CUDASIM")
    })?;
    // SAFETY: the library has no constructors (tools/cudasim); it stays loaded for ever.
    let library = unsafe { Library::new(&path) }.map_err(|e| Error::file(&path, format!("cannot load: {e}")))?;
    // SAFETY: the type is that of the function in tools/cudasim.
    let expect = unsafe { library.get::<ExpectArguments>(b"cudasim_expect_arguments") }.ok().map(|f| *f);
    std::mem::forget(library);
    SIMULATOR.get_or_init(|| expect);
    Ok(())
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ULMFIT_CUDASIM") {
        return Some(path.into());
    }
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    // a test lies in deps/, where its dependencies are built
    [folder.join(FILE), folder.join("deps").join(FILE), folder.parent()?.join(FILE)].into_iter().find(|p| p.exists())
}

/// Tells the simulated driver, where it is there, how many arguments the next launch has.
pub(super) fn expect_arguments(count: usize) {
    if let Some(Some(expect)) = SIMULATOR.get() {
        // SAFETY: takes a number, touches nothing of ours.
        unsafe { expect(count as u32) };
    }
}
