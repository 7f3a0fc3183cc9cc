//! `run` without a recipe: a base, updates that follow the data, the linear model beside the
//! network, and one answer of both.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Data, Numbers, json as run, json_lines, last_line, refused, text, ulmfit, words};

/// Sizes and updates that take a second.
const SMALL: &[&str] = &[
    "--base",
    "none",
    "--emb-size",
    "8",
    "--hidden-size",
    "12",
    "--layers",
    "2",
    "--bptt",
    "10",
    "--set",
    "finetune.updates_least=6",
    "--set",
    "classifier.updates_least=20",
    // as the commands that ask the models
    "--precision",
    "f32",
];

fn place() -> (tempfile::TempDir, Data) {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    (root, data)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn rule(out: &str) -> Value {
    serde_json::from_slice(&std::fs::read(format!("{out}/classifier/answer.json")).unwrap()).unwrap()
}

fn predicted(line: &[&str]) -> Vec<Value> {
    let output = ulmfit(&words(&[&["predict", "--quiet"], line])).assert().success().get_output().clone();
    json_lines(&text(&output.stdout))
}

fn rows(answers: &[Value]) -> Vec<Vec<f64>> {
    let row = |a: &Value| a["probabilities"].as_object().unwrap().values().map(number).collect();
    answers.iter().map(row).collect()
}

fn temper(p: &[f64], t: f64) -> Vec<f64> {
    let powers: Vec<f64> = p.iter().map(|p| p.powf(1.0 / t)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// The file of a linear model alone, out of the folder of a run.
fn linear_of(data: &Data, out: &str) -> String {
    let folder = data.path("linear-alone");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(format!("{out}/classifier/linear.safetensors"), format!("{folder}/linear.safetensors")).unwrap();
    folder
}

/// One network alone, out of the folder of a run.
fn network_of(data: &Data, out: &str, name: &str) -> String {
    let folder = data.path(&format!("{name}-alone"));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors", "vocab.json"] {
        std::fs::copy(format!("{out}/{name}/{file}"), format!("{folder}/{file}")).unwrap();
    }
    folder
}

#[test]
fn one_flag_gives_a_folder_in_which_both_models_answer() {
    let (_root, data) = place();
    let (train, test) = (data.path("train.csv"), data.path("test.csv"));
    let folder = data.path("");
    let line = words(&[&["run", "--train", "train.csv", "--test", "test.csv", "--valid-fraction", "0.25"], SMALL]);
    let output =
        ulmfit(&words(&[&line, &["--json", "--verbose"]])).current_dir(&folder).assert().success().get_output().clone();
    let (said, result) = (text(&output.stderr), last_line(&output.stdout));
    assert!(said.contains("of 32 held-out documents the network (4 folds) errs on"), "{said}");
    for (part, key) in
        [("linear", "valid_error"), ("linear", "test_error"), ("answer", "valid_error"), ("answer", "test_error")]
    {
        assert!((0.0..=100.0).contains(&number(&result[part][key])), "{part}.{key}: {result}");
    }
    let out = data.path("train-model");
    let rule = rule(&out);
    // four folds: every document is held out once, and the four networks answer together
    assert_eq!(rule["measured"]["documents"], 32);
    let folds = [2, 3, 4].map(|fold| format!("classifier-fold-{fold}"));
    assert_eq!(rule["networks"], json!(folds));
    let alone = |name: &str| rows(&predicted(&["--model", &network_of(&data, &out, name), "--input", &test]));
    let networks: Vec<_> = ["classifier"].into_iter().chain(folds.iter().map(String::as_str)).map(alone).collect();
    assert_ne!(networks[1], networks[2], "each fold has a network of its own");
    assert_eq!(rule["blend"], result["answer"]["blend"]);
    assert_eq!(rule["measured"]["reliability"].as_array().unwrap().len(), 10);
    // the answers of the commands are the rule's mixture of the answers of the two models
    let (both, network) = (
        predicted(&["--model", &out, "--input", &test]),
        predicted(&["--model", &out, "--input", &test, "--blend", "off"]),
    );
    for (k, row) in rows(&network).iter().enumerate() {
        for (class, p) in row.iter().enumerate() {
            let mean = networks.iter().map(|one| one[k][class]).sum::<f64>() / 4.0;
            assert!((p - mean).abs() < 1e-9, "{p} is not the mean of the four networks, {mean}");
        }
    }
    let linear = predicted(&["--model", &linear_of(&data, &out), "--input", &test]);
    let weight = number(&rule["blend"]["weight"]);
    let t: Vec<f64> = rule["blend"]["temperatures"].as_array().unwrap().iter().map(number).collect();
    for ((both, p), q) in rows(&both).iter().zip(rows(&network)).zip(rows(&linear)) {
        let (p, q) = (temper(&p, t[0]), temper(&q, t[1]));
        let mean: Vec<f64> = p.iter().zip(&q).map(|(p, q)| weight * p + (1.0 - weight) * q).collect();
        let mean = temper(&mean, number(&rule["blend"]["temperature"]));
        assert!(both.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-9), "{both:?} {mean:?}");
    }
    assert_ne!(rows(&both), rows(&network));
    let measured = run(&["evaluate", "--model", &out, "--data", &test]);
    assert_eq!(measured["error"], result["answer"]["test_error"]);
    assert_eq!(measured["calibration_error"], result["answer"]["test_calibration_error"]);
    assert_eq!(measured["reliability"].as_array().unwrap().len(), 10);
    // the page shows how far confidence is from accuracy
    let page = std::fs::read_to_string(format!("{out}/report.html")).unwrap();
    assert!(page.contains("Reliability") && page.contains("calibration error"), "the report has the diagram");
    // a folder whose linear model is gone does not answer without it
    std::fs::remove_file(format!("{out}/classifier/linear.safetensors")).unwrap();
    refused(&mut ulmfit(&["predict", "--quiet", "--model", &out, "a text"]), 1, &["linear.safetensors"]);
    let _ = train;
}

#[test]
fn the_network_alone_is_calibrated_or_left_as_it_is() {
    let (_root, data) = place();
    let (train, test) = (data.path("train.csv"), data.path("test.csv"));
    let (calibrated, named) = (data.path("calibrated"), data.path("named"));
    let line = ["run", "--train", &train, "--test", &test, "--valid-fraction", "0.25"];
    let result = run(&words(&[&line, SMALL, &["--out", &calibrated, "--blend", "off"]]));
    let rule = rule(&calibrated);
    assert_eq!((&rule["blend"], &result["answer"]["blend"]), (&Value::Null, &Value::Null));
    let (answers, plain) = (
        rows(&predicted(&["--model", &calibrated, "--input", &test])),
        rows(&predicted(&["--model", &calibrated, "--input", &test, "--blend", "off"])),
    );
    for (answer, plain) in answers.iter().zip(&plain) {
        let expected = temper(plain, number(&rule["temperature"]));
        assert!(answer.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{answer:?} {expected:?}");
    }
    // who names a recipe gets what that makes, and the linear model beside it
    let result = run(&words(&[&line, SMALL, &["--recipe", "tiny", "--epochs", "1", "--out", &named]]));
    assert!(!Path::new(&named).join("classifier/answer.json").exists());
    assert!(Path::new(&named).join("classifier/linear.safetensors").exists());
    assert!(result["answer"].is_null() && result["linear"]["test_error"].is_number(), "{result}");
}

#[test]
fn an_unsure_answer_is_none() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("out"));
    run(&words(&[&["run", "--train", &train, "--out", &out], SMALL]));
    let all = predicted(&["--model", &out, "--input", &test]);
    let confidence = |a: &Value| rows(std::slice::from_ref(a))[0].iter().fold(0.0f64, |a, &b| a.max(b));
    let mut sorted: Vec<f64> = all.iter().map(confidence).collect();
    sorted.sort_by(f64::total_cmp);
    let least = sorted[sorted.len() / 2];
    let sure = predicted(&["--model", &out, "--input", &test, "--min-confidence", &least.to_string()]);
    assert!(sure.iter().any(|a| a["label"].is_null()) && sure.iter().any(|a| a["label"].is_string()), "{sure:?}");
    for (all, sure) in all.iter().zip(&sure) {
        assert_eq!(all["probabilities"], sure["probabilities"]);
        if confidence(all) < least {
            assert!(sure["label"].is_null() && sure["reason"].as_str().unwrap().contains("less than"), "{sure}");
        } else {
            assert_eq!(sure["label"], all["label"]);
        }
    }
    refused(&mut ulmfit(&["predict", "--model", &out, "--min-confidence", "1.5", "x"]), 2, &["from 0 to 1"]);
}

