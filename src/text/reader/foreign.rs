//! What is no text, or none that can be read: told before it becomes documents.

use crate::error::{Error, Result};

/// Carriage returns that stand for a line end alone: another character follows.
pub(super) fn lone_returns(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\r', text).filter(|at| !matches!(text.get(at + 1), None | Some(b'\r' | b'\n'))).count()
}

/// Whether carriage returns are the line ends of a text rather than line feeds.
pub(super) fn has_lone_returns(text: &str) -> bool {
    let text = text.trim_end().as_bytes();
    memchr::memchr(b'\r', text).is_some() && lone_returns(text) > memchr::memchr_iter(b'\n', text).count()
}

/// Line ends that would make one document of several; on one line among others, or everywhere.
pub(super) fn returns(name: &str, line: Option<u64>) -> Error {
    let message = "has lines that end in a carriage return alone";
    let error = line.map_or_else(|| Error::file(name, message), |line| Error::line(name, line, message));
    error.hint("convert the line ends to line feeds: tr '\\r' '\\n'")
}

/// # Errors
/// A text whose lines end in carriage returns alone.
pub(super) fn refuse_returns(name: &str, text: &str) -> Result<()> {
    if has_lone_returns(text) { Err(returns(name, None)) } else { Ok(()) }
}

/// Bytes of zero in what is read as an encoding that has none: text of another encoding, or a file
/// of a program.
///
/// # Errors
/// `head`, the beginning of a file or all of it, has some.
pub(super) fn refuse_zeros(name: &str, head: &[u8]) -> Result<()> {
    let Some(at) = memchr::memchr(0, head) else { return Ok(()) };
    let quarter = head.len() / 4;
    let at_place = |place: usize| head.iter().skip(place).step_by(4).filter(|&&b| b == 0).count();
    let counts = [0, 1, 2, 3].map(at_place);
    let (full, sparse) = (|n: usize| quarter > 1 && n * 20 >= quarter * 19, |n: usize| n * 2 < quarter);
    for (wide, ends, begins) in [("UTF-32LE", [2, 3], 0), ("UTF-32BE", [0, 1], 3)] {
        if ends.iter().all(|&place| full(counts[place])) && sparse(counts[begins]) {
            return Err(utf32(name, wide));
        }
    }
    let (even, odd) = (counts[0] + counts[2], counts[1] + counts[3]);
    let guess = if odd > even { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE };
    let whole = &head[..head.len() / 2 * 2];
    if !is_text(&head.iter().copied().filter(|&b| b != 0).collect::<Vec<u8>>())
        && let Some(text) = guess.decode_without_bom_handling_and_without_replacement(whole)
        && is_text(text.as_bytes())
    {
        let message = format!("looks like {}, without a byte-order mark that says so", guess.name());
        return Err(Error::file(name, message).hint(format!("--encoding {}", guess.name().to_ascii_lowercase())));
    }
    let line = 1 + memchr::memchr_iter(b'\n', &head[..at]).count() as u64;
    Err(zero(name, line))
}

/// A byte of zero.
pub(super) fn zero(name: &str, line: u64) -> Error {
    Error::line(name, line, "has a NUL byte: is it a binary file, or text in UTF-16 or UTF-32?")
        .hint("--encoding utf-16le or utf-16be, if it is text in one of them")
}

/// # Errors
/// A byte-order mark of UTF-32.
pub(super) fn refuse_utf32(name: &str, head: &[u8]) -> Result<()> {
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(utf32(name, "UTF-32")),
        _ => Ok(()),
    }
}

fn utf32(name: &str, which: &str) -> Error {
    Error::file(name, format!("is in {which}, which is not read")).hint(format!("iconv -f {which} -t UTF-8"))
}

/// Whether bytes are UTF-8 (perhaps cut at the end) without control characters that no text has.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.chars().any(|c| c < ' ' && !matches!(c, '\t'..='\r' | '\u{1a}' | '\u{1b}'))
}

