//! The simulated driver in the place of the real one.

use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::Library;

use crate::error::{Error, Result};

/// Takes the number of arguments of the next launch of this thread.
type ExpectArguments = unsafe extern "C" fn(u32) -> u32;

/// Sets a switch.
type Set = unsafe extern "C" fn(*const c_char, *const c_char) -> u32;

static SIMULATOR: OnceLock<Option<ExpectArguments>> = OnceLock::new();

const FILE: &str = "libcudasim.so";

/// Loads the simulated driver: from `$ULMFIT_CUDASIM`, or from beside the program. Must come before every other call of this room, because
/// the first call decides on the driver for the whole life of the process.
///
/// # Errors
/// Where the library is not found or cannot be loaded.
///
/// `gpu`: which one it presents (`v100`, `a100`, `h100`, `rtx4090`; tools/cudasim/README.md); its own choice where none is named.
pub fn simulate(gpu: Option<&str>) -> Result<()> {
    if SIMULATOR.get().is_some() {
        return Ok(());
    }
    let path = find().ok_or_else(|| {
        Error::usage(match std::env::var_os("ULMFIT_CUDASIM") {
            Some(path) => format!("ULMFIT_CUDASIM={}: there is no such file", path.display()),
            None => format!("the simulated CUDA driver ({FILE}) is not there"),
        })
        .hint("build it with 'cargo build --release -p cudasim', or name it in ULMFIT_CUDASIM")
    })?;
    // SAFETY: the library has no constructors (tools/cudasim); it stays loaded for ever.
    let library = unsafe { Library::new(&path) }.map_err(|e| Error::file(&path, format!("cannot load: {e}")))?;
    // SAFETY: the type is that of the function in tools/cudasim.
    let expect = unsafe { library.get::<ExpectArguments>(b"cudasim_expect_arguments") }.ok().map(|f| *f);
    if let Some(gpu) = gpu {
        // SAFETY: as above.
        let set = unsafe { library.get::<Set>(b"cudasim_set") }.map_err(|e| Error::file(&path, e.to_string()))?;
        let gpu = CString::new(gpu).map_err(|_| Error::usage("the name of a GPU has no zero byte"))?;
        // SAFETY: both texts end with a zero and live through the call.
        if unsafe { set(c"gpu".as_ptr(), gpu.as_ptr()) } != 0 {
            return Err(Error::usage(format!("cudasim knows no GPU {gpu:?}")));
        }
    }
    std::mem::forget(library);
    SIMULATOR.get_or_init(|| expect);
    Ok(())
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ULMFIT_CUDASIM") {
        return Some(PathBuf::from(path)).filter(|path| path.exists());
    }
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    // a test lies in deps/, where its dependencies are built
    [folder.join(FILE), folder.join("deps").join(FILE), folder.parent()?.join(FILE)].into_iter().find(|p| p.exists())
}

/// Whether GPUs of this process are simulated.
pub fn is_simulated() -> bool {
    SIMULATOR.get().is_some()
}

/// Tells the simulated driver, where it is there, how many arguments the next launch has.
pub(super) fn expect_arguments(count: usize) {
    if let Some(Some(expect)) = SIMULATOR.get() {
        // SAFETY: takes a number, touches nothing of ours.
        unsafe { expect(count as u32) };
    }
}
