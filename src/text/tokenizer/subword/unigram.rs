//! A unigram model of pieces, trained as SentencePiece does (Kudo 2018, arXiv 1804.10959, §3.2):
//! many candidates, then rounds of expectation maximisation in each of which a quarter of them
//! goes, those whose loss costs the text least.
//!
//! The trainer of the `tokenizers` crate is not used, for two reasons. Its result depends on the
//! number of threads and on the order of hash tables. And its candidates are what two *different*
//! segments have in common: where segments are words, a frequent word that no other word begins
//! with can never be a piece.
//!
//! Sums are taken in a fixed order, logarithms and exponentials are those of the `libm` crate: the
//! same model on every machine.

use rayon::prelude::*;

/// Characters of a piece at most (SentencePiece's default).
pub(super) const LONGEST_PIECE: usize = 16;
/// Candidates at most (SentencePiece's default), and for each piece that is wanted.
const MOST_CANDIDATES: usize = 1_000_000;
const CANDIDATES_PER_PIECE: usize = 32;
/// A round of pruning leaves this share; the last one leaves a little more than is wanted (both
/// SentencePiece's).
const SHRINKING: f64 = 0.75;
const LAST_ROUND: f64 = 1.1;
/// Steps of expectation maximisation in a round.
const STEPS: usize = 2;
/// Pieces expected less often are dropped.
const LEAST_EXPECTED: f64 = 0.5;
/// The text is summed up in so many parts, whatever the number of threads.
const PARTS: usize = 16;

const NONE: u32 = u32::MAX;

/// A piece: where it stands in the text, its number of characters, and its log-probability.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u32,
    len: u8,
    score: f64,
}

/// The segments, one after the other.
struct Text {
    characters: Vec<char>,
    /// Where each segment ends, and how often it occurs.
    ends: Vec<(u32, u32)>,
}

impl Text {
    fn new(sentences: &[(String, u32)]) -> Self {
        let mut text = Text { characters: Vec::new(), ends: Vec::with_capacity(sentences.len()) };
        for (sentence, n) in sentences {
            text.characters.extend(sentence.chars());
            text.ends.push((text.characters.len() as u32, *n));
        }
        text
    }

    fn piece(&self, piece: &Piece) -> &[char] {
        &self.characters[piece.at as usize..][..usize::from(piece.len)]
    }

    /// Segments with their counts, in parts of about the same number.
    fn parts(&self) -> Vec<Vec<(&[char], u32)>> {
        let mut start = 0;
        let segments: Vec<(&[char], u32)> = self
            .ends
            .iter()
            .map(|&(end, n)| {
                let segment = &self.characters[start..end as usize];
                start = end as usize;
                (segment, n)
            })
            .collect();
        segments.chunks(segments.len().div_ceil(PARTS).max(1)).map(<[_]>::to_vec).collect()
    }
}

/// Trains on segments (sorted, each once, with its count): at most `size` pieces with their
/// log-probabilities, likely ones first. Every character of the text is one of them.
///
/// # Panics
/// When the text has more characters than `size`.
pub(super) fn train(sentences: &[(String, u32)], size: usize) -> Vec<(String, f64)> {
    let text = Text::new(sentences);
    let parts = text.parts();
    let mut pieces = candidates(&text, size);
    let enough = (size as f64 * LAST_ROUND) as usize;
    loop {
        for _ in 0..STEPS {
            let expected = expectations(&Trie::new(&text, &pieces), &pieces, &parts);
            maximise(&mut pieces, &expected);
        }
        if pieces.len() <= enough {
            break;
        }
        let left = enough.max((pieces.len() as f64 * SHRINKING) as usize);
        pieces = prune(&text, &pieces, &parts, left);
    }
    // characters first, then the likely ones, as many as there is room
    let order = |a: &Piece, b: &Piece| b.score.total_cmp(&a.score).then_with(|| text.piece(a).cmp(text.piece(b)));
    pieces.sort_by(|a, b| (a.len > 1).cmp(&(b.len > 1)).then_with(|| order(a, b)));
    let characters = pieces.partition_point(|piece| piece.len == 1);
    assert!(characters <= size, "{characters} characters do not fit into {size} pieces");
    pieces.truncate(size);
    pieces.sort_by(order);
    pieces.iter().map(|piece| (text.piece(piece).iter().collect(), piece.score)).collect()
}

