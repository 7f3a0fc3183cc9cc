//! The text rules around the word tokenizer: fastai 0.7 (docs/SPEC.md §2.1), v1 and v2 (§2.2).
//!
//! The expressions of the original need look-behind and back-references, so each is a hand-written scanner; its docstring
//! gives the expression it stands for. `\s` is [`is_space`], `\w` is [`is_word`].

use super::super::{Document, is_space};
use super::chars::{is_lower, is_upper, is_word};
use super::{Rules, html};

/// Literal replacements of `fix_html` / `fixup`, in order.
const REPLACE_COMMON: &[(&str, &str)] = &[
    ("#39;", "'"),
    ("amp;", "&"),
    ("#146;", "'"),
    ("nbsp;", " "),
    ("#36;", "$"),
    ("\\n", "\n"),
    ("quot;", "'"),
    ("<br />", "\n"),
    ("\\\"", "\""),
];
const REPLACE_V07: &[(&str, &str)] = &[("<unk>", "u_n"), (" @.@ ", "."), (" @-@ ", "-"), ("\\", " \\ ")];
const REPLACE_V1: &[(&str, &str)] =
    &[("<unk>", "xxunk"), (" @.@ ", "."), (" @-@ ", "-"), (" @,@ ", ","), ("\\", " \\ ")];
const REPLACE_V2: &[(&str, &str)] = &[("<unk>", "xxunk"), (" @.@ ", "."), (" @-@ ", "-"), ("...", " …")];

/// Applies the rules that come before the tokenizer. The result is in `text`; `other` is scratch.
pub(super) fn before(document: &Document, rules: Rules, text: &mut String, other: &mut String) {
    text.clear();
    let many = document.has_many_fields();
    for (i, field) in document.fields().enumerate() {
        let number = i + 1;
        match rules {
            Rules::V07 if i == 0 => text.push_str("\nxbos xfld 1 "),
            Rules::V07 => text.push_str(&format!(" xfld {number} ")),
            // v2 marks fields when there are several; v1 leaves it to a flag, and is treated alike
            Rules::V1 | Rules::V2 => {
                if rules == Rules::V1 && i == 0 {
                    text.push_str("xxbos ");
                }
                if many {
                    text.push_str(&format!("{}xxfld {number} ", if i == 0 { "" } else { " " }));
                }
            }
        }
        text.push_str(field);
    }
    let own = match rules {
        Rules::V07 => REPLACE_V07,
        Rules::V1 => REPLACE_V1,
        Rules::V2 => REPLACE_V2,
    };
    for (from, to) in REPLACE_COMMON.iter().chain(own) {
        if text.contains(from) {
            *text = text.replace(from, to);
        }
    }
    if text.contains('&') {
        other.clear();
        html::unescape(text, other);
        std::mem::swap(text, other);
    }
    let mut rule = |apply: &dyn Fn(&str, &mut String)| {
        other.clear();
        apply(text, other);
        std::mem::swap(text, other);
    };
    match rules {
        Rules::V07 => {
            rule(&collapse_spaces);
            rule(&|t, out| repeated_characters(t, 4, "tk_rep", out));
            rule(&|t, out| repeated_pieces(t, "tk_wrep", out));
            rule(&upper_pieces);
            rule(&|t, out| spaces_round(t, &['/', '#'], out));
            rule(&collapse_spaces);
            rule(&break_tags);
        }
        Rules::V1 => {
            rule(&collapse_spaces);
            rule(&|t, out| repeated_characters(t, 4, "xxrep", out));
            rule(&|t, out| repeated_pieces(t, "xxwrep", out));
            rule(&|t, out| spaces_round(t, &['/', '#', '\n'], out));
            rule(&collapse_spaces);
        }
        Rules::V2 => {
            rule(&|t, out| repeated_characters(t, 3, "xxrep", out));
            rule(&repeated_words);
            rule(&|t, out| spaces_round(t, &['/', '#', '\\'], out));
            rule(&collapse_spaces);
            rule(&capitals);
            let lower = text.to_lowercase();
            text.clear();
            text.push_str("xxbos ");
            text.push_str(lower.trim_matches(is_space));
        }
    }
}

/// Applies the rules that come after the tokenizer to one token.
pub(super) fn after(token: &str, rules: Rules, emit: &mut dyn FnMut(&str)) {
    match rules {
        Rules::V07 => emit(token),
        // spaces within a token become ▁
        Rules::V2 if token.contains(' ') => emit(&token.replace(' ', "▁")),
        Rules::V2 => emit(token),
        Rules::V1 => {
            let mut chars = token.chars();
            let Some(first) = chars.next() else { return };
            let rest = chars.as_str();
            if !rest.is_empty() {
                if is_upper(token) {
                    emit("xxup");
                } else if first.is_uppercase() && is_lower(rest) {
                    emit("xxmaj");
                }
            }
            emit(&token.to_lowercase());
        }
    }
}

/// `(\S)(\1{n-1,})` → ` mark count c `.
fn repeated_characters(text: &str, least: usize, mark: &str, out: &mut String) {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut count = 1;
        while chars.next_if(|(_, next)| *next == c).is_some() {
            count += 1;
        }
        if count >= least && !is_space(c) {
            out.push_str(&format!(" {mark} {count} {c} "));
        } else {
            out.push_str(&text[at..at + count * c.len_utf8()]);
        }
    }
}

