//! Character references of HTML, as Python's `html.unescape` resolves them (the reference rules
//! call it).

use std::collections::HashMap;
use std::sync::LazyLock;

/// The named references of the HTML standard (§13.5): `name code [code]`, separated by commas and
/// line ends.
static NAMED: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let parse = |item: &'static str| {
        let mut parts = item.split(' ');
        let name = parts.next().unwrap_or_default();
        let text = parts.filter_map(|p| u32::from_str_radix(p, 16).ok().and_then(char::from_u32)).collect();
        (name, text)
    };
    include_str!("entities.txt").split([',', '\n']).filter(|i| !i.is_empty()).map(parse).collect()
});

/// The characters of the numbers 0x80 to 0x9f in a character reference (windows-1252).
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn numeric(number: u32) -> Option<char> {
    match number {
        0 => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => Some(WINDOWS_1252[number as usize - 0x80]),
        0xd800..=0xdfff | 0x11_0000.. => Some('\u{fffd}'),
        // control characters and non-characters vanish
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        n if n & 0xfffe == 0xfffe => None,
        n => char::from_u32(n),
    }
}

/// Replaces the character references of `text`, appending to `out`; false where there is no `&`.
pub(super) fn unescape(text: &str, out: &mut String) -> bool {
    if memchr::memchr(b'&', text.as_bytes()).is_none() {
        return false;
    }
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let used = reference(&rest[1..], out);
        if used == 0 {
            out.push('&');
        }
        rest = &rest[1 + used..];
    }
    out.push_str(rest);
    true
}

/// Resolves the reference at the beginning of `text` (after the `&`); returns the bytes used, 0 for
/// none.
fn reference(text: &str, out: &mut String) -> usize {
    if let Some(number) = text.strip_prefix('#') {
        let hexadecimal = number.starts_with(['x', 'X']);
        let (skip, radix) = if hexadecimal { (1, 16) } else { (0, 10) };
        let digits = number[skip..].bytes().take_while(|b| char::from(*b).is_digit(radix)).count();
        if digits == 0 {
            return 0;
        }
        let end = skip + digits;
        let value = number[skip..end]
            .bytes()
            .fold(0u32, |n, b| n.saturating_mul(radix).saturating_add(char::from(b).to_digit(radix).unwrap_or(0)));
        out.extend(numeric(value));
        return 1 + end + usize::from(number[end..].starts_with(';'));
    }
    // at most 32 characters, and a semicolon
    let stop = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let mut end = text
        .char_indices()
        .take(32)
        .find(|(_, c)| stop(*c))
        .map_or_else(|| text.char_indices().nth(32).map_or(text.len(), |(i, _)| i), |(i, _)| i);
    if end == 0 {
        return 0;
    }
    if text[end..].starts_with(';') {
        if let Some(value) = NAMED.get(&text[..=end]) {
            out.push_str(value);
            return end + 1;
        }
    } else if let Some(value) = NAMED.get(&text[..end]) {
        out.push_str(value);
        return end;
    }
    // the longest beginning that is a name without semicolon; the rest stays
    while end > 2 {
        end -= 1;
        if let Some(value) = text.get(..end).and_then(|name| NAMED.get(name)) {
            out.push_str(value);
            return end;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_resolves() {
        let cases = [
            ("a &lt;b&gt; &amp;amp; &", "a <b> &amp; &"),
            ("&eacute;&eacute &notit; &notin;", "éé ¬it; ∉"),
            ("&#39;&#x27;&#8217 &#0;&#150;&#1;&#xD800;&#99999999999;", "''’ \u{fffd}–\u{fffd}\u{fffd}"),
            ("&nope; &; &#; &#x; &&amp", "&nope; &; &#; &#x; &&"),
            ("&NotEqualTilde;", "\u{2242}\u{338}"),
            ("&ampé;", "&é;"),
        ];
        for (text, expected) in cases {
            let mut out = String::new();
            unescape(text, &mut out);
            assert_eq!(out, expected, "{text}");
        }
    }
}
