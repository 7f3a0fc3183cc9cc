//! Training: from counts of segments to a `tokenizer.json`, the same bytes on every run and for any
//! number of threads.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::Unigram;

use super::super::super::interner::Interner;
use super::super::super::{Document, WordCounts};
use super::super::rules;
use super::unigram::{self, LONGEST_PIECE};
use super::{
    Cache, Invisible, Rules, Subword, guarded, in_words, own_added_token, own_decoder, own_normalizer,
    own_pre_tokenizer, pieces, segments,
};
use crate::error::{Error, Result};

/// How pieces are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubwordAlgorithm {
    /// A unigram language model of pieces (Kudo 2018, arXiv 1804.10959), as in MultiFiT and fastai
    /// (docs/SPEC.md §2.2).
    Unigram,
    /// Byte-pair encoding on characters (Sennrich et al. 2016, arXiv 1508.07909).
    Bpe,
}

impl std::fmt::Display for SubwordAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            SubwordAlgorithm::Unigram => "unigram",
            SubwordAlgorithm::Bpe => "bpe",
        })
    }
}

/// The settings of training a sub-word tokenizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubwordTraining {
    pub algorithm: SubwordAlgorithm,
    /// Rules for the text before.
    pub rules: Rules,
    pub invisible: Invisible,
    /// Tokens at most, special ones included.
    pub vocab_size: usize,
    /// BPE: pairs seen less often are not joined.
    pub min_count: u64,
    /// Share of the text's characters that have a token; the rarest others are unknown.
    pub coverage: f64,
}

/// Characters of a segment at most: longer ones are cut.
const LONGEST_SEGMENT: usize = 64;

/// Segments are thinned out beyond so many of them, or bytes of them.
const MOST_SEGMENTS: usize = 1 << 20;
const MOST_BYTES: usize = 48 << 20;

/// Characters of the distinct segments that a model is trained on at most: the most frequent ones.
const TRAINED_CHARACTERS: usize = 4 << 20;

/// The crate counts pairs of characters in 32 bits.
const MOST_OCCURRENCES: u64 = 1 << 30;

/// Segments of a text and how often each occurs, in bounded memory. The segments that are kept do
/// not depend on how the text was batched.
#[derive(Debug, Default)]
pub(in crate::text) struct Segments {
    counts: WordCounts,
    /// How much the table is thinned out.
    level: u32,
}

impl Segments {
    /// Adds those of the next document.
    pub(in crate::text) fn add(&mut self, document: &WordCounts) {
        self.counts.append(document);
        self.thin_out(MOST_SEGMENTS, MOST_BYTES);
    }

    /// Where there are too many: of the segments seen at most `level` times only a share of
    /// 2^-level stays, chosen by a hash, so from all over the text; `level` rises where that does
    /// not free half of the room.
    fn thin_out(&mut self, most: usize, most_bytes: usize) {
        if self.counts.len() <= most && self.counts.bytes() <= most_bytes {
            return;
        }
        self.thin_out_at_level();
        while self.counts.len() > most / 2 || self.counts.bytes() > most_bytes / 2 {
            self.level += 1;
            self.thin_out_at_level();
        }
    }

    fn thin_out_at_level(&mut self) {
        if self.level == 0 {
            return;
        }
        let mut kept = WordCounts::default();
        for (segment, n) in self.counts.iter() {
            if n > u64::from(self.level) || hash(segment) >> (64 - self.level.min(64)) == 0 {
                kept.add(segment, n);
            }
        }
        self.counts = kept;
    }
}

/// FNV-1a, its bits mixed (the last step of SplitMix64): the same on every machine.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (fnv ^ fnv >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Cuts documents into the segments that training counts. Shared by threads; each brings its own
/// [`SegmentScratch`].
pub(in crate::text) struct Segmenter {
    rules: Rules,
    invisible: Invisible,
    tokenizer: tokenizers::Tokenizer,
}

/// Buffers of one thread.
#[derive(Default)]
pub(in crate::text) struct SegmentScratch {
    text: String,
    other: String,
    cache: Cache,
    /// Segments by the numbers in the cache.
    segments: Interner,
}

impl Segmenter {
    pub(in crate::text) fn new(rules: Rules, invisible: Invisible) -> Result<Self> {
        let special = rules.subword_tokens();
        let vocabulary: Value =
            special.iter().enumerate().map(|(id, token)| (token.to_string(), Value::from(id))).collect();
        let model = json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": special[0] });
        Ok(Segmenter { rules, invisible, tokenizer: assemble(rules, model)? })
    }

