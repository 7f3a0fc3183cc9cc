//! What a driver refuses, and what stays after an error, seen through cudarc.

mod support;

use cudarc::driver::sys::{CUfunction_attribute, CUresult};
use cudarc::driver::{LaunchConfig, PushKernelArg};
use support::{Sim, expect_arguments, findings, set};

const VECTOR_ADD: &str = include_str!("kernels/vector_add.ptx");
const LSTM: &str = include_str!("kernels/persistent_lstm.ptx");
const BF16_MMA: &str = include_str!("kernels/bf16_mma.ptx");

/// Launches vector_add on 8 elements, of which it says there are `n`.
fn launch(sim: &Sim, n: u32, grid: u32, threads: u32, shared: u32, arguments: u32) -> Result<(), CUresult> {
    let stream = sim.context.default_stream();
    let f = sim.function(VECTOR_ADD, "vector_add");
    let (a, b) = (stream.clone_htod(&[1f32; 8]).unwrap(), stream.clone_htod(&[2f32; 8]).unwrap());
    let mut c = stream.alloc_zeros::<f32>(8).unwrap();
    expect_arguments(arguments);
    let mut launch = stream.launch_builder(&f);
    launch.arg(&a).arg(&b).arg(&mut c).arg(&n);
    let config = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared };
    // SAFETY: the driver under test is there to find what is wrong.
    unsafe { launch.launch(config) }.map_err(|e| e.0)?;
    stream.synchronize().map_err(|e| e.0)
}

fn refused(n: u32, grid: u32, threads: u32, shared: u32, arguments: u32, says: &str) {
    let sim = Sim::new("h100");
    assert_eq!(launch(&sim, n, grid, threads, shared, arguments), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    assert!(findings()[0].contains(says), "{:?}", findings());
    // a refused launch harms nothing
    assert_eq!(launch(&sim, 8, 1, 32, 0, 4), Ok(()));
}

#[test]
fn launches_beyond_the_limits() {
    refused(8, 1, 1025, 0, 4, "1025 threads");
    refused(8, 0, 32, 0, 4, "must not have a 0");
    refused(8, 1, 32, 49153, 4, "cuFuncSetAttribute");
    refused(8, 1, 32, 0, 3, "3 arguments are passed, the kernel takes 4");
    refused(8, 1, 32, 0, 5, "5 arguments are passed, the kernel takes 4");
}

#[test]
fn a_kernel_compiled_for_fewer_threads() {
    let sim = Sim::new("h100");
    let stream = sim.context.default_stream();
    let f = sim.function(BF16_MMA, "bf16_mma");
    let n = 32u32;
    let a = stream.alloc_zeros::<u16>(1024).unwrap();
    let mut c = stream.alloc_zeros::<f32>(1024).unwrap();
    let mut launch = stream.launch_builder(&f);
    launch.arg(&a).arg(&a).arg(&mut c).arg(&n).arg(&n).arg(&n);
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: as above.
    let code = unsafe { launch.launch(config) }.unwrap_err().0;
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_VALUE);
    assert!(findings()[0].contains("compiled for 128"));
}

#[test]
fn ptx_for_a_newer_gpu() {
    let sim = Sim::new("v100");
    let error = sim.context.load_module(BF16_MMA.into()).unwrap_err().0;
    assert_eq!(error, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert!(findings()[0].contains("sm_80 does not run on sm_70"));
    let error = sim.context.load_module("not PTX at all".into()).unwrap_err().0;
    assert_eq!(error, CUresult::CUDA_ERROR_INVALID_PTX);
}

#[test]
fn a_cooperative_grid_must_be_resident() {
    let sim = Sim::new("h100");
    let stream = sim.context.default_stream();
    let f = sim.function(LSTM, "persistent_lstm");
    let too_much = f.set_attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 228 * 1024);
    assert_eq!(too_much.unwrap_err().0, CUresult::CUDA_ERROR_INVALID_VALUE);
    let shared = 200 * 1024;
    f.set_attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared).unwrap();
    assert_eq!(f.occupancy_max_active_blocks_per_multiprocessor(128, shared as usize, None).unwrap(), 1);
    let (p, z) = (0u64, 0u32);
    let mut launch = stream.launch_builder(&f);
    launch.arg(&p).arg(&p).arg(&p).arg(&p).arg(&p).arg(&p).arg(&z).arg(&z).arg(&z).arg(&z).arg(&z);
    let config = LaunchConfig { grid_dim: (133, 1, 1), block_dim: (128, 1, 1), shared_mem_bytes: shared as u32 };
    // SAFETY: as above.
    let code = unsafe { launch.launch_cooperative(config) }.unwrap_err().0;
    assert_eq!(code, CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert!(findings().last().unwrap().contains("133 blocks in a cooperative launch; h100 holds 132"));
}

#[test]
fn errors_stay() {
    let sim = Sim::new("a100");
    // 9 of 8 elements
    assert_eq!(launch(&sim, 9, 1, 32, 0, 4), Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
    let text = findings()[0].clone();
    assert!(text.contains("kernel vector_add") && text.contains("source vector_add.cu:5"), "{text}");
    assert!(text.contains("thread (8, 0, 0)") && text.contains("0 bytes past the end"), "{text}");
    let context = cudarc::driver::CudaContext::new(0);
    let later = context.and_then(|c| c.default_stream().alloc_zeros::<f32>(4).map(|_| ())).unwrap_err();
    assert_eq!(later.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn errors_come_late_when_asked() {
    let sim = Sim::new("a100");
    set("delay_errors", "on");
    let stream = sim.context.default_stream();
    let f = sim.function(VECTOR_ADD, "vector_add");
    let (a, n) = (stream.alloc_zeros::<f32>(8).unwrap(), 9u32);
    let mut c = stream.alloc_zeros::<f32>(8).unwrap();
    let mut launch = stream.launch_builder(&f);
    launch.arg(&a).arg(&a).arg(&mut c).arg(&n);
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: as above.
    assert!(unsafe { launch.launch(config) }.is_ok());
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn memory_of_the_host_and_the_device() {
    let sim = Sim::new("v100");
    let stream = sim.context.default_stream();
    // SAFETY: nothing reads it before the simulator refuses to.
    let fresh = unsafe { stream.alloc::<f32>(8) }.unwrap();
    assert!(stream.clone_dtoh(&fresh).is_err());
    assert!(findings()[0].contains("uninitialised read"), "{:?}", findings());
    // SAFETY: it is never read.
    let huge = unsafe { stream.alloc::<u8>(17 << 30) };
    assert_eq!(huge.map(|_| ()).unwrap_err().0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    let (free, total) = sim.context.mem_get_info().unwrap();
    assert!(free < total && total == 16 << 30);
    // SAFETY: a null pointer and an address of no allocation are what the driver must refuse.
    let twice = unsafe { cudarc::driver::sys::cuMemFree_v2(12345) };
    assert_eq!(twice, CUresult::CUDA_ERROR_INVALID_VALUE);
    // SAFETY: a stub takes no notice of its arguments.
    let stub = unsafe { cudarc::driver::sys::cuMemAllocManaged(std::ptr::null_mut(), 4, 1) };
    assert_eq!(stub, CUresult::CUDA_ERROR_NOT_SUPPORTED);
}
