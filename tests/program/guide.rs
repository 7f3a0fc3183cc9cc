//! The guide (docs/guide): every command in it is run, and what it shows is what the program says.
//!
//! A block of the kind `console` holds commands (`$ `, continued by `> `) and their output. The
//! commands of a chapter run in order in one fresh folder, a copy of `data`.
//! `ULMFIT_UPDATE=1 cargo test --test program guide` writes the outputs anew. A block
//! `console times` is compared without its numbers, `console not-run` is not run. A block after a
//! line "`PATH`:" is quoted from that file of the project. Every other block in Rust is a test of
//! the library's documentation (`src/lib.rs`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::root;

/// What differs between two runs: a number between these words is not compared.
const MASKS: &[(&str, &str)] = &[
    ("seconds ", ""),
    ("seconds\":", ""),
    ("tokens_per_second\":", ""),
    ("peak_rss_mb\":", ""),
    ("peak rss mb ", ""),
    ("tokens per second ", ""),
    ("", " tokens/s"),
    ("(", " s)"),
];

/// A line that begins so is not compared beyond that: it is time and memory alone.
const UNCOMPARED: &str = "time ";

fn guide() -> PathBuf {
    root().join("docs/guide/src")
}

/// A block between fences.
struct Block {
    /// Words after the opening fence.
    kind: Vec<String>,
    /// The last line with text before it.
    before: String,
    /// Numbers of its lines, fences left out.
    lines: std::ops::Range<usize>,
}

impl Block {
    fn is(&self, kind: &str) -> bool {
        self.kind.first().is_some_and(|first| first == kind)
    }

    fn has(&self, word: &str) -> bool {
        self.kind.iter().skip(1).any(|other| other == word)
    }
}

fn blocks(lines: &[&str]) -> Vec<Block> {
    let (mut all, mut before, mut at) = (Vec::new(), "", 0);
    while at < lines.len() {
        if let Some(kind) = lines[at].strip_prefix("```") {
            let length = lines[at + 1..].iter().position(|line| *line == "```").expect("a block has an end");
            let kind = kind.split([' ', ',']).map(String::from).collect();
            all.push(Block { kind, before: before.into(), lines: at + 1..at + 1 + length });
            at += length + 1;
        } else if !lines[at].trim().is_empty() {
            before = lines[at];
        }
        at += 1;
    }
    all
}

/// A command and what it printed: standard output, and standard error where the command says so.
struct Example {
    command: String,
    /// Of the command, as it stands there.
    shown: Vec<String>,
    output: Vec<String>,
}

fn examples(lines: &[&str]) -> Vec<Example> {
    let mut all: Vec<Example> = Vec::new();
    for line in lines {
        let begins = line.strip_prefix("$ ");
        match (begins, line.strip_prefix("> "), all.last_mut()) {
            (Some(command), ..) => {
                all.push(Example { command: command.into(), shown: vec![line.to_string()], output: Vec::new() });
            }
            (None, Some(more), Some(last)) if last.output.is_empty() => {
                last.command += &format!("\n{more}");
                last.shown.push(line.to_string());
            }
            (.., Some(last)) => last.output.push(line.to_string()),
            (.., None) => panic!("a block of commands begins with '$ ', not with '{line}'"),
        }
    }
    all
}

/// White space is one space; the numbers that `masked` chooses by what stands around them are `#`.
fn without(line: &str, masked: impl Fn(&str, &str) -> bool) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut text, mut rest) = (String::new(), line.as_str());
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let length = rest[start..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
        let end = length.map_or(rest.len(), |length| start + length);
        // a comma or full stop at the end belongs to the sentence
        let number = rest[start..end].trim_end_matches(['.', ',']);
        text += &rest[..start];
        let after = &rest[start + number.len()..];
        text += if masked(&text, after) { "#" } else { number };
        rest = after;
    }
    text + rest
}

fn compared(line: &str, times: bool) -> String {
    if line.starts_with(UNCOMPARED) {
        return UNCOMPARED.into();
    }
    let differs =
        |(before, after): &(&str, &str), left: &str, right: &str| left.ends_with(before) && right.starts_with(after);
    without(line, |left, right| times || MASKS.iter().any(|mask| differs(mask, left, right)))
}

/// A folder with the program of this build as `ulmfit`, on the CPU where nothing else is asked for.
fn program() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n*' --device '*) exec '{0}' \"$@\" ;;\n*) exec '{0}' --device cpu \"$@\" ;;\nesac\n",
        env!("CARGO_BIN_EXE_ulmfit")
    );
    let path = folder.path().join("ulmfit");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Runs a command line as a shell does.
fn run(programs: &Path, folder: &Path, command: &str) -> Vec<String> {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).current_dir(folder).stdin(Stdio::null()).env("PATH", path).env("LC_ALL", "C.UTF-8");
    ["ULMFIT_ISA", "ULMFIT_LOG", "ULMFIT_UPDATE"].iter().for_each(|name| _ = shell.env_remove(name));
    let output = shell.output().unwrap();
    let (said, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "$ {command}\n{said}{complaint}");
    said.lines().map(|line| line.trim_end().to_string()).collect()
}

/// Whether a program is there; says so where it is not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: commands that need {program}, which is not installed");
    }
    found
}

