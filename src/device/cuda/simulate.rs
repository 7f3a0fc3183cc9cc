//! The simulated driver in the place of the real one.

use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::{Library, Symbol};

use crate::error::{Error, Result};
use crate::trace::{Layer, Pass};

/// The functions that the simulated driver has besides a real one's (tools/cudasim/README.md).
struct Simulator {
    library: Library,
    /// Takes the number of arguments of the next launch of this thread.
    expect_arguments: Option<unsafe extern "C" fn(u32) -> u32>,
}

static SIMULATOR: OnceLock<Simulator> = OnceLock::new();

const FILE: &str = "libcudasim.so";

/// Loads the simulated driver: from `$ULMFIT_CUDASIM`, or from beside the program. Must come before
/// every other call of this room, because the first call decides on the driver for the whole life
/// of the process.
///
/// # Errors
/// Where the library is not found or cannot be loaded.
///
/// `gpu`: which one it presents (`v100`, `a100`, `h100`, `rtx4090`; tools/cudasim/README.md); its
/// own choice where none is named.
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
    let expect_arguments = unsafe { library.get(b"cudasim_expect_arguments") }.ok().map(|f| *f);
    let simulator = SIMULATOR.get_or_init(|| Simulator { library, expect_arguments });
    match gpu {
        None => Ok(()),
        Some(gpu) => simulator.set("gpu", gpu).map_err(|_| Error::usage(format!("cudasim knows no GPU {gpu:?}"))),
    }
}

/// Sets a switch of the simulated driver by the name in its README.
///
/// # Errors
/// There is no simulated driver, or it does not know the switch or the value.
pub fn switch(key: &str, value: &str) -> Result<()> {
    simulator()?.set(key, value)
}

/// Forgets what was counted.
pub fn reset_counters() -> Result<()> {
    let f: Symbol<unsafe extern "C" fn() -> u32> = simulator()?.symbol(b"cudasim_reset_counters")?;
    // SAFETY: takes nothing, touches nothing of ours.
    match unsafe { f() } {
        0 => Ok(()),
        code => Err(Error::data(format!("cudasim does not forget its counters: error {code}"))),
    }
}

/// The counters of kernels since, as JSON: an object of their names and counters.
pub fn kernel_counters() -> Result<String> {
    simulator()?.text(b"cudasim_counters_json")
}

/// The counters since, as JSON, by the operation that launched a kernel and by kernel.
/// Operations are known while [spans](crate::trace) are recorded; a label is
/// `operation|layer|direction`. Copies and fills are under none.
pub fn counters() -> Result<String> {
    simulator()?.text(b"cudasim_labelled_json")
}

/// The GPU that is presented and its published peaks, as JSON.
pub fn presented() -> Result<String> {
    simulator()?.text(b"cudasim_device_json")
}

fn simulator() -> Result<&'static Simulator> {
    SIMULATOR.get().ok_or_else(|| Error::data("the simulated CUDA driver is not in use"))
}

impl Simulator {
    fn symbol<T>(&self, name: &[u8]) -> Result<Symbol<T>> {
        // SAFETY: every caller gives the type that tools/cudasim/README.md declares.
        unsafe { self.library.get(name) }
            .map_err(|e| Error::data(format!("the simulated CUDA driver is of another version: {e}")))
    }

    fn set(&self, key: &str, value: &str) -> Result<()> {
        let f: Symbol<unsafe extern "C" fn(*const c_char, *const c_char) -> u32> = self.symbol(b"cudasim_set")?;
        let text = |t: &str| CString::new(t).map_err(|_| Error::usage(format!("{t:?} has a zero byte")));
        let (name, setting) = (text(key)?, text(value)?);
        // SAFETY: both texts end with a zero and live through the call.
        match unsafe { f(name.as_ptr(), setting.as_ptr()) } {
            0 => Ok(()),
            _ => Err(Error::data(format!("cudasim takes no {key} '{value}'"))),
        }
    }

    /// A text that the simulator writes.
    fn text(&self, name: &[u8]) -> Result<String> {
        type Give = unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> u32;
        let give: Symbol<Give> = self.symbol(name)?;
        let mut needed = 0;
        // SAFETY: no bytes are written where there is room for none.
        let mut code = unsafe { give(std::ptr::null_mut(), 0, &mut needed) };
        let mut text = vec![0u8; needed + 1];
        if code == 0 {
            // SAFETY: the buffer has the length that is said.
            code = unsafe { give(text.as_mut_ptr().cast(), text.len(), &mut needed) };
        }
        text.truncate(needed);
        match code {
            0 => String::from_utf8(text).map_err(|_| Error::data("cudasim answers in no text")),
            code => Err(Error::data(format!("cudasim does not answer: error {code}"))),
        }
    }
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

/// Tells the simulated driver, where it is there, how many arguments the next launch has, and what
/// it is for.
pub(super) fn expect_launch(arguments: usize, purpose: Option<(&'static str, Layer, Pass)>) {
    let Some(simulator) = SIMULATOR.get() else { return };
    if let Some(expect) = simulator.expect_arguments {
        // SAFETY: takes a number, touches nothing of ours.
        unsafe { expect(arguments as u32) };
    }
    if let Some((operation, layer, pass)) = purpose {
        let label = CString::new(format!("{operation}|{layer}|{}", pass.name())).expect("names have no zero");
        if let Ok(f) = simulator.symbol::<unsafe extern "C" fn(*const c_char) -> u32>(b"cudasim_label") {
            // SAFETY: the text ends with a zero and lives through the call.
            unsafe { f(label.as_ptr()) };
        }
    }
}
