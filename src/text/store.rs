//! The token store: ids, document borders, labels; a file that is checked by blocks, or memory.
//!
//! The ids of a file are read where they lie, at every use; the rest is in memory. A file that is
//! shortened or changed while it is in use is an error of the read that finds it.
//!
//! Layout, little-endian: a header of 256 bytes; then the sections ids (u16 or u32), document
//! offsets (u64, one more than documents), bytes of each document's text (u32), labels (u32,
//! [`NO_LABEL`] for none; absent when nothing is labelled), label names (JSON), in version 2 a
//! [`mark`] for every token (a byte), each starting at a multiple of 8; then the checksums: the
//! first 8 bytes of the SHA-256 of every MiB of the sections. The header holds the checksum of the
//! checksums and of itself.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Vocabulary;
use crate::error::{Error, Result};
use crate::files::{self, Patient, sha256};
use crate::temporary::unnamed_file;

const MAGIC: &[u8; 8] = b"ULMFTOK\n";
const VERSION: u64 = 1;
/// Of a file that knows of words within its documents.
const VERSION_OF_WORDS: u64 = 2;
const HEADER: usize = 256;
const BLOCK: usize = 1 << 20;
/// Label of a document that has none.
const NO_LABEL: u32 = u32::MAX;

/// Fields of the header after the magic, in order, eight bytes each.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Header {
    version: u64,
    id_bytes: u64,
    tokens: u64,
    documents: u64,
    /// White-space separated words and bytes of the original text.
    words: u64,
    text_bytes: u64,
    has_labels: u64,
    label_name_bytes: u64,
    vocabulary_size: u64,
    vocabulary_hash: [u8; 32],
    checksums: [u8; 8],
    /// Whether every token has a mark.
    has_words: u64,
}

/// What a token is to the words of a document whose words were given.
pub mod mark {
    /// Of no word, or neither its first token nor its last.
    pub const NONE: u8 = 0;
    /// The first token of a word.
    pub const BEGINS: u8 = 1;
    /// The last token of a word.
    pub const ENDS: u8 = 2;
}

fn digest8(bytes: &[u8]) -> [u8; 8] {
    let full = sha256(bytes);
    std::array::from_fn(|i| full[i])
}

fn padded(n: u64) -> u64 {
    n.next_multiple_of(8)
}

impl Header {
    fn section_lengths(&self) -> Option<[u64; 6]> {
        let documents = self.documents;
        Some([
            self.tokens.checked_mul(self.id_bytes)?,
            documents.checked_add(1)?.checked_mul(8)?,
            documents.checked_mul(4)?,
            if self.has_labels == 1 { documents.checked_mul(4)? } else { 0 },
            self.label_name_bytes,
            if self.has_words == 1 { self.tokens } else { 0 },
        ])
    }

    /// Where each section begins, and where the checksums begin.
    fn section_starts(&self) -> Option<[u64; 7]> {
        let mut starts = [HEADER as u64; 7];
        for (i, length) in self.section_lengths()?.into_iter().enumerate() {
            starts[i + 1] = starts[i].checked_add(length)?.checked_next_multiple_of(8)?;
        }
        Some(starts)
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        let fields = bytemuck::bytes_of(&self);
        bytes[8..8 + fields.len()].copy_from_slice(fields);
        let own = digest8(&bytes[..HEADER - 8]);
        bytes[HEADER - 8..].copy_from_slice(&own);
        bytes
    }
}

/// Where a token store is kept.
#[derive(Clone, Copy, Debug)]
pub enum Storage<'a> {
    /// A file of that name; it appears when it is whole.
    File(&'a Path),
    /// A file without a name among the system's temporary files: it is gone with the store, however
    /// the program ends.
    Temporary,
    /// Two or four bytes a token.
    Memory,
}

impl<'a> From<&'a PathBuf> for Storage<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Storage::File(path)
    }
}

/// Writes a token store document by document.
pub struct StoreWriter {
    path: PathBuf,
    output: Output,
    header: Header,
    offsets: Vec<u64>,
    text_bytes: Vec<u32>,
    labels: Vec<u32>,
    /// Empty while no document has words of its own.
    marks: Vec<u8>,
}

enum Output {
    File(FileOutput),
    /// The ids alone.
    Memory(Vec<u8>),
}

/// A file on its way.
struct FileOutput {
    file: BufWriter<Patient>,
    /// Its name until it is whole, where it is to have one.
    beside: Option<PathBuf>,
    block: Vec<u8>,
    checksums: Vec<u8>,
}

