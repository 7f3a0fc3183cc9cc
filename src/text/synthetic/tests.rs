//! What the generated corpus promises: agreement, labels that only word and frame together tell,
//! Zipf's law, disjoint sets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::grammar::{
    ACHIEVEMENTS, ATTITUDES, CONSEQUENCES, DEGREES, DETERMINERS, EXCLAMATIONS, PREPOSITIONS, VERDICTS, WITNESSES,
};
use super::lexicon::Number;
use super::*;

fn sizes(train: usize, test: usize) -> SyntheticSizes {
    SyntheticSizes { train, test, ..SyntheticSizes::default() }
}

fn small() -> Synthetic {
    Synthetic::new(1, sizes(100, 1_000))
}

/// What the tests need to know of a lexicon to read a text.
struct Reader {
    nouns: HashMap<String, Number>,
    verbs: HashMap<String, Number>,
    names: HashSet<String>,
    polarity: HashMap<String, usize>,
}

impl Reader {
    fn new(lexicon: &Lexicon) -> Self {
        let forms = |pick: fn(&lexicon::Domain) -> &Vec<[String; 2]>| {
            let mut map = HashMap::new();
            for [singular, plural] in lexicon.domains.iter().flat_map(pick) {
                map.insert(singular.clone(), Number::Singular);
                map.insert(plural.clone(), Number::Plural);
            }
            map
        };
        let polarity = |p: usize| lexicon.evaluative[p].list.iter().map(move |word| (word.clone(), p));
        Reader {
            nouns: forms(|domain| &domain.nouns.list),
            verbs: forms(|domain| &domain.verbs.list),
            names: lexicon.names.list.iter().cloned().collect(),
            polarity: polarity(0).chain(polarity(1)).collect(),
        }
    }

    /// Reads one sentence with a stack of open subjects; an error names the word that does not
    /// agree.
    fn check_agreement(&self, sentence: &str) -> Result<(), String> {
        let words: Vec<&str> = sentence.split(' ').collect();
        let before = |i: usize| if i == 0 { "" } else { words[i - 1] };
        let mut open: Vec<Number> = Vec::new();
        // what "it", "they" or "them" stands for
        let mut antecedent = None;
        for (i, &word) in words.iter().enumerate() {
            let mut close = |agrees: Option<Number>| match (open.pop(), agrees) {
                (None, _) => Err(format!("'{word}' ({i}) has no subject: {sentence}")),
                (Some(subject), Some(verb)) if subject != verb => Err(format!("'{word}' ({i}): {sentence}")),
                (subject, _) => Ok(subject),
            };
            if DETERMINERS.iter().any(|d| d.contains(&word)) {
                let noun = words[i + 1..].iter().find_map(|w| self.nouns.get(*w)).copied();
                let number = noun.ok_or_else(|| format!("'{word}' ({i}) without a noun: {sentence}"))?;
                if !DETERMINERS[number as usize].contains(&word) {
                    return Err(format!("'{word}' ({i}): {sentence}"));
                }
                let object = PREPOSITIONS.contains(&before(i)) || self.verbs.contains_key(before(i));
                if before(i) == "saw" {
                    antecedent = Some(number);
                } else if !object {
                    open.push(number);
                }
            } else if self.names.contains(word) && words.get(i + 1).is_some_and(|next| self.verbs.contains_key(*next)) {
                open.push(Number::Singular);
            } else if let Some(&number) = self.verbs.get(word) {
                if before(i) == "not" {
                    if number != Number::Plural {
                        return Err(format!("'{word}' ({i}) is no base form: {sentence}"));
                    }
                } else {
                    close(Some(number))?;
                }
            } else if matches!(word, "was" | "does") || word == "is" && before(i) != "it" {
                close(Some(Number::Singular))?;
            } else if matches!(word, "were" | "are" | "do") {
                close(Some(Number::Plural))?;
            } else if word == "seemed" {
                antecedent = close(None)?;
            } else if matches!(word, "managed" | "failed" | "turned" | "ceased") {
                close(None)?;
            } else if word == "proved" || before(i) == "called" {
                let pronoun = if word == "proved" { before(i) } else { word };
                let number = if pronoun == "it" { Number::Singular } else { Number::Plural };
                if antecedent != Some(number) {
                    return Err(format!("'{pronoun}' before {i}: {sentence}"));
                }
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("a subject has no verb: {sentence}")) }
    }

