//! The AWD-LSTM encoder: embedding and L LSTM layers with the dropouts of docs/SPEC.md §1.2 (Merity et al. 2017).

use super::initial;
use crate::autodiff::{Graph, ParameterId, Parameters, ParametersBuilder, Var};
use crate::error::{Error, Result};
use crate::ops::embedding::embedding;
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::lstm::{LstmInputs, lstm};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};
use crate::tensor::{DType, Device, Tensor};
use crate::trace;

/// Sizes of an encoder. Layers are E→H→…→H→E: the last one has the embedding's size, so that the decoder can be tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// V, special tokens included.
    pub vocabulary: usize,
    /// E
    pub embedding: usize,
    /// H
    pub hidden: usize,
    /// L
    pub layers: usize,
    /// Id whose embedding gets no gradient through the encoder.
    pub pad: Option<u32>,
}

impl EncoderSettings {
    /// Input and output size of layer `l`.
    pub fn layer_sizes(&self, l: usize) -> (usize, usize) {
        let input = if l == 0 { self.embedding } else { self.hidden };
        let output = if l + 1 == self.layers { self.embedding } else { self.hidden };
        (input, output)
    }

    /// Refuses sizes of zero, sizes that no counter or index can hold, and a padding id that is no word's.
    pub fn check(&self) -> Result<()> {
        let all = [
            ("vocabulary", self.vocabulary),
            ("emb-size", self.embedding),
            ("hidden-size", self.hidden),
            ("layers", self.layers),
        ];
        for (name, size) in all {
            let limit = if name == "layers" { 16 } else { 1 << 24 };
            if size == 0 || size > limit {
                return Err(Error::usage(format!("{name} must be from 1 to {limit}, not {size}")));
            }
        }
        if let Some(pad) = self.pad.filter(|&pad| pad as usize >= self.vocabulary) {
            let message = format!("the padding id {pad} is outside a vocabulary of {} words", self.vocabulary);
            return Err(Error::usage(message));
        }
        Ok(())
    }
}

/// Drop probabilities; see [`EncoderDropout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropRates {
    /// Rows of the embedding matrix (`dropoute`).
    pub embedding: f64,
    /// Embedded input, locked (`dropouti`).
    pub input: f64,
    /// Hidden-to-hidden weights (`wdrop`).
    pub weight: f64,
    /// Outputs of all layers but the last, locked (`dropouth`).
    pub hidden: f64,
    /// Decoder input of the language model, locked; or first block of the classifier's head.
    pub output: f64,
}

impl DropRates {
    /// Every rate times `multiplier` (fastai's `drop_mult`).
    #[must_use]
    pub fn times(self, multiplier: f64) -> Self {
        DropRates {
            embedding: self.embedding * multiplier,
            input: self.input * multiplier,
            weight: self.weight * multiplier,
            hidden: self.hidden * multiplier,
            output: self.output * multiplier,
        }
    }
}

/// Given masks, for fixtures: factors 0 or `1/(1-p)`.
#[derive(Clone, Debug)]
pub struct GivenMasks {
    /// `[V, 1]`
    pub embedding: Tensor,
    /// `[B, E]`
    pub input: Tensor,
    /// `[4H_l, H_l]` of every layer.
    pub weight: Vec<Tensor>,
    /// `[B, H]` of every layer but the last.
    pub hidden: Vec<Tensor>,
    /// `[B, E]`
    pub output: Tensor,
}

/// The dropouts of one forward call.
#[derive(Clone, Debug)]
pub enum EncoderDropout<'a> {
    /// Evaluation.
    Off,
    /// From the counters of (key, step, chunk).
    Random { key: Key, step: u32, chunk: u32, rates: DropRates },
    /// From a fixture.
    Given(&'a GivenMasks),
}

impl EncoderDropout<'_> {
    fn make(&self, site: Site, p: impl Fn(&DropRates) -> f64, given: impl Fn(&GivenMasks) -> Tensor) -> Dropout {
        match self {
            EncoderDropout::Off => Dropout::Off,
            EncoderDropout::Random { key, step, chunk, rates } => {
                Dropout::random(Mask::new(*key, *step, site, *chunk, p(rates)))
            }
            EncoderDropout::Given(masks) => Dropout::Given(given(masks)),
        }
    }

    /// Of the decoder's input.
    pub fn output(&self) -> Dropout {
        self.make(Site::Output, |r| r.output, |m| m.output.clone())
    }
}

/// Hidden and cell states of all layers between two windows, cut loose from any tape.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// h of every layer, `[B, H_l]`.
    pub h: Vec<Tensor>,
    /// c of every layer, `[B, H_l]`.
    pub c: Vec<Tensor>,
}

impl State {
    /// All zero, for a batch of `b` rows, on the CPU.
    pub fn zeros(settings: &EncoderSettings, b: usize, dtype: DType) -> Result<Self> {
        Self::zeros_on(Device::Cpu, settings, b, dtype)
    }

    /// As [`zeros`](Self::zeros), on any device.
    pub fn zeros_on(device: Device, settings: &EncoderSettings, b: usize, dtype: DType) -> Result<Self> {
        let layer = |l| Tensor::zeros_on(device, [b, settings.layer_sizes(l).1], dtype);
        let layers = || (0..settings.layers).map(layer).collect::<Result<_>>();
        Ok(State { h: layers()?, c: layers()? })
    }

