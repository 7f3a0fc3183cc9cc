//! CSV and TSV: columns by name, by number or recognised; documents row by row.

use std::io::Read;
use std::sync::Arc;

use super::bytes::{MAX_DOCUMENT, read_error};
use super::input::{Utf8Reader, too_long};
use super::{Document, OpenOptions, Origin};
use crate::error::{Error, Result};

/// Names under which text and label columns are recognised, the best first.
const TEXT_NAMES: &[&str] =
    &["text", "sentence", "review", "content", "question", "document", "comment", "body", "description", "tweet"];
const LABEL_NAMES: &[&str] = &["label", "labels", "class", "category", "sentiment", "stars", "rating", "target", "y"];

/// Which columns hold the text and the label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// Names, or numbers counted from 1; empty: recognised by name.
    pub(super) text: Vec<String>,
    /// Name, or number counted from 1.
    pub(super) label: Option<String>,
}

impl Columns {
    pub(super) fn of(options: &OpenOptions) -> Self {
        Columns { text: options.text_columns.clone(), label: options.label_column.clone() }
    }

    /// Indices of the text columns and of the label column among `names`.
    pub(super) fn resolve(&self, names: &[&str]) -> Result<(Vec<usize>, Option<usize>), String> {
        let position = |wanted: &str| names.iter().position(|n| n.trim().eq_ignore_ascii_case(wanted));
        let explicit = |flag: &str, wanted: &str| {
            let by_number = || wanted.parse::<usize>().ok().filter(|n| (1..=names.len()).contains(n)).map(|n| n - 1);
            position(wanted)
                .or_else(by_number)
                .ok_or_else(|| format!("has no column '{wanted}' for {flag}; it has: {}", list(names)))
        };
        let asked: Vec<usize> = self.text.iter().map(|t| explicit("--text-column", t)).collect::<Result<_, _>>()?;
        let label = match &self.label {
            Some(wanted) => Some(explicit("--label-column", wanted)?),
            None => LABEL_NAMES.iter().find_map(|n| position(n).filter(|i| !asked.contains(i))),
        };
        if let Some(i) = label.filter(|i| asked.contains(i)) {
            return Err(format!("'{}' is asked for as text and as label", list(&names[i..=i])));
        }
        if !asked.is_empty() {
            return Ok((asked, label));
        }
        let found = TEXT_NAMES.iter().find_map(|n| position(n).filter(|i| Some(*i) != label));
        let found = found.ok_or_else(|| format!("has no column named 'text' (its columns: {})", list(names)))?;
        Ok((vec![found], label))
    }

    /// Indices in a table without a header: the class first, the text columns after it (AG News, DBpedia, Yelp).
    pub(super) fn by_number(&self, width: usize) -> Result<(Vec<usize>, usize), String> {
        let number = |flag: &str, name: &String| match name.parse::<usize>() {
            Ok(n) if (1..=width).contains(&n) => Ok(n - 1),
            _ => Err(format!("has no column '{name}' for {flag}")),
        };
        let label = self.label.as_ref().map_or(Ok(0), |n| number("--label-column", n))?;
        let text: Vec<usize> = self.text.iter().map(|n| number("--text-column", n)).collect::<Result<_, _>>()?;
        if text.contains(&label) {
            return Err(format!("column {} is asked for as text and as label", label + 1));
        }
        Ok((if text.is_empty() { (0..width).filter(|i| *i != label).collect() } else { text }, label))
    }

    /// Whether a header row names columns that can be told apart without flags (or that the flags name).
    pub(super) fn fits_header(&self, fields: &[&str]) -> bool {
        let named = |n: &String| n.parse::<usize>().is_err();
        if self.text.iter().any(named) || self.label.as_ref().is_some_and(named) {
            return true;
        }
        fields.iter().any(|f| {
            let f = f.trim();
            TEXT_NAMES.iter().chain(LABEL_NAMES).any(|n| n.len() > 1 && f.eq_ignore_ascii_case(n))
        }) && fields.iter().all(|f| f.len() < 64 && f.parse::<f64>().is_err())
    }
}

/// Names of columns for a message, the first twelve.
fn list(names: &[&str]) -> String {
    let short = |n: &&str| n.chars().take(40).filter(|c| !c.is_control()).collect::<String>();
    let mut shown: Vec<String> = names.iter().take(12).map(short).collect();
    if names.len() > 12 {
        shown.push("…".into());
    }
    shown.join(", ")
}

/// A table: its delimiter, and whether the first row names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    pub(super) header: bool,
    /// Whether `"` quotes a field (else it is a character like others, as in many TSV files).
    pub(super) quotes: bool,
}

impl Layout {
    pub(super) fn delimiter(tab: bool) -> u8 {
        if tab { b'\t' } else { b',' }
    }

    /// A parser of rows of any length.
    pub(super) fn parser(delimiter: u8, quotes: bool) -> csv::ReaderBuilder {
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(delimiter).quoting(quotes).has_headers(false).flexible(true);
        builder
    }

    /// In words, which columns of `first`, the first row, are read; empty when they cannot be told.
    pub(super) fn describe(self, first: &[&str], columns: &Columns) -> String {
        let (text, label, names): (_, _, Vec<String>) = if self.header {
            let Ok((text, label)) = columns.resolve(first) else { return String::new() };
            (text, label, first.iter().map(|n| list(&[n.trim()])).collect())
        } else {
            let Ok((text, label)) = columns.by_number(first.len()) else { return String::new() };
            (text, Some(label), (1..=first.len()).map(|n| n.to_string()).collect())
        };
        // a first row that has too few columns is told of when it is read
        let named = |i: usize| names.get(i).map(String::as_str);
        let Some(text) = text.iter().map(|&i| named(i)).collect::<Option<Vec<&str>>>() else { return String::new() };
        let Some(label) = label.map_or(Some("no label".into()), |i| named(i).map(|name| format!("label {name}")))
        else {
            return String::new();
        };
        let quotes = if self.quotes { "" } else { ", quotes as characters" };
        format!(" (text {}, {label}{quotes})", text.join(" + "))
    }
}

