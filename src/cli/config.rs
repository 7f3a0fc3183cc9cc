//! `--config FILE.toml`: its entries become flags, placed before those of the command line unless
//! that gives them too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use super::recipe;
use crate::error::{Error, Result};
use crate::train::recipe::Recipe;

/// Configuration files are smaller.
const LARGEST: u64 = 1 << 20;

/// The command line with the entries of the configuration file in it.
pub struct Merged {
    pub line: Vec<OsString>,
    /// Long names of the flags that came from the file.
    pub from_config: BTreeSet<String>,
    pub file: Option<PathBuf>,
}

/// Stage tables that hold for a command that is one stage.
fn table_of(command: &str) -> Option<&'static str> {
    match command {
        "pretrain" => Some("pretrain"),
        "finetune-lm" => Some("finetune"),
        "train-classifier" => Some("classifier"),
        _ => None,
    }
}

/// Merges. `root` is the whole command line's definition, `line` begins with the program's name.
///
/// # Errors
/// The file cannot be read or is no TOML; a key that no command knows (named, with the file); a
/// value that no flag can have.
pub fn merge(root: &Command, line: Vec<OsString>) -> Result<Merged> {
    let found = scan(root, &line);
    let (Some(file), Some((position, command))) = (found.config, found.command) else {
        return Ok(Merged { line, from_config: BTreeSet::new(), file: None });
    };
    // a pipe is welcome (`--config <(..)`), one that never ends is not
    let mut text = String::new();
    let opened = std::fs::File::open(&file).map(|opened| opened.take(LARGEST + 1));
    opened.and_then(|mut some| some.read_to_string(&mut text)).map_err(|e| Error::io(&file, "read", &e))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::file(&file, format!("is larger than {} MiB", LARGEST >> 20)));
    }
    let table: Table = text.parse().map_err(|e: toml::de::Error| {
        let number = e.span().map(|span| 1 + text[..span.start].matches('\n').count() as u64);
        let message = format!("is not valid TOML: {}", e.message());
        match number {
            Some(number) => Error::line(&file, number, message),
            None => Error::file(&file, message),
        }
    })?;
    let mut from_config = BTreeSet::new();
    let mut flags = Vec::new();
    for (name, value) in entries(root, command, &file, table)? {
        let bare = recipe::STAGES.iter().find_map(|s| name.strip_prefix(s)?.strip_prefix('-'));
        let given = |flag: &str| found.given.contains(flag);
        // a flag of the command line holds for every stage, so it also wins over a stage's table
        if given(&name) || bare.is_some_and(given) {
            continue;
        }
        if let Some(arg) = flag(root, command, &name) {
            flags.extend(as_flags(&file, &name, arg, &value)?);
            from_config.insert(name);
        }
    }
    let (before, after) = line.split_at(position + 1);
    let line = [before, &flags, after].concat();
    Ok(Merged { line, from_config, file: Some(file) })
}

struct Scan<'a> {
    config: Option<PathBuf>,
    /// Position and definition of the command.
    command: Option<(usize, &'a Command)>,
    /// Long names of the flags given.
    given: BTreeSet<String>,
}

fn scan<'a>(root: &'a Command, line: &[OsString]) -> Scan<'a> {
    let mut scan = Scan { config: None, command: None, given: BTreeSet::new() };
    let mut position = 1;
    while let Some(item) = line.get(position).filter(|item| *item != "--") {
        let text = item.to_string_lossy();
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            scan.given.insert(name.to_string());
            let takes = |arg: &Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
            let next = line.get(position + 1).filter(|_| value.is_none());
            if name == "config" {
                scan.config = value.map(PathBuf::from).or(next.map(PathBuf::from)).or(scan.config);
            }
            position += usize::from(next.is_some() && root.get_arguments().any(takes));
        } else {
            // the command, or the one within it (`profile pretrain`)
            let within = scan.command.map_or(root, |(_, command)| command);
            let found = within.find_subcommand(item.as_os_str()).map(|command| (position, command));
            scan.command = found.or(scan.command);
        }
        position += 1;
    }
    scan
}

