//! Flags that several commands share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::{Global, output, values};
use crate::answer::panel::Voices;
use crate::device::{Device, cuda};
use crate::error::{Error, Result};
use crate::ops::lstm::plan::{Described, describe};
use crate::text::{Encoding, Format, OpenOptions, Quotes, Role, Source, of_flags};
use crate::train::interrupt;

/// How data files are read, where recognising them by content and name is not wanted.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Data files")]
pub struct DataArgs {
    /// plain, wikitext, extract, csv, csv-no-header, tsv, tsv-no-header, json-lines, trec,
    /// label-text, fasttext or conll
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// utf-8, latin-1 or another encoding's name
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,
    /// Name or number (from 1) of a text column; may be repeated
    #[arg(long, value_name = "COLUMN", action = clap::ArgAction::Append)]
    pub text_column: Vec<String>,
    /// Name or number (from 1) of the label column; repeated: columns of 0 and 1, one for each
    /// label
    #[arg(long, value_name = "COLUMN", action = clap::ArgAction::Append)]
    pub label_column: Vec<String>,
    /// What stands between several labels of a text
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub label_separator: Option<String>,
    /// What stands between the columns of a table: one character, or tab
    #[arg(long, value_name = "CHAR", value_parser = values::delimiter)]
    pub delimiter: Option<u8>,
    /// Whether the first row of a table names the columns: yes or no
    #[arg(long, value_name = "yes|no", value_parser = values::yes_or_no)]
    pub header: Option<bool>,
    /// Whether quotes enclose the fields of a table: yes, no, or backslash (then \" is one within a
    /// field)
    #[arg(long, value_name = "yes|no|backslash")]
    pub quotes: Option<String>,
    /// What stands before the names of these flags on the command line
    #[arg(skip)]
    pub prefix: &'static str,
}

impl DataArgs {
    /// Options for the readers.
    pub fn options(&self, role: Role) -> Result<OpenOptions> {
        self.read(role).map_err(|e| of_flags(e, self.prefix))
    }

    fn read(&self, role: Role) -> Result<OpenOptions> {
        let columns = (self.label_column.len() > 1).then(String::new);
        Ok(OpenOptions {
            role,
            format: self.format.as_deref().map(Format::by_name).transpose()?,
            encoding: self.encoding.as_deref().map(Encoding::by_name).transpose()?,
            text_columns: self.text_column.clone(),
            label_columns: self.label_column.clone(),
            label_separator: self.label_separator.clone().or(columns),
            delimiter: self.delimiter,
            header: self.header,
            quotes: self.quotes.as_deref().map(Quotes::by_name).transpose()?,
            flags: self.prefix,
        })
    }

    /// Names of the flags that are given.
    fn given(&self) -> Vec<String> {
        let all = [
            ("format", self.format.is_some()),
            ("encoding", self.encoding.is_some()),
            ("text-column", !self.text_column.is_empty()),
            ("label-column", !self.label_column.is_empty()),
            ("label-separator", self.label_separator.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("header", self.header.is_some()),
            ("quotes", self.quotes.is_some()),
        ];
        all.iter().filter(|(_, given)| *given).map(|(flag, _)| format!("{}{flag}", self.prefix)).collect()
    }

    /// Refuses all of these flags where there is no file that they are for.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the first which is on the command line.
    pub fn refuse(&self, why: &str, global: &Global) -> Result<()> {
        match self.given().into_iter().find(|flag| !global.is_from_config(flag)) {
            Some(flag) => Err(Error::usage(format!("--{flag} does nothing here: {why}")).hint("leave it out")),
            None => Ok(()),
        }
    }

    /// Refuses names of columns where no file has any, and what is said of tables where there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the flag.
    pub fn check_flags<'a>(&self, sources: impl IntoIterator<Item = &'a Source>, global: &Global) -> Result<()> {
        let sources: Vec<&Source> = sources.into_iter().collect();
        let Some(first) = sources.first() else { return Ok(()) };
        let columns = sources.iter().any(|source| source.has_columns());
        let tables = sources.iter().any(|source| source.has_tables());
        let all = [
            ("text-column", !self.text_column.is_empty() && !columns, "columns"),
            ("label-column", !self.label_column.is_empty() && !columns, "columns"),
            ("delimiter", self.delimiter.is_some() && !tables, "columns of a table"),
            ("header", self.header.is_some() && !tables, "columns of a table"),
            ("quotes", self.quotes.is_some() && !tables, "columns of a table"),
        ];
        for (flag, idle, what) in all {
            let flag = format!("{}{flag}", self.prefix);
            if idle && !global.is_from_config(&flag) {
                let message = format!("--{flag} does nothing here: there are no {what} ({})", first.describe());
                return Err(Error::usage(message).hint("leave it out"));
            }
        }
        Ok(())
    }
}

impl DataArgs {
    /// Whether the flags say that a text may have several labels.
    pub fn has_several_labels(&self) -> bool {
        self.label_separator.is_some() || self.label_column.len() > 1
    }

    /// The same for data whose texts may have several labels, with ';' between them unless the
    /// flags say otherwise.
    #[must_use]
    pub fn with_several_labels(&self) -> DataArgs {
        let mut all = self.clone();
        if !all.has_several_labels() {
            all.label_separator = Some(";".into());
        }
        all
    }
}

