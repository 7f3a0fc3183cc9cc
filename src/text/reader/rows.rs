//! Rows of a table: delimiters and quotes, strictly. A row at which a lenient
//! parser would guess, and so lose text, is a fault here.

use std::io::{self, BufRead};

use super::bytes::MAX_DOCUMENT;
use crate::error::Error;

/// The meaning of `"` in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// A quote encloses a field; within the field it is doubled.
    Enclose,
    /// A quote encloses a field; within the field it follows a backslash (or is doubled), and a
    /// backslash follows another.
    Backslash,
    /// A quote is a character like others.
    Characters,
}

impl Quotes {
    /// As `--quotes` names them.
    ///
    /// # Errors
    /// [`Error::Usage`] when the name is unknown.
    pub fn by_name(name: &str) -> Result<Self, Error> {
        match name {
            "yes" => Ok(Quotes::Enclose),
            "backslash" => Ok(Quotes::Backslash),
            "no" => Ok(Quotes::Characters),
            _ => Err(Error::usage(format!("--quotes: unknown value '{name}'")).hint("one of yes, no, backslash")),
        }
    }
}

/// The fault of a row.
#[derive(Debug)]
pub(super) enum Fault {
    /// A field goes on after its closing quote, on this line; `escaped`: a backslash stands before
    /// that quote.
    AfterQuote {
        line: u64,
        escaped: bool,
    },
    /// A quote opened on this line is never closed.
    Unclosed {
        line: u64,
    },
    /// A row is longer than a document may be; it began on this line, or the quote that is open
    /// did.
    TooLong {
        line: u64,
        quoted: bool,
    },
    Read(io::Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Outside,
    Inside,
    /// After a backslash within quotes.
    Escape,
    /// After a quote within quotes: the end of them, or the first half of a doubled one.
    Closed,
}

/// A stream of rows. The fields of the present one lie one after the other in one buffer.
pub(super) struct Rows<R> {
    reader: R,
    delimiter: u8,
    quotes: Quotes,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// Line of the next byte, counted from 1.
    line: u64,
    /// The last row ended in a carriage return: a line feed belongs to it.
    after_return: bool,
    /// The present row has line ends within quotes.
    many_lines: bool,
    /// The fields of the present row that are in quotes, ascending.
    quoted: Vec<usize>,
    /// Whether a blank line is a row: of one empty field.
    blank_rows: bool,
    /// Line feeds of rows and between them, those within fields besides: they must be all that the
    /// text has.
    line_feeds: u64,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(reader: R, delimiter: u8, quotes: Quotes) -> Self {
        Rows {
            reader,
            delimiter,
            quotes,
            fields: Vec::new(),
            ends: Vec::new(),
            line: 1,
            after_return: false,
            many_lines: false,
            quoted: Vec::new(),
            blank_rows: false,
            line_feeds: 0,
        }
    }

    /// From now on a blank line is a row of one empty field.
    pub(super) fn take_blank_lines(&mut self) {
        self.blank_rows = true;
    }

    pub(super) fn reader(&self) -> &R {
        &self.reader
    }

    /// Line feeds that the rows read so far account for.
    pub(super) fn line_feeds(&self) -> u64 {
        self.line_feeds
    }

    /// Number of fields of the present row.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether a field of the present row has several lines.
    pub(super) fn has_many_lines(&self) -> bool {
        self.many_lines
    }

    /// Number of fields of the present row that are in quotes.
    pub(super) fn quoted(&self) -> usize {
        self.quoted.len()
    }

    /// Whether a field of the present row is in quotes.
    pub(super) fn is_quoted(&self, i: usize) -> bool {
        self.quoted.binary_search(&i).is_ok()
    }

    /// A field of the present row.
    pub(super) fn field(&self, i: usize) -> &str {
        // the reader gives valid UTF-8, and it was cut at ASCII alone
        std::str::from_utf8(self.bytes_of(i)).unwrap_or_default()
    }

    /// The same as bytes, where the reader gives those of another encoding.
    pub(super) fn bytes_of(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.fields[start..self.ends[i]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.field(i))
    }

    /// Goes to the next row; blank lines are none, unless they are taken. Its line, or nothing at
    /// the end.
    pub(super) fn next(&mut self) -> Result<Option<u64>, Fault> {
        loop {
            self.fields.clear();
            self.ends.clear();
            self.quoted.clear();
            self.many_lines = false;
            let Some(first) = self.row()? else { return Ok(None) };
            // an empty field in quotes is a field
            if self.blank_rows || self.len() > 1 || !self.fields.is_empty() || !self.quoted.is_empty() {
                return Ok(Some(first));
            }
        }
    }