impl FileOutput {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = rest.len().min(BLOCK - self.block.len());
            self.block.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if self.block.len() == BLOCK {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    fn flush_block(&mut self) -> std::io::Result<()> {
        self.checksums.extend_from_slice(&digest8(&self.block));
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// A section after the ids, at a multiple of 8.
    fn section(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, written: u64) -> std::io::Result<()> {
        self.put(&[0; 8][..(padded(written) - written) as usize])
    }

    fn end(&mut self, header: &mut Header) -> std::io::Result<()> {
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        header.checksums = digest8(&self.checksums);
        self.file.write_all(&self.checksums)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header.to_bytes())?;
        self.file.flush()
    }
}

impl Drop for FileOutput {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // an unfinished file is of no use; if it cannot be removed there is nothing better to
            // do
            let _ = std::fs::remove_file(beside);
        }
    }
}

impl StoreWriter {
    /// A token file; it appears under its name only when it is whole.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be created.
    pub fn create(path: &Path, vocabulary: &Vocabulary) -> Result<Self> {
        Self::to(Storage::File(path), path, vocabulary)
    }

    /// As `storage` says; `name` is that of the text, for messages.
    ///
    /// # Errors
    /// [`Error::File`] when a file cannot be created.
    pub fn to(storage: Storage, name: &Path, vocabulary: &Vocabulary) -> Result<Self> {
        if cfg!(target_endian = "big") {
            return Err(Error::data("token files are little-endian; this machine is not"));
        }
        let file = |file: File, beside: Option<PathBuf>| -> Result<Output> {
            let mut output = FileOutput {
                file: BufWriter::new(Patient(file)),
                beside,
                block: Vec::with_capacity(BLOCK),
                checksums: Vec::new(),
            };
            output.file.write_all(&[0; HEADER]).map_err(|e| Error::io(name, "write", &e))?;
            Ok(Output::File(output))
        };
        let (path, output) = match storage {
            Storage::Memory => (name.to_path_buf(), Output::Memory(Vec::new())),
            Storage::Temporary => (name.to_path_buf(), file(unnamed_file()?, None)?),
            Storage::File(path) => {
                let beside = files::beside(path);
                let new = || File::options().read(true).write(true).create(true).truncate(true).open(&beside);
                let created = files::patiently(new);
                (path.to_path_buf(), file(created.map_err(|e| Error::io(path, "create", &e))?, Some(beside))?)
            }
        };
        let size = vocabulary.len() as u64;
        let id_bytes = if size <= 1 << 16 { 2 } else { 4 };
        let hash = vocabulary.hash();
        let header =
            Header { version: VERSION, id_bytes, vocabulary_size: size, vocabulary_hash: hash, ..Header::default() };
        let (text_bytes, labels, marks) = (Vec::new(), Vec::new(), Vec::new());
        Ok(StoreWriter { path, output, header, offsets: vec![0], text_bytes, labels, marks })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.output {
            Output::Memory(ids) => ids.extend_from_slice(bytes),
            Output::File(file) => file.put(bytes).map_err(|e| Error::io(&self.path, "write", &e))?,
        }
        Ok(())
    }

    /// Appends a document: its ids, its label (an index into the names given to
    /// [`StoreWriter::finish`]), and the words and bytes of its text.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written.
    pub fn push(&mut self, ids: &[u32], label: Option<u32>, words: u64, text_bytes: usize) -> Result<()> {
        debug_assert!(ids.iter().all(|&id| u64::from(id) < self.header.vocabulary_size));
        if self.header.id_bytes == 2 {
            let mut narrow = [0u16; 1024];
            for run in ids.chunks(narrow.len()) {
                narrow.iter_mut().zip(run).for_each(|(n, &id)| *n = id as u16);
                self.put(bytemuck::cast_slice(&narrow[..run.len()]))?;
            }
        } else {
            self.put(bytemuck::cast_slice(ids))?;
        }
        self.header.tokens += ids.len() as u64;
        self.header.documents += 1;
        self.header.words += words;
        self.header.text_bytes += text_bytes as u64;
        self.offsets.push(self.header.tokens);
        self.text_bytes.push(text_bytes as u32);
        self.labels.push(label.unwrap_or(NO_LABEL));
        Ok(())
    }

    /// Of the document that was appended last: a [`mark`] for each of its tokens.
    pub fn mark(&mut self, marks: &[u8]) {
        if !marks.is_empty() {
            self.marks.resize(self.header.tokens as usize - marks.len(), mark::NONE);
            self.marks.extend_from_slice(marks);
        }
    }

