//! Tags of words, the chunks (entities) that they mark, and how many of those were found, counted
//! as the script `conlleval` of CoNLL-2000 counts them.

use std::sync::Arc;

use super::classes::{decide, evaluation_batches, order, predict};
use super::ensemble::not_numbers;
use super::gold::Gold;
use super::{Hits, Measured, Scores};
use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::models::{Decision, Loaded};
use crate::nn::{Answers, Classifier};
use crate::text::{
    BuildOptions, Document, Labels, Origin, Row, Source, Storage, TokenStore, Tokenizer, fill_store, is_space,
    shown_label, shown_labels,
};

/// The tag of a word that is in no chunk.
pub const OUTSIDE: &str = "O";

/// Words of a sentence that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    pub kind: String,
    /// Its first word, and its last.
    pub first: usize,
    pub last: usize,
}

/// Letter and kind of a tag.
fn parts(tag: &str) -> (&str, &str) {
    tag.split_once('-').unwrap_or((tag, ""))
}

/// Chunks of a sentence. `B-` begins one, and so does `I-` after no chunk or one of another kind.
pub fn chunks<'a>(tags: impl IntoIterator<Item = &'a str>) -> Vec<Chunk> {
    let (mut all, mut before): (Vec<Chunk>, _) = (Vec::new(), (OUTSIDE, ""));
    for (at, tag) in tags.into_iter().enumerate() {
        let (letter, kind) = parts(tag);
        if letter != OUTSIDE {
            match all.last_mut().filter(|_| letter != "B" && before.0 != OUTSIDE && before.1 == kind) {
                Some(chunk) => chunk.last = at,
                None => all.push(Chunk { kind: kind.to_string(), first: at, last: at }),
            }
        }
        before = (letter, kind);
    }
    all
}

/// The same chunks in IOB2.
pub fn iob2(chunks: &[Chunk], words: usize) -> Vec<String> {
    let mut tags = vec![OUTSIDE.to_string(); words];
    for Chunk { kind, first, last } in chunks {
        tags[*first] = format!("B-{kind}");
        tags[first + 1..=*last].iter_mut().for_each(|tag| *tag = format!("I-{kind}"));
    }
    tags
}

/// Kinds of chunks among the tags that a model gives, in their order.
pub fn kinds(tags: &[String]) -> Vec<String> {
    tags.iter().filter_map(|tag| tag.strip_prefix("B-")).map(String::from).collect()
}

/// The tags of a model that knows chunks of these kinds.
pub fn tags_of(kinds: impl IntoIterator<Item = String>) -> Vec<String> {
    let of = |kind: String| [format!("B-{kind}"), format!("I-{kind}")];
    std::iter::once(OUTSIDE.to_string()).chain(kinds.into_iter().flat_map(of)).collect()
}

/// Adds what was found of a sentence's chunks: one is found where its first word, its last and its
/// kind are right.
fn count<'a>(
    hits: &mut [Hits],
    kinds: &[String],
    wanted: impl IntoIterator<Item = &'a str>,
    given: impl IntoIterator<Item = &'a str>,
) {
    let (wanted, given) = (chunks(wanted), chunks(given));
    let place = |chunk: &Chunk| kinds.iter().position(|kind| *kind == chunk.kind);
    for chunk in &given {
        if let Some(at) = place(chunk) {
            let hits = &mut hits[at];
            *(if wanted.contains(chunk) { &mut hits.found } else { &mut hits.wrong }) += 1;
        }
    }
    for chunk in wanted.iter().filter(|chunk| !given.contains(chunk)) {
        if let Some(at) = place(chunk) {
            hits[at].missed += 1;
        }
    }
}

