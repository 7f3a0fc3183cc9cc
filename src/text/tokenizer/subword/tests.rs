//! Sub-words: trained models, models of other tools, files that are no tokenizer.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Tokenizer, TokenizerKind};
use super::*;
use crate::text::{Document, Vocabulary, WordCounts};

const ENGLISH: &[&str] = &[
    "The unbelievable story of a town that lived through the winter.",
    "She was walking, talking and laughing; he was listening (as usual).",
    "In 1987 the town had 1234 people, in 1988 it had 1250.",
    "Unhappily, the winter was unusually long: the people were WAITING for spring.",
    "A winter story, told in spring, is a story about spring.",
];

const CHINESE: &[&str] = &[
    "这部电影非常好看，演员的表演也很好。",
    "这部电影不好看，故事太长了。",
    "我喜欢这个故事，也喜欢这些演员。",
    "他们在北京的电影院看了这部电影。",
    "北京的电影院很多，电影也很多。",
];

const JAPANESE: &[&str] = &[
    "この映画はとても面白かったです。",
    "この映画は面白くなかったです。",
    "私はこの物語が好きです。",
    "東京の映画館でこの映画を見ました。",
    "東京の映画館はとても大きいです。",
];

fn train_on(texts: &[&str], algorithm: SubwordAlgorithm, rules: Rules, size: usize, coverage: f64) -> Subword {
    let segmenter = Segmenter::new(rules, Invisible::Keep).unwrap();
    let (mut segments, mut scratch) = (Segments::default(), SegmentScratch::default());
    texts.iter().for_each(|text| segments.add(&segmenter.count(&Document::new(*text), &mut scratch).unwrap()));
    let invisible = Invisible::Keep;
    let vocab_size = size;
    train(segments, &SubwordTraining { algorithm, rules, invisible, vocab_size, min_count: 1, coverage }).unwrap()
}

const BOTH: [SubwordAlgorithm; 2] = [SubwordAlgorithm::Unigram, SubwordAlgorithm::Bpe];
const RULES: [Rules; 3] = [Rules::V07, Rules::V1, Rules::V2];

/// One of each kind, trained once.
fn trained() -> &'static [(Rules, Subword)] {
    static ALL: OnceLock<Vec<(Rules, Subword)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let texts = [ENGLISH, CHINESE, JAPANESE].concat();
        let each = BOTH.into_iter().flat_map(|algorithm| RULES.map(|rules| (algorithm, rules)));
        each.map(|(algorithm, rules)| (rules, train_on(&texts, algorithm, rules, 300, 1.0))).collect()
    })
}

fn tokenizer(subword: &Subword) -> Tokenizer {
    Tokenizer::new(TokenizerKind::Subword(subword.clone())).unwrap()
}

fn tokens(subword: &Subword, text: &str) -> Vec<String> {
    tokenizer(subword).tokens(&Document::new(text))
}

fn vocabulary(subword: &Subword) -> Vocabulary {
    let kind = TokenizerKind::Subword(subword.clone());
    Vocabulary::from_counts(&WordCounts::default(), kind, 1, 1).unwrap()
}

fn crates(subword: &Subword) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(subword.file().unwrap()).unwrap()
}

/// The text as it is after the rules, its pieces parted by single spaces.
fn after_rules(text: &str, rules: Rules) -> String {
    let (mut before, mut other, mut joined) = (String::new(), String::new(), String::new());
    super::super::rules::before(
        &Document::new(text),
        rules,
        super::super::rules::Casing::default(),
        super::Invisible::Keep,
        &mut before,
        &mut other,
    );
    pieces(&before, rules, &mut |piece| {
        joined.push_str(piece);
        joined.push(' ');
    });
    joined
}

#[test]
fn ids_are_those_of_the_file() {
    for (rules, subword) in trained() {
        let (vocabulary, other) = (vocabulary(subword), crates(subword));
        assert_eq!(vocabulary.len(), other.get_vocab_size(true), "{rules:?}");
        for (id, word) in vocabulary.words().enumerate() {
            assert_eq!(other.token_to_id(word), Some(id as u32), "{word}");
        }
        let special = subword.special_tokens();
        assert_eq!(vocabulary.words().take(special.len()).collect::<Vec<_>>(), special);
        let word_tokenizer = TokenizerKind::word(*rules);
        assert!(special.starts_with(word_tokenizer.special_tokens()), "the special tokens keep their ids");
        assert_eq!(tokenizer(subword).kind().begin_token(), word_tokenizer.begin_token());
    }
}

