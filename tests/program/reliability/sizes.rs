//! Large, and made to be large: many classes, tokenizers that ask for everything.

use super::data;
use crate::support::{Data, SIZES, STAGE, json, json_lines, refused, text, ulmfit, words};
use serde_json::{Value, json};
use std::path::Path;

/// As many documents as classes, so that each is there.
fn many_classes(data: &Data, name: &str, classes: usize) -> String {
    let rows: String = (0..classes).map(|k| format!("good film {},c{k}\n", k % 7)).collect();
    data.write(name, format!("text,label\n{rows}"))
}

/// Above 50 classes reports have the pairs that are most confused, and the whole table is a file of
/// its own.
#[test]
fn tables_of_many_classes() {
    let (_place, data) = data();
    for classes in [50, 51] {
        let train = many_classes(&data, "many.csv", classes);
        let out = data.path(&format!("out-{classes}"));
        let line = [
            "train-classifier",
            "--model",
            "none",
            "--train",
            &train,
            "--valid",
            &train,
            "--test",
            &train,
            "--out",
            &out,
        ];
        json(&words(&[&line, SIZES, STAGE]));
        let events = json_lines(&text(&data.read(&format!("out-{classes}/metrics.jsonl"))));
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
        let titled = |part: &str| {
            let is = |event: &&Value| event["title"].as_str().is_some_and(|title| title.contains(part));
            events.iter().filter(is).collect::<Vec<_>>()
        };
        let page = text(&data.read(&format!("out-{classes}/report.html")));
        let files = ["confusion-valid.csv", "confusion-test.csv"].map(|name| Path::new(&out).join(name));
        let result = json(&["evaluate", "--model", &out, "--data", &train]);
        if classes == 50 {
            assert_eq!((of("confusion"), titled("Most confused").len()), (2, 0));
            assert!(files.iter().all(|file| !file.exists()) && page.contains("Confusion matrix (test)"));
            assert_eq!(result["confusion"].as_array().unwrap().len(), 50);
        } else {
            assert_eq!(
                (of("confusion"), titled("Most confused").len(), titled("the 50 with the lowest F1 of 51").len()),
                (0, 2, 2)
            );
            assert!(page.contains("Most confused (confusion-test.csv has all)") && !page.contains("Confusion matrix"));
            for file in files {
                let table = text(&std::fs::read(file).unwrap());
                assert!(table.lines().count() == 52 && table.starts_with("true,c0,c1,c10,"), "{table}");
                let all =
                    table.lines().skip(1).flat_map(|row| row.split(',').skip(1)).map(|n| n.parse::<u64>().unwrap());
                assert_eq!(all.sum::<u64>(), 51);
            }
            assert_eq!(result["confusion"], Value::Null);
            assert!(!result["most_confused"].as_array().unwrap().is_empty());
        }
    }
    // files that the program wrote are removed by --overwrite
    let (train, out) = (data.path("train.csv"), data.path("out-51"));
    json(&words(&[
        &["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--overwrite"],
        SIZES,
        STAGE,
    ]));
    assert!(!Path::new(&out).join("confusion-test.csv").exists());
}

/// Classes by the thousand: the memory that is planned, and files of a size in proportion.
#[test]
fn classes_by_the_thousand() {
    let (_place, data) = data();
    let classes = if super::in_full() { 20_000 } else { 3_000 };
    let (train, out) = (many_classes(&data, "many.csv", classes), data.path("out"));
    let flags = words(&[SIZES, STAGE]);
    let line =
        words(&[&["train-classifier", "--model", "none", "--train", &train, "--valid", &train, "--out", &out], &flags]);
    let line = words(&[&line, &["--max-steps", "3"]]);
    let result = json(&line);
    let number = classes.to_string();
    let sizes = ["--classes", &number, "--length", "5", "--vocab-size", "16"];
    let plan = json(&words(&[&["plan", "train-classifier"], SIZES, &["--batch-size", "4", "--bptt", "10"], &sizes]));
    let (peak, planned) = (result["peak_rss_mb"].as_f64().unwrap(), plan["bytes"]["total"].as_f64().unwrap());
    let planned = planned / f64::from(1 << 20);
    assert!(peak <= 1.05 * planned + 12.0, "{peak:.0} MiB, {planned:.0} MiB planned");
    for (name, most) in [("metrics.jsonl", 400_000), ("report.html", 600_000), ("confusion-valid.csv", 40 * classes)] {
        let bytes = std::fs::metadata(Path::new(&out).join(name)).unwrap().len();
        assert!(bytes < most as u64 + 20 * classes as u64, "{name}: {bytes} bytes");
    }
}

/// A `tokenizer.json` that would make texts grow without end, run for ever or fill the memory is
/// refused before it does any of it.
#[test]
fn hostile_tokenizers() {
    let (_place, data) = data();
    let input = data.path("corpus.txt");
    let vocab = json!({"[UNK]": 0, "a": 1, "b": 2, "c": 3, "d": 4});
    let plain = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"});
    let with = |key: &str, value: Value| {
        let mut file = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null, "model": plain});
        file[key] = value;
        file.to_string()
    };
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let doubled: Vec<Value> = (0..40).map(|_| replace(json!({"String": "a"}), "aa")).collect();
    let regex = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let entries: Vec<String> = (0..1_100_000).map(|k| format!("\"{k:x}\":{k}")).collect();
    let cases: [(&str, String, &str); 10] = [
        ("grows", with("normalizer", json!({"type": "Sequence", "normalizers": doubled})), "grow more than 64 times"),
        ("long", with("normalizer", replace(json!({"String": "a"}), &"b".repeat(5000))), "grow more than 64 times"),
        ("empty", with("normalizer", replace(json!({"Regex": "x*"}), &"b".repeat(90))), "grow more than 64 times"),
        ("nested", with("pre_tokenizer", regex("(a+)+$")), "a repetition within another one"),
        ("lookahead", with("pre_tokenizer", regex("(?=(a|aa)+$)(\\w+\\s?)*x")), "a repetition within another one"),
        ("back", with("pre_tokenizer", regex("(a*)\\1b")), "a reference to a group"),
        ("deep", with("normalizer", json!("HERE")).replace("\"HERE\"", &deep), "is not JSON: recursion limit"),
        ("steps", with("post_processor", json!({"all": vec![0; 9000]})), "more than 4096 values in post_processor"),
        (
            "tokens",
            with("model", json!("HERE")).replace(
                "\"HERE\"",
                &format!(
                    "{{\"type\":\"WordLevel\",\"unk_token\":\"0\",\"vocab\":{{{}}}}}",
                    [&entries[..], &entries[..], &entries[..]].concat().join(",")
                ),
            ),
            "values in vocab",
        ),
        (
            "words",
            with(
                "model",
                json!({"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 1_000_000_000_u64}),
            ),
            "max_input_chars_per_word",
        ),
    ];
    let line = |file: &str| -> Vec<String> {
        let line =
            ["tokenize", "--print", "--quiet", "--tokenizer", "subword", "--input", &input, "--tokenizer-file", file];
        line.map(String::from).to_vec()
    };
    for (name, content, part) in cases {
        let path = data.write(&format!("{name}.json"), content);
        refused(&mut ulmfit(&line(&path)), 1, &[&path, part]);
    }
    let fine = data.write("fine.json", with("normalizer", replace(json!({"String": " "}), " ")));
    ulmfit(&line(&fine)).assert().success();
}
