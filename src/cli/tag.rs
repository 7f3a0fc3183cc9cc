//! `ulmfit tag`: tag the words of texts, in input order.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::shared::DataArgs;
use super::{Global, job, output};
use crate::answer::tags::{Tagged, Tagger};
use crate::error::Result;
use crate::models;
use crate::text::{Document, Role, Source};

/// Tag the words of texts, in input order
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit tag --model tagger \"Ada Lovelace was born in London .\"\n  ulmfit tag --model tagger --input news.conll --to json"
)]
pub struct Args {
    /// A model that tags words
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Texts whose words are tagged, cut at white space
    #[arg(value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    pub texts: Vec<String>,
    /// A file with texts or CoNLL columns, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub input: Option<String>,
    /// A word and its tag a line, or one JSON line a text
    #[arg(long, value_enum, value_name = "conll|json", default_value = "conll")]
    pub to: Form,
    #[command(flatten)]
    pub data: DataArgs,
}

/// How tags are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    Conll,
    Json,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    if args.input.is_none() {
        args.data.refuse("texts of the command line are no file", global)?;
    }
    let mut tagger = Tagger::new(models::load_classifier(&args.model)?, global.graph())?;
    let texts = match &args.input {
        None => Source::of_texts("the command line", args.texts.iter().map(Document::new).collect::<Vec<_>>()),
        Some(input) => job::source_or_stdin(input, &args.data, Role::Texts)?,
    };
    if args.input.is_some() {
        args.data.check_flags([&texts], global)?;
        if !global.quiet {
            output::to_stderr(&texts.describe());
        }
    }
    global.announce_device();
    let sentences = tagger.tag(&texts)?;
    output::warn(tagger.warning());
    // a word of a table may hold a space
    let spaces = sentences.iter().flat_map(|sentence| &sentence.words).any(|word| word.contains(' '));
    let between = if spaces { '\t' } else { ' ' };
    let mut lines = String::new();
    for sentence in &sentences {
        match args.to {
            Form::Json => lines += &format!("{}\n", json_of(sentence)),
            Form::Conll => {
                let rows = sentence.words.iter().zip(&sentence.tags);
                rows.for_each(|(word, tag)| lines += &format!("{word}{between}{tag}\n"));
                lines.push('\n');
            }
        }
    }
    output::to_stdout(&lines)
}

/// Words, tags in IOB2, and the chunks with the numbers of their first and last word (from 0).
pub(super) fn json_of(sentence: &Tagged) -> Value {
    let chunk = |chunk: &crate::answer::tags::Chunk| {
        let text = sentence.words[chunk.first..=chunk.last].join(" ");
        json!({ "kind": chunk.kind, "first": chunk.first, "last": chunk.last, "text": text })
    };
    json!({
        "words": sentence.words,
        "tags": sentence.tags,
        "chunks": sentence.chunks.iter().map(chunk).collect::<Vec<_>>(),
    })
}