/// The flag of a command, its own or a global one.
fn flag<'a>(root: &'a Command, command: &'a Command, name: &str) -> Option<&'a Arg> {
    let alias = |arg: &Arg| arg.get_all_aliases().is_some_and(|all| all.contains(&name));
    let named = |arg: &&Arg| arg.get_long() == Some(name) || alias(arg);
    command.get_arguments().find(named).or(root.get_arguments().find(named))
}

/// Key and value of everything in the file that is meant for this command; a stage's table becomes
/// prefixed flags in `run` and `demo`, and wins over the top level in the stage's own command.
fn entries(root: &Command, command: &Command, file: &Path, table: Table) -> Result<BTreeMap<String, Value>> {
    let unknown = |key: &str| {
        let error = Error::usage(format!("{}: unknown key '{key}'", file.display()));
        let hyphens = key.replace('_', "-");
        if hyphens != key && root.get_subcommands().any(|c| flag(root, c, &hyphens).is_some()) {
            return error.hint(format!("keys are written like flags: {hyphens}"));
        }
        error.hint("keys are flags without the dashes, tables are [pretrain], [finetune] and [classifier]")
    };
    let known = |key: &str| key != "config" && root.get_subcommands().any(|c| flag(root, c, key).is_some());
    let (tables, plain): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, value)| value.is_table());
    let mut all = BTreeMap::new();
    let mut lines = Vec::new();
    for (key, value) in plain {
        if !known(&key) {
            return Err(unknown(&key));
        }
        if key == "set" {
            // in addition to those of the command line, not instead of them
            match value {
                Value::Array(items) => lines.extend(items),
                line => lines.push(line),
            }
            continue;
        }
        all.insert(key, value);
    }
    let recipe_flags = recipe::flags();
    for (stage, value) in tables {
        if !recipe::STAGES.contains(&stage.as_str()) {
            return Err(unknown(&stage));
        }
        let Value::Table(table) = value else { continue };
        let own = table_of(command.get_name()) == Some(&stage);
        for (key, value) in table {
            let line = format!("{stage}.{key}");
            if !recipe_flags.contains(&key) && is_recipe_line(&line) {
                let value = plain_text(&value).ok_or_else(|| unfit(file, &line))?;
                if own || flag(root, command, &format!("{stage}-epochs")).is_some() {
                    lines.push(Value::String(format!("{line}={value}")));
                }
                continue;
            }
            let own_flag = own && key != "config" && flag(root, command, &key).is_some();
            if !recipe_flags.contains(&key) && !own_flag {
                return Err(unknown(&line));
            }
            let prefixed = format!("{stage}-{key}");
            if own {
                all.insert(key, value);
            } else if flag(root, command, &prefixed).is_some() {
                all.insert(prefixed, value);
            }
        }
    }
    if !lines.is_empty() {
        all.insert("config-set".into(), Value::Array(lines));
    }
    Ok(all)
}

/// Whether a recipe's tables have that key (`classifier.max_len`).
fn is_recipe_line(key: &str) -> bool {
    Recipe::named(crate::train::recipe::DEFAULT).is_ok_and(|recipe| recipe.row(key).is_some())
}

fn unfit(file: &Path, name: &str) -> Error {
    Error::usage(format!("{}: {name} must be a text, a number, true, false or a list of those", file.display()))
}

