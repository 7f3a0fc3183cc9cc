//! Bytes in: files and bytes in memory, decompressed by magic number and within stated limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Largest single document or line, in bytes. A file without line ends must not fill the memory.
pub(super) const MAX_DOCUMENT: usize = 64 << 20;

/// Unpacked bytes that are always allowed, and those allowed for every packed byte beyond. Text
/// packs at about 3 to 10 to one; a file beyond this was made to fill memory or time.
const UNPACKED_FREE: u64 = 64 << 20;
const UNPACKED_RATIO: u64 = 250;

/// A stream of bytes that may be handed to another thread.
pub(super) type Bytes = Box<dyn Read + Send>;

/// Where bytes lie: a file, or memory.
#[derive(Clone, Debug)]
pub(super) enum Blob {
    File(PathBuf),
    Memory { name: Arc<str>, bytes: Arc<[u8]> },
}

/// The interface that an archive with its directory at the end needs.
pub(super) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl Blob {
    /// The path, for messages.
    pub(super) fn name(&self) -> String {
        match self {
            Blob::File(path) => path.display().to_string(),
            Blob::Memory { name, .. } => name.to_string(),
        }
    }

    /// The bytes, with `.gz` or `.zst` taken off (by magic number, whatever the name says).
    ///
    /// # Errors
    /// [`Error::File`] when the file is missing, not a regular file, or cannot be read.
    pub(super) fn open(&self) -> Result<Bytes> {
        let name = self.name();
        decompress(Box::new(self.raw()?), &name).map_err(|e| read_error(&name, e))
    }

    /// The bytes as they are, and their number.
    pub(super) fn open_raw(&self) -> Result<(BufReader<Box<dyn ReadSeek>>, u64)> {
        let mut raw = self.raw()?;
        let end = raw.seek(io::SeekFrom::End(0)).and_then(|end| raw.rewind().map(|()| end));
        let size = end.map_err(|e| read_error(&self.name(), e))?;
        Ok((BufReader::with_capacity(1 << 15, raw), size))
    }

    fn raw(&self) -> Result<Box<dyn ReadSeek>> {
        match self {
            Blob::File(path) => Ok(Box::new(open_regular(path)?)),
            Blob::Memory { bytes, .. } => Ok(Box::new(Cursor::new(bytes.clone()))),
        }
    }
}

fn open_regular(path: &Path) -> Result<File> {
    // before the file is opened: opening a pipe waits for its other end
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, "open", &e))?;
    if meta.is_dir() {
        return Err(Error::file(path, "is a directory where a file is meant"));
    }
    if !meta.is_file() {
        return Err(Error::file(path, "is not a regular file").hint("data are read several times: save them to a file"));
    }
    File::open(path).map_err(|e| Error::io(path, "open", &e))
}

/// Takes off gzip or Zstandard compression when the stream begins with its magic number.
pub(super) fn decompress(mut raw: Bytes, name: &str) -> io::Result<Bytes> {
    let mut head = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut head)?;
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    let zstandard = head == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = Cursor::new(head).chain(raw);
    if !gzip && !zstandard {
        return Ok(Box::new(whole));
    }
    let packed = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: whole, count: packed.clone() };
    let inner: Bytes = if gzip {
        Box::new(Gzip::new(BufReader::with_capacity(1 << 16, counted), name))
    } else {
        Box::new(zstd::stream::read::Decoder::new(counted)?)
    };
    Ok(Box::new(Bounded { inner, packed, budget: Budget::new(name) }))
}

/// The members of a gzip file, one after the other. Zeros may follow, as on a tape, but nothing
/// else.
struct Gzip<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
    first: bool,
    name: String,
}

impl<R: BufRead> Gzip<R> {
    fn new(inner: R, name: &str) -> Self {
        Gzip { member: Some(flate2::bufread::GzDecoder::new(inner)), first: true, name: name.to_string() }
    }

    fn surplus(&self) -> io::Error {
        let error = Error::file(&self.name, "has other bytes after the end of its gzip data");
        io::Error::other(error.hint("fetch or pack it again; what is before them: gzip -dc"))
    }

    /// What follows a member: another one, or nothing.
    fn after(&mut self, mut inner: R) -> io::Result<Option<flate2::bufread::GzDecoder<R>>> {
        let mut zeros = false;
        loop {
            let rest = inner.fill_buf()?;
            match rest.iter().position(|&b| b != 0) {
                None if rest.is_empty() => return Ok(None),
                None => {
                    let length = rest.len();
                    inner.consume(length);
                    zeros = true;
                }
                Some(0) if rest[0] == 0x1f && !zeros => {
                    self.first = false;
                    return Ok(Some(flate2::bufread::GzDecoder::new(inner)));
                }
                Some(_) => return Err(self.surplus()),
            }
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            match member.read(buffer) {
                Ok(0) => {}
                // a header that is none
                Err(e) if e.kind() == io::ErrorKind::InvalidInput && !self.first => return Err(self.surplus()),
                other => return other,
            }
            let Some(ended) = self.member.take() else { break };
            self.member = self.after(ended.into_inner())?;
        }
        Ok(0)
    }
}

