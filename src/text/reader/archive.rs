//! Folders, tar and zip archives as lists of files and streams of their contents.
//!
//! A folder is read in sorted order of its paths, an archive in the order of its members (so that
//! it is one streaming pass with bounded memory; both orders depend on the data alone). Nothing is
//! ever unpacked to disk and no member path is followed: a path only names its member. Links, `..`
//! and archives within archives are refused.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use super::bytes::{Blob, Budget, Bytes, decompress, is_tar, is_zip, printable, read_error};
use super::foreign;
use crate::error::{Error, Result};

/// Limits of an archive or folder: bytes of a path, folders in a path, bytes of all paths (each
/// with `PATH_COST` besides).
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 64;
const MAX_PATHS: usize = 512 << 20;
const PATH_COST: usize = 64;
/// Largest header extension of a tar archive (long names, POSIX attributes).
const MAX_EXTENSION: u64 = 1 << 20;

/// Where the files of a tree lie.
#[derive(Clone, Debug)]
pub(super) enum Container {
    Folder(PathBuf),
    Tar(Blob),
    Zip(Blob),
}

/// Names that never are data: what is hidden, what systems leave in folders, what editors keep,
/// copies, and what tells about the data.
fn is_junk(path: &str) -> bool {
    const OF_SYSTEMS: [&str; 4] = ["desktop.ini", "thumbs.db", "ehthumbs.db", "__macosx"];
    const COPIES: [&str; 7] = [".bak", ".orig", ".old", ".swp", ".tmp", ".save", ".part"];
    const ABOUT: [&str; 5] = ["README", "LICENSE", "LICENCE", "COPYING", "CHANGELOG"];
    let is_copy = |part: &str| {
        let lower = part.to_ascii_lowercase();
        part.ends_with('~')
            || part.starts_with('#') && part.ends_with('#')
            || COPIES.iter().any(|end| lower.ends_with(end))
    };
    let is_about = |part: &str| {
        let stem = [".txt", ".md", ".rst"].iter().find_map(|end| part.strip_suffix(end)).unwrap_or(part);
        ABOUT.contains(&stem)
    };
    path.split('/').any(|part| {
        part.starts_with('.') || is_copy(part) || OF_SYSTEMS.iter().any(|name| part.eq_ignore_ascii_case(name))
    }) || path.split('/').next_back().is_some_and(is_about)
}

/// The files of a tree by their paths, relative, with `/`; in reading order.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) files: Vec<String>,
    /// Files and folders that are left out, since by their names they are no data.
    pub(super) skipped: Vec<String>,
}

impl Container {
    /// The kind of `blob`, if it is a folder or an archive.
    pub(super) fn of(blob: &Blob) -> Result<Option<Self>> {
        if let Blob::File(path) = blob
            && path.is_dir()
        {
            return Ok(Some(Container::Folder(path.clone())));
        }
        let mut head = Vec::new();
        blob.open()?.take(512).read_to_end(&mut head).map_err(|e| read_error(&blob.name(), e))?;
        Ok(if is_tar(&head) {
            Some(Container::Tar(blob.clone()))
        } else if is_zip(&head) {
            Some(Container::Zip(blob.clone()))
        } else {
            None
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Container::Folder(path) => path.display().to_string(),
            Container::Tar(blob) | Container::Zip(blob) => blob.name(),
        }
    }

    /// `file` or `archive::member`, for messages.
    pub(super) fn name_of(&self, member: &str) -> String {
        match self {
            Container::Folder(path) => path.join(member).display().to_string(),
            Container::Tar(blob) | Container::Zip(blob) => format!("{}::{}", blob.name(), printable(member)),
        }
    }

    pub(super) fn list(&self) -> Result<Listing> {
        let (mut all, mut bytes) = (Listing::default(), 0);
        let mut push = |name: &str| {
            bytes += name.len() + PATH_COST;
            if is_junk(name) { &mut all.skipped } else { &mut all.files }.push(name.to_string());
            if bytes <= MAX_PATHS { Ok(()) } else { Err(Error::file(self.name(), "holds too many files to be listed")) }
        };
        match self {
            Container::Folder(root) => walk(root, "", 0, &mut push)?,
            // listing is done by a predicate that wants nothing
            Container::Tar(blob) => tar_members(blob, &mut |name| push(name).map(|()| false), &mut |_, _| Ok(true))?,
            Container::Zip(blob) => zip_members(blob, &mut |name| push(name).map(|()| false), &mut |_, _| Ok(true))?,
        }
        if matches!(self, Container::Tar(_)) {
            self.refuse_twice(&all.files)?;
        }
        Ok(all)
    }

    /// # Errors
    /// A member that a later one of its name replaces when the archive is unpacked.
    fn refuse_twice(&self, files: &[String]) -> Result<()> {
        let mut sorted: Vec<&str> = files.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|two| two[0] == two[1]) {
            Some([name, _]) => Err(Error::file(self.name(), format!("holds '{}' twice", printable(name)))
                .hint("unpack it, which leaves the later one, and give the folder")),
            _ => Ok(()),
        }
    }

