//! Which words decided: a logit of a classifier, taken apart by the words of its text
//! (docs/explain.md).
//!
//! Three views of the same number: the shares of the pooled steps, exact (`pooling.rs`); integrated
//! gradients of the embeddings (`gradients.rs`); the logit without a word (`without.rs`). Beside
//! them the features of the folder's linear model, exact as well.

mod gradients;
mod json;
mod pooling;
mod without;

use std::ops::Range;

pub use pooling::{Parts, Shares, shares};

use super::classes::decide;
use super::ensemble::{Answer, Ensemble};
use super::panel::Panel;
use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::linear::LinearShares;
use crate::models::{Decision, Loaded};
use crate::nn::{Answers, Classifier};
use crate::text::{Direction, Document, Source, Tokenizer, UNKNOWN_ID, pieces};

/// Tokens of a text beyond which only the shares of its pooled steps are told: the gradients of all
/// of its steps are in memory together.
pub const MOST_TOKENS: usize = 8192;

/// The number that is taken apart: `Σ weights · logit + offset`, over the outputs of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub weights: Vec<f64>,
    pub offset: f64,
}

impl Target {
    /// The logit of a class, less that of another where there is one.
    fn of_class(classes: usize, class: usize, against: Option<usize>) -> Self {
        let mut weights = vec![0.0; classes];
        weights[class] = 1.0;
        if let Some(other) = against {
            weights[other] -= 1.0;
        }
        Target { weights, offset: 0.0 }
    }

    /// Its value at logits.
    pub fn of(&self, logits: &[f64]) -> f64 {
        self.weights.iter().zip(logits).map(|(w, z)| w * z).sum::<f64>() + self.offset
    }
}

/// The questions about a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The class or label to explain; the predicted one unless said otherwise.
    pub label: Option<String>,
    /// A class whose logit is taken away.
    pub against: Option<String>,
    /// Points of the path of integrated gradients; 0: none.
    pub steps: usize,
    /// Words that are left out, one at a time, at most; 0: none.
    pub without: usize,
}

/// The explanation of a text.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The answer of the folder.
    pub answer: Answer,
    pub kind: Answers,
    /// Name of the class, label or number that is explained.
    pub label: String,
    pub against: Option<String>,
    /// The shares by every network of the folder.
    pub networks: Vec<NetworkWords>,
    /// The shares by its linear model.
    pub linear: Option<LinearShares>,
}

/// A logit of a network, word by word.
#[derive(Clone, Debug)]
pub struct NetworkWords {
    pub direction: Direction,
    /// As the network has computed it.
    pub logit: f64,
    /// The logit where every pooled unit has its mean in training.
    pub base: f64,
    /// The shares of the tokens, in the order of the text.
    pub tokens: Vec<TokenShare>,
    pub words: Vec<WordShare>,
    /// Tokens before the first one that is pooled, in reading order: they decide through the state
    /// alone.
    pub unpooled: usize,
    pub gradients: Option<Path>,
}

impl NetworkWords {
    /// Base and shares: the logit, but for rounding.
    pub fn sum(&self) -> f64 {
        self.base + self.tokens.iter().map(|token| token.parts.sum()).sum::<f64>()
    }
}

/// The end points of a path of integrated gradients, and the sums along it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    pub steps: usize,
    /// The logit where all embeddings are zero.
    pub from: f64,
    pub to: f64,
    pub sum: f64,
}

impl Path {
    /// The difference between the shares and the difference of the ends (completeness).
    pub fn gap(&self) -> f64 {
        self.sum - (self.to - self.from)
    }
}

/// A token's part.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenShare {
    pub token: String,
    /// Whether the vocabulary has it.
    pub known: bool,
    pub parts: Parts,
    /// The share by integrated gradients.
    pub gradient: Option<f64>,
}

/// A word's part.
#[derive(Clone, Debug, PartialEq)]
pub struct WordShare {
    /// As the text has it; of a mark its tokens.
    pub text: String,
    /// Bytes of the text; `None` for a mark.
    pub place: Option<Range<usize>>,
    /// Indices of its tokens.
    pub tokens: Range<usize>,
    pub parts: Parts,
    pub gradient: Option<f64>,
    /// By how much the logit is less without the word; `None` where that was not asked for.
    pub without: Option<f64>,
}

