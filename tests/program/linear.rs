//! `ulmfit linear`, and what the other commands do with its model.

use crate::support::{Data, json, json_lines, refused, snapshot, text, ulmfit, words};
use serde_json::{Value, json};

fn place() -> (tempfile::TempDir, Data) {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    (root, data)
}

#[test]
fn a_model_is_trained_measured_and_used() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("model"));
    let result = json(&["linear", "--train", &train, "--test", &test, "--out", &out]);
    assert_eq!((&result["train_size"], &result["test_size"]), (&json!(32), &json!(12)));
    assert_eq!(result["label_names"], json!(["neg", "pos"]));
    assert!(result["valid_error"].as_f64().unwrap() < 20.0, "{result}");
    assert_eq!(result["trials"].as_array().unwrap().len().min(3), 3);
    assert_eq!(result["reliability"].as_array().unwrap().len(), 10);
    let rows: u64 = result["per_class"].as_array().unwrap().iter().map(|c| c["documents"].as_u64().unwrap()).sum();
    assert_eq!(rows, 12);
    assert_eq!(snapshot(std::path::Path::new(&out)).len(), 1, "one file, and nothing beside it");

    let evaluated = json(&["evaluate", "--model", &out, "--data", &test]);
    for (key, of_training) in [("error", "test_error"), ("interval", "interval"), ("confusion", "confusion")] {
        assert_eq!(evaluated[key], result[of_training], "{key}");
    }
    let output = ulmfit(&["predict", "--model", &out, "a good film", "", "ξ"]).assert().success();
    let lines = json_lines(&text(&output.get_output().stdout));
    assert_eq!((&lines[0]["label"], &lines[1]["label"]), (&json!("pos"), &Value::Null));
    // nothing is known of the last: half of the training texts are of either class
    assert_eq!(lines[2]["probabilities"], json!({ "neg": 0.5, "pos": 0.5 }));
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let (_root, data) = place();
    let train = data.path("train.csv");
    let file = |threads: &str| {
        let name = format!("model-{threads}");
        json(&["linear", "--train", &train, "--out", &data.path(&name), "--threads", threads]);
        data.read(&format!("{name}/linear.safetensors"))
    };
    assert!(file("1") == file("3"));
}

#[test]
fn few_labels_and_a_place_that_is_taken() {
    let (_root, data) = place();
    let (train, out) = (data.path("train.csv"), data.path("model"));
    let line = ["linear", "--train", &train, "--out", &out, "--labels", "10"];
    assert_eq!(json(&line)["train_size"], 10);
    refused(&mut ulmfit(&line), 2, &["--out", "is not empty", "hint: replace what is there with --overwrite"]);
    let before = data.read("model/linear.safetensors");
    json(&words(&[&["linear", "--train", &train, "--out", &out], &["--overwrite"]]));
    assert!(data.read("model/linear.safetensors") != before);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let (_root, data) = place();
    let (train, out) = (data.path("train.csv"), data.path("model"));
    let other = data.write("other.csv", "label,text\nneg,a\nnew,b\n");
    let single = data.write("single.csv", "label,text\nneg,a\nneg,b\n");
    let line = ["linear", "--train", &train, "--test", &other, "--out", &out];
    refused(&mut ulmfit(&line), 1, &["other.csv:3", "'new'", "neg, pos"]);
    refused(&mut ulmfit(&["linear", "--train", &single, "--out", &out]), 1, &["single.csv", "single class"]);
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn a_damaged_model_and_a_wrong_one_are_refused() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("model"));
    json(&["linear", "--train", &train, "--out", &out]);
    refused(&mut ulmfit(&["generate", "--model", &out, "--prompt", "a"]), 1, &["linear model", "network"]);
    let both = ["predict", "--model", &out, "--ensemble", &out, "a"];
    refused(&mut ulmfit(&both), 2, &["--ensemble", "linear model"]);
    let mut file = data.read("model/linear.safetensors");
    let middle = file.len() / 2;
    file[middle] ^= 1;
    data.write("model/linear.safetensors", &file);
    for line in [&["predict", "--model", &out, "a"][..], &["evaluate", "--model", &out, "--data", &test]] {
        refused(&mut ulmfit(line), 1, &["linear.safetensors", "SHA-256"]);
    }
}
