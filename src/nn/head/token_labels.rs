//! A label for every word: locked dropout over the encoders' outputs, then a linear layer over them
//! side by side (Howard & Ruder 2018, §6: sequence labelling; the layout of two directions as in
//! Akbik et al. 2018).

use super::super::noise::Noise;
use super::super::{initial, sites};
use super::{Answers, Features, Head, HeadLoss, Targets};
use crate::autodiff::{Graph, Group, ParameterId, Parameters, ParametersBuilder, Role, Var};
use crate::error::{Error, Result};
use crate::ops::gather::{Taken, gather};
use crate::ops::linear::linear;
use crate::ops::locked_dropout::locked_dropout;
use crate::random::Key;
use crate::trace;

/// The output of one encoder for the documents of a batch.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// Its outputs without dropout, `[T, rows, E]` each, in the order of time.
    pub chunks: &'a [Var],
    /// For every chunk: the rows `t·rows + row` at which a word is read, and the numbers of these
    /// words in the batch.
    pub words: &'a [[Vec<u32>; 2]],
    pub noise: Noise<'a>,
}

/// Parameters of the head.
#[derive(Clone, Debug)]
pub struct TokenLabels {
    weight: ParameterId,
    bias: ParameterId,
    /// Where its time is counted, with the dropout before it and the loss.
    part: trace::Layer,
}

impl TokenLabels {
    /// Declares the parameters. `width`: of all encoders together; `labels`: C.
    pub fn declare(builder: &mut ParametersBuilder, group: Group, width: usize, labels: usize) -> Self {
        TokenLabels {
            weight: builder.declare("head.linear.weight", &[labels, width], group, Role::Matrix),
            bias: builder.declare("head.linear.bias", &[labels], group, Role::Bias),
            part: trace::Layer::named("head"),
        }
    }

    /// The vectors of all words, `[N, parts·E]`, one part for each reading, and their logits `[N,
    /// C]`.
    ///
    /// # Errors
    /// No word; a word that a reading lacks or has twice; no memory left.
    pub fn logits(&self, g: &mut Graph, parameters: &Parameters, readings: &[Reading]) -> Result<[Var; 2]> {
        let _part = trace::within(self.part);
        let parts = readings.len();
        let Some(first) = readings.first() else { return Err(Error::shape("token_labels", "readings", "1 or 2", 0)) };
        let words: usize = first.words.iter().map(|[rows, _]| rows.len()).sum();
        let mut lists = Vec::new();
        for (part, reading) in readings.iter().enumerate() {
            let mask = reading.noise.mask(sites::OUTPUT, reading.noise.rates().output)?;
            for (&chunk, [rows, numbers]) in reading.chunks.iter().zip(reading.words) {
                if !rows.is_empty() {
                    let places: Vec<u32> = numbers.iter().map(|&word| word * parts as u32 + part as u32).collect();
                    lists.push((locked_dropout(g, chunk, &mask)?, rows, places));
                }
            }
        }
        let taken: Vec<Taken> = lists.iter().map(|(from, rows, places)| Taken { from: *from, rows, places }).collect();
        let hidden = gather(g, &taken, words, parts)?;
        let (weight, bias) = (g.parameter(parameters, self.weight), g.parameter(parameters, self.bias));
        Ok([hidden, linear(g, hidden, weight, Some(bias))?])
    }
}

impl Head for TokenLabels {
    /// U(±1/√n_in), as the linear layers of the other heads.
    fn initialise(&self, parameters: &Parameters, key: Key) -> Result<()> {
        let range = 1.0 / (parameters.shape(self.weight).dims()[1] as f64).sqrt();
        initial::uniform(parameters, self.weight, key, range)?;
        initial::uniform(parameters, self.bias, key, range)
    }

    fn part(&self) -> trace::Layer {
        self.part
    }

    /// Mean over the words of the batch; padding has no words.
    fn loss(
        &self,
        g: &mut Graph,
        parameters: &Parameters,
        features: &Features,
        targets: &Targets,
        _: &Noise,
    ) -> Result<HeadLoss> {
        let [_, logits] = self.logits(g, parameters, features.readings)?;
        let _part = trace::within(self.part);
        let loss = Answers::Tags { both: features.readings.len() > 1 }.loss(g, logits, targets)?;
        Ok(HeadLoss { loss, dropped: None })
    }
}
