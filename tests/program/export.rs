//! `ulmfit export`: files for other programs. What those compute is asked by tools/peer/export.py.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{json, refused, root, ulmfit, words};

fn fixture(name: &str) -> String {
    root().join("tests/import").join(name).display().to_string()
}

/// A model of the fixture as a directory.
fn model(folder: &Path, weights: &str, vocab: &str) -> PathBuf {
    let out = folder.join("model");
    let (weights, vocab) = (fixture(weights), fixture(vocab));
    json(&["import", "--weights", &weights, "--vocab", &vocab, "--out", out.to_str().unwrap()]);
    out
}

/// An exported model comes back with the same bits.
#[test]
fn exported_files_are_imported_again() {
    for (weights, vocab) in [("fastai2_lm.pth", "vocab_list.pkl"), ("fastai2_classifier.pth", "vocab_classifier.pkl")] {
        let folder = tempfile::tempdir().unwrap();
        let original = model(folder.path(), weights, vocab);
        let bits = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        let out = folder.path().join("exported.pth");
        let again = folder.path().join("again");
        let [from, file, to] = [&original, &out, &again].map(|p| p.to_str().unwrap());
        let told = json(&["export", "--model", from, "--to", "fastai", "--out", file]);
        assert_eq!(told["files"].as_array().unwrap().len(), 2, "{told}");
        let words = folder.path().join("exported.vocab.pkl");
        json(&["import", "--weights", file, "--vocab", words.to_str().unwrap(), "--out", to]);
        assert!(bits(&original) == bits(&again), "{weights}");
    }
}

#[test]
fn every_target_writes_the_same_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let original = model(folder.path(), "fastai2_classifier.pth", "vocab_classifier.pkl");
    let from = original.to_str().unwrap();
    for (to, beside) in
        [("pytorch", "vocab.json"), ("fastai", "vocab.pkl"), ("safetensors", "vocab.json"), ("onnx", "vocab.json")]
    {
        let file = folder.path().join(format!("{to}.bin"));
        let path = file.to_str().unwrap();
        let line = ["export", "--model", from, "--to", to, "--out", path];
        let told = json(&line);
        let first = std::fs::read(&file).unwrap();
        assert_eq!(
            (&told["bytes"], told["files"][1].as_str().unwrap()),
            (&json!(first.len()), file.with_extension(beside).to_str().unwrap())
        );
        refused(&mut ulmfit(&line), 2, &["exists", "--overwrite"]);
        json(&words(&[&line, &["--overwrite"]]));
        assert!(first == std::fs::read(&file).unwrap(), "{to}");
    }
    let onnx = std::fs::read(folder.path().join("onnx.bin")).unwrap();
    let has = |text: &str| onnx.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("LSTM") && has("GatherND") && has("probabilities") && has("[\"class0\",\"class1\""));
}

#[test]
fn what_a_target_cannot_hold_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.txt");
    std::fs::write(&corpus, "the cat sat on the mat and the dog ran\n".repeat(80)).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (corpus, qrnn, out) = (path("corpus.txt"), path("qrnn"), path("out.onnx"));
    json(&[
        "pretrain",
        "--corpus",
        &corpus,
        "--out",
        &qrnn,
        "--recipe",
        "tiny",
        "--encoder",
        "qrnn",
        "--max-steps",
        "2",
    ]);
    refused(
        &mut ulmfit(&["export", "--model", &qrnn, "--to", "onnx", "--out", &out]),
        2,
        &["a QRNN cannot be exported to ONNX"],
    );
    refused(
        &mut ulmfit(&["export", "--model", &qrnn, "--to", "fastai", "--out", &out]),
        2,
        &["it is a QRNN", "--to pytorch can"],
    );
    refused(
        &mut ulmfit(&["export", "--model", &corpus, "--to", "onnx", "--out", &out]),
        1,
        &["is not a model directory"],
    );
    let folder_name = folder.path().to_str().unwrap();
    refused(
        &mut ulmfit(&["export", "--model", &qrnn, "--to", "pytorch", "--out", folder_name]),
        2,
        &["is a directory"],
    );
    assert!(!Path::new(&out).exists());
}
