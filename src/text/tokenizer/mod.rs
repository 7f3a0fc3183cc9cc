//! Tokenizers: `word` (rules of docs/SPEC.md §2.1 and §2.2 around English tables), `whitespace`,
//! `pretokenized`, `subword`.

mod chars;
mod english;
mod html;
mod invisible;
mod pieces;
mod rules;
pub(super) mod subword;
mod tables;
#[cfg(test)]
mod tests;
mod unicode;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Document, Vocabulary, is_space};
use crate::error::{Error, Result};
pub use invisible::Invisible;
use pieces::Cutter;
use rules::Casing;
use subword::SubwordCutter;
pub use subword::{Subword, SubwordAlgorithm, SubwordTraining, is_guarded};
pub use tables::{TABLES_VERSION, UNICODE_TABLES_VERSION};
pub use unicode::Language;

/// Rule sets around the word tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rules {
    /// The paper's scripts on fastai 0.7 (docs/SPEC.md §2.1).
    #[serde(rename = "0.7")]
    V07,
    /// fastai v1 (docs/SPEC.md §2.2).
    #[serde(rename = "v1")]
    V1,
    /// fastai v2 (docs/SPEC.md §2.2).
    #[serde(rename = "v2")]
    V2,
}

/// Which tokenizer a vocabulary belongs to. In `vocab.json`:
/// `{"kind":"word","rules":"v2","tables":"en-1"}`, or with `"tables":"unicode-…"` and the whole
/// table of another language, so that a model needs no file besides its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TokenizerKind {
    /// Rules, the tables of a language, rules.
    Word {
        rules: Rules,
        /// Version of the tables.
        tables: String,
        /// `None` for English.
        #[serde(default, rename = "words", skip_serializing_if = "Option::is_none")]
        language: Option<Box<Language>>,
        #[serde(default, skip_serializing_if = "Invisible::is_keep")]
        invisible: Invisible,
    },
    /// Lower-cased, split on white space, `<unk>` → `xxunk`; `xxbos` opens a document, `xxeos`
    /// closes a line of a corpus.
    Whitespace,
    /// Split on white space, nothing changed or added but `xxbos`.
    Pretokenized,
    /// Pieces of words, from a `tokenizer.json`.
    Subword(Subword),
}

impl TokenizerKind {
    /// The word tokenizer for English with the tables of this version of the program.
    pub fn word(rules: Rules) -> Self {
        let (tables, invisible) = (TABLES_VERSION.to_string(), Invisible::Keep);
        TokenizerKind::Word { rules, tables, language: None, invisible }
    }

    /// The word tokenizer for a language, `None` for English.
    pub fn word_in(rules: Rules, language: Option<Language>) -> Self {
        match language {
            None => Self::word(rules),
            Some(language) => {
                let tables = UNICODE_TABLES_VERSION.to_string();
                TokenizerKind::Word { rules, tables, language: Some(Box::new(language)), invisible: Invisible::Keep }
            }
        }
    }

    /// The same with another choice for invisible characters. Only the rules of the word tokenizer
    /// look at them.
    #[must_use]
    pub fn with_invisible(mut self, chosen: Invisible) -> Self {
        if let TokenizerKind::Word { invisible, .. } = &mut self {
            *invisible = chosen;
        }
        self
    }

    /// Whether invisible characters are kept or dropped.
    pub fn invisible(&self) -> Invisible {
        match self {
            TokenizerKind::Word { invisible, .. } => *invisible,
            TokenizerKind::Subword(subword) => subword.invisible(),
            TokenizerKind::Whitespace | TokenizerKind::Pretokenized => Invisible::Keep,
        }
    }

