//! Shared by the tests through the binary: the program, small data, small models.
#![allow(dead_code, reason = "the program's tests use more of it than the GPU's")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use serde_json::Value;

/// The repository, or, where the tests run without it (tools/gpu-day.sh), the folder that holds
/// what they need of it.
pub fn root() -> PathBuf {
    std::env::var_os("ULMFIT_TEST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// The program with these arguments; nothing of the environment decides what it does.
pub fn ulmfit<S: AsRef<std::ffi::OsStr>>(line: &[S]) -> Command {
    let mut command = Command::cargo_bin("ulmfit").unwrap();
    command.args(line).args(["--device", "cpu"]).env_remove("ULMFIT_ISA").env_remove("ULMFIT_LOG");
    command
}

/// Runs it to success and gives the object on the last line of standard output.
pub fn json(line: &[&str]) -> Value {
    let output = ulmfit(line).args(["--json", "--quiet"]).assert().success().get_output().clone();
    last_line(&output.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn last_line(stdout: &[u8]) -> Value {
    let stdout = text(stdout);
    serde_json::from_str(stdout.lines().last().expect("a last line")).expect("the last line is JSON")
}

/// One object per line.
pub fn json_lines(content: &str) -> Vec<Value> {
    content.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

/// Sizes of the smallest model that makes sense.
pub const SIZES: &[&str] = &["--recipe", "tiny", "--emb-size", "8", "--hidden-size", "12", "--layers", "2"];

/// A stage of a second at most.
pub const STAGE: &[&str] = &["--batch-size", "4", "--bptt", "10", "--epochs", "1", "--min-freq", "1"];

pub fn words<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// A folder with small texts: `corpus.txt`; `train.csv` (two classes, 16 documents each) and
/// `test.csv` (6 each) with a column for the label and one for the text.
pub struct Data {
    directory: PathBuf,
}

const GENERAL: &[&str] = &["the", "a", "cat", "dog", "sat", "ran", "on", "good", "bad", "film", "story", "was"];
const GOOD: &[&str] = &["good", "fine", "great", "happy", "film", "story", "was"];
const BAD: &[&str] = &["bad", "poor", "awful", "sad", "film", "story", "was"];

impl Data {
    pub fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let data = Data { directory: directory.to_path_buf() };
        let mut numbers = Numbers(1);
        let corpus: String = (0..60).map(|_| numbers.sentence(GENERAL) + "\n").collect();
        data.write("corpus.txt", corpus);
        for (name, documents) in [("train.csv", 32), ("test.csv", 12)] {
            let mut table = "label,text\n".to_string();
            for d in 0..documents {
                let (label, words) = if d % 2 == 0 { ("neg", BAD) } else { ("pos", GOOD) };
                table += &format!("{label},{}\n", numbers.sentence(words));
            }
            data.write(name, table);
        }
        data
    }

    /// The path of a file or folder, there or not.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_string()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.directory.join(name), content).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// A small generator: the same data on every machine.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    pub fn sentence(&mut self, words: &[&str]) -> String {
        let length = 4 + self.below(6);
        (0..length).map(|_| words[self.below(words.len())]).collect::<Vec<_>>().join(" ")
    }
}

/// Content of every file below a folder (empty folders count too), to see that nothing was changed.
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot(&path));
            all.insert(path, Vec::new());
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The program refuses: this exit status, one `error:` line that holds these parts, at most a hint
/// besides. Returns standard error.
pub fn refused(command: &mut Command, status: i32, parts: &[&str]) -> String {
    let output = command.output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{parts:?}: {message}");
    assert!(message.starts_with("error: ") && message.lines().count() <= 2, "{message}");
    assert!(message.lines().skip(1).all(|line| line.starts_with("hint: ")), "{message}");
    assert!(!message.contains("internal error") && !message.contains("panicked"), "{message}");
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
    assert_eq!(text(&output.stdout), "", "{message}");
    message
}

/// A small classifier in the build directory, trained once for all tests of a process; none changes
/// it.
pub fn classifier() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("classifier");
        if root.exists() {
            std::fs::remove_dir_all(&root).unwrap();
        }
        let data = Data::new(&root);
        let (train, out) = (data.path("train.csv"), data.path("classifier"));
        json(&words(&[&["train-classifier", "--model", "none", "--train", &train, "--out", &out], SIZES, STAGE]));
        PathBuf::from(out)
    })
}

pub fn random_bytes(n: usize) -> Vec<u8> {
    let mut numbers = Numbers(9);
    (0..n).map(|_| numbers.below(256) as u8).collect()
}
