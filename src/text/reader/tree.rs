//! Folders and tar archives as trees of files: class folders, folders of texts, members by `::` path.
//!
//! A folder is read in sorted order of its paths, an archive in the order of its members (so that it is one streaming pass with
//! bounded memory; both orders depend on the data alone). Nothing is ever unpacked to disk and no member path is followed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::input::{Bytes, Encoding, MAX_DOCUMENT, decode_all, decompress, open_file, read_error, too_long};
use super::{Document, Origin};
use crate::error::{Error, Result};

/// Where the files of a tree lie.
#[derive(Clone, Debug)]
pub(super) enum Container {
    Folder(PathBuf),
    Tar(PathBuf),
}

/// Names that never are data.
fn is_junk(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

impl Container {
    pub(super) fn path(&self) -> &Path {
        match self {
            Container::Folder(path) | Container::Tar(path) => path,
        }
    }

    /// `file` or `archive::member`, for messages.
    pub(super) fn name_of(&self, member: &str) -> String {
        match self {
            Container::Folder(path) => path.join(member).display().to_string(),
            Container::Tar(path) => format!("{}::{member}", path.display()),
        }
    }

    /// Paths of all files, relative, with `/`; in reading order.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        match self {
            Container::Folder(root) => walk(root, "", &mut files)?,
            Container::Tar(path) => {
                for_each_member(path, |name, _| {
                    files.push(name.to_string());
                    Ok(true)
                })?;
            }
        }
        Ok(files)
    }

    /// The bytes of one member, decompressed.
    pub(super) fn open(&self, member: &str) -> Result<Bytes> {
        let bytes = match self {
            Container::Folder(root) => return open_file(&root.join(member)),
            Container::Tar(path) => {
                let (sender, receiver) = sync_channel(4);
                let (path, wanted) = (path.clone(), member.to_string());
                std::thread::spawn(move || {
                    let mut send = |item| sender.send(item).is_ok();
                    let result = for_each_member(&path, |name, content| {
                        if name == wanted {
                            forward(content, &mut send)?;
                        }
                        Ok(name != wanted)
                    });
                    // an empty chunk is the mark of the end
                    send(result.map(|()| Vec::new()));
                });
                let shown = self.name_of(member);
                Box::new(ChunkReader { receiver, chunk: Vec::new(), position: 0, ended: false, shown }) as Bytes
            }
        };
        decompress(bytes).map_err(|e| read_error(&self.name_of(member), e))
    }
}

fn walk(root: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
    let directory = root.join(prefix);
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
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() || root.join(&path).is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Walks the regular files of a tar archive (itself possibly compressed) until `visit` says false.
fn for_each_member(path: &Path, mut visit: impl FnMut(&str, &mut dyn Read) -> Result<bool>) -> Result<()> {
    let shown = path.display().to_string();
    let fail = |e: std::io::Error| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => match e.to_string() {
            m if m.contains("unexpected EOF")
                || m.contains("too early")
                || m.contains("failed to fill whole buffer") =>
            {
                Error::file(&shown, "is truncated: the archive ends too early")
            }
            _ => read_error(&shown, e),
        },
    };
    let mut archive = tar::Archive::new(open_file(path)?);
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| Error::file(&shown, "holds a member whose name is not UTF-8"))?;
        let name = name.trim_start_matches("./").trim_start_matches('/');
        if is_junk(name) {
            continue;
        }
        if !visit(name, &mut entry)? {
            break;
        }
    }
    Ok(())
}

