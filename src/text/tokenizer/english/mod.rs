//! The English word tokenizer: text is cut at white space; from each piece prefixes and suffixes
//! are cut off until an exception or nothing is left; the rest is cut at infixes unless it is
//! an address; at last, pieces that together are an exception (a face, an abbreviation) are put
//! together again. The procedure is spaCy's.

mod url;

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::pieces::Ends;
use super::tables::{
    CONTRACTIONS, CURRENCY_NAMES, EMOTICONS, HOURS, HYPHENS, NOT_CONTRACTIONS, POSSESSIVES, SPLIT, SPLIT_EXACT, UNITS,
    WHOLE, WHOLE_EXACT, WHOLE_V07, is_alpha, is_currency, is_icon, is_lead, is_lower, is_punctuation, is_quote,
    is_upper,
};

/// Words with a reading of their own: where their tokens end.
struct Exceptions {
    words: HashMap<String, Ends>,
    /// The exceptions that the affix rules would cut: the reading of the rules alone, by which they
    /// are found in running text.
    phrases: HashMap<String, Ends>,
    longest_phrase: usize,
}

impl Exceptions {
    fn new(marks_v07: bool) -> Self {
        let mut readings: Vec<String> = Vec::new();
        let capital = |word: &str| {
            let mut chars = word.chars();
            chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
        };
        let both = |word: &str| [word.to_string(), capital(word)];
        let skip: Vec<String> = NOT_CONTRACTIONS.split(' ').flat_map(both).collect();
        for (words, endings) in CONTRACTIONS {
            for word in words.split(' ').flat_map(both) {
                let contracted = endings.split(' ').map(|ending| format!("{word}|{ending}"));
                readings.extend(contracted.filter(|c| !skip.contains(&c.replace('|', ""))));
            }
        }
        readings.extend([SPLIT, WHOLE].iter().flat_map(|list| list.split_whitespace()).flat_map(both));
        readings.extend(
            [SPLIT_EXACT, WHOLE_EXACT, EMOTICONS].iter().flat_map(|list| list.split_whitespace()).map(String::from),
        );
        readings.extend((1..=12).flat_map(|h| HOURS.split(' ').map(move |half| format!("{h}|{half}"))));
        if marks_v07 {
            readings.extend(WHOLE_V07.split(' ').map(String::from));
        }
        let curly: Vec<String> = readings.iter().filter(|r| r.contains('\'')).map(|r| r.replace('\'', "’")).collect();
        readings.extend(curly);
        let mut words = HashMap::new();
        for reading in readings {
            // `|` parts tokens, but the faces `:|` and `=|` are words
            let whole = matches!(reading.as_str(), ":|" | ":-|" | "=|");
            let parts: Vec<&str> = if whole { vec![&reading] } else { reading.split('|').collect() };
            let ends = parts.iter().scan(0, |end, p| {
                *end += p.len() as u32;
                Some(*end)
            });
            words.insert(parts.concat(), ends.collect());
        }
        let mut this = Exceptions { words, phrases: HashMap::new(), longest_phrase: 0 };
        let cut = |w: &&String| prefix(w) > 0 || suffix(w) > 0 || !infixes(w).is_empty();
        let names: Vec<String> = this.words.keys().filter(cut).cloned().collect();
        for name in names {
            let ends = affixes(&name, None);
            this.longest_phrase = this.longest_phrase.max(ends.len());
            this.phrases.insert(name, ends);
        }
        this
    }
}

static EXCEPTIONS: LazyLock<Exceptions> = LazyLock::new(|| Exceptions::new(false));
static EXCEPTIONS_V07: LazyLock<Exceptions> = LazyLock::new(|| Exceptions::new(true));

/// Where the tokens of a piece of text without white space end.
pub(super) fn cut(text: &str, marks_v07: bool) -> Ends {
    let exceptions: &Exceptions = if marks_v07 { &EXCEPTIONS_V07 } else { &EXCEPTIONS };
    match exceptions.words.get(text) {
        Some(ends) => ends.clone(),
        None => rejoin(text, affixes(text, Some(exceptions)), exceptions),
    }
}

