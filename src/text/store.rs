//! The token file: ids, document borders, labels; memory-mapped, checked by blocks.
//!
//! Layout, little-endian: a header of 256 bytes; then the sections ids (u16 or u32), document offsets (u64, one more than
//! documents), bytes of each document's text (u32), labels (u32, [`NO_LABEL`] for none; absent when nothing is labelled), label
//! names (JSON), each starting at a multiple of 8; then the checksums: the first 8 bytes of the SHA-256 of every MiB of the
//! sections. The header holds the checksum of the checksums and of itself.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Vocabulary;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"ULMFTOK\n";
const VERSION: u64 = 1;
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
}

fn digest8(bytes: &[u8]) -> [u8; 8] {
    let full: [u8; 32] = Sha256::digest(bytes).into();
    std::array::from_fn(|i| full[i])
}

fn padded(n: u64) -> u64 {
    n.next_multiple_of(8)
}

impl Header {
    fn section_lengths(&self) -> Option<[u64; 5]> {
        let documents = self.documents;
        Some([
            self.tokens.checked_mul(self.id_bytes)?,
            documents.checked_add(1)?.checked_mul(8)?,
            documents.checked_mul(4)?,
            if self.has_labels == 1 { documents.checked_mul(4)? } else { 0 },
            self.label_name_bytes,
        ])
    }

