//! The floors of DESIGN.md: a room imports only from floors below it.

use std::collections::BTreeSet;
use std::path::Path;

/// Ground first; rooms of one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["random", "trace", "files", "temporary"],
    &["device"],
    &["tensor"],
    &["autodiff"],
    &["ops"],
    &["nn", "optim"],
    &["text"],
    &["linear"],
    &["models"],
    &["answer", "check"],
    &["train"],
    &["report", "bench", "serve", "fetch"],
    &["cli"],
];

/// Rooms that know less than the floors below them.
const ONLY: &[(&str, &[&str])] = &[("text", &["error", "random", "files", "temporary"])];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The rooms that code names as `crate::room` or `$crate::room`, and those of a list `crate::{room,
/// other::thing}`, with the line of each.
fn named(text: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let mut rooms = Vec::new();
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let first = |s: &str| s.trim().chars().take_while(|&c| is_word(c)).collect::<String>();
        match rest.strip_prefix('{') {
            None => rooms.push(first(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, 0);
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            rooms.push(first(&list[start..i]));
                            start = i + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        let line = 1 + code[..at].matches('\n').count();
        found.extend(rooms.into_iter().filter(|room| !room.is_empty()).map(|room| (line, room)));
    }
    found
}

/// Whether code of `room` may name `other`.
fn allowed(room: &str, other: &str) -> bool {
    // macros at the crate's root belong to the tensors
    let other = if other == "real_type" { "tensor" } else { other };
    let (Some(here), Some(there)) = (floor(room), floor(other)) else { return false };
    room == other || (there < here && ONLY.iter().all(|(only, knows)| *only != room || knows.contains(&other)))
}

fn walk(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn is(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.iter().any(|known| e == *known))
}

#[test]
fn no_room_imports_from_above() {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (room, inside, text) in sources() {
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        assert!(floor(&room).is_some(), "{} is in no floor of the house", inside.display());
        for (line, other) in named(&text) {
            if allowed(&room, &other) {
                seen.insert((room.clone(), other));
            } else {
                wrong.push(format!("{}:{line}: {room} imports {other}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports from above (or beside):\n{}", wrong.join("\n"));
    // the test reads what it thinks it reads
    for (room, other) in [("ops", "autodiff"), ("nn", "ops"), ("train", "text"), ("report", "train")] {
        assert!(seen.contains(&(room.to_string(), other.to_string())), "no import of {other} by {room} was found");
    }
}

/// The source files, and the room of each.
fn sources() -> Vec<(String, std::path::PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&source, &mut files);
    files.retain(|path| is(path, &["rs"]));
    files.sort();
    let read = |path: std::path::PathBuf| {
        let inside = path.strip_prefix(&source).unwrap().to_path_buf();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_string();
        (room, inside, std::fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

#[test]
fn files_are_put_in_place_in_one_way() {
    let renames = |text: &str| text.contains("fs::rename") || text.contains(" rename(");
    let all: Vec<_> = sources().into_iter().filter(|(_, _, text)| renames(text)).map(|(_, path, _)| path).collect();
    assert_eq!(all, [Path::new("files.rs")], "only files.rs renames files");
}

/// No command but `get` reaches for a network, and only one room knows how.
#[test]
fn only_get_fetches() {
    let names = |word: &str| -> Vec<std::path::PathBuf> {
        sources().into_iter().filter(|(_, _, text)| text.contains(word)).map(|(_, path, _)| path).collect()
    };
    assert_eq!(names("crate::fetch"), [Path::new("cli/get.rs")]);
    assert_eq!(names("ureq"), [Path::new("fetch/client.rs")]);
    let others = ["TcpStream::connect", "UdpSocket", "reqwest", "hyper::"].map(names);
    assert!(others.iter().all(Vec::is_empty), "{others:?}");
}

/// Words that the ground floors do not know: words of models and names of stages.
const MODELS: &[&str] =
    &["lstm", "qrnn", "transformer", "pooling", "embedding", "classifier", "pretrain", "finetune", "fine-tun"];
const GROUND: &[&str] = &["error", "random", "trace", "files", "temporary", "device", "tensor", "autodiff"];
/// The list of the files in `kernels/`, which are called after operations.
const KERNELS: &str = "device/cuda/modules.rs";

#[test]
fn no_word_of_a_model_is_on_the_ground_floors() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if !GROUND.contains(&room.as_str()) || path == Path::new(KERNELS) {
            continue;
        }
        for (line, text) in text.lines().enumerate() {
            let text = text.to_lowercase();
            let words = MODELS.iter().filter(|word| text.contains(*word));
            wrong.extend(words.map(|word| format!("{}:{}: {word}", path.display(), line + 1)));
        }
    }
    assert!(wrong.is_empty(), "words of models below the models:\n{}", wrong.join("\n"));
}

/// Files of a room that name each other in a circle cannot be read one after the other. The room's
/// `mod.rs` names all; nobody names it.
#[test]
fn the_files_of_bench_know_each_other_in_one_direction() {
    let files: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(room, path, _)| room == "bench" && path.file_name().unwrap() != "mod.rs")
        .map(|(_, path, text)| (path.file_stem().unwrap().to_str().unwrap().to_string(), text))
        .collect();
    let known = |text: &str| -> BTreeSet<String> {
        let code: Vec<&str> =
            text.split("#[cfg(test)]").next().unwrap().lines().filter(|l| !l.contains("//")).collect();
        let code = code.join("\n");
        let named =
            code.split("super::").skip(1).map(|rest| rest.chars().take_while(|&c| is_word(c)).collect::<String>());
        named.filter(|name| !name.is_empty()).collect()
    };
    let mut left: std::collections::BTreeMap<String, BTreeSet<String>> =
        files.iter().map(|(name, text)| (name.clone(), known(text))).collect();
    assert!(left["step"].contains("steps") && left.len() > 10);
    while !left.is_empty() {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, names)| !names.iter().any(|n| left.contains_key(n)))
            .map(|(n, _)| n.clone())
            .collect();
        assert!(!free.is_empty(), "a circle: {left:?}");
        free.iter().for_each(|name| drop(left.remove(name)));
    }
    let strange = |text: &str| known(text).into_iter().any(|n| n.starts_with(char::is_uppercase));
    assert!(files.iter().all(|(_, text)| !strange(text)), "a file of bench names an item of its mod.rs");
}

/// Most characters of a line that people read.
const WIDTH: usize = 100;

/// Lines of comments that are too wide, from 1. Rows of tables and blocks of code may be.
fn wide_comments(text: &str, mark: &str) -> Vec<usize> {
    let (mut code, mut wide) = (false, Vec::new());
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix(mark) else {
            code = false;
            continue;
        };
        if comment.trim_start_matches(['/', '!', '#', ' ']).starts_with("```") {
            code = !code;
        } else if !code && !comment.contains(" | ") && line.chars().count() > WIDTH {
            wide.push(at + 1);
        }
    }
    wide
}

/// Lines of Markdown that are too wide, from 1. Tables and blocks of code may be.
fn wide_markdown(text: &str) -> Vec<usize> {
    let (mut code, mut wide) = (false, Vec::new());
    for (at, line) in text.lines().enumerate() {
        let begin = line.trim_start();
        if begin.starts_with("```") {
            code = !code;
        } else if !code && !begin.starts_with('|') && line.chars().count() > WIDTH {
            wide.push(at + 1);
        }
    }
    wide
}

#[test]
fn comments_and_pages_are_at_most_100_characters_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<std::path::PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    for folder in ["src", "python", "tests", "tools", "docs", "benches"] {
        walk(&root.join(folder), &mut files);
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "target"));
    files.sort();
    let (mut wide, mut pages) = (Vec::new(), 0);
    for path in files {
        let lines: fn(&str) -> Vec<usize> = match path.extension().and_then(|e| e.to_str()) {
            Some("rs") => |text| wide_comments(text, "//"),
            Some("sh" | "py" | "toml") => |text| wide_comments(text, "#"),
            Some("md") => wide_markdown,
            _ => continue,
        };
        pages += usize::from(is(&path, &["md"]));
        let inside = path.strip_prefix(root).unwrap().display();
        let text = std::fs::read_to_string(&path).unwrap();
        wide.extend(lines(&text).into_iter().map(|line| format!("{inside}:{line}")));
    }
    assert!(pages > 10, "the pages were not found");
    assert!(wide.is_empty(), "lines of more than {WIDTH} characters:\n{}", wide.join("\n"));
}

