//! Vocabulary: words and their ids, made from counts, saved as `vocab.json`, mapped onto another.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TokenizerKind;
use super::interner::Interner;
use super::tokenizer::Subword;
use crate::error::{Error, Result};
use crate::files::{self, Hash};

/// Id of the unknown word in every recipe.
pub const UNKNOWN_ID: u32 = 0;
/// Id of padding in every recipe.
pub const PAD_ID: u32 = 1;
/// Larger files are refused: four million words have some 100 MB.
const LARGEST_FILE: u64 = 1 << 30;
/// The token that fills a vocabulary up to a round size.
const FILLER: &str = "xxfake";

/// How often each word was seen, in the order of first sight.
#[derive(Clone, Debug, Default)]
pub struct WordCounts {
    words: Interner,
    /// By the numbers of the words.
    counts: Vec<u64>,
}

impl WordCounts {
    pub fn add(&mut self, word: &str, n: u64) {
        let number = self.words.insert(word);
        if number == self.counts.len() {
            self.counts.push(n);
        } else {
            self.counts[number] += n;
        }
    }

    /// How often a word was seen.
    pub fn get(&self, word: &str) -> u64 {
        self.words.get(word).map_or(0, |number| self.counts[number])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.words.words().zip(self.counts.iter().copied())
    }

    /// Adds the counts of text that follows: order of first sight is kept.
    pub fn append(&mut self, later: &WordCounts) {
        later.iter().for_each(|(word, n)| self.add(word, n));
    }

