//! Words of languages other than English: Unicode's word boundaries (UAX #29), and a table of the
//! words, prefixes and suffixes that these do not know.

use std::path::Path;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use super::pieces::Ends;
use crate::error::{Error, Result};
use crate::files;

/// A language and its table, as a vocabulary records them. The table comes from a TOML file:
///
/// ```toml
/// language = "fr"
/// prefixes = ["l'", "d'", "qu'"]   # cut off before a word
/// suffixes = ["-t-il", "-vous"]    # cut off after a word
/// keep = ["aujourd'hui", "etc."]   # one token
/// [split]                          # a word of several tokens
/// "au" = ["a", "u"]
/// ```
///
/// An apostrophe stands for the curved one too, and case does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// The user's name for it: `de`, `fr`, `ja`.
    #[serde(rename = "language")]
    pub code: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub split: std::collections::BTreeMap<String, Vec<String>>,
}

impl Language {
    /// The value of `--language`: a code (`de`), or a table file (`*.toml`). `None` for English,
    /// which has tables of its own.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is neither; [`Error::File`] when the table file cannot be read or
    /// does not hold a table.
    pub fn by_name(name: &str) -> Result<Option<Self>> {
        if name == "en" {
            return Ok(None);
        }
        if name.ends_with(".toml") {
            return Self::read(Path::new(name)).map(Some);
        }
        if !is_code(name) {
            return Err(Error::usage(format!("--language: '{name}' is neither a language nor a table file")).hint(
                "a code of two or three letters as de, fr, ja (with a region: pt-BR), or a file that ends in .toml",
            ));
        }
        Ok(Some(Language { code: name.to_string(), ..Language::default() }))
    }

    fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path)?;
        let language: Language = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count() as u64);
            Error::line(path, line, format!("is not a table of words: {}", e.message()))
                .hint("it has language = \"…\" and lists prefixes, suffixes, keep and [split] (docs/tokenizer.md)")
        })?;
        language.check().map_err(|message| Error::file(path, message))?;
        Ok(language)
    }

    /// The check of a table, wherever it comes from.
    pub(super) fn check(&self) -> Result<(), String> {
        if !is_code(&self.code) || self.code == "en" {
            return Err(format!(
                "has the language '{}', which is not a code of another language than English",
                self.code
            ));
        }
        let lists = [("prefixes", &self.prefixes), ("suffixes", &self.suffixes), ("keep", &self.keep)];
        let parts = self.split.keys().map(|word| ("[split]", word));
        let all = lists.iter().flat_map(|(name, list)| list.iter().map(|word| (*name, word))).chain(parts);
        for (name, word) in all {
            if word.is_empty() || word.contains(crate::text::is_space) {
                return Err(format!("has '{word}' in {name}: entries are not empty and hold no white space"));
            }
        }
        for (word, parts) in &self.split {
            if parts.concat() != *word || parts.iter().any(String::is_empty) {
                return Err(format!("has '{word}' in [split], whose parts put together are '{}'", parts.concat()));
            }
        }
        Ok(())
    }
}

