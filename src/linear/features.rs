//! From a text to the features it has: words, pairs of words, and characters within words, each as
//! a 64-bit fingerprint.
//!
//! A word is a run of letters, digits and underscores, anything else that is not white space a word
//! of one character; all lower-cased. A pair is of neighbours; the beginning of a text counts as a
//! neighbour of its first word. N-grams of characters (2 to 5) do not cross white space, which
//! counts as one character at either end of what it separates, as in `char_wb` of scikit-learn's
//! vectorizers.
//!
//! A fingerprint stands for its feature: it needs no table of strings, and for `n` features two of
//! them are the same with probability below `n²/2^65` (10⁻⁷ for two million). The constants below
//! are part of the file format.

use std::ops::Range;

/// The two blocks of features; each is weighed and normalised by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Words and pairs of words.
    Words,
    /// N-grams of characters.
    Characters,
}

/// Shortest and longest n-grams of characters.
pub const CHARACTERS: (usize, usize) = (2, 5);

const WORD: u64 = 0x243F_6A88_85A3_08D3;
const PAIR: u64 = 0x1319_8A2E_0370_7344;
const GRAM: u64 = 0xA409_3822_299F_31D0;
/// Stands before the first word.
const BEGINNING: u64 = 0x082E_FA98_EC4E_6C89;
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes `value` into a fingerprint. For a fixed `value` it is a bijection of `state`.
fn mix(state: u64, value: u64) -> u64 {
    let product = (state ^ value).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

/// Buffers of a walk, to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    lower: Vec<char>,
}

/// The place of a feature, in characters of the lower-cased text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Word(Range<usize>),
    /// `None`: the beginning of the text.
    Pair(Option<Range<usize>>, Range<usize>),
    /// An n-gram, and whether white space is before and after it.
    Gram(Range<usize>, [bool; 2]),
}

/// Calls `found` with every feature of `text`, one that occurs twice twice.
pub fn walk(text: &str, characters: bool, scratch: &mut Scratch, found: &mut impl FnMut(Block, u64)) {
    walk_seen(text, characters, scratch, &mut |block, fingerprint, _| found(block, fingerprint));
}

/// Every fingerprint in a text with a feature that it stands for, as people read it.
pub fn named(text: &str, characters: bool) -> Vec<(u64, String)> {
    let (mut scratch, mut all) = (Scratch::default(), Vec::new());
    walk_seen(text, characters, &mut scratch, &mut |_, fingerprint, seen| all.push((fingerprint, seen)));
    let text = |place: Range<usize>| scratch.lower[place].iter().collect::<String>();
    let name = |seen: Seen| match seen {
        Seen::Word(word) => text(word),
        Seen::Pair(None, word) => format!("^ {}", text(word)),
        Seen::Pair(Some(before), word) => format!("{} {}", text(before), text(word)),
        Seen::Gram(part, [before, after]) => {
            let space = |there: bool| if there { "_" } else { "" };
            format!("…{}{}{}…", space(before), text(part), space(after))
        }
    };
    all.into_iter().map(|(fingerprint, seen)| (fingerprint, name(seen))).collect()
}

fn walk_seen(text: &str, characters: bool, scratch: &mut Scratch, found: &mut impl FnMut(Block, u64, Seen)) {
    let lower = &mut scratch.lower;
    lower.clear();
    for c in text.chars() {
        if c.is_ascii() {
            lower.push(c.to_ascii_lowercase());
        } else {
            lower.extend(c.to_lowercase());
        }
    }
    words(lower, found);
    if characters {
        let mut from = 0;
        for part in lower.split(|c| c.is_whitespace()) {
            if !part.is_empty() {
                grams(part, from, found);
            }
            from += part.len() + 1;
        }
    }
}

fn words(text: &[char], found: &mut impl FnMut(Block, u64, Seen)) {
    let (mut before, mut place) = (BEGINNING, None);
    let mut at = 0;
    while at < text.len() {
        let inside = |c: &char| c.is_alphanumeric() || *c == '_';
        let length = text[at..].iter().take_while(|c| inside(c)).count();
        if length == 0 && text[at].is_whitespace() {
            at += 1;
            continue;
        }
        let end = at + length.max(1);
        let word = text[at..end].iter().fold(WORD, |state, &c| mix(state, u64::from(c)));
        found(Block::Words, word, Seen::Word(at..end));
        found(Block::Words, mix(mix(PAIR, before), word), Seen::Pair(place, at..end));
        (before, place) = (word, Some(at..end));
        at = end;
    }
}