impl Panel {
    /// Takes an answer apart. The networks of the folder are explained one by one: their logits add
    /// up, the probabilities of several do not.
    ///
    /// # Errors
    /// Pairs of texts; an unknown class; those of reading and of the device.
    pub fn explain(&mut self, document: &Document, question: &Question) -> Result<Explanation> {
        if self.is_pair() {
            return Err(Error::usage("explain is for single texts: of a pair no unit belongs to one token")
                .hint("'predict' answers pairs"));
        }
        if self.kind().is_of_words() {
            return Err(Error::usage("explain is for classes of texts, but the model tags words"));
        }
        let source = Source::of_texts("the text", vec![document.clone()]);
        let answer = self.predict(&source)?.pop().ok_or_else(|| Error::data("the text has no answer"))?;
        let (labels, kind) = (self.labels().to_vec(), self.kind());
        let named = |name: &String| {
            labels.iter().position(|label| label == name).ok_or_else(|| {
                let known = crate::text::shown_labels(&labels);
                Error::usage(format!("the model has no class '{name}'")).hint(format!("it has {known}"))
            })
        };
        let asked = question.label.is_some() || question.against.is_some();
        if kind == Answers::Number && asked {
            return Err(Error::usage("the model estimates a number: there is no class to name"));
        }
        let label = question.label.as_ref().map(&named).transpose()?;
        let against = question.against.as_ref().map(&named).transpose()?;
        if answer.row.skipped.is_some() {
            let label = question.label.clone().unwrap_or_default();
            return Ok(Explanation { answer, kind, label, against: None, networks: Vec::new(), linear: None });
        }
        let label = label.unwrap_or_else(|| decide(&answer.probabilities));
        if against == Some(label) {
            return Err(Error::usage(format!("'{}' against itself is nothing", labels[label]))
                .hint("name another class with --against"));
        }
        let target = Target::of_class(labels.len(), label, against);
        let networks = match self.networks_mut() {
            Some(networks) => networks.explain(document, &target, question)?,
            None => Vec::new(),
        };
        let linear = self.linear().and_then(|linear| linear.shares(&document.text, &target.weights));
        let (label, against) = (labels[label].clone(), against.map(|k| labels[k].clone()));
        Ok(Explanation { answer, kind, label, against, networks, linear })
    }
}

/// One text before one network.
struct Case<'a> {
    model: &'a Loaded<Classifier>,
    target: Target,
    /// In the order of the text.
    ids: Vec<u32>,
}

impl Case<'_> {
    /// Ids in the order in which the network reads.
    fn read(&self, ids: &[u32]) -> Vec<u32> {
        match self.model.config.direction {
            Direction::Forward => ids.to_vec(),
            Direction::Backward => ids.iter().rev().copied().collect(),
        }
    }

    /// Turns results in reading order into the order of the text.
    fn written<T>(&self, mut values: Vec<T>) -> Vec<T> {
        if self.model.config.direction == Direction::Backward {
            values.reverse();
        }
        values
    }
}

impl Ensemble {
    fn explain(&mut self, document: &Document, target: &Target, question: &Question) -> Result<Vec<NetworkWords>> {
        let Ensemble { models, graph, .. } = self;
        models.iter_mut().map(|model| explain(model, graph, document, target, question)).collect()
    }
}

fn explain(
    model: &mut Loaded<Classifier>,
    g: &mut Graph,
    document: &Document,
    target: &Target,
    question: &Question,
) -> Result<NetworkWords> {
    // weights get no gradients
    (0..model.parameters.groups()).for_each(|group| model.parameters.set_frozen(group, true));
    let tokens = Tokenizer::new(model.vocabulary.tokenizer().clone())?.tokens(document);
    let ids: Vec<u32> = tokens.iter().map(|token| model.vocabulary.id(token)).collect();
    let target = match model.config.decision {
        Decision::Scale { mean, deviation } => {
            Target { weights: target.weights.iter().map(|w| w * deviation).collect(), offset: mean }
        }
        _ => target.clone(),
    };
    let case = Case { model, target, ids };
    let (logit, found) = pooling::of(&case, g)?;
    let (base, parts) = (found.base, case.written(found.tokens));
    let few = tokens.len() <= MOST_TOKENS;
    let unpooled = parts.iter().filter(|parts| !parts.pooled).count();
    let words = pieces(&document.text, &tokens);
    let sums: Vec<Parts> = words.iter().map(|word| parts[word.tokens.clone()].iter().sum()).collect();
    let without = match few {
        true => without::of(&case, g, &words, &sums, question.without)?,
        false => vec![None; words.len()],
    };
    let (path, gradients) = match question.steps > 0 && few {
        true => gradients::of(&case, g, question.steps).map(|(path, all)| (Some(path), Some(all)))?,
        false => (None, None),
    };
    let gradient = |range: Range<usize>| gradients.as_ref().map(|all| all[range].iter().sum::<f64>());
    let unknown = |at: usize| case.ids[at] == UNKNOWN_ID;
    let of_token = |(at, token): (usize, &String)| TokenShare {
        token: token.clone(),
        known: !unknown(at),
        parts: parts[at],
        gradient: gradient(at..at + 1),
    };
    let of_word = |((word, parts), without): ((crate::text::Piece, Parts), Option<f64>)| WordShare {
        text: match &word.place {
            Some(place) => document.text[place.clone()].to_string(),
            None => tokens[word.tokens.clone()].join(" "),
        },
        gradient: gradient(word.tokens.clone()),
        place: word.place,
        tokens: word.tokens,
        parts,
        without,
    };
    Ok(NetworkWords {
        direction: case.model.config.direction,
        logit,
        base,
        tokens: tokens.iter().enumerate().map(of_token).collect(),
        words: words.into_iter().zip(sums).zip(without).map(of_word).collect(),
        unpooled,
        gradients: path,
    })
}
