//! Trees of files: class folders, folders of texts, files side by side.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::archive::{Container, broken_off};
use super::bytes::{MAX_DOCUMENT, decompress, printable, read_error};
use super::foreign;
use super::input::{Encoding, decode_all, too_long};
use super::{Document, Origin};
use crate::error::{Error, Result};

/// The kind of a tree, below `prefix` (empty, or ending in `/`).
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
    let shown = container.name();
    let member = member.trim_matches('/');
    if files.is_empty() {
        return Err(Error::file(&shown, "holds no file"));
    }
    if files.iter().any(|f| f == member) {
        return Ok(Shape::Member(member.to_string()));
    }
    let archive = !matches!(container, Container::Folder(_));
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    loop {
        let (below, folders) = level(&files, &prefix);
        if below.is_empty() {
            let mut top: Vec<&str> = files.iter().map(|f| f.split('/').next().unwrap_or(f)).collect();
            top.sort_unstable();
            top.dedup();
            top.truncate(8);
            return Err(Error::file(&shown, format!("holds nothing under '{member}'"))
                .hint(format!("at its top are: {}", printable(&top.join(", ")))));
        }
        if let Some(train) = train_beside_test(&folders) {
            return Err(Error::file(
                &shown,
                format!("holds a train set and a test set (under '{}')", printable(&prefix)),
            )
            .hint(format!("give one of them: {shown}::{}", printable(&format!("{prefix}{train}")))));
        }
        let data: Vec<&str> = below.iter().copied().filter(|f| !f.contains('/') && !is_about(f)).collect();
        match folders.as_slice() {
            [] => {
                let files = if data.is_empty() { below } else { data };
                if let Some((train, _)) = train_and_test(&files) {
                    return Err(Error::file(
                        &shown,
                        format!("holds a train file and a test file (under '{}')", printable(&prefix)),
                    )
                    .hint(format!("give one of them: {shown}::{}", printable(&format!("{prefix}{train}")))));
                }
                return Ok(match files.as_slice() {
                    // a packed file, not a folder of texts
                    [only] if archive && member.is_empty() => Shape::Member(format!("{prefix}{only}")),
                    _ => Shape::Files { prefix, files: files.iter().map(ToString::to_string).collect() },
                });
            }
            [only] if data.is_empty() => prefix = format!("{prefix}{only}/"),
            _ => {
                let classes = folders.iter().filter(|d| **d != "unsup").map(ToString::to_string).collect();
                return Ok(Shape::Classes { prefix, classes, unlabelled: folders.contains(&"unsup") });
            }
        }
    }
}

/// Files that tell about data.
fn is_about(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["readme", "license", "licence", "classes.txt"].iter().any(|start| lower.starts_with(start))
        || lower.ends_with(".md")
}

/// The first of the files that are called train and test as a word of their name.
fn train_and_test<'a>(files: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let find = |word: &str| {
        let has = |f: &&&str| f.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w.eq_ignore_ascii_case(word));
        files.iter().find(has).copied()
    };
    find("train").zip(find("test"))
}

/// The content of `prefix`: the files, and the names of the folders at its top, sorted.
fn level<'a>(files: &'a [String], prefix: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let below: Vec<&str> = files.iter().filter_map(|f| f.strip_prefix(prefix)).collect();
    let mut folders: Vec<&str> = below.iter().filter_map(|f| f.split_once('/').map(|(d, _)| d)).collect();
    folders.sort_unstable();
    folders.dedup();
    (below, folders)
}

/// The first folder whose name ends in one of these words.
fn folder_of<'a>(folders: &[&'a str], ends: &[&str]) -> Option<&'a str> {
    folders.iter().copied().find(|d| ends.iter().any(|end| d.to_ascii_lowercase().ends_with(end)))
}

/// The folder of the train set, where one of a test set stands beside it.
fn train_beside_test<'a>(folders: &[&'a str]) -> Option<&'a str> {
    folder_of(folders, &["train"]).filter(|_| folder_of(folders, &["test"]).is_some())
}

/// The train, validation and test sets that stand side by side under `member`, by their part of a
/// split's name and their paths; nothing unless there are a train set and a test set.
pub(super) fn splits(container: &Container, member: &str) -> Result<Vec<(&'static str, String)>> {
    const NAMES: [(&str, &[&str]); 3] =
        [("train", &["train"]), ("valid", &["valid", "validation", "dev"]), ("test", &["test"])];
    let files = container.list()?;
    let member = member.trim_matches('/');
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    loop {
        let (below, folders) = level(&files, &prefix);
        if train_beside_test(&folders).is_some() {
            let path = |ends| folder_of(&folders, ends).map(|folder| format!("{prefix}{folder}"));
            return Ok(NAMES.iter().filter_map(|(name, ends)| Some((*name, path(ends)?))).collect());
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
    encoding: Option<Encoding>,
}

impl TreeDocuments {
    /// `classes`: the folder right under `prefix` is the label, and files beside the folders are
    /// not documents.
    pub(super) fn new(container: Container, prefix: String, classes: bool, encoding: Option<Encoding>) -> Self {
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
        let encoding = self.encoding.or_else(|| Encoding::of_head(&bytes)).unwrap_or(Encoding::Utf8);
        foreign::refuse_utf32(&file, &bytes)?;
        if encoding.has_ascii_marks() && Encoding::of_mark(&bytes).is_none() {
            foreign::refuse_zeros(&file, &bytes)?;
        }
        let mut text = decode_all(bytes, &file, encoding)?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        // one line end is enough to be of another system; others may stand among line feeds
        if !text.contains('\n') {
            foreign::refuse_returns(&file, &text)?;
        }
        let class = member[self.prefix.len()..].split('/').next().filter(|c| self.classes && *c != "unsup");
        let label = class.map(str::to_string);
        Ok(Some(Document { text, label, origin: Origin { file, line: 1 }, ..Document::default() }))
    }
}

fn read_files(container: &Container, prefix: &str, classes: bool, sender: &SyncSender<Run>) -> Result<()> {
    let mut wanted = |name: &str| name.strip_prefix(prefix).is_some_and(|below| !classes || below.contains('/'));
    let (mut run, mut bytes) = (Vec::new(), 0);
    let mut read = |name: &str, content: &mut dyn Read| -> Result<bool> {
        let shown = container.name_of(name);
        let mut member = read_document(content, &shown)?;
        if member.starts_with(&[0x1f, 0x8b]) || member.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let mut unpacked = decompress(Box::new(Cursor::new(member)), &shown).map_err(|e| read_error(&shown, e))?;
            member = read_document(&mut unpacked, &shown)?;
        }
        bytes += member.len() + name.len();
        run.push((name.to_string(), member));
        if bytes < RUN_BYTES {
            return Ok(true);
        }
        bytes = 0;
        Ok(sender.send(Ok(std::mem::take(&mut run))).is_ok())
    };
    container.read(&mut wanted, &mut read)?;
    if !run.is_empty() {
        // the receiver may be gone: then nobody wants the rest
        let _ = sender.send(Ok(run));
    }
    Ok(())
}

fn read_document(content: &mut dyn Read, shown: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes).map_err(|e| read_error(shown, e))?;
    if bytes.len() > MAX_DOCUMENT { Err(too_long(shown, 1)) } else { Ok(bytes) }
}
