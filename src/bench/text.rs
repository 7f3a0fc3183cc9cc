//! Tokenizers and counting, on text of the generated corpus.

use std::time::Instant;

use super::clock::{Effort, time};
use super::format::Format as OnDevice;
use super::report::Row;
use super::session::Bench;
use crate::error::{Error, Result};
use crate::text::synthetic::{Synthetic, SyntheticSizes};
use crate::text::{
    BuildOptions, Document, Format, OpenOptions, Role, Rules, Scratch, Source, Tokenizer, TokenizerKind, count_words,
};

pub fn run(bench: &mut Bench) -> Result<()> {
    let general_tokens = if bench.reduced { 2_000 } else { 400_000 };
    let sizes = SyntheticSizes { general_tokens, general_valid_tokens: 0, unlabelled: 0, train: 0, valid: 0, test: 0 };
    let texts: Vec<String> = Synthetic::new(1, sizes).general_documents().map(sentence_case).collect();
    let documents: Vec<Document> = texts.iter().map(Document::new).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    let megabytes = bytes as f64 / 1e6;
    let kinds = [("word v2", TokenizerKind::word(Rules::V2)), ("whitespace", TokenizerKind::Whitespace)]
        .into_iter()
        .enumerate();
    for (number, (name, kind)) in kinds {
        let tokenizer = Tokenizer::new(kind)?;
        let tokens = verify(name, &tokenizer, &documents)?;
        let shape = format!("{name}, {} documents, {tokens} tokens", documents.len());
        let mut scratch = Scratch::default();
        let timing = time(bench.effort(Effort::SHORT, OnDevice::F32), || {
            let (begun, mut found) = (Instant::now(), 0);
            documents.iter().for_each(|d| tokenizer.tokenize(d, &mut scratch, &mut |_| found += 1));
            let seconds = begun.elapsed().as_secs_f64();
            if found == tokens { Ok(seconds) } else { Err(wrong(name, "the number of tokens changes")) }
        })?;
        let row = Row::moving(["text", "tokenize", "one thread"], shape.clone(), timing, bytes as u64);
        bench.row(row.counting(megabytes, "MB/s"))?;
        if number == 0 {
            let options =
                OpenOptions { role: Role::Corpus, format: Some(Format::by_name("plain")?), ..Default::default() };
            let source = Source::from_bytes("generated", texts.join("\n").into_bytes(), &options)?;
            let mut counted = 0;
            let timing = time(bench.effort(Effort::SHORT, OnDevice::F32), || {
                let begun = Instant::now();
                let sources = std::slice::from_ref(&source);
                let (_, text) = count_words(sources, &tokenizer, &BuildOptions::default(), &mut |_| Ok(()))?;
                counted = text.tokens;
                Ok(begun.elapsed().as_secs_f64())
            })?;
            if counted != tokens as u64 {
                return Err(wrong(name, &format!("{counted} tokens are counted, of {tokens}")));
            }
            let row = Row::moving(["text", "count_words", "all threads"], shape, timing, bytes as u64);
            bench.row(row.counting(megabytes, "MB/s"))?;
        }
    }
    Ok(())
}

/// A capital at the beginning, as texts have.
fn sentence_case(text: String) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn wrong(name: &str, what: &str) -> Error {
    Error::CheckFailed { message: format!("tokenizer {name}: {what}; nothing is timed that is not right") }
}

/// No letter may be lost or come to be: the tokens put together, marks left out, are the text
/// without its spaces, in small letters. Returns the number of tokens.
fn verify(name: &str, tokenizer: &Tokenizer, documents: &[Document]) -> Result<usize> {
    let mut count = 0;
    for document in documents {
        let tokens = tokenizer.tokens(document);
        count += tokens.len();
        let words = tokens.iter().filter(|t| !t.starts_with("xx"));
        let found: String = words.flat_map(|t| t.chars()).collect();
        let right: String = document.text.to_lowercase().split_whitespace().collect();
        if found != right {
            return Err(wrong(name, &format!("'{found}' is not '{right}'")));
        }
    }
    Ok(count)
}