    /// By the names of `--tokenizer` and `--rules`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn by_name(name: &str, rules: Rules) -> Result<Self> {
        match name {
            "word" => Ok(Self::word(rules)),
            "whitespace" => Ok(TokenizerKind::Whitespace),
            "pretokenized" => Ok(TokenizerKind::Pretokenized),
            _ => Err(Error::usage(format!("--tokenizer: unknown tokenizer '{name}'"))
                .hint("one of word, whitespace, pretokenized")),
        }
    }

    /// Whether this program has the tables that a vocabulary was made with; if not, the end of a
    /// sentence and a hint.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        let (tables, language) = match self {
            TokenizerKind::Word { tables, language, .. } => (tables.as_str(), language.as_ref()),
            TokenizerKind::Subword(subword) => (subword.tables(), None),
            TokenizerKind::Whitespace | TokenizerKind::Pretokenized => return Ok(()),
        };
        let ours = if language.is_some() { UNICODE_TABLES_VERSION } else { TABLES_VERSION };
        if tables != ours {
            let message = format!("was made with tokenizer tables '{tables}', this program has '{ours}'");
            return Err((message, "use the version of ulmfit that made it, or make the vocabulary again"));
        }
        let faulty = |message| (message, "its table of words was altered: restore the original file");
        language.map_or(Ok(()), |language| language.check().map_err(faulty))
    }

    /// The special tokens, in the order of their ids: unknown 0, padding 1.
    pub fn special_tokens(&self) -> &'static [&'static str] {
        match self {
            TokenizerKind::Word { rules: Rules::V07, .. } => &["_unk_", "_pad_"],
            TokenizerKind::Word { rules: Rules::V1, .. } => {
                &["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxmaj", "xxup", "xxrep", "xxwrep"]
            }
            TokenizerKind::Word { rules: Rules::V2, .. } => {
                &["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj"]
            }
            TokenizerKind::Whitespace | TokenizerKind::Pretokenized => &["xxunk", "xxpad", "xxbos"],
            TokenizerKind::Subword(subword) => subword.special_tokens(),
        }
    }

    /// The token that opens a document.
    pub fn begin_token(&self) -> &'static str {
        match self {
            TokenizerKind::Word { rules: Rules::V07, .. } => "xbos",
            TokenizerKind::Subword(subword) => subword.special_tokens()[2],
            _ => "xxbos",
        }
    }
}

impl Rules {
    /// By the names of `--rules`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn by_name(name: &str) -> Result<Self> {
        match name {
            "0.7" => Ok(Rules::V07),
            "v1" => Ok(Rules::V1),
            "v2" => Ok(Rules::V2),
            _ => Err(Error::usage(format!("--rules: unknown rule set '{name}'")).hint("one of 0.7, v1, v2")),
        }
    }
}

/// Buffers and the word cache of one thread.
#[derive(Default)]
pub struct Scratch {
    text: String,
    other: String,
    cache: pieces::Cache,
    subword: subword::Cache,
    pub(super) segments: subword::SegmentScratch,
}

/// Cuts documents into tokens. Shared by threads; each brings its own [`Scratch`].
#[derive(Clone, Debug)]
pub struct Tokenizer {
    kind: TokenizerKind,
    /// The cutter of the word tokenizer.
    cutter: Cutter,
    /// The sub-word tokenizer.
    subword: Option<SubwordCutter>,
}

impl Tokenizer {
    /// # Errors
    /// [`Error::Data`] when `kind` was made with tables of another version, or its own table is
    /// none.
    pub fn new(kind: TokenizerKind) -> Result<Self> {
        kind.check().map_err(|(message, hint)| Error::data(format!("the vocabulary {message}")).hint(hint))?;
        let cutter = match &kind {
            TokenizerKind::Word { language: Some(language), .. } => {
                Cutter::Unicode(Arc::new(unicode::WordTables::new(language)))
            }
            TokenizerKind::Word { rules, .. } => Cutter::English { marks_v07: *rules == Rules::V07 },
            _ => Cutter::English { marks_v07: false },
        };
        let subword = match &kind {
            TokenizerKind::Subword(subword) => Some(subword.cutter()?),
            _ => None,
        };
        Ok(Tokenizer { kind, cutter, subword })
    }

    pub fn kind(&self) -> &TokenizerKind {
        &self.kind
    }

    /// Whether a document has no token of its own: there is no text, or nothing that the rules
    /// leave of it (`<br />`, characters that nobody sees).
    pub fn finds_nothing_in(&self, document: &Document, scratch: &mut Scratch) -> bool {
        let text = &document.text;
        if document.is_empty() {
            return true;
        }
        let marked = text.contains(['<', '&']);
        // a letter stays whatever the rules are; in ASCII all that is seen does, but for tags and
        // entities
        let stays = |c: char| if c.is_ascii() { c.is_ascii_graphic() && !marked } else { c.is_alphanumeric() };
        if text.len() > 64 || text.chars().any(stays) {
            return false;
        }
        let mut tokens = |document: &Document| {
            let mut all: Vec<String> = Vec::new();
            self.tokenize(document, scratch, &mut |token| all.push(token.to_string()));
            all.retain(|token| !token.chars().all(is_space));
            all
        };
        let bare = Document::from_fields(document.fields().map(|_| String::new()).collect());
        tokens(document) == tokens(&Document { lines: document.lines, ..bare })
    }

