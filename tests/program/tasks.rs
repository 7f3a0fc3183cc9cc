//! The tasks of stage 3 besides one class of several: unbalanced classes, labels, numbers, pairs,
//! a language model beside it. Everything on generated data, where a guess of the commonest answer
//! fails.

use std::path::{Path, PathBuf};

use crate::support::{Data, Numbers, SIZES, json, json_lines, refused, text, ulmfit, words};
use serde_json::{Value, json};

/// A small model that learns in seconds.
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
    "12",
    "--lr",
    "0.02",
    "--drop-mult",
    "0.1",
    "--discriminative",
    "off",
];
const TOPICS: [(&str, &[&str]); 3] = [
    ("sport", &["goal", "match", "team", "ball"]),
    ("music", &["song", "guitar", "band", "tune"]),
    ("food", &["soup", "bread", "salt", "dish"]),
];
const OTHER: &[&str] = &["the", "a", "was", "with", "and", "of"];

fn data(name: &str) -> (Data, PathBuf) {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if root.exists() {
        std::fs::remove_dir_all(&root).unwrap();
    }
    (Data::new(&root), root)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A text with words of some topics.
fn about(numbers: &mut Numbers, topics: &[usize]) -> String {
    let mut all: Vec<&str> = (0..3).map(|_| OTHER[numbers.below(OTHER.len())]).collect();
    for &topic in topics {
        for _ in 0..2 {
            let at = numbers.below(all.len() + 1);
            all.insert(at, TOPICS[topic].1[numbers.below(4)]);
        }
    }
    all.join(" ")
}

fn train(data: &Data, files: [&str; 2], out: &str, more: &[&str]) -> Value {
    let [train, test] = files.map(|file| data.path(file));
    let line = ["train-classifier", "--model", "none", "--train", &train, "--test", &test, "--out", &data.path(out)];
    json(&words(&[&line, SIZES, LEARN, more]))
}

/// One class in ten is rare. Weights make it count; every class is told of.
#[test]
fn unbalanced_classes() {
    let (data, _) = data("tasks-unbalanced");
    for (file, n, seed) in [("u.csv", 120, 1), ("v.csv", 60, 2)] {
        let mut numbers = Numbers(seed);
        let mut table = "label,text\n".to_string();
        for d in 0..n {
            let topic = if d % 10 == 9 { 2 } else { usize::from(d % 10 >= 6) };
            table += &format!("{},{}\n", TOPICS[topic].0, about(&mut numbers, &[topic]));
        }
        data.write(file, table);
    }
    let weighted = train(&data, ["u.csv", "v.csv"], "balanced", &["--class-weights", "balanced"]);
    assert!(number(&weighted["test_error"]) < 20.0, "{weighted}");
    assert!(
        number(&weighted["test_macro_f1"]) > 0.6 && number(&weighted["test_balanced_accuracy"]) > 0.6,
        "{weighted}"
    );
    let test = data.path("v.csv");
    let found = json(&["evaluate", "--model", &data.path("balanced"), "--data", &test]);
    let classes = found["per_class"].as_array().unwrap();
    // sorted by name: food is the rare one
    assert_eq!(classes.iter().map(|c| c["documents"].clone()).collect::<Vec<_>>(), [6, 18, 36]);
    let recall: Vec<f64> = classes.iter().map(|c| c["recall"].as_f64().unwrap()).collect();
    let mean = recall.iter().sum::<f64>() / 3.0;
    assert!((number(&found["balanced_accuracy"]) - mean).abs() < 1e-9, "{found}");
    assert!((number(&found["macro_recall"]) - mean).abs() < 1e-9, "{found}");
    let page = String::from_utf8(data.read("balanced/report.html")).unwrap();
    assert!(page.contains("By class (test)") && page.contains(">support</th>"), "the table of the classes");
    // the same weights from a file give the same bits, others do not
    let weights = ["food,3.3333333333333335", "music,1.1111111111111112", "sport,0.5555555555555556"];
    let weights = data.write("w.csv", weights.join("\n"));
    let all = ["--valid-fraction", "0"];
    train(&data, ["u.csv", "v.csv"], "given", &[&["--class-weights", &weights], &all[..]].concat());
    train(&data, ["u.csv", "v.csv"], "same", &[&["--class-weights", "balanced"], &all[..]].concat());
    train(&data, ["u.csv", "v.csv"], "plain", &all);
    train(&data, ["u.csv", "v.csv"], "focal", &[&["--focal", "2"], &all[..]].concat());
    let bits = |name: &str| data.read(&format!("{name}/model.safetensors"));
    assert!(bits("given") == bits("same"), "weights of a file");
    assert!(bits("plain") != bits("same") && bits("plain") != bits("focal"), "weights and focus change the model");
}

/// Texts with none, some or all of three labels; the same data in three formats.
#[test]
fn several_labels() {
    let (data, _) = data("tasks-labels");
    for (file, n, seed) in [("train", 160, 3), ("test", 60, 4)] {
        let mut numbers = Numbers(seed);
        let [mut joined, mut columns, mut fasttext] =
            ["text,label\n".to_string(), "text,sport,music,food\n".to_string(), String::new()];
        for _ in 0..n {
            let topics: Vec<usize> = (0..3).filter(|_| numbers.below(5) < 2).collect();
            let text = about(&mut numbers, &topics);
            let names: Vec<&str> = topics.iter().map(|&t| TOPICS[t].0).collect();
            joined += &format!("{text},{}\n", names.join(" ; "));
            let marks: Vec<&str> = (0..3).map(|t| if topics.contains(&t) { "1" } else { "0" }).collect();
            columns += &format!("{text},{}\n", marks.join(","));
            names.iter().for_each(|name| fasttext += &format!("__label__{name} "));
            fasttext += &format!("{text}\n");
        }
        data.write(&format!("{file}.joined.csv"), joined);
        data.write(&format!("{file}.columns.csv"), columns);
        data.write(&format!("{file}.ft"), fasttext);
    }
    let labels = ["--task", "labels"];
    let columns = ["--label-column", "sport", "--label-column", "music", "--label-column", "food"];
    let files = |ending: &str| [format!("train.{ending}"), format!("test.{ending}")];
    let run = |ending: &str, out: &str, more: &[&str]| {
        let [a, b] = files(ending);
        train(&data, [&a, &b], out, &[&labels, more].concat())
    };
    let joined = run("joined.csv", "joined", &["--thresholds", "tuned"]);
    assert!(number(&joined["test_micro_f1"]) > 0.8 && number(&joined["test_macro_f1"]) > 0.8, "{joined}");
    assert_eq!(joined["label_names"], json!(["food", "music", "sport"]));
    assert!(joined["thresholds"].as_array().unwrap().len() == 3 && joined["test_error"].is_null(), "{joined}");
    run("columns.csv", "columns", &[&columns[..], &["--thresholds", "tuned"]].concat());
    run("ft", "fasttext", &["--thresholds", "tuned", "--format", "fasttext"]);
    let bits = |name: &str| data.read(&format!("{name}/model.safetensors"));
    assert!(bits("joined") == bits("columns"), "columns of 0 and 1 are the same data");
    assert!(bits("joined") == bits("fasttext"), "several marks of fastText are the same data");

    let model = data.path("joined");
    let found = json(&[
        "evaluate",
        "--model",
        &model,
        "--data",
        &data.path("test.joined.csv"),
        "--predictions",
        &data.path("p"),
    ]);
    assert_eq!((&found["micro_f1"], &found["thresholds"]), (&joined["test_micro_f1"], &joined["thresholds"]));
    assert_eq!(found["per_label"].as_array().unwrap().len(), 3);
    let rows = json_lines(&String::from_utf8(data.read("p")).unwrap());
    let right = rows.iter().filter(|row| row["labels"] == row["true"]).count() as f64 / rows.len() as f64;
    assert!((right - number(&found["exact_match"])).abs() < 1e-9 && right > 0.5, "{found}");
    let output = ulmfit(&["predict", "--model", &model, "the song was a tune with soup and bread"]).assert().success();
    let said = &json_lines(&text(&output.get_output().stdout))[0];
    assert_eq!(said["labels"], json!(["food", "music"]), "{said}");
    assert_eq!(said["probabilities"].as_object().unwrap().len(), 3);
    let page = String::from_utf8(data.read("joined/report.html")).unwrap();
    assert!(page.contains("By label (test)"));
    // weights of labels, and a focus
    let weighted = run("joined.csv", "weighted", &["--class-weights", "balanced", "--focal", "1"]);
    assert!(number(&weighted["test_micro_f1"]) > 0.7 && bits("weighted") != bits("joined"), "{weighted}");
}

/// How many good words more than bad ones.
#[test]
fn a_number_of_each_text() {
    let (data, _) = data("tasks-number");
    for (file, n, seed) in [("n.csv", 160, 5), ("m.csv", 60, 6)] {
        let mut numbers = Numbers(seed);
        let mut table = "score,text\n".to_string();
        for _ in 0..n {
            let good = numbers.below(5);
            let all: Vec<&str> = (0..4).map(|k| if k < good { "good" } else { "bad" }).collect();
            table += &format!("{},{} film\n", 100.0 + 2.5 * good as f64, all.join(" "));
        }
        data.write(file, table);
    }
    let flags = ["--task", "regression", "--label-column", "score", "--text-column", "text"];
    let result = train(&data, ["n.csv", "m.csv"], "number", &flags);
    assert!(number(&result["test_pearson"]) > 0.9 && number(&result["test_spearman"]) > 0.9, "{result}");
    // the mean alone would be off by the variance, 12.5
    assert!(number(&result["test_mean_squared_error"]) < 4.0, "{result}");
    let model = data.path("number");
    let line = ["evaluate", "--model", &model, "--data", &data.path("m.csv")];
    let found = json(&[&line[..], &["--label-column", "score", "--text-column", "text"]].concat());
    assert_eq!(found["mean_squared_error"], result["test_mean_squared_error"]);
    let output = ulmfit(&["predict", "--model", &model, "good good good good film", "bad bad bad bad film"]);
    let output = { output }.assert().success().get_output().clone();
    let said: Vec<f64> = json_lines(&text(&output.stdout)).iter().map(|line| number(&line["number"])).collect();
    assert!(said[0] > said[1] + 4.0 && (95.0..115.0).contains(&said[0]), "{said:?}");
    // labels that are no numbers
    let line = ["train-classifier", "--model", "none", "--train", &data.path("train.csv"), "--out", &data.path("x")];
    let line = words(&[&line, SIZES, &["--task", "regression", "--quiet"]]);
    refused(&mut ulmfit(&line), 1, &["train.csv:2: has '", "in the place of a number"]);
}

/// Whether two texts are about the same topic: neither tells by itself.
#[test]
fn pairs_of_texts() {
    let (data, _) = data("tasks-pairs");
    for (file, n, seed) in [("p.csv", 240, 7), ("q.csv", 80, 8)] {
        let mut numbers = Numbers(seed);
        let mut table = "first,second,label\n".to_string();
        for d in 0..n {
            let (a, same) = (numbers.below(2), d % 2 == 0);
            let b = if same { a } else { 1 - a };
            let [a, b] = [a, b].map(|topic| about(&mut numbers, &[topic]));
            table += &format!("{a},{b},{}\n", if same { "same" } else { "other" });
        }
        data.write(file, table);
    }
    let columns = ["--text-column", "first", "--text-column", "second"];
    let flags = [&["--task", "pair", "--epochs", "20"][..], &columns].concat();
    let [train_file, test_file] = ["p.csv", "q.csv"].map(|file| data.path(file));
    let line = ["train-classifier", "--model", "none", "--train", &train_file, "--test", &test_file, "--out"];
    let out = data.path("pair");
    let learn: Vec<&str> = LEARN.iter().copied().filter(|word| !["--epochs", "12"].contains(word)).collect();
    let result = json(&words(&[&line, &[&out], SIZES, &learn, &flags]));
    assert!(number(&result["test_error"]) < 25.0, "{result}");
    let found = json(&[&["evaluate", "--model", &out, "--data", &test_file][..], &columns].concat());
    assert_eq!(found["error"], result["test_error"]);
    let said = ulmfit(&["predict", "--model", &out, "a goal and a ball", "the team was a match"]).assert().success();
    assert_eq!(json_lines(&text(&said.get_output().stdout)).len(), 1, "two texts are one pair");
    refused(&mut ulmfit(&["predict", "--model", &out, "alone", "--quiet"]), 2, &["takes pairs of texts, but 1"]);
    // a pair of no texts has no answer
    let gap = data.write("gap.csv", "first,second\na goal,a ball\n,\n,a ball\n");
    let line = [&["predict", "--model", &out, "--input", &gap, "--quiet"][..], &columns].concat();
    let all = json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout));
    let nothing: Vec<bool> = all.iter().map(|answer| answer["label"].is_null()).collect();
    assert_eq!(nothing, [false, true, false]);
    let line = ["train-classifier", "--model", "none", "--train", &train_file, "--out", &data.path("x"), "--quiet"];
    let line = words(&[&line, SIZES, &["--task", "pair", "--text-column", "first"]]);
    refused(&mut ulmfit(&line), 1, &["p.csv:2: has 1 text where a pair has 2"]);
}

