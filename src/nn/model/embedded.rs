//! A classifier on embeddings instead of words, for attributions to words, which differentiate it.

use super::Classifier;
use super::classifier::OfHead;
use crate::autodiff::{Graph, Parameters, Var};
use crate::error::{Error, Result};
use crate::nn::documents::DocumentBatch;
use crate::nn::head::{AffineBlock, Features, PooledClasses};
use crate::nn::noise::Noise;
use crate::nn::state::State;
use crate::ops::batch_norm::Mode;
use crate::tensor::{DType, Tensor};

/// The outputs that are computed from embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// The embeddings, a variable; document by document after rows that nothing reads.
    pub embeddings: Var,
    /// Rows before the first document's.
    pub before: usize,
    /// `[B, C]`
    pub logits: Var,
}

impl Classifier {
    /// Step of a document of so many tokens from which on its steps are pooled: 0, but for long
    /// ones.
    fn first_pooled(&self, length: usize) -> Result<usize> {
        let tokens = vec![0; length];
        let layout = self.layout(&DocumentBatch::new(vec![&tokens])?);
        Ok(if layout.tail { layout.rows[0].prefix } else { layout.first_chunk * layout.bptt })
    }

    /// The head of documents.
    fn head_of_documents(&self) -> Result<&PooledClasses> {
        match &self.head {
            OfHead::Documents(head) => Ok(head),
            OfHead::Words(_) => Err(Error::shape("classifier", "head", "one of documents", "one of words")),
        }
    }

    /// The head's blocks in evaluation.
    ///
    /// # Errors
    /// A classifier of words.
    pub fn affine_head(&self, parameters: &Parameters) -> Result<Vec<AffineBlock>> {
        Ok(self.head_of_documents()?.affine_blocks(parameters))
    }

    /// Runs documents of one length, given as embeddings, in one window: a gradient flows through
    /// all of their steps, where [`forward`](Self::forward) cuts it at chunks. The values are the
    /// same. Memory grows with the length.
    ///
    /// * `embeddings`: `[B, T, E]` in the type of the parameters
    ///
    /// # Errors
    /// No memory left; a classifier of pairs; a length of zero, or one that is no multiple of `E`.
    pub fn on_embeddings(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        embeddings: &[f64],
        documents: usize,
    ) -> Result<Embedded> {
        let width = self.settings.encoder.width();
        let steps = embeddings.len() / width / documents.max(1);
        if steps == 0 || embeddings.len() != documents * steps * width || self.settings.pair {
            let found = format!("{} values for {documents} documents", embeddings.len());
            return Err(Error::shape("classifier", "embeddings", format!("[B, T, {width}]"), found));
        }
        // a matrix with a row for every token; the padding's row, which has no gradient, is none of
        // them
        let before = self.settings.encoder.pad().map_or(0, |pad| pad as usize + 1);
        let mut rows = vec![0.0; before * width];
        rows.extend(embeddings);
        let matrix = Tensor::zeros([before + documents * steps, width], parameters.dtype())?;
        matrix.set_f64(&rows);
        let embedding = g.variable(matrix.to_device(g.device())?);
        let tokens = Tensor::zeros([steps, documents], DType::U32)?;
        for (t, step) in tokens.write::<u32>().chunks_exact_mut(documents).enumerate() {
            step.iter_mut().enumerate().for_each(|(b, token)| *token = (before + b * steps + t) as u32);
        }
        let mut state = State::zeros_for(g, self.encoder.slots(), documents, parameters.dtype())?;
        let y = self.encoder.forward(g, parameters, embedding, &tokens, &mut state, &Noise::Off)?;
        let (first, lengths) = (self.first_pooled(steps)?, vec![steps as u32; documents]);
        let chunks = [y];
        let (lengths, norm, pairs, readings) = (&lengths[..], Mode::Eval, None, &[][..]);
        let features = Features { embedding, chunks: &chunks, start: 0, first, lengths, norm, pairs, readings };
        let logits = self.head_of_documents()?.logits(g, parameters, &features, &Noise::Off)?.logits;
        Ok(Embedded { embeddings: embedding, before, logits })
    }
}
