//! Labels for tokens: CoNLL in, a model that tags words, CoNLL or JSON out; on generated sentences
//! whose tags hang on the words around.

use std::path::{Path, PathBuf};

use crate::support::{Data, Numbers, SIZES, json, json_lines, refused, text, ulmfit, words};
use serde_json::{Value, json};

/// Half of the names are places, half are people, by the word after them: to know a name is not
/// enough, nor to have read up to it.
const NAMES: [&[&str]; 6] = [&["Jordan"], &["Lena"], &["Don"], &["Van", "Buren"], &["St.", "John"], &["McKenzie"]];
const OTHER: &[&str] = &["the", "a", "near", "old", "saw", "and", "U.N.", "it", "'s"];

/// A sentence as words with tags in IOB2.
fn sentence(numbers: &mut Numbers) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let filler = |numbers: &mut Numbers, all: &mut Vec<(String, String)>, most: usize| {
        for _ in 0..numbers.below(most) {
            all.push((OTHER[numbers.below(OTHER.len())].to_string(), "O".to_string()));
        }
    };
    filler(numbers, &mut all, 4);
    for _ in 0..1 + numbers.below(2) {
        let name = NAMES[numbers.below(NAMES.len())];
        let (kind, next) = [("LOC", "river"), ("PER", "said")][numbers.below(2)];
        for (k, word) in name.iter().enumerate() {
            all.push((word.to_string(), format!("{}-{kind}", if k == 0 { "B" } else { "I" })));
        }
        all.push((next.to_string(), "O".to_string()));
        filler(numbers, &mut all, 3);
    }
    all
}

fn sentences(n: usize, seed: u64) -> Vec<Vec<(String, String)>> {
    let mut numbers = Numbers(seed);
    (0..n).map(|_| sentence(&mut numbers)).collect()
}

/// The same sentences with tags as `scheme` writes them, in so many columns.
fn conll(
    sentences: &[Vec<(String, String)>],
    between: &str,
    scheme: fn(&[(String, String)], usize) -> String,
) -> String {
    let mut file = "-DOCSTART- -X- O\n\n".replace(' ', between);
    for sentence in sentences {
        for (at, (word, _)) in sentence.iter().enumerate() {
            file += &[word, "x", &scheme(sentence, at)].join(between);
            file.push('\n');
        }
        file.push('\n');
    }
    file
}

fn iob2(sentence: &[(String, String)], at: usize) -> String {
    sentence[at].1.clone()
}

fn kind(tag: &str) -> &str {
    tag.split_once('-').map_or("", |(_, kind)| kind)
}

/// `B-` only where a chunk of the same kind stands before.
fn iob1(sentence: &[(String, String)], at: usize) -> String {
    let tag = &sentence[at].1;
    let touches = at > 0 && kind(&sentence[at - 1].1) == kind(tag);
    if tag.starts_with("B-") && !touches { tag.replacen('B', "I", 1) } else { tag.clone() }
}

fn bioes(sentence: &[(String, String)], at: usize) -> String {
    let tag = &sentence[at].1;
    let goes_on = sentence.get(at + 1).is_some_and(|(_, next)| next.starts_with("I-"));
    match (tag.split_at(1).0, goes_on) {
        ("B", false) => tag.replacen('B', "S", 1),
        ("I", false) => tag.replacen('I', "E", 1),
        _ => tag.clone(),
    }
}

fn data(name: &str) -> (Data, PathBuf) {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if root.exists() {
        std::fs::remove_dir_all(&root).unwrap();
    }
    let data = Data::new(&root);
    for (file, n, seed) in [("train.conll", 400, 3), ("test.conll", 60, 4)] {
        data.write(file, conll(&sentences(n, seed), " ", iob2));
    }
    (data, root)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

const LEARN: &[&str] = &[
    "--batch-size",
    "8",
    "--bptt",
    "10",
    "--min-freq",
    "1",
    "--unfreezing",
    "full",
    "--epochs",
    "25",
    "--lr",
    "0.02",
    "--drop-mult",
    "0.1",
    "--discriminative",
    "off",
];

/// Chunks of a sentence as kind, first and last word.
fn chunks(tags: &[String]) -> Vec<(String, usize, usize)> {
    let mut all: Vec<(String, usize, usize)> = Vec::new();
    for (at, tag) in tags.iter().enumerate() {
        match (tag.split_at(1).0, all.last_mut()) {
            ("B", _) => all.push((kind(tag).to_string(), at, at)),
            ("I", Some(chunk)) => chunk.2 = at,
            _ => {}
        }
    }
    all
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_string()).collect()
}

