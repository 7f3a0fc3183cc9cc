//! Formats made of lines: plain text, WikiText, Wikipedia extracts, TREC, label-first lines, JSON lines.

use std::sync::Arc;

use super::bytes::{MAX_DOCUMENT, printable};
use super::input::{Lines, too_long};
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

/// `label text`, the label a small whole number.
pub(super) fn split_label(line: &str) -> Option<(&str, &str)> {
    let (label, text) = line.split_once([' ', '\t'])?;
    (!label.is_empty() && label.len() <= 3 && label.bytes().all(|b| b.is_ascii_digit())).then_some((label, text))
}

/// Whether lines look like `label text`: every one begins with a small number, and the numbers are not those of a list.
pub(super) fn are_labelled(lines: &[&str]) -> bool {
    let Some(labels) = lines.iter().map(|l| split_label(l)?.0.parse::<u32>().ok()).collect::<Option<Vec<u32>>>() else {
        return false;
    };
    let mut distinct = labels.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let counted = labels.len() > 2 && labels.windows(2).all(|w| w[0] + 1 == w[1]);
    match distinct.len() {
        0 => false,
        // one class alone: believed when many lines agree (a file sorted by class)
        1 => labels.len() >= 20,
        n => !counted && (n <= 10 || n * 2 <= labels.len()),
    }
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
    /// Names of the columns found in the first line (JSON lines): the text fields, the label.
    names: Option<(Vec<String>, Option<String>)>,
}

impl LineDocuments {
    pub(super) fn new(lines: Lines, file: Arc<str>, format: LineFormat) -> Self {
        LineDocuments { lines, file, format, pending: None, names: None }
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
            let number = self.lines.number + 1;
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
                    let fail = |message: String| Error::line(&*self.file, number, message);
                    let object = json_object(line).map_err(fail)?;
                    let names = match &mut self.names {
                        Some(names) => names,
                        none => none.insert(
                            json_names(&object, columns)
                                .map_err(|m| fail(m).hint("name them with --text-column and --label-column"))?,
                        ),
                    };
                    let (fields, label) = json_values(&object, names).map_err(fail)?;
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

type Object = serde_json::Map<String, serde_json::Value>;

/// A line of JSON, which has to be an object.
pub(super) fn json_object(line: &str) -> Result<Object, String> {
    let line = line.trim_matches(is_space);
    match serde_json::from_str(line).map_err(|e| {
        // the line in the parser's message is that within the line
        let message = e.to_string();
        let what = message.split(" at line ").next().unwrap_or_default();
        format!("is not valid JSON: {what} at column {}", e.column())
    })? {
        serde_json::Value::Object(object) => Ok(object),
        _ => Err("is not a JSON object".into()),
    }
}

/// Names of the text fields and of the label of a JSON object.
pub(super) fn json_names(object: &Object, columns: &Columns) -> Result<(Vec<String>, Option<String>), String> {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let (texts, label) = columns.resolve(&names)?;
    let name = |i: usize| names[i].to_string();
    Ok((texts.into_iter().map(name).collect(), label.map(name)))
}

/// Text fields and label by their names. A label may be missing or null: the document has none.
fn json_values(
    object: &Object,
    names: &(Vec<String>, Option<String>),
) -> Result<(Vec<String>, Option<String>), String> {
    use serde_json::Value;
    let show = |name: &str, value: Option<&Value>| match value {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(v @ (Value::Number(_) | Value::Bool(_))) => Ok(v.to_string()),
        Some(_) => Err(format!("'{}' is neither text nor a number", printable(name))),
        None => Err(format!("has no '{}', which the first line has", printable(name))),
    };
    let fields = names.0.iter().map(|name| show(name, object.get(name))).collect::<Result<_, _>>()?;
    let label = match names.1.as_ref().and_then(|name| Some((name, object.get(name)?))) {
        Some((name, value)) => Some(show(name, Some(value))?.trim().to_string()).filter(|l| !l.is_empty()),
        None => None,
    };
    Ok((fields, label))
}