    /// Hands the content of every file whose path is `wanted` to `visit`, in reading order, until
    /// it says false. Files of a folder come decompressed, members of an archive as they are.
    pub(super) fn read(
        &self,
        wanted: &mut dyn FnMut(&str) -> bool,
        visit: &mut dyn FnMut(&str, &mut dyn Read) -> Result<bool>,
    ) -> Result<()> {
        match self {
            Container::Folder(root) => {
                for name in self.list()?.files.iter().filter(|name| wanted(name)) {
                    let file = Blob::File(root.join(name));
                    if !visit_file(&file.name(), name, &mut file.open()?, visit)? {
                        break;
                    }
                }
                Ok(())
            }
            Container::Tar(blob) => tar_members(blob, &mut |name| Ok(wanted(name)), visit),
            Container::Zip(blob) => zip_members(blob, &mut |name| Ok(wanted(name)), visit),
        }
    }

    /// The bytes of one member, decompressed.
    pub(super) fn open(&self, member: &str) -> Result<Bytes> {
        if let Container::Folder(root) = self {
            return Blob::File(root.join(member)).open();
        }
        let (sender, receiver) = sync_channel(4);
        let (this, wanted) = (self.clone(), member.to_string());
        std::thread::spawn(move || {
            let mut send = |item| sender.send(item).is_ok();
            let shown = this.name_of(&wanted);
            let result = this.read(&mut |name| name == wanted, &mut |_, content| {
                forward(content, &shown, &mut send)?;
                Ok(false)
            });
            // an empty chunk is the mark of the end
            send(result.map(|()| Vec::new()));
        });
        let shown = self.name_of(member);
        let chunks = ChunkReader { receiver, chunk: Vec::new(), position: 0, ended: false, shown: shown.clone() };
        decompress(Box::new(chunks), &shown).map_err(|e| read_error(&shown, e))
    }
}

fn walk(root: &Path, prefix: &str, depth: usize, push: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let directory = root.join(prefix);
    if depth > MAX_DEPTH {
        return Err(Error::file(directory, format!("lies more than {MAX_DEPTH} folders deep")));
    }
    let mut entries = std::fs::read_dir(&directory)
        .and_then(|entries| {
            entries.map(|e| e.and_then(|e| Ok((e.file_name(), e.file_type()?)))).collect::<Result<Vec<_>, _>>()
        })
        .map_err(|e| Error::io(&directory, "read the folder", &e))?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let name = name.to_str().ok_or_else(|| Error::file(directory.join(&name), "has a name that is not UTF-8"))?;
        let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
        if is_junk(name) {
            push(&path)?;
        } else if kind.is_dir() {
            walk(root, &path, depth + 1, push)?;
        } else if kind.is_file() {
            push(&path)?;
        } else if kind.is_symlink() {
            // a link to a file is its content; one to a folder may lead in a circle
            let full = root.join(&path);
            let target = std::fs::metadata(&full).map_err(|e| Error::io(&full, "follow the link", &e))?;
            if target.is_dir() {
                return Err(Error::file(full, "is a link to a folder, which is not followed")
                    .hint("give the folder itself, or put it in the place of the link"));
            }
            push(&path)?;
        }
    }
    Ok(())
}

/// A member's path as the tree sees it: no leading `/` or `./`; `None` where nothing is left.
///
/// # Errors
/// `..`, or a path beyond the limits.
fn member_path(archive: &str, raw: &str) -> Result<Option<String>> {
    if raw.len() > MAX_PATH {
        return Err(Error::file(archive, format!("holds a member with a path of more than {MAX_PATH} bytes")));
    }
    let parts: Vec<&str> = raw.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        let message = format!("holds a member with '..' in its path: '{}'", printable(raw));
        return Err(Error::file(archive, message).hint("such an archive was made to write elsewhere; pack it again"));
    }
    if parts.len() > MAX_DEPTH {
        return Err(Error::file(archive, format!("holds a member more than {MAX_DEPTH} folders deep")));
    }
    let path = parts.join("/");
    Ok((!path.is_empty()).then_some(path))
}

