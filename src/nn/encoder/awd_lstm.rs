//! The AWD-LSTM encoder: embedding and L LSTM layers with the dropouts of docs/SPEC.md §1.2 (Merity
//! et al. 2017).

use std::sync::Arc;

use super::super::noise::Noise;
use super::super::state::{Slot, State};
use super::super::{initial, sites};
use super::{Encoder, check_sizes};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Role, Var};
use crate::error::Result;
use crate::ops::embedding::embedding;
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::lstm::{LstmInputs, lstm};
use crate::random::Key;
use crate::tensor::Tensor;
use crate::trace;

/// Sizes of an AWD-LSTM. Layers are E→H→…→H→E: the last one has the embedding's size, so that the
/// decoder can be tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwdLstmSettings {
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

impl AwdLstmSettings {
    /// Input and output size of layer `l`.
    pub fn layer_sizes(&self, l: usize) -> (usize, usize) {
        let input = if l == 0 { self.embedding } else { self.hidden };
        let output = if l + 1 == self.layers { self.embedding } else { self.hidden };
        (input, output)
    }

    pub(super) fn check(&self) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("emb-size", self.embedding),
            ("hidden-size", self.hidden),
            ("layers", self.layers),
        ];
        check_sizes(&sizes, self.vocabulary, self.pad)
    }

    pub(super) fn layer_names(&self) -> Vec<String> {
        (1..=self.layers).map(|l| format!("lstm{l}")).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    w_ih: ParameterId,
    w_hh: ParameterId,
    b_ih: ParameterId,
    b_hh: ParameterId,
    /// Where its time is counted, with the dropout before it.
    part: trace::Layer,
}

/// Parameters of an AWD-LSTM within a [`Parameters`].
#[derive(Clone, Debug)]
pub struct AwdLstm {
    settings: AwdLstmSettings,
    embedding: ParameterId,
    /// Where the time of the embedding is counted.
    part: trace::Layer,
    layers: Vec<Layer>,
    /// h of every layer, then c of every layer.
    slots: Arc<[Slot]>,
}

impl AwdLstm {
    /// Declares the parameters, under PyTorch's names.
    pub(super) fn declare(
        builder: &mut ParametersBuilder,
        settings: AwdLstmSettings,
        embedding: Group,
        layers: &[Group],
    ) -> Self {
        let shape = [settings.vocabulary, settings.embedding];
        let embedding = builder.declare("encoder.weight", &shape, embedding, Role::VocabularyRows);
        let names = settings.layer_names();
        let layer = |(l, (&group, name)): (usize, (&Group, &String))| {
            let (input, output) = settings.layer_sizes(l);
            let mut add =
                |name: &str, shape: &[usize], role| builder.declare(format!("rnns.{l}.{name}_l0"), shape, group, role);
            Layer {
                w_ih: add("weight_ih", &[4 * output, input], Role::Matrix),
                w_hh: add("weight_hh", &[4 * output, output], Role::Matrix),
                b_ih: add("bias_ih", &[4 * output], Role::Bias),
                b_hh: add("bias_hh", &[4 * output], Role::Bias),
                part: trace::Layer::named(name),
            }
        };
        let part = trace::Layer::named("embedding");
        let layers = layers.iter().zip(&names).enumerate().map(layer).collect();
        let slot = |kind: &str, l: usize| Slot { name: format!("{kind}{l}"), width: settings.layer_sizes(l).1 };
        let slots = ["h", "c"].into_iter().flat_map(|kind| (0..settings.layers).map(move |l| slot(kind, l))).collect();
        AwdLstm { settings, embedding, part, layers, slots }
    }
}

impl Encoder for AwdLstm {
    fn embedding(&self) -> ParameterId {
        self.embedding
    }

    fn slots(&self) -> &Arc<[Slot]> {
        &self.slots
    }

    /// Embedding U(±0.1), LSTM U(±1/√H_l) (docs/SPEC.md §1.1).
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        initial::uniform(parameters, self.embedding, key, 0.1)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let range = 1.0 / (self.settings.layer_sizes(l).1 as f64).sqrt();
            for id in [layer.w_ih, layer.w_hh, layer.b_ih, layer.b_hh] {
                initial::uniform(parameters, id, key, range)?;
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        embedding_weight: Var,
        tokens: &Tensor,
        state: &mut State,
        noise: &Noise,
    ) -> Result<Var> {
        let rates = noise.rates();
        let rows = noise.mask(sites::EMBEDDING_ROW, rates.embedding)?;
        let input = noise.mask(sites::INPUT, rates.input)?;
        let part = trace::within(self.part);
        let mut x = embedding(g, tokens, embedding_weight, &rows, &input, self.settings.pad)?;
        drop(part);
        let b = g.shape(x).dims()[1];
        for (l, layer) in self.layers.iter().enumerate() {
            let (h, c) = (l, self.layers.len() + l);
            let _part = trace::within(layer.part);
            if l > 0 {
                x = locked_dropout(g, x, &noise.mask(sites::HIDDEN.site(l - 1)?, rates.hidden)?)?;
            }
            let inputs = LstmInputs {
                x,
                h0: g.constant(state.get(h).leading_rows(b)?),
                c0: g.constant(state.get(c).leading_rows(b)?),
                w_ih: g.parameter(parameters, layer.w_ih),
                w_hh: g.parameter(parameters, layer.w_hh),
                b_ih: g.parameter(parameters, layer.b_ih),
                b_hh: g.parameter(parameters, layer.b_hh),
            };
            let out = lstm(g, inputs, &noise.mask(sites::WEIGHT.site(l)?, rates.weight)?)?;
            state.set(h, g.detach(out.h));
            state.set(c, g.detach(out.c));
            x = out.y;
        }
        Ok(x)
    }
}