    fn row(&mut self) -> Result<Option<u64>, Fault> {
        let (mut state, mut opened, mut begun) = (State::FieldStart, 0, None);
        loop {
            let buffer = self.reader.fill_buf().map_err(Fault::Read)?;
            if buffer.is_empty() {
                return match (state, begun) {
                    (State::Inside | State::Escape, _) => Err(Fault::Unclosed { line: opened }),
                    (_, None) => Ok(None),
                    (_, begun) => {
                        self.ends.push(self.fields.len());
                        Ok(begun)
                    }
                };
            }
            let length = buffer.len();
            let mut i = 0;
            if std::mem::take(&mut self.after_return) && buffer[0] == b'\n' {
                self.line_feeds += 1;
                i = 1;
            }
            let mut ended = false;
            while i < length && !ended {
                let first = *begun.get_or_insert(self.line);
                let b = buffer[i];
                match state {
                    State::FieldStart if b == b'"' && self.quotes != Quotes::Characters => {
                        opened = self.line;
                        self.quoted.push(self.ends.len());
                        state = State::Inside;
                        i += 1;
                    }
                    State::FieldStart | State::Outside => {
                        let n = memchr::memchr3(self.delimiter, b'\n', b'\r', &buffer[i..]).unwrap_or(length - i);
                        self.fields.extend_from_slice(&buffer[i..i + n]);
                        i += n;
                        state = State::Outside;
                        if i < length {
                            self.ends.push(self.fields.len());
                            ended = buffer[i] != self.delimiter;
                            self.after_return = buffer[i] == b'\r';
                            self.line_feeds += u64::from(buffer[i] == b'\n');
                            state = State::FieldStart;
                            i += 1;
                        }
                    }
                    State::Inside => {
                        let rest = &buffer[i..];
                        let n = match self.quotes {
                            Quotes::Backslash => memchr::memchr2(b'"', b'\\', rest),
                            _ => memchr::memchr(b'"', rest),
                        };
                        let n = n.unwrap_or(rest.len());
                        let feeds = memchr::memchr_iter(b'\n', &rest[..n]).count() as u64;
                        self.line += feeds;
                        self.line_feeds += feeds;
                        self.many_lines |= feeds > 0;
                        self.fields.extend_from_slice(&rest[..n]);
                        i += n;
                        if i < length {
                            state = if buffer[i] == b'"' { State::Closed } else { State::Escape };
                            i += 1;
                        }
                    }
                    State::Escape => {
                        if b != b'"' && b != b'\\' {
                            self.fields.push(b'\\');
                        }
                        let feed = u64::from(b == b'\n');
                        self.line += feed;
                        self.line_feeds += feed;
                        self.fields.push(b);
                        state = State::Inside;
                        i += 1;
                    }
                    State::Closed if b == b'"' => {
                        self.fields.push(b);
                        state = State::Inside;
                        i += 1;
                    }
                    State::Closed if b == self.delimiter || b == b'\n' || b == b'\r' => {
                        self.ends.push(self.fields.len());
                        ended = b != self.delimiter;
                        self.after_return = b == b'\r';
                        self.line_feeds += u64::from(b == b'\n');
                        state = State::FieldStart;
                        i += 1;
                    }
                    State::Closed => {
                        let start = self.ends.last().copied().unwrap_or(0);
                        let escaped = self.fields[start..].last() == Some(&b'\\');
                        return Err(Fault::AfterQuote { line: self.line, escaped });
                    }
                }
                if self.fields.len() > MAX_DOCUMENT {
                    let quoted = matches!(state, State::Inside | State::Escape);
                    return Err(Fault::TooLong { line: if quoted { opened } else { first }, quoted });
                }
            }
            self.reader.consume(i);
            if ended {
                self.line += 1;
                return Ok(begun);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with their lines, or the fault; read in pieces of every size.
    fn rows(text: &str, quotes: Quotes) -> Result<Vec<(u64, Vec<String>)>, String> {
        let of = |size: usize| {
            let mut rows = Rows::new(io::BufReader::with_capacity(size, text.as_bytes()), b',', quotes);
            let mut all = Vec::new();
            while let Some(line) = rows.next().map_err(|e| format!("{e:?}"))? {
                all.push((line, rows.iter().map(str::to_string).collect()));
            }
            assert_eq!(rows.line_feeds(), text.matches('\n').count() as u64, "{text:?}");
            Ok(all)
        };
        let whole = of(1 << 16);
        for size in 1..=text.len() {
            assert_eq!(of(size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    fn texts(text: &str, quotes: Quotes) -> Vec<Vec<String>> {
        rows(text, quotes).unwrap().into_iter().map(|(_, fields)| fields).collect()
    }

    #[test]
    fn rows_and_their_lines() {
        let found = rows("a,b\r\n\"x\ny\",\"p \"\"q\"\"\"\n\n,\nlast,", Quotes::Enclose).unwrap();
        let all: Vec<(u64, Vec<&str>)> =
            found.iter().map(|(n, f)| (*n, f.iter().map(String::as_str).collect())).collect();
        assert_eq!(all, [(1, vec!["a", "b"]), (2, vec!["x\ny", "p \"q\""]), (5, vec!["", ""]), (6, vec!["last", ""])]);
        assert_eq!(texts("a,b\rc,d\r", Quotes::Enclose), [["a", "b"], ["c", "d"]], "carriage returns alone");
        assert!(texts("\n\r\n\n", Quotes::Enclose).is_empty());
        assert_eq!(texts("5\" pipe,\"\"\n", Quotes::Enclose), [["5\" pipe", ""]]);
    }

    #[test]
    fn quotes_as_characters_and_after_a_backslash() {
        assert_eq!(texts("\"a,b\"\n", Quotes::Characters), [["\"a", "b\""]]);
        assert_eq!(texts("\"a \\\"b, c\\\" \\\\\",\"\\n\"\n", Quotes::Backslash), [["a \"b, c\" \\", "\\n"]]);
    }

    #[test]
    fn faults_have_their_line() {
        let fault = |text| rows(text, Quotes::Enclose).unwrap_err();
        assert_eq!(fault("a\n\"b\nc\" d\n"), "AfterQuote { line: 3, escaped: false }");
        assert_eq!(fault("\"said \\\"no\\\"\",b"), "AfterQuote { line: 1, escaped: true }");
        assert_eq!(fault("a\n\"b\nc\n"), "Unclosed { line: 2 }");
    }
}
