//! Memory of the host. Large allocations are mapped apart and ask for huge pages: fresh memory
//! costs a page fault for every page, and products that walk over matrices with long rows a miss of
//! the address cache for every row.

use std::alloc::Layout;

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// Alignment of every allocation: a cache line, and the widest vector register.
pub(super) const ALIGN: usize = 64;
/// From this size on huge pages are asked for (2 MiB each on most systems).
const LARGE: usize = 4 << 20;

/// One allocation, zeroed when made.
pub(super) struct Pages {
    pointer: *mut u8,
    owner: Owner,
}

enum Owner {
    Heap(Layout),
    Map {
        /// Held, not read.
        _map: MmapMut,
    },
}

// SAFETY: the allocation belongs to this value alone; who accesses it through the pointer answers
// for the rest.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN)
            .map_err(|_| Error::data(format!("{bytes} bytes are more than this machine can address")))?;
        let refused = || {
            Error::data(format!("the system refused an allocation of {bytes} bytes"))
                .hint("lower --batch-size, --bptt or the model's sizes")
        };
        if bytes >= LARGE {
            let mut map = MmapMut::map_anon(bytes).map_err(|_| refused())?;
            // a request, no more: where there are no huge pages the others serve
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Ok(Pages { pointer: map.as_mut_ptr(), owner: Owner::Map { _map: map } });
        }
        // SAFETY: the layout's size is at least ALIGN, so not zero.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
        if pointer.is_null() {
            return Err(refused());
        }
        Ok(Pages { pointer, owner: Owner::Heap(layout) })
    }

    pub(super) fn pointer(&self) -> *mut u8 {
        self.pointer
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: pointer and layout are those of the allocation made in `new`.
            unsafe { std::alloc::dealloc(self.pointer, layout) }
        }
    }
}