fn is_link(archive: &str, path: &str) -> Error {
    Error::file(archive, format!("holds a link, which is not followed: '{}'", printable(path)))
        .hint("pack it again with the files in place of links (tar --dereference --hard-dereference)")
}

/// A content whose length is stated: ending early is an error.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

type Wanted<'a> = dyn FnMut(&str) -> Result<bool> + 'a;
type Visit<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<bool> + 'a;

/// Walks the regular files of a tar archive, itself possibly compressed. Raw entries: the
/// extensions are read here, where their size is bounded.
fn tar_members(blob: &Blob, wanted: &mut Wanted, visit: &mut Visit) -> Result<()> {
    use tar::EntryType;
    let shown = blob.name();
    let fail = |e: io::Error| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => match read_error(&shown, e) {
            Error::File { message, .. } if message.starts_with("cannot read: ") => {
                Error::file(&shown, format!("is a damaged tar archive: {}", &message["cannot read: ".len()..]))
            }
            other => other,
        },
    };
    let not_utf8 = || Error::file(&shown, "holds a member whose name is not UTF-8");
    let mut archive = tar::Archive::new(Ending { inner: blob.open()?, zeros: 0 });
    let mut ended = true;
    let mut long_name: Option<Vec<u8>> = None;
    for entry in archive.entries().map_err(fail)?.raw(true) {
        let entry = entry.map_err(fail)?;
        let kind = entry.header().entry_type();
        let own_name = entry.header().path_bytes().into_owned();
        let size = entry.header().entry_size().map_err(fail)?;
        let mut content = Exact { inner: entry, left: size };
        let mut extension = || -> Result<Vec<u8>> {
            if size > MAX_EXTENSION {
                return Err(Error::file(&shown, "holds a header of more than 1 MiB"));
            }
            let mut bytes = Vec::new();
            (&mut content).take(size).read_to_end(&mut bytes).map_err(fail)?;
            Ok(bytes)
        };
        match kind {
            EntryType::GNULongName => {
                let bytes = extension()?;
                long_name = Some(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec());
                continue;
            }
            EntryType::XHeader => {
                for attribute in tar::PaxExtensions::new(&extension()?) {
                    let attribute = attribute.map_err(fail)?;
                    match attribute.key_bytes() {
                        b"path" => long_name = Some(attribute.value_bytes().to_vec()),
                        b"size" => {
                            return Err(Error::file(&shown, "holds a member of 8 GiB or more").hint("unpack it"));
                        }
                        key if key.starts_with(b"GNU.sparse.") => return Err(sparse(&shown)),
                        _ => {}
                    }
                }
                continue;
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = String::from_utf8(long_name.take().unwrap_or(own_name)).map_err(|_| not_utf8())?;
        let Some(path) = member_path(&shown, &name)? else { continue };
        if is_junk(&path) {
            // told, but never handed over
            if !name.ends_with('/') {
                wanted(&path)?;
            }
            continue;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous if !name.ends_with('/') => {}
            EntryType::Link | EntryType::Symlink => return Err(is_link(&shown, &path)),
            EntryType::GNUSparse => return Err(sparse(&shown)),
            // folders, devices, pipes
            _ => continue,
        }
        let member = format!("{shown}::{}", printable(&path));
        if wanted(&path)? && !visit_file(&member, &path, &mut content, visit)? {
            ended = false;
            break;
        }
    }
    if ended { tar_end(&shown, archive.into_inner()) } else { Ok(()) }
}

/// A reader that counts the zeros since the last other byte.
struct Ending<R> {
    inner: R,
    zeros: u64,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let last = buffer[..n].iter().rposition(|&b| b != 0);
        self.zeros = last.map_or(self.zeros + n as u64, |at| (n - 1 - at) as u64);
        Ok(n)
    }
}

/// # Errors
/// The archive ends without the block of zeros that ends one, or something follows.
fn tar_end(shown: &str, mut ending: Ending<Bytes>) -> Result<()> {
    if ending.zeros < 512 {
        return Err(
            Error::file(shown, "is a tar archive without its end").hint("was it cut? copy or download it again")
        );
    }
    let mut block = vec![0; 1 << 16];
    loop {
        match ending.read(&mut block).map_err(|e| read_error(shown, e))? {
            0 => return Ok(()),
            n if block[..n].iter().any(|&b| b != 0) => {
                return Err(Error::file(shown, "holds more after the end of the archive")
                    .hint("archives that were put one after the other are read one by one: take them apart"));
            }
            _ => {}
        }
    }
}

