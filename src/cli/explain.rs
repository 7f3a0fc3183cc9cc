//! `ulmfit explain`: which words decided.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::shared::TextArgs;
use super::{Global, job, output};
use crate::answer::explain::{Explanation, MOST_TOKENS, Question};
use crate::answer::panel::{Panel, Voices};
use crate::error::{Error, Result};
use crate::report::explanation::{self, Style};
use crate::text::{Document, Role, Source};

/// Show which words of a text decided: shares in the logit, integrated gradients, leave-one-out
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit explain --model classifier \"a great story, badly told\"\n  ulmfit explain --model classifier --data test.csv --format html > why.html\n  ulmfit explain --model classifier --label pos --against neg --format json \"not bad\""
)]
pub struct Args {
    /// A classifier, or the folder of a run
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Texts to explain
    #[arg(value_name = "TEXT", required_unless_present = "data", conflicts_with = "data")]
    pub texts: Vec<String>,
    /// A file with texts, or - for one text a line on standard input; labels are ignored
    #[arg(long, value_name = "FILE|-")]
    pub data: Option<String>,
    /// The class or label whose logit is taken apart [default: the predicted one]
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
    /// A class whose logit is taken away first: what speaks for the one rather than the other
    #[arg(long, value_name = "NAME")]
    pub against: Option<String>,
    /// text, html or json (one object a line)
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: ColourArg,
    /// Points of the path of integrated gradients; 0: none
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::values::from_zero)]
    pub steps: usize,
    /// Words that are left out one at a time, those with the largest shares; 0: none
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = super::values::from_zero)]
    pub without: usize,
    /// Rows of the tables of text and html
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = super::values::from_zero)]
    pub rows: usize,
    #[command(flatten)]
    pub read: TextArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FormatArg {
    Text,
    Html,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ColourArg {
    Auto,
    Always,
    Never,
}

impl ColourArg {
    /// Whether standard output gets colours (<https://no-color.org>).
    fn on(self) -> bool {
        let wanted = || std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self {
            ColourArg::Always => true,
            ColourArg::Never => false,
            ColourArg::Auto => std::io::stdout().is_terminal() && wanted(),
        }
    }
}

/// Points of a path at most.
const MOST_STEPS: usize = 1 << 20;

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let json = global.json || args.format == FormatArg::Json;
    if global.json && args.format == FormatArg::Html {
        return Err(Error::usage("--json and --format html: one of them"));
    }
    if args.steps > MOST_STEPS {
        return Err(Error::usage(format!("--steps must be at most {MOST_STEPS}, not {}", args.steps)));
    }
    if args.data.is_none() {
        args.read.data().refuse("texts of the command line are no file", global)?;
    }
    let mut panel = Panel::load(&args.model, None, Voices::All, || global.graph())?;
    let labels = panel.labels().to_vec();
    let texts = match &args.data {
        None => Source::of_texts("the command line", args.texts.iter().map(Document::new).collect::<Vec<_>>()),
        Some(data) => job::source_or_stdin(data, &args.read.data(), Role::Texts)?,
    };
    if args.data.is_some() {
        args.read.data().check_flags([&texts], global)?;
        if !global.quiet {
            output::to_stderr(&texts.describe());
        }
    }
    if panel.has_network() {
        global.announce_device();
    }
    let question =
        Question { label: args.label.clone(), against: args.against.clone(), steps: args.steps, without: args.without };
    let style = Style { colours: args.color.on(), rows: args.rows };
    let mut page: Vec<(String, Explanation)> = Vec::new();
    for document in texts.documents()? {
        let document = document?;
        let found = panel.explain(&document, &question)?;
        output::warn(panel.warning());
        let long = found.networks.iter().any(|network| network.tokens.len() > MOST_TOKENS);
        if long && args.steps + args.without > 0 {
            let what = "only the shares of its steps are told";
            output::warn(Some(&format!("a text has more than {MOST_TOKENS} tokens: {what}")));
        }
        if json {
            output::to_stdout(&format!("{}\n", found.json(&document.text, &labels)))?;
        } else if args.format == FormatArg::Html {
            page.push((document.text, found));
        } else {
            output::to_stdout(&explanation::text(&found, &document.text, &labels, style))?;
        }
    }
    if args.format == FormatArg::Html {
        output::to_stdout(&explanation::page(&page, &labels, args.rows))?;
    }
    Ok(())
}
