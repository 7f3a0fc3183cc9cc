//! Keys and steps of random masks in the memory of a GPU.

use super::Graph;
use crate::error::Result;
use crate::random::Mask;
use crate::tensor::{DType, Tensor};

/// Keys and steps of random masks as kernels read them: in memory, so that the launches of a step
/// are those of the one before.
#[derive(Default)]
pub(super) struct Counters {
    /// u32 `[PLACES, 4]`: key (two words), step, nothing.
    device: Option<Tensor>,
    /// The content of this step's places. A step of a training needs one; tests have masks of
    /// several steps.
    pub(super) places: Vec<[u32; 4]>,
    next: usize,
}

impl Counters {
    const PLACES: usize = 8;
}

impl Graph {
    /// Where kernels find key and step of a mask (`MaskOf` of kernels/common.cuh): the address of
    /// memory of this graph's GPU, good for launches until seven masks of other keys or steps were
    /// asked for, or until [`reset`](Self::reset).
    pub(crate) fn counters(&mut self, mask: &Mask) -> Result<u64> {
        let words = [mask.key.0[0], mask.key.0[1], mask.step, 0];
        let device = match &self.counters.device {
            Some(device) => device.clone(),
            None => {
                let zeros = Tensor::zeros_on(self.device(), [Counters::PLACES, words.len()], DType::U32)?;
                self.counters.device.insert(zeros).clone()
            }
        };
        let Counters { places, next, .. } = &mut self.counters;
        let place = places.iter().position(|there| *there == words).unwrap_or_else(|| {
            let place = if places.len() < Counters::PLACES { places.len() } else { *next % Counters::PLACES };
            if place == places.len() {
                places.push(words);
            }
            places[place] = words;
            *next = place + 1;
            device.upload(place * words.len(), &words);
            place
        });
        Ok(device.argument_from(place * words.len()).address())
    }
}
