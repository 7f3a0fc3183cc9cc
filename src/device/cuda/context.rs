//! A GPU in use: its context, its stream, its kernels.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CString, OsStr, c_void};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::arguments::{Argument, Grid, Parameter, check};
use super::driver::{self, Answer, CUcontext, CUfunction, CUmodule, CUstream, Code, Shape};
use super::error::{LESS, failed};
use super::graphs::{GraphStatistics, Graphs};
use super::modules;
use super::probe::{Gpu, probe};
use super::work::{Launch, Work};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::trace;

/// GPUs of one machine that can be told apart.
const GPUS: usize = 64;

/// One GPU with one stream; lives as long as the process, or until [`close`].
pub struct Context {
    gpu: Gpu,
    handle: CUcontext,
    stream: CUstream,
    /// By name: parameters and, once the module is loaded, the function.
    kernels: Mutex<HashMap<&'static str, Kernel>>,
    /// Which of the two PTX texts this GPU gets.
    sm_80: bool,
    /// An error of a call that could not return it.
    fault: Mutex<Option<String>>,
    modules: Mutex<Vec<Module>>,
    /// The reason against a cooperative launch of a kernel with a grid, if there is one.
    cooperation: Mutex<HashMap<(&'static str, Grid), Option<String>>>,
    allocations: AtomicU64,
    queue: Mutex<Queue>,
    /// Whether work is collected where somebody asks for it.
    with_graphs: AtomicBool,
}

/// The work for the stream.
#[derive(Default)]
struct Queue {
    work: Work,
    /// Whether it waits for more.
    collecting: bool,
    graphs: Graphs,
    copies: Copies,
}

/// Work besides launches since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    pub uploads: u64,
    pub within: u64,
    pub fills: u64,
}

/// While this lives, work is collected, to be done as one graph: when somebody asks for a result,
/// and at the end.
#[derive(Debug)]
pub struct Collecting(&'static Context);

impl Collecting {
    /// Gives the stream what there is to do. Without this, an error of then is returned by the next
    /// call that can return one.
    pub fn finish(self) -> Result<()> {
        self.0.submit(&mut lock(&self.0.queue))
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        let outcome = self.0.submit(&mut queue);
        queue.collecting = false;
        drop(queue);
        self.0.keep(outcome);
    }
}

/// A loaded module.
struct Module(CUmodule);

struct Kernel {
    module: usize,
    parameters: Vec<Parameter>,
    function: Option<CUfunction>,
    launches: u64,
    /// Bytes of dynamic shared memory that it may have, if it asked for more than `SHARED`.
    shared: usize,
}

/// Bytes of dynamic shared memory that a kernel may have without asking.
const SHARED: usize = 48 * 1024;

// SAFETY: handles of the driver may be used from any thread, once it has made the context its
// current one (`bind`).
unsafe impl Send for Context {}
// SAFETY: as above; mutable parts are behind locks.
unsafe impl Sync for Context {}

static OPEN: [OnceLock<Context>; GPUS] = [const { OnceLock::new() }; GPUS];

/// The GPU of that number, opened at the first call.
///
/// # Errors
/// No driver, an old one, no such GPU, or one that is too old: one sentence each.
pub fn context(ordinal: usize) -> Result<&'static Context> {
    static OPENING: Mutex<()> = Mutex::new(());
    let slot = OPEN.get(ordinal).ok_or_else(|| Error::usage(format!("no machine has a GPU number {ordinal}")))?;
    if let Some(context) = slot.get() {
        return Ok(context);
    }
    let _one_at_a_time = lock(&OPENING);
    match slot.get() {
        Some(context) => Ok(context),
        None => Context::open(ordinal).map(|context| slot.get_or_init(|| context)),
    }
}

