//! Memory of the device and page-locked memory of the host.

use std::alloc::Layout;
use std::ffi::{c_uint, c_void};

use super::stream::Node;
use super::{
    Answer, CAPTURE_UNSUPPORTED, Handle, INVALID_VALUE, Needs, OUT_OF_MEMORY, State, bytes, bytes_mut, call, put,
    refuse,
};
use crate::memory::BadAddress;
use crate::report::Kind;

fn bad(e: BadAddress) -> super::Refusal {
    refuse(INVALID_VALUE, e.0)
}

impl State {
    fn allocate(&mut self, to: *mut u64, len: usize, by: &str) -> Answer {
        if len == 0 {
            return Err(refuse(INVALID_VALUE, "an allocation of 0 bytes"));
        }
        let total = self.config.device.memory as u64;
        if self.memory.used + len as u64 > total {
            return Err(refuse(OUT_OF_MEMORY, ""));
        }
        let address = self.memory.allocate(len as u64, by, self.config.reuse);
        put(to, address)
    }

    /// Checks the ranges of a copy or fill now, also where it only is captured.
    pub fn check_node(&self, node: &Node) -> Answer {
        let range = |at: u64, len: usize| match len {
            0 => Ok(()),
            _ => self.memory.find(at, len as u64).map(|_| ()).map_err(bad),
        };
        match *node {
            Node::ToDevice { to, len, .. } => range(to, len),
            Node::ToHost { from, len, .. } => range(from, len),
            Node::Within { to, from, len } => range(to, len).and(range(from, len)),
            Node::Fill { to, len, .. } => range(to, len),
            _ => Ok(()),
        }
    }

    pub fn copy(&mut self, node: &Node) -> Answer {
        match *node {
            Node::ToDevice { to, from, len } => self.memory.write(to, bytes(from as *const c_void, len)?).map_err(bad),
            Node::ToHost { to, from, len } => {
                if self.config.checks.init
                    && let Some(at) = self.memory.uninitialised(from, len as u64)
                {
                    let mut refusal = refuse(
                        INVALID_VALUE,
                        format!("copies {len} bytes to the host, of which 0x{at:x} was never written"),
                    );
                    refusal.kind = Kind::Uninitialised;
                    return Err(refusal);
                }
                self.memory.read(from, bytes_mut(to as *mut c_void, len)?).map_err(bad)
            }
            Node::Within { to, from, len } => self.memory.copy(to, from, len as u64).map_err(bad),
            Node::Fill { to, value, len } => self.memory.fill(to, value, len as u64).map_err(bad),
            _ => Ok(()),
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(to: *mut u64, len: usize) -> u32 {
    call("cuMemAlloc", Needs::Context, |s| {
        s.refuse_while_capturing()?;
        s.allocate(to, len, "cuMemAlloc")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(to: *mut u64, len: usize, stream: Handle) -> u32 {
    call("cuMemAllocAsync", Needs::Context, |s| {
        s.refuse_if_captured(stream, "memory cannot be allocated in a captured graph here")?;
        s.allocate(to, len, "cuMemAllocAsync")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    call("cuMemFree", Needs::Context, |s| {
        s.refuse_while_capturing()?;
        if address == 0 { Ok(()) } else { s.memory.free(address).map_err(bad) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, stream: Handle) -> u32 {
    call("cuMemFreeAsync", Needs::Context, |s| {
        s.refuse_if_captured(stream, "memory cannot be freed in a captured graph here")?;
        s.memory.free(address).map_err(bad)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32 {
    call("cuMemGetInfo", Needs::Context, |s| {
        put(free, s.config.device.memory.saturating_sub(s.memory.used as usize))?;
        put(total, s.config.device.memory)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, len: usize, stream: Handle) -> u32 {
    let node = Node::ToDevice { to, from: from as usize, len };
    call("cuMemcpyHtoDAsync", Needs::Context, |s| s.submit(stream, node))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, len: usize) -> u32 {
    let node = Node::ToDevice { to, from: from as usize, len };
    call("cuMemcpyHtoD", Needs::Sync, |s| s.submit(std::ptr::null_mut(), node))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, stream: Handle) -> u32 {
    let node = Node::ToHost { to: to as usize, from, len };
    call("cuMemcpyDtoHAsync", Needs::Context, |s| s.submit(stream, node))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, len: usize) -> u32 {
    let node = Node::ToHost { to: to as usize, from, len };
    call("cuMemcpyDtoH", Needs::Sync, |s| s.submit(std::ptr::null_mut(), node))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: Handle) -> u32 {
    call("cuMemcpyDtoDAsync", Needs::Context, |s| s.submit(stream, Node::Within { to, from, len }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, len: usize) -> u32 {
    call("cuMemcpyDtoD", Needs::Sync, |s| s.submit(std::ptr::null_mut(), Node::Within { to, from, len }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: u8, len: usize, stream: Handle) -> u32 {
    call("cuMemsetD8Async", Needs::Context, |s| s.submit(stream, Node::Fill { to, value, len }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(to: u64, value: u8, len: usize) -> u32 {
    call("cuMemsetD8", Needs::Sync, |s| s.submit(std::ptr::null_mut(), Node::Fill { to, value, len }))
}

/// Largest page-locked allocation.
const HOST_ALIGN: usize = 4096;

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(to: *mut *mut c_void, len: usize, _flags: c_uint) -> u32 {
    call("cuMemHostAlloc", Needs::Context, |s| {
        let layout = Layout::from_size_align(len, HOST_ALIGN).map_err(|_| refuse(INVALID_VALUE, "too large"))?;
        if len == 0 {
            return Err(refuse(INVALID_VALUE, "an allocation of 0 bytes"));
        }
        // SAFETY: the layout has a size above zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(refuse(OUT_OF_MEMORY, ""));
        }
        s.host.insert(memory as usize, layout);
        put(to, memory.cast())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(memory: *mut c_void) -> u32 {
    call("cuMemFreeHost", Needs::Context, |s| {
        let Some(layout) = s.host.remove(&(memory as usize)) else {
            return Err(refuse(INVALID_VALUE, format!("{memory:?} is no page-locked memory")));
        };
        // SAFETY: the pointer came from `alloc_zeroed` with this layout, and was removed from the
        // list, so once only.
        unsafe { std::alloc::dealloc(memory.cast(), layout) };
        Ok(())
    })
}

impl State {
    fn refuse_if_captured(&mut self, stream: Handle, why: &str) -> Answer {
        let captured = self.stream(stream)?.capture.is_some();
        if captured {
            self.invalidate(stream);
            return Err(refuse(CAPTURE_UNSUPPORTED, why));
        }
        Ok(())
    }
}
