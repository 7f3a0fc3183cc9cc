//! A training step without numbers: every block that the engine takes from its pool and gives back, in the same order, so that the
//! memory of a step is known before it runs. The rules are those of [`Pool`](crate::device::Pool) and
//! [`Graph`](crate::autodiff::Graph); what an operation takes is what its `mod.rs` takes in f32. The tests compare with the engine.

use std::rc::Rc;

use crate::device::cpu::gemm;
use crate::device::{Precision, shared_limit};
use crate::nn::language_model::EVALUATED_ROWS;
use crate::ops::tied_softmax::block_rows;

/// A tensor: its own size, and its block, which may be larger and is free when nobody but the pool holds it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Held, not read.
    _block: Rc<usize>,
    bytes: usize,
}

/// Rows of a block of the sampled and the adaptive softmax (their `block_rows`).
const SOFTMAX_ROWS: usize = 256;

/// Words of the head with its tombstones, and of the widest part, of a vocabulary cut for an adaptive softmax.
fn widest_part(splits: &[usize], v: usize) -> (usize, usize) {
    let head = splits.first().copied().unwrap_or(v) + splits.len();
    let ends = splits.iter().copied().skip(1).chain([v]);
    (head, splits.iter().zip(ends).map(|(&from, to)| to - from).fold(head, usize::max))
}

/// The memory pool without memory.
#[derive(Debug, Default)]
struct DryPool {
    /// Ascending by size.
    blocks: Vec<Rc<usize>>,
    fitted: bool,
}

impl DryPool {
    fn take(&mut self, bytes: usize) -> Held {
        let from = self.blocks.partition_point(|b| **b < bytes);
        let limit = if self.fitted { usize::MAX } else { shared_limit(bytes) };
        let mut fitting = self.blocks[from..].iter().take_while(|b| ***b <= limit);
        if let Some(block) = fitting.find(|b| Rc::strong_count(b) == 1) {
            return Held { _block: block.clone(), bytes };
        }
        let block = Rc::new(bytes);
        self.blocks.insert(from, block.clone());
        Held { _block: block, bytes }
    }
}

/// Number of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Var(usize);

#[derive(Debug)]
struct Value {
    /// `None` for what does not come from the pool.
    tensor: Option<Held>,
    /// Parameters have their gradients in a slab.
    parameter: bool,
    needs_gradient: bool,
    gradient: Option<Held>,
}

#[derive(Debug)]
struct Node {
    inputs: Vec<Var>,
    outputs: Vec<Var>,
    /// Held, not read.
    _saved: Vec<Held>,
    /// Bytes of what its backward takes before the gradients of its inputs.
    scratch: Vec<usize>,
}

/// The graph of a step without numbers.
#[derive(Debug)]
pub(super) struct DryGraph {
    precision: Precision,
    pool: DryPool,
    values: Vec<Value>,
    nodes: Vec<Node>,
    evaluating: bool,
}

/// Hidden and cell states between windows; `None` at the beginning.
pub(super) type DryState = Vec<Option<(Held, Held)>>;

/// Sizes of an LSTM layer's execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct LstmSizes {
    pub t: usize,
    pub b: usize,
    pub h: usize,
}

impl DryGraph {
    pub fn new(precision: Precision) -> Self {
        DryGraph { precision, pool: DryPool::default(), values: Vec::new(), nodes: Vec::new(), evaluating: false }
    }

    /// Elements of a packed `[rows, columns]` operand.
    fn packed_len(&self, rows: usize, columns: usize) -> usize {
        gemm::packed_len::<f32>(self.precision, rows, columns)
    }

    /// Bytes of all blocks of the pool.
    pub fn pool_bytes(&self) -> usize {
        self.pool.blocks.iter().map(|b| **b).sum()
    }

    /// Bytes of the blocks that are in use.
    pub fn used_bytes(&self) -> usize {
        self.pool.blocks.iter().filter(|b| Rc::strong_count(b) > 1).map(|b| **b).sum()
    }

    /// What the training loop does after the first step: from here any large enough block serves.
    pub fn end_reserving(&mut self) {
        self.pool.fitted = true;
    }

    pub fn set_recording(&mut self, recording: bool) {
        self.evaluating = !recording;
    }

    pub fn reset(&mut self) {
        self.values.clear();
        self.nodes.clear();
    }

    pub fn mark(&self) -> usize {
        self.values.len()
    }

    /// Drops the values since a mark but `keep`.
    pub fn forget_since(&mut self, mark: usize, keep: Option<Var>) -> Option<Var> {
        let kept = keep.map(|v| self.values[v.0].tensor.clone());
        self.values.truncate(mark);
        kept.map(|tensor| self.push(tensor, false, false))
    }

