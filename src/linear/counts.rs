//! Which features a set of texts has, and how often every text has each.

use hashbrown::HashMap;
use rayon::prelude::*;

use super::features::{Scratch, walk};

/// Fingerprints are well mixed: they are their own hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Itself(u64);

impl std::hash::Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Map<V> = HashMap<u64, V, std::hash::BuildHasherDefault<Itself>>;

/// The features that a model knows: `fingerprint → index`, words and pairs first, then characters;
/// within both the frequent ones first.
#[derive(Clone, Debug, Default)]
pub struct FeatureSet {
    index: Map<u32>,
    fingerprints: Vec<u64>,
    words: u32,
    characters: bool,
}

/// The features that are kept, of those that occur.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    pub characters: bool,
    /// Least number of texts with the feature.
    pub least_texts: u32,
    /// Most features of each block; the most frequent are kept.
    pub most: usize,
}

impl FeatureSet {
    /// The features of texts; the result does not depend on the number of threads.
    pub fn of<T: AsRef<str> + Sync>(texts: &[T], selection: Selection) -> Self {
        /// Number of texts, the last text counted, occurrences.
        type Seen = (u32, u32, u64);
        let chunk = texts.len().div_ceil(rayon::current_num_threads()).max(1);
        let count = |(part, texts): (usize, &[T])| {
            let mut maps: [Map<Seen>; 2] = Default::default();
            let mut scratch = Scratch::default();
            for (i, text) in texts.iter().enumerate() {
                let text_number = (part * chunk + i) as u32 + 1;
                walk(text.as_ref(), selection.characters, &mut scratch, &mut |block, fingerprint| {
                    let seen = maps[block as usize].entry(fingerprint).or_default();
                    seen.0 += u32::from(seen.1 != text_number);
                    seen.1 = text_number;
                    seen.2 += 1;
                });
            }
            maps
        };
        let parts: Vec<[Map<Seen>; 2]> = texts.par_chunks(chunk).enumerate().map(count).collect();
        let mut merged: [Map<Seen>; 2] = Default::default();
        for part in parts {
            for (whole, part) in merged.iter_mut().zip(part) {
                if whole.is_empty() {
                    *whole = part;
                    continue;
                }
                for (fingerprint, seen) in part {
                    let entry = whole.entry(fingerprint).or_default();
                    entry.0 += seen.0;
                    entry.2 += seen.2;
                }
            }
        }
        let kept = merged.map(|map| {
            let wanted = map.into_iter().filter(|(_, seen)| seen.0 >= selection.least_texts);
            let mut all: Vec<(u64, u64)> = wanted.map(|(fingerprint, seen)| (seen.2, fingerprint)).collect();
            all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            all.truncate(selection.most);
            all
        });
        let words = kept[0].len() as u32;
        let fingerprints = kept.into_iter().flatten().map(|(_, fingerprint)| fingerprint).collect();
        FeatureSet::from_fingerprints(fingerprints, words, selection.characters)
    }

    /// From fingerprints in their order, of which the first `words` are of words and pairs.
    pub fn from_fingerprints(fingerprints: Vec<u64>, words: u32, characters: bool) -> Self {
        let index = fingerprints.iter().enumerate().map(|(i, &f)| (f, i as u32)).collect();
        FeatureSet { index, fingerprints, words, characters }
    }

    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Features that differ: all of them, in a set that is whole.
    pub fn distinct(&self) -> usize {
        self.index.len()
    }

    /// Whether it has n-grams of characters.
    pub fn characters(&self) -> bool {
        self.characters
    }

    pub fn fingerprints(&self) -> &[u64] {
        &self.fingerprints
    }

    /// How many of the features are words and pairs of words; they are the first.
    pub fn words(&self) -> u32 {
        self.words
    }