    /// Hands the tokens of a document to `emit`, in order; the token that opens a document is the
    /// first.
    pub fn tokenize(&self, document: &Document, scratch: &mut Scratch, emit: &mut dyn FnMut(&str)) {
        if document.words {
            return self.tokenize_words(document, scratch, &mut |token, _| emit(token));
        }
        if let Some(subword) = &self.subword {
            let Scratch { text, other, subword: cache, .. } = scratch;
            return subword.tokenize(document, text, other, cache, emit);
        }
        match &self.kind {
            TokenizerKind::Subword(_) => unreachable!("it has a cutter of its own"),
            TokenizerKind::Pretokenized => {
                emit("xxbos");
                words(&document.text).for_each(emit);
            }
            TokenizerKind::Whitespace => {
                emit("xxbos");
                if document.lines {
                    for line in document.text.split('\n').filter(|l| words(l).next().is_some()) {
                        whitespace(line, &mut scratch.text, emit);
                        emit("xxeos");
                    }
                } else {
                    whitespace(&document.text, &mut scratch.text, emit);
                }
            }
            TokenizerKind::Word { rules, language, invisible, .. } => {
                let casing = language.as_ref().map_or(Casing::Unicode, |language| Casing::of(&language.code));
                rules::before(document, *rules, casing, *invisible, &mut scratch.text, &mut scratch.other);
                let emit = &mut |token: &str| rules::after(token, *rules, casing, emit);
                pieces::tokenize(&scratch.text, &self.cutter, &mut scratch.cache, emit);
            }
        }
    }

    /// The ids of one document.
    pub fn ids(&self, document: &Document, vocabulary: &Vocabulary, scratch: &mut Scratch) -> Vec<u32> {
        // a token is seldom shorter than four bytes with its space
        let mut ids = Vec::with_capacity(document.text.len() / 4 + 8);
        self.tokenize(document, scratch, &mut |token| ids.push(vocabulary.id(token)));
        ids
    }

    /// The same, and of a document of words the [`mark`] of every token.
    ///
    /// [`mark`]: super::store::mark
    pub(super) fn marked_ids(
        &self,
        document: &Document,
        vocabulary: &Vocabulary,
        scratch: &mut Scratch,
    ) -> (Vec<u32>, Vec<u8>) {
        if !document.words {
            return (self.ids(document, vocabulary, scratch), Vec::new());
        }
        let (mut ids, mut marks) = (Vec::new(), Vec::new());
        self.tokenize_words(document, scratch, &mut |token, mark| {
            ids.push(vocabulary.id(token));
            marks.push(mark);
        });
        (ids, marks)
    }

    /// The tokens of one document as strings: for short texts and tests.
    pub fn tokens(&self, document: &Document) -> Vec<String> {
        let mut out = Vec::new();
        self.tokenize(document, &mut Scratch::default(), &mut |t| out.push(t.to_string()));
        out
    }

    /// Tokens joined into readable text: for generated text and attributions.
    pub fn detokenize(&self, tokens: &[&str]) -> String {
        self.subword.as_ref().map_or_else(|| rules::detokenize(tokens), |subword| subword.detokenize(tokens))
    }

    /// `text`, continued by the text of the tokens that follow it: one that is no word of its own
    /// continues the last word.
    pub fn continued(&self, text: &str, tokens: &[&str]) -> String {
        match &self.subword {
            Some(subword) => subword.continued(text, tokens),
            None => format!("{text} {}", self.detokenize(tokens)),
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|w| !w.is_empty())
}

fn whitespace(text: &str, lower: &mut String, emit: &mut dyn FnMut(&str)) {
    lower.clear();
    if text.is_ascii() {
        lower.push_str(text);
        lower.make_ascii_lowercase();
    } else {
        // whole text at once: the lower case of a final sigma depends on its neighbours
        *lower = text.to_lowercase();
    }
    words(lower).for_each(|w| emit(if w == "<unk>" { "xxunk" } else { w }));
}
