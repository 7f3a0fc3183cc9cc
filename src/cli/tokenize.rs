//! `ulmfit tokenize`: makes the memory-mapped token file that the stages make for themselves, or
//! prints tokens.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ArgAction;
use serde_json::json;

use super::recipe::{InvisibleArg, SubwordArg, TokenizerArg};
use super::shared::DataArgs;
use super::{Global, job, output, values};
use crate::error::{Error, Result};
use crate::report::thousands;
use crate::text::{
    self, BuildOptions, Document, Invisible, Labels, Language, Role, Rules, Source, SubwordAlgorithm, Tokenizer,
    TokenizerKind, TokenizerPlan, Tokens, Vocabulary,
};
use crate::train::rss::peak_rss_mb;

/// Turn text into a token file, or print its tokens
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit tokenize --input train.csv --out train.tok --vocab-size 30000\n  ulmfit tokenize --input \
                        train.csv --print --tokenizer whitespace"
)]
pub struct Args {
    /// Text or data sets (labels are kept), or - for standard input
    #[arg(long, value_name = "FILE|-", num_args = 1.., action = ArgAction::Append, required = true)]
    pub input: Vec<String>,
    /// The token file; its vocabulary goes beside it, F.vocab.json
    #[arg(long, value_name = "F.tok", required_unless_present = "print", conflicts_with = "print")]
    pub out: Option<PathBuf>,
    /// Print one JSON array of tokens for every document
    #[arg(long)]
    pub print: bool,
    /// Use this vocabulary (a vocab.json) and its tokenizer
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "vocab_size", "min_freq", "tokenizer", "rules", "language", "invisible", "subword", "tokenizer_file", "coverage",
    ])]
    pub vocab: Option<PathBuf>,
    /// Largest vocabulary, special tokens included
    #[arg(long, value_name = "N", default_value = "30000", value_parser = values::count)]
    pub vocab_size: usize,
    /// Keep words that occur at least N times
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub min_freq: u64,
    /// How text becomes tokens
    #[arg(long, value_enum, default_value_t = TokenizerArg::Word)]
    pub tokenizer: TokenizerArg,
    /// How sub-words are found: unigram (where nothing is said) or bpe
    #[arg(long, value_enum, value_name = "NAME")]
    pub subword: Option<SubwordArg>,
    /// Take the sub-words of this tokenizer.json rather than train them
    #[arg(long, value_name = "FILE", conflicts_with = "subword")]
    pub tokenizer_file: Option<PathBuf>,
    /// Share of the text's characters that sub-words cover
    #[arg(long, value_name = "X", default_value_t = 0.99999)]
    pub coverage: f64,
    /// Rules of the word and sub-word tokenizers: 0.7, v1 or v2
    #[arg(long, value_name = "RULES", default_value = "0.7")]
    pub rules: String,
    /// Language of the word tokenizer: en, another code (de, fr, ja), or a table of words (F.toml)
    #[arg(long, value_name = "CODE|F.toml", default_value = "en")]
    pub language: String,
    /// Soft hyphens and zero-width characters in words
    #[arg(long, value_enum, default_value_t = InvisibleArg::Keep)]
    pub invisible: InvisibleArg,
    /// Replace the token file and its vocabulary
    #[arg(long)]
    pub overwrite: bool,
    /// Read plain files as a corpus: blank lines are no documents, every line is closed
    #[arg(long)]
    pub corpus: bool,
    #[command(flatten)]
    pub data: DataArgs,
}

