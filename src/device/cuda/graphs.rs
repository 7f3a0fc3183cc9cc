//! Repeated work becomes a graph, which the driver launches as a whole.
//!
//! Work is recognised by what it does: kernels, grids, arguments, places in memory. The first time
//! it runs piece by piece, the second time it is captured, from then on its graph is launched. So a
//! graph can never do anything else than the pieces would have done, and who collects work need not
//! know whether there is one. Uploads alone may differ between two times: the graph copies them
//! from page-locked memory of its own, which is written before each launch. A driver that refuses a
//! capture has said so once: all work then runs piece by piece.

use std::ffi::c_void;
use std::ops::Range;

use super::driver::{self, CUgraphExec, CUstream};
use super::error::failed;
use super::work::Work;
use crate::error::{Error, Result};

/// The most work that is remembered; the least recently used is forgotten first. A training has two
/// graphs for every window length and set of frozen layers: 64 hold the lengths that variable
/// windows draw (70 ± 15). More would cost page-locked memory and memory of the driver, about 100
/// KB each, and batches of documents, which seldom have the same shape twice, would fill any number
/// of them.
pub const GRAPHS: usize = 64;

/// Counts of collected work since the process began, and how much of it is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphStatistics {
    /// Run piece by piece.
    pub plain: u64,
    pub captured: u64,
    /// Launches of graphs, those that follow a capture included.
    pub launched: u64,
    /// Remembered now, with a graph or not yet.
    pub kept: usize,
}

struct Kept {
    pattern: Work,
    graph: Option<Graph>,
}

struct Graph {
    executable: CUgraphExec,
    staging: Staging,
    /// [`Graphs::waits`] at its last launch.
    launched_at: u64,
}

// SAFETY: a graph's handle may be used from any thread, by one at a time.
unsafe impl Send for Graph {}

/// Page-locked memory of the host.
struct Staging {
    address: *mut c_void,
    bytes: usize,
}

impl Staging {
    fn new(bytes: usize) -> Result<Self> {
        // the content is written before it is read (`fill`)
        let address =
            driver::allocate_host(bytes.max(1)).map_err(|e| failed("taking page-locked memory for a graph", e))?;
        Ok(Staging { address, bytes })
    }

    fn slice(&mut self) -> &mut [u8] {
        // SAFETY: an allocation of that size, which nobody else has; bytes have no invalid values,
        // and all are written by `fill` first.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.bytes) }
    }

    fn fill(&mut self, bytes: &[u8]) {
        // SAFETY: an allocation of that size, of which the GPU reads nothing now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.cast(), self.bytes) }
    }

    fn free(mut self) -> Result<()> {
        self.give_back().map_err(|e| failed("giving page-locked memory back", e))
    }

    fn give_back(&mut self) -> driver::Answer {
        let address = std::mem::replace(&mut self.address, std::ptr::null_mut());
        // SAFETY: from `allocate_host`, given back once, and no graph reads it any more.
        if address.is_null() { Ok(()) } else { unsafe { driver::free_host(address) } }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // where it was not freed there is an error already, which is told
        let _ = self.give_back();
    }
}

/// The remembered work of one stream.
#[derive(Default)]
pub(super) struct Graphs {
    /// By when it was last met.
    kept: Vec<Kept>,
    /// How often the stream was waited for.
    waits: u64,
    /// Why the driver captures nothing, until it is told, and whether it does not.
    refusal: Option<String>,
    refused: bool,
    statistics: GraphStatistics,
}

impl Graphs {
    /// Runs collected work: piece by piece, or as a graph.
    pub fn run(&mut self, stream: CUstream, work: &Work) -> Result<()> {
        if self.refused {
            self.statistics.plain += 1;
            return work.issue(stream, work.host());
        }
        let Some(at) = self.kept.iter().rposition(|kept| kept.pattern == *work) else {
            if self.kept.len() == GRAPHS {
                let oldest = self.kept.remove(0);
                self.release(stream, oldest)?;
            }
            self.kept.push(Kept { pattern: work.pattern(), graph: None });
            self.statistics.plain += 1;
            return work.issue(stream, work.host());
        };
        let mut kept = self.kept.remove(at);
        let outcome = self.launch(stream, &mut kept, work);
        self.kept.push(kept);
        outcome
    }

