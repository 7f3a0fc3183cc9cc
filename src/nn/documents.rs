//! Batches of documents: how they are laid out over rows, steps and chunks (docs/SPEC.md §1.7).

use std::ops::Range;

use crate::error::{Error, Result};
use crate::ops::concat_pool::Masking;

/// Which steps of a document are run and pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Steps of a chunk.
    pub bptt: usize,
    /// Steps that are pooled at most: the last ones. The last chunk is pooled whatever its length.
    pub max_steps: usize,
    /// Whether a chunk is kept only if it starts strictly after `length − max_steps` (0.7, v1) or
    /// also at it (v2).
    pub strict: bool,
    /// Where the padding stands: 0.7 and v1 pad in front, v2 (here) at the end.
    pub masking: Masking,
}

impl Cap {
    /// The first step that is pooled of a document of so many tokens: where a chunk begins, from
    /// which on no more than `max_steps` are left; the last chunk's first step at the latest.
    ///
    /// ```
    /// use ulmfit::nn::documents::Cap;
    /// use ulmfit::ops::concat_pool::Masking;
    ///
    /// let cap = Cap { bptt: 10, max_steps: 40, strict: false, masking: Masking::Version2 };
    /// assert_eq!([87, 50, 24].map(|length| cap.first_pooled(length)), [50, 10, 0]);
    /// assert_eq!(Cap { strict: true, ..cap }.first_pooled(50), 20);
    /// ```
    pub fn first_pooled(&self, length: usize) -> usize {
        let most = if self.strict { self.max_steps - 1 } else { self.max_steps };
        let last_chunk = length.saturating_sub(1) / self.bptt;
        length.saturating_sub(most).div_ceil(self.bptt).min(last_chunk) * self.bptt
    }
}

/// Documents of one batch, in the order of the batch's rows.
#[derive(Clone, Debug, Default)]
pub struct DocumentBatch<'a> {
    documents: Vec<&'a [u32]>,
    /// Steps of a chunk, where they are not the settings' bptt.
    chunk: Option<usize>,
    /// First and last token of the words of every document; empty where words are not needed.
    words: Vec<Vec<[u32; 2]>>,
}

impl<'a> DocumentBatch<'a> {
    /// No document may be empty (a reader gives every document its xxbos).
    ///
    /// # Errors
    /// [`Error::Data`]: no document, or an empty one.
    pub fn new(documents: Vec<&'a [u32]>) -> Result<Self> {
        if documents.is_empty() || documents.iter().any(|d| d.is_empty()) {
            return Err(Error::data("a batch of documents is empty, or one of its documents is"));
        }
        Ok(DocumentBatch { documents, chunk: None, words: Vec::new() })
    }

    /// The same documents with their words: first and last token of each, counted from the
    /// document's first token.
    ///
    /// # Errors
    /// [`Error::Data`]: words of other documents, or tokens that are not there.
    pub fn with_words(self, words: Vec<Vec<[u32; 2]>>) -> Result<Self> {
        let fits = |(document, words): (&&[u32], &Vec<[u32; 2]>)| {
            words.iter().all(|&[first, last]| first <= last && (last as usize) < document.len())
        };
        if words.len() != self.documents.len() || !self.documents.iter().zip(&words).all(fits) {
            return Err(Error::data("a batch of documents has words beyond its tokens"));
        }
        Ok(DocumentBatch { words, ..self })
    }

    /// First and last token of every word of every document; empty where words are not needed.
    pub fn words(&self) -> &[Vec<[u32; 2]>] {
        &self.words
    }

    /// The documents read backward.
    pub(super) fn backward(&self) -> Vec<Vec<u32>> {
        self.documents.iter().map(|document| document.iter().rev().copied().collect()).collect()
    }

    /// The step at which every word of every document has been read; `backward`: by one who begins
    /// at the end.
    pub(super) fn steps_of_words(&self, backward: bool) -> Vec<Vec<u32>> {
        let of = |(document, words): (&&[u32], &Vec<[u32; 2]>)| {
            let step = |&[first, last]: &[u32; 2]| if backward { document.len() as u32 - 1 - first } else { last };
            words.iter().map(step).collect()
        };
        self.documents.iter().zip(&self.words).map(of).collect()
    }

    /// The same in chunks of the same length.
    pub(super) fn in_chunks_as(self, of: &DocumentBatch) -> Self {
        DocumentBatch { chunk: of.chunk, ..self }
    }

