//! The token store: ids, document borders, labels; a file that is checked by blocks, or memory.
//!
//! The ids of a file are read where they lie, at every use; the rest is in memory. A file that is
//! shortened or changed while it is in use is an error of the read that finds it.
//!
//! `store/format.rs` has the layout of the file, `store/writer.rs` makes it.

mod format;
mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use self::format::{BLOCK, HEADER, Header, MAGIC, NO_LABEL, VERSION, VERSION_OF_WORDS, digest8};
pub use self::writer::{Storage, StoreWriter};
use super::Vocabulary;
use crate::error::{Error, Result};
use crate::files;

/// The place of a token in its word, in documents whose words were given.
pub mod mark {
    /// A token of no word, or neither its first token nor its last.
    pub const NONE: u8 = 0;
    /// The first token of a word.
    pub const BEGINS: u8 = 1;
    /// The last token of a word.
    pub const ENDS: u8 = 2;
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
        Self::of_file(files::open(path)?, path)
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

    /// The path of the file; for a store without a file the name of its text.
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

    /// Bytes of the original text (UTF-8), the divisor of bits per byte.
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
    /// [`Error::Data`] unless there are documents of two classes at least, which a classifier needs
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

/// The fault of a block.
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
