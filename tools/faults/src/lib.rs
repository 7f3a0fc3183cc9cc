//! A library to preload (`LD_PRELOAD`): counts the calls of the file system that concern paths with
//! `FAULTS_PATH` in them, or descriptors that were opened from such a path, and makes one of them
//! fail.
//!
//! | variable | what it says |
//! |---|---|
//! | `FAULTS_PATH` | a part of the paths that count |
//! | `FAULTS_OPS` | the calls that count, as `open,read,write,sync,rename,link,unlink,mkdir,rmdir,truncate,list,stat`; all without it |
//! | `FAULTS_N` | the call that fails, counted from 1 |
//! | `FAULTS_MODE` | `ENOSPC`, `EIO`, `EACCES`, `EINTR`: the error; `short`: half of a read or write; `kill`, `killafter`: the process dies before or after it; `SIGINT`, `SIGTERM`, `SIGHUP`: the process gets the signal |
//! | `FAULTS_STICKY` | every later call fails, too: a disk that stays full |
//! | `FAULTS_LOG` | a file that gets a line for every call that counts |
//!
//! Calls are counted by one number over all threads. The library takes nothing from the heap.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{mode_t, off_t, off64_t, size_t, ssize_t};

/// Descriptors beyond are not watched.
const DESCRIPTORS: usize = 4096;

struct Settings {
    part: Option<&'static [u8]>,
    ops: Option<&'static [u8]>,
    at: u64,
    mode: Option<&'static [u8]>,
    sticky: bool,
    log: c_int,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();
static COUNT: AtomicU64 = AtomicU64::new(0);
static WATCHED: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];

fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: the environment of the process is not changed while it runs; the string stays.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    }
}

fn settings() -> &'static Settings {
    SETTINGS.get_or_init(|| {
        let number = |text: &[u8]| text.iter().fold(0u64, |n, b| n * 10 + u64::from(b.wrapping_sub(b'0')));
        let log = variable(c"FAULTS_LOG").map_or(-1, |path| {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
            // SAFETY: `path` ends with a zero, as every variable does; the call itself, so that
            // nothing of this library is met.
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644) as c_int }
        });
        Settings {
            part: variable(c"FAULTS_PATH").filter(|part| !part.is_empty()),
            ops: variable(c"FAULTS_OPS"),
            at: variable(c"FAULTS_N").map_or(0, number),
            mode: variable(c"FAULTS_MODE"),
            sticky: variable(c"FAULTS_STICKY").is_some(),
            log,
        }
    })
}

fn is_watched(descriptor: c_int) -> bool {
    usize::try_from(descriptor).ok().and_then(|d| WATCHED.get(d)).is_some_and(|w| w.load(Ordering::Relaxed))
}

fn watch(descriptor: c_int, on: bool) {
    if let Some(watched) = usize::try_from(descriptor).ok().and_then(|d| WATCHED.get(d)) {
        watched.store(on, Ordering::Relaxed);
    }
}

fn bytes<'a>(path: *const c_char) -> &'a [u8] {
    // SAFETY: what is given to the system as a path is null or ends with a zero.
    if path.is_null() { b"" } else { unsafe { CStr::from_ptr(path).to_bytes() } }
}

fn concerns(path: *const c_char) -> bool {
    settings().part.is_some_and(|part| bytes(path).windows(part.len()).any(|w| w == part))
}

/// The fate of a call.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Done,
    Fails,
    Half,
    DiesAfter,
}

