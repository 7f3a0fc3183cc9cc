//! Which classes are taken for which: only pairs that occur are kept, so that its size is bounded
//! by the documents, not by the square of the classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Hits;

/// With more classes than this the whole table is nowhere but in a file of its own: elsewhere are
/// the pairs that are most confused.
pub const SHOWN_CLASSES: usize = 50;
/// With more classes than this the file has a row for every pair that occurs, not one for every
/// class.
const SQUARE_CLASSES: usize = 1000;

/// Documents by true class and predicted class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    pairs: BTreeMap<(u32, u32), u64>,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Confusion { classes, pairs: BTreeMap::new() }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts a document. An index that is no class is not counted.
    pub fn add(&mut self, truth: usize, said: usize) {
        if truth < self.classes && said < self.classes {
            *self.pairs.entry((truth as u32, said as u32)).or_default() += 1;
        }
    }

    pub fn get(&self, truth: usize, said: usize) -> u64 {
        self.pairs.get(&(truth as u32, said as u32)).copied().unwrap_or(0)
    }

    /// True class, predicted class, documents: in the order of the classes.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.pairs.iter().map(|(&(truth, said), &n)| (truth as usize, said as usize, n))
    }

    /// The largest entries beside the diagonal; of equals the first.
    pub fn worst(&self, most: usize) -> Vec<(usize, usize, u64)> {
        let mut wrong: Vec<_> = self.pairs().filter(|(truth, said, _)| truth != said).collect();
        wrong.sort_by_key(|&(truth, said, n)| (std::cmp::Reverse(n), truth, said));
        wrong.truncate(most);
        wrong
    }

    /// Rows are true classes, columns are predictions.
    pub fn rows(&self) -> impl Iterator<Item = Vec<u64>> {
        (0..self.classes).map(|truth| (0..self.classes).map(|said| self.get(truth, said)).collect())
    }

    /// The whole table, where there are few classes.
    pub fn shown(&self) -> Option<Vec<Vec<u64>>> {
        (self.classes <= SHOWN_CLASSES).then(|| self.rows().collect())
    }

    /// The counts of every class.
    pub fn hits(&self) -> Vec<Hits> {
        let mut hits = vec![Hits::default(); self.classes];
        for (truth, said, n) in self.pairs() {
            if truth == said {
                hits[truth].found += n;
            } else {
                hits[truth].missed += n;
                hits[said].wrong += n;
            }
        }
        hits
    }

    /// As CSV: a row for every true class and a column for every predicted one; with more than
    /// 1,000 classes a row for every pair.
    ///
    /// # Errors
    /// Errors of writing.
    pub fn write_csv(&self, labels: &[String], out: impl std::io::Write) -> std::io::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        if self.classes > SQUARE_CLASSES {
            writer.write_record(["true", "predicted", "documents"])?;
            for (truth, said, n) in self.pairs() {
                writer.write_record([&labels[truth], &labels[said], &n.to_string()])?;
            }
        } else {
            writer.write_record(std::iter::once("true").chain(labels.iter().map(String::as_str)))?;
            for (label, row) in labels.iter().zip(self.rows()) {
                writer.write_record(std::iter::once(label.clone()).chain(row.iter().map(u64::to_string)))?;
            }
        }
        writer.flush()
    }
}

/// A table where there are few classes, else what occurs.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Table(Vec<Vec<u64>>),
    Pairs { classes: usize, pairs: Vec<(u32, u32, u64)> },
}

impl Serialize for Confusion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = || self.pairs.iter().map(|(&(truth, said), &n)| (truth, said, n)).collect();
        let stored = self.shown().map(Stored::Table);
        stored.unwrap_or_else(|| Stored::Pairs { classes: self.classes, pairs: pairs() }).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Confusion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (classes, pairs) = match Stored::deserialize(deserializer)? {
            Stored::Table(rows) => {
                let row = |(truth, row): (usize, &Vec<u64>)| {
                    row.iter().enumerate().map(|(said, &n)| (truth as u32, said as u32, n)).collect::<Vec<_>>()
                };
                (rows.len(), rows.iter().enumerate().flat_map(row).collect::<Vec<_>>())
            }
            Stored::Pairs { classes, pairs } => (classes, pairs),
        };
        let there = |&(truth, said, n): &(u32, u32, u64)| n > 0 && truth.max(said) < classes as u32;
        let pairs = pairs.into_iter().filter(there).map(|(truth, said, n)| ((truth, said), n)).collect();
        Ok(Confusion { classes, pairs })
    }
}

impl From<&[Vec<u64>]> for Confusion {
    fn from(rows: &[Vec<u64>]) -> Self {
        let mut confusion = Confusion::new(rows.len());
        for (truth, row) in rows.iter().enumerate() {
            for (said, &n) in row.iter().enumerate().filter(|(_, n)| **n > 0) {
                confusion.pairs.insert((truth as u32, said as u32), n);
            }
        }
        confusion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(classes: usize, pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(classes);
        pairs.iter().for_each(|&(truth, said)| confusion.add(truth, said));
        confusion
    }

    #[test]
    fn small_ones_are_tables() {
        let small = of(3, &[(0, 0), (0, 1), (2, 1), (0, 1), (7, 0)]);
        assert_eq!(small.shown().unwrap(), [[1, 2, 0], [0, 0, 0], [0, 1, 0]]);
        assert_eq!(serde_json::to_string(&small).unwrap(), "[[1,2,0],[0,0,0],[0,1,0]]");
        assert_eq!(small.worst(5), [(0, 1, 2), (2, 1, 1)]);
        assert_eq!(Confusion::from(&small.shown().unwrap()[..]), small);
        let mut csv = Vec::new();
        small.write_csv(&["a", "b,", "c"].map(String::from), &mut csv).unwrap();
        assert_eq!(String::from_utf8(csv).unwrap(), "true,a,\"b,\",c\na,1,2,0\n\"b,\",0,0,0\nc,0,1,0\n");
    }

    #[test]
    fn large_ones_are_pairs() {
        let large = of(20_000, &[(19_999, 3), (5, 5)]);
        let stored = serde_json::to_string(&large).unwrap();
        assert_eq!(stored, "{\"classes\":20000,\"pairs\":[[5,5,1],[19999,3,1]]}");
        assert_eq!(serde_json::from_str::<Confusion>(&stored).unwrap(), large);
        assert_eq!(large.shown(), None);
        let labels: Vec<String> = (0..20_000).map(|k| format!("c{k}")).collect();
        let mut csv = Vec::new();
        large.write_csv(&labels, &mut csv).unwrap();
        assert_eq!(String::from_utf8(csv).unwrap(), "true,predicted,documents\nc5,c5,1\nc19999,c3,1\n");
        // a class that a damaged file names beyond the classes does not exist
        let bad: Confusion = serde_json::from_str("{\"classes\":2,\"pairs\":[[5,0,1],[1,1,2]]}").unwrap();
        assert_eq!(bad.pairs().collect::<Vec<_>>(), [(1, 1, 2)]);
    }
}