/// A value as the command line would have it.
fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(items) => items.iter().map(plain_text).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// A value as flags.
fn as_flags(file: &Path, name: &str, arg: &Arg, value: &Value) -> Result<Vec<OsString>> {
    let text = |value: &Value| plain_text(value).ok_or_else(|| unfit(file, name));
    let with = |value: &str| OsString::from(format!("--{name}={value}"));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Boolean(true) => Ok(vec![format!("--{name}").into()]),
            Value::Boolean(false) => Ok(vec![]),
            _ => Err(Error::usage(format!("{}: {name} must be true or false", file.display()))),
        };
    }
    match value {
        Value::Array(items) if matches!(arg.get_action(), ArgAction::Append) => {
            items.iter().map(|item| text(item).map(|item| with(&item))).collect()
        }
        value => Ok(vec![with(&text(value)?)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn merged(line: &str, toml: &str) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, toml).unwrap();
        let line = line.replace("C", file.to_str().unwrap());
        let line = line.split(' ').map(OsString::from).collect();
        let merged = merge(&super::super::Cli::command(), line)?;
        let config = |s: &str| s == "--config" || s.ends_with("c.toml");
        Ok(merged.line.iter().map(|s| s.to_string_lossy().into_owned()).filter(|s| !config(s)).collect())
    }

    const PEER: &str = "recipe = 'fastai2'\nseed = 7\ncorpus = ['a', 'b']\nlr = 1e-3\n[pretrain]\nepochs = [1, 2]\nlr = 5e-3\n\
                        [finetune]\nlr = 4e-3\nbidirectional = true\n";

    #[test]
    fn entries_become_flags_of_run() {
        let line = merged("ulmfit --device cpu run --config C --out o", PEER).unwrap();
        let flags = ["--corpus=a", "--corpus=b", "--finetune-bidirectional", "--finetune-lr=0.004", "--lr=0.001"];
        let more = ["--pretrain-epochs=1,2", "--pretrain-lr=0.005", "--recipe=fastai2", "--seed=7"];
        let expected = [&["ulmfit", "--device", "cpu", "run"], &flags[..], &more, &["--out", "o"]].concat();
        assert_eq!(line, expected);
    }

    #[test]
    fn a_stage_takes_its_table_and_the_command_line_wins() {
        let line = merged("ulmfit pretrain --config=C --seed 1 --corpus x", PEER).unwrap();
        assert_eq!(line[2..], ["--epochs=1,2", "--lr=0.005", "--recipe=fastai2", "--seed", "1", "--corpus", "x"]);
        let line = merged("ulmfit run --lr 9 --config C", PEER).unwrap();
        assert!(line.iter().all(|s| !s.contains("lr=")), "{line:?}");
    }

    /// What a stage takes, its profile takes; the name of a command as a value is no command.
    #[test]
    fn a_command_within_a_command() {
        let line = merged("ulmfit profile pretrain --config C --corpus x", PEER).unwrap();
        assert_eq!(line[3..], ["--epochs=1,2", "--lr=0.005", "--recipe=fastai2", "--seed=7", "--corpus", "x"]);
        let line = merged("ulmfit predict run --config C", "seed = 7").unwrap();
        assert_eq!(line, ["ulmfit", "predict", "--seed=7", "run"]);
    }

    #[test]
    fn lines_of_the_recipe() {
        let toml = "[classifier]\nmax_len = 800\nlr = [0.1, 0.2]\n[pretrain]\nwindows = 'fixed'\n";
        let line = merged("ulmfit train-classifier --config C", toml).unwrap();
        assert_eq!(line[2..], ["--config-set=classifier.max_len=800", "--lr=0.1,0.2"]);
        let line = merged("ulmfit run --config C", toml).unwrap();
        assert!(line.contains(&"--config-set=pretrain.windows=fixed".to_string()), "{line:?}");
        assert!(merged("ulmfit run --config C", "[classifier]\nmax_len = 1979-05-27").is_err());
    }

    #[test]
    fn strangers_are_refused_by_name() {
        for (toml, part) in [
            ("speed = 1", "unknown key 'speed'"),
            ("config = 'x'", "unknown key 'config'"),
            ("[pretrain]\nspeed = 1", "unknown key 'pretrain.speed'"),
            ("[other]\nlr = 1", "unknown key 'other'"),
            ("bidirectional = 1", "bidirectional must be true or false"),
            ("lr = 1979-05-27", "lr must be a text"),
            ("a = 1\nb = ", "c.toml:2: is not valid TOML"),
        ] {
            let error = merged("ulmfit run --config C", toml).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("c.toml"), "{error}");
        }
        let hint = merged("ulmfit run --config C", "batch_size = 1").unwrap_err().hint_text().unwrap();
        assert!(hint.contains("batch-size"), "{hint}");
    }
}
