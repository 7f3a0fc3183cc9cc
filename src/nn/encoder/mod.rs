//! Encoders: from a window of tokens to a vector for each of them.
//!
//! A new one is a file beside this, an arm of [`EncoderSettings`], and a line in each of its
//! methods (DESIGN.md, "An encoder is a file, and so is a head").

mod awd_lstm;
mod qrnn;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::awd_lstm::{AwdLstm, AwdLstmSettings};
pub use self::qrnn::{Qrnn, QrnnSettings};
use super::noise::Noise;
use super::state::{Slot, State};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::random::Key;
use crate::tensor::{DType, Device, Tensor};

/// An encoder within a model: it knows its parameters' numbers, and holds no values.
pub trait Encoder: std::fmt::Debug + Send + Sync {
    /// The embedding matrix `[V, E]`, which a tied decoder shares.
    fn embedding(&self) -> ParameterId;

    /// The tensors that it carries from window to window.
    fn slots(&self) -> &Arc<[Slot]>;

    /// Puts start values into its parameters.
    ///
    /// # Errors
    /// More parameters than there are streams of start values.
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()>;

    /// Runs a window.
    ///
    /// * `embedding`: the embedding matrix, already on the graph
    /// * `tokens`: u32 `[T, B]`
    /// * `state`: of `B` rows or more (the first B are used); afterwards that of the window's end,
    ///   detached, of B rows
    ///
    /// Returns the last layer's output without dropout, `[T, B, E]`.
    ///
    /// # Errors
    /// No memory left, tokens outside of the vocabulary, a mask of the noise that does not fit.
    fn forward(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        embedding: Var,
        tokens: &Tensor,
        state: &mut State,
        noise: &Noise,
    ) -> Result<Var>;
}

impl dyn Encoder + '_ {
    /// As [`forward`](Encoder::forward), where nothing else needs the embedding matrix.
    ///
    /// # Errors
    /// As [`forward`](Encoder::forward).
    pub fn run(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        state: &mut State,
        noise: &Noise,
    ) -> Result<Var> {
        let embedding = g.parameter(parameters, self.embedding());
        self.forward(g, parameters, embedding, tokens, state, noise)
    }

    /// A state of zeros on a device, for a batch of so many rows.
    ///
    /// # Errors
    /// No memory left.
    pub fn zeros(&self, device: Device, rows: usize, dtype: DType) -> Result<State> {
        State::zeros(device, self.slots(), rows, dtype)
    }
}

/// Kind and sizes of an encoder, as `config.json` holds it: tagged by `kind`; without one it is an
/// AWD-LSTM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EncoderSettings {
    AwdLstm(AwdLstmSettings),
    Qrnn(QrnnSettings),
}

impl From<AwdLstmSettings> for EncoderSettings {
    fn from(settings: AwdLstmSettings) -> Self {
        EncoderSettings::AwdLstm(settings)
    }
}

impl From<QrnnSettings> for EncoderSettings {
    fn from(settings: QrnnSettings) -> Self {
        EncoderSettings::Qrnn(settings)
    }
}

impl<'de> Deserialize<'de> for EncoderSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut value = serde_json::Value::deserialize(deserializer)?;
        let kind = match value.as_object_mut().and_then(|fields| fields.shift_remove("kind")) {
            None => "awd-lstm".to_string(),
            Some(serde_json::Value::String(kind)) => kind,
            Some(other) => return Err(D::Error::custom(format!("the kind of an encoder is a name, not {other}"))),
        };
        match kind.as_str() {
            "awd-lstm" => serde_json::from_value(value).map(EncoderSettings::AwdLstm).map_err(D::Error::custom),
            "qrnn" => serde_json::from_value(value).map(EncoderSettings::Qrnn).map_err(D::Error::custom),
            other => Err(D::Error::custom(format!("there is no encoder of the kind '{other}'"))),
        }
    }
}

