//! Where time goes: products, work that moves data, and the rest; beside the time of the first two
//! at the machine's peaks.

use serde::{Deserialize, Serialize};

use super::format::Format;
use super::peaks::Peaks;
use super::spans::sums;
use crate::trace::Recording;

/// The sum of all recorded spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub products: Part,
    /// Work that moves data and computes nothing that counts.
    pub memory: Part,
    pub remainder: Part,
}

/// Times in milliseconds; `floor_ms` is the time at the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub ms: f64,
    pub floor_ms: f64,
    pub flop: u64,
    pub bytes: u64,
}

impl Budget {
    /// The budget of all spans of a recording; without the times at the peaks, which
    /// [`Self::relate`] adds.
    pub fn of(recording: &Recording) -> Self {
        let mut budget = Budget::default();
        for (_, sum) in sums(recording) {
            let part = match (sum.flop, sum.bytes) {
                (0, 0) => &mut budget.remainder,
                (0, _) => &mut budget.memory,
                _ => &mut budget.products,
            };
            part.ms += sum.time / 1e6;
            part.flop += sum.flop;
            part.bytes += sum.bytes;
        }
        budget
    }

    /// Sets the times at the peaks, once those are final.
    pub fn relate(&mut self, format: Format, peaks: &Peaks) {
        // GFLOP/s and GB/s are a million a millisecond
        self.products.floor_ms = self.products.flop as f64 / peaks.flops(format) / 1e6;
        self.memory.floor_ms = self.memory.bytes as f64 / peaks.triad.all_threads / 1e6;
    }
}
