//! The simulated CUDA driver in a test's process: loaded in the place of a real one, one test at a
//! time. With `ULMFIT_REQUIRE_CUDA=1` it is the real driver and its first GPU, which has no
//! switches and finds nothing: what only the simulator can show is then not asked.

use std::ffi::{CString, c_char, c_uint};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::os::unix::{Library, Symbol};
use ulmfit::device::cuda;

/// Whether the tests run on a real GPU.
pub fn is_real() -> bool {
    std::env::var("ULMFIT_REQUIRE_CUDA").as_deref() == Ok("1")
}

/// `--device` of the same.
pub fn device() -> &'static str {
    if is_real() { "cuda" } else { "cudasim" }
}

/// The program's name of the device.
pub fn name() -> &'static str {
    if is_real() { "cuda:0" } else { "cudasim" }
}

/// Whether a test that needs the simulator has to be left out, which is then printed.
pub fn lacks_simulator(test: &str) -> bool {
    if is_real() {
        println!("skipped on a real GPU: {test} asks the simulator");
    }
    is_real()
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        cuda::simulate(None).unwrap_or_else(|e| panic!("{e}"));
        // SAFETY: the library is already loaded, under this name.
        unsafe { Library::open(Some("libcuda.so"), libloading::os::unix::RTLD_NOW) }
            .expect("the simulated driver is loaded")
    })
}

fn symbol<T>(name: &str) -> Symbol<T> {
    // SAFETY: every caller gives the type that tools/cudasim/README.md declares.
    unsafe { library().get(name.as_bytes()) }.unwrap()
}

static TURN: Mutex<()> = Mutex::new(());

/// Tests that simulate take turns.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The simulated driver for as long as this lives, with every switch as it begins; other tests of
/// the process wait.
pub struct Sim {
    _turn: MutexGuard<'static, ()>,
}

impl Sim {
    /// Of the same GPU in all tests of a process: contexts are opened once.
    pub fn new(gpu: &str) -> Sim {
        let turn = turn();
        if is_real() && gpu == "v100" {
            // SAFETY: this test is alone in its process, which opens the GPU later.
            unsafe { std::env::set_var("ULMFIT_PTX", "sm_70") };
        }
        for (key, value) in [
            ("gpu", gpu),
            ("checks", "on"),
            ("delay_errors", "off"),
            ("refuse", "off"),
            ("print", "off"),
            ("seed", "1"),
            ("reuse", "off"),
        ] {
            set(key, value);
        }
        // of a test that failed
        clear();
        Sim { _turn: turn }
    }
}

/// A switch of the simulator.
pub fn set(key: &str, value: &str) {
    if is_real() {
        return;
    }
    let f: Symbol<unsafe extern "C" fn(*const c_char, *const c_char) -> u32> = symbol("cudasim_set");
    let (key, value) = (CString::new(key).unwrap(), CString::new(value).unwrap());
    // SAFETY: both strings live through the call.
    assert_eq!(unsafe { f(key.as_ptr(), value.as_ptr()) }, 0);
}

/// A counter of a kernel.
pub fn counter(kernel: &str, name: &str) -> u64 {
    let f: Symbol<unsafe extern "C" fn(*const c_char, *const c_char, *mut u64) -> u32> = symbol("cudasim_counter");
    let (kernel, name) = (CString::new(kernel).unwrap(), CString::new(name).unwrap());
    let mut value = 0;
    // SAFETY: strings and value live through the call.
    assert_eq!(unsafe { f(kernel.as_ptr(), name.as_ptr(), &mut value) }, 0);
    value
}

pub fn reset_counters() {
    assert!(!is_real(), "a real GPU counts nothing");
    let f: Symbol<unsafe extern "C" fn() -> u32> = symbol("cudasim_reset_counters");
    // SAFETY: no arguments.
    assert_eq!(unsafe { f() }, 0);
}

/// Forgets findings, and the error that a context keeps after one.
pub fn clear() {
    if is_real() {
        return;
    }
    let f: Symbol<unsafe extern "C" fn() -> u32> = symbol("cudasim_clear");
    // SAFETY: no arguments.
    assert_eq!(unsafe { f() }, 0);
}

/// The resources that were taken of the driver and not given back, in words.
pub fn leaks() -> String {
    if is_real() {
        return String::new();
    }
    let f: Symbol<unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> u32> = symbol("cudasim_leaks");
    let mut buffer = vec![0u8; 1 << 20];
    let mut needed = 0;
    // SAFETY: the buffer has the length that is said.
    assert_eq!(unsafe { f(buffer.as_mut_ptr().cast(), buffer.len(), &mut needed) }, 0);
    buffer.truncate(buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len()));
    String::from_utf8_lossy(&buffer).into_owned()
}

/// Everything that the simulator has found.
pub fn findings() -> Vec<String> {
    if is_real() {
        return Vec::new();
    }
    let count: Symbol<unsafe extern "C" fn() -> c_uint> = symbol("cudasim_finding_count");
    let f: Symbol<unsafe extern "C" fn(c_uint, *mut c_char, usize, *mut usize) -> u32> = symbol("cudasim_finding");
    // SAFETY: no arguments.
    let count = unsafe { count() };
    let text = |n| {
        let mut buffer = vec![0u8; 4096];
        let mut needed = 0;
        // SAFETY: the buffer has the length that is said.
        assert_eq!(unsafe { f(n, buffer.as_mut_ptr().cast(), buffer.len(), &mut needed) }, 0);
        buffer.truncate(buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len()));
        String::from_utf8_lossy(&buffer).into_owned()
    };
    (0..count).map(text).collect()
}
