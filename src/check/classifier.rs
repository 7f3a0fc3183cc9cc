//! The whole classifier over two chunks: gradients flow within a chunk, never across its border (docs/SPEC.md §1.7).

use super::model::{CheckedModel, ModelCheck, fill};
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::nn::{AwdLstmSettings, Classifier, ClassifierSettings, DocumentBatch, DropRates, Noise, State, sites};
use crate::ops::Dropout;
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::batch_norm::{Mode, batch_norm};
use crate::ops::concat_pool::{Masking, concat_pool};
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::relu::relu;
use crate::ops::softmax_cross_entropy::softmax_cross_entropy;
use crate::ops::weighted_sum::weighted_sum;
use crate::random::{Key, Mask, Site, Stream};
use crate::tensor::Tensor;

const V: usize = 13;
const E: usize = 4;
const H: usize = 6;
const BPTT: usize = 4;
/// Two chunks; some documents end in the first.
const LENGTHS: [usize; 5] = [8, 7, 6, 4, 3];
const CLASSES: usize = 3;
const HEAD: usize = 7;
const RATES: DropRates = DropRates { embedding: 0.1, input: 0.2, weight: 0.4, hidden: 0.2, output: 0.0 };
const HEAD_RATES: [f64; 2] = [0.3, 0.1];
const REGULARISATION: Regularisation = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };
/// Distance from every kink (ReLU at zero, ties of the maximum) at the unperturbed parameters; the steps of the check move these
/// values by far less.
const MARGIN: f64 = 5e-3;

/// What varies from case to case.
#[derive(Clone, Copy)]
struct Switches {
    masking: Masking,
    norm: Mode,
    linear_bias: bool,
    /// Steps that are pooled at most; below 8 the first chunk only supplies state.
    max_steps: usize,
}

const FULL: Switches = Switches { masking: Masking::Version2, norm: Mode::Train, linear_bias: false, max_steps: 12 };

pub(super) fn checks() -> Vec<ModelCheck> {
    let front = Switches { linear_bias: true, ..FULL };
    let cases = [
        FULL,
        Switches { norm: Mode::Frozen, ..FULL },
        Switches { masking: Masking::Version1, ..front },
        Switches { masking: Masking::Version07, ..front },
        Switches { masking: Masking::Version07, max_steps: 5, ..front },
    ];
    let check = |s: Switches| {
        let name = format!(
            "V{V} E{E} H{H} L3 bptt{BPTT} lengths{LENGTHS:?} dropout masking={:?} norm={:?} bias={} cap={}",
            s.masking, s.norm, s.linear_bias, s.max_steps
        );
        ModelCheck::new("classifier", name, move || Ok(Box::new(Chunks::new(s)?)))
    };
    cases.into_iter().map(check).collect()
}

struct Chunks {
    classifier: Classifier,
    parameters: Parameters,
    graph: Graph,
    switches: Switches,
    documents: Vec<Vec<u32>>,
    labels: Tensor,
    /// Token ids of each chunk `[T, rows]`, and the state that it starts from, computed once from the unperturbed parameters.
    chunks: Vec<(Tensor, State)>,
    /// The first chunk that is pooled.
    kept: usize,
}

fn key() -> Key {
    Key::apart(22)
}

impl Chunks {
    /// The first of a fixed series of random parameters and documents whose values keep their distance from all kinks.
    fn new(switches: Switches) -> Result<Self> {
        for seed in 0..1000 {
            let mut chunks = Self::with_seed(switches, seed)?;
            let (loss, margin) = chunks.frozen()?;
            if margin < MARGIN {
                continue;
            }
            chunks.graph.set_recording(false);
            let found = chunks.real()?;
            let found = chunks.graph.tensor(found).scalar();
            if (found - loss).abs() > 1e-12 {
                return Err(Error::data(format!(
                    "the classifier's loss is {found}; computed chunk by chunk it is {loss}"
                )));
            }
            return Ok(chunks);
        }
        Err(Error::data("no random classifier keeps its distance from all kinks"))
    }

