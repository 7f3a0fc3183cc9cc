//! The output of NVIDIA's assembler for the PTX, disassembled: a table of instruction counts, and
//! rules that hold for every kernel.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::assemble::Assembler;

/// Architectures in the table. The text of a kernel for 8.0 is assembled for all of them.
const TARGETS: &[u32] = &[80, 89, 90];

/// The machine code of one kernel for one architecture, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    kernel: String,
    architecture: u32,
    instructions: usize,
    /// The innermost loop with the most products, if there is one.
    products: Option<Loop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loop {
    instructions: usize,
    /// Of them, on tensor cores.
    tensor: usize,
    /// Of them, multiply-adds of f32.
    multiply_adds: usize,
    /// The counts of the loop around it, without it.
    around: usize,
}

/// An installed nvdisasm.
pub struct Disassembler(PathBuf);

/// That below `target/ptxas`, or else the one on the path.
pub fn find(root: &Path) -> Option<Disassembler> {
    let installed = root.join("target/ptxas/nvdisasm/nvidia/cu13/bin/nvdisasm");
    let path = if installed.exists() { installed } else { "nvdisasm".into() };
    Command::new(&path).arg("--version").output().is_ok_and(|o| o.status.success()).then_some(Disassembler(path))
}

impl Disassembler {
    /// Assembles and disassembles all files for 8.0.
    ///
    /// # Errors
    /// A rule that is broken, or what an assembler says.
    pub fn count<'a>(&self, assembler: &Assembler, files: impl Iterator<Item = &'a Path>) -> Result<Vec<Counted>> {
        let folder = std::env::temp_dir().join(format!("ptx-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
        let binary = folder.join("cubin");
        let mut all = Vec::new();
        for file in files.filter(|file| file.to_string_lossy().ends_with(".sm_80.ptx")) {
            for &architecture in TARGETS {
                assembler.assemble(file, architecture, &binary)?;
                let output = Command::new(&self.0)
                    .arg("-c")
                    .arg(&binary)
                    .output()
                    .map_err(|e| format!("cannot run {}: {e}", self.0.display()))?;
                if !output.status.success() {
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    return Err(format!("{} for sm_{architecture}: {}", file.display(), text.trim_end()));
                }
                for (kernel, code) in kernels(&String::from_utf8_lossy(&output.stdout)) {
                    code.hold(&kernel, architecture)?;
                    all.push(code.count(kernel, architecture));
                }
            }
        }
        // files left in a temporary folder do no harm
        let _ = std::fs::remove_dir_all(&folder);
        all.sort_by(|a, b| (&a.kernel, a.architecture).cmp(&(&b.kernel, b.architecture)));
        Ok(all)
    }
}

/// The table as it is committed.
pub fn table(assembler: &Assembler, all: &[Counted]) -> String {
    let mut text = format!(
        "# What ptxas {} makes of the kernels: instructions of each; of its innermost loop with the most products the instructions, those of the loop\n\
         # around it, and how many of the loop are products on tensor cores and multiply-adds of f32. What is left over, a product pays for.\n\
         # 'cargo run -p ptx -- --limits' measures and rewrites; 'cargo run -p ptx -- --check' compares: what a change does to a kernel is a diff of this.\n\
         {:<34}{:>4}{:>14}{:>7}{:>8}{:>8}{:>14}{:>11}\n",
        assembler.version(),
        "kernel",
        "sm",
        "instructions",
        "loop",
        "around",
        "tensor",
        "multiply-adds",
        "a product"
    );
    for Counted { kernel, architecture, instructions, products } in all {
        text += &format!("{kernel:<34}{architecture:>4}{instructions:>14}");
        if let Some(Loop { instructions, tensor, multiply_adds, around }) = products {
            let of = if *tensor > 0 { tensor } else { multiply_adds };
            let each = *instructions as f64 / *of as f64;
            text += &format!("{instructions:>7}{around:>8}{tensor:>8}{multiply_adds:>14}{each:>11.2}");
        }
        text.push('\n');
    }
    text
}

/// The first difference of two tables, in words.
pub fn compare(committed: &str, found: &str) -> Result<()> {
    if committed == found {
        return Ok(());
    }
    let (mut old, mut new) = (committed.lines(), found.lines());
    loop {
        match (old.next(), new.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let [a, b] = [a, b].map(|line| line.unwrap_or("(nothing)"));
                return Err(format!(
                    "kernels/machine_code.txt says\n  {a}\nand the assembler\n  {b}\nlook at the rest with 'cargo run -p ptx -- --limits'"
                ));
            }
        }
    }
}

/// Instructions in their order, and where labels are.
#[derive(Default)]
struct Code {
    instructions: Vec<String>,
    labels: HashMap<String, usize>,
}

/// Reads the text of `nvdisasm -c`.
fn kernels(text: &str) -> Vec<(String, Code)> {
    let mut all: Vec<(String, Code)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            all.push((name.into(), Code::default()));
            continue;
        }
        let (Some((_, code)), line) = (all.last_mut(), line.trim()) else { continue };
        if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with(".L_")) {
            code.labels.insert(label.into(), code.instructions.len());
        } else if let Some((_, rest)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            // "/*0010*/   @!P0 BRA `(.L_x_0) ;"; a line that only encodes has none
            if let Some((instruction, _)) = rest.split_once(';') {
                code.instructions.push(instruction.trim().into());
            }
        }
    }
    all
}

