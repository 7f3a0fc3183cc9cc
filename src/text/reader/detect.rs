//! The format of a file, from its name and its first 64 KiB.

use std::io::{BufRead, BufReader, Read};

use super::archive::refuse_archive;
use super::bytes::{Bytes, read_error};
use super::columns::Columns;
use super::doubts;
use super::foreign;
use super::formats::{FORMATS, Format};
use super::input::{Encoding, Utf8Reader};
use super::layout::{self, Layout};
use super::plain::is_blank;
use super::{OpenOptions, Place};
use crate::error::{Error, Result};

const SAMPLE: u64 = 1 << 16;
/// At most so much is added to it at a time while it has no line end.
const LONG_SAMPLE: u64 = 1 << 22;

/// The beginning of a file.
pub(super) struct Sample {
    text: String,
    /// Whether the file goes on after it.
    cut: bool,
    is_utf8: bool,
    /// The encoding that the first bytes show, if they do.
    encoding: Option<Encoding>,
    /// The encoding that the text was looked at in.
    read_as: Encoding,
}

/// Reads the sample, in `encoding` where the user names one.
///
/// # Errors
/// The file is empty, an archive within an archive, in UTF-32, a pointer to data that are
/// elsewhere, or cannot be read.
pub(super) fn sample(name: &str, mut bytes: Bytes, encoding: Option<Encoding>) -> Result<Sample> {
    let mut head = Vec::new();
    // at least one line in full, so that a long one shows what it is
    let mut room = SAMPLE;
    let cut = loop {
        let read = bytes.by_ref().take(room).read_to_end(&mut head).map_err(|e| read_error(name, e))? as u64;
        if read < room || room >= LONG_SAMPLE || memchr::memchr(b'\n', &head).is_some() {
            break read == room;
        }
        room *= 4;
    };
    if head.is_empty() {
        return Err(Error::file(name, "is empty"));
    }
    refuse_archive(name, &head)?;
    foreign::refuse_program(name, &head)?;
    foreign::refuse_packed(name, &head)?;
    foreign::refuse_utf32(name, &head)?;
    if encoding.is_none_or(|encoding| encoding == Encoding::Utf8) {
        foreign::refuse_escapes(name, &head)?;
    }
    if let Some(encoding) = encoding {
        doubts::refuse_mark(&head, name, encoding)?;
    }
    let is_utf8 = match std::str::from_utf8(&head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && cut,
    };
    let found = Encoding::of_head(&head);
    // a mark of UTF-16 that was not refused says which it is
    let read_as = Encoding::of_mark(&head).or(encoding).or(found).unwrap_or(Encoding::Utf8);
    if read_as.has_ascii_marks() {
        foreign::refuse_zeros(name, &head)?;
    }
    let text = read_as.decode_sample(&head);
    let text = foreign::without_marks(text);
    foreign::refuse_pointer(name, &text)?;
    Ok(Sample { text, cut, is_utf8, encoding: found, read_as })
}

impl Sample {
    /// The encoding of a file of this format, where the user names none.
    pub(super) fn encoding(&self, format: Format) -> Encoding {
        match self.encoding {
            Some(found) => found,
            // the published files are ISO-8859-1
            None if format.name() == "trec" && !self.is_utf8 => Encoding::Latin1,
            None => Encoding::Utf8,
        }
    }

    /// # Errors
    /// Its lines end in carriage returns alone.
    pub(super) fn refuse_returns(&self, name: &str) -> Result<()> {
        foreign::refuse_returns(name, &self.text)
    }

    /// Whether a web page stands where a text is meant.
    pub(super) fn is_html(&self) -> bool {
        foreign::is_html(&self.text)
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
}

/// A file that is looked at.
pub(super) struct Look<'a> {
    pub(super) name: &'a str,
    /// The file name without `.gz` and `.zst`, in lower case.
    pub(super) base: String,
    pub(super) options: &'a OpenOptions,
    pub(super) columns: Columns,
    /// The first lines that are not blank.
    pub(super) full: Vec<&'a str>,
    sample: &'a Sample,
    place: &'a Place,
}