    /// Completes the store and opens it. `order` gives each label index its final index into
    /// `names`.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written; [`Error::Data`] when no document was
    /// pushed.
    pub fn finish(mut self, names: &[String], order: &[u32]) -> Result<TokenStore> {
        if self.header.documents == 0 {
            return Err(Error::data("the text holds no document that is not empty"));
        }
        if self.labels.iter().any(|&l| l != NO_LABEL) {
            self.header.has_labels = 1;
            self.labels.iter_mut().filter(|l| **l != NO_LABEL).for_each(|l| *l = order[*l as usize]);
        } else {
            self.labels.clear();
        }
        if !self.marks.is_empty() {
            (self.header.has_words, self.header.version) = (1, VERSION_OF_WORDS);
            self.marks.resize(self.header.tokens as usize, mark::NONE);
        }
        let StoreWriter { path, output, mut header, offsets, text_bytes, labels, marks } = self;
        let file = match output {
            Output::Memory(ids) => {
                let (ids, label_names) = (Ids::Memory(ids), names.to_vec());
                return Ok(TokenStore { path, ids, header, offsets, text_bytes, labels, label_names, marks });
            }
            Output::File(file) => file,
        };
        let mut file = file;
        let names = serde_json::to_vec(names).expect("strings always serialise");
        header.label_name_bytes = names.len() as u64;
        let mut write = || -> std::io::Result<File> {
            file.pad(header.tokens * header.id_bytes)?;
            file.section(bytemuck::cast_slice(&offsets))?;
            file.section(bytemuck::cast_slice(&text_bytes))?;
            file.section(bytemuck::cast_slice(&labels))?;
            file.section(&names)?;
            file.section(&marks)?;
            file.end(&mut header)?;
            if let Some(beside) = &file.beside {
                files::place(file.file.get_ref(), beside, &path)?;
                file.beside = None;
            }
            file.file.get_ref().try_clone()
        };
        let whole = write().map_err(|e| Error::io(&path, "write", &e))?;
        TokenStore::of_file(whole, &path)
    }
}

/// The ids of a store.
enum Ids {
    File(File),
    Memory(Vec<u8>),
}

/// Documents as ids. Opening a file verifies every block of it.
pub struct TokenStore {
    path: PathBuf,
    ids: Ids,
    header: Header,
    offsets: Vec<u64>,
    text_bytes: Vec<u32>,
    /// Empty where no document has one.
    labels: Vec<u32>,
    label_names: Vec<String>,
    /// Empty where no document has words of its own.
    marks: Vec<u8>,
}

