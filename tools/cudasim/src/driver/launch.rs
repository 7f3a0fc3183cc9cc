//! Launches: the limits a GPU enforces, the arguments, and the run.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::module::resident;
use super::stream::Node;
use super::{
    ARGUMENTS, Answer, COOPERATIVE_TOO_LARGE, Handle, INVALID_VALUE, Needs, OUT_OF_RESOURCES, Refusal, State, bytes,
    call, refuse,
};
use crate::config::Refused;
use crate::decode::Program;
use crate::devices::{DEFAULT_SHARED, MAX_THREADS, REGISTERS_PER_SM};
use crate::exec::{Dim, Launch, run};
use crate::report::Kind;

/// A launch with its arguments, as a graph keeps it.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub program: Arc<Program>,
    pub grid: Dim,
    pub block: Dim,
    pub dynamic: u32,
    pub params: Arc<Vec<u8>>,
    pub cooperative: bool,
    /// What the client called its launches at the time.
    pub label: Arc<str>,
}

fn refused(code: u32, program: &Program, message: String) -> Refusal {
    Refusal { code, message: format!("kernel {}: {message}", program.name), kind: Kind::Launch }
}

/// Where the client has its arguments.
struct Arguments {
    each: *mut *mut c_void,
    extra: *mut *mut c_void,
}

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    len: usize,
}

unsafe extern "C" {
    fn process_vm_readv(pid: i32, local: *const IoVec, n: usize, remote: *const IoVec, m: usize, flags: usize)
    -> isize;
    fn getpid() -> i32;
}

/// Reads memory of the client that may not be there, because it may have passed too few arguments.
fn careful(from: *const c_void, len: usize) -> Option<Vec<u8>> {
    if from.is_null() {
        return None;
    }
    let mut to = vec![0u8; len];
    let local = IoVec { base: to.as_mut_ptr().cast(), len };
    let remote = IoVec { base: from.cast_mut(), len };
    // SAFETY: the kernel writes at most `len` bytes to `to`, and answers a bad source with an
    // error, not a fault.
    let n = unsafe { process_vm_readv(getpid(), &local, 1, &remote, 1, 0) };
    if n == len as isize {
        return Some(to);
    }
    // where the call is forbidden, trust the client as the real driver does
    // SAFETY: the driver's contract is that the pointer is valid for the size of the parameter.
    (n < 0 && std::io::Error::last_os_error().raw_os_error() != Some(14))
        .then(|| unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) }.to_vec())
}

/// Lays the arguments out as the kernel reads them.
fn gather(program: &Program, arguments: &Arguments) -> Answer<Vec<u8>> {
    let n = program.params.len();
    let said = ARGUMENTS.take();
    if let Some(said) = said
        && said as usize != n
    {
        return Err(refused(INVALID_VALUE, program, format!("{said} arguments are passed, the kernel takes {n}")));
    }
    let mut params = vec![0u8; program.param_bytes as usize];
    if !arguments.extra.is_null() {
        return buffer(program, arguments.extra, params);
    }
    for (i, (p, &offset)) in program.params.iter().zip(&program.param_offsets).enumerate() {
        let missing = |what: &str| {
            refused(
                INVALID_VALUE,
                program,
                format!("argument {} of {n} ({}) {what}: too few were passed", i + 1, p.name),
            )
        };
        let slot = arguments.each.wrapping_add(i);
        let pointer = careful(slot.cast(), size_of::<usize>()).ok_or_else(|| missing("is missing"))?;
        let pointer = usize::from_ne_bytes(pointer.try_into().unwrap_or_default());
        let value =
            careful(pointer as *const c_void, p.size as usize).ok_or_else(|| missing("has no memory behind it"))?;
        params[offset as usize..(offset + p.size) as usize].copy_from_slice(&value);
    }
    Ok(params)
}

/// Arguments in one buffer: `{1, buffer, 2, &size, 0}`.
fn buffer(program: &Program, extra: *mut *mut c_void, mut params: Vec<u8>) -> Answer<Vec<u8>> {
    let words = bytes(extra.cast_const().cast(), 4 * size_of::<usize>())?;
    let word = |i: usize| usize::from_ne_bytes(words[8 * i..8 * i + 8].try_into().unwrap_or_default());
    if word(0) != 1 || word(2) != 2 {
        return Err(refused(INVALID_VALUE, program, "the list of extra options is not {buffer, size}".into()));
    }
    let len = bytes(word(3) as *const c_void, 8)?;
    let len = usize::from_ne_bytes(len.try_into().unwrap_or_default());
    if len != params.len() {
        let text = format!("{len} bytes of arguments are passed, the kernel takes {}", params.len());
        return Err(refused(INVALID_VALUE, program, text));
    }
    params.copy_from_slice(bytes(word(1) as *const c_void, len)?);
    Ok(params)
}

