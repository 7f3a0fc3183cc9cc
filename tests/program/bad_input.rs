//! Bad input of every kind, through the binary: one sentence that names the thing, exit status 1 or
//! 2, nothing lost, nothing half-written.

use std::path::Path;

use crate::support::{
    self, Data, Numbers, SIZES, STAGE, classifier, json, json_lines, random_bytes, refused, snapshot, text, ulmfit,
    words,
};
use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Place {
    _temporary: TempDir,
    data: Data,
    /// An output directory that is not there yet.
    out: String,
}

fn place() -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let data = Data::new(temporary.path());
    let out = data.path("out");
    Place { _temporary: temporary, data, out }
}

impl Place {
    fn command(&self, parts: &[&[&str]]) -> Command {
        let mut command = ulmfit(&words(parts));
        command.arg("--quiet");
        command
    }

    fn pretrain(&self, corpus: &str, more: &[&str]) -> Command {
        self.command(&[&["pretrain", "--corpus", corpus, "--out", &self.out], more])
    }

    fn train(&self, train: &str, more: &[&str]) -> Command {
        self.command(&[
            &["train-classifier", "--model", "none", "--train", train, "--out", &self.out],
            SIZES,
            STAGE,
            more,
        ])
    }

    fn run(&self, train: &str, more: &[&str]) -> Command {
        let corpus = self.data.path("corpus.txt");
        self.command(&[&["run", "--corpus", &corpus, "--train", train, "--out", &self.out], SIZES, STAGE, more])
    }

    /// After a refusal there is no output directory.
    fn nothing_is_left(&self) {
        let out = Path::new(&self.out);
        assert!(!out.exists(), "left behind: {:?}", snapshot(out).keys());
    }
}

#[test]
fn files_that_cannot_be_read() {
    let p = place();
    std::fs::create_dir(p.data.path("folder")).unwrap();
    p.data.write("empty", "");
    p.data.write("blank.txt", "\n \n\n");
    p.data.write("latin.txt", b"a good line\na bad \xe9 line\n");
    let corpora = [
        ("missing.txt", "missing.txt: cannot open: no such file"),
        ("empty", "empty: is empty"),
        ("folder", "folder: holds no file"),
        ("blank.txt", "blank.txt: holds no document"),
        ("latin.txt", "latin.txt:2: is not valid UTF-8 at byte 18"),
        ("corpus.txt/inner", "corpus.txt/inner: cannot open: is not a directory"),
        ("corpus.txt::inner", "corpus.txt: is neither a folder nor an archive"),
    ];
    for (name, part) in corpora {
        refused(&mut p.pretrain(&p.data.path(name), &words(&[SIZES, STAGE])), 1, &[part]);
        p.nothing_is_left();
    }
    // the second of two files, found before any work
    let (corpus, missing) = (p.data.path("corpus.txt"), p.data.path("missing.txt"));
    refused(&mut p.pretrain(&corpus, &words(&[&["--corpus", &missing], SIZES])), 1, &["missing.txt: cannot open"]);
    p.nothing_is_left();

    let (train, latin) = (p.data.path("train.csv"), p.data.write("latin.csv", b"label,text\npos,caf\xe9\nneg,x\n"));
    for bad in ["missing.csv", "empty", "folder", "latin.csv"] {
        refused(&mut p.train(&p.data.path(bad), &[]), 1, &[bad]);
        refused(&mut p.run(&p.data.path(bad), &[]), 1, &[bad]);
        for role in ["--valid", "--test"] {
            refused(&mut p.train(&train, &[role, &p.data.path(bad)]), 1, &[bad]);
            refused(&mut p.run(&train, &[role, &p.data.path(bad)]), 1, &[bad]);
        }
        p.nothing_is_left();
    }
    refused(&mut p.run(&train, &["--unlabelled", &latin]), 1, &["latin.csv:2: is not valid UTF-8"]);
    p.nothing_is_left();
}

#[test]
fn a_directory_where_a_file_is_meant() {
    let p = place();
    let (folder, model) = (p.data.path("folder"), classifier().to_str().unwrap());
    std::fs::create_dir(&folder).unwrap();
    refused(&mut p.command(&[&["info", "--config", &folder]]), 1, &["folder: cannot read: is a directory"]);
    refused(&mut p.command(&[&["vocab", &folder]]), 1, &["folder"]);
    refused(&mut p.command(&[&["predict", "--model", model, "--input", &folder]]), 1, &["folder: holds no file"]);
    let test = p.data.path("test.csv");
    let line = ["evaluate", "--model", model, "--data", &test, "--predictions", &folder];
    refused(&mut p.command(&[&line]), 1, &["folder: cannot write: is a directory"]);
    assert!(!Path::new(&p.data.path("folder.partial")).exists());
    // a file where a model is meant
    refused(&mut p.command(&[&["predict", "--model", &test, "x"]]), 1, &["test.csv: is not a model directory"]);
    refused(&mut p.command(&[&["predict", "--model", &p.data.path("none"), "x"]]), 1, &["none: no such model"]);
}

