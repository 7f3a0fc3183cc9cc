//! Properties that hold for any bytes: no panic, an error names the file in one sentence, and what
//! was written is read back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::text::{Language, Rules, Tokenizer, TokenizerKind};

fn options(format: &str) -> OpenOptions {
    OpenOptions { format: Some(Format::by_name(format).unwrap()), ..OpenOptions::default() }
}

fn read(name: &str, bytes: &[u8], options: &OpenOptions) -> Result<Vec<Document>> {
    Source::from_bytes(name, bytes, options)?.documents()?.collect()
}

const FORMATS: &[&str] = &[
    "plain",
    "wikitext",
    "extract",
    "csv",
    "csv-no-header",
    "tsv",
    "tsv-no-header",
    "json-lines",
    "trec",
    "label-text",
    "fasttext",
    "conll",
];

/// Any bytes, with those that formats are sensitive to among them.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..8),
        "[a-z \"\t\r\n,=<>{}:0-9\\\\\u{feff}\u{200f}\u{0}é]{0,12}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "text,label\n",
            "<doc id=\"1\">\n",
            "{\"text\":\"\\ud800\"}\n",
            " = A = \n",
            "A:b c\n",
            "1 x\n",
            "x B-A\n",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn names_the_file(result: Result<Vec<Document>>) -> Result<(), TestCaseError> {
    if let Err(e) = result {
        let message = e.to_string();
        prop_assert!(message.starts_with("f") && !message.chars().any(char::is_control), "{message:?}");
        prop_assert!(e.exit_status() == 1);
    }
    Ok(())
}

/// A cell without what the readers trim or take for something else.
fn cell() -> impl Strategy<Value = String> {
    "[a-zA-Zé日 ,;\"'\t\n.!?]{0,20}[a-z]"
}

proptest! {
    #[test]
    fn any_bytes_in_any_format(bytes in hostile(), format in prop::sample::select(FORMATS)) {
        names_the_file(read("f", &bytes, &options(format)))?;
    }

    #[test]
    fn any_bytes_recognised(bytes in hostile(), name in prop::sample::select(vec!["f", "f.csv", "f.tsv", "f.jsonl", "f.label"])) {
        names_the_file(read(name, &bytes, &OpenOptions::default()))?;
    }

    #[test]
    fn any_bytes_in_any_encoding(bytes in vec(any::<u8>(), 1..200), name in prop::sample::select(vec!["latin-1", "utf-16le", "shift_jis"])) {
        let options = OpenOptions { encoding: Some(Encoding::by_name(name).unwrap()), ..options("plain") };
        names_the_file(read("f", &bytes, &options))?;
    }

    #[test]
    fn tables_are_read_back(rows in vec((cell(), cell(), "[a-z]{1,5}"), 1..10)) {
        for (tab, format) in [(false, "csv"), (true, "tsv")] {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(if tab { b'\t' } else { b',' })
                .quote_style(csv::QuoteStyle::Always)
                .from_writer(Vec::new());
            writer.write_record(["title", "text", "label"]).unwrap();
            rows.iter().for_each(|(a, b, l)| writer.write_record([a, b, l]).unwrap());
            let mut options = options(format);
            options.text_columns = vec!["title".into(), "text".into()];
            let documents = read("f", &writer.into_inner().unwrap(), &options).unwrap();
            let fields: Vec<Vec<&str>> = documents.iter().map(|d| d.fields().collect()).collect();
            prop_assert_eq!(fields, rows.iter().map(|(a, b, _)| vec![a.as_str(), b.as_str()]).collect::<Vec<_>>());
            prop_assert!(documents.iter().zip(&rows).all(|(d, r)| d.label.as_ref() == Some(&r.2)));
        }
    }

    #[test]
    fn json_lines_are_read_back(rows in vec((any::<String>(), "[a-z]{1,5}"), 1..10)) {
        let lines: Vec<String> =
            rows.iter().map(|(text, label)| serde_json::json!({ "text": text, "label": label }).to_string()).collect();
        let documents = read("f.jsonl", lines.join("\n").as_bytes(), &OpenOptions::default()).unwrap();
        let back: Vec<(String, String)> = documents.into_iter().map(|d| (d.text, d.label.unwrap())).collect();
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn damaged_archives(at in any::<prop::sample::Index>(), change in 1u8.., cut in any::<bool>(), zip in any::<bool>()) {
        let mut bytes = if zip { super::tests::zip(&[("d/x/1.txt", b"a"), ("d/y/1.txt", b"b")]) } else {
            super::tests::tar(&[("d/x/1.txt", b"a"), ("d/y/1.txt", b"b")])
        };
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= change }
        names_the_file(read("f", &bytes, &OpenOptions::default()))?;
    }

    #[test]
    fn any_text_has_tokens(
        text in any::<String>(),
        // letters whose small form has another length, and words that a table looks for
        letters in "[İ\u{212a}ẞıIik,.'’ -]{0,12}",
        repeated in 0..6usize,
    ) {
        let text = format!("{text}{}{letters}", text.chars().take(5).collect::<String>().repeat(repeated));
        let turkish = Language { code: "tr".into(), keep: vec!["ik.".into()], suffixes: vec!["k".into()], ..Language::default() };
        for (rules, language) in [Rules::V07, Rules::V1, Rules::V2].into_iter().flat_map(|r| [(r, None), (r, Some(&turkish))]) {
            let tokenizer = Tokenizer::new(TokenizerKind::word_in(rules, language.cloned())).unwrap();
            let tokens = tokenizer.tokens(&Document::new(text.as_str()));
            prop_assert!(tokens.iter().all(|t| !t.is_empty()) && tokens.iter().any(|t| t == tokenizer.kind().begin_token()));
        }
    }
}
