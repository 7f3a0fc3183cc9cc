//! Batches for classifiers: documents of like length together (docs/SPEC.md §3.2). How a batch is
//! padded is decided by the model (§1.6).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::TokenStore;
use crate::error::{Error, Result};
use crate::random::{Key, Site, Stream};

/// Order of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SampleOrder {
    /// fastai 0.7 and v1: shuffle; cut into pieces of 50 batches; sort each by falling length; cut
    /// into batches; the batch with the longest document goes first, the others are shuffled.
    Sortish,
    /// fastai v2: as `Sortish`, but the longest document opens the first piece, and the last batch
    /// (the short one) stays last.
    SortishShortLast,
    /// By falling length; equal lengths in the order of the store. For validation and prediction.
    Sorted,
    /// As `Sorted`; all documents of a batch have the same length, so that nothing is padded.
    SortedAlike,
}

/// Settings of [`ClassifierBatches`].
#[derive(Clone, Copy, Debug)]
pub struct ClassifierConfig {
    pub batch_size: usize,
    pub order: SampleOrder,
    /// Leave out the last batch when it is short (v2 in training), unless it is the only one.
    /// Otherwise, in training, a last batch of a single document joins the one before: a batch norm
    /// has nothing to learn from it.
    pub drop_last: bool,
    pub key: Key,
}

/// Where training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierCursor {
    pub epoch: u32,
    /// Number of batches of this epoch that were given out.
    pub batch: u32,
}

/// Batches of whole documents of a store.
pub struct ClassifierBatches {
    store: Arc<TokenStore>,
    documents: Vec<u32>,
    config: ClassifierConfig,
    cursor: ClassifierCursor,
    batches: Vec<Vec<u32>>,
    batches_of: Option<u32>,
}

impl ClassifierBatches {
    /// `documents`: indices into the store, `None` for all.
    ///
    /// # Errors
    /// Sizes of zero; no documents; a document without tokens.
    pub fn new(store: Arc<TokenStore>, documents: Option<Vec<u32>>, config: ClassifierConfig) -> Result<Self> {
        if config.batch_size == 0 {
            return Err(Error::usage("--batch-size must be at least 1"));
        }
        let documents = documents.unwrap_or_else(|| (0..store.documents() as u32).collect());
        if documents.is_empty() {
            return Err(Error::data(format!("no documents to make batches of ({})", store.path().display())));
        }
        if let Some(empty) = documents.iter().find(|&&d| store.document_len(d as usize) == 0) {
            return Err(Error::data(format!("document {empty} of {} has no tokens", store.path().display())));
        }
        let cursor = ClassifierCursor::default();
        let mut this = ClassifierBatches { store, documents, config, cursor, batches: Vec::new(), batches_of: None };
        this.arrange();
        Ok(this)
    }

    /// Number of batches of an epoch.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Number of documents in use.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Time steps of the largest batch; memory is reserved for it.
    pub fn max_steps(&self) -> usize {
        self.documents.iter().map(|&d| self.length(d)).max().unwrap_or(0)
    }

    pub fn cursor(&self) -> ClassifierCursor {
        self.cursor
    }

    /// Goes to a place that [`ClassifierBatches::cursor`] gave.
    ///
    /// # Errors
    /// [`Error::Data`] when the place lies outside an epoch.
    pub fn seek(&mut self, cursor: ClassifierCursor) -> Result<()> {
        self.cursor = cursor;
        self.arrange();
        if cursor.batch as usize > self.batches.len() {
            return Err(Error::data("the saved position lies beyond the data: they have changed"));
        }
        Ok(())
    }

    /// Begins the next epoch.
    pub fn next_epoch(&mut self) {
        self.cursor = ClassifierCursor { epoch: self.cursor.epoch + 1, batch: 0 };
        self.arrange();
    }

    fn length(&self, document: u32) -> usize {
        self.store.document_len(document as usize)
    }

