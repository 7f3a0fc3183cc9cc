//! Before the crate is compiled: the kernels' PTX, compressed, and the commit that `ulmfit
//! --version` shows. Needs no network, no git and no CUDA.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The two sets of PTX: for GPUs of compute capability 7.0 and 7.5, and from 8.0 on.
const TARGETS: [&str; 2] = ["sm_70", "sm_80"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo:rerun-if-changed=build.rs");
    let folder = root.join("kernels/ptx");
    println!("cargo:rerun-if-changed={}", folder.display());
    for target in TARGETS {
        let file = out.join(format!("{target}.deflate"));
        std::fs::write(&file, compressed(&folder, target)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    // a new commit must not compile the tests anew
    let commit = if variable("PROFILE") == "release" { commit(&root.join(".git")) } else { None };
    let shown = commit.map_or_else(String::new, |commit| format!(" ({})", commit.get(..12).unwrap_or(&commit)));
    println!("cargo:rustc-env=ULMFIT_COMMIT={shown}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|e| panic!("cargo sets {name}: {e}"))
}

/// All texts of a target by the names of their files, a zero behind each, as one deflate stream.
fn compressed(folder: &Path, target: &str) -> Vec<u8> {
    let fault = |e: std::io::Error| -> Vec<u8> { panic!("{}: {e}", folder.display()) };
    let end = format!(".{target}.ptx");
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files = entries.map(|entry| entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.to_string_lossy().ends_with(&end)).collect();
    files.sort();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    for file in files {
        let mut text = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.push(0);
        if let Err(e) = encoder.write_all(&text) {
            return fault(e);
        }
    }
    encoder.finish().unwrap_or_else(fault)
}

/// The commit that is checked out, read from the files of git: a folder, or in a second working
/// tree a file that names one. None outside a repository.
fn commit(git: &Path) -> Option<String> {
    let folder = match std::fs::read_to_string(git) {
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir: ")?.trim()),
        Err(_) => git.to_path_buf(),
    };
    let common = std::fs::read_to_string(folder.join("commondir"));
    let common = common.map_or_else(|_| folder.clone(), |path| folder.join(path.trim()));
    let watched = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        println!("cargo:rerun-if-changed={}", path.display());
        Some(text)
    };
    let head = watched(folder.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().into()) };
    if let Some(commit) = watched(common.join(name)) {
        return Some(commit.trim().into());
    }
    let packed = watched(common.join("packed-refs"))?;
    packed.lines().find_map(|line| line.strip_suffix(name)).map(|commit| commit.trim().into())
}