/// Cuts prefixes and suffixes off, then cuts what is left.
fn affixes(text: &str, exceptions: Option<&Exceptions>) -> Ends {
    let word = |s: &str| exceptions.and_then(|e| e.words.get(s));
    let (mut start, mut end) = (0, text.len());
    let mut front: Ends = Vec::new();
    // where the cut-off suffixes begin, the last one first
    let mut back: Vec<usize> = Vec::new();
    let mut before = usize::MAX;
    while start < end && end - start != before {
        let string = &text[start..end];
        if word(string).is_some() {
            break;
        }
        before = string.len();
        let lead = prefix(string);
        if lead > 0 && lead < string.len() && word(&string[lead..]).is_some() {
            start += lead;
            front.push(start as u32);
            break;
        }
        let tail = suffix(&string[lead..]);
        if tail > 0 && tail < string.len() && word(&string[..string.len() - tail]).is_some() {
            end -= tail;
            back.push(end);
            break;
        }
        if lead > 0 {
            start += lead;
            front.push(start as u32);
        }
        if tail > 0 {
            end -= tail;
            back.push(end);
        }
    }
    let mut ends = front;
    if start < end {
        let string = &text[start..end];
        if let Some(inner) = word(string) {
            ends.extend(inner.iter().map(|e| e + start as u32));
        } else if !url::is_address(string) {
            let mut from = 0;
            for (a, b) in infixes(string) {
                if a == 0 {
                    continue;
                }
                if a != from {
                    ends.push((start + a) as u32);
                }
                ends.push((start + b) as u32);
                from = b;
            }
            if from < string.len() {
                ends.push(end as u32);
            }
        } else {
            ends.push(end as u32);
        }
    }
    for (i, _) in back.iter().enumerate().rev() {
        ends.push(if i == 0 { text.len() } else { back[i - 1] } as u32);
    }
    ends
}

/// Puts neighbouring tokens together that make an exception; longer runs win, then earlier ones. As
/// in the reference, a run that loses keeps its other tokens from later runs too: `((:(:)x` is `(`,
/// `(:`, `(`, `:`, `)`, `x`.
fn rejoin(text: &str, ends: Ends, exceptions: &Exceptions) -> Ends {
    if ends.len() < 2 {
        return ends;
    }
    let begin = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
    let mut taken = vec![false; ends.len()];
    let mut found: Vec<(usize, usize)> = Vec::new();
    for length in (2..=exceptions.longest_phrase.min(ends.len())).rev() {
        for first in 0..=ends.len() - length {
            let (a, run) = (begin(first), first..first + length);
            let name = &text[a as usize..ends[run.end - 1] as usize];
            let same = |phrase: &Ends| phrase.iter().zip(&ends[run.clone()]).all(|(p, e)| p + a == *e);
            if exceptions.phrases.get(name).is_some_and(|p| p.len() == length && same(p)) {
                if !taken[run.start] && !taken[run.end - 1] {
                    found.push((run.start, run.end));
                }
                taken[run].fill(true);
            }
        }
    }
    if found.is_empty() {
        return ends;
    }
    found.sort_unstable();
    let (mut joined, mut i) = (Vec::with_capacity(ends.len()), 0);
    while i < ends.len() {
        match found.binary_search_by_key(&i, |f| f.0) {
            Ok(at) => {
                let (a, last) = (begin(i), found[at].1);
                let name = &text[a as usize..ends[last - 1] as usize];
                joined.extend(exceptions.words[name].iter().map(|e| e + a));
                i = last;
            }
            Err(_) => {
                joined.push(ends[i]);
                i += 1;
            }
        }
    }
    joined
}

