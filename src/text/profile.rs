//! A description of a set of documents: sizes, classes, repeated and empty texts, lengths. Texts
//! are kept as fingerprints alone, so memory grows by some fifty bytes a document, whatever its
//! length.

use std::collections::BTreeMap;

use super::build::{OnProgress, sorted_labels};
use super::{Document, Progress, Source, TextFingerprints, is_space};
use crate::error::Result;

/// Quantiles that [`Profile::quantiles`] gives.
pub const QUANTILES: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];

/// Counts over a set of documents.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    pub documents: u64,
    /// Documents with nothing but white space. They count among [`Profile::documents`] and nowhere
    /// else.
    pub empty: u64,
    /// Documents with a text but without a class.
    pub unlabelled: u64,
    /// Documents with HTML tags in their text.
    pub marked_up: u64,
    /// White-space separated words.
    pub words: u64,
    /// Bytes of text (UTF-8).
    pub bytes: u64,
    classes: BTreeMap<String, u64>,
    /// Words of each document that is not empty.
    lengths: Vec<u32>,
    texts: TextFingerprints,
}

impl Profile {
    /// Reads all documents of some sources, one at a time.
    ///
    /// # Errors
    /// Errors of reading, and the error of `progress`, which is called every now and then.
    pub fn of(sources: &[Source], progress: OnProgress) -> Result<Self> {
        let mut profile = Profile::default();
        for source in sources {
            for document in source.documents()? {
                profile.add(&document?);
                if profile.documents % 1024 == 0 {
                    progress(Progress { documents: profile.documents, bytes: profile.bytes })?;
                }
            }
        }
        Ok(profile)
    }

    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len() as u64;
        if document.is_empty() {
            self.empty += 1;
            return;
        }
        let words = document.text.split(is_space).filter(|w| !w.is_empty()).count();
        self.words += words as u64;
        self.marked_up += u64::from(super::doubts::has_markup(&document.text));
        self.lengths.push(u32::try_from(words).unwrap_or(u32::MAX));
        self.texts.add(&document.text);
        // where there may be several, each counts by itself
        let mut labels = document.labels().peekable();
        if labels.peek().is_none() {
            self.unlabelled += 1;
        }
        labels.for_each(|label| *self.classes.entry(label.to_string()).or_default() += 1);
    }

    /// Adds what was seen of another set: as if its documents had been read here.
    pub fn merge(&mut self, other: &Profile) {
        self.documents += other.documents;
        self.empty += other.empty;
        self.unlabelled += other.unlabelled;
        self.marked_up += other.marked_up;
        self.words += other.words;
        self.bytes += other.bytes;
        other.classes.iter().for_each(|(class, n)| *self.classes.entry(class.clone()).or_default() += n);
        self.lengths.extend_from_slice(&other.lengths);
        self.texts.merge(&other.texts);
    }

    /// Classes in their final order (numbers by value) with the number of documents of each.
    pub fn classes(&self) -> Vec<(&str, u64)> {
        let names: Vec<String> = self.classes.keys().cloned().collect();
        let (sorted, _) = sorted_labels(&names);
        let entry = |name: &String| self.classes.get_key_value(name).map(|(name, &n)| (name.as_str(), n));
        sorted.iter().filter_map(entry).collect()
    }

    /// Doubts whether the labels are classes and the texts are text, a sentence each.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = super::doubts::of_classes(&self.classes());
        doubts.extend(super::doubts::of_markup(self.marked_up, self.documents - self.empty));
        doubts
    }

    /// Classes of another set that this one has no document of.
    pub fn lacks(&self, other: &Profile) -> Vec<String> {
        other.classes.keys().filter(|class| !self.classes.contains_key(*class)).cloned().collect()
    }

    /// Number of different texts, empty ones left out.
    pub fn distinct(&self) -> u64 {
        self.texts.distinct()
    }

    /// Number of documents whose text an earlier document has, empty ones left out.
    pub fn duplicates(&self) -> u64 {
        self.texts.duplicates()
    }

    /// Number of different texts that are in both sets.
    pub fn overlap(&self, other: &Profile) -> u64 {
        self.texts.overlap(&other.texts)
    }

    /// Words of a document at [`QUANTILES`] (nearest rank), empty documents left out; nothing
    /// without a document.
    pub fn quantiles(&self) -> Vec<u32> {
        let mut sorted = self.lengths.clone();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
        QUANTILES
            .iter()
            .map(|q| sorted[((q * sorted.len() as f64).ceil() as usize).saturating_sub(1).min(last)])
            .collect()
    }

    /// Documents by length, empty ones left out: (least words, most words, documents); every range
    /// ends at twice the last one's end.
    pub fn histogram(&self) -> Vec<(u32, u32, u64)> {
        let mut ranges = [0u64; 33];
        self.lengths.iter().for_each(|&n| ranges[n.max(1).ilog2() as usize] += 1);
        let first = ranges.iter().position(|&n| n > 0).unwrap_or(0);
        let end = ranges.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
        (first..end).map(|k| (1 << k, (2u64.pow(k as u32 + 1) - 1).min(u32::MAX.into()) as u32, ranges[k])).collect()
    }

    /// In short: documents, classes and their shares, the usual length, what is repeated or empty.
    pub fn brief(&self) -> String {
        let mut parts = vec![format!("{} documents", self.documents)];
        let classes = self.classes();
        let count = |(_, n): &(&str, u64)| *n;
        let percent = |n: u64| 100.0 * n as f64 / classes.iter().map(count).sum::<u64>() as f64;
        if let (Some(least), Some(most)) = (classes.iter().map(count).min(), classes.iter().map(count).max()) {
            parts.push(match classes.len() {
                1 => "1 class".into(),
                n => format!("{n} classes ({:.0} to {:.0} %)", percent(least), percent(most)),
            });
        }
        if let Some(median) = self.quantiles().get(3) {
            parts.push(format!("median {median} words"));
        }
        let counted = [(self.duplicates(), "duplicates"), (self.empty, "empty"), (self.unlabelled, "unlabelled")];
        // of a set without classes none has a label
        let told = counted.iter().filter(|(n, what)| *n > 0 && (*what != "unlabelled" || !classes.is_empty()));
        parts.extend(told.map(|(n, what)| format!("{n} {what}")));
        parts.join(", ")
    }

    /// One line for a training run: sizes, balance, repeated and empty texts, lengths.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("{} documents", self.documents)];
        let classes = self.classes();
        if !classes.is_empty() {
            let total: u64 = classes.iter().map(|(_, n)| n).sum();
            let of = |pick: Option<&(&str, u64)>| {
                pick.map(|(name, n)| {
                    format!("'{}' {:.1} %", super::shown_label(name), 100.0 * *n as f64 / total as f64)
                })
                .unwrap_or_default()
            };
            let smallest = classes.iter().min_by_key(|(_, n)| n);
            // of equals the first, as with the smallest
            let largest = classes.iter().rev().max_by_key(|(_, n)| n);
            parts.push(match (classes.len(), smallest, largest) {
                (1, ..) => "1 class".into(),
                (n, Some((_, least)), Some((_, most))) if least == most => format!("{n} classes of {least} each"),
                (n, ..) => format!("{n} classes (largest {}, smallest {})", of(largest), of(smallest)),
            });
        }
        parts.push(format!("{} duplicates", self.duplicates()));
        parts.push(format!("{} empty", self.empty));
        if let [least, .., p95, most] = self.quantiles()[..] {
            let median = self.quantiles()[3];
            parts.push(format!("words: {least} to {most}, median {median}, 95 % up to {p95}"));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(documents: &[(&str, Option<&str>)]) -> Profile {
        let mut profile = Profile::default();
        for (text, label) in documents {
            profile.add(&Document { label: label.map(str::to_string), ..Document::new(*text) });
        }
        profile
    }

    #[test]
    fn counts_of_a_small_set() {
        let set = [
            ("a b", Some("10")),
            ("A  b.", Some("9")),
            (" ", Some("9")),
            ("", None),
            ("c", None),
            ("d e f", Some("9")),
        ];
        let p = profile(&set);
        assert_eq!((p.documents, p.empty, p.unlabelled, p.words), (6, 2, 1, 8));
        assert_eq!((p.distinct(), p.duplicates()), (3, 1), "empty documents are no duplicates");
        assert_eq!(p.classes(), [("9", 2), ("10", 1)]);
        assert_eq!(p.quantiles(), [1, 1, 1, 2, 2, 3, 3]);
        assert_eq!(p.histogram(), [(1, 1, 1), (2, 3, 3)]);
        assert_eq!(p.overlap(&profile(&[("c!", None), ("C", None), ("x", None), ("", None)])), 1);
        assert_eq!(
            p.line(),
            "6 documents, 2 classes (largest '9' 66.7 %, smallest '10' 33.3 %), 1 duplicates, 2 empty, \
             words: 1 to 3, median 2, 95 % up to 3"
        );
        assert_eq!((profile(&[]).quantiles(), profile(&[]).histogram()), (vec![], vec![]));
    }

    #[test]
    fn merged_is_read_in_one_go() {
        let (a, b) = ([("a b", Some("x")), ("", None)], [("a b", Some("y")), ("c", None)]);
        let (mut merged, whole) = (profile(&a), profile(&[a, b].concat()));
        merged.merge(&profile(&b));
        assert_eq!(merged.line(), whole.line());
        assert_eq!((merged.duplicates(), merged.classes(), merged.words), (1, whole.classes(), whole.words));
    }
}
