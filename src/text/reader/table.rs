//! Tables: documents row by row. A row that does not fit its header is an error, never cut.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bytes::{MAX_DOCUMENT, printable, read_error};
use super::columns::{Columns, mark};
use super::detect::Look;
use super::formats::Opened;
use super::input::{Utf8Reader, too_long};
use super::layout::{self, Layout, skip_separator_line};
use super::rows::{Fault, Quotes, Rows};
use super::{Document, Documents, LABEL_MARK, Origin, Role, stream};
use crate::error::{Error, Result};
use crate::text::is_space;

/// # Errors
/// A table by its name whose columns cannot be told.
pub(super) fn recognise(look: &Look) -> Result<Option<Layout>> {
    layout::of(look, None)
}

/// # Errors
/// The header lacks a wanted column; the first row is damaged.
pub(super) fn read(opened: Opened) -> Result<Documents> {
    let mut documents = TableDocuments::new(opened)?;
    Ok(stream(move || documents.next_document()))
}

/// Labels that are remembered to tell a row within a quoted text.
const LABELS: usize = 256;

struct TableDocuments {
    rows: Rows<Utf8Reader>,
    file: Arc<str>,
    layout: Layout,
    text: Vec<usize>,
    label: Option<usize>,
    /// Columns that say with 0 or 1 whether their label is there; none where one column has the
    /// label.
    marks: Vec<usize>,
    /// The names of the columns; empty without a header.
    header: Vec<String>,
    /// Columns that a row may have. Fields beyond them must be empty.
    width: usize,
    /// Columns of the first line, those without a name included.
    columns: usize,
    /// Columns and line of the first data row.
    begun: Option<(usize, u64)>,
    /// Line of the first data row, where it was read while the columns were found out.
    first: Option<u64>,
    /// Lines before the first that the rows know of.
    skipped: u64,
    labels: HashSet<String>,
    /// What would be labels of the lines within quoted texts, with the line of the row: that it is
    /// one shows when a later row has it.
    suspects: HashMap<String, u64>,
    /// No data row was checked yet.
    first_row: bool,
}

impl TableDocuments {
    fn new(opened: Opened) -> Result<Self> {
        let Opened { mut reader, file, columns, layout, role } = opened;
        skip_separator_line(&mut reader, layout).map_err(|e| read_error(&file, e))?;
        let mut this = TableDocuments {
            rows: Rows::new(reader, layout.delimiter, layout.quotes),
            file,
            layout,
            text: vec![],
            label: None,
            marks: vec![],
            header: vec![],
            width: 0,
            columns: 0,
            begun: None,
            first: None,
            skipped: u64::from(layout.separator_line),
            labels: HashSet::new(),
            suspects: HashMap::new(),
            first_row: true,
        };
        let Some(line) = this.read()? else { return Err(Error::file(&*this.file, "holds no row")) };
        this.find_columns(columns, line)?;
        // in a table of one column a blank line is an empty text, and keeps its place
        if this.columns == 1 && role != Role::Corpus {
            this.rows.take_blank_lines();
        }
        Ok(this)
    }

    fn find_columns(&mut self, columns: &Columns, line: u64) -> Result<()> {
        let width = self.rows.len();
        self.columns = width;
        if self.layout.header {
            self.header = self.rows.iter().map(|name| name.trim().to_string()).collect();
            let names: Vec<&str> = self.header.iter().map(String::as_str).collect();
            (self.text, self.label) = columns.resolve(&names).map_err(|m| {
                Error::line(&*self.file, line, m).hint("name them with --text-column and --label-column")
            })?;
            self.marks = columns.marks(&names).map_err(|m| Error::line(&*self.file, line, m))?;
            // columns without a name at the end are none
            self.width = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        } else {
            (self.text, self.label) = columns.by_number(width).map_err(|m| {
                let hint = format!("the file has no header: give a number from 1 to {width}");
                Error::line(&*self.file, line, m).hint(hint)
            })?;
            let numbers: Vec<String> = (1..=width).map(|n| n.to_string()).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            self.marks = columns.marks(&numbers).map_err(|m| Error::line(&*self.file, line, m))?;
            self.width = width;
            self.first = Some(line);
        }
        self.width = self.width.max(self.needed());
        Ok(())
    }

    /// Columns that every row must have.
    fn needed(&self) -> usize {
        self.text.iter().copied().chain(self.label).chain(self.marks.iter().copied()).max().map_or(0, |i| i + 1)
    }

