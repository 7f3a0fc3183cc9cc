//! Shared by all languages: a text is cut at white space into pieces, and each piece is cut by the
//! language's own tables. The words of a piece are remembered, because most pieces of a text
//! were met before.

use std::sync::Arc;

use super::super::interner::Interner;
use super::chars::{next_space, space_end};
use super::english;
use super::unicode::WordTables;

/// Where the tokens of a piece end, in bytes.
pub(super) type Ends = Vec<u32>;

/// Who cuts the pieces.
#[derive(Clone, Debug)]
pub(super) enum Cutter {
    /// The English tables, with or without the marks that the rules of fastai 0.7 keep whole.
    English { marks_v07: bool },
    /// Unicode word boundaries and a table.
    Unicode(Arc<WordTables>),
}

impl Cutter {
    fn cut(&self, piece: &str) -> Ends {
        match self {
            Cutter::English { marks_v07 } => english::cut(piece, *marks_v07),
            Cutter::Unicode(tables) => tables.cut(piece),
        }
    }

    fn is(&self, other: &Cutter) -> bool {
        match (self, other) {
            (Cutter::English { marks_v07: a }, Cutter::English { marks_v07: b }) => a == b,
            (Cutter::Unicode(a), Cutter::Unicode(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Pieces already met, per thread.
#[derive(Default)]
pub(super) struct Cache {
    /// Short pieces of few tokens met last, by a hash of their text; a newcomer takes the place of
    /// the one there. A look here costs one line of memory, and most pieces of a text are in it.
    recent: Vec<Recent>,
    /// More pieces, and by their numbers how many tokens each has and where these end.
    known: Interner,
    known_ends: Vec<[u8; 1 + KNOWN_TOKENS]>,
    made_by: Option<Cutter>,
}

/// The cache is emptied at this many pieces, and longer pieces are not kept: memory stays bounded.
const KNOWN_PIECES: usize = 1 << 17;
const KNOWN_BYTES: usize = 48;
const KNOWN_TOKENS: usize = 7;

/// Half a megabyte, which the second cache of a core holds.
const RECENT_BITS: u32 = 14;
const RECENT_BYTES: usize = 24;
const RECENT_TOKENS: usize = 6;

/// A piece and where its tokens end; no bytes: an empty place.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
struct Recent {
    text: [u8; RECENT_BYTES],
    bytes: u8,
    tokens: u8,
    ends: [u8; RECENT_TOKENS],
}

/// The text of a piece filled up with zeros, and its place among the recent ones; nothing for a
/// longer piece.
fn place(piece: &str) -> Option<([u8; RECENT_BYTES], usize)> {
    if piece.len() > RECENT_BYTES {
        return None;
    }
    let mut text = [0; RECENT_BYTES];
    text[..piece.len()].copy_from_slice(piece.as_bytes());
    let word = |i: usize| u64::from_le_bytes(text[8 * i..8 * i + 8].try_into().expect("eight bytes"));
    // odd constants with bits all over, from the fractions of the golden ratio and the square root
    // of two
    let mixed = (word(0) ^ word(1).rotate_left(21) ^ word(2).rotate_left(42)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x6a09_e667_f3bc_c909);
    Some((text, (mixed >> (64 - RECENT_BITS)) as usize))
}

/// Hands the tokens of `text` to `emit`. White space of more than one space, or other than a space,
/// is a token.
pub(super) fn tokenize(text: &str, cutter: &Cutter, cache: &mut Cache, emit: &mut dyn FnMut(&str)) {
    if !cache.made_by.as_ref().is_some_and(|c| c.is(cutter)) {
        let recent = vec![Recent::default(); 1 << RECENT_BITS];
        *cache = Cache { recent, made_by: Some(cutter.clone()), ..Cache::default() };
    }
    let mut at = 0;
    while at < text.len() {
        let end = space_end(text, at);
        if end > at {
            // one space belongs to the token before it; at the beginning of a text there is none
            let begin = at + usize::from(at > 0 && text.as_bytes()[at] == b' ');
            if begin < end {
                emit(&text[begin..end]);
            }
            at = end;
        }
        if at < text.len() {
            let end = next_space(text, at);
            hand_out(&text[at..end], cutter, cache, emit);
            at = end;
        }
    }
}

fn hand_out(piece: &str, cutter: &Cutter, cache: &mut Cache, emit: &mut dyn FnMut(&str)) {
    let place = place(piece);
    if let Some((text, at)) = &place {
        let recent = &cache.recent[*at];
        if usize::from(recent.bytes) == piece.len() && recent.text == *text {
            let ends = &recent.ends[..usize::from(recent.tokens)];
            return tokens(piece, ends.iter().map(|&end| usize::from(end)), emit);
        }
    }
    let made = match cache.known.get(piece) {
        Some(number) => cache.known_ends[number],
        None => {
            let ends = cutter.cut(piece);
            if piece.len() > KNOWN_BYTES || ends.len() > KNOWN_TOKENS {
                return tokens(piece, ends.iter().map(|&end| end as usize), emit);
            }
            let mut made = [ends.len() as u8; 1 + KNOWN_TOKENS];
            made[1..].iter_mut().zip(&ends).for_each(|(kept, &end)| *kept = end as u8);
            if cache.known.len() >= KNOWN_PIECES {
                cache.known.clear();
                cache.known_ends.clear();
            }
            cache.known.insert(piece);
            cache.known_ends.push(made);
            made
        }
    };
    let ends = &made[1..=usize::from(made[0])];
    tokens(piece, ends.iter().map(|&end| usize::from(end)), emit);
    if let Some((text, at)) = place
        && ends.len() <= RECENT_TOKENS
    {
        let mut recent = Recent { text, bytes: piece.len() as u8, tokens: ends.len() as u8, ..Recent::default() };
        recent.ends[..ends.len()].copy_from_slice(ends);
        cache.recent[at] = recent;
    }
}

fn tokens(piece: &str, ends: impl Iterator<Item = usize>, emit: &mut dyn FnMut(&str)) {
    let mut start = 0;
    for end in ends {
        emit(&piece[start..end]);
        start = end;
    }
}
