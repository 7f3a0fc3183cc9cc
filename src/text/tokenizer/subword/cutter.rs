//! Cutting text with a sub-word model, and tokens back to text.

use std::sync::Arc;

use tokenizers::{Decoder as _, OffsetReferential, OffsetType, PreTokenizer as _};

use super::super::super::{Document, is_space};
use super::super::{Invisible, Rules, rules};
use super::guard::guarded;
use super::{Cache, SPECIAL, SubwordModel, WORD_BEGIN};

/// Bytes of text that go through a file at once: the crate's memory for a text is some
/// hundred times its size.
const BLOCK: usize = 1 << 20;

/// Cuts text with a model.
#[derive(Clone)]
pub(in crate::text::tokenizer) struct SubwordCutter {
    pub(super) model: Arc<SubwordModel>,
    pub(super) invisible: Invisible,
}

impl std::fmt::Debug for SubwordCutter {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "SubwordCutter({} tokens)", self.model.words.len())
    }
}

impl SubwordCutter {
    /// Hands the tokens of a document to `emit`. A stretch that the file cannot be applied to is
    /// one unknown token.
    pub(in crate::text::tokenizer) fn tokenize(
        &self,
        document: &Document,
        text: &mut String,
        other: &mut String,
        cache: &mut Cache,
        emit: &mut dyn FnMut(&str),
    ) {
        let model = &*self.model;
        let Some(rules) = model.rules else {
            emit(SPECIAL[2]);
            return self.whole(&document.text, emit);
        };
        rules::before(document, rules, rules::Casing::default(), self.invisible, text, other);
        if model.by_piece {
            cache.belongs_to(model.number);
            pieces(text, rules, &mut |piece| {
                let ids = cache.get(piece, || model.encode(piece));
                match ids {
                    Ok(ids) => ids.iter().for_each(|&id| emit(model.name(id))),
                    Err(_) => emit(model.unknown()),
                }
            });
        } else {
            other.clear();
            pieces(text, rules, &mut |piece| {
                other.push_str(piece);
                other.push(' ');
            });
            self.whole(other.trim_end(), emit);
        }
    }

    /// A text that goes through the file as a whole, in blocks that end at white space where there
    /// is any.
    fn whole(&self, text: &str, emit: &mut dyn FnMut(&str)) {
        let mut rest = text;
        while !rest.is_empty() {
            let (block, after) = rest.split_at(block_end(rest));
            match self.model.encode(block) {
                Ok(ids) => ids.iter().for_each(|&id| emit(self.model.name(id))),
                Err(_) => emit(self.model.unknown()),
            }
            rest = after;
        }
    }

    /// `text`, continued by the text of the tokens that follow it.
    pub(in crate::text::tokenizer) fn continued(&self, text: &str, tokens: &[&str]) -> String {
        let Some(rules) = self.model.rules else {
            // the text that the tokens add, since a decoder may treat the first token of all
            // in its own way
            let mut all: Vec<String> = Vec::new();
            self.whole(text, &mut |token| all.push(token.to_string()));
            let begin = self.decode(all.clone());
            all.extend(tokens.iter().filter(|token| !SPECIAL.contains(token)).map(ToString::to_string));
            let added = self.decode(all).strip_prefix(&begin).map(str::to_string);
            return match added {
                Some(added) => format!("{text}{added}"),
                None => format!("{text} {}", self.detokenize(tokens)),
            };
        };
        let special = rules.subword_tokens();
        let continues = tokens.first().is_some_and(|first| !first.starts_with(WORD_BEGIN) && !special.contains(first));
        format!("{text}{}{}", if continues { "" } else { " " }, join(tokens, special))
    }

    /// Readable text of tokens.
    pub(in crate::text::tokenizer) fn detokenize(&self, tokens: &[&str]) -> String {
        match self.model.rules {
            Some(rules) => join(tokens, rules.subword_tokens()),
            None => {
                let words = tokens.iter().filter(|token| !SPECIAL.contains(token));
                self.decode(words.map(ToString::to_string).collect())
            }
        }
    }

    /// With the decoder of the file; where it has none, its tokens are words.
    fn decode(&self, tokens: Vec<String>) -> String {
        let plain = tokens.join(" ");
        match self.model.tokenizer.get_decoder() {
            Some(decoder) => guarded(|| decoder.decode(tokens)).and_then(Result::ok).unwrap_or(plain),
            None => plain,
        }
    }
}

/// Joins pieces to words, and applies the marks of the rules to these.
fn join(tokens: &[&str], special: &[&str]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for &token in tokens {
        let is_special = special.contains(&token);
        match words.last_mut() {
            Some(word) if open && !is_special && !token.starts_with(WORD_BEGIN) => word.push_str(token),
            _ if is_special => words.push(token.into()),
            _ => words.push(token.strip_prefix(WORD_BEGIN).unwrap_or(token).into()),
        }
        open = !is_special;
    }
    let mut out = String::new();
    let (mut upper, mut capital) = (false, false);
    for word in words.iter().filter(|word| !word.is_empty()) {
        match word.as_str() {
            "xxup" | "t_up" => upper = true,
            "xxmaj" => capital = true,
            "xxbos" | "xbos" | "xxpad" | "_pad_" => {}
            "xxeos" => out.push('\n'),
            _ => {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push(' ');
                }
                let mut chars = word.chars();
                match chars.next() {
                    _ if upper => out.push_str(&word.to_uppercase()),
                    Some(first) if capital => out.extend(first.to_uppercase().chain(chars)),
                    _ => out.push_str(word),
                }
                (upper, capital) = (false, false);
            }
        }
    }
    out
}

/// Hands what white space parts to `each`, after the rules for tokens, in blocks of bounded size.
pub(super) fn pieces(text: &str, rules: Rules, each: &mut dyn FnMut(&str)) {
    // the white space of the file's own splitting, and no more
    for word in text.split(char::is_whitespace).filter(|word| !word.is_empty()) {
        rules::after(word, rules, rules::Casing::default(), &mut |mut piece: &str| {
            while !piece.is_empty() {
                let (block, after) = piece.split_at(block_end(piece));
                each(block);
                piece = after;
            }
        });
    }
}

/// Where the first block of a text ends: behind its last white space, or else anywhere between
/// characters.
fn block_end(text: &str) -> usize {
    if text.len() <= BLOCK {
        return text.len();
    }
    let end = text.floor_char_boundary(BLOCK);
    text[..end].rfind(is_space).filter(|&at| at > 0).map_or(end, |at| text.ceil_char_boundary(at + 1))
}

/// The segments of a piece, which the trainer counts: no token goes beyond one.
pub(super) fn segments(tokenizer: &tokenizers::Tokenizer, piece: &str) -> tokenizers::Result<Vec<String>> {
    let normalizer = tokenizer.get_normalizer();
    let mut normalized = tokenizer.get_added_vocabulary().extract_and_normalize(normalizer, piece);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut normalized)?;
    }
    let splits = normalized.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().filter(|(_, _, special)| special.is_none()).map(|(text, _, _)| text.to_string()).collect())
}
