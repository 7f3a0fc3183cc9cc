//! The whole model that tags words over two chunks, with one encoder or with two: gradients flow
//! within a chunk, never across its border.

use super::model::{CheckedModel, ModelCheck, fill};
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::nn::{
    Answers, AwdLstmSettings, Classifier, ClassifierLosses, ClassifierSettings, DocumentBatch, DropRates, Encoder,
    LabelLoss, LossSettings, Noise, QrnnSettings, State, Truth, sites,
};
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::batch_norm::Mode;
use crate::ops::concat_pool::Masking;
use crate::ops::linear::linear;
use crate::ops::locked_dropout::locked_dropout;
use crate::ops::softmax_cross_entropy::smoothed_cross_entropy;
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;

const V: usize = 13;
const E: usize = 4;
const H: usize = 6;
const BPTT: usize = 4;
const TAGS: usize = 5;
/// Tokens of the sentences, the longest first: two chunks, in the second fewer rows.
const LENGTHS: [usize; 4] = [8, 6, 4, 2];
const RATES: DropRates = DropRates { embedding: 0.1, input: 0.2, weight: 0.4, hidden: 0.2, output: 0.3 };
const REGULARISATION: Regularisation = Regularisation { alpha: 2.0, beta: 1.0, guard: TarGuard::Time };

#[derive(Clone, Copy, Debug)]
struct Switches {
    both: bool,
    qrnn: bool,
    smoothing: f64,
}

pub(super) fn checks() -> Vec<ModelCheck> {
    let one = Switches { both: false, qrnn: false, smoothing: 0.0 };
    let cases = [one, Switches { both: true, ..one }, Switches { both: true, qrnn: true, smoothing: 0.1 }];
    let check = |s: Switches| {
        let name = format!("V{V} E{E} H{H} L2 bptt{BPTT} lengths{LENGTHS:?} {TAGS} tags dropout {s:?}");
        ModelCheck::new("tagger", name, move || Ok(Box::new(Sentences::new(s)?)))
    };
    cases.into_iter().map(check).collect()
}

struct Sentences {
    tagger: Classifier,
    parameters: Parameters,
    graph: Graph,
    switches: Switches,
    documents: Vec<Vec<u32>>,
    words: Vec<Vec<[u32; 2]>>,
    tags: Vec<u32>,
    /// For every encoder the token ids of each chunk `[T, rows]`, and the state that it starts
    /// from, computed once from the unperturbed parameters.
    chunks: Vec<Vec<(Tensor, State)>>,
}

/// The dropouts of the first encoder, or of the second.
fn noise(second: bool) -> Noise<'static> {
    let noise = Noise::of(Key::apart(23), 0, RATES);
    if second { noise.of_second() } else { noise }
}

/// A token that opens the sentence, then words of one token and of two in turn.
fn words_of(length: usize) -> Vec<[u32; 2]> {
    let (mut words, mut first) = (Vec::new(), 1);
    while first < length {
        let last = (first + words.len() % 2).min(length - 1);
        words.push([first as u32, last as u32]);
        first = last + 1;
    }
    words
}

