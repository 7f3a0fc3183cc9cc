//! The driver's functions that this room calls. cudarc finds the driver and has the types; its own
//! functions return an enumeration, and a code that a newer driver adds would be none of its
//! values, which Rust forbids to exist. Here a code is a number, whatever it is.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys;
pub(super) use sys::{CUcontext, CUdevice, CUfunction, CUgraph, CUgraphExec, CUmodule, CUstream};

/// The code of a function that did not succeed: a `CUresult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub u32);

impl Code {
    /// The code where a driver does not have the function at all.
    const NOT_FOUND: Code = Code(500);

    /// Whether a launch or a capture was refused for what it is, so that another one may be tried:
    /// nothing has run, and nothing is spoilt.
    pub fn is_refusal(self) -> bool {
        // invalid value, device function or resources; not so many blocks at a time; not permitted;
        // not supported; the captures' own codes
        matches!(self.0, 1 | 98 | 400 | 701 | 720 | 800 | 801 | 900..=908)
    }
}

pub(super) type Answer<T = ()> = Result<T, Code>;

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            /// # Safety
            /// As NVIDIA's documentation of the function says.
            // names and signatures are the driver's
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe fn $name($($argument: $type),*) -> Answer {
                type Function = unsafe extern "C" fn($($type),*) -> u32;
                static FUNCTION: OnceLock<Option<Function>> = OnceLock::new();
                // SAFETY: the driver is loaded (`is_present`, or the simulator's), and this is the
                // function's type; a `CUresult` is an unsigned number.
                let load = || unsafe { sys::culib().get::<Function>(concat!(stringify!($name), "\0").as_bytes()) }.ok().map(|f| *f);
                let function = FUNCTION.get_or_init(load).ok_or(Code::NOT_FOUND)?;
                // SAFETY: as the caller promises.
                match unsafe { function($($argument),*) } {
                    0 => Ok(()),
                    code => Err(Code(code)),
                }
            }
        )*
    };
}

functions! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetName(name: *mut c_char, bytes: c_int, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, device: CUdevice);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuCtxSetCurrent(context: CUcontext);
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamBeginCapture_v2(stream: CUstream, mode: c_uint);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuMemAlloc_v2(address: *mut u64, bytes: usize);
    cuMemFree_v2(address: u64);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(address: *mut c_void);
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: CUstream);
    cuMemsetD8Async(address: u64, value: u8, bytes: usize, stream: CUstream);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleUnload(module: CUmodule);
    cuFuncSetAttribute(function: CUfunction, attribute: c_uint, value: c_int);
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize);
    cuLaunchKernel(function: CUfunction, x: c_uint, y: c_uint, z: c_uint, threads_x: c_uint, threads_y: c_uint, threads_z: c_uint, shared: c_uint,
        stream: CUstream, arguments: *mut *mut c_void, extra: *mut *mut c_void);
    cuLaunchCooperativeKernel(function: CUfunction, x: c_uint, y: c_uint, z: c_uint, threads_x: c_uint, threads_y: c_uint, threads_z: c_uint,
        shared: c_uint, stream: CUstream, arguments: *mut *mut c_void);
    cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecDestroy(executable: CUgraphExec);
}

/// The value that a function writes to a given place.
fn written<T>(nothing: T, write: impl FnOnce(*mut T) -> Answer) -> Answer<T> {
    let mut value = nothing;
    write(&mut value).map(|()| value)
}

/// Whether there is a driver at all.
pub(super) fn is_present() -> bool {
    // SAFETY: loads the driver's library; the name is cudarc's own.
    unsafe { sys::is_culib_present() }
}

/// The file that the driver was loaded from, as far as this process can tell.
pub(super) fn file() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    files.find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("libcuda.so"))).map(String::from)
}

pub(super) fn init() -> Answer {
    // SAFETY: takes no memory of ours.
    unsafe { cuInit(0) }
}

/// 1000 times the major version and 10 times the minor one.
pub(super) fn version() -> Answer<i32> {
    // SAFETY: writes one integer to a valid place.
    written(0, |to| unsafe { cuDriverGetVersion(to) })
}

pub(super) fn device_count() -> Answer<i32> {
    // SAFETY: as above.
    written(0, |to| unsafe { cuDeviceGetCount(to) })
}