    fn launch(&mut self, stream: CUstream, kept: &mut Kept, work: &Work) -> Result<()> {
        let graph = match &mut kept.graph {
            Some(graph) => {
                if graph.launched_at == self.waits {
                    // the copies of its last launch may not have been made
                    self.wait(stream)?;
                }
                graph.staging.fill(work.host());
                graph
            }
            none => {
                let graph = match capture(stream, work)? {
                    Ok(graph) => graph,
                    Err(refusal) => {
                        (self.refusal, self.refused) = (Some(refusal.to_string()), true);
                        self.statistics.plain += 1;
                        return work.issue(stream, work.host());
                    }
                };
                self.statistics.captured += 1;
                none.insert(graph)
            }
        };
        graph.launched_at = self.waits;
        self.statistics.launched += 1;
        // SAFETY: the graph was made for this stream and is not destroyed before `release`.
        unsafe { driver::launch_graph(graph.executable, stream) }.map_err(|e| failed("launching a graph", e))
    }

    /// Waits for all that the stream has to do.
    pub fn wait(&mut self, stream: CUstream) -> Result<()> {
        // SAFETY: the stream is destroyed where nothing comes after it.
        unsafe { driver::synchronise(stream) }.map_err(|e| failed("waiting for the GPU", e))?;
        self.waits += 1;
        Ok(())
    }

    fn release(&mut self, stream: CUstream, kept: Kept) -> Result<()> {
        let Some(graph) = kept.graph else { return Ok(()) };
        if graph.launched_at == self.waits {
            self.wait(stream)?;
        }
        // SAFETY: it is not launched again, and what was launched is done.
        unsafe { driver::destroy_executable(graph.executable) }.map_err(|e| failed("giving a graph back", e))?;
        graph.staging.free()
    }

    /// Gives back the graphs that use this memory, which is about to be freed. A copy in a graph
    /// belongs to the allocation it was captured for, not to the address: the driver crashes where
    /// such a graph is launched after the address was freed and handed out again.
    pub fn forget(&mut self, stream: CUstream, memory: Range<u64>) -> Result<()> {
        let (using, others) = std::mem::take(&mut self.kept).into_iter().partition(|k| k.pattern.uses(&memory));
        self.kept = others;
        let using: Vec<Kept> = using;
        using.into_iter().try_for_each(|kept| self.release(stream, kept))
    }

    /// Gives all graphs back.
    pub fn clear(&mut self, stream: CUstream) -> Result<()> {
        while let Some(kept) = self.kept.pop() {
            self.release(stream, kept)?;
        }
        Ok(())
    }

    /// Why the driver captures nothing, once.
    pub fn refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    pub fn statistics(&self) -> GraphStatistics {
        GraphStatistics { kept: self.kept.len(), ..self.statistics }
    }
}

/// Has the driver record the work instead of doing it; or its refusal, after which it may still do
/// the work.
fn capture(stream: CUstream, work: &Work) -> Result<std::result::Result<Graph, Error>> {
    let mut staging = Staging::new(work.host().len())?;
    staging.fill(work.host());
    let capturing = |code: driver::Code| {
        let error = failed("capturing a step as a graph", code);
        if code.is_refusal() {
            return Ok(Err(error));
        }
        Err(error.hint("set ULMFIT_CUDA_GRAPHS=off: a step is then launched piece by piece"))
    };
    // SAFETY: the stream is not captured: nothing else captures it, and a capture ends below
    // whatever happens.
    if let Err(code) = unsafe { driver::begin_capture(stream) } {
        return capturing(code);
    }
    let issued = work.issue(stream, staging.slice());
    // SAFETY: the stream is captured.
    let graph = match (issued, unsafe { driver::end_capture(stream) }) {
        (Ok(()), Ok(graph)) => graph,
        (Ok(()), Err(code)) => return capturing(code),
        (Err(error), ended) => {
            if let Ok(graph) = ended {
                // SAFETY: the graph was just made; what cannot be given back is the lesser error.
                let _ = unsafe { driver::destroy_graph(graph) };
            }
            // a piece may be refused in a capture alone: done by itself, it tells what is wrong
            // with it
            return Ok(Err(error));
        }
    };
    // SAFETY: the graph was just made.
    let executable = unsafe { driver::instantiate(graph) };
    // SAFETY: as above; what was made of it stays.
    let destroyed = unsafe { driver::destroy_graph(graph) };
    match (executable, destroyed) {
        (Ok(executable), Ok(())) => Ok(Ok(Graph { executable, staging, launched_at: 0 })),
        (Ok(executable), Err(code)) => {
            // SAFETY: it was never launched.
            let _ = unsafe { driver::destroy_executable(executable) };
            capturing(code)
        }
        (Err(code), _) => capturing(code),
    }
}
