//! Observers of a training run, and their files: progress on standard error,
//! `metrics.jsonl`, curves, and the self-contained `report.html`.

mod answer;
pub mod comparison;
mod curves;
pub mod environment;
pub mod explanation;
pub mod figure;
pub mod html;
pub mod instruments;
pub mod log;
pub mod metrics;
pub mod mistakes;
pub mod page;
pub mod plots;
pub mod progress;
pub mod subject;
pub mod tensorboard;
pub mod timeline;

use crate::text::Direction;
use crate::train::Stage;

/// Name of a stage for people.
fn stage_title(stage: Stage, direction: Direction) -> &'static str {
    match (stage, direction) {
        (Stage::Pretrain, Direction::Forward) => "Language model: pretraining",
        (Stage::Pretrain, Direction::Backward) => "Language model, backward: pretraining",
        (Stage::FinetuneLm, Direction::Forward) => "Language model: fine-tuning",
        (Stage::FinetuneLm, Direction::Backward) => "Language model, backward: fine-tuning",
        (Stage::Classifier, Direction::Forward) => "Classifier",
        (Stage::Classifier, Direction::Backward) => "Classifier, backward",
    }
}

/// Name of a stage in a line of progress.
fn stage_name(stage: Stage, direction: Direction) -> &'static str {
    match (stage, direction) {
        (Stage::Pretrain, Direction::Forward) => "pretraining",
        (Stage::Pretrain, Direction::Backward) => "pretraining, backward",
        (Stage::FinetuneLm, Direction::Forward) => "fine-tuning",
        (Stage::FinetuneLm, Direction::Backward) => "fine-tuning, backward",
        (Stage::Classifier, Direction::Forward) => "classifier",
        (Stage::Classifier, Direction::Backward) => "classifier, backward",
    }
}

/// Whether a result of this name is a share of wrong answers in percent.
fn is_percentage(key: &str) -> bool {
    key.ends_with("_error") && !key.ends_with("squared_error") && !key.ends_with("absolute_error")
}

/// `1234567` as `1,234,567`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Columns of the terminal behind a stream; 80 where it does not tell.
pub fn columns(stream: &impl std::os::fd::AsFd) -> usize {
    terminal_size::terminal_size_of(stream).map_or(80, |(width, _)| usize::from(width.0)).max(20)
}

/// What stands for a space and `%` while lines are wrapped: a character of nobody, and a second one
/// for the width.
const TOGETHER: &str = "\u{e000}\u{e001}";

/// The lines of a text, none wider than `columns` where white space allows: what follows of a line
/// is indented by two more than its beginning.
pub fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::new();
    // a number and its sign of percent stay together
    let text = text.replace(" %", TOGETHER);
    for (n, line) in text.lines().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let indent = line.len() - line.trim_start().len();
        let mut width = 0;
        for word in line.split_inclusive(' ') {
            let wide = word.trim_end().chars().count();
            if width > indent + 2 && width + wide > columns {
                out.truncate(out.trim_end().len());
                out.push('\n');
                width = indent + 2;
                out.push_str(&" ".repeat(width));
            }
            out.push_str(word);
            width += word.chars().count();
        }
    }
    out.replace(TOGETHER, " %")
}

/// Seconds as `42 s`, `3:20` or `1:02:03`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".into();
    }
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let text = "  epoch 1/2  loss 0.5  rate 0.01\nshort\n0123456789012345678901234567890";
        let narrow = wrapped(text, 20);
        let (first, rest) = narrow.split_once('\n').unwrap();
        assert_eq!((first, rest.lines().next().unwrap()), ("  epoch 1/2  loss", "    0.5  rate 0.01"));
        // a word without a space stays whole
        assert!(rest.ends_with("short\n0123456789012345678901234567890"), "{narrow}");
        assert_eq!(wrapped(text, 80), text);
        assert_eq!(wrapped("an error of about 12 % of them", 21), "an error of about\n  12 % of them");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(thousands).each_ref().map(|s| &**s)
        );
        assert_eq!(duration(42.4), "42 s");
        assert_eq!(duration(200.0), "3:20");
        assert_eq!(duration(3723.0), "1:02:03");
        assert_eq!(duration(f64::NAN), "?");
    }
}