/// `de`, `gsw`, `pt-BR`, `zh_Hant`.
fn is_code(name: &str) -> bool {
    let mut parts = name.split(['-', '_']);
    parts.next().is_some_and(|p| (2..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_lowercase()))
        && parts.all(|p| (2..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Without case, character by character and with every byte in its place: a letter whose small form
/// is longer or shorter stays as it is, and both small sigmas are one.
fn fold(text: &str) -> String {
    let small = |c: char| {
        let mut lower = c.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some('ς'), None) => 'σ',
            (Some(lower), None) if lower.len_utf8() == c.len_utf8() => lower,
            _ => c,
        }
    };
    text.chars().map(small).collect()
}

/// The table of a [`Language`], ready for use. Everything in it is [folded](fold).
#[derive(Debug)]
pub(super) struct WordTables {
    /// Where the tokens of a word with a reading of its own end.
    words: HashMap<String, Ends>,
    /// Longest first.
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    longest_word: usize,
}

impl WordTables {
    pub(super) fn new(language: &Language) -> Self {
        // both apostrophes, which differ in length
        let both = |word: &str| {
            let word = fold(word);
            [word.replace('’', "'"), word.replace('\'', "’")]
        };
        let list = |words: &[String]| {
            let mut all: Vec<String> = words.iter().flat_map(|w| both(w)).collect();
            all.sort_by_key(|w| std::cmp::Reverse(w.len()));
            all.dedup();
            all
        };
        let mut words = HashMap::new();
        let whole = language.keep.iter().map(|word| vec![word.clone()]);
        for parts in whole.chain(language.split.values().cloned()) {
            for form in [0, 1] {
                let parts: Vec<String> = parts.iter().map(|p| both(p)[form].clone()).collect();
                let ends = parts.iter().scan(0, |end, p| {
                    *end += p.len() as u32;
                    Some(*end)
                });
                words.insert(parts.concat(), ends.collect());
            }
        }
        WordTables {
            longest_word: words.keys().map(String::len).max().unwrap_or(0),
            words,
            prefixes: list(&language.prefixes),
            suffixes: list(&language.suffixes),
        }
    }

    /// Where the tokens of a piece of text without white space end. From each word boundary on, the
    /// longest word of the table that ends at a boundary is taken; the text between is cut at
    /// every boundary, and prefixes and suffixes are cut off.
    pub(super) fn cut(&self, piece: &str) -> Ends {
        let folded = fold(piece);
        let borders: Vec<usize> = piece.split_word_bound_indices().map(|(i, s)| i + s.len()).collect();
        let mut ends = Ends::new();
        let (mut start, mut i) = (0, 0);
        while i < borders.len() {
            let near = borders[i..].iter().take_while(|&&end| end - start <= self.longest_word).count();
            let known = (i..i + near).rev().find_map(|j| Some((j, self.words.get(&folded[start..borders[j]])?)));
            match known {
                Some((last, inner)) => {
                    ends.extend(inner.iter().map(|e| e + start as u32));
                    i = last;
                }
                None => self.affixes(&folded[start..borders[i]], start, &mut ends),
            }
            start = borders[i];
            i += 1;
        }
        ends
    }

    /// Cuts prefixes, then suffixes off a word that begins at `at`; something always stays.
    fn affixes(&self, word: &str, at: usize, ends: &mut Ends) {
        let (mut start, mut end) = (0, word.len());
        // where the suffixes end, the last one first
        let mut back = Vec::new();
        while !self.words.contains_key(&word[start..end])
            && let Some(prefix) =
                self.prefixes.iter().find(|p| word[start..].len() > p.len() && word[start..].starts_with(p.as_str()))
        {
            start += prefix.len();
            ends.push((at + start) as u32);
        }
        while !self.words.contains_key(&word[start..end])
            && let Some(suffix) =
                self.suffixes.iter().find(|s| end - start > s.len() && word[start..end].ends_with(s.as_str()))
        {
            back.push((at + end) as u32);
            end -= suffix.len();
        }
        match self.words.get(&word[start..end]) {
            Some(inner) => ends.extend(inner.iter().map(|e| e + (at + start) as u32)),
            None => ends.push((at + end) as u32),
        }
        ends.extend(back.iter().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(language: &Language, text: &str) -> String {
        let tables = WordTables::new(language);
        let mut out = Vec::new();
        for piece in text.split_whitespace() {
            let mut start = 0;
            for end in tables.cut(piece) {
                out.push(&piece[start..end as usize]);
                start = end as usize;
            }
            assert_eq!(start, piece.len(), "nothing is lost");
        }
        out.join("|")
    }

    fn table(toml: &str) -> Language {
        let language: Language = toml::from_str(toml).unwrap();
        language.check().unwrap();
        language
    }

    #[test]
    fn boundaries_without_a_table() {
        let cases = [
            ("de", "Das kostet 3,50 Euro (z.B. hier).", "Das|kostet|3,50|Euro|(|z.B|.|hier|)|."),
            ("fr", "L'homme qu'il a vu, c'est-à-dire…", "L'homme|qu'il|a|vu|,|c'est|-|à|-|dire|…"),
            ("ru", "Привет, мир! 25-й км.", "Привет|,|мир|!|25|-|й|км|."),
            ("zh", "你好，世界。", "你|好|，|世|界|。"),
            ("ja", "カタカナとかな", "カタカナ|と|か|な"),
            ("ko", "한국어 문장이다.", "한국어|문장이다|."),
            ("hi", "नमस्ते दुनिया।", "नमस्ते|दुनिया|।"),
            ("ar", "مرحبا، بالعالم!", "مرحبا|،|بالعالم|!"),
            ("el", "Γειά σου Κόσμε;", "Γειά|σου|Κόσμε|;"),
        ];
        for (code, text, expected) in cases {
            assert_eq!(split(&Language::by_name(code).unwrap().unwrap(), text), expected, "{code}");
        }
    }

    #[test]
    fn tables_of_a_few_languages() {
        let french = table(
            "language = 'fr'\nprefixes = [\"l'\", \"d'\", \"qu'\", \"c'\"]\nkeep = [\"aujourd'hui\", 'etc.', 'c-à-d']\n\
             suffixes = ['-t-il']",
        );
        assert_eq!(split(&french, "L'homme d’aujourd’hui, etc.)"), "L'|homme|d’|aujourd’hui|,|etc.|)");
        assert_eq!(split(&french, "c'est qu' l' c-à-d"), "c'|est|qu|'|l|'|c-à-d");
        let german = table(
            "language = 'de'\nkeep = ['z.B.', 'bzw.', 'usw.']\n[split]\nzum = ['zu', 'm']\n\"gibt's\" = ['gibt', \"'s\"]",
        );
        assert_eq!(
            split(&german, "(z.B., bzw.: usw... Zum zumal gibt’s!"),
            "(|z.B.|,|bzw.|:|usw.|.|.|Zu|m|zumal|gibt|’s|!"
        );
        let italian = table("language = 'it'\nprefixes = [\"dell'\", \"l'\"]\nsuffixes = ['gli']");
        assert_eq!(split(&italian, "Dell'arte l'l'arte dirgli gli"), "Dell'|arte|l'|l'|arte|dir|gli|gli");
    }

    /// Small forms of other lengths, which add up to the same length, shift the borders of
    /// characters.
    #[test]
    fn letters_whose_small_form_is_longer_or_shorter() {
        let turkish = table("language = 'tr'\nkeep = ['ik.']\nsuffixes = ['k']");
        assert_eq!(split(&turkish, "İ,İ\u{212a} ẞİẞ IK. İzK"), "İ|,|İ\u{212a}|ẞİẞ|IK.|İz|K");
        let greek = table("language = 'el'\nkeep = ['κ.ος']");
        assert_eq!(split(&greek, "Κ.ΟΣ κ.ος κ.οσ"), "Κ.ΟΣ|κ.ος|κ.οσ");
    }

    #[test]
    fn wrong_tables_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.toml");
        let message = |content: &str| {
            std::fs::write(&path, content).unwrap();
            Language::by_name(path.to_str().unwrap()).unwrap_err().to_string()
        };
        assert!(message("language = 'de'\nprefix = []").contains("t.toml:2: is not a table of words"));
        assert!(message("keep = ['a']").contains("language"));
        assert!(message("language = 'de'\nkeep = ['a b']").contains("'a b' in keep"));
        assert!(message("language = 'de'\nsuffixes = ['']").contains("in suffixes"));
        assert!(message("language = 'de'\n[split]\nam = ['an', 'dem']").contains("'andem'"));
        assert!(message("language = 'en'").contains("'en'"));
        assert!(Language::by_name("German").is_err() && Language::by_name("no.toml").is_err());
        assert_eq!(Language::by_name("en").unwrap(), None);
        assert_eq!(Language::by_name("pt-BR").unwrap().unwrap().code, "pt-BR");
    }

    /// Another version of Unicode may cut words elsewhere: then the version that a vocabulary
    /// records must change too.
    #[test]
    fn the_version_of_unicode_is_the_recorded_one() {
        let (a, b, c) = unicode_segmentation::UNICODE_VERSION;
        let recorded = crate::text::tokenizer::tables::UNICODE_TABLES_VERSION;
        assert!(recorded.starts_with(&format!("unicode-{a}.{b}.{c}-")), "{recorded}: the library has {a}.{b}.{c}");
    }
}
