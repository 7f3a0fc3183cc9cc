//! The folder of a run: locked while the run lasts. Where it holds an older result, the new one is
//! made in a folder within it and takes the place of the old one when it is finished, so that there
//! is always a whole result, and never parts of two.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::lock::{LOCK_FILE, Lock};
use super::{
    CONFIG_FILE, METRICS_FILE, MODEL_FILE, PREVIOUS_FILE, REPORT_FILE, RESULT_FILE, REWIND_FILE, STATE_FILE,
    TOKENIZER_FILE, VOCABULARY_FILE, is_finished, remove,
};
use crate::error::{Error, Result};
use crate::files;
use crate::linear::LINEAR_FILE;

/// Where a result that is to replace another is made.
const NEW: &str = ".new";
/// The new result is finished; the old one is still there, or parts of it.
const FINISHED: &str = ".finished";
/// The old result is gone; the new one is being moved to its place.
const MOVING: &str = ".moving";

/// Folders of token files and of the texts of `demo`, and what may be in them.
const TOKENS: &str = "tokens";
const CORPUS: (&str, [&str; 6]) =
    ("corpus", ["general.txt", "general-valid.txt", "unlabelled.txt", "train.csv", "valid.csv", "test.csv"]);

/// The files that this program writes into the folder of a model or a run. The configuration first:
/// without it nothing counts as a finished model.
const OWN: [&str; 14] = [
    CONFIG_FILE,
    MODEL_FILE,
    VOCABULARY_FILE,
    TOKENIZER_FILE,
    METRICS_FILE,
    REPORT_FILE,
    "confusion-valid.csv",
    "confusion-test.csv",
    RESULT_FILE,
    LINEAR_FILE,
    super::rule::RULE_FILE,
    STATE_FILE,
    PREVIOUS_FILE,
    REWIND_FILE,
];

/// Folders of stages and seeds within that of a run.
fn is_own_folder(name: &str) -> bool {
    let stage = name.strip_suffix("-backward").unwrap_or(name);
    let fold = stage.strip_prefix("classifier-fold-").is_some_and(|fold| fold.parse::<u64>().is_ok());
    let seed = name.strip_prefix("seed-").is_some_and(|seed| seed.parse::<u64>().is_ok());
    matches!(stage, "pretrain" | "finetune-lm" | "classifier")
        || matches!(name, "from-scratch-a" | "from-scratch-b")
        || fold
        || seed
}

/// The folder of a run, until the run is over.
#[derive(Debug)]
pub struct Folder {
    out: PathBuf,
    work: PathBuf,
    /// None where a finished run is asked for in a place that cannot be written.
    lock: Option<Lock>,
}

impl Folder {
    /// Locks the folder, creating it where it is missing, and refuses one that is not empty unless
    /// `resume` or `overwrite`. `resume` is `None` for a command that cannot go on with a stopped
    /// run. The content of the folder stays.
    ///
    /// # Errors
    /// The folder cannot be read or written; another run is in it; it is not empty; with `resume`,
    /// it holds files that no run left.
    pub fn open(out: &Path, resume: Option<bool>, overwrite: bool) -> Result<Self> {
        if out.is_file() {
            return Err(Error::file(out, "is a file, but --out names a directory"));
        }
        if out.to_str().is_none() {
            return Err(Error::usage(format!("--out {}: the name is not UTF-8", out.display()))
                .hint("give a folder whose name is"));
        }
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, "create", &e))?;
        let resume_here = resume == Some(true);
        let lock = match Lock::take(out) {
            Ok(lock) => Some(lock),
            Err(_) if resume_here && !files::is_writable(out) && is_finished(out)? => None,
            Err(e) => return Err(e),
        };
        if lock.is_some() && (resume_here || overwrite) {
            put_in_place(out)?;
        }
        let names = names(out)?;
        let there: Vec<&OsString> = names.iter().filter(|name| *name != LOCK_FILE).collect();
        let new = out.join(NEW);
        if !there.is_empty() && !resume_here && !overwrite {
            let hint = match resume {
                Some(_) => "go on with --resume, or replace what is there with --overwrite",
                None => "replace what is there with --overwrite",
            };
            return Err(Error::usage(format!("--out {} is not empty", out.display())).hint(hint));
        }
        let is_own = |name: &OsString| name.to_str().is_some_and(|name| OWN.contains(&name) || is_own_folder(name));
        let replaces = if resume_here { files::exists(&new)? } else { there.iter().any(|name| is_own(name)) };
        let work = if replaces { new } else { out.to_path_buf() };
        if replaces {
            std::fs::create_dir_all(&work).map_err(|e| Error::io(&work, "create", &e))?;
        }
        if resume_here {
            refuse_files_of_others(&work)?;
        }
        Ok(Folder { out: out.to_path_buf(), work, lock })
    }

    /// Where the run writes.
    pub fn path(&self) -> &Path {
        &self.work
    }

    /// Ends a run that finished: its result takes the place of an older one.
    ///
    /// # Errors
    /// Something cannot be removed or moved; the same command with `--resume` goes on with it.
    pub fn finish(self) -> Result<()> {
        if self.work == self.out {
            return Ok(());
        }
        let finished = self.out.join(FINISHED);
        files::rename(&self.work, &finished)?;
        put_in_place(&self.out)
    }

    /// Ends a run that failed: takes away what is of no use.
    pub fn abandon(&self) {
        abandon(&self.work);
        if self.work != self.out {
            abandon(&self.out);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // a folder that was made for nothing goes, once the lock is out of it
        self.lock = None;
        let _ = std::fs::remove_dir(&self.out);
    }
}

