//! Where the time of a training step goes: spans, recorded while a profile asks for them.
//!
//! A span is a guard: it begins where it is made and ends where it is dropped. While nothing is
//! recorded (always, but in `ulmfit profile`) it costs one relaxed load and no memory. The places
//! that open one:
//!
//! * an operation, forward ([`operation`]) and, by the tape, backward;
//! * the work within a big operation, by kind ([`phase`]): matrix products and packing open theirs
//!   themselves;
//! * work whose threads do not meet before its end ([`region`]): each thread opens the phases of
//!   its own part, and the wall time of the region is shared out by thread time;
//! * the passes of a step ([`pass`]), which also say what direction the spans within count as.
//!
//! The driving thread is the one that starts the recording. Spans of other threads count within
//! regions alone, so a span in code that may run on any thread, as a product does, is never counted
//! twice.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Matrix products; the only phase with floating-point operations that count (as in `train::plan`).
pub const PRODUCTS: &str = "products";
/// Copies of operands in the order in which products read them.
pub const PACKING: &str = "packing";
/// Work on every element of some tensors: non-linearities, softmax, masks that are applied,
/// updates.
pub const ELEMENTWISE: &str = "elementwise";
/// Masks drawn and applied to a weight.
pub const MASKS: &str = "masks";
/// Rows taken from or added to a matrix by index.
pub const ROWS: &str = "rows";
/// Sums over rows or over everything: gradients of biases, norms.
pub const SUMS: &str = "sums";
/// Text to tensors: batches.
pub const DATA: &str = "data";
/// Threads of a region that had nothing left to do.
pub const WAITING: &str = "waiting";
/// Time that is in no span of its own.
pub const OTHER: &str = "other";
/// Time that is in no operation.
pub const STEP: &str = "step";

/// Direction of a pass, as `ulmfit profile` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Outside of the three.
    #[default]
    None,
    Forward,
    /// Gradients; also where an operation computes them while it runs forward, as the tied softmax
    /// does.
    Backward,
    Update,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Pass::None => "",
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Update => "update",
        }
    }

    fn of(code: u32) -> Self {
        [Pass::None, Pass::Forward, Pass::Backward, Pass::Update][(code & 3) as usize]
    }
}

/// Part of a model that an operation belongs to: a name, which stands in a table of this process.
///
/// A model names its parts once, when it is declared; to enter one costs no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer(u16);

/// Names of [`Layer`]s, in the order in which they were first named. Number 0 is no layer.
static LAYERS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Layer {
    /// In no part.
    pub const NONE: Layer = Layer(0);

    /// The part of this name.
    ///
    /// # Panics
    /// If a process has named 65,535 parts before.
    pub fn named(name: &str) -> Self {
        let mut names = LAYERS.lock().expect("nobody panics while holding it");
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            // never freed: a process names the parts of its models, again and again the same few
            names.push(Box::leak(name.into()));
            names.len() - 1
        });
        Layer(u16::try_from(at + 1).expect("a process names no 65,535 parts of models"))
    }

    /// Empty outside of all parts.
    pub fn name(self) -> &'static str {
        let names = LAYERS.lock().expect("nobody panics while holding it");
        usize::from(self.0).checked_sub(1).map_or("", |at| names[at])
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of a span; one may hold those that come after it here, and phases hold phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pass,
    Operation,
    Region,
    Phase,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub name: &'static str,
    pub layer: Layer,
    pub pass: Pass,
    pub thread: usize,
    /// Nanoseconds since the recording began.
    pub start: u64,
    pub end: u64,
    /// Useful floating-point operations: a multiply-add counts two.
    pub flop: u64,
    /// Bytes that the work has to read and write at least; 0 where nobody counted.
    pub bytes: u64,
}

/// The recorded spans.
#[derive(Clone, Debug)]
pub struct Recording {
    /// By thread, then by beginning, the longer one first.
    pub events: Vec<Event>,
    /// The thread that started the recording.
    pub driver: usize,
    /// Threads among which regions divide their work.
    pub threads: usize,
    /// From start to finish, in nanoseconds.
    pub total: u64,
}