    /// All zero, for one step: on a GPU in memory of the graph's pool, because memory of its own would be taken anew at every step.
    pub fn zeros_for(g: &mut Graph, settings: &EncoderSettings, b: usize, dtype: DType) -> Result<Self> {
        if g.device() == Device::Cpu {
            return Self::zeros(settings, b, dtype);
        }
        let mut layers = || (0..settings.layers).map(|l| g.zeros([b, settings.layer_sizes(l).1], dtype)).collect();
        let h: Result<_> = layers();
        Ok(State { h: h?, c: layers()? })
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        self.h.iter().chain(&self.c).for_each(Tensor::fill_zero);
    }
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    w_ih: ParameterId,
    w_hh: ParameterId,
    b_ih: ParameterId,
    b_hh: ParameterId,
}

/// Parameters of the encoder within a [`Parameters`].
#[derive(Clone, Debug)]
pub struct Encoder {
    pub settings: EncoderSettings,
    embedding: ParameterId,
    layers: Vec<Layer>,
}

impl Encoder {
    /// Declares the parameters, under PyTorch's names. `embedding_group` and `layer_group` give the layer groups, which differ between
    /// language model and classifier (docs/SPEC.md §4.2).
    pub fn declare(
        builder: &mut ParametersBuilder,
        settings: EncoderSettings,
        embedding_group: usize,
        layer_group: impl Fn(usize) -> usize,
    ) -> Self {
        let embedding = builder.add("encoder.weight", &[settings.vocabulary, settings.embedding], embedding_group);
        let layers = (0..settings.layers)
            .map(|l| {
                let (input, output) = settings.layer_sizes(l);
                let mut add =
                    |name: &str, shape: &[usize]| builder.add(format!("rnns.{l}.{name}_l0"), shape, layer_group(l));
                Layer {
                    w_ih: add("weight_ih", &[4 * output, input]),
                    w_hh: add("weight_hh", &[4 * output, output]),
                    b_ih: add("bias_ih", &[4 * output]),
                    b_hh: add("bias_hh", &[4 * output]),
                }
            })
            .collect();
        Encoder { settings, embedding, layers }
    }

    /// The embedding matrix.
    pub fn embedding(&self) -> ParameterId {
        self.embedding
    }

    /// Embedding U(±0.1), LSTM U(±1/√H_l) (docs/SPEC.md §1.1).
    pub fn initialise(&self, parameters: &Parameters, key: Key) {
        initial::uniform(parameters, self.embedding, key, 0.1);
        for (l, layer) in self.layers.iter().enumerate() {
            let range = 1.0 / (self.settings.layer_sizes(l).1 as f64).sqrt();
            for id in [layer.w_ih, layer.w_hh, layer.b_ih, layer.b_hh] {
                initial::uniform(parameters, id, key, range);
            }
        }
    }

    /// Runs a window.
    ///
    /// * `tokens`: u32 `[T, B]`
    /// * `state`: of `B` rows or more (the first B are used); afterwards that of the window's end, detached
    ///
    /// Returns the last layer's output without dropout, `[T, B, E]`.
    pub fn forward(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        tokens: &Tensor,
        state: &mut State,
        dropout: &EncoderDropout,
    ) -> Result<Var> {
        let embedding_weight = g.parameter(parameters, self.embedding);
        self.forward_with(g, parameters, embedding_weight, tokens, state, dropout)
    }

    /// As [`forward`](Self::forward), with the embedding matrix already on the graph.
    pub(super) fn forward_with(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        embedding_weight: Var,
        tokens: &Tensor,
        state: &mut State,
        dropout: &EncoderDropout,
    ) -> Result<Var> {
        let rows = dropout.make(Site::EmbeddingRow, |r| r.embedding, |m| m.embedding.clone());
        let input = dropout.make(Site::Input, |r| r.input, |m| m.input.clone());
        let part = trace::within(trace::Layer::Embedding);
        let mut x = embedding(g, tokens, embedding_weight, &rows, &input, self.settings.pad)?;
        drop(part);
        let b = g.shape(x).dims()[1];
        for (l, layer) in self.layers.iter().enumerate() {
            let site = l as u8;
            let _part = trace::within(trace::Layer::Lstm(site + 1));
            if l > 0 {
                let hidden = dropout.make(Site::Hidden(site - 1), |r| r.hidden, |m| m.hidden[l - 1].clone());
                x = locked_dropout(g, x, &hidden)?;
            }
            let inputs = LstmInputs {
                x,
                h0: g.constant(state.h[l].leading_rows(b)?),
                c0: g.constant(state.c[l].leading_rows(b)?),
                w_ih: g.parameter(parameters, layer.w_ih),
                w_hh: g.parameter(parameters, layer.w_hh),
                b_ih: g.parameter(parameters, layer.b_ih),
                b_hh: g.parameter(parameters, layer.b_hh),
            };
            let weight = dropout.make(Site::Weight(site), |r| r.weight, |m| m.weight[l].clone());
            let out = lstm(g, inputs, &weight)?;
            (state.h[l], state.c[l]) = (g.detach(out.h), g.detach(out.c));
            x = out.y;
        }
        Ok(x)
    }
}
