//! `ulmfit score`: perplexity of texts under a language model.

use std::path::PathBuf;

use super::shared::DataArgs;
use super::{Global, job, output};
use crate::answer::language::Speaker;
use crate::error::Result;
use crate::models;
use crate::text::Role;

/// Perplexity of texts under a language model
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit score --model lm --input sentences.txt")]
pub struct Args {
    /// A language model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A file with texts, or - for one text a line on standard input
    #[arg(long, value_name = "FILE|-")]
    pub input: String,
    #[command(flatten)]
    pub data: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let model = models::load_language_model(&args.model)?;
    let texts = job::source_or_stdin(&args.input, &args.data, Role::Texts)?;
    args.data.check_flags([&texts], global)?;
    if !global.quiet {
        output::to_stderr(&texts.describe());
    }
    global.announce_device();
    let mut speaker = Speaker::new(model, global.graph())?;
    let mut lines = String::new();
    for text in texts.documents()? {
        let score = speaker.score(&text?.text)?;
        lines += &format!("{}\n", serde_json::to_string(&score).expect("a score is plain data"));
    }
    output::to_stdout(&lines)
}
