//! `ulmfit vocab`: shows the vocabulary of a token file or model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Global, output, tokenize};
use crate::error::{Error, Result};
use crate::text::{TokenStore, Vocabulary};

/// Show the vocabulary of a token file, a vocab.json or a model
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit vocab train.tok | head -20")]
pub struct Args {
    /// A token file, a vocab.json, or the directory of a model
    #[arg(value_name = "F.tok")]
    pub file: PathBuf,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let vocabulary = load(&args.file)?;
    let mut text = String::from("id\tcount\tword\n");
    for (id, word) in vocabulary.words().enumerate() {
        let count = vocabulary.counts().get(id).map_or_else(|| "-".into(), u64::to_string);
        let _ = writeln!(text, "{id}\t{count}\t{}", word.escape_debug());
    }
    let value = json!({
        "vocabulary": vocabulary.len(),
        "hash": vocabulary.hash_hex(),
        "tokenizer": vocabulary.tokenizer(),
        "words": vocabulary.words().collect::<Vec<_>>(),
        "counts": vocabulary.counts(),
    });
    output::result(global.json, &text, &value)
}

fn load(path: &Path) -> Result<Vocabulary> {
    if path.is_dir() {
        return Vocabulary::load(&path.join("vocab.json"));
    }
    if path.extension().is_some_and(|ending| ending == "json") {
        return Vocabulary::load(path);
    }
    let store = TokenStore::open(path)?;
    let beside = tokenize::vocabulary_path(path);
    if !beside.exists() {
        let message = format!("has no vocabulary beside it ({} is missing)", beside.display());
        return Err(Error::file(path, message));
    }
    let vocabulary = Vocabulary::load(&beside)?;
    store.check_vocabulary(&vocabulary)?;
    Ok(vocabulary)
}
