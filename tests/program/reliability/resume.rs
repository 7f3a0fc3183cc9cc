//! Going on: after a death at any call, with the files of others, beside another run.

use super::{Fault, calls, classifier_line, data, last_call, pretrain_line};
use crate::support::{Data, SIZES, STAGE, json, json_lines, refused, snapshot, text, ulmfit, words};
use serde_json::Value;
use std::path::Path;

/// Events of a kind in the metrics of a folder.
fn events(data: &Data, folder: &str, kind: &str) -> Vec<Value> {
    let all = json_lines(&text(&data.read(&format!("{folder}/metrics.jsonl"))));
    all.into_iter().filter(|event| event["event"] == kind).collect()
}

/// Without what times and paths a run had.
fn timeless(events: Vec<Value>) -> Vec<Value> {
    let strip = |mut event: Value| {
        let all = event.as_object_mut().unwrap();
        ["seconds", "peak_rss_mb", "pool_allocations", "pool_bytes", "path", "summary"].iter().for_each(|key| {
            all.remove(*key);
        });
        event
    };
    events.into_iter().map(strip).collect()
}

/// The files that must be the same however often a run was stopped.
const KINDS: [&str; 5] = ["step", "layers", "evaluated", "unfrozen", "finished"];

/// Killed at any call about its folder, a run goes on to the same bits, and its metrics have the
/// same lines.
#[test]
fn a_death_at_any_call() {
    let (_place, data) = data();
    let (corpus, whole) = (data.path("corpus.txt"), data.path("whole"));
    let more = ["--checkpoint-steps", "1", "--max-steps", "4"];
    let of = |out: &'static str| words(&[&pretrain_line(&corpus, Box::leak(out.into())), &more]);
    let whole_line = words(&[&pretrain_line(&corpus, &whole), &more]);
    let all = calls(&whole, &whole_line);
    assert!(all.len() > 100, "{}", all.len());
    // a slice: some of them, and those at the end
    let every = if super::in_full() { 1 } else { 9 };
    let turns = (1..=all.len()).filter(|n| n % every == 1 % every || n + 6 > all.len());
    for n in turns {
        let out: &'static str = Box::leak(data.path(&format!("out-{n}")).into_boxed_str());
        let line = of(out);
        let died = Fault { part: out, n, mode: "kill", log: None }.inject(&line);
        assert_eq!(died.status.code(), None, "{n} {}", all[n - 1]);
        json(&words(&[&line, &["--resume"]]));
        let name = format!("out-{n}");
        assert!(data.read(&format!("{name}/model.safetensors")) == data.read("whole/model.safetensors"), "{n}");
        for kind in KINDS {
            let (found, expected) = (events(&data, &name, kind), events(&data, "whole", kind));
            assert_eq!(timeless(found), timeless(expected), "{n} {}: {kind}", all[n - 1]);
        }
        let names = |folder: &str| {
            snapshot(Path::new(folder)).keys().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(out), names(&whole), "{n} {}", all[n - 1]);
        std::fs::remove_dir_all(out).unwrap();
    }
}

/// A call that fails ends the command with a sentence; afterwards the run goes on to the same bits.
/// Nothing finished is trained again.
#[test]
fn a_failure_of_any_call() {
    let (_place, data) = data();
    let (corpus, whole) = (data.path("corpus.txt"), data.path("whole"));
    let more = ["--checkpoint-steps", "2", "--max-steps", "3"];
    let whole_line = words(&[&pretrain_line(&corpus, &whole), &more]);
    let all = calls(&whole, &whole_line);
    let modes = ["EIO", "ENOSPC", "EACCES"];
    for (k, n) in (1..=all.len()).step_by(if super::in_full() { 1 } else { 13 }).enumerate() {
        let out: &'static str = Box::leak(data.path(&format!("out-{n}")).into_boxed_str());
        let line = words(&[&pretrain_line(&corpus, out), &more]);
        let output = Fault { part: out, n, mode: modes[k % 3], log: None }.inject(&words(&[&line, &["--quiet"]]));
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(1 | 2) => {
                assert!(said.starts_with("error: ") && said.lines().count() <= 2, "{n} {}: {said}", all[n - 1])
            }
            status => panic!("{n} {}: {status:?} {said}", all[n - 1]),
        }
        json(&words(&[&line, &["--resume"]]));
        assert!(data.read(&format!("out-{n}/model.safetensors")) == data.read("whole/model.safetensors"), "{n}");
    }
    // on a finished run: no failing call makes it begin again
    let before = snapshot(Path::new(&whole));
    let resumed = words(&[&whole_line, &["--resume"]]);
    let all = calls(&whole, &resumed);
    for n in 1..=all.len() {
        let output = Fault { part: &whole, n, mode: "EIO", log: None }.inject(&resumed);
        let said = text(&output.stderr);
        assert!(
            !said.contains("beginning") && matches!(output.status.code(), Some(0..=2)),
            "{n} {}: {said}",
            all[n - 1]
        );
        let after = snapshot(Path::new(&whole));
        for (path, content) in &before {
            assert!(after.get(path) == Some(content), "{n} {}: {}", all[n - 1], path.display());
        }
    }
}

