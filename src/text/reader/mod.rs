//! Readers: the format of a path is recognised by content and name, and its documents are streamed.
//!
//! ```no_run
//! use ulmfit::text::{OpenOptions, Source};
//! let path = "data/aclImdb_labelled.tar.zst::aclImdb/train";
//! let source = Source::open(path, &OpenOptions::default())?;
//! eprintln!("{}", source.describe());
//! for document in source.documents()? {
//!     let document = document?;
//!     println!("{:?}: {} bytes", document.label, document.text.len());
//! }
//! # Ok::<(), ulmfit::error::Error>(())
//! ```

mod archive;
mod articles;
mod bytes;
mod columns;
mod conll;
#[cfg(test)]
mod data_tests;
mod detect;
mod document;
mod doubts;
mod foreign;
mod formats;
mod input;
mod json;
mod labelled;
mod layout;
mod plain;
mod planned;
#[cfg(test)]
mod properties;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;
use std::sync::Arc;

use archive::Container;
use bytes::Blob;
use columns::Columns;
pub use document::{Document, LABEL_MARK, Origin};
use document::{of_pair, with_labels};
use formats::Opened;
pub use formats::{FORMATS, Format, Kind};
pub use input::Encoding;
use input::{Lines, Utf8Reader};
use planned::{Place, Plan, Planned, pair, plan_file, plan_pair, plan_tree};
pub use rows::Quotes;
use tree::TreeDocuments;

use crate::error::{Error, Result};

/// The purpose of reading; it decides how plain lines count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A labelled data set: a line of a plain file is a document, an empty one too; lines may begin
    /// with their labels.
    #[default]
    Dataset,
    /// Texts whose labels are not wanted: as a data set, but the beginning of a plain line is a
    /// part of it.
    Texts,
    /// A language-model corpus: blank lines are no documents, and every line is one to be closed
    /// ([`Document::lines`]).
    Corpus,
}

/// What is known of a file from the user, instead of recognising it.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    pub role: Role,
    pub format: Option<Format>,
    pub encoding: Option<Encoding>,
    /// Names, or numbers counted from 1, of the text columns.
    pub text_columns: Vec<String>,
    /// Name, or number counted from 1, of the label column. More than one: each says with 0 or 1
    /// whether its label is there.
    pub label_columns: Vec<String>,
    /// Whether a document may have several labels, and the text between them in one column
    /// (nothing where it is empty).
    pub label_separator: Option<String>,
    /// The character between the columns of a table.
    pub delimiter: Option<u8>,
    /// Whether the first row of a table names the columns.
    pub header: Option<bool>,
    /// The meaning of a quote in a table.
    pub quotes: Option<Quotes>,
    /// What stands before the names of the flags of these files in messages: `corpus-`,
    /// `unlabelled-`, `data-` or nothing.
    pub flags: &'static str,
}

/// The flags that every kind of file has, each with its own prefix.
const OF_EVERY_KIND: [&str; 6] = ["--format", "--encoding", "--text-column", "--delimiter", "--header", "--quotes"];

/// A message with the flags of the files that it is about.
fn with_flags(message: &str, prefix: &str) -> String {
    OF_EVERY_KIND.iter().fold(message.to_string(), |message, flag| {
        message.replace(flag, &format!("--{prefix}{}", flag.trim_start_matches('-')))
    })
}

/// An error with the flags of the files that it is about.
pub(crate) fn of_flags(error: Error, prefix: &str) -> Error {
    if prefix.is_empty() { error } else { error.reworded(|message| with_flags(message, prefix)) }
}

/// A stream of documents that can be handed to another thread.
pub type Documents = Box<dyn Iterator<Item = Result<Document>> + Send>;

/// A recognised file, folder or archive, whose documents can be streamed any number of times.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    role: Role,
    columns: Columns,
    /// Between several labels of a column.
    separator: Option<String>,
    /// Which text of a pair is wanted.
    half: Option<usize>,
    plan: Plan,
    recognised: String,
    warnings: Vec<String>,
    /// Of the names of flags.
    prefix: &'static str,
}

impl Source {
    /// Recognises what `path` holds. A path inside a folder or archive follows `::`.
    ///
    /// # Errors
    /// The path is missing, empty, a directory without files, truncated, or holds a train set and a
    /// test set.
    pub fn open(path: impl AsRef<str>, options: &OpenOptions) -> Result<Self> {
        Self::open_path(path.as_ref(), options).map_err(|e| of_flags(e, options.flags))
    }