    fn with_seed(switches: Switches, seed: u64) -> Result<Self> {
        let encoder = AwdLstmSettings { vocabulary: V, embedding: E, hidden: H, layers: 3, pad: None }.into();
        let settings = ClassifierSettings {
            encoder,
            head: vec![HEAD],
            classes: CLASSES,
            linear_bias: switches.linear_bias,
            norm_bias: 0.0,
            masking: switches.masking,
            bptt: BPTT,
            max_steps: switches.max_steps,
            strict_cap: switches.masking != Masking::Version2,
        };
        let (classifier, parameters) = Classifier::new(settings, DType::F64)?;
        let key = Key::apart(seed);
        fill(&parameters, key, 0.9);
        for id in parameters.ids().filter(|&id| parameters.name(id).ends_with("running_var")) {
            let values: Vec<f64> = parameters.value(id).to_f64().iter().map(|v| 1.0 + 0.5 * v).collect();
            parameters.value(id).set_f64(&values);
        }
        let mut stream = Stream::new(key, Site::CUSTOM[2], 0, 0);
        // id 0 stands for padding
        let mut words = |n: usize| (0..n).map(|_| 1 + stream.below(V as u32 - 1)).collect::<Vec<u32>>();
        let documents: Vec<Vec<u32>> = LENGTHS.into_iter().map(&mut words).collect();
        let labels: Vec<u32> = (0..LENGTHS.len() as u32).map(|b| b % CLASSES as u32).collect();
        let mut chunks = Chunks {
            classifier,
            parameters,
            graph: Graph::new(Device::Cpu, DType::F64, None),
            switches,
            documents,
            labels: Tensor::from_slice([LENGTHS.len()], &labels)?,
            chunks: Vec::new(),
            // docs/SPEC.md §1.7: kept where the chunk starts after `longest − max_steps`
            kept: if switches.max_steps < LENGTHS[0] { 1 } else { 0 },
        };
        let mut state = chunks.classifier.encoder.zeros(Device::Cpu, LENGTHS.len(), DType::F64)?;
        chunks.graph.set_recording(false);
        for c in 0..LENGTHS[0].div_ceil(BPTT) {
            let tokens = chunks.tokens(c)?;
            chunks.chunks.push((tokens.clone(), state.clone()));
            let Chunks { classifier, parameters, graph, .. } = &mut chunks;
            classifier.encoder.run(graph, parameters, &tokens, &mut state, &noise().in_chunk(c)?)?;
        }
        Ok(chunks)
    }

    /// Token ids of a chunk: padded at the end, with the rows that reach it; or padded in front, with all rows.
    fn tokens(&self, chunk: usize) -> Result<Tensor> {
        let tail = self.switches.masking == Masking::Version2;
        let from = chunk * BPTT;
        let rows = LENGTHS.iter().filter(|&&length| !tail || length > from).count();
        let token = |t: usize, b: usize| {
            let at = if tail { Some(from + t) } else { (from + t).checked_sub(LENGTHS[0] - LENGTHS[b]) };
            at.and_then(|at| self.documents[b].get(at).copied()).unwrap_or(0)
        };
        let tokens: Vec<u32> =
            (0..BPTT).flat_map(|t| (0..rows).map(move |b| (t, b))).map(|(t, b)| token(t, b)).collect();
        Tensor::from_slice([BPTT, rows], &tokens)
    }

    /// The loss of the classifier itself.
    fn real(&mut self) -> Result<Var> {
        let g = &mut self.graph;
        g.reset();
        let batch = DocumentBatch::new(self.documents.iter().map(|d| d.as_slice()).collect())?;
        let out = self.classifier.forward(g, &self.parameters, &batch, self.switches.norm, &noise(), &noise())?;
        if out.rows.iter().enumerate().any(|(i, &row)| i != row as usize) {
            return Err(Error::data("documents sorted by length were put into another order"));
        }
        let labels = g.constant(self.labels.clone());
        let cross_entropy = softmax_cross_entropy(g, out.logits, labels)?;
        let regularisation = activation_regularisation(g, &out.chunks, &out.chunks, REGULARISATION)?;
        weighted_sum(g, &[(cross_entropy, 1.0), (regularisation, 1.0)])
    }

    /// The same loss, put together from operations, with every chunk starting from its fixed state; and the smallest distance from a
    /// kink.
    fn frozen(&mut self) -> Result<(f64, f64)> {
        let Chunks { classifier, parameters, graph: g, switches, chunks, kept, .. } = self;
        g.reset();
        g.set_recording(false);
        let mut outputs = Vec::new();
        for (c, (tokens, state)) in chunks.iter().enumerate().skip(*kept) {
            let noise = noise().in_chunk(c)?;
            outputs.push(classifier.encoder.run(g, parameters, tokens, &mut state.clone(), &noise)?);
        }
        let start = *kept * BPTT;
        let b = LENGTHS.len();
        let lengths = g.constant(Tensor::from_slice([b], &LENGTHS.map(|n| n as u32))?);
        let first = g.constant(Tensor::from_slice([b], &vec![start as u32; b])?);
        let mut margin = pool_margin(g, &outputs, start, switches.masking);
        let mut x = concat_pool(g, &outputs, start, lengths, first, switches.masking)?;
        for (k, &p) in HEAD_RATES.iter().enumerate() {
            if k > 0 {
                margin = margin.min(relu_margin(&g.tensor(x).to_f64(), b, switches.norm));
                x = relu(g, x)?;
            }
            let find = |name: &str| parameters.find(&format!("head.{k}.{name}"));
            let id = |name: &str| find(name).ok_or_else(|| Error::data(format!("block {k} of the head has no {name}")));
            let (weight, bias) =
                (g.parameter(parameters, id("norm.weight")?), g.parameter(parameters, id("norm.bias")?));
            let (mean, variance) =
                (parameters.value(id("norm.running_mean")?), parameters.value(id("norm.running_var")?));
            x = batch_norm(g, x, weight, bias, mean, variance, switches.norm)?;
            x = dropout(g, x, &Dropout::random(Mask::new(key(), 0, sites::HEAD.site(k)?, 0, p)))?;
            let w = g.parameter(parameters, id("linear.weight")?);
            let b = find("linear.bias").map(|id| g.parameter(parameters, id));
            x = linear(g, x, w, b)?;
        }
        let labels = g.constant(self.labels.clone());
        let cross_entropy = softmax_cross_entropy(g, x, labels)?;
        let regularisation = activation_regularisation(g, &outputs, &outputs, REGULARISATION)?;
        Ok((g.tensor(cross_entropy).scalar() + g.tensor(regularisation).scalar(), margin))
    }
}

