//! NVIDIA's assembler as a check: would a GPU accept the PTX, and what would a thread need?

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Architectures that every supported assembler knows, but for 7.0, which went with 13.0.
const TARGETS: &[u32] = &[70, 75, 80, 86, 89, 90];
/// Those that 12.8 and newer know, too.
const NEWER: &[u32] = &[100, 120];
/// Of which machine code is counted (machine.rs): another version writes another.
const COUNTED: (u32, u32) = (13, 0);

/// The report of ptxas on one kernel for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub kernel: String,
    pub architecture: u32,
    pub registers: u32,
    /// Static, in bytes.
    pub shared: u32,
    pub stack: u32,
    pub spills: u32,
}

/// One installed ptxas.
pub struct Assembler {
    path: PathBuf,
    version: (u32, u32),
}

/// Every ptxas below `target/ptxas`, or else the one on the path.
pub fn find(root: &Path) -> Vec<Assembler> {
    let folder = root.join("target/ptxas");
    let installed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let places = |folder: PathBuf| ["cuda_nvcc", "cu13"].map(|part| folder.join("nvidia").join(part).join("bin/ptxas"));
    let mut paths: Vec<PathBuf> = installed.flat_map(|e| places(e.path())).filter(|p| p.exists()).collect();
    paths.sort();
    if paths.is_empty() {
        paths.push("ptxas".into());
    }
    paths.into_iter().filter_map(Assembler::new).collect()
}

impl Assembler {
    fn new(path: PathBuf) -> Option<Self> {
        let output = Command::new(&path).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let release = text.split("release ").nth(1)?.split(',').next()?;
        let (major, minor) = release.split_once('.')?;
        Some(Assembler { path, version: (major.parse().ok()?, minor.parse().ok()?) })
    }

    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    fn architectures(&self) -> impl Iterator<Item = u32> + use<> {
        let newer = if self.version >= (12, 8) { NEWER } else { &[] };
        let oldest = if self.version >= (13, 0) { 75 } else { 70 };
        TARGETS.iter().chain(newer).copied().filter(move |&a| a >= oldest)
    }

    /// Whether it is the version whose machine code is counted.
    pub fn is_counted(&self) -> bool {
        self.version == COUNTED
    }

    /// Writes the machine code of a file for an architecture, and returns what the assembler says.
    pub fn assemble(&self, file: &Path, architecture: u32, to: &Path) -> Result<String> {
        let output = Command::new(&self.path)
            .args([&format!("-arch=sm_{architecture}"), "-v", "-o"])
            .args([to, file])
            .output()
            .map_err(|e| format!("cannot run {}: {e}", self.path.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Err(format!("{name} for sm_{architecture}: {}", text.trim_end()))
    }

    pub fn targets(&self) -> String {
        self.architectures().map(|a| format!("sm_{a}")).collect::<Vec<_>>().join(" ")
    }

    /// Assembles every file for every architecture that can run it.
    pub fn assemble_all<'a>(&self, files: impl Iterator<Item = &'a Path>) -> Result<Vec<Use>> {
        let mut all = Vec::new();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lowest = if name.ends_with(".sm_70.ptx") { 70 } else { 80 };
            for architecture in self.architectures().filter(|&a| a >= lowest) {
                all.extend(parse(&self.assemble(file, architecture, Path::new("/dev/null"))?, architecture));
            }
        }
        Ok(all)
    }
}

/// Reads the lines of `ptxas -v`.
fn parse(text: &str, architecture: u32) -> Vec<Use> {
    let mut all: Vec<Use> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let kernel = rest.split('\'').next().unwrap_or_default().to_string();
            all.push(Use { kernel, architecture, registers: 0, shared: 0, stack: 0, spills: 0 });
        }
        let Some(last) = all.last_mut() else { continue };
        // "Used 48 registers, used 1 barriers, 8448 bytes smem", "0 bytes stack frame, 0 bytes
        // spill stores, 0 bytes spill loads"
        for part in line.trim_start_matches("ptxas info    :").split(',') {
            let part = part.trim().trim_start_matches("Used ");
            let number = |unit: &str| part.strip_suffix(unit).and_then(|n| n.trim().parse::<u32>().ok());
            if let Some(n) = number("registers") {
                last.registers = n;
            } else if let Some(n) = number("bytes smem") {
                last.shared = n;
            } else if let Some(n) = number("bytes stack frame") {
                last.stack = n;
            } else if let Some(n) = number("bytes spill stores").or_else(|| number("bytes spill loads")) {
                last.spills += n;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ptxas() {
        let text = "ptxas info    : 0 bytes gmem\n\
                    ptxas info    : Compiling entry function 'a' for 'sm_80'\n\
                    ptxas info    : Function properties for a\n    8 bytes stack frame, 4 bytes spill stores, 2 bytes spill loads\n\
                    ptxas info    : Used 25 registers, 1024 bytes smem, 380 bytes cmem[0]\n\
                    ptxas info    : Compiling entry function 'b' for 'sm_80'\n\
                    ptxas info    : Function properties for b\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    ptxas info    : Used 8 registers, used 1 barriers, 368 bytes cmem[0]\n";
        let use_of = |kernel: &str, registers, shared, stack, spills| Use {
            kernel: kernel.into(),
            architecture: 80,
            registers,
            shared,
            stack,
            spills,
        };
        assert_eq!(parse(text, 80), [use_of("a", 25, 1024, 8, 6), use_of("b", 8, 0, 0, 0)]);
    }
}
