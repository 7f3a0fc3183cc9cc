//! Words and classes from the files that other programs keep them in.

use serde_json::Value;

use super::pickle::{Id, Pickle};
use crate::text::{Rules, TokenizerKind};

/// Words by id, and the classes that fastai 2 keeps beside them.
#[derive(Debug, PartialEq)]
pub struct Words {
    pub words: Vec<String>,
    pub classes: Vec<String>,
}

/// Reads a pickle of a list (`itos.pkl`), of fastai's pair of words and classes or of awd-lstm-lm's
/// `Dictionary`; a JSON list; or a text of one word a line.
///
/// # Errors
/// The end of a sentence about the file.
pub fn read(bytes: &[u8], ending: &str) -> Result<Words, String> {
    let plain = |words: Vec<String>| Words { words, classes: Vec::new() };
    match ending {
        "json" => {
            let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
            let list = value.as_array().or_else(|| value.get("words")?.as_array());
            let list = list.ok_or("is not a list of words")?;
            let word = |v: &Value| v.as_str().map(String::from);
            list.iter().map(word).collect::<Option<_>>().map(plain).ok_or_else(|| "has words that are no texts".into())
        }
        "txt" => {
            let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
            Ok(plain(text.lines().map(String::from).collect()))
        }
        _ => pickled(bytes),
    }
}

fn pickled(bytes: &[u8]) -> Result<Words, String> {
    let pickle = Pickle::read(bytes).map_err(|e| format!("is not a pickle: it {e}"))?;
    let other = |id: Id| format!("holds {}, not a list of words; nothing of it was run", pickle.describe(id));
    let root = pickle.root;
    let texts = |id: Id| -> Option<Vec<String>> {
        pickle.items(id)?.iter().map(|&word| pickle.text(word).map(String::from)).collect()
    };
    if let Some(words) = texts(root) {
        return Ok(Words { words, classes: Vec::new() });
    }
    if let Some(&[words, classes]) = pickle.items(root)
        && let (Some(words), Some(classes)) = (texts(words), texts(classes))
    {
        return Ok(Words { words, classes });
    }
    // an object of awd-lstm-lm: a corpus has a dictionary, a dictionary has idx2word
    let mut object = root;
    for _ in 0..2 {
        let super::pickle::Node::Object { state: Some(state), .. } = *pickle.node(object) else { break };
        if let Some(words) = pickle.get(state, "idx2word").and_then(texts) {
            return Ok(Words { words, classes: Vec::new() });
        }
        match pickle.get(state, "dictionary") {
            Some(inner) => object = inner,
            None => break,
        }
    }
    Err(other(root))
}

/// The tokenizer that the special tokens at the front of a vocabulary speak of; `None` where they
/// do not tell.
pub fn tokenizer(words: &[String]) -> Option<TokenizerKind> {
    let begins = |kind: &TokenizerKind| {
        let special = kind.special_tokens();
        words.len() > special.len() && special.iter().zip(words).all(|(a, b)| a == b)
    };
    [Rules::V2, Rules::V1, Rules::V07].into_iter().map(TokenizerKind::word).find(begins)
}

/// Where the words of awd-lstm-lm stand here: for every id the one there, `None` for one that is
/// not there. Unknown words have id 0 here and padding id 1; awd-lstm-lm numbers words as it meets
/// them, has `<unk>` and `<eos>`, and no padding.
pub fn from_awd(words: &[String]) -> Result<(Vec<String>, Vec<Option<u32>>), String> {
    let find = |word: &str| words.iter().position(|w| w == word);
    let unknown = find("<unk>").ok_or("has neither '<unk>' nor the special tokens of fastai")?;
    let mut order = vec![("xxunk".to_string(), Some(unknown as u32)), ("xxpad".to_string(), None)];
    order.push(("xxbos".to_string(), None));
    for (id, word) in words.iter().enumerate().filter(|&(id, _)| id != unknown) {
        let name = if word == "<eos>" { "xxeos" } else { word };
        order.push((name.to_string(), Some(id as u32)));
    }
    Ok(order.into_iter().unzip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_tell_the_rules() {
        let list = |words: &str| words.split(' ').map(String::from).collect::<Vec<_>>();
        let rules = |words: &str| tokenizer(&list(words));
        let v2 = "xxunk xxpad xxbos xxeos xxfld xxrep xxwrep xxup xxmaj the";
        let v1 = "xxunk xxpad xxbos xxeos xxfld xxmaj xxup xxrep xxwrep the";
        assert_eq!(rules(v2), Some(TokenizerKind::word(Rules::V2)));
        assert_eq!(rules(v1), Some(TokenizerKind::word(Rules::V1)));
        assert_eq!(rules("_unk_ _pad_ the"), Some(TokenizerKind::word(Rules::V07)));
        assert_eq!(rules("<unk> the"), None);
    }

    #[test]
    fn words_of_awd_lstm_lm_are_moved() {
        let words = ["aer", "<unk>", "<eos>", "the"].map(String::from);
        let (names, from) = from_awd(&words).unwrap();
        assert_eq!(names, ["xxunk", "xxpad", "xxbos", "aer", "xxeos", "the"]);
        assert_eq!(from, [Some(1), None, None, Some(0), Some(2), Some(3)]);
    }

    #[test]
    fn lists_in_four_forms() {
        let json = read(br#"["a","b"]"#, "json").unwrap();
        assert_eq!(json, read(b"a\nb\n", "txt").unwrap());
        assert_eq!(json, read(b"(lVa\naVb\na.", "pkl").unwrap());
        let pair = read(b"((lVa\naVb\na(lVyes\naVno\nat.", "pkl").unwrap();
        assert_eq!((pair.words, pair.classes), (json.words, vec!["yes".into(), "no".into()]));
        let hostile = read(b"cposix\nsystem\n(Vls\ntR.", "pkl").unwrap_err();
        assert!(hostile.contains("a call of posix.system") && hostile.contains("nothing of it was run"), "{hostile}");
    }
}