impl TokenStore {
    /// # Errors
    /// [`Error::File`] when the file is missing, not a token file, truncated, or a block was
    /// altered.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_file(File::open(path).map_err(|e| Error::io(path, "open", &e))?, path)
    }

    fn of_file(file: File, path: &Path) -> Result<Self> {
        let fail =
            |message: String| Error::file(path, message).hint("make the token file again with 'ulmfit tokenize'");
        let fault = |e: std::io::Error| Error::io(path, "read", &e);
        let length = file.metadata().map_err(fault)?.len();
        if length < HEADER as u64 {
            return Err(fail("is not a token file: it is shorter than a header".into()));
        }
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(fault)?;
        if &head[..8] != MAGIC {
            return Err(fail("is not a token file".into()));
        }
        if head[HEADER - 8..] != digest8(&head[..HEADER - 8]) {
            return Err(fail("is damaged: its header was altered".into()));
        }
        let header: Header = bytemuck::pod_read_unaligned(&head[8..8 + size_of::<Header>()]);
        let version = if header.has_words == 1 { VERSION_OF_WORDS } else { VERSION };
        if header.version != version {
            return Err(fail(format!("is a token file of version {}, this program reads {version}", header.version)));
        }
        let starts = header
            .section_starts()
            .filter(|_| matches!(header.id_bytes, 2 | 4) && header.documents > 0)
            .ok_or_else(|| fail("is damaged: its header states impossible sizes".into()))?;
        let data = (starts[6] - HEADER as u64) as usize;
        let blocks = data.div_ceil(BLOCK);
        let expected = starts[6].saturating_add(blocks as u64 * 8);
        if length != expected {
            let block = (length as usize - HEADER) / BLOCK;
            return Err(fail(format!(
                "is truncated or extended: {length} bytes where {expected} are expected (it ends in block {block} of {blocks})",
            )));
        }
        let checksums: Vec<u8> = section(&file, starts[6], blocks * 8).map_err(fault)?;
        if digest8(&checksums) != header.checksums {
            return Err(fail("is damaged: its table of checksums was altered".into()));
        }
        match check_blocks(&file, &header, data, &checksums).map_err(fault)? {
            Some((block, Fault::Altered)) => {
                return Err(fail(format!("is damaged: block {block} of {blocks} was altered")));
            }
            Some((block, Fault::Id)) => {
                let message = format!("is damaged: block {block} of {blocks} holds an id outside the vocabulary");
                return Err(fail(message));
            }
            None => {}
        }
        let documents = header.documents as usize;
        let labelled = if header.has_labels == 1 { documents } else { 0 };
        let marked = if header.has_words == 1 { header.tokens as usize } else { 0 };
        let names: Vec<u8> = section(&file, starts[4], header.label_name_bytes as usize).map_err(fault)?;
        let store = TokenStore {
            path: path.to_path_buf(),
            header,
            offsets: section(&file, starts[1], documents + 1).map_err(fault)?,
            text_bytes: section(&file, starts[2], documents).map_err(fault)?,
            labels: section(&file, starts[3], labelled).map_err(fault)?,
            label_names: serde_json::from_slice(&names)
                .map_err(|_| fail("is damaged: its label names cannot be read".into()))?,
            marks: section(&file, starts[5], marked).map_err(fault)?,
            ids: Ids::File(file),
        };
        store.check_contents().map_err(|m| fail(format!("is damaged: {m}")))?;
        Ok(store)
    }

    /// A file with right checksums may still have been made by a hostile hand: nothing read later
    /// may go out of bounds.
    fn check_contents(&self) -> Result<(), &'static str> {
        let rising = self.offsets.par_windows(2).all(|w| w[0] <= w[1]);
        if self.offsets[0] != 0 || self.offsets.last() != Some(&self.header.tokens) || !rising {
            return Err("its document offsets do not rise from zero to the number of tokens");
        }
        let classes = self.label_names.len() as u32;
        if self.labels.iter().any(|&l| l != NO_LABEL && l >= classes) {
            return Err("it holds a label outside the label names");
        }
        Ok(())
    }

    /// That of the file; for a store without one the name of its text.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.header.documents as usize
    }

    /// Number of tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// White-space separated words of the original text.
    pub fn words(&self) -> u64 {
        self.header.words
    }

    /// Bytes of the original text (UTF-8): what bits per byte divide by.
    pub fn text_bytes(&self) -> u64 {
        self.header.text_bytes
    }

    /// Bytes of one document's text.
    pub fn document_text_bytes(&self, document: usize) -> u64 {
        u64::from(self.text_bytes[document])
    }

    /// Hash of the vocabulary the ids belong to.
    pub fn vocabulary_hash(&self) -> [u8; 32] {
        self.header.vocabulary_hash
    }

    /// # Errors
    /// [`Error::File`] when the ids belong to another vocabulary.
    pub fn check_vocabulary(&self, vocabulary: &Vocabulary) -> Result<()> {
        if self.header.vocabulary_hash == vocabulary.hash() {
            return Ok(());
        }
        Err(Error::file(&self.path, "was made with another vocabulary")
            .hint("tokenize the text again with this vocabulary"))
    }

    /// # Errors
    /// [`Error::Data`] unless there are documents of two classes at least: what a classifier needs
    /// to be trained.
    pub fn check_classes(&self) -> Result<()> {
        let mut seen: Vec<u32> = self.labels.iter().copied().filter(|&l| l != NO_LABEL).collect();
        seen.sort_unstable();
        seen.dedup();
        let problem = match seen.as_slice() {
            [] => "no document has a label".to_string(),
            [only] => format!("all documents have the class '{}'", self.label_names[*only as usize]),
            _ => return Ok(()),
        };
        Err(Error::data(format!("a classifier needs two classes or more, but {problem}"))
            .hint("check --label-column and --format"))
    }

    /// Positions of a document's tokens in the store.
    pub fn document(&self, index: usize) -> Range<u64> {
        self.offsets[index]..self.offsets[index + 1]
    }

    /// Number of tokens of a document.
    pub fn document_len(&self, index: usize) -> usize {
        let range = self.document(index);
        (range.end - range.start) as usize
    }

    /// Whether documents have words of their own.
    pub fn has_words(&self) -> bool {
        !self.marks.is_empty()
    }

    /// First and last token of every word of a document, counted from its first token; none where
    /// its words were not given.
    pub fn document_words(&self, document: usize) -> Vec<[u32; 2]> {
        let range = self.document(document);
        let marks = self.marks.get(range.start as usize..range.end as usize).unwrap_or_default();
        let (mut words, mut first) = (Vec::new(), 0);
        for (at, of) in marks.iter().enumerate() {
            if of & mark::BEGINS > 0 {
                first = at as u32;
            }
            if of & mark::ENDS > 0 {
                words.push([first, at as u32]);
            }
        }
        words
    }

    /// Class of a document, an index into [`TokenStore::label_names`].
    pub fn label(&self, document: usize) -> Option<u32> {
        self.labels.get(document).copied().filter(|&l| l != NO_LABEL)
    }

    /// Names of the classes, sorted.
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Copies the ids from position `start` on into `out`.
    ///
    /// # Errors
    /// [`Error::File`] when the file was shortened or changed since it was opened.
    ///
    /// # Panics
    /// If the store of a memory has no such position.
    pub fn read(&self, start: u64, out: &mut [u32]) -> Result<()> {
        let (n, width) = (out.len(), self.header.id_bytes as usize);
        let at = start as usize * width;
        match &self.ids {
            Ids::Memory(bytes) if width == 2 => {
                let pairs = bytes[at..at + 2 * n].chunks_exact(2);
                out.iter_mut().zip(pairs).for_each(|(o, b)| *o = u32::from(u16::from_le_bytes([b[0], b[1]])));
            }
            Ids::Memory(bytes) => bytemuck::cast_slice_mut(out).copy_from_slice(&bytes[at..at + 4 * n]),
            Ids::File(file) => {
                // two bytes an id are read into the second half, and widened from the front
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
                let half = (4 - width) * n;
                file.read_exact_at(&mut bytes[half..], (HEADER + at) as u64).map_err(|e| self.changed(&e))?;
                if width == 2 {
                    for i in 0..n {
                        let id = [bytes[half + 2 * i], bytes[half + 2 * i + 1], 0, 0];
                        bytes[4 * i..4 * i + 4].copy_from_slice(&id);
                    }
                }
                if out.iter().any(|&id| u64::from(id) >= self.header.vocabulary_size) {
                    return Err(Error::file(&self.path, "was changed while it was in use"));
                }
            }
        }
        Ok(())
    }

    fn changed(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => Error::file(&self.path, "was shortened while it was in use"),
            _ => Error::io(&self.path, "read", error),
        }
    }

    /// The ids of one document.
    ///
    /// # Errors
    /// As [`TokenStore::read`].
    pub fn document_ids(&self, index: usize) -> Result<Vec<u32>> {
        let range = self.document(index);
        let mut ids = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut ids)?;
        Ok(ids)
    }
}

