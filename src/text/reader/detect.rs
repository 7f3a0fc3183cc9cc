//! What a file holds, from its name and its first 64 KiB.

use std::io::Read;
use std::path::Path;

use super::input::{Bytes, open_file, read_error};
use super::lines::{is_blank, is_doc_open, is_wikitext_title, json_fields, split_label, split_trec};
use super::{Columns, Format};
use crate::error::{Error, Result};

const SAMPLE: u64 = 1 << 16;

/// The beginning of a file.
pub(super) struct Sample {
    text: String,
    pub(super) is_utf8: bool,
}

/// Reads the sample.
///
/// # Errors
/// The file is empty or cannot be read.
pub(super) fn sample(name: &str, mut bytes: Bytes) -> Result<Sample> {
    let mut head = Vec::new();
    bytes.by_ref().take(SAMPLE).read_to_end(&mut head).map_err(|e| read_error(name, e))?;
    if head.is_empty() {
        return Err(Error::file(name, "is empty"));
    }
    let is_utf8 = match std::str::from_utf8(&head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && head.len() as u64 == SAMPLE,
    };
    // only to look at: faults are named when the file is read
    Ok(Sample { text: String::from_utf8_lossy(&head).trim_start_matches('\u{feff}').to_string(), is_utf8 })
}

/// Whether a file is a tar archive, after decompression (the `ustar` mark at byte 257).
pub(super) fn is_tar(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let shown = path.display().to_string();
    open_file(path)?.take(512).read_to_end(&mut head).map_err(|e| read_error(&shown, e))?;
    Ok(head.get(257..262) == Some(b"ustar"))
}

/// The file name without `.gz` and `.zst`, in lower case.
fn base_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.trim_end_matches(".zst").trim_end_matches(".gz").to_string()
}

/// Recognises the format.
///
/// # Errors
/// A CSV file whose first row is neither a header with known names nor a class-first row; a zip archive.
pub(super) fn format(name: &str, sample: &Sample, columns: &Columns) -> Result<Format> {
    let base = base_name(name);
    // the last line of the sample may be cut
    let mut lines: Vec<&str> = sample.text.lines().take(200).collect();
    if lines.len() > 1 && lines.len() < 200 && sample.text.len() as u64 >= SAMPLE - 8 {
        lines.pop();
    }
    let full: Vec<&str> = lines.iter().copied().filter(|l| !is_blank(l)).collect();
    let Some(first) = full.first() else { return Ok(Format::Plain) };
    if sample.text.starts_with("PK\u{3}\u{4}") {
        return Err(Error::file(name, "is a zip archive, which is not read yet").hint("unpack it, or make it a .tar"));
    }
    let table = |tab: bool| -> Result<Format> {
        let rows = first_rows(&sample.text, if tab { b'\t' } else { b',' });
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
    let any = Columns { text: columns.text.clone(), label: columns.label.clone() };
    if base.ends_with(".jsonl") || first.starts_with('{') && json_fields(first, &any).is_ok() {
        return Ok(Format::JsonLines);
    }
    let trec_name = base.ends_with(".label") && split_trec(first).is_some();
    if trec_name || full.iter().all(|l| split_trec(l).is_some()) {
        return Ok(Format::Trec);
    }
    if full.len() > 1 && full.iter().all(|l| split_label(l).is_some()) && full.iter().any(|l| l[..1] != first[..1]) {
        return Ok(Format::LabelText);
    }
    // a table under another name: a known header, or quoted fields with the class first
    for tab in [false, true] {
        let delimiter = if tab { b'\t' } else { b',' };
        let rows = first_rows(&sample.text, delimiter);
        let Some(row) = rows.first().filter(|r| r.len() >= 2) else { continue };
        let fields: Vec<&str> = row.iter().collect();
        let even = rows.iter().all(|r| r.len() == row.len());
        let quoted = first.starts_with('"') && fields[0].parse::<i64>().is_ok();
        if even && rows.len() > 1 && (quoted || columns.fits_header(&fields) && columns.resolve(&fields).is_ok()) {
            return table(tab);
        }
    }
    Ok(Format::Plain)
}

/// The first rows of a table, without the one the sample may have cut.
fn first_rows(text: &str, delimiter: u8) -> Vec<csv::StringRecord> {
    let mut rows: Vec<_> = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
        .records()
        .take(20)
        .map_while(Result::ok)
        .collect();
    if rows.len() > 1 && rows.len() < 20 && text.len() as u64 >= SAMPLE - 8 {
        rows.pop();
    }
    rows
}
