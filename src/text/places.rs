//! Where the tokens of a document stand in its text, and the words of the text that they make up.
//!
//! The rules of the tokenizers change a text before it is cut: entities become characters, capitals
//! and repetitions become marks, white space goes. Tokens are therefore looked for in the text, in
//! their order: each at the place where the one before has ended, or else a little after it. What
//! stands between two that were found is the place of those between them.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use super::is_space;

/// A word of a text, or a mark that stands for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the text; `None` for a mark of the document (its beginning, a field).
    pub place: Option<Range<usize>>,
    /// Indices of its tokens. Marks of a word (of its capital, of its repetition) are among them.
    pub tokens: Range<usize>,
}

/// Marks that say something of the word after them.
const OF_WORDS: &[&str] = &["xxmaj", "xxup", "xxrep", "xxwrep", "t_up", "tk_rep", "tk_wrep", "▁", "Ġ"];
const REPEATED: &[&str] = &["xxrep", "xxwrep", "tk_rep", "tk_wrep"];
const FIELDS: &[&str] = &["xxfld", "xfld"];
const OF_DOCUMENTS: &[&str] = &["xxbos", "xbos", "xxeos", "xxpad", "_pad_"];
/// Characters, but for white space, after which a token is looked for no further.
const WINDOW: usize = 80;

/// The words of a text that tokens stand for, in the order of the tokens; every token is in one of
/// them. A word is what Unicode's word boundaries enclose (UAX #29); one that a token goes beyond
/// is as large as the token.
pub fn pieces<T: AsRef<str>>(text: &str, tokens: &[T]) -> Vec<Piece> {
    let bare: Vec<&str> = tokens.iter().map(|token| bare(token.as_ref())).collect();
    let places = places(text, &bare);
    let words: Vec<Range<usize>> = text.split_word_bound_indices().map(|(at, word)| at..at + word.len()).collect();
    // the place of a token, grown to whole words
    let whole = |place: &Range<usize>| {
        let first = words.partition_point(|word| word.end <= place.start);
        let last = words.partition_point(|word| word.start < place.end).max(first + 1) - 1;
        words.get(first).zip(words.get(last)).map_or(place.clone(), |(first, last)| first.start..last.end)
    };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut marks: Option<usize> = None;
    for (at, place) in places.iter().enumerate() {
        let of_next_word = OF_WORDS.contains(&bare[at]) && place.is_none();
        if of_next_word {
            marks.get_or_insert(at);
            continue;
        }
        let first = if place.is_some() { marks.take().unwrap_or(at) } else { at };
        if let Some(from) = marks.take() {
            // marks without a word after them
            pieces.push(Piece { place: None, tokens: from..at });
        }
        let place = place.as_ref().map(whole);
        match (pieces.last_mut(), place) {
            (Some(Piece { place: Some(before), tokens }), Some(place)) if place.start < before.end => {
                before.end = before.end.max(place.end);
                tokens.end = at + 1;
            }
            (_, place) => pieces.push(Piece { place, tokens: first..at + 1 }),
        }
    }
    if let Some(from) = marks {
        pieces.push(Piece { place: None, tokens: from..tokens.len() });
    }
    pieces
}

/// A token without what tokenizers of sub-words add to it.
fn bare(token: &str) -> &str {
    let token = token.strip_suffix("</w>").unwrap_or(token);
    ["##", "▁", "Ġ"].iter().find_map(|mark| token.strip_prefix(mark).filter(|rest| !rest.is_empty())).unwrap_or(token)
}

/// A character of a text, in lower case, and the bytes it comes from.
struct Letter {
    lower: char,
    from: usize,
    to: usize,
}

fn letters(text: &str) -> Vec<Letter> {
    let of =
        |(at, c): (usize, char)| c.to_lowercase().map(move |lower| Letter { lower, from: at, to: at + c.len_utf8() });
    text.char_indices().filter(|(_, c)| !is_space(*c)).flat_map(of).collect()
}