pub(super) fn device(ordinal: i32) -> Answer<CUdevice> {
    // SAFETY: as above.
    written(0, |to| unsafe { cuDeviceGet(to, ordinal) })
}

/// # Safety
/// The device is one of [`device`].
pub(super) unsafe fn device_name(device: CUdevice) -> Answer<String> {
    let mut name = [0u8; 256];
    // SAFETY: the place has the length that is said; the device is the caller's promise.
    unsafe { cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int, device) }?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// # Safety
/// The device is one of [`device`].
pub(super) unsafe fn device_memory(device: CUdevice) -> Answer<usize> {
    // SAFETY: writes one number to a valid place.
    written(0, |to| unsafe { cuDeviceTotalMem_v2(to, device) })
}

/// # Safety
/// The device is one of [`device`].
pub(super) unsafe fn device_attribute(device: CUdevice, attribute: sys::CUdevice_attribute_enum) -> Answer<i32> {
    // SAFETY: as above.
    written(0, |to| unsafe { cuDeviceGetAttribute(to, attribute as c_uint, device) })
}

/// # Safety
/// The device is one of [`device`].
pub(super) unsafe fn retain_context(device: CUdevice) -> Answer<CUcontext> {
    // SAFETY: as above.
    written(std::ptr::null_mut(), |to| unsafe { cuDevicePrimaryCtxRetain(to, device) })
}

/// # Safety
/// The context is retained.
pub(super) unsafe fn set_context(context: CUcontext) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuCtxSetCurrent(context) }
}

/// One that does not wait for the default stream.
pub(super) fn create_stream() -> Answer<CUstream> {
    const NON_BLOCKING: c_uint = 1;
    // SAFETY: writes a handle to a valid place.
    written(std::ptr::null_mut(), |to| unsafe { cuStreamCreate(to, NON_BLOCKING) })
}

/// # Safety
/// The stream is not used afterwards.
pub(super) unsafe fn destroy_stream(stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuStreamDestroy_v2(stream) }
}

/// # Safety
/// The stream is not destroyed.
pub(super) unsafe fn synchronise(stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuStreamSynchronize(stream) }
}

/// Only this thread's calls can spoil the capture.
///
/// # Safety
/// The stream is not destroyed.
pub(super) unsafe fn begin_capture(stream: CUstream) -> Answer {
    const THREAD_LOCAL: c_uint = 1;
    // SAFETY: as the caller promises.
    unsafe { cuStreamBeginCapture_v2(stream, THREAD_LOCAL) }
}

/// # Safety
/// The stream is not destroyed.
pub(super) unsafe fn end_capture(stream: CUstream) -> Answer<CUgraph> {
    // SAFETY: as the caller promises; writes a handle to a valid place.
    written(std::ptr::null_mut(), |to| unsafe { cuStreamEndCapture(stream, to) })
}

/// Memory of the GPU.
pub(super) fn allocate(bytes: usize) -> Answer<u64> {
    // SAFETY: writes an address to a valid place.
    written(0, |to| unsafe { cuMemAlloc_v2(to, bytes) })
}

/// # Safety
/// The address is of [`allocate`], and nobody uses it afterwards.
pub(super) unsafe fn free(address: u64) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemFree_v2(address) }
}

/// Bytes that are free, and all of them.
pub(super) fn memory() -> Answer<(usize, usize)> {
    let mut total = 0;
    // SAFETY: writes two numbers to valid places.
    let free = written(0, |to| unsafe { cuMemGetInfo_v2(to, &mut total) })?;
    Ok((free, total))
}

/// Page-locked memory of the host.
pub(super) fn allocate_host(bytes: usize) -> Answer<*mut c_void> {
    // SAFETY: writes an address to a valid place.
    written(std::ptr::null_mut(), |to| unsafe { cuMemHostAlloc(to, bytes, 0) })
}

/// # Safety
/// The address is of [`allocate_host`], and nobody uses it afterwards.
pub(super) unsafe fn free_host(address: *mut c_void) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemFreeHost(address) }
}

/// # Safety
/// There are as many bytes at `to`, and `from` lives until they are taken (see `Work::issue`).
pub(super) unsafe fn upload(to: u64, from: &[u8], stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), stream) }
}

