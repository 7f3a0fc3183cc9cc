//! How much each class counts in the loss: `--class-weights`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::text::{shown_label, shown_labels};

/// What `--class-weights` says.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// All alike.
    None,
    /// The rarer a class, the more it counts.
    Balanced,
    /// As a file says: its name, classes and weights.
    Given(String, Vec<(String, f64)>),
}

impl ClassWeights {
    /// Reads the setting; a file is CSV, a class and its weight a row, with or without a header.
    ///
    /// # Errors
    /// A file that cannot be read; a row that is not a class and a weight above zero; a class that
    /// comes twice.
    pub fn read(setting: &str) -> Result<Self> {
        match setting {
            "none" => return Ok(ClassWeights::None),
            "balanced" => return Ok(ClassWeights::Balanced),
            _ => {}
        }
        let text = files::read_text(Path::new(setting))
            .map_err(|e| e.hint("--class-weights takes none, balanced, or a CSV file"))?;
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let mut all: Vec<(String, f64)> = Vec::new();
        for (n, row) in reader.records().enumerate() {
            let row = row.map_err(|e| Error::file(setting, format!("is not CSV: {e}")))?;
            let line = row.position().map_or(n as u64 + 1, csv::Position::line);
            let fail = |message: String| Error::line(setting, line, message).hint("a row is a class and its weight");
            let (Some(class), Some(weight), 2) = (row.get(0), row.get(1), row.len()) else {
                return Err(fail(format!("has {} columns where 2 are expected", row.len())));
            };
            match weight.parse::<f64>() {
                Ok(weight) if weight.is_finite() && weight > 0.0 => {
                    if all.iter().any(|(known, _)| known == class) {
                        return Err(fail(format!("has the class '{}' a second time", shown_label(class))));
                    }
                    all.push((class.to_string(), weight));
                }
                Ok(weight) => return Err(fail(format!("has the weight {weight}, which is not above 0"))),
                // the first row may name the columns
                Err(_) if n == 0 => {}
                Err(_) => return Err(fail(format!("has the weight '{weight}', which is no number"))),
            }
        }
        if all.is_empty() {
            return Err(Error::file(setting, "holds no class and weight"));
        }
        Ok(ClassWeights::Given(setting.to_string(), all))
    }

    /// The weight of every class of `names`; empty where all count alike. `counts`: the training
    /// documents that have each, out of `documents`; `several`: whether a document may have
    /// several.
    ///
    /// `balanced` is `documents / (classes · count)` (scikit-learn's), so that all classes weigh
    /// the same together; of several labels `(documents − count) / count`, so that a label's
    /// presence weighs as much as its absence. A class without a document, and a label that all
    /// have, count 1.
    ///
    /// # Errors
    /// A file that lacks a class, or has one that is none.
    pub fn of(&self, names: &[String], counts: &[u64], documents: u64, several: bool) -> Result<Vec<f64>> {
        match self {
            ClassWeights::None => Ok(Vec::new()),
            ClassWeights::Balanced => {
                let weight = |&n: &u64| match (n, several) {
                    (0, _) => 1.0,
                    (n, true) if n >= documents => 1.0,
                    (n, true) => (documents - n) as f64 / n as f64,
                    (n, false) => documents as f64 / (names.len() as f64 * n as f64),
                };
                Ok(counts.iter().map(weight).collect())
            }
            ClassWeights::Given(file, all) => {
                let hint = || format!("the classes are: {}", shown_labels(names));
                if let Some((strange, _)) = all.iter().find(|(class, _)| !names.contains(class)) {
                    let message =
                        format!("has the class '{}', which the training data do not have", shown_label(strange));
                    return Err(Error::file(file, message).hint(hint()));
                }
                let weight = |name: &String| {
                    let found = all.iter().find(|(class, _)| class == name).map(|(_, weight)| *weight);
                    found.ok_or_else(|| {
                        Error::file(file, format!("has no weight for the class '{}'", shown_label(name))).hint(hint())
                    })
                };
                names.iter().map(weight).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn file(content: &str) -> Result<ClassWeights> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.csv");
        std::fs::write(&path, content).unwrap();
        ClassWeights::read(path.to_str().unwrap())
    }

    #[test]
    fn balanced_by_hand() {
        let balanced = ClassWeights::read("balanced").unwrap();
        assert_eq!(balanced.of(&names(&["a", "b", "c"]), &[6, 2, 0], 8, false).unwrap(), [8.0 / 18.0, 8.0 / 6.0, 1.0]);
        assert_eq!(balanced.of(&names(&["a", "b"]), &[2, 8], 8, true).unwrap(), [3.0, 1.0]);
        assert!(ClassWeights::read("none").unwrap().of(&names(&["a"]), &[1], 1, false).unwrap().is_empty());
    }

    #[test]
    fn files() {
        let weights = |content: &str| file(content).and_then(|w| w.of(&names(&["a", "b"]), &[1, 1], 2, false));
        assert_eq!(weights("class,weight\nb,2\na,0.5\n").unwrap(), [0.5, 2.0]);
        assert_eq!(weights("b,2\n\"a\", 1\n").unwrap(), [1.0, 2.0]);
        for (content, fault) in [
            ("b,2\n", "has no weight for the class 'a'"),
            ("a,1\nb,2\nc,3\n", "has the class 'c', which the training data do not have"),
            ("a,1\na,2\n", "w.csv:2: has the class 'a' a second time"),
            ("a,1\nb,heavy\n", "w.csv:2: has the weight 'heavy', which is no number"),
            ("a,1\nb,0\n", "has the weight 0, which is not above 0"),
            ("a\n", "w.csv:1: has 1 columns where 2 are expected"),
            ("class,weight\n", "holds no class and weight"),
        ] {
            let error = weights(content).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        let error = ClassWeights::read("/nowhere/w.csv").unwrap_err();
        assert!(error.hint_text().unwrap().contains("balanced"), "{error}");
    }
}