/// Counts the unpacked bytes of a file or archive against its packed bytes.
pub(super) struct Budget {
    name: String,
    unpacked: u64,
}

impl Budget {
    pub(super) fn new(name: &str) -> Self {
        Budget { name: name.to_string(), unpacked: 0 }
    }

    /// # Errors
    /// With `more` bytes there is too much out of `packed` bytes.
    pub(super) fn spend(&mut self, more: u64, packed: u64) -> Result<()> {
        self.unpacked = self.unpacked.saturating_add(more);
        if self.unpacked <= packed.saturating_mul(UNPACKED_RATIO).saturating_add(UNPACKED_FREE) {
            return Ok(());
        }
        let free = UNPACKED_FREE >> 20;
        let message = format!("unpacks to more than {UNPACKED_RATIO} times its size (and more than {free} MiB)");
        Err(Error::file(&self.name, message).hint("if that is meant, unpack it and give the unpacked file or folder"))
    }
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

struct Bounded {
    inner: Bytes,
    packed: Arc<AtomicU64>,
    budget: Budget,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.budget.spend(n as u64, self.packed.load(Ordering::Relaxed)).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// The error of a read, whether it is ours (wrapped on its way through `io::Read`) or the system's.
pub(super) fn read_error(name: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) if is_cut(&e) => Error::file(name, "is truncated: the compressed data or archive ends too early"),
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            Error::file(name, format!("is damaged: {}", printable(&e.to_string())))
        }
        Err(e) if e.kind() == io::ErrorKind::Other => {
            Error::file(name, format!("cannot read: {}", printable(&e.to_string())))
        }
        Err(e) => Error::io(name, "read", &e),
    }
}

fn is_cut(e: &io::Error) -> bool {
    let text = || e.to_string();
    // the libraries tell the end of their input in words of their own
    e.kind() == io::ErrorKind::UnexpectedEof
        || ["incomplete frame", "unexpected EOF", "too early", "failed to fill whole buffer"]
            .iter()
            .any(|part| text().contains(part))
}

/// A text of unknown origin as a part of a message: control characters spelled out, and not too
/// long.
pub(super) fn printable(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    short.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Whether bytes begin like a zip archive.
pub(super) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Whether bytes begin like a tar archive: the `ustar` mark, or (before POSIX) a header whose check
/// sum holds.
pub(super) fn is_tar(head: &[u8]) -> bool {
    if head.get(257..262) == Some(b"ustar") {
        return true;
    }
    let Some(block) = head.get(..512) else { return false };
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
    block[0] != 0 && header.cksum().is_ok_and(|stated| stated == sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn unpacked(bytes: Vec<u8>) -> Result<u64> {
        let mut stream = decompress(Box::new(Cursor::new(bytes)), "f").map_err(|e| read_error("f", e))?;
        io::copy(&mut stream, &mut io::sink()).map_err(|e| read_error("f", e))
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = |n: u64| zstd::encode_all(io::repeat(0).take(n), 1).unwrap();
        assert_eq!(unpacked(zeros(60 << 20)).unwrap(), 60 << 20);
        let e = unpacked(zeros(90 << 20)).unwrap_err();
        assert_eq!(e.to_string(), "f: unpacks to more than 250 times its size (and more than 64 MiB)");
        assert!(e.hint_text().unwrap().contains("unpack it"));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::repeat(b'a').take(100 << 20), &mut gz).unwrap();
        assert!(unpacked(gz.finish().unwrap()).unwrap_err().to_string().contains("250 times"));
    }

    #[test]
    fn truncation_is_told() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello\nworld").unwrap();
        for whole in [gz.finish().unwrap(), zstd::encode_all(&b"hello\nworld"[..], 1).unwrap()] {
            assert_eq!(unpacked(whole.clone()).unwrap(), 11);
            for cut in 4..whole.len() {
                let e = unpacked(whole[..cut].to_vec()).unwrap_err();
                assert!(e.to_string().contains("truncated"), "{cut}: {e}");
            }
        }
    }

    #[test]
    fn only_regular_files() {
        let e = open_regular(Path::new("/dev/null")).err().unwrap();
        assert!(e.to_string().ends_with("is not a regular file"), "{e}");
    }

    #[test]
    fn archives_by_their_first_bytes() {
        let mut header = tar::Header::new_old();
        header.set_path("a.txt").unwrap();
        header.set_size(0);
        header.set_cksum();
        assert!(is_tar(header.as_bytes()));
        let mut other = *header.as_bytes();
        other[0] = b'b';
        assert!(!is_tar(&other) && !is_tar(&[0; 512]) && !is_tar(b"short"));
        assert!(is_zip(b"PK\x03\x04..") && !is_zip(b"PK"));
    }
}
