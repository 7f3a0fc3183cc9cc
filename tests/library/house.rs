//! The floors of DESIGN.md: a room imports only from floors below it.

use std::collections::BTreeSet;
use std::path::Path;

/// Ground first; rooms of one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["error", "random", "trace"],
    &["temporary"],
    &["device"],
    &["tensor"],
    &["autodiff"],
    &["ops"],
    &["nn", "optim"],
    &["check"],
    &["text"],
    &["models"],
    &["answer"],
    &["train"],
    &["report", "bench"],
    &["cli"],
];

/// Rooms that know less than the floors below them.
const ONLY: &[(&str, &[&str])] = &[("text", &["error", "random", "temporary"])];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The rooms that code names as `crate::room` or `$crate::room`, and those of a list `crate::{room, other::thing}`, with the line of each.
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
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn no_room_imports_from_above() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&source, &mut files);
    files.sort();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for path in files {
        let inside = path.strip_prefix(&source).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_string();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        assert!(floor(&room).is_some(), "{} is in no floor of the house", inside.display());
        let text = std::fs::read_to_string(&path).unwrap();
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
