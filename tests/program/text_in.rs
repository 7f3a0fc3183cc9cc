//! Text in, through the binary: nothing of a file is lost in silence, and answers depend on their own text alone.

use crate::support::{Data, SIZES, STAGE, classifier, json, json_lines, text, ulmfit, words};
use serde_json::Value;

fn model() -> &'static str {
    classifier().to_str().unwrap()
}

fn answers(line: &[&str]) -> Vec<Value> {
    let output = ulmfit(line).arg("--quiet").assert().success().get_output().clone();
    json_lines(&text(&output.stdout))
}

/// Where no temporary file can be, answers are the same: none is needed.
#[test]
fn answers_make_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (test, nowhere) = (data.path("test.csv"), data.path("nowhere"));
    let line = ["predict", "--model", model(), "--input", &test, "--quiet"];
    let with = |folder: &str| text(&ulmfit(&line).env("TMPDIR", folder).assert().success().get_output().stdout.clone());
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(with(&nowhere), with(folder.path().to_str().unwrap()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let line = ["evaluate", "--model", model(), "--data", &test, "--quiet"];
    ulmfit(&line).env("TMPDIR", &nowhere).assert().success();
}

/// A text alone has the bits that it has among others, padded at the end or in front.
#[test]
fn an_answer_depends_on_its_own_text_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (train, out) = (data.path("train.csv"), data.path("padded-in-front"));
    let line =
        ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--set", "classifier.masking=v1"];
    json(&words(&[&line, SIZES, STAGE]));
    let texts =
        ["a good film", "bad", "the story was awful and sad and the film was poor", "good", "was the film fine ?"];
    for model in [model(), &out] {
        let together = answers(&words(&[&["predict", "--model", model], &texts]));
        for (one, among) in texts.iter().zip(&together) {
            assert_eq!(&answers(&["predict", "--model", model, one])[0], among, "{model}: {one}");
        }
    }
}

/// Every row of the data has a line of predictions, the one without a text too.
#[test]
fn predictions_have_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let gap = data.write("gap.csv", "text,label\ngood,pos\n,neg\nbad,neg\nfine,\n");
    let saved = data.path("p.jsonl");
    let result = json(&["evaluate", "--model", model(), "--data", &gap, "--predictions", &saved]);
    assert_eq!((&result["test_size"], &result["skipped"]), (&Value::from(2), &Value::from(2)));
    let lines = json_lines(&text(&data.read("p.jsonl")));
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("row"), [1, 2, 3, 4]);
    assert_eq!(of("true"), [Value::from("pos"), Value::Null, Value::from("neg"), Value::Null]);
    assert_eq!((&lines[1]["label"], &lines[1]["reason"]), (&Value::Null, &Value::from("the text is empty")));
    assert_eq!((&lines[3]["label"], &lines[3]["reason"]), (&Value::Null, &Value::from("there is no label")));
    assert!(lines[2]["probabilities"]["neg"].is_f64());
}
