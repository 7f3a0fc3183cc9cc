//! Words by number: kept one after the other in one string, found through a table of numbers.

use std::hash::BuildHasher as _;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Distinct words in the order in which they came, numbered from 0. A string of its own for each
/// word would cost more, in allocations and in memory touched, than everything else that is done
/// with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    /// Numbers of words, by the words.
    table: HashTable<u32>,
    /// Where each word ends in `text`; it begins where the one before ends.
    ends: Vec<usize>,
    text: String,
    hasher: DefaultHashBuilder,
}

/// Where the word of a number stands. (Words are compared as bytes: cutting a string would look for
/// borders of characters.)
fn place(ends: &[usize], number: usize) -> Range<usize> {
    let start = if number == 0 { 0 } else { ends[number - 1] };
    start..ends[number]
}

fn is(ends: &[usize], text: &str, number: u32, word: &str) -> bool {
    text.as_bytes()[place(ends, number as usize)] == *word.as_bytes()
}

impl Interner {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all words.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The word of a number.
    ///
    /// # Panics
    /// When no word has it.
    pub(super) fn word(&self, number: usize) -> &str {
        &self.text[place(&self.ends, number)]
    }

    /// All words, by number.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.word(number))
    }

    /// The number of a word.
    pub(super) fn get(&self, of: &str) -> Option<usize> {
        let same = |&n: &u32| is(&self.ends, &self.text, n, of);
        self.table.find(self.hasher.hash_one(of), same).map(|&n| n as usize)
    }

    /// The number of a word; a new word is put at the end, and gets the number that
    /// [`Interner::len`] was.
    pub(super) fn insert(&mut self, new: &str) -> usize {
        let Interner { table, ends, text, hasher } = self;
        let hash = hasher.hash_one(new);
        if let Some(&n) = table.find(hash, |&n| is(ends, text, n, new)) {
            return n as usize;
        }
        let number = ends.len();
        text.push_str(new);
        ends.push(text.len());
        table.insert_unique(hash, number as u32, |&n| hasher.hash_one(&text[place(ends, n as usize)]));
        number
    }

    /// Forgets all words and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.ends.clear();
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_numbers_and_numbers_words() {
        let mut interner = Interner::default();
        let numbers: Vec<usize> = ["b", "", "é", "b", "bé", ""].iter().map(|w| interner.insert(w)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 3, 1]);
        assert_eq!(interner.words().collect::<Vec<_>>(), ["b", "", "é", "bé"]);
        assert_eq!((interner.get("bé"), interner.get("c"), interner.len()), (Some(3), None, 4));
        // far beyond the first size of the table
        (0..10_000).for_each(|i| assert_eq!(interner.insert(&format!("w{i}")), i + 4));
        (0..10_000).for_each(|i| assert_eq!(interner.get(&format!("w{i}")), Some(i + 4)));
        interner.clear();
        assert_eq!((interner.get("b"), interner.insert("c")), (None, 0));
    }
}
