//! Readers: what a path holds is recognised by content and name, and its documents are streamed.
//!
//! ```no_run
//! use ulmfit::text::{OpenOptions, Source};
//! let source = Source::open("data/aclImdb_labelled.tar.zst::aclImdb/train", &OpenOptions::default())?;
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
mod doubts;
mod formats;
mod input;
mod json;
mod labelled;
mod layout;
mod plain;
#[cfg(test)]
mod properties;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::Container;
use bytes::{Blob, Bytes};
use columns::Columns;
use detect::Look;
use formats::Opened;
pub use formats::{FORMATS, Format, Kind};
pub use input::Encoding;
use input::{Lines, Utf8Reader};
use layout::Layout;
pub use rows::Quotes;
use tree::{Shape, TreeDocuments};

use crate::error::{Error, Result};

/// One document: a text and, in a labelled data set, its class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The text; several text fields are joined by a space (see [`Document::fields`]).
    pub text: String,
    /// The class, as it is called in the file. Of a source with several labels all of them, joined by [`LABEL_MARK`]; of one with tags
    /// that of every word, in IOB2, joined in the same way.
    pub label: Option<String>,
    /// Whether the text is lines of running text (a corpus): tokenizers that mark line ends do so.
    pub lines: bool,
    /// Whether the fields are words, which stay as they are cut.
    pub words: bool,
    pub origin: Origin,
    /// Byte offsets in `text` at which the second and later fields begin.
    pub(in crate::text) field_starts: Vec<usize>,
}

/// Stands between the labels of a document where there may be several: no label has it.
pub const LABEL_MARK: char = '\u{1f}';

/// Where a document came from, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<str>,
    /// Line of the file at which the document begins, counted from 1.
    pub line: u64,
}

impl Document {
    /// A text of one field from memory, without a label.
    pub fn new(text: impl Into<String>) -> Self {
        Document { text: text.into(), ..Document::default() }
    }

    /// A text of several fields (columns of a table).
    pub fn from_fields(fields: Vec<String>) -> Self {
        let mut fields = fields.into_iter();
        let (mut text, mut field_starts) = (fields.next().unwrap_or_default(), Vec::new());
        for field in fields {
            text.push(' ');
            field_starts.push(text.len());
            text.push_str(&field);
        }
        Document { text, field_starts, ..Document::default() }
    }

    /// A text of words, which tokenizers leave apart.
    pub fn of_words(words: Vec<String>) -> Self {
        Document { words: true, ..Self::from_fields(words) }
    }

    /// The fields of the text (one, unless it came from several columns).
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.field_starts.iter().copied());
        let ends = self.field_starts.iter().map(|s| s - 1).chain(std::iter::once(self.text.len()));
        starts.zip(ends).map(|(a, b)| &self.text[a..b])
    }

    pub fn has_many_fields(&self) -> bool {
        !self.field_starts.is_empty()
    }

    /// Its labels, where a source has several.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.label.iter().flat_map(|labels| labels.split(LABEL_MARK)).filter(|label| !label.is_empty())
    }

    /// Whether there is nothing but white space.
    pub fn is_empty(&self) -> bool {
        self.text.chars().all(super::is_space)
    }
}

/// What a text is read for; it decides how plain lines count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A labelled data set: a line of a plain file is a document, an empty one too; lines may begin with their labels.
    #[default]
    Dataset,
    /// Texts whose labels nobody wants: as a data set, but what a plain line begins with is a part of it.
    Texts,
    /// A language-model corpus: blank lines are no documents, and every line is one to be closed ([`Document::lines`]).
    Corpus,
}

/// What the user says about a file instead of having it recognised.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    pub role: Role,
    pub format: Option<Format>,
    pub encoding: Option<Encoding>,
    /// Names, or numbers counted from 1, of the text columns.
    pub text_columns: Vec<String>,
    /// Name, or number counted from 1, of the label column. More than one: each says with 0 or 1 whether its label is there.
    pub label_columns: Vec<String>,
    /// Whether a document may have several labels, and what stands between them in one column (nothing where it is empty).
    pub label_separator: Option<String>,
    /// What stands between the columns of a table.
    pub delimiter: Option<u8>,
    /// Whether the first row of a table names the columns.
    pub header: Option<bool>,
    /// What a quote means in a table.
    pub quotes: Option<Quotes>,
}

