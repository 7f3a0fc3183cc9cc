//! Plain text: a document a line; and the two files `.pos` and `.neg`.

use std::sync::Arc;

use super::detect::Look;
use super::formats::{Opened, if_so};
use super::input::Lines;
use super::layout::Layout;
use super::{Document, Documents, Origin, Role, stream};
use crate::error::Result;
use crate::text::is_space;

pub(super) fn is_blank(line: &str) -> bool {
    line.chars().all(is_space)
}

/// A document of a line.
pub(super) fn document(file: &Arc<str>, line: u64, text: String, label: Option<String>) -> Document {
    Document { text, label, origin: Origin { file: file.clone(), line }, ..Document::default() }
}

/// The format of a file that no other format fits.
pub(super) fn recognise(_: &Look) -> Result<Option<Layout>> {
    if_so(true)
}

/// In a corpus blank lines are no documents, and every line is one to be closed; elsewhere a blank
/// line is a document without a text.
pub(super) fn read(opened: Opened) -> Result<Documents> {
    let corpus = opened.role == Role::Corpus;
    let (mut lines, file) = opened.lines();
    Ok(stream(move || {
        while let Some(line) = lines.next()? {
            if corpus && is_blank(line) {
                continue;
            }
            let text = line.to_string();
            return Ok(Some(Document { lines: corpus, ..document(&file, lines.number, text, None) }));
        }
        Ok(None)
    }))
}

/// Lines that all have one label.
pub(super) fn read_labelled(mut lines: Lines, file: Arc<str>, label: &str) -> Documents {
    let label = label.to_string();
    stream(move || {
        while let Some(line) = lines.next()? {
            if !is_blank(line) {
                let text = line.to_string();
                return Ok(Some(document(&file, lines.number, text, Some(label.clone()))));
            }
        }
        Ok(None)
    })
}