/// The n-grams of a part of the text that white space surrounds, `from` characters after its
/// beginning.
fn grams(part: &[char], from: usize, found: &mut impl FnMut(Block, u64, Seen)) {
    let length = part.len() + 2;
    let at = |i: usize| if i == 0 || i == length - 1 { u64::from(' ') } else { u64::from(part[i - 1]) };
    for start in 0..length - CHARACTERS.0 + 1 {
        let mut state = GRAM;
        for n in 1..=CHARACTERS.1.min(length - start) {
            state = mix(state, at(start + n - 1));
            if n >= CHARACTERS.0 {
                // without the white space around the part
                let place = from + start.max(1) - 1..from + (start + n).min(length - 1) - 1;
                found(Block::Characters, state, Seen::Gram(place, [start == 0, start + n == length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(text: &str, characters: bool) -> Vec<(Block, u64)> {
        let mut all = Vec::new();
        walk(text, characters, &mut Scratch::default(), &mut |block, fingerprint| all.push((block, fingerprint)));
        all
    }

    /// The fingerprints of a model's file must be found again.
    #[test]
    fn fingerprints_are_part_of_the_file_format() {
        let found: Vec<u64> = features("a b", false).into_iter().map(|(_, f)| f).collect();
        let a = mix(WORD, 0x61);
        let b = mix(WORD, 0x62);
        assert_eq!(found, [a, mix(mix(PAIR, BEGINNING), a), b, mix(mix(PAIR, a), b)]);
        assert_eq!(a, A);
    }

    /// The hash of the word "a": ((state ^ 0x61) · multiplier) with its upper half mixed into the
    /// lower.
    const A: u64 = {
        let product = (WORD ^ 0x61).wrapping_mul(MULTIPLIER);
        product ^ (product >> 32)
    };

    #[test]
    fn words_are_runs_of_letters_and_single_signs() {
        let same = |a: &str, b: &str| features(a, false) == features(b, false);
        assert!(same("It's GREAT!", "it ' s great !") && same("x_1 é", "  x_1\u{a0}É\n"));
        assert!(!same("great film", "film great") && !same("great", "greatest"));
        assert_eq!(features("It's GREAT!", false).len(), 10);
        assert!(features("", true).is_empty() && features(" \n", true).is_empty());
    }

    #[test]
    fn characters_stay_within_white_space() {
        let grams = |text: &str| {
            let all = features(text, true).into_iter();
            all.filter(|(block, _)| *block == Block::Characters).map(|(_, f)| f).collect::<Vec<_>>()
        };
        // of " ab ": 3 of two, 2 of three, 1 of four characters
        assert_eq!(grams("ab").len(), 6);
        // " abcd ": 5 + 4 + 3 + 2
        assert_eq!(grams("abcd").len(), 14);
        assert_eq!([grams("ab"), grams("cd")].concat(), grams("ab cd"));
        // one character: " a", "a ", " a "
        assert_eq!(grams("a").len(), 3);
        let all = grams("abcdefgh ijkl");
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn features_have_names() {
        let all = named("It's  a", true);
        let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names[..8], ["it", "^ it", "'", "it '", "s", "' s", "a", "s a"]);
        assert!(
            ["…_it…", "…'s_…", "…_a…", "…a_…", "…_a_…", "…it's…"].iter().all(|name| names.contains(name)),
            "{names:?}"
        );
        let fingerprints: Vec<u64> = features("It's  a", true).into_iter().map(|(_, f)| f).collect();
        assert_eq!(all.iter().map(|(f, _)| *f).collect::<Vec<_>>(), fingerprints);
    }

    #[test]
    fn different_features_have_different_fingerprints() {
        let text: String = (0..20_000).map(|i| format!("w{} ", i * 7919 % 20_011)).collect();
        let mut words: Vec<u64> = features(&text, false).into_iter().map(|(_, f)| f).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 40_000);
    }
}
