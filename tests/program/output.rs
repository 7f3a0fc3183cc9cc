//! The output for people: how much, and where.

use crate::support::{Data, json, refused, text, ulmfit};

/// A run as it is by default, its output piped: 25 lines at most, all stages and folds together.
#[test]
fn a_default_run_prints_few_lines() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let line = ["run", "--train", "train.csv", "--test", "test.csv", "--base", "tiny", "--max-steps", "2"];
    let run = |more: &[&str]| {
        let mut command = ulmfit(&[&line, more].concat());
        let output = command.current_dir(data.path("")).assert().success().get_output().clone();
        (text(&output.stderr), text(&output.stdout))
    };
    let (progress, result) = run(&[]);
    let all = format!("{progress}{result}");
    assert!(all.lines().count() <= 25, "{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 180), "{all}");
    // each once: device and seed, a line a file, the stages, every fold
    let once = ["device: cpu, seed 42", "train: train.csv: ", "test: test.csv: ", "fine-tuning: ", "classifier: "];
    let folds = ["  fold 1 of 4  epoch ", "  fold 2 of 4  epoch ", "  fold 3 of 4  epoch ", "  fold 4 of 4  epoch "];
    for begin in once.iter().chain(&folds) {
        assert_eq!(progress.lines().filter(|line| line.starts_with(begin)).count(), 1, "{begin}: {progress}");
    }
    assert!(progress.contains("  changed: ") && progress.contains("max_steps=2"), "{progress}");
    assert!(!progress.contains("model.hidden"), "no flag asked for that: {progress}");
    let parts = ["test error: ", "95 % interval", "linear model ", "time ", "MiB", "report: train-model/report.html"];
    for part in parts.into_iter().chain(["next: ulmfit predict --model train-model"]) {
        assert!(result.contains(part), "{part}: {result}");
    }
    let (verbose, _) = run(&["--overwrite", "--verbose"]);
    assert!(verbose.contains("model.hidden") && verbose.contains("vocabulary: "), "{verbose}");
    assert_eq!(run(&["--overwrite", "--quiet"]).0, "");
}

/// A key by its name alone is explained for every stage that has it.
#[test]
fn a_recipe_explains_itself() {
    let said = |line: &[&str]| text(&ulmfit(line).assert().success().get_output().stdout.clone());
    let table = said(&["recipe", "paper", "--stage", "classifier"]);
    assert!(table.contains("classifier.max_len") && !table.contains("pretrain."), "{table}");
    let explained = said(&["recipe", "default", "--explain", "lr"]);
    for part in ["pretrain.lr = ", "classifier.lr = ", "--classifier-lr", "elsewhere  paper "] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let one = json(&["recipe", "default", "--explain", "classifier.folds"]);
    assert_eq!((one["rows"].as_array().unwrap().len(), &one["rows"][0]["value"]), (1, &4.into()));
    let unknown = ["recipe", "tiny", "--explain", "learning"];
    refused(&mut ulmfit(&unknown), 2, &["--explain learning: no such key"]);
}

#[test]
fn shells_and_man_know_all_commands() {
    let said = |line: &[&str]| text(&ulmfit(line).assert().success().get_output().stdout.clone());
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        assert!(script.contains("train-classifier") && script.contains("min-confidence"), "{shell}");
    }
    assert!(said(&["man"]).starts_with(".ie") && said(&["man", "run"]).contains("ulmfit\\-run"));
    refused(&mut ulmfit(&["man", "fly"]), 2, &["man fly: no such command"]);
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("man1");
    let pages = json(&["man", "--out", folder.to_str().unwrap()])["pages"].as_u64().unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count() as u64, pages);
    assert!(folder.join("ulmfit-evaluate.1").is_file());
}

#[test]
fn the_doctor_finds_the_machine() {
    let found = json(&["doctor"]);
    let names: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    for name in ["processor", "instructions used", "caches", "memory", "huge pages", "CUDA driver", "English model"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(found["peaks"]["f32"]["one_thread"].as_f64().unwrap() > 0.0, "{found}");
    assert!(found["error"].as_f64().unwrap() < 1e-4, "{found}");
}
