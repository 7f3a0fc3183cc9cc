//! `compare` and `curve`: tables on one's own data, which go on where they were stopped.

use serde_json::Value;

use crate::support::{Data, json, refused, snapshot, text, ulmfit, words};

const SMALL: &[&str] = &[
    "--seeds",
    "2",
    "--set",
    "model.emb=8",
    "--set",
    "model.hidden=12",
    "--set",
    "finetune.updates_least=4",
    "--set",
    "classifier.updates_least=10",
    "--set",
    "finetune.bptt=10",
    "--set",
    "classifier.bptt=10",
    "--set",
    "classifier.valid_fraction=0.25",
];

fn place() -> (tempfile::TempDir, Data) {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    (root, data)
}

fn methods(result: &Value) -> Vec<&str> {
    result["rows"].as_array().unwrap().iter().map(|row| row["method"].as_str().unwrap()).collect()
}

#[test]
fn methods_are_compared_over_seeds() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("out"));
    let line = words(&[&["compare", "--train", &train, "--test", &test, "--out", &out, "--base", "tiny"], SMALL]);
    let result = json(&line);
    let all = ["linear model", "from scratch", "base", "base, both directions", "network and linear model"];
    assert_eq!(methods(&result), all);
    for row in result["rows"].as_array().unwrap() {
        let errors: Vec<f64> = row["errors"].as_array().unwrap().iter().map(|e| e.as_f64().unwrap()).collect();
        assert_eq!(errors.len(), 2, "{row}");
        assert!((row["error"].as_f64().unwrap() - (errors[0] + errors[1]) / 2.0).abs() < 1e-9, "{row}");
    }
    assert_eq!(result["paired"].as_array().unwrap().len(), 4);
    // the networks are asked once for all rows; each row is what `evaluate` says of the folder
    let folder = format!("{out}/seed-42/base");
    let first_error = |row: usize| &result["rows"][row]["errors"][0];
    let evaluated = |flags: &[&str]| json(&words(&[&["evaluate", "--data", &test, "--model"], flags]))["error"].clone();
    assert_eq!(*first_error(4), evaluated(&[&folder]), "both models together");
    assert_eq!(*first_error(3), evaluated(&[&folder, "--blend", "off"]), "both directions");
    // the same again, from what lies there
    let before = snapshot(std::path::Path::new(&format!("{out}/seed-43")));
    let mut again = json(&line);
    for key in ["seconds", "peak_rss_mb"] {
        again[key] = result[key].clone();
    }
    assert_eq!(again, result);
    assert!(snapshot(std::path::Path::new(&format!("{out}/seed-43"))) == before, "nothing was trained again");
}

#[test]
fn a_curve_has_a_point_for_every_number_of_labels() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("out"));
    let line = ["curve", "--train", &train, "--test", &test, "--out", &out, "--labels", "4,8", "--base", "tiny"];
    let result = json(&words(&[&line, SMALL]));
    let rows = result["rows"].as_array().unwrap();
    let points: Vec<_> = rows.iter().map(|r| (r["method"].as_str().unwrap(), r["labels"].as_u64().unwrap())).collect();
    let methods = ["linear model", "from scratch", "base, labelled text", "base", "network and linear model"];
    let expected: Vec<_> = methods.iter().flat_map(|m| [(*m, 4), (*m, 8)]).collect();
    assert_eq!(points, expected);
    let svg = text(&data.read("out/curve.svg"));
    assert!(svg.starts_with("<svg") && svg.contains("<polygon") && svg.contains("from scratch"), "a picture");
    assert!(text(&data.read("out/curve.html")).contains("\"name\":\"from scratch\""), "numbers to point at");
    // the language model of all text is tuned once for both numbers
    assert!(data.read("out/seed-42/text/finetune-lm/model.safetensors").len() > 1000);
    assert!(!std::path::Path::new(&data.path("out/seed-42/labels-4/all/finetune-lm")).exists());
    let line = ["curve", "--train", &train, "--test", &test, "--labels", "8,4"];
    refused(&mut ulmfit(&line), 2, &["--labels: numbers of at least 2 that ascend"]);
}
