//! How a run ends that does not end by itself: signals, full disks, limits of the system; and what
//! stays behind.

use super::{Fault, calls, classifier_line, data, pretrain_line};
use crate::support::{Data, json, refused, text, ulmfit, words};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// A run of its own, and the number of the call that puts the middle one of its checkpoints in
/// place.
fn middle(data: &Data) -> (String, usize) {
    let (corpus, whole) = (data.path("corpus.txt"), data.path("whole"));
    let all = calls(&whole, &words(&[&pretrain_line(&corpus, &whole), &["--checkpoint-steps", "1"]]));
    let is_put = |call: &String| call.starts_with("rename") && call.ends_with("/state.safetensors");
    let puts: Vec<usize> = (0..all.len()).filter(|&n| is_put(&all[n])).collect();
    (whole, 1 + puts[puts.len() / 2])
}

/// A terminal that closes saves the state as an interrupt does, and the run goes on to the same
/// bits.
#[test]
fn signals_save_the_state() {
    let (_place, data) = data();
    let (_, at) = middle(&data);
    let corpus = data.path("corpus.txt");
    for (signal, status) in [("SIGHUP", 129), ("SIGINT", 130), ("SIGTERM", 143)] {
        let out = data.path(signal);
        let line = words(&[&pretrain_line(&corpus, &out), &["--checkpoint-steps", "1"]]);
        let ended = Fault { part: &out, n: at, mode: signal, log: None }.inject(&line);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(status), "{signal}: {said}");
        assert!(said.contains("is saved; go on with --resume"), "{signal}: {said}");
        assert!(!Path::new(&out).join("model.safetensors").exists());
        json(&words(&[&line, &["--resume"]]));
        let model = data.read(&format!("{signal}/model.safetensors"));
        assert!(model == data.read("whole/model.safetensors"), "{signal}: the same bits");
    }
}

/// A full disk ends a run in words, or is waited for; either way the run comes to the same bits.
#[test]
fn a_full_disk() {
    let (_place, data) = data();
    let (corpus, whole) = (data.path("corpus.txt"), data.path("whole"));
    let more = ["--checkpoint-steps", "4"];
    let all = calls(&whole, &words(&[&pretrain_line(&corpus, &whole), &more]));
    let writes: Vec<usize> =
        (1..=all.len()).filter(|n| ["write", "rename"].iter().any(|op| all[n - 1].starts_with(op))).collect();
    assert!(writes.len() > 20, "{}", writes.len());
    for (k, &n) in writes.iter().enumerate().step_by(if super::in_full() { 1 } else { 11 }) {
        let out = data.path(&format!("out-{k}"));
        let line = words(&[&pretrain_line(&corpus, &out), &more]);
        let waited =
            Fault { part: &out, n, mode: "ENOSPC", log: None }.inject(&words(&[&line, &["--on-full", "wait"]]));
        let said = text(&waited.stderr);
        assert!(waited.status.success(), "{n} {}: {said}", all[n - 1]);
        assert_eq!(said.matches("waiting until there is room").count(), 1, "{n} {}: {said}", all[n - 1]);
        assert!(data.read(&format!("out-{k}/model.safetensors")) == data.read("whole/model.safetensors"));
        std::fs::remove_dir_all(&out).unwrap();
        let stopped = Fault { part: &out, n, mode: "ENOSPC", log: None }.inject(&words(&[&line, &["--quiet"]]));
        let said = text(&stopped.stderr);
        assert_eq!(stopped.status.code(), Some(1), "{n} {}: {said}", all[n - 1]);
        assert!(
            said.contains("no space left on the device\nhint: make room; a training goes on with --resume"),
            "{said}"
        );
    }
}

/// Through a shell that first sets a limit.
fn limited(limit: &str, line: &[&str]) -> Output {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]).arg(assert_cmd::cargo::cargo_bin("ulmfit"));
    command.args(line).args(["--device", "cpu", "--threads", "2", "--quiet"]).env_remove("ULMFIT_LOG").output().unwrap()
}

/// A file that may not grow further is an error of its write, not the end of the process.
#[test]
fn a_limit_of_the_size_of_files() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let stopped = limited("-f 2", &pretrain_line(&corpus, &out));
    let said = text(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the file would be larger than this process may write\nhint: raise the limit (ulimit -f)"),
        "{said}"
    );
}

/// Where the system has no memory for it, a command ends in words, whatever it is at.
#[test]
fn a_limit_of_memory() {
    let (_place, data) = data();
    let (train, out) = (data.path("train.csv"), data.path("out"));
    let sizes = ["--emb-size", "300", "--hidden-size", "500", "--layers", "2", "--recipe", "tiny"];
    let flags = ["--batch-size", "4", "--epochs", "1", "--max-steps", "1", "--min-freq", "1", "--overwrite"];
    let line = words(&[&["train-classifier", "--model", "none", "--train", &train, "--out", &out], &sizes, &flags]);
    let (mut refusals, mut succeeded) = (0, false);
    // from what the program itself hardly gets along with
    for step in 0..40 {
        let kib = 60_000 + 15_000 * step;
        let output = limited(&format!("-v {kib}"), &line);
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0) => succeeded = true,
            Some(1) => {
                refusals += 1;
                let last: Vec<&str> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
                let in_words = last.len() <= 2 && last[0].starts_with("error: ") && !said.contains("internal error");
                assert!(in_words, "{kib} KiB: {said}");
            }
            status => panic!("{kib} KiB: {status:?} {said}"),
        }
        if succeeded && refusals > 2 {
            return;
        }
    }
    panic!("{refusals} refusals, succeeded: {succeeded}");
}

