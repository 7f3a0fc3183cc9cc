//! Leave-one-out: by how much a logit is less where a word is not in the text.

use super::{Case, Parts};
use crate::autodiff::Graph;
use crate::error::Result;
use crate::nn::{DocumentBatch, Noise};
use crate::ops::batch_norm::Mode;
use crate::text::Piece;

/// Tokens that are run together.
const TOGETHER: usize = 16_384;

/// For every word the logit of the text less that of the text without it; `None` for marks, for a
/// word that is all of the text, and for those that are not among the `most` with the largest
/// shares.
pub(super) fn of(
    case: &Case,
    g: &mut Graph,
    words: &[Piece],
    shares: &[Parts],
    most: usize,
) -> Result<Vec<Option<f64>>> {
    let mut found = vec![None; words.len()];
    let is_left_out = |k: &usize| words[*k].place.is_some() && words[*k].tokens.len() < case.ids.len();
    let mut chosen: Vec<usize> = (0..words.len()).filter(is_left_out).collect();
    chosen.sort_by(|&a, &b| shares[b].sum().abs().total_cmp(&shares[a].sum().abs()).then(a.cmp(&b)));
    chosen.truncate(most);
    if chosen.is_empty() {
        return Ok(found);
    }
    let text = |tokens: std::ops::Range<usize>| {
        let rest = [&case.ids[..tokens.start], &case.ids[tokens.end..]].concat();
        case.read(&rest)
    };
    let mut all: Vec<(Option<usize>, Vec<u32>)> = vec![(None, text(0..0))];
    all.extend(chosen.into_iter().map(|k| (Some(k), text(words[k].tokens.clone()))));
    // only texts of one length are run together: no answer depends on its neighbours
    all.sort_by_key(|(_, ids)| ids.len());
    let recording = g.is_recording();
    g.set_recording(false);
    let mut whole = 0.0;
    for of_length in all.chunk_by(|a, b| a.1.len() == b.1.len()) {
        for part in of_length.chunks((TOGETHER / of_length[0].1.len()).max(1)) {
            g.reset();
            let batch = DocumentBatch::new(part.iter().map(|(_, ids)| ids.as_slice()).collect())?;
            let (network, parameters) = (&case.model.network, &case.model.parameters);
            let out = network.forward(g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
            let logits = g.tensor(out.logits).to_f64();
            for (row, logits) in out.rows.iter().zip(logits.chunks_exact(case.target.weights.len())) {
                match part[*row as usize].0 {
                    Some(k) => found[k] = Some(case.target.of(logits)),
                    None => whole = case.target.of(logits),
                }
            }
        }
    }
    g.reset();
    g.set_recording(recording);
    found.iter_mut().flatten().for_each(|without| *without = whole - *without);
    Ok(found)
}