/// The commands that look at a stage beforehand know every task: its memory, its rates, its time.
#[test]
fn plans_and_trials_of_every_task() {
    let (data, _) = data("tasks-plan");
    for (task, more) in
        [("labels", &["--classes", "5"][..]), ("regression", &[]), ("pair", &[]), ("class", &["--auxiliary-lm", "1"])]
    {
        let line =
            ["plan", "train-classifier", "--task", task, "--vocab-size", "50", "--length", "12", "--batch-size", "4"];
        let plan = json(&words(&[&line, SIZES, more]));
        assert!(number(&plan["bytes"]["pool"]) > 0.0, "{task}: {plan}");
    }
    let numbers = data.write("n.csv", "label,text\n1,good film\n2,bad film was\n0.5,film\n3,good good\n");
    let labels = data.write("l.csv", "label,text\na;b,good film\n,bad film was\nb,film\na,good good\n");
    for (task, file) in [("regression", &numbers), ("labels", &labels)] {
        let line =
            ["lr-find", "--model", "none", "--train", file, "--task", task, "--min-freq", "1", "--batch-size", "2"];
        let found = json(&words(&[&line, SIZES, &["--max-steps", "5"]]));
        assert!(!found["points"].is_null(), "{found}");
    }
    refused(
        &mut ulmfit(&["linear", "--train", &labels, "--out", &data.path("x"), "--label-separator", ";"]),
        2,
        &["several labels"],
    );
}

