//! Batches for language models: index arithmetic on the token store (docs/SPEC.md §3.1).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::TokenStore;
use crate::error::{Error, Result};
use crate::random::{Key, Site, Stream};
use crate::text::Direction;

/// How the documents become `B` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LmLayout {
    /// AWD-LSTM and fastai 0.7: documents in their order, cut into B columns of ⌊n/B⌋ tokens, the
    /// tail dropped; a column's last token has no target, so a column makes ⌊n/B⌋ − 1 predictions.
    Fixed,
    /// fastai v1 and v2 (`LMDataLoader`): documents shuffled every epoch; columns of ⌊(n−1)/B⌋
    /// predictions, the last target of a column being the first token of the next column.
    Shuffled,
    /// As `Shuffled`, but in the order of the documents: validation, and the exact mean over all
    /// tokens but fewer than B (none for B = 1).
    InOrder,
}

impl LmLayout {
    /// The distance between two columns of the stream of so many tokens, and the predictions of
    /// one.
    ///
    /// # Errors
    /// A batch of so many columns is larger than the text.
    pub fn columns(self, tokens: u64, batch_size: u64) -> Result<(u64, u64)> {
        let (stride, column) = match self {
            LmLayout::Fixed => (tokens / batch_size, (tokens / batch_size).saturating_sub(1)),
            LmLayout::Shuffled | LmLayout::InOrder => {
                let stride = tokens.saturating_sub(1) / batch_size;
                (stride, stride)
            }
        };
        if column == 0 {
            let message = format!("a batch of {batch_size} columns is larger than the text of {tokens} tokens");
            return Err(Error::data(message).hint("lower --batch-size or give more text"));
        }
        Ok((stride, column))
    }
}

/// Lengths of the windows (truncated back-propagation through time).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Windows {
    /// Every window is `bptt` long; the last one is what is left.
    Fixed,
    /// AWD-LSTM: base = bptt with probability .95, else bptt/2; length = max(5, ⌊N(base, 5)⌋), at
    /// most bptt + 25; the numbers are in [`VariableWindows`].
    Variable,
    /// As `Variable`; the first window of an epoch is bptt + 25, and there are at most ⌊n/bptt⌋ − 1
    /// windows (fastai 0.7).
    VariableFirstLong,
}

/// Numbers of the variable windows (docs/SPEC.md §3.1); the defaults are those of AWD-LSTM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariableWindows {
    /// Standard deviation of the length.
    pub deviation: f64,
    /// Probability of half the base length.
    pub half_probability: f64,
    /// Shortest window.
    pub least: usize,
    /// A window is at most `bptt + excess`, so that the memory of a step is known.
    pub excess: usize,
}

impl VariableWindows {
    /// Length of one window: normal around bptt, or with a small probability around half of it,
    /// within the limits.
    pub fn draw(&self, bptt: usize, random: &mut Stream) -> usize {
        let base = if random.uniform() < self.half_probability { bptt as f64 / 2.0 } else { bptt as f64 };
        let most = bptt + self.excess;
        ((base + self.deviation * random.normal()) as usize).clamp(self.least.min(most), most)
    }
}

impl Default for VariableWindows {
    fn default() -> Self {
        VariableWindows { deviation: 5.0, half_probability: 0.05, least: 5, excess: 25 }
    }
}

/// Settings of [`LmBatches`].
#[derive(Clone, Copy, Debug)]
pub struct LmConfig {
    /// Number of columns B.
    pub batch_size: usize,
    /// Base length of a window.
    pub bptt: usize,
    pub layout: LmLayout,
    pub windows: Windows,
    pub variable: VariableWindows,
    /// Backward: the ids of every document are reversed.
    pub direction: Direction,
    pub key: Key,
}

/// Where training stands; everything else follows from key and settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LmCursor {
    pub epoch: u32,
    /// Number of windows of this epoch that were given out.
    pub segment: u32,
    /// Time steps of this epoch that were given out.
    pub position: u64,
}

/// Windows of `T` time steps × `B` columns over (some) documents of a store.
pub struct LmBatches {
    store: Arc<TokenStore>,
    documents: Vec<u32>,
    config: LmConfig,
    /// Predictions per column and epoch.
    column: u64,
    /// Distance between the beginnings of two columns in the stream.
    stride: u64,
    tokens: u64,
    cursor: LmCursor,
    /// Order of this epoch and, for each place in it, where the document begins in the stream.
    order: Vec<u32>,
    begins: Vec<u64>,
    order_of: Option<u32>,
    /// One column of a window, and its last target.
    strip: Vec<u32>,
}

impl LmBatches {
    /// `documents`: indices into the store, `None` for all.
    ///
    /// # Errors
    /// Sizes of zero; a batch that is larger than the text.
    pub fn new(store: Arc<TokenStore>, documents: Option<Vec<u32>>, config: LmConfig) -> Result<Self> {
        if config.batch_size == 0 {
            return Err(Error::usage("--batch-size must be at least 1"));
        }
        if config.bptt == 0 {
            return Err(Error::usage("--bptt must be at least 1"));
        }
        let documents = documents.unwrap_or_else(|| (0..store.documents() as u32).collect());
        let tokens: u64 = documents.iter().map(|&d| store.document_len(d as usize) as u64).sum();
        let b = config.batch_size as u64;
        let (stride, column) = config.layout.columns(tokens, b)?;
        let mut this = LmBatches {
            store,
            documents,
            config,
            column,
            stride,
            tokens,
            cursor: LmCursor::default(),
            order: Vec::new(),
            begins: Vec::new(),
            order_of: None,
            strip: Vec::new(),
        };
        this.strip.reserve(this.max_window() + 1);
        this.arrange();
        Ok(this)
    }

    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// Tokens of the documents in use.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Predictions per epoch: columns × time steps (windows that fastai 0.7 leaves out at the end
    /// included).
    pub fn predictions(&self) -> u64 {
        self.column * self.config.batch_size as u64
    }