/// The place of every token in the text, in bytes.
fn places(text: &str, tokens: &[&str]) -> Vec<Option<Range<usize>>> {
    let letters = letters(text);
    let spelled: Vec<Vec<char>> = (0..tokens.len()).map(|at| spelling(tokens, at)).collect();
    let mut found: Vec<Option<Range<usize>>> = vec![None; tokens.len()];
    // letters, not bytes
    let mut here = 0;
    for at in 0..tokens.len() {
        let wanted = &spelled[at];
        if wanted.is_empty() {
            continue;
        }
        let is_at = |wanted: &[char], from: usize| {
            letters
                .get(from..from + wanted.len())
                .is_some_and(|part| part.iter().map(|l| l.lower).eq(wanted.iter().copied()))
        };
        let end = letters.len().min(here + WINDOW);
        let next = spelled[at + 1..].iter().find(|next| !next.is_empty());
        let start = if is_at(wanted, here) {
            Some(here)
        } else {
            // rather where the next token follows at once
            let mut all = (here..end).filter(|&from| is_at(wanted, from));
            let first = all.clone().next();
            all.find(|&from| next.is_some_and(|next| is_at(next, from + wanted.len()))).or(first)
        };
        if let Some(start) = start {
            found[at] = Some(start..start + wanted.len());
            here = start + wanted.len();
        }
    }
    fill(&mut found, tokens, &spelled, letters.len());
    // a repetition is the place of its mark and number, too
    for at in 0..tokens.len() {
        if let Some(what) = repeated(tokens, at) {
            let place = found[what].clone();
            found[at..what].iter_mut().for_each(|of| *of = place.clone());
        }
    }
    let bytes = |place: Range<usize>| letters[place.start].from..letters[place.end - 1].to;
    found.into_iter().map(|place| place.map(bytes)).collect()
}

/// Gives to tokens that were not found what stands between those that were.
fn fill(found: &mut [Option<Range<usize>>], tokens: &[&str], spelled: &[Vec<char>], end: usize) {
    let lost = |at: usize, found: &[Option<Range<usize>>]| {
        found[at].is_none() && (!spelled[at].is_empty() || tokens[at].chars().all(is_space))
    };
    let mut at = 0;
    let mut before = 0;
    while at < found.len() {
        if let Some(place) = &found[at] {
            before = place.end;
        } else if lost(at, found) {
            let after = found[at..].iter().flatten().next().map_or(end, |place| place.start);
            let stop = (at..found.len()).find(|&k| found[k].is_some()).unwrap_or(found.len());
            if before < after {
                (at..stop).filter(|&k| lost(k, found)).collect::<Vec<_>>().into_iter().for_each(|k| {
                    found[k] = Some(before..after);
                });
            }
            at = stop;
            continue;
        }
        at += 1;
    }
}

/// Where what is repeated stands, if a token is the mark of a repetition: mark, number, perhaps
/// marks, what.
fn repeated(tokens: &[&str], at: usize) -> Option<usize> {
    if !REPEATED.contains(&tokens[at]) {
        return None;
    }
    tokens.get(at + 1)?.parse::<usize>().ok()?;
    (at + 2..tokens.len()).find(|&k| !OF_WORDS.contains(&tokens[k]))
}

