//! Questions to a language model: the perplexity of texts, and continuations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ensemble::not_numbers;
use super::{Measured, Scores};
use crate::autodiff::{Graph, Parameters};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::{LanguageModel, State};
use crate::random::{Key, Site, Stream};
use crate::tensor::{DType, Tensor};
use crate::text::Direction;
use crate::text::{
    BuildOptions, Document, LmBatches, LmConfig, LmLayout, PAD_ID, Source, Storage, TokenStore, Tokenizer, UNKNOWN_ID,
    VariableWindows, Windows, write_store,
};

/// A language model ready to answer.
pub struct Speaker {
    model: Loaded<LanguageModel>,
    tokenizer: Tokenizer,
    graph: Graph,
    warning: Option<String>,
}

/// How to choose the next word.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Tokens to add at most.
    pub length: usize,
    /// Log-probabilities are divided by it.
    pub temperature: f64,
    /// Only among the likeliest.
    pub top_k: Option<usize>,
    pub seed: u64,
}

/// Perplexity of one text.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Score {
    /// Tokens that were predicted: all but the one that opens the text.
    pub tokens: u64,
    /// Mean cross-entropy in nats.
    pub loss: Option<f64>,
    pub perplexity: Option<f64>,
    pub bits_per_byte: Option<f64>,
}

impl Speaker {
    /// On the device of the graph and in its precision.
    pub fn new(model: Loaded<LanguageModel>, mut graph: Graph) -> Result<Self> {
        let tokenizer = Tokenizer::new(model.vocabulary.tokenizer().clone())?;
        let model = Loaded { parameters: model.parameters.to_device(graph.device())?, ..model };
        graph.set_recording(false);
        graph.promise_constant_parameters();
        Ok(Speaker { model, tokenizer, graph, warning: None })
    }

    /// Loss over a whole source, its documents in one stream: the exact mean over tokens.
    pub fn evaluate(&mut self, source: &Source) -> Result<Measured> {
        let options = BuildOptions { skip_empty: true, ..BuildOptions::default() };
        let (sources, words) = (std::slice::from_ref(source), &self.model.vocabulary);
        let (store, report) = write_store(sources, &self.tokenizer, words, &options, Storage::Memory, &mut |_| Ok(()))?;
        let warning = report.hardly_known(words.tokenizer());
        self.warning = warning.map(|text| format!("{}: {text}", source.name()));
        let direction = self.model.config.direction;
        let mut batches = evaluation_batches(Arc::new(store), None, 32, 70, direction)?;
        let network = &self.model.network;
        let measured = evaluate(network, &mut self.graph, &self.model.parameters, &mut batches, Mean::Token)?;
        if measured.loss.is_finite() { Ok(measured) } else { Err(not_numbers(&self.model.parameters)) }
    }

    /// Doubts about the text that was evaluated last.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Before the first token of a text.
    fn state(&self) -> Result<State> {
        self.model.network.encoder.zeros(self.graph.device(), 1, DType::F32)
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let document = Document::new(text);
        let mut scratch = crate::text::Scratch::default();
        self.tokenizer.tokenize(&document, &mut scratch, &mut |token| ids.push(self.model.vocabulary.id(token)));
        ids
    }

    /// Perplexity of a text by itself.
    pub fn score(&mut self, text: &str) -> Result<Score> {
        let mut ids = self.ids(text);
        if self.model.config.direction == Direction::Backward {
            ids.reverse();
        }
        let (mut nats, mut count) = (0.0, 0u64);
        let mut state = self.state()?;
        let mut position = 0;
        while position + 1 < ids.len() {
            let steps = 70.min(ids.len() - 1 - position);
            self.graph.reset();
            let tokens = Tensor::from_slice([steps, 1], &ids[position..position + steps])?;
            let targets = Tensor::from_slice([steps, 1], &ids[position + 1..position + 1 + steps])?;
            let (network, parameters) = (&self.model.network, &self.model.parameters);
            let out = network.evaluate(&mut self.graph, parameters, &tokens, &targets, &mut state)?;
            nats += out.totals(&mut self.graph)?.0;
            count += steps as u64;
            position += steps;
        }
        self.graph.reset();
        if !nats.is_finite() {
            return Err(not_numbers(&self.model.parameters));
        }
        let loss = (count > 0).then(|| nats / count as f64);
        let bits = (!text.is_empty() && count > 0).then(|| nats / std::f64::consts::LN_2 / text.len() as f64);
        Ok(Score { tokens: count, loss, perplexity: loss.map(f64::exp), bits_per_byte: bits })
    }

