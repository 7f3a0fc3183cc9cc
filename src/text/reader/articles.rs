//! Texts of many lines: WikiText articles and Wikipedia extracts.

use std::sync::Arc;

use super::bytes::MAX_DOCUMENT;
use super::detect::Look;
use super::formats::{Opened, if_so};
use super::input::{Lines, too_long};
use super::layout::Layout;
use super::plain::{document, is_blank};
use super::{Document, Documents, stream};
use crate::error::{Error, Result};

/// Whether a line opens a WikiText article: ` = Title = `, not ` = = Section = = `.
fn is_title(line: &str) -> bool {
    let Some(title) = line.strip_prefix(" = ").and_then(|l| l.strip_suffix(" = ")) else { return false };
    let mut chars = title.chars();
    matches!((chars.next(), chars.next_back()), (Some(a), Some(b)) if a != '=' && b != '=')
}

/// Whether a line opens a Wikipedia extract: `<doc id=… title=…>`.
fn is_doc_open(line: &str) -> bool {
    line.starts_with("<doc ") && line.trim_end().ends_with('>')
}

pub(super) fn is_wikitext(look: &Look) -> Result<Option<Layout>> {
    if_so(look.full.first().is_some_and(|line| is_title(line)))
}

pub(super) fn is_extract(look: &Look) -> Result<Option<Layout>> {
    if_so(look.full.first().is_some_and(|line| is_doc_open(line)))
}

/// From a title line to the line before the next. Blank lines are left out.
pub(super) fn read_wikitext(opened: Opened) -> Result<Documents> {
    let (mut lines, file) = opened.lines();
    // the title line that ended the article before
    let mut pending: Option<(String, u64)> = None;
    Ok(stream(move || {
        let (mut text, mut first) = pending.take().unwrap_or_default();
        while let Some(line) = lines.next()? {
            if is_blank(line) {
                continue;
            }
            if is_title(line) && !text.is_empty() {
                pending = Some((line.to_string(), lines.number));
                break;
            }
            push_line(&mut text, line);
            if first == 0 {
                first = lines.number;
            }
            if text.len() > MAX_DOCUMENT {
                return Err(too_long(&file, first));
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Document { lines: true, ..document(&file, first, text, None) }))
    }))
}

pub(super) fn read_extracts(opened: Opened) -> Result<Documents> {
    let (mut lines, file) = opened.lines();
    Ok(stream(move || extract(&mut lines, &file)))
}

const ALONE: &str = "put <doc …> and </doc> on lines of their own";

/// One `<doc …>` … `</doc>`; the marks and blank lines are not text.
fn extract(lines: &mut Lines, file: &Arc<str>) -> Result<Option<Document>> {
    let (mut text, mut opened) = (String::new(), None);
    loop {
        let number = lines.number + 1;
        let Some(line) = lines.next()? else {
            return match opened {
                Some(at) => Err(Error::line(&**file, at, "a <doc> is not closed by </doc> before the end")),
                None => Ok(None),
            };
        };
        match opened {
            None if is_doc_open(line) && line.contains("</doc>") => {
                return Err(Error::line(&**file, number, "has <doc> and </doc> on one line").hint(ALONE));
            }
            None if is_doc_open(line) => opened = Some(number),
            None if is_blank(line) => {}
            None => return Err(Error::line(&**file, number, "text outside <doc> … </doc>")),
            Some(_)
                if line.trim() != "</doc>"
                    && (line.trim_start().starts_with("</doc>") || line.trim_end().ends_with("</doc>")) =>
            {
                return Err(Error::line(&**file, number, "has </doc> and more on one line").hint(ALONE));
            }
            Some(first) if line.trim() == "</doc>" => {
                return Ok(Some(Document { lines: true, ..document(file, first, text, None) }));
            }
            Some(first) => {
                if !is_blank(line) {
                    push_line(&mut text, line);
                }
                if text.len() > MAX_DOCUMENT {
                    return Err(too_long(file, first));
                }
            }
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}
