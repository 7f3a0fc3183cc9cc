//! Labelled documents in memory, as the texts that they are.

use super::build::{nothing_left, sorted_labels};
use super::{Labels, Source};
use crate::error::{Error, Result};

/// The documents of a source that have a text and a class, in their order.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// Names of the classes, sorted as in a token store.
    pub names: Vec<String>,
    pub texts: Vec<String>,
    /// Index of each text's class.
    pub labels: Vec<u32>,
    /// Documents that were left out.
    pub skipped_empty: u64,
    pub skipped_unlabelled: u64,
}

impl Labelled {
    /// Reads a source; `labels` says which classes there are ([`Labels::Ignore`] is as
    /// [`Labels::Collect`]).
    ///
    /// # Errors
    /// Errors of reading; no document has a text and a class; a class that is not among
    /// [`Labels::Known`].
    pub fn read(source: &Source, labels: &Labels) -> Result<Self> {
        if source.has_tags() {
            return Err(Error::file(source.name(), "has a tag for every word where a class of every text is wanted")
                .hint("train-classifier and run learn tags"));
        }
        let mut all = Labelled::default();
        let known = if let Labels::Known(names) = labels { Some(names.clone()) } else { None };
        let mut names = known.clone().unwrap_or_default();
        for document in source.documents()? {
            let document = document?;
            let Some(label) = &document.label else {
                all.skipped_unlabelled += 1;
                continue;
            };
            if document.is_empty() {
                all.skipped_empty += 1;
                continue;
            }
            let class = match names.iter().position(|name| name == label) {
                Some(class) => class,
                None if known.is_some() => {
                    let label = super::shown_label(label);
                    let message = format!("has the class '{label}', which is not among the classes of the model");
                    return Err(Error::line(&*document.origin.file, document.origin.line, message)
                        .hint(format!("the classes are: {}", super::shown_labels(&names))));
                }
                None => {
                    names.push(label.clone());
                    names.len() - 1
                }
            };
            all.labels.push(class as u32);
            all.texts.push(document.text);
        }
        if all.texts.is_empty() {
            return Err(nothing_left(source.name(), all.skipped_unlabelled > 0));
        }
        if known.is_none() {
            let (sorted, order) = sorted_labels(&names);
            names = sorted;
            all.labels.iter_mut().for_each(|label| *label = order[*label as usize]);
        }
        all.names = names;
        Ok(all)
    }

    /// Some of the documents, by their indices.
    #[must_use]
    pub fn part(&self, documents: &[u32]) -> Self {
        Labelled {
            names: self.names.clone(),
            texts: documents.iter().map(|&i| self.texts[i as usize].clone()).collect(),
            labels: documents.iter().map(|&i| self.labels[i as usize]).collect(),
            ..Labelled::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Document, OpenOptions};
    use super::*;

    fn source(content: &str) -> (tempfile::TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        std::fs::write(&path, content).unwrap();
        let source = Source::open(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
        (directory, source)
    }

    #[test]
    fn classes_are_sorted_and_what_is_missing_is_counted() {
        let (_directory, source) = source("text,label\nten,10\n,9\ntwo,2\nnone,\nten again,10\n");
        let all = Labelled::read(&source, &Labels::Collect).unwrap();
        assert_eq!((all.names, all.labels), (vec!["2".to_string(), "10".into()], vec![1, 0, 1]));
        assert_eq!(all.texts, ["ten", "two", "ten again"]);
        assert_eq!((all.skipped_empty, all.skipped_unlabelled), (1, 1));
        let known = Labels::Known(vec!["10".into(), "2".into()]);
        let all = Labelled::read(&source, &known).unwrap();
        assert_eq!(all.labels, [0, 1, 0]);
        let part = all.part(&[2, 1]);
        assert_eq!((part.texts[0].as_str(), &part.labels[..], part.names), ("ten again", &[0, 1][..], all.names));
    }

    #[test]
    fn a_class_that_is_not_known_is_named_with_its_line() {
        let (_directory, source) = source("text,label\nten,10\ntwo,2\n");
        let e = Labelled::read(&source, &Labels::Known(vec!["10".into()])).unwrap_err();
        assert!(e.to_string().ends_with("a.csv:3: has the class '2', which is not among the classes of the model"));
        let texts = Source::of_texts("the texts", vec![Document::new("a")]);
        let e = Labelled::read(&texts, &Labels::Collect).unwrap_err();
        assert_eq!(e.to_string(), "the texts: holds no document with a label");
    }
}