/// The language model goes on learning beside the classifier, from the same texts.
#[test]
fn a_language_model_beside_the_classifier() {
    let (data, _) = data("tasks-auxiliary");
    let lm = data.path("lm");
    let stage = ["--batch-size", "4", "--bptt", "10", "--epochs", "1", "--min-freq", "1"];
    json(&words(&[&["pretrain", "--corpus", &data.path("corpus.txt"), "--out", &lm], SIZES, &stage]));
    let run = |out: &str, weight: &str| {
        let line = ["train-classifier", "--model", &lm, "--train", &data.path("train.csv"), "--out", &data.path(out)];
        let flags = ["--recipe", "tiny", "--auxiliary-lm", weight, "--batch-size", "8", "--epochs", "1,1,1,3"];
        json(&words(&[&line, &flags]))
    };
    let (with, without) = (run("with", "0.5"), run("without", "0"));
    assert!(number(&with["train_loss"]) > 0.0 && number(&without["train_loss"]) > 0.0);
    let test = data.path("test.csv");
    for name in ["with", "without"] {
        let found = json(&["evaluate", "--model", &data.path(name), "--data", &test]);
        assert!(number(&found["error"]) <= 50.0, "{found}");
    }
    assert!(data.read("with/model.safetensors") != data.read("without/model.safetensors"));
}