    /// The moods that the evaluations and the closing of a target document amount to.
    fn moods(&self, text: &str) -> Vec<usize> {
        let mut moods = Vec::new();
        for sentence in text.split(" . ") {
            let words: Vec<&str> = sentence.split(' ').collect();
            if sentence.starts_with("all in all") {
                moods.extend((0..2).filter(|&m| VERDICTS.iter().any(|pair| pair[m] == words[4])));
                continue;
            }
            for (k, clause) in sentence.split(" , ").enumerate() {
                let padded = format!(" {clause} ");
                let frames = DEGREES.iter().chain(&ATTITUDES).chain(&WITNESSES).chain(&ACHIEVEMENTS);
                let inverted = frames.filter(|pair| padded.contains(&format!(" {} ", pair[1]))).count();
                // the first half of a contrast says the opposite
                let opposite = usize::from(k == 0 && clause.starts_with("though"));
                let polarity = clause.split(' ').filter_map(|word| self.polarity.get(word));
                moods.extend(polarity.map(|p| p ^ inverted ^ opposite));
            }
        }
        moods
    }
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.trim_end_matches(" .").split(" . ")
}

#[test]
fn verbs_and_pronouns_agree() {
    let corpus = small();
    let reader = Reader::new(&corpus.lexicon);
    let mut checked = 0;
    for text in corpus.general_documents().take(1_000).chain(corpus.unlabelled().take(1_000)) {
        for sentence in sentences(&text) {
            reader.check_agreement(sentence).unwrap();
            checked += 1;
        }
    }
    assert!(checked > 8_000, "{checked} sentences");
}

/// The checker itself: a changed verb is noticed wherever it stands.
#[test]
fn broken_agreement_is_noticed() {
    let corpus = small();
    let reader = Reader::new(&corpus.lexicon);
    let (mut broken, mut noticed) = (0, 0);
    for text in corpus.general_documents().take(200) {
        for sentence in sentences(&text) {
            for swap in [("was", "were"), ("are", "is"), ("does", "do"), ("it", "they"), ("them", "it")] {
                let words: Vec<&str> = sentence.split(' ').collect();
                let Some(place) = words.iter().skip(4).position(|w| *w == swap.0) else { continue };
                let mut words = words;
                words[place + 4] = swap.1;
                broken += 1;
                noticed += usize::from(reader.check_agreement(&words.join(" ")).is_err());
            }
        }
    }
    assert!(broken > 200 && noticed == broken, "{noticed} of {broken} noticed");
}

#[test]
fn word_and_frame_together_tell_the_label() {
    let corpus = small();
    let reader = Reader::new(&corpus.lexicon);
    for (label, text) in corpus.train().into_iter().chain(corpus.test()) {
        let moods = reader.moods(&text);
        assert!(moods.len() >= 2, "{text}");
        assert!(moods.iter().all(|&mood| LABELS[mood] == label), "{label} {moods:?}: {text}");
    }
}

