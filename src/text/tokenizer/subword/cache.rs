//! Pieces already met, per thread: most pieces of a text were met before.

use super::super::super::interner::Interner;

/// The cache is emptied at this many pieces or ids, and longer pieces are not kept: memory stays
/// bounded.
const PIECES: usize = 1 << 17;
const IDS: usize = 1 << 20;
const BYTES: usize = 64;

/// Numbers by piece.
#[derive(Default)]
pub(in crate::text) struct Cache {
    /// Number of the model whose ids these are.
    owner: u64,
    pieces: Interner,
    /// Where the numbers of each piece end.
    ends: Vec<usize>,
    numbers: Vec<u32>,
    /// The ids of a piece that is not kept.
    last: Vec<u32>,
}

impl Cache {
    /// Forgets what another model made.
    pub(super) fn belongs_to(&mut self, owner: u64) {
        if self.owner != owner {
            self.clear();
            self.owner = owner;
        }
    }

    /// Whether a piece is short enough to be kept.
    pub(super) fn keeps(piece: &str) -> bool {
        piece.len() <= BYTES
    }

    /// Whether the next piece may empty the cache.
    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() >= PIECES || self.numbers.len() >= IDS
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.ends.clear();
        self.numbers.clear();
    }

    /// The numbers of a piece, made where it is new.
    pub(super) fn get<E>(&mut self, piece: &str, make: impl FnOnce() -> Result<Vec<u32>, E>) -> Result<&[u32], E> {
        if let Some(number) = self.pieces.get(piece) {
            let start = if number == 0 { 0 } else { self.ends[number - 1] };
            return Ok(&self.numbers[start..self.ends[number]]);
        }
        let made = make()?;
        if !Self::keeps(piece) {
            self.last = made;
            return Ok(&self.last);
        }
        if self.is_full() {
            self.clear();
        }
        let start = self.numbers.len();
        self.pieces.insert(piece);
        self.numbers.extend(made);
        self.ends.push(self.numbers.len());
        Ok(&self.numbers[start..])
    }
}
