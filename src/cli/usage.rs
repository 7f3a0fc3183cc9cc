//! Wrong usage in one sentence and a hint, instead of clap's page.

use std::collections::BTreeSet;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Message and hint of a fault that clap found. `command` is the command's name where it is known;
/// flags in `from_config` came from the configuration file `file`.
pub fn explain(
    error: &clap::Error,
    command: Option<&str>,
    from_config: &BTreeSet<String>,
    file: Option<&str>,
) -> (String, Option<String>) {
    let get = |kind| error.get(kind).map(words).unwrap_or_default();
    let argument = get(ContextKind::InvalidArg);
    let help = match command {
        Some(command) => format!("'ulmfit {command} --help' shows its flags and an example"),
        None => "'ulmfit --help' lists the commands".to_string(),
    };
    let place = argument
        .split([' ', '='])
        .next()
        .and_then(|flag| flag.strip_prefix("--"))
        .filter(|flag| from_config.contains(*flag))
        .and(file)
        .map_or_else(String::new, |file| format!(" (in {file})"));
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let hint = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
                .iter()
                .find_map(|&kind| error.get(kind).map(|value| format!("did you mean '{}'?", words(value))));
            if argument.starts_with('-') {
                return (format!("unknown flag '{argument}'"), hint.or(Some(help)));
            }
            let file = match command {
                Some("run" | "train-classifier" | "linear" | "compare" | "curve") => Some("--train"),
                Some("evaluate") => Some("--data"),
                Some("pretrain") => Some("--corpus"),
                Some("finetune-lm") => Some("--text"),
                _ => None,
            };
            let flag = file.map(|flag| format!("a file needs its flag: {flag} {argument}"));
            (format!("unexpected argument '{argument}'"), hint.or(flag).or(Some(help)))
        }
        ErrorKind::InvalidSubcommand => {
            let hint = error.get(ContextKind::SuggestedSubcommand).map(|v| format!("did you mean '{}'?", words(v)));
            (format!("unknown command '{}'", get(ContextKind::InvalidSubcommand)), hint.or(Some(help)))
        }
        ErrorKind::InvalidValue => {
            let value = get(ContextKind::InvalidValue);
            let choices =
                error.get(ContextKind::ValidValue).map(words).filter(|v| !v.is_empty()).map(|v| format!("one of {v}"));
            if value.is_empty() {
                return (format!("{argument}: a value is missing{place}"), choices.or(Some(help)));
            }
            (format!("{argument}: '{value}' is not one of its values{place}"), choices.or(Some(help)))
        }
        ErrorKind::ValueValidation => {
            let why =
                std::error::Error::source(error).map(|e| e.to_string()).unwrap_or_else(|| "it is no value".into());
            (format!("{argument}: '{}' is refused: {why}{place}", get(ContextKind::InvalidValue)), None)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let what = command.map_or_else(String::new, |command| format!(" after '{command}'"));
            (format!("a command is missing{what}"), Some(help))
        }
        ErrorKind::MissingRequiredArgument => (format!("missing: {argument}"), Some(help)),
        ErrorKind::ArgumentConflict if argument == get(ContextKind::PriorArg) => {
            (format!("{argument} is given more than once"), Some(help))
        }
        ErrorKind::ArgumentConflict => {
            (format!("{argument} cannot be used together with {}", get(ContextKind::PriorArg)), Some(help))
        }
        ErrorKind::NoEquals | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::TooManyValues => {
            (format!("{argument}: wrong number of values{place}"), Some(help))
        }
        ErrorKind::InvalidUtf8 => ("an argument is not valid UTF-8".into(), None),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            (first.trim_start_matches("error: ").to_string(), Some(help))
        }
    }
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(list) => list.join(", "),
        ContextValue::StyledStrs(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ContextValue::None => String::new(),
        value => value.to_string(),
    }
}