    /// Number of distinct words.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Bytes of all distinct words.
    pub(super) fn bytes(&self) -> usize {
        self.words.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Words by falling count; equal counts in the order of first sight (Python's
    /// `Counter.most_common`).
    pub fn most_common(&self) -> Vec<(&str, u64)> {
        let mut sorted: Vec<(&str, u64)> = self.iter().collect();
        sorted.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        sorted
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    tokenizer: TokenizerKind,
    hash: String,
    words: Vec<String>,
    /// Occurrences in the text the vocabulary was made from; empty when unknown (imported).
    counts: Vec<u64>,
}

/// Words by id. Id 0 is the unknown word, id 1 padding.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Vec<Box<str>>,
    counts: Vec<u64>,
    index: Interner,
    /// The first id of every word of the index: a word can be there twice.
    first_ids: Vec<u32>,
    tokenizer: TokenizerKind,
    hash: [u8; 32],
}

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Vocabulary {
    /// Makes a vocabulary of at most `max_size` entries (special tokens included) from words seen
    /// at least `min_count` times. As fastai's `make_vocab`: the `max_size` most common words with
    /// enough occurrences, special tokens moved or put to the front, cut to `max_size`. The words
    /// of a sub-word tokenizer are its own, whatever their number and counts.
    ///
    /// # Errors
    /// [`Error::Usage`] when `max_size` has no place beside the special tokens; [`Error::Data`]
    /// when no word is left.
    pub fn from_counts(counts: &WordCounts, tokenizer: TokenizerKind, max_size: usize, min_count: u64) -> Result<Self> {
        if let TokenizerKind::Subword(subword) = &tokenizer {
            let words: Vec<Box<str>> = subword.words()?.map(Box::from).collect();
            let counts = words.iter().map(|word| counts.get(word)).collect();
            return Ok(Self::build(words, counts, tokenizer));
        }
        let special = tokenizer.special_tokens();
        if max_size <= special.len() {
            return Err(Error::usage(format!(
                "--vocab-size {max_size} leaves no place for words beside {} special tokens",
                special.len()
            )));
        }
        let common = counts.most_common();
        let ordinary = common
            .iter()
            .take(max_size)
            .filter(|(word, n)| *n >= min_count && !special.contains(word))
            .map(|(word, n)| (*word, *n));
        let entries: Vec<(&str, u64)> =
            special.iter().map(|w| (*w, counts.get(w))).chain(ordinary).take(max_size).collect();
        if entries.len() == special.len() {
            let why = match common.iter().find(|(w, _)| !special.contains(w)) {
                None => "the text holds no word".to_string(),
                Some((word, n)) => format!("no word occurs {min_count} times (the most frequent, '{word}', {n})"),
            };
            return Err(
                Error::data(format!("the vocabulary has no words: {why}")).hint("lower --min-freq or give more text")
            );
        }
        let (words, counts): (Vec<Box<str>>, Vec<u64>) = entries.into_iter().map(|(w, n)| (w.into(), n)).unzip();
        Ok(Self::build(words, counts, tokenizer))
    }

    /// Filled up with `xxfake` to a multiple of `n` entries, as fastai v1 and v2 do (docs/SPEC.md
    /// §2.2). No text reaches those rows.
    #[must_use]
    pub fn filled_up(self, n: usize) -> Self {
        let missing = self.words.len().next_multiple_of(n.max(1)) - self.words.len();
        if missing == 0 {
            return self;
        }
        let Vocabulary { mut words, mut counts, tokenizer, .. } = self;
        words.extend(std::iter::repeat_n(Box::from(FILLER), missing));
        counts.resize(words.len(), 0);
        Self::build(words, counts, tokenizer)
    }

    /// The words of a vocabulary in their order, then those of `counts` that it lacks: by falling
    /// count, seen at least `min_count` times, up to `max_size` entries in all. The counts are
    /// those given. The words of a sub-word tokenizer stay as they are.
    #[must_use]
    pub fn united(old: &Vocabulary, counts: &WordCounts, max_size: usize, min_count: u64) -> Self {
        let of_old: Vec<u64> = old.words().map(|word| counts.get(word)).collect();
        let (mut words, mut all) = (old.words.clone(), of_old);
        if !matches!(old.tokenizer, TokenizerKind::Subword(_)) {
            let room = max_size.saturating_sub(words.len());
            let new = counts.most_common().into_iter().filter(|(word, n)| *n >= min_count && old.get(word).is_none());
            for (word, n) in new.take(room) {
                words.push(word.into());
                all.push(n);
            }
        }
        Self::build(words, all, old.tokenizer.clone())
    }

    /// A vocabulary from a word list (imported models). Of a word that occurs twice the first id
    /// counts.
    ///
    /// # Errors
    /// [`Error::Data`] when the list holds no words beside unknown and padding.
    pub fn from_words(words: Vec<String>, tokenizer: TokenizerKind) -> Result<Self> {
        if words.len() <= 2 {
            return Err(Error::data("the vocabulary has no words"));
        }
        Ok(Self::build(words.into_iter().map(Into::into).collect(), Vec::new(), tokenizer))
    }

    fn build(words: Vec<Box<str>>, counts: Vec<u64>, tokenizer: TokenizerKind) -> Self {
        let (mut index, mut first_ids) = (Interner::default(), Vec::with_capacity(words.len()));
        let mut hash = Hash::default();
        for (i, word) in words.iter().enumerate() {
            if index.insert(word) == first_ids.len() {
                first_ids.push(i as u32);
            }
            hash.add((word.len() as u64).to_le_bytes());
            hash.add(word.as_bytes());
        }
        if let TokenizerKind::Subword(subword) = &tokenizer {
            // the same pieces can be joined in other ways
            hash.add(subword.sha256());
        }
        if !tokenizer.invisible().is_keep() {
            // the same words are found in other text
            hash.add(tokenizer.invisible().name());
        }
        Vocabulary { words, counts, index, first_ids, tokenizer, hash: hash.bytes() }
    }

    /// Number of entries, special tokens included.
    #[allow(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Id of a word; [`UNKNOWN_ID`] when it has none.
    pub fn id(&self, word: &str) -> u32 {
        self.get(word).unwrap_or(UNKNOWN_ID)
    }

    pub fn get(&self, word: &str) -> Option<u32> {
        self.index.get(word).map(|number| self.first_ids[number])
    }

    /// The word of an id.
    pub fn word(&self, id: u32) -> Option<&str> {
        self.words.get(id as usize).map(AsRef::as_ref)
    }

    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(AsRef::as_ref)
    }

    /// Occurrences by id in the text the vocabulary was made from; empty when unknown.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub fn tokenizer(&self) -> &TokenizerKind {
        &self.tokenizer
    }

