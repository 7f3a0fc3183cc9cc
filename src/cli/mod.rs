//! The command line (docs/CLI.md): one file per command. `main.rs` only calls [`process`].

pub mod config;
pub mod global;
pub mod job;
pub mod output;
pub mod overrides;
pub mod recipe;
mod result;
pub mod scores;
pub mod serve;
pub mod shared;
mod takes;
pub mod usage;
pub mod values;

pub mod bench;
pub mod compare;
pub mod completions;
pub mod curve;
pub mod data;
pub mod demo;
pub mod doctor;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod finetune_lm;
pub mod generate;
pub mod get;
pub mod golden;
pub mod gradcheck;
pub mod import;
pub mod info;
pub mod inspect;
pub mod linear;
pub mod lr_find;
pub mod man;
pub mod pack;
pub mod plan;
pub mod predict;
pub mod pretrain;
pub mod profile;
pub mod recipe_table;
pub mod report;
pub mod run;
pub mod score;
pub mod tag;
pub mod tokenize;
pub mod train_classifier;
pub mod vocab;

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

pub use global::Global;

use crate::error::{Error, Result};

/// The version, and in a release build from a repository the commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("ULMFIT_COMMIT"));

/// ULMFiT: language models, fine-tuned into text classifiers
#[derive(Debug, clap::Parser)]
#[command(name = "ulmfit", version = VERSION, disable_help_subcommand = true, max_term_width = 120)]
#[command(after_help = "'ulmfit COMMAND --help' shows the flags of a command and an example.")]
pub struct Cli {
    #[command(flatten)]
    pub global: global::GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// One variant a command.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Demo(Box<demo::Args>),
    Run(Box<run::Args>),
    Pretrain(Box<pretrain::Args>),
    FinetuneLm(Box<finetune_lm::Args>),
    TrainClassifier(Box<train_classifier::Args>),
    Linear(linear::Args),
    Compare(Box<compare::Args>),
    Curve(Box<curve::Args>),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Tag(tag::Args),
    Explain(explain::Args),
    Generate(generate::Args),
    Score(score::Args),
    LrFind(Box<lr_find::Args>),
    Pack(pack::Args),
    Tokenize(tokenize::Args),
    Vocab(vocab::Args),
    Data(data::Args),
    Gradcheck(gradcheck::Args),
    Golden(golden::Args),
    Bench(bench::Args),
    Profile(Box<profile::Args>),
    Plan(Box<plan::Args>),
    Recipe(recipe_table::Args),
    Report(report::Args),
    Info(info::Args),
    Doctor(doctor::Args),
    Import(import::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Get(get::Args),
    Serve(serve::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Whether it answers with weights of 8 bits.
    fn takes_int8(&self) -> bool {
        matches!(self, Command::Predict(_) | Command::Evaluate(_) | Command::Serve(_) | Command::Bench(_))
    }

    fn run(&self, global: &Global) -> Result<()> {
        match self {
            Command::Demo(args) => demo::run(args, global),
            Command::Run(args) => run::run(args, global),
            Command::Pretrain(args) => pretrain::run(args, global),
            Command::FinetuneLm(args) => finetune_lm::run(args, global),
            Command::TrainClassifier(args) => train_classifier::run(args, global),
            Command::Linear(args) => linear::run(args, global),
            Command::Compare(args) => compare::run(args, global),
            Command::Curve(args) => curve::run(args, global),
            Command::Evaluate(args) => evaluate::run(args, global),
            Command::Predict(args) => predict::run(args, global),
            Command::Tag(args) => tag::run(args, global),
            Command::Explain(args) => explain::run(args, global),
            Command::Generate(args) => generate::run(args, global),
            Command::Score(args) => score::run(args, global),
            Command::LrFind(args) => lr_find::run(args, global),
            Command::Pack(args) => pack::run(args, global),
            Command::Tokenize(args) => tokenize::run(args, global),
            Command::Vocab(args) => vocab::run(args, global),
            Command::Data(args) => data::run(args, global),
            Command::Gradcheck(args) => gradcheck::run(args, global),
            Command::Golden(args) => golden::run(args, global),
            Command::Bench(args) => bench::run(args, global),
            Command::Profile(args) => profile::run(args, global),
            Command::Plan(args) => plan::run(args, global),
            Command::Recipe(args) => recipe_table::run(args, global),
            Command::Report(args) => report::run(args, global),
            Command::Info(args) => info::run(args, global),
            Command::Doctor(args) => doctor::run(args, global),
            Command::Import(args) => import::run(args, global),
            Command::Export(args) => export::run(args, global),
            Command::Inspect(args) => inspect::run(args, global),
            Command::Get(args) => get::run(args, global),
            Command::Serve(args) => serve::run(args, global),
            Command::Completions(args) => completions::run(args, global),
            Command::Man(args) => man::run(args, global),
        }
    }
}

/// The definition of the command line. A value that begins like a flag but is a number is a value:
/// `--lr -1` is told that it must be above zero, not that `-1` is unknown.
fn definition() -> clap::Command {
    fn numbers(command: clap::Command) -> clap::Command {
        let allow = |arg: clap::Arg| {
            if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg }
        };
        command.mut_args(allow).mut_subcommands(numbers)
    }
    numbers(Cli::command())
}

/// The stack of the thread that does the work. It is there from the beginning: that of a process
/// grows, and where the system refuses that the process is killed.
const STACK: usize = 16 << 20;

/// [`main`] on a thread of its own, with a stack that suffices: all that a process does.
pub fn process(line: Vec<OsString>) -> i32 {
    match std::thread::Builder::new().name("main".into()).stack_size(STACK).spawn(|| main(line)) {
        // a fault of the program is told, and ends it, where it is found
        Ok(thread) => thread.join().unwrap_or(1),
        Err(fault) => {
            output::to_stderr(&format!("error: the system refused a thread: {fault}"));
            1
        }
    }
}

/// The whole program: parses `line` (which begins with the program's name), runs the command,
/// reports a fault, and returns the exit status.
pub fn main(line: Vec<OsString>) -> i32 {
    std::panic::set_hook(Box::new(internal_error));
    let outcome = parse_and_run(line);
    let closed = crate::device::cuda::close();
    match outcome.and_then(|()| Ok(closed?)) {
        Ok(()) => 0,
        Err(Stop::Printed(status)) => status,
        Err(Stop::Fault(error)) => {
            output::report(&error.to_string(), error.hint_text().as_deref());
            error.exit_status()
        }
    }
}

/// Why the program ends early.
enum Stop {
    /// Everything is said.
    Printed(i32),
    Fault(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Fault(error)
    }
}

fn parse_and_run(line: Vec<OsString>) -> Result<(), Stop> {
    if line.len() <= 1 {
        output::to_stderr("usage: ulmfit COMMAND [FLAGS]");
        output::to_stderr("hint: try 'ulmfit demo'; 'ulmfit --help' lists the commands");
        return Err(Stop::Printed(2));
    }
    start_log()?;
    let parsed = parse_line(line)?;
    global::start_threads(parsed.cli.global.threads)?;
    let (command, global) = parsed.checked()?;
    Ok(command.run(&global)?)
}

/// The command of a line and its global flags, checked as [`main`] checks them: for a program that
/// holds this library. Nothing is started, and `--threads` is the caller's to heed.
///
/// # Errors
/// What is wrong with the line; that the device cannot be used. A line that asks for help or the
/// version is wrong here.
pub fn parse(line: Vec<OsString>) -> Result<(Command, Global)> {
    match parse_line(line).and_then(|parsed| Ok(parsed.checked()?)) {
        Ok(parsed) => Ok(parsed),
        Err(Stop::Fault(error)) => Err(error),
        Err(Stop::Printed(_)) => Err(Error::usage("a question for help is no command")),
    }
}

/// A line that could be read, and the flags that came from a configuration file.
struct Parsed {
    cli: Cli,
    from_config: BTreeSet<String>,
}

impl Parsed {
    /// Chooses the device; refuses what the command does not take.
    fn checked(self) -> Result<(Command, Global)> {
        let (command, global) = (self.cli.command, Global::new(self.cli.global, self.from_config)?);
        if global.devices.len() > 1 && !matches!(command, Command::Bench(_)) {
            return Err(Error::usage("--device: one is enough; 'bench' alone takes several"));
        }
        if global.int8 && !command.takes_int8() {
            let message = "--precision int8 is for prediction: predict, evaluate, serve, and bench --suite predict";
            return Err(Error::usage(message).hint("use f32 or bf16"));
        }
        Ok((command, global))
    }
}

/// Reads a line and the configuration file that it names; prints help and version.
fn parse_line(line: Vec<OsString>) -> Result<Parsed, Stop> {
    let mut definition = definition();
    let merged = config::merge(&definition, line)?;
    let parsed = definition.try_get_matches_from_mut(&merged.line).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = parsed.map_err(|error| {
        if !error.use_stderr() {
            // help and version
            return output::to_stdout(&format!("{}\n", error.to_string().trim_end()))
                .map_or_else(Stop::from, |()| Stop::Printed(0));
        }
        let command = command_path(&definition, &merged.line);
        let file = merged.file.as_ref().map(|file| file.display().to_string());
        let (message, hint) = usage::explain(&error, command.as_deref(), &merged.from_config, file.as_deref());
        Stop::Fault(Error::Usage { message, hint })
    })?;
    Ok(Parsed { cli, from_config: merged.from_config })
}

/// Names of the command on a line, and of the command within it where it has any (`data check`).
fn command_path(definition: &clap::Command, line: &[OsString]) -> Option<String> {
    let (mut at, mut names) = (definition, Vec::new());
    for word in line.iter().skip(1) {
        if let Some(command) = at.find_subcommand(word) {
            names.push(command.get_name());
            at = command;
        }
    }
    (!names.is_empty()).then(|| names.join(" "))
}

/// `ULMFIT_LOG` sets the level (`debug`, `ulmfit::train=trace`); without it there is no log (see
/// `report::log`).
fn start_log() -> Result<()> {
    let Some(filter) = std::env::var_os("ULMFIT_LOG").filter(|filter| !filter.is_empty()) else { return Ok(()) };
    let filter = filter.to_string_lossy();
    let filter = tracing_subscriber::EnvFilter::try_new(&*filter).map_err(|_| {
        Error::usage(format!("ULMFIT_LOG={filter} is no log level"))
            .hint("set it to error, warn, info, debug or trace, or to ROOM=LEVEL as in ulmfit::train=debug")
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// What a fault of the program itself looks like: one line, exit status 1.
fn internal_error(info: &std::panic::PanicHookInfo) {
    if crate::text::is_guarded() {
        // it is caught, and told as a fault of the file
        return;
    }
    let message = info.payload_as_str().unwrap_or("without a message");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let place = info.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    output::to_stderr(&format!("internal error{place}: {message}"));
    crate::temporary::remove_all();
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    /// Every command has help with an example, and every flag says what it is for.
    #[test]
    fn every_command_explains_itself() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("ulmfit {name}")), "{name} has no example");
            assert!(command.get_about().is_some(), "{name} does not say what it does");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{name}: {} has no help", arg.get_id());
            }
        }
    }
}