    /// A block of `n` f32 or u32.
    pub fn take(&mut self, n: usize) -> Held {
        self.pool.take(4 * n)
    }

    fn push(&mut self, tensor: Option<Held>, parameter: bool, needs_gradient: bool) -> Var {
        self.values.push(Value { tensor, parameter, needs_gradient, gradient: None });
        Var(self.values.len() - 1)
    }

    pub fn parameter(&mut self, trainable: bool) -> Var {
        self.push(None, true, trainable && !self.evaluating)
    }

    fn needs(&self, var: Var) -> bool {
        !self.evaluating && self.values[var.0].needs_gradient
    }

    fn record<const N: usize>(
        &mut self,
        inputs: &[Var],
        outputs: [Held; N],
        saved: Vec<Held>,
        scratch: &[usize],
    ) -> [Var; N] {
        let needs = inputs.iter().any(|&v| self.needs(v));
        let outputs = outputs.map(|tensor| self.push(Some(tensor), false, needs));
        if needs {
            let scratch = scratch.iter().map(|n| 4 * n).collect();
            self.nodes.push(Node { inputs: inputs.to_vec(), outputs: outputs.to_vec(), _saved: saved, scratch });
        }
        outputs
    }

    pub fn backward(&mut self, loss: Var) {
        let one = self.pool.take(4);
        self.values[loss.0].gradient = Some(one.clone());
        while let Some(node) = self.nodes.pop() {
            if node.outputs.iter().any(|v| self.values[v.0].gradient.is_some()) {
                let _scratch: Vec<Held> = node.scratch.iter().map(|&bytes| self.pool.take(bytes)).collect();
                for input in &node.inputs {
                    let value = &mut self.values[input.0];
                    if value.needs_gradient && !value.parameter && value.gradient.is_none() {
                        let bytes = value.tensor.as_ref().map_or(0, |tensor| tensor.bytes);
                        value.gradient = Some(self.pool.take(bytes));
                    }
                }
            }
            node.outputs.iter().for_each(|v| self.values[v.0].gradient = None);
        }
    }

    /// Returns `[T, B, E]`.
    pub fn embedding(&mut self, tokens: &Held, w: Var, [t, b, e]: [usize; 3]) -> Var {
        let y = self.take(t * b * e);
        let _locked = self.take(b * e);
        let [y] = self.record(&[w], [y], vec![tokens.clone()], &[b * e]);
        y
    }

    /// Dropout of `steps` times `[rows, columns]`, locked or not.
    pub fn dropout(&mut self, x: Var, p: f64, steps: usize, [rows, columns]: [usize; 2]) -> Var {
        if p <= 0.0 {
            return x;
        }
        let y = self.take(steps * rows * columns);
        let _factors = self.take(rows * columns);
        let [y] = self.record(&[x], [y], vec![], &[rows * columns]);
        y
    }

    /// Returns y; the state becomes h and c of the last step.
    pub fn lstm(&mut self, x: Var, state: &mut Option<(Held, Held)>, trainable: bool, sizes: LstmSizes) -> Var {
        let LstmSizes { t, b, h } = sizes;
        if let Some((h0, c0)) = state.take() {
            // as constants they live as long as the step
            self.push(Some(h0), false, false);
            self.push(Some(c0), false, false);
        }
        let w = self.parameter(trainable);
        let y = self.take(t * b * h);
        let (h_n, c_n) = (self.take(b * h), self.take(b * h));
        let (gates, cells) = (self.take(t * b * 4 * h), self.take(t * b * h));
        let packed = self.packed_len(h, 4 * h).max(self.packed_len(4 * h, h));
        // nothing is dropped in an evaluation
        let dropped = (!self.evaluating).then(|| self.take(4 * h * h));
        drop((dropped, self.take(packed)));
        *state = Some((h_n.clone(), c_n.clone()));
        let [y, ..] =
            self.record(&[x, w], [y, h_n, c_n], vec![gates, cells], &[4 * h * h, packed, b * h, b * h, 4 * h]);
        y
    }

    /// Full softmax over `v` words for `n` rows of `e`; returns the loss.
    pub fn tied_softmax(&mut self, x: Var, w: Var, bias: Option<Var>, [n, e, v]: [usize; 3]) -> Var {
        let (loss, _rows, _correct) = (self.take(1), self.take(n), self.take(n));
        let mut saved = Vec::new();
        // the gradient of w is written into the slab
        for (var, length) in [(Some(x), n * e), (bias, v)] {
            if var.is_some_and(|var| self.needs(var)) {
                saved.push(self.take(length));
            }
        }
        let _logits = self.take(block_rows(n, v) * v);
        let _packed = self.take(self.packed_len(e, v));
        let _packed_for_dx = self.needs(x).then(|| self.take(self.packed_len(v, e)));
        let inputs: Vec<Var> = [x, w].into_iter().chain(bias).collect();
        let [loss] = self.record(&inputs, [loss], saved, &[]);
        loss
    }

