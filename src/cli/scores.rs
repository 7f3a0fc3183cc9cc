//! Precision, recall and F1 as commands print them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::answer::{Hits, SHOWN_CLASSES};
use crate::text::shown_label;

/// An object for each class, label or kind of entity; what it is called stands under `what`.
/// `null` where there is nothing to divide by.
pub fn rows(what: &str, unit: &str, hits: &[Hits], names: &[String]) -> Vec<Value> {
    let one = |(name, hits): (&String, &Hits)| {
        json!({
            what: name,
            unit: hits.support(),
            "precision": hits.precision(),
            "recall": hits.recall(),
            "f1": hits.f1(),
        })
    };
    names.iter().zip(hits).map(one).collect()
}

/// The same for people, shares in percent; of many those with the lowest F1.
pub fn table(what: &str, unit: &str, hits: &[Hits], names: &[String]) -> String {
    let many = hits.len() > SHOWN_CLASSES;
    let shown: Vec<usize> = if many { Hits::hardest(hits, SHOWN_CLASSES) } else { (0..hits.len()).collect() };
    let hits: Vec<Hits> = shown.iter().map(|&k| hits[k]).collect();
    let names: Vec<String> = shown.iter().map(|&k| shown_label(&names[k])).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(what.len());
    let mut text = format!("{what:width$}  {unit}  precision  recall      F1\n");
    for (name, hits) in names.iter().zip(&hits) {
        let percent = |share: Option<f64>| share.map_or("-".to_string(), |share| format!("{:.1}", 100.0 * share));
        let (precision, recall, f1) = (percent(hits.precision()), percent(hits.recall()), percent(hits.f1()));
        let (support, unit) = (hits.support(), unit.chars().count());
        let _ = writeln!(text, "{name:width$}  {support:>unit$}  {precision:>9}  {recall:>6}  {f1:>6}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Confusion;

    #[test]
    fn shares_of_a_class_are_those_of_the_definition() {
        let names = ["a", "b", "c"].map(String::from);
        let hits = Confusion::from(&[vec![3, 1, 0], vec![2, 4, 0], vec![0, 0, 0]][..]).hits();
        let all = rows("class", "documents", &hits, &names);
        assert_eq!(
            (&all[0]["documents"], &all[0]["precision"], &all[0]["recall"]),
            (&json!(4), &json!(0.6), &json!(0.75))
        );
        assert_eq!(all[1]["f1"], json!(8.0 / 11.0));
        assert_eq!(
            (&all[2]["precision"], &all[2]["recall"], &all[2]["f1"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let text = table("class", "documents", &hits, &names);
        assert_eq!(text.lines().nth(1).unwrap(), "a              4       60.0    75.0    66.7");
        assert_eq!(text.lines().nth(3).unwrap(), "c              0          -       -       -");
    }
}