/// Temporary files of a killed process are removed by the next process, and an
/// interrupt leaves nothing.
#[test]
fn temporary_folders() {
    let place = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let run = |n: usize, mode: &str, sticky: bool| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
        command
            .args(["demo", "--device", "cpu", "--quiet"])
            .env("TMPDIR", place.path())
            .env("LD_PRELOAD", super::faults());
        command.env("FAULTS_PATH", place.path()).env("FAULTS_N", n.to_string()).env("FAULTS_MODE", mode);
        if sticky {
            command.env("FAULTS_STICKY", "1");
        }
        command.output().unwrap()
    };
    let killed = run(25, "kill", false);
    assert_eq!(killed.status.code(), None, "{}", text(&killed.stderr));
    assert_eq!(names().len(), 1, "what was killed could not clean up");
    // one signal is waited for, many are not
    for sticky in [false, true] {
        let interrupted = run(25, "SIGINT", sticky);
        assert_eq!(interrupted.status.code(), Some(130), "{}", text(&interrupted.stderr));
        assert!(names().is_empty(), "{:?}", names());
    }
    // folders of others stay
    for name in ["ulmfit-notes", "ulmfit-00000000000000000000000000000000"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    run(25, "SIGINT", false);
    assert_eq!(names().len(), 2);
}

/// A name that is not UTF-8 works, or is refused at once.
#[test]
fn names_that_are_not_utf8() {
    let (_place, data) = data();
    let train = data.path("train.csv");
    let out = Path::new(&data.path("x")).with_file_name(OsStr::from_bytes(b"out-\xff-\xe9"));
    let line = words(&[&classifier_line(&train, ""), &["--quiet"]]);
    let with_out = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
        for word in &line {
            command.arg(if word.is_empty() { out.as_os_str() } else { OsStr::new(word) });
        }
        command.args(["--device", "cpu"]).output().unwrap()
    };
    let output = with_out();
    let said = text(&output.stderr);
    match output.status.code() {
        Some(2) => assert!(said.starts_with("error: ") && !out.exists(), "{said}"),
        Some(0) => {
            let mut predict = Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
            let output = predict.args(["predict", "--quiet", "--model"]).arg(&out).arg("a good film").output().unwrap();
            assert!(output.status.success() && !output.stdout.is_empty(), "{}", text(&output.stderr));
        }
        status => panic!("{status:?} {said}"),
    }
}

/// Numbers that no run comes to are refused by their name.
#[test]
fn forged_checkpoints() {
    let (_place, data) = data();
    let (_, at) = middle(&data);
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = words(&[&pretrain_line(&corpus, &out), &["--checkpoint-steps", "1"]]);
    Fault { part: &out, n: at, mode: "killafter", log: None }.inject(&line);
    std::fs::remove_file(Path::new(&out).join("state.previous.safetensors")).unwrap();
    let good = data.read("out/state.safetensors");
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    let state: Value = serde_json::from_str(header["__metadata__"]["state"].as_str().unwrap()).unwrap();
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut state = state.clone();
        // as an earlier version wrote it, without a checksum of its own
        state.as_object_mut().unwrap().shift_remove("crc32");
        change(&mut state["progress"]);
        let mut header = header.clone();
        header["__metadata__"]["state"] = state.to_string().into();
        let mut text = header.to_string();
        text += &" ".repeat((8 - text.len() % 8) % 8);
        [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &good[8 + length..]].concat()
    };
    let resumed = words(&[&line, &["--resume"]]);
    let mut tried = 0;
    for (key, value, part) in [
        ("update", Value::from(1_000_000_000_u64), "tells of 1000000000 updates, and this run has"),
        ("update_in_phase", Value::from(u64::MAX), "updates of the phase"),
        ("epoch", Value::from(u32::MAX), "epochs, and this run has"),
        ("phase", Value::from(77), "77 phases"),
        ("rewinds", Value::from(4_000_000_000_u64), "rewinds"),
        ("rate_factor", Value::from(-1.0), "has numbers that no run comes to"),
        ("seconds", Value::from(-5.0), "has numbers that no run comes to"),
    ] {
        assert!(!state["progress"][key].is_null(), "{key} is in a checkpoint");
        data.write("out/state.safetensors", forged(&|progress| progress[key] = value.clone()));
        refused(
            ulmfit(&resumed).arg("--quiet"),
            1,
            &["out/state.safetensors", part, "hint: start again with --overwrite"],
        );
        tried += 1;
    }
    assert_eq!(tried, 7);
    data.write("out/state.safetensors", forged(&|_| ()));
    json(&resumed);
    assert!(data.read("out/model.safetensors") == data.read("whole/model.safetensors"));
}
