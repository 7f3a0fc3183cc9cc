//! What a trained model answers: classes of texts, the perplexity of texts, continuations. Texts come from any source and are held in
//! memory as ids: no file is made of them.

pub mod classes;
pub mod ensemble;
pub mod language;
pub mod linear;
pub mod panel;

use serde::{Deserialize, Deserializer, Serialize};

/// Result of an evaluation on held-out data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Mean cross-entropy in nats, per token or per document.
    #[serde(deserialize_with = "nan")]
    pub loss: f64,
    pub perplexity: Option<f64>,
    pub bits_per_byte: Option<f64>,
    /// Percent.
    pub accuracy: Option<f64>,
    /// Percent.
    pub error_percent: Option<f64>,
    /// Tokens or documents that were predicted.
    pub count: u64,
    /// Rows: true classes, columns: predictions (classifiers).
    pub confusion: Option<Vec<Vec<u64>>>,
}

/// JSON has no NaN: `null` stands for it.
pub fn nan<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