/// The whole method in both directions: the file says that it is tags; two encoders know what comes
/// after a name.
#[test]
fn a_whole_run_in_both_directions() {
    let (data, _) = data("tags-run");
    let [train, test, out] = ["train.conll", "test.conll", "run"].map(|name| data.path(name));
    let line = ["run", "--base", "none", "--train", &train, "--test", &test, "--out", &out, "--bidirectional"];
    let flags = [
        "--finetune-epochs",
        "1",
        "--classifier-epochs",
        "25",
        "--classifier-unfreezing",
        "full",
        "--classifier-lr",
        "0.02",
        "--drop-mult",
        "0.1",
        "--batch-size",
        "8",
        "--bptt",
        "10",
        "--min-freq",
        "1",
        "--discriminative",
        "off",
    ];
    let line = words(&[&line, SIZES, &flags]);
    let result = json(&line);
    let classifier = &result["classifier"];
    assert!(number(&classifier["test_f1"]) > 0.9 && number(&classifier["valid_f1"]) > 0.8, "{result}");
    assert!(result["linear"].is_null() && result["answer"].is_null(), "{result}");
    let p = data.path("p.jsonl");
    let found = json(&["evaluate", "--model", &out, "--data", &test, "--predictions", &p]);
    for name in ["f1", "precision", "recall", "tag_accuracy", "exact_match"] {
        assert_eq!(found[name], classifier[format!("test_{name}")], "{name}");
    }
    // counted again, from what was said of every sentence
    let (mut right, mut said, mut there, mut kinds) = (0, 0, 0, [0, 0]);
    for row in json_lines(&String::from_utf8(data.read("p.jsonl")).unwrap()) {
        let (given, wanted) = (chunks(&strings(&row["tags"])), chunks(&strings(&row["true"])));
        right += given.iter().filter(|chunk| wanted.contains(chunk)).count();
        (said, there) = (said + given.len(), there + wanted.len());
        wanted.iter().for_each(|(kind, ..)| kinds[usize::from(kind == "PER")] += 1);
    }
    let f1 = 2.0 * right as f64 / (said + there) as f64;
    assert!((number(&found["f1"]) - f1).abs() < 1e-9, "{found}: {f1}");
    assert_eq!(found["chunks"], json!({ "found": right, "wrong": said - right, "missed": there - right }));
    let rows = found["per_kind"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["kind"].clone()).collect::<Vec<_>>(), ["LOC", "PER"]);
    assert_eq!(rows.iter().map(|row| row["chunks"].clone()).collect::<Vec<_>>(), kinds);
    assert_eq!(found["test_size"], 60);
    let page = String::from_utf8(data.read("run/classifier/report.html")).unwrap();
    assert!(page.contains("By chunk (test)"), "the table of the kinds");
    // stopped or not, it is done
    let again = json(&words(&[&line, &["--resume"]]));
    assert_eq!(again["classifier"], result["classifier"]);
    // a word and its tag a line, in the order of the input
    let text_in = data.write("in.txt", "the Van Buren river\n\nLena said\n");
    let output = ulmfit(&["tag", "--model", &out, "--input", &text_in]).assert().success().get_output().clone();
    let expected = "the O\nVan B-LOC\nBuren I-LOC\nriver O\n\n\nLena B-PER\nsaid O\n\n";
    assert_eq!(text(&output.stdout), expected);
    let json_out = ["tag", "--model", &out, "--to", "json", "St. John said", ""];
    let output = ulmfit(&json_out).assert().success().get_output().clone();
    let said = json_lines(&text(&output.stdout));
    assert_eq!(said[0]["chunks"], json!([{ "kind": "PER", "first": 0, "last": 1, "text": "St. John" }]));
    assert_eq!(said[1], json!({ "words": [], "tags": [], "chunks": [] }));
    // CoNLL in: its own tags are not looked at
    let output = ulmfit(&["tag", "--model", &out, "--input", &test, "--format", "conll"]).assert().success();
    let tagged = text(&output.get_output().stdout);
    let gold = conll(&sentences(60, 4), " ", iob2).replace("-DOCSTART- -X- O\n\n", "").replace(" x ", " ");
    let same = tagged.lines().zip(gold.lines()).filter(|(a, b)| a == b).count();
    assert_eq!(tagged.lines().count(), gold.lines().count());
    assert!(same as f64 > 0.95 * gold.lines().count() as f64);
    // no answer depends on its neighbours
    let alone = ulmfit(&["tag", "--model", &out, "the Van Buren river"]).assert().success();
    assert!(expected.starts_with(&text(&alone.get_output().stdout)));
}

