//! The table of formats. A new format is a module with a recogniser and a reader, and a line here.

use std::sync::Arc;

use super::columns::Columns;
use super::detect::Look;
use super::input::{Lines, Utf8Reader};
use super::layout::{self, Layout};
use super::{Documents, Role, articles, conll, json, labelled, plain, table};
use crate::error::{Error, Result};

/// A format: its name and description.
pub struct Kind {
    /// Its name for `--format`, and other names that are understood.
    pub names: &'static [&'static str],
    /// How messages name a file of it.
    pub title: &'static str,
    /// Its form, for the documentation.
    pub about: &'static str,
    /// Tables: the delimiter and whether there is a header, unless the file or the user says
    /// otherwise.
    pub(super) preset: Option<(u8, bool)>,
    /// Whether a file is of this format (tables: with which layout). The first of the list that
    /// says so has it.
    pub(super) recognise: fn(&Look) -> Result<Option<Layout>>,
    pub(super) read: fn(Opened) -> Result<Documents>,
}

/// A file on its way to a reader.
pub(super) struct Opened<'a> {
    pub(super) reader: Utf8Reader,
    pub(super) file: Arc<str>,
    pub(super) role: Role,
    pub(super) columns: &'a Columns,
    pub(super) layout: Layout,
}

impl Opened<'_> {
    pub(super) fn lines(self) -> (Lines, Arc<str>) {
        (Lines::new(self.reader), self.file)
    }
}

/// A recogniser of lines: a file has a format or has not.
pub(super) fn if_so(so: bool) -> Result<Option<Layout>> {
    Ok(so.then_some(layout::NONE))
}

/// In the order in which files are compared with them.
pub static FORMATS: &[Kind] = &[
    Kind {
        names: &["extract", "doc"],
        title: "Wikipedia extracts (<doc>)",
        about: "`<doc …>` … `</doc>`, a document each",
        preset: None,
        recognise: articles::is_extract,
        read: articles::read_extracts,
    },
    Kind {
        names: &["wikitext"],
        title: "WikiText articles",
        about: "a document from one ` = Title = ` to the next",
        preset: None,
        recognise: articles::is_wikitext,
        read: articles::read_wikitext,
    },
    Kind {
        names: &["json-lines", "jsonl"],
        title: "JSON lines",
        about: "an object a line; text and label by their keys",
        preset: None,
        recognise: json::recognise,
        read: json::read,
    },
    Kind {
        names: &["fasttext"],
        title: "fastText lines (__label__)",
        about: "`__label__CLASS text`",
        preset: None,
        recognise: labelled::is_fasttext,
        read: labelled::read_fasttext,
    },
    Kind {
        names: &["conll"],
        title: "CoNLL columns",
        about: "a word a line, its tag in the last column; a blank line after a sentence",
        preset: None,
        recognise: conll::recognise,
        read: conll::read,
    },
    Kind {
        names: &["csv"],
        title: "CSV",
        about: "a header, and fields between `,` (or `;`, `|`, tab, or `--delimiter`)",
        preset: Some((b',', true)),
        recognise: table::recognise,
        read: table::read,
    },
    Kind {
        names: &["csv-no-header"],
        title: "CSV",
        about: "the class first, the text columns after it",
        preset: Some((b',', false)),
        recognise: by_name_alone,
        read: table::read,
    },
    Kind {
        names: &["tsv"],
        title: "TSV",
        about: "a header, and fields between tabs",
        preset: Some((b'\t', true)),
        recognise: by_name_alone,
        read: table::read,
    },
    Kind {
        names: &["tsv-no-header"],
        title: "TSV",
        about: "the class first, the text columns after it, between tabs",
        preset: Some((b'\t', false)),
        recognise: by_name_alone,
        read: table::read,
    },
    Kind {
        names: &["trec"],
        title: "TREC questions (coarse classes)",
        about: "`COARSE:fine question`; the class is the coarse one",
        preset: None,
        recognise: labelled::is_trec,
        read: labelled::read_trec,
    },
    Kind {
        names: &["label-text"],
        title: "label-first lines",
        about: "a whole number, a space, the text",
        preset: None,
        recognise: labelled::is_label_text,
        read: labelled::read_label_text,
    },
    Kind {
        names: &["plain", "text"],
        title: "plain text, one document a line",
        about: "a document a line",
        preset: None,
        recognise: plain::recognise,
        read: plain::read,
    },
];

/// Tables are recognised in one place.
fn by_name_alone(_: &Look) -> Result<Option<Layout>> {
    Ok(None)
}

/// One of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct Format(pub(super) &'static Kind);

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.names[0])
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.0.names == other.0.names
    }
}

impl Eq for Format {}

impl Format {
    /// # Errors
    /// [`Error::Usage`] when there is no such format.
    pub fn by_name(name: &str) -> Result<Self> {
        FORMATS.iter().find(|kind| kind.names.contains(&name)).map(Format).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|kind| kind.names[0]).collect();
            Error::usage(format!("--format: unknown format '{name}'")).hint(format!("one of {}", names.join(", ")))
        })
    }

    /// Its name for `--format`.
    pub fn name(self) -> &'static str {
        self.0.names[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_to_one() {
        let mut names: Vec<&str> = FORMATS.iter().flat_map(|kind| kind.names).copied().collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert!(FORMATS.iter().all(|kind| Format::by_name(kind.names[0]).unwrap().name() == kind.names[0]));
    }

    /// docs/CLI.md has a row for each, as it is written here.
    #[test]
    fn every_format_is_documented() {
        let page = include_str!("../../../docs/CLI.md");
        for kind in FORMATS {
            let row = format!("| `{}` | {} |", kind.names[0], kind.about.replace('|', "\\|"));
            assert!(page.contains(&row), "{row}");
        }
    }
}
