//! Files as spreadsheets, databases and other programs write them, through the binary: read as they
//! are meant, or refused in words.

use crate::support::{self, Data, SIZES, STAGE, classifier, json, json_lines, text, ulmfit, words};
use crate::text_in::{class, classes, file};
use serde_json::Value;

fn model() -> &'static str {
    classifier().to_str().unwrap()
}

fn two() -> [(String, u64); 2] {
    [class("neg", 1), class("pos", 1)]
}

/// The output of `data check` for a file.
fn said(path: &str, flags: &[&str]) -> String {
    text(&ulmfit(&words(&[&["data", "check", path], flags])).assert().success().get_output().stderr.clone())
}

#[test]
fn row_names_without_a_name() {
    let hint = "hint: quote a text that holds ',': \"…\"; if every row begins with a name or number of its own";
    let csv = file("a.csv", "\"text\",\"label\"\n\"1\",\"good film\",\"pos\"\n\"2\",\"bad film\",\"neg\"\n");
    csv.refused(&[], &["a.csv:2: has 3 columns where the header has 2", hint]);
    let tsv = file("a.tsv", "\"text\"\t\"label\"\n\"1\"\t\"good film\"\t\"pos\"\n");
    tsv.refused(&[], &["a.tsv:2: has 3 columns where the header has 2", "put a name for it before the header"]);
    let index = file("a.csv", ",text,label\n0,good film,pos\n1,\"bad, film\",neg\n");
    assert_eq!(classes(&index.check(&[])), two());
    let late = file("a.csv", "text,label\ngood,pos\nbad, and dull,neg\n");
    late.refused(&[], &["a.csv:3: has 3 columns", "hint: quote a text that holds ','"]);
    let spaced = file("a.csv", "label, text\npos, good\npos, \"good, really\"\n");
    spaced
        .refused(&[], &["a.csv:3: has 3 columns", "hint: a quote encloses a field only where it follows ',' directly"]);
}

/// Two quotes that were meant as characters make one field of the rows between them; of two rows,
/// too.
#[test]
fn rows_within_quotes() {
    let part = "a quoted text that begins here holds lines that look like rows";
    for (content, line) in [
        ("label,text\nneg,dull\npos,\"good\nneg,bad\"\n", 3),
        ("text,label\ndull,neg\n\"good film,neg\nfine\",pos\n", 3),
        ("text,label\n\"good film,pos\nbad film,neg\nfine\",pos\n", 2),
        ("text,label\n\"good film,fair\nbad film,poor\nfine\",pos\n", 2),
        ("label,text,source\nneg,dull,a\npos,\"good,b\nneg,bad\",c\n", 3),
        ("label;text\r\nneg;dull\r\npos;\"good\r\nneg;bad\"\r\n", 3),
    ] {
        let table = file("a.csv", content);
        table.refused(&[], &[&format!("a.csv:{line}: {part}"), "hint: close the quote"]);
        assert!(table.check(&["--quotes", "yes"])["documents"].as_u64().unwrap() > 0);
    }
    // prose of several lines is what it is
    for content in [
        "label,text\npos,\"Well, I liked it\nHowever, it was long\nSo, good\"\nneg,bad\n",
        "text,label\n\"Food, 5\nService, 4\nRoom, 3\",5\nbad,4\n",
        "text,label\n\"one\ntwo\nthree\",pos\nbad,neg\n",
        "text,label\n\"pos\nneg\",pos\nbad,neg\n",
    ] {
        assert_eq!(file("a.csv", content).check(&[])["documents"], 2, "{content}");
    }
}

