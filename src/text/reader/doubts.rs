//! Doubts about reading a file in the encoding that the user names.

use std::io::{Cursor, Read};

use super::archive::Container;
use super::bytes::read_error;
use super::input::{CHUNK, Encoding};
use super::{OpenOptions, Place};
use crate::error::{Error, Result};

/// Files of a folder or archive that are looked at.
const LOOKED_AT: usize = 1000;

/// Doubts about a file that is read in that encoding, a sentence each; none where it has its own.
///
/// # Errors
/// The file has the byte-order mark of another encoding; it cannot be read.
pub(super) fn of_file(place: &Place, read_as: Option<Encoding>) -> Result<Vec<String>> {
    match read_as.filter(|encoding| *encoding != Encoding::Utf8) {
        Some(encoding) => of_bytes(&mut *place.open()?, &place.name(), encoding),
        None => Ok(Vec::new()),
    }
}

/// The doubts about the first file of a tree that has any.
///
/// # Errors
/// As [`of_file`].
pub(super) fn of_tree(container: &Container, prefix: &str, options: &OpenOptions) -> Result<Vec<String>> {
    let Some(encoding) = options.encoding.filter(|encoding| *encoding != Encoding::Utf8) else { return Ok(Vec::new()) };
    let (mut found, mut looked) = (Vec::new(), 0);
    let mut look = |name: &str, content: &mut dyn Read| -> Result<bool> {
        let (shown, mut head) = (container.name_of(name), Vec::new());
        content.take(CHUNK as u64).read_to_end(&mut head).map_err(|e| read_error(&shown, e))?;
        // packed bytes are not checked
        if !head.starts_with(&[0x1f, 0x8b]) && !head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            found = of_bytes(&mut Cursor::new(head), &shown, encoding)?;
        }
        looked += 1;
        Ok(found.is_empty() && looked < LOOKED_AT)
    };
    container.read(&mut |name| name.starts_with(prefix), &mut look)?;
    Ok(found)
}

/// # Errors
/// A mark of UTF-16 before what is to be read as something else.
pub(super) fn refuse_mark(head: &[u8], name: &str, encoding: Encoding) -> Result<()> {
    // the name utf-16 alone leaves the order of bytes to the mark
    let other = |marked: &Encoding| {
        encoding.has_ascii_marks() || (encoding == Encoding::Other(encoding_rs::UTF_16BE) && *marked != encoding)
    };
    match Encoding::of_mark(head).filter(|marked| encoding != Encoding::Utf8 && other(marked)) {
        Some(marked) => {
            let (marked, told) = (marked.name(), encoding.name());
            let message = format!("begins with the byte-order mark of {marked}, but --encoding says {told}");
            Err(Error::file(name, message).hint("leave --encoding out: the mark tells the encoding"))
        }
        None => Ok(()),
    }
}

/// Bytes that mean nothing in windows-1252.
const UNDEFINED: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// Two bytes of an accented letter, or three of a quotation mark, a dash or an ellipsis.
fn has_letters_in_utf8(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| matches!(two, [0xc3, 0x80..=0xbf]))
        || bytes.windows(3).any(|three| matches!(three, [0xe2, 0x80, 0x93..=0xa6]))
}

/// All of it is valid UTF-8 with letters beyond ASCII (or read as what has no ASCII in it); or, in
/// Latin-1, it has control characters that are letters and quotes in windows-1252.
fn of_bytes(bytes: &mut dyn Read, name: &str, encoding: Encoding) -> Result<Vec<String>> {
    let (mut block, mut kept, mut utf8, mut zeros) = (vec![0; CHUNK], 0, true, false);
    let (mut letters, mut escapes) = (false, false);
    let mut beyond = !encoding.has_ascii_marks();
    let mut control = None;
    let mut begun = false;
    loop {
        let read = bytes.read(&mut block[kept..]).map_err(|e| read_error(name, e))?;
        let piece = &block[..kept + read];
        if !std::mem::replace(&mut begun, true) {
            refuse_mark(piece, name, encoding)?;
        }
        control = control.or_else(|| piece.iter().copied().find(|b| (0x80..0xa0).contains(b)));
        beyond |= !piece.is_ascii();
        zeros |= piece.contains(&0);
        escapes |= piece.contains(&0x1b);
        letters |= has_letters_in_utf8(piece);
        let valid = match std::str::from_utf8(piece) {
            Ok(text) => text.len(),
            Err(e) => {
                utf8 &= e.error_len().is_none() && read > 0;
                e.valid_up_to()
            }
        };
        if read == 0 || (!utf8 && (encoding != Encoding::Latin1 || (control.is_some() && letters))) {
            break;
        }
        let length = piece.len();
        // the beginning of a character goes before what follows
        kept = if utf8 { length - valid } else { 0 };
        block.copy_within(length - kept..length, 0);
    }
    let mut doubts = Vec::new();
    // in ISO-2022-JP letters are ASCII after an escape
    if utf8 && beyond && !zeros && !(escapes && encoding == Encoding::Other(encoding_rs::ISO_2022_JP)) {
        doubts.push(format!("{name} is valid UTF-8, but --encoding says {}", encoding.name()));
    } else if !utf8 && letters && encoding.is_of_single_bytes() {
        doubts.push(format!(
            "{name} has letters in UTF-8 beside bytes that are not: were files of two encodings put together?"
        ));
    } else if let (Some(byte), Encoding::Latin1) = (control.filter(|b| !UNDEFINED.contains(b)), encoding) {
        doubts.push(format!(
            "{name} has the byte {byte:#04x}, a control character in Latin-1 and a mark or letter in windows-1252: \
             --encoding windows-1252 reads it so"
        ));
    }
    Ok(doubts)
}