/// Bytes of the prefix, 0 for none.
fn prefix(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(c) = chars.next() else { return 0 };
    let next = chars.next();
    let plus = c == '+' && !next.is_some_and(|n| n.is_ascii_digit());
    if is_lead(c) || plus || is_punctuation(c) || is_quote(c) || is_currency(c) {
        return c.len_utf8();
    }
    if c == '.' && next == Some('.') {
        return text.bytes().take_while(|&b| b == b'.').count();
    }
    if let Some(name) = CURRENCY_NAMES.iter().find(|n| text.starts_with(**n)) {
        return name.len();
    }
    if is_icon(c) { c.len_utf8() } else { 0 }
}

/// Bytes of the longest suffix, 0 for none.
fn suffix(text: &str) -> usize {
    let mut chars = text.chars().rev();
    let Some(c) = chars.next() else { return 0 };
    let before = |tail: &str| text[..text.len() - tail.len()].chars().next_back();
    let mut longest = 0;
    let mut found = |bytes: usize| longest = longest.max(bytes);
    if is_punctuation(c) || is_quote(c) || is_icon(c) || c == '—' || c == '–' {
        found(c.len_utf8());
        if text.ends_with("……") {
            found(2 * c.len_utf8());
        }
    }
    if c == '.' {
        let dots = text.bytes().rev().take_while(|&b| b == b'.').count();
        let (one, two) = (chars.next(), chars.next());
        let degree = two == Some('°') && one.is_some_and(|c| "FfCcKk".contains(c));
        let lower = one.is_some_and(|c| {
            c.is_ascii_digit() || is_lower(c) || "%²-+|(?:)".contains(c) || is_punctuation(c) || is_quote(c)
        });
        let capitals = one.is_some_and(is_upper) && two.is_some_and(is_upper);
        if dots >= 2 {
            found(dots);
        } else if degree || lower || capitals {
            found(1);
        }
    }
    if let Some(tail) = POSSESSIVES.iter().find(|p| text.ends_with(**p)) {
        found(tail.len());
    }
    let after_digit = |tail: &&&str| text.ends_with(**tail) && before(tail).is_some_and(|c| c.is_ascii_digit());
    for tail in UNITS.iter().chain(CURRENCY_NAMES).chain(&["+"]).filter(after_digit) {
        found(tail.len());
    }
    if is_currency(c) && text[..text.len() - c.len_utf8()].ends_with(|c: char| c.is_ascii_digit()) {
        found(c.len_utf8());
    }
    longest
}

/// Where a word is cut in its inside: beginnings and ends of the infixes.
fn infixes(text: &str) -> Vec<(usize, usize)> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Vec::new();
    }
    let (mut found, mut at) = (Vec::new(), 0);
    let mut last: Option<char> = None;
    while let Some(c) = text[at..].chars().next() {
        let after = |bytes: usize| text[at + bytes..].chars().next();
        let width = c.len_utf8();
        let dots = text[at..].bytes().take_while(|&b| b == b'.').count();
        let letter_after = |bytes: usize| after(bytes).is_some_and(is_alpha);
        let letter_before = last.is_some_and(is_alpha);
        let digit_before = last.is_some_and(|c| c.is_ascii_digit());
        let arithmetic = matches!(c, '+' | '-' | '*' | '^')
            && digit_before
            && after(1).is_some_and(|n| n.is_ascii_digit() || n == '-');
        let sentences = c == '.'
            && last.is_some_and(|l| is_lower(l) || is_quote(l))
            && after(1).is_some_and(|n| is_upper(n) || is_quote(n));
        let relation = matches!(c, ':' | '<' | '>' | '=' | '/') && (letter_before || digit_before) && letter_after(1);
        let length = if dots >= 2 {
            dots
        } else if c == '…' || is_icon(c) {
            width
        } else if arithmetic || sentences || c == ',' && letter_before && letter_after(1) || relation {
            1
        } else if letter_before || digit_before {
            let hyphen = HYPHENS.iter().find(|h| text[at..].starts_with(**h) && letter_after(h.len()));
            hyphen.map_or(0, |h| h.len())
        } else {
            0
        };
        let step = if length > 0 { length } else { width };
        if length > 0 {
            found.push((at, at + length));
        }
        last = text[at..at + step].chars().next_back();
        at += step;
    }
    found
}