#[test]
fn pieces_of_words() {
    for algorithm in BOTH {
        let subword = train_on(ENGLISH, algorithm, Rules::V2, 120, 1.0);
        let all = tokens(&subword, "The people were WAITING for 1987 &amp; a winter, soooo");
        let text = all.join(" ");
        assert!(text.starts_with("xxbos xxmaj ▁the ▁people ▁w"), "{algorithm}: {text}");
        assert!(text.contains(" xxup ▁w") && text.contains("▁winter , ▁s xxrep ▁"), "{algorithm}: {text}");
        assert!(text.contains("xxunk"), "{algorithm}: nobody has seen an ampersand: {text}");
        let shown: Vec<&str> = all.iter().map(String::as_str).collect();
        let read = tokenizer(&subword).detokenize(&shown);
        assert!(read.starts_with("The people were WAITING for 1987"), "{read}");
        let known = vocabulary(&subword);
        assert!(all.iter().all(|token| known.get(token).is_some()), "{text}");
    }
}

#[test]
fn languages_without_spaces() {
    for algorithm in BOTH {
        for (texts, pieces, unseen) in
            [(CHINESE, &["电影", "演员", "北京"][..], "鼠"), (JAPANESE, &["映画", "東京", "です"], "鼠")]
        {
            let subword = train_on(texts, algorithm, Rules::V2, 120, 1.0);
            let known = vocabulary(&subword);
            let found = |piece: &str| known.words().any(|word| word.contains(piece));
            assert!(pieces.iter().all(|piece| found(piece)), "{algorithm}: {:?}", known.words().collect::<Vec<_>>());
            for text in texts {
                let tokens = tokens(&subword, text);
                assert!(
                    !tokens.contains(&"xxunk".to_string()) && tokens.len() < text.chars().count() + 2,
                    "{tokens:?}"
                );
                let shown: Vec<&str> = tokens.iter().map(String::as_str).collect();
                // NFKC makes the wide comma a plain one
                let plain = text.replace('，', ",");
                assert_eq!(tokenizer(&subword).detokenize(&shown), plain);
            }
            assert!(tokens(&subword, unseen).contains(&"xxunk".to_string()));
        }
    }
}

#[test]
fn rare_characters_are_unknown() {
    let mut texts = vec!["plain words of plain letters"; 500];
    texts.push("one ☃ alone");
    for algorithm in BOTH {
        let known = |coverage| vocabulary(&train_on(&texts, algorithm, Rules::V2, 60, coverage)).get("☃").is_some();
        assert!(known(1.0) && !known(0.999), "{algorithm}");
    }
    // Chinese has more characters than a small vocabulary has room for
    let subword = train_on(CHINESE, SubwordAlgorithm::Unigram, Rules::V2, 30, 1.0);
    assert!(vocabulary(&subword).len() <= 30);
}

#[test]
fn too_small_and_empty() {
    let segmenter = Segmenter::new(Rules::V2, Invisible::Keep).unwrap();
    let training = |vocab_size| SubwordTraining {
        algorithm: SubwordAlgorithm::Unigram,
        rules: Rules::V2,
        invisible: Invisible::Keep,
        vocab_size,
        min_count: 1,
        coverage: 1.0,
    };
    let mut segments = Segments::default();
    segments.add(&segmenter.count(&Document::new("a b"), &mut SegmentScratch::default()).unwrap());
    let e = train(segments, &training(10)).unwrap_err();
    assert!(e.exit_status() == 2 && e.to_string().contains("--vocab-size 10 leaves no place"), "{e}");
    let mut segments = Segments::default();
    segments.add(&segmenter.count(&Document::new(" \n"), &mut SegmentScratch::default()).unwrap());
    let e = train(segments, &training(100)).unwrap_err();
    assert!(e.exit_status() == 1 && e.to_string().contains("no word"), "{e}");
}

