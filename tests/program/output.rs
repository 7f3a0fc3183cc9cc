//! The output for people: how much, and where.

use crate::support::{Data, text, ulmfit};

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
