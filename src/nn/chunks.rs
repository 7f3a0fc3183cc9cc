//! Back-propagation through time for documents (BPT3C, docs/SPEC.md §1.7): any encoder, chunk by
//! chunk, over a batch.

use super::documents::{DocumentBatch, Layout};
use super::encoder::Encoder;
use super::noise::Noise;
use super::state::State;
use crate::autodiff::{Graph, Parameters, Var};
use crate::device::Device;
use crate::error::Result;

/// The output of an encoder for a batch of documents.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    /// The kept chunks of the encoder's output, `[T, rows, E]`, in the order of time; where nothing
    /// is recorded, they may be parts of chunks. A chunk holds the rows that reach it, the first
    /// ones.
    pub chunks: Vec<Var>,
    /// Position in the batch of every row: padded at the end, rows are sorted by length.
    pub rows: Vec<u32>,
    /// Steps of every row that count, from `start` on (padded at the end), or of the whole document
    /// (padded in front).
    pub lengths: Vec<u32>,
    /// Step at which the first of the chunks begins.
    pub start: usize,
}

/// A walk over a batch of documents.
pub(super) struct Walk<'a> {
    pub encoder: &'a dyn Encoder,
    pub parameters: &'a Parameters,
    pub batch: &'a DocumentBatch<'a>,
    pub layout: &'a Layout,
    pub noise: &'a Noise<'a>,
}

impl Walk<'_> {
    /// Runs the documents.
    ///
    /// The state starts at zero for every document, is detached after every chunk, and the last
    /// steps are kept. While nothing is recorded, memory does not grow with the documents' lengths
    /// beyond the kept steps; chunks that are not kept are never recorded (their gradient is zero;
    /// docs/SPEC.md §1.7).
    pub(super) fn run(&self, g: &mut Graph) -> Result<Encoded> {
        let &Walk { encoder, parameters, batch, layout, noise } = self;
        let mut state = State::zeros_for(g, encoder.slots(), batch.len(), parameters.dtype())?;
        self.run_prefixes(g, &mut state)?;
        let mut chunks = Vec::new();
        // on a GPU a layer's launch loads its weights once, however many steps it has
        let in_parts = !g.is_recording() && layout.tail && noise.is_off() && g.device() == Device::Cpu;
        for c in layout.first_chunk..layout.chunks {
            let noise = noise.in_chunk(layout.prefix_chunks + c)?;
            let span = c * layout.bptt..layout.steps.min((c + 1) * layout.bptt);
            let mut from = span.start;
            for end in if in_parts { layout.parts(span) } else { vec![span.end] } {
                let (steps, rows) = (end - from, layout.rows_at(from));
                let tokens = g.indices([steps, rows])?;
                layout.fill(batch, from, &mut tokens.write::<u32>(), rows);
                let mark = g.mark();
                let mut y = encoder.run(g, parameters, &tokens, &mut state, &noise)?;
                if !g.is_recording() {
                    let kept = g.detach(y);
                    g.forget_since(mark);
                    y = g.constant(kept);
                }
                chunks.push(y);
                from = end;
            }
        }
        Ok(Encoded {
            chunks,
            rows: layout.rows.iter().map(|r| r.document as u32).collect(),
            lengths: layout.rows.iter().map(|r| r.pooled as u32).collect(),
            start: layout.first_chunk * layout.bptt,
        })
    }

    /// Runs the steps before the kept ones without recording, so that only their states remain.
    fn run_prefixes(&self, g: &mut Graph, state: &mut State) -> Result<()> {
        let recording = g.is_recording();
        g.set_recording(false);
        let result = if self.layout.tail { self.run_long_documents(g, state) } else { self.run_first_chunks(g, state) };
        g.set_recording(recording);
        result
    }

    /// Padded in front: all rows run together through the chunks that are not kept.
    fn run_first_chunks(&self, g: &mut Graph, state: &mut State) -> Result<()> {
        let &Walk { encoder, parameters, batch, layout, noise } = self;
        for c in 0..layout.first_chunk {
            let mark = g.mark();
            let tokens = g.indices([layout.bptt, batch.len()])?;
            layout.fill(batch, c * layout.bptt, &mut tokens.write::<u32>(), batch.len());
            encoder.run(g, parameters, &tokens, state, &noise.in_chunk(c)?)?;
            g.forget_since(mark);
        }
        Ok(())
    }

    /// Padded at the end: documents longer than the cap run up to their first kept step, the
    /// longest prefix first; their states are then those that their kept part begins with.
    fn run_long_documents(&self, g: &mut Graph, state: &mut State) -> Result<()> {
        let &Walk { encoder, parameters, batch, layout, noise } = self;
        let mut long: Vec<usize> = (0..layout.rows.len()).filter(|&r| layout.rows[r].prefix > 0).collect();
        if long.is_empty() {
            return Ok(());
        }
        long.sort_by_key(|&r| (std::cmp::Reverse(layout.rows[r].prefix), r));
        let mut carried = State::zeros_for(g, encoder.slots(), long.len(), parameters.dtype())?;
        for c in 0..layout.prefix_chunks {
            let from = c * layout.bptt;
            let active = long.iter().take_while(|&&r| layout.rows[r].prefix > from).count();
            let mark = g.mark();
            let tokens = g.indices([layout.bptt, active])?;
            {
                let mut tokens = tokens.write::<u32>();
                for (column, &row) in long[..active].iter().enumerate() {
                    let document = batch.document(layout.rows[row].document);
                    for t in 0..layout.bptt {
                        tokens[t * active + column] = document[from + t];
                    }
                }
            }
            encoder.run(g, parameters, &tokens, &mut carried, &noise.in_chunk(c)?)?;
            g.forget_since(mark);
            for (column, &row) in long[..active].iter().enumerate() {
                if layout.rows[row].prefix == from + layout.bptt {
                    state.copy_row(row, &carried, column);
                }
            }
        }
        Ok(())
    }
}