    /// SHA-256 over the words in order, and the file of a sub-word tokenizer: what models and token
    /// files are compared by.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// [`Vocabulary::hash`] in hexadecimal.
    pub fn hash_hex(&self) -> String {
        self.hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// For every word of this vocabulary its id in `old`, `None` where `old` lacks it: such rows
    /// start from the mean of all rows (docs/SPEC.md §2.3).
    pub fn map_from(&self, old: &Vocabulary) -> Vec<Option<u32>> {
        self.words.iter().map(|w| old.get(w)).collect()
    }

    /// Writes `vocab.json` beside the file and renames it. Before that, in the same way, the
    /// `tokenizer.json` of sub-words ([`tokenizer_path`]).
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (json, tokenizer) = self.to_files()?;
        if let Some(tokenizer) = tokenizer {
            files::put(&tokenizer_path(path), tokenizer)?;
        }
        files::put(path, json)
    }

    /// The content of `vocab.json`, and of the `tokenizer.json` of sub-words.
    ///
    /// # Errors
    /// [`Error::Data`] before the file of the sub-words was read.
    pub fn to_files(&self) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        let saved = Saved {
            format: 1,
            tokenizer: self.tokenizer.clone(),
            hash: self.hash_hex(),
            words: self.words.iter().map(ToString::to_string).collect(),
            counts: self.counts.clone(),
        };
        let tokenizer = match &self.tokenizer {
            TokenizerKind::Subword(subword) => Some(subword.file()?.to_vec()),
            _ => None,
        };
        Ok((serde_json::to_vec(&saved).expect("strings and numbers always serialise"), tokenizer))
    }

    /// From the content of the two files ([`Vocabulary::to_files`]); `path` names them in errors.
    ///
    /// # Errors
    /// As [`Vocabulary::load`].
    pub fn from_files(path: &Path, json: &[u8], tokenizer: Option<Vec<u8>>) -> Result<Self> {
        Self::parse(path, json, |subword| match tokenizer {
            Some(file) => subword.with_content(path, file),
            None => Err(Error::file(path, "lacks the tokenizer.json of its sub-words")),
        })
    }

    /// Reads `vocab.json`, and the `tokenizer.json` of sub-words beside it ([`tokenizer_path`]).
    ///
    /// # Errors
    /// [`Error::File`] when a file is missing, damaged, or its words do not have the recorded hash.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = files::read(path, LARGEST_FILE)?;
        Self::parse(path, &bytes, |subword| subword.with_file(&tokenizer_path(path)))
    }

    fn parse(path: &Path, json: &[u8], read: impl FnOnce(&Subword) -> Result<Subword>) -> Result<Self> {
        let saved: Saved = serde_json::from_slice(json)
            .map_err(|e| Error::line(path, e.line() as u64, format!("is not a vocabulary: {e}")))?;
        if saved.format != 1 {
            return Err(Error::file(path, format!("has vocabulary format {}, this program reads 1", saved.format)));
        }
        if saved.words.len() <= 2 {
            return Err(Error::file(path, "the vocabulary has no words"));
        }
        if !saved.counts.is_empty() && saved.counts.len() != saved.words.len() {
            return Err(Error::file(path, "has a count for some words only"));
        }
        let words: Vec<Box<str>> = saved.words.into_iter().map(Into::into).collect();
        let mut tokenizer = saved.tokenizer;
        if let TokenizerKind::Subword(subword) = &mut tokenizer {
            *subword = read(subword)?;
            let own = subword.words()?.chain(std::iter::repeat(FILLER)).take(words.len());
            if words.len() < subword.words()?.len() || !words.iter().map(AsRef::as_ref).eq(own) {
                return Err(Error::file(path, "was altered: its words are not those of the tokenizer beside it"));
            }
        }
        let vocabulary = Self::build(words, saved.counts, tokenizer);
        if vocabulary.hash_hex() != saved.hash {
            return Err(Error::file(path, "was altered: its words do not have the recorded hash"));
        }
        Ok(vocabulary)
    }
}