/// The whole method in both directions, for labels: their probabilities and thresholds are
/// averaged.
#[test]
fn a_whole_run_with_several_labels() {
    let (data, _) = data("tasks-run");
    for (file, n, seed) in [("train.csv", 60, 3), ("test.csv", 30, 4)] {
        let mut numbers = Numbers(seed);
        let mut table = "text,label\n".to_string();
        for _ in 0..n {
            let topics: Vec<usize> = (0..3).filter(|_| numbers.below(5) < 2).collect();
            let names: Vec<&str> = topics.iter().map(|&t| TOPICS[t].0).collect();
            table += &format!("{},{}\n", about(&mut numbers, &topics), names.join(";"));
        }
        data.write(file, table);
    }
    let [train, test, out] = ["train.csv", "test.csv", "run"].map(|name| data.path(name));
    let line = [
        "run",
        "--base",
        "none",
        "--train",
        &train,
        "--test",
        &test,
        "--out",
        &out,
        "--task",
        "labels",
        "--bidirectional",
    ];
    let flags = [
        "--finetune-epochs",
        "1",
        "--classifier-epochs",
        "1,1,1,8",
        "--batch-size",
        "4",
        "--bptt",
        "10",
        "--min-freq",
        "1",
    ];
    let tuned = ["--thresholds", "tuned"];
    let result = json(&words(&[&line, SIZES, &flags, &tuned]));
    let classifier = &result["classifier"];
    assert!(classifier["test_error"].is_null() && number(&classifier["test_micro_f1"]) > 0.3, "{result}");
    let [forward, backward] = ["run/classifier", "run/classifier-backward"].map(|name| data.path(name));
    let found = json(&["evaluate", "--model", &forward, "--ensemble", &backward, "--data", &test]);
    assert_eq!(found["micro_f1"], classifier["test_micro_f1"]);
    let refusal = words(&[&line, SIZES, &["--compare", "--overwrite", "--quiet"]]);
    refused(&mut ulmfit(&refusal), 2, &["--compare: the linear model knows one class a text"]);
    let again = json(&words(&[&line, SIZES, &flags, &tuned, &["--resume"]]));
    assert_eq!(again["classifier"], result["classifier"]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (data, _) = data("tasks-refused");
    let train = data.path("train.csv");
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &data.path("x"), "--quiet"];
    let weights = data.write("w.csv", "neg,1\n");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--thresholds", "tuned"], 2, "--thresholds: thresholds are tuned for --task labels"),
        (&["--task", "regression", "--focal", "1"], 2, "has no meaning for --task regression"),
        (&["--task", "labels", "--labels", "4"], 2, "a balanced subset is one of classes"),
        (&["--label-separator", ";"], 2, "several labels a text are not for --task class"),
        (&["--class-weights", &weights], 1, "has no weight for the class 'pos'"),
        (&["--task", "pair", "--labels", "1"], 2, "--labels 1"),
        (&["--class-weights", "heavy"], 1, "heavy: cannot read"),
        (&["--task", "labels", "--thresholds", "tuned", "--valid-fraction", "0"], 2, "no validation data to tune"),
    ];
    for (flags, status, part) in cases {
        refused(&mut ulmfit(&words(&[&line, SIZES, &["--min-freq", "1"], flags])), status, &[part]);
    }
}
