//! The driver's entry points. All state lies behind one lock; work runs at once, in the call that
//! asks for it, which is one of the orders that streams allow.

mod api;
mod codes;
mod context;
mod launch;
mod memory;
mod module;
mod stream;
mod stubs;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::Config;
use crate::counters::KernelCounters;
use crate::decode::Program;
use crate::memory::DeviceMemory;
use crate::report::{Finding, Kind};

pub(crate) const INVALID_VALUE: u32 = 1;
pub(crate) const OUT_OF_MEMORY: u32 = 2;
pub(crate) const NOT_INITIALIZED: u32 = 3;
pub(crate) const INVALID_DEVICE: u32 = 101;
pub(crate) const INVALID_CONTEXT: u32 = 201;
pub(crate) const INVALID_PTX: u32 = 218;
pub(crate) const UNSUPPORTED_PTX_VERSION: u32 = 222;
pub(crate) const NO_BINARY_FOR_GPU: u32 = 209;
pub(crate) const FILE_NOT_FOUND: u32 = 301;
pub(crate) const INVALID_HANDLE: u32 = 400;
pub(crate) const NOT_FOUND: u32 = 500;
pub(crate) const OUT_OF_RESOURCES: u32 = 701;
pub(crate) const COOPERATIVE_TOO_LARGE: u32 = 720;
pub(crate) const NOT_SUPPORTED: u32 = 801;
pub(crate) const CAPTURE_UNSUPPORTED: u32 = 900;
pub(crate) const CAPTURE_INVALIDATED: u32 = 901;
pub(crate) const CAPTURE_ISOLATION: u32 = 905;
pub(crate) const CAPTURE_IMPLICIT: u32 = 906;
pub(crate) const ILLEGAL_STATE: u32 = 401;

/// A pointer-sized name of a driver object: its kind in the upper bits, so that one kind is never
/// taken for another.
pub(crate) type Handle = *mut c_void;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Object {
    Context = 0x11,
    Module = 0x12,
    Function = 0x13,
    Stream = 0x14,
    Event = 0x15,
    Graph = 0x16,
    Exec = 0x17,
}

pub(crate) fn handle(object: Object, index: usize) -> Handle {
    ((object as usize) << 40 | (index + 1) << 4) as Handle
}

pub(crate) fn index(object: Object, handle: Handle) -> Result<usize, Refusal> {
    let value = handle as usize;
    if value >> 40 == object as usize {
        (value & 0xff_ffff_ffff).checked_shr(4).and_then(|v| v.checked_sub(1)).ok_or_else(|| refuse(INVALID_HANDLE, ""))
    } else {
        Err(refuse(INVALID_HANDLE, format!("{value:#x} is no handle of the kind this call takes")))
    }
}

/// Why a call does not do what it was asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: u32,
    /// For the report; empty where the code is an ordinary answer.
    pub message: String,
    pub kind: Kind,
}

pub(crate) fn refuse(code: u32, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into(), kind: Kind::Call }
}

pub(crate) type Answer<T = ()> = Result<T, Refusal>;

pub(crate) struct LoadedModule {
    pub functions: Vec<(String, usize)>,
    pub globals: Vec<(String, u64, u64)>,
    pub unloaded: bool,
}

pub(crate) struct Function {
    pub program: Arc<Program>,
    pub module: usize,
    /// Dynamic shared memory asked for by `cuFuncSetAttribute`.
    pub max_dynamic: u32,
}

