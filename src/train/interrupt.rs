//! A signal asks a training run to stop; the run polls between steps, saves its state and ends. A
//! program that holds this library and has handlers of its own asks by a [`Stop`] instead.

use std::cell::RefCell;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::{self, pipe};

use crate::error::{Error, Result};
use crate::temporary;

/// Number of the last signal, 0 for none.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

thread_local! {
    /// What this thread's work listens to in the place of signals.
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// Asks the work of one thread to stop, from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// As if the signal of this number (2 = SIGINT) had come.
    pub fn ask(&self, signal: i32) {
        self.0.store(signal as usize, Ordering::Relaxed);
    }

    /// From now on this thread listens to this and not to signals: [`install`] does nothing in it.
    pub fn is_heard_here(&self) {
        STOP.set(Some(self.clone()));
    }

    /// The flag that this thread listens to, where it has one of its own.
    fn here() -> Option<Arc<AtomicUsize>> {
        STOP.with_borrow(|stop| stop.as_ref().map(|stop| stop.0.clone()))
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP (a terminal that closes) only set the flag that
/// [`requested`] reads. A second one ends the process at once (a user who presses Ctrl-C twice does
/// not want to wait for a checkpoint; the last one written stays good), but for the temporary
/// folders, which go first.
pub fn install() -> Result<()> {
    if SIGNAL.get().is_some() || Stop::here().is_some() {
        return Ok(());
    }
    let fault = |e: std::io::Error| Error::data(format!("cannot watch for interrupts: {e}"));
    let signal = SIGNAL.get_or_init(Arc::default);
    let (mut told, tells) = UnixStream::pair().map_err(fault)?;
    let register = |number: i32| {
        flag::register_usize(number, signal.clone(), number as usize)?;
        // a thread does the work that a handler may not do
        pipe::register(number, tells.try_clone()?)
    };
    [SIGINT, SIGTERM, SIGHUP].into_iter().try_for_each(|number| register(number).map(drop).map_err(fault))?;
    let signal = signal.clone();
    let end = move || {
        let mut two = [0; 2];
        if told.read_exact(&mut two).is_ok() {
            temporary::remove_all();
            low_level::exit(128 + signal.load(Ordering::Relaxed) as i32);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(end).map_err(fault)?;
    // a file that may not grow further is then an error of the write, not the end of the process
    flag::register(SIGXFSZ, Arc::default()).map_err(fault)?;
    Ok(())
}

/// The signal that asked the process to stop, if any (1 = SIGHUP, 2 = SIGINT, 15 = SIGTERM).
/// Trainers poll this between steps and answer with [`Error::Interrupted`] once their state is
/// saved.
pub fn requested() -> Option<i32> {
    let number = match Stop::here() {
        Some(flag) => flag.load(Ordering::Relaxed),
        None => SIGNAL.get()?.load(Ordering::Relaxed),
    };
    (number != 0).then_some(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_have_a_flag_of_its_own() {
        let stop = Stop::default();
        let asked = stop.clone();
        let heard = std::thread::spawn(move || {
            stop.is_heard_here();
            asked.ask(SIGINT);
            // another thread does not hear it
            (requested(), std::thread::spawn(requested).join().unwrap())
        });
        assert_eq!(heard.join().unwrap(), (Some(SIGINT), None));
    }
}
