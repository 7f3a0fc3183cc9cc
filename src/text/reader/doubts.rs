//! Doubts about reading a file in the encoding that the user names.

use std::io::{Cursor, Read};

use super::archive::Container;
use super::bytes::read_error;
use super::input::{CHUNK, Encoding};
use super::{OpenOptions, Place};
use crate::error::{Error, Result};

/// Files of a folder or archive that are looked at.
const LOOKED_AT: usize = 1000;

/// Doubts about a file, a sentence each; none where the user names no encoding.
///
/// # Errors
/// The file has the byte-order mark of another encoding; it cannot be read.
pub(super) fn of_file(place: &Place, options: &OpenOptions) -> Result<Vec<String>> {
    match options.encoding.filter(|encoding| *encoding != Encoding::Utf8) {
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
    match Encoding::of_mark(head).filter(|_| encoding != Encoding::Utf8 && encoding.has_ascii_marks()) {
        Some(marked) => {
            let (marked, told) = (marked.name(), encoding.name());
            let message = format!("begins with the byte-order mark of {marked}, but --encoding says {told}");
            Err(Error::file(name, message).hint("leave --encoding out: the mark tells the encoding"))
        }
        None => Ok(()),
    }
}

/// All of it is valid UTF-8 with letters beyond ASCII (or read as what has no ASCII in it); or, in
/// Latin-1, it has control characters that are letters and quotes in windows-1252.
fn of_bytes(bytes: &mut dyn Read, name: &str, encoding: Encoding) -> Result<Vec<String>> {
    let (mut block, mut kept, mut utf8, mut zeros) = (vec![0; CHUNK], 0, true, false);
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
        let valid = match std::str::from_utf8(piece) {
            Ok(text) => text.len(),
            Err(e) => {
                utf8 &= e.error_len().is_none() && read > 0;
                e.valid_up_to()
            }
        };
        if read == 0 || (!utf8 && (encoding != Encoding::Latin1 || control.is_some())) {
            break;
        }
        let length = piece.len();
        // the beginning of a character goes before what follows
        kept = if utf8 { length - valid } else { 0 };
        block.copy_within(length - kept..length, 0);
    }
    let mut doubts = Vec::new();
    if utf8 && beyond && !zeros {
        doubts.push(format!("{name} is valid UTF-8, but --encoding says {}", encoding.name()));
    } else if let (Some(byte), Encoding::Latin1) = (control, encoding) {
        doubts.push(format!(
            "{name} has the byte {byte:#04x}, a control character in Latin-1 and a mark or letter in windows-1252: \
             --encoding windows-1252 reads it so"
        ));
    }
    Ok(doubts)
}
