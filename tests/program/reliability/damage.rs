//! Damaged and hostile files: noticed, named, never answered from.

use super::{classifier_line, data};
use crate::support::{STAGE, classifier, copy_folder, json, refused, text, ulmfit, words};
use serde_json::Value;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A model of its own and the command that asks it.
fn with_model(test: impl Fn(&Path, &mut dyn FnMut() -> std::process::Output)) {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    copy_folder(classifier(), &model);
    let path = model.to_str().unwrap().to_string();
    test(&model, &mut || ulmfit(&["predict", "--model", &path, "--quiet", "a good film"]).output().unwrap());
}

/// Every bit of what decides an answer: flipped here and there, it is noticed or changes nothing.
#[test]
fn flipped_bits_are_noticed() {
    with_model(|model, ask| {
        let right = ask();
        let mut numbers = crate::support::Numbers(11);
        let (mut noticed, mut harmless) = (0, 0);
        let flips = if super::in_full() { 400 } else { 40 };
        for (name, flips) in [("model.safetensors", flips), ("config.json", flips), ("vocab.json", flips)] {
            let path = model.join(name);
            let whole = std::fs::read(&path).unwrap();
            for _ in 0..flips {
                let mut bytes = whole.clone();
                let (at, bit) = (numbers.below(bytes.len()), numbers.below(8));
                bytes[at] ^= 1 << bit;
                std::fs::write(&path, &bytes).unwrap();
                let found = ask();
                let said = text(&found.stderr);
                match found.status.code() {
                    Some(0) => harmless += usize::from(found.stdout == right.stdout),
                    Some(1 | 2) => noticed += usize::from(said.starts_with("error: ") && said.lines().count() <= 2),
                    status => panic!("{name} byte {at} bit {bit}: {status:?} {said}"),
                }
            }
            std::fs::write(&path, whole).unwrap();
        }
        assert_eq!(noticed + harmless, 3 * flips);
        assert!(10 * harmless <= 3 * flips, "{harmless} flips were not seen: white space and the like");
    });
}

