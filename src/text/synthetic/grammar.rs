//! Sentences: agreement, relative clauses, negation, and evaluations whose sense is polarity ×
//! frame.

use super::lexicon::{Lexicon, Number, TARGET_DOMAIN};
use crate::random::Stream;

/// Determiners of each [`Number`].
pub(super) const DETERMINERS: [[&str; 5]; 2] =
    [["the", "a", "this", "every", "one"], ["the", "some", "these", "many", "two"]];
pub(super) const PREPOSITIONS: [&str; 6] = ["of", "near", "with", "behind", "for", "under"];

/// Pairs of expressions that frame an evaluative word: the first keeps its polarity, the second
/// inverts it.
pub(super) type Frames = [[&'static str; 2]];
/// Between copula and evaluative word.
pub(super) const DEGREES: [[&str; 2]; 6] = [
    ["very", "not"],
    ["quite", "never"],
    ["truly", "hardly"],
    ["really", "far from"],
    ["always", "no longer"],
    ["nothing but", "anything but"],
];
/// Main clauses over a whole clause.
pub(super) const ATTITUDES: [[&str; 2]; 4] = [
    ["i think that", "i doubt that"],
    ["we agree that", "we deny that"],
    ["it is true that", "it is false that"],
    ["nobody doubts that", "nobody thinks that"],
];
/// Subjects whose relative clause stands between them and the evaluation.
pub(super) const WITNESSES: [[&str; 2]; 2] = [["everybody who", "nobody who"], ["most who", "few who"]];
/// Verbs before "to be".
pub(super) const ACHIEVEMENTS: [[&str; 2]; 2] = [["managed", "failed"], ["turned out", "ceased"]];

/// What people say at once to a bad (0) and to a good (1) experience. Close to the evaluative word
/// and few: these words are what a language model learns polarity from first.
pub(super) const EXCLAMATIONS: [[&str; 2]; 2] = [["alas", "sadly"], ["hurrah", "luckily"]];
/// What people do after a bad (0) and after a good (1) experience, most frequent first; only the
/// general corpus tells.
pub(super) const CONSEQUENCES: [[&str; 3]; 2] = [["sighed", "wept", "groaned"], ["smiled", "sang", "laughed"]];
const CONSEQUENCE_WEIGHTS: [u32; 3] = [6, 3, 2];
/// What a closing sentence weighs against each other: bad, good.
pub(super) const VERDICTS: [[&str; 2]; 3] = [["grief", "joy"], ["fear", "hope"], ["pain", "delight"]];
/// Every other word of the grammar.
const REST: [&str; 35] = [
    ",", ".", "all", "and", "are", "be", "but", "called", "do", "does", "either", "i", "if", "in", "is", "it", "more",
    "not", "or", "proved", "saw", "seemed", "so", "than", "that", "them", "then", "they", "though", "to", "was", "we",
    "were", "who", "out",
];

/// Whether the grammar itself uses this word.
pub(super) fn is_function_word(word: &str) -> bool {
    let in_phrases = |phrases: &[&str]| phrases.iter().any(|phrase| phrase.split(' ').any(|part| part == word));
    let frames: [&Frames; 4] = [&DEGREES, &ATTITUDES, &WITNESSES, &ACHIEVEMENTS];
    frames.into_iter().flatten().any(|pair| in_phrases(pair))
        || DETERMINERS.iter().any(|words| in_phrases(words))
        || CONSEQUENCES.iter().any(|words| in_phrases(words))
        || EXCLAMATIONS.iter().any(|words| in_phrases(words))
        || VERDICTS.iter().any(|words| in_phrases(words))
        || in_phrases(&PREPOSITIONS)
        || in_phrases(&REST)
}

/// How a document is written. Probabilities are per place where the thing may stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Index into [`Lexicon::domains`].
    pub(super) domain: usize,
    /// An evaluation stands in an inverting frame.
    pub(super) inversion: f64,
    /// "though … seemed …" with the opposite sense comes before an evaluation.
    pub(super) contrast: f64,
    /// A second evaluative word of the same polarity is joined to the first.
    pub(super) pairing: f64,
    /// An evaluation is followed by what people did then.
    pub(super) consequence: f64,
}

/// Writes one document. A mood is 0 (bad) or 1 (good).
pub(super) struct Writer<'a> {
    lexicon: &'a Lexicon,
    stream: Stream,
    style: Style,
    text: String,
}

