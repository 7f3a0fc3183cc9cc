//! The text rules around the word tokenizer: fastai 0.7 (docs/SPEC.md §2.1), v1 and v2 (§2.2).
//!
//! The expressions of the original need look-behind and back-references, so each is a hand-written
//! scanner; its docstring gives the expression it stands for. `\s` is [`is_space`], `\w` is
//! [`is_word`].

use std::fmt::Write as _;

use memchr::memmem;

use super::super::{Document, is_space};
use super::chars::{is_lower, is_upper, is_word, next_space, next_word, space_end, word_end};
use super::tables::{REPLACE_COMMON, RuleTable};
use super::{Invisible, Rules, html, invisible};

/// A text on its way through a rule: unchanged stretches are copied in long runs.
pub(super) struct Edit<'a> {
    text: &'a str,
    out: &'a mut String,
    copied: usize,
    changed: bool,
}

impl<'a> Edit<'a> {
    pub(super) fn new(text: &'a str, out: &'a mut String) -> Self {
        Edit { text, out, copied: 0, changed: false }
    }

    /// Leaves out the text from `start` to `end`; its replacement is to be pushed to the
    /// string returned.
    pub(super) fn cut(&mut self, start: usize, end: usize) -> &mut String {
        self.out.push_str(&self.text[self.copied..start]);
        self.copied = end;
        self.changed = true;
        self.out
    }

    /// Whether anything was changed; if not, `out` is as it was.
    pub(super) fn done(self) -> bool {
        if self.changed {
            self.out.push_str(&self.text[self.copied..]);
        }
        self.changed
    }
}

/// Pushes ` mark count what`.
fn push_mark(out: &mut String, mark: &str, count: usize, what: &str) {
    write!(out, " {mark} {count} {what}").expect("a string takes everything");
}

/// How capitals become small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Casing {
    #[default]
    Unicode,
    /// As in Turkish and Azerbaijani: I is the capital of ı, İ that of i.
    Turkish,
}

impl Casing {
    /// The casing of a language, by its code.
    pub(super) fn of(code: &str) -> Self {
        let turkish = matches!(code.split(['-', '_']).next(), Some("tr" | "az" | "tur" | "aze"));
        if turkish { Casing::Turkish } else { Casing::Unicode }
    }

    /// `str.lower` of a whole text, appended to `out`.
    fn push_lower(self, text: &str, out: &mut String) {
        if self == Casing::Unicode && text.contains('Σ') {
            // its lower case depends on its neighbours
            out.push_str(&text.to_lowercase());
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            let ascii = rest.bytes().position(|b| b >= 0x80).unwrap_or(rest.len());
            self.push_ascii_lower(&rest[..ascii], out);
            rest = &rest[ascii..];
            let Some(c) = rest.chars().next() else { break };
            match (self, c) {
                (Casing::Turkish, 'İ') => out.push('i'),
                _ => out.extend(c.to_lowercase()),
            }
            rest = &rest[c.len_utf8()..];
        }
    }

    fn push_ascii_lower(self, text: &str, out: &mut String) {
        if self == Casing::Turkish && text.contains('I') {
            out.extend(text.chars().map(|c| if c == 'I' { 'ı' } else { c.to_ascii_lowercase() }));
            return;
        }
        let from = out.len();
        out.push_str(text);
        out[from..].make_ascii_lowercase();
    }
}