#[test]
fn standard_input() {
    let p = place();
    let line = ["predict", "--model", classifier().to_str().unwrap(), "--input", "-"];
    refused(
        p.command(&[&line]).write_stdin(&b"good\n\xff\n"[..]),
        1,
        &["standard input:2: is not valid UTF-8 at byte 5"],
    );
    refused(p.command(&[&line]).write_stdin(""), 1, &["standard input: is empty"]);
}

#[test]
fn a_row_with_too_few_columns() {
    let p = place();
    let good = text(&p.data.read("train.csv"));
    let bad = p.data.write("short.csv", format!("{good}pos\nneg,bad\n"));
    let place = "short.csv:34: has too few columns: 1 where the header has 2";
    refused(&mut p.train(&bad, &[]), 1, &[place]);
    refused(&mut p.run(&bad, &[]), 1, &[place]);
    refused(&mut p.run(&p.data.path("train.csv"), &["--test", &bad]), 1, &[place]);
    p.nothing_is_left();
    let headless = p.data.write("headless.csv", "what,ever\nx,y\n");
    refused(&mut p.train(&headless, &[]), 1, &["headless.csv:1: "]);
    p.nothing_is_left();
}

#[test]
fn classes() {
    let p = place();
    let one = p.data.write("one.csv", "label,text\npos,good film\npos,fine film\n");
    let none = p.data.write("none.csv", "label,text\n,good film\n,fine film\n");
    let train = p.data.path("train.csv");
    let third = p.data.write("third.csv", "label,text\npos,good\nmeh,so so\n");
    let stranger =
        ["third.csv:3: has the class 'meh', which is not among the classes", "hint: the classes are: neg, pos"];
    refused(&mut p.train(&one, &[]), 1, &["one.csv: has a single class, 'pos'"]);
    refused(&mut p.train(&none, &[]), 1, &["none.csv"]);
    refused(&mut p.train(&train, &["--test", &third]), 1, &stranger);
    refused(&mut p.train(&train, &["--valid", &third]), 1, &stranger);
    // a whole run finds it before it pretrains
    refused(&mut p.run(&one, &[]), 1, &["one.csv: has a single class, 'pos'"]);
    refused(&mut p.run(&none, &[]), 1, &["none.csv"]);
    refused(&mut p.run(&train, &["--test", &third]), 1, &stranger);
    p.nothing_is_left();
    let model = classifier().to_str().unwrap();
    refused(&mut p.command(&[&["evaluate", "--model", model, "--data", &third]]), 1, &stranger[..1]);
    refused(&mut p.command(&[&["evaluate", "--model", model, "--data", &none]]), 1, &["none.csv"]);
}

/// Left out and counted where the method allows it; answered by a prediction.
#[test]
fn empty_documents() {
    let p = place();
    let holes = |name: &str| {
        p.data.write(&format!("{name}-holes.csv"), text(&p.data.read(&format!("{name}.csv"))) + "pos,\nneg,  \n")
    };
    let (train, test) = (holes("train"), holes("test"));
    let warned = |command: &mut Command, part: &str| {
        let output = command.arg("--json").assert().success().get_output().clone();
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
        support::last_line(&output.stdout)
    };
    let result = warned(&mut p.train(&train, &["--test", &test]), "warning: train: 2 empty documents are left out");
    assert_eq!(result["test_size"], 12);
    let line = ["evaluate", "--model", &p.out, "--data", &test];
    let result = warned(&mut p.command(&[&line]), "test-holes.csv: 2 empty documents are left out");
    assert_eq!((&result["test_size"], &result["skipped"]), (&json!(12), &json!(2)));

    let output = p.command(&[&["predict", "--model", &p.out, "good", "", " "]]).assert().success().get_output().clone();
    let answers = json_lines(&text(&output.stdout));
    assert_eq!(answers.len(), 3);
    let none = json!({"label": null, "probabilities": null, "reason": "the text is empty"});
    assert_eq!((&answers[1], &answers[2]), (&none, &none));
    let output = p.command(&[&["predict", "--model", &p.out, ""]]).assert().success().get_output().clone();
    assert_eq!(json_lines(&text(&output.stdout)), [none]);
}