/// So many numbers of a file from that byte on.
fn section<T: bytemuck::Pod>(file: &File, start: u64, count: usize) -> std::io::Result<Vec<T>> {
    let mut values = vec![T::zeroed(); count];
    file.read_exact_at(bytemuck::cast_slice_mut(&mut values), start)?;
    Ok(values)
}

/// What is wrong with a block.
enum Fault {
    Altered,
    Id,
}

/// Verifies all blocks; the first bad one. So many blocks are in memory at a time as there are
/// threads.
fn check_blocks(
    file: &File,
    header: &Header,
    data: usize,
    checksums: &[u8],
) -> std::io::Result<Option<(usize, Fault)>> {
    let id_bytes = (header.tokens * header.id_bytes) as usize;
    let size = header.vocabulary_size;
    let in_range = |ids: &[u8]| match header.id_bytes {
        2 => size > 0xffff || bytemuck::cast_slice(ids).iter().all(|&id: &u16| u64::from(id) < size),
        _ => bytemuck::cast_slice(ids).iter().all(|&id: &u32| u64::from(id) < size),
    };
    let at_once = BLOCK * rayon::current_num_threads().max(1);
    let mut buffer = vec![0u64; at_once.min(data).div_ceil(8)];
    for start in (0..data).step_by(at_once) {
        let bytes = &mut bytemuck::cast_slice_mut(&mut buffer)[..at_once.min(data - start)];
        file.read_exact_at(bytes, (HEADER + start) as u64)?;
        let check = |(i, block): (usize, &[u8])| {
            let (number, begin) = (start / BLOCK + i, start + i * BLOCK);
            if digest8(block) != checksums[number * 8..number * 8 + 8] {
                Some((number, Fault::Altered))
            } else if !in_range(&block[..id_bytes.saturating_sub(begin).min(block.len())]) {
                Some((number, Fault::Id))
            } else {
                None
            }
        };
        if let Some(bad) = bytes.par_chunks(BLOCK).enumerate().find_map_first(check) {
            return Ok(Some(bad));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(super) mod tests;