/// Mutual information in nats of the label with the presence of each word (or, `n = 3`, of each
/// three words in a row), times 2·documents: the G statistic, χ² of one degree of freedom if they
/// are independent.
fn g_statistics(documents: &[Labelled], n: usize) -> Vec<(f64, String)> {
    let mut counts: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    let mut totals = [0.0; 2];
    for (label, text) in documents {
        let mood = usize::from(label == LABELS[1]);
        totals[mood] += 1.0;
        let words: Vec<&str> = text.split(' ').collect();
        for gram in words.windows(n).map(|gram| gram.join(" ")).collect::<BTreeSet<_>>() {
            counts.entry(gram).or_default()[mood] += 1.0;
        }
    }
    let all = totals[0] + totals[1];
    let mut result: Vec<(f64, String)> = counts
        .into_iter()
        .map(|(word, present)| {
            let mut g = 0.0;
            for mood in 0..2 {
                for (cell, margin) in [
                    (present[mood], present[0] + present[1]),
                    (totals[mood] - present[mood], all - present[0] - present[1]),
                ] {
                    if cell > 0.0 {
                        g += 2.0 * cell * (cell * all / (margin * totals[mood])).ln();
                    }
                }
            }
            (g, word)
        })
        .collect();
    result.sort_by(|a, b| b.0.total_cmp(&a.0));
    result
}

#[test]
fn no_single_word_tells_the_label() {
    let corpus = Synthetic::new(3, sizes(20_000, 0));
    let documents = corpus.train();
    let words = g_statistics(&documents, 1);
    assert!(words.len() > 1_000, "{} words", words.len());
    // P(χ²(1) > 25) = 6e-7: among some 1,100 words, less than once in a thousand corpora
    assert!(words[0].0 < 25.0, "{:?}", words[0]);
    let mean = words.iter().map(|w| w.0).sum::<f64>() / words.len() as f64;
    assert!((0.8..1.2).contains(&mean), "the mean of χ²(1) is 1, found {mean}");
    // all evaluative words together: as many as not are of the label's polarity, within four
    // standard deviations
    let reader = Reader::new(&corpus.lexicon);
    let (mut agree, mut all) = (0.0, 0.0);
    for (label, text) in &documents {
        for polarity in text.split(' ').filter_map(|word| reader.polarity.get(word)) {
            agree += f64::from(LABELS[*polarity] == label);
            all += 1.0;
        }
    }
    // words that are joined share their frame's coin, so the variance is a little more than that of
    // single coins
    let deviation = (agree - all / 2.0) / f64::sqrt(all * 1.2 / 4.0);
    assert!(all > 50_000.0 && deviation.abs() < 4.0, "{agree} of {all}");
    // the G statistic does see what word order tells
    let phrases = g_statistics(&documents[..2_000], 3);
    assert!(phrases[0].0 > 100.0, "{:?}", phrases[0]);
}

#[test]
fn target_text_never_tells_what_people_did() {
    let corpus = small();
    let told = |word: &str| CONSEQUENCES.iter().flatten().chain(EXCLAMATIONS.iter().flatten()).any(|w| *w == word);
    assert!(corpus.general_documents().take(10).all(|text| text.split(' ').any(told)));
    for (_, text) in corpus.test() {
        assert!(text.split(' ').all(|word| !told(word)), "{text}");
    }
}

#[test]
fn vocabulary_is_zipfian_and_large() {
    let corpus = small();
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut tokens = 0;
    for text in corpus.general_documents() {
        for word in text.split(' ') {
            *counts.entry(word.to_string()).or_default() += 1;
            tokens += 1;
        }
    }
    assert!((500_000..500_300).contains(&tokens), "{tokens} tokens");
    let mut frequency: Vec<u64> = counts.values().copied().collect();
    frequency.sort_unstable_by(|a, b| b.cmp(a));
    // least squares of log frequency on log rank over ranks 10..2,000
    let points: Vec<(f64, f64)> =
        (10..2_000).map(|rank| ((rank as f64).ln(), (frequency[rank - 1] as f64).ln())).collect();
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let slope = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>()
        / points.iter().map(|p| (p.0 - mx).powi(2)).sum::<f64>();
    assert!((-1.4..-0.8).contains(&slope), "slope {slope}");
    for text in corpus.unlabelled() {
        for word in text.split(' ') {
            *counts.entry(word.to_string()).or_default() += 1;
        }
    }
    assert!(counts.len() >= 3_000, "{} words", counts.len());
}

