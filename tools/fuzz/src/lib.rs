//! Fuzzing on stable Rust. Inputs are made from a seed alone: seeds of the target, a stored corpus,
//! and whatever gave an outcome (error message without its numbers, format, order of magnitude of
//! documents) that was not seen before, mutated. There is no coverage feedback; outcomes stand in
//! for it.

mod own;
pub mod targets;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use targets::{Outcome, Target};

/// An execution that takes longer is a find.
const SLOW: Duration = Duration::from_secs(5);
/// Longest input, where the first ones are not longer; now and then one of `LONG` bytes.
const SHORT: usize = 2048;
const LONG: usize = 200_000;

/// Pieces that formats are sensitive to.
const DICTIONARY: &[&[u8]] = &[
    b"\"",
    b"\"\"",
    b",",
    b"\t",
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"{",
    b"}",
    b"[",
    b"\\ud800",
    b"\\udc00",
    b"\\u0000",
    b"\"text\":",
    b"\"label\":",
    b"text",
    b"label",
    b" = ",
    b" = = ",
    b"<doc ",
    b"</doc>\n",
    b"ABBR:exp ",
    b"1 ",
    b"0 ",
    b"-1",
    b"&lt;",
    b"&#x110000;",
    b"&#",
    b"<br />",
    b"<unk>",
    b"xxbos",
    b"xxmaj",
    b"aaaaaaaa",
    b"A A A A ",
    b"a b a b a b a b ",
    b"...",
    b"n't",
    b"'s",
    b"http://x.y/z?a=b",
    b"a@b.c",
    b":-)",
    b"U.S.",
    b"1,000.5",
    "é".as_bytes(),
    "İ".as_bytes(),
    "ß".as_bytes(),
    "\u{200f}\u{202e}".as_bytes(),
    "\u{1f600}\u{200d}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{85}".as_bytes(),
    "e\u{301}".as_bytes(),
    "日本".as_bytes(),
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xf4\x90",
    b"../",
    b"/",
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"ustar",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\xff\xff\xff\xff",
];

/// SplitMix64.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// One to eight changes of `input`, which seldom gets longer than `short`.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], short: usize, numbers: &mut Numbers) {
    for _ in 0..1 + numbers.below(8) {
        let n = input.len();
        let at = numbers.below(n + 1);
        let span = at..(at + 1 + numbers.below(16)).min(n).max(at);
        match numbers.below(9) {
            0 if at < n => input[at] ^= 1 << numbers.below(8),
            1 if at < n => input[at] = numbers.next() as u8,
            2 => drop(input.drain(span)),
            3 | 4 => {
                let piece = DICTIONARY[numbers.below(DICTIONARY.len())];
                drop(input.splice(at..at, piece.iter().copied()));
            }
            5 => {
                let copy = input[span].to_vec();
                drop(input.splice(at..at, copy));
            }
            6 if !other.is_empty() => {
                let from = numbers.below(other.len());
                let piece = &other[from..(from + 1 + numbers.below(64)).min(other.len())];
                drop(input.splice(at..at, piece.iter().copied()));
            }
            7 if numbers.below(8) == 0 => input.truncate(at),
            8 if numbers.below(2000) == 0 && at < n => {
                let piece = input[span].to_vec();
                let times = numbers.below(LONG) / piece.len().max(1);
                drop(input.splice(at..at, piece.repeat(times)));
                return;
            }
            _ => {}
        }
    }
    input.truncate(LONG);
    if input.len() > short && numbers.below(4) != 0 {
        input.truncate(short);
    }
}

/// Runs one input; a panic, a broken promise or a slow run comes back as an error.
pub fn execute(target: &Target, input: &[u8]) -> Outcome {
    timed(target, input).0
}

/// The outcome and the time it took. What seems slow is run again and the shorter time counts: the
/// machine may have been held up, or this process stopped.
fn timed(target: &Target, input: &[u8]) -> (Outcome, Duration) {
    let once = || {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("panic: {}", text.unwrap_or_default()))
        });
        (outcome, begun.elapsed())
    };
    let (outcome, mut took) = once();
    if outcome.is_ok() && took > SLOW / 10 {
        took = took.min(once().1);
    }
    let slow = outcome.is_ok() && took > SLOW;
    (if slow { Err(format!("took {took:?} for {} bytes", input.len())) } else { outcome }, took)
}

/// The finds of a campaign.
pub struct Summary {
    pub executions: u64,
    pub outcomes: usize,
    pub slowest: Duration,
    pub finds: Vec<(String, Vec<u8>)>,
    /// The first input of every outcome, in the order they were found.
    pub firsts: Vec<Vec<u8>>,
}

/// `executions` mutated inputs after the seeds and the stored ones. Stops at ten finds.
pub fn campaign(target: &Target, stored: Vec<Vec<u8>>, seed: u64, executions: u64) -> Summary {
    let mut numbers = Numbers(seed);
    let mut pool: Vec<Vec<u8>> = (target.seeds)().into_iter().chain(stored).collect();
    let mut seen = BTreeSet::new();
    let mut summary =
        Summary { executions: 0, outcomes: 0, slowest: Duration::ZERO, finds: Vec::new(), firsts: Vec::new() };
    let begin = pool.len() as u64;
    // files that are long by nature stay whole
    let short = pool.iter().map(Vec::len).max().map_or(SHORT, |longest| (2 * longest).clamp(SHORT, 8 * SHORT));
    while summary.executions < begin + executions && summary.finds.len() < 10 {
        let input = match pool.get(summary.executions as usize) {
            Some(first) if summary.executions < begin => first.clone(),
            _ => {
                let mut input = pool[numbers.below(pool.len())].clone();
                let other = &pool[numbers.below(pool.len())];
                mutate(&mut input, other, short, &mut numbers);
                input
            }
        };
        summary.executions += 1;
        let (outcome, took) = timed(target, &input);
        summary.slowest = summary.slowest.max(took);
        match outcome {
            Ok(outcome) => {
                if seen.insert(outcome) {
                    if input.len() <= 512 {
                        summary.firsts.push(input.clone());
                    }
                    if pool.len() < 20_000 && input.len() <= short {
                        pool.push(input);
                    }
                }
            }
            Err(what) if summary.finds.iter().all(|(w, _)| *w != what) => summary.finds.push((what, input)),
            Err(_) => {}
        }
    }
    summary.outcomes = seen.len();
    summary
}

/// The stored inputs of a target, in the order of their names.
pub fn stored(corpus: &Path, target: &Target) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = corpus.join(target.name);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<_> = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
