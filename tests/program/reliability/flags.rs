//! No flag is accepted and does nothing: every flag of every command that trains has an effect on
//! what is written, or is refused.

use super::data;
use crate::support::{Data, SIZES, STAGE, json, refused, text, ulmfit, words};
use std::collections::BTreeMap;
use std::path::Path;

/// A flag and a value that is not the one that the small recipe has.
const OTHERS: &[(&str, &str)] = &[
    ("--recipe", "fastai2"),
    ("--direction", "backward"),
    ("--bidirectional", ""),
    ("--encoder", "qrnn"),
    ("--emb-size", "9"),
    ("--hidden-size", "13"),
    ("--layers", "3"),
    ("--vocab-size", "16"),
    ("--min-freq", "36"),
    ("--bptt", "7"),
    ("--batch-size", "3"),
    ("--epochs", "2"),
    ("--lr", "0.003"),
    ("--drop-mult", "0.7"),
    ("--weight-decay", "0.2"),
    ("--schedule", "constant"),
    ("--discriminative", "3"),
    ("--unfreezing", "last"),
    ("--max-steps", "2"),
    ("--seeds", "2"),
    ("--labels", "6"),
    ("--valid-fraction", "0.3"),
    ("--tokenizer", "whitespace"),
    ("--rules", "v1"),
    ("--language", "de"),
    ("--invisible", "drop"),
    ("--subword", "bpe"),
    ("--tokenizer-file", "none.json"),
    ("--task", "regression"),
    ("--class-weights", "no_such_file.csv"),
    ("--thresholds", "tuned"),
    ("--focal", "2"),
    ("--auxiliary-lm", "0.5"),
];

/// Only at work when something goes wrong: tested where that is made to happen.
const ELSEWHERE: [&str; 3] = ["--on-nan", "--set", "--out"];

/// The files that decide answers, of all models below a folder, by their places in it.
fn written(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = crate::support::snapshot(folder);
    let kept = all.into_iter().filter(|(path, _)| path.ends_with("model.safetensors") || path.ends_with("vocab.json"));
    kept.map(|(path, content)| (path.strip_prefix(folder).unwrap().to_str().unwrap().to_string(), content)).collect()
}

/// Tries all flags of a command. `line`: without `--out` and sizes; `sizes`: flags that are left
/// out where they are tried.
fn every_flag(data: &Data, name: &str, line: &[&str], prefixes: &[&str]) {
    let base = words(&[SIZES, STAGE, &["--epochs", "1"]]);
    let base: Vec<(&str, &str)> = base.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let with = |out: &str, flag: &str, value: &str, plain: &str| -> std::process::Output {
        let mut all: Vec<String> = line.iter().map(ToString::to_string).collect();
        let mut seen = std::collections::BTreeSet::new();
        for (name, of_base) in &base {
            if (name != &plain || flag != plain) && seen.insert(*name) && !line.contains(name) {
                all.extend([name.to_string(), of_base.to_string()]);
            }
        }
        if !flag.is_empty() {
            all.push(flag.into());
            all.extend((!value.is_empty()).then(|| value.to_string()));
        }
        all.extend(["--out".into(), out.into(), "--quiet".into()]);
        ulmfit(&all).output().unwrap()
    };
    let plain = data.path(&format!("{name}-plain"));
    let output = with(&plain, "", "", "");
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    let expected = written(Path::new(&plain));
    for (flag, value) in OTHERS {
        for prefix in prefixes {
            let given = flag.replacen("--", &format!("--{prefix}"), 1);
            let out = data.path(&format!("{name}-other"));
            let _ = std::fs::remove_dir_all(&out);
            let output = with(&out, &given, value, flag);
            match output.status.code() {
                Some(0) => assert!(
                    written(Path::new(&out)) != expected,
                    "{name} {given} {value}: accepted, and nothing is different"
                ),
                Some(1 | 2) => {
                    let told = text(&output.stderr);
                    assert!(told.lines().any(|line| line.starts_with("error: ")), "{told}");
                }
                status => panic!("{name} {given}: {status:?} {}", text(&output.stderr)),
            }
        }
    }
}

