//! Never lose a run, never answer wrongly in silence: through the binary. docs/reliability.md says
//! which test holds which promise.

mod damage;
mod ends;
mod flags;
mod health;
mod loops;
mod overwrite;
mod resume;
mod sizes;

use std::path::{Path, PathBuf};

use crate::support::{Data, SIZES, STAGE, text, ulmfit, words};

/// Whether loops run over everything instead of a slice (tools/proof.sh).
pub fn in_full() -> bool {
    std::env::var_os("ULMFIT_RELIABILITY").is_some_and(|value| value == "full")
}

/// A folder with small data.
pub fn data() -> (tempfile::TempDir, Data) {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    (directory, data)
}

/// A classifier from scratch into `out`.
pub fn classifier_line<'a>(train: &'a str, out: &'a str) -> Vec<&'a str> {
    words(&[&["train-classifier", "--model", "none", "--train", train, "--out", out], SIZES, STAGE])
}

/// A language model into `out`.
pub fn pretrain_line<'a>(corpus: &'a str, out: &'a str) -> Vec<&'a str> {
    words(&[&["pretrain", "--corpus", corpus, "--out", out], SIZES, STAGE])
}

/// The answers of a model for a few texts.
pub fn answers(model: &str) -> String {
    let line = ["predict", "--model", model, "--quiet", "a good film", "the story was awful", "film"];
    text(&ulmfit(&line).assert().success().get_output().stdout.clone())
}

/// The library that makes calls of the file system fail.
pub fn faults() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folders = program.ancestors().take(4);
    let found = folders.map(|folder| folder.join("libfaults.so")).find(|path| path.exists());
    found.expect("cargo builds libfaults.so beside the tests")
}

/// Makes the call number `n` (from 1) about paths with `part` in them go wrong. Without `n` calls
/// are counted, a line each in `log`.
pub struct Fault<'a> {
    pub part: &'a str,
    pub n: usize,
    pub mode: &'a str,
    pub log: Option<&'a Path>,
}

impl Fault<'_> {
    pub fn inject(&self, line: &[&str]) -> std::process::Output {
        self.command(line).output().unwrap()
    }

    /// The command that will meet the fault.
    pub fn command(&self, line: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
        command.args(line).args(["--device", "cpu"]).env_remove("ULMFIT_ISA").env_remove("ULMFIT_LOG");
        command.env("LD_PRELOAD", faults()).env("FAULTS_PATH", self.part).env("FAULTS_MODE", self.mode);
        command.env("FAULTS_N", self.n.to_string());
        if let Some(log) = self.log {
            command.env("FAULTS_LOG", log);
        }
        command
    }
}

/// The calls about `part` that a command does, in their order.
pub fn calls(part: &str, line: &[&str]) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let output = Fault { part, n: 0, mode: "", log: Some(&log) }.inject(line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_string).collect()
}

/// Number (from 1) of the last call of a kind about a path that ends so.
pub fn last_call(calls: &[String], op: &str, end: &str) -> usize {
    let is = |call: &String| call.starts_with(op) && call.ends_with(end);
    1 + calls.iter().rposition(is).unwrap_or_else(|| panic!("no {op} {end} in {calls:#?}"))
}