impl Sentences {
    fn new(switches: Switches) -> Result<Self> {
        let (vocabulary, embedding, hidden, layers, pad) = (V, E, H, 2, None);
        let encoder = match switches.qrnn {
            false => AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into(),
            true => QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout: 0.1 }.into(),
        };
        let settings = ClassifierSettings {
            encoder,
            head: Vec::new(),
            classes: TAGS,
            linear_bias: true,
            norm_bias: 0.0,
            masking: Masking::Version2,
            bptt: BPTT,
            max_steps: 1,
            strict_cap: false,
            answers: Answers::Tags { both: switches.both },
            pair: false,
            auxiliary: None,
        };
        let (tagger, parameters) = Classifier::new(settings, DType::F64)?;
        fill(&parameters, Key::apart(5), 0.9);
        let mut stream = Stream::new(Key::apart(5), Site::CUSTOM[2], 0, 0);
        let mut draw = |n: usize| (0..n).map(|_| stream.below(V as u32)).collect::<Vec<u32>>();
        let documents: Vec<Vec<u32>> = LENGTHS.iter().map(|&n| draw(n)).collect();
        let words: Vec<Vec<[u32; 2]>> = LENGTHS.iter().map(|&n| words_of(n)).collect();
        let tags = (0..words.iter().map(Vec::len).sum::<usize>() as u32).map(|word| word * 7 % TAGS as u32).collect();
        let graph = Graph::new(Device::Cpu, DType::F64, None);
        let mut made = Sentences { tagger, parameters, graph, switches, documents, words, tags, chunks: Vec::new() };
        made.graph.set_recording(false);
        for second in [false, true].into_iter().take(if switches.both { 2 } else { 1 }) {
            let mut state = made.encoder(second)?.zeros(Device::Cpu, LENGTHS.len(), DType::F64)?;
            let mut chunks = Vec::new();
            for c in 0..LENGTHS[0].div_ceil(BPTT) {
                let tokens = made.tokens(second, c)?;
                chunks.push((tokens.clone(), state.clone()));
                let encoder = made.encoder(second)?;
                let Sentences { parameters, graph, .. } = &mut made;
                encoder.run(graph, parameters, &tokens, &mut state, &noise(second).in_chunk(c)?)?;
            }
            made.chunks.push(chunks);
        }
        let expected = made.frozen()?;
        let found = made.real()?;
        let found = made.graph.tensor(found).scalar();
        if (found - expected).abs() > 1e-12 {
            return Err(Error::data(format!("the tagger's loss is {found}; computed chunk by chunk it is {expected}")));
        }
        Ok(made)
    }

    fn encoder(&self, second: bool) -> Result<std::sync::Arc<dyn Encoder>> {
        match (second, &self.tagger.second) {
            (false, _) => Ok(self.tagger.encoder.clone()),
            (true, Some(encoder)) => Ok(encoder.clone()),
            (true, None) => Err(Error::data("there is no second encoder")),
        }
    }

    /// Token ids of a chunk, of the rows that reach it; the second encoder reads from the end.
    fn tokens(&self, second: bool, chunk: usize) -> Result<Tensor> {
        let from = chunk * BPTT;
        let rows = LENGTHS.iter().filter(|&&length| length > from).count();
        let token = |t: usize, b: usize| {
            let document = &self.documents[b];
            let at = if second { document.len().checked_sub(from + t + 1) } else { Some(from + t) };
            at.and_then(|at| document.get(at).copied()).unwrap_or(0)
        };
        let tokens: Vec<u32> =
            (0..BPTT).flat_map(|t| (0..rows).map(move |b| (t, b))).map(|(t, b)| token(t, b)).collect();
        Tensor::from_slice([BPTT, rows], &tokens)
    }

    /// The loss of the model itself.
    fn real(&mut self) -> Result<Var> {
        let g = &mut self.graph;
        g.reset();
        let batch = DocumentBatch::new(self.documents.iter().map(Vec::as_slice).collect())?;
        let batch = batch.with_words(self.words.clone())?;
        let Regularisation { alpha, beta, guard } = REGULARISATION;
        let penalties = LossSettings { alpha, beta, ar_on_dropped: false, tar_guard: guard };
        let counts = LabelLoss { smoothing: self.switches.smoothing, ..LabelLoss::default() };
        let losses = ClassifierLosses { penalties, counts, auxiliary: 0.0 };
        let truth = Truth::Classes(&self.tags);
        Ok(self.tagger.loss(g, &self.parameters, &batch, truth, Mode::Train, &noise(false), &losses)?.total)
    }

    /// The same loss, every chunk from its fixed state, the vectors of the words taken from the
    /// chunks by hand.
    fn frozen(&mut self) -> Result<f64> {
        let parts = self.chunks.len();
        let mut hidden = vec![0.0; self.tags.len() * parts * E];
        let mut regularisation = 0.0;
        self.graph.reset();
        self.graph.set_recording(false);
        for part in 0..parts {
            let (second, encoder) = (part == 1, self.encoder(part == 1)?);
            let Sentences { parameters, graph: g, chunks, words, .. } = self;
            let mask = noise(second).mask(sites::OUTPUT, RATES.output)?;
            let (mut outputs, mut dropped) = (Vec::new(), Vec::new());
            for (c, (tokens, state)) in chunks[part].iter().enumerate() {
                let noise = noise(second).in_chunk(c)?;
                let output = encoder.run(g, parameters, tokens, &mut state.clone(), &noise)?;
                let of = locked_dropout(g, output, &mask)?;
                dropped.push((g.tensor(of).to_f64(), g.shape(of).dims()[1]));
                outputs.push(output);
            }
            let all = words.iter().enumerate().flat_map(|(b, words)| words.iter().map(move |word| (b, word)));
            for (place, (b, &[first, last])) in hidden.chunks_exact_mut(parts * E).zip(all) {
                let step = if second { LENGTHS[b] - 1 - first as usize } else { last as usize };
                let (values, rows) = &dropped[step / BPTT];
                place[part * E..][..E].copy_from_slice(&values[(step % BPTT * rows + b) * E..][..E]);
            }
            let of = activation_regularisation(g, &outputs, &outputs, REGULARISATION)?;
            regularisation += g.tensor(of).scalar();
        }
        let Sentences { parameters, graph: g, tags, switches, .. } = self;
        let of = |name: &str| parameters.find(name).ok_or_else(|| Error::data(format!("the tagger has no {name}")));
        let (weight, bias) = (of("head.linear.weight")?, of("head.linear.bias")?);
        let (weight, bias) = (g.parameter(parameters, weight), g.parameter(parameters, bias));
        let hidden = g.constant(Tensor::from_slice([tags.len(), parts * E], &hidden)?);
        let logits = linear(g, hidden, weight, Some(bias))?;
        let tags = g.constant(Tensor::from_slice([tags.len()], tags)?);
        let loss = smoothed_cross_entropy(g, logits, tags, switches.smoothing)?;
        Ok(g.tensor(loss).scalar() + regularisation)
    }
}

impl CheckedModel for Sentences {
    fn parameters(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn loss(&mut self) -> Result<f64> {
        self.frozen()
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

    #[test]
    fn an_error_in_any_operation_is_noticed() {
        let both = Switches { both: true, qrnn: false, smoothing: 0.0 };
        for operation in ["embedding", "lstm", "locked_dropout", "gather", "linear", "softmax_cross_entropy"] {
            let build = move || -> Result<Box<dyn CheckedModel>> {
                let mut sentences = Sentences::new(both)?;
                sentences.graph.plant(Some(Fault { operation, input: 0 }));
                Ok(Box::new(sentences))
            };
            let verdict = Verdict::of(&ModelCheck::new("tagger", "planted", build).compare().unwrap());
            assert!(verdict.wrong > 0, "{operation}");
        }
    }

    #[test]
    fn words_of_sentences() {
        assert_eq!(words_of(8), [[1, 1], [2, 3], [4, 4], [5, 6], [7, 7]]);
        assert_eq!(words_of(2), [[1, 1]]);
    }
}