/// How files of other programs begin, what they are, and what to do.
const PROGRAMS: &[(&[u8], &str, &str)] = &[
    (b"BZh", "a bzip2 file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"LZIP\x01", "an lzip file", UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 file", UNPACK),
    (b"\xff\x06\0\0sNaPpY", "a Snappy file", UNPACK),
    (b"\x5d\0\0\x80\0", "an LZMA file", UNPACK),
    (b"\x1f\x9d", "a file of compress (.Z)", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document (of Excel or Word before 2007)", SAVE),
    (b"{\\rtf1", "a rich text document (RTF)", "save it as plain text"),
    (b"%PDF-", "a PDF document", "save its text as plain text"),
    (b"PAR1", "a Parquet file", EXPORT),
    (b"ARROW1\0\0", "an Arrow file", EXPORT),
    (b"FEA1", "a Feather file", EXPORT),
    (b"\xff\xff\xff\xff", "an Arrow stream", EXPORT),
    (b"ORC", "an ORC file", EXPORT),
    (b"Obj\x01", "an Avro file", EXPORT),
    (b"SQLite format 3\0", "a SQLite database", EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (b"\x93NUMPY", "a NumPy array", EXPORT),
    (b"\x80", "a Python pickle", EXPORT),
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)", ANOTHER),
    (b"\xff\xd8\xff", "a picture (JPEG)", ANOTHER),
    (b"GIF87a", "a picture (GIF)", ANOTHER),
    (b"GIF89a", "a picture (GIF)", ANOTHER),
    (b"RIFF", "a sound, film or picture (RIFF)", ANOTHER),
    (b"ID3", "a sound (MP3)", ANOTHER),
    (b"OggS\0", "a sound (Ogg)", ANOTHER),
    (b"\x7fELF", "a program (ELF)", ANOTHER),
];

const UNPACK: &str = "unpack it first";
const SAVE: &str = "save the table as CSV, the text as plain text";
const EXPORT: &str = "write its table as CSV or JSON lines first";
const ANOTHER: &str = "give a file of text";

/// What follows a beginning that a text may have, too.
fn goes_on(beginning: &[u8], rest: &[u8]) -> bool {
    let next = rest.first().copied().unwrap_or(b' ');
    let control = |b: u8| !matches!(b, b' '..=b'~' | b'\t'..=b'\r');
    match beginning {
        b"BZh" => {
            matches!(next, b'1'..=b'9') && (rest[1..].starts_with(b"1AY&SY") || rest[1..].starts_with(b"\x17\x72\x45"))
        }
        b"\x1f\x9d" => (0x80..0xa0).contains(&next),
        b"PAR1" | b"FEA1" | b"ORC" | b"ID3" => control(next),
        b"RIFF" => {
            rest.get(4..8).is_some_and(|kind| [b"WAVE", b"AVI ", b"WEBP"].contains(&kind.try_into().unwrap_or(b"    ")))
        }
        b"\xff\xff\xff\xff" => rest.get(2..4) == Some(&[0, 0]),
        // protocols 2 and 3 begin with an operation, the later ones with a frame
        b"\x80" => match rest {
            [2 | 3, operation, ..] => b"}]()cXK\x8a\x8c".contains(operation),
            [4 | 5, 0x95, ..] => true,
            _ => false,
        },
        _ => true,
    }
}

/// # Errors
/// `head` begins a file of another program, which is named.
pub(super) fn refuse_program(name: &str, head: &[u8]) -> Result<()> {
    let found = PROGRAMS
        .iter()
        .find(|(beginning, ..)| head.strip_prefix(*beginning).is_some_and(|rest| goes_on(beginning, rest)));
    match found {
        Some((_, what, hint)) => Err(Error::file(name, format!("is {what}")).hint(*hint)),
        None => Ok(()),
    }
}

/// # Errors
/// What was unpacked is packed again.
pub(super) fn refuse_packed(name: &str, head: &[u8]) -> Result<()> {
    let what = match head {
        [0x1f, 0x8b, 0..=8, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "Zstandard",
        _ => return Ok(()),
    };
    Err(Error::file(name, format!("is compressed twice: within is a {what} file")).hint("unpack it once"))
}

/// # Errors
/// Escapes that switch to Japanese, in what would be read as ASCII.
pub(super) fn refuse_escapes(name: &str, head: &[u8]) -> Result<()> {
    let found = [&b"\x1b$B"[..], b"\x1b$@"].iter().any(|escape| memchr::memmem::find(head, escape).is_some());
    match found {
        true => Err(Error::file(name, "is in ISO-2022-JP").hint("say --encoding iso-2022-jp")),
        false => Ok(()),
    }
}

/// Small files that stand for large ones that were not fetched.
pub(super) fn refuse_pointer(name: &str, text: &str) -> Result<()> {
    let text = text.trim_start();
    let store = if text.starts_with("version https://git-lfs.github.com/spec/") {
        ("Git LFS", "git lfs pull")
    } else if text.len() < 4096 && text.trim_end().lines().count() == 1 && text.contains("/annex/objects/") {
        ("git-annex", "git annex get")
    } else if text.len() < 4096 && is_dvc(text) {
        ("DVC", "dvc pull")
    } else {
        return Ok(());
    };
    let message = format!("is a pointer of a large-file store ({}), not the data", store.0);
    Err(Error::file(name, message).hint(format!("fetch the data first: {}", store.1)))
}

/// A file `.dvc`: a list of outputs, each with its digest.
fn is_dvc(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.trim_start().trim_start_matches("- ").starts_with(key));
    let keys = ["outs:", "md5:", "hash:", "size:", "path:", "deps:", "nfiles:", "wdir:", "frozen:", "meta:", "desc:"];
    text.lines().any(|line| line == "outs:")
        && has("md5:")
        && has("path:")
        && keys.iter().any(|key| text.starts_with(key))
}

/// Whether a text is a web page, perhaps after a declaration or comments.
pub(super) fn is_html(text: &str) -> bool {
    let mut rest = text.trim_start();
    if !rest.starts_with('<') {
        return false;
    }
    while let Some(end) = [("<?", "?>"), ("<!--", "-->")]
        .into_iter()
        .find_map(|(open, close)| rest.starts_with(open).then(|| rest.find(close).map(|at| at + close.len()))?)
    {
        rest = rest[end..].trim_start();
    }
    let start: String = rest.chars().take(15).collect::<String>().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

const MARK: &[u8] = "\u{feff}".as_bytes();

/// Takes byte-order marks off the lines of a text in UTF-8: files that were put one after the other
/// have one each. `at_line_start`: whether the text begins a line; after it, whether the next does.
pub(super) fn drop_marks(text: &mut Vec<u8>, at_line_start: &mut bool) {
    let ends = |b: u8| matches!(b, b'\n' | b'\r');
    if let Some(mut at) = memchr::memmem::find(text, MARK) {
        let (mut kept, mut rest) = (Vec::with_capacity(text.len()), &text[..]);
        loop {
            kept.extend_from_slice(&rest[..at]);
            if !kept.last().map_or(*at_line_start, |&b| ends(b)) {
                kept.extend_from_slice(MARK);
            }
            rest = &rest[at + MARK.len()..];
            match memchr::memmem::find(rest, MARK) {
                Some(next) => at = next,
                None => break,
            }
        }
        kept.extend_from_slice(rest);
        *text = kept;
    }
    *at_line_start = text.last().map_or(*at_line_start, |&b| ends(b));
}

/// The same for the beginning of a file.
pub(super) fn without_marks(text: String) -> String {
    let mut bytes = text.into_bytes();
    drop_marks(&mut bytes, &mut true);
    String::from_utf8_lossy(&bytes).into_owned()
}