    /// The known features of a text in ascending order, and how often it has each (255 at most).
    pub fn count(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Vec<(u32, u8)> {
        ids.clear();
        walk(text, self.characters, scratch, &mut |_, fingerprint| {
            ids.extend(self.index.get(&fingerprint));
        });
        ids.sort_unstable();
        let runs = ids.chunk_by(|a, b| a == b);
        runs.map(|run| (run[0], run.len().min(255) as u8)).collect()
    }

    /// The counts of texts.
    pub fn counts<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Counts {
        let chunk = texts.len().div_ceil(8 * rayon::current_num_threads()).max(1);
        let count = |texts: &[T]| {
            let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
            let mut part = Counts::default();
            for text in texts {
                for (id, n) in self.count(text.as_ref(), &mut scratch, &mut ids) {
                    part.ids.push(id);
                    part.counts.push(n);
                }
                part.starts.push(part.ids.len());
            }
            part
        };
        let parts: Vec<Counts> = texts.par_chunks(chunk).map(count).collect();
        let total = parts.iter().map(|part| part.ids.len()).sum();
        let mut all = Counts { ids: Vec::with_capacity(total), counts: Vec::with_capacity(total), ..Counts::default() };
        for part in parts {
            let start = all.ids.len();
            all.starts.extend(part.starts[1..].iter().map(|end| start + end));
            all.ids.extend(part.ids);
            all.counts.extend(part.counts);
        }
        all
    }
}

/// How often texts have features: a sparse matrix, a row for each text.
#[derive(Clone, Debug)]
pub struct Counts {
    ids: Vec<u32>,
    counts: Vec<u8>,
    /// Where every row begins, and the end.
    starts: Vec<usize>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { ids: Vec::new(), counts: Vec::new(), starts: vec![0] }
    }
}

impl Counts {
    /// Pairs of text and feature.
    pub fn entries(&self) -> usize {
        self.ids.len()
    }

    /// Features of a text in ascending order, and how often it has each.
    pub fn row(&self, text: usize) -> (&[u32], &[u8]) {
        let range = self.starts[text]..self.starts[text + 1];
        (&self.ids[range.clone()], &self.counts[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = ["a a b", "a c", ""];

    fn set(least_texts: u32, most: usize) -> FeatureSet {
        FeatureSet::of(&TEXTS, Selection { characters: false, least_texts, most })
    }

    #[test]
    fn features_are_counted_by_texts_and_sorted_by_frequency() {
        // a (3 times, 2 texts), ⊢a (2, 2), then once each: b, c, aa, ab, ac
        assert_eq!((set(1, 100).len(), set(2, 100).len(), set(3, 100).len(), set(1, 4).len()), (7, 2, 0, 4));
        let all = set(1, 100);
        assert_eq!(&all.fingerprints()[..2], set(2, 100).fingerprints());
        let counts = all.counts(&TEXTS);
        assert_eq!((counts.row(0).0.len(), counts.row(1).0.len(), counts.row(2).0.len()), (5, 4, 0));
        assert_eq!((counts.row(0).0[..2].to_vec(), &counts.row(0).1[..2]), (vec![0, 1], &[2, 1][..]));
        assert_eq!(counts.entries(), 9);
    }

    #[test]
    fn counts_stop_at_255() {
        let text = "x ".repeat(1000);
        let set = FeatureSet::of(&[&text], Selection { characters: false, least_texts: 1, most: 10 });
        let counts = set.counts(&[&text]);
        assert_eq!(counts.row(0).1, [255, 255, 1]);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let texts: Vec<String> = (0..200).map(|i| format!("w{} v{} {}", i % 7, i % 11, "z".repeat(i % 5))).collect();
        let made = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let set = FeatureSet::of(&texts, Selection { characters: true, least_texts: 2, most: 50 });
                let counts = set.counts(&texts);
                let rows: Vec<_> = (0..200).map(|i| (counts.row(i).0.to_vec(), counts.row(i).1.to_vec())).collect();
                (set.fingerprints().to_vec(), rows)
            })
        };
        assert_eq!(made(1), made(3));
    }
}
