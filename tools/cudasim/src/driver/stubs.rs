//! Calls that clients look up and this driver does not do: they say so and return
//! `CUDA_ERROR_NOT_SUPPORTED`.

use super::{NOT_SUPPORTED, Needs, call, refuse};

macro_rules! stubs {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> u32 {
                call(stringify!($name), Needs::Nothing, |_| Err(refuse(NOT_SUPPORTED, "not simulated")))
            }
        )*
    };
}

stubs! {
    cuCtxCreate_v2
    cuCtxCreate_v3
    cuCtxCreate_v4
    cuCtxDestroy_v2
    cuCtxPushCurrent_v2
    cuCtxPopCurrent_v2
    cuCtxGetLimit
    cuCtxSetLimit
    cuDestroyExternalMemory
    cuDeviceGetDefaultMemPool
    cuDeviceGetMemPool
    cuDeviceSetMemPool
    cuExternalMemoryGetMappedBuffer
    cuImportExternalMemory
    cuMemAdvise
    cuMemAdvise_v2
    cuMemAllocFromPoolAsync
    cuMemAllocManaged
    cuMemPoolCreate
    cuMemPoolDestroy
    cuMemPoolGetAttribute
    cuMemPoolSetAttribute
    cuMemPoolTrimTo
    cuMemPrefetchAsync
    cuMemPrefetchAsync_v2
    cuMemcpyPeerAsync
    cuOccupancyAvailableDynamicSMemPerBlock
    cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialClusterSize
    cuStreamAttachMemAsync
    cuStreamGetCaptureInfo_v2
    cuGraphCreate
    cuGraphAddKernelNode_v2
    cuGraphExecUpdate_v2
    cuGraphExecKernelNodeSetParams_v2
    cuLaunchKernelEx
    cuModuleGetLoadingMode
    cuLibraryLoadData
    cuLibraryUnload
    cuLibraryGetKernel
    cuMemsetD16Async
    cuMemsetD32Async
    cuPointerGetAttribute
    cuMemHostRegister_v2
    cuMemHostUnregister
    cuMemHostGetDevicePointer_v2
    cuDeviceCanAccessPeer
    cuDevicePrimaryCtxReset_v2
    cuDevicePrimaryCtxGetState
    cuDevicePrimaryCtxSetFlags_v2
}