impl<'a> Writer<'a> {
    pub(super) fn new(lexicon: &'a Lexicon, stream: Stream, style: Style) -> Self {
        Writer { lexicon, stream, style, text: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.stream.uniform() < p
    }

    pub(super) fn below(&mut self, n: u32) -> u32 {
        self.stream.below(n)
    }

    /// A sentence of the domain that says nothing about the mood.
    pub(super) fn neutral(&mut self) {
        match self.below(8) {
            0..=2 => {
                let number = self.subject();
                self.verb(number);
                self.noun_phrase();
            }
            3 => {
                let number = self.subject();
                self.verb(number);
                self.push_one_of(&PREPOSITIONS);
                self.noun_phrase();
            }
            4 => {
                let number = self.subject();
                self.push(["does not", "do not"][number as usize]);
                self.verb(Number::Plural);
                self.noun_phrase();
            }
            5 => {
                self.push("if");
                self.short_clause();
                self.push(", then");
                self.short_clause();
                self.noun_phrase();
            }
            6 => {
                self.push("either");
                self.short_clause();
                self.push("or");
                self.short_clause();
            }
            _ => {
                self.name();
                self.verb(Number::Singular);
                self.noun_phrase();
            }
        }
        self.push(".");
    }

    /// A sentence whose evaluation amounts to `mood`.
    pub(super) fn evaluation(&mut self, mood: usize) {
        if self.chance(self.style.contrast) {
            self.push("though");
            let number = self.noun_phrase();
            self.push("seemed");
            self.framed(&DEGREES, 1 - mood);
            self.push(",");
            self.push(["it", "they"][number as usize]);
            self.push("proved");
            self.framed(&DEGREES, mood);
        } else {
            match self.below(8) {
                0..=3 => {
                    let number = self.subject();
                    self.push(["was", "were"][number as usize]);
                    self.framed(&DEGREES, mood);
                }
                4 | 5 => {
                    let inverted = self.frame(&ATTITUDES);
                    let number = self.subject();
                    self.push(["is", "are"][number as usize]);
                    self.evaluative(mood, inverted);
                }
                6 => {
                    let inverted = self.frame(&WITNESSES);
                    self.push("saw");
                    let number = self.subject();
                    self.push("called");
                    self.push(["it", "them"][number as usize]);
                    self.evaluative(mood, inverted);
                }
                _ => {
                    self.subject();
                    let inverted = self.frame(&ACHIEVEMENTS);
                    self.push("to be");
                    self.evaluative(mood, inverted);
                }
            }
        }
        if self.chance(self.style.consequence) {
            self.push_one_of(&EXCLAMATIONS[mood]);
            self.push(", so");
            if self.chance(0.5) {
                self.push_one_of(&["we", "they"]);
            } else {
                self.name();
            }
            self.consequence(mood);
            if self.chance(0.5) {
                self.push("and");
                self.consequence(mood);
            }
        }
        self.push(".");
    }

    /// A sentence that names both moods; their order decides, so that its words are the same
    /// whatever the mood.
    pub(super) fn closing(&mut self, mood: usize) {
        let pair = VERDICTS[self.below(VERDICTS.len() as u32) as usize];
        self.push("all in all more");
        self.push(pair[mood]);
        self.push("than");
        self.push(pair[1 - mood]);
        self.push(".");
    }

    /// A frame and an evaluative word that together amount to `mood`.
    fn framed(&mut self, frames: &Frames, mood: usize) {
        let inverted = self.frame(frames);
        self.evaluative(mood, inverted);
    }

    /// One side of one pair; whether it inverts.
    fn frame(&mut self, frames: &Frames) -> bool {
        let inverted = self.chance(self.style.inversion);
        let pair = frames[self.below(frames.len() as u32) as usize];
        self.push(pair[usize::from(inverted)]);
        inverted
    }

    /// The evaluative word, or two of one polarity, that amount to `mood` in this frame.
    fn evaluative(&mut self, mood: usize, inverted: bool) {
        let polarity = mood ^ usize::from(inverted);
        self.evaluative_word(polarity);
        if self.chance(self.style.pairing) {
            self.push(if inverted { "or" } else { "and" });
            self.evaluative_word(polarity);
        }
    }

    fn evaluative_word(&mut self, polarity: usize) {
        let words = &self.lexicon.evaluative[polarity];
        let rank = loop {
            let rank = words.rank(&mut self.stream);
            if self.style.domain == TARGET_DOMAIN || !Lexicon::only_in_target(rank) {
                break rank;
            }
        };
        self.push(&words.list[rank]);
    }

    fn consequence(&mut self, mood: usize) {
        let mut left = self.below(CONSEQUENCE_WEIGHTS.iter().sum());
        for (word, weight) in CONSEQUENCES[mood].into_iter().zip(CONSEQUENCE_WEIGHTS) {
            if left < weight {
                return self.push(word);
            }
            left -= weight;
        }
    }

    /// The subject of a clause, often with an attractor of either number or a relative clause
    /// between it and its verb.
    fn subject(&mut self) -> Number {
        let number = self.noun_phrase();
        match self.below(10) {
            0 | 1 => {
                self.push_one_of(&PREPOSITIONS);
                self.noun_phrase();
            }
            2 => {
                self.push("that");
                self.short_clause();
            }
            _ => {}
        }
        number
    }

    fn short_clause(&mut self) {
        let number = self.noun_phrase();
        self.verb(number);
    }

    fn noun_phrase(&mut self) -> Number {
        let number = if self.chance(0.5) { Number::Singular } else { Number::Plural };
        // "the" half of the time
        let determiner = self.below(8).saturating_sub(3) as usize;
        self.push(DETERMINERS[number as usize][determiner]);
        if self.chance(0.15) {
            let word = self.lexicon.adjectives.pick(&mut self.stream);
            self.push(word);
        }
        let noun = self.lexicon.domains[self.style.domain].nouns.pick(&mut self.stream);
        self.push(&noun[number as usize]);
        number
    }

    fn verb(&mut self, number: Number) {
        let verb = self.lexicon.domains[self.style.domain].verbs.pick(&mut self.stream);
        self.push(&verb[number as usize]);
    }

    fn name(&mut self) {
        let name = self.lexicon.names.pick(&mut self.stream);
        self.push(name);
    }

    fn push_one_of(&mut self, words: &[&str]) {
        let index = self.below(words.len() as u32) as usize;
        self.push(words[index]);
    }

    fn push(&mut self, words: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(words);
    }
}