/// `(\b\w+\W+)(\1{3,})` → ` mark count piece ` (0.7, v1). The count is that of the white-space separated parts of the
/// repetitions, plus one, as in the original.
fn repeated_pieces(text: &str, mark: &str, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if word == 0 {
            let skip = rest.find(is_word).unwrap_or(rest.len());
            out.push_str(&rest[..skip]);
            rest = &rest[skip..];
            continue;
        }
        let piece_end = rest[word..].find(is_word).map_or(rest.len(), |i| word + i);
        let piece = &rest[..piece_end];
        let mut end = piece_end;
        while piece_end > word && rest[end..].starts_with(piece) {
            end += piece.len();
        }
        if end >= 4 * piece.len() && piece_end > word {
            let count = rest[piece_end..end].split(is_space).filter(|p| !p.is_empty()).count() + 1;
            out.push_str(&format!(" {mark} {count} {piece} "));
            rest = &rest[end..];
        } else {
            out.push_str(piece);
            rest = &rest[piece_end..];
        }
    }
}

/// `(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)` → ` xxwrep count word end` (v2).
fn repeated_words(text: &str, out: &mut String) {
    let mut at = 0;
    // start of the text that is not yet copied
    let mut copied = 0;
    while at < text.len() {
        // a candidate begins at the start of the text or after one white-space character
        let first = text[at..].chars().next().unwrap_or(' ');
        let begin = if is_space(first) { at + first.len_utf8() } else { at };
        let candidate = if is_space(first) || at == 0 { repetition(&text[begin..]) } else { None };
        if let Some((word, count, length, end)) = candidate {
            out.push_str(&text[copied..at]);
            out.push_str(&format!(" xxwrep {count} {word} {end}"));
            at = begin + length;
            copied = at;
        } else {
            // go on at the next white space
            let step = first.len_utf8();
            at = text[at + step..].find(is_space).map_or(text.len(), |i| at + step + i);
        }
    }
    out.push_str(&text[copied..]);
}

/// At the beginning of `text`, a word that is there three times or more, parted by white space: (word, count, length of the
/// match with the character that ends it, that character or nothing).
fn repetition(text: &str) -> Option<(&str, usize, usize, &str)> {
    let word_end = text.find(|c| !is_word(c))?;
    let word = &text[..word_end];
    if word.is_empty() {
        return None;
    }
    let spaces = |at: usize| text[at..].find(|c| !is_space(c)).map_or(text.len(), |i| at + i);
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
fn spaces_round(text: &str, which: &[char], out: &mut String) {
    for c in text.chars() {
        if which.contains(&c) {
            out.push(' ');
            out.push(c);
            out.push(' ');
        } else {
            out.push(c);
        }
    }
}

/// ` {2,}` → one space.
fn collapse_spaces(text: &str, out: &mut String) {
    let mut before = false;
    for c in text.chars() {
        if c != ' ' || !before {
            out.push(c);
        }
        before = c == ' ';
    }
}

/// `<\s*br\s*/?>`, any case → newline (0.7).
fn break_tags(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let inner = rest[at + 1..].trim_start_matches(is_space);
        let tag = inner.get(..2).filter(|t| t.eq_ignore_ascii_case("br")).and_then(|_| {
            let tail = inner[2..].trim_start_matches(is_space);
            tail.strip_prefix('/').unwrap_or(tail).strip_prefix('>')
        });
        match tag {
            Some(tail) => {
                out.push('\n');
                rest = tail;
            }
            None => {
                out.push('<');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
}

/// Pieces of `\w+|\W+`: one all in capitals and longer than two → ` t_up ` + lower; all are lower-cased (0.7).
fn upper_pieces(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = is_word(first);
        let end = rest.find(|c| is_word(c) != kind).unwrap_or(rest.len());
        let piece = &rest[..end];
        if is_upper(piece) && piece.chars().count() > 2 {
            out.push_str(" t_up ");
        }
        out.push_str(&piece.to_lowercase());
        rest = &rest[end..];
    }
}

/// `(\s|^)([A-Z]+[^a-z\s]*)(?=(\s|$))` → `xxup ` + lower, then `(\s|^)([A-Z][^A-Z\s]*)(?=(\s|$))` → `xxmaj ` + lower; the
/// marker only before words longer than one character (v2).
fn capitals(text: &str, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_space).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.starts_with(|c: char| c.is_ascii_uppercase()) {
            let no_lower = !word.bytes().any(|b| b.is_ascii_lowercase());
            let one_upper = word.bytes().filter(u8::is_ascii_uppercase).count() == 1;
            if (no_lower || one_upper) && word.chars().nth(1).is_some() {
                out.push_str(if no_lower { "xxup " } else { "xxmaj " });
            }
            if no_lower || one_upper {
                out.push_str(&word.to_lowercase());
            } else {
                out.push_str(word);
            }
        } else {
            out.push_str(word);
        }
        let next = rest[end..].find(|c| !is_space(c)).map_or(rest.len(), |i| end + i);
        out.push_str(&rest[end..next]);
        rest = &rest[next..];
    }
}

/// Tokens as readable text: markers applied, punctuation joined. For display only; it does not invert the rules.
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
