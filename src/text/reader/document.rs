//! Documents: texts with their label and origin.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::text::is_space;

/// One document: a text and, in a labelled data set, its class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The text; several text fields are joined by a space (see [`Document::fields`]).
    pub text: String,
    /// The class, as it is called in the file. Of a source with several labels all of them, joined
    /// by [`LABEL_MARK`]; of one with tags that of every word, in IOB2, joined in the same way.
    pub label: Option<String>,
    /// Whether the text is lines of running text (a corpus): tokenizers that mark line ends do so.
    pub lines: bool,
    /// Whether the fields are words, which stay as they are cut.
    pub words: bool,
    /// Whether the text is one of a pair of which both are empty.
    pub in_empty_pair: bool,
    pub origin: Origin,
    /// Byte offsets in `text` at which the second and later fields begin.
    pub(in crate::text) field_starts: Vec<usize>,
}

/// Stands between the labels of a document where there may be several: no label has it.
pub const LABEL_MARK: char = '\u{1f}';

/// Where a document came from, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<str>,
    /// Line of the file at which the document begins, counted from 1.
    pub line: u64,
}

impl Document {
    /// A text of one field from memory, without a label.
    pub fn new(text: impl Into<String>) -> Self {
        Document { text: text.into(), ..Document::default() }
    }

    /// A text of several fields (columns of a table).
    pub fn from_fields(fields: Vec<String>) -> Self {
        let mut fields = fields.into_iter();
        let (mut text, mut field_starts) = (fields.next().unwrap_or_default(), Vec::new());
        for field in fields {
            text.push(' ');
            field_starts.push(text.len());
            text.push_str(&field);
        }
        Document { text, field_starts, ..Document::default() }
    }

    /// A text of words, which tokenizers leave apart.
    pub fn of_words(words: Vec<String>) -> Self {
        Document { words: true, ..Self::from_fields(words) }
    }

    /// The fields of the text (one, unless it came from several columns).
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.field_starts.iter().copied());
        let ends = self.field_starts.iter().map(|s| s - 1).chain(std::iter::once(self.text.len()));
        starts.zip(ends).map(|(a, b)| &self.text[a..b])
    }

    pub fn has_many_fields(&self) -> bool {
        !self.field_starts.is_empty()
    }

    /// Its labels, where a source has several.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.label.iter().flat_map(|labels| labels.split(LABEL_MARK)).filter(|label| !label.is_empty())
    }

    /// Whether there is nothing but white space.
    pub fn is_empty(&self) -> bool {
        self.text.chars().all(is_space)
    }
}

/// Takes what is in the place of a label for several: cut at the separator, where they are not
/// apart already. A document without any has an empty list of them.
pub(super) fn with_labels(mut document: Document, separator: &str) -> Document {
    let mut labels: Vec<&str> = Vec::new();
    let joined = document.label.take().unwrap_or_default();
    for part in joined.split(LABEL_MARK) {
        match separator.is_empty() || joined.contains(LABEL_MARK) {
            true => labels.push(part.trim()),
            false => labels.extend(part.split(separator).map(str::trim)),
        }
    }
    labels.retain(|label| !label.is_empty());
    labels.sort_unstable();
    labels.dedup();
    document.label = Some(labels.join(&LABEL_MARK.to_string()));
    document
}

/// One of the two texts of a document.
pub(super) fn of_pair(document: Document, half: usize) -> Result<Document> {
    let fields: Vec<&str> = document.fields().collect();
    if let [first, second] = fields[..] {
        let (text, in_empty_pair) = ([first, second][half].to_string(), document.is_empty());
        return Ok(Document { text, in_empty_pair, field_starts: Vec::new(), ..document });
    }
    let texts = if fields.len() == 1 { "1 text".to_string() } else { format!("{} texts", fields.len()) };
    let message = format!("has {texts} where a pair has 2");
    let error = match document.origin.line {
        0 => Error::file(&*document.origin.file, message),
        line => Error::line(&*document.origin.file, line, message),
    };
    Err(error.hint("name the two columns: --text-column A --text-column B"))
}