fn noise() -> Noise<'static> {
    Noise::of(key(), 0, RATES).with_head(&HEAD_RATES)
}

/// Smallest |z| of the `[b, units]` inputs of a ReLU. Zero where a unit is active for every document and batch norm follows, which then
/// takes the unit's bias out again: its gradient would be nothing but rounding.
fn relu_margin(z: &[f64], b: usize, norm: Mode) -> f64 {
    let units = z.len() / b;
    let always = |unit: usize| (0..b).all(|row| z[row * units + unit] > 0.0);
    if norm == Mode::Train && (0..units).any(always) {
        return 0.0;
    }
    z.iter().fold(f64::INFINITY, |m, z| m.min(z.abs()))
}

/// Smallest gap between the largest and the second largest value of a feature over the pooled steps of a document.
fn pool_margin(g: &Graph, chunks: &[Var], start: usize, masking: Masking) -> f64 {
    let mut margin = f64::INFINITY;
    let end = LENGTHS[0].div_ceil(BPTT) * BPTT;
    for (b, length) in LENGTHS.into_iter().enumerate() {
        let span = match masking {
            Masking::Version07 => start..end,
            Masking::Version1 => start.max(end - length)..end,
            Masking::Version2 => start..length,
        };
        for e in 0..E {
            let value = |t: usize| {
                let h = g.tensor(chunks[(t - start) / BPTT]);
                h.read::<f64>()[((t - start) % BPTT * h.dims()[1] + b) * E + e]
            };
            let mut values: Vec<f64> = span.clone().map(value).collect();
            values.sort_by(|a, b| b.total_cmp(a));
            if let [largest, second, ..] = values[..] {
                margin = margin.min(largest - second);
            }
        }
    }
    margin
}

impl CheckedModel for Chunks {
    fn parameters(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn loss(&mut self) -> Result<f64> {
        Ok(self.frozen()?.0)
    }

    fn gradients(&mut self) -> Result<()> {
        self.graph.set_recording(true);
        let loss = self.real()?;
        self.graph.backward(loss, &mut self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Verdict;
    use super::*;
    use crate::autodiff::Fault;

    fn verdict(build: impl Fn() -> Result<Box<dyn CheckedModel>> + Send + Sync + 'static) -> Verdict {
        Verdict::of(&ModelCheck::new("classifier", "planted", build).compare().unwrap())
    }

    #[test]
    fn an_error_in_any_operation_is_noticed() {
        for operation in
            ["embedding", "lstm", "concat_pool", "batch_norm", "dropout", "relu", "linear", "softmax_cross_entropy"]
        {
            let verdict = verdict(move || {
                let mut chunks = Chunks::new(FULL)?;
                chunks.graph.plant(Some(Fault { operation, input: 0 }));
                Ok(Box::new(chunks))
            });
            assert!(verdict.wrong > 0, "{operation}");
        }
    }

    /// Finite differences of the classifier's own loss, which see through the border of the chunks.
    struct Attached(Chunks);

    impl CheckedModel for Attached {
        fn parameters(&mut self) -> &mut Parameters {
            self.0.parameters()
        }
        fn loss(&mut self) -> Result<f64> {
            self.0.graph.set_recording(false);
            let loss = self.0.real()?;
            Ok(self.0.graph.tensor(loss).scalar())
        }
        fn gradients(&mut self) -> Result<()> {
            self.0.gradients()
        }
    }

    #[test]
    fn no_gradient_crosses_the_border_of_a_chunk() {
        assert!(verdict(|| Ok(Box::new(Attached(Chunks::new(FULL)?)))).wrong > 100);
    }
}
