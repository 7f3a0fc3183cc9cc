//! The loops of the harness: what can go wrong around a run, many times over. A slice runs with the
//! other tests; `ULMFIT_RELIABILITY=full` runs all of it (tools/proof.sh).

use super::{Fault, answers, calls, classifier_line, data, in_full};
use crate::support::{Data, Numbers, SIZES, STAGE, copy_folder, snapshot, text, ulmfit, words};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The fate of a call: errors, half of a read or write, a disk that stays full, a death.
const WAYS: [&str; 8] = ["EIO", "ENOSPC", "EACCES", "EINTR", "short", "full", "kill", "killafter"];

/// Does `turns` trials, two at a time.
fn each(turns: usize, trial: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(turn) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|turn| *turn < turns) {
            trial(turn);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// All weights below a folder.
fn weights(folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = snapshot(Path::new(folder)).into_iter();
    let relative = all.map(|(path, content)| (path.strip_prefix(folder).unwrap().to_path_buf(), content));
    relative.filter(|(path, _)| path.ends_with("model.safetensors")).collect()
}

/// An error is one sentence and perhaps a hint; there is no panic, and no signal but the planned
/// one.
fn ends_in_words(output: &Output, killed: bool, place: &str) {
    let said = text(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(1 | 2) => {
            let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
            assert!(errors == 1 && !said.contains("panicked") && !said.contains("internal error"), "{place}: {said}");
        }
        None if killed => {}
        status => panic!("{place}: {status:?} {said}"),
    }
}

/// Does `line` with each of its calls about `out` going wrong in each way, from a folder as
/// `prepare` makes it; then does `again`, which must come to the weights of the folder `straight`,
/// that of a run without an interruption; without it to those of `line` when nothing goes wrong.
fn every_call(
    name: &str,
    data: &Data,
    straight: Option<&str>,
    prepare: impl Fn(&Path) + Sync,
    line: impl Fn(&str) -> Vec<String> + Sync,
    again: impl Fn(&str) -> Vec<String> + Sync,
    check: impl Fn(&str, &str) + Sync,
) {
    let strs = |line: &[String]| line.iter().map(String::as_str).collect::<Vec<_>>().join("\u{1f}");
    let whole = data.path(&format!("{name}-whole"));
    prepare(Path::new(&whole));
    let owned = strs(&line(&whole));
    let all = calls(&whole, &owned.split('\u{1f}').collect::<Vec<_>>());
    let right = weights(straight.unwrap_or(&whole));
    assert!(weights(&whole) == right, "{name}: other weights than without an interruption");
    assert!(!right.is_empty() && all.len() > 50, "{name}: {} calls", all.len());
    let trials = all.len() * WAYS.len();
    // a slice: a dozen of them, each in another way
    let stride = if in_full() { 1 } else { (trials / 12) | 1 };
    let turns = trials.div_ceil(stride);
    each(turns, |turn| {
        let trial = turn * stride;
        let (n, way) = (1 + trial / WAYS.len(), WAYS[trial % WAYS.len()]);
        let place = format!("{name}, call {n} of {} ({}), {way}", all.len(), all[n - 1]);
        let out = data.path(&format!("{name}-{trial}"));
        prepare(Path::new(&out));
        let owned = strs(&line(&out));
        let fault = Fault { part: &out, n, mode: if way == "full" { "ENOSPC" } else { way }, log: None };
        let mut command = fault.command(&owned.split('\u{1f}').collect::<Vec<_>>());
        if way == "full" {
            command.env("FAULTS_STICKY", "1");
        }
        ends_in_words(&command.output().unwrap(), way.starts_with("kill"), &place);
        check(&out, &place);
        let output = ulmfit(&again(&out)).output().unwrap();
        assert!(output.status.success(), "{place}: {}", text(&output.stderr));
        assert!(weights(&out) == right, "{place}: other weights");
        std::fs::remove_dir_all(&out).unwrap();
    });
    println!("{name}: {} calls of the file system, {turns} trials of {trials}", all.len());
}

fn owned(line: &[&[&str]]) -> Vec<String> {
    words(line).into_iter().map(str::to_string).collect()
}

const MORE: &[&str] = &["--checkpoint-steps", "2", "--max-steps", "3", "--quiet"];

/// A whole run: any call may fail or be the last; `--resume` comes to the same weights.
#[test]
fn every_call_of_a_run() {
    let (_place, data) = data();
    let (corpus, train) = (data.path("corpus.txt"), data.path("train.csv"));
    let line = |out: &str| owned(&[&["run", "--corpus", &corpus, "--train", &train, "--out", out], SIZES, STAGE, MORE]);
    let again = |out: &str| [line(out), vec!["--resume".to_string()]].concat();
    every_call("run", &data, None, |_| {}, line, again, |_, _| {});
}

/// A run that goes on after a death: the same.
#[test]
fn every_call_of_going_on() {
    let (_place, data) = data();
    let (train, begun) = (data.path("train.csv"), data.path("begun"));
    let start = |out: &str| owned(&[&classifier_line(&train, out), &["--checkpoint-steps", "1", "--quiet"]]);
    let line = |out: &str| [start(out), vec!["--resume".to_string()]].concat();
    let first = start(&begun);
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let all = calls(&begun, &first);
    std::fs::remove_dir_all(&begun).unwrap();
    // after the first update: two are left
    let saved = |call: &String| call.starts_with("rename") && call.ends_with("/state.safetensors");
    let at = 1 + all.iter().position(saved).unwrap();
    Fault { part: &begun, n: at, mode: "killafter", log: None }.inject(&first);
    assert!(!Path::new(&begun).join("model.safetensors").exists());
    let straight = data.path("straight");
    let words: Vec<String> = start(&straight);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(ulmfit(&words).output().unwrap().status.success());
    every_call("resume", &data, Some(&straight), |out| copy_folder(Path::new(&begun), out), line, line, |_, _| {});
}

/// A finished model that is replaced: until the new one is there, the old one answers or nothing
/// does.
#[test]
fn every_call_of_a_replacement() {
    let (_place, data) = data();
    let (train, old, new) = (data.path("train.csv"), data.path("old"), data.path("new"));
    let line = |out: &str| owned(&[&classifier_line(&train, out), &["--quiet", "--overwrite", "--seed", "7"]]);
    assert!(ulmfit(&classifier_line(&train, &old)).output().unwrap().status.success());
    assert!(ulmfit(&line(&new)).output().unwrap().status.success());
    let known = [answers(&old), answers(&new)];
    assert_ne!(known[0], known[1]);
    let check = |out: &str, place: &str| {
        let asked = ulmfit(&["predict", "--model", out, "--quiet", "a good film", "the story was awful", "film"]);
        let output = { asked }.output().unwrap();
        ends_in_words(&output, false, place);
        assert!(!output.status.success() || known.contains(&text(&output.stdout)), "{place}: an answer of neither");
    };
    every_call("overwrite", &data, None, |out| copy_folder(Path::new(&old), out), line, line, check);
}

/// A model's folder with something wrong in it: every command that reads it answers as before or
/// ends in words, and files that are not of the model stay.
#[test]
fn hostile_folders() {
    let (_place, data) = data();
    let (train, good) = (data.path("train.csv"), data.path("good"));
    assert!(ulmfit(&classifier_line(&train, &good)).output().unwrap().status.success());
    let right = answers(&good);
    let turns = if in_full() { 300 } else { 12 };
    each(turns, |turn| {
        let folder = data.path(&format!("hostile-{turn}"));
        copy_folder(Path::new(&good), Path::new(&folder));
        let place = damage(Path::new(&folder), &mut Numbers(turn as u64 * 7919 + 3), turn);
        let precious = Path::new(&folder).join("precious.txt");
        std::fs::write(&precious, "of somebody else").unwrap();
        let out = data.path(&format!("hostile-{turn}-out"));
        let lines: [Vec<&str>; 5] = [
            vec!["predict", "--model", &folder, "--quiet", "a good film", "the story was awful", "film"],
            vec!["evaluate", "--model", &folder, "--data", &train, "--quiet"],
            vec!["inspect", &folder],
            vec!["export", "--model", &folder, "--to", "safetensors", "--out", &out],
            words(&[&classifier_line(&train, &folder), &["--resume", "--quiet"]]),
        ];
        for line in &lines {
            let output = ulmfit(line).timeout(std::time::Duration::from_secs(60)).output().unwrap();
            let place = format!("{turn} {place}, {}", line[0]);
            ends_in_words(&output, false, &place);
            if line[0] == "predict" && output.status.success() {
                assert_eq!(text(&output.stdout), right, "{place}: another answer");
            }
        }
        assert_eq!(std::fs::read(&precious).unwrap(), b"of somebody else", "{turn} {place}");
    });
}

/// Does one or two things to files of a folder; says what.
fn damage(folder: &Path, numbers: &mut Numbers, turn: usize) -> String {
    let files: Vec<(PathBuf, Vec<u8>)> = snapshot(folder).into_iter().collect();
    let (first, second) = (numbers.below(files.len()), numbers.below(files.len()));
    let mut chosen = vec![first, second];
    chosen.dedup();
    let mut done = Vec::new();
    for (path, bytes) in chosen.into_iter().map(|k| &files[k]) {
        let other = &files[numbers.below(files.len())].1;
        let at = numbers.below(bytes.len().max(1));
        let way = (turn + done.len()) % 12;
        let remove = || std::fs::remove_file(path).unwrap();
        match way {
            0 => remove(),
            1 => std::fs::write(path, b"").unwrap(),
            2 => std::fs::write(path, &bytes[..at]).unwrap(),
            3 => std::fs::write(path, crate::support::random_bytes(at + 1)).unwrap(),
            4 => std::fs::write(path, [&bytes[..at], b"\0\xff{}[]\"", &bytes[at..]].concat()).unwrap(),
            5 => std::fs::write(path, other).unwrap(),
            6 => {
                remove();
                std::fs::create_dir(path).unwrap();
            }
            7 => {
                remove();
                std::os::unix::fs::symlink(path, path).unwrap();
            }
            8 => {
                remove();
                std::os::unix::fs::symlink("/dev/zero", path).unwrap();
            }
            9 => {
                remove();
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }
            // a hole of 64 GiB behind it
            10 => std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 36).unwrap(),
            // a number of JSON, or a length of the header, made huge
            _ => {
                let digit = bytes.iter().skip(at).position(u8::is_ascii_digit).map_or(at, |k| at + k);
                std::fs::write(path, [&bytes[..digit], b"99999999999999999999", &bytes[digit..]].concat()).unwrap();
            }
        }
        done.push(format!("{way} on {}", path.file_name().unwrap().to_str().unwrap()));
    }
    done.join(", ")
}