    /// Where each section begins, and where the checksums begin.
    fn section_starts(&self) -> Option<[u64; 6]> {
        let mut starts = [HEADER as u64; 6];
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

/// Writes a token file document by document; the file appears under its name only when it is whole.
pub struct StoreWriter {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
    header: Header,
    offsets: Vec<u64>,
    text_bytes: Vec<u32>,
    labels: Vec<u32>,
    block: Vec<u8>,
    checksums: Vec<u8>,
    done: bool,
}

impl StoreWriter {
    /// # Errors
    /// [`Error::File`] when the file cannot be created.
    pub fn create(path: &Path, vocabulary: &Vocabulary) -> Result<Self> {
        if cfg!(target_endian = "big") {
            return Err(Error::data("token files are little-endian; this machine is not"));
        }
        let mut beside = path.as_os_str().to_os_string();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let mut file = BufWriter::new(File::create(&beside).map_err(|e| Error::io(path, "create", &e))?);
        file.write_all(&[0; HEADER]).map_err(|e| Error::io(path, "write", &e))?;
        let size = vocabulary.len() as u64;
        let id_bytes = if size <= 1 << 16 { 2 } else { 4 };
        let hash = vocabulary.hash();
        let header =
            Header { version: VERSION, id_bytes, vocabulary_size: size, vocabulary_hash: hash, ..Header::default() };
        Ok(StoreWriter {
            path: path.to_path_buf(),
            beside,
            file,
            header,
            offsets: vec![0],
            text_bytes: Vec::new(),
            labels: Vec::new(),
            block: Vec::with_capacity(BLOCK),
            checksums: Vec::new(),
            done: false,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
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

    fn flush_block(&mut self) -> Result<()> {
        self.checksums.extend_from_slice(&digest8(&self.block));
        self.file.write_all(&self.block).map_err(|e| Error::io(&self.path, "write", &e))?;
        self.block.clear();
        Ok(())
    }

    fn pad(&mut self, written: u64) -> Result<()> {
        let n = padded(written) - written;
        self.put(&[0; 8][..n as usize])
    }

    /// Appends a document: its ids, its label (an index into the names given to [`StoreWriter::finish`]), and the words and
    /// bytes of its text.
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

    /// Completes the file and opens it. `order` gives each label index its final index into `names`.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written; [`Error::Data`] when no document was pushed.
    pub fn finish(mut self, names: &[String], order: &[u32]) -> Result<TokenStore> {
        if self.header.documents == 0 {
            return Err(Error::data("the text holds no document that is not empty"));
        }
        self.pad(self.header.tokens * self.header.id_bytes)?;
        let offsets = std::mem::take(&mut self.offsets);
        self.put(bytemuck::cast_slice(&offsets))?;
        let sizes = std::mem::take(&mut self.text_bytes);
        self.put(bytemuck::cast_slice(&sizes))?;
        self.pad(sizes.len() as u64 * 4)?;
        let mut labels = std::mem::take(&mut self.labels);
        if labels.iter().any(|&l| l != NO_LABEL) {
            self.header.has_labels = 1;
            labels.iter_mut().filter(|l| **l != NO_LABEL).for_each(|l| *l = order[*l as usize]);
            self.put(bytemuck::cast_slice(&labels))?;
            self.pad(labels.len() as u64 * 4)?;
        }
        let names = serde_json::to_vec(names).expect("strings always serialise");
        self.header.label_name_bytes = names.len() as u64;
        self.put(&names)?;
        self.pad(names.len() as u64)?;
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        self.header.checksums = digest8(&self.checksums);
        let header = self.header.to_bytes();
        let write = |file: &mut BufWriter<File>, checksums: &[u8]| -> std::io::Result<()> {
            file.write_all(checksums)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.flush()?;
            file.get_ref().sync_all()
        };
        write(&mut self.file, &self.checksums)
            .and_then(|()| std::fs::rename(&self.beside, &self.path))
            .map_err(|e| Error::io(&self.path, "write", &e))?;
        self.done = true;
        TokenStore::open(&self.path)
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        if !self.done {
            // an unfinished file is of no use; if it cannot be removed there is nothing better to do
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

/// A memory-mapped token file. Opening it verifies every block.
pub struct TokenStore {
    path: PathBuf,
    map: memmap2::Mmap,
    header: Header,
    starts: [u64; 6],
    label_names: Vec<String>,
}

impl TokenStore {
    /// # Errors
    /// [`Error::File`] when the file is missing, not a token file, truncated, or a block was altered.
    pub fn open(path: &Path) -> Result<Self> {
        let fail =
            |message: String| Error::file(path, message).hint("make the token file again with 'ulmfit tokenize'");
        let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
        if file.metadata().map_err(|e| Error::io(path, "open", &e))?.len() < HEADER as u64 {
            return Err(fail("is not a token file: it is shorter than a header".into()));
        }
        // SAFETY: the map is read-only and private to this value. A file that another process shortens or changes while it is
        // mapped could fault or change under us; token files are written beside and renamed, never changed in place.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, "map", &e))?;
        if &map[..8] != MAGIC {
            return Err(fail("is not a token file".into()));
        }
        if map[HEADER - 8..HEADER] != digest8(&map[..HEADER - 8]) {
            return Err(fail("is damaged: its header was altered".into()));
        }
        let header: Header = bytemuck::pod_read_unaligned(&map[8..8 + size_of::<Header>()]);
        if header.version != VERSION {
            return Err(fail(format!("is a token file of version {}, this program reads {VERSION}", header.version)));
        }
        let starts = header
            .section_starts()
            .filter(|_| matches!(header.id_bytes, 2 | 4) && header.documents > 0)
            .ok_or_else(|| fail("is damaged: its header states impossible sizes".into()))?;
        let data = (starts[5] - HEADER as u64) as usize;
        let blocks = data.div_ceil(BLOCK);
        let expected = starts[5].saturating_add(blocks as u64 * 8);
        if map.len() as u64 != expected {
            let block = (map.len() - HEADER) / BLOCK;
            return Err(fail(format!(
                "is truncated or extended: {} bytes where {expected} are expected (it ends in block {block} of {blocks})",
                map.len()
            )));
        }
        let checksums = &map[HEADER + data..];
        if digest8(checksums) != header.checksums {
            return Err(fail("is damaged: its table of checksums was altered".into()));
        }
        match check_blocks(&file, &header, data, checksums).map_err(|e| Error::io(path, "read", &e))? {
            Some((block, Fault::Altered)) => {
                return Err(fail(format!("is damaged: block {block} of {blocks} was altered")));
            }
            Some((block, Fault::Id)) => {
                let message = format!("is damaged: block {block} of {blocks} holds an id outside the vocabulary");
                return Err(fail(message));
            }
            None => {}
        }
        let names = starts[4] as usize..(starts[4] + header.label_name_bytes) as usize;
        let label_names = serde_json::from_slice(&map[names])
            .map_err(|_| fail("is damaged: its label names cannot be read".into()))?;
        let store = TokenStore { path: path.to_path_buf(), map, header, starts, label_names };
        store.check_contents().map_err(|m| fail(format!("is damaged: {m}")))?;
        Ok(store)
    }

    /// A file with right checksums may still have been made by a hostile hand: nothing read later may go out of bounds.
    fn check_contents(&self) -> Result<(), &'static str> {
        let offsets = self.offsets();
        let rising = offsets.par_windows(2).all(|w| w[0] <= w[1]);
        if offsets[0] != 0 || offsets.last() != Some(&self.header.tokens) || !rising {
            return Err("its document offsets do not rise from zero to the number of tokens");
        }
        let classes = self.label_names.len() as u32;
        if self.label_ids().iter().any(|&l| l != NO_LABEL && l >= classes) {
            return Err("it holds a label outside the label names");
        }
        Ok(())
    }

    fn section(&self, index: usize, length: u64) -> &[u8] {
        let start = self.starts[index] as usize;
        &self.map[start..start + length as usize]
    }

    fn ids(&self) -> Ids<'_> {
        let bytes = self.section(0, self.header.tokens * self.header.id_bytes);
        if self.header.id_bytes == 2 {
            Ids::Narrow(bytemuck::cast_slice(bytes))
        } else {
            Ids::Wide(bytemuck::cast_slice(bytes))
        }
    }

    fn offsets(&self) -> &[u64] {
        bytemuck::cast_slice(self.section(1, (self.header.documents + 1) * 8))
    }

    fn label_ids(&self) -> &[u32] {
        bytemuck::cast_slice(self.section(3, if self.header.has_labels == 1 { self.header.documents * 4 } else { 0 }))
    }

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
        let sizes: &[u32] = bytemuck::cast_slice(self.section(2, self.header.documents * 4));
        u64::from(sizes[document])
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

    /// Hash of everything in the file, in hexadecimal: two stores with the same hash hold the same data.
    pub fn content_hash(&self) -> String {
        digest8(&self.map[..HEADER]).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// # Errors
    /// [`Error::Data`] unless there are documents of two classes at least: what a classifier needs to be trained.
    pub fn check_classes(&self) -> Result<()> {
        let mut seen: Vec<u32> = self.label_ids().iter().copied().filter(|&l| l != NO_LABEL).collect();
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
        let offsets = self.offsets();
        offsets[index]..offsets[index + 1]
    }

    /// Number of tokens of a document.
    pub fn document_len(&self, index: usize) -> usize {
        let range = self.document(index);
        (range.end - range.start) as usize
    }

    /// Class of a document, an index into [`TokenStore::label_names`].
    pub fn label(&self, document: usize) -> Option<u32> {
        self.label_ids().get(document).copied().filter(|&l| l != NO_LABEL)
    }

    /// Names of the classes, sorted.
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Copies the ids from position `start` on into `out`.
    pub fn read(&self, start: u64, out: &mut [u32]) {
        let range = start as usize..start as usize + out.len();
        match self.ids() {
            Ids::Narrow(ids) => out.iter_mut().zip(&ids[range]).for_each(|(o, &id)| *o = u32::from(id)),
            Ids::Wide(ids) => out.copy_from_slice(&ids[range]),
        }
    }

    /// The ids of one document.
    pub fn document_ids(&self, index: usize) -> Vec<u32> {
        let range = self.document(index);
        let mut ids = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut ids);
        ids
    }
}

/// What is wrong with a block.
enum Fault {
    Altered,
    Id,
}

/// Verifies all blocks; the first bad one. The file is read, not touched through the map, by so many blocks at a time as there
/// are threads: a map counts as memory of the process, and a large file would fill it.
fn check_blocks(
    mut file: &File,
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
    file.seek(SeekFrom::Start(HEADER as u64))?;
    for start in (0..data).step_by(at_once) {
        let bytes = &mut bytemuck::cast_slice_mut(&mut buffer)[..at_once.min(data - start)];
        file.read_exact(bytes)?;
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

enum Ids<'a> {
    Narrow(&'a [u16]),
    Wide(&'a [u32]),
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(super) mod tests;