#[test]
fn headers_that_come_again() {
    let hint = "hint: files were put one after the other";
    for (name, content) in [
        ("a.csv", "\u{feff}text,label\ngood,pos\n\u{feff}text,label\nbad,neg\n"),
        ("a.csv", "text,label\ngood,pos\nText,Label\nbad,neg\n"),
        ("a.csv", "text,label,id\ngood,pos,1\ntext,label\nbad,neg,2\n"),
        ("a.tsv", "text\tlabel\ngood\tpos\n text\tlabel \nbad\tneg\n"),
        ("a.csv", "sep=;\ntext;label\nsep=;\ntext;label\nbad;neg\n"),
    ] {
        file(name, content).refused(&[], &["repeats the header", hint]);
    }
    let numbers = ["--text-column", "1", "--label-column", "2"];
    let unknown = "utterance,intent\ngood film,pos\nbad film,neg\nutterance,intent\nfine film,neg\n";
    file("a.csv", unknown).refused(&numbers, &["a.csv:4: repeats the header"]);
    let titled = file("a.csv", "Customer Utterance,Intent Name\nvery good film,greet\nbad one here,leave\n");
    titled.refused(&numbers, &["it cannot be told whether the first row names the columns", "--header yes"]);
    assert_eq!(
        classes(&titled.check(&words(&[&numbers, &["--header", "yes"]]))),
        [class("greet", 1), class("leave", 1)]
    );
}

#[test]
fn json_of_other_forms() {
    let joined = "\u{feff}{\"text\":\"a\",\"label\":\"neg\"}\n\u{feff}{\"text\":\"b\",\"label\":\"pos\"}\n";
    assert_eq!(classes(&file("a.jsonl", joined).check(&[])), two());
    for name in ["a.json", "a.jsonl", "a.txt"] {
        let array = file(name, "[\n {\"text\":\"a\",\"label\":\"x\"}\n]\n");
        array.refused(&[], &["is one JSON array", "hint: write an object a line: jq -c '.[]'"]);
        let spread = file(name, "{\n \"text\":\"a\",\n \"label\":\"x\"\n}\n");
        spread.refused(&[], &["has JSON objects over several lines", "hint: write an object a line: jq -c ."]);
    }
    assert_eq!(file("a.txt", "[laughs] good\n{sic} bad\n").texts(&[]).len(), 2);
    let list = file("a.jsonl", "{\"text\":\"a\",\"label\":[\"x\",\"y\"]}\n");
    list.refused(&[], &["a.jsonl:1: 'label' is neither text nor a number", "hint: --task labels"]);
    let page = "<?xml version=\"1.0\"?>\n<!-- saved -->\n<html xmlns=\"x\"><body/></html>\n";
    for name in ["a.jsonl", "a.csv"] {
        file(name, page).refused(&[], &["is a web page (HTML), not data"]);
    }
    assert!(said(&file("a.txt", page).path, &[]).contains("is a web page (HTML)"));
}

#[test]
fn flags_against_the_bytes() {
    let utf16: Vec<u8> = "\u{feff}text,label\ngood,pos\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = file("a.csv", &utf16);
    let part = "begins with the byte-order mark of UTF-16LE, but --encoding says";
    marked.refused(&["--encoding", "latin-1"], &[part, "Latin-1", "hint: leave --encoding out"]);
    marked.refused(&["--encoding", "windows-1252"], &[part]);
    for encoding in ["utf-8", "utf-16", "utf-16le"] {
        assert_eq!(classes(&marked.check(&["--encoding", encoding])), [class("pos", 1)]);
    }
    let ascii = file("a.txt", "good film and more of it.\n");
    assert!(said(&ascii.path, &["--encoding", "utf-16le"]).contains("is valid UTF-8, but --encoding"));
    assert!(!said(&ascii.path, &["--encoding", "latin-1"]).contains("warning"));
    let mark = file("a.csv", "\u{feff}text,label\ngood,pos\nbad,neg\n");
    assert_eq!(classes(&mark.check(&["--encoding", "latin-1"])), two());
    assert!(said(&mark.path, &["--encoding", "latin-1"]).contains("is valid UTF-8, but --encoding"));
    // folders and pairs of files, too
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    for class in ["neg", "pos"] {
        std::fs::create_dir_all(data.path(&format!("tree/{class}"))).unwrap();
        data.write(&format!("tree/{class}/1.txt"), "caf\u{e9}\n");
        data.write(&format!("rt.{class}"), "caf\u{e9}\nbar\n");
    }
    for path in ["tree", "rt.pos", "rt"] {
        let path = data.path(path);
        assert!(said(&path, &["--encoding", "latin-1"]).contains("is valid UTF-8, but --encoding"), "{path}");
        assert!(!said(&path, &[]).contains("warning"), "{path}");
    }
    // a quote in Latin-1 among tabs
    let latin = file("a.tsv", b"label\ttext\npos\t\"caf\xe9\nthat\"\nneg\t\"bad\"\n");
    assert_eq!(latin.check(&["--encoding", "latin-1"])["documents"], 2);
}

