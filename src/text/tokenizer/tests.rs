use super::*;

fn tokens(kind: TokenizerKind, text: &str) -> Vec<String> {
    Tokenizer::new(kind).unwrap().tokens(&Document::new(text))
}

/// What fastai 2.8 with spaCy makes of a document.
#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    after_rules: String,
    tokens: Vec<String>,
}

fn golden(lines: &str) -> Vec<Golden> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Documents written for this project: odd spellings, scripts, spaces, marks. Always run; those of
/// the data sets are below.
#[test]
fn hostile_documents() {
    let documents = golden(include_str!("../../../tests/golden/tokenizer/hostile.jsonl"));
    assert_eq!(documents.len(), 30);
    for document in documents {
        assert_eq!(ruled(Rules::V2, &document.text), document.after_rules);
        assert_eq!(tokens(TokenizerKind::word(Rules::V2), &document.text), document.tokens);
    }
}

/// Agreement with fastai 2.8 and spaCy on documents of the data sets: prints it, and fails when it
/// falls. docs/tokenizer.md names every difference.
#[test]
fn golden_documents() {
    let root = std::env::var_os("ULMFIT_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        std::path::PathBuf::from,
    );
    let path = root.join("../golden/tokenizer/documents.jsonl");
    let Ok(file) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no {}", path.display());
        return;
    };
    let documents = golden(&file);
    let mut different: Vec<(usize, Vec<&str>, Vec<String>)> = Vec::new();
    let (mut matched, mut expected_tokens) = (0, 0);
    for (number, document) in documents.iter().enumerate() {
        assert_eq!(ruled(Rules::V2, &document.text), document.after_rules, "the rules alone, document {number}");
        let expected: Vec<&str> = document.tokens.iter().map(String::as_str).collect();
        let ours = tokens(TokenizerKind::word(Rules::V2), &document.text);
        let common = common_tokens(&expected, &ours);
        matched += common;
        expected_tokens += expected.len().max(ours.len());
        if expected != ours {
            let front = expected.iter().zip(&ours).take_while(|(a, b)| **a == b.as_str()).count();
            let most = expected.len().min(ours.len()) - front;
            let back = expected.iter().rev().zip(ours.iter().rev()).take(most).take_while(|(a, b)| **a == b.as_str());
            let back = back.count();
            different.push((
                number,
                expected[front..expected.len() - back].to_vec(),
                ours[front..ours.len() - back].to_vec(),
            ));
        }
    }
    let agreement = matched as f64 / expected_tokens as f64;
    let (n, same) = (documents.len(), documents.len() - different.len());
    println!("{n} documents: tokens alike in {same}, {:.4} % of {expected_tokens} tokens", 100.0 * agreement);
    different.iter().for_each(|(number, theirs, ours)| println!("{number}: theirs {theirs:?}, ours {ours:?}"));
    assert!(same * 100 >= n * 99 && agreement >= 0.999);
}

/// Length of the longest common subsequence.
fn common_tokens(a: &[&str], b: &[String]) -> usize {
    let front = a.iter().zip(b).take_while(|(x, y)| **x == y.as_str()).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| **x == y.as_str()).count();
    let (a, b) = (&a[..a.len() - back], &b[..b.len() - back]);
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j + 1] = if *x == y.as_str() { diagonal + 1 } else { up.max(row[j]) };
            diagonal = up;
        }
    }
    front + back + row[b.len()]
}

/// The text before the tokenizer.
fn ruled(rules: Rules, text: &str) -> String {
    let (mut out, mut other) = (String::new(), String::new());
    rules::before(&Document::new(text), rules, rules::Casing::default(), Invisible::Keep, &mut out, &mut other);
    out
}

const REVIEW: &str = "I LOVE this!!!!! so so so so good<br />it#39;s  Brad's NBA/film";

/// Derived by hand from docs/SPEC.md §2.1.
#[test]
fn rules_of_the_scripts() {
    let expected = "\nxbos xfld 1 i t_up love this tk_rep 5 ! tk_wrep 4 so good\nit's brad's t_up nba / film";
    assert_eq!(ruled(Rules::V07, REVIEW), expected);
    let words = "\n xbos xfld 1 i t_up love this tk_rep 5 ! tk_wrep 4 so good \n it 's brad 's t_up nba / film";
    assert_eq!(tokens(TokenizerKind::word(Rules::V07), REVIEW).join(" "), words);
    let cases = [
        ("aaa aaaa", "aaa tk_rep 4 a "),
        ("USA US", " t_up usa us"),
        // the slash got its spaces before the tag is looked for, as in the original
        ("x < BR > y <br/>", "x \n y <br / >"),
        ("a \\ b @-@ c @.@ 5 <unk>", "a \\ b-c.5 u_n"),
        ("no no no no", "no no no no"),
        ("so so so so x", " tk_wrep 4 so x"),
        ("#146;a nbsp;b #36;5 quot;c &lt;d", "'a b $5 'c <d"),
        ("amp;lt; it amp;#39;s", "< it &'s"),
        ("x\\ny \\\"z\\\"", "x\ny \"z\""),
        ("a#b The WORD", "a # b the t_up word"),
        ("ha-ha-ha-ha-ha", " tk_wrep 2 ha- ha"),
    ];
    for (text, expected) in cases {
        assert_eq!(ruled(Rules::V07, text), format!("\nxbos xfld 1 {expected}").replace("  ", " "), "{text}");
    }
    // the marks of the scripts are words of their own
    assert_eq!(tokens(TokenizerKind::word(Rules::V07), "a <eos>.")[4..], ["a", "<eos>", "."]);
}