/// Every character, and the substrings with the highest frequency × length that are followed by
/// different characters or ends.
fn candidates(text: &Text, size: usize) -> Vec<Piece> {
    // suffixes of segments, up to the longest piece, in their order
    let (mut suffixes, mut start) = (Vec::with_capacity(text.characters.len()), 0);
    for &(end, n) in &text.ends {
        suffixes.extend((start..end).map(|at| (at, (end - at).min(LONGEST_PIECE as u32) as u8, n)));
        start = end;
    }
    let characters = |&(at, len, _): &(u32, u8, u32)| &text.characters[at as usize..][..usize::from(len)];
    suffixes.par_sort_unstable_by(|a, b| characters(a).cmp(characters(b)).then(a.0.cmp(&b.0)));
    let shared = |a: &(u32, u8, u32), b: &(u32, u8, u32)| {
        characters(a).iter().zip(characters(b)).take_while(|(a, b)| a == b).count()
    };
    let mut found: Vec<(u64, u32, u8)> = Vec::new();
    // for every length of prefix, where in the order the present one begins, and how much was seen
    // before
    let mut open: Vec<(usize, u64)> = Vec::new();
    let mut seen = 0;
    for i in 0..=suffixes.len() {
        let common = if i == 0 || i == suffixes.len() { 0 } else { shared(&suffixes[i - 1], &suffixes[i]) };
        // the one longer by a character, if it ends here as well
        let mut longer = None;
        while open.len() > common {
            let len = open.len();
            let (first, before) = open.pop().expect("it is longer than the common prefix");
            let n = seen - before;
            // always followed by the same character: the longer one takes its place
            let always_longer = longer == Some(first);
            if len == 1 || n >= 2 && !always_longer {
                found.push((n, suffixes[first].0, len as u8));
            }
            longer = Some(first);
        }
        if let Some(suffix) = suffixes.get(i) {
            open.extend((open.len()..usize::from(suffix.1)).map(|_| (i, seen)));
            seen += u64::from(suffix.2);
        }
    }
    let weight = |&(n, _, len): &(u64, u32, u8)| n * u64::from(len);
    let content = |&(_, at, len): &(u64, u32, u8)| &text.characters[at as usize..][..usize::from(len)];
    found.sort_by(|a, b| {
        (a.2 > 1).cmp(&(b.2 > 1)).then(weight(b).cmp(&weight(a))).then_with(|| content(a).cmp(content(b)))
    });
    found.truncate((size.saturating_mul(CANDIDATES_PER_PIECE)).min(MOST_CANDIDATES));
    let all: u64 = found.iter().map(weight).sum();
    let logarithm = |n: u64| libm::log(n as f64);
    let piece = |c: &(u64, u32, u8)| Piece { at: c.1, len: c.2, score: logarithm(weight(c).max(1)) - logarithm(all) };
    found.iter().map(piece).collect()
}

/// Pieces by their characters.
struct Trie {
    /// Children of each node, sorted by character, and where those of a node begin.
    children: Vec<(char, u32)>,
    begins: Vec<u32>,
    /// The piece that ends at a node.
    pieces: Vec<u32>,
}

