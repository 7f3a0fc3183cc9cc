//! Runs at the edges of the method, through the binary: they train, or are refused before anything
//! is lost.

use std::path::Path;

use crate::support::{self, Data, SIZES, STAGE, json, refused, snapshot, ulmfit, words};

fn data() -> (tempfile::TempDir, Data) {
    let temporary = tempfile::tempdir().unwrap();
    let data = Data::new(temporary.path());
    (temporary, data)
}

/// Trains a classifier from scratch; the bytes of its model.
fn trained(data: &Data, name: &str, train: &str, more: &[&str]) -> Vec<u8> {
    let out = data.path(name);
    json(&words(&[&["train-classifier", "--model", "none", "--train", train, "--out", &out], SIZES, STAGE, more]));
    std::fs::read(Path::new(&out).join("model.safetensors")).unwrap()
}

#[test]
fn a_sampled_softmax_over_few_words_is_a_full_one() {
    let (_temporary, data) = data();
    let (corpus, sampled, full) = (data.path("corpus.txt"), data.path("sampled"), data.path("full"));
    let train = |out: &str, loss: &str| {
        let small = ["--emb-size", "8", "--hidden-size", "12", "--layers", "1", "--batch-size", "4", "--epochs", "1"];
        let line = ["pretrain", "--corpus", &corpus, "--out", out, "--min-freq", "1", "--set", loss];
        json(&words(&[&line, &small]));
        std::fs::read(Path::new(out).join("model.safetensors")).unwrap()
    };
    // the default recipe samples 15,000 negatives, more than this corpus has words
    assert_eq!(train(&sampled, "pretrain.loss=sampled"), train(&full, "pretrain.loss=full"));
}

#[test]
fn a_model_is_not_trained_into_its_own_directory() {
    let (_temporary, data) = data();
    let (corpus, model) = (data.path("corpus.txt"), data.path("lm"));
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &model], SIZES, STAGE]));
    let before = snapshot(Path::new(&model));
    let dotted = data.path("./lm");
    let tune = ["finetune-lm", "--model", &model, "--text", &corpus, "--out", &dotted, "--overwrite"];
    refused(&mut ulmfit(&words(&[&tune, SIZES, STAGE])), 2, &["is the model that training starts from"]);
    let train = data.path("train.csv");
    let classify = ["train-classifier", "--model", &model, "--train", &train, "--out", &model, "--overwrite"];
    refused(&mut ulmfit(&words(&[&classify, SIZES, STAGE])), 2, &["is the model that training starts from"]);
    assert_eq!(snapshot(Path::new(&model)), before);
}

#[test]
fn lengths_of_chunks_and_their_rates_are_switches() {
    let (_temporary, data) = data();
    let train = data.path("train.csv");
    let with = |name: &str, switches: &[&str]| trained(&data, name, &train, switches);
    let fixed = with("fixed", &["--set", "classifier.windows=fixed"]);
    let variable = ["--set", "classifier.windows=variable", "--set", "classifier.window_sd=3"];
    let drawn = with("variable", &variable);
    assert_ne!(fixed, drawn);
    assert_eq!(drawn, with("again", &variable));
    let rescaled = with("rescaled", &words(&[&variable, &["--set", "classifier.lr_rescale=on"]]));
    assert_ne!(drawn, rescaled);
    // a fixed length has nothing to rescale by
    let same = ["--set", "classifier.windows=fixed", "--set", "classifier.lr_rescale=on"];
    assert_eq!(fixed, with("same", &same));
}

#[test]
fn a_single_document_at_the_end_of_an_epoch() {
    let (_temporary, data) = data();
    // all for training: 32 documents, in batches of 31
    let train = data.path("train.csv");
    let rest = ["--set", "classifier.batch_size=31", "--valid-fraction", "0", "--set", "classifier.drop_last=off"];
    trained(&data, "rest", &train, &rest);
}

#[test]
fn a_cap_below_a_chunk_pools_the_last_chunk() {
    let (_temporary, data) = data();
    let train = data.path("train.csv");
    for masking in ["0.7", "v1", "v2"] {
        for strict in ["on", "off"] {
            let (masking_key, strict_key) =
                (format!("classifier.masking={masking}"), format!("classifier.max_len_strict={strict}"));
            let cap = [
                "--set",
                "classifier.bptt=3",
                "--set",
                "classifier.max_len=3",
                "--set",
                &masking_key,
                "--set",
                &strict_key,
            ];
            trained(&data, &format!("{masking}-{strict}"), &train, &cap);
        }
    }
    // a language model does not care for the cap of the classifier's recipe
    let (corpus, out) = (data.path("corpus.txt"), data.path("long"));
    let long = ["--bptt", "1000", "--batch-size", "1", "--epochs", "1", "--min-freq", "1"];
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &out], SIZES, &long]));
}

#[test]
fn a_diverged_run_leaves_no_model_and_the_corrected_command_runs() {
    let (_temporary, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = words(&[&["pretrain", "--corpus", &corpus, "--out", &out], SIZES, STAGE]);
    let hopeless =
        ["--lr", "1e30", "--on-nan", "skip", "--set", "pretrain.clip=none", "--set", "pretrain.optimiser=sgd"];
    let output = ulmfit(&words(&[&line, &hopeless])).output().unwrap();
    let message = support::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.lines().rev().take(2).any(|l| l.contains("training has diverged")), "{message}");
    assert!(!Path::new(&out).exists(), "{:?}", snapshot(Path::new(&out)).keys());
    json(&line);
}

#[test]
fn every_stage_of_a_run_has_its_report() {
    let (_temporary, data) = data();
    let (corpus, train, out) = (data.path("corpus.txt"), data.path("train.csv"), data.path("run"));
    json(&words(&[&["run", "--corpus", &corpus, "--train", &train, "--out", &out], SIZES, STAGE]));
    for directory in ["", "pretrain", "finetune-lm", "classifier"] {
        assert!(Path::new(&out).join(directory).join("report.html").exists(), "{directory}");
    }
}
