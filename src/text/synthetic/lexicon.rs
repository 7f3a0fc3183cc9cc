//! The made-up words of the demonstration corpus, and how often each is used.

use std::collections::HashSet;

use super::grammar::is_function_word;
use crate::random::Stream;

/// Grammatical number; indexes the two forms of nouns and verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Singular = 0,
    Plural = 1,
}

/// Domains of the general corpus; the target domain comes after them.
pub(super) const GENERAL_DOMAINS: usize = 5;
/// Index of the target domain.
pub(super) const TARGET_DOMAIN: usize = GENERAL_DOMAINS;

const NOUNS: usize = 150;
const VERBS: usize = 40;
const ADJECTIVES: usize = 200;
const NAMES: usize = 320;
/// Evaluative words of each polarity.
const EVALUATIVE: usize = 200;

/// Zipf's law in Mandelbrot's form over ranks `0..n`: `p(rank) ∝ 1 / (rank + 1 + shift)`.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    cumulative: Vec<f64>,
    total: f64,
}

impl Zipf {
    pub(super) fn new(n: usize, shift: f64) -> Self {
        let mut total = 0.0;
        let cumulative = (0..n)
            .map(|rank| {
                total += 1.0 / (rank as f64 + 1.0 + shift);
                total
            })
            .collect();
        Zipf { cumulative, total }
    }

    /// A rank in `0..n`.
    pub(super) fn sample(&self, stream: &mut Stream) -> usize {
        let u = stream.uniform() * self.total;
        self.cumulative.partition_point(|&sum| sum <= u).min(self.cumulative.len() - 1)
    }
}

/// Words of one kind, most frequent first.
#[derive(Clone, Debug)]
pub(super) struct Words<T> {
    pub(super) list: Vec<T>,
    zipf: Zipf,
}

impl<T> Words<T> {
    fn new(list: Vec<T>) -> Self {
        let zipf = Zipf::new(list.len(), 1.0);
        Words { list, zipf }
    }

    pub(super) fn rank(&self, stream: &mut Stream) -> usize {
        self.zipf.sample(stream)
    }

    pub(super) fn pick(&self, stream: &mut Stream) -> &T {
        &self.list[self.zipf.sample(stream)]
    }
}

/// What one domain talks about; the entries are `[singular, plural]` forms.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) nouns: Words<[String; 2]>,
    /// The plural form is also the base form.
    pub(super) verbs: Words<[String; 2]>,
}

/// Every word that is not a function word.
#[derive(Clone, Debug)]
pub(super) struct Lexicon {
    /// The general domains, then the target domain.
    pub(super) domains: Vec<Domain>,
    /// Neutral adjectives.
    pub(super) adjectives: Words<String>,
    /// Proper names (in lower case, like everything).
    pub(super) names: Words<String>,
    /// Evaluative adjectives of each polarity (0 bad, 1 good).
    pub(super) evaluative: [Words<String>; 2],
}

impl Lexicon {
    /// Draws a whole lexicon; no two words, or forms of words, are equal.
    pub(super) fn new(stream: &mut Stream) -> Self {
        let mut mint = Mint { stream, taken: HashSet::new() };
        let evaluative = [0, 1].map(|_| Words::new(mint.words(EVALUATIVE)));
        let mut nouns: Vec<_> = (0..=GENERAL_DOMAINS).map(|_| mint.nouns()).collect();
        let mut verbs: Vec<_> = (0..=GENERAL_DOMAINS).map(|_| mint.verbs()).collect();
        // Every other noun and verb of the target domain is known from a general one; the rest is
        // new to a pretrained model.
        for table in [&mut nouns, &mut verbs] {
            for rank in (0..table[TARGET_DOMAIN].len()).step_by(2) {
                table[TARGET_DOMAIN][rank] = table[rank / 2 % GENERAL_DOMAINS][rank].clone();
            }
        }
        Lexicon {
            domains: nouns
                .into_iter()
                .zip(verbs)
                .map(|(nouns, verbs)| Domain { nouns: Words::new(nouns), verbs: Words::new(verbs) })
                .collect(),
            adjectives: Words::new(mint.words(ADJECTIVES)),
            names: Words::new(mint.words(NAMES)),
            evaluative,
        }
    }

    /// Every eighth evaluative word is heard only in the target domain: its sense can be learned
    /// from the unlabelled text alone.
    pub(super) fn only_in_target(rank: usize) -> bool {
        rank % 8 == 7
    }
}

/// Makes words that do not exist yet.
struct Mint<'a> {
    stream: &'a mut Stream,
    taken: HashSet<String>,
}

impl Mint<'_> {
    /// Two or three syllables. Never an `x` (the special tokens start with it), never a doubled
    /// letter (so that "cannot", "gonna" and their like, which English tokenizers split, cannot
    /// appear), never a final `s`.
    fn stem(&mut self) -> String {
        const ONSETS: [&str; 22] = [
            "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "fl", "gr", "kl", "pl",
            "st", "tr",
        ];
        const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ai", "ou"];
        const CODAS: [&str; 8] = ["", "", "", "k", "l", "m", "n", "r"];
        loop {
            let mut word = String::new();
            for _ in 0..2 + u32::from(self.stream.below(3) == 0) {
                for part in [&ONSETS[..], &VOWELS, &CODAS] {
                    word.push_str(part[self.stream.below(part.len() as u32) as usize]);
                }
            }
            let letters = word.as_bytes();
            if letters.len() >= 4 && letters.windows(2).all(|pair| pair[0] != pair[1]) {
                return word;
            }
        }
    }

    /// New forms of a new stem, one for each ending.
    fn forms<const N: usize>(&mut self, endings: [&str; N]) -> [String; N] {
        loop {
            let stem = self.stem();
            let forms = endings.map(|ending| format!("{stem}{ending}"));
            if forms.iter().all(|form| !is_function_word(form) && !self.taken.contains(form)) {
                self.taken.extend(forms.iter().cloned());
                return forms;
            }
        }
    }

    fn words(&mut self, n: usize) -> Vec<String> {
        (0..n)
            .map(|_| {
                let [word] = self.forms([""]);
                word
            })
            .collect()
    }

    fn nouns(&mut self) -> Vec<[String; 2]> {
        (0..NOUNS).map(|_| self.forms(["", "s"])).collect()
    }

    fn verbs(&mut self) -> Vec<[String; 2]> {
        (0..VERBS).map(|_| self.forms(["s", ""])).collect()
    }
}
