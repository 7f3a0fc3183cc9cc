//! `ulmfit export`: files for other programs. What those compute is asked by tools/peer/export.py.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{classifier, copy_folder, json, refused, root, text, ulmfit, words};

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

    // a QRNN is a Scan operator a layer in ONNX, and comes back from safetensors with the same bits
    json(&["export", "--model", &qrnn, "--to", "onnx", "--out", &out]);
    assert_eq!(operators(Path::new(&out), "Scan"), 2);
    let (plain, list, again) = (path("out.safetensors"), path("out.vocab.json"), path("again"));
    json(&["export", "--model", &qrnn, "--to", "safetensors", "--out", &plain]);
    json(&["import", "--weights", &plain, "--vocab", &list, "--out", &again]);
    let bits = |folder: &str| std::fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    assert!(bits(&again) == bits(&qrnn));
}

/// How many nodes of a kind an ONNX file has.
fn operators(file: &Path, kind: &str) -> usize {
    let node = [&[0x22, kind.len() as u8], kind.as_bytes()].concat();
    std::fs::read(file).unwrap().windows(node.len()).filter(|window| *window == node).count()
}

/// A folder of two networks, and a rule that names a linear model beside them.
fn run_folder(second: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("classifier");
    copy_folder(classifier(), &first);
    copy_folder(second, &folder.path().join("classifier-fold-2"));
    let rule = json!({
        "format": 1, "networks": ["classifier-fold-2"], "temperature": 1.25,
        "blend": { "temperatures": [1.0, 1.0], "weight": 0.5 },
        "measured": {
            "documents": 9, "network_error": null, "linear_error": null, "error": null, "loss": null,
            "calibration_error": null, "reliability": [],
        },
    });
    std::fs::write(first.join("answer.json"), rule.to_string()).unwrap();
    folder
}

#[test]
fn all_networks_of_a_folder_are_exported_or_it_is_said_which_are_not() {
    let folder = run_folder(classifier());
    let (from, path) = (folder.path().to_str().unwrap(), |name: &str| folder.path().join(name));
    let onnx = path("out.onnx");
    let line = ["export", "--model", from, "--to", "onnx", "--out", onnx.to_str().unwrap()];
    let told = json(&line);
    let linear = "the linear model, which answers beside the networks in 'predict'";
    assert_eq!((&told["networks"], &told["left_out"]), (&json!([1, 2]), &json!([linear])));
    let bytes = std::fs::read(&onnx).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    // two layers each
    assert!(operators(&onnx, "LSTM") == 4 && operators(&onnx, "Mean") == 1 && has("temperature\x12\x041.25"));
    let said = ulmfit(&words(&[&line, &["--network", "2", "--overwrite"]])).assert().success();
    let said = text(&said.get_output().stdout);
    assert!(said.contains(&format!("left out: {linear}\nleft out: 1 of the 2 networks")), "{said}");
    assert_eq!((operators(&onnx, "LSTM"), operators(&onnx, "Mean")), (2, 0));

    let out = path("out.pt");
    let line = ["export", "--model", from, "--to", "pytorch", "--out", out.to_str().unwrap()];
    refused(&mut ulmfit(&line), 2, &["has 2 networks, and --to pytorch holds one", "--network all"]);
    let told = json(&words(&[&line, &["--network", "all"]]));
    let files: Vec<&str> = told["files"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let expected = ["out-1.pt", "out-1.vocab.json", "out-2.pt", "out-2.vocab.json"].map(path);
    assert_eq!(files, expected.each_ref().map(|path| path.to_str().unwrap()));
    assert!(expected.iter().all(|path| path.exists()) && !out.exists());
    refused(&mut ulmfit(&words(&[&line, &["--network", "all"]])), 2, &["out-1.pt exists"]);
    json(&words(&[&line, &["--network", "2"]]));
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(bytes(&out) == bytes(&path("out-2.pt")));
    refused(&mut ulmfit(&words(&[&line, &["--network", "3"]])), 2, &["--network 3:", "has 2 networks"]);
    refused(&mut ulmfit(&words(&[&line, &["--network", "0"]])), 2, &["--network", "'all'"]);

    // a network of other words
    let other = tempfile::tempdir().unwrap();
    let other = run_folder(&model(other.path(), "fastai2_classifier.pth", "vocab_classifier.pkl"));
    let line = ["export", "--model", other.path().to_str().unwrap(), "--to", "onnx", "--overwrite", "--out"];
    let line = words(&[&line, &[onnx.to_str().unwrap()]]);
    refused(&mut ulmfit(&line), 2, &["the networks have other words or classes", "--network N"]);
}