/// How the files of one role are read in a command that reads files of several: the flags of
/// [`DataArgs`], but for those of labels, each with the role's prefix.
macro_rules! role_arguments {
    ($name:ident, $prefix:literal, $heading:literal) => {
        #[doc = concat!("How the ", $heading, " is read; the flags without a prefix are for the labelled files.")]
        #[derive(Clone, Debug, Default, Args)]
        #[command(next_help_heading = "Data files")]
        pub struct $name {
            #[arg(id = concat!($prefix, "format"), long = concat!($prefix, "format"))]
            #[arg(value_name = "FORMAT", help = concat!("As --format, for the ", $heading))]
            format: Option<String>,
            #[arg(id = concat!($prefix, "encoding"), long = concat!($prefix, "encoding"))]
            #[arg(value_name = "NAME", help = concat!("As --encoding, for the ", $heading))]
            encoding: Option<String>,
            #[arg(id = concat!($prefix, "text-column"), long = concat!($prefix, "text-column"))]
            #[arg(value_name = "COLUMN", action = clap::ArgAction::Append)]
            #[arg(help = concat!("As --text-column, for the ", $heading))]
            text_column: Vec<String>,
            #[arg(id = concat!($prefix, "delimiter"), long = concat!($prefix, "delimiter"))]
            #[arg(value_name = "CHAR", value_parser = values::delimiter)]
            #[arg(help = concat!("As --delimiter, for the ", $heading))]
            delimiter: Option<u8>,
            #[arg(id = concat!($prefix, "header"), long = concat!($prefix, "header"))]
            #[arg(value_name = "yes|no", value_parser = values::yes_or_no)]
            #[arg(help = concat!("As --header, for the ", $heading))]
            header: Option<bool>,
            #[arg(id = concat!($prefix, "quotes"), long = concat!($prefix, "quotes"))]
            #[arg(value_name = "yes|no|backslash", help = concat!("As --quotes, for the ", $heading))]
            quotes: Option<String>,
        }

        impl $name {
            pub fn data(&self) -> DataArgs {
                let Self { format, encoding, text_column, delimiter, header, quotes } = self.clone();
                let prefix = $prefix;
                DataArgs { format, encoding, text_column, delimiter, header, quotes, prefix, ..DataArgs::default() }
            }
        }
    };
}

role_arguments!(TextArgs, "data-", "texts");
role_arguments!(CorpusArgs, "corpus-", "corpus");
role_arguments!(UnlabelledArgs, "unlabelled-", "text without labels");

/// Going on after a stop.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Stopping and going on")]
pub struct RunArgs {
    /// Go on exactly where the run in the output directory stopped
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace what is in the output directory
    #[arg(long)]
    pub overwrite: bool,
    /// Minutes between checkpoints
    #[arg(long, value_name = "X", default_value = "10", value_parser = values::above_zero)]
    pub checkpoint_minutes: f64,
    /// Write a checkpoint every N updates, too
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub checkpoint_steps: Option<usize>,
    /// Where a disk is full: stop, or wait until there is room
    #[arg(long, value_enum, value_name = "stop|wait", default_value = "stop")]
    pub on_full: OnFullArg,
}

/// What becomes of a run that finds no room on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFullArg {
    #[default]
    Stop,
    Wait,
}

impl RunArgs {
    /// Says what holds for the process from now on.
    pub fn begin(&self) {
        if self.on_full == OnFullArg::Wait {
            crate::files::when_full(wait_for_room);
        }
    }
}

/// A moment's wait; false where somebody wants the run to end.
fn wait_for_room(fault: &std::io::Error) -> bool {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        output::to_stderr(&format!("warning: {fault}: waiting until there is room (Ctrl-C ends the run)"));
    }
    std::thread::sleep(Duration::from_millis(200));
    interrupt::requested().is_none()
}

/// A model to start from: a directory, or the word `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelOrNone {
    None,
    Directory(PathBuf),
}

impl std::str::FromStr for ModelOrNone {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(if text == "none" { ModelOrNone::None } else { ModelOrNone::Directory(text.into()) })
    }
}

/// How LSTM layers of these sizes would run on the device, where it is a GPU.
///
/// # Errors
/// A GPU that cannot be used.
pub fn lstm_plans(global: &Global, batch: usize, hidden: &[usize]) -> Result<Option<Vec<Described>>> {
    let device = global.device;
    let Device::Cuda(ordinal) = device else { return Ok(None) };
    let found = cuda::probe().map_err(|reason| crate::error::Error::data(format!("cuda:{ordinal}: {reason}")))?;
    describe(found.usable(ordinal)?, global.precision, batch, hidden).map(Some)
}

/// A line for each plan.
pub fn lstm_lines(plans: &[Described]) -> String {
    let line = |p: &Described| {
        let (plan, rows) = (p.plan.replace('_', "-"), p.batch);
        format!("  {:>5} units, {rows} rows, {:<9} {plan}: {}\n", p.hidden, p.direction, p.reason)
    };
    plans.iter().map(line).collect()
}

/// Whether a linear model answers beside the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BlendArg {
    Auto,
    Off,
}

impl BlendArg {
    /// Which models of a folder answer.
    pub fn voices(self) -> Voices {
        match self {
            BlendArg::Auto => Voices::All,
            BlendArg::Off => Voices::Network,
        }
    }
}