    /// Continues a text; ends at the token that opens a document. The prompt is given back as it
    /// was written.
    pub fn generate(&mut self, prompt: &str, sampling: Sampling) -> Result<String> {
        if self.model.config.direction == Direction::Backward {
            return Err(Error::usage("a backward model reads from the end: it cannot continue a text")
                .hint("use the forward model"));
        }
        let ids = self.ids(prompt);
        let begin = self.model.vocabulary.get(self.tokenizer.kind().begin_token());
        let mut state = self.state()?;
        // never chosen: the unknown word, padding and the filler of the vocabulary
        let barred: Vec<bool> = (0..self.model.vocabulary.len() as u32)
            .map(|id| id == UNKNOWN_ID || id == PAD_ID || self.model.vocabulary.word(id) == Some("xxfake"))
            .collect();
        let (mut fresh, mut continuation) = (ids, Vec::new());
        let mut stream = Stream::new(Key::apart(sampling.seed), Site::GENERATE, 0, 0);
        for _ in 0..sampling.length {
            self.graph.reset();
            let tokens = Tensor::from_slice([fresh.len(), 1], &fresh)?;
            let (network, parameters) = (&self.model.network, &self.model.parameters);
            let all = network.next_word(&mut self.graph, parameters, &tokens, &mut state)?.to_f64();
            let v = self.model.vocabulary.len();
            let next = choose(&all[all.len() - v..], &barred, sampling, &mut stream);
            if begin == Some(next) {
                break;
            }
            continuation.push(next);
            fresh = vec![next];
        }
        let words: Vec<&str> = continuation.iter().filter_map(|&id| self.model.vocabulary.word(id)).collect();
        Ok(self.tokenizer.continued(prompt, &words))
    }
}

/// Over what the loss of a text is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mean {
    /// Every token counts alike.
    #[serde(rename = "token")]
    Token,
    /// Every window counts alike, however long, as the libraries print it (docs/SPEC.md §3.1).
    #[serde(rename = "batch")]
    Window,
}

/// Batches for evaluation: the documents in their order, fixed windows.
pub fn evaluation_batches(
    store: Arc<TokenStore>,
    documents: Option<Vec<u32>>,
    batch_size: usize,
    bptt: usize,
    direction: Direction,
) -> Result<LmBatches> {
    let count: u64 = match &documents {
        Some(all) => all.iter().map(|&d| store.document_len(d as usize) as u64).sum(),
        None => store.tokens(),
    };
    // a short text is measured with fewer columns rather than not at all
    let batch_size = batch_size.min(usize::try_from(count / 2).unwrap_or(usize::MAX)).max(1);
    let config = LmConfig {
        batch_size,
        bptt,
        layout: LmLayout::InOrder,
        windows: Windows::Fixed,
        variable: VariableWindows::default(),
        direction,
        key: Key([0, 0]),
    };
    LmBatches::new(store, documents, config)
}

/// Loss, perplexity, accuracy and bits per byte over a text, without dropout; the state is carried
/// from window to window.
pub fn evaluate(
    model: &LanguageModel,
    g: &mut Graph,
    parameters: &Parameters,
    batches: &mut LmBatches,
    mean: Mean,
) -> Result<Measured> {
    let recording = g.is_recording();
    g.set_recording(false);
    let b = batches.config().batch_size;
    let mut state = model.encoder.zeros(parameters.device(), b, parameters.dtype())?;
    batches.rewind();
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let (mut nats, mut correct, mut count) = (0.0, 0u64, 0u64);
    let (mut window_losses, mut windows) = (0.0, 0u64);
    while let Some(steps) = batches.next_window(&mut inputs, &mut targets)? {
        g.reset();
        let (tokens, wanted) = (g.indices([steps, b])?, g.indices([steps, b])?);
        tokens.write::<u32>().copy_from_slice(&inputs);
        wanted.write::<u32>().copy_from_slice(&targets);
        let out = model.evaluate(g, parameters, &tokens, &wanted, &mut state)?;
        let (sum, hits) = out.totals(g)?;
        nats += sum;
        window_losses += sum / (steps * b) as f64;
        windows += 1;
        correct += hits;
        count += (steps * b) as u64;
    }
    g.reset();
    g.set_recording(recording);
    let exact = nats / count.max(1) as f64;
    let loss = match mean {
        Mean::Token => exact,
        Mean::Window => window_losses / windows.max(1) as f64,
    };
    let bytes = batches.text_bytes() as f64 * count as f64 / batches.tokens().max(1) as f64;
    let mut scores = Scores::default().with("perplexity", loss.exp());
    if bytes > 0.0 {
        scores.put("bits_per_byte", nats / std::f64::consts::LN_2 / bytes);
    }
    scores.put("accuracy", 100.0 * correct as f64 / count.max(1) as f64);
    Ok(Measured { loss, count, scores, ..Measured::default() })
}

/// Draws from log-probabilities.
fn choose(log_probabilities: &[f64], barred: &[bool], sampling: Sampling, stream: &mut Stream) -> u32 {
    let mut order: Vec<u32> = (0..log_probabilities.len() as u32).filter(|&id| !barred[id as usize]).collect();
    order.sort_by(|&a, &b| log_probabilities[b as usize].total_cmp(&log_probabilities[a as usize]).then(a.cmp(&b)));
    order.truncate(sampling.top_k.unwrap_or(usize::MAX).max(1));
    let best = log_probabilities[order[0] as usize];
    let weight = |id: &u32| ((log_probabilities[*id as usize] - best) / sampling.temperature).exp();
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let mut left = stream.uniform() * weights.iter().sum::<f64>();
    for (id, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    order[0]
}