fn sparse(archive: &str) -> Error {
    Error::file(archive, "holds a sparse file, which is not read").hint("pack it again without --sparse")
}

/// Walks the files of a zip archive.
fn zip_members(blob: &Blob, wanted: &mut Wanted, visit: &mut Visit) -> Result<()> {
    use zip::result::ZipError;
    let shown = blob.name();
    let fail = |e: ZipError| match e {
        ZipError::Io(e) => read_error(&shown, e),
        e => Error::file(&shown, format!("is a truncated or damaged zip archive: {e}")),
    };
    let (raw, packed) = blob.open_raw()?;
    let mut archive = zip::ZipArchive::new(raw).map_err(fail)?;
    let mut budget = Budget::new(&shown);
    for i in 0..archive.len() {
        let name = archive.name_for_index(i).transpose().map_err(fail)?.unwrap_or_default().replace('\\', "/");
        if name == "[Content_Types].xml" || name == "META-INF/manifest.xml" {
            return Err(Error::file(&shown, "is an office document").hint("save the table as CSV"));
        }
        if name == "mimetype" {
            return Err(Error::file(&shown, "is an office document or an EPUB book")
                .hint("save its table as CSV, its text as plain text"));
        }
        if name.ends_with('/') {
            continue;
        }
        let Some(path) = member_path(&shown, &name)? else { continue };
        if !wanted(&path)? || is_junk(&path) {
            continue;
        }
        let member = format!("{shown}::{}", printable(&path));
        let file = archive.by_index(i).map_err(|e| match e {
            ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => Error::file(&member, "is encrypted"),
            ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
                Error::file(&member, "is compressed by a method that is not read").hint("pack it again with deflate")
            }
            e => fail(e),
        })?;
        if file.is_symlink() {
            return Err(is_link(&shown, &path));
        }
        let mut content = Spent { inner: file, budget: &mut budget, packed };
        if !visit_file(&member, &path, &mut content, visit)? {
            break;
        }
    }
    Ok(())
}

/// What is read of a zip archive's members, together, counts against the archive's size: members
/// may overlap.
struct Spent<'a, R> {
    inner: R,
    budget: &'a mut Budget,
    packed: u64,
}

impl<R: Read> Read for Spent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.budget.spend(n as u64, self.packed).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// Hands a content to `visit` unless it is an archive itself.
fn visit_file(shown: &str, path: &str, content: &mut dyn Read, visit: &mut Visit) -> Result<bool> {
    let mut head = Vec::new();
    content.take(512).read_to_end(&mut head).map_err(|e| read_error(shown, e))?;
    refuse_archive(shown, &head)?;
    foreign::refuse_program(shown, &head)?;
    visit(path, &mut io::Cursor::new(head).chain(content))
}

/// # Errors
/// `head` begins an archive.
pub(super) fn refuse_archive(shown: &str, head: &[u8]) -> Result<()> {
    if is_tar(head) || is_zip(head) {
        return Err(Error::file(shown, "is an archive where a text or table is meant, and is not opened")
            .hint("unpack it, or give it by itself"));
    }
    Ok(())
}

fn forward(content: &mut dyn Read, shown: &str, send: &mut impl FnMut(Result<Vec<u8>>) -> bool) -> Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(1 << 16);
        content.take(1 << 16).read_to_end(&mut chunk).map_err(|e| read_error(shown, e))?;
        if chunk.is_empty() || !send(Ok(chunk)) {
            return Ok(());
        }
    }
}

/// The receiving end of a member that another thread reads.
struct ChunkReader {
    receiver: Receiver<Result<Vec<u8>>>,
    chunk: Vec<u8>,
    position: usize,
    ended: bool,
    shown: String,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() && !self.ended {
            let chunk = self.receiver.recv().unwrap_or_else(|_| Err(broken_off(&self.shown)));
            (self.chunk, self.position) = (chunk.map_err(io::Error::other)?, 0);
            self.ended = self.chunk.is_empty();
        }
        let n = buffer.len().min(self.chunk.len() - self.position);
        buffer[..n].copy_from_slice(&self.chunk[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

/// The reading thread ended without the mark of the end: never to be taken for the end of the data.
pub(super) fn broken_off(name: &str) -> Error {
    Error::file(name, "reading broke off unexpectedly")
}