/// Memory is bounded by what is pooled and by what is trained at a time, not by the document.
#[test]
fn a_document_of_a_million_tokens() {
    let p = place();
    let mut numbers = Numbers(3);
    let long: String = (0..1_000_000).map(|_| ["good ", "bad ", "film "][numbers.below(3)]).collect();
    let corpus = p.data.write("long.txt", format!("{long}\n"));
    let train = p.data.write("long.csv", format!("label,text\npos,{long}\nneg,a bad film\npos,a good film\n"));
    let limits = ["--memory-limit", "160MB", "--max-steps", "2", "--valid-fraction", "0"];
    let flags = ["--batch-size", "4", "--bptt", "70", "--epochs", "1", "--min-freq", "1"];
    let lm = p.data.path("lm");
    let bounded = |result: &Value| {
        let peak = result["peak_rss_mb"].as_f64().unwrap();
        assert!(peak < 150.0, "{peak} MiB");
    };
    let result = json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &lm], SIZES, &flags, &limits]));
    bounded(&result);
    assert_eq!(result["steps"], 2);
    let line = ["train-classifier", "--model", &lm, "--train", &train, "--out", &p.out, "--recipe", "tiny"];
    let result = json(&words(&[&line, &flags, &limits, &["--unfreezing", "full"]]));
    bounded(&result);
    let line = ["predict", "--model", &p.out, "--input", &corpus, "--memory-limit", "160MB"];
    let output = p.command(&[&line]).assert().success().get_output().clone();
    assert_eq!(json_lines(&text(&output.stdout)).len(), 1);
}

#[test]
fn a_vocabulary_without_words() {
    let p = place();
    let corpus = p.data.path("corpus.txt");
    let with = |more: &[&str]| p.pretrain(&corpus, &words(&[SIZES, &["--batch-size", "4", "--bptt", "10"], more]));
    refused(&mut with(&["--min-freq", "100000"]), 1, &["the vocabulary has no words", "hint: lower --min-freq"]);
    p.nothing_is_left();
    for size in ["1", "9", "15"] {
        refused(&mut with(&["--vocab-size", size]), 2, &["--vocab-size", size]);
        p.nothing_is_left();
    }
    refused(&mut with(&["--vocab-size", "0"]), 2, &["--vocab-size", "'0' is refused"]);
}

#[test]
fn a_batch_larger_than_the_corpus() {
    let p = place();
    let corpus = p.data.path("corpus.txt");
    for size in ["5000", "16777216"] {
        let flags = ["--batch-size", size, "--bptt", "10", "--min-freq", "1"];
        let problem = format!("a batch of {size} columns is larger than the text");
        refused(&mut p.pretrain(&corpus, &words(&[SIZES, &flags])), 1, &[&problem, "hint: lower --batch-size"]);
        p.nothing_is_left();
    }
    // a classifier's batch is then all documents
    let flags = ["--batch-size", "5000", "--bptt", "10", "--epochs", "1", "--min-freq", "1"];
    let line = ["train-classifier", "--model", "none", "--train", &p.data.path("train.csv"), "--out", &p.out];
    p.command(&[&line, SIZES, &flags]).assert().success();
}

#[test]
fn sizes_of_zero_and_beyond_memory() {
    let p = place();
    let corpus = p.data.path("corpus.txt");
    for flag in ["emb-size", "hidden-size", "layers", "bptt", "batch-size", "epochs", "max-steps"] {
        for value in ["0", "-3", "1e3", "99999999999999999999999"] {
            let flag = format!("--{flag}");
            refused(&mut p.pretrain(&corpus, &[&flag, value]), 2, &[&flag, value]);
        }
    }
    for (flag, value) in [
        ("--emb-size", "100000000"),
        ("--hidden-size", "100000000"),
        ("--hidden-size", "18446744073709551615"),
        ("--layers", "257"),
        ("--bptt", "18446744073709551615"),
        ("--batch-size", "18446744073709551615"),
        ("--epochs", "4294967295"),
        ("--drop-mult", "1e300"),
    ] {
        refused(&mut p.pretrain(&corpus, &[flag, value]), 2, &[flag]);
    }
    // sizes that can be counted, but that no machine has memory for
    let flags = ["--recipe", "tiny", "--min-freq", "1", "--batch-size", "4", "--bptt", "10"];
    for sizes in [["--hidden-size", "10000000"], ["--emb-size", "10000000"], ["--hidden-size", "2000000"]] {
        let message = refused(&mut p.pretrain(&corpus, &words(&[&flags, &sizes])), 1, &["bytes", "hint: "]);
        assert!(message.contains("the model's sizes"), "{message}");
    }
    let line = words(&[SIZES, STAGE, &["--memory-limit", "20kB"]]);
    refused(&mut p.pretrain(&corpus, &line), 1, &["the memory limit of 20480 bytes", "hint: raise --memory-limit"]);
    for size in ["0", "-1", "lots", "1e400T"] {
        refused(&mut p.pretrain(&corpus, &["--memory-limit", size]), 2, &["--memory-limit", size]);
    }
    p.nothing_is_left();
}

