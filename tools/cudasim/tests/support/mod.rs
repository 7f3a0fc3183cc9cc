//! Puts the simulated driver under cudarc, and calls its own functions.
#![allow(dead_code)]

use std::ffi::{CString, c_char, c_uint};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction};
use libloading::os::unix::{Library, Symbol};

/// The library lies beside the test, or in the folder above.
fn path() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let found = [deps.join("libcudasim.so"), deps.parent().unwrap().join("libcudasim.so")];
    found.into_iter().find(|p| p.exists()).expect("libcudasim.so is built with the tests")
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    // SAFETY: the library has no constructors; it stays loaded for ever.
    LIBRARY.get_or_init(|| unsafe { Library::new(path()) }.unwrap())
}

fn symbol<T>(name: &str) -> Symbol<T> {
    // SAFETY: every caller gives the type that src/driver/api.rs declares.
    unsafe { library().get(name.as_bytes()) }.unwrap()
}

/// One test at a time uses the driver: its state is that of the process.
pub struct Sim {
    pub context: Arc<CudaContext>,
    _turn: MutexGuard<'static, ()>,
}

impl Sim {
    pub fn new(gpu: &str) -> Sim {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        library();
        for (key, value) in [("gpu", gpu), ("print", "off"), ("seed", "1"), ("checks", "on"), ("delay_errors", "off")] {
            set(key, value);
        }
        clear();
        let context = CudaContext::new(0).unwrap();
        // SAFETY: every test uses one stream.
        unsafe { context.disable_event_tracking() };
        Sim { context, _turn: turn }
    }

    pub fn function(&self, ptx: &str, name: &str) -> CudaFunction {
        self.context.load_module(ptx.into()).unwrap().load_function(name).unwrap()
    }
}

pub fn set(key: &str, value: &str) {
    let f: Symbol<unsafe extern "C" fn(*const c_char, *const c_char) -> u32> = symbol("cudasim_set");
    let (key, value) = (CString::new(key).unwrap(), CString::new(value).unwrap());
    // SAFETY: both strings live through the call.
    assert_eq!(unsafe { f(key.as_ptr(), value.as_ptr()) }, 0);
}

pub fn clear() {
    let f: Symbol<unsafe extern "C" fn() -> u32> = symbol("cudasim_clear");
    // SAFETY: no arguments.
    assert_eq!(unsafe { f() }, 0);
}

pub fn reset_counters() {
    let f: Symbol<unsafe extern "C" fn() -> u32> = symbol("cudasim_reset_counters");
    // SAFETY: no arguments.
    assert_eq!(unsafe { f() }, 0);
}

pub fn expect_arguments(n: u32) {
    let f: Symbol<unsafe extern "C" fn(c_uint) -> u32> = symbol("cudasim_expect_arguments");
    // SAFETY: no pointers.
    assert_eq!(unsafe { f(n) }, 0);
}

pub fn counter(kernel: &str, name: &str) -> u64 {
    let f: Symbol<unsafe extern "C" fn(*const c_char, *const c_char, *mut u64) -> u32> = symbol("cudasim_counter");
    let (kernel, name) = (CString::new(kernel).unwrap(), CString::new(name).unwrap());
    let mut value = 0;
    // SAFETY: strings and value live through the call.
    assert_eq!(unsafe { f(kernel.as_ptr(), name.as_ptr(), &mut value) }, 0);
    value
}

fn string(f: impl Fn(*mut c_char, usize, *mut usize) -> u32) -> String {
    let mut needed = 0;
    assert_eq!(f(std::ptr::null_mut(), 0, &mut needed), 0);
    let mut buffer = vec![0u8; needed + 1];
    assert_eq!(f(buffer.as_mut_ptr().cast(), buffer.len(), &mut needed), 0);
    buffer.pop();
    String::from_utf8(buffer).unwrap()
}

pub fn counters_json() -> String {
    let f: Symbol<unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> u32> = symbol("cudasim_counters_json");
    // SAFETY: `string` gives a buffer of the length it says.
    string(|to, len, needed| unsafe { f(to, len, needed) })
}

pub fn leaks() -> String {
    let f: Symbol<unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> u32> = symbol("cudasim_leaks");
    // SAFETY: as above.
    string(|to, len, needed| unsafe { f(to, len, needed) })
}

/// All findings since the last `clear`.
pub fn findings() -> Vec<String> {
    let count: Symbol<unsafe extern "C" fn() -> c_uint> = symbol("cudasim_finding_count");
    let f: Symbol<unsafe extern "C" fn(c_uint, *mut c_char, usize, *mut usize) -> u32> = symbol("cudasim_finding");
    // SAFETY: as above.
    (0..unsafe { count() }).map(|n| string(|to, len, needed| unsafe { f(n, to, len, needed) })).collect()
}

/// Numbers in [-1, 1) from a fixed sequence.
pub fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2654435761).wrapping_add(1);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1664525).wrapping_add(1013904223);
            (s >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