    fn open_path(name: &str, options: &OpenOptions) -> Result<Self> {
        let (outer, member) = match name.split_once("::") {
            Some(parts) if !Path::new(name).exists() => parts,
            _ => (name, ""),
        };
        let outer = Path::new(outer);
        // where labels are not wanted, a file that is named is read alone
        let alone = options.role != Role::Dataset && outer.is_file();
        if let Some((neg, pos)) = pair(outer).filter(|_| member.is_empty() && options.format.is_none() && !alone) {
            let place = |path| Place::Blob(Blob::File(path));
            return Ok(Self::new(name, options, plan_pair(place(neg), place(pos), options)?));
        }
        Self::recognise(name, Blob::File(outer.to_path_buf()), member, options)
    }

    /// Recognises what bytes in memory hold: a file or an archive. `name` stands for the path: its
    /// ending counts, messages show it, and the part after `::` is a path inside the archive.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Arc<[u8]>>, options: &OpenOptions) -> Result<Self> {
        let (outer, member) = name.split_once("::").unwrap_or((name, ""));
        Self::recognise(name, Blob::Memory { name: outer.into(), bytes: bytes.into() }, member, options)
            .map_err(|e| of_flags(e, options.flags))
    }

    /// Documents in memory. `name` stands for the path.
    pub fn of_texts(name: &str, texts: impl Into<Arc<[Document]>>) -> Self {
        let texts = texts.into();
        let recognised = format!("{} texts", texts.len());
        Self::new(name, &OpenOptions::default(), Planned::new(Plan::Texts(texts), recognised))
    }

    fn new(name: &str, options: &OpenOptions, planned: Planned) -> Self {
        let (columns, Planned { plan, recognised, warnings }) = (Columns::of(options), planned);
        let (role, separator, prefix) = (options.role, options.label_separator.clone(), options.flags);
        let warnings = warnings.iter().map(|warning| with_flags(warning, prefix)).collect();
        Source { name: name.to_string(), role, columns, separator, half: None, plan, recognised, warnings, prefix }
    }

    fn recognise(name: &str, blob: Blob, member: &str, options: &OpenOptions) -> Result<Self> {
        let planned = match Container::of(&blob)? {
            Some(container) => plan_tree(container, member, options)?,
            None if !member.is_empty() => {
                return Err(Error::file(
                    blob.name(),
                    format!("is neither a folder nor an archive (tar, zip), so '::{member}' is not in it"),
                ));
            }
            None => plan_file(Place::Blob(blob), options)?,
        };
        Ok(Self::new(name, options, planned))
    }

    /// The sets of a tree that holds a train set and a test set, each with the name of its split
    /// (`train`, `valid`, `test`); nothing for any other path.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_splits(path: &str, options: &OpenOptions) -> Result<Vec<(&'static str, Source)>> {
        let (outer, member) = path.split_once("::").unwrap_or((path, ""));
        let place = Path::new(outer);
        if !place.exists() || place.is_file() && options.format.is_some() && member.is_empty() {
            return Ok(Vec::new());
        }
        let Some(container) = Container::of(&Blob::File(place.to_path_buf()))? else { return Ok(Vec::new()) };
        let splits = tree::splits(&container, member)?;
        splits.into_iter().map(|(name, path)| Ok((name, Source::open(format!("{outer}::{path}"), options)?))).collect()
    }

    /// The same documents, of which the first (0) or second (1) text alone is read. A document
    /// without exactly two texts is an error of reading.
    #[must_use]
    pub fn half_of_pairs(&self, half: usize) -> Self {
        Source { half: Some(half), ..self.clone() }
    }

    /// Whether a document may have several labels.
    pub fn has_several_labels(&self) -> bool {
        self.separator.is_some()
    }

    /// Whether every word has a tag.
    pub fn has_tags(&self) -> bool {
        match &self.plan {
            Plan::File { format, .. } => format.name() == "conll" && self.role == Role::Dataset,
            Plan::Chain(sources) => sources.iter().any(Source::has_tags),
            _ => false,
        }
    }

    /// Whether the files have columns or keys, which flags can name.
    pub fn has_columns(&self) -> bool {
        match &self.plan {
            Plan::File { format, .. } => format.0.preset.is_some() || ["json-lines", "conll"].contains(&format.name()),
            Plan::Chain(sources) => sources.iter().any(Source::has_columns),
            _ => false,
        }
    }

    /// Whether the files are tables, with a delimiter between columns.
    pub fn has_tables(&self) -> bool {
        match &self.plan {
            Plan::File { format, .. } => format.0.preset.is_some(),
            Plan::Chain(sources) => sources.iter().any(Source::has_tables),
            _ => false,
        }
    }

    /// Whether a table has a column of labels; nothing for what is no table.
    fn has_label_column(&self) -> Option<bool> {
        let Plan::File { format, layout, .. } = &self.plan else { return None };
        format.0.preset.map(|_| layout.labelled)
    }

    /// # Errors
    /// [`Error::Usage`]: both halves of `name.neg` and `name.pos` are among the sources, and each
    /// stands for both.
    pub fn refuse_halves(sources: &[Source]) -> Result<()> {
        let pair = |source: &Source| match &source.plan {
            Plan::Pair { neg, .. } => Some(neg.name()),
            _ => None,
        };
        for (i, source) in sources.iter().enumerate() {
            if let Some(other) = sources[..i].iter().find(|other| pair(source).is_some() && pair(other) == pair(source))
            {
                let message = format!("{} and {} are read together", other.name, source.name);
                return Err(Error::usage(message).hint("give one of the two"));
            }
        }
        Ok(())
    }

    /// How messages call files of this kind, where it is not that of labelled ones.
    pub fn kind(&self) -> Option<&'static str> {
        match (self.role, self.prefix) {
            (Role::Corpus, _) => Some("corpus"),
            (_, "unlabelled-") => Some("unlabelled"),
            _ => None,
        }
    }

    /// The path as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line: the recognised format.
    pub fn describe(&self) -> String {
        format!("{}: {}", self.name, self.recognised)
    }

    /// Doubts whether the file is the intended one, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Streams the documents from the beginning. After an error nothing follows.
    ///
    /// # Errors
    /// As [`Source::open`]; a table lacks a column. Faults further on come as items.
    pub fn documents(&self) -> Result<Documents> {
        self.stream().map_err(|e| of_flags(e, self.prefix))
    }

    fn stream(&self) -> Result<Documents> {
        let stream = match &self.plan {
            Plan::File { place, format, encoding, layout } => {
                let name = place.name();
                let reader = Utf8Reader::new(place.open()?, &name, *encoding);
                let (role, columns) = (self.role, &self.columns);
                (format.0.read)(Opened { reader, file: name.into(), role, columns, layout: *layout })?
            }
            Plan::Pair { neg, pos, encoding } => {
                let half = |label: &str, place: &Place| -> Result<Documents> {
                    let name = place.name();
                    let lines = Lines::new(Utf8Reader::new(place.open()?, &name, *encoding));
                    Ok(plain::read_labelled(lines, name.into(), label))
                };
                Box::new(half("neg", neg)?.chain(half("pos", pos)?))
            }
            Plan::Tree { container, prefix, classes, encoding } => {
                let mut documents = TreeDocuments::new(container.clone(), prefix.clone(), *classes, *encoding);
                stream(move || documents.next_document())
            }
            Plan::Texts(texts) => {
                let (texts, mut next) = (texts.clone(), 0);
                stream(move || {
                    next += 1;
                    Ok(texts.get(next - 1).cloned())
                })
            }
            Plan::Chain(sources) => {
                let sources = sources.clone();
                Box::new(sources.into_iter().flat_map(|s| match s.documents() {
                    Ok(documents) => documents,
                    Err(e) => Box::new(std::iter::once(Err(e))) as Documents,
                }))
            }
        };
        let stream: Documents = match self.separator.clone() {
            Some(separator) => Box::new(stream.map(move |document| document.map(|d| with_labels(d, &separator)))),
            None => stream,
        };
        let stream: Documents = match self.half {
            Some(half) => Box::new(stream.map(move |document| document.and_then(|d| of_pair(d, half)))),
            None => stream,
        };
        Ok(Box::new(Checked { stream, name: self.name.clone(), seen: false, over: false, prefix: self.prefix }))
    }
}

fn stream(next: impl FnMut() -> Result<Option<Document>> + Send + 'static) -> Documents {
    let mut next = next;
    Box::new(std::iter::from_fn(move || next().transpose()))
}

/// Ends after the first error, and makes an error of a source without any document.
struct Checked {
    stream: Documents,
    name: String,
    seen: bool,
    over: bool,
    prefix: &'static str,
}

impl Iterator for Checked {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.stream.next();
        let nothing = item.is_none() && !self.seen;
        self.seen = true;
        self.over = !matches!(item, Some(Ok(_)));
        let item = item.map(|item| item.map_err(|e| of_flags(e, self.prefix)));
        if nothing { Some(Err(Error::file(&self.name, "holds no document"))) } else { item }
    }
}
