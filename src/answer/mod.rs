//! The answers of a trained model: classes of texts, tags of words, the perplexity of texts,
//! continuations. Texts come from any source and are held in memory as ids: no file is made of
//! them.

pub mod classes;
mod confusion;
pub mod ensemble;
pub mod explain;
pub mod gold;
pub mod language;
pub mod linear;
mod measured;
pub mod mistakes;
pub mod panel;
pub mod tags;

pub use confusion::{Confusion, SHOWN_CLASSES};
pub use measured::{Hits, Macro, Measured, Scores, wilson};

use serde::{Deserialize, Deserializer};

/// JSON has no NaN: `null` stands for it.
pub fn nan<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
