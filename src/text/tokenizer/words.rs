//! Documents whose words are given: each is cut by itself, so that none of them joins another and
//! all are found again.

use super::{Scratch, Tokenizer, TokenizerKind};
use crate::text::Document;
use crate::text::store::mark;

impl Tokenizer {
    /// Hands the tokens of a document of words to `emit`, each with its [`mark`]. The tokens that
    /// open a document belong to no word. A word that the rules leave nothing of is the unknown
    /// one.
    pub(super) fn tokenize_words(&self, document: &Document, scratch: &mut Scratch, emit: &mut dyn FnMut(&str, u8)) {
        let mut tokens: Vec<String> = Vec::new();
        // the tokens that every document begins with
        self.tokenize(&Document::new(""), scratch, &mut |token| tokens.push(token.to_string()));
        let opening = tokens.len();
        tokens.iter().for_each(|token| emit(token, mark::NONE));
        for word in document.fields() {
            tokens.clear();
            self.tokenize(&Document::new(word), scratch, &mut |token| tokens.push(token.to_string()));
            tokens.drain(..opening.min(tokens.len()));
            if tokens.is_empty() {
                tokens.push(self.kind().special_tokens()[0].to_string());
            }
            let last = tokens.len() - 1;
            for (k, token) in tokens.iter().enumerate() {
                let begins = if k == 0 { mark::BEGINS } else { mark::NONE };
                emit(token, begins | if k == last { mark::ENDS } else { mark::NONE });
            }
        }
        if document.lines && matches!(self.kind(), TokenizerKind::Whitespace) {
            emit("xxeos", mark::NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Rules;

    fn cut(kind: TokenizerKind, words: &[&str]) -> (Vec<String>, Vec<u8>) {
        let document = Document::of_words(words.iter().map(ToString::to_string).collect());
        let (mut tokens, mut marks) = (Vec::new(), Vec::new());
        let tokenizer = Tokenizer::new(kind).unwrap();
        tokenizer.tokenize_words(&document, &mut Scratch::default(), &mut |token, mark| {
            tokens.push(token.to_string());
            marks.push(mark);
        });
        assert_eq!(tokenizer.tokens(&document), tokens, "a language model reads the same");
        (tokens, marks)
    }

    #[test]
    fn words_are_found_again_whatever_the_rules_make_of_them() {
        let (tokens, marks) = cut(TokenizerKind::Whitespace, &["The", "<unk>", "a\u{a0}b"]);
        assert_eq!((tokens.join(" "), marks), ("xxbos the xxunk a b".into(), vec![0, 3, 3, 1, 2]));
        let words = ["Don't", "no", "no", "no", "no", "&#32;", "USA"];
        let (tokens, marks) = cut(TokenizerKind::word(Rules::V2), &words);
        assert_eq!(tokens.join(" "), "xxbos xxmaj do n't no no no no xxunk xxup usa");
        assert_eq!(marks, [0, 1, 0, 2, 3, 3, 3, 3, 3, 1, 2]);
        for rules in [Rules::V07, Rules::V1, Rules::V2] {
            let (tokens, marks) = cut(TokenizerKind::word(rules), &words);
            let begun = marks.iter().filter(|mark| *mark & mark::BEGINS > 0).count();
            let ended = marks.iter().filter(|mark| *mark & mark::ENDS > 0).count();
            assert_eq!((begun, ended, tokens.len()), (words.len(), words.len(), marks.len()), "{tokens:?}");
        }
    }
}