fn die() -> ! {
    // SAFETY: no memory is touched.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// This thread gets a signal, whose handler has run when the call is done.
fn raise(signal: c_int) -> Fate {
    // SAFETY: no memory is touched.
    unsafe { libc::raise(signal) };
    Fate::Done
}

fn judge(op: &str, what: &[u8]) -> Fate {
    let s = settings();
    if s.ops.is_some_and(|ops| !ops.split(|&b| b == b',').any(|one| one == op.as_bytes())) {
        return Fate::Done;
    }
    let n = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let now = s.at > 0 && (n == s.at || s.sticky && n > s.at);
    if s.log >= 0 {
        // one call for a line, so that lines of threads do not mix
        let mut line = [0u8; 600];
        let mut end = 0;
        for part in [op.as_bytes(), b" ", &what[what.len().saturating_sub(500)..], if now { b" <==\n" } else { b"\n" }]
        {
            line[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        // SAFETY: the buffer has `end` bytes.
        unsafe { libc::syscall(libc::SYS_write, s.log, line.as_ptr(), end) };
    }
    if !now {
        return Fate::Done;
    }
    let error = match s.mode {
        Some(b"kill") => die(),
        Some(b"killafter") => return Fate::DiesAfter,
        Some(b"short") => return Fate::Half,
        Some(b"SIGINT") => return raise(libc::SIGINT),
        Some(b"SIGTERM") => return raise(libc::SIGTERM),
        Some(b"SIGHUP") => return raise(libc::SIGHUP),
        Some(b"ENOSPC") => libc::ENOSPC,
        Some(b"EACCES") => libc::EACCES,
        Some(b"EINTR") => libc::EINTR,
        Some(_) => libc::EIO,
        None => return Fate::Done,
    };
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = error };
    Fate::Fails
}

fn after(fate: Fate) {
    if fate == Fate::DiesAfter {
        die();
    }
}

/// Where the C library has a function: the next definition of that name.
fn find(name: &CStr, found: &OnceLock<usize>) -> usize {
    *found.get_or_init(|| {
        // SAFETY: the name ends with a zero.
        let place = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) as usize };
        assert!(place != 0);
        place
    })
}

/// That function. To be used in an unsafe block: the type must be that of the function.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static FOUND: OnceLock<usize> = OnceLock::new();
        std::mem::transmute::<usize, $type>(find($name, &FOUND))
    }};
}

/// Calls that are given a path: `fails` where they fail.
macro_rules! of_path {
    ($($name:ident $symbol:literal $op:literal ($first:ident: $type:ty $(, $more:ident: $rest:ty)*) -> $result:ty, $fails:expr;)*) => {$(
        /// # Safety
        /// As the function of the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($first: $type $(, $more: $rest)*) -> $result {
            let fate = if concerns($first) { judge($op, bytes($first)) } else { Fate::Done };
            if fate == Fate::Fails {
                return $fails;
            }
            // SAFETY: the arguments of the caller.
            let result = unsafe { real!($symbol as unsafe extern "C" fn($type $(, $rest)*) -> $result)($first $(, $more)*) };
            after(fate);
            result
        }
    )*};
}

of_path! {
    unlink c"unlink" "unlink" (path: *const c_char) -> c_int, -1;
    rmdir c"rmdir" "rmdir" (path: *const c_char) -> c_int, -1;
    mkdir c"mkdir" "mkdir" (path: *const c_char, mode: mode_t) -> c_int, -1;
    opendir c"opendir" "list" (path: *const c_char) -> *mut c_void, std::ptr::null_mut();
}

/// Calls with two paths; the second one is told.
macro_rules! of_two_paths {
    ($($name:ident $symbol:literal $op:literal;)*) => {$(
        /// # Safety
        /// As the function of the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(from: *const c_char, to: *const c_char) -> c_int {
            let fate = if concerns(from) || concerns(to) { judge($op, bytes(to)) } else { Fate::Done };
            if fate == Fate::Fails {
                return -1;
            }
            // SAFETY: the arguments of the caller.
            let result = unsafe { real!($symbol as unsafe extern "C" fn(*const c_char, *const c_char) -> c_int)(from, to) };
            after(fate);
            result
        }
    )*};
}

of_two_paths! {
    rename c"rename" "rename";
    link c"link" "link";
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(a: c_int, from: *const c_char, b: c_int, to: *const c_char, flags: c_int) -> c_int {
    let fate = if concerns(from) || concerns(to) { judge("link", bytes(to)) } else { Fate::Done };
    if fate == Fate::Fails {
        return -1;
    }
    type Call = unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, c_int) -> c_int;
    // SAFETY: the arguments of the caller.
    let result = unsafe { real!(c"linkat" as Call)(a, from, b, to, flags) };
    after(fate);
    result
}

/// Opens a file. (The mode is an argument that callers may leave out; where it is not given nobody
/// reads it.)
macro_rules! opens {
    ($($name:ident $symbol:literal;)*) => {$(
        /// # Safety
        /// As the function of the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            let counts = concerns(path);
            let fate = if counts { judge("open", bytes(path)) } else { Fate::Done };
            if fate == Fate::Fails {
                return -1;
            }
            type Call = unsafe extern "C" fn(*const c_char, c_int, c_uint) -> c_int;
            // SAFETY: the arguments of the caller.
            let descriptor = unsafe { real!($symbol as Call)(path, flags, mode) };
            watch(descriptor, counts);
            after(fate);
            descriptor
        }
    )*};
}

