//! Limits of a `tokenizer.json`, checked before the library reads it: a file of a few lines
//! could have a text grow a million times, a regular expression run for hours, or a table fill the
//! memory.
//!
//! - Tables of tokens and merges have at most 1,048,576 entries each, tokens added to them 65,536;
//!   a token at most 4,096 bytes.
//! - All else has at most 4,096 values, a text grows at most 64 times in all normalising and
//!   splitting steps together.
//! - A regular expression has at most 4,096 bytes, no reference to a group, and no repetition
//!   without an end within another one. (What the library matches by trying is then of bounded
//!   depth.)
//! - A word that pieces are looked for in by trying all has at most 10,000 characters.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Fault, in_words};

const ENTRIES: u64 = 1 << 20;
const ADDED: u64 = 1 << 16;
const TOKEN: usize = 4096;
const STEPS: u64 = 4096;
const GROWTH: f64 = 64.0;
const PATTERN: usize = 4096;
const WORD: u64 = 10_000;

/// # Errors
/// The file goes beyond a limit; the end of a sentence.
pub(super) fn check(file: &[u8]) -> Result<(), Fault> {
    let mut json = serde_json::Deserializer::from_slice(file);
    Outline.deserialize(&mut json).and_then(|parts| json.end().map(|()| parts)).map_err(in_words_of_json)?;
    #[derive(serde::Deserialize)]
    struct Steps {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        pre_tokenizer: Value,
        #[serde(default)]
        post_processor: Value,
        #[serde(default)]
        decoder: Value,
    }
    let steps: Steps = serde_json::from_slice(file).map_err(in_words_of_json)?;
    let mut growth = 1.0;
    for part in [&steps.normalizer, &steps.pre_tokenizer] {
        walk(part, &mut growth)?;
    }
    let mut decoded = 1.0;
    [&steps.post_processor, &steps.decoder].into_iter().try_for_each(|part| walk(part, &mut decoded))?;
    if growth.max(decoded) > GROWTH {
        return Err(format!("has steps that may have a text grow more than {GROWTH} times"));
    }
    Ok(())
}

fn in_words_of_json(e: serde_json::Error) -> Fault {
    let message = in_words(&e);
    match message.strip_prefix("LIMIT ") {
        // the place in the file is that of a value, which says nothing
        Some(limit) => limit.split(" at line ").next().unwrap_or_default().to_string(),
        None if message.starts_with("invalid type") => format!("is not a tokenizer: {message}"),
        None => format!("is not JSON: {message}"),
    }
}

/// Goes through a file and counts; it keeps nothing.
struct Outline;

impl<'de> DeserializeSeed<'de> for Outline {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Outline {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "model" => entries.next_value_seed(Model)?,
                // an added token is an object of seven values
                "added_tokens" => {
                    entries.next_value_seed(Count::of("added_tokens", 8 * ADDED, TOKEN, &Cell::new(0)))?
                }
                // the table of compatibility forms is one long text
                key => {
                    let what = match key {
                        "normalizer" => "normalizer",
                        "pre_tokenizer" => "pre_tokenizer",
                        "post_processor" => "post_processor",
                        "decoder" => "decoder",
                        _ => "other parts",
                    };
                    entries.next_value_seed(Count::of(what, STEPS, usize::MAX, &Cell::new(0)))?;
                }
            }
        }
        Ok(())
    }
}

/// The model of a file.
struct Model;

impl<'de> DeserializeSeed<'de> for Model {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Model {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object as the model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                // an entry is a number, a pair of texts, or a list of two
                "vocab" => entries.next_value_seed(Count::of("vocab", 3 * ENTRIES, TOKEN, &Cell::new(0)))?,
                "merges" => entries.next_value_seed(Count::of("merges", 3 * ENTRIES, 2 * TOKEN, &Cell::new(0)))?,
                "max_input_chars_per_word" => {
                    let most = entries.next_value::<Value>()?;
                    if most.as_u64().is_some_and(|most| most > WORD) {
                        let message = format!("LIMIT has max_input_chars_per_word {most}, and {WORD} is the most");
                        return Err(A::Error::custom(message));
                    }
                }
                _ => entries.next_value_seed(Count::of("model", STEPS, TOKEN, &Cell::new(0)))?,
            }
        }
        Ok(())
    }
}