impl<'a> Look<'a> {
    pub(super) fn new(name: &'a str, sample: &'a Sample, place: &'a Place, options: &'a OpenOptions) -> Self {
        let lower = name.to_ascii_lowercase();
        Look {
            name,
            base: lower.trim_end_matches(".zst").trim_end_matches(".gz").to_string(),
            options,
            columns: Columns::of(options),
            full: sample.lines().into_iter().filter(|line| !is_blank(line)).collect(),
            sample,
            place,
        }
    }

    /// The beginning of the file.
    pub(super) fn text(&self) -> &str {
        &self.sample.text
    }

    /// Whether the file goes on after it.
    pub(super) fn is_cut(&self) -> bool {
        self.sample.cut
    }

    /// The whole file from its beginning, to look at the order of its quotes; nothing where it has
    /// none. Undecoded where that can be: the characters of interest are ASCII, but for the
    /// byte-order marks of UTF-8.
    pub(super) fn open_where_quoted(&self) -> Result<Option<Box<dyn BufRead>>> {
        let encoding = self.sample.read_as;
        let open = || Ok(BufReader::with_capacity(SAMPLE as usize, self.place.open()?));
        if encoding.has_ascii_marks() {
            let mut reader = open()?;
            loop {
                // a fault is told when the file is read
                let Ok(block) = reader.fill_buf() else { return Ok(None) };
                if block.is_empty() {
                    return Ok(None);
                }
                if memchr::memchr(b'"', block).is_some() {
                    break;
                }
                let length = block.len();
                reader.consume(length);
            }
            if encoding != Encoding::Utf8 {
                return Ok(Some(Box::new(open()?)));
            }
        }
        Ok(Some(Box::new(Utf8Reader::new(self.place.open()?, self.name, encoding))))
    }

    /// The format, and for a table its layout.
    ///
    /// # Errors
    /// A file that is of a format by its name but not by its content.
    pub(super) fn format(&self) -> Result<(Format, Layout)> {
        if let Some(format) = self.options.format {
            let layout = format.0.preset.map(|preset| layout::of(self, Some(preset))).transpose()?.flatten();
            return Ok((format, layout.unwrap_or(layout::NONE)));
        }
        if self.full.is_empty() {
            return Ok((Format::by_name("plain")?, layout::NONE));
        }
        let is_table = [".csv", ".tsv", ".tab", ".psv"].iter().any(|ending| self.base.ends_with(ending));
        for kind in FORMATS.iter().filter(|kind| !is_table || kind.preset.is_some()) {
            if let Some(layout) = (kind.recognise)(self)? {
                return Ok((Format(kind), layout));
            }
        }
        Ok((Format::by_name("plain")?, layout::NONE))
    }

    /// What looks like labels in the lines of a plain text, which are read as its words.
    pub(super) fn labels_in_text(&self) -> Option<&'static str> {
        let some = |mark: fn(&str) -> bool| self.full.iter().filter(|line| mark(line)).count() * 4 > self.full.len();
        if some(|line| line.contains("__label__")) {
            return Some(
                "its lines hold __label__: put the label before the text of every line, or say --format fasttext",
            );
        }
        let object = |line: &str| line.trim_start().starts_with('{') && line.trim_end().ends_with('}');
        some(object)
            .then_some("its lines look like objects: a JSON object a line, in double quotes, is read by its keys")
    }

    /// The recognised format, in words.
    pub(super) fn describe(&self, format: Format, layout: Layout) -> String {
        if format.0.preset.is_some() {
            return layout::describe(self, layout);
        }
        if format.name() == "conll" {
            return super::conll::describe(self);
        }
        let labelled = format.name() == "plain" && self.full.len() > 1 && super::labelled::are_labelled(&self.full);
        let whole = if labelled {
            " (each with the number it begins with: --format label-text takes it for a label)"
        } else {
            ""
        };
        format!("{}{whole}", format.0.title)
    }
}