/// The characters of the text that a token stands for; none for a mark.
fn spelling(tokens: &[&str], at: usize) -> Vec<char> {
    let token = tokens[at];
    let before = |k: usize| at.checked_sub(k).map(|before| tokens[before]);
    let of_field = before(1).is_some_and(|mark| FIELDS.contains(&mark)) && token.parse::<usize>().is_ok();
    let of_repetition = before(1).is_some_and(|mark| REPEATED.contains(&mark)) && token.parse::<usize>().is_ok();
    let mark = [OF_WORDS, FIELDS, OF_DOCUMENTS].iter().any(|marks| marks.contains(&token));
    if mark || of_field || of_repetition {
        return Vec::new();
    }
    let times = (2..=4)
        .find(|&k| at.checked_sub(k).is_some_and(|mark| repeated(tokens, mark) == Some(at)))
        .and_then(|k| tokens[at - k + 1].parse::<usize>().ok())
        // a number of a text may stand there
        .map_or(1, |times| times.clamp(1, 10_000));
    let one: Vec<char> = token.chars().filter(|c| !is_space(*c)).flat_map(char::to_lowercase).collect();
    one.repeat(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Document, Rules, Tokenizer, TokenizerKind};

    /// The words that the tokens of a text make up, with their tokens.
    fn shown(text: &str, tokens: &[&str]) -> Vec<(String, String)> {
        let pieces = pieces(text, tokens);
        let all: Vec<usize> = pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
        assert_eq!(all, (0..tokens.len()).collect::<Vec<_>>(), "every token once, in order");
        let one = |piece: &Piece| {
            let word = piece.place.clone().map_or(String::new(), |place| text[place].to_string());
            (word, tokens[piece.tokens.clone()].join(" "))
        };
        pieces.iter().map(one).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn marks_belong_to_the_word_after_them() {
        let tokens = ["xxbos", "xxmaj", "great", "film", "xxrep", "4", "!", "xxup", "see", "it"];
        let expected = [
            ("", "xxbos"),
            ("Great", "xxmaj great"),
            ("film", "film"),
            ("!!!!", "xxrep 4 !"),
            ("SEE", "xxup see"),
            ("it", "it"),
        ];
        assert_eq!(shown("Great film!!!! SEE it", &tokens), pairs(&expected));
    }

    #[test]
    fn what_the_rules_have_changed_is_found_again() {
        let tokens = ["xxbos", "a", "\n\n", "b", "&", "c", "'s", "xxwrep", "3", "no", "fine"];
        let text = "a<br /><br />b &amp; c's no no no ﬁne";
        let expected = [
            ("", "xxbos"),
            ("a", "a"),
            ("<br /><br />", "\n\n"),
            ("b", "b"),
            ("&", "&"),
            ("c's", "c 's"),
            ("no no no", "xxwrep 3 no"),
            ("ﬁne", "fine"),
        ];
        assert_eq!(shown(text, &tokens), pairs(&expected));
    }

    #[test]
    fn sub_words_make_up_a_word() {
        let tokens = ["xxbos", "▁un", "believ", "able", "▁", "▁ca", "f", "Ã©"];
        let expected = [("", "xxbos"), ("Unbelievable", "▁un believ able"), ("café", "▁ ▁ca f Ã©")];
        assert_eq!(shown("Unbelievable café", &tokens), pairs(&expected));
    }

    #[test]
    fn fields_and_numbers() {
        let tokens = ["xxbos", "xxfld", "1", "1", "day", "xxfld", "2", "2", "days"];
        let shown = shown("1 day 2 days", &tokens);
        let words: Vec<&str> = shown.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["", "", "", "1", "day", "", "", "2", "days"]);
    }

    /// Every token of the word tokenizers is placed, in every rule set, and a text's words come
    /// back.
    #[test]
    fn tokens_of_the_tokenizers_are_placed() {
        let text = "It's the BEST film I've ever seen!!!! Really, really, REALLY good (10/10) -- don't miss it.";
        for rules in [Rules::V07, Rules::V1, Rules::V2] {
            let tokenizer = Tokenizer::new(TokenizerKind::word(rules)).unwrap();
            let tokens = tokenizer.tokens(&Document::new(text));
            let pieces = pieces(text, &tokens);
            let mut end = 0;
            for piece in &pieces {
                let Some(place) = &piece.place else {
                    let marks = &tokens[piece.tokens.clone()];
                    let is_mark = |t: &String| t.starts_with('x') || t == "1" || t == "\n";
                    assert!(marks.iter().all(is_mark), "{rules:?} {marks:?} in {tokens:?}");
                    continue;
                };
                assert!(
                    text[end..place.start].chars().all(char::is_whitespace),
                    "{rules:?}: {}",
                    &text[end..place.start]
                );
                end = place.end;
            }
            assert_eq!(end, text.len(), "{rules:?} {tokens:?}");
        }
    }

    /// Nothing of a text or of tokens that do not belong to it can break it.
    #[test]
    fn any_tokens_have_places() {
        let texts = ["", " ", "İstanbul ẞ", "xxrep 3", "a\u{0}b", "<br", "éé"];
        let tokens =
            [vec![], vec!["xxrep"], vec!["xxrep", "99999999999", "x"], vec!["i\u{307}", "ss", "▁", "##", "\n"]];
        for text in texts {
            for tokens in &tokens {
                shown(text, tokens);
            }
        }
    }
}