/// A stage alone has no folds, and a comparison of nothing leaves no folder.
#[test]
fn what_would_do_nothing_is_refused() {
    let (_root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("out"));
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out];
    let folds = ["--set", "classifier.folds=3"];
    refused(&mut ulmfit(&words(&[&line, &folds])), 2, &["classifier.folds=3 does nothing here"]);
    let line = ["compare", "--train", &train, "--test", &test, "--base", "none", "--skip", "scratch", "--out", &out];
    refused(&mut ulmfit(&line), 2, &["only the network from scratch, which is left out"]);
    assert!(!Path::new(&out).exists());
}

/// Hardly any data, one short text to answer, and 150 classes.
#[test]
fn awkward_data_are_learned_from() {
    let (_root, data) = place();
    let few = data.write("few.csv", "label,text\nneg,bad\npos,good\nneg,so bad\npos,so good\npos,fine\n");
    let out = data.path("few");
    let result = run(&words(&[&["run", "--train", &few, "--out", &out], SMALL]));
    assert_eq!(result["answer"]["valid_size"], 5, "each of five documents is held out once: {result}");
    assert!((0.3..0.7).contains(&number(&result["answer"]["blend"]["weight"])), "{result}");
    let answers = predicted(&["--model", &out, "good", "bad", "", "ζ"]);
    assert!(answers[0]["label"].is_string() && answers[2]["label"].is_null(), "{answers:?}");
    assert!((rows(&answers[3..])[0].iter().sum::<f64>() - 1.0).abs() < 1e-9);

    // ten documents of one class among many of the other
    let mut numbers = Numbers(5);
    let row = |k: usize| {
        if k.is_multiple_of(21) {
            "pos,good fine great\n".into()
        } else {
            format!("neg,{}\n", numbers.sentence(&["bad", "poor", "sad", "the", "a", "film"]))
        }
    };
    let table: String = (0..210).map(row).collect();
    let few = data.write("ten.csv", format!("label,text\n{table}"));
    let (out, result) =
        (data.path("ten"), run(&words(&[&["run", "--train", &few, "--out", &data.path("ten")], SMALL])));
    assert_eq!(result["answer"]["valid_size"], 210, "{result}");
    assert_eq!(predicted(&["--model", &out, "good fine great"])[0]["label"], "pos");

    let table: String = (0..600).map(|k| format!("class{},word{} of the kind {}\n", k % 150, k % 150, k % 7)).collect();
    let many = data.write("many.csv", format!("label,text\n{table}"));
    let out = data.path("many");
    let result = run(&words(&[&["run", "--train", &many, "--valid-fraction", "0.25", "--out", &out], SMALL]));
    assert!(number(&result["answer"]["valid_error"]) < 50.0, "the linear model knows the words: {result}");
    assert_eq!(predicted(&["--model", &out, "word7 of the kind"])[0]["label"], "class7");
}

