//! `ulmfit-fuzz [TARGET..] [--executions N] [--seed N] [--keep N]`: fuzzes the targets (all, unless
//! named), prints a line for each, writes finds to `tools/fuzz/finds/`, and with `--keep` stores
//! the first input of up to N outcomes in the corpus. `ulmfit-fuzz TARGET --replay FILE`: runs the
//! target once on a file, for instance a find.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ulmfit_fuzz::targets::TARGETS;
use ulmfit_fuzz::{campaign, execute, stored};

fn main() -> ExitCode {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut names, mut executions, mut seed, mut keep) = (Vec::new(), 100_000, 1, 0);
    let mut replay = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--replay" {
            replay = args.next();
            if replay.is_some() {
                continue;
            }
        }
        let mut number = || args.next().and_then(|v| v.parse::<u64>().ok());
        let value = match arg.as_str() {
            "--executions" => number().map(|n| executions = n),
            "--seed" => number().map(|n| seed = n),
            "--keep" => number().map(|n| keep = n),
            name if TARGETS.iter().any(|t| t.name == name) => {
                names.push(name.to_string());
                Some(())
            }
            _ => None,
        };
        if value.is_none() {
            let all: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            eprintln!("error: '{arg}' is not understood; targets: {}", all.join(", "));
            return ExitCode::from(2);
        }
    }
    // a find is told once, by this program
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = false;
    for target in TARGETS.iter().filter(|t| names.is_empty() || names.iter().any(|n| n == t.name)) {
        if let Some(path) = &replay {
            let input = match std::fs::read(path) {
                Ok(input) => input,
                Err(e) => {
                    eprintln!("error: {path}: {e}");
                    return ExitCode::from(2);
                }
            };
            let begun = std::time::Instant::now();
            let outcome = execute(target, &input);
            println!("{}: {outcome:?} in {:.1} ms", target.name, begun.elapsed().as_secs_f64() * 1e3);
            found |= outcome.is_err();
            continue;
        }
        let begun = std::time::Instant::now();
        let inputs = stored(&home.join("corpus"), target).expect("the corpus can be read");
        let summary = campaign(target, inputs, seed, executions);
        println!(
            "{}: seed {seed}, {} executions in {:.0} s, {} outcomes, slowest {:.1} ms, {} finds",
            target.name,
            summary.executions,
            begun.elapsed().as_secs_f64(),
            summary.outcomes,
            summary.slowest.as_secs_f64() * 1e3,
            summary.finds.len()
        );
        for (i, (what, input)) in summary.finds.iter().enumerate() {
            let path = home.join("finds").join(format!("{}-{seed}-{i}", target.name));
            println!("  {what}\n  {}", path.display());
            write(&path, input);
        }
        for (i, input) in summary.firsts.iter().take(keep as usize).enumerate() {
            write(&home.join("corpus").join(target.name).join(format!("{i:03}")), input);
        }
        found |= !summary.finds.is_empty();
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write(path: &PathBuf, input: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder can be made");
    std::fs::write(path, input).expect("the file can be written");
}