/// One direction that has not read the word after a name can do no better than guess; the other one
/// knows it. IOB1, IOB2 and BIOES, spaces and tabs are the same data.
#[test]
fn directions_and_schemes() {
    let (data, _) = data("tags-schemes");
    let train = |file: &str, out: &str, more: &[&str]| {
        let [train, test] = [data.path(file), data.path("test.conll")];
        let line =
            ["train-classifier", "--model", "none", "--train", &train, "--test", &test, "--out", &data.path(out)];
        json(&words(&[&line, SIZES, LEARN, more]))
    };
    let forward = train("train.conll", "forward", &[]);
    let backward = train("train.conll", "backward", &["--direction", "backward"]);
    assert!(number(&forward["test_f1"]) < 0.75, "{forward}");
    assert!(number(&backward["test_f1"]) > 0.9, "{backward}");
    assert_eq!(forward["label_names"], json!(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]));
    let all = sentences(400, 3);
    data.write("a.txt", conll(&all, " ", iob1));
    data.write("b.txt", conll(&all, "\t", bioes));
    let few = ["--max-steps", "3"];
    train("train.conll", "few", &few);
    train("a.txt", "iob1", &few);
    train("b.txt", "bioes", &few);
    let bits = |name: &str| data.read(&format!("{name}/model.safetensors"));
    assert!(bits("few") == bits("iob1"), "IOB1");
    assert!(bits("few") == bits("bioes"), "BIOES");
    // words that the rules of a tokenizer take apart keep their tags
    let cut = train("train.conll", "cut", &["--tokenizer", "word", "--direction", "backward"]);
    assert!(number(&cut["test_f1"]) > 0.9, "{cut}");
    let said = ulmfit(&["tag", "--model", &data.path("cut"), "it 's U.N. St. John said"]).assert().success();
    let rows = text(&said.get_output().stdout);
    assert_eq!(rows.lines().filter(|row| !row.is_empty()).count(), 6, "{rows}");
}

