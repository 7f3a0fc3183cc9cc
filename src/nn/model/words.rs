//! The classifier of words: every word has the output of the encoder at the step at which it has
//! been read, or those of two encoders, one of which reads backward.

use super::{BatchLoss, Classified, Classifier, ClassifierLosses, Truth, sum_losses};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::nn::chunks::{Encoded, Walk};
use crate::nn::documents::DocumentBatch;
use crate::nn::head::{Features, Head, Known, Reading, Targets, TokenLabels};
use crate::nn::noise::Noise;
use crate::ops::batch_norm::Mode;
use crate::tensor::Tensor;

/// One encoder's way through a batch.
struct Way<'a> {
    encoded: Encoded,
    /// See [`Reading::words`].
    words: Vec<[Vec<u32>; 2]>,
    noise: Noise<'a>,
}

impl Way<'_> {
    fn reading(&self) -> Reading<'_> {
        Reading { chunks: &self.encoded.chunks, words: &self.words, noise: self.noise }
    }
}

impl Classifier {
    /// Runs the batch through the encoder, and backward through the second where there is one.
    fn ways<'n>(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        noise: &Noise<'n>,
    ) -> Result<Vec<Way<'n>>> {
        if batch.words().iter().all(Vec::is_empty) {
            return Err(Error::shape("classifier", "batch", "documents with words", "none"));
        }
        let backward = batch.backward();
        let turned = DocumentBatch::new(backward.iter().map(Vec::as_slice).collect())?.in_chunks_as(batch);
        let first = (&*self.encoder, batch, false, *noise);
        let second = self.second.as_ref().map(|second| (&**second, &turned, true, noise.of_second()));
        let mut ways = Vec::with_capacity(2);
        for (encoder, read, is_backward, noise) in std::iter::once(first).chain(second) {
            let layout = self.layout(read);
            let encoded = Walk { encoder, parameters, batch: read, layout: &layout, noise: &noise }.run(g)?;
            let steps = batch.steps_of_words(is_backward);
            let mut from = encoded.start;
            let mut words = Vec::with_capacity(encoded.chunks.len());
            for &chunk in &encoded.chunks {
                let [length, rows, _] = *g.shape(chunk).dims() else { continue };
                words.push(layout.words(&steps, &(from..from + length), rows));
                from += length;
            }
            ways.push(Way { encoded, words, noise });
        }
        Ok(ways)
    }

    /// Loss of a training batch: see [`Classifier::loss`].
    #[allow(clippy::too_many_arguments)]
    pub(super) fn loss_of_words(
        &self,
        head: &TokenLabels,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        truth: Truth,
        noise: &Noise,
        losses: &ClassifierLosses,
    ) -> Result<BatchLoss> {
        let Truth::Classes(labels) = truth else {
            return Err(Error::shape("classifier", "truth", "a label of every word", "numbers"));
        };
        let ways = self.ways(g, parameters, batch, noise)?;
        let readings: Vec<Reading> = ways.iter().map(Way::reading).collect();
        let embedding = g.parameter(parameters, self.encoder.embedding());
        let Encoded { chunks, start, lengths, .. } = &ways[0].encoded;
        let (norm, pairs, readings) = (Mode::Eval, None, &*readings);
        let features = Features { embedding, chunks, start: *start, first: *start, lengths, norm, pairs, readings };
        let labels = Tensor::from_slice([labels.len()], labels)?;
        let targets = Targets { known: Known::Indices(&labels), negatives: None, counts: &losses.counts };
        let of_head = head.loss(g, parameters, &features, &targets, noise)?;
        sum_losses(head.part(), g, &features, of_head, None, &losses.penalties)
    }

    /// Runs a batch of documents to logits: see [`Classifier::forward`].
    pub(super) fn forward_of_words(
        &self,
        head: &TokenLabels,
        g: &mut Graph,
        parameters: &Parameters,
        batch: &DocumentBatch,
        noise: &Noise,
    ) -> Result<Classified> {
        let ways = self.ways(g, parameters, batch, noise)?;
        let readings: Vec<Reading> = ways.iter().map(Way::reading).collect();
        let [pooled, logits] = head.logits(g, parameters, &readings)?;
        let rows = (0..batch.len() as u32).collect();
        let chunks = ways.into_iter().flat_map(|way| way.encoded.chunks).collect();
        Ok(Classified { logits, chunks, rows, pooled, hidden: Vec::new() })
    }
}