/// Text from elsewhere, as a `tokenizer.json` with these tokens by id.
fn other_file(model: Value, more: Value) -> Vec<u8> {
    let mut file = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null, "model": model });
    more.as_object().unwrap().iter().for_each(|(key, value)| file[key] = value.clone());
    serde_json::to_vec(&file).unwrap()
}

fn unigram_file(more: Value) -> Vec<u8> {
    let vocab =
        json!([["<s>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["▁ab", -1.0], ["c", -2.5], ["ab", -3.0]]);
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let mut all = json!({ "normalizer": { "type": "Lowercase" }, "pre_tokenizer": metaspace, "decoder": metaspace });
    more.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
    other_file(json!({ "type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false }), all)
}

#[test]
fn files_of_other_tools() {
    let subword = Subword::from_bytes(unigram_file(json!({}))).unwrap();
    let words: Vec<String> = vocabulary(&subword).words().map(String::from).collect();
    assert_eq!(words, ["xxunk", "xxpad", "xxbos", "<s>", "</s>", "▁", "▁ab", "c", "ab"]);
    // its own lower case, its own pieces, and no marks of ours
    assert_eq!(tokens(&subword, "AB abc &c"), ["xxbos", "▁ab", "▁ab", "c", "▁", "xxunk", "c"]);
    assert_eq!(tokenizer(&subword).detokenize(&["xxbos", "▁ab", "c", "▁ab"]), "abc ab");
    assert_eq!(tokenizer(&subword).continued("ab", &["c", "▁ab"]), "abc ab");
    assert_eq!(tokenizer(&subword).continued("ab", &["▁ab"]), "ab ab");

    // every byte has a token: no unknown token is needed
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let mut letters: Vec<char> = alphabet.into_iter().collect();
    letters.sort();
    let vocab: Value = letters.iter().enumerate().map(|(id, c)| (c.to_string(), Value::from(id))).collect();
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let model = json!({ "type": "BPE", "dropout": 0.5, "unk_token": null, "vocab": vocab, "merges": [] });
    let file = other_file(model.clone(), json!({ "pre_tokenizer": bytes, "decoder": bytes }));
    let subword = Subword::from_bytes(file).unwrap();
    assert_eq!(tokens(&subword, "é a"), ["xxbos", "Ã", "©", "Ġ", "a"]);
    assert_eq!(tokenizer(&subword).detokenize(&["xxbos", "Ã", "©", "Ġ", "a"]), "é a");
    // the same model without bytes before it would lose what it does not know
    let fault = Subword::from_bytes(other_file(model, json!({}))).unwrap_err();
    assert!(fault.contains("no unknown token"), "{fault}");
}

#[test]
fn what_is_no_tokenizer() {
    let word_level = |vocab: Value| json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "u" });
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "is not JSON"),
        (b"{\"version\":\"1.0\",".to_vec(), "is not JSON"),
        (b"[1,2]".to_vec(), "is not a tokenizer"),
        (b"{}".to_vec(), "is not a tokenizer"),
        (vec![0xff; 20], "is not JSON"),
        (b"{\"model\":".repeat(100_000), "is not JSON"),
        (other_file(json!({ "type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]] }), json!({})), "is not a tokenizer"),
        (
            other_file(
                json!({ "type": "Unigram", "unk_id": null, "vocab": [["a", 0.0], ["b", 0.0], ["c", 0.0], ["d", 0.0]] }),
                json!({}),
            ),
            "no unknown token",
        ),
        (
            other_file(word_level(json!({ "u": 0, "a": 1, "b": 2, "c": 4_294_967_295u32 })), json!({})),
            "gives 'c' the id 4294967295",
        ),
        (
            other_file(word_level(json!({ "u": 0, "a": 1, "b": 1, "c": 2 })), json!({})),
            "gives 'a' and 'b' the same id, 1",
        ),
        (other_file(word_level(json!({ "a": 0, "b": 1, "c": 2, "d": 3 })), json!({})), "no unknown token"),
        (other_file(word_level(json!({ "u": 0 })), json!({})), "has no tokens"),
        (
            other_file(
                json!({ "type": "BPE", "unk_token": "u", "vocab": { "u": 0, "a": 1, "b": 2, "c": 3 }, "merges": ["a z"] }),
                json!({}),
            ),
            "is not a tokenizer",
        ),
        (unigram_file(json!({ "version": "7.0" })), "is not a tokenizer"),
        // the library breaks off on this one
        (
            unigram_file(json!({ "pre_tokenizer": { "type": "FixedLength", "length": 0 } })),
            "is not a tokenizer that can work",
        ),
        (
            unigram_file(
                json!({ "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false } }),
            ),
            "is not a tokenizer",
        ),
    ];
    for (file, part) in cases {
        let shown = String::from_utf8_lossy(&file[..file.len().min(200)]).to_string();
        let fault = Subword::from_bytes(file).unwrap_err();
        assert!(fault.contains(part) && !fault.contains('\n') && fault.len() < 500, "{shown}: {fault}");
    }
}

#[test]
fn beside_its_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let (path, file) = (dir.path().join("a.vocab.json"), dir.path().join("a.tokenizer.json"));
    let all = trained();
    let first = vocabulary(&all[0].1).filled_up(128);
    first.save(&path).unwrap();
    let read = Vocabulary::load(&path).unwrap();
    assert!(read == first && read.words().eq(first.words()) && read.tokenizer() == first.tokenizer());
    assert_eq!(std::fs::read(&file).unwrap(), all[0].1.file().unwrap());
    let text = Document::new("The winter story");
    assert_eq!(Tokenizer::new(read.tokenizer().clone()).unwrap().tokens(&text), tokens(&all[0].1, &text.text));

    std::fs::write(&file, all[1].1.file().unwrap()).unwrap();
    let e = Vocabulary::load(&path).unwrap_err().to_string();
    assert!(e.contains("a.tokenizer.json: is not the tokenizer that the vocabulary"), "{e}");
    std::fs::remove_file(&file).unwrap();
    let e = Vocabulary::load(&path).unwrap_err().to_string();
    assert!(e.contains("a.tokenizer.json: is missing"), "{e}");
}

/// The same pieces joined in another way are another vocabulary.
#[test]
fn the_hash_knows_the_file() {
    let bpe = |merges: Value| {
        let vocab = json!({ "u": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5 });
        let model = json!({ "type": "BPE", "unk_token": "u", "vocab": vocab, "merges": merges });
        Subword::from_bytes(other_file(model, json!({}))).unwrap()
    };
    let (one, other) = (bpe(json!(["a b", "b c"])), bpe(json!(["b c", "a b"])));
    assert!(vocabulary(&one).words().eq(vocabulary(&other).words()));
    assert_ne!(tokens(&one, "abc"), tokens(&other, "abc"));
    assert_ne!(vocabulary(&one).hash(), vocabulary(&other).hash());
}

proptest! {
    /// Piece by piece through a cache, or all at once through the library: the same tokens.
    #[test]
    fn as_the_library_cuts(
        text in any::<String>(),
        near in "[a-eA-E .,0-9(影映画\u{a8}\u{3000}▁xİΣ]{0,40}",
        which in 0..6usize,
    ) {
        let (rules, subword) = &trained()[which];
        let other = crates(subword);
        for text in [&text, &near] {
            let ours = tokens(subword, text);
            prop_assert!(ours.iter().all(|token| !token.is_empty()) && ours.iter().any(|t| *t == subword.special_tokens()[2]));
            let encoding = other.encode(after_rules(text, *rules), false).unwrap();
            let theirs: Vec<String> = encoding.get_ids().iter().map(|&id| other.id_to_token(id).unwrap()).collect();
            prop_assert_eq!(&ours, &theirs);
            let shown: Vec<&str> = ours.iter().map(String::as_str).collect();
            tokenizer(subword).detokenize(&shown);
        }
    }

    /// A damaged file is refused or works; it never breaks the program off.
    #[test]
    fn damaged_files(at in any::<prop::sample::Index>(), change in 1u8.., cut in any::<bool>(), own in any::<bool>(), text in any::<String>()) {
        let mut file = if own { trained()[0].1.file().unwrap().to_vec() } else { unigram_file(json!({})) };
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] ^= change }
        match Subword::from_bytes(file) {
            Ok(subword) => prop_assert!(tokens(&subword, &text).iter().all(|token| !token.is_empty())),
            Err(fault) => prop_assert!(!fault.chars().any(char::is_control)),
        }
    }
}
