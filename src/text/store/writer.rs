//! How a token store is made, document by document.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::format::{BLOCK, HEADER, Header, NO_LABEL, VERSION, VERSION_OF_WORDS, digest8, padded};
use super::{Ids, TokenStore, mark};
use crate::error::{Error, Result};
use crate::files::{self, Patient};
use crate::temporary::unnamed_file;
use crate::text::Vocabulary;

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

    /// Marks the tokens of the document that was appended last: a [`mark`] for each.
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

#[cfg(test)]
mod tests {
    use super::super::tests::vocabulary;
    use super::*;

    /// Besides 16 bytes a document and the checksums, a writer keeps no more than one block in
    /// memory.
    #[test]
    fn a_writer_does_not_grow_with_the_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::create(&dir.path().join("a.tok"), &vocabulary(10)).unwrap();
        let document = vec![3u32; 1_000_000];
        for _ in 0..20 {
            writer.push(&document, None, 1, 1).unwrap();
            let Output::File(file) = &writer.output else { panic!("a file") };
            assert_eq!(file.block.capacity(), BLOCK);
        }
        assert_eq!((writer.offsets.len(), writer.text_bytes.len(), writer.labels.len()), (21, 20, 20));
        let Output::File(file) = &writer.output else { panic!("a file") };
        assert_eq!(file.checksums.len(), 20 * 2_000_000 / BLOCK * 8);
        assert!(file.file.get_ref().metadata().unwrap().len() > 38 * BLOCK as u64 - 10_000, "the ids are on disk");
        assert_eq!(writer.finish(&[], &[]).unwrap().tokens(), 20_000_000);
    }
}