    /// The same documents in chunks of another length than bptt (variable-length back-propagation;
    /// docs/SPEC.md §1.7).
    ///
    /// # Panics
    /// If `steps` is 0.
    #[must_use]
    pub fn in_chunks_of(self, steps: usize) -> Self {
        assert!(steps > 0, "a chunk has at least one step");
        DocumentBatch { chunk: Some(steps), ..self }
    }

    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.documents.iter().map(|d| d.len() as u64).sum()
    }

    /// Length of the longest document.
    pub fn longest(&self) -> usize {
        self.documents.iter().map(|d| d.len()).max().unwrap_or(0)
    }

    pub(super) fn document(&self, at: usize) -> &'a [u32] {
        self.documents[at]
    }
}

/// What a part of a chunk costs beside its steps, in steps of one row: every weight of the input
/// products is read for it. Measured on a Zen 5: 8 to 32 are equally fast.
const PART: usize = 16;

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaidRow {
    /// Position in the batch.
    pub document: usize,
    /// Tokens that run before the pooled part (padded at the end only).
    pub prefix: usize,
    /// Tokens of the pooled part (padded at the end), or of the whole document (padded in front).
    pub pooled: usize,
}

/// How a batch is laid out over steps, chunks and rows.
#[derive(Debug)]
pub(super) struct Layout {
    pub bptt: usize,
    /// Padded at the end: by pooled length, descending; a chunk holds the rows that reach it.
    /// Padded in front: the batch's order.
    pub rows: Vec<LaidRow>,
    /// Padded at the end.
    pub tail: bool,
    /// Steps of the main pass.
    pub steps: usize,
    pub chunks: usize,
    /// First chunk that is kept for pooling (0 when padded at the end).
    pub first_chunk: usize,
    /// Chunks of the longest prefix (0 when padded in front).
    pub prefix_chunks: usize,
    pad: u32,
}

impl Layout {
    pub(super) fn new(cap: &Cap, pad: u32, batch: &DocumentBatch) -> Self {
        let bptt = batch.chunk.unwrap_or(cap.bptt);
        let cap = Cap { bptt, ..*cap };
        let tail = cap.masking == Masking::Version2;
        let mut rows: Vec<LaidRow> = batch
            .documents
            .iter()
            .enumerate()
            .map(|(document, d)| {
                let prefix = if tail { cap.first_pooled(d.len()) } else { 0 };
                LaidRow { document, prefix, pooled: d.len() - prefix }
            })
            .collect();
        if tail {
            rows.sort_by_key(|r| (std::cmp::Reverse(r.pooled), r.document));
        }
        let steps = rows.iter().map(|r| r.pooled).max().unwrap_or(0);
        let first_chunk = if tail { 0 } else { cap.first_pooled(steps) / bptt };
        let prefix_chunks = rows.iter().map(|r| r.prefix / bptt).max().unwrap_or(0);
        Layout { bptt, rows, tail, steps, chunks: steps.div_ceil(bptt), first_chunk, prefix_chunks, pad }
    }

    /// Rows of a chunk that starts at `from`.
    pub(super) fn rows_at(&self, from: usize) -> usize {
        if self.tail { self.rows.partition_point(|r| r.pooled > from) } else { self.rows.len() }
    }

    /// The ends of the parts that the steps `span` of a chunk are run in, so that few rows are run
    /// on after their own end: those for which the sum of steps · rows, and [`PART`] for each part,
    /// is least.
    pub(super) fn parts(&self, span: Range<usize>) -> Vec<usize> {
        // only where rows end can a cut help
        let reach = self.rows[..self.rows_at(span.start)].iter().rev();
        let mut ends: Vec<usize> = reach.map(|row| row.pooled).filter(|end| *end < span.end).collect();
        ends.push(span.end);
        ends.dedup();
        // of the steps before each end: the least cost, and where their last part begins
        let mut best: Vec<(usize, usize)> = Vec::with_capacity(ends.len());
        for (k, end) in ends.iter().enumerate() {
            let cost = |j: usize| {
                let (before, start) = if j == 0 { (0, span.start) } else { (best[j - 1].0, ends[j - 1]) };
                (before + (end - start) * self.rows_at(start) + PART, j)
            };
            best.push((0..=k).map(cost).min().expect("0..=k is not empty"));
        }
        let (mut parts, mut left) = (Vec::new(), ends.len());
        while left > 0 {
            parts.push(ends[left - 1]);
            left = best[left - 1].1;
        }
        parts.reverse();
        parts
    }

