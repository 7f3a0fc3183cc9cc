//! A signal asks a training run to stop; the run polls between steps, saves its state and ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Number of the last signal, 0 for none.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on SIGINT and SIGTERM only set the flag that [`requested`] reads. A second one ends the process at once (a user who
/// presses Ctrl-C twice does not want to wait for a checkpoint; the last one written stays good).
pub fn install() -> Result<()> {
    if SIGNAL.get().is_some() {
        return Ok(());
    }
    let again = Arc::new(AtomicBool::new(false));
    let signal = SIGNAL.get_or_init(Arc::default);
    let register = |number: i32| {
        flag::register_conditional_shutdown(number, 128 + number, again.clone())?;
        flag::register(number, again.clone())?;
        flag::register_usize(number, signal.clone(), number as usize)
    };
    for number in [SIGINT, SIGTERM] {
        register(number).map_err(|e| Error::data(format!("cannot watch for interrupts: {e}")))?;
    }
    Ok(())
}

/// The signal that asked the process to stop, if any (2 = SIGINT, 15 = SIGTERM). Trainers poll this between steps and answer with
/// [`Error::Interrupted`] once their state is saved.
pub fn requested() -> Option<i32> {
    let number = SIGNAL.get()?.load(Ordering::Relaxed);
    (number != 0).then_some(number as i32)
}