/// A run that died at its very end is completed.
#[test]
fn the_end_of_a_stage() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = pretrain_line(&corpus, &out);
    let all = calls(&out, &line);
    let config = last_call(&all, "rename", "/config.json");
    std::fs::remove_dir_all(&out).unwrap();
    Fault { part: &out, n: config, mode: "killafter", log: None }.inject(&line);
    assert!(Path::new(&out).join("config.json").exists() && !Path::new(&out).join("report.html").exists());
    let resumed = words(&[&line, &["--resume"]]);
    json(&resumed);
    assert_eq!(events(&data, "out", "finished").len(), 1);
    let names: Vec<_> = snapshot(Path::new(&out)).into_keys().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["config.json", "metrics.jsonl", "model.safetensors", "report.html", "vocab.json"]);
    let before = snapshot(Path::new(&out));
    json(&resumed);
    assert!(snapshot(Path::new(&out)) == before, "made up for once");
    // a finished run whose files are gone or damaged is not finished: they are named
    for name in ["model.safetensors", "vocab.json"] {
        let kept = data.read(&format!("out/{name}"));
        std::fs::remove_file(Path::new(&out).join(name)).unwrap();
        refused(ulmfit(&resumed).arg("--quiet"), 1, &[name, "no such file"]);
        data.write(&format!("out/{name}"), &kept[..kept.len() - 1]);
        refused(ulmfit(&resumed).arg("--quiet"), 1, &[name]);
        data.write(&format!("out/{name}"), kept);
    }
    json(&resumed);
}

/// Damage in the middle of the metrics is told by its line; what follows stays.
#[test]
fn damaged_metrics() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = words(&[&pretrain_line(&corpus, &out), &["--checkpoint-steps", "1"]]);
    let all = calls(&out, &line);
    let whole = events(&data, "out", "step");
    std::fs::remove_dir_all(&out).unwrap();
    Fault { part: &out, n: last_call(&all, "rename", "/state.safetensors"), mode: "killafter", log: None }
        .inject(&line);
    let metrics = text(&data.read("out/metrics.jsonl"));
    let number = metrics.lines().position(|l| l.contains("\"event\":\"step\"")).unwrap() + 1;
    let lines: Vec<String> = metrics
        .lines()
        .enumerate()
        .map(|(k, l)| if k + 1 == number { l.replacen('{', "#", 1) } else { l.into() })
        .collect();
    data.write("out/metrics.jsonl", lines.join("\n") + "\n");
    let output = ulmfit(&words(&[&line, &["--resume"]])).assert().success().get_output().clone();
    let said = text(&output.stderr);
    assert!(said.contains(&format!("metrics.jsonl:{number}: is no event")), "{said}");
    let after = text(&data.read("out/metrics.jsonl"));
    let steps = after.lines().filter(|l| l.contains("\"event\":\"step\"")).count();
    assert_eq!(steps, whole.len(), "the damaged line and all others");
}