/// # Safety
/// There are as many bytes at `from`, and `to` is not looked at before the stream is done.
pub(super) unsafe fn download(to: &mut [u8], from: u64, stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream) }
}

/// # Safety
/// Both ranges are allocated, and apart.
pub(super) unsafe fn copy(to: u64, from: u64, bytes: usize, stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, stream) }
}

/// # Safety
/// The range is allocated.
pub(super) unsafe fn zero(address: u64, bytes: usize, stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuMemsetD8Async(address, 0, bytes, stream) }
}

/// # Safety
/// The text ends with a zero.
pub(super) unsafe fn load(text: &str) -> Answer<CUmodule> {
    // SAFETY: as the caller promises.
    written(std::ptr::null_mut(), |to| unsafe { cuModuleLoadData(to, text.as_ptr().cast()) })
}

/// # Safety
/// The module is loaded.
pub(super) unsafe fn function(module: CUmodule, name: &std::ffi::CStr) -> Answer<CUfunction> {
    // SAFETY: as the caller promises.
    written(std::ptr::null_mut(), |to| unsafe { cuModuleGetFunction(to, module, name.as_ptr()) })
}

/// # Safety
/// Nothing of the module is used afterwards.
pub(super) unsafe fn unload(module: CUmodule) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuModuleUnload(module) }
}

/// Lets a kernel have so many bytes of dynamic shared memory.
///
/// # Safety
/// The function's module is loaded.
pub(super) unsafe fn allow_shared(function: CUfunction, bytes: usize) -> Answer {
    let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: as the caller promises.
    unsafe { cuFuncSetAttribute(function, attribute as c_uint, bytes as c_int) }
}

/// Blocks of a kernel that a multiprocessor can have at a time.
///
/// # Safety
/// The function's module is loaded.
pub(super) unsafe fn resident_blocks(function: CUfunction, threads: u32, shared: u32) -> Answer<i32> {
    let ask = |to| {
        // SAFETY: as the caller promises; writes one integer to a valid place.
        unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(to, function, threads as c_int, shared as usize) }
    };
    written(0, ask)
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub blocks: [u32; 3],
    pub threads: u32,
    pub shared: u32,
    /// All blocks at the same time.
    pub cooperative: bool,
}

/// # Safety
/// The function's module is loaded, and number and sizes of the arguments are those of the kernel.
pub(super) unsafe fn launch(
    function: CUfunction,
    shape: Shape,
    stream: CUstream,
    arguments: &mut [*mut c_void],
) -> Answer {
    let Shape { blocks: [x, y, z], threads, shared, cooperative } = shape;
    let arguments = arguments.as_mut_ptr();
    // SAFETY: as the caller promises.
    unsafe {
        match cooperative {
            true => cuLaunchCooperativeKernel(function, x, y, z, threads, 1, 1, shared, stream, arguments),
            false => cuLaunchKernel(function, x, y, z, threads, 1, 1, shared, stream, arguments, std::ptr::null_mut()),
        }
    }
}

/// # Safety
/// The graph is of [`end_capture`].
pub(super) unsafe fn instantiate(graph: CUgraph) -> Answer<CUgraphExec> {
    // SAFETY: as the caller promises.
    written(std::ptr::null_mut(), |to| unsafe { cuGraphInstantiateWithFlags(to, graph, 0) })
}

/// # Safety
/// The graph is not destroyed, and what it reads of the host lives until the stream is done.
pub(super) unsafe fn launch_graph(executable: CUgraphExec, stream: CUstream) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuGraphLaunch(executable, stream) }
}

/// # Safety
/// The graph is not used afterwards; what was made of it stays.
pub(super) unsafe fn destroy_graph(graph: CUgraph) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuGraphDestroy(graph) }
}

/// # Safety
/// The graph is not used afterwards, and what was launched of it is done.
pub(super) unsafe fn destroy_executable(executable: CUgraphExec) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { cuGraphExecDestroy(executable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    functions! {
        cuThereIsNoSuchFunction(nothing: c_int);
    }

    #[test]
    fn a_function_that_a_driver_lacks_is_a_code() {
        if !is_present() {
            println!("skipped: there is no CUDA driver");
            return;
        }
        // SAFETY: there is none to be called.
        assert_eq!(unsafe { cuThereIsNoSuchFunction(0) }, Err(Code::NOT_FOUND));
    }
}
