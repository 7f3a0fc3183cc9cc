//! Observers of a training run and what they leave behind: progress on standard error,
//! `metrics.jsonl`, curves, and the self-contained `report.html`.

mod answer;
pub mod environment;
pub mod explanation;
pub mod html;
pub mod log;
pub mod metrics;
pub mod plots;
pub mod progress;

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

/// Seconds as `42 s`, `3:20` or `1:02:03`.
fn duration(seconds: f64) -> String {
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