/// So are those of a checkpoint; the one before it is used, and that is said.
#[test]
fn a_damaged_checkpoint() {
    let (_place, data) = data();
    let (train, whole, out) = (data.path("train.csv"), data.path("whole"), data.path("out"));
    json(&classifier_line(&train, &whole));
    let line = words(&[&classifier_line(&train, &out), &["--checkpoint-steps", "1"]]);
    let calls = super::calls(&out, &line);
    let last = super::last_call(&calls, "rename", "/state.safetensors");
    std::fs::remove_dir_all(&out).unwrap();
    super::Fault { part: &out, n: last, mode: "killafter", log: None }.inject(&line);
    let (state, previous) = (data.path("out/state.safetensors"), data.path("out/state.previous.safetensors"));
    let good = std::fs::read(&state).unwrap();
    let resumed = words(&[&line, &["--resume"]]);
    let keep = data.path("kept");
    std::fs::create_dir(&keep).unwrap();
    copy_folder(Path::new(&out), Path::new(&keep));
    let mut numbers = crate::support::Numbers(5);
    for turn in 0..6 {
        let _ = std::fs::remove_dir_all(&out);
        copy_folder(Path::new(&keep), Path::new(&out));
        let mut bytes = good.clone();
        match turn {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.clear(),
            // in the tensors, in the numbers
            2 => *bytes.last_mut().unwrap() ^= 64,
            _ => {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
        }
        std::fs::write(&state, &bytes).unwrap();
        let output = ulmfit(&resumed).assert().success().get_output().clone();
        let said = text(&output.stderr);
        assert!(
            said.contains("warning: ") && said.contains("going on from the checkpoint before it"),
            "{turn}: {said}"
        );
        assert!(data.read("out/model.safetensors") == data.read("whole/model.safetensors"), "the same bits");
    }
    // both
    std::fs::remove_dir_all(&out).unwrap();
    copy_folder(Path::new(&keep), Path::new(&out));
    std::fs::write(&state, b"x").unwrap();
    std::fs::write(&previous, b"y").unwrap();
    let parts = ["out/state.safetensors", "state.previous.safetensors", "hint: start again with --overwrite"];
    refused(ulmfit(&resumed).arg("--quiet"), 1, &parts);
}

/// Numbers that no answer can come from: the tensor is named.
#[test]
fn numbers_that_overflow() {
    let edit = |model: &Path, name: &str, value: f32| {
        let config = model.join("config.json");
        let mut all: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        // as a model of an earlier version: without checksums
        ["sha256", "tensors"].iter().for_each(|key| drop(all.as_object_mut().unwrap().shift_remove(*key)));
        std::fs::write(&config, all.to_string()).unwrap();
        let path = model.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let place = |k: usize| 8 + length + header[name]["data_offsets"][k].as_u64().unwrap() as usize;
        bytes[place(0)..place(1)].chunks_exact_mut(4).for_each(|v| v.copy_from_slice(&value.to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();
    };
    let names: Vec<String> = {
        let bytes = std::fs::read(classifier().join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        header.as_object().unwrap().keys().filter(|key| *key != "__metadata__").cloned().collect()
    };
    let variance = names.iter().find(|name| name.ends_with("running_var")).expect("a batch norm");
    for (name, value) in
        [(variance, -1.0), (variance, -1e-7), (&names[0], 1e38), (&names[1], f32::NAN), (variance, 1e38)]
    {
        with_model(|model, ask| {
            edit(model, name, value);
            let found = ask();
            let said = text(&found.stderr);
            assert_eq!(found.status.code(), Some(1), "{name} {value}: {said}");
            assert!(
                said.contains(&format!("tensor '{name}' holds")) && found.stdout.is_empty(),
                "{name} {value}: {said}"
            );
        });
    }
    // no single number is too large, the answers are none
    with_model(|model, ask| {
        names.iter().for_each(|name| {
            if !name.ends_with("running_var") {
                edit(model, name, 1e11)
            }
        });
        let found = ask();
        let said = text(&found.stderr);
        let fine = found.status.code() == Some(0) && !text(&found.stdout).contains("null");
        assert!(fine || found.status.code() == Some(1) && said.contains("are not numbers"), "{said}");
    });
}

/// Pipes, devices and sockets in the place of a model's files are refused at once; nobody waits for
/// them.
#[test]
fn files_that_are_none() {
    let pipe = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    for name in ["model.safetensors", "config.json", "vocab.json", "answer.json"] {
        with_model(|model, ask| {
            let path = model.join(name);
            let _ = std::fs::remove_file(&path);
            pipe(&path);
            let found = ask();
            let said = text(&found.stderr);
            assert!(found.status.code() == Some(1) && said.contains(name), "{said}");
            assert!(said.contains("is not a regular file"), "{said}");
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
            assert!(text(&ask().stderr).contains("is not a regular file"));
            std::fs::remove_file(&path).unwrap();
            let _listener = UnixListener::bind(&path).unwrap();
            assert!(text(&ask().stderr).contains("is not a regular file"));
        });
    }
    let (_place, data) = data();
    let (train, table) = (data.path("train.csv"), data.path("table.toml"));
    pipe(Path::new(&table));
    let tokens = data.path("x.tok");
    let (read, made) = (["--input", &train], ["--out", &tokens, "--min-freq", "1"]);
    let language = words(&[&["tokenize"], &read, &made, &["--language", &table]]);
    let vocabulary = ["vocab", &table];
    let weights = words(&[&classifier_line(&train, &tokens), &["--class-weights", &table]]);
    for line in [&language[..], &vocabulary, &weights, &["bench", "--compare", &table]] {
        refused(ulmfit(line).arg("--quiet"), 1, &["table.toml: is not a regular file"]);
    }
    let endless = ulmfit(&["info", "--config", "/dev/zero"]).assert().code(1).get_output().stderr.clone();
    assert!(text(&endless).contains("/dev/zero: is larger than 1 MiB"), "{}", text(&endless));
}

/// A text's answer is that of the text alone, whatever the recipe.
#[test]
fn answers_know_no_neighbours() {
    let (_place, data) = data();
    let train = data.path("train.csv");
    let texts = [
        "film",
        "a good film",
        "bad",
        "the story was awful and sad and the film was poor and sad",
        "x y z",
        "good good",
    ];
    for recipe in ["paper", "scripts", "fastai1", "fastai2", "awd", "awd-qrnn", "multifit", "tiny"] {
        let out = data.path(recipe);
        let sizes = ["--recipe", recipe, "--emb-size", "8", "--hidden-size", "12", "--layers", "2"];
        let more = ["--tokenizer", "word", "--vocab-size", "60", "--set", "classifier.epochs=2", "--test", &train];
        let trained = ["train-classifier", "--model", "none", "--train", &train, "--out", &out];
        let result = json(&words(&[&trained, &sizes, STAGE, &more]));
        let together = {
            let line = words(&[&["predict", "--model", &out, "--quiet"], &texts]);
            text(&ulmfit(&line).assert().success().get_output().stdout.clone())
        };
        for (one, among) in texts.iter().zip(together.lines()) {
            let line = ["predict", "--model", &out, "--quiet", one];
            let alone = text(&ulmfit(&line).assert().success().get_output().stdout.clone());
            assert_eq!(alone.trim_end(), among, "{recipe}: {one}");
        }
        // training and evaluate agree on the test set
        let measured = json(&["evaluate", "--model", &out, "--data", &train]);
        assert_eq!(result["test_error"], measured["error"], "{recipe}");
        let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
        assert!(
            close(&result["test_loss"], &measured["loss"]),
            "{recipe}: {} {}",
            result["test_loss"],
            measured["loss"]
        );
    }
}