/// Gives back what this process has of the driver besides memory, at its end: whoever uses a GPU
/// afterwards gets an error.
///
/// # Errors
/// An error on a GPU that was not yet returned.
pub fn close() -> Result<()> {
    OPEN.iter().filter_map(OnceLock::get).try_for_each(Context::close)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    fn open(ordinal: usize) -> Result<Self> {
        let found = probe().map_err(|reason| {
            Error::data(format!("cuda:{ordinal}: {reason}")).hint("use --device cpu, or leave --device out")
        })?;
        let gpu = found.usable(ordinal)?.clone();
        let doing = format!("opening cuda:{ordinal}");
        let (handle, stream) = open_driver(ordinal).map_err(|e| failed(&doing, e))?;
        // a switch for tests: the older kernels run on every GPU
        let sm_80 =
            gpu.compute_capability.0 >= 8 && std::env::var_os("ULMFIT_PTX").is_none_or(|target| target != "sm_70");
        let declared = modules::all(sm_80).into_iter();
        let kernel = |k: modules::Declared| {
            (k.name, Kernel { module: k.module, parameters: k.parameters, function: None, launches: 0, shared: SHARED })
        };
        Ok(Context {
            gpu,
            handle,
            stream,
            kernels: Mutex::new(declared.map(kernel).collect()),
            sm_80,
            fault: Mutex::new(None),
            modules: Mutex::default(),
            cooperation: Mutex::default(),
            allocations: AtomicU64::new(0),
            queue: Mutex::default(),
            with_graphs: AtomicBool::new(graphs_wanted(std::env::var_os(GRAPHS_VARIABLE).as_deref())?),
        })
    }

    /// The driver's description of it.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The multiprocessors of the GPU, at least one.
    pub fn multiprocessors(&self) -> usize {
        self.gpu.multiprocessors.max(1) as usize
    }

    /// As [`Gpu::check_precision`], of the kernels that this process runs.
    ///
    /// # Errors
    /// A GPU, or kernels, without products in bf16.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        self.gpu.check_precision(precision)?;
        if precision == Precision::Bf16 && !self.sm_80 {
            return Err(Error::usage("ULMFIT_PTX=sm_70: these kernels have no products in bf16"));
        }
        Ok(())
    }

    /// Makes this the thread's current context, and returns an error that an earlier call could
    /// not.
    fn bind(&self) -> Result<()> {
        thread_local!(static CURRENT: Cell<Option<usize>> = const { Cell::new(None) });
        if let Some(message) = &*lock(&self.fault) {
            return Err(Error::data(message.clone()));
        }
        if CURRENT.get() != Some(self.gpu.ordinal) {
            // SAFETY: the handle was retained in `open` and is never released.
            unsafe { driver::set_context(self.handle) }.map_err(|e| failed("choosing the GPU", e))?;
            CURRENT.set(Some(self.gpu.ordinal));
        }
        Ok(())
    }

    /// Keeps an error for the next call that can return one.
    pub(crate) fn keep(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            lock(&self.fault).get_or_insert(error.to_string());
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        self.bind()?;
        self.allocations.fetch_add(1, Ordering::Relaxed);
        // the memory's content is undefined until it is written, as the callers know
        driver::allocate(bytes.max(64)).map_err(|error| {
            let free = driver::memory().map(|(free, total)| format!(" ({free} of {total} are free)"));
            match error {
                Code(2) => Error::data(format!(
                    "{} has no {bytes} bytes of memory left{}",
                    self.gpu.name,
                    free.unwrap_or_default()
                ))
                .hint(LESS),
                _ => failed("taking memory", error),
            }
        })
    }

    /// How often memory was taken since the process began.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Memory that is not taken, in bytes.
    pub fn free_bytes(&self) -> Result<usize> {
        self.bind()?;
        driver::memory().map(|(free, _)| free).map_err(|e| failed("asking for free memory", e))
    }

    pub(super) fn free(&self, address: u64, bytes: usize) {
        let bytes = bytes.max(64);
        let settle = || {
            let mut queue = lock(&self.queue);
            // work that waits may be for this memory
            self.submit(&mut queue)?;
            queue.graphs.forget(self.stream, address..address + bytes as u64)
        };
        let freed = self
            .bind()
            .and_then(|()| settle())
            // SAFETY: the address is that of an allocation that nobody uses any more; the driver
            // waits for work that still runs.
            .and_then(|()| unsafe { driver::free(address) }.map_err(|e| failed("giving memory back", e)));
        self.keep(freed);
    }

    /// Begins to collect work; nothing where graphs are turned off. One at a time.
    pub fn collect(&'static self) -> Option<Collecting> {
        self.with_graphs.load(Ordering::Relaxed).then(|| {
            lock(&self.queue).collecting = true;
            Collecting(self)
        })
    }

    /// Turns graphs on or off: without them, all work is done as it comes. Off from the beginning
    /// with `ULMFIT_CUDA_GRAPHS=off`.
    pub fn set_graphs(&self, on: bool) {
        self.with_graphs.store(on, Ordering::Relaxed);
    }

    /// Counts of collected work.
    pub fn graphs(&self) -> GraphStatistics {
        lock(&self.queue).graphs.statistics()
    }

    /// Work besides launches.
    pub fn copies(&self) -> Copies {
        lock(&self.queue).copies
    }

    /// Adds work, which is done at once unless it is collected.
    fn add(&self, put: impl FnOnce(&mut Queue)) -> Result<()> {
        self.bind()?;
        let mut queue = lock(&self.queue);
        put(&mut queue);
        if queue.collecting { Ok(()) } else { self.submit(&mut queue) }
    }

    /// Gives the stream what there is to do.
    fn submit(&self, queue: &mut Queue) -> Result<()> {
        let Queue { work, graphs, collecting, .. } = queue;
        if work.is_empty() {
            return Ok(());
        }
        let outcome = if *collecting { graphs.run(self.stream, work) } else { work.issue(self.stream, work.host()) };
        work.clear();
        if let Some(refusal) = graphs.refusal() {
            self.set_graphs(false);
            self.warn(&format!(
                "{refusal}; from here on steps are launched piece by piece, as with ULMFIT_CUDA_GRAPHS=off"
            ));
        }
        outcome
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.add(|queue| {
            queue.copies.fills += 1;
            queue.work.zero(address, bytes);
        })
    }

    /// Copies to the device. The bytes have been taken when this returns.
    pub(crate) fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.add(|queue| {
            queue.copies.uploads += 1;
            queue.work.upload(address, bytes);
        })
    }

    /// Copies from the device, after everything before it has run.
    pub(crate) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        let mut queue = lock(&self.queue);
        self.submit(&mut queue)?;
        // SAFETY: the caller's block holds the range; the bytes are not looked at before the stream
        // is done.
        unsafe { driver::download(bytes, address, self.stream) }.map_err(|e| failed("copying from the GPU", e))?;
        queue.graphs.wait(self.stream)
    }

    /// Copies within the device.
    pub(crate) fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.add(|queue| {
            queue.copies.within += 1;
            queue.work.copy(to, from, bytes);
        })
    }

    /// Waits until everything has run; returns what went wrong on the way. For the border of a
    /// step.
    pub fn synchronise(&self) -> Result<()> {
        self.bind()?;
        let mut queue = lock(&self.queue);
        self.submit(&mut queue)?;
        queue.graphs.wait(self.stream)
    }

    /// Runs a kernel, after holding the arguments against what its PTX declares. A grid without
    /// blocks does nothing. Device code reaches memory of the device alone, so that a wrong size
    /// cannot harm this process's memory.
    ///
    /// # Errors
    /// Wrong arguments, or the driver's: also one of an earlier kernel.
    pub fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.run(kernel, grid, arguments, false)
    }

    /// As [`launch`](Self::launch), with all blocks at the same time, so that they may wait for
    /// each other.
    pub fn launch_cooperative(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.run(kernel, grid, arguments, true)
    }

    fn run(&self, kernel: &'static str, grid: Grid, arguments: &[Argument], cooperative: bool) -> Result<()> {
        if grid.is_empty() {
            return Ok(());
        }
        self.bind()?;
        let mut kernels = lock(&self.kernels);
        let Some(entry) = kernels.get_mut(kernel) else {
            return Err(Error::data(format!("there is no kernel '{kernel}'")));
        };
        let mut values = Vec::with_capacity(arguments.len());
        check(kernel, &entry.parameters, arguments, &mut values)?;
        entry.launches += 1;
        let function = self.function(kernel, grid, &mut kernels)?;
        drop(kernels);
        let launch = Launch { kernel, function, shape: shape(grid, cooperative), purpose: trace::current() };
        let words = values.iter().zip(arguments).map(|(value, argument)| match argument {
            Argument::Plain(words, bytes) => &words[..bytes.div_ceil(8)],
            _ => std::slice::from_ref(value),
        });
        self.add(|queue| queue.work.launch(launch, words))
    }

    /// A kernel's function, which may have the shared memory of the grid.
    fn function(
        &self,
        kernel: &'static str,
        grid: Grid,
        kernels: &mut HashMap<&'static str, Kernel>,
    ) -> Result<CUfunction> {
        let (module, loaded) = (kernels[kernel].module, kernels[kernel].function);
        if loaded.is_none() {
            self.load(module, kernels)?;
        }
        let entry = kernels.get_mut(kernel).expect("it was found above");
        let function = entry.function.expect("its module is loaded");
        if grid.shared > entry.shared {
            // SAFETY: the function is loaded and never unloaded.
            unsafe { driver::allow_shared(function, grid.shared) }
                .map_err(|e| failed(&format!("{} bytes of shared memory for kernel '{kernel}'", grid.shared), e))?;
            entry.shared = grid.shared;
        }
        Ok(function)
    }

    /// Why a kernel's blocks cannot all run at the same time here, if they cannot. Asked of the
    /// driver once for every kernel and grid: how many of the blocks fit; then it has to launch
    /// them with nothing to do, all their sizes being zero. (It may refuse what fits: where
    /// programs share the GPU, for one.)
    ///
    /// # Errors
    /// The driver's, other than that it refuses.
    pub fn refuses_cooperation(&self, kernel: &'static str, grid: Grid) -> Result<Option<String>> {
        if let Some(known) = lock(&self.cooperation).get(&(kernel, grid)) {
            return Ok(known.clone());
        }
        self.bind()?;
        let found = self.try_cooperation(kernel, grid)?;
        lock(&self.cooperation).insert((kernel, grid), found.clone());
        Ok(found)
    }

    fn try_cooperation(&self, kernel: &'static str, grid: Grid) -> Result<Option<String>> {
        let mut kernels = lock(&self.kernels);
        let function = match self.function(kernel, grid, &mut kernels) {
            Ok(function) => function,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let (shape, blocks) = (shape(grid, true), grid.blocks.iter().product::<usize>());
        // SAFETY: the function is loaded.
        let resident = unsafe { driver::resident_blocks(function, shape.threads, shape.shared) }
            .map_err(|e| failed(&format!("asking how many blocks of kernel '{kernel}' fit"), e))?;
        let most = resident.max(0) as usize * self.gpu.multiprocessors.max(0) as usize;
        if most < blocks {
            return Ok(Some(format!("{blocks} blocks of '{kernel}' are wanted at a time and {most} fit")));
        }
        // sizes of zero, memory that is not there: the kernels see that there is nothing to do
        let nothing = [0u64; 64];
        let count = kernels[kernel].parameters.len();
        let mut arguments: Vec<*mut c_void> = vec![nothing.as_ptr().cast_mut().cast(); count];
        super::simulate::expect_launch(count, None);
        // SAFETY: as many arguments as the kernel has, none of which is larger than what is pointed
        // at.
        match unsafe { driver::launch(function, shape, self.stream, &mut arguments) } {
            Ok(()) => Ok(None),
            Err(code) if code.is_refusal() => {
                Ok(Some(failed(&format!("launching {blocks} blocks of '{kernel}' at a time"), code).to_string()))
            }
            Err(code) => Err(failed(&format!("kernel '{kernel}'"), code)),
        }
    }

    /// Says on standard error what this process does otherwise than it was meant to.
    pub fn warn(&self, text: &str) {
        // nobody may be listening
        let _ = writeln!(std::io::stderr(), "warning: cuda:{}: {text}", self.gpu.ordinal);
    }

    /// Loads a module and notes its functions.
    fn load(&self, module: usize, kernels: &mut HashMap<&'static str, Kernel>) -> Result<()> {
        let text = &modules::texts(self.sm_80)[module];
        // SAFETY: the text ends with a zero.
        let handle = unsafe { driver::load(text) }.map_err(|e| failed("loading the kernels", e))?;
        lock(&self.modules).push(Module(handle));
        for (name, kernel) in kernels.iter_mut().filter(|(_, k)| k.module == module) {
            let c_name = CString::new(*name).expect("a name has no zero");
            // SAFETY: the module was just loaded.
            let function = unsafe { driver::function(handle, &c_name) };
            kernel.function = Some(function.map_err(|e| failed(&format!("finding kernel '{name}'"), e))?);
        }
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.synchronise()?;
        lock(&self.queue).graphs.clear(self.stream)?;
        lock(&self.fault).get_or_insert_with(|| format!("cuda:{}: this process has closed it", self.gpu.ordinal));
        for Module(module) in lock(&self.modules).drain(..) {
            // SAFETY: the module was loaded and is unloaded once; nothing runs, and the fault keeps
            // later launches away.
            unsafe { driver::unload(module) }.map_err(|e| failed("unloading the kernels", e))?;
        }
        // SAFETY: as above, for the stream.
        unsafe { driver::destroy_stream(self.stream) }.map_err(|e| failed("closing the stream", e))
    }

    /// How often each kernel was launched since the process began, by name.
    pub fn launches(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = lock(&self.kernels).iter().map(|(&name, k)| (name, k.launches)).collect();
        all.sort_unstable();
        all
    }
}

