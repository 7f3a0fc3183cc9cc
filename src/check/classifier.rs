//! The whole classifier over two chunks: gradients flow within a chunk, never across its border
//! (docs/SPEC.md §1.7).

use super::model::{CheckedModel, ModelCheck, fill};
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::nn::{
    Answers, AwdLstmSettings, Classifier, ClassifierLosses, ClassifierSettings, DocumentBatch, DropRates, LabelLoss,
    LossSettings, Noise, QrnnSettings, State, Truth, sites,
};
use crate::ops::Dropout;
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::batch_norm::{Mode, batch_norm};
use crate::ops::concat_pool::{Masking, concat_pool};
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::pair_features::pair_features;
use crate::ops::relu::relu;
use crate::ops::sigmoid_cross_entropy::sigmoid_cross_entropy;
use crate::ops::softmax_cross_entropy::softmax_cross_entropy;
use crate::ops::squared_error::squared_error;
use crate::ops::tied_softmax::tied_softmax;
use crate::ops::weighted_cross_entropy::{Weighting, weighted_cross_entropy};
use crate::random::{Key, Mask, Site, Stream};
use crate::tensor::Tensor;

const V: usize = 13;
const E: usize = 4;
const H: usize = 6;
const BPTT: usize = 4;
/// Two chunks; some documents end in the first. Of pairs the first four: the first two are first
/// texts.
const LENGTHS: [usize; 5] = [8, 7, 6, 4, 3];
const CLASSES: usize = 3;
const HEAD: usize = 7;
const RATES: DropRates = DropRates { embedding: 0.1, input: 0.2, weight: 0.4, hidden: 0.2, output: 0.3 };
const HEAD_RATES: [f64; 2] = [0.3, 0.1];
const REGULARISATION: Regularisation = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };
/// Distance from every kink (ReLU at zero, ties of the maximum) at the unperturbed parameters; the
/// steps of the check move these values by far less.
const MARGIN: f64 = 5e-3;

/// The settings that vary from case to case.
#[derive(Clone, Copy)]
struct Switches {
    masking: Masking,
    norm: Mode,
    linear_bias: bool,
    /// Steps that are pooled at most; below 8 the first chunk only supplies state.
    max_steps: usize,
    qrnn: bool,
    answers: Answers,
    /// Classes, or labels, count differently, and with a focus.
    weighted: bool,
    pair: bool,
    /// Weight of a language model's loss beside the head's.
    auxiliary: f64,
}

const FULL: Switches = Switches {
    masking: Masking::Version2,
    norm: Mode::Train,
    linear_bias: false,
    max_steps: 12,
    qrnn: false,
    answers: Answers::Class,
    weighted: false,
    pair: false,
    auxiliary: 0.0,
};

impl Switches {
    fn lengths(&self) -> &'static [usize] {
        &LENGTHS[..if self.pair { 4 } else { 5 }]
    }

    /// Documents, or pairs of them.
    fn examples(&self) -> usize {
        self.lengths().len() / if self.pair { 2 } else { 1 }
    }

    fn classes(&self) -> usize {
        if self.answers == Answers::Number { 1 } else { CLASSES }
    }

    fn losses(&self) -> ClassifierLosses {
        let counts = match self.weighted {
            true => LabelLoss { smoothing: 0.1, focal: 1.5, weights: vec![0.5, 2.0, 1.25] },
            false => LabelLoss::default(),
        };
        let Regularisation { alpha, beta, guard } = REGULARISATION;
        let penalties = LossSettings { alpha, beta, ar_on_dropped: false, tar_guard: guard };
        ClassifierLosses { penalties, counts, auxiliary: self.auxiliary }
    }
}