/// Where the vocabulary of a token file lies: `a.tok` → `a.vocab.json`.
pub fn vocabulary_path(tokens: &Path) -> PathBuf {
    tokens.with_extension("vocab.json")
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let begin = Instant::now();
    let given = args.vocab.as_deref().map(Vocabulary::load).transpose()?;
    let plan = match &given {
        Some(vocabulary) => TokenizerPlan::Made(vocabulary.tokenizer().clone()),
        None => tokenizer_plan(args)?,
    };
    let role = if args.corpus { Role::Corpus } else { Role::Texts };
    let sources = job::sources_or_stdin(&args.input, &args.data, role)?;
    args.data.check_flags(&sources, global)?;
    if !global.quiet {
        sources.iter().for_each(|source| output::to_stderr(&source.describe()));
    }
    let beside = args.out.as_deref().map(vocabulary_path);
    let tokenizer = beside.as_deref().map(text::tokenizer_path).filter(|_| plan.is_subword());
    let files = args.out.iter().chain(&beside).chain(&tokenizer);
    if let Some(path) = files.into_iter().find(|path| !args.overwrite && path.exists()) {
        return Err(Error::file(path, "exists already").hint("give --overwrite to replace it, or another --out"));
    }
    let mut last = Instant::now();
    let mut say = |what: &str, done: text::Progress| {
        if !global.quiet && last.elapsed().as_secs() >= 5 {
            last = Instant::now();
            let (documents, megabytes) = (thousands(done.documents), done.bytes >> 20);
            output::to_stderr(&format!("{what}: {documents} documents, {megabytes} MiB of text"));
        }
        Ok(())
    };
    let build = BuildOptions { labels: Labels::Collect, ..BuildOptions::default() };
    let (size, least) = (Some(args.vocab_size), args.min_freq);
    let kind = plan.make(&sources, size, least, &build, &mut |p| say("counting for sub-words", p))?;
    let tokenizer = Tokenizer::new(kind.clone())?;
    let (Some(out), Some(beside)) = (&args.out, beside) else { return print(&sources, &tokenizer, global) };

    let vocabulary = match given {
        Some(vocabulary) => vocabulary,
        None => {
            let (words, _) = text::count_words(&sources, &tokenizer, &build, &mut |p| say("counting", p))?;
            Vocabulary::from_counts(&words, kind, args.vocab_size, args.min_freq)?
        }
    };
    let (_, report) = {
        let say = &mut |p| say("writing", p);
        text::write_store(&sources, &tokenizer, &vocabulary, &build, text::Storage::File(out), say)?
    };
    vocabulary.save(&beside)?;

    let seconds = begin.elapsed().as_secs_f64();
    let unknown = 100.0 * report.unknown as f64 / report.tokens.max(1) as f64;
    let summary = format!(
        "{} tokens in {} documents, vocabulary {}, unknown {unknown:.2} %, {seconds:.1} s",
        thousands(report.tokens),
        thousands(report.documents),
        thousands(vocabulary.len() as u64),
    );
    let value = json!({
        "tokens": report.tokens,
        "documents": report.documents,
        "vocabulary": vocabulary.len(),
        "unknown": report.unknown,
        "longest": report.longest,
        "seconds": seconds,
        "tokens_per_second": report.tokens as f64 / seconds.max(1e-9),
        "peak_rss_mb": peak_rss_mb(),
    });
    output::result(global.json, &summary, &value)
}

fn print(sources: &[Source], tokenizer: &Tokenizer, global: &Global) -> Result<()> {
    use serde::Serializer as _;
    use std::io::Write as _;
    #[derive(Default)]
    struct Lines {
        text: Vec<u8>,
        documents: u64,
        tokens: u64,
    }
    let make = |_: &Document, tokens: &Tokens, lines: &mut Lines| {
        serde_json::Serializer::new(&mut lines.text)
            .collect_seq(tokens.iter())
            .map_err(|e| Error::data(format!("cannot write tokens as JSON: {e}")))?;
        lines.text.push(b'\n');
        lines.documents += 1;
        lines.tokens += tokens.len() as u64;
        Ok(())
    };
    let mut out = std::io::stdout();
    let begin = Instant::now();
    let (mut documents, mut total) = (0u64, 0u64);
    text::tokenize_all(sources, tokenizer, make, |lines: Lines| {
        documents += lines.documents;
        total += lines.tokens;
        output::written(out.write_all(&lines.text))
    })?;
    output::written(out.flush())?;
    if !global.json {
        return Ok(());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let value = json!({
        "tokens": total,
        "documents": documents,
        "vocabulary": null,
        "seconds": seconds,
        "tokens_per_second": total as f64 / seconds.max(1e-9),
        "peak_rss_mb": peak_rss_mb(),
    });
    output::result(true, "", &value)
}

/// The tokenizer of the flags.
fn tokenizer_plan(args: &Args) -> Result<TokenizerPlan> {
    let rules = Rules::by_name(&args.rules)?;
    let invisible = match args.invisible {
        InvisibleArg::Keep => Invisible::Keep,
        InvisibleArg::Drop => Invisible::Drop,
    };
    let table = Language::by_name(&args.language)?;
    if table.is_some() && args.tokenizer != TokenizerArg::Word {
        return Err(Error::usage(format!("--language {}: only the word tokenizer knows languages", args.language))
            .hint("leave --language or --tokenizer away"));
    }
    let of_subwords = [("--subword", args.subword.is_some()), ("--tokenizer-file", args.tokenizer_file.is_some())];
    if let (Some((flag, _)), true) = (of_subwords.iter().find(|(_, on)| *on), args.tokenizer != TokenizerArg::Subword) {
        return Err(Error::usage(format!("{flag}: the tokenizer is another one")).hint("say --tokenizer subword"));
    }
    if !(args.coverage > 0.0 && args.coverage <= 1.0) {
        return Err(Error::usage(format!("--coverage must be above 0 and at most 1, not {}", args.coverage)));
    }
    Ok(TokenizerPlan::Made(match args.tokenizer {
        TokenizerArg::Word => TokenizerKind::word_in(rules, table).with_invisible(invisible),
        TokenizerArg::Whitespace => TokenizerKind::Whitespace,
        TokenizerArg::Pretokenized => TokenizerKind::Pretokenized,
        TokenizerArg::Subword => {
            if let Some(file) = &args.tokenizer_file {
                return TokenizerPlan::from_file(file);
            }
            let algorithm = match args.subword {
                Some(SubwordArg::Bpe) => SubwordAlgorithm::Bpe,
                Some(SubwordArg::Unigram) | None => SubwordAlgorithm::Unigram,
            };
            return Ok(TokenizerPlan::Train { algorithm, rules, invisible, coverage: args.coverage });
        }
    }))
}
