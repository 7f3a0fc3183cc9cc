//! The dropouts of a forward call: off, from the counters, or given.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, NO_STAGE, Site, chunk_number};
use crate::tensor::Tensor;

/// Drop probabilities of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropRates {
    /// Rows of the embedding matrix (`dropoute`).
    pub embedding: f64,
    /// Embedded input, locked (`dropouti`).
    pub input: f64,
    /// Recurrent weights (`wdrop`).
    pub weight: f64,
    /// Outputs of all layers but the last, locked (`dropouth`).
    pub hidden: f64,
    /// Decoder input of the language model, locked; or first block of the classifier's head.
    pub output: f64,
}

impl DropRates {
    /// Every rate times `multiplier` (fastai's `drop_mult`).
    #[must_use]
    pub fn times(self, multiplier: f64) -> Self {
        DropRates {
            embedding: self.embedding * multiplier,
            input: self.input * multiplier,
            weight: self.weight * multiplier,
            hidden: self.hidden * multiplier,
            output: self.output * multiplier,
        }
    }
}

/// Given masks, for fixtures: factors 0 or `1/(1-p)`, one tensor for each site (see `nn::sites`).
#[derive(Clone, Debug, Default)]
pub struct GivenMasks(BTreeMap<Site, Tensor>);

impl GivenMasks {
    pub fn insert(&mut self, site: Site, mask: Tensor) {
        self.0.insert(site, mask);
    }
}

/// The dropouts of one forward call.
#[derive(Clone, Copy, Debug)]
pub enum Noise<'a> {
    /// Evaluation.
    Off,
    /// From the counters of (key, step, chunk).
    Counters {
        key: Key,
        step: u32,
        chunk: u16,
        rates: DropRates,
        /// One probability for each block of a head (the last repeats).
        head: &'a [f64],
    },
    /// From a fixture; the same in every chunk.
    Given(&'a GivenMasks),
}

impl<'a> Noise<'a> {
    /// The dropouts of a training's update.
    pub fn of(key: Key, step: u32, rates: DropRates) -> Self {
        Noise::Counters { key, step, chunk: 0, rates, head: &[] }
    }

    /// The same, with probabilities for a head's blocks.
    #[must_use]
    pub fn with_head(self, head: &'a [f64]) -> Self {
        match self {
            Noise::Counters { key, step, chunk, rates, .. } => Noise::Counters { key, step, chunk, rates, head },
            other => other,
        }
    }

    /// The same for the `chunk`-th part of a batch's documents.
    ///
    /// # Errors
    /// More chunks than can be numbered.
    pub fn in_chunk(self, chunk: usize) -> Result<Self> {
        Ok(match self {
            Noise::Counters { key, step, rates, head, .. } => {
                Noise::Counters { key, step, chunk: chunk_number(chunk)?, rates, head }
            }
            other => other,
        })
    }

    /// The same for a second encoder beside the first: with masks of its own, as if of another
    /// training.
    #[must_use]
    pub fn of_second(self) -> Self {
        match self {
            Noise::Counters { key: Key([low, high]), step, chunk, rates, head } => {
                let seed = u64::from(low) | u64::from(high) << 32;
                Noise::Counters { key: Key::new(seed, NO_STAGE, 1u32), step, chunk, rates, head }
            }
            other => other,
        }
    }

    pub fn is_off(&self) -> bool {
        matches!(self, Noise::Off)
    }

    /// Probabilities; zero where masks do not come from the counters.
    pub fn rates(&self) -> DropRates {
        match self {
            Noise::Counters { rates, .. } => *rates,
            Noise::Off | Noise::Given(_) => DropRates::default(),
        }
    }

    /// Probability of the `k`-th block of a head.
    pub(super) fn head_rate(&self, k: usize) -> f64 {
        match self {
            Noise::Counters { head, .. } => head.get(k).or(head.last()).copied().unwrap_or(0.0),
            Noise::Off | Noise::Given(_) => 0.0,
        }
    }

    /// The dropout of a site, `p` the probability of dropping.
    ///
    /// # Errors
    /// Masks are given, but none for this site.
    pub fn mask(&self, site: Site, p: f64) -> Result<Dropout> {
        Ok(match self {
            Noise::Off => Dropout::Off,
            Noise::Counters { key, step, chunk, .. } => Dropout::random(Mask::new(*key, *step, site, *chunk, p)),
            Noise::Given(masks) => match masks.0.get(&site) {
                Some(mask) => Dropout::Given(mask.clone()),
                None => return Err(Error::data(format!("no mask is given for the site {}", site.number()))),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::sites;

    #[test]
    fn masks_come_from_one_place() {
        let site = sites::INPUT;
        assert!(Noise::Off.mask(site, 0.5).unwrap().is_off());
        let noise = Noise::of(Key([1, 2]), 3, DropRates::default()).with_head(&[0.4, 0.1]);
        let masks = [0, 1].map(|chunk| noise.in_chunk(chunk).unwrap().mask(site, 0.5).unwrap());
        let words: Vec<u32> = masks.iter().map(|m| if let Dropout::Random(mask) = m { mask.site } else { 0 }).collect();
        assert_eq!(words, [site.word(0), site.word(1)]);
        assert_eq!([0, 1, 7].map(|k| noise.head_rate(k)), [0.4, 0.1, 0.1]);
        assert!(noise.in_chunk(1 << 16).is_err());
        let keeps = |noise: Noise| match noise.mask(site, 0.5).unwrap() {
            Dropout::Random(words) => words.key,
            _ => panic!("a mask is drawn"),
        };
        assert!(keeps(noise) != keeps(noise.of_second()), "a second encoder has masks of its own");
        let mut given = GivenMasks::default();
        given.insert(site, Tensor::from_slice([1], &[2.0f32]).unwrap());
        assert!(Noise::Given(&given).mask(site, 0.0).unwrap().given().is_some());
        let error = Noise::Given(&given).mask(sites::OUTPUT, 0.5).unwrap_err().to_string();
        assert!(error.contains("no mask is given for the site 3"), "{error}");
    }
}