#[test]
fn labels_that_are_missing_values() {
    for name in ["NA", "nan", "NULL", "\\N", "None", "#N/A"] {
        let table = file("a.csv", format!("text,label\nsome text,{name}\ngood,pos\nbad,neg\n"));
        let part = format!("the class '{name}' (1 documents) may mean that there is no label");
        assert!(said(&table.path, &[]).contains(&part), "{}", said(&table.path, &[]));
    }
    let commas = file("a.csv", format!("text;label\n{}", "a;3,5\nb;4,0\n".repeat(5)));
    assert!(said(&commas.path, &[]).contains("numbers with fractions ('3,5')"));
}

/// A text of which the rules leave nothing is no text: it has no answer, and the others keep
/// theirs.
#[test]
fn texts_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let train = data.path("train.csv");
    let marks = data.write("marks.txt", "a good film\n<br />\nbad\n\u{a0}\u{3000}\n&#160;\nfilm\n\u{200b}\n");
    let answers = |model: &str, more: &[&str]| {
        let line = ["predict", "--model", model, "--input", &marks, "--quiet"];
        json_lines(&text(&ulmfit(&words(&[&line, more])).assert().success().get_output().stdout.clone()))
    };
    let mut models = Vec::new();
    for (rules, invisible) in [("v2", "drop"), ("v2", "keep"), ("0.7", "drop")] {
        let out = data.path(&format!("{rules}-{invisible}"));
        let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out];
        json(&words(&[&line, SIZES, STAGE, &["--rules", rules, "--invisible", invisible]]));
        let found = answers(&out, &[]);
        let empty: Vec<bool> = found.iter().map(|answer| answer["label"].is_null()).collect();
        assert_eq!(empty, [false, true, false, true, true, false, invisible == "drop"], "{rules} {invisible}");
        assert_eq!(found[1]["reason"], "the text is empty");
        models.push(out);
    }
    // of two models one finds nothing where the other does: the answers stay in their rows
    let single = answers(&models[1], &[]);
    let both = answers(&models[0], &["--ensemble", &models[1]]);
    let mean = |k: usize| {
        let p = |answer: &Value| answer["probabilities"]["pos"].as_f64().unwrap();
        (p(&answers(&models[0], &[])[k]) + p(&single[k])) / 2.0
    };
    for k in [0, 2, 5] {
        assert!((both[k]["probabilities"]["pos"].as_f64().unwrap() - mean(k)).abs() < 1e-9, "{k}");
    }
    let swapped = answers(&models[1], &["--ensemble", &models[0]]);
    assert!(both[6]["label"].is_null() && swapped[6]["label"].is_null() && !single[6]["label"].is_null());
}

#[test]
fn standard_input_is_a_file_of_the_same_bytes() {
    let table = "\u{feff}id;body;kind\r\n1;\"good; film\";pos\r\n2;bad;neg\r\n";
    let saved = file("a.csv", table);
    let flags = ["--text-column", "body", "--label-column", "kind"];
    let commands: [(&[&str], &[&str]); 4] = [
        (&["data", "check"], &["--json"]),
        (&["tokenize", "--print", "--input"], &[]),
        (&["evaluate", "--model", model(), "--data"], &["--json"]),
        (&["predict", "--model", model(), "--input"], &[]),
    ];
    for (command, more) in commands {
        let line = |path: &str| -> Vec<String> {
            words(&[command, &[path], &flags, more, &["--quiet"]]).into_iter().map(String::from).collect()
        };
        let from_file = ulmfit(&line(&saved.path)).assert().success().get_output().stdout.clone();
        let piped = ulmfit(&line("-")).write_stdin(table).assert().success().get_output().stdout.clone();
        assert_eq!(text(&piped), text(&from_file), "{command:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let out = data.path("out");
    let line = ["train-classifier", "--model", "none", "--train", "-", "--out", &out, "--quiet"];
    support::refused(&mut ulmfit(&line), 2, &["standard input", "hint: save it to a file"]);
}