/// A stream of documents that can be handed to another thread.
pub type Documents = Box<dyn Iterator<Item = Result<Document>> + Send>;

#[derive(Clone, Debug)]
enum Place {
    Blob(Blob),
    Member(Container, String),
}

impl Place {
    fn open(&self) -> Result<Bytes> {
        match self {
            Place::Blob(blob) => blob.open(),
            Place::Member(container, member) => container.open(member),
        }
    }

    fn name(&self) -> String {
        match self {
            Place::Blob(blob) => blob.name(),
            Place::Member(container, member) => container.name_of(member),
        }
    }
}

/// A plan, what was recognised, and what is doubtful.
struct Planned {
    plan: Plan,
    recognised: String,
    warnings: Vec<String>,
}

impl Planned {
    fn new(plan: Plan, recognised: String) -> Self {
        Planned { plan, recognised, warnings: Vec::new() }
    }
}

#[derive(Clone, Debug)]
enum Plan {
    File {
        place: Place,
        format: Format,
        encoding: Encoding,
        layout: Layout,
    },
    /// `name.neg` and `name.pos`.
    Pair {
        neg: Place,
        pos: Place,
        encoding: Encoding,
    },
    /// Every file is a document.
    Tree {
        container: Container,
        prefix: String,
        classes: bool,
        encoding: Encoding,
    },
    /// Files of other formats side by side.
    Chain(Vec<Source>),
    /// Documents in memory.
    Texts(Arc<[Document]>),
}

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
}

impl Source {
    /// Recognises what `path` holds. A path inside a folder or archive follows `::`.
    ///
    /// # Errors
    /// The path is missing, empty, a directory without files, truncated, or holds a train set and a test set.
    pub fn open(path: impl AsRef<str>, options: &OpenOptions) -> Result<Self> {
        let name = path.as_ref();
        let (outer, member) = match name.split_once("::") {
            Some(parts) if !Path::new(name).exists() => parts,
            _ => (name, ""),
        };
        let outer = Path::new(outer);
        if let Some((neg, pos)) = pair(outer).filter(|_| member.is_empty() && options.format.is_none()) {
            let place = |path| Place::Blob(Blob::File(path));
            return Ok(Self::new(name, options, plan_pair(place(neg), place(pos), options)?));
        }
        Self::recognise(name, Blob::File(outer.to_path_buf()), member, options)
    }

    /// Recognises what bytes in memory hold: a file or an archive. `name` stands for the path: its ending counts, messages
    /// show it, and what follows `::` is a path inside the archive.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Arc<[u8]>>, options: &OpenOptions) -> Result<Self> {
        let (outer, member) = name.split_once("::").unwrap_or((name, ""));
        Self::recognise(name, Blob::Memory { name: outer.into(), bytes: bytes.into() }, member, options)
    }

    /// Documents in memory. `name` stands for the path.
    pub fn of_texts(name: &str, texts: impl Into<Arc<[Document]>>) -> Self {
        let texts = texts.into();
        let recognised = format!("{} texts", texts.len());
        Self::new(name, &OpenOptions::default(), Planned::new(Plan::Texts(texts), recognised))
    }

    fn new(name: &str, options: &OpenOptions, planned: Planned) -> Self {
        let (columns, Planned { plan, recognised, warnings }) = (Columns::of(options), planned);
        let (role, separator) = (options.role, options.label_separator.clone());
        Source { name: name.to_string(), role, columns, separator, half: None, plan, recognised, warnings }
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

    /// The sets of a tree that holds a train set and a test set, each with the name of its split (`train`, `valid`, `test`); nothing
    /// for any other path.
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

    /// The same documents, of which the first (0) or second (1) text alone is read. A document without exactly two texts is an error
    /// of reading.
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

    /// The path as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line: what was recognised.
    pub fn describe(&self) -> String {
        format!("{}: {}", self.name, self.recognised)
    }

    /// What looks as if the file were not what is meant, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Streams the documents from the beginning. After an error nothing follows.
    ///
    /// # Errors
    /// As [`Source::open`]; a table lacks a column. Faults further on come as items.
    pub fn documents(&self) -> Result<Documents> {
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
        Ok(Box::new(Checked { stream, name: self.name.clone(), seen: false, over: false }))
    }
}