impl Trie {
    fn new(text: &Text, pieces: &[Piece]) -> Self {
        let mut sorted: Vec<u32> = (0..pieces.len() as u32).collect();
        let characters = |i: u32| text.piece(&pieces[i as usize]);
        sorted.par_sort_unstable_by(|&a, &b| characters(a).cmp(characters(b)));
        let mut trie = Trie { children: Vec::new(), begins: vec![], pieces: vec![NONE] };
        // nodes in the order of their numbers: the range of pieces below each, and its depth
        let mut below = vec![(0, sorted.len(), 0)];
        let mut node = 0;
        while node < below.len() {
            let (mut low, high, depth) = below[node];
            trie.begins.push(trie.children.len() as u32);
            if low < high && characters(sorted[low]).len() == depth {
                trie.pieces[node] = sorted[low];
                low += 1;
            }
            while low < high {
                let c = characters(sorted[low])[depth];
                let end = low + sorted[low..high].partition_point(|&i| characters(i)[depth] == c);
                trie.children.push((c, below.len() as u32));
                below.push((low, end, depth + 1));
                trie.pieces.push(NONE);
                low = end;
            }
            node += 1;
        }
        trie.begins.push(trie.children.len() as u32);
        trie
    }

    /// Hands the pieces that `text` begins with to `each`, short ones first, each with its length.
    fn prefixes(&self, text: &[char], mut each: impl FnMut(usize, u32)) {
        let mut node = 0;
        for (i, c) in text.iter().take(LONGEST_PIECE).enumerate() {
            let children = &self.children[self.begins[node] as usize..self.begins[node + 1] as usize];
            let Ok(child) = children.binary_search_by_key(c, |&(c, _)| c) else { return };
            node = children[child].1 as usize;
            if self.pieces[node] != NONE {
                each(i + 1, self.pieces[node]);
            }
        }
    }
}

/// log(eᵃ + eᵇ)
fn add_logs(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    // a number that is smaller by more than the digits of a double changes nothing
    if low < high - 40.0 { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// How often each piece is expected in the text under the present model.
fn expectations(trie: &Trie, pieces: &[Piece], parts: &[Vec<(&[char], u32)>]) -> Vec<f64> {
    let of_part = |part: &Vec<(&[char], u32)>| {
        let mut expected = vec![0.0; pieces.len()];
        // log-probability of the segment up to each place, and from there on
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut edges: Vec<(usize, usize, u32)> = Vec::new();
        for &(segment, n) in part {
            edges.clear();
            (0..segment.len()).for_each(|from| {
                trie.prefixes(&segment[from..], |len, piece| edges.push((from, from + len, piece)));
            });
            for sums in [&mut before, &mut after] {
                sums.clear();
                sums.resize(segment.len() + 1, f64::NEG_INFINITY);
            }
            (before[0], after[segment.len()]) = (0.0, 0.0);
            // edges come sorted by their beginning, and all that end at a place begin before it
            for &(from, to, piece) in &edges {
                before[to] = add_logs(before[to], before[from] + pieces[piece as usize].score);
            }
            for &(from, to, piece) in edges.iter().rev() {
                after[from] = add_logs(after[from], after[to] + pieces[piece as usize].score);
            }
            let all = after[0];
            for &(from, to, piece) in &edges {
                let score = before[from] + pieces[piece as usize].score + after[to];
                expected[piece as usize] += f64::from(n) * libm::exp(score - all);
            }
        }
        expected
    };
    let sums: Vec<Vec<f64>> = parts.par_iter().map(of_part).collect();
    let mut total = vec![0.0; pieces.len()];
    sums.iter().for_each(|sum| total.iter_mut().zip(sum).for_each(|(total, n)| *total += n));
    total
}

/// New log-probabilities from expectations, with the sparse prior of the Bayesian variant (as
/// SentencePiece): log p = ψ(n) − ψ(Σn). Characters stay.
fn maximise(pieces: &mut Vec<Piece>, expected: &[f64]) {
    let mut counts: Vec<f64> = Vec::with_capacity(pieces.len());
    let mut expected = expected.iter();
    pieces.retain(|piece| {
        let n = expected.next().copied().unwrap_or(0.0);
        let stays = n >= LEAST_EXPECTED || piece.len == 1;
        if stays {
            counts.push(n.max(LEAST_EXPECTED));
        }
        stays
    });
    let all = digamma(counts.iter().sum());
    pieces.iter_mut().zip(counts).for_each(|(piece, n)| piece.score = digamma(n) - all);
}

/// ψ(x) for x > 0, by recurrence up to 7 and the asymptotic series.
fn digamma(x: f64) -> f64 {
    let (mut x, mut result) = (x, 0.0);
    while x < 7.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    result + libm::log(x) - 0.5 / x - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0))
}

