//! Trees of files: class folders, folders of texts, files side by side.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::archive::{Container, Listing, broken_off};
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

/// What lies in a tree, and what is not read of it, a sentence each.
pub(super) struct Found {
    pub(super) shape: Shape,
    pub(super) left_out: Vec<String>,
}

/// Finds out what lies under `member` in a tree.
///
/// # Errors
/// Nothing there; a train set and another side by side; tables where texts are meant.
pub(super) fn find(container: &Container, member: &str) -> Result<Found> {
    let Listing { files, skipped } = container.list()?;
    let shown = container.name();
    let member = member.trim_matches('/');
    if files.is_empty() {
        return Err(Error::file(&shown, "holds no file"));
    }
    let mut left_out = Vec::new();
    if files.iter().any(|f| f == member) {
        return Ok(Found { shape: Shape::Member(member.to_string()), left_out });
    }
    let archive = !matches!(container, Container::Folder(_));
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    // what tells about the data at their top is as usual
    let usual = |f: &&str| !f.contains('/') && is_about(f);
    let junk: Vec<&str> = skipped.iter().filter_map(|f| f.strip_prefix(&*prefix)).filter(|f| !usual(f)).collect();
    if !junk.is_empty() {
        left_out.push(format!("{}: skipped, as no data by the name: {}", place(container, member), some(&junk)));
    }
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
        let one_of = |message: String, name: &str| {
            let under = if prefix.is_empty() { String::new() } else { format!(" (under '{}')", printable(&prefix)) };
            Error::file(&shown, message + &under)
                .hint(format!("give one of them: {shown}::{}", printable(&format!("{prefix}{name}"))))
        };
        if let Some([(a, first), (b, _)]) = sets_beside(&folders) {
            return Err(one_of(format!("holds a {a} set and a {b} set"), first));
        }
        let data: Vec<&str> = below.iter().copied().filter(|f| !f.contains('/') && !is_about(f)).collect();
        let shape = match folders.as_slice() {
            [] => {
                let files = if data.is_empty() { below } else { data };
                if let Some([(a, first), (b, _)]) = files_beside(&files) {
                    return Err(one_of(format!("holds a {a} file and a {b} file"), first));
                }
                match files.as_slice() {
                    // a packed file, not a folder of texts
                    [only] if archive && member.is_empty() => Shape::Member(format!("{prefix}{only}")),
                    _ => Shape::Files { prefix, files: files.iter().map(ToString::to_string).collect() },
                }
            }
            [only] if data.is_empty() => {
                prefix = format!("{prefix}{only}/");
                continue;
            }
            [only] if role(only).is_some() => {
                return Err(one_of(format!("holds the folder '{}' and files beside it", printable(only)), only));
            }
            _ => {
                let texts = below.iter().filter(|f| f.contains('/')).map(|f| format!("{prefix}{f}"));
                refuse_tables(container, texts)?;
                if !data.is_empty() {
                    let place = place(container, prefix.trim_end_matches('/'));
                    left_out.push(format!("{place}: not read, as they lie beside the class folders: {}", some(&data)));
                }
                let classes: Vec<String> =
                    folders.iter().filter(|d| !is_unlabelled(d)).map(ToString::to_string).collect();
                let unlabelled = folders.iter().any(|d| is_unlabelled(d));
                if let Some(set) = classes.iter().find(|d| role(d).is_some()) {
                    if let (true, [only]) = (unlabelled, &classes[..]) {
                        return Err(one_of(
                            format!("holds a set '{}' and texts without labels", printable(only)),
                            only,
                        ));
                    }
                    let place = place(container, prefix.trim_end_matches('/'));
                    left_out.push(format!(
                        "{place}: the folder '{}' is taken for a class, by the ones beside it",
                        printable(set)
                    ));
                }
                Shape::Classes { prefix, classes, unlabelled }
            }
        };
        return Ok(Found { shape, left_out });
    }
}

/// A folder in a tree, for messages.
fn place(container: &Container, folder: &str) -> String {
    if folder.is_empty() { container.name() } else { container.name_of(folder) }
}

/// A few names, and how many there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { format!(", … ({} in all)", names.len()) } else { String::new() };
    format!("{}{more}", printable(&names[..names.len().min(SHOWN)].join(", ")))
}

/// A name without the ending of compression, in lower case.
fn bare(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.trim_end_matches(".zst").trim_end_matches(".gz").to_string()
}

fn ends_in(name: &str, endings: &[&str]) -> bool {
    let name = bare(name);
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Files that are meant to be web pages.
fn is_page(name: &str) -> bool {
    ends_in(name, &[".html", ".htm", ".xhtml"])
}

/// # Errors
/// Files that by their names are many texts, not one.
pub(super) fn refuse_tables(container: &Container, mut files: impl Iterator<Item = String>) -> Result<()> {
    const ENDINGS: [&str; 7] = [".csv", ".tsv", ".tab", ".psv", ".jsonl", ".ndjson", ".json"];
    match files.find(|name| ends_in(name, &ENDINGS)) {
        Some(table) => {
            let message = "is a table or JSON by its name, in a folder where every file is one text";
            Err(Error::file(container.name_of(&table), message).hint("give it by itself, or name a text .txt"))
        }
        None => Ok(()),
    }
}

/// Folders of texts without labels, beside those of classes.
fn is_unlabelled(folder: &str) -> bool {
    ["unsup", "unlabelled", "unlabeled", "unsupervised"].contains(&folder)
}

/// # Errors
/// A file beside its compressed self, or compressed in two ways.
pub(super) fn refuse_copies(container: &Container, prefix: &str, files: &[String]) -> Result<()> {
    let mut all: Vec<(String, &String)> = files.iter().map(|file| (bare(file), file)).collect();
    all.sort_unstable();
    match all.windows(2).find(|two| two[0].0 == two[1].0) {
        Some([(_, a), (_, b)]) => {
            let message = format!("holds the same file twice by its name: {} and {}", printable(a), printable(b));
            Err(Error::file(place(container, prefix.trim_end_matches('/')), message).hint("keep one of them"))
        }
        _ => Ok(()),
    }
}

/// Files that tell about data.
fn is_about(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["readme", "license", "licence", "classes.txt"].iter().any(|start| lower.starts_with(start))
        || lower.ends_with(".md")
        || lower.contains(".readme.")
}

/// The parts of a data set, and the words of their names.
const ROLES: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["valid", "validation", "val", "dev", "devel", "eval", "evaluation"]),
    ("test", &["test", "testing", "holdout"]),
];

