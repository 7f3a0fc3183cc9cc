//! `--overwrite`: all of the old goes, nothing else, and not before the new is finished.

use super::{answers, classifier_line, data, pretrain_line};
use crate::support::{SIZES, STAGE, json, refused, snapshot, ulmfit, words};
use std::path::Path;

/// After `--overwrite` nobody answers with a part of the old result, whatever the two were.
#[test]
fn nothing_old_answers() {
    let (_place, data) = data();
    let (train, corpus, out) = (data.path("train.csv"), data.path("corpus.txt"), data.path("out"));
    let run = words(&[&["run", "--corpus", &corpus, "--train", &train, "--out", &out], SIZES, STAGE]);
    let single = classifier_line(&train, &out);
    let linear = ["linear", "--train", &train, "--out", &out];
    json(&single);
    let of_others = [data.write("out/notes.txt", "mine"), data.path("out/data/more.txt")];
    std::fs::create_dir(data.path("out/data")).unwrap();
    std::fs::write(&of_others[1], "mine").unwrap();
    let again = |line: &[&str], more: &[&str]| {
        let old = answers(&out);
        json(&words(&[line, &["--overwrite"], more]));
        assert!(of_others.iter().all(|path| std::fs::read(path).unwrap() == b"mine"), "files of others stay");
        old
    };
    // from one model to a run: what answers is the run's classifier
    let old = again(&run, &["--seed", "7"]);
    assert_ne!(answers(&out), old);
    assert_eq!(answers(&out), answers(&data.path("out/classifier")));
    let names = |folder: &str| {
        let mut all: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    };
    let of_run = ["classifier", "data", "finetune-lm", "notes.txt", "pretrain", "report.html", "result.json"];
    assert_eq!(names(&out), of_run);
    // from a run to one of two seeds: no model lies at the top
    again(&run, &["--seeds", "2"]);
    assert_eq!(names(&out), ["data", "notes.txt", "result.json", "seed-42", "seed-43"]);
    refused(&mut ulmfit(&["predict", "--model", &out, "--quiet", "film"]), 1, &["config.json", "no such file"]);
    // and to a linear model
    json(&words(&[&linear, &["--overwrite"]]));
    assert_eq!(names(&out), ["data", "linear.safetensors", "notes.txt"]);
    again(&single, &[]);
    assert_eq!(
        names(&out),
        ["config.json", "data", "metrics.jsonl", "model.safetensors", "notes.txt", "report.html", "vocab.json"]
    );
}

/// A command that cannot be carried out leaves the old result whole; so does one that fails in the
/// middle.
#[test]
fn the_old_one_stays_until_the_new_one_is_finished() {
    let (_place, data) = data();
    let (train, corpus, out) = (data.path("train.csv"), data.path("corpus.txt"), data.path("out"));
    let broken = data.write("broken.txt", [data.read("corpus.txt"), b"\xff\xfe\n".to_vec()].concat());
    let run = |corpus: &str, more: &[&str]| -> Vec<String> {
        let line = ["run", "--corpus", corpus, "--train", &train, "--out", &out];
        words(&[&line, SIZES, STAGE, more]).into_iter().map(String::from).collect()
    };
    let as_words = |line: &[String]| -> Vec<&'static str> {
        line.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect()
    };
    json(&as_words(&run(&corpus, &[])));
    let before = snapshot(Path::new(&out));
    let hopeless = ["--lr", "1e30", "--set", "classifier.clip=none", "--set", "classifier.optimiser=sgd"];
    for (corpus, more) in [(&broken, &[][..]), (&corpus, &hopeless)] {
        let line = run(corpus, &words(&[&["--overwrite"], more]));
        let output = ulmfit(&as_words(&line)).arg("--quiet").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", crate::support::text(&output.stderr));
        for (path, content) in &before {
            assert!(path.is_dir() || std::fs::read(path).unwrap() == *content, "{}", path.display());
        }
    }
}

/// A run that replaces another and is stopped goes on with `--resume`; until it ends the old model
/// answers.
#[test]
fn a_stopped_replacement_goes_on() {
    let (_place, data) = data();
    let (corpus, train) = (data.path("corpus.txt"), data.path("train.csv"));
    let (out, whole) = (data.path("out"), data.path("whole"));
    json(&classifier_line(&train, &out));
    let old = answers(&out);
    json(&pretrain_line(&corpus, &whole));
    let more = ["--checkpoint-steps", "1"];
    let line = words(&[&pretrain_line(&corpus, &out), &more]);
    let replacing = words(&[&line, &["--overwrite"]]);
    // on a copy: how many checkpoints there are, and where the middle one is put in place
    let rehearsal = data.path("rehearsal");
    crate::support::copy_folder(Path::new(&out), Path::new(&rehearsal));
    let on_copy: Vec<&str> =
        replacing.iter().map(|word| if *word == out { rehearsal.as_str() } else { *word }).collect();
    let calls = super::calls(&rehearsal, &on_copy);
    let puts: Vec<usize> = (0..calls.len())
        .filter(|&n| calls[n].starts_with("rename") && calls[n].ends_with("/state.safetensors"))
        .collect();
    let middle = 1 + puts[puts.len() / 2];
    super::Fault { part: &out, n: middle, mode: "killafter", log: None }.inject(&replacing);
    assert_eq!(answers(&out), old, "the old one is whole");
    json(&words(&[&line, &["--resume"]]));
    assert!(data.read("out/model.safetensors") == data.read("whole/model.safetensors"));
    // killed at every rename of the change-over: the same command ends it
    let first = 1 + calls.iter().position(|call| call.starts_with("rename") && call.ends_with("/.finished")).unwrap();
    let moves =
        (first..=calls.len()).filter(|n| calls[n - 1].starts_with("rename") || calls[n - 1].starts_with("unlink"));
    for (k, n) in moves.enumerate().filter(|(k, _)| k % 2 == 0) {
        let out = data.path(&format!("out-{k}"));
        std::fs::create_dir(&out).unwrap();
        json(&words(&[&classifier_line(&train, &out), &["--overwrite"]]));
        let line = words(&[&pretrain_line(&corpus, &out), &more]);
        super::Fault { part: &out, n, mode: "kill", log: None }.inject(&words(&[&line, &["--overwrite"]]));
        json(&words(&[&line, &["--resume"]]));
        let model = std::fs::read(Path::new(&out).join("model.safetensors")).unwrap();
        assert!(model == data.read("whole/model.safetensors"), "{n}: {}", calls[n - 1]);
        let mut names: Vec<String> =
            std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "metrics.jsonl", "model.safetensors", "report.html", "vocab.json"], "{n}");
    }
}
