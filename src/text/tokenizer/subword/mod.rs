//! The sub-word tokenizer: a model of the `tokenizers` crate, kept as the bytes of its
//! `tokenizer.json`, which other tools read as well.
//!
//! A file that this program made begins with the special tokens of a rule set (docs/SPEC.md §2.1,
//! §2.2): text goes through these rules first, then piece by piece through the file. Any other file
//! is given the text as it is, and `xxunk`, `xxpad`, `xxbos` stand before its tokens.

mod cache;
mod cutter;
mod guard;
mod limits;
#[cfg(test)]
mod tests;
mod train;
mod unigram;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::Model as _;
use tokenizers::models::ModelWrapper;

use super::{Invisible, Rules, TABLES_VERSION};
use crate::error::{Error, Result};
use crate::files;
pub(super) use cache::Cache;
pub(super) use cutter::SubwordCutter;
use cutter::{pieces, segments};
use guard::guarded;
pub use guard::is_guarded;
pub(in crate::text) use train::{SegmentScratch, Segmenter, Segments, train};
pub use train::{SubwordAlgorithm, SubwordTraining};

/// Larger files are refused (those of the largest multilingual models have some 35 MB).
const LARGEST_FILE: u64 = 64 << 20;
/// Ids of a file end here.
const MOST_IDS: u32 = 1 << 22;

/// Special tokens that a file of another tool is given.
const SPECIAL: &[&str] = &["xxunk", "xxpad", "xxbos"];

/// The mark before a word, in place of a space.
const WORD_BEGIN: char = '▁';

/// Compatibility forms to plain ones, as SentencePiece does; lower case, as the rules do.
fn own_normalizer() -> Value {
    json!({ "type": "Sequence", "normalizers": [{ "type": "NFKC" }, { "type": "Lowercase" }] })
}

/// Words at white space; within them no piece goes across punctuation or from letters to digits
/// (SentencePiece: from one script to another).
fn own_pre_tokenizer() -> Value {
    json!({ "type": "Sequence", "pretokenizers": [
        { "type": "WhitespaceSplit" },
        { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false },
        { "type": "Split", "pattern": { "Regex": "▁?\\p{P}|▁?\\p{N}+" }, "behavior": "Isolated", "invert": false },
    ] })
}

fn own_decoder() -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false })
}

/// A special token as it stands among a file's `added_tokens`.
fn own_added_token(id: usize, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    })
}

impl Rules {
    /// The special tokens of sub-words under these rules, in the order of their ids: those of the
    /// word tokenizer, and with 0.7 the marks that its rules write.
    fn subword_tokens(self) -> &'static [&'static str] {
        match self {
            Rules::V07 => &["_unk_", "_pad_", "xbos", "xfld", "tk_rep", "tk_wrep", "t_up"],
            Rules::V1 => &["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxmaj", "xxup", "xxrep", "xxwrep"],
            Rules::V2 => &["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj"],
        }
    }
}

/// A sub-word tokenizer, by the hash of its file; in `vocab.json`:
/// `{"kind":"subword","sha256":"…","tables":"en-1"}`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Subword {
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    sha256: String,
    /// Version of the tables of the rules.
    tables: String,
    /// The choice of the rules that the text goes through; the file of another tool is given text
    /// as it is.
    #[serde(default, skip_serializing_if = "Invisible::is_keep")]
    invisible: Invisible,
    /// Not there before the file was read.
    #[serde(skip)]
    model: Option<Arc<SubwordModel>>,
}

/// The bytes of a file, and the model that was read from them.
struct SubwordModel {
    /// One of its own for each that was read.
    number: u64,
    file: Vec<u8>,
    tokenizer: tokenizers::Tokenizer,
    /// Rules for the text before; `None` for the file of another tool.
    rules: Option<Rules>,
    /// Whether pieces between white space can go through it one by one.
    by_piece: bool,
    /// The token of each id, as vocabularies have it; empty where an id has none.
    names: Vec<Box<str>>,
    /// Tokens in the order of a vocabulary, the special ones first.
    words: Vec<Box<str>>,
}

impl PartialEq for Subword {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.invisible == other.invisible
    }
}

impl Eq for Subword {}

impl std::hash::Hash for Subword {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.sha256.hash(state);
    }
}

impl std::fmt::Debug for Subword {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Subword({})", self.sha256)
    }
}

/// Why bytes are no tokenizer: the end of a sentence.
type Fault = String;

/// A message of another library as the end of a sentence: one line of bounded length.
fn in_words(message: impl std::fmt::Display) -> Fault {
    let message = message.to_string();
    let mut short: String = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    short.retain(|c| !c.is_control());
    short
}