impl EncoderSettings {
    /// Refuses sizes that no encoder of the kind can have.
    ///
    /// # Errors
    /// [`Error::Usage`], with the size.
    pub fn check(&self) -> Result<()> {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.check(),
            EncoderSettings::Qrnn(settings) => settings.check(),
        }
    }

    /// Its kind, as in files and on the command line.
    pub fn kind(&self) -> &'static str {
        match self {
            EncoderSettings::AwdLstm(_) => "awd-lstm",
            EncoderSettings::Qrnn(_) => "qrnn",
        }
    }

    /// V, special tokens included.
    pub fn vocabulary(&self) -> usize {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.vocabulary,
            EncoderSettings::Qrnn(settings) => settings.vocabulary,
        }
    }

    /// E: width of the embedding, and of the output for every token.
    pub fn width(&self) -> usize {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.embedding,
            EncoderSettings::Qrnn(settings) => settings.embedding,
        }
    }

    /// Id whose embedding gets no gradient through the encoder.
    pub fn pad(&self) -> Option<u32> {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.pad,
            EncoderSettings::Qrnn(settings) => settings.pad,
        }
    }

    /// H: width of the layers between.
    /// Its name for people.
    pub fn name(&self) -> &'static str {
        match self {
            EncoderSettings::AwdLstm(_) => "AWD-LSTM",
            EncoderSettings::Qrnn(_) => "QRNN",
        }
    }

    /// Widths from the embedding to the last layer's output.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.hidden(); self.layer_names().len() + 1];
        widths[0] = self.width();
        if let Some(last) = widths.last_mut() {
            *last = self.width();
        }
        widths
    }

    pub fn hidden(&self) -> usize {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.hidden,
            EncoderSettings::Qrnn(settings) => settings.hidden,
        }
    }

    /// Names of the layers above the embedding, in order; each is a layer group (docs/SPEC.md
    /// §4.2).
    pub fn layer_names(&self) -> Vec<String> {
        match self {
            EncoderSettings::AwdLstm(settings) => settings.layer_names(),
            EncoderSettings::Qrnn(settings) => settings.layer_names(),
        }
    }

    /// Declares the parameters. `embedding` and `layers`: their layer groups, which differ between
    /// a language model and a classifier.
    pub fn declare(&self, builder: &mut ParametersBuilder, embedding: Group, layers: &[Group]) -> Arc<dyn Encoder> {
        match *self {
            EncoderSettings::AwdLstm(settings) => Arc::new(AwdLstm::declare(builder, settings, embedding, layers)),
            EncoderSettings::Qrnn(settings) => Arc::new(Qrnn::declare(builder, settings, embedding, layers)),
        }
    }
}

/// Refuses sizes of zero or beyond what counters and indices can hold.
///
/// # Errors
/// [`Error::Usage`], with the first such size.
fn check_sizes(sizes: &[(&str, usize)], vocabulary: usize, pad: Option<u32>) -> Result<()> {
    for &(name, size) in sizes {
        let limit = if name == "layers" { 256 } else { 1 << 24 };
        if size == 0 || size > limit {
            return Err(Error::usage(format!("{name} must be from 1 to {limit}, not {size}")));
        }
    }
    match pad.filter(|&pad| pad as usize >= vocabulary) {
        Some(pad) => Err(Error::usage(format!("the padding id {pad} is outside a vocabulary of {vocabulary} words"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_kind_is_an_awd_lstm() {
        let sizes = r#""vocabulary":9,"embedding":4,"hidden":6,"layers":2,"pad":1"#;
        let plain: EncoderSettings = serde_json::from_str(&format!("{{{sizes}}}")).unwrap();
        let tagged = serde_json::to_string(&plain).unwrap();
        assert_eq!(tagged, format!(r#"{{"kind":"awd-lstm",{sizes}}}"#));
        assert_eq!(serde_json::from_str::<EncoderSettings>(&tagged).unwrap(), plain);
        let fault = |text: &str| serde_json::from_str::<EncoderSettings>(text).unwrap_err().to_string();
        let tagged = tagged.replace("awd-lstm", "qrnn").replace("\"pad\":1", "\"pad\":1,\"zoneout\":0.1");
        let qrnn: EncoderSettings = serde_json::from_str(&tagged).unwrap();
        assert_eq!((qrnn.kind(), serde_json::to_string(&qrnn).unwrap()), ("qrnn", tagged));
        assert!(fault(r#"{"kind":"gru"}"#).contains("there is no encoder of the kind 'gru'"));
        assert!(fault(&format!(r#"{{"depth":1,{sizes}}}"#)).contains("unknown field `depth`"));
        assert!(fault(r#"{"kind":3}"#).contains("not 3"));
    }
}