/// Applies the rules that come before the tokenizer. The result is in `text`; `other` is scratch.
pub(super) fn before(
    document: &Document,
    rules: Rules,
    casing: Casing,
    invisible: Invisible,
    text: &mut String,
    other: &mut String,
) {
    text.clear();
    push_fields(document, rules, text);
    let table = rules.table();
    if casing == Casing::Turkish && text.contains("I\u{307}") {
        // İ in two characters
        *text = text.replace("I\u{307}", "\u{130}");
    }
    replace_literals(text, REPLACE_COMMON.iter().chain(table.replace));
    // a rule tells whether it changed anything; if not, `other` is not looked at
    let mut rule = |apply: &dyn Fn(&str, &mut String) -> bool| {
        other.clear();
        if apply(text, other) {
            std::mem::swap(text, other);
        }
    };
    rule(&html::unescape);
    if invisible == Invisible::Drop {
        rule(&invisible::drop);
    }
    match rules {
        Rules::V07 => {
            rule(&collapse_spaces);
            rule(&|t, out| repeated_characters(t, table, out));
            rule(&|t, out| repeated_pieces(t, table.word_mark, out));
            rule(&|t, out| upper_pieces(t, table.upper_mark, casing, out));
            rule(&|t, out| spaces_round(t, table.spaced, out));
            rule(&collapse_spaces);
            rule(&break_tags);
        }
        Rules::V1 => {
            rule(&collapse_spaces);
            rule(&|t, out| repeated_characters(t, table, out));
            rule(&|t, out| repeated_pieces(t, table.word_mark, out));
            rule(&|t, out| spaces_round(t, table.spaced, out));
            rule(&collapse_spaces);
        }
        Rules::V2 => {
            rule(&|t, out| repeated_characters(t, table, out));
            rule(&|t, out| repeated_words(t, table.word_mark, out));
            rule(&|t, out| spaces_round(t, table.spaced, out));
            rule(&collapse_spaces);
            rule(&|t, out| capitals(t, table, casing, out));
            rule(&|t, out| {
                out.push_str("xxbos ");
                casing.push_lower(t.trim_matches(is_space), out);
                true
            });
        }
    }
}

/// The fields of the document with the marks of the rule set.
fn push_fields(document: &Document, rules: Rules, text: &mut String) {
    let many = document.has_many_fields();
    for (i, field) in document.fields().enumerate() {
        let number = i + 1;
        match rules {
            Rules::V07 if i == 0 => text.push_str("\nxbos xfld 1 "),
            Rules::V07 => push_mark(text, "xfld", number, ""),
            // v2 marks fields when there are several; v1 leaves it to a flag, and is treated alike
            Rules::V1 | Rules::V2 => {
                if rules == Rules::V1 && i == 0 {
                    text.push_str("xxbos ");
                }
                if many && i == 0 {
                    text.push_str("xxfld 1 ");
                } else if many {
                    push_mark(text, "xxfld", number, "");
                }
            }
        }
        text.push_str(field);
    }
}

/// Literal replacements, one after the other.
fn replace_literals<'a>(text: &mut String, table: impl Iterator<Item = &'a (&'a str, &'a str)>) {
    // most texts lack a byte of most of the patterns
    let mut present = [false; 256];
    text.bytes().for_each(|b| present[usize::from(b)] = true);
    for (from, to) in table {
        if from.bytes().all(|b| present[usize::from(b)]) && memmem::find(text.as_bytes(), from.as_bytes()).is_some() {
            *text = text.replace(from, to);
            to.bytes().for_each(|b| present[usize::from(b)] = true);
        }
    }
}

/// Applies the rules that come after the tokenizer to one token.
pub(super) fn after(token: &str, rules: Rules, casing: Casing, emit: &mut dyn FnMut(&str)) {
    match rules {
        Rules::V07 => emit(token),
        // spaces within a token become ▁
        Rules::V2 if token.bytes().any(|b| b == b' ') => emit(&token.replace(' ', "▁")),
        Rules::V2 => emit(token),
        Rules::V1 if token.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) => emit(token),
        Rules::V1 => {
            let mut chars = token.chars();
            let Some(first) = chars.next() else { return };
            let rest = chars.as_str();
            let table = rules.table();
            if !rest.is_empty() {
                if is_upper(token) {
                    emit(table.upper_mark);
                } else if first.is_uppercase() && is_lower(rest) {
                    table.capital_mark.into_iter().for_each(&mut *emit);
                }
            }
            let mut lower = String::with_capacity(token.len());
            casing.push_lower(token, &mut lower);
            emit(&lower);
        }
    }
}

/// `(\S)(\1{n-1,})` → ` mark count c `.
fn repeated_characters(text: &str, table: &RuleTable, out: &mut String) -> bool {
    let bytes = text.as_bytes();
    let mut edit = Edit::new(text, out);
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let width = match b {
            0..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
        };
        let c = &bytes[at..at + width];
        let mut end = at + width;
        while bytes[end..].starts_with(c) {
            end += width;
        }
        let count = (end - at) / width;
        if count >= table.repetition && !text[at..].starts_with(is_space) {
            push_mark(edit.cut(at, end), table.repetition_mark, count, &text[at..at + width]);
            edit.out.push(' ');
        }
        at = end;
    }
    edit.done()
}

