//! The QRNN encoder: embedding and L quasi-recurrent layers (Bradbury et al. 2017; AWD-QRNN, Merity
//! et al. 2018; docs/SPEC.md §1.5), with the dropouts of §1.2.

use std::sync::Arc;

use super::super::noise::Noise;
use super::super::state::{Slot, State};
use super::super::{initial, sites};
use super::{Encoder, check_sizes};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Role, Var};
use crate::error::{Error, Result};
use crate::ops::dropout::dropout;
use crate::ops::embedding::embedding;
use crate::ops::forget_mult::{Zoneout, forget_mult};
use crate::ops::linear::linear_of_encoder;
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::with_previous::with_previous;
use crate::random::Key;
use crate::tensor::Tensor;
use crate::trace;

/// Sizes of a QRNN. Layers are E→H→…→H→E, as those of the AWD-LSTM; the first one sees the step
/// before beside each step.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QrnnSettings {
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
    /// Probability that an element of a state keeps its value for a step.
    pub zoneout: f64,
}

impl QrnnSettings {
    /// Columns of the gates' matrix and output size of layer `l`.
    pub fn layer_sizes(&self, l: usize) -> (usize, usize) {
        let columns = if l == 0 { 2 * self.embedding } else { self.hidden };
        let output = if l + 1 == self.layers { self.embedding } else { self.hidden };
        (columns, output)
    }

    pub(super) fn check(&self) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("emb-size", self.embedding),
            ("hidden-size", self.hidden),
            ("layers", self.layers),
        ];
        check_sizes(&sizes, self.vocabulary, self.pad)?;
        if !(0.0..1.0).contains(&self.zoneout) {
            return Err(Error::usage(format!("zoneout must be from 0 to below 1, not {}", self.zoneout)));
        }
        Ok(())
    }

    pub(super) fn layer_names(&self) -> Vec<String> {
        (1..=self.layers).map(|l| format!("qrnn{l}")).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    weight: ParameterId,
    bias: ParameterId,
    /// Where its time is counted, with the dropout before it.
    part: trace::Layer,
}

/// Parameters of a QRNN within a [`Parameters`].
#[derive(Clone, Debug)]
pub struct Qrnn {
    settings: QrnnSettings,
    embedding: ParameterId,
    /// Where the time of the embedding is counted.
    part: trace::Layer,
    layers: Vec<Layer>,
    /// c of every layer, then the first layer's last input.
    slots: Arc<[Slot]>,
}

impl Qrnn {
    /// Declares the parameters, under PyTorch's names.
    pub(super) fn declare(
        builder: &mut ParametersBuilder,
        settings: QrnnSettings,
        embedding: Group,
        layers: &[Group],
    ) -> Self {
        let shape = [settings.vocabulary, settings.embedding];
        let embedding = builder.declare("encoder.weight", &shape, embedding, Role::VocabularyRows);
        let names = settings.layer_names();
        let layer = |(l, (&group, name)): (usize, (&Group, &String))| {
            let (columns, output) = settings.layer_sizes(l);
            let mut add = |name: &str, shape: &[usize], role| {
                builder.declare(format!("rnns.{l}.linear.{name}"), shape, group, role)
            };
            Layer {
                weight: add("weight", &[3 * output, columns], Role::Matrix),
                bias: add("bias", &[3 * output], Role::Bias),
                part: trace::Layer::named(name),
            }
        };
        let part = trace::Layer::named("embedding");
        let layers = layers.iter().zip(&names).enumerate().map(layer).collect();
        let states = (0..settings.layers).map(|l| Slot { name: format!("c{l}"), width: settings.layer_sizes(l).1 });
        let last = Slot { name: "last".into(), width: settings.embedding };
        Qrnn { settings, embedding, part, layers, slots: states.chain([last]).collect() }
    }
}

impl Encoder for Qrnn {
    fn embedding(&self) -> ParameterId {
        self.embedding
    }

    fn slots(&self) -> &Arc<[Slot]> {
        &self.slots
    }