/// The scores of sentences. `answers`: of every sentence the probabilities of all tags for
/// its words, one after the other; `gold`: the right ones, indices into `tags`.
pub(super) fn measure(answers: &[Vec<f64>], gold: &[&[u32]], tags: &[String]) -> Measured {
    let kinds = kinds(tags);
    let mut hits = vec![Hits::default(); kinds.len()];
    let (mut nats, mut right, mut words, mut sentences) = (0.0, 0u64, 0u64, 0u64);
    for (p, gold) in answers.iter().zip(gold) {
        let given: Vec<usize> = p.chunks_exact(tags.len()).map(decide).collect();
        for ((p, &gold), &given) in p.chunks_exact(tags.len()).zip(*gold).zip(&given) {
            nats -= p[gold as usize].max(f64::MIN_POSITIVE).ln();
            right += u64::from(given == gold as usize);
        }
        words += gold.len() as u64;
        let wanted = || gold.iter().map(|&tag| tags[tag as usize].as_str());
        let before = Hits::sum(&hits);
        count(&mut hits, &kinds, wanted(), given.iter().map(|&tag| tags[tag].as_str()));
        let after = Hits::sum(&hits);
        sentences += u64::from((before.wrong, before.missed) == (after.wrong, after.missed));
    }
    let sum = Hits::sum(&hits);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let scores = Scores::default()
        .with("f1", sum.f1().unwrap_or(0.0))
        .with("precision", sum.precision().unwrap_or(0.0))
        .with("recall", sum.recall().unwrap_or(0.0))
        .with("tag_accuracy", share(right, words))
        .with("exact_match", share(sentences, answers.len() as u64));
    Measured { loss: nats / words.max(1) as f64, count: words, scores, confusion: None, hits }
}

/// Reads a source with tags to its end; the kinds of its chunks, sorted. `known`: those that it may
/// have.
///
/// # Errors
/// Errors of reading; a sentence without tags; a kind that is not among `known`.
pub fn check_tags(source: &Source, known: Option<&[String]>) -> Result<Vec<String>> {
    let mut kinds = std::collections::BTreeSet::new();
    for document in source.documents()? {
        let document = document?;
        let Origin { file, line } = &document.origin;
        if document.labels().next().is_none() || !document.words {
            return Err(Error::line(&**file, *line, "has no tags").hint("--format conll reads words with their tags"));
        }
        for (at, tag) in document.labels().enumerate().filter(|(_, tag)| *tag != OUTSIDE) {
            let (_, kind) = parts(tag);
            if kinds.contains(kind) {
                continue;
            }
            if let Some(known) = known.filter(|known| !known.iter().any(|known| known == kind)) {
                let message = format!("has a chunk of the kind '{}', which the model does not know", shown_label(kind));
                return Err(Error::line(&**file, line + at as u64, message)
                    .hint(format!("the kinds are: {}", shown_labels(known))));
            }
            kinds.insert(kind.to_string());
        }
    }
    Ok(kinds.into_iter().collect())
}

/// The answer for one sentence.
#[derive(Clone, Debug, Default)]
pub struct Tagged {
    pub words: Vec<String>,
    /// In IOB2.
    pub tags: Vec<String>,
    pub chunks: Vec<Chunk>,
    /// The right tags, where they are known.
    pub known: Option<Vec<String>>,
}

/// A model that tags words.
pub struct Tagger {
    model: Loaded<Classifier>,
    graph: Graph,
    warning: Option<String>,
}

/// Sentences of a batch. Results do not depend on it.
const BATCH: usize = 64;

/// Sentences with their tags, the store of those that have words, and the probabilities of these.
type Asked = (Vec<Tagged>, Option<Arc<TokenStore>>, Vec<Vec<f64>>);

impl Tagger {
    /// On the device of the graph and in its precision.
    ///
    /// # Errors
    /// A model of another kind.
    pub fn new(model: Loaded<Classifier>, mut graph: Graph) -> Result<Self> {
        if !model.network.settings.answers.is_of_words() {
            return Err(Error::data("the model classifies texts, it does not tag words")
                .hint("predict and evaluate are for it; train-classifier --task tags makes a model that tags"));
        }
        let model = Loaded { parameters: model.parameters.to_device(graph.device())?, ..model };
        graph.promise_constant_parameters();
        Ok(Tagger { model, graph, warning: None })
    }

    /// Doubts about the texts that were answered last.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Kinds of the chunks that it knows.
    pub fn kinds(&self) -> Vec<String> {
        kinds(&self.model.config.labels)
    }

    /// Tags every word of every document, in their order. Text that is not cut into words yet is
    /// cut at white space. A document without words has none.
    ///
    /// # Errors
    /// Errors of reading; answers that are not finite.
    pub fn tag(&mut self, source: &Source) -> Result<Vec<Tagged>> {
        Ok(self.answer(source)?.0)
    }