static ON: AtomicBool = AtomicBool::new(false);
/// Pass (2 bits) and layer of the driving thread, for all threads.
static CONTEXT: AtomicU32 = AtomicU32::new(0);
/// The operation that is running, while spans are recorded: spans of operations are the driving
/// thread's.
static OPERATION: Mutex<Option<&'static str>> = Mutex::new(None);
/// Bytes that the tape counts for the operation that is running.
static TRAFFIC: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// By thread, so that threads do not wait for each other.
static EVENTS: [Mutex<Vec<Open>>; 64] = [const { Mutex::new(Vec::new()) }; 64];

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn thread() -> usize {
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Runs `work` on a thread of the pool in place of this one, which waits; spans count as this
/// thread's. For loops over many small parallel parts: who waits for another thread within the pool
/// waits awake.
pub fn in_the_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let number = thread();
    rayon::scope(|_| {
        let own = NUMBER.replace(number);
        let result = work();
        NUMBER.set(own);
        result
    })
}

/// Whether spans are being recorded.
#[inline(always)]
fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A span that has begun.
#[derive(Debug)]
struct Open {
    kind: Kind,
    name: &'static str,
    /// For an operation: the operation that it runs within.
    around: Option<&'static str>,
    context: u32,
    thread: usize,
    start: Instant,
    end: Instant,
    flop: u64,
    bytes: u64,
}

/// A span: ends when it is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Open>);

impl Span {
    #[inline(always)]
    fn new(kind: Kind, name: &'static str) -> Self {
        if is_on() { Self::begin(kind, name) } else { Span(None) }
    }

    #[cold]
    fn begin(kind: Kind, name: &'static str) -> Self {
        let mut around = None;
        if kind == Kind::Operation {
            TRAFFIC.store(0, Ordering::Relaxed);
            around = operation_is(Some(name));
        }
        let context = CONTEXT.load(Ordering::Relaxed);
        let start = Instant::now();
        Span(Some(Open { kind, name, around, context, thread: thread(), start, end: start, flop: 0, bytes: 0 }))
    }

    /// Counts floating-point operations.
    #[inline(always)]
    pub fn flop(mut self, flop: usize) -> Self {
        if let Some(open) = &mut self.0 {
            open.flop += flop as u64;
        }
        self
    }

    /// Counts elements of a type that are read or written.
    #[inline(always)]
    pub fn elements<T>(mut self, count: usize) -> Self {
        if let Some(open) = &mut self.0 {
            open.bytes += (count * size_of::<T>()) as u64;
        }
        self
    }
}

impl Drop for Span {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            end(open);
        }
    }
}

#[cold]
fn end(mut open: Open) {
    open.end = Instant::now();
    if open.kind == Kind::Operation {
        open.bytes += TRAFFIC.swap(0, Ordering::Relaxed);
        operation_is(open.around);
    }
    // a recording that ended meanwhile takes nothing more
    if is_on() {
        EVENTS[open.thread % EVENTS.len()].lock().expect("nobody panics while holding it").push(open);
    }
}

/// One execution of an operation, forward or backward.
#[inline(always)]
pub fn operation(name: &'static str) -> Span {
    Span::new(Kind::Operation, name)
}

/// A part of an operation.
#[inline(always)]
pub fn phase(name: &'static str) -> Span {
    Span::new(Kind::Phase, name)
}

/// Work that is divided among the threads, each of which opens phases of its own; they do not meet
/// before its end.
#[inline(always)]
pub fn region(name: &'static str) -> Span {
    Span::new(Kind::Region, name)
}

/// Counts bytes for the operation that is running; `bytes` is only called while spans are recorded.
/// For the tape, which knows what every operation takes and gives. Where an operation opens phases,
/// those count instead.
#[inline(always)]
pub fn traffic(bytes: impl FnOnce() -> usize) {
    if is_on() {
        TRAFFIC.fetch_add(bytes() as u64, Ordering::Relaxed);
    }
}

/// What the spans that begin within count as; the former holds again when it is dropped.
#[derive(Debug)]
#[must_use = "a scope ends when it is dropped"]
pub struct Scope {
    former: Option<u32>,
    span: Option<Span>,
}

impl Scope {
    #[inline(always)]
    fn change(mask: u32, bits: u32) -> Self {
        let former = is_on().then(|| {
            let former = CONTEXT.load(Ordering::Relaxed);
            CONTEXT.store(former & !mask | bits, Ordering::Relaxed);
            former
        });
        Scope { former, span: None }
    }
}