    /// The segments of a document.
    pub(in crate::text) fn count(&self, document: &Document, scratch: &mut SegmentScratch) -> Result<WordCounts> {
        let mut counts = WordCounts::default();
        let mut fault = None;
        let SegmentScratch { text, other, cache, segments: names } = scratch;
        rules::before(document, self.rules, rules::Casing::default(), self.invisible, text, other);
        pieces(text, self.rules, &mut |piece| {
            let cut = || segments(&self.tokenizer, piece);
            let result = if Cache::keeps(piece) {
                if cache.is_full() {
                    cache.clear();
                    names.clear();
                }
                let number = |names: &mut Interner, segment: &str| names.insert(segment) as u32;
                let make = || cut().map(|all| all.iter().flat_map(|s| parts(s)).map(|s| number(names, s)).collect());
                cache.get(piece, make).map(<[u32]>::to_vec).map(|numbers| {
                    numbers.iter().for_each(|&n| counts.add(names.word(n as usize), 1));
                })
            } else {
                cut().map(|all| all.iter().flat_map(|s| parts(s)).for_each(|s| counts.add(s, 1)))
            };
            if let Err(e) = result {
                fault.get_or_insert_with(|| in_words(e));
            }
        });
        match fault {
            None => Ok(counts),
            Some(fault) => Err(Error::data(format!("text cannot be cut for sub-words: {fault}"))),
        }
    }
}

/// A segment in parts of bounded length.
fn parts(segment: &str) -> impl Iterator<Item = &str> {
    let mut rest = segment;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(LONGEST_SEGMENT).map_or(rest.len(), |(at, _)| at);
        let (part, after) = rest.split_at(end);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// A file of this program around a model.
fn assemble(rules: Rules, model: Value) -> Result<tokenizers::Tokenizer> {
    let added: Vec<Value> =
        rules.subword_tokens().iter().enumerate().map(|(id, token)| own_added_token(id, token)).collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": own_normalizer(),
        "pre_tokenizer": own_pre_tokenizer(),
        "post_processor": null,
        "decoder": own_decoder(),
        "model": model,
    });
    let bytes = serde_json::to_vec(&file).expect("plain data");
    tokenizers::Tokenizer::from_bytes(bytes).map_err(failed)
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::data(format!("the sub-word tokenizer cannot be trained: {}", in_words(e)))
}

/// Trains a tokenizer.
///
/// # Errors
/// [`Error::Usage`] when `vocab_size` has no place for characters beside the special tokens;
/// [`Error::Data`] when the text holds no word.
pub(in crate::text) fn train(segments: Segments, training: &SubwordTraining) -> Result<Subword> {
    let special = training.rules.subword_tokens();
    let Some(room) = training.vocab_size.checked_sub(special.len()).filter(|&room| room >= 2) else {
        let (size, special) = (training.vocab_size, special.len());
        return Err(Error::usage(format!(
            "--vocab-size {size} leaves no place for sub-words beside {special} special tokens"
        )));
    };
    let sentences = sentences(segments, training.coverage, room / 2);
    if sentences.is_empty() {
        return Err(Error::data("the vocabulary has no words: the text holds no word").hint("give more text"));
    }
    let model = match training.algorithm {
        SubwordAlgorithm::Bpe => train_bpe(&sentences, training),
        SubwordAlgorithm::Unigram => train_unigram(&sentences, special, room),
    }?;
    let tokenizer = assemble(training.rules, model)?;
    let file = serde_json::to_vec(&tokenizer).map_err(failed)?;
    Ok(Subword::from_bytes(file).map_err(failed)?.with_invisible(training.invisible))
}

/// The training data of the crate: the most frequent segments, without characters that get no
/// token, sorted, with counts whose sum the crate's counter can hold.
fn sentences(segments: Segments, coverage: f64, most_characters: usize) -> Vec<(String, u32)> {
    let counts = segments.counts;
    let mut characters = WordCounts::default();
    let mut buffer = [0; 4];
    counts.iter().for_each(|(segment, n)| segment.chars().for_each(|c| characters.add(c.encode_utf8(&mut buffer), n)));
    let mut ranked: Vec<(&str, u64)> = characters.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let all: u64 = ranked.iter().map(|(_, n)| n).sum();
    let (mut kept, mut covered) = (std::collections::HashSet::new(), 0u64);
    for (character, n) in ranked.into_iter().take(most_characters) {
        if covered as f64 >= coverage * all as f64 {
            break;
        }
        kept.extend(character.chars());
        covered += n;
    }

    let mut known = WordCounts::default();
    for (segment, n) in counts.iter() {
        segment.split(|c| !kept.contains(&c)).filter(|part| !part.is_empty()).for_each(|part| known.add(part, n));
    }
    drop(counts);
    let mut ranked: Vec<(&str, u64)> = known.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let (mut length, mut occurrences) = (0, 0u64);
    ranked.retain(|(segment, n)| {
        let characters = segment.chars().count();
        length += characters;
        let fits = length <= TRAINED_CHARACTERS;
        occurrences += if fits { n * characters as u64 } else { 0 };
        fits
    });
    let divisor = occurrences.div_ceil(MOST_OCCURRENCES).max(1);
    let mut all: Vec<(String, u32)> =
        ranked.into_iter().map(|(segment, n)| (segment.to_string(), (n / divisor).max(1) as u32)).collect();
    all.sort();
    all
}