/// Takes what is in the place of a label for several. A document without any has an empty list of them.
fn with_labels(mut document: Document, separator: &str) -> Document {
    let mut labels: Vec<&str> = Vec::new();
    let joined = document.label.take().unwrap_or_default();
    for part in joined.split(LABEL_MARK) {
        match separator {
            "" => labels.push(part.trim()),
            separator => labels.extend(part.split(separator).map(str::trim)),
        }
    }
    labels.retain(|label| !label.is_empty());
    labels.sort_unstable();
    labels.dedup();
    document.label = Some(labels.join(&LABEL_MARK.to_string()));
    document
}

/// One of the two texts of a document.
fn of_pair(document: Document, half: usize) -> Result<Document> {
    let fields: Vec<&str> = document.fields().collect();
    if let [first, second] = fields[..] {
        let text = [first, second][half].to_string();
        return Ok(Document { text, field_starts: Vec::new(), ..document });
    }
    let texts = if fields.len() == 1 { "1 text".to_string() } else { format!("{} texts", fields.len()) };
    let message = format!("has {texts} where a pair has 2");
    let error = match document.origin.line {
        0 => Error::file(&*document.origin.file, message),
        line => Error::line(&*document.origin.file, line, message),
    };
    Err(error.hint("name the two columns: --text-column A --text-column B"))
}

/// The files `name.neg` and `name.pos`, perhaps compressed, of which `path` is one or the common stem.
fn pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = path.to_str()?;
    let packed = [".gz", ".zst"].into_iter().find(|end| text.ends_with(end)).unwrap_or_default();
    let bare = text.strip_suffix(packed)?;
    let half = bare.strip_suffix(".pos").or_else(|| bare.strip_suffix(".neg"));
    if half.is_none() && path.exists() {
        return None;
    }
    let file = |ending: &str| {
        Some(PathBuf::from(format!("{}.{ending}{packed}", half.unwrap_or(bare)))).filter(|p| p.is_file())
    };
    Some((file("neg")?, file("pos")?))
}

/// The same among the files of a folder or archive, where these two are all.
fn pair_among(files: &[String]) -> Option<(&String, &String)> {
    let half = |ending: &str| {
        files.iter().find_map(|f| Some((f, f.trim_end_matches(".gz").trim_end_matches(".zst").strip_suffix(ending)?)))
    };
    let ((neg, a), (pos, b)) = (half(".neg")?, half(".pos")?);
    (files.len() == 2 && a == b).then_some((neg, pos))
}

fn plan_pair(neg: Place, pos: Place, options: &OpenOptions) -> Result<Planned> {
    let encoding = match options.encoding {
        Some(encoding) => encoding,
        None => detect::sample(&neg.name(), neg.open()?, None)?.encoding(Format::by_name("plain")?),
    };
    let recognised = with_encoding("two files of lines, .neg and .pos".into(), encoding);
    let warnings = [doubts::of_file(&neg, options)?, doubts::of_file(&pos, options)?].concat();
    Ok(Planned { plan: Plan::Pair { neg, pos, encoding }, recognised, warnings })
}

fn with_encoding(text: String, encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => text,
        other => format!("{text}, {}", other.name()),
    }
}

fn plan_file(place: Place, options: &OpenOptions) -> Result<Planned> {
    let name = place.name();
    let sample = detect::sample(&name, place.open()?, options.encoding)?;
    let look = Look::new(&name, &sample, &place, options);
    let (format, layout) = look.format().map_err(|e| if sample.is_html() { web_page(&name) } else { e })?;
    if sample.is_html() && format.name() == "json-lines" {
        return Err(web_page(&name));
    }
    let encoding = options.encoding.unwrap_or_else(|| sample.encoding(format));
    let recognised = with_encoding(look.describe(format, layout), encoding);
    let mut warnings = Vec::new();
    if sample.is_html() && format.name() != "wikitext" {
        warnings.push(format!("{name} is a web page (HTML): its marks are read as text"));
    }
    warnings.extend(doubts::of_file(&place, options)?);
    Ok(Planned { plan: Plan::File { place, format, encoding, layout }, recognised, warnings })
}

