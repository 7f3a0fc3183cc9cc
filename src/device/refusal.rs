//! The end of the program when the system has no more memory for it (`ulimit -v`, a full
//! machine): a sentence and exit status 1, where the standard library would abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pages::ALIGN;
use crate::temporary;

/// The system's allocator. Blocks of numbers, which are aligned to a cache line, are refused in
/// words by those who ask for them.
pub struct Careful;

// SAFETY: the system's allocator does all the work; a refusal of what nobody can do without does
// not return.
unsafe impl GlobalAlloc for Careful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        there(unsafe { System.alloc(layout) }, layout, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        there(unsafe { System.alloc_zeroed(layout) }, layout, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's pointer and layout.
        there(unsafe { System.realloc(pointer, layout, size) }, layout, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer and layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[inline]
fn there(pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
    if pointer.is_null() && layout.align() != ALIGN {
        no_memory(bytes);
    }
    pointer
}

/// Ends the program, in words.
#[cold]
pub fn no_memory(bytes: usize) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    // the code below may ask for memory itself
    if !ENDING.swap(true, Ordering::Relaxed) {
        let hint = "hint: lower --batch-size, --bptt, --threads or the model's sizes, or raise the limit (ulimit -v)";
        let _ = writeln!(std::io::stderr(), "error: the system refused an allocation of {bytes} bytes\n{hint}");
        temporary::remove_all();
    }
    signal_hook::low_level::exit(1)
}