    /// Positions `t·rows + row` of a chunk (steps `span` of the main pass) whose token has a next
    /// one in its document, and at the end of `words` those next ones, position by position.
    pub(super) fn next_words(
        &self,
        batch: &DocumentBatch,
        span: Range<usize>,
        rows: usize,
        words: &mut Vec<u32>,
    ) -> Vec<u32> {
        let mut positions = Vec::new();
        for (t, step) in span.enumerate() {
            for (r, row) in self.rows[..rows].iter().enumerate() {
                let document = batch.documents[row.document];
                let at =
                    if self.tail { Some(row.prefix + step) } else { step.checked_sub(self.steps - document.len()) };
                if let Some(&word) = at.and_then(|at| document.get(at + 1)) {
                    positions.push((t * rows + r) as u32);
                    words.push(word);
                }
            }
        }
        positions
    }

    /// Positions `t·rows + row` of a chunk (steps `span` of the main pass, padded at the end) at
    /// which a word is read, and the number of that word in the batch. `steps`: as
    /// [`DocumentBatch::steps_of_words`].
    pub(super) fn words(&self, steps: &[Vec<u32>], span: &Range<usize>, rows: usize) -> [Vec<u32>; 2] {
        let mut first = Vec::with_capacity(steps.len());
        steps.iter().fold(0, |n, of| {
            first.push(n);
            n + of.len()
        });
        let (mut positions, mut words) = (Vec::new(), Vec::new());
        for (r, row) in self.rows[..rows].iter().enumerate() {
            for (k, &step) in steps[row.document].iter().enumerate() {
                if let Some(t) = (step as usize).checked_sub(span.start).filter(|_| span.contains(&(step as usize))) {
                    positions.push((t * rows + r) as u32);
                    words.push((first[row.document] + k) as u32);
                }
            }
        }
        [positions, words]
    }

    /// Token ids of a chunk, time-major `[T, rows]`.
    pub(super) fn fill(&self, batch: &DocumentBatch, from: usize, tokens: &mut [u32], rows: usize) {
        for (t, step) in tokens.chunks_exact_mut(rows).enumerate() {
            for (token, row) in step.iter_mut().zip(&self.rows) {
                let document = batch.documents[row.document];
                let at = if self.tail {
                    Some(row.prefix + from + t)
                } else {
                    (from + t).checked_sub(self.steps - document.len())
                };
                *token = at.and_then(|at| document.get(at).copied()).unwrap_or(self.pad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a batch of documents of such lengths, in one chunk.
    fn parts(lengths: &[usize]) -> Vec<usize> {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![1; length]).collect();
        let batch = DocumentBatch::new(texts.iter().map(Vec::as_slice).collect()).unwrap();
        let cap = Cap { bptt: 70, max_steps: 70, strict: false, masking: Masking::Version2 };
        Layout::new(&cap, 0, &batch).parts(0..*lengths.iter().max().unwrap())
    }

    #[test]
    fn rows_that_end_early_are_not_run_on() {
        assert_eq!(parts(&[7]), [7]);
        assert_eq!(parts(&[5; 9]), [5]);
        assert_eq!(parts(&[40, 5, 5, 5, 5, 5, 5]), [5, 40]);
        // saves two steps of a row, and a part costs more
        assert_eq!(parts(&[9, 7]), [9]);
    }

    #[test]
    fn no_other_parts_cost_less() {
        let lengths = [3, 50, 8, 8, 9, 20, 21, 30, 30, 31, 60];
        let rows = |from: usize| lengths.iter().filter(|&&length| length > from).count();
        let cost = |parts: &[usize]| {
            let from = std::iter::once(0).chain(parts.iter().copied());
            from.zip(parts).map(|(from, end)| (end - from) * rows(from) + PART).sum::<usize>()
        };
        let found = parts(&lengths);
        let mut ends = lengths.to_vec();
        ends.sort_unstable();
        ends.dedup();
        for chosen in 0..1u32 << (ends.len() - 1) {
            // the last end is in every cut
            let is_in = |k: usize| k + 1 == ends.len() || chosen >> k & 1 == 1;
            let other: Vec<usize> = (0..ends.len()).filter(|&k| is_in(k)).map(|k| ends[k]).collect();
            assert!(cost(&found) <= cost(&other), "{found:?} costs more than {other:?}");
        }
    }
}