    /// Embedding U(±0.1), gates U(±1/√I) for a matrix of I columns (docs/SPEC.md §1.5).
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        initial::uniform(parameters, self.embedding, key, 0.1)?;
        for (l, layer) in self.layers.iter().enumerate() {
            let range = 1.0 / (self.settings.layer_sizes(l).0 as f64).sqrt();
            initial::uniform(parameters, layer.weight, key, range)?;
            initial::uniform(parameters, layer.bias, key, range)?;
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
        let [steps, b, e] = *g.shape(x).dims() else { unreachable!("an embedding is [T, B, E]") };
        let last = self.layers.len();
        let before = g.constant(state.get(last).leading_rows(b)?);
        // the input before the next window's first step, after this window's dropout
        // (docs/SPEC.md §1.5)
        let next = g.uninitialised([b, e], g.dtype(x))?;
        next.copy_elements(0, g.tensor(x), (steps - 1) * b * e, b * e);
        state.set(last, next);
        for (l, layer) in self.layers.iter().enumerate() {
            let _part = trace::within(layer.part);
            x = match l {
                0 => with_previous(g, x, before)?,
                _ => locked_dropout(g, x, &noise.mask(sites::HIDDEN.site(l - 1)?, rates.hidden)?)?,
            };
            let weight = g.parameter(parameters, layer.weight);
            let weight = dropout(g, weight, &noise.mask(sites::WEIGHT.site(l)?, rates.weight)?)?;
            let bias = g.parameter(parameters, layer.bias);
            let gates = linear_of_encoder(g, x, weight, bias)?;
            let p = self.settings.zoneout;
            let zoneout = match noise {
                Noise::Off => Zoneout::Expected(p),
                _ => Zoneout::Sampled(noise.mask(sites::ZONEOUT.site(l)?, p)?),
            };
            let c0 = g.constant(state.get(l).leading_rows(b)?);
            let out = forget_mult(g, gates, c0, &zoneout)?;
            state.set(l, g.detach(out.c));
            x = out.y;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::EncoderSettings;
    use super::*;
    use crate::nn::noise::DropRates;
    use crate::tensor::{DType, Device};

    const SETTINGS: QrnnSettings =
        QrnnSettings { vocabulary: 9, embedding: 4, hidden: 6, layers: 3, pad: None, zoneout: 0.2 };

    fn model() -> (Arc<dyn Encoder>, Parameters) {
        let mut builder = Parameters::builder();
        let encoder = EncoderSettings::from(SETTINGS).declare(&mut builder, 0, &[0; 3]);
        let parameters = builder.build(DType::F64).unwrap();
        encoder.initialise(&parameters, Key([3, 4])).unwrap();
        (encoder, parameters)
    }

    /// The outputs of some windows of a text, one after the other.
    fn run(windows: &[usize]) -> Vec<f64> {
        let (encoder, parameters) = model();
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        g.set_recording(false);
        let text: Vec<u32> = (0..12).map(|i| i * 5 % 9).collect();
        let mut state = encoder.zeros(Device::Cpu, 2, DType::F64).unwrap();
        let (mut from, mut all) = (0, Vec::new());
        for &steps in windows {
            let tokens = Tensor::from_slice([steps, 2], &text[2 * from..2 * (from + steps)]).unwrap();
            let y = encoder.run(&mut g, &parameters, &tokens, &mut state, &Noise::Off).unwrap();
            all.extend(g.tensor(y).to_f64());
            from += steps;
        }
        all
    }

    #[test]
    fn a_window_goes_on_where_the_one_before_has_ended() {
        let whole = run(&[6]);
        assert_eq!(whole.len(), 6 * 2 * 4);
        assert_eq!(run(&[1, 5]), whole);
        assert_eq!(run(&[2, 3, 1]), whole);
    }

    /// Weight drop is of the gates' matrices: where their masks are zero so are their gradients,
    /// and nowhere else.
    #[test]
    fn dropped_weights_get_no_gradient() {
        let (encoder, mut parameters) = model();
        let mut g = Graph::new(Device::Cpu, DType::F64, None);
        let noise = Noise::of(Key([5, 6]), 7, DropRates { weight: 0.5, ..DropRates::default() });
        let tokens = Tensor::from_slice([3, 2], &[1u32, 2, 3, 4, 5, 6]).unwrap();
        let mut state = encoder.zeros(Device::Cpu, 2, DType::F64).unwrap();
        state.slots().iter().enumerate().for_each(|(at, slot)| state.get(at).set_f64(&vec![0.5; 2 * slot.width]));
        let y = encoder.run(&mut g, &parameters, &tokens, &mut state, &noise).unwrap();
        let seed = Tensor::from_slice([3, 2, 4], &[1.0f64; 24]).unwrap();
        g.backward_from(&[(y, seed)], &mut parameters).unwrap();
        for l in 0..3 {
            let weight = parameters.find(&format!("rnns.{l}.linear.weight")).unwrap();
            let columns = SETTINGS.layer_sizes(l).0;
            let crate::ops::Dropout::Random(mask) = noise.mask(sites::WEIGHT.site(l).unwrap(), 0.5).unwrap() else {
                panic!("a mask from the counters")
            };
            for (i, d) in parameters.gradient(weight).to_f64().into_iter().enumerate() {
                let kept = mask.keeps((i / columns) as u32, (i % columns) as u32);
                assert_eq!(d != 0.0, kept, "layer {l}, element {i}");
            }
        }
    }
}