/// `(\b\w+\W+)(\1{3,})` → ` mark count piece ` (0.7, v1). The count is that of the white-space
/// separated parts of the repetitions, plus one, as in the original.
fn repeated_pieces(text: &str, mark: &str, out: &mut String) -> bool {
    let bytes = text.as_bytes();
    let mut edit = Edit::new(text, out);
    let mut at = next_word(text, 0);
    while at < text.len() {
        let word = word_end(text, at);
        let next = next_word(text, word);
        let piece = &bytes[at..next];
        let mut end = next;
        while bytes[end..].starts_with(piece) {
            end += piece.len();
        }
        // a word at the very end has no `\W+`, and nothing comes after it
        if end - at >= 4 * piece.len() {
            let count = text[next..end].split(is_space).filter(|p| !p.is_empty()).count() + 1;
            push_mark(edit.cut(at, end), mark, count, &text[at..next]);
            edit.out.push(' ');
            at = next_word(text, end);
        } else {
            at = next;
        }
    }
    edit.done()
}

/// `(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)` → ` xxwrep count word end` (v2).
fn repeated_words(text: &str, mark: &str, out: &mut String) -> bool {
    let mut edit = Edit::new(text, out);
    let mut at = 0;
    while at < text.len() {
        // a candidate begins at the start of the text or after one white-space character
        let first = text[at..].chars().next().unwrap_or(' ');
        let begin = if is_space(first) { at + first.len_utf8() } else { at };
        let candidate = if is_space(first) || at == 0 { repetition(&text[begin..]) } else { None };
        if let Some((word, count, length, end)) = candidate {
            let out = edit.cut(at, begin + length);
            push_mark(out, mark, count, word);
            out.push(' ');
            out.push_str(end);
            at = begin + length;
        } else {
            // go on at the next white space
            at = next_space(text, at + first.len_utf8());
        }
    }
    edit.done()
}

/// At the beginning of `text`, a word that is there three times or more, parted by white space:
/// (word, count, length of the match with the character that ends it, that character or nothing).
fn repetition(text: &str) -> Option<(&str, usize, usize, &str)> {
    let word_end = word_end(text, 0);
    if word_end == 0 {
        return None;
    }
    let word = &text[..word_end];
    let spaces = |at: usize| space_end(text, at);
    let first_char = |at: usize| text[at..].chars().next().map_or("", |c| &text[at..at + c.len_utf8()]);
    let mut at = spaces(word_end);
    if at == word_end {
        return None;
    }
    // whole repetitions `word\s+`
    let (mut whole, mut before_last) = (0, 0);
    while text[at..].starts_with(word) {
        let after = at + word_end;
        let next = spaces(after);
        if next == after {
            break;
        }
        whole += 1;
        before_last = after;
        at = next;
    }
    let tail = at + word_end;
    if whole >= 1 && text[at..].starts_with(word) && !text[tail..].starts_with(is_word) {
        let end = first_char(tail);
        Some((word, whole + 2, tail + end.len(), end))
    } else if whole >= 2 {
        // the last whole repetition closes the match, with its first space
        let end = first_char(before_last);
        Some((word, whole + 1, before_last + end.len(), end))
    } else {
        None
    }
}

/// `([…])` → ` c `.
fn spaces_round(text: &str, which: &[u8], out: &mut String) -> bool {
    let mut edit = Edit::new(text, out);
    for (at, b) in text.bytes().enumerate() {
        if which.contains(&b) {
            let out = edit.cut(at, at + 1);
            out.push(' ');
            out.push(char::from(b));
            out.push(' ');
        }
    }
    edit.done()
}

/// ` {2,}` → one space.
fn collapse_spaces(text: &str, out: &mut String) -> bool {
    let bytes = text.as_bytes();
    let mut edit = Edit::new(text, out);
    let two = memmem::Finder::new("  ");
    let mut at = 0;
    while let Some(found) = two.find(&bytes[at..]) {
        let start = at + found;
        at = start + bytes[start..].iter().take_while(|&&b| b == b' ').count();
        edit.cut(start + 1, at);
    }
    edit.done()
}

