//! Standard output and standard error. A reader that closes the pipe (`| head`) ends the program in
//! silence.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes to standard output.
pub fn to_stdout(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The outcome of a write to standard output: a closed pipe ends the process with status 0.
pub fn written(outcome: std::io::Result<()>) -> Result<()> {
    match outcome {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            crate::temporary::remove_all();
            std::process::exit(0)
        }
        outcome => outcome.map_err(|e| Error::io("standard output", "write", &e)),
    }
}

/// The result of a command: text for people, or with `--json` one object on one line.
pub fn result(json: bool, text: &str, value: &serde_json::Value) -> Result<()> {
    if json { to_stdout(&format!("{value}\n")) } else { to_stdout(&format!("{}\n", text.trim_end())) }
}

/// Refuses a place where no file can be written, before anything is computed for it.
pub fn check_place(flag: &str, file: &Path) -> Result<()> {
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    if directory.is_some_and(|d| !d.is_dir()) || file.is_dir() {
        return Err(Error::usage(format!("{flag} {}: no file can be written there", file.display())));
    }
    Ok(())
}

/// A line to standard error; nobody there is no fault.
pub fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `warning: …` to standard error, where there is one.
pub fn warn(text: Option<&str>) {
    text.into_iter().for_each(|text| to_stderr(&format!("warning: {text}")));
}

/// Characters of a message that are shown.
const LONGEST_MESSAGE: usize = 2000;

/// `error: …` and, where there is one, `hint: …`: one line each, whatever the texts hold.
pub fn report(message: &str, hint: Option<&str>) {
    let line = |text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // what somebody wrote may be of any length
        match text.char_indices().nth(LONGEST_MESSAGE) {
            Some((end, _)) => format!("{} …", &text[..end]),
            None => text,
        }
    };
    to_stderr(&format!("error: {}", line(message)));
    if let Some(hint) = hint {
        to_stderr(&format!("hint: {}", line(hint)));
    }
}