impl Drop for Scope {
    #[inline(always)]
    fn drop(&mut self) {
        drop(self.span.take());
        if let Some(former) = self.former {
            CONTEXT.store(former, Ordering::Relaxed);
        }
    }
}

const PASS: u32 = 3 << 16;
const LAYER: u32 = 0xffff;

/// A pass of the step, as a span of its own.
#[inline(always)]
pub fn pass(pass: Pass) -> Scope {
    let mut scope = direction(pass);
    scope.span = Some(Span::new(Kind::Pass, pass.name()));
    scope
}

/// A direction other than that of the pass, for gradients that are computed ahead.
#[inline(always)]
pub fn direction(pass: Pass) -> Scope {
    Scope::change(PASS, (pass as u32) << 16)
}

/// Operations of one part of a model.
#[inline(always)]
pub fn within(layer: Layer) -> Scope {
    Scope::change(LAYER, u32::from(layer.0))
}

/// The part of the model that is running, for the tape.
#[inline(always)]
pub fn layer() -> Layer {
    if is_on() { Layer(CONTEXT.load(Ordering::Relaxed) as u16) } else { Layer::NONE }
}

/// Sets the operation that is running; returns the former one.
fn operation_is(name: Option<&'static str>) -> Option<&'static str> {
    std::mem::replace(&mut *OPERATION.lock().expect("nobody panics while holding it"), name)
}

/// The operation that is running (`step` between them), the part of the model and the direction,
/// while spans are recorded.
pub fn current() -> Option<(&'static str, Layer, Pass)> {
    is_on().then(|| {
        let context = CONTEXT.load(Ordering::Relaxed);
        let operation = OPERATION.lock().expect("nobody panics while holding it").unwrap_or(STEP);
        (operation, Layer(context as u16), Pass::of(context >> 16))
    })
}

/// A recording in progress. There is one at a time in a process.
#[derive(Debug)]
pub struct Recorder {
    origin: Instant,
}

impl Recorder {
    /// Begins to record; this thread is the driving one. `None` while another recording is in
    /// progress.
    pub fn start() -> Option<Self> {
        static BUSY: Mutex<()> = Mutex::new(());
        let _busy = BUSY.lock().expect("nobody panics while holding it");
        if is_on() {
            return None;
        }
        EVENTS.iter().for_each(|events| events.lock().expect("nobody panics while holding it").clear());
        CONTEXT.store(0, Ordering::Relaxed);
        operation_is(None);
        ON.store(true, Ordering::SeqCst);
        Some(Recorder { origin: Instant::now() })
    }

    /// Ends the recording.
    pub fn finish(self) -> Recording {
        let total = self.origin.elapsed().as_nanos() as u64;
        ON.store(false, Ordering::SeqCst);
        let since = |instant: Instant| (instant.saturating_duration_since(self.origin).as_nanos() as u64).min(total);
        let mut events = Vec::new();
        for shard in &EVENTS {
            for open in shard.lock().expect("nobody panics while holding it").drain(..) {
                let Open { kind, name, around: _, context, thread, start, end, flop, bytes } = open;
                let (layer, pass) = (Layer(context as u16), Pass::of(context >> 16));
                events.push(Event {
                    kind,
                    name,
                    layer,
                    pass,
                    thread,
                    start: since(start),
                    end: since(end),
                    flop,
                    bytes,
                });
            }
        }
        events.sort_by_key(|e| (e.thread, e.start, std::cmp::Reverse(e.end), e.kind));
        Recording { events, driver: thread(), threads: rayon::current_num_threads(), total }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        ON.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        let (a, b) = (Layer::named("a part"), Layer::named("another part"));
        assert!(a != b && a != Layer::NONE && Layer::named("a part") == a);
        assert_eq!((a.to_string(), b.name(), Layer::NONE.name()), ("a part".to_string(), "another part", ""));
    }

    #[test]
    fn passes_go_there_and_back() {
        for pass in [Pass::None, Pass::Forward, Pass::Backward, Pass::Update] {
            assert_eq!(Pass::of((pass as u32) << 16 >> 16), pass);
        }
    }
}
