//! From bytes to text: decoding to UTF-8 with exact positions of faults, and lines.

use std::io::{self, BufRead, Read};

use super::bytes::{Bytes, MAX_DOCUMENT, read_error};
use super::foreign;
use crate::error::{Error, Result};

/// Character encoding of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    /// ISO-8859-1: byte `n` is character `n`.
    Latin1,
    /// Any other encoding of the WHATWG registry.
    Other(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// By name: `utf-8`, `latin-1`, `iso-8859-1`, `windows-1252`, `utf-16`, ….
    ///
    /// # Errors
    /// [`Error::Usage`] when the name is unknown.
    pub fn by_name(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "utf-8" | "utf8" | "utf-8-sig" | "utf8-sig" | "u8" | "ascii" | "us-ascii" => Ok(Encoding::Utf8),
            // names of other programs
            "cp932" | "ms932" => Ok(Encoding::Other(encoding_rs::SHIFT_JIS)),
            "cp936" => Ok(Encoding::Other(encoding_rs::GBK)),
            "cp949" | "ms949" => Ok(Encoding::Other(encoding_rs::EUC_KR)),
            "cp950" => Ok(Encoding::Other(encoding_rs::BIG5)),
            "mac-roman" | "macroman" => Ok(Encoding::Other(encoding_rs::MACINTOSH)),
            "shift-jis" | "sjis" => Ok(Encoding::Other(encoding_rs::SHIFT_JIS)),
            // the registry makes windows-1252 of these names; the data sets mean the ISO standard
            "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "l1" => Ok(Encoding::Latin1),
            other => encoding_rs::Encoding::for_label_no_replacement(other.as_bytes()).map(Encoding::Other).ok_or_else(
                || {
                    Error::usage(format!("--encoding: unknown encoding '{name}'"))
                        .hint("for instance utf-8, latin-1, windows-1252, utf-16le, gb18030, shift_jis")
                },
            ),
        }
    }

    /// Text of the beginning of a file, only to look at: faults are named when the file is read.
    pub(super) fn decode_sample(self, bytes: &[u8]) -> String {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Latin1 => bytes.iter().map(|&b| char::from(b)).collect(),
            Encoding::Other(e) => e.decode_without_bom_handling(bytes).0.into_owned(),
        }
    }

    /// The encoding that the first bytes give away: a byte-order mark, or the zeros of Latin
    /// letters in UTF-16.
    pub(super) fn of_head(head: &[u8]) -> Option<Self> {
        if let Some(marked) = Self::of_mark(head) {
            return Some(marked);
        }
        memchr::memchr(0, head)?;
        let head = &head[..head.len().min(CHUNK)];
        let zeros = |parity| head.iter().skip(parity).step_by(2).filter(|&&b| b == 0).count();
        let (even, odd, pairs) = (zeros(0), zeros(1), head.len() / 2);
        if pairs < 4 || even.max(odd) * 3 < pairs * 2 || even.min(odd) * 50 > pairs {
            return None;
        }
        let found = Encoding::Other(if odd > even { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE });
        // numbers of two bytes look alike, but are no text
        foreign::is_text(found.decode_sample(head).as_bytes()).then_some(found)
    }

    /// UTF-16, where its byte-order mark is there.
    pub(super) fn of_mark(head: &[u8]) -> Option<Self> {
        match head {
            [0xff, 0xfe, ..] => Some(Encoding::Other(encoding_rs::UTF_16LE)),
            [0xfe, 0xff, ..] => Some(Encoding::Other(encoding_rs::UTF_16BE)),
            _ => None,
        }
    }

    /// Whether tabs, quotes and line ends are those of ASCII, and no other character has their
    /// bytes.
    pub(super) fn has_ascii_marks(self) -> bool {
        match self {
            Encoding::Utf8 | Encoding::Latin1 => true,
            Encoding::Other(e) => e.is_ascii_compatible(),
        }
    }

    /// Whether every byte is a character.
    pub(super) fn is_of_single_bytes(self) -> bool {
        match self {
            Encoding::Utf8 => false,
            Encoding::Latin1 => true,
            Encoding::Other(e) => e.is_single_byte(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Latin1 => "Latin-1",
            Encoding::Other(e) => e.name(),
        }
    }
}

enum Decoder {
    Utf8,
    Latin1,
    Other(encoding_rs::Decoder),
}

/// Turns bytes of any encoding into bytes that are valid UTF-8, and names the place of a fault.
pub(super) struct Utf8Reader {
    inner: Bytes,
    name: String,
    decoder: Decoder,
    started: bool,
    ended: bool,
    /// Whether the next character is the first of a line.
    at_line_start: bool,
    raw: Vec<u8>,
    out: Vec<u8>,
    position: usize,
    /// Bytes and line ends decoded so far, for messages.
    offset: u64,
    lines: u64,
}

