//! CSV and TSV: columns by name, by number or recognised; documents row by row.

use std::sync::Arc;

use super::input::{MAX_DOCUMENT, Utf8Reader, read_error, too_long};
use super::{Document, Origin};
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
    /// Indices of the text columns and of the label column among `names`.
    pub(super) fn resolve(&self, names: &[&str]) -> Result<(Vec<usize>, Option<usize>), String> {
        let position = |wanted: &str| names.iter().position(|n| n.trim().eq_ignore_ascii_case(wanted));
        let explicit = |flag: &str, wanted: &str| {
            let by_number = || wanted.parse::<usize>().ok().filter(|n| (1..=names.len()).contains(n)).map(|n| n - 1);
            position(wanted)
                .or_else(by_number)
                .ok_or_else(|| format!("has no column '{wanted}' for {flag}; it has: {}", names.join(", ")))
        };
        let label = match &self.label {
            Some(wanted) => Some(explicit("--label-column", wanted)?),
            None => LABEL_NAMES.iter().find_map(|n| position(n)),
        };
        let text = if self.text.is_empty() {
            let found = TEXT_NAMES.iter().find_map(|n| position(n).filter(|i| Some(*i) != label));
            vec![found.ok_or_else(|| format!("has no column named 'text' (its columns: {})", names.join(", ")))?]
        } else {
            self.text.iter().map(|t| explicit("--text-column", t)).collect::<Result<_, _>>()?
        };
        Ok((text, label))
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

/// A table: its delimiter, and whether the first row names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    pub(super) header: bool,
}

/// Documents of a table, row by row.
pub(super) struct TableDocuments {
    rows: csv::Reader<Box<dyn std::io::Read + Send>>,
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
        let rows = csv::ReaderBuilder::new()
            .delimiter(layout.delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(Box::new(reader) as Box<dyn std::io::Read + Send>);
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
            // class first, the text columns after it (AG News, DBpedia, Yelp)
            let width = this.record.len();
            let number = |flag: &str, name: &String| match name.parse::<usize>() {
                Ok(n) if (1..=width).contains(&n) => Ok(n - 1),
                _ => Err(Error::line(&*this.file, 1, format!("has no column '{name}' for {flag}"))
                    .hint(format!("the file has no header: give a number from 1 to {width}"))),
            };
            this.label = Some(columns.label.as_ref().map_or(Ok(0), |n| number("--label-column", n))?);
            this.text = columns.text.iter().map(|n| number("--text-column", n)).collect::<Result<_>>()?;
            if this.text.is_empty() {
                this.text = (0..width).filter(|i| Some(*i) != this.label).collect();
            }
            this.first = true;
        }
        Ok(this)
    }

    fn read(&mut self) -> Result<bool> {
        let file = self.file.clone();
        self.rows.read_record(&mut self.record).map_err(|e| {
            let line = e.position().map(csv::Position::line);
            match e.into_kind() {
                csv::ErrorKind::Io(e) => read_error(&file, e),
                _ => Error::line(&*file, line.unwrap_or(0), "is not a readable CSV row"),
            }
        })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<Document>> {
        if !std::mem::take(&mut self.first) && !self.read()? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
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