fn names(folder: &Path) -> Result<Vec<OsString>> {
    let fault = |e: std::io::Error| Error::io(folder, "read", &e);
    let mut all: Vec<OsString> = std::fs::read_dir(folder)
        .map_err(fault)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<_>>()
        .map_err(fault)?;
    all.sort();
    Ok(all)
}

/// Goes on with the replacement of an older result where it is under way.
fn put_in_place(out: &Path) -> Result<()> {
    let (finished, moving) = (out.join(FINISHED), out.join(MOVING));
    if files::exists(&finished)? {
        clear(out)?;
        files::rename(&finished, &moving)?;
    }
    if files::exists(&moving)? {
        move_into(&moving, out)?;
    }
    Ok(())
}

/// Moves what is in a folder into another, the configuration last, and removes the folder.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| Error::io(to, "create", &e))?;
    let mut all = names(from)?;
    all.sort_by_key(|name| name == CONFIG_FILE);
    for name in all {
        let (old, new) = (from.join(&name), to.join(&name));
        // a folder may be there, with files of others in it
        if old.is_dir() && files::exists(&new)? { move_into(&old, &new)? } else { files::rename(&old, &new)? }
    }
    std::fs::remove_dir(from).map_err(|e| Error::io(from, "remove", &e))
}

/// Removes what this program put into a folder: models, checkpoints, reports, those of stages and
/// seeds; nothing else.
///
/// # Errors
/// Something cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    OWN.iter().try_for_each(|name| remove(&folder.join(name)))?;
    clear_running(folder)?;
    let tokens = folder.join(TOKENS);
    clear_files(&tokens, |name| name.ends_with(".tok") || name.ends_with(".tok.partial"))?;
    clear_files(&folder.join(CORPUS.0), |name| CORPUS.1.contains(&name.strip_suffix(".partial").unwrap_or(name)))?;
    clear_stages(folder)
}

/// Removes what only a running stage needs: checkpoints, and files that a run which died was
/// writing.
///
/// # Errors
/// Something cannot be removed.
pub fn clear_running(folder: &Path) -> Result<()> {
    let checkpoints = [STATE_FILE, PREVIOUS_FILE, REWIND_FILE];
    checkpoints.iter().try_for_each(|name| remove(&folder.join(name)))?;
    OWN.iter().try_for_each(|name| remove(&files::beside(&folder.join(name))))
}

/// Removes what stages and seeds put into the folder of a run, and its result.
///
/// # Errors
/// Something cannot be removed.
pub fn clear_stages(folder: &Path) -> Result<()> {
    [RESULT_FILE, REPORT_FILE].iter().try_for_each(|name| remove(&folder.join(name)))?;
    for name in names_if_there(folder)? {
        if name.to_str().is_some_and(is_own_folder) {
            let inner = folder.join(&name);
            if !inner.is_symlink() && inner.is_dir() {
                clear(&inner)?;
                // fails where something of others is in it, as it should
                let _ = std::fs::remove_dir(&inner);
            }
        }
    }
    Ok(())
}

