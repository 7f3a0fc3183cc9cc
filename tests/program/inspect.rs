//! `ulmfit inspect`: models and files of weights, described.

use serde_json::json;

use crate::support::{classifier, json, refused, root, text, ulmfit};

#[test]
fn a_model_is_described() {
    let model = classifier().to_str().unwrap();
    let told = json(&["inspect", model]);
    assert_eq!(told["architecture"]["kind"], "classifier");
    let values: u64 = told["tensors"].as_array().unwrap().iter().map(|t| t["values"].as_u64().unwrap()).sum();
    assert_eq!(told["values"], json!(values));
    assert!(told["tensors"].as_array().unwrap().iter().all(|t| t["finite"] == true && t["norm"].is_f64()));
    assert_eq!(told["vocabulary"]["words"], told["tensors"][0]["shape"][0]);
    assert!(told["data"].as_array().is_some_and(|data| !data.is_empty()), "{told}");
    let shown = text(&ulmfit(&["inspect", model]).assert().success().get_output().stdout);
    assert!(shown.contains("AWD-LSTM") && shown.contains("encoder.weight") && shown.contains("labels"), "{shown}");
    let card = text(&ulmfit(&["inspect", model, "--card"]).assert().success().get_output().stdout);
    for part in ["# classifier of 2 classes", "## Intended use", "| train |", "## Results", "## Limits"] {
        assert!(card.contains(part), "{part}: {card}");
    }
}

#[test]
fn a_file_of_weights_is_described_and_not_run() {
    let file = |name: &str| root().join("tests/import").join(name).display().to_string();
    let told = json(&["inspect", &file("fastai2_lm.pth")]);
    assert_eq!((&told["format"], &told["tensors"][0]["name"]), (&json!("torch"), &json!("0.encoder.weight")));
    assert_eq!(told["tensors"][0]["shape"], json!([61, 8]));
    let nan = json(&["inspect", &file("hostile_nan.pth")]);
    assert_eq!(nan["tensors"][0]["finite"], false);
    refused(&mut ulmfit(&["inspect", &file("hostile_reduce.pth")]), 1, &["a call of posix.system"]);
    refused(&mut ulmfit(&["inspect", &file("fastai2_lm.pth"), "--card"]), 2, &["a card describes a model directory"]);
    refused(&mut ulmfit(&["inspect", "no_such_model"]), 1, &["no_such_model", "no such model directory"]);
}