/// `<\s*br\s*/?>`, any case → newline (0.7).
fn break_tags(text: &str, out: &mut String) -> bool {
    let mut edit = Edit::new(text, out);
    for at in memchr::memchr_iter(b'<', text.as_bytes()) {
        let inner = text[at + 1..].trim_start_matches(is_space);
        let tail = inner.get(..2).filter(|t| t.eq_ignore_ascii_case("br")).and_then(|_| {
            let tail = inner[2..].trim_start_matches(is_space);
            tail.strip_prefix('/').unwrap_or(tail).strip_prefix('>')
        });
        if let Some(tail) = tail {
            edit.cut(at, text.len() - tail.len()).push('\n');
        }
    }
    edit.done()
}

/// Pieces of `\w+|\W+`: one all in capitals and longer than two → ` t_up ` + lower; all are
/// lower-cased (0.7).
fn upper_pieces(text: &str, mark: &str, casing: Casing, out: &mut String) -> bool {
    // ASCII text that is not yet copied begins here
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        let word = word_end(text, at);
        let end = if word > at { word } else { next_word(text, at) };
        let piece = &text[at..end];
        let ascii = piece.is_ascii();
        let marked = if ascii {
            let bytes = piece.as_bytes();
            bytes.len() > 2 && bytes.iter().any(u8::is_ascii_uppercase) && !bytes.iter().any(u8::is_ascii_lowercase)
        } else {
            is_upper(piece) && piece.chars().count() > 2
        };
        if marked || !ascii {
            casing.push_ascii_lower(&text[copied..at], out);
            copied = at;
        }
        if marked {
            out.push(' ');
            out.push_str(mark);
            out.push(' ');
        }
        if !ascii {
            casing.push_lower(piece, out);
            copied = end;
        }
        at = end;
    }
    casing.push_ascii_lower(&text[copied..], out);
    true
}

/// `(\s|^)([A-Z]+[^a-z\s]*)(?=(\s|$))` → `xxup ` + lower, then `(\s|^)([A-Z][^A-Z\s]*)(?=(\s|$))` →
/// `xxmaj ` + lower; the marker only before words longer than one character (v2).
fn capitals(text: &str, table: &RuleTable, casing: Casing, out: &mut String) -> bool {
    let mut edit = Edit::new(text, out);
    let mut at = space_end(text, 0);
    while at < text.len() {
        let end = next_space(text, at);
        let word = &text[at..end];
        if word.starts_with(|c: char| c.is_ascii_uppercase()) {
            let no_lower = !word.bytes().any(|b| b.is_ascii_lowercase());
            let one_upper = word.bytes().filter(u8::is_ascii_uppercase).count() == 1;
            if no_lower || one_upper {
                let out = edit.cut(at, end);
                let mark = if no_lower { Some(table.upper_mark) } else { table.capital_mark };
                if let Some(mark) = mark.filter(|_| word.chars().nth(1).is_some()) {
                    out.push_str(mark);
                    out.push(' ');
                }
                casing.push_lower(word, out);
            }
        }
        at = space_end(text, end);
    }
    edit.done()
}

/// Tokens as readable text: markers applied, punctuation joined. For display only; it does not
/// invert the rules.
pub(super) fn detokenize(tokens: &[&str]) -> String {
    let mut out = String::new();
    let (mut upper, mut capital, mut glue) = (false, false, true);
    for &token in tokens {
        match token {
            "xxup" | "t_up" => upper = true,
            "xxmaj" => capital = true,
            "xxbos" | "xbos" | "xxpad" | "_pad_" => {}
            "xxeos" => {
                out.push('\n');
                glue = true;
            }
            _ => {
                let token = token.replace('▁', " ");
                let joins = token
                    .chars()
                    .all(|c| matches!(c, '.' | ',' | '!' | '?' | ';' | ':' | ')' | ']' | '…' | '\n' | ' '))
                    || token.starts_with('\'') && token.len() > 1
                    || token == "n't";
                if !glue && !joins {
                    out.push(' ');
                }
                let mut chars = token.chars();
                match chars.next() {
                    _ if upper => out.push_str(&token.to_uppercase()),
                    Some(first) if capital => out.extend(first.to_uppercase().chain(chars)),
                    _ => out.push_str(&token),
                }
                (upper, capital) = (false, false);
                glue = matches!(token.as_str(), "(" | "[" | "$" | "#") || token.ends_with('\n');
            }
        }
    }
    out
}
