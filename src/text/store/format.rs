//! The file of a token store.
//!
//! Layout, little-endian: a header of 256 bytes; then the sections ids (u16 or u32), document
//! offsets (u64, one more than documents), bytes of each document's text (u32), labels (u32,
//! [`NO_LABEL`] for none; absent when nothing is labelled), label names (JSON), in version 2 a
//! [`mark`](super::mark) for every token (a byte), each starting at a multiple of 8; then the
//! checksums: the first 8 bytes of the SHA-256 of every MiB of the sections. The header holds the
//! checksum of the checksums and of itself.

use crate::files::sha256;

pub(super) const MAGIC: &[u8; 8] = b"ULMFTOK\n";
pub(super) const VERSION: u64 = 1;
/// Version of a file that marks words within its documents.
pub(super) const VERSION_OF_WORDS: u64 = 2;
pub(super) const HEADER: usize = 256;
pub(super) const BLOCK: usize = 1 << 20;
/// Label of a document that has none.
pub(super) const NO_LABEL: u32 = u32::MAX;

/// Fields of the header after the magic, in order, eight bytes each.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Header {
    pub version: u64,
    pub id_bytes: u64,
    pub tokens: u64,
    pub documents: u64,
    /// White-space separated words and bytes of the original text.
    pub words: u64,
    pub text_bytes: u64,
    pub has_labels: u64,
    pub label_name_bytes: u64,
    pub vocabulary_size: u64,
    pub vocabulary_hash: [u8; 32],
    pub checksums: [u8; 8],
    /// Whether every token has a mark.
    pub has_words: u64,
}

pub(super) fn digest8(bytes: &[u8]) -> [u8; 8] {
    let full = sha256(bytes);
    std::array::from_fn(|i| full[i])
}

pub(super) fn padded(n: u64) -> u64 {
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
    pub fn section_starts(&self) -> Option<[u64; 7]> {
        let mut starts = [HEADER as u64; 7];
        for (i, length) in self.section_lengths()?.into_iter().enumerate() {
            starts[i + 1] = starts[i].checked_add(length)?.checked_next_multiple_of(8)?;
        }
        Some(starts)
    }

    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        let fields = bytemuck::bytes_of(&self);
        bytes[8..8 + fields.len()].copy_from_slice(fields);
        let own = digest8(&bytes[..HEADER - 8]);
        bytes[HEADER - 8..].copy_from_slice(&own);
        bytes
    }
}