/// One run in a folder at a time; a lock of a process that is gone is none.
#[test]
fn two_runs_in_one_folder() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    std::fs::create_dir(&out).unwrap();
    let lock = std::fs::File::create(Path::new(&out).join(".lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(Path::new(&out).join(".lock"), "process 4711 on elsewhere\n").unwrap();
    let train = data.path("train.csv");
    let run = words(&[&["run", "--corpus", &corpus, "--train", &train, "--out", &out], SIZES, STAGE]);
    for line in [&pretrain_line(&corpus, &out), &classifier_line(&train, &out), &run] {
        for how in ["--resume", "--overwrite"] {
            let parts = ["out: is in use by another run, process 4711 on elsewhere", "hint: "];
            refused(ulmfit(&words(&[line, &[how, "--quiet"]])).env("X", "y"), 1, &parts);
        }
    }
    drop(lock);
    json(&words(&[&pretrain_line(&corpus, &out), &["--overwrite"]]));
    assert!(!Path::new(&out).join(".lock").exists());
}

/// Files that no run left are not touched by --resume.
#[test]
fn files_of_others() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    std::fs::create_dir(&out).unwrap();
    let line = words(&[&pretrain_line(&corpus, &out), &["--resume", "--quiet"]]);
    for name in ["model.safetensors", "vocab.json", "tokenizer.json", "report.html"] {
        let path = data.write(&format!("out/{name}"), "precious");
        refused(&mut ulmfit(&line), 2, &[&format!("holds {name}"), "hint: "]);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(path).unwrap();
    }
    json(&words(&[&pretrain_line(&corpus, &out), &["--resume"]]));
}

/// Where a rewind goes back to is decided by the run, not by its checkpoints.
#[test]
fn rewinds_do_not_depend_on_checkpoints() {
    let (_place, data) = data();
    let corpus = data.path("corpus.txt");
    let wild = [
        "--lr",
        "3e4",
        "--set",
        "pretrain.optimiser=sgd",
        "--set",
        "pretrain.clip=none",
        "--schedule",
        "constant",
        "--on-nan",
        "rewind",
        "--epochs",
        "3",
    ];
    let flags = ["--batch-size", "4", "--bptt", "10", "--min-freq", "1"];
    let mut found: Vec<(Option<i32>, Vec<Value>)> = Vec::new();
    for (k, often) in [&[][..], &["--checkpoint-steps", "1"], &["--checkpoint-steps", "4"]].into_iter().enumerate() {
        let out = data.path(&format!("out-{k}"));
        let line = words(&[&["pretrain", "--corpus", &corpus, "--out", &out], SIZES, &flags, &wild, often]);
        let output = ulmfit(&line).output().unwrap();
        assert!(text(&output.stderr).contains("back to update"), "{}", text(&output.stderr));
        let steps = timeless(events(&data, &format!("out-{k}"), "step"));
        let numbers: Vec<u64> = steps.iter().map(|s| s["step"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "no update is there twice: {numbers:?}");
        found.push((output.status.code(), steps));
    }
    assert!(found.iter().all(|one| *one == found[0]));
}

/// A finished run in a place that cannot be written: there is nothing to do.
#[test]
fn a_finished_run_in_a_read_only_place() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = pretrain_line(&corpus, &out);
    let result = json(&line);
    let mode = |mode| std::fs::set_permissions(&out, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    if std::fs::write(Path::new(&out).join("x"), "").is_ok() {
        // root may write everywhere
        mode(0o755);
        std::fs::remove_file(Path::new(&out).join("x")).unwrap();
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    assert_eq!(json(&words(&[&line, &["--resume"]])), result);
    mode(0o755);
}

/// Of many short epochs a twentieth has a checkpoint, the last among them; of few each has.
#[test]
fn epochs_with_a_checkpoint() {
    let (_place, data) = data();
    let corpus = data.path("corpus.txt");
    for (epochs, checkpoints) in [("3", 3), ("39", 39), ("41", 21), ("60", 20)] {
        let out = data.path(&format!("of-{epochs}"));
        let line = ["pretrain", "--corpus", &corpus, "--out", &out, "--quiet"];
        let stage = ["--batch-size", "8", "--bptt", "10", "--epochs", epochs, "--min-freq", "1"];
        assert!(ulmfit(&words(&[&line, SIZES, &stage])).output().unwrap().status.success());
        let events = json_lines(&text(&std::fs::read(Path::new(&out).join("metrics.jsonl")).unwrap()));
        let steps: Vec<u64> =
            events.iter().filter(|e| e["event"] == "checkpoint").filter_map(|e| e["step"].as_u64()).collect();
        assert_eq!(steps.len(), checkpoints, "{epochs} epochs: {steps:?}");
        let last = events.iter().filter_map(|e| e["step"].as_u64()).max();
        assert_eq!(steps.last().copied(), last, "{epochs} epochs");
    }
}
