//! Initialisation, the device, its context.

use std::ffi::{c_char, c_int, c_uint};

use super::{
    Answer, CURRENT, Handle, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, Needs, Object, call, handle, put, refuse,
};

unsafe extern "C" {
    fn atexit(f: extern "C" fn()) -> c_int;
}

fn check_device(device: c_int) -> Answer {
    if device == 0 {
        Ok(())
    } else {
        Err(refuse(INVALID_DEVICE, format!("there is one device, 0, and no device {device}")))
    }
}

fn context() -> Handle {
    handle(Object::Context, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> u32 {
    call("cuInit", Needs::Nothing, |s| {
        if flags != 0 {
            return Err(refuse(INVALID_VALUE, "flags must be 0"));
        }
        if !s.initialised {
            s.initialised = true;
            // SAFETY: `at_exit` takes nothing, touches only statics that are never dropped, and
            // does not unwind.
            unsafe { atexit(super::api::at_exit) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: *mut c_int) -> u32 {
    call("cuDriverGetVersion", Needs::Nothing, |_| put(version, 12000))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> u32 {
    call("cuDeviceGetCount", Needs::Init, |_| put(count, 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> u32 {
    call("cuDeviceGet", Needs::Init, |_| {
        check_device(ordinal)?;
        put(device, 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> u32 {
    call("cuDeviceGetName", Needs::Init, |s| {
        check_device(device)?;
        let to = super::bytes_mut(name.cast(), len.max(0) as usize)?;
        to.fill(0);
        let from = format!("{} (simulated)", s.config.device.name);
        let n = from.len().min(to.len().saturating_sub(1));
        to[..n].copy_from_slice(&from.as_bytes()[..n]);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> u32 {
    call("cuDeviceGetUuid", Needs::Init, |_| {
        check_device(device)?;
        put(uuid, *b"cudasim device 0")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> u32 {
    cuDeviceGetUuid(uuid, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> u32 {
    call("cuDeviceGetAttribute", Needs::Init, |s| {
        check_device(device)?;
        put(value, s.config.device.attribute(attribute))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> u32 {
    call("cuDeviceTotalMem", Needs::Init, |s| {
        check_device(device)?;
        put(bytes, s.config.device.memory)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(to: *mut Handle, device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRetain", Needs::Init, |s| {
        check_device(device)?;
        s.retained += 1;
        put(to, context())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRelease", Needs::Init, |s| {
        check_device(device)?;
        s.retained =
            s.retained.checked_sub(1).ok_or_else(|| refuse(INVALID_CONTEXT, "released more often than retained"))?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(to: *mut Handle) -> u32 {
    call("cuCtxGetCurrent", Needs::Init, |_| put(to, if CURRENT.get() { context() } else { std::ptr::null_mut() }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(to: Handle) -> u32 {
    call("cuCtxSetCurrent", Needs::Init, |s| {
        if !to.is_null() {
            super::index(Object::Context, to)?;
            if s.retained == 0 {
                return Err(refuse(INVALID_CONTEXT, "the context was released"));
            }
        }
        CURRENT.set(!to.is_null());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(device: *mut c_int) -> u32 {
    call("cuCtxGetDevice", Needs::Context, |_| put(device, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    call("cuCtxSynchronize", Needs::Sync, |s| s.refuse_while_capturing())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> u32 {
    call("cuCtxGetStreamPriorityRange", Needs::Context, |_| {
        put(least, 0)?;
        put(greatest, -5)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(_flags: c_uint) -> u32 {
    call("cuCtxSetFlags", Needs::Context, |_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(_config: c_int) -> u32 {
    call("cuCtxSetCacheConfig", Needs::Context, |_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(config: *mut c_int) -> u32 {
    call("cuCtxGetCacheConfig", Needs::Context, |_| put(config, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> u32 {
    call("cuProfilerStart", Needs::Context, |_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> u32 {
    call("cuProfilerStop", Needs::Context, |_| Ok(()))
}