fn words(name: &str) -> impl DoubleEndedIterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// The part of a data set that a folder is by its name, as a number of [`ROLES`].
fn role(folder: &str) -> Option<usize> {
    let lower = folder.to_ascii_lowercase();
    let last = words(&lower).next_back()?;
    ROLES.iter().position(|(name, ends)| lower.ends_with(name) || ends.contains(&last))
}

type Two<'a> = [(&'static str, &'a str); 2];

/// Two of the parts that are there, with the test set rather than the validation set.
fn two(found: [Option<&str>; 3]) -> Option<Two<'_>> {
    let of = |role: usize| Some((ROLES[role].0, found[role]?));
    [(0, 2), (0, 1), (1, 2)].into_iter().find_map(|(a, b)| Some([of(a)?, of(b)?]))
}

/// Folders of several parts of a data set side by side; without a train set they must be all.
fn sets_beside<'a>(folders: &[&'a str]) -> Option<Two<'a>> {
    let found = [0, 1, 2].map(|wanted| folders.iter().copied().find(|d| role(d) == Some(wanted)));
    let all = || folders.iter().all(|d| is_unlabelled(d) || role(d).is_some());
    two(found).filter(|_| found[0].is_some() || all())
}

/// The same of files, by any word of their names. Among many files words mean little.
fn files_beside<'a>(files: &[&'a str]) -> Option<Two<'a>> {
    let has = |f: &str, role: usize| words(f).any(|w| ROLES[role].1.iter().any(|r| w.eq_ignore_ascii_case(r)));
    let find = |role: usize| files.iter().copied().find(|f| has(f, role));
    let few = files.len() <= 64;
    two([find(0), find(1).filter(|_| few), find(2)]).filter(|found| found[0].0 == "train" || files.len() <= 3)
}

/// The content of `prefix`: the files, and the names of the folders at its top, sorted.
fn level<'a>(files: &'a [String], prefix: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let below: Vec<&str> = files.iter().filter_map(|f| f.strip_prefix(prefix)).collect();
    let mut folders: Vec<&str> = below.iter().filter_map(|f| f.split_once('/').map(|(d, _)| d)).collect();
    folders.sort_unstable();
    folders.dedup();
    (below, folders)
}

/// The train, validation and test sets that stand side by side under `member`, by their part of a
/// split's name and their paths; nothing unless there are two of them.
pub(super) fn splits(container: &Container, member: &str) -> Result<Vec<(&'static str, String)>> {
    const NAMES: [&str; 3] = ["train", "valid", "test"];
    let files = container.list()?.files;
    let member = member.trim_matches('/');
    let mut prefix = if member.is_empty() { String::new() } else { format!("{member}/") };
    loop {
        let (below, folders) = level(&files, &prefix);
        if sets_beside(&folders).is_some() {
            let path = |wanted| folders.iter().find(|d| role(d) == Some(wanted)).map(|d| format!("{prefix}{d}"));
            return Ok(NAMES.iter().enumerate().filter_map(|(i, name)| Some((*name, path(i)?))).collect());
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
        foreign::refuse_pointer(&file, &text)?;
        if foreign::is_html(&text) && !is_page(&member) {
            let hint = "was an error page saved in its place? a text named .html is read with its marks";
            return Err(Error::file(&*file, "is a web page (HTML) where a text is meant").hint(hint));
        }
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        // one line end is enough to be of another system; others may stand among line feeds
        if !text.contains('\n') {
            foreign::refuse_returns(&file, &text)?;
        }
        let class = member[self.prefix.len()..].split('/').next().filter(|c| self.classes && !is_unlabelled(c));
        let label = class.map(str::to_string);
        Ok(Some(Document { text, label, origin: Origin { file, line: 1 }, ..Document::default() }))
    }
}

fn read_files(container: &Container, prefix: &str, classes: bool, sender: &SyncSender<Run>) -> Result<()> {
    let mut wanted = |name: &str| name.strip_prefix(prefix).is_some_and(|below| !classes || below.contains('/'));
    let packed = !matches!(container, Container::Folder(_));
    let (mut run, mut bytes) = (Vec::new(), 0);
    let mut read = |name: &str, content: &mut dyn Read| -> Result<bool> {
        let shown = container.name_of(name);
        let mut member = read_document(content, &shown)?;
        // files of a folder come unpacked
        if packed && (member.starts_with(&[0x1f, 0x8b]) || member.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])) {
            let mut unpacked = decompress(Box::new(Cursor::new(member)), &shown).map_err(|e| read_error(&shown, e))?;
            member = read_document(&mut unpacked, &shown)?;
            foreign::refuse_program(&shown, &member)?;
        }
        foreign::refuse_packed(&shown, &member)?;
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
