//! The model that training starts from: its softmax, and the models in the program.

use serde_json::Value;

use crate::support::{Data, SIZES, STAGE, json, refused, text, ulmfit, words};

fn place() -> (tempfile::TempDir, Data) {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    (root, data)
}

fn config(directory: &str) -> Value {
    serde_json::from_slice(&std::fs::read(format!("{directory}/config.json")).unwrap()).unwrap()
}

fn splits(directory: &str) -> Value {
    config(directory)["architecture"]["splits"].clone()
}

/// An adaptive softmax cuts a small vocabulary too, and fine-tuning has the softmax of its base,
/// whatever its own recipe says.
#[test]
fn fine_tuning_has_the_softmax_of_its_base() {
    let (_root, data) = place();
    // words enough for two cuts
    let more: String = (0..40).map(|k| format!("word{k} the a cat\n")).collect();
    let corpus = data.write("more.txt", more);
    let adaptive = data.path("adaptive");
    let recipe = words(&[SIZES, STAGE]);
    let line = ["pretrain", "--corpus", &corpus, "--out", &adaptive, "--set", "pretrain.loss=adaptive"];
    json(&words(&[&line, &recipe]));
    let words_of_it = config(&adaptive)["architecture"]["encoder"]["vocabulary"].as_u64().unwrap();
    assert!(words_of_it >= 40, "{words_of_it}");
    assert_eq!(splits(&adaptive), serde_json::json!([words_of_it / 12, words_of_it / 3]));
    let (tuned, train) = (data.path("tuned"), data.path("train.csv"));
    let line = ["finetune-lm", "--model", &adaptive, "--text", &train, "--out", &tuned];
    let output = ulmfit(&words(&[&line, &recipe, &["--verbose"]])).assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("softmax: adaptive, as in the model to start from"));
    assert_eq!(splits(&tuned), splits(&adaptive), "{}", text(&output.stderr));
    let full = data.path("full");
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &full], &recipe]));
    let back = data.path("back");
    let line = ["finetune-lm", "--model", &full, "--text", &train, "--out", &back, "--set", "finetune.loss=adaptive"];
    let output = ulmfit(&words(&[&line, &recipe, &["--verbose"]])).assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("softmax: over all words, as in the model to start from"));
    assert_eq!((splits(&full), splits(&back)), (Value::Null, Value::Null));
}

/// A model of the program is there from any folder, in both directions; its words come first, then
/// those of the text.
#[test]
fn a_model_of_the_program_is_a_base() {
    let (root, data) = place();
    let train = data.path("train.csv");
    for direction in ["forward", "backward"] {
        let out = data.path(direction);
        let line = ["finetune-lm", "--base", "tiny", "--text", &train, "--out", &out, "--direction", direction];
        let few = ["--recipe", "default", "--set", "finetune.updates_least=5", "--quiet", "--json"];
        ulmfit(&words(&[&line, &few])).current_dir(root.path()).assert().success();
        let config = config(&out);
        assert_eq!(config["direction"], direction);
        assert!(config["architecture"]["splits"].as_array().is_some_and(|all| all.len() == 2), "{config}");
        let vocabulary: Value = serde_json::from_slice(&std::fs::read(format!("{out}/vocab.json")).unwrap()).unwrap();
        let all: Vec<&str> = vocabulary["words"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        assert!(all.len() >= 8000 && all.contains(&"parliament"), "{} words", all.len());
        let own = ulmfit(&["evaluate", "--quiet", "--model", &out, "--data", &train]).assert().success();
        assert!(text(&own.get_output().stdout).contains("perplexity"));
    }
}

#[test]
fn a_base_that_is_not_there_is_said_to_be_missing() {
    let (_root, data) = place();
    let (train, out) = (data.path("train.csv"), data.path("out"));
    let file = crate::support::root().join("src/models/box/english-backward.ulmfit");
    if std::fs::metadata(file).unwrap().len() == 0 {
        let line = ["finetune-lm", "--base", "english", "--direction", "backward", "--text", &train, "--out", &out];
        refused(&mut ulmfit(&line), 2, &["--base english: this build has no English model that reads backward"]);
        // without a base the English model is meant
        let line = ["run", "--bidirectional", "--train", &train, "--out", &out];
        refused(&mut ulmfit(&line), 2, &["--base english: this build has no English model that reads backward"]);
    }
    let line = ["run", "--base", "nowhere", "--train", &train, "--out", &out];
    refused(&mut ulmfit(&line), 1, &["nowhere: no such model directory"]);
    let corpus = data.path("corpus.txt");
    let line = ["run", "--base", "tiny", "--corpus", &corpus, "--train", &train, "--out", &out];
    refused(&mut ulmfit(&line), 2, &["--base", "--corpus"]);
    assert!(!std::path::Path::new(&out).exists(), "nothing was begun");
}

/// A packed model stands for the folder it was made from, its loss is measured, and damage is told.
#[test]
fn a_packed_model_stands_for_its_folder() {
    let (_root, data) = place();
    let (corpus, train, lm) = (data.path("corpus.txt"), data.path("train.csv"), data.path("lm"));
    let recipe = words(&[SIZES, STAGE]);
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &lm, "--direction", "backward"], &recipe]));
    for (weights, bound) in [("int8", 0.02), ("bf16", 0.01)] {
        let file = data.path(weights);
        let line = ["pack", "--model", &lm, "--out", &file, "--weights", weights, "--data", &corpus];
        let packed = json(&line);
        let number = |value: &Value| value.as_f64().unwrap();
        let (before, after) = (number(&packed["before"]["bits_per_byte"]), number(&packed["after"]["bits_per_byte"]));
        assert!((after / before - 1.0).abs() < bound && after != before, "{packed}");
        assert!(number(&packed["relative_error"]) > 0.0 && number(&packed["relative_error"]) < 0.01, "{packed}");
        assert_eq!(number(&packed["bytes"]), std::fs::metadata(&file).unwrap().len() as f64);
        let measured = json(&["evaluate", "--model", &file, "--data", &corpus]);
        assert_eq!(measured["bits_per_byte"], packed["after"]["bits_per_byte"]);
        let tuned = data.path(&format!("tuned-{weights}"));
        json(&words(&[
            &["finetune-lm", "--base", &file, "--text", &train, "--out", &tuned, "--recipe", "tiny"],
            STAGE,
        ]));
        assert_eq!(config(&tuned)["direction"], "backward");
    }
    let file = data.path("int8");
    let line = ["finetune-lm", "--base", &file, "--text", &train, "--out", "x", "--direction", "forward"];
    refused(&mut ulmfit(&line), 1, &["reads backward, but a model that reads forward is needed"]);
    let mut bytes = data.read("int8");
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    data.write("int8", bytes);
    refused(&mut ulmfit(&["evaluate", "--model", &file, "--data", &corpus]), 1, &["does not have the SHA-256"]);
}