impl Subword {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or is not the file of a tokenizer that sub-words can
    /// come from.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path, files::read(path, LARGEST_FILE)?)
    }

    /// From the content of the file `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it is not the file of a tokenizer that sub-words can come from.
    pub fn read(path: &Path, file: Vec<u8>) -> Result<Self> {
        Self::from_bytes(file).map_err(|fault| {
            Error::file(path, fault)
                .hint("a tokenizer.json is a file that the tokenizers library saves, or this program beside vocab.json")
        })
    }

    /// From the content of a file. The fault is the end of a sentence.
    pub(in crate::text) fn from_bytes(file: Vec<u8>) -> Result<Self, Fault> {
        let sha256 = files::hex(&files::sha256(&file));
        let model =
            guarded(|| SubwordModel::new(file)).unwrap_or_else(|| Err("is not a tokenizer that can work".into()))?;
        let (tables, invisible) = (TABLES_VERSION.to_string(), Invisible::Keep);
        Ok(Subword { sha256, tables, invisible, model: Some(Arc::new(model)) })
    }

    /// With the file that lies beside a vocabulary.
    ///
    /// # Errors
    /// [`Error::File`] when the file is missing, damaged or another one.
    pub(in crate::text) fn with_file(&self, path: &Path) -> Result<Self> {
        if !files::exists(path)? {
            return Err(Error::file(path, "is missing, and the vocabulary beside it is one of sub-words")
                .hint("a model of sub-words needs its tokenizer.json: restore the original file"));
        }
        self.same_as(path, Self::open(path)?)
    }

    /// With the content of its file, which comes from `path`.
    ///
    /// # Errors
    /// As [`Self::with_file`].
    pub(in crate::text) fn with_content(&self, path: &Path, file: Vec<u8>) -> Result<Self> {
        self.same_as(path, Self::read(path, file)?)
    }

    fn same_as(&self, path: &Path, found: Self) -> Result<Self> {
        if found.sha256 != self.sha256 {
            return Err(Error::file(path, "is not the tokenizer that the vocabulary beside it was made with")
                .hint("its hash differs from the one in the vocabulary: restore the original file"));
        }
        Ok(Subword { tables: self.tables.clone(), invisible: self.invisible, ..found })
    }

    /// Version of the tables of the rules that the text goes through.
    pub(super) fn tables(&self) -> &str {
        &self.tables
    }

    /// Whether invisible characters are dropped before the text is cut.
    pub(super) fn invisible(&self) -> Invisible {
        self.invisible
    }

    /// The same with another choice for invisible characters.
    #[must_use]
    pub(super) fn with_invisible(self, invisible: Invisible) -> Self {
        Subword { invisible, ..self }
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Data`] before the file was read.
    pub fn file(&self) -> Result<&[u8]> {
        self.model.as_ref().map(|model| model.file.as_slice()).ok_or_else(not_read)
    }

    /// The part that [`Tokenizer`](super::Tokenizer) cuts with.
    pub(super) fn cutter(&self) -> Result<SubwordCutter> {
        let model = self.model.clone().ok_or_else(not_read)?;
        Ok(SubwordCutter { model, invisible: self.invisible })
    }

    /// The words of a vocabulary, by id: the special tokens, then the tokens of the file in the
    /// order of their ids there.
    pub(in crate::text) fn words(&self) -> Result<impl ExactSizeIterator<Item = &str>> {
        self.model.as_ref().map(|model| model.words.iter().map(AsRef::as_ref)).ok_or_else(not_read)
    }

    /// The special tokens that lead them.
    pub fn special_tokens(&self) -> &'static [&'static str] {
        self.model.as_ref().and_then(|model| model.rules).map_or(SPECIAL, Rules::subword_tokens)
    }
}

fn not_read() -> Error {
    Error::data("the file of the sub-word tokenizer was not read")
}

impl SubwordModel {
    fn new(file: Vec<u8>) -> Result<Self, Fault> {
        // first as JSON within limits: the library breaks off on some files that end too early, and
        // asks nobody for memory
        limits::check(&file)?;
        let fault = |e| format!("is not a tokenizer: {}", in_words(e));
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&file).map_err(fault)?;
        // settings for batches, for training of other models and for chance are left out
        tokenizer.with_truncation(None).map_err(in_words)?;
        tokenizer.with_padding(None);
        if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            tokenizer.with_model(bpe);
        }
        let by_id = tokens_by_id(&tokenizer)?;
        let unknown = unknown_token(&tokenizer)?;
        let leading = |special: &[&str]| {
            special
                .iter()
                .enumerate()
                .all(|(id, &token)| by_id.get(id).is_some_and(|(i, t)| *i as usize == id && t == token))
        };
        let rules = [Rules::V07, Rules::V1, Rules::V2].into_iter().find(|rules| {
            let special = rules.subword_tokens();
            leading(special) && unknown.as_deref() == Some(special[0])
        });
        let mut names = vec![Box::from(""); by_id.last().map_or(0, |(id, _)| *id as usize + 1)];
        let mut words: Vec<Box<str>> = Vec::with_capacity(by_id.len() + SPECIAL.len());
        if rules.is_none() {
            words.extend(SPECIAL.iter().map(|&token| Box::from(token)));
        }
        for (id, token) in by_id {
            let is_unknown = rules.is_none() && unknown.as_ref() == Some(&token);
            names[id as usize] = if is_unknown { SPECIAL[0].into() } else { token.as_str().into() };
            if rules.is_some() || !is_unknown && !SPECIAL.contains(&token.as_str()) {
                words.push(token.into());
            }
        }
        let by_piece = rules.is_some_and(|rules| is_by_piece(&tokenizer, rules));
        static READ: AtomicU64 = AtomicU64::new(1);
        let number = READ.fetch_add(1, Ordering::Relaxed);
        let model = SubwordModel { number, file, tokenizer, rules, by_piece, names, words };
        // a file that cannot cut the simplest text is found now, not in the middle of a corpus
        model.encode("A word, 12 words; 漢字かな.\n").map_err(|e| format!("is not a tokenizer that can work: {e}"))?;
        Ok(model)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Fault> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false)).ok_or("it fails on a text")?;
        encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(in_words)
    }

    fn name(&self, id: u32) -> &str {
        // ids of an encoding are ids of tokens
        self.names.get(id as usize).map_or(SPECIAL[0], AsRef::as_ref)
    }

    /// The name of unknown text.
    fn unknown(&self) -> &'static str {
        self.rules.map_or(SPECIAL, Rules::subword_tokens)[0]
    }
}

/// All tokens of a file by their ids.
fn tokens_by_id(tokenizer: &tokenizers::Tokenizer) -> Result<Vec<(u32, String)>, Fault> {
    let mut all: Vec<(u32, String)> = tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    all.sort();
    if let Some((id, token)) = all.iter().find(|(id, _)| *id >= MOST_IDS) {
        return Err(format!("gives '{}' the id {id}, and ids go up to {}", in_words(token), MOST_IDS - 1));
    }
    if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!(
            "gives '{}' and '{}' the same id, {}",
            in_words(&pair[0].1),
            in_words(&pair[1].1),
            pair[0].0
        ));
    }
    if let Some((id, _)) = all.iter().find(|(_, token)| token.is_empty()) {
        return Err(format!("has an empty token, of id {id}"));
    }
    if all.len() <= SPECIAL.len() {
        return Err("has no tokens".into());
    }
    Ok(all)
}

/// The token that stands for unknown text; `None` where every byte has a token.
fn unknown_token(tokenizer: &tokenizers::Tokenizer) -> Result<Option<String>, Fault> {
    let known = |token: &str| tokenizer.get_model().token_to_id(token).is_some();
    let bytes = |name: &dyn Fn(u8) -> String| (0..=255).all(|b| known(&name(b)));
    let missing = || Err("has no unknown token, so that characters it does not know would vanish".to_string());
    let (token, fallback) = match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) => {
            let levels = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
            let fallback = bpe.byte_fallback && bytes(&|b| format!("<0x{b:02X}>"))
                || works_on_bytes(tokenizer) && levels.iter().all(|c| known(&c.to_string()));
            (bpe.unk_token.clone(), fallback)
        }
        ModelWrapper::Unigram(unigram) => {
            // the crate shows the number of the unknown token in its file alone
            let saved = serde_json::to_value(unigram).map_err(in_words)?;
            let token = saved["unk_id"].as_u64().and_then(|id| unigram.id_to_token(id as u32));
            (token, unigram.byte_fallback() && bytes(&|b| format!("<0x{b:02X}>")))
        }
        ModelWrapper::WordPiece(model) => (Some(model.unk_token.clone()), false),
        ModelWrapper::WordLevel(model) => (Some(model.unk_token.clone()), false),
    };
    match token {
        Some(token) if known(&token) => Ok(Some(token)),
        None if fallback => Ok(None),
        _ => missing(),
    }
}

/// Whether text is turned into bytes before the model sees it.
fn works_on_bytes(tokenizer: &tokenizers::Tokenizer) -> bool {
    let parts =
        [serde_json::to_string(&tokenizer.get_pre_tokenizer()), serde_json::to_string(&tokenizer.get_normalizer())];
    parts.iter().flatten().any(|part| part.contains("\"ByteLevel\""))
}

/// Whether a file is as this program makes them, so that white space parts a text into pieces which
/// know nothing of each other.
fn is_by_piece(tokenizer: &tokenizers::Tokenizer, rules: Rules) -> bool {
    let added: Value = serde_json::to_value(tokenizer.get_added_vocabulary()).unwrap_or_default();
    let own: Vec<Value> =
        rules.subword_tokens().iter().enumerate().map(|(id, token)| own_added_token(id, token)).collect();
    let part = |value: serde_json::Result<Value>, own: Value| value.is_ok_and(|value| value == own);
    added == Value::from(own)
        && part(serde_json::to_value(tokenizer.get_normalizer()), own_normalizer())
        && part(serde_json::to_value(tokenizer.get_pre_tokenizer()), own_pre_tokenizer())
}