pub(super) const CHUNK: usize = 1 << 16;

impl Utf8Reader {
    pub(super) fn new(inner: Bytes, name: &str, encoding: Encoding) -> Self {
        let decoder = match encoding {
            Encoding::Utf8 => Decoder::Utf8,
            Encoding::Latin1 => Decoder::Latin1,
            Encoding::Other(e) => Decoder::Other(e.new_decoder_with_bom_removal()),
        };
        Utf8Reader {
            inner,
            name: name.to_string(),
            decoder,
            started: false,
            ended: false,
            at_line_start: true,
            raw: Vec::new(),
            out: Vec::new(),
            position: 0,
            offset: 0,
            lines: 0,
        }
    }

    /// Line feeds of the text that was decoded so far.
    pub(super) fn lines_read(&self) -> u64 {
        self.lines
    }

    /// A fault at byte `at` of `raw`, after `text` that is decoded but not counted yet.
    fn fault(&self, at: usize, text: &[u8], encoding: &str) -> io::Error {
        let line = self.lines + 1 + count_lines(text);
        let message = format!("is not valid {encoding} at byte {}", self.offset + at as u64);
        // in Latin-1 these bytes are control characters, in windows-1252 quotes, dashes and the
        // like
        let hint = if encoding != "UTF-8" {
            "check --encoding"
        } else if self.raw.get(at).is_some_and(|b| (0x80..0xa0).contains(b)) {
            "--encoding windows-1252 (or another) if the file is in an older encoding"
        } else {
            "--encoding latin-1 (or another) if the file is in an older encoding"
        };
        io::Error::other(Error::line(&self.name, line, message).hint(hint))
    }

    /// Decodes the next chunk into `out`; leaves it empty only at the end.
    fn fill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.position = 0;
        while self.out.is_empty() && !self.ended {
            let kept = self.raw.len();
            let read = (&mut self.inner).take((CHUNK - kept.min(CHUNK / 2)) as u64).read_to_end(&mut self.raw)?;
            self.ended = read == 0;
            if !self.started {
                self.started = true;
                self.byte_order_mark();
            }
            self.decode()?;
        }
        Ok(())
    }

    fn byte_order_mark(&mut self) {
        let utf16 = match self.raw.as_slice() {
            // even against the user's choice: no text begins with these three
            [0xef, 0xbb, 0xbf, ..] => {
                self.raw.drain(..3);
                self.offset = 3;
                return;
            }
            [0xff, 0xfe, ..] => encoding_rs::UTF_16LE,
            [0xfe, 0xff, ..] => encoding_rs::UTF_16BE,
            _ => return,
        };
        let told = match &self.decoder {
            Decoder::Utf8 => true,
            Decoder::Latin1 => false,
            Decoder::Other(decoder) => [encoding_rs::UTF_16LE, encoding_rs::UTF_16BE].contains(&decoder.encoding()),
        };
        if told {
            self.decoder = Decoder::Other(utf16.new_decoder_with_bom_removal());
        }
    }

    fn decode(&mut self) -> io::Result<()> {
        let used = match &mut self.decoder {
            Decoder::Utf8 => match std::str::from_utf8(&self.raw) {
                Ok(_) => self.raw.len(),
                Err(e) if e.error_len().is_none() && !self.ended => e.valid_up_to(),
                Err(e) => return Err(self.fault(e.valid_up_to(), &self.raw[..e.valid_up_to()], "UTF-8")),
            },
            Decoder::Latin1 => {
                let text: String = self.raw.iter().map(|&b| char::from(b)).collect();
                self.out.extend_from_slice(text.as_bytes());
                self.raw.len()
            }
            Decoder::Other(decoder) => {
                let mut text = vec![0; decoder.max_utf8_buffer_length(self.raw.len()).unwrap_or(4 * CHUNK) + 16];
                let (result, read, written) =
                    decoder.decode_to_utf8_without_replacement(&self.raw, &mut text, self.ended);
                if let encoding_rs::DecoderResult::Malformed(length, after) = result {
                    let encoding = decoder.encoding().name();
                    let at = read.saturating_sub(usize::from(length) + usize::from(after));
                    return Err(self.fault(at, &text[..written], encoding));
                }
                self.out.extend_from_slice(&text[..written]);
                read
            }
        };
        if matches!(self.decoder, Decoder::Utf8) {
            self.out.extend_from_slice(&self.raw[..used]);
        }
        if let Some(at) = memchr::memchr(0, &self.out) {
            return Err(io::Error::other(foreign::zero(&self.name, self.lines + 1 + count_lines(&self.out[..at]))));
        }
        foreign::drop_marks(&mut self.out, &mut self.at_line_start);
        // of the text: in UTF-16 the byte of a line end is also part of other characters
        self.lines += count_lines(&self.out);
        self.offset += used as u64;
        self.raw.drain(..used);
        Ok(())
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|&&b| b == b'\n').count() as u64
}

