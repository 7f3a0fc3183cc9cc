//! What all languages share: a text is cut at white space into pieces, and each piece is cut by the language's own tables. What a
//! piece was cut into is remembered, because most pieces of a text were met before.

use std::sync::Arc;

use hashbrown::HashMap;

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
    /// Where the tokens of a piece end; nothing for a piece that is one token.
    known: HashMap<Box<str>, Box<[u32]>>,
    made_by: Option<Cutter>,
}

/// The cache is emptied at this many pieces, and longer pieces are not kept: memory stays bounded.
const CACHE_PIECES: usize = 1 << 17;
const CACHE_BYTES: usize = 48;

/// Hands the tokens of `text` to `emit`. White space of more than one space, or other than a space, is a token.
pub(super) fn tokenize(text: &str, cutter: &Cutter, cache: &mut Cache, emit: &mut dyn FnMut(&str)) {
    if !cache.made_by.as_ref().is_some_and(|c| c.is(cutter)) {
        *cache = Cache { made_by: Some(cutter.clone()), ..Cache::default() };
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
    let mut tokens = |ends: &[u32]| {
        let mut start = 0;
        for &end in ends {
            emit(&piece[start..end as usize]);
            start = end as usize;
        }
    };
    match cache.known.get(piece) {
        Some(ends) if ends.is_empty() => return emit(piece),
        Some(ends) => return tokens(ends),
        None => {}
    }
    let ends = cutter.cut(piece);
    tokens(&ends);
    if piece.len() <= CACHE_BYTES {
        if cache.known.len() >= CACHE_PIECES {
            cache.known.clear();
        }
        let kept = if ends.len() == 1 { Box::default() } else { ends.into() };
        cache.known.insert(piece.into(), kept);
    }
}