#[test]
fn a_wide_line_is_noticed() {
    let long = "ä".repeat(WIDTH);
    assert!(wide_comments(&format!("let x = \"{long}\";\n// {}", &long[..100]), "//").is_empty());
    assert_eq!(wide_comments(&format!("fn f() {{\n    /// {long}\n}}\n/// ```\n/// {long}\n/// ```"), "//"), [2]);
    assert_eq!(wide_markdown(&format!("{long}\n- {long}\n| {long} |\n```\n  {long}\n```\n{long}.")), [2, 7]);
}

#[test]
fn an_upward_import_is_noticed() {
    let rooms = |text: &str| named(text).into_iter().map(|(_, room)| room).collect::<Vec<_>>();
    assert_eq!(rooms("use crate::{error::{Error, Result}, nn, text::Vocabulary};"), ["error", "nn", "text"]);
    assert_eq!(rooms("use crate::{\n    error::Error, // why\n    nn,\n};\n"), ["error", "nn"]);
    assert_eq!(named("\n    let x = crate::train::rss::peak(); // crate::cli"), [(2, "train".to_string())]);
    assert!(rooms("pub(crate) use mycrate::nn;").is_empty());
    assert_eq!(rooms("        $crate::real_type!()"), ["real_type"]);
    assert!(allowed("ops", "tensor") && allowed("ops", "ops") && allowed("check", "optim"));
    assert!(!allowed("ops", "nn") && !allowed("optim", "nn") && !allowed("nn", "optim") && !allowed("error", "tensor"));
    assert!(!allowed("text", "tensor") && allowed("text", "random") && !allowed("train", "attic"));
}
