//! From files to batches of token ids: readers, tokenizers, vocabulary, token store, batching,
//! splits.
//!
//! The way of a text: [`Source`] streams [`Document`]s from a file, folder or archive; a
//! [`Tokenizer`] cuts each into words; [`count_words`] and [`Vocabulary::from_counts`] make the
//! vocabulary in a first pass; [`write_store`] writes the ids in a second pass to a [`TokenStore`];
//! [`LmBatches`] and [`ClassifierBatches`] are index arithmetic on it. At no point is a corpus in
//! memory as a whole.
//!
//! This room imports `crate::error`, `crate::random`, `crate::files` and `crate::temporary` alone.

mod build;
mod classifier_batches;
mod direction;
mod doubts;
mod interner;
mod labelled;
mod lm_batches;
#[cfg(test)]
mod peer_tests;
mod places;
mod profile;
mod reader;
mod split;
mod store;
mod subword;
pub mod synthetic;
mod tokenizer;
mod vocabulary;

pub use build::{
    BuildOptions, BuildReport, Labels, Progress, Row, Skipped, TextCounts, Tokens, count_words, fill_store,
    nothing_left, sorted_labels, tokenize_all, write_store,
};
pub use classifier_batches::{ClassifierBatches, ClassifierConfig, ClassifierCursor, SampleOrder};
pub use direction::Direction;
pub use doubts::{shown_label, shown_labels};
pub use labelled::Labelled;
pub use lm_batches::{LmBatches, LmConfig, LmCursor, LmLayout, VariableWindows, Windows};
pub use places::{Piece, pieces};
pub use profile::{Profile, QUANTILES};
pub(crate) use reader::of_flags;
pub use reader::{
    Document, Documents, Encoding, FORMATS, Format, Kind, LABEL_MARK, OpenOptions, Origin, Quotes, Role, Source,
};
pub use split::{TextFingerprints, low_shot_subset, random_split, stratified_folds, stratified_split};
pub use store::{Storage, StoreWriter, TokenStore, mark};
pub use subword::{TokenizerPlan, train_subword};
pub use tokenizer::{
    Invisible, Language, Rules, Scratch, Subword, SubwordAlgorithm, SubwordTraining, TABLES_VERSION, Tokenizer,
    TokenizerKind, UNICODE_TABLES_VERSION, is_guarded,
};
pub use vocabulary::{PAD_ID, UNKNOWN_ID, Vocabulary, WordCounts, tokenizer_path};

/// White space as Python's `str.split` and `\s` see it: Unicode white space and the four
/// information separators. (The reference token streams were made with Python.)
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
