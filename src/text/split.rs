//! Splits, low-shot subsets and overlap between sets.

use std::collections::HashMap;

use crate::files::sha256;
use crate::random::{Key, Site, Stream};

/// Separate streams for the separate purposes of this file (the `step` of the counter).
const STRATIFIED: u32 = 0;
const LOW_SHOT: u32 = 1;
const RANDOM: u32 = 2;
const FOLDS: u32 = 16;

fn stream(seed: u64, purpose: u32, row: u32) -> Stream {
    Stream::new(Key::apart(seed), Site::SPLIT, purpose, row)
}

/// Document indices by class; those without a label last.
fn by_class(labels: &[Option<u32>]) -> Vec<Vec<u32>> {
    let classes = labels.iter().flatten().max().map_or(0, |m| *m as usize + 1);
    let mut groups = vec![Vec::new(); classes + 1];
    for (i, label) in labels.iter().enumerate() {
        groups[label.map_or(classes, |l| l as usize)].push(i as u32);
    }
    groups
}

/// Splits documents into (train, valid), `fraction` of every class (rounded) in valid. Both keep
/// the order of the documents; they depend on seed and labels alone. A class of two or more
/// documents has at least one in train.
pub fn stratified_split(labels: &[Option<u32>], fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for (class, mut group) in by_class(labels).into_iter().enumerate() {
        stream(seed, STRATIFIED, class as u32).shuffle(&mut group);
        let n = (group.len() as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
        let n = if group.len() > 1 { n.min(group.len() - 1) } else { 0 };
        valid.extend_from_slice(&group[..n]);
        train.extend_from_slice(&group[n..]);
    }
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}

/// The fold of every document, `0..count`: the documents of a class are dealt in turn after a
/// shuffle, so that every fold has its share of each class. Depends on seed and labels alone.
pub fn stratified_folds(labels: &[Option<u32>], count: usize, seed: u64) -> Vec<u32> {
    let (mut fold, mut next) = (vec![0; labels.len()], 0);
    for (class, mut group) in by_class(labels).into_iter().enumerate() {
        stream(seed, FOLDS, class as u32).shuffle(&mut group);
        for document in group {
            fold[document as usize] = next;
            next = (next + 1) % count.max(1) as u32;
        }
    }
    fold
}

/// Splits `n` documents into (train, valid) with `⌊n·fraction⌋` of them, at least one when `n > 1`,
/// in valid.
pub fn random_split(n: usize, fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut all: Vec<u32> = (0..n as u32).collect();
    stream(seed, RANDOM, 0).shuffle(&mut all);
    let wanted = ((n as f64 * fraction.clamp(0.0, 1.0)) as usize).max(usize::from(fraction > 0.0));
    let mut valid = all[..wanted.min(n.saturating_sub(1))].to_vec();
    let mut train = all[valid.len()..].to_vec();
    train.sort_unstable();
    valid.sort_unstable();
    (train, valid)
}

/// A balanced subset of `n` labelled documents out of `candidates`: the same seed gives nested
/// subsets (that of 100 lies within that of 200). Classes with too few documents give all they
/// have; the others fill up. Sorted.
pub fn low_shot_subset(labels: &[Option<u32>], candidates: &[u32], n: usize, seed: u64) -> Vec<u32> {
    let chosen: Vec<Option<u32>> = candidates.iter().map(|&i| labels[i as usize]).collect();
    let mut groups = by_class(&chosen);
    groups.pop(); // the unlabelled
    for (class, group) in groups.iter_mut().enumerate() {
        stream(seed, LOW_SHOT, class as u32).shuffle(group);
    }
    let deepest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let rounds = (0..deepest).flat_map(|round| groups.iter().filter_map(move |g| g.get(round)));
    let mut subset: Vec<u32> = rounds.take(n).map(|&i| candidates[i as usize]).collect();
    subset.sort_unstable();
    subset
}

/// Fingerprints of texts, for duplicates within a set and overlap between sets. Texts are the same
/// when their letters and digits are, whatever their case (copies of data sets differ in spacing
/// and punctuation).
#[derive(Clone, Debug, Default)]
pub struct TextFingerprints {
    seen: HashMap<u128, u32>,
    texts: u64,
}

impl TextFingerprints {
    fn of(text: &str) -> u128 {
        let mut plain: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if plain.is_empty() {
            plain.push_str(text.trim_matches(super::is_space));
        }
        let full = sha256(plain.as_bytes());
        u128::from_le_bytes(std::array::from_fn(|i| full[i]))
    }

    pub fn add(&mut self, text: &str) {
        *self.seen.entry(Self::of(text)).or_default() += 1;
        self.texts += 1;
    }

    /// Adds the texts of another set.
    pub fn merge(&mut self, other: &TextFingerprints) {
        other.seen.iter().for_each(|(k, n)| *self.seen.entry(*k).or_default() += n);
        self.texts += other.texts;
    }

    /// Number of different texts.
    pub fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Number of texts that repeat an earlier one.
    pub fn duplicates(&self) -> u64 {
        self.texts - self.distinct()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.seen.contains_key(&Self::of(text))
    }

    /// Number of different texts that are in both sets.
    pub fn overlap(&self, other: &TextFingerprints) -> u64 {
        other.seen.keys().filter(|k| self.seen.contains_key(k)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<Option<u32>> {
        (0..1000u32)
            .map(|i| if i % 10 == 9 { None } else { Some(u32::from(i % 10 >= 7) + u32::from(i % 10 == 8)) })
            .collect()
    }

    #[test]
    fn stratified_keeps_proportions() {
        let labels = labels();
        let (train, valid) = stratified_split(&labels, 0.1, 7);
        let count = |set: &[u32], class| set.iter().filter(|&&i| labels[i as usize] == class).count();
        assert_eq!(
            [count(&valid, Some(0)), count(&valid, Some(1)), count(&valid, Some(2)), count(&valid, None)],
            [70, 10, 10, 10]
        );
        let mut all: Vec<u32> = train.iter().chain(&valid).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<u32>>());
        assert_eq!(stratified_split(&labels, 0.1, 7), (train, valid.clone()));
        assert_ne!(stratified_split(&labels, 0.1, 8).1, valid);
        let (train, valid) = stratified_split(&[Some(0), Some(1), Some(1)], 1.0, 1);
        assert_eq!((train.len(), valid.len()), (2, 1));
    }

    #[test]
    fn low_shot_is_balanced_and_nested() {
        let labels = labels();
        let candidates: Vec<u32> = (100..1000).collect();
        let subset = |n| low_shot_subset(&labels, &candidates, n, 3);
        let count = |set: &[u32], class| set.iter().filter(|&&i| labels[i as usize] == Some(class)).count();
        let (small, large) = (subset(30), subset(100));
        assert_eq!([count(&small, 0), count(&small, 1), count(&small, 2)], [10, 10, 10]);
        assert!(small.iter().all(|i| large.contains(i) && *i >= 100));
        assert_eq!(large.len(), 100);
        // classes 1 and 2 have 90 documents each among the candidates
        let most = subset(400);
        assert_eq!([count(&most, 0), count(&most, 1), count(&most, 2)], [220, 90, 90]);
        assert_eq!(subset(5000).len(), 810);
        assert_ne!(low_shot_subset(&labels, &candidates, 30, 4), small);
    }

    #[test]
    fn folds_have_their_share_of_every_class() {
        let labels: Vec<Option<u32>> = (0..103).map(|i| Some(u32::from(i % 10 == 0))).collect();
        let fold = stratified_folds(&labels, 4, 9);
        for class in [Some(0), Some(1)] {
            let size = |k| (0..103).filter(|&i| fold[i] == k && labels[i] == class).count();
            let sizes = [0, 1, 2, 3].map(size);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
        assert_eq!(fold, stratified_folds(&labels, 4, 9));
        assert_ne!(fold, stratified_folds(&labels, 4, 10));
    }

    #[test]
    fn random_split_sizes() {
        let size = |n, f| random_split(n, f, 1).1.len();
        assert_eq!([size(5452, 0.1), size(5, 0.1), size(1, 0.5), size(10, 0.0), size(0, 0.1)], [545, 1, 0, 0, 0]);
        let (train, valid) = random_split(100, 0.3, 1);
        assert!(train.len() == 70 && valid.iter().all(|i| !train.contains(i)));
    }

    #[test]
    fn fingerprints_count_duplicates_and_overlap() {
        let set = |texts: &[&str]| {
            let mut f = TextFingerprints::default();
            texts.iter().for_each(|t| f.add(t));
            f
        };
        let (a, b) = (set(&["x", "y 1", "X. ", "z"]), set(&["x", "x", "w", "?", "!"]));
        assert_eq!((a.distinct(), a.duplicates(), a.overlap(&b), b.overlap(&a)), (3, 1, 1, 1));
        assert_eq!(b.distinct(), 4, "texts without letters are compared as they are");
        assert!(a.contains("\tY-1\n") && !a.contains("y"));
    }
}
