//! `ulmfit data check`, and what training says about its data.

use crate::support::{self, Data, SIZES, STAGE, json, text, ulmfit, words};
use serde_json::{Value, json};

/// A file of the real data, or a line that says why the test is skipped.
fn real(name: &str) -> Option<String> {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let root = std::env::var_os("ULMFIT_DATA").map_or(beside, std::path::PathBuf::from);
    let file = root.join(name);
    if file.exists() {
        return Some(file.to_str().unwrap().to_string());
    }
    eprintln!("skipped: {} is not there", file.display());
    None
}

/// The real sets have the repeated texts that their description counts.
#[test]
fn known_truths_of_trec() {
    let (Some(train), Some(test)) = (real("trec/train_5500.label"), real("trec/TREC_10.label")) else { return };
    let found = json(&["data", "check", &train, "--test", &test]);
    assert_eq!(found["documents"], 5452);
    assert_eq!((&found["distinct"], &found["duplicates"], &found["overlap"]), (&json!(5376), &json!(76), &json!(11)));
    let classes = json!({"ABBR": 86, "DESC": 1162, "ENTY": 1250, "HUM": 1223, "LOC": 835, "NUM": 896});
    assert_eq!((&found["classes"], &found["per_class"], &found["empty"]), (&json!(6), &classes, &json!(0)));
    assert_eq!(found["splits"]["test"]["documents"], 500);
}

#[test]
fn known_truths_of_imdb() {
    let Some(labelled) = real("imdb/aclImdb_labelled.tar.zst") else { return };
    let found = json(&["data", "check", &format!("{labelled}::aclImdb")]);
    let of = |split: &str, key: &str| found["splits"][split][key].clone();
    assert_eq!((of("train", "documents"), of("test", "documents")), (json!(25_000), json!(25_000)));
    assert_eq!((of("train", "distinct"), of("test", "distinct")), (json!(24_902), json!(24_799)));
    assert_eq!((&found["documents"], &found["overlap"]), (&json!(50_000), &json!(123)));
    assert_eq!((&found["duplicates"], &found["classes"]), (&json!(98 + 201), &json!(2)));
    assert_eq!(found["splits"]["train"]["per_class"], json!({"neg": 12_500, "pos": 12_500}));
    let Some(unsup) = real("imdb/aclImdb_unsup.tar.zst") else { return };
    let found = json(&["data", "check", &unsup, "--test", &format!("{labelled}::aclImdb/test")]);
    assert_eq!((&found["documents"], &found["overlap"]), (&json!(50_000), &json!(266)));
}

#[test]
fn a_tree_is_taken_apart() {
    let directory = tempfile::tempdir().unwrap();
    for (file, content) in [
        ("train/pos/1.txt", "good"),
        ("train/pos/2.txt", "Good!"),
        ("train/neg/1.txt", "bad"),
        ("train/unsup/1.txt", "so so"),
        ("test/pos/1.txt", "good ."),
        ("test/neg/1.txt", ""),
    ] {
        let path = directory.path().join("set").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let found = json(&["data", "check", directory.path().to_str().unwrap()]);
    let top: Vec<&Value> =
        ["documents", "classes", "unlabelled", "duplicates", "empty", "overlap"].iter().map(|k| &found[k]).collect();
    assert_eq!(json!(top), json!([6, 2, 1, 1, 1, 1]));
    assert_eq!(found["splits"]["train"]["per_class"], json!({"neg": 1, "pos": 2}));
    assert_eq!(found["splits"]["test"]["per_class"], json!({"pos": 1}));
}

#[test]
fn people_see_classes_lengths_and_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let train = data.path("train.csv");
    let output = ulmfit(&["data", "check", &train, "--valid", &train]).assert().success().get_output().clone();
    let page = text(&output.stdout);
    for part in [
        "train: 32 documents, 2 classes",
        "  neg ",
        "words             documents",
        "#",
        "texts in both train and valid: ",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let missing = data.path("none.csv");
    ulmfit(&["data", "check", &train, "--test", &missing]).assert().code(1);
}

/// Training describes its sets and warns of texts that it shares with the test set.
#[test]
fn training_tells_of_shared_texts() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (train, out) = (data.path("train.csv"), data.path("model"));
    let line = words(&[
        &["train-classifier", "--model", "none", "--train", &train, "--test", &train, "--out", &out],
        SIZES,
        STAGE,
        &["--max-steps", "1"],
    ]);
    let output = ulmfit(&line).assert().success().get_output().clone();
    let said = text(&output.stderr);
    assert!(said.contains("train.csv: CSV with a header (text text, label label), 32 documents, 2 classes"), "{said}");
    assert!(said.contains("are in the train data and in the test data"), "{said}");
}

#[test]
fn what_cannot_be_described_is_said_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (train, empty, missing) = (data.path("train.csv"), data.write("empty.csv", ""), data.path("none.csv"));
    let help = "hint: 'ulmfit data check --help'";
    let refused = |line: &[&str], status, parts: &[&str]| support::refused(&mut ulmfit(line), status, parts);
    refused(&["data"], 2, &["a command is missing after 'data'", "hint: 'ulmfit data --help'"]);
    refused(&["data", "check"], 2, &["missing: <FILE>", help]);
    refused(&["data", "check", &train, "--epochs", "3"], 2, &["unknown flag '--epochs'", help]);
    refused(&["data", "check", &missing], 1, &["none.csv: cannot open: no such file"]);
    refused(&["data", "check", &train, "--test", &empty], 1, &["empty.csv: is empty"]);
}
