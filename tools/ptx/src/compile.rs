//! One kernel file for one target: its text, its hash, its PTX.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::{Result, read};

/// Targets, and the PTX version that each is written in: the oldest that has what the kernels use,
/// for the oldest drivers.
const TARGETS: &[(&str, &str)] = &[("sm_70", "+ptx63"), ("sm_80", "+ptx70")];

/// The headers that a kernel may include; no header includes another.
const HEADERS: &[&str] = &["common.cuh", "bf16.cuh", "grid.cuh", "pairs.cuh", "row_parts.cuh", "tiles.cuh"];

/// The flags that every kernel is compiled with, beside its target.
const FLAGS: &[&str] = &[
    "-x",
    "cuda",
    "--cuda-device-only",
    "-nocudainc",
    "-nocudalib",
    "-O3",
    "-std=c++17",
    "-ffp-contract=fast",
    // a loop over an array of accumulators that is left rolled would put the array into local
    // memory
    "-mllvm",
    "-unroll-threshold=100000",
    // lines of the source in the PTX, for the messages of the simulated driver; no paths of this
    // machine
    "-gline-tables-only",
    "-fdebug-compilation-dir=.",
    "-Wall",
    "-Werror",
    "-S",
    "-o",
    "-",
];

/// A kernel file and a target.
pub struct Unit {
    folder: PathBuf,
    name: String,
    target: &'static str,
    ptx: &'static str,
    /// Of everything that the text depends on.
    hash: String,
}

/// All kernel files for all targets, by name.
pub fn units(kernels: &Path) -> Result<Vec<Unit>> {
    let entries = std::fs::read_dir(kernels).map_err(|e| format!("cannot list {}: {e}", kernels.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot list {}: {e}", kernels.display()))?.path();
        if path.extension().is_some_and(|e| e == "cu") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let source = read(&kernels.join(format!("{name}.cu")))?;
        let mut headers = Vec::new();
        for line in source.lines().filter(|l| l.trim_start().starts_with("#include")) {
            let Some(header) = HEADERS.iter().find(|header| line == format!("#include \"{header}\"")) else {
                let known = HEADERS.join(", ");
                return Err(format!("kernels/{name}.cu: a kernel includes {known} alone, not '{line}'"));
            };
            headers.push(read(&kernels.join(header))?);
        }
        for &(target, ptx) in TARGETS {
            let mut hasher = Sha256::new();
            let headers = headers.iter().map(String::as_str);
            for part in headers.chain([&*source, target, ptx]).chain(FLAGS.iter().copied()) {
                hasher.update(part.as_bytes());
                hasher.update([0]);
            }
            let hash = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
            all.push(Unit { folder: kernels.to_path_buf(), name: name.clone(), target, ptx, hash });
        }
    }
    Ok(all)
}

impl Unit {
    pub fn file_name(&self) -> String {
        format!("{}.{}.ptx", self.name, self.target)
    }

    fn head(&self) -> String {
        format!("// kernels/{}.cu and common.cuh, sha256 {}, by clang 16 for {}\n", self.name, self.hash, self.target)
    }

    /// Whether a PTX text was made of the present sources, by its first line.
    pub fn is_fresh(&self, text: &str) -> bool {
        text.starts_with(&self.head())
    }

    /// The PTX, under its head.
    pub fn compile(&self, clang: &Path) -> Result<String> {
        let output = Command::new(clang)
            .current_dir(&self.folder)
            .args(FLAGS)
            .arg(format!("--cuda-gpu-arch={}", self.target))
            .args(["-Xclang", "-target-feature", "-Xclang", self.ptx])
            .arg(format!("{}.cu", self.name))
            .output()
            .map_err(|e| format!("cannot run {}: {e}", clang.display()))?;
        if !output.status.success() {
            return Err(format!("kernels/{}.cu: {}", self.name, String::from_utf8_lossy(&output.stderr).trim_end()));
        }
        let text = String::from_utf8(output.stdout).map_err(|_| format!("kernels/{}.cu: PTX is no text", self.name))?;
        Ok(self.head() + &trimmed(&text))
    }
}

/// As it is committed: no white space at the ends of lines, a line end at the last one; without the
/// labels of a debugger, which nothing here names, and without a place in the source that is
/// another column of the line that is told already.
fn trimmed(text: &str) -> String {
    let (mut all, mut told) = (String::new(), "");
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("$L__tmp") && line.ends_with(':') {
            continue;
        }
        if let Some(place) = line.trim_start().strip_prefix(".loc") {
            // file and line; what follows the column (a function that was put in place) says no
            // more
            let place = place.trim_start();
            let place = place.match_indices(' ').nth(1).map_or(place, |(at, _)| &place[..at]);
            if place == told {
                continue;
            }
            told = place;
        } else if line.ends_with(':') || line.starts_with('}') {
            // control comes from elsewhere
            told = "";
        }
        all += line;
        all.push('\n');
    }
    all
}

/// clang 16: `$CLANG`, or `clang-16` on the path. Another version writes another text.
pub fn find_clang() -> Result<PathBuf> {
    let clang = std::env::var_os("CLANG").map_or_else(|| PathBuf::from("clang-16"), PathBuf::from);
    let output = Command::new(&clang).arg("--version").output().map_err(|_| {
        format!("{} is not installed (apt-get install --no-install-recommends clang-16)", clang.display())
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    if !first.contains("clang version 16.") {
        return Err(format!("{} is '{first}', and clang 16 is needed", clang.display()));
    }
    Ok(clang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_once() {
        let text = "$L__tmp3:\n\t.loc\t1 5 7\n\tadd; \n\t.loc\t1 5 9, function_name $L__info\n\tsub;\n$L__tmp4:\n\t.loc\t2 5 9\n\tmul;\n\
                    $L__BB0_1:\n\t.loc\t2 5 1\n\tret;";
        let short = "\t.loc\t1 5 7\n\tadd;\n\tsub;\n\t.loc\t2 5 9\n\tmul;\n$L__BB0_1:\n\t.loc\t2 5 1\n\tret;\n";
        assert_eq!(trimmed(text), short);
    }

    #[test]
    fn other_sources_have_another_head() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("common.cuh", "// one\n");
        put("a.cu", "#include \"common.cuh\"\n");
        let head = |target: usize| units(folder.path()).unwrap()[target].head();
        let before = [head(0), head(1)];
        assert_ne!(before[0], before[1]);
        assert!(units(folder.path()).unwrap()[0].is_fresh(&before[0]));
        put("common.cuh", "// two\n");
        assert_ne!(head(0), before[0]);
        assert!(!units(folder.path()).unwrap()[0].is_fresh(&before[0]));
        let before = head(0);
        put("a.cu", "#include \"common.cuh\"\n// more\n");
        assert_ne!(head(0), before);
        put("bf16.cuh", "// one\n");
        put("a.cu", "#include \"common.cuh\"\n#include \"bf16.cuh\"\n");
        let before = head(0);
        put("bf16.cuh", "// two\n");
        assert_ne!(head(0), before);
        for name in ["d", "c", "f", "b", "e"] {
            put(&format!("{name}.cu"), "");
        }
        let names: Vec<String> = units(folder.path()).unwrap().iter().map(|unit| unit.name.clone()).collect();
        assert!(names.len() == 6 * TARGETS.len() && names.is_sorted(), "{names:?}");
        put("a.cu", "#include <math.h>\n");
        assert!(units(folder.path()).err().unwrap().contains("math.h"));
    }
}