    /// Softmax over `v` words cut at `splits`; returns the loss.
    pub fn adaptive_softmax(&mut self, x: Var, w: Var, bias: Option<Var>, nev: [usize; 3], splits: &[usize]) -> Var {
        let [n, e, v] = nev;
        let trainable = self.values[w.0].needs_gradient;
        let vectors = self.parameter(trainable);
        let mut inputs = vec![x, w];
        inputs.extend(bias);
        inputs.push(vectors);
        inputs.extend(bias.map(|_| self.parameter(trainable)));
        let (loss, _rows) = (self.take(1), self.take(n));
        let (head, widest) = widest_part(splits, v);
        let rows = n.min(SOFTMAX_ROWS);
        let _scratch = [head * e, head, rows * widest, rows * e, rows * e, n].map(|length| self.take(length));
        let mut saved = Vec::new();
        if inputs.iter().any(|&v| self.needs(v)) {
            saved.extend([n * e, v * e, v, head * e, head].map(|length| self.take(length)));
        }
        let [loss] = self.record(&inputs, [loss], saved, &[]);
        loss
    }

    /// An evaluation through an adaptive softmax, block by block.
    pub fn evaluated_adaptively(&mut self, [n, e, v]: [usize; 3], splits: &[usize]) {
        let _results = [self.take(n), self.take(n)];
        let (head, widest) = widest_part(splits, v);
        let rows = n.min(EVALUATED_ROWS);
        let _block = [rows * e, rows * v].map(|length| self.take(length));
        let _scratch = [head * e, head, rows * widest, rows * head].map(|length| self.take(length));
    }

    /// Softmax over the target and `k` negatives; returns the loss.
    pub fn sampled_softmax(&mut self, x: Var, w: Var, bias: Option<Var>, tokens: [Held; 2], nek: [usize; 3]) -> Var {
        let [n, e, k] = nek;
        let (loss, _rows) = (self.take(1), self.take(n));
        let _scratch = [self.take(k * e), self.take(k), self.take(n.min(SOFTMAX_ROWS) * k)];
        let inputs: Vec<Var> = [x, w].into_iter().chain(bias).collect();
        let mut saved = tokens.to_vec();
        if inputs.iter().any(|&v| self.needs(v)) {
            saved.extend([n * e, k * e, k, n].map(|length| self.take(length)));
        }
        let [loss] = self.record(&inputs, [loss], saved, &[]);
        loss
    }

    /// AR and TAR of chunks of at most `longest` steps, added to a loss.
    pub fn regularised(&mut self, loss: Var, raw: &[Var], dropped: &[Var], longest: usize) -> Var {
        let sums = self.pool.take(8 * longest);
        let of: Vec<Var> = raw.iter().chain(dropped).copied().collect();
        let regularisation = self.take(1);
        let [regularisation] = self.record(&of, [regularisation], vec![], &[]);
        drop(sums);
        let total = self.take(1);
        let [total] = self.record(&[loss, regularisation], [total], vec![], &[]);
        total
    }

    /// Returns `[B, 3E]`.
    pub fn concat_pool(&mut self, chunks: &[Var], [b, e]: [usize; 2]) -> Var {
        let (spans, y, argmax) = (self.take(2 * b), self.take(3 * b * e), self.take(b * e));
        let [y] = self.record(chunks, [y], vec![spans, argmax], &[]);
        y
    }

    /// Batch norm, dropout, linear: one block of the head, `[B, inputs]` to `[B, outputs]`, after a ReLU unless it is the first.
    pub fn head_block(&mut self, mut x: Var, trainable: bool, p: f64, first: bool, bio: [usize; 3]) -> Var {
        let [b, inputs, outputs] = bio;
        if !first {
            let y = self.take(b * inputs);
            [x] = self.record(&[x], [y], vec![], &[]);
        }
        let w = self.parameter(trainable);
        let (y, statistics) = (self.take(b * inputs), self.take(2 * inputs));
        [x] = self.record(&[x, w], [y], vec![statistics], &[2 * inputs]);
        x = self.dropout(x, p, 1, [b, inputs]);
        let y = self.take(b * outputs);
        [x] = self.record(&[x, w], [y], vec![], &[]);
        x
    }

    /// Returns the loss.
    pub fn softmax_cross_entropy(&mut self, logits: Var, [b, classes]: [usize; 2]) -> Var {
        let (probabilities, loss) = (self.take(b * classes), self.take(1));
        let [loss] = self.record(&[logits], [loss], vec![probabilities], &[]);
        loss
    }
}