/// Two runs begin in one folder at the same moment: they end in words, and the folder has one
/// run's whole result, never a mixture.
#[test]
fn pairs_of_runs() {
    let (_place, data) = data();
    let train = data.path("train.csv");
    let expected: Vec<Vec<u8>> = ["1", "2"]
        .iter()
        .map(|seed| {
            let out = data.path(&format!("alone-{seed}"));
            let line = words(&[&classifier_line(&train, &out), &["--quiet", "--seed", seed]]);
            assert!(ulmfit(&line).output().unwrap().status.success());
            std::fs::read(Path::new(&out).join("model.safetensors")).unwrap()
        })
        .collect();
    let turns = if in_full() { 300 } else { 6 };
    for turn in 0..turns {
        let out = data.path(&format!("pair-{turn}"));
        let how: &[&str] = [&[][..], &["--overwrite"], &["--resume"]][turn % 3];
        let start = |seed: &'static str| {
            let line = words(&[&classifier_line(&train, &out), &["--quiet", "--seed", seed], how]);
            let mut command = Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
            let piped = std::process::Stdio::piped;
            command.args(line).args(["--device", "cpu"]).stdout(piped()).stderr(piped()).spawn().unwrap()
        };
        // the same run twice, or another
        let (first, second) = (start("1"), start(if turn % 2 == 0 { "1" } else { "2" }));
        let ended = [first.wait_with_output().unwrap(), second.wait_with_output().unwrap()];
        let place = format!("{turn} {how:?}");
        ended.iter().for_each(|output| ends_in_words(output, false, &place));
        let done: Vec<usize> = (0..2).filter(|k| ended[*k].status.success()).collect();
        let said: Vec<String> = ended.iter().map(|output| text(&output.stderr)).collect();
        assert!(!done.is_empty(), "{place}: {said:?}");
        let found = std::fs::read(Path::new(&out).join("model.safetensors")).unwrap();
        let right = |k: &usize| found == expected[if *k == 1 && turn % 2 == 1 { 1 } else { 0 }];
        assert!(done.iter().any(right), "{place}: the weights of neither: {said:?}");
        answers(&out);
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// The power goes while a run works: what a disk then holds (an ext4 image, copied at the moment)
/// is never a model that does not load, and the run goes on to the same weights.
#[test]
fn power_losses() {
    if !in_full() {
        return println!("skipped: images of disks are mounted in the full run only (ULMFIT_RELIABILITY=full)");
    }
    let (_place, data) = data();
    let (train, whole) = (data.path("train.csv"), data.path("whole"));
    let line = |out: &str| owned(&[&classifier_line(&train, out), &["--checkpoint-steps", "1", "--quiet"]]);
    let first = line(&whole);
    let all = calls(&whole, &first.iter().map(String::as_str).collect::<Vec<_>>());
    let right = weights(&whole);
    // the ends of files being put in place are where it matters; the others evenly
    let renames = (1..=all.len()).filter(|n| all[n - 1].starts_with("rename"));
    let mut moments: Vec<usize> = renames.rev().take(8).collect();
    moments.extend((1..=8).map(|k| k * all.len() / 8));
    for (turn, n) in moments.iter().enumerate() {
        let (image, copy, mount) = (data.path("disk"), data.path("copy"), data.path("mount"));
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        if !run("mkfs.ext4", &["-q", "-F", &image]) || !run("mount", &["-o", "loop", &image, &mount]) {
            return println!("skipped: an ext4 image cannot be made and mounted here (it takes root)");
        }
        let out = format!("{mount}/out");
        let owned_line = line(&out);
        let words: Vec<&str> = owned_line.iter().map(String::as_str).collect();
        Fault { part: &out, n: *n, mode: "killafter", log: None }.inject(&words);
        // the bytes on the disk now, not those on their way to it
        std::fs::copy(&image, &copy).unwrap();
        assert!(run("umount", &[&mount]) && run("mount", &["-o", "loop", &copy, &mount]));
        let place = format!("{turn}, after call {n} ({})", all[n - 1]);
        let finished = Path::new(&out).join("config.json").exists();
        let asked = ulmfit(&["predict", "--model", &out, "--quiet", "a good film"]).output().unwrap();
        let again = ulmfit(&[owned_line.clone(), vec!["--resume".to_string()]].concat()).output().unwrap();
        let found = weights(&out);
        assert!(run("umount", &[&mount]));
        assert!(!finished || asked.status.success(), "{place}: {}", text(&asked.stderr));
        assert!(again.status.success(), "{place}: {}", text(&again.stderr));
        assert!(found == right, "{place}: other weights");
    }
    println!("{} power losses", moments.len());
}
