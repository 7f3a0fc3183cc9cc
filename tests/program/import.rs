//! `ulmfit import`: models of other programs, used and refused.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{json, refused, root, snapshot, ulmfit};

fn file(name: &str) -> String {
    root().join("tests/import").join(name).display().to_string()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    (folder, out)
}

fn line<'a>(weights: &'a str, vocab: &'a str, out: &'a Path) -> Vec<&'a str> {
    vec!["import", "--weights", weights, "--vocab", vocab, "--out", out.to_str().unwrap()]
}

#[test]
fn a_language_model_is_imported_and_tuned() {
    let (folder, out) = place();
    let (weights, vocab) = (file("fastai2_lm.pth"), file("vocab_list.pkl"));
    let told = json(&line(&weights, &vocab, &out));
    assert_eq!(told, json!({ "kind": "fastai", "tensors": 14, "vocabulary": 61, "assumed": [] }));
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "w1 w2 w3 w4 w5 w6\n".repeat(60)).unwrap();
    let lm = folder.path().join("lm");
    let [model, text, lm] = [&out, &text, &lm].map(|p| p.to_str().unwrap());
    let tuned = json(&[
        "finetune-lm",
        "--model",
        model,
        "--text",
        text,
        "--out",
        lm,
        "--recipe",
        "fastai2",
        "--max-steps",
        "3",
        "--batch-size",
        "2",
        "--bptt",
        "8",
    ]);
    assert!(tuned["steps"].as_u64().is_some_and(|steps| steps > 0), "{tuned}");
}

#[test]
fn a_classifier_answers_as_there() {
    let (_folder, out) = place();
    let (weights, vocab) = (file("fastai2_classifier.pth"), file("vocab_classifier.pkl"));
    let mut import = line(&weights, &vocab, &out);
    import.extend(["--bptt", "6", "--max-len", "120"]);
    let told = json(&import);
    assert_eq!((&told["kind"], &told["assumed"]), (&json!("fastai"), &json!([])));
    let model = out.to_str().unwrap();
    let answer = json(&["predict", "--model", model, "w1 w2 w3 w4"]);
    let probabilities = answer["probabilities"].as_object().unwrap();
    assert_eq!(probabilities.keys().collect::<Vec<_>>(), ["class0", "class1", "class2", "class3"]);
    let sum: f64 = probabilities.values().filter_map(serde_json::Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{answer}");
}

#[test]
fn the_scripts_vocabulary_tells_its_rules() {
    let (_folder, out) = place();
    let told = json(&line(&file("scripts07_lm.h5"), &file("itos_scripts07.pkl"), &out));
    assert_eq!((&told["kind"], &told["vocabulary"]), (&json!("scripts"), &json!(61)));
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("vocab.json")).unwrap()).unwrap();
    assert_eq!(config["tokenizer"]["rules"], "0.7", "{}", config["tokenizer"]);
}

/// awd-lstm-lm saves its module with all classes, beside loss and optimiser.
#[test]
fn a_pickled_module_gives_its_tensors_and_runs_nothing() {
    let (_folder, expected) = place();
    let vocab = file("vocab_list.pkl");
    json(&line(&file("awd_lstm_lm_state.pt"), &vocab, &expected));
    for name in ["awd_lstm_lm_module.pt", "awd_lstm_lm_module_legacy.pt"] {
        let (_folder, out) = place();
        assert_eq!(json(&line(&file(name), &vocab, &out))["kind"], "awd");
        let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        assert!(bytes(&out) == bytes(&expected), "{name}: other values");
    }
}

#[test]
fn hostile_files_are_refused_and_nothing_of_them_is_run() {
    let cases = [
        ("hostile_reduce.pth", "vocab_list.pkl", "a call of posix.system"),
        ("hostile_truncated.pth", "vocab_list.pkl", "not a whole archive"),
        ("hostile_not_a_pickle.pth", "vocab_list.pkl", "ends before its end"),
        ("hostile_shape.pth", "vocab_list.pkl", "'0.rnns.1.module.weight_ih_l0'"),
        ("hostile_nan.pth", "vocab_list.pkl", "'0.encoder.weight' with a value that is not finite"),
        ("fastai2_lm.pth", "hostile_vocab.pkl", "a call of posix.system"),
        ("fastai2_lm.pth", "vocab_classifier.pkl", ""),
    ];
    for (weights, vocab, expected) in cases {
        let (folder, out) = place();
        let (weights, vocab) = (file(weights), file(vocab));
        let mut command = ulmfit(&line(&weights, &vocab, &out));
        command.current_dir(folder.path());
        if expected.is_empty() {
            // words and classes: a classifier's file with a language model's weights is a fair use
            command.assert().success();
            continue;
        }
        refused(&mut command, 1, &[expected]);
        assert!(snapshot(folder.path()).is_empty(), "{weights}: something was written");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let (folder, out) = place();
    let lm = file("fastai2_lm.pth");
    let short = folder.path().join("short.json");
    std::fs::write(&short, r#"["xxunk","xxpad","a"]"#).unwrap();
    refused(&mut ulmfit(&line(&lm, short.to_str().unwrap(), &out)), 1, &["has 3 words, but the embedding has 61 rows"]);
    let plain = folder.path().join("plain.txt");
    let words: Vec<String> = (0..61).map(|i| format!("word{i}")).collect();
    std::fs::write(&plain, words.join("\n")).unwrap();
    let plain = plain.to_str().unwrap();
    refused(&mut ulmfit(&line(&lm, plain, &out)), 2, &["cannot tell which rules", "--rules"]);
    let mut with_rules = line(&lm, plain, &out);
    with_rules.extend(["--rules", "v2"]);
    refused(&mut ulmfit(&with_rules), 1, &["begins with 'word0' and 'word1'"]);
    let vocab = file("vocab_list.pkl");
    let mut as_awd = line(&lm, &vocab, &out);
    as_awd.extend(["--kind", "awd"]);
    refused(&mut ulmfit(&as_awd), 1, &["not of that kind", "'fastai'"]);
    let mut chunks = line(&lm, &vocab, &out);
    chunks.extend(["--bptt", "6"]);
    refused(&mut ulmfit(&chunks), 2, &["--bptt", "of classifiers"]);
    let missing = file("no_such_file.pth");
    refused(&mut ulmfit(&line(&missing, &vocab, &out)), 1, &["no_such_file.pth", "no such file"]);
    refused(&mut ulmfit(&line("/dev/zero", &vocab, &out)), 1, &["is not a regular file"]);
    let empty = folder.path().join("empty.pth");
    std::fs::write(&empty, "").unwrap();
    refused(&mut ulmfit(&line(empty.to_str().unwrap(), &vocab, &out)), 1, &["empty.pth: is empty"]);
    assert!(!out.exists());
}