#[test]
fn numbers_that_are_none() {
    let p = place();
    let corpus = p.data.path("corpus.txt");
    let cases = [
        ("--lr", ["nan", "inf", "0", "-1", "fast", "1e400", "", "1,,2"]),
        ("--weight-decay", ["nan", "inf", "-0.1", "-1", "much", "1e400", "", "1,2"]),
        ("--drop-mult", ["nan", "inf", "-0.1", "-1", "much", "1e400", "", "1,2"]),
        ("--valid-fraction", ["nan", "inf", "-0.1", "1", "half", "1e400", "", "1,2"]),
        ("--checkpoint-minutes", ["nan", "inf", "-0.1", "0", "soon", "1e400", "", "1,2"]),
    ];
    for (flag, values) in cases {
        for value in values {
            refused(&mut p.pretrain(&corpus, &[flag, value]), 2, &[flag, value]);
        }
    }
    refused(&mut p.pretrain(&corpus, &["--lr", "0.1", "--lr", "0.2"]), 2, &["--lr", "more than once"]);
    for line in ["pretrain.clip=nan", "pretrain.clip=-1", "pretrain.magic=1", "pretrain.clip", "pretrain.lr=x"] {
        refused(&mut p.pretrain(&corpus, &["--set", line]), 2, &[line.split('=').next().unwrap()]);
    }
    for (content, part) in
        [("lr = nan", "lr"), ("lr = -1", "lr"), ("[pretrain]\nlr = 'x'", "lr"), ("speed = 1", "speed")]
    {
        let file = p.data.write("c.toml", content);
        refused(&mut p.pretrain(&corpus, &["--config", &file]), 2, &[part, "c.toml"]);
    }
    p.nothing_is_left();
    // far beyond what a clock can count, but a number
    p.pretrain(&corpus, &words(&[SIZES, STAGE, &["--checkpoint-minutes", "1e300"]])).assert().success();
}

#[test]
fn a_run_that_diverges() {
    let p = place();
    let line = words(&[SIZES, STAGE, &["--lr", "1e300"]]);
    let parts = ["update ", "training has diverged", "hint: lower --lr"];
    refused(&mut p.pretrain(&p.data.path("corpus.txt"), &line), 1, &parts);
    assert!(!Path::new(&p.out).join("model.safetensors").exists());
}

#[test]
fn a_model_of_the_wrong_kind() {
    let p = place();
    let (model, text) = (classifier().to_str().unwrap(), p.data.path("train.csv"));
    let kind = ["classifier: is a classifier, but a language model is needed"];
    refused(&mut p.command(&[&["finetune-lm", "--model", model, "--text", &text, "--out", &p.out]]), 1, &kind);
    refused(&mut p.command(&[&["generate", "--model", model, "--prompt", "x"]]), 1, &kind);
    refused(&mut p.command(&[&["score", "--model", model, "--input", &text]]), 1, &kind);
    p.nothing_is_left();
}

#[test]
fn output_directories_that_cannot_be() {
    let p = place();
    let (corpus, train) = (p.data.path("corpus.txt"), p.data.path("train.csv"));
    // under a regular file, a regular file, and where not even the superuser can write
    let mut places = vec![(p.data.path("corpus.txt/out"), "is not a directory"), (corpus.clone(), "is a file")];
    if cfg!(target_os = "linux") {
        places.push(("/proc/out".into(), "/proc/out: cannot create"));
    }
    let before = p.data.read("corpus.txt");
    for (out, part) in places {
        for resume in [None, Some("--resume"), Some("--overwrite")] {
            let more: Vec<&str> = resume.into_iter().collect();
            let line = ["pretrain", "--corpus", &corpus, "--out", &out];
            refused(&mut p.command(&[&line, SIZES, STAGE, &more]), 1, &[&out, part]);
            let line = ["run", "--base", "none", "--train", &train, "--out", &out];
            refused(&mut p.command(&[&line, SIZES, STAGE, &more]), 1, &[&out, part]);
        }
        let line = ["tokenize", "--input", &corpus, "--out", &format!("{out}/a.tok")];
        refused(&mut p.command(&[&line]), 1, &[&out]);
    }
    assert!(p.data.read("corpus.txt") == before);
    std::fs::create_dir(&p.out).unwrap();
    p.data.write("out/mine.txt", "mine");
    let line = ["pretrain", "--corpus", &corpus, "--out", &p.out];
    refused(&mut p.command(&[&line, SIZES, STAGE]), 2, &["--out", "is not empty", "hint: ", "--resume", "--overwrite"]);
    p.command(&[&line, SIZES, STAGE, &["--overwrite"]]).assert().success();
    assert_eq!(p.data.read("out/mine.txt"), b"mine", "other files are not the program's to remove");
}