impl State {
    fn kernel(
        &mut self,
        function: Handle,
        dims: (Dim, Dim),
        dynamic: u32,
        a: &Arguments,
        cooperative: bool,
    ) -> Answer<Kernel> {
        if cooperative && self.config.refuse == Some(Refused::Cooperative) {
            return Err(refuse(COOPERATIVE_TOO_LARGE, ""));
        }
        let device = self.config.device;
        let f = self.function(function)?;
        let p = f.program.clone();
        let (grid, block) = dims;
        let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
        let fail = |code: u32, message: String| Err(refused(code, &p, message));
        if grid.contains(&0) || block.contains(&0) {
            return fail(INVALID_VALUE, format!("grid {grid:?} and block {block:?} must not have a 0"));
        }
        if grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
            return fail(INVALID_VALUE, format!("grid {grid:?} is above 2147483647, 65535, 65535"));
        }
        if threads > u64::from(MAX_THREADS) || block[2] > 64 {
            return fail(
                INVALID_VALUE,
                format!("{threads} threads in block {block:?}: at most {MAX_THREADS}, 64 in z"),
            );
        }
        let threads = threads as u32;
        if let Some(most) = p.max_threads.filter(|&most| threads > most) {
            return fail(INVALID_VALUE, format!("{threads} threads in a block, the kernel is compiled for {most}"));
        }
        if let Some(required) = p.required_threads.filter(|&r| r != block) {
            return fail(INVALID_VALUE, format!("block {block:?}, the kernel is compiled for {required:?}"));
        }
        let shared = p.dynamic_offset.max(p.static_shared) + dynamic;
        if p.static_shared > DEFAULT_SHARED {
            return fail(
                INVALID_VALUE,
                format!("{} bytes of static shared memory, at most {DEFAULT_SHARED}", p.static_shared),
            );
        }
        if shared > DEFAULT_SHARED.max(f.max_dynamic + p.dynamic_offset) {
            let text = format!(
                "{shared} bytes of shared memory ({dynamic} of them dynamic): beyond {DEFAULT_SHARED} only what \
                 cuFuncSetAttribute allowed before ({} dynamic)",
                f.max_dynamic
            );
            return fail(INVALID_VALUE, text);
        }
        if shared > device.shared_per_block {
            let text = format!("{shared} bytes of shared memory, {} has {}", device.key, device.shared_per_block);
            return fail(INVALID_VALUE, text);
        }
        let registers = (p.register_estimate * 32).next_multiple_of(256) * threads.div_ceil(32);
        if registers > REGISTERS_PER_SM {
            let text =
                format!("about {} registers a thread for {threads} threads: more than 65536", p.register_estimate);
            return fail(OUT_OF_RESOURCES, text);
        }
        if cooperative {
            let fits = resident(f, device, threads, dynamic) as u64 * device.sms as u64;
            let blocks: u64 = grid.iter().map(|&n| u64::from(n)).product();
            if blocks > fits {
                let text = format!("{blocks} blocks in a cooperative launch; {} holds {fits} at once", device.key);
                return fail(COOPERATIVE_TOO_LARGE, text);
            }
        }
        let params = Arc::new(gather(&p, a)?);
        Ok(Kernel { program: p, grid, block, dynamic, params, cooperative, label: self.label.clone() })
    }

    /// Runs a kernel; what it finds stays as the error of the context.
    pub fn run(&mut self, k: &Kernel) -> Answer {
        self.launch += 1;
        if self.launch > crate::exec::MAX_LAUNCH {
            self.launch = 1;
            self.memory.forget_accesses();
        }
        let launch = Launch {
            grid: k.grid,
            block: k.block,
            dynamic_shared: k.dynamic,
            params: k.params.to_vec(),
            cooperative: k.cooperative,
            number: self.launch,
        };
        let outcome = run(&k.program, &mut self.memory, &launch, &self.config);
        let sums = self.kernels.entry(k.program.name.clone()).or_default();
        let before = sums.warp_instructions;
        let [blocks, threads] = [k.grid, k.block].map(|dim| dim.iter().map(|&n| u64::from(n)).product());
        outcome.counters.add_to(sums, &k.program, blocks, threads);
        self.time += 2000 + (sums.warp_instructions - before) / self.config.device.sms as u64;
        if !k.label.is_empty() {
            let key = (k.label.to_string(), k.program.name.clone());
            outcome.counters.add_to(self.labelled.entry(key).or_default(), &k.program, blocks, threads);
        }
        let Some(finding) = outcome.finding else { return Ok(()) };
        let code = finding.code;
        self.found(finding);
        if self.config.delay_errors {
            self.delayed = self.delayed.or(Some(code));
            return Ok(());
        }
        self.sticky = Some(code);
        Err(refuse(code, ""))
    }

    fn launch(
        &mut self,
        function: Handle,
        dims: (Dim, Dim),
        dynamic: u32,
        stream: Handle,
        a: &Arguments,
        together: bool,
    ) -> Answer {
        let kernel = self.kernel(function, dims, dynamic, a, together)?;
        self.submit(stream, Node::Kernel(kernel))
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub extern "C" fn cuLaunchKernel(
    function: Handle,
    gx: c_uint,
    gy: c_uint,
    gz: c_uint,
    bx: c_uint,
    by: c_uint,
    bz: c_uint,
    dynamic: c_uint,
    stream: Handle,
    each: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    let a = Arguments { each, extra };
    let dims = ([gx, gy, gz], [bx, by, bz]);
    call("cuLaunchKernel", Needs::Context, |s| s.launch(function, dims, dynamic, stream, &a, false))
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub extern "C" fn cuLaunchCooperativeKernel(
    function: Handle,
    gx: c_uint,
    gy: c_uint,
    gz: c_uint,
    bx: c_uint,
    by: c_uint,
    bz: c_uint,
    dynamic: c_uint,
    stream: Handle,
    each: *mut *mut c_void,
) -> u32 {
    let a = Arguments { each, extra: std::ptr::null_mut() };
    let dims = ([gx, gy, gz], [bx, by, bz]);
    call("cuLaunchCooperativeKernel", Needs::Context, |s| s.launch(function, dims, dynamic, stream, &a, true))
}