/// Follows the quotes of a table on its way to the parser, bounds the length of a row, and finds a quote that never closes:
/// the parser would take the rest of the file for one field.
struct Guard {
    inner: Utf8Reader,
    file: Arc<str>,
    layout: Layout,
    /// Bytes that may still be read for the row in hand.
    left: usize,
    line: u64,
    state: Quote,
    /// Line of the last opening quote.
    opened: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    FieldStart,
    Outside,
    Inside,
    /// A quote within quotes: the end of them, or the first half of a doubled one.
    Pending,
}

impl Guard {
    fn follow(&mut self, bytes: &[u8]) {
        let delimiter = self.layout.delimiter;
        for &b in bytes {
            self.state = match (self.state, b) {
                (Quote::FieldStart, b'"') => {
                    self.opened = self.line;
                    Quote::Inside
                }
                (Quote::Inside, b'"') => Quote::Pending,
                (Quote::Pending, b'"') | (Quote::Inside, _) => Quote::Inside,
                (_, b) if b == delimiter || b == b'\n' || b == b'\r' => Quote::FieldStart,
                _ => Quote::Outside,
            };
            self.line += u64::from(b == b'\n');
        }
    }
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            let line = if self.state == Quote::Inside { self.opened } else { self.line };
            let mut error = too_long(&self.file, line);
            if self.state == Quote::Inside {
                error = error.hint("a quote opened there is not closed");
            }
            return Err(std::io::Error::other(error));
        }
        let most = buffer.len().min(self.left);
        let n = self.inner.read(&mut buffer[..most])?;
        self.left -= n;
        if self.layout.quotes {
            self.follow(&buffer[..n]);
            if n == 0 && most > 0 && self.state == Quote::Inside {
                let error = Error::line(&*self.file, self.opened, "a quote opened here is never closed");
                return Err(std::io::Error::other(error.hint("a quote within a quoted field is doubled (\"\")")));
            }
        }
        Ok(n)
    }
}

/// Bytes the parser may read ahead of the row in hand.
const READ_AHEAD: usize = 1 << 16;

/// Documents of a table, row by row.
pub(super) struct TableDocuments {
    rows: csv::Reader<Guard>,
    file: Arc<str>,
    text: Vec<usize>,
    label: Option<usize>,
    record: csv::StringRecord,
    /// The first data row, read while the columns were found out.
    first: bool,
}

impl TableDocuments {
    /// # Errors
    /// The header lacks a wanted column; the first row is damaged.
    pub(super) fn new(reader: Utf8Reader, file: Arc<str>, layout: Layout, columns: &Columns) -> Result<Self> {
        let guard =
            Guard { inner: reader, file: file.clone(), layout, left: 0, line: 1, state: Quote::FieldStart, opened: 1 };
        let rows = Layout::parser(layout.delimiter, layout.quotes).buffer_capacity(READ_AHEAD).from_reader(guard);
        let mut this =
            TableDocuments { rows, file, text: vec![], label: None, record: csv::StringRecord::new(), first: false };
        if !this.read()? {
            return Err(Error::file(&*this.file, "holds no row"));
        }
        if layout.header {
            let names: Vec<&str> = this.record.iter().collect();
            (this.text, this.label) = columns
                .resolve(&names)
                .map_err(|m| Error::line(&*this.file, 1, m).hint("name them with --text-column and --label-column"))?;
        } else {
            let width = this.record.len();
            let (text, label) = columns.by_number(width).map_err(|m| {
                Error::line(&*this.file, 1, m).hint(format!("the file has no header: give a number from 1 to {width}"))
            })?;
            (this.text, this.label) = (text, Some(label));
            this.first = true;
        }
        Ok(this)
    }

    fn read(&mut self) -> Result<bool> {
        let file = self.file.clone();
        self.rows.get_mut().left = MAX_DOCUMENT + READ_AHEAD;
        self.rows.read_record(&mut self.record).map_err(|e| {
            let line = e.position().map(csv::Position::line);
            match e.into_kind() {
                csv::ErrorKind::Io(e) => read_error(&file, e),
                _ => Error::line(&*file, line.unwrap_or(1), "is not a readable row"),
            }
        })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<Document>> {
        if !std::mem::take(&mut self.first) && !self.read()? {
            return Ok(None);
        }
        let line = self.record.position().map_or(1, csv::Position::line);
        let needed = self.text.iter().copied().chain(self.label).max().map_or(0, |i| i + 1);
        if self.record.len() < needed {
            let message = format!("has too few columns: {} where {needed} are needed", self.record.len());
            return Err(Error::line(&*self.file, line, message)
                .hint("quote fields that hold the delimiter, and close every quote; or name the columns with flags"));
        }
        let field = |i: usize| self.record[i].to_string();
        let mut document = Document::from_fields(self.text.iter().map(|&i| field(i)).collect());
        if document.text.len() > MAX_DOCUMENT {
            return Err(too_long(&self.file, line));
        }
        document.label = self.label.map(|i| self.record[i].trim().to_string()).filter(|l| !l.is_empty());
        document.origin = Origin { file: self.file.clone(), line };
        Ok(Some(document))
    }
}