/// The crate's trainer. Its sums are of whole numbers and its ties are settled by ids, so that
/// neither threads nor hash tables matter, as long as it is not told to limit the alphabet or to
/// mark where words end.
fn train_bpe(sentences: &[(String, u32)], training: &SubwordTraining) -> Result<Value> {
    let special = training.rules.subword_tokens();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(training.vocab_size)
        .min_frequency(training.min_count)
        .special_tokens(special.iter().map(|token| AddedToken::from(*token, true)).collect())
        .max_token_length(Some(LONGEST_PIECE))
        .build();
    let mut model = BPE::builder().unk_token(special[0].into()).fuse_unk(true).build().map_err(failed)?;
    let words = sentences.iter().map(|(s, n)| (s.as_str().into(), u64::from(*n))).collect();
    let done = guarded(|| trainer.do_train(&words, &mut model)).ok_or_else(|| failed("it breaks off on this text"))?;
    done.map_err(failed)?;
    serde_json::to_value(model).map_err(failed)
}

fn train_unigram(sentences: &[(String, u32)], special: &[&str], size: usize) -> Result<Value> {
    let pieces = special.iter().map(|token| (token.to_string(), 0.0)).chain(unigram::train(sentences, size)).collect();
    serde_json::to_value(Unigram::from(pieces, Some(0), false).map_err(failed)?).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_thinned_out_alike_however_it_came() {
        let documents: Vec<WordCounts> = (0..200)
            .map(|d| {
                let mut counts = WordCounts::default();
                (0..20).for_each(|i| counts.add(&format!("rare {d} {i}"), 1));
                (0..10).for_each(|i| counts.add(&format!("frequent {i}"), 3));
                counts
            })
            .collect();
        let fill = || {
            let mut segments = Segments::default();
            for document in &documents {
                segments.counts.append(document);
                segments.thin_out(500, usize::MAX);
            }
            segments
        };
        let segments = fill();
        assert!(segments.counts.len() <= 500 && segments.level > 1, "{} {}", segments.counts.len(), segments.level);
        assert!((0..10).all(|i| segments.counts.get(&format!("frequent {i}")) == 600));
        // the rare ones that are left are from all over the text
        let from = |range: std::ops::Range<usize>| {
            let of = |d: usize| (0..20).filter(|i| segments.counts.get(&format!("rare {d} {i}")) > 0).count();
            range.map(of).sum::<usize>()
        };
        assert!(from(0..60) > 10 && from(60..120) > 10, "{} {}", from(0..60), from(60..120));
        assert!(fill().counts.iter().eq(segments.counts.iter()));
        let mut by_bytes = fill();
        by_bytes.thin_out(usize::MAX, 1000);
        assert!(by_bytes.counts.bytes() <= 500 && by_bytes.counts.get("frequent 0") == 600);
    }

    #[test]
    fn what_is_trained_on() {
        let mut segments = Segments::default();
        let mut counts = WordCounts::default();
        for (segment, n) in [("▁a☃b", 1u64), ("▁a", 1 << 40), ("b", 5), (&"x".repeat(70), 3)] {
            parts(segment).for_each(|part| counts.add(part, n));
        }
        segments.add(&counts);
        // the snowman is one character in a million millions
        let made = sentences(segments, 0.999_999_999_999, 10);
        let shown: Vec<&str> = made.iter().map(|(s, _)| s.as_str()).collect();
        assert_eq!(shown, ["b", "x".repeat(6).as_str(), &"x".repeat(64), "▁a"][..]);
        let occurrences: u64 = made.iter().map(|(s, n)| s.chars().count() as u64 * u64::from(*n)).sum();
        assert!(occurrences <= MOST_OCCURRENCES + 100, "{occurrences}");
    }
}