/// Counts values, and the bytes of each text among them.
struct Count<'a> {
    what: &'static str,
    most: u64,
    longest: usize,
    seen: &'a Cell<u64>,
}

impl<'a> Count<'a> {
    fn of(what: &'static str, most: u64, longest: usize, seen: &'a Cell<u64>) -> Self {
        Count { what, most, longest, seen }
    }

    fn again(&self) -> Count<'a> {
        Count { ..*self }
    }

    fn one<E: serde::de::Error>(&self) -> Result<(), E> {
        self.seen.set(self.seen.get() + 1);
        if self.seen.get() > self.most {
            return Err(E::custom(format!("LIMIT has more than {} values in {}", self.most, self.what)));
        }
        Ok(())
    }

    fn text<E: serde::de::Error>(&self, length: usize) -> Result<(), E> {
        if length > self.longest {
            let (what, longest) = (self.what, self.longest);
            return Err(E::custom(format!("LIMIT has a text of {length} bytes in {what}, and {longest} is the most")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.one()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.text(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            self.text(key.len())?;
            entries.next_value_seed(self.again())?;
        }
        Ok(())
    }
}

/// Goes through steps, and through those within steps. `growth`: how much longer a text may be
/// after them.
fn walk(value: &Value, growth: &mut f64) -> Result<(), Fault> {
    match value {
        Value::Array(all) => all.iter().try_for_each(|value| walk(value, growth)),
        Value::Object(step) => {
            let pattern = step.get("pattern").and_then(Value::as_object);
            let regex = pattern.and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
            regex.map_or(Ok(()), check_regex)?;
            if step.get("type").and_then(Value::as_str) == Some("Replace") {
                let length = |value: Option<&Value>| value.and_then(Value::as_str).map_or(0, str::len) as f64;
                let matched = length(pattern.and_then(|pattern| pattern.get("String"))).max(1.0);
                // an empty match occurs between any two characters
                let between =
                    regex.is_some_and(|regex| regex.is_empty() || regex.contains(['*', '?', '|', '{', '^', '$']));
                let content = length(step.get("content"));
                *growth *= (content / matched).max(1.0) + if between { content } else { 0.0 };
            }
            step.values().try_for_each(|value| walk(value, growth))
        }
        _ => Ok(()),
    }
}

/// Refuses what matching by trying could take for ever for.
fn check_regex(pattern: &str) -> Result<(), Fault> {
    let shown = || in_words(pattern.chars().take(60).collect::<String>());
    if pattern.len() > PATTERN {
        return Err(format!("has a regular expression of {} bytes, and {PATTERN} is the most", pattern.len()));
    }
    let bytes = pattern.as_bytes();
    // for every open group whether something in it repeats without an end
    let (mut open, mut repeats, mut i) = (vec![false], false, 0);
    while i < bytes.len() {
        // whether what ends here holds such a repetition
        repeats = match bytes[i] {
            b'\\' => {
                i += 1;
                if bytes.get(i).is_some_and(|b| (b'1'..=b'9').contains(b) || *b == b'k') {
                    return Err(format!("has a reference to a group in the regular expression '{}'", shown()));
                }
                false
            }
            b'[' => {
                i = end_of_class(bytes, i);
                false
            }
            b'(' => {
                open.push(false);
                false
            }
            b')' => {
                let within = open.pop().unwrap_or(false);
                match open.last_mut() {
                    Some(around) => *around |= within,
                    None => open.push(within),
                }
                within
            }
            b'*' | b'+' | b'{' => {
                let endless = match bytes[i] {
                    b'{' => {
                        let end = bytes[i..].iter().position(|&b| b == b'}').map_or(bytes.len(), |n| i + n);
                        let inner = &pattern[i + 1..end];
                        i = end;
                        let most = inner.rsplit(',').next().unwrap_or_default();
                        most.trim().is_empty() || most.trim().parse::<u32>().is_ok_and(|most| most > 64)
                    }
                    _ => true,
                };
                if endless && repeats {
                    return Err(format!("has a repetition within another one in the regular expression '{}'", shown()));
                }
                if endless && let Some(around) = open.last_mut() {
                    *around = true;
                }
                // `a+?` and `a++` are one repetition
                if endless && bytes.get(i + 1).is_some_and(|b| matches!(b, b'?' | b'+')) {
                    i += 1;
                }
                repeats || endless
            }
            b'?' => repeats,
            _ => false,
        };
        i += 1;
    }
    Ok(())
}

/// The index of the `]` of a class that begins at `start`; classes may lie within it.
fn end_of_class(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'[' => {
                depth += 1;
                // a bracket that comes first is a character
                let first = i + 1 + usize::from(bytes.get(i + 1) == Some(&b'^'));
                if bytes.get(first) == Some(&b']') {
                    i = first;
                }
            }
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fault(file: &Value) -> String {
        check(file.to_string().as_bytes()).unwrap_err()
    }

    fn replace(pattern: &str, content: &str) -> Value {
        json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
    }

    #[test]
    fn patterns() {
        let known = [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            "▁?\\p{P}|▁?\\p{N}+",
            r"[]a]+|[^]a]+|(a|b)+|\(a+\)+",
        ];
        known.iter().for_each(|pattern| check_regex(pattern).unwrap());
        for pattern in [r"(a+)+$", r"(?:(a|b)*c)*", r"(x{2,})*", r"((a+)?b?)+", r"(a{1,1000})+", r"(?=(a+)*)x"] {
            assert!(check_regex(pattern).is_err_and(|e| e.contains("a repetition within another")), "{pattern}");
        }
        assert!(check_regex(r"(a)\1").unwrap_err().contains("a reference to a group"));
        assert!(check_regex(&"a".repeat(5000)).unwrap_err().contains("of 5000 bytes"));
    }

    #[test]
    fn growth_is_that_of_all_steps() {
        let twice: Vec<Value> = (0..6).map(|_| replace("a", "aa")).collect();
        assert!(
            check(json!({"normalizer": {"type": "Sequence", "normalizers": twice}}).to_string().as_bytes()).is_ok()
        );
        let bomb: Vec<Value> = (0..40).map(|_| replace("a", "aa")).collect();
        let part = "has steps that may have a text grow more than 64 times";
        assert_eq!(fault(&json!({"normalizer": {"type": "Sequence", "normalizers": bomb}})), part);
        assert_eq!(fault(&json!({"decoder": {"type": "Sequence", "decoders": bomb}})), part);
        assert_eq!(fault(&json!({"normalizer": replace("a", &"b".repeat(100))})), part);
        let nothing = json!({"type": "Replace", "pattern": {"Regex": "b*"}, "content": "c".repeat(40)});
        assert_eq!(fault(&json!({"normalizer": nothing})), part);
        let spaces = json!({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "});
        let often: Vec<&Value> = (0..20).map(|_| &spaces).collect();
        assert!(check(json!({"normalizer": {"normalizers": often}}).to_string().as_bytes()).is_ok());
        let space = json!({"normalizer": replace(" ", "▁")});
        assert!(check(space.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn counts_are_bounded() {
        let steps: Vec<Value> = (0..5000).map(|_| json!({"type": "NFC"})).collect();
        assert_eq!(fault(&json!({"normalizer": {"normalizers": steps}})), "has more than 4096 values in normalizer");
        let merges = format!("{{\"model\":{{\"merges\":[{}\"a b\"]}}}}", "\"a b\",".repeat(3 << 20));
        assert_eq!(check(merges.as_bytes()).unwrap_err(), "has more than 3145728 values in merges");
        let long = json!({"model": {"vocab": {"a".repeat(5000): 1}}});
        assert_eq!(fault(&long), "has a text of 5000 bytes in vocab, and 4096 is the most");
        let word = json!({"model": {"type": "WordPiece", "max_input_chars_per_word": 1_000_000}});
        assert_eq!(fault(&word), "has max_input_chars_per_word 1000000, and 10000 is the most");
        assert!(check(b"{\"model\"").unwrap_err().starts_with("is not JSON: "));
        assert!(check(b"[]").is_err());
    }
}
