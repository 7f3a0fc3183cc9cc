//! A sub-word tokenizer from sources: one pass that counts segments in bounded memory, then the
//! training.

use std::path::Path;

use super::build::{BATCH_BYTES, OnProgress, in_batches};
use super::tokenizer::Scratch;
use super::tokenizer::subword::{Segmenter, Segments, train};
use super::{
    BuildOptions, Document, Invisible, Rules, Source, Subword, SubwordAlgorithm, SubwordTraining, TokenizerKind,
    WordCounts,
};
use crate::error::{Error, Result};

/// Where the tokenizer of a new vocabulary comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerPlan {
    /// The tokenizer is given.
    Made(TokenizerKind),
    /// Sub-words are to be trained on the text; size and least count are those of the vocabulary.
    Train { algorithm: SubwordAlgorithm, rules: Rules, invisible: Invisible, coverage: f64 },
}

impl TokenizerPlan {
    /// Sub-words from a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::File`] when the file is none.
    pub fn from_file(path: &Path) -> Result<Self> {
        Ok(TokenizerPlan::Made(TokenizerKind::Subword(Subword::open(path)?)))
    }

    /// Whether it is one of sub-words.
    pub fn is_subword(&self) -> bool {
        !matches!(
            self,
            TokenizerPlan::Made(TokenizerKind::Word { .. } | TokenizerKind::Whitespace | TokenizerKind::Pretokenized)
        )
    }

    /// Makes the tokenizer, from `sources` where it is to be trained.
    ///
    /// # Errors
    /// [`Error::Usage`] where a vocabulary of sub-words has no size; those of [`train_subword`].
    pub fn make(
        self,
        sources: &[Source],
        vocab_size: Option<usize>,
        min_count: u64,
        options: &BuildOptions,
        progress: OnProgress,
    ) -> Result<TokenizerKind> {
        let (algorithm, rules, invisible, coverage) = match self {
            TokenizerPlan::Made(kind) => return Ok(kind),
            TokenizerPlan::Train { algorithm, rules, invisible, coverage } => (algorithm, rules, invisible, coverage),
        };
        let vocab_size = vocab_size.ok_or_else(|| {
            Error::usage("--tokenizer subword: the recipe does not limit the vocabulary").hint("say --vocab-size N")
        })?;
        let training = SubwordTraining { algorithm, rules, invisible, vocab_size, min_count, coverage };
        train_subword(sources, &training, options, progress)
    }
}

/// Trains a sub-word tokenizer on the documents of all sources, leaving out those that
/// [`BuildOptions`] leaves out. The result is the same for any number of threads.
///
/// # Errors
/// Errors of reading, of `progress`, and of training: no word in the text, a
/// vocabulary too small for one.
pub fn train_subword(
    sources: &[Source],
    training: &SubwordTraining,
    options: &BuildOptions,
    progress: OnProgress,
) -> Result<TokenizerKind> {
    let segmenter = Segmenter::new(training.rules, training.invisible)?;
    let work = |documents: &[Document], scratch: &mut Scratch| -> Result<Vec<WordCounts>> {
        let read = documents.iter().filter(|document| {
            !(options.skip_empty && document.is_empty() || options.skip_unlabelled && document.label.is_none())
        });
        let mut count = |document: &Document| segmenter.count(document, &mut scratch.segments);
        read.map(|document| match document.words {
            // words are no fields
            true => count(&Document::new(document.text.as_str())),
            false => count(document),
        })
        .collect()
    };
    let mut segments = Segments::default();
    let take = |documents: Result<Vec<WordCounts>>| {
        documents?.iter().for_each(|document| segments.add(document));
        Ok(())
    };
    in_batches(sources, BATCH_BYTES, work, take, progress)?;
    Ok(TokenizerKind::Subword(train(segments, training)?))
}
