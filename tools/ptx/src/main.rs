//! `kernels/*.cu` → `kernels/ptx/*.ptx`, which is committed, so that neither building nor running
//! the program needs a compiler for GPUs.
//!
//! ```text
//! cargo run -p ptx                    compile all kernels, replace what is committed
//! cargo run -p ptx -- --check         compile again and require the same text; assemble, and hold
//!                                     to kernels/limits.toml; disassemble, and hold to
//!                                     kernels/machine_code.txt
//! cargo run -p ptx -- --limits        measure all kernels and rewrite both
//! ```
//! The compiler is clang 16 (`clang-16`, or `$CLANG`); the assembler, which only checks, is
//! NVIDIA's ptxas: from `target/ptxas/*` (`tools/ptx/install.sh` puts it there, and nvdisasm), or
//! on the path. What is absent is named, and what it would have checked is skipped.

mod assemble;
mod compile;
mod limits;
mod machine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there");
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write(&root),
        ["--check"] => check(&root),
        ["--limits"] => rewrite_limits(&root),
        _ => Err("usage: ptx [--check | --limits]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ptx: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The PTX files as committed: every kernel file for every target.
fn committed(root: &Path) -> Result<Vec<(PathBuf, compile::Unit)>> {
    let units = compile::units(&root.join("kernels"))?;
    Ok(units.into_iter().map(|u| (root.join("kernels/ptx").join(u.file_name()), u)).collect())
}

fn write(root: &Path) -> Result<()> {
    let clang = compile::find_clang()?;
    let files = committed(root)?;
    let folder = root.join("kernels/ptx");
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    for (path, unit) in &files {
        let text = unit.compile(&clang)?;
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    for path in strangers(&folder, &files)? {
        std::fs::remove_file(&path).map_err(|e| format!("cannot remove {}: {e}", path.display()))?;
    }
    println!("{} files written to kernels/ptx", files.len());
    Ok(())
}

/// PTX files that no kernel file makes.
fn strangers(folder: &Path, files: &[(PathBuf, compile::Unit)]) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot list {}: {e}", folder.display()))?.path();
        if !files.iter().any(|(known, _)| *known == path) {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn check(root: &Path) -> Result<()> {
    let files = committed(root)?;
    if let Some(path) = strangers(&root.join("kernels/ptx"), &files)?.first() {
        return Err(format!("{}: no kernel file makes this; run 'cargo run -p ptx'", path.display()));
    }
    for (path, unit) in &files {
        if !unit.is_fresh(&read(path)?) {
            return Err(format!("{}: older than its source; run 'cargo run -p ptx'", path.display()));
        }
    }
    println!("{} files have the hash of their source", files.len());
    match compile::find_clang() {
        Err(reason) => println!("skipped: compiling again: {reason}"),
        Ok(clang) => {
            for (path, unit) in &files {
                if unit.compile(&clang)? != read(path)? {
                    return Err(format!("{}: compiles to another text; run 'cargo run -p ptx'", path.display()));
                }
            }
            println!("{} files compile to the same text", files.len());
        }
    }
    let assemblers = assemble::find(root);
    if assemblers.is_empty() {
        println!("skipped: assembling: no ptxas in target/ptxas or on the path (tools/ptx/install.sh gets it)");
        return Ok(());
    }
    let table = limits::Table::read(&root.join("kernels/limits.toml"))?;
    let mut measured = Vec::new();
    for assembler in &assemblers {
        let uses = assembler.assemble_all(files.iter().map(|(path, _)| path.as_path()))?;
        println!("ptxas {}: {} kernels assembled for {}", assembler.version(), uses.len(), assembler.targets());
        measured.extend(uses);
    }
    table.check(&measured)?;
    println!("all within kernels/limits.toml; no spills, no stack");
    match machine_code(root, &assemblers, &files)? {
        Err(reason) => println!("skipped: machine code: {reason}"),
        Ok(_) if !root.join("kernels/machine_code.txt").exists() => {
            println!(
                "skipped: machine code: there is no kernels/machine_code.txt to compare with ('-- --limits' writes it)"
            );
        }
        Ok(found) => {
            machine::compare(&read(&root.join("kernels/machine_code.txt"))?, &found)?;
            println!(
                "the machine code is that of kernels/machine_code.txt; no local memory, caches dropped after every acquire"
            );
        }
    }
    Ok(())
}

/// The table of the machine code, or what it lacks.
fn machine_code(
    root: &Path,
    assemblers: &[assemble::Assembler],
    files: &[(PathBuf, compile::Unit)],
) -> Result<std::result::Result<String, String>> {
    let get = "(tools/ptx/install.sh gets it)";
    let Some(assembler) = assemblers.iter().find(|a| a.is_counted()) else {
        return Ok(Err(format!("no ptxas 13.0 in target/ptxas or on the path {get}")));
    };
    let Some(disassembler) = machine::find(root) else {
        return Ok(Err(format!("no nvdisasm in target/ptxas or on the path {get}")));
    };
    let counted = disassembler.count(assembler, files.iter().map(|(path, _)| path.as_path()))?;
    Ok(Ok(machine::table(assembler, &counted)))
}

fn rewrite_limits(root: &Path) -> Result<()> {
    let assemblers = assemble::find(root);
    if assemblers.is_empty() {
        return Err("no ptxas in target/ptxas or on the path (tools/ptx/install.sh gets it)".into());
    }
    let files = committed(root)?;
    let mut measured = Vec::new();
    for assembler in &assemblers {
        measured.extend(assembler.assemble_all(files.iter().map(|(path, _)| path.as_path()))?);
    }
    let path = root.join("kernels/limits.toml");
    std::fs::write(&path, limits::Table::from_measured(&measured).text())
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    println!("kernels/limits.toml written: look at what changed");
    match machine_code(root, &assemblers, &files)? {
        Err(reason) => println!("skipped: kernels/machine_code.txt: {reason}"),
        Ok(text) => {
            let path = root.join("kernels/machine_code.txt");
            std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            println!("kernels/machine_code.txt written: look at what changed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs neither compiler nor assembler.
    #[test]
    fn what_is_committed_is_of_the_present_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let files = committed(&root).unwrap();
        assert!(!files.is_empty());
        for (path, unit) in &files {
            assert!(unit.is_fresh(&read(path).unwrap()), "{}: run 'cargo run -p ptx'", path.display());
        }
        assert_eq!(strangers(&root.join("kernels/ptx"), &files).unwrap(), Vec::<PathBuf>::new());
    }

    /// Every kernel that is committed has a line in the table, and every line a kernel.
    #[test]
    fn the_table_of_limits_is_complete() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let table = limits::Table::read(&root.join("kernels/limits.toml")).unwrap();
        let mut kernels = Vec::new();
        for (path, _) in committed(&root).unwrap() {
            let text = read(&path).unwrap();
            kernels.extend(
                text.lines().filter_map(|l| l.strip_prefix(".visible .entry ")?.strip_suffix('(')).map(String::from),
            );
        }
        kernels.sort();
        kernels.dedup();
        assert_eq!(table.names().cloned().collect::<Vec<_>>(), kernels);
    }
}