impl Read for Utf8Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Utf8Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.out.len() {
            self.fill()?;
        }
        Ok(&self.out[self.position..])
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

/// Lines of a decoded stream without their ends, numbered from 1.
pub(super) struct Lines {
    reader: Utf8Reader,
    name: String,
    buffer: Vec<u8>,
    pub(super) number: u64,
    /// Carriage returns within lines.
    returns: u64,
}

impl Lines {
    pub(super) fn new(reader: Utf8Reader) -> Self {
        Lines { name: reader.name.clone(), reader, buffer: Vec::new(), number: 0, returns: 0 }
    }

    /// The next line, `None` at the end.
    ///
    /// # Errors
    /// Besides faults of the text: lines that end in a carriage return alone. One such character
    /// in a line is let pass where line feeds are more.
    pub(super) fn next(&mut self) -> Result<Option<&str>> {
        self.buffer.clear();
        let limit = (MAX_DOCUMENT + 2) as u64;
        let read = (&mut self.reader)
            .take(limit)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|e| read_error(&self.name, e))?;
        if read == 0 {
            if self.returns > 0 && self.returns >= self.number {
                return Err(foreign::returns(&self.name, None));
            }
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if read as u64 == limit {
            return Err(too_long(&self.name, self.number));
        }
        if memchr::memchr(b'\r', &self.buffer).is_some() {
            let within = foreign::lone_returns(&self.buffer) as u64;
            self.returns += within;
            if within > 1 {
                return Err(foreign::returns(&self.name, Some(self.number)));
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(Error::line(&self.name, self.number, "is not valid UTF-8")),
        }
    }
}

pub(super) fn too_long(name: &str, line: u64) -> Error {
    Error::line(name, line, format!("a single document is longer than {} MiB", MAX_DOCUMENT >> 20))
        .hint("cut the text into lines or documents")
}

/// Decodes the whole content of a small member or file.
pub(super) fn decode_all(bytes: Vec<u8>, name: &str, encoding: Encoding) -> Result<String> {
    let mut text = String::new();
    Utf8Reader::new(Box::new(io::Cursor::new(bytes)), name, encoding)
        .read_to_string(&mut text)
        .map_err(|e| read_error(name, e))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], encoding: Encoding) -> Result<String> {
        decode_all(bytes.to_vec(), "f", encoding)
    }

    #[test]
    fn encodings_and_marks() {
        assert_eq!(decode(b"\xef\xbb\xbfa\xc3\xa9", Encoding::Utf8).unwrap(), "aé");
        assert_eq!(decode(b"caf\xe9\x85", Encoding::Latin1).unwrap(), "café\u{85}");
        assert_eq!(decode(b"\xff\xfea\0\xe9\0", Encoding::Utf8).unwrap(), "aé");
        let cp1252 = Encoding::by_name("windows-1252").unwrap();
        assert_eq!(decode(b"\x93q\x94", cp1252).unwrap(), "“q”");
        assert!(Encoding::by_name("nonsense").is_err());
        assert!(Encoding::by_name("iso-2022-kr").is_err(), "a label that decodes to nothing");
    }

    #[test]
    fn a_fault_is_placed() {
        let mut bytes = vec![b'x'; 100_000];
        bytes[70_000] = b'\n';
        bytes[80_000] = 0xe9;
        let e = decode(&bytes, Encoding::Utf8).unwrap_err();
        assert_eq!(e.to_string(), "f:2: is not valid UTF-8 at byte 80000");
        assert!(e.hint_text().unwrap().contains("--encoding"));
        // cut in the middle of a character
        assert!(decode(b"ok\xc3", Encoding::Utf8).unwrap_err().to_string().contains("byte 2"));
    }

    #[test]
    fn a_fault_in_utf16_is_placed() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        // U+0A41 has the byte of a line end; a lone surrogate is the fault
        let bytes = [&[0xff, 0xfe][..], &utf16("\u{a41}b\nc"), &[0x00, 0xd8], &utf16("d\n")].concat();
        let e = decode(&bytes, Encoding::Utf8).unwrap_err();
        assert_eq!(e.to_string(), "f:2: is not valid UTF-16LE at byte 10");
        assert_eq!(Encoding::of_head(&utf16("text,label")), Encoding::by_name("utf-16le").ok());
        assert_eq!(Encoding::of_head(b"text,label\n"), None);
    }

    #[test]
    fn multibyte_characters_across_chunks() {
        for shift in 0..3 {
            let text = format!("{}{}", "a".repeat(shift), "€".repeat(60_000));
            assert_eq!(decode(text.as_bytes(), Encoding::Utf8).unwrap(), text);
        }
    }
}
