//! Negative samples without replacement, by exponential keys (docs/SPEC.md §1.4).

use crate::error::{Error, Result};
use crate::random::{Key, Site, philox4x32_10};

/// Added to every probability, so that a word that never occurs still has a key (of the last rank).
const FLOOR: f64 = 1e-10;

/// Key of a word of unigram probability `p` with the uniform number `u` in (0, 1):
/// `−ln u / (p + 1e-10)`.
pub fn exponential_key(p: f64, u: f64) -> f64 {
    -libm::log(u) / (p + FLOOR)
}

/// Draws `K` distinct words: word `v` gets the key [`exponential_key`]`(p_v, u_v)`, the `K`
/// smallest keys win. Word `v` is drawn first with probability `p_v`, and so on among those left.
#[derive(Clone, Debug)]
pub struct NegativeSampler {
    unigram: Vec<f64>,
    /// Reused from draw to draw.
    keys: Vec<(f64, u32)>,
}

impl NegativeSampler {
    /// `unigram`: probability of every word of the vocabulary; finite, not negative.
    pub fn new(unigram: Vec<f64>) -> Result<Self> {
        if let Some(word) = unigram.iter().position(|p| !p.is_finite() || *p < 0.0) {
            return Err(Error::data(format!("the unigram probability of word {word} is {}", unigram[word])));
        }
        Ok(NegativeSampler { keys: Vec::with_capacity(unigram.len()), unigram })
    }

    /// Fills `negatives` with distinct words, smallest key first. A function of key, step and
    /// probabilities alone.
    pub fn sample(&mut self, key: Key, step: u32, negatives: &mut [u32]) -> Result<()> {
        let site = Site::NEGATIVES.word(0);
        let uniform = |word: usize| {
            let lanes = philox4x32_10([(word / 4) as u32, 0, step, site], key.0);
            // the middle of one of 2^32 equal intervals: never 0 or 1
            (f64::from(lanes[word % 4]) + 0.5) / 4_294_967_296.0
        };
        self.choose(uniform, negatives)
    }

    /// As [`sample`](Self::sample), with a given uniform number in (0, 1) for every word.
    pub fn choose(&mut self, uniform: impl Fn(usize) -> f64, negatives: &mut [u32]) -> Result<()> {
        let k = negatives.len();
        if k > self.unigram.len() {
            let words = self.unigram.len();
            return Err(Error::data(format!("{k} distinct negatives cannot be drawn from {words} words")));
        }
        if k == 0 {
            return Ok(());
        }
        self.keys.clear();
        let keys = self.unigram.iter().enumerate().map(|(v, &p)| (exponential_key(p, uniform(v)), v as u32));
        self.keys.extend(keys);
        let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        self.keys.select_nth_unstable_by(k - 1, order);
        let chosen = &mut self.keys[..k];
        chosen.sort_unstable_by(order);
        negatives.iter_mut().zip(chosen).for_each(|(to, (_, word))| *to = *word);
        Ok(())
    }
}

/// `k` distinct words from the unigram distribution at a step of a training; see
/// [`NegativeSampler`], which reuses its memory.
pub fn sample_negatives(key: Key, step: u32, unigram: &[f64], k: usize) -> Result<Vec<u32>> {
    if k > unigram.len() {
        return Err(Error::data(format!("{k} distinct negatives cannot be drawn from {} words", unigram.len())));
    }
    let mut negatives = vec![0; k];
    NegativeSampler::new(unigram.to_vec())?.sample(key, step, &mut negatives)?;
    Ok(negatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(5, 1u32, 0u32)
    }

    #[test]
    fn distinct_repeatable_and_new_at_every_step() {
        let unigram: Vec<f64> = (0..1000).map(|v| 1.0 / (v + 1) as f64 / 7.485).collect();
        let draw = |step| sample_negatives(key(), step, &unigram, 300).unwrap();
        let mut words = draw(3);
        assert_eq!(words, draw(3));
        assert_ne!(words, draw(4));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 300);
    }

    #[test]
    fn frequencies_follow_the_unigram() {
        // the first of the drawn words has exactly the unigram distribution
        let unigram = [0.5, 0.25, 0.15, 0.1, 0.0];
        let (n, mut seen) = (20_000, [0u32; 5]);
        for step in 0..n {
            let words = sample_negatives(key(), step, &unigram, 4).unwrap();
            assert!(!words.contains(&4), "a word of probability 0 comes last");
            seen[words[0] as usize] += 1;
        }
        for (count, p) in seen.iter().zip(unigram) {
            let (expected, sigma) = (f64::from(n) * p, (f64::from(n) * p * (1.0 - p)).sqrt());
            assert!((f64::from(*count) - expected).abs() <= 4.0 * sigma, "{seen:?}");
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(sample_negatives(key(), 0, &[0.5, 0.5], 3).is_err());
        assert!(sample_negatives(key(), 0, &[0.5, f64::NAN], 1).unwrap_err().to_string().contains("word 1"));
        assert!(sample_negatives(key(), 0, &[0.5, 0.5], 0).unwrap().is_empty());
    }
}