/// An instruction's name, without its predicate.
fn name(instruction: &str) -> &str {
    let mut words = instruction.split_whitespace();
    words.find(|word| !word.starts_with('@')).unwrap_or_default()
}

/// Instructions that read, write, wait or jump, by how their names begin.
const WAITING: [&str; 9] = ["CCTL", "LD", "ST", "ATOM", "RED", "BAR", "BRA", "EXIT", "MEMBAR"];

impl Code {
    /// Nothing is in local memory; what an acquire has seen is not hidden by older lines of the
    /// multiprocessor's cache: they are dropped before anything else is read, written or jumped to.
    fn hold(&self, kernel: &str, architecture: u32) -> Result<()> {
        for (i, instruction) in self.instructions.iter().enumerate() {
            let name = name(instruction);
            if name.starts_with("LDL") || name.starts_with("STL") {
                return Err(format!("kernel '{kernel}' on sm_{architecture}: local memory: {instruction}"));
            }
            if name.starts_with("LD") && name.contains(".STRONG.GPU") {
                // arithmetic may stand between
                let waits = |name: &&str| WAITING.iter().any(|kind| name.starts_with(kind));
                let next = self.instructions[i + 1..].iter().map(|next| crate::machine::name(next)).find(waits);
                if next != Some("CCTL.IVALL") {
                    return Err(format!("kernel '{kernel}' on sm_{architecture}: no CCTL.IVALL after: {instruction}"));
                }
            }
        }
        Ok(())
    }

    fn count(&self, kernel: String, architecture: u32) -> Counted {
        let target = |instruction: &str| -> Option<usize> {
            let label = instruction.split("`(").nth(1)?.split(')').next()?;
            name(instruction).starts_with("BRA").then(|| self.labels.get(label).copied())?
        };
        let ends = self.instructions.iter().enumerate();
        let loops: Vec<_> = ends.filter_map(|(i, x)| target(x).filter(|&t| t <= i).map(|t| t..i + 1)).collect();
        let of = |body: &std::ops::Range<usize>, what: &str| {
            self.instructions[body.clone()].iter().filter(|x| name(x).starts_with(what)).count()
        };
        let with_products = loops.iter().map(|body| (of(body, "HMMA"), of(body, "FFMA"), body));
        let best = with_products
            .filter(|(tensor, multiply_adds, _)| tensor + multiply_adds > 0)
            .max_by_key(|(tensor, multiply_adds, body)| (*tensor, *multiply_adds, std::cmp::Reverse(body.len())));
        let products = best.map(|(tensor, multiply_adds, body)| {
            let around =
                loops.iter().filter(|o| *o != body && o.start <= body.start && body.end <= o.end).map(|o| o.len());
            let around = around.min().map_or(0, |outer| outer - body.len());
            Loop { instructions: body.len(), tensor, multiply_adds, around }
        });
        // the instructions after the last one fill a line of the cache
        let instructions = self.instructions.iter().filter(|x| name(x) != "NOP").count();
        Counted { kernel, architecture, instructions, products }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\t.target\tsm_80\n.text.a:\n        /*0000*/                   MOV R1, c[0x0][0x28] ;\n.L_x_1:\n\
        /*0010*/                   IADD3 R1, R1, 1, RZ ;\n.L_x_2:\n        /*0020*/                   FFMA R2, R2, R3, R4 ;\n\
        /*0030*/               @!P0 BRA `(.L_x_2) ;\n        /*0040*/                   LDG.E.STRONG.GPU R0, [R2.64] ;\n\
        /*0050*/                   CCTL.IVALL ;\n        /*0060*/                @P1 BRA `(.L_x_1) ;\n        /*0070*/                   EXIT ;\n\
        .L_x_9:\n        /*0080*/                   BRA `(.L_x_9);\n        /*0090*/                   NOP;\n.text.b:\n\
        /*0000*/                   EXIT ;\n";

    #[test]
    fn loops_are_counted() {
        let all = kernels(TEXT);
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let counted = all[0].1.count("a".into(), 80);
        let inner = Loop { instructions: 2, tensor: 0, multiply_adds: 1, around: 4 };
        assert_eq!((counted.instructions, counted.products), (9, Some(inner)));
        assert_eq!(all[1].1.count("b".into(), 80).products, None);
    }

    #[test]
    fn rules_are_held() {
        let hold = |text: &str| kernels(text)[0].1.hold("a", 80);
        assert_eq!(hold(TEXT), Ok(()));
        assert!(hold(&TEXT.replace("CCTL.IVALL", "NOP")).unwrap_err().contains("no CCTL.IVALL"));
        assert!(hold(&TEXT.replace("MOV R1, c[0x0][0x28]", "@P0 LDL R1, [R2]")).unwrap_err().contains("local memory"));
    }

    #[test]
    fn another_table_is_told() {
        assert_eq!(compare("a\nb\n", "a\nb\n"), Ok(()));
        let message = compare("a\nb\n", "a\nc\n").unwrap_err();
        assert!(message.contains("  b\n") && message.contains("  c\n"), "{message}");
        assert!(compare("a\n", "a\nb\n").unwrap_err().contains("(nothing)"));
    }
}
