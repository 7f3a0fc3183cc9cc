//! A signal asks a training run to stop; the run polls between steps, saves its state and ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Number of the last signal, 0 for none.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP (a terminal that closes) only set the flag that [`requested`] reads. A second one ends the process at once (a user who
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
    let fault = |e: std::io::Error| Error::data(format!("cannot watch for interrupts: {e}"));
    [SIGINT, SIGTERM, SIGHUP].into_iter().try_for_each(|number| register(number).map(drop).map_err(fault))?;
    // a file that may not grow further is then an error of the write, not the end of the process
    flag::register(SIGXFSZ, Arc::default()).map_err(fault)?;
    Ok(())
}

/// The signal that asked the process to stop, if any (1 = SIGHUP, 2 = SIGINT, 15 = SIGTERM). Trainers poll this between steps and answer with
/// [`Error::Interrupted`] once their state is saved.
pub fn requested() -> Option<i32> {
    let number = SIGNAL.get()?.load(Ordering::Relaxed);
    (number != 0).then_some(number as i32)
}
