//! Work on threads of its own, while Python goes on: what the work says is handed to Python, and
//! Ctrl-C asks it to stop.
//!
//! The threads live as long as the call: a process that forks in between leaves none behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use ulmfit::error::{Error, Result};
use ulmfit::train::interrupt::Stop;

use crate::fault;

/// The stack of each thread.
const STACK: usize = 16 << 20;
/// How long Ctrl-C may wait until it is seen.
const LOOK: Duration = Duration::from_millis(50);

/// What the work says.
#[derive(Clone, Debug)]
pub enum Said {
    /// Lines of progress, with their line ends.
    Progress(String),
    Warning(String),
}

/// What the work says, or how it ended.
enum Message<T> {
    Said(Said),
    Done(std::thread::Result<Result<T>>),
}

/// Hands on what the work says.
pub struct Voice(Box<dyn Fn(Said) + Send + Sync>);

impl Voice {
    pub fn say(&self, said: Said) {
        (self.0)(said);
    }
}

/// Does `work` on `threads` threads (all processors unless told) without Python's lock. `hear` gets
/// what it says. An exception there, Ctrl-C or another signal's handler asks the work to stop, and
/// is raised when it has.
///
/// # Errors
/// That exception; the fault of the work, a panic among them.
pub fn off_lock<T: Send + 'static>(
    py: Python<'_>,
    threads: Option<usize>,
    mut hear: impl FnMut(Said) -> PyResult<()>,
    work: impl FnOnce(Voice) -> Result<T> + Send + 'static,
) -> PyResult<T> {
    let (stop, (tell, mut told)) = (Stop::default(), channel());
    let listens = stop.clone();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK)
        .start_handler(move |_| listens.is_heard_here())
        .build()
        .map_err(|e| fault::of(py, &Error::data(format!("cannot start the threads: {e}"))))?;
    pool.spawn(move || {
        let voice: Sender<Message<T>> = tell.clone();
        // nobody listens any more where the call is over
        let voice = Voice(Box::new(move |said| drop(voice.send(Message::Said(said)))));
        let done = catch_unwind(AssertUnwindSafe(|| work(voice)));
        drop(tell.send(Message::Done(done)));
    });
    let mut raised = None;
    let mut raise = |outcome: PyResult<()>| {
        if let Err(error) = outcome {
            stop.ask(2);
            raised.get_or_insert(error);
        }
    };
    let done = loop {
        let told = &mut told;
        match py.detach(move || told.recv_timeout(LOOK)) {
            Ok(Message::Done(done)) => break done,
            Ok(Message::Said(said)) => raise(hear(said)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Ok(Err(Error::data("the work ended without an answer"))),
        }
        raise(py.check_signals());
    };
    if let Some(error) = raised {
        return Err(error);
    }
    match done {
        Ok(Ok(result)) => Ok(result),
        // asked for by nobody here
        Ok(Err(Error::Interrupted { message, .. })) => Err(PyKeyboardInterrupt::new_err(message)),
        Ok(Err(error)) => Err(fault::of(py, &error)),
        Err(panic) => Err(fault::of_panic(py, &*panic)),
    }
}

/// Whether somebody wants the work to end; for loops that no trainer watches.
///
/// # Errors
/// Somebody does.
pub fn go_on() -> Result<()> {
    match ulmfit::train::interrupt::requested() {
        Some(signal) => Err(Error::Interrupted { signal, message: "the work was not finished".into() }),
        None => Ok(()),
    }
}
