//! Formats made of lines: plain text, WikiText, Wikipedia extracts, TREC, label-first lines, JSON lines.

use std::sync::Arc;

use super::input::{Lines, MAX_DOCUMENT, too_long};
use super::{Columns, Document, Origin, Role};
use crate::error::{Error, Result};
use crate::text::is_space;

/// Whether a line opens a WikiText article: ` = Title = `, not ` = = Section = = `.
pub(super) fn is_wikitext_title(line: &str) -> bool {
    let Some(title) = line.strip_prefix(" = ").and_then(|l| l.strip_suffix(" = ")) else { return false };
    let mut chars = title.chars();
    matches!((chars.next(), chars.next_back()), (Some(a), Some(b)) if a != '=' && b != '=')
}

/// Whether a line opens a Wikipedia extract: `<doc id=… title=…>`.
pub(super) fn is_doc_open(line: &str) -> bool {
    line.starts_with("<doc ") && line.trim_end().ends_with('>')
}

/// `COARSE:fine question`: upper-case class, colon, lower-case class.
pub(super) fn split_trec(line: &str) -> Option<(&str, &str)> {
    let (labels, text) = line.split_once(' ')?;
    let (coarse, fine) = labels.split_once(':')?;
    let ok = !coarse.is_empty()
        && !fine.is_empty()
        && coarse.bytes().all(|b| b.is_ascii_uppercase())
        && fine.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    ok.then_some((coarse, text))
}

/// `label text`, the label a small integer.
pub(super) fn split_label(line: &str) -> Option<(&str, &str)> {
    let (label, text) = line.split_once([' ', '\t'])?;
    (!label.is_empty() && label.len() <= 3 && label.bytes().all(|b| b.is_ascii_digit())).then_some((label, text))
}

pub(super) fn is_blank(line: &str) -> bool {
    line.chars().all(is_space)
}

/// Which line format a [`LineDocuments`] reads.
pub(super) enum LineFormat {
    Plain(Role),
    /// Plain lines that all have one label (`.pos` / `.neg` files).
    Labelled(String),
    WikiText,
    WikiExtract,
    Trec,
    LabelText,
    JsonLines(Columns),
}

/// Documents of a line format, one at a time.
pub(super) struct LineDocuments {
    lines: Lines,
    file: Arc<str>,
    format: LineFormat,
    /// The title line that ended the article before (WikiText).
    pending: Option<(String, u64)>,
}

impl LineDocuments {
    pub(super) fn new(lines: Lines, file: Arc<str>, format: LineFormat) -> Self {
        LineDocuments { lines, file, format, pending: None }
    }

    fn document(&self, text: String, label: Option<String>, line: u64) -> Document {
        let origin = Origin { file: self.file.clone(), line };
        Document { text, label, origin, ..Document::default() }
    }

    pub(super) fn next_document(&mut self) -> Result<Option<Document>> {
        match self.format {
            LineFormat::WikiText => self.wikitext(),
            LineFormat::WikiExtract => self.extract(),
            _ => self.line(),
        }
    }

    fn line(&mut self) -> Result<Option<Document>> {
        loop {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            let blank = is_blank(line);
            let (text, label) = match &self.format {
                LineFormat::Plain(Role::Dataset) => (line.to_string(), None),
                _ if blank => continue,
                LineFormat::Labelled(label) => (line.to_string(), Some(label.clone())),
                LineFormat::Trec | LineFormat::LabelText => {
                    let trec = matches!(self.format, LineFormat::Trec);
                    let (split, form) = if trec {
                        (split_trec(line), "'COARSE:fine question'")
                    } else {
                        (split_label(line), "'label text' with a whole number as label")
                    };
                    let Some((label, text)) = split else {
                        return Err(Error::line(&*self.file, self.lines.number, format!("is not of the form {form}")));
                    };
                    (text.to_string(), Some(label.to_string()))
                }
                LineFormat::JsonLines(columns) => {
                    let (fields, label) = json_fields(line, columns)
                        .map_err(|message| Error::line(&*self.file, self.lines.number, message))?;
                    let origin = Origin { file: self.file.clone(), line: self.lines.number };
                    return Ok(Some(Document { label, origin, ..Document::from_fields(fields) }));
                }
                LineFormat::Plain(Role::Corpus) | LineFormat::WikiText | LineFormat::WikiExtract => {
                    (line.to_string(), None)
                }
            };
            let mut document = self.document(text, label, self.lines.number);
            document.lines = matches!(self.format, LineFormat::Plain(Role::Corpus));
            return Ok(Some(document));
        }
    }

    /// One article: from a title line to the line before the next. Blank lines are left out.
    fn wikitext(&mut self) -> Result<Option<Document>> {
        let (mut text, mut first) = self.pending.take().unwrap_or_default();
        while let Some(line) = self.lines.next()? {
            if is_blank(line) {
                continue;
            }
            if is_wikitext_title(line) && !text.is_empty() {
                self.pending = Some((line.to_string(), self.lines.number));
                break;
            }
            push_line(&mut text, line);
            if first == 0 {
                first = self.lines.number;
            }
            if text.len() > MAX_DOCUMENT {
                return Err(too_long(&self.file, first));
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Document { lines: true, ..self.document(text, None, first) }))
    }

    /// One `<doc …>` … `</doc>`; the marks and blank lines are not text.
    fn extract(&mut self) -> Result<Option<Document>> {
        let (mut text, mut opened) = (String::new(), None);
        loop {
            let number = self.lines.number + 1;
            let Some(line) = self.lines.next()? else {
                return match opened {
                    Some(at) => Err(Error::line(&*self.file, at, "a <doc> is not closed by </doc> before the end")),
                    None => Ok(None),
                };
            };
            match opened {
                None if is_doc_open(line) => opened = Some(number),
                None if is_blank(line) => {}
                None => return Err(Error::line(&*self.file, number, "text outside <doc> … </doc>")),
                Some(first) if line.trim_end() == "</doc>" => {
                    return Ok(Some(Document { lines: true, ..self.document(text, None, first) }));
                }
                Some(first) => {
                    if !is_blank(line) {
                        push_line(&mut text, line);
                    }
                    if text.len() > MAX_DOCUMENT {
                        return Err(too_long(&self.file, first));
                    }
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

/// Text fields and label of a JSON object.
pub(super) fn json_fields(line: &str, columns: &Columns) -> Result<(Vec<String>, Option<String>), String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("is not valid JSON: {e}"))?;
    let object = value.as_object().ok_or("is not a JSON object")?;
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let (texts, label) = columns.resolve(&names)?;
    let show = |i: usize| -> Result<String, String> {
        match &object[names[i]] {
            serde_json::Value::String(s) => Ok(s.clone()),
            serde_json::Value::Null => Ok(String::new()),
            v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(v.to_string()),
            _ => Err(format!("'{}' is neither text nor a number", names[i])),
        }
    };
    let fields = texts.into_iter().map(show).collect::<Result<_, _>>()?;
    Ok((fields, label.map(show).transpose()?))
}