/// A file system of 128 KiB, in a mount namespace of its own: the text has its place there, the
/// first checkpoint has not.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let p = place();
    std::fs::create_dir(&p.out).unwrap();
    let script = "mount -t tmpfs -o size=128k tmpfs \"$1\" || exit 99; folder=$1; shift; \"$@\"; status=$?; ls -A \"$folder\"; exit $status";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", &p.out])
        .arg(assert_cmd::cargo::cargo_bin("ulmfit"))
        .args(["pretrain", "--corpus", &p.data.path("corpus.txt"), "--out", &p.out, "--quiet", "--device", "cpu"])
        .args(["--recipe", "tiny", "--emb-size", "32", "--hidden-size", "64", "--layers", "2"])
        .args(STAGE)
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(99) && !text(&output.stderr).contains("unshare") => output,
        Ok(output) => return eprintln!("skipped: no file system can be mounted here: {}", text(&output.stderr)),
        Err(e) => return eprintln!("skipped: there is no unshare(1): {e}"),
    };
    let (message, left) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: ") && message.lines().count() <= 2, "{message}");
    assert!(message.contains("state.safetensors: cannot write: no space left on the device"), "{message}");
    assert_eq!(left, "", "nothing half-written");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"))
        .args(["info", "--device", "cpu"])
        .stdout(full)
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: standard output: cannot write: no space left"), "{message}");
}

/// A run that stopped (it diverged after its first checkpoint) goes on with its own flags and data
/// only.
#[test]
fn going_on_with_other_flags() {
    let p = place();
    let corpus = p.data.path("corpus.txt");
    let train = |lr: &str, more: &[&str]| {
        p.pretrain(&corpus, &words(&[SIZES, &["--bptt", "10", "--min-freq", "1", "--lr", lr], more]))
    };
    let same = ["--batch-size", "4", "--epochs", "1"];
    refused(&mut train("1e30", &words(&[&same, &["--checkpoint-steps", "1"]])), 1, &["diverged"]);
    let before = snapshot(Path::new(&p.out));
    assert!(before.keys().any(|path| path.ends_with("state.safetensors")));
    fn on<'a>(more: &[&'a str]) -> Vec<&'a str> {
        words(&[&["--resume"], more])
    }
    let hint = "hint: resume with the flags";
    refused(&mut train("0.1", &on(&same)), 2, &["--resume: pretrain.lr was", "0.1", hint]);
    refused(&mut train("1e30", &on(&["--batch-size", "5", "--epochs", "1"])), 2, &["pretrain.batch_size was 4", hint]);
    refused(&mut train("1e30", &on(&["--batch-size", "4", "--epochs", "2"])), 2, &["pretrain.epochs was", hint]);
    refused(&mut train("1e30", &on(&words(&[&same, &["--seed", "1"]]))), 2, &["--seed was 42", hint]);
    refused(&mut train("1e30", &on(&words(&[&same, &["--direction", "backward"]]))), 2, &["--direction was", hint]);
    let other = p.data.write("other.txt", text(&p.data.read("corpus.txt")) + "the cat sat on the dog\n");
    let line = words(&[SIZES, &["--bptt", "10", "--min-freq", "1", "--lr", "1e30", "--resume"], &same]);
    refused(&mut p.pretrain(&other, &line), 2, &["the train data (hash) was", hint]);
    assert!(snapshot(Path::new(&p.out)) == before, "a refused run changes nothing");

    // flags that do not change the result may differ; a damaged checkpoint is named
    refused(
        &mut train("1e30", &on(&words(&[&same, &["--threads", "1", "--checkpoint-steps", "5"]]))),
        1,
        &["diverged"],
    );
    let state = Path::new(&p.out).join("state.safetensors");
    let whole = std::fs::read(&state).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..20], b"", &random_bytes(3000)] {
        std::fs::write(&state, bytes).unwrap();
        refused(&mut train("1e30", &on(&same)), 1, &["state.safetensors"]);
        assert!(std::fs::read(&state).unwrap() == bytes, "a checkpoint that cannot be read is left as it is");
    }
}
