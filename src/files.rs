//! The one way to put a file in place, and to name its content.
//!
//! A file is written beside its place, synced, renamed, and its folder is synced: a reader sees the
//! old file or the new one, never half of one, and a file that was put in place is there after a
//! power cut.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Asked where a file system is full: whether to try again.
static WHEN_FULL: OnceLock<fn(&std::io::Error) -> bool> = OnceLock::new();

/// From now on what finds no room on a disk asks `again`, and is tried again while it says so:
/// nothing of it is lost. A file that was written but cannot be synced is an error all the same.
pub fn when_full(again: fn(&std::io::Error) -> bool) {
    // the first word holds
    let _ = WHEN_FULL.set(again);
}

/// Tries something again while there is no room for it, where that is wanted.
///
/// # Errors
/// Errors of `work`.
pub fn patiently<T>(mut work: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    loop {
        match work() {
            Err(e)
                if matches!(e.kind(), StorageFull | QuotaExceeded)
                    && WHEN_FULL.get().is_some_and(|again| again(&e)) => {}
            outcome => return outcome,
        }
    }
}

/// A file whose writes wait for room, where that is wanted ([`when_full`]).
#[derive(Debug)]
pub struct Patient(pub File);

impl std::ops::Deref for Patient {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        patiently(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Patient {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

/// A file on its way to its place. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<Patient>,
    finished: bool,
}

impl Pending {
    /// Begins a file; the file at `path` stays as it is until [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Error::File`] when nothing can be created beside `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let beside = beside(path);
        let file = patiently(|| File::create(&beside)).map_err(|e| Error::io(path, "write", &e))?;
        Ok(Pending { path: path.to_path_buf(), beside, file: BufWriter::new(Patient(file)), finished: false })
    }

    /// Where to write.
    pub fn writer(&mut self) -> &mut BufWriter<Patient> {
        &mut self.file
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::File`] when something cannot be written or synced; the old file is still there.
    pub fn finish(mut self) -> Result<()> {
        let put = |this: &mut Self| {
            this.file.flush()?;
            place(this.file.get_ref(), &this.beside, &this.path)?;
            this.finished = true;
            Ok(())
        };
        put(&mut self).map_err(|e| Error::io(&self.path, "write", &e))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.finished {
            // half a file is of no use; where it cannot be removed the next one replaces it
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

/// The name of a file until it is whole.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Syncs a file that is whole and gives it its name: the last step of [`Pending`], for those who
/// keep the file open.
///
/// # Errors
/// A file that cannot be synced or renamed.
pub fn place(file: &File, beside: &Path, path: &Path) -> std::io::Result<()> {
    file.sync_all()?;
    patiently(|| std::fs::rename(beside, path))?;
    tracing::debug!(path = %path.display(), "put in place");
    sync_folder_of(path)
}

/// A new name is there for good once its folder is synced.
///
/// # Errors
/// The folder cannot be synced.
pub fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind;
    if !cfg!(unix) {
        // elsewhere a folder cannot be opened as a file
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // a folder that may be written but not read, and file systems that have no such thing
        Err(e)
            if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// Puts a file in place whose content `write` writes.
///
/// # Errors
/// [`Error::File`] when it cannot be written; the old file is still there.
pub fn put_with(path: &Path, write: impl FnOnce(&mut BufWriter<Patient>) -> std::io::Result<()>) -> Result<()> {
    let mut pending = Pending::create(path)?;
    write(pending.writer()).map_err(|e| Error::io(path, "write", &e))?;
    pending.finish()
}

/// As [`put_with`], but the file that was at `path` is kept at `kept`. There is a whole file at
/// `path` at every moment.
///
/// # Errors
/// As [`put_with`].
pub fn put_keeping(
    path: &Path,
    kept: &Path,
    write: impl FnOnce(&mut BufWriter<Patient>) -> std::io::Result<()>,
) -> Result<()> {
    let mut pending = Pending::create(path)?;
    let fault = |e: std::io::Error| Error::io(path, "write", &e);
    write(pending.writer()).and_then(|()| pending.writer().flush()).map_err(fault)?;
    pending.file.get_ref().sync_all().map_err(fault)?;
    if exists(path)? {
        link(path, kept)?;
    }
    pending.finish()
}

/// Moves a file or folder to another place of the same file system, for good.
///
/// # Errors
/// [`Error::File`] when it cannot be moved, or its new folder not synced.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let moved = patiently(|| std::fs::rename(from, to));
    moved.and_then(|()| sync_folder_of(to)).map_err(|e| Error::io(to, "move to", &e))
}

/// Gives a file a second name, in the place of another file; where the file system has no second
/// names, a copy.
///
/// # Errors
/// [`Error::File`] when it cannot be linked or copied.
pub fn link(path: &Path, to: &Path) -> Result<()> {
    let beside = beside(to);
    let fault = |e: std::io::Error| Error::io(to, "write", &e);
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fault(e)),
        _ => {}
    }
    if std::fs::hard_link(path, &beside).is_err() {
        let copied = patiently(|| std::fs::copy(path, &beside));
        copied.and_then(|_| File::open(&beside)?.sync_all()).map_err(fault)?;
    }
    patiently(|| std::fs::rename(&beside, to)).and_then(|()| sync_folder_of(to)).map_err(fault)
}

/// Puts a file with this content in place.
///
/// # Errors
/// As [`put_with`].
pub fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    put_with(path, |file| file.write_all(content.as_ref()))
}

/// Writes a file that the user names, outside the folders of this program. A link is followed; what
/// is no regular file (a pipe, a device) is written to where it stands.
///
/// # Errors
/// As [`put_with`]; a folder has the name.
pub fn put_output(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let fault = |e: std::io::Error| Error::io(path, "write", &e);
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(fault(std::io::ErrorKind::IsADirectory.into())),
        Ok(found) if found.is_file() => put(&path.canonicalize().map_err(fault)?, content),
        Ok(_) => {
            let opened = File::options().write(true).open(path).map_err(fault)?;
            Patient(opened).write_all(content.as_ref()).map_err(fault)
        }
        Err(_) => put(path, content),
    }
}

/// Whether two paths lead to one regular file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    real(one).is_some_and(|one| Some(one) == real(other))
}

/// Whether something is there; that it cannot be told is an error, not an answer.
///
/// # Errors
/// [`Error::File`] when it cannot be looked at.
pub fn exists(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(Error::io(path, "look at", &e)),
    }
}

/// Opens a regular file: a pipe would be waited for, a device could go on for ever.
///
/// # Errors
/// [`Error::File`] when it is none or cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let fault = |e: std::io::Error| Error::io(path, "read", &e);
    let found = std::fs::metadata(path).map_err(fault)?;
    if found.is_dir() {
        return Err(fault(std::io::ErrorKind::IsADirectory.into()));
    }
    if !found.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    File::open(path).map_err(fault)
}

/// The content of a regular file of at most so many bytes.
///
/// # Errors
/// [`Error::File`] when it is none, is larger or cannot be read.
pub fn read(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, "read", &e))?;
    if bytes.len() as u64 > largest {
        return Err(Error::file(path, format!("is larger than {} MiB, which no such file is", largest >> 20)));
    }
    Ok(bytes)
}

/// Files that people write by hand, and results, are smaller.
pub const LARGEST_TEXT: u64 = 256 << 20;

/// The text of a regular file of at most [`LARGEST_TEXT`] bytes.
///
/// # Errors
/// As [`read`]; [`Error::File`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path, LARGEST_TEXT)?).map_err(|_| Error::file(path, "is not valid UTF-8"))
}

/// Whether this user may write there.
pub fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Bytes that this user may still write where `path` is or will be; `None` where the system does
/// not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|folder| folder.exists())?;
    let of = rustix::fs::statvfs(existing).ok()?;
    // a file system without blocks is no disk
    (of.f_blocks > 0).then(|| of.f_bavail.saturating_mul(of.f_frsize))
}

/// SHA-256 of the bytes that are written into it.
#[derive(Clone, Debug, Default)]
pub struct Hash(Sha256);

impl Hash {
    /// As lower-case hexadecimal digits.
    pub fn hex(self) -> String {
        hex(&self.bytes())
    }

    pub fn bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    pub fn add(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }
}

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of a file, as lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::File`] when it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let fault = |e: std::io::Error| Error::io(path, "read", &e);
    let (mut file, mut hash) = (open(path)?, Hash::default());
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(fault)? {
            0 => return Ok(hash.hex()),
            n => hash.add(&block[..n]),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        put(&path, "old").unwrap();
        let failed = put_with(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(std::io::Error::other("the writer stopped"))
        });
        assert!(failed.unwrap_err().to_string().contains("the writer stopped"));
        assert_eq!((std::fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), vec!["a.txt".to_string()]));
        let mut pending = Pending::create(&path).unwrap();
        pending.writer().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        pending.finish().unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["a.txt".to_string()]));
    }

    #[test]
    fn a_file_that_cannot_be_put_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = put(&folder.path().join("missing").join("a.txt"), "x").unwrap_err().to_string();
        assert!(error.contains("a.txt: cannot write: no such file or directory"), "{error}");
    }

    /// Known answer of FIPS 180-4 for "abc".
    #[test]
    fn hashes_are_those_of_the_standard() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        put(&path, "abc").unwrap();
        let mut parts = Hash::default();
        parts.add("a");
        parts.write_all(b"bc").unwrap();
        assert_eq!([hex(&sha256(b"abc")), sha256_of(&path).unwrap(), parts.hex()], [known; 3].map(String::from));
    }
}