fn forward(content: &mut dyn Read, send: &mut impl FnMut(Result<Vec<u8>>) -> bool) -> Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(1 << 16);
        content.take(1 << 16).read_to_end(&mut chunk).map_err(|e| read_error("archive", e))?;
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
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.position == self.chunk.len() && !self.ended {
            let chunk = self.receiver.recv().unwrap_or_else(|_| Err(broken_off(&self.shown)));
            (self.chunk, self.position) = (chunk.map_err(std::io::Error::other)?, 0);
            self.ended = self.chunk.is_empty();
        }
        let n = buffer.len().min(self.chunk.len() - self.position);
        buffer[..n].copy_from_slice(&self.chunk[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

/// The reading thread ended without the mark of the end: never to be taken for the end of the data.
fn broken_off(name: &str) -> Error {
    Error::file(name, "reading broke off unexpectedly")
}

/// What a tree turned out to be, below `prefix` (empty, or ending in `/`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One sub-folder per class; `unlabelled` tells whether there is an `unsup/`.
    Classes { prefix: String, classes: Vec<String>, unlabelled: bool },
    /// Files side by side.
    Files { prefix: String, files: Vec<String> },
    /// The `::` path is one file.
    Member(String),
}

/// Finds out what lies under `member` in a tree.
///
/// # Errors
/// Nothing there; a train set and a test set side by side.
pub(super) fn shape(container: &Container, member: &str) -> Result<Shape> {
    let files = container.list()?;
    let shown = container.path().display().to_string();
    let member = member.trim_matches('/');
    if files.is_empty() {
        return Err(Error::file(&shown, "holds no file"));
    }
    if files.iter().any(|f| f == member) {
        return Ok(Shape::Member(member.to_string()));
    }
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    loop {
        let below: Vec<&str> = files.iter().filter_map(|f| f.strip_prefix(prefix.as_str())).collect();
        let mut folders: Vec<&str> = below.iter().filter_map(|f| f.split_once('/').map(|(d, _)| d)).collect();
        folders.sort_unstable();
        folders.dedup();
        if below.is_empty() {
            let mut top: Vec<&str> = files.iter().map(|f| f.split('/').next().unwrap_or(f)).collect();
            top.sort_unstable();
            top.dedup();
            top.truncate(8);
            return Err(Error::file(&shown, format!("holds nothing under '{member}'"))
                .hint(format!("at its top are: {}", top.join(", "))));
        }
        let find = |end: &str| folders.iter().find(|d| d.to_ascii_lowercase().ends_with(end));
        if let (Some(train), Some(_)) = (find("train"), find("test")) {
            return Err(Error::file(&shown, format!("holds a train set and a test set (under '{prefix}')"))
                .hint(format!("give one of them: {shown}::{prefix}{train}")));
        }
        let direct = below.iter().filter(|f| !f.contains('/')).count();
        match folders.as_slice() {
            [] => {
                let files = below.iter().map(ToString::to_string).collect();
                return Ok(Shape::Files { prefix, files });
            }
            [only] if direct == 0 => prefix = format!("{prefix}{only}/"),
            _ => {
                let classes = folders.iter().filter(|d| **d != "unsup").map(ToString::to_string).collect();
                return Ok(Shape::Classes { prefix, classes, unlabelled: folders.contains(&"unsup") });
            }
        }
    }
}

/// The train, validation and test sets that stand side by side under `member`, by their part of a split's name and their paths; nothing
/// unless there are a train set and a test set.
pub(super) fn splits(container: &Container, member: &str) -> Result<Vec<(&'static str, String)>> {
    let files = container.list()?;
    let member = member.trim_matches('/');
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    loop {
        let below: Vec<&str> = files.iter().filter_map(|f| f.strip_prefix(prefix.as_str())).collect();
        let mut folders: Vec<&str> = below.iter().filter_map(|f| f.split_once('/').map(|(d, _)| d)).collect();
        folders.sort_unstable();
        folders.dedup();
        let find =
            |ends: &[&str]| folders.iter().find(|d| ends.iter().any(|end| d.to_ascii_lowercase().ends_with(end)));
        let names: [(&'static str, &[&str]); 3] =
            [("train", &["train"]), ("valid", &["valid", "validation", "dev"]), ("test", &["test"])];
        let found: Vec<(&'static str, String)> =
            names.iter().filter_map(|(name, ends)| Some((*name, format!("{prefix}{}", find(ends)?)))).collect();
        if found.iter().any(|(n, _)| *n == "train") && found.iter().any(|(n, _)| *n == "test") {
            return Ok(found);
        }
        match folders.as_slice() {
            [only] if below.iter().all(|f| f.contains('/')) => prefix = format!("{prefix}{only}/"),
            _ => return Ok(Vec::new()),
        }
    }
}

/// A run of members, path and content; an empty run is the mark of the end.
type Run = Result<Vec<(String, Vec<u8>)>>;

/// A run ends at this many bytes. A few runs wait for the reader of documents.
const RUN_BYTES: usize = 256 << 10;
const RUNS_WAITING: usize = 4;

/// Documents of a tree in which every file is one document. Another thread reads ahead.
pub(super) struct TreeDocuments {
    receiver: Receiver<Run>,
    run: std::vec::IntoIter<(String, Vec<u8>)>,
    ended: bool,
    container: Container,
    prefix: String,
    classes: bool,
    encoding: Encoding,
}

impl TreeDocuments {
    /// `classes`: the folder right under `prefix` is the label, and files beside the folders are not documents.
    pub(super) fn new(container: Container, prefix: String, classes: bool, encoding: Encoding) -> Self {
        let (sender, receiver) = sync_channel(RUNS_WAITING);
        let (container_, prefix_) = (container.clone(), prefix.clone());
        std::thread::spawn(move || {
            let end = read_files(&container_, &prefix_, classes, &sender).map(|()| Vec::new());
            // the receiver may be gone: then nobody wants to know
            let _ = sender.send(end);
        });
        TreeDocuments { receiver, run: Vec::new().into_iter(), ended: false, container, prefix, classes, encoding }
    }

    pub(super) fn next_document(&mut self) -> Result<Option<Document>> {
        let (member, bytes) = loop {
            if let Some(item) = self.run.next() {
                break item;
            }
            if self.ended {
                return Ok(None);
            }
            let run =
                self.receiver.recv().unwrap_or_else(|_| Err(broken_off(&self.container.name_of(&self.prefix))))?;
            self.ended = run.is_empty();
            self.run = run.into_iter();
        };
        let file: Arc<str> = self.container.name_of(&member).into();
        let mut text = decode_all(bytes, &file, self.encoding)?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        let class = member[self.prefix.len()..].split('/').next().filter(|c| self.classes && *c != "unsup");
        let label = class.map(str::to_string);
        Ok(Some(Document { text, label, origin: Origin { file, line: 1 }, ..Document::default() }))
    }
}

fn read_files(container: &Container, prefix: &str, classes: bool, sender: &SyncSender<Run>) -> Result<()> {
    let wanted = |name: &str| name.strip_prefix(prefix).is_some_and(|below| !classes || below.contains('/'));
    let (mut run, mut bytes) = (Vec::new(), 0);
    let mut read = |name: &str, content: &mut dyn Read| -> Result<bool> {
        let shown = container.name_of(name);
        let mut member = Vec::new();
        content.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut member).map_err(|e| read_error(&shown, e))?;
        if member.len() > MAX_DOCUMENT {
            return Err(too_long(&shown, 1));
        }
        bytes += member.len();
        run.push((name.to_string(), member));
        if bytes < RUN_BYTES {
            return Ok(true);
        }
        bytes = 0;
        Ok(sender.send(Ok(std::mem::take(&mut run))).is_ok())
    };
    match container {
        Container::Tar(path) => {
            for_each_member(path, |name, content| if wanted(name) { read(name, content) } else { Ok(true) })?;
        }
        Container::Folder(root) => {
            let mut files = Vec::new();
            walk(root, "", &mut files)?;
            for name in files.iter().filter(|n| wanted(n)) {
                if !read(name, &mut open_file(&root.join(name))?)? {
                    break;
                }
            }
        }
    }
    if !run.is_empty() {
        // the receiver may be gone: then nobody wants the rest
        let _ = sender.send(Ok(run));
    }
    Ok(())
}
