//! What a file holds, from its name and its first 64 KiB.

use std::io::Read;

use super::archive::refuse_archive;
use super::bytes::{Bytes, read_error};
use super::input::Encoding;
use super::lines::{are_labelled, is_blank, is_doc_open, is_wikitext_title, json_names, json_object, split_trec};
use super::table::Layout;
use super::{Columns, Format};
use crate::error::{Error, Result};

const SAMPLE: u64 = 1 << 16;

/// The beginning of a file.
pub(super) struct Sample {
    text: String,
    /// Whether the file goes on after it.
    cut: bool,
    is_utf8: bool,
    /// What the first bytes say, where they do.
    encoding: Option<Encoding>,
}

/// Reads the sample, in `encoding` where the user names one.
///
/// # Errors
/// The file is empty, an archive within an archive, in UTF-32, or cannot be read.
pub(super) fn sample(name: &str, mut bytes: Bytes, encoding: Option<Encoding>) -> Result<Sample> {
    let mut head = Vec::new();
    bytes.by_ref().take(SAMPLE).read_to_end(&mut head).map_err(|e| read_error(name, e))?;
    if head.is_empty() {
        return Err(Error::file(name, "is empty"));
    }
    refuse_archive(name, &head)?;
    if head.starts_with(&[0xff, 0xfe, 0, 0]) || head.starts_with(&[0, 0, 0xfe, 0xff]) {
        return Err(Error::file(name, "is in UTF-32, which is not read").hint("iconv -f UTF-32 -t UTF-8"));
    }
    let cut = head.len() as u64 == SAMPLE;
    let is_utf8 = match std::str::from_utf8(&head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && cut,
    };
    let found = Encoding::of_head(&head);
    let text = encoding.or(found).unwrap_or(Encoding::Utf8).decode_sample(&head);
    let text = text.trim_start_matches('\u{feff}').to_string();
    Ok(Sample { text, cut, is_utf8, encoding: found })
}

impl Sample {
    /// The encoding of a file of this format, where the user names none.
    pub(super) fn encoding(&self, format: Format) -> Encoding {
        match self.encoding {
            Some(found) => found,
            // the published files are ISO-8859-1
            None if format == Format::Trec && !self.is_utf8 => Encoding::Latin1,
            None => Encoding::Utf8,
        }
    }

    /// Lines in full: the last of the sample may be cut.
    fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.text.lines().collect();
        if self.cut && lines.len() > 1 {
            lines.pop();
        }
        lines.truncate(200);
        lines
    }

    /// The first rows of a table, without the one the sample may have cut.
    fn rows(&self, tab: bool, quotes: bool) -> Vec<csv::StringRecord> {
        let mut parser = Layout::parser(Layout::delimiter(tab), quotes).from_reader(self.text.as_bytes());
        let mut rows: Vec<_> = parser.records().take(20).map_while(Result::ok).collect();
        if self.cut && rows.len() > 1 && parser.is_done() {
            rows.pop();
        }
        rows
    }

    /// How a table is laid out. Fields of a CSV file are quoted; in TSV a quote is often a character like others, and it
    /// quotes only where rows are even with it and some field is enclosed in quotes.
    pub(super) fn layout(&self, tab: bool, header: bool) -> Layout {
        let enclosed = || {
            self.text.split(['\t', '\n', '\r']).any(|f| f.starts_with('"'))
                && self.text.split(['\t', '\n', '\r']).any(|f| f.len() > 1 && f.ends_with('"'))
        };
        let quotes = !tab || (enclosed() && even(&self.rows(tab, true)));
        Layout { delimiter: Layout::delimiter(tab), header, quotes }
    }

    /// Which columns of a table are read, in words.
    pub(super) fn describe_table(&self, layout: Layout, columns: &Columns) -> String {
        let rows = self.rows(layout.delimiter == b'\t', layout.quotes);
        let first: Vec<&str> = rows.first().map(|r| r.iter().collect()).unwrap_or_default();
        layout.describe(&first, columns)
    }
}

fn even(rows: &[csv::StringRecord]) -> bool {
    rows.windows(2).all(|pair| pair[0].len() == pair[1].len())
}

/// The file name without `.gz` and `.zst`, in lower case.
fn base_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.trim_end_matches(".zst").trim_end_matches(".gz").to_string()
}

/// Recognises the format.
///
/// # Errors
/// A table whose first row is neither a header with known names nor a class-first row; JSON that is not lines of objects with
/// a text; line ends of a kind that is not read.
pub(super) fn format(name: &str, sample: &Sample, columns: &Columns) -> Result<Format> {
    let base = base_name(name);
    let lines = sample.lines();
    let full: Vec<&str> = lines.iter().copied().filter(|l| !is_blank(l)).collect();
    let Some(first) = full.first() else { return Ok(Format::Plain) };
    let table = |tab: bool| -> Result<Format> {
        let rows = sample.rows(tab, sample.layout(tab, true).quotes);
        let first: Vec<&str> = rows.first().map(|r| r.iter().collect()).unwrap_or_default();
        let class_first = first.len() >= 2 && first[0].trim().parse::<i64>().is_ok();
        if columns.fits_header(&first) {
            Ok(Format::Table { tab, header: true })
        } else if class_first || (!columns.text.is_empty() && first.len() >= 2) {
            Ok(Format::Table { tab, header: false })
        } else {
            Err(Error::line(name, 1, "is neither a header with known names nor a row with the class first")
                .hint("name the columns with --text-column and --label-column, or say --format csv-no-header"))
        }
    };
    if base.ends_with(".csv") {
        return table(false);
    }
    if base.ends_with(".tsv") {
        return table(true);
    }
    if is_doc_open(first) {
        return Ok(Format::WikiExtract);
    }
    if is_wikitext_title(first) {
        return Ok(Format::WikiText);
    }
    let json_name = [".jsonl", ".ndjson", ".json"].iter().any(|end| base.ends_with(end));
    if json_name && first.trim_start().starts_with('[') {
        return Err(Error::file(name, "is one JSON array").hint("write an object a line: jq -c '.[]'"));
    }
    if json_name {
        return Ok(Format::JsonLines);
    }
    if first.starts_with('{')
        && let Ok(object) = json_object(first)
    {
        json_names(&object, columns)
            .map_err(|m| Error::line(name, 1, m).hint("name them with --text-column and --label-column"))?;
        return Ok(Format::JsonLines);
    }
    let trec_name = base.ends_with(".label") && split_trec(first).is_some();
    if trec_name || full.iter().all(|l| split_trec(l).is_some()) {
        return Ok(Format::Trec);
    }
    if full.len() > 1 && are_labelled(&full) {
        return Ok(Format::LabelText);
    }
    // a table under another name: a known header, or quoted fields with the class first
    for tab in [false, true] {
        let rows = sample.rows(tab, sample.layout(tab, true).quotes);
        let Some(row) = rows.first().filter(|r| r.len() >= 2) else { continue };
        let fields: Vec<&str> = row.iter().collect();
        let quoted = first.starts_with('"') && fields[0].parse::<i64>().is_ok();
        let headed = columns.fits_header(&fields) && columns.resolve(&fields).is_ok();
        if rows.len() > 1 && even(&rows) && (quoted || headed) {
            return table(tab);
        }
    }
    let returns = sample.text.matches('\r').count();
    if returns > 1 && !sample.text.contains('\n') {
        return Err(Error::file(name, "has lines that end in a carriage return alone").hint("tr '\\r' '\\n'"));
    }
    Ok(Format::Plain)
}
