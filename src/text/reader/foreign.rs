//! What is no text, or none that can be read: told before it becomes documents.

use crate::error::{Error, Result};

/// Carriage returns that stand for a line end alone: another character follows.
pub(super) fn lone_returns(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\r', text).filter(|at| !matches!(text.get(at + 1), None | Some(b'\r' | b'\n'))).count()
}

/// Whether carriage returns are the line ends of a text rather than line feeds.
pub(super) fn has_lone_returns(text: &str) -> bool {
    let text = text.trim_end().as_bytes();
    memchr::memchr(b'\r', text).is_some()
        && lone_returns(text) > memchr::memchr_iter(b'\n', text).count()
}

/// Line ends that would make one document of several.
pub(super) fn returns(name: &str, line: u64) -> Error {
    Error::line(name, line, "has lines that end in a carriage return alone")
        .hint("convert the line ends to line feeds: tr '\\r' '\\n'")
}

/// # Errors
/// A text whose lines end in carriage returns alone.
pub(super) fn refuse_returns(name: &str, text: &str) -> Result<()> {
    if has_lone_returns(text) { Err(returns(name, 1)) } else { Ok(()) }
}

/// Bytes of zero in what is read as an encoding that has none: text of another encoding, or a file
/// of a program.
///
/// # Errors
/// `head`, the beginning of a file or all of it, has some.
pub(super) fn refuse_zeros(name: &str, head: &[u8]) -> Result<()> {
    let Some(at) = memchr::memchr(0, head) else { return Ok(()) };
    let quarter = head.len() / 4;
    let at_place = |place: usize| head.iter().skip(place).step_by(4).filter(|&&b| b == 0).count();
    let counts = [0, 1, 2, 3].map(at_place);
    let (full, sparse) = (|n: usize| quarter > 1 && n * 20 >= quarter * 19, |n: usize| n * 2 < quarter);
    for (wide, ends, begins) in [("UTF-32LE", [2, 3], 0), ("UTF-32BE", [0, 1], 3)] {
        if ends.iter().all(|&place| full(counts[place])) && sparse(counts[begins]) {
            return Err(utf32(name, wide));
        }
    }
    let (even, odd) = (counts[0] + counts[2], counts[1] + counts[3]);
    let guess = if odd > even { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE };
    let whole = &head[..head.len() / 2 * 2];
    if !is_text(&head.iter().copied().filter(|&b| b != 0).collect::<Vec<u8>>())
        && let Some(text) = guess.decode_without_bom_handling_and_without_replacement(whole)
        && is_text(text.as_bytes())
    {
        let message = format!("looks like {}, without a byte-order mark that says so", guess.name());
        return Err(Error::file(name, message).hint(format!("--encoding {}", guess.name().to_ascii_lowercase())));
    }
    let line = 1 + memchr::memchr_iter(b'\n', &head[..at]).count() as u64;
    Err(zero(name, line))
}

/// A byte of zero.
pub(super) fn zero(name: &str, line: u64) -> Error {
    Error::line(name, line, "has a NUL byte: is it a binary file, or text in UTF-16 or UTF-32?")
        .hint("--encoding utf-16le or utf-16be, if it is text in one of them")
}

/// # Errors
/// A byte-order mark of UTF-32.
pub(super) fn refuse_utf32(name: &str, head: &[u8]) -> Result<()> {
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(utf32(name, "UTF-32")),
        _ => Ok(()),
    }
}

fn utf32(name: &str, which: &str) -> Error {
    Error::file(name, format!("is in {which}, which is not read")).hint(format!("iconv -f {which} -t UTF-8"))
}

/// Whether bytes are UTF-8 (perhaps cut at the end) without control characters that no text has.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.chars().any(|c| c < ' ' && !matches!(c, '\t'..='\r' | '\u{1a}' | '\u{1b}'))
}