/// The stages one by one, each with its command.
#[test]
fn stages_and_instruments() {
    let (data, _) = data("tags-stages");
    let [train, test] = ["train.conll", "test.conll"].map(|name| data.path(name));
    let [lm, back, tagger] = ["lm", "back", "tagger"].map(|name| data.path(name));
    let stage = ["--batch-size", "4", "--bptt", "10", "--epochs", "1", "--min-freq", "1"];
    for (out, direction) in [(&lm, "forward"), (&back, "backward")] {
        let line = ["finetune-lm", "--base", "none", "--text", &train, "--out", out, "--direction", direction];
        json(&words(&[&line, SIZES, &stage]));
    }
    let line = ["train-classifier", "--model", &lm, "--backward-model", &back, "--train", &train, "--out", &tagger];
    let few = ["--recipe", "tiny", "--batch-size", "8", "--epochs", "1,1,1,1", "--test", &test];
    let result = json(&words(&[&line, &few]));
    assert!(result["test_error"].is_null() && result["test_f1"].is_f64(), "{result}");
    let shown = json(&["inspect", &tagger]);
    assert_eq!(shown["architecture"]["answers"], json!({ "tags": { "both": true } }), "{shown}");
    // both start from their language model, with its words
    let tensor = |name: &str| {
        let tensors = shown["tensors"].as_array().unwrap().clone();
        tensors.into_iter().any(|tensor| tensor["name"] == name)
    };
    assert!(tensor("encoder.weight") && tensor("backward.encoder.weight") && tensor("head.linear.weight"));
    let trial = ["lr-find", "--model", &lm, "--train", &train, "--recipe", "tiny", "--batch-size", "8"];
    assert!(!json(&trial)["points"].is_null());
    let plan = ["plan", "train-classifier", "--task", "tags", "--classes", "5", "--length", "25", "--batch-size", "4"];
    let plan = json(&words(&[&plan, SIZES, &["--vocab-size", "50"]]));
    assert!(number(&plan["bytes"]["pool"]) > 0.0, "{plan}");
    let wrong = words(&[&["train-classifier", "--model", &back, "--backward-model", &lm, "--train", &train]]);
    let more = ["--out", &data.path("x"), "--recipe", "tiny", "--quiet"];
    refused(&mut ulmfit(&words(&[&wrong, &more])), 2, &["the first reads forward and the second backward"]);
    // commands that a tagger is not for
    refused(&mut ulmfit(&["predict", "--model", &tagger, "a", "--quiet"]), 1, &["the model tags words", "ulmfit tag"]);
    let both = ["evaluate", "--model", &tagger, "--ensemble", &lm, "--data", &test, "--quiet"];
    refused(&mut ulmfit(&both), 2, &["--model tags words"]);
    refused(&mut ulmfit(&["serve", "--model", &tagger, "--quiet"]), 1, &["the model tags words"]);
    let onnx = ["export", "--model", &tagger, "--to", "onnx", "--out", &data.path("x.onnx"), "--quiet"];
    refused(&mut ulmfit(&onnx), 2, &["of tags cannot be written as ONNX"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (data, _) = data("tags-refused");
    let run = |train: &str, more: &[&str]| {
        let line = ["train-classifier", "--model", "none", "--train", train, "--out", &data.path("x"), "--quiet"];
        ulmfit(&words(&[&line, SIZES, &["--min-freq", "1"], more]))
    };
    let good = data.path("train.conll");
    let cases: [(&str, &[&str], i32, &str); 9] = [
        ("a O\nb\n", &["--format", "conll"], 1, "t.conll:2: has 1 column where the first row has 2 columns"),
        ("a O\nb PER\n", &["--format", "conll"], 1, "t.conll:2: has 'PER' in the place of a tag"),
        ("a O\nb O\n", &[], 1, "has no tag but O"),
        ("a\nb\n", &[], 1, "t.conll:1: has 1 column where a word and its tag are wanted"),
        ("a B-X\n", &["--task", "class"], 2, "a tag for every word is not for --task class"),
        ("a B-X\n", &["--label-separator", ";"], 2, "several labels a text are not for --task tags"),
        ("a B-X\n", &["--labels", "4"], 2, "a balanced subset is one of classes"),
        ("a B-X\n", &["--focal", "1", "--task", "tags"], 2, "has no meaning for --task tags"),
        ("a B-X\n", &["--auxiliary-lm", "1", "--task", "tags"], 2, "has no meaning for --task tags"),
    ];
    for (content, flags, status, part) in cases {
        let file = data.write("t.conll", content);
        refused(&mut run(&file, flags), status, &[part]);
    }
    refused(&mut run(&data.path("train.csv"), &["--task", "tags"]), 2, &["train.csv", "the file has none"]);
    let other = data.write("other.conll", "a O\n\nb O\nc B-X\n");
    refused(&mut run(&good, &["--test", &other]), 1, &["other.conll:4: has a chunk of the kind 'X'", "LOC, PER"]);
    let out = data.path("y");
    let line = ["run", "--base", "none", "--train", &good, "--test", &other, "--out", &out, "--quiet"];
    refused(&mut ulmfit(&words(&[&line, SIZES])), 1, &["other.conll:4: has a chunk of the kind 'X'"]);
    assert!(!Path::new(&out).exists(), "nothing was begun");
    let linear = ["linear", "--train", &good, "--out", &out, "--quiet"];
    refused(&mut ulmfit(&linear), 1, &["has a tag for every word"]);
}