/// Derived by hand from docs/SPEC.md §2.2.
#[test]
fn rules_of_fastai_1() {
    let words = "xxbos i xxup love this xxrep 5 ! xxwrep 4 so good \n  it 's xxmaj brad 's xxup nba / film";
    assert_eq!(tokens(TokenizerKind::word(Rules::V1), REVIEW).join(" "), words);
    let cases = [
        ("noo nooo noooo", "xxbos noo nooo n xxrep 4 o"),
        ("so so so so x", "xxbos xxwrep 4 so x"),
        ("a &lt; b#c amp; #39;x #36;5", "xxbos a < b # c & ' x $ 5"),
        ("US McDonald Movie A é É", "xxbos xxup us mcdonald xxmaj movie a é é"),
        ("aaa 1 @,@ 000", "xxbos aaa 1,000"),
    ];
    for (text, expected) in cases {
        assert_eq!(tokens(TokenizerKind::word(Rules::V1), text).join(" "), expected, "{text}");
    }
}

/// Derived by hand from docs/SPEC.md §2.2.
#[test]
fn rules_of_fastai_2() {
    let words = "xxbos i xxup love this xxrep 5 ! xxwrep 4 so good \n it 's xxmaj brad 's xxup nba / film";
    assert_eq!(tokens(TokenizerKind::word(Rules::V2), REVIEW).join(" "), words);
    let cases = [
        ("aa aaa", "xxbos aa xxrep 3 a"),
        ("no no no", "xxbos xxwrep 3 no"),
        ("no no", "xxbos no no"),
        ("no no no, no", "xxbos xxwrep 3 no , no"),
        ("na na na nap", "xxbos xxwrep 3 na nap"),
        ("na na nap", "xxbos na na nap"),
        ("US McDonald Movie A É", "xxbos xxup us mcdonald xxmaj movie a é"),
        ("wait...", "xxbos wait …"),
        ("a \\ b", "xxbos a \\ b"),
        ("", "xxbos"),
        (" \u{1f} ", "xxbos"),
        ("a\n\n b", "xxbos a \n\n▁ b"),
    ];
    for (text, expected) in cases {
        assert_eq!(tokens(TokenizerKind::word(Rules::V2), text).join(" "), expected, "{text:?}");
    }
}

#[test]
fn fields_are_marked() {
    let document = Document::from_fields(vec!["Title".into(), "some text".into()]);
    let run = |kind| Tokenizer::new(kind).unwrap().tokens(&document).join(" ");
    assert_eq!(run(TokenizerKind::word(Rules::V2)), "xxbos xxfld 1 xxmaj title xxfld 2 some text");
    assert_eq!(run(TokenizerKind::word(Rules::V1)), "xxbos xxfld 1 xxmaj title xxfld 2 some text");
    assert_eq!(run(TokenizerKind::word(Rules::V07)), "\n xbos xfld 1 title xfld 2 some text");
    assert_eq!(run(TokenizerKind::Whitespace), "xxbos title some text");
}

#[test]
fn english_words() {
    let split = |text: &str| {
        let mut out = Vec::new();
        pieces::tokenize(text, &Cutter::English { marks_v07: false }, &mut pieces::Cache::default(), &mut |t| {
            out.push(t.to_string())
        });
        out.join("|")
    };
    let cases = [
        ("don't they're its he'd've", "do|n't|they|'re|its|he|'d|'ve"),
        ("I’ll can't Cannot gonna", "I|’ll|ca|n't|Can|not|gon|na"),
        ("(\"Hello,\" she said.)", "(|\"|Hello|,|\"|she|said|.|)"),
        ("Mr. Smith e.g. U.S. a.m. 10am plan b.", "Mr.|Smith|e.g.|U.S.|a.m.|10|am|plan|b."),
        ("mr. end. film.The e.T", "mr|.|end|.|film|.|The|e.|T"),
        ("well-known 3-4 a--b 1,000 a,b", "well|-|known|3|-|4|a|--|b|1,000|a|,|b"),
        ("$5 5€ US$7 10km 50% +5 5+", "$|5|5|€|US$|7|10|km|50|%|+5|5|+"),
        ("wow... ...so a…b", "wow|...|...|so|a|…|b"),
        ("good:) :-( <3 8-)", "good|:)|:-(|<3|8-)"),
        ("((:(:)x a:):)b", "(|(:|(|:|)|x|a:):)b"),
        ("see www.foo.com, me@x.org!", "see|www.foo.com|,|me@x.org|!"),
        ("and/or w/o a/b", "and/or|w/o|a|/|b"),
        ("rock'n'roll 'tis o'clock", "rock'n'roll|'|tis|o'clock"),
        ("a  b\n c", "a| |b|\n |c"),
        (" a", " |a"),
        ("日本語。 ok 😀😀", "日本語|。|ok|😀|😀"),
    ];
    for (text, expected) in cases {
        assert_eq!(split(text), expected, "{text:?}");
    }
}