fn web_page(name: &str) -> Error {
    Error::file(name, "is a web page (HTML), not data").hint("was an error page saved in place of the data?")
}

/// Files side by side up to this number are looked at one by one.
const FEW: usize = 64;

fn plan_tree(container: Container, member: &str, options: &OpenOptions) -> Result<Planned> {
    let encoding = options.encoding.unwrap_or(Encoding::Utf8);
    match tree::shape(&container, member)? {
        Shape::Member(path) => {
            let text = if member.is_empty() {
                format!("{} in it: ", shorten(std::slice::from_ref(&path)))
            } else {
                String::new()
            };
            let planned = plan_file(Place::Member(container, path), options)?;
            Ok(Planned { recognised: text + &planned.recognised, ..planned })
        }
        Shape::Classes { prefix, classes, unlabelled } => {
            let mut text = match classes.len() {
                0 => "folder of texts".to_string(),
                n => format!("one folder per class ({n}: {})", shorten(&classes)),
            };
            if unlabelled {
                text.push_str(", unsup/ unlabelled");
            }
            let warnings = doubts::of_tree(&container, &prefix, options)?;
            let plan = Plan::Tree { container, prefix, classes: true, encoding };
            Ok(Planned { plan, recognised: with_encoding(text, encoding), warnings })
        }
        Shape::Files { prefix, files } => plan_files(container, prefix, &files, options),
    }
}

/// Files side by side: `.neg` and `.pos`; texts, one a file; or files of another format, one after the other.
fn plan_files(container: Container, prefix: String, files: &[String], options: &OpenOptions) -> Result<Planned> {
    let place = |f: &String| match &container {
        Container::Folder(root) => Place::Blob(Blob::File(root.join(format!("{prefix}{f}")))),
        _ => Place::Member(container.clone(), format!("{prefix}{f}")),
    };
    if let Some((neg, pos)) = pair_among(files).filter(|_| options.format.is_none()) {
        return plan_pair(place(neg), place(pos), options);
    }
    let open = |f: &String| Ok(Source::new(&place(f).name(), options, plan_file(place(f), options)?));
    let is_plain = |source: &Source| matches!(source.plan, Plan::File { format, .. } if format.name() == "plain");
    // of many files the first stands for all; one that is unreadable is named when it is read as a text
    let looked_at = if options.format.is_none() && files.len() > FEW { 1 } else { files.len() };
    let opened: Vec<Result<Source>> = files[..looked_at].iter().map(open).collect();
    if options.format.is_none() && opened.iter().all(|s| s.as_ref().map_or(true, is_plain)) {
        let encoding = options.encoding.unwrap_or(Encoding::Utf8);
        let text = format!("folder of {} texts, one document a file", files.len());
        let warnings = doubts::of_tree(&container, &prefix, options)?;
        let plan = Plan::Tree { container, prefix, classes: false, encoding };
        return Ok(Planned { plan, recognised: with_encoding(text, encoding), warnings });
    }
    let sources = opened.into_iter().chain(files[looked_at..].iter().map(open)).collect::<Result<Vec<_>>>()?;
    if options.format.is_none()
        && let Some(text) = sources.iter().find(|s| is_plain(s))
        && let Some(other) = sources.iter().find(|s| !is_plain(s))
    {
        let message = format!("holds files of several kinds: '{}' and '{}'", text.recognised, other.recognised);
        return Err(Error::file(container.name(), message).hint(format!("give one of them: {}", other.name)));
    }
    let text = format!("folder of {} files, the first: {}", sources.len(), sources[0].recognised);
    let warnings = sources.iter().flat_map(|source| source.warnings.clone()).collect();
    Ok(Planned { plan: Plan::Chain(sources), recognised: text, warnings })
}

fn shorten(names: &[String]) -> String {
    bytes::printable(&match names {
        [first, second, .., last] if names.len() > 6 => format!("{first}, {second}, …, {last}"),
        _ => names.join(", "),
    })
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
        if nothing { Some(Err(Error::file(&self.name, "holds no document"))) } else { item }
    }
}