    /// Bytes of the original text of the documents in use.
    pub fn text_bytes(&self) -> u64 {
        self.documents.iter().map(|&d| self.store.document_text_bytes(d as usize)).sum()
    }

    /// Longest window that can come; memory is reserved for it.
    pub fn max_window(&self) -> usize {
        let longest = match self.config.windows {
            Windows::Fixed => self.config.bptt,
            Windows::Variable | Windows::VariableFirstLong => self.config.bptt + self.config.variable.excess,
        };
        longest.min(usize::try_from(self.column).unwrap_or(usize::MAX))
    }

    /// Number of windows of an epoch (a function of key, epoch and settings).
    pub fn windows_in_epoch(&self, epoch: u32) -> u32 {
        if self.config.windows == Windows::Fixed {
            return self.column.div_ceil(self.config.bptt as u64) as u32;
        }
        let (mut position, mut segment) = (0, 0);
        while let Some(length) = self.window(epoch, segment, position) {
            position += length as u64;
            segment += 1;
        }
        segment
    }

    /// Length of a window, `None` when the epoch is over.
    fn window(&self, epoch: u32, segment: u32, position: u64) -> Option<usize> {
        let left = self.column - position;
        let (bptt, variable) = (self.config.bptt, self.config.variable);
        let limit = self.stride / bptt as u64;
        let over = match self.config.windows {
            Windows::VariableFirstLong => u64::from(segment) >= limit.saturating_sub(1).max(1),
            Windows::Fixed | Windows::Variable => false,
        };
        if left == 0 || over {
            return None;
        }
        let length = match self.config.windows {
            Windows::Fixed => bptt,
            Windows::VariableFirstLong if segment == 0 => bptt + variable.excess,
            Windows::Variable | Windows::VariableFirstLong => {
                variable.draw(bptt, &mut Stream::new(self.config.key, Site::WINDOW, epoch, segment))
            }
        };
        Some(length.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// Where the next window will come from.
    pub fn cursor(&self) -> LmCursor {
        self.cursor
    }

    /// Goes to a place that [`LmBatches::cursor`] gave.
    ///
    /// # Errors
    /// [`Error::Data`] when the place lies outside an epoch.
    pub fn seek(&mut self, cursor: LmCursor) -> Result<()> {
        if cursor.position > self.column {
            return Err(Error::data("the saved position lies beyond the text: the data have changed"));
        }
        self.cursor = cursor;
        self.arrange();
        Ok(())
    }

    /// Begins the next epoch.
    pub fn next_epoch(&mut self) {
        self.cursor = LmCursor { epoch: self.cursor.epoch + 1, ..LmCursor::default() };
        self.arrange();
    }

    /// Begins the same epoch again (evaluation).
    pub fn rewind(&mut self) {
        self.cursor = LmCursor { epoch: self.cursor.epoch, ..LmCursor::default() };
    }

    /// Order of the documents for the cursor's epoch.
    fn arrange(&mut self) {
        let epoch = if self.config.layout == LmLayout::Shuffled { self.cursor.epoch } else { 0 };
        if self.order_of == Some(epoch) {
            return;
        }
        self.order.clone_from(&self.documents);
        if self.config.layout == LmLayout::Shuffled {
            Stream::new(self.config.key, Site::ORDER, epoch, 0).shuffle(&mut self.order);
        }
        self.begins.clear();
        let mut at = 0;
        for &document in &self.order {
            self.begins.push(at);
            at += self.store.document_len(document as usize) as u64;
        }
        self.order_of = Some(epoch);
    }

    /// The next window of this epoch: fills `inputs` and `targets`, both (T, B) time-major, and
    /// returns T; `None` at the end of the epoch. The buffers are resized (their capacity is kept).
    ///
    /// # Errors
    /// As [`TokenStore::read`].
    pub fn next_window(&mut self, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) -> Result<Option<usize>> {
        let LmCursor { epoch, segment, position } = self.cursor;
        let Some(t) = self.window(epoch, segment, position) else { return Ok(None) };
        let b = self.config.batch_size;
        inputs.resize(t * b, 0);
        targets.resize(t * b, 0);
        let mut strip = std::mem::take(&mut self.strip);
        strip.resize(t + 1, 0);
        for column in 0..b {
            self.stream(column as u64 * self.stride + position, &mut strip)?;
            for step in 0..t {
                inputs[step * b + column] = strip[step];
                targets[step * b + column] = strip[step + 1];
            }
        }
        self.strip = strip;
        self.cursor = LmCursor { epoch, segment: segment + 1, position: position + t as u64 };
        Ok(Some(t))
    }

    /// Copies the stream of this epoch's documents from position `from` on.
    fn stream(&self, from: u64, out: &mut [u32]) -> Result<()> {
        let mut place = self.begins.partition_point(|&begin| begin <= from) - 1;
        let (mut filled, mut at) = (0, from);
        while filled < out.len() {
            let range = self.store.document(self.order[place] as usize);
            let offset = at - self.begins[place];
            let n = (range.end - range.start - offset).min((out.len() - filled) as u64);
            let piece = &mut out[filled..filled + n as usize];
            match self.config.direction {
                Direction::Forward => self.store.read(range.start + offset, piece)?,
                Direction::Backward => {
                    self.store.read(range.end - offset - n, piece)?;
                    piece.reverse();
                }
            }
            filled += n as usize;
            at += n;
            place += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "lm_batches_tests.rs"]
mod tests;