    fn arrange(&mut self) {
        let sorted = matches!(self.config.order, SampleOrder::Sorted | SampleOrder::SortedAlike);
        let epoch = if sorted { 0 } else { self.cursor.epoch };
        if self.batches_of == Some(epoch) {
            return;
        }
        let b = self.config.batch_size;
        let mut order = self.documents.clone();
        let falling = |piece: &mut [u32], store: &TokenStore| {
            piece.sort_by_key(|&d| std::cmp::Reverse(store.document_len(d as usize)));
        };
        let mut random = Stream::new(self.config.key, Site::ORDER, epoch, 0);
        if sorted {
            falling(&mut order, &self.store);
            let alike = self.config.order == SampleOrder::SortedAlike;
            let runs = order.chunk_by(|&x, &y| !alike || self.length(x) == self.length(y));
            self.batches = runs.flat_map(|run| run.chunks(b)).map(<[u32]>::to_vec).collect();
        } else {
            random.shuffle(&mut order);
            let v2 = self.config.order == SampleOrder::SortishShortLast;
            if v2 {
                // the first document of greatest length in the store's order (numpy's argmax)
                let longest = self.documents.iter().copied().rev().max_by_key(|&d| self.length(d));
                let at = order.iter().position(|d| Some(*d) == longest).unwrap_or(0);
                order.swap(0, at);
            }
            order.chunks_mut(b.saturating_mul(50)).for_each(|piece| falling(piece, &self.store));
            self.batches = order.chunks(b).map(<[u32]>::to_vec).collect();
            if let [.., before, last] = &mut self.batches[..]
                && (last.len() == 1 && b > 1 && !self.config.drop_last)
            {
                before.append(last);
                falling(before, &self.store);
                self.batches.pop();
            }
            let n = self.batches.len();
            if v2 {
                if n > 2 {
                    random.shuffle(&mut self.batches[1..n - 1]);
                }
            } else {
                let longest = (0..n).rev().max_by_key(|&i| self.length(self.batches[i][0])).unwrap_or(0);
                self.batches.swap(0, longest);
                random.shuffle(&mut self.batches[1..]);
            }
        }
        if self.config.drop_last && self.batches.len() > 1 {
            self.batches.retain(|batch| batch.len() == b);
        }
        self.batches_of = Some(epoch);
    }