fn clear_files(folder: &Path, is_own: impl Fn(&str) -> bool) -> Result<()> {
    for name in names_if_there(folder)? {
        if name.to_str().is_some_and(&is_own) {
            remove(&folder.join(&name))?;
        }
    }
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

fn names_if_there(folder: &Path) -> Result<Vec<OsString>> {
    if folder.is_symlink() || !files::exists(folder)? || !folder.is_dir() { Ok(Vec::new()) } else { names(folder) }
}

/// With `--resume`, in a folder without a checkpoint or a finished model: files that a run of this
/// program cannot have left are those of others.
fn refuse_files_of_others(folder: &Path) -> Result<()> {
    for own in [STATE_FILE, PREVIOUS_FILE, CONFIG_FILE, RESULT_FILE] {
        if files::exists(&folder.join(own))? {
            return Ok(());
        }
    }
    if names(folder)?.iter().any(|name| name.to_str().is_some_and(is_own_folder)) {
        return Ok(());
    }
    for name in [MODEL_FILE, VOCABULARY_FILE, TOKENIZER_FILE, LINEAR_FILE, REPORT_FILE] {
        if files::exists(&folder.join(name))? {
            let folder = folder.display();
            let what = format!("--resume: {folder} holds {name}, but neither a checkpoint nor a finished model");
            return Err(Error::usage(what).hint("give another --out, or replace the files there with --overwrite"));
        }
    }
    Ok(())
}

/// Removes the folder of a run that failed if it holds nothing of use, so that the
/// corrected command finds it as it was: the metrics of a run that saved neither a state nor a
/// model go with it.
pub fn abandon(folder: &Path) {
    let kept = [STATE_FILE, PREVIOUS_FILE, CONFIG_FILE, MODEL_FILE];
    // a folder that cannot be read is left alone
    if kept.iter().all(|name| files::exists(&folder.join(name)).is_ok_and(|there| !there)) {
        let _ = std::fs::remove_file(folder.join(METRICS_FILE));
        let _ = std::fs::remove_file(folder.join(REWIND_FILE));
    }
    // fails where something is in it, as it should
    let _ = std::fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[&str]) {
        for name in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, *name).unwrap();
        }
    }

    fn all(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(inner) = folders.pop() {
            for entry in std::fs::read_dir(inner).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_string());
                }
            }
        }
        found.sort();
        found
    }

    const OF_OTHERS: [&str; 3] = ["classifier/notes.txt", "corpus/own.txt", "notes.txt"];

    #[test]
    fn only_own_files_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let own = [
            "config.json",
            "model.safetensors.partial",
            "pretrain/config.json",
            "classifier-backward/model.safetensors",
            "seed-7/classifier/vocab.json",
            "from-scratch-a/metrics.jsonl",
            "tokens/train.tok",
            "corpus/train.csv",
            "result.json",
        ];
        write(folder.path(), &own);
        write(folder.path(), &OF_OTHERS);
        clear(folder.path()).unwrap();
        assert_eq!(all(folder.path()), OF_OTHERS);
        assert!(!folder.path().join("seed-7").exists(), "empty folders go");
    }

    /// However far a replacement came, it is ended by the next one who opens the folder.
    #[test]
    fn a_replacement_is_ended() {
        let new = ["config.json", "classifier/config.json", "classifier/vocab.json"];
        let old = ["config.json", "pretrain/config.json", "classifier/model.safetensors"];
        for stopped in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path();
            write(out, &OF_OTHERS);
            write(out, &old);
            let of = |part: &str| new.iter().map(|name| format!("{part}/{name}")).collect::<Vec<_>>();
            let place = if stopped < 2 { FINISHED } else { MOVING };
            write(out, &of(place).iter().map(String::as_str).collect::<Vec<_>>());
            if stopped == 1 {
                std::fs::remove_file(out.join("config.json")).unwrap();
            }
            if stopped >= 2 {
                clear(out).unwrap();
            }
            if stopped == 3 {
                files::rename(&out.join(MOVING).join(new[2]), &out.join(new[2])).unwrap();
            }
            drop(Folder::open(out, Some(true), false).unwrap());
            let mut expected: Vec<&str> = OF_OTHERS.into_iter().chain(new).collect();
            expected.sort_unstable();
            assert_eq!(all(out), expected, "{stopped}");
        }
    }
}