/// Where the sub-word tokenizer of a vocabulary lies: `vocab.json` → `tokenizer.json`,
/// `a.vocab.json` → `a.tokenizer.json`.
pub fn tokenizer_path(vocabulary: &Path) -> PathBuf {
    let name = vocabulary.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix("vocab.json") {
        Some(before) => vocabulary.with_file_name(format!("{before}tokenizer.json")),
        None => vocabulary.with_extension("tokenizer.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> WordCounts {
        let mut c = WordCounts::default();
        text.split(' ').for_each(|w| c.add(w, 1));
        c
    }

    fn words(v: &Vocabulary) -> Vec<&str> {
        v.words().collect()
    }

    #[test]
    fn ties_keep_first_sight_and_specials_lead() {
        let c = counts("xxbos b a a b c c d xxbos e");
        let v = Vocabulary::from_counts(&c, TokenizerKind::Whitespace, 100, 2).unwrap();
        assert_eq!(words(&v), ["xxunk", "xxpad", "xxbos", "b", "a", "c"]);
        assert_eq!(v.counts(), [0, 0, 2, 2, 2, 2]);
        // max_size counts before special tokens are moved (make_vocab): of the 4 most common, 3 are
        // ordinary, 1 fits
        let v = Vocabulary::from_counts(&c, TokenizerKind::Whitespace, 4, 1).unwrap();
        assert_eq!(words(&v), ["xxunk", "xxpad", "xxbos", "b"]);
        assert_eq!((v.id("b"), v.id("zzz"), v.word(9)), (3, UNKNOWN_ID, None));
    }

    #[test]
    fn appended_counts_equal_counts_in_one_go() {
        let mut parts = counts("b a");
        parts.append(&counts("c a b b"));
        assert_eq!(parts.most_common(), counts("b a c a b b").most_common());
    }

    #[test]
    fn a_union_keeps_the_old_ids() {
        let old = Vocabulary::from_counts(&counts("xxbos a a b"), TokenizerKind::Whitespace, 100, 1).unwrap();
        let new = counts("b c d d e b");
        let all = Vocabulary::united(&old, &new, 100, 1);
        assert_eq!(words(&all), ["xxunk", "xxpad", "xxbos", "a", "b", "d", "c", "e"]);
        assert_eq!(all.counts(), [0, 0, 0, 0, 2, 2, 1, 1]);
        assert_eq!(all.map_from(&old), [Some(0), Some(1), Some(2), Some(3), Some(4), None, None, None]);
        assert_eq!(words(&Vocabulary::united(&old, &new, 6, 1)).len(), 6);
        assert_eq!(words(&Vocabulary::united(&old, &new, 100, 2)).len(), 6);
        assert_eq!(Vocabulary::united(&old, &new, 3, 1), old);
    }

    #[test]
    fn no_words_is_an_error() {
        let c = counts("xxbos a b");
        let e = Vocabulary::from_counts(&c, TokenizerKind::Whitespace, 100, 2).unwrap_err();
        assert!(e.to_string().contains("no words"), "{e}");
        assert_eq!(e.exit_status(), 1);
        let e = Vocabulary::from_counts(&c, TokenizerKind::word(super::super::Rules::V2), 9, 1).unwrap_err();
        assert_eq!(e.exit_status(), 2);
        assert!(Vocabulary::from_counts(&counts("xxbos"), TokenizerKind::Whitespace, 100, 1).is_err());
    }

    #[test]
    fn saved_and_loaded_and_altered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.json");
        let v = Vocabulary::from_counts(&counts("é \" b b \n"), TokenizerKind::Whitespace, 100, 1).unwrap();
        v.save(&path).unwrap();
        let w = Vocabulary::load(&path).unwrap();
        assert_eq!((words(&v), v.counts(), v.hash()), (words(&w), w.counts(), w.hash()));
        let altered = std::fs::read_to_string(&path).unwrap().replace("\"b\"", "\"c\"");
        std::fs::write(&path, altered).unwrap();
        assert!(Vocabulary::load(&path).unwrap_err().to_string().contains("altered"));
    }

    #[test]
    fn mapping_names_missing_words() {
        let make = |t: &str| Vocabulary::from_counts(&counts(t), TokenizerKind::Whitespace, 100, 1).unwrap();
        let (old, new) = (make("a b c"), make("c x a"));
        assert_eq!(new.map_from(&old), [Some(0), Some(1), Some(2), Some(5), None, Some(3)]);
    }
}