    /// The documents of the next batch of this epoch (indices into the store, in falling order of
    /// length); `None` at its end.
    pub fn next_documents(&mut self) -> Option<&[u32]> {
        let documents = self.batches.get(self.cursor.batch as usize)?;
        self.cursor.batch += 1;
        Some(documents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::StoreWriter;
    use crate::text::store::tests::vocabulary;

    /// Document `i` holds its length times the id `i + 2`; its label is `i % 2`.
    fn store(dir: &tempfile::TempDir, lengths: &[usize]) -> Arc<TokenStore> {
        let mut writer = StoreWriter::create(&dir.path().join("s.tok"), &vocabulary(5000)).unwrap();
        for (i, &n) in lengths.iter().enumerate() {
            writer.push(&vec![i as u32 + 2; n], Some(i as u32 % 2), n as u64, n).unwrap();
        }
        Arc::new(writer.finish(&["a".into(), "b".into()], &[0, 1]).unwrap())
    }

    fn config(batch_size: usize, order: SampleOrder) -> ClassifierConfig {
        let key = Key::new(5, 3u32, 0u32);
        ClassifierConfig { batch_size, order, drop_last: false, key }
    }

    fn epoch(batches: &mut ClassifierBatches) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        while let Some(documents) = batches.next_documents() {
            all.push(documents.to_vec());
        }
        all
    }

    #[test]
    fn sortish_batches() {
        let dir = tempfile::tempdir().unwrap();
        let lengths: Vec<usize> = (0..1003).map(|i| 1 + (i * 617) % 1003).collect();
        let s = store(&dir, &lengths);
        for order in [SampleOrder::Sortish, SampleOrder::SortishShortLast] {
            let mut b = ClassifierBatches::new(s.clone(), None, config(4, order)).unwrap();
            assert_eq!((b.len(), b.max_steps()), (251, 1003));
            let first = epoch(&mut b);
            let mut seen: Vec<u32> = first.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..1003).collect::<Vec<u32>>());
            let length = |d: &u32| lengths[*d as usize];
            assert_eq!(length(&first[0][0]), 1003, "the longest document is in the first batch");
            assert!(first.iter().all(|x| x.iter().map(length).is_sorted_by(|a, b| a >= b)));
            let spread: usize = first.iter().map(|x| length(&x[0]) - length(&x[x.len() - 1])).sum();
            assert!(spread / 251 < 40, "rows of a batch are alike: mean spread {}", spread / 251);
            let heads: Vec<usize> = first.iter().map(|x| length(&x[0])).collect();
            assert!(!heads[1..100].is_sorted_by(|a, b| a >= b), "batches are shuffled");
            if order == SampleOrder::SortishShortLast {
                assert_eq!(first[250].len(), 3);
            }
            b.next_epoch();
            let second = epoch(&mut b);
            assert_ne!(first, second);
            // resumed in the middle of the second epoch
            let cursor = ClassifierCursor { epoch: 1, batch: 100 };
            let mut again = ClassifierBatches::new(s.clone(), None, config(4, order)).unwrap();
            again.seek(serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap()).unwrap();
            assert_eq!(epoch(&mut again), second[100..]);
        }
    }

    #[test]
    fn a_single_document_is_no_batch_of_training() {
        let dir = tempfile::tempdir().unwrap();
        let lengths: Vec<usize> = (0..9).map(|i| 1 + (i * 5) % 9).collect();
        let s = store(&dir, &lengths);
        for order in [SampleOrder::Sortish, SampleOrder::SortishShortLast] {
            let all = epoch(&mut ClassifierBatches::new(s.clone(), None, config(4, order)).unwrap());
            let mut sizes: Vec<usize> = all.iter().map(Vec::len).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [4, 5]);
            assert!(all.iter().all(|x| x.iter().map(|&d| lengths[d as usize]).is_sorted_by(|a, b| a >= b)));
            let dropping = ClassifierConfig { drop_last: true, ..config(4, order) };
            assert!(
                epoch(&mut ClassifierBatches::new(s.clone(), None, dropping).unwrap()).iter().all(|x| x.len() == 4)
            );
        }
        let sorted = epoch(&mut ClassifierBatches::new(s, None, config(4, SampleOrder::Sorted)).unwrap());
        assert_eq!(sorted.last().map(Vec::len), Some(1), "prediction has no batch norm to train");
    }

    #[test]
    fn sorted_subset_and_dropped_rest() {
        let dir = tempfile::tempdir().unwrap();
        let s = store(&dir, &[2, 3, 1, 2]);
        let c = ClassifierConfig { drop_last: true, ..config(2, SampleOrder::Sorted) };
        let mut b = ClassifierBatches::new(s.clone(), Some(vec![0, 1, 3]), c).unwrap();
        assert_eq!(epoch(&mut b), [[1, 0]]);
        let mut alike = ClassifierBatches::new(s.clone(), None, config(2, SampleOrder::SortedAlike)).unwrap();
        assert_eq!(epoch(&mut alike), [vec![1], vec![0, 3], vec![2]]);
        // one short batch alone is kept
        let mut b = ClassifierBatches::new(s.clone(), Some(vec![2]), c).unwrap();
        assert_eq!(epoch(&mut b), [[2]]);
        assert!(ClassifierBatches::new(s.clone(), Some(vec![]), c).is_err());
        assert!(
            ClassifierBatches::new(s, None, ClassifierConfig { batch_size: 0, ..c })
                .is_err_and(|e| e.exit_status() == 2)
        );
    }
}