pub(super) fn checks() -> Vec<ModelCheck> {
    let front = Switches { linear_bias: true, ..FULL };
    let cases = [
        FULL,
        Switches { norm: Mode::Frozen, ..FULL },
        Switches { masking: Masking::Version1, ..front },
        Switches { masking: Masking::Version07, ..front },
        Switches { masking: Masking::Version07, max_steps: 5, ..front },
        Switches { qrnn: true, ..front },
        Switches { weighted: true, ..FULL },
        Switches { answers: Answers::Labels, ..front },
        Switches { answers: Answers::Labels, weighted: true, ..FULL },
        Switches { answers: Answers::Number, ..front },
        Switches { pair: true, norm: Mode::Frozen, ..front },
        Switches { auxiliary: 0.7, ..FULL },
        Switches { auxiliary: 0.7, masking: Masking::Version07, max_steps: 5, ..front },
    ];
    let check = |s: Switches| {
        let mut name = format!(
            "V{V} E{E} H{H} L3 bptt{BPTT} lengths{:?} dropout masking={:?} norm={:?} bias={} cap={}",
            s.lengths(),
            s.masking,
            s.norm,
            s.linear_bias,
            s.max_steps
        );
        for (there, what) in [
            (s.qrnn, " qrnn"),
            (s.answers == Answers::Labels, " labels"),
            (s.answers == Answers::Number, " number"),
            (s.weighted, " weighted"),
            (s.pair, " pair"),
            (s.auxiliary > 0.0, " auxiliary"),
        ] {
            name += if there { what } else { "" };
        }
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
    labels: Vec<u32>,
    /// 0 or 1 for every label, or a number, of every example.
    numbers: Vec<f64>,
    /// Token ids of each chunk `[T, rows]`, and the state that it starts from, computed once from
    /// the unperturbed parameters.
    chunks: Vec<(Tensor, State)>,
    /// The first chunk that is pooled.
    kept: usize,
}

fn key() -> Key {
    Key::apart(22)
}

impl Chunks {
    /// The first of a fixed series of random parameters and documents whose values keep their
    /// distance from all kinks.
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
        let (vocabulary, embedding, hidden, layers, pad) = (V, E, H, 3, None);
        let encoder = match switches.qrnn {
            false => AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into(),
            true => QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout: 0.1 }.into(),
        };
        let settings = ClassifierSettings {
            encoder,
            head: vec![HEAD],
            classes: switches.classes(),
            linear_bias: switches.linear_bias,
            norm_bias: 0.0,
            masking: switches.masking,
            bptt: BPTT,
            max_steps: switches.max_steps,
            strict_cap: switches.masking != Masking::Version2,
            answers: switches.answers,
            pair: switches.pair,
            auxiliary: (switches.auxiliary > 0.0).then_some(true),
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
        let lengths = switches.lengths();
        let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| words(n)).collect();
        let labels: Vec<u32> = (0..switches.examples() as u32).map(|b| b % CLASSES as u32).collect();
        let is_number = switches.answers == Answers::Number;
        let number = |k: usize| if is_number { 0.7 * k as f64 - 1.0 } else { (k % 3 % 2) as f64 };
        let numbers: Vec<f64> = (0..switches.examples() * switches.classes()).map(number).collect();
        let mut chunks = Chunks {
            classifier,
            parameters,
            graph: Graph::new(Device::Cpu, DType::F64, None),
            switches,
            documents,
            labels,
            numbers,
            chunks: Vec::new(),
            // docs/SPEC.md §1.7: kept where the chunk starts after `longest − max_steps`
            kept: if switches.max_steps < lengths[0] { 1 } else { 0 },
        };
        let mut state = chunks.classifier.encoder.zeros(Device::Cpu, lengths.len(), DType::F64)?;
        chunks.graph.set_recording(false);
        for c in 0..lengths[0].div_ceil(BPTT) {
            let tokens = chunks.tokens(c)?;
            chunks.chunks.push((tokens.clone(), state.clone()));
            let Chunks { classifier, parameters, graph, .. } = &mut chunks;
            classifier.encoder.run(graph, parameters, &tokens, &mut state, &noise().in_chunk(c)?)?;
        }
        Ok(chunks)
    }

    /// Token ids of a chunk: padded at the end, with the rows that reach it; or padded in front,
    /// with all rows.
    fn tokens(&self, chunk: usize) -> Result<Tensor> {
        let tail = self.switches.masking == Masking::Version2;
        let from = chunk * BPTT;
        let lengths = self.switches.lengths();
        let rows = lengths.iter().filter(|&&length| !tail || length > from).count();
        let token = |t: usize, b: usize| {
            let at = if tail { Some(from + t) } else { (from + t).checked_sub(lengths[0] - lengths[b]) };
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
        let truth = match self.switches.answers {
            Answers::Class => Truth::Classes(&self.labels),
            _ => Truth::Numbers(&self.numbers),
        };
        let (norm, losses) = (self.switches.norm, self.switches.losses());
        Ok(self.classifier.loss(g, &self.parameters, &batch, truth, norm, &noise(), &losses)?.total)
    }

    /// The same loss, put together from operations, with every chunk starting from its fixed state;
    /// and the smallest distance from a kink.
    fn frozen(&mut self) -> Result<(f64, f64)> {
        let Chunks { classifier, parameters, graph: g, switches, chunks, kept, documents, labels, numbers } = self;
        g.reset();
        g.set_recording(false);
        let mut outputs = Vec::new();
        for (c, (tokens, state)) in chunks.iter().enumerate().skip(*kept) {
            let noise = noise().in_chunk(c)?;
            outputs.push(classifier.encoder.run(g, parameters, tokens, &mut state.clone(), &noise)?);
        }
        let start = *kept * BPTT;
        let lengths = switches.lengths();
        let b = lengths.len();
        let ends: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
        let ends = g.constant(Tensor::from_slice([b], &ends)?);
        let first = g.constant(Tensor::from_slice([b], &vec![start as u32; b])?);
        let mut margin = pool_margin(g, &outputs, start, switches);
        let mut x = concat_pool(g, &outputs, start, ends, first, switches.masking)?;
        if switches.pair {
            margin = margin.min(pair_margin(&g.tensor(x).to_f64(), b));
            x = pair_features(g, x, &[0, 1], &[2, 3])?;
        }
        for (k, &p) in HEAD_RATES.iter().enumerate() {
            if k > 0 {
                margin = margin.min(relu_margin(&g.tensor(x).to_f64(), switches.examples(), switches.norm));
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
        let LabelLoss { smoothing, focal, weights } = &switches.losses().counts;
        let smoothed: Vec<f64> = numbers.iter().map(|y| y * (1.0 - smoothing) + smoothing / 2.0).collect();
        let loss = match switches.answers {
            Answers::Labels => sigmoid_cross_entropy(g, x, &smoothed, weights, *focal)?,
            Answers::Number => squared_error(g, x, numbers)?,
            Answers::Class | Answers::Tags { .. } => {
                let labels = g.constant(Tensor::from_slice([labels.len()], labels)?);
                if switches.weighted {
                    let weighting = Weighting { weights, focal: *focal, smoothing: *smoothing };
                    weighted_cross_entropy(g, x, labels, weighting)?
                } else {
                    softmax_cross_entropy(g, x, labels)?
                }
            }
        };
        let regularisation = activation_regularisation(g, &outputs, &outputs, REGULARISATION)?;
        let mut total = g.tensor(loss).scalar() + g.tensor(regularisation).scalar();
        if switches.auxiliary > 0.0 {
            total += switches.auxiliary * next_words(g, parameters, switches, documents, &outputs, start)?;
        }
        Ok((total, margin))
    }
}

/// The loss of the second head, its rows taken from the chunks by hand.
fn next_words(
    g: &mut Graph,
    parameters: &Parameters,
    switches: &Switches,
    documents: &[Vec<u32>],
    outputs: &[Var],
    start: usize,
) -> Result<f64> {
    let (mut rows, mut words) = (Vec::new(), Vec::new());
    let noise = noise();
    let mask = noise.mask(sites::OUTPUT, RATES.output)?;
    for (c, &chunk) in outputs.iter().enumerate() {
        let dropped = locked_dropout(g, chunk, &mask)?;
        let (values, width) = (g.tensor(dropped).to_f64(), g.shape(chunk).dims()[1]);
        for t in 0..BPTT {
            for b in 0..width {
                let step = start + c * BPTT + t;
                let lead = if switches.masking == Masking::Version2 { 0 } else { LENGTHS[0] - documents[b].len() };
                if step >= lead && step - lead + 1 < documents[b].len() {
                    rows.extend_from_slice(&values[(t * width + b) * E..][..E]);
                    words.push(documents[b][step - lead + 1]);
                }
            }
        }
    }
    let missing = || Error::data("the classifier has no decoder");
    let w = parameters.find("encoder.weight").ok_or_else(missing)?;
    let bias = parameters.find("decoder.bias").ok_or_else(missing)?;
    let hidden = g.constant(Tensor::from_slice([words.len(), E], &rows)?);
    let (w, bias) = (g.parameter(parameters, w), g.parameter(parameters, bias));
    let words = Tensor::from_slice([words.len()], &words)?;
    let loss = tied_softmax(g, hidden, w, Some(bias), &words)?.loss;
    Ok(g.tensor(loss).scalar())
}

/// Smallest distance between the two vectors of a pair.
fn pair_margin(pooled: &[f64], b: usize) -> f64 {
    let (u, v) = pooled.split_at(pooled.len() / b * (b / 2));
    u.iter().zip(v).fold(f64::INFINITY, |margin, (u, v)| margin.min((u - v).abs()))
}

fn noise() -> Noise<'static> {
    Noise::of(key(), 0, RATES).with_head(&HEAD_RATES)
}

/// Smallest |z| of the `[b, units]` inputs of a ReLU. Zero where a unit is active for every
/// document and batch norm follows, which then takes the unit's bias out again: its gradient would
/// be nothing but rounding.
fn relu_margin(z: &[f64], b: usize, norm: Mode) -> f64 {
    let units = z.len() / b;
    let always = |unit: usize| (0..b).all(|row| z[row * units + unit] > 0.0);
    if norm == Mode::Train && (0..units).any(always) {
        return 0.0;
    }
    z.iter().fold(f64::INFINITY, |m, z| m.min(z.abs()))
}

/// Smallest gap between the largest and the second largest value of a feature over the pooled steps
/// of a document.
fn pool_margin(g: &Graph, chunks: &[Var], start: usize, switches: &Switches) -> f64 {
    let mut margin = f64::INFINITY;
    let end = LENGTHS[0].div_ceil(BPTT) * BPTT;
    for (b, &length) in switches.lengths().iter().enumerate() {
        let span = match switches.masking {
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
        let plain =
            ["embedding", "lstm", "concat_pool", "batch_norm", "dropout", "relu", "linear", "softmax_cross_entropy"];
        let others = [
            ("weighted_cross_entropy", Switches { weighted: true, ..FULL }),
            ("sigmoid_cross_entropy", Switches { answers: Answers::Labels, ..FULL }),
            ("squared_error", Switches { answers: Answers::Number, ..FULL }),
            ("pair_features", Switches { pair: true, norm: Mode::Frozen, ..FULL }),
            ("gather", Switches { auxiliary: 0.7, ..FULL }),
            ("tied_softmax", Switches { auxiliary: 0.7, ..FULL }),
            ("forget_mult", Switches { qrnn: true, ..FULL }),
        ];
        for (operation, switches) in plain.map(|operation| (operation, FULL)).into_iter().chain(others) {
            // of the decoder its weight: the largest element of the other gradient may be one that
            // dropout takes away
            let input = usize::from(operation == "tied_softmax");
            let verdict = verdict(move || {
                let mut chunks = Chunks::new(switches)?;
                chunks.graph.plant(Some(Fault { operation, input }));
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
