//! Characters that nobody sees: soft hyphens, zero-width spaces and joiners. Within a word they
//! make another word of it, which the vocabulary does not know. No source has a rule for them
//! (docs/SPEC.md §2), so recipes of a source keep them.

use serde::{Deserialize, Serialize};

use super::rules::Edit;

/// Whether invisible characters are kept or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Invisible {
    /// Invisible characters stay, as in every version before there was a choice.
    #[default]
    Keep,
    /// Invisible characters go, unless they mean something where they stand: see `drop`.
    Drop,
}

impl Invisible {
    pub(in crate::text) fn is_keep(&self) -> bool {
        *self == Invisible::Keep
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Invisible::Keep => "keep",
            Invisible::Drop => "drop",
        }
    }
}

/// Soft hyphen, word joiner and zero-width no-break space (a byte-order mark): they never part or
/// join words.
fn means_nothing(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{2060}' | '\u{feff}')
}

/// Zero-width space, non-joiner and joiner: they part words of Thai or Khmer, shape Persian and
/// Indic letters, join emoji.
fn may_mean_something(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200d}')
}

/// Beside such characters zero-width ones mean nothing: ASCII, the letters of Latin, Greek,
/// Cyrillic and Armenian, punctuation.
fn is_plain(c: char) -> bool {
    matches!(c, '\0'..='\u{58f}' | '\u{1e00}'..='\u{1fff}' | '\u{2000}'..='\u{206f}' | '\u{3000}')
}

/// Takes invisible characters out of `text`. Zero-width spaces and joiners stay beside a character
/// of a script that uses them.
pub(super) fn drop(text: &str, out: &mut String) -> bool {
    // all are of two or three bytes that begin with one of these
    if memchr::memchr3(0xc2, 0xe2, 0xef, text.as_bytes()).is_none() {
        return false;
    }
    let invisible = |c: char| means_nothing(c) || may_mean_something(c);
    let mut edit = Edit::new(text, out);
    let mut before = ' ';
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if means_nothing(c) {
            edit.cut(at, at + c.len_utf8());
        } else if may_mean_something(c) {
            let after = text[at..].chars().find(|&c| !invisible(c)).unwrap_or(' ');
            // a run stays or goes as a whole
            let goes = is_plain(before) && is_plain(after);
            let mut run = Some((at, c));
            while let Some((at, c)) = run {
                if goes || means_nothing(c) {
                    edit.cut(at, at + c.len_utf8());
                }
                run = chars.next_if(|&(_, c)| invisible(c));
            }
        } else {
            before = c;
        }
    }
    edit.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(text: &str) -> String {
        let mut out = String::new();
        if drop(text, &mut out) { out } else { text.to_string() }
    }

    #[test]
    fn what_means_nothing_goes() {
        for (text, expected) in [
            ("plain", "plain"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("so\u{ad}ft", "soft"),
            ("wo\u{200b}rd\u{200b} \u{feff}b\u{2060}c", "word bc"),
            ("a\u{200c}\u{ad}\u{200d}b\u{200b}", "ab"),
            ("\u{43f}\u{440}\u{438}\u{200b}\u{432}\u{435}\u{442}", "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}"),
            ("\u{200b}\u{ad}", ""),
        ] {
            assert_eq!(dropped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_means_something_stays() {
        for text in [
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}",
            "\u{1f468}\u{200d}\u{1f467}",
            "\u{e01}\u{200b}\u{e02}",
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{e01}\u{200b} a",
        ] {
            assert_eq!(dropped(text), text, "{text:?}");
        }
        assert_eq!(dropped("\u{e01}\u{ad}\u{200b}\u{e02}"), "\u{e01}\u{200b}\u{e02}");
    }
}
