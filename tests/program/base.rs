//! The model that training starts from: its softmax, and the models in the program.

use serde_json::Value;

use crate::support::{Data, SIZES, STAGE, json, text, ulmfit, words};

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
    let output = ulmfit(&words(&[&line, &recipe])).assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("softmax: adaptive, as in the model to start from"));
    assert_eq!(splits(&tuned), splits(&adaptive), "{}", text(&output.stderr));
    let full = data.path("full");
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &full], &recipe]));
    let back = data.path("back");
    let line = ["finetune-lm", "--model", &full, "--text", &train, "--out", &back, "--set", "finetune.loss=adaptive"];
    let output = ulmfit(&words(&[&line, &recipe])).assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("softmax: over all words, as in the model to start from"));
    assert_eq!((splits(&full), splits(&back)), (Value::Null, Value::Null));
}