#[test]
fn nothing_is_lost_but_spaces() {
    let text = "It's (well) 5km... \"ok\",a-b :) <eos> ¯\\(ツ)/¯ don’t!!—x 'S ><(((*> \u{202e}abc";
    let mut out = String::new();
    pieces::tokenize(text, &Cutter::English { marks_v07: false }, &mut pieces::Cache::default(), &mut |t| {
        out.push_str(t)
    });
    assert_eq!(out, text.replace(' ', ""));
}

#[test]
fn whitespace_and_pretokenized() {
    let corpus = Document { lines: true, ..Document::new(" = Title = \n The <unk> Σίσυφος\n \n") };
    let run = |kind, d: &Document| Tokenizer::new(kind).unwrap().tokens(d).join(" ");
    assert_eq!(run(TokenizerKind::Whitespace, &corpus), "xxbos = title = xxeos the xxunk σίσυφος xxeos");
    assert_eq!(run(TokenizerKind::Pretokenized, &corpus), "xxbos = Title = The <unk> Σίσυφος");
    assert_eq!(run(TokenizerKind::Whitespace, &Document::new("A\u{a0}B\x1cc\n<UNK>")), "xxbos a b c xxunk");
}

#[test]
fn other_tables_are_refused() {
    let kind: TokenizerKind = serde_json::from_str(r#"{"kind":"word","rules":"0.7","tables":"en-0"}"#).unwrap();
    assert!(Tokenizer::new(kind).unwrap_err().to_string().contains("'en-0'"));
    let json = serde_json::to_string(&TokenizerKind::word(Rules::V2)).unwrap();
    assert_eq!(json, r#"{"kind":"word","rules":"v2","tables":"en-1"}"#);
    // the English tables are not those of other languages, and the other way round
    for json in [
        r#"{"kind":"word","rules":"v2","tables":"en-1","words":{"language":"de"}}"#,
        r#"{"kind":"word","rules":"v2","tables":"unicode-17.0.0-1"}"#,
        r#"{"kind":"word","rules":"v2","tables":"unicode-17.0.0-1","words":{"language":"de","keep":["a b"]}}"#,
    ] {
        assert!(Tokenizer::new(serde_json::from_str(json).unwrap()).is_err(), "{json}");
    }
}

#[test]
fn another_language_is_recorded_and_used() {
    let mut french = Language::by_name("fr").unwrap().unwrap();
    french.prefixes = vec!["l'".into()];
    let kind = TokenizerKind::word_in(Rules::V2, Some(french));
    let json = serde_json::to_string(&kind).unwrap();
    let expected =
        r#"{"kind":"word","rules":"v2","tables":"unicode-17.0.0-1","words":{"language":"fr","prefixes":["l'"]}}"#;
    assert_eq!(json, expected);
    let read: TokenizerKind = serde_json::from_str(&json).unwrap();
    assert_eq!(read, kind);
    assert_eq!(
        tokens(read, "L’homme de l'art.  Don't!!!").join(" "),
        "xxbos xxmaj l’ homme de l' art . xxmaj don't xxrep 3 !"
    );
    let english = tokens(TokenizerKind::word(Rules::V2), "Don't").join(" ");
    assert_eq!(english, "xxbos xxmaj do n't");
}

/// The scanners with their table for ASCII find what a search character by character finds.
#[test]
fn scanners_find_what_plain_search_finds() {
    let alphabet = ["a", "B", " ", "  ", "\n", "\u{a0}", "é", "É", "Σ", "!", "/", "日", "1", "😀", "\u{1f}", "ǅ"];
    let mut state = 1u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        let find = |at: usize, wanted: fn(char) -> bool| text[at..].find(wanted).map_or(text.len(), |i| at + i);
        for (at, _) in text.char_indices() {
            assert_eq!(chars::word_end(&text, at), find(at, |c| !chars::is_word(c)), "{text:?}");
            assert_eq!(chars::next_word(&text, at), find(at, chars::is_word), "{text:?}");
            assert_eq!(chars::space_end(&text, at), find(at, |c| !is_space(c)), "{text:?}");
            assert_eq!(chars::next_space(&text, at), find(at, is_space), "{text:?}");
        }
    }
}

#[test]
fn readable_text() {
    let tokenizer = Tokenizer::new(TokenizerKind::word(Rules::V2)).unwrap();
    let text =
        tokenizer.detokenize(&["xxbos", "xxmaj", "it", "'s", "xxup", "nba", ",", "do", "n't", "(", "a", ")", "."]);
    assert_eq!(text, "It's NBA, don't (a).");
}