/// The list above has every recipe flag that the program shows.
#[test]
fn all_flags_are_tried() {
    let help = text(&ulmfit(&["pretrain", "--help"]).assert().success().get_output().stdout.clone());
    let recipe = help.split("Recipe:\n").nth(1).expect("a heading");
    // up to the next heading
    let section = recipe.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
    let shown: Vec<&str> =
        section.filter_map(|line| line.trim_start().split([' ', '=']).find(|word| word.starts_with("--"))).collect();
    assert!(shown.len() > 20, "{shown:?}");
    let tried = |flag: &str| OTHERS.iter().any(|(known, _)| *known == flag) || ELSEWHERE.contains(&flag);
    assert!(shown.iter().all(|flag| tried(flag)), "{shown:?}");
}

#[test]
fn flags_of_stages() {
    let (_place, data) = data();
    let (corpus, train, base) = (data.path("corpus.txt"), data.path("train.csv"), data.path("base"));
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &base], SIZES, STAGE]));
    every_flag(&data, "pretrain", &["pretrain", "--corpus", &corpus], &[""]);
    every_flag(&data, "finetune", &["finetune-lm", "--model", &base, "--text", &train], &[""]);
    every_flag(&data, "classifier", &["train-classifier", "--model", &base, "--train", &train], &[""]);
    every_flag(&data, "scratch", &["train-classifier", "--model", "none", "--train", &train], &[""]);
}

#[test]
fn flags_of_a_run() {
    let (_place, data) = data();
    let (corpus, train) = (data.path("corpus.txt"), data.path("train.csv"));
    let prefixes = ["", "pretrain-", "finetune-", "classifier-"];
    every_flag(&data, "run", &["run", "--corpus", &corpus, "--train", &train], &prefixes);
}

/// Keys of other stages, and what a model has decided.
#[test]
fn keys_of_others_are_refused() {
    let (_place, data) = data();
    let (corpus, train, base, out) =
        (data.path("corpus.txt"), data.path("train.csv"), data.path("base"), data.path("out"));
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &base], SIZES, STAGE]));
    let says = |line: &[&str], parts: &[&str]| {
        refused(&mut ulmfit(&words(&[line, &["--out", &out, "--quiet"]])), 2, parts);
    };
    let pretrain = ["pretrain", "--corpus", &corpus, "--recipe", "tiny"];
    let finetune = ["finetune-lm", "--model", &base, "--text", &train, "--recipe", "tiny"];
    let classifier = ["train-classifier", "--model", &base, "--train", &train, "--recipe", "tiny"];
    let run = ["run", "--train", &train, "--recipe", "tiny"];
    let set = |line: &[&str], key: &str| {
        says(&words(&[line, &["--set", key]]), &[&format!("--set {key}"), "does nothing here"]);
    };
    set(&pretrain, "classifier.max_len=700");
    set(&finetune, "pretrain.lr=0.1");
    says(&words(&[&finetune, &["--set", "text.rules=v1"]]), &["--set text.rules=v1", "has v2"]);
    says(&words(&[&classifier, &["--min-freq", "3"]]), &["--min-freq 3", "the model to start from has 1"]);
    says(&words(&[&classifier, &["--set", "text.tokenizer=whitespace"]]), &["text.tokenizer", "has word"]);
    says(&words(&[&finetune, &["--language", "de"]]), &["--language de", "has en"]);
    set(&run, "pretrain.lr=0.1");
    says(
        &words(&[&classifier, &["--set", "model.hidden=77"]]),
        &["--set model.hidden=77", "the model to start from has 12"],
    );
    let other_way = words(&[&finetune, &["--direction", "backward", "--out", &out, "--quiet"]]);
    refused(&mut ulmfit(&other_way), 1, &["reads forward, but a model that reads backward is needed"]);
    says(&words(&[&run, &["--pretrain-epochs", "3"]]), &["--pretrain-epochs does nothing here"]);
    says(&words(&[&run, &["--direction", "backward", "--bidirectional"]]), &["--direction does nothing here"]);
    for n in ["0", "10001", "4294967295", "18446744073709551615"] {
        says(&words(&[&run, &["--seeds", n]]), &["--seeds"]);
    }
}