    /// The line of the next row.
    fn read(&mut self) -> Result<Option<u64>> {
        let at = |line: u64| line + self.skipped;
        let fault = |line: u64, message: &str| Error::line(&*self.file, at(line), message);
        match self.rows.next() {
            Ok(Some(line)) => Ok(Some(at(line))),
            Ok(None) => {
                // an independent count: no line may be in no row
                let (all, counted) = (self.rows.reader().lines_read(), self.rows.line_feeds() + self.skipped);
                if all == counted {
                    return Ok(None);
                }
                Err(Error::file(&*self.file, format!("has {all} lines, but its rows have {counted}")))
            }
            Err(Fault::Read(e)) => Err(read_error(&self.file, e)),
            Err(Fault::AfterQuote { line, escaped: true }) => {
                Err(fault(line, "a quote after a backslash closes the field here, but the field goes on")
                    .hint("--quotes backslash reads \\\" as a quote within a field; else double it (\"\")"))
            }
            Err(Fault::AfterQuote { line, .. }) => Err(fault(line, "a quoted field goes on after its closing quote")
                .hint("double a quote within a quoted field (\"\"); if quotes are characters: --quotes no")),
            Err(Fault::Unclosed { line }) => Err(fault(line, "a quote opened here is never closed")
                .hint("double a quote within a quoted field (\"\"); if quotes are characters: --quotes no")),
            Err(Fault::TooLong { line, quoted: true }) => {
                Err(too_long(&self.file, at(line)).hint("a quote opened there is not closed"))
            }
            Err(Fault::TooLong { line, quoted: false }) => Err(too_long(&self.file, at(line))),
        }
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        let line = match self.first.take() {
            Some(line) => line,
            None => match self.read()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        self.check(line)?;
        let mut text = String::with_capacity(self.text.iter().map(|&i| self.rows.field(i).len() + 1).sum());
        let mut field_starts = Vec::new();
        for (n, &i) in self.text.iter().enumerate() {
            if n > 0 {
                text.push(' ');
                field_starts.push(text.len());
            }
            text.push_str(self.rows.field(i));
        }
        if text.len() > MAX_DOCUMENT {
            return Err(too_long(&self.file, line));
        }
        if !self.marks.is_empty() {
            let label = Some(self.marked(line)?);
            let origin = Origin { file: self.file.clone(), line };
            return Ok(Some(Document { text, label, field_starts, origin, ..Document::default() }));
        }
        let label = self.label.map(|i| self.rows.field(i).trim()).filter(|l| !l.is_empty());
        if let Some(begun) = label.and_then(|label| self.suspects.get(label)) {
            return Err(self.swallowed(*begun));
        }
        if let Some(label) = label.filter(|_| self.labels.len() < LABELS)
            && !self.labels.contains(label)
        {
            self.labels.insert(label.to_string());
        }
        let label = label.map(str::to_string);
        let origin = Origin { file: self.file.clone(), line };
        Ok(Some(Document { text, label, field_starts, origin, ..Document::default() }))
    }

    /// The labels whose columns say that they are there.
    fn marked(&self, line: u64) -> Result<String> {
        let mut labels = Vec::new();
        for &i in &self.marks {
            let name = self.header.get(i).cloned().unwrap_or_else(|| (i + 1).to_string());
            if mark(&name, self.rows.field(i)).map_err(|m| Error::line(&*self.file, line, m))? {
                labels.push(name);
            }
        }
        Ok(labels.join(&LABEL_MARK.to_string()))
    }

    /// Refuses a row from which something would be lost.
    fn check(&mut self, line: u64) -> Result<()> {
        let (rows, file) = (&self.rows, self.file.clone());
        let fail = |message: String| Error::line(&*file, line, message);
        let whose = if self.layout.header { "the header" } else { "the first row" };
        if rows.len() >= self.needed() && self.repeats_header() {
            return Err(fail("repeats the header".into()).hint("files were put one after the other: take the line out"));
        }
        if rows.len() < self.width {
            let message = format!("has too few columns: {} where {whose} has {}", rows.len(), self.width);
            return Err(fail(message).hint(
                "a line end within a text must be in quotes, and every quote closed; fields that are empty need their \
                 delimiter, too",
            ));
        }
        if rows.len() > self.width && (self.width..rows.len()).any(|i| !rows.field(i).trim().is_empty()) {
            let delimiter = match self.layout.delimiter {
                b'\t' => "a tab".to_string(),
                other => format!("'{}'", char::from(other)),
            };
            let spaced = |field: &str| field.starts_with(' ') && field.trim_start().starts_with('"');
            let hint = if self.layout.quotes == Quotes::Characters {
                format!("{delimiter} stands between columns: take it out of the text")
            } else if rows.iter().any(spaced) {
                format!("a quote encloses a field only where it follows {delimiter} directly: take the space out")
            } else if self.first_row && self.layout.header && rows.len() == self.width + 1 {
                format!(
                    "quote a text that holds {delimiter}: \"…\"; if every row begins with a name or number of its own, \
                     put a name for it before the header"
                )
            } else {
                format!("quote a text that holds {delimiter}: \"…\"")
            };
            return Err(fail(format!("has {} columns where {whose} has {}", rows.len(), self.width)).hint(hint));
        }
        // an empty field at the end of a row: of every row, or of one whose text holds a delimiter;
        // a spreadsheet that writes some of them does so in its header, too
        let (first, begun) = *self.begun.get_or_insert((rows.len(), line));
        if rows.len() != first && rows.len().max(first) > self.columns && self.columns == self.width {
            let (line, columns) = if first > self.columns { (begun, first) } else { (line, rows.len()) };
            let message = format!("has {columns} columns, the last of them empty, where other rows have fewer");
            return Err(Error::line(&*file, line, message)
                .hint("quote a text that holds the delimiter; take a delimiter at the end of the row out"));
        }
        let is_line = |cell: &str| cell.contains("--") && cell.trim().chars().all(|c| matches!(c, '-' | ':' | '='));
        if self.first_row && self.layout.header && self.width > 1 && rows.iter().take(self.width).all(is_line) {
            return Err(fail("is a line of dashes under the header, no data".into()).hint("take the line out"));
        }
        self.first_row = false;
        self.check_quotes(line)?;
        if rows.has_many_lines() && !self.layout.quotes_given {
            self.check_lines(line)?;
        }
        Ok(())
    }

    /// Refuses quotes that enclose a field and would stay in it: after a space, and around labels
    /// of a table whose other quotes are characters.
    fn check_quotes(&self, line: u64) -> Result<()> {
        if self.layout.quotes_given || self.layout.quotes == Quotes::Backslash {
            return Ok(());
        }
        let characters = self.layout.quotes == Quotes::Characters;
        // what a field in quotes holds is its own text, quotes too
        let in_quotes = |i: usize| {
            let field = self.rows.field(i);
            let inner = field.trim();
            let looks = inner.len() > 1 && inner.starts_with('"') && inner.ends_with('"');
            looks && !self.rows.is_quoted(i) && (characters || field.starts_with(' '))
        };
        let fail = |message: String| Error::line(&*self.file, line, message);
        if let Some(i) = self.label.filter(|&i| in_quotes(i)) {
            let label: String = self.rows.field(i).trim().chars().take(60).collect();
            let hint = match characters {
                true => "--quotes no takes all quotes for characters; --quotes yes for those around fields",
                false => "a quote encloses a field only where it follows the delimiter directly",
            };
            return Err(fail(format!("has the label {} with its quotes", printable(&label))).hint(hint));
        }
        if !characters && self.text.iter().any(|&i| i > 0 && in_quotes(i)) {
            return Err(fail("has a text with its quotes, after a space".into()).hint(
                "a quote encloses a field only where it follows the delimiter directly; --quotes no keeps the quotes",
            ));
        }
        Ok(())
    }

    /// Whether the row says what the header says: every column does, perhaps in another order, or
    /// those of text and label do but for case and a byte-order mark.
    fn repeats_header(&self) -> bool {
        if self.header.is_empty() {
            return false;
        }
        let cell = |i: usize| self.rows.field(i).trim_matches(|c: char| is_space(c) || c == '\u{feff}');
        let read = self.text.iter().copied().chain(self.label);
        // looked at in full only where the first cell is a name at all
        let in_other_order = || {
            self.width > 1 && self.header[..self.width].iter().any(|name| !name.is_empty() && cell(0) == name) && {
                let mut cells: Vec<&str> = (0..self.width).map(cell).collect();
                let mut names: Vec<&str> = self.header[..self.width].iter().map(String::as_str).collect();
                cells.sort_unstable();
                names.sort_unstable();
                cells == names
            }
        };
        self.rows.len() >= self.width && ((0..self.width).all(|i| cell(i) == self.header[i]) || in_other_order())
            || self.label.is_some() && read.clone().all(|i| cell(i).eq_ignore_ascii_case(&self.header[i]))
    }

    /// A text that took in rows.
    fn swallowed(&self, line: u64) -> Error {
        Error::line(&*self.file, line, "a quoted text that begins here holds lines that look like rows")
            .hint("close the quote; if it is a character: --quotes no; if the text is so: --quotes yes")
    }

    /// Whether all lines but the first of a field, of a table without labels, are as wide as its
    /// rows.
    fn holds_rows(&self) -> bool {
        let columns = |line: &str| {
            let cells: Vec<&str> = line.split(char::from(self.layout.delimiter)).collect();
            if cells[1..].iter().any(|cell| cell.starts_with(' ')) { 0 } else { cells.len() }
        };
        let holds = |(i, field): (usize, &str)| {
            let lines: Vec<&str> = field.split('\n').map(|line| line.trim_end_matches('\r')).collect();
            let last = lines.len() - 1;
            let wide = |n: usize| columns(lines[n]) == if n == last { i + 1 } else { self.width };
            last > 0 && (last > 1 || i > 0) && (1..=last).all(wide)
        };
        self.width > 1
            && self.rows.quoted() < self.rows.len()
            && self.rows.iter().take(self.width).enumerate().any(holds)
    }

    /// A quote that was meant as a character, and a later one that seems to close it, make one text
    /// of all rows between them. Rows show in a text by as many columns as the table has, with a
    /// label that other rows have (a number, where this row has one); or all lines but the ends of
    /// the text do, with one word for a label each.
    fn check_lines(&mut self, line: u64) -> Result<()> {
        let Some(label) = self.label.filter(|_| self.width > 1) else {
            return if self.label.is_none() && self.holds_rows() { Err(self.swallowed(line)) } else { Ok(()) };
        };
        let mut later = Vec::new();
        let own = self.rows.field(label);
        // in prose a space follows the comma, in a table it does only where it does in other rows
        let spaced = own.starts_with(' ');
        // where every field is in quotes, hardly one of them is a character
        let meant = self.rows.quoted() == self.rows.len();
        let swallows = |(i, field): (usize, &str)| {
            let lines: Vec<&str> = field.split('\n').map(|line| line.trim_end_matches('\r')).collect();
            let last = lines.len() - 1;
            // of the first line the columns before the field are missing, of the last one those
            // after it
            let label_of = |n: usize| {
                let cells: Vec<&str> = lines[n].split(char::from(self.layout.delimiter)).collect();
                let (from, to) = (if n == 0 { i } else { 0 }, if n == last { i + 1 } else { self.width });
                let is_row = !(meant && (n == 0 || n == last))
                    && cells.len() == to - from
                    && cells.len() > 1
                    && (spaced || cells[1..].iter().all(|cell| !cell.starts_with(' ')));
                let cell = cells.get(label.checked_sub(from)?).filter(|_| is_row)?;
                Some(cell.trim().trim_matches('"'))
            };
            let number = |cell: &str| cell.contains('.') && cell.parse::<f64>().is_ok();
            let known =
                |cell: &str| self.labels.contains(cell) || cell == own.trim() || (number(cell) && number(own.trim()));
            let word = |cell: &str| !cell.is_empty() && cell.len() <= 20 && !cell.contains(is_space);
            let found: Vec<Option<&str>> = (0..lines.len()).map(label_of).collect();
            let rows = found.iter().flatten().filter(|cell| word(cell)).count();
            let whole = found[1..last].iter().all(|cell| cell.is_some_and(word));
            let may_be = |cell: &&&str| !cell.is_empty() && cell.len() <= 40;
            later.extend(found.iter().flatten().filter(may_be).map(|cell| cell.to_string()));
            found.iter().flatten().any(|cell| known(cell)) || (!meant && rows > 1 && last > 1 && whole)
        };
        let fields = self.rows.iter().take(self.width).enumerate();
        if fields.filter(|(i, field)| *i != label && field.contains('\n')).any(swallows) {
            return Err(self.swallowed(line));
        }
        let room = LABELS.saturating_sub(self.suspects.len());
        for cell in later.into_iter().take(room) {
            self.suspects.entry(cell).or_insert(line);
        }
        Ok(())
    }
}
