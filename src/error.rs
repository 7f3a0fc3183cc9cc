//! One error type for the whole crate: what went wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

/// Result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as one sentence that names the thing, and a hint where a next step
/// exists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or a configuration asks for something that cannot be (exit status 2).
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },

    /// A file or directory cannot be read, written, or does not hold what it should.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    File { path: PathBuf, line: Option<u64>, message: String, hint: Option<String> },

    /// Data, a model or a run is unfit for the request.
    #[error("{message}")]
    Data { message: String, hint: Option<String> },

    /// An operation was given tensors it is not defined for.
    #[error("{operation}: {argument} must be {expected}, found {found}")]
    Shape { operation: &'static str, argument: &'static str, expected: String, found: String },

    /// `backward` met an operation that has none.
    #[error("operation '{operation}' has no backward, but a gradient is needed through it")]
    NoBackward { operation: &'static str },

    /// An operation has no kernels for this GPU yet (exit status 2).
    #[error("operation '{operation}' does not run on {device} yet")]
    NoKernels { operation: &'static str, device: String },

    /// The memory limit would be exceeded.
    #[error("{what} needs {needed} bytes, but the memory limit of {limit} bytes leaves {left}")]
    Memory { what: String, needed: usize, limit: usize, left: usize },

    /// The loss or a gradient is not a finite number.
    #[error("{message}")]
    NotFinite { message: String, hint: Option<String> },

    /// The run was interrupted by a signal and its state is saved (exit status 128 + signal).
    #[error("interrupted by signal {signal}; {message}")]
    Interrupted { signal: i32, message: String },

    /// An instrument (gradient check, fixtures) found a difference.
    #[error("{message}")]
    CheckFailed { message: String },
}

/// Longest message about a file, in characters.
const LONGEST: usize = 1000;

/// A message may repeat what a file holds: control characters are spelled out, and what is too long
/// for a sentence is cut.
fn one_sentence(message: impl Into<String>) -> String {
    let message: String = message.into();
    if message.len() <= LONGEST && !message.contains(char::is_control) {
        return message;
    }
    let spelled = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    let whole: String = message.chars().take(LONGEST + 1).map(spelled).collect();
    let mut short: String = whole.chars().take(LONGEST).collect();
    if short.len() < whole.len() {
        short.push('…');
    }
    short
}

impl Error {
    /// Wrong usage: exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage { message: message.into(), hint: None }
    }

    /// Unfit data, model or run: exit status 1.
    pub fn data(message: impl Into<String>) -> Self {
        Error::Data { message: message.into(), hint: None }
    }

    /// Something about a file.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), line: None, message: one_sentence(message), hint: None }
    }

    /// Something about a line (counted from 1) of a file.
    pub fn line(path: impl AsRef<Path>, line: u64, message: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), line: Some(line), message: one_sentence(message), hint: None }
    }

    /// An operating-system error about a path, in words ("no such file", not "os error 2").
    pub fn io(path: impl AsRef<Path>, action: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let why = match error.kind() {
            ErrorKind::NotFound => "no such file or directory".to_string(),
            ErrorKind::PermissionDenied => "permission denied".to_string(),
            ErrorKind::IsADirectory => "is a directory".to_string(),
            ErrorKind::NotADirectory => "is not a directory".to_string(),
            ErrorKind::AlreadyExists => "something else has this name".to_string(),
            ErrorKind::StorageFull => "no space left on the device".to_string(),
            ErrorKind::QuotaExceeded => "the quota of this user is used up".to_string(),
            ErrorKind::FileTooLarge => "the file would be larger than this process may write".to_string(),
            ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_string(),
            ErrorKind::UnexpectedEof => "the file ends too early".to_string(),
            _ => error.to_string(),
        };
        let fault = Self::file(path, format!("cannot {action}: {why}"));
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                fault.hint("make room; a training goes on with --resume")
            }
            ErrorKind::FileTooLarge => fault.hint("raise the limit (ulimit -f); a training goes on with --resume"),
            _ => fault,
        }
    }

    /// A shape (or type) that an operation is not defined for.
    pub fn shape(
        operation: &'static str,
        argument: &'static str,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Error::Shape { operation, argument, expected: expected.into(), found: found.to_string() }
    }

    /// The same error with a next step for the reader.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Error::Usage { hint, .. }
            | Error::File { hint, .. }
            | Error::Data { hint, .. }
            | Error::NotFinite { hint, .. } => *hint = Some(text.into()),
            _ => {}
        }
        self
    }

    /// The same error in other words: `change` gets the message and the hint.
    #[must_use]
    pub fn reworded(mut self, change: impl Fn(&str) -> String) -> Self {
        match &mut self {
            Error::Usage { message, hint } | Error::File { message, hint, .. } | Error::Data { message, hint } => {
                *message = change(message);
                *hint = hint.as_deref().map(change);
            }
            _ => {}
        }
        self
    }

    /// The next step, where one is known.
    pub fn hint_text(&self) -> Option<String> {
        match self {
            Error::Usage { hint, .. }
            | Error::File { hint, .. }
            | Error::Data { hint, .. }
            | Error::NotFinite { hint, .. } => hint.clone(),
            Error::NoKernels { .. } => Some("use --device cpu, or leave --device out".into()),
            Error::Memory { .. } => {
                Some("raise --memory-limit, or lower --batch-size, --bptt or the model's sizes".into())
            }
            _ => None,
        }
    }

    /// Exit status of the command line (docs/CLI.md, Conventions).
    pub fn exit_status(&self) -> i32 {
        match self {
            Error::Usage { .. } | Error::NoKernels { .. } => 2,
            Error::Interrupted { signal, .. } => 128 + signal,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_cannot_break_the_sentence() {
        let said = |message: &str| Error::file("f", message).to_string();
        assert_eq!(said("has 'é' and \"b\""), "f: has 'é' and \"b\"");
        assert_eq!(said("has a\u{1b}[31m\0\nb"), "f: has a\\u{1b}[31m\\0\\nb");
        let long = said(&"é".repeat(2000));
        assert_eq!(long.chars().count(), "f: ".len() + LONGEST + 1);
        assert!(long.ends_with('…'));
    }
}
