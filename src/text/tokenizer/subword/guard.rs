//! Calls into another library on a file that may hold anything: a panic of the library is a fault
//! of the file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; nothing where it broke off. A hook for panics must keep silent about these
/// ([`is_guarded`]).
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    result.ok()
}

/// Whether this thread runs code whose breaking off is expected and caught.
pub fn is_guarded() -> bool {
    GUARDED.get()
}