/// Name of the environment variable that turns graphs off.
const GRAPHS_VARIABLE: &str = "ULMFIT_CUDA_GRAPHS";

fn graphs_wanted(value: Option<&OsStr>) -> Result<bool> {
    match value.map(OsStr::to_string_lossy).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(Error::usage(format!("{GRAPHS_VARIABLE}={other} is neither 'on' nor 'off'"))),
    }
}

/// A grid as the driver takes it.
fn shape(grid: Grid, cooperative: bool) -> Shape {
    Shape {
        blocks: grid.blocks.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        threads: grid.threads as u32,
        shared: grid.shared as u32,
        cooperative,
    }
}

fn open_driver(ordinal: usize) -> Answer<(CUcontext, CUstream)> {
    let device = driver::device(ordinal as i32)?;
    // SAFETY: the device was just handed out by the initialised driver; the context is never
    // released.
    let handle = unsafe { driver::retain_context(device) }?;
    // SAFETY: as above.
    unsafe { driver::set_context(handle) }?;
    Ok((handle, driver::create_stream()?))
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context(cuda:{} {})", self.gpu.ordinal, self.gpu.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_on_or_off() {
        let wanted = |value: &str| graphs_wanted(Some(OsStr::new(value)));
        assert!(graphs_wanted(None).unwrap() && wanted("on").unwrap() && !wanted("off").unwrap());
        let error = wanted("of").unwrap_err();
        assert!(error.exit_status() == 2 && error.to_string().contains("ULMFIT_CUDA_GRAPHS=of"), "{error}");
    }
}