opens! {
    open c"open";
    open64 c"open64";
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let counts = concerns(path) || is_watched(folder);
    let fate = if counts { judge("open", bytes(path)) } else { Fate::Done };
    if fate == Fate::Fails {
        return -1;
    }
    type Call = unsafe extern "C" fn(c_int, *const c_char, c_int, c_uint) -> c_int;
    // SAFETY: the arguments of the caller.
    let descriptor = unsafe { real!(c"openat64" as Call)(folder, path, flags, mode) };
    watch(descriptor, counts);
    after(fate);
    descriptor
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    watch(descriptor, false);
    // SAFETY: the arguments of the caller.
    unsafe { real!(c"close" as unsafe extern "C" fn(c_int) -> c_int)(descriptor) }
}

/// Calls on a descriptor with a number of bytes, which may be halved.
macro_rules! moves_bytes {
    ($($name:ident $symbol:literal $op:literal ($buffer:ty $(, $at:ident: $offset:ty)?);)*) => {$(
        /// # Safety
        /// As the function of the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(descriptor: c_int, buffer: $buffer, mut length: size_t $(, $at: $offset)?) -> ssize_t {
            let fate = if is_watched(descriptor) { judge($op, b"") } else { Fate::Done };
            match fate {
                Fate::Fails => return -1,
                Fate::Half if length > 1 => length /= 2,
                _ => {}
            }
            type Call = unsafe extern "C" fn(c_int, $buffer, size_t $(, $offset)?) -> ssize_t;
            // SAFETY: the arguments of the caller, or fewer of its bytes.
            let result = unsafe { real!($symbol as Call)(descriptor, buffer, length $(, $at)?) };
            after(fate);
            result
        }
    )*};
}

moves_bytes! {
    read c"read" "read" (*mut c_void);
    write c"write" "write" (*const c_void);
    pread64 c"pread64" "read" (*mut c_void, at: off64_t);
    pwrite64 c"pwrite64" "write" (*const c_void, at: off64_t);
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(descriptor: c_int, parts: *const libc::iovec, count: c_int) -> ssize_t {
    let fate = if is_watched(descriptor) { judge("write", b"") } else { Fate::Done };
    if fate == Fate::Fails {
        return -1;
    }
    type Call = unsafe extern "C" fn(c_int, *const libc::iovec, c_int) -> ssize_t;
    // SAFETY: the arguments of the caller.
    let result = unsafe { real!(c"writev" as Call)(descriptor, parts, count) };
    after(fate);
    result
}

/// Calls on a descriptor alone.
macro_rules! of_descriptor {
    ($($name:ident $symbol:literal $op:literal ($($more:ident: $rest:ty)?);)*) => {$(
        /// # Safety
        /// As the function of the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(descriptor: c_int $(, $more: $rest)?) -> c_int {
            let fate = if is_watched(descriptor) { judge($op, b"") } else { Fate::Done };
            if fate == Fate::Fails {
                return -1;
            }
            // SAFETY: the arguments of the caller.
            let result = unsafe { real!($symbol as unsafe extern "C" fn(c_int $(, $rest)?) -> c_int)(descriptor $(, $more)?) };
            after(fate);
            result
        }
    )*};
}

of_descriptor! {
    fsync c"fsync" "sync" ();
    fdatasync c"fdatasync" "sync" ();
    ftruncate c"ftruncate" "truncate" (length: off_t);
    ftruncate64 c"ftruncate64" "truncate" (length: off64_t);
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    found: *mut c_void,
) -> c_int {
    let by_descriptor = bytes(path).is_empty() && is_watched(folder);
    let fate = if concerns(path) || by_descriptor { judge("stat", bytes(path)) } else { Fate::Done };
    if fate == Fate::Fails {
        return -1;
    }
    type Call = unsafe extern "C" fn(c_int, *const c_char, c_int, c_uint, *mut c_void) -> c_int;
    // SAFETY: the arguments of the caller.
    let result = unsafe { real!(c"statx" as Call)(folder, path, flags, mask, found) };
    after(fate);
    result
}