/// The likeliest way to cut a text; `barred` is a piece not to be used. Hands the pieces to `each`,
/// last ones first.
fn best(
    trie: &Trie,
    pieces: &[Piece],
    text: &[char],
    barred: u32,
    paths: &mut Vec<(f64, u32)>,
    mut each: impl FnMut(u32),
) {
    paths.clear();
    paths.resize(text.len() + 1, (f64::NEG_INFINITY, NONE));
    paths[0].0 = 0.0;
    for from in 0..text.len() {
        let before = paths[from].0;
        trie.prefixes(&text[from..], |len, piece| {
            let score = before + pieces[piece as usize].score;
            if piece != barred && score > paths[from + len].0 {
                paths[from + len] = (score, piece);
            }
        });
    }
    let mut end = text.len();
    while end > 0 && paths[end].1 != NONE {
        each(paths[end].1);
        end -= usize::from(pieces[paths[end].1 as usize].len);
    }
}

/// Leaves `left` pieces: characters, and those without which the likelihood of the text would fall
/// most.
fn prune(text: &Text, pieces: &[Piece], parts: &[Vec<(&[char], u32)>], left: usize) -> Vec<Piece> {
    let trie = Trie::new(text, pieces);
    let of_part = |part: &Vec<(&[char], u32)>| {
        let (mut counts, mut paths) = (vec![0u64; pieces.len()], Vec::new());
        for &(segment, n) in part {
            best(&trie, pieces, segment, NONE, &mut paths, |piece| counts[piece as usize] += u64::from(n));
        }
        counts
    };
    let sums: Vec<Vec<u64>> = parts.par_iter().map(of_part).collect();
    let mut counts = vec![0u64; pieces.len()];
    sums.iter().for_each(|sum| counts.iter_mut().zip(sum).for_each(|(total, n)| *total += n));
    let all = counts.iter().sum::<u64>() as f64;
    let loss = |i: u32| -> Option<f64> {
        let (piece, n) = (&pieces[i as usize], counts[i as usize]);
        if piece.len == 1 {
            return Some(f64::INFINITY);
        }
        if n == 0 {
            return None;
        }
        let (mut instead, mut score) = (Vec::new(), 0.0);
        best(&trie, pieces, text.piece(piece), i, &mut Vec::new(), |other| {
            instead.push(other);
            score += pieces[other as usize].score;
        });
        // where others cut it better, nothing is lost
        if score > piece.score {
            return None;
        }
        // its occurrences would become those of the others
        let n = n as f64;
        let log_all = libm::log(all + n * (instead.len() as f64 - 1.0));
        let log = |&other: &u32| libm::log(counts[other as usize] as f64 + n) - log_all;
        Some(n * (libm::log(n) - libm::log(all) - instead.iter().map(log).sum::<f64>()))
    };
    let mut ranked: Vec<(f64, u32)> =
        (0..pieces.len() as u32).into_par_iter().filter_map(|i| Some((loss(i)?, i))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(left);
    ranked.into_iter().map(|(_, i)| pieces[i as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(words: &[(&str, u32)]) -> Vec<(String, u32)> {
        let mut all: Vec<(String, u32)> = words.iter().map(|(w, n)| (w.to_string(), *n)).collect();
        all.sort();
        all
    }

    /// Every substring that is not always followed by the same character, with its count, by trying
    /// all.
    fn all_candidates(sentences: &[(String, u32)]) -> Vec<(String, u64)> {
        let mut found = std::collections::BTreeMap::<String, (u64, std::collections::BTreeSet<Option<char>>)>::new();
        for (sentence, n) in sentences {
            let characters: Vec<char> = sentence.chars().collect();
            for from in 0..characters.len() {
                for to in from + 1..=characters.len().min(from + LONGEST_PIECE) {
                    let entry = found.entry(characters[from..to].iter().collect()).or_default();
                    entry.0 += u64::from(*n);
                    entry.1.insert(characters.get(to).copied().filter(|_| to - from < LONGEST_PIECE));
                }
            }
        }
        let keep = |(s, (n, next)): &(String, (u64, std::collections::BTreeSet<Option<char>>))| {
            s.chars().count() == 1 || *n >= 2 && (next.len() > 1 || next.contains(&None))
        };
        found.into_iter().filter(keep).map(|(s, (n, _))| (s, n)).collect()
    }

    #[test]
    fn candidates_are_those_that_trying_all_finds() {
        for words in [
            vec![("▁united", 3), ("▁unit", 2), ("▁untied", 1), ("banana", 2), ("ananas", 1), ("a", 7)],
            vec![("東京都", 1), ("京都", 1), ("京", 1), ("aaaaaaaaaaaaaaaaaaaaaaaaa", 1), ("aaaaaaaaaaaaaaaab", 1)],
            vec![("ab", 1), ("abc", 1), ("abcd", 1)],
        ] {
            let sentences = sorted(&words);
            let text = Text::new(&sentences);
            let mut found: Vec<(String, f64)> =
                candidates(&text, 1000).iter().map(|piece| (text.piece(piece).iter().collect(), piece.score)).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let expected = all_candidates(&sentences);
            let weight = |(s, n): &(String, u64)| (s.chars().count() as u64 * n) as f64;
            let all: f64 = expected.iter().map(weight).sum();
            assert_eq!(
                found.iter().map(|f| &f.0).collect::<Vec<_>>(),
                expected.iter().map(|e| &e.0).collect::<Vec<_>>()
            );
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found.1 - (weight(expected) / all).ln()).abs() < 1e-12, "{found:?} {expected:?}");
            }
        }
    }

    /// "ab" as a·b or ab: by hand, p(a)=.2, p(b)=.3, p(ab)=.5.
    #[test]
    fn expectations_by_hand() {
        let sentences = sorted(&[("ab", 3), ("b", 2)]);
        let text = Text::new(&sentences);
        let piece = |at, len, p: f64| Piece { at, len, score: p.ln() };
        let pieces = [piece(0, 1, 0.2), piece(1, 1, 0.3), piece(0, 2, 0.5)];
        let expected = expectations(&Trie::new(&text, &pieces), &pieces, &text.parts());
        let apart = 0.06 / 0.56;
        for (found, by_hand) in expected.iter().zip([3.0 * apart, 3.0 * apart + 2.0, 3.0 * (1.0 - apart)]) {
            assert!((found - by_hand).abs() < 1e-12, "{found} {by_hand}");
        }
    }

    /// ψ(1) = −γ, ψ(1/2) = −γ − 2 log 2, ψ(x+1) = ψ(x) + 1/x.
    #[test]
    fn digamma_at_known_places() {
        let gamma = 0.577_215_664_901_532_9;
        assert!((digamma(1.0) + gamma).abs() < 1e-9);
        assert!((digamma(0.5) + gamma + 2.0 * 2f64.ln()).abs() < 1e-9);
        assert!((digamma(33.5) - digamma(32.5) - 1.0 / 32.5).abs() < 1e-9);
    }

    #[test]
    fn a_frequent_word_becomes_a_piece() {
        // no other word begins with ▁united
        let sentences =
            sorted(&[("▁united", 50), ("▁the", 90), ("▁there", 20), ("▁dream", 5), ("▁stream", 4), ("▁u", 1)]);
        let pieces = train(&sentences, 26);
        let texts: Vec<&str> = pieces.iter().map(|p| p.0.as_str()).collect();
        assert!(texts.contains(&"▁united") && texts.contains(&"▁the"), "{texts:?}");
        assert!("▁unitedhrmsa".chars().all(|c| texts.contains(&c.to_string().as_str())), "{texts:?}");
        assert!(pieces.is_sorted_by(|a, b| a.1 >= b.1) && pieces.len() <= 26);
    }
}