/// Runs the commands of a chapter, and compares or writes what they print.
fn chapter(name: &str) {
    let path = guide().join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    crate::support::copy_folder(&guide().join("data"), folder.path());
    let programs = program();
    let update = std::env::var_os("ULMFIT_UPDATE").is_some();
    let (mut written, mut wrong, mut from) = (Vec::new(), Vec::new(), 0);
    for block in blocks(&lines) {
        if !block.is("console") || block.has("not-run") {
            continue;
        }
        written.extend(lines[from..block.lines.start].iter().map(|line| line.to_string()));
        from = block.lines.end;
        for example in examples(&lines[block.lines]) {
            if example.command.contains("curl ") && !has("curl") {
                written.extend(example.shown.into_iter().chain(example.output));
                continue;
            }
            let output = run(programs.path(), folder.path(), &example.command);
            let of = |all: &[String]| {
                all.iter().map(|line| compared(line, block.kind.iter().any(|w| w == "times"))).collect::<Vec<_>>()
            };
            let same = of(&output) == of(&example.output);
            if !same {
                let (found, shown) = (output.join("\n"), example.output.join("\n"));
                wrong.push(format!("$ {}\n-- the guide shows\n{shown}\n-- the program says\n{found}", example.command));
            }
            written.extend(example.shown);
            written.extend(if same { example.output } else { output });
        }
    }
    written.extend(lines[from..].iter().map(|line| line.to_string()));
    if update {
        std::fs::write(&path, written.join("\n") + "\n").unwrap();
    }
    assert!(update || wrong.is_empty(), "{name}:\n{}", wrong.join("\n\n"));
}

macro_rules! chapters {
    ($($test:ident: $file:literal,)*) => {
        $(#[test] fn $test() { chapter($file); })*

        const CHAPTERS: &[&str] = &[$($file),*];
    };
}

chapters! {
    method: "method.md",
    first_classifier: "first-classifier.md",
    few_labels: "few-labels.md",
    another_language: "another-language.md",
    report: "report.md",
    profiling: "profiling.md",
    devices: "devices.md",
    gradients: "gradients.md",
    first_operation: "first-operation.md",
    encoder: "encoder.md",
    paper: "paper.md",
    files: "files.md",
}

/// The chapters, each with its text.
fn all() -> Vec<(String, String)> {
    let mut names: Vec<String> = CHAPTERS.iter().map(|name| name.to_string()).collect();
    names.push("SUMMARY.md".into());
    names.push("introduction.md".into());
    names.into_iter().map(|name| (name.clone(), std::fs::read_to_string(guide().join(name)).unwrap())).collect()
}

/// What is quoted from a file stands there, and Rust that is not quoted is run by the library's
/// documentation tests.
#[test]
fn what_is_quoted_is_there() {
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut quoted = 0;
    for (name, text) in all() {
        let lines: Vec<&str> = text.lines().collect();
        for block in blocks(&lines) {
            let body = lines[block.lines.clone()].join("\n");
            let file = block.before.strip_suffix("`:").and_then(|line| line.rsplit_once('`')).map(|(_, file)| file);
            if block.is("console") || block.is("text") {
                continue;
            }
            if let Some(file) = file {
                let content =
                    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{name}: {file}: {e}"));
                assert!(content.contains(&body), "{name}: {file} does not hold\n{body}");
                assert!(!block.is("rust"), "{name}: a quotation is no test: `rs`");
                quoted += 1;
            } else {
                assert!(block.is("rust") && block.kind.len() == 1, "{name}: a block of the kind {:?}", block.kind);
                assert!(library.contains(&format!("docs/guide/src/{name}")), "src/lib.rs does not test {name}");
            }
        }
    }
    assert!(quoted > 5, "{quoted} quotations");
}

/// Every chapter is in the summary, every file of the folder is a chapter, links lead to files of
/// the book, and files of the project that are named exist.
#[test]
fn the_summary_has_every_chapter() {
    let summary = std::fs::read_to_string(guide().join("SUMMARY.md")).unwrap();
    for entry in std::fs::read_dir(guide()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(summary.contains(&format!("]({name})")), "{name} is not in the summary");
            assert!(name == "introduction.md" || CHAPTERS.contains(&name.as_str()), "{name} is not run");
        }
    }
    let (mut links, mut files) = (0, 0);
    for (name, text) in all() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.starts_with("http") {
                assert!(!link.starts_with(".."), "{name}: a book of the guide has no {link}");
                assert!(guide().join(link).exists(), "{name}: there is no {link}");
                links += 1;
            }
        }
        for file in
            text.split('`').skip(1).step_by(2).filter(|part| part.starts_with("src/") || part.starts_with("docs/"))
        {
            assert!(root().join(file).exists(), "{name}: there is no {file}");
            files += 1;
        }
    }
    assert!(links > 20 && files > 30, "{links} links, {files} files");
    // a book holds its own pictures: this one is that of the README
    let stages = |folder: PathBuf| std::fs::read(folder.join("pictures/stages.svg")).unwrap();
    assert!(stages(guide()) == stages(root().join("docs")), "stages.svg of the guide is not that of the README");
}

#[test]
fn numbers_are_masked_where_the_list_says() {
    assert_eq!(compared("seconds    12.5", false), "seconds #");
    assert_eq!(compared("loss 1.25, 33 documents (7 s)", false), "loss 1.25, 33 documents (# s)");
    assert_ne!(compared("error 1.2 %", false), compared("error 1.3 %", false));
    assert_eq!(compared("time 1:03, memory 51 MiB", false), compared("time 15 s, memory 46 MiB", false));
    assert_eq!(compared("lm_step 12.5 ms 3,400.", true), "lm_step # ms #.");
}