#[test]
fn most_evaluative_words_of_the_test_set_are_not_in_the_training_set() {
    let corpus = small();
    let reader = Reader::new(&corpus.lexicon);
    let used = |documents: Vec<Labelled>| -> BTreeSet<String> {
        let words = documents.iter().flat_map(|(_, text)| text.split(' '));
        words.filter(|word| reader.polarity.contains_key(*word)).map(str::to_string).collect()
    };
    let (train, test) = (used(corpus.train()), used(corpus.test()));
    let unseen = test.difference(&train).count();
    assert!(test.len() > 350 && unseen * 2 > test.len(), "{unseen} of {} unseen", test.len());
    let general: HashSet<String> =
        corpus.general_documents().flat_map(|text| text.split(' ').map(str::to_string).collect::<Vec<_>>()).collect();
    let only_in_target = test.iter().filter(|word| !general.contains(*word)).count();
    assert!((20..100).contains(&only_in_target), "{only_in_target}");
}

#[test]
fn sets_are_balanced_disjoint_and_of_the_stated_sizes() {
    let corpus = small();
    let sets = [corpus.train(), corpus.valid(), corpus.test()];
    assert_eq!(sets.each_ref().map(Vec::len), [100, 200, 1_000]);
    for set in &sets {
        let positive = set.iter().filter(|(label, _)| label == LABELS[1]).count();
        assert_eq!(positive * 2, set.len());
        assert!((0..set.len() - 1).any(|k| set[k].0 == set[k + 1].0), "labels alternate");
        assert!(set.iter().all(|(_, text)| (12..=110).contains(&text.split(' ').count())));
    }
    let mut texts: Vec<String> = sets.into_iter().flatten().map(|(_, text)| text).collect();
    texts.extend(corpus.unlabelled());
    let labelled = 1_300;
    assert_eq!(texts.len(), labelled + 4_000);
    let distinct: HashSet<&String> = texts[..labelled].iter().collect();
    assert_eq!(distinct.len(), labelled);
    assert!(texts[labelled..].iter().all(|text| !distinct.contains(text)));
}

#[test]
fn texts_are_a_function_of_the_seed() {
    let first = |seed| {
        let corpus = Synthetic::new(seed, sizes(4, 4));
        let one = |mut texts: Box<dyn Iterator<Item = String> + '_>| texts.next().unwrap();
        let general = one(Box::new(corpus.general_documents()));
        let valid = one(Box::new(corpus.general_valid()));
        let unlabelled = one(Box::new(corpus.unlabelled()));
        [general, valid, unlabelled, corpus.train()[0].1.clone(), corpus.test()[0].1.clone()]
    };
    let (a, b) = (first(1), first(2));
    assert_eq!(a, first(1));
    assert!((0..5).all(|k| a[k] != b[k]) && a.iter().collect::<HashSet<_>>().len() == 5);
    // asking for more leaves what was there
    let larger = Synthetic::new(1, SyntheticSizes { general_tokens: 2_000, unlabelled: 9, ..sizes(4, 400) });
    assert_eq!(larger.general_documents().next().as_ref(), Some(&a[0]));
}

#[test]
fn words_survive_any_tokenizer() {
    let corpus = small();
    for text in corpus.general_documents().take(300) {
        assert!(text.split(' ').all(|w| w == "." || w == "," || w.bytes().all(|b| b.is_ascii_lowercase())), "{text}");
        assert!(!text.split(' ').any(|w| w.contains('x') || w.is_empty()), "{text}");
    }
}

#[test]
fn nothing_is_a_size_too() {
    let sizes =
        SyntheticSizes { general_tokens: 0, general_valid_tokens: 0, unlabelled: 0, train: 0, valid: 0, test: 0 };
    let corpus = Synthetic::new(1, sizes);
    assert_eq!(corpus.general_documents().count() + corpus.unlabelled().count() + corpus.train().len(), 0);
}
