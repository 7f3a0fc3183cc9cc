//! The generated corpus of `ulmfit demo`: a made-up language in which pretraining pays, and it is
//! known why.
//!
//! Every document has a mood, good or bad. An *evaluation* is an evaluative word (400 of them, by
//! Zipf's law) in a *frame* that keeps or inverts its polarity ("was very …", "was far from …",
//! "nobody who saw … called it …"); polarity × frame amounts to the mood of the document. In the
//! target domain the mood is the label, and half of the frames invert, by a fair coin for each
//! evaluation. So every single word is independent of the label: only word and frame together tell,
//! and with a hundred labelled documents most evaluative words of a test document have never been
//! seen.
//!
//! The general corpus is about other things, but its evaluations are mostly not inverted, often
//! come in pairs of one polarity, and are followed by what people did then ("so we smiled"). To
//! predict the next word a language model must learn which words are good, which frames invert, and
//! carry the mood along; that is what the classifier takes over. Words that only the target domain
//! uses leave something to learn for the second stage. The target domain has no such consequences;
//! a third of its documents close with a sentence in which only the order of two words tells the
//! mood ("more joy than grief"): this a classifier learns from a hundred documents without any
//! pretraining, and it is nearly all that it learns.

mod grammar;
mod lexicon;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::random::{Key, Site, Stream};
use grammar::{Style, Writer};
use lexicon::{GENERAL_DOMAINS, Lexicon, TARGET_DOMAIN};

/// The labels, by mood.
pub const LABELS: [&str; 2] = ["negative", "positive"];

/// How much text there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticSizes {
    /// Tokens (words and punctuation) of the general corpus; the last document is complete, so
    /// there may be a few more.
    pub general_tokens: usize,
    /// Tokens of its held-out part.
    pub general_valid_tokens: usize,
    /// Documents of the target domain without a label.
    pub unlabelled: usize,
    /// Labelled documents to train a classifier on.
    pub train: usize,
    /// Labelled documents to choose by.
    pub valid: usize,
    /// Labelled documents to test on.
    pub test: usize,
}

impl Default for SyntheticSizes {
    fn default() -> Self {
        SyntheticSizes {
            general_tokens: 500_000,
            general_valid_tokens: 20_000,
            unlabelled: 4_000,
            train: 100,
            valid: 200,
            test: 1_000,
        }
    }
}

/// Style of the general corpus; the domain is drawn for each document.
const GENERAL: Style = Style { domain: 0, inversion: 0.15, contrast: 0.1, pairing: 0.5, consequence: 1.0 };
/// Style of the target domain. Only `inversion: 0.5` makes every word independent of the label.
const TARGET: Style = Style { domain: TARGET_DOMAIN, inversion: 0.5, contrast: 0.3, pairing: 0.1, consequence: 0.0 };
/// Share of documents with a closing sentence.
const GENERAL_CLOSING: f64 = 0.2;
const TARGET_CLOSING: f64 = 0.35;

/// The parts; each has a random stream of its own.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Part {
    Lexicon,
    General,
    GeneralValid,
    Unlabelled,
    Train,
    Valid,
    Test,
    Labels,
}

/// A labelled document: label, text.
pub type Labelled = (String, String);

/// The corpus of one seed. Texts are lower-case words and punctuation between single spaces, one
/// document each, and are made when they are asked for; the same seed gives the same texts.
pub struct Synthetic {
    key: Key,
    sizes: SyntheticSizes,
    lexicon: Lexicon,
    /// Train, valid, test.
    labelled: [Vec<Labelled>; 3],
    /// Texts of the labelled documents: none is generated twice.
    texts: HashSet<String>,
}

impl Synthetic {
    /// Draws the language and the labelled documents.
    pub fn new(seed: u64, sizes: SyntheticSizes) -> Self {
        let key = Key::apart(seed);
        let lexicon = Lexicon::new(&mut stream(key, Part::Lexicon, 0));
        let mut corpus = Synthetic { key, sizes, lexicon, labelled: Default::default(), texts: HashSet::new() };
        corpus.labelled = [(Part::Train, sizes.train), (Part::Valid, sizes.valid), (Part::Test, sizes.test)]
            .map(|(part, n)| corpus.draw_labelled(part, n));
        corpus
    }

    /// Documents of several domains, about 85 tokens each.
    pub fn general_documents(&self) -> impl Iterator<Item = String> + '_ {
        self.general(Part::General, self.sizes.general_tokens)
    }

    /// The held-out part of the general corpus.
    pub fn general_valid(&self) -> impl Iterator<Item = String> + '_ {
        self.general(Part::GeneralValid, self.sizes.general_valid_tokens)
    }

    /// Documents of the target domain, about 33 tokens each; none is a labelled one.
    pub fn unlabelled(&self) -> impl Iterator<Item = String> + '_ {
        (0u32..)
            .map(|index| {
                let mut stream = stream(self.key, Part::Unlabelled, index);
                let mood = stream.below(2) as usize;
                self.target_document(stream, mood)
            })
            .filter(|text| !self.texts.contains(text))
            .take(self.sizes.unlabelled)
    }

    /// Labelled documents for training; labels are balanced and in random order, as in the other
    /// two sets.
    pub fn train(&self) -> Vec<Labelled> {
        self.labelled[0].clone()
    }

    /// Labelled documents to choose by.
    pub fn valid(&self) -> Vec<Labelled> {
        self.labelled[1].clone()
    }

    /// Labelled documents to test on; none is in another set.
    pub fn test(&self) -> Vec<Labelled> {
        self.labelled[2].clone()
    }

    fn general(&self, part: Part, tokens: usize) -> impl Iterator<Item = String> + '_ {
        let mut written = 0;
        (0u32..).map_while(move |index| {
            (written < tokens).then(|| {
                let text = self.general_document(stream(self.key, part, index));
                written += text.split(' ').count();
                text
            })
        })
    }

    fn general_document(&self, mut stream: Stream) -> String {
        let domain = stream.below(GENERAL_DOMAINS as u32) as usize;
        let mood = stream.below(2) as usize;
        let mut writer = Writer::new(&self.lexicon, stream, Style { domain, ..GENERAL });
        for _ in 0..6 + writer.below(4) {
            if writer.chance(0.75) { writer.evaluation(mood) } else { writer.neutral() }
        }
        if writer.chance(GENERAL_CLOSING) {
            writer.closing(mood);
        }
        writer.finish()
    }

    fn target_document(&self, stream: Stream, mood: usize) -> String {
        let mut writer = Writer::new(&self.lexicon, stream, TARGET);
        if writer.chance(0.5) {
            writer.neutral();
        }
        for k in 0..2 + writer.below(2) {
            if k > 0 && writer.chance(0.3) {
                writer.neutral();
            }
            writer.evaluation(mood);
        }
        if writer.chance(TARGET_CLOSING) {
            writer.closing(mood);
        }
        writer.finish()
    }

    fn draw_labelled(&mut self, part: Part, n: usize) -> Vec<Labelled> {
        let mut moods: Vec<usize> = (0..n).map(|k| k % 2).collect();
        stream(self.key, Part::Labels, part as u32).shuffle(&mut moods);
        let mut index = 0;
        let mut documents = Vec::with_capacity(n);
        while let Some(&mood) = moods.get(documents.len()) {
            let text = self.target_document(stream(self.key, part, index), mood);
            index += 1;
            if self.texts.insert(text.clone()) {
                documents.push((LABELS[mood].to_string(), text));
            }
        }
        documents
    }
}

fn stream(key: Key, part: Part, index: u32) -> Stream {
    Stream::new(key, Site::SYNTHETIC, part as u32, index)
}