/// The updates of a stage follow its data and the effort.
#[test]
fn effort_multiplies_the_updates() {
    let (_root, data) = place();
    let train = data.path("train.csv");
    let updates = |effort: &str| {
        let out = data.path(effort);
        run(&words(&[&["run", "--train", &train, "--out", &out, "--effort", effort], SMALL]));
        ["finetune-lm", "classifier"].map(|stage| {
            let config: Value =
                serde_json::from_slice(&std::fs::read(format!("{out}/{stage}/config.json")).unwrap()).unwrap();
            (config["result"]["steps"].as_u64().unwrap(), config["recipe"]["rows"].clone())
        })
    };
    let [quick, best] = [updates("quick"), updates("best")];
    assert!(quick[0].0 < best[0].0 && quick[1].0 < best[1].0, "{} {}", quick[1].0, best[1].0);
    let row =
        |rows: &Value| rows.as_array().unwrap().iter().find(|row| row["key"] == "classifier.effort").unwrap().clone();
    assert_eq!(row(&best[1].1), json!({ "key": "classifier.effort", "value": 2.5, "source": "--effort best" }));
}

/// In both directions the folder answers with three models; it can be moved.
#[test]
fn both_directions_answer_with_the_linear_model() {
    let (root, data) = place();
    let (train, test, out) = (data.path("train.csv"), data.path("test.csv"), data.path("out"));
    let line = ["run", "--train", &train, "--test", &test, "--out", &out, "--bidirectional", "--base", "tiny"];
    let result = run(&words(&[&line, &SMALL[8..], &["--set", "classifier.folds=1"]]));
    assert_eq!(rule(&out)["networks"], json!(["classifier-backward"]));
    let moved = root.path().join("moved");
    std::fs::rename(&out, &moved).unwrap();
    for folder in [moved.clone(), moved.join("classifier")] {
        let measured = run(&["evaluate", "--model", folder.to_str().unwrap(), "--data", &test, "--precision", "f32"]);
        assert_eq!(measured["error"], result["answer"]["test_error"], "{}", folder.display());
    }
    std::fs::remove_dir_all(moved.join("classifier-backward")).unwrap();
    let line = ["evaluate", "--quiet", "--model", moved.to_str().unwrap(), "--data", &test];
    refused(&mut ulmfit(&line), 1, &["classifier-backward"]);
}