pub(crate) struct State {
    pub config: Config,
    pub initialised: bool,
    pub memory: DeviceMemory,
    pub host: BTreeMap<usize, std::alloc::Layout>,
    pub modules: Vec<LoadedModule>,
    pub functions: Vec<Function>,
    pub streams: Vec<stream::Stream>,
    pub events: Vec<stream::Event>,
    pub graphs: Vec<Option<Vec<stream::Node>>>,
    pub execs: Vec<Option<stream::Executable>>,
    pub retained: u32,
    /// The error of a kernel, which every call returns from then on.
    pub sticky: Option<u32>,
    /// One that the client has not seen yet.
    pub delayed: Option<u32>,
    pub kernels: BTreeMap<String, KernelCounters>,
    /// By what the client called its launches, and by kernel; copies and fills without a label, in
    /// parentheses.
    pub labelled: BTreeMap<(String, String), KernelCounters>,
    pub label: Arc<str>,
    pub findings: Vec<Finding>,
    pub launch: u64,
    /// Nanoseconds that kernels would take at one warp instruction a clock: what events show.
    pub time: u64,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

thread_local! {
    /// The context of the thread is set.
    static CURRENT: Cell<bool> = const { Cell::new(false) };
    /// Arguments that the client says it passes at its next launch.
    static ARGUMENTS: Cell<Option<u32>> = const { Cell::new(None) };
}

impl State {
    fn new(config: Config) -> State {
        State {
            config,
            initialised: false,
            memory: DeviceMemory::default(),
            host: BTreeMap::new(),
            modules: Vec::new(),
            functions: Vec::new(),
            streams: vec![stream::Stream::default()],
            events: Vec::new(),
            graphs: Vec::new(),
            execs: Vec::new(),
            retained: 0,
            sticky: None,
            delayed: None,
            kernels: BTreeMap::new(),
            labelled: BTreeMap::new(),
            label: Arc::from(""),
            findings: Vec::new(),
            launch: 0,
            time: 0,
        }
    }

    /// Notes a finding, and prints it.
    pub fn found(&mut self, finding: Finding) {
        if self.config.print {
            eprintln!("{finding}");
        }
        self.findings.push(finding);
    }
}

/// The state, whether or not a thread died while it held it.
pub(crate) fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// When a call is allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Init,
    /// A context of the thread, and none of the errors that stay.
    Context,
    /// The same, and errors that were delayed come out here.
    Sync,
}

/// Runs one call.
pub(crate) fn call(name: &str, needs: Needs, f: impl FnOnce(&mut State) -> Answer) -> u32 {
    let mut guard = lock();
    let fresh = guard.is_none();
    let state = guard.get_or_insert_with(|| State::new(Config::default()));
    if fresh {
        match Config::from_env() {
            Ok(config) => state.config = config,
            Err(message) => {
                state.found(Finding::outside(Kind::Call, INVALID_VALUE, message));
                *guard = None;
                return INVALID_VALUE;
            }
        }
    }
    if needs != Needs::Nothing && !state.initialised {
        return NOT_INITIALIZED;
    }
    if matches!(needs, Needs::Context | Needs::Sync) {
        if !CURRENT.get() {
            state.found(Finding::outside(Kind::Call, INVALID_CONTEXT, format!("{name}: the thread has no context")));
            return INVALID_CONTEXT;
        }
        if needs == Needs::Sync
            && let Some(code) = state.delayed.take()
        {
            state.sticky = Some(code);
        }
        if let Some(code) = state.sticky {
            return code;
        }
    }
    match f(state) {
        Ok(()) => 0,
        Err(refusal) => {
            if !refusal.message.is_empty() {
                state.found(Finding::outside(refusal.kind, refusal.code, format!("{name}: {}", refusal.message)));
            }
            refusal.code
        }
    }
}

/// Writes a result where the client wants it.
pub(crate) fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(refuse(INVALID_VALUE, "a result has no place to go: null pointer"));
    }
    // SAFETY: the driver's contract is that the pointer is valid for a value of its type; null was
    // refused above.
    unsafe { to.write(value) };
    Ok(())
}

/// A C string of the client.
pub(crate) fn text(from: *const c_char) -> Answer<String> {
    if from.is_null() {
        return Err(refuse(INVALID_VALUE, "a name is a null pointer"));
    }
    // SAFETY: the driver's contract is that the pointer is a string that ends in zero; null was
    // refused above.
    let text = unsafe { CStr::from_ptr(from) };
    Ok(text.to_string_lossy().into_owned())
}

/// Bytes of the client.
pub(crate) fn bytes<'a>(from: *const c_void, len: usize) -> Answer<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(refuse(INVALID_VALUE, "the host pointer is null"));
    }
    // SAFETY: the driver's contract is that the pointer is valid for `len` bytes for as long as the
    // call lasts.
    Ok(unsafe { std::slice::from_raw_parts(from.cast(), len) })
}

/// Bytes of the client to write to.
pub(crate) fn bytes_mut<'a>(to: *mut c_void, len: usize) -> Answer<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if to.is_null() {
        return Err(refuse(INVALID_VALUE, "the host pointer is null"));
    }
    // SAFETY: as in `bytes`, and nobody else uses the memory during the call.
    Ok(unsafe { std::slice::from_raw_parts_mut(to.cast(), len) })
}
