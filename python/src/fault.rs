//! Faults: the program's one sentence as a Python exception. A panic is one of them, too.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use ulmfit::error::Error;

create_exception!(
    ulmfit,
    UlmfitError,
    PyValueError,
    "What is wrong, in one sentence. `hint` is the next step where one is known, else None."
);

/// Where the last panic was.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic writes nothing: [`of_panic`] tells of it.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        // one that is expected and told as a fault of a file keeps silent
        if !ulmfit::text::is_guarded() {
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
            *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }
    }));
}

/// The exception of an error of the library.
pub fn of(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error.to_string(), error.hint_text())
}

/// The exception of a panic.
pub fn of_panic(py: Python<'_>, payload: &(dyn Any + Send)) -> PyErr {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    exception(py, format!("internal error{place}: {}", text.unwrap_or_else(|| "without a message".into())), None)
}

/// An exception with its hint, which a traceback shows below the sentence (from Python 3.11 on).
fn exception(py: Python<'_>, message: String, hint: Option<String>) -> PyErr {
    let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (error, hint) = (UlmfitError::new_err(line(message)), hint.map(line));
    let value = error.value(py);
    let notes = hint.iter().map(|hint| format!("hint: {hint}")).collect::<Vec<_>>();
    match value.setattr("hint", hint).and_then(|()| value.setattr("__notes__", notes)) {
        Ok(()) => error,
        Err(other) => other,
    }
}