    /// The scores and the answers on sentences with tags.
    ///
    /// # Errors
    /// As [`Tagger::tag`], and those of [`check_tags`].
    pub fn evaluate(&mut self, source: &Source) -> Result<(Measured, Vec<Tagged>)> {
        check_tags(source, Some(&self.kinds()))?;
        let (tagged, store, answers) = self.answer(source)?;
        let names = &self.model.config.labels;
        let Some(store) = store else { return Err(Error::file(source.name(), "holds no sentence with a word")) };
        let (gold, _) = Gold::of_store(&store, Answers::Tags { both: false }, Some(names))?;
        let all: Vec<u32> = (0..store.documents() as u32).collect();
        Ok((gold.measure(&all, &answers, &Decision::Likeliest, names.len()), tagged))
    }

    /// The sentences with their tags, the store of those that have words, and their probabilities.
    fn answer(&mut self, source: &Source) -> Result<Asked> {
        let (mut documents, mut tagged) = (Vec::new(), Vec::new());
        for document in source.documents()? {
            let document = document?;
            let document = match document.words {
                true => document,
                false => {
                    let words = document.text.split(is_space).filter(|word| !word.is_empty()).map(String::from);
                    let mut cut = Document::of_words(words.collect());
                    cut.origin = document.origin;
                    cut
                }
            };
            let words = if document.is_empty() { Vec::new() } else { document.fields().map(String::from).collect() };
            let known: Vec<String> = document.labels().map(String::from).collect();
            let known = (!known.is_empty()).then_some(known);
            tagged.push(Tagged { words, known, ..Tagged::default() });
            documents.push(document);
        }
        let texts = Source::of_texts(source.name(), documents);
        let words = &self.model.vocabulary;
        let tokenizer = Tokenizer::new(words.tokenizer().clone())?;
        let options = BuildOptions { labels: Labels::Collect, skip_empty: true, skip_unlabelled: false };
        let mut rows: Vec<Row> = Vec::new();
        let (store, report) = fill_store(
            std::slice::from_ref(&texts),
            &tokenizer,
            words,
            &options,
            Storage::Memory,
            &mut |row| rows.push(row),
            &mut |_| Ok(()),
        )?;
        self.warning = report.hardly_known(words.tokenizer()).map(|text| format!("{}: {text}", source.name()));
        let Some(store) = store.map(Arc::new) else { return Ok((tagged, None, Vec::new())) };
        let (network, direction) = (&self.model.network, self.model.config.direction);
        let (mut batches, mut documents) =
            evaluation_batches(store.clone(), None, None, BATCH, order(network), direction)?;
        let (graph, parameters) = (&mut self.graph, &self.model.parameters);
        let found = predict(network, graph, parameters, &mut batches, &mut documents, &Decision::Likeliest)?;
        if found.probabilities.iter().flatten().any(|p| !p.is_finite()) {
            return Err(not_numbers(parameters));
        }
        let names = &self.model.config.labels;
        let kept = tagged.iter_mut().zip(&rows).filter(|(_, row)| row.skipped.is_none());
        for ((sentence, _), p) in kept.zip(&found.probabilities) {
            let given = p.chunks_exact(names.len()).map(|p| names[decide(p)].as_str());
            sentence.chunks = chunks(given);
            sentence.tags = iob2(&sentence.chunks, sentence.words.len());
        }
        Ok((tagged, Some(store), found.probabilities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Site, Stream};

    fn sentence(tags: &str) -> Vec<&str> {
        tags.split(' ').collect()
    }

    /// Found, wrong and missed chunks of the kinds A and B.
    fn counted(wanted: &str, given: &str) -> [[u64; 3]; 2] {
        let mut hits = vec![Hits::default(); 2];
        count(&mut hits, &["A".into(), "B".into()], sentence(wanted), sentence(given));
        [0, 1].map(|k: usize| [hits[k].found, hits[k].wrong, hits[k].missed])
    }

    #[test]
    fn chunks_by_hand() {
        assert_eq!(counted("B-A I-A O B-B", "B-A I-A O B-B"), [[1, 0, 0], [1, 0, 0]]);
        assert_eq!(counted("B-A I-A O B-B", "B-A O O B-A"), [[0, 2, 1], [0, 0, 1]], "too short; another kind");
        assert_eq!(counted("B-A I-A", "B-A B-A"), [[0, 2, 1], [0, 0, 0]], "cut in two");
        assert_eq!(counted("B-A B-A", "B-A I-A"), [[0, 1, 2], [0, 0, 0]], "two in one");
        assert_eq!(counted("O B-A I-A O", "O I-A I-A O"), [[1, 0, 0], [0, 0, 0]], "I without B begins a chunk");
        assert_eq!(counted("B-A I-A I-A", "B-A I-B I-A"), [[0, 2, 1], [0, 1, 0]], "the kind changes within");
        assert_eq!(counted("B-A I-B", "B-A B-B"), [[1, 0, 0], [1, 0, 0]], "a change of kind begins a chunk");
        assert_eq!(counted("O O", "I-B O"), [[0, 0, 0], [0, 1, 0]]);
        let found = chunks(sentence("I-A I-A I-B O B-B B-B I-B"));
        assert_eq!(iob2(&found, 7).join(" "), "B-A I-A B-B O B-B B-B I-B");
    }

    #[test]
    fn measured_by_hand() {
        let tags = tags_of(["A".to_string()]);
        assert_eq!((tags.join(" "), kinds(&tags)), ("O B-A I-A".into(), vec!["A".to_string()]));
        // O B-A I-A, and O O
        let answers = [vec![0.8, 0.1, 0.1, 0.2, 0.6, 0.2, 0.5, 0.1, 0.4], vec![0.9, 0.05, 0.05, 0.7, 0.2, 0.1]];
        let gold: [&[u32]; 2] = [&[0, 1, 2], &[0, 0]];
        let found = measure(&answers, &gold, &tags);
        assert_eq!((found.count, found.hits[0]), (5, Hits { found: 0, wrong: 1, missed: 1 }));
        let score = |name| found.score(name).unwrap();
        assert_eq!((score("f1"), score("tag_accuracy"), score("exact_match")), (0.0, 0.8, 0.5));
        let nats = -[0.8f64, 0.6, 0.4, 0.9, 0.7].iter().map(|p| p.ln()).sum::<f64>() / 5.0;
        assert!((found.loss - nats).abs() < 1e-12);
    }

    /// The counts of `conlleval`, written as it is: a state that follows both columns from word to
    /// word. Right chunks, those given and those wanted, of all kinds.
    fn conlleval(wanted: &[&str], given: &[&str]) -> [u64; 3] {
        let end = |(l, lk): (&str, &str), (n, nk): (&str, &str)| {
            matches!((l, n), ("B", "B") | ("B", "O") | ("I", "B") | ("I", "O")) || (l != "O" && lk != nk)
        };
        let start = |(l, lk): (&str, &str), (n, nk): (&str, &str)| {
            matches!((l, n), ("B", "B") | ("I", "B") | ("O", "B") | ("O", "I")) || (n != "O" && lk != nk)
        };
        let (mut correct, mut found_guessed, mut found_correct, mut within) = (0, 0, 0, false);
        let (mut last_w, mut last_g) = (("O", ""), ("O", ""));
        for (w, g) in wanted.iter().chain(&["O"]).zip(given.iter().chain(&["O"])) {
            let (w, g) = (parts(w), parts(g));
            let (end_w, end_g) = (end(last_w, w), end(last_g, g));
            if within {
                if end_w && end_g && last_g.1 == last_w.1 {
                    within = false;
                    correct += 1;
                } else if end_w != end_g || g.1 != w.1 {
                    within = false;
                }
            }
            let (start_w, start_g) = (start(last_w, w), start(last_g, g));
            within |= start_w && start_g && g.1 == w.1;
            found_correct += u64::from(start_w);
            found_guessed += u64::from(start_g);
            (last_w, last_g) = (w, g);
        }
        [correct, found_guessed, found_correct]
    }

    #[test]
    fn the_counts_are_those_of_conlleval() {
        let tags = ["O", "B-A", "I-A", "B-B", "I-B"];
        let mut random = Stream::new(Key([1, 2]), Site::CUSTOM[0], 0, 0);
        for _ in 0..2000 {
            let n = 1 + random.below(9);
            let mut draw = || (0..n).map(|_| tags[random.below(5) as usize]).collect::<Vec<_>>();
            let (wanted, mut given) = (draw(), draw());
            // alike for the most part
            for (given, wanted) in given.iter_mut().zip(&wanted).step_by(2) {
                *given = wanted;
            }
            let mut hits = vec![Hits::default(); 2];
            count(&mut hits, &["A".into(), "B".into()], wanted.iter().copied(), given.iter().copied());
            let Hits { found, wrong, missed } = Hits::sum(&hits);
            assert_eq!([found, found + wrong, found + missed], conlleval(&wanted, &given), "{wanted:?} {given:?}");
        }
    }
}
