//! Work that comes again becomes a graph, which the driver launches as a whole.
//!
//! Work is recognised by what it does: kernels, grids, arguments, places in memory. The first time it runs piece by piece, the second time it is
//! captured, from then on its graph is launched. So a graph can never do anything else than the pieces would have done, and who collects work need not
//! know whether there is one. What may differ between two times is what is uploaded: the graph copies it from page-locked memory of its own, which is
//! written before each launch.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::error::failed;
use super::work::Work;
use crate::error::Result;

/// Work that is remembered at most; what was not met for longest goes first. A training has two graphs for every window length and set of frozen
/// layers: 64 hold the lengths that variable windows draw (70 ± 15). More would cost page-locked memory and memory of the driver, about 100 KB each, and
/// batches of documents, which seldom have the same shape twice, would fill any number of them.
pub const GRAPHS: usize = 64;

/// What became of collected work since the process began, and how much of it is remembered.
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
    executable: sys::CUgraphExec,
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
        // SAFETY: the content is written before it is read (`fill`).
        let address = unsafe { result::malloc_host(bytes.max(1), 0) }
            .map_err(|e| failed("taking page-locked memory for a graph", e))?;
        Ok(Staging { address, bytes })
    }

    fn slice(&mut self) -> &mut [u8] {
        // SAFETY: an allocation of that size, which nobody else has; bytes have no invalid values, and all are written by `fill` first.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.bytes) }
    }

    fn fill(&mut self, bytes: &[u8]) {
        // SAFETY: an allocation of that size, of which the GPU reads nothing now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.cast(), self.bytes) }
    }

    fn free(self) -> Result<()> {
        // SAFETY: from `malloc_host`, and no graph reads it any more.
        unsafe { result::free_host(self.address) }.map_err(|e| failed("giving page-locked memory back", e))
    }
}

/// The remembered work of one stream.
#[derive(Default)]
pub(super) struct Graphs {
    /// By when it was last met.
    kept: Vec<Kept>,
    /// How often the stream was waited for.
    waits: u64,
    statistics: GraphStatistics,
}

impl Graphs {
    /// Runs collected work: piece by piece, or as a graph.
    pub fn run(&mut self, stream: sys::CUstream, work: &Work) -> Result<()> {
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

    fn launch(&mut self, stream: sys::CUstream, kept: &mut Kept, work: &Work) -> Result<()> {
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
                self.statistics.captured += 1;
                none.insert(capture(stream, work)?)
            }
        };
        graph.launched_at = self.waits;
        self.statistics.launched += 1;
        // SAFETY: the graph was made for this stream and is not destroyed before `release`.
        unsafe { result::graph::launch(graph.executable, stream) }.map_err(|e| failed("launching a graph", e))
    }

    /// Waits for all that the stream has to do.
    pub fn wait(&mut self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the stream is destroyed where nothing comes after it.
        unsafe { result::stream::synchronize(stream) }.map_err(|e| failed("waiting for the GPU", e))?;
        self.waits += 1;
        Ok(())
    }

    fn release(&mut self, stream: sys::CUstream, kept: Kept) -> Result<()> {
        let Some(graph) = kept.graph else { return Ok(()) };
        if graph.launched_at == self.waits {
            self.wait(stream)?;
        }
        // SAFETY: it is not launched again, and what was launched is done.
        unsafe { result::graph::exec_destroy(graph.executable) }.map_err(|e| failed("giving a graph back", e))?;
        graph.staging.free()
    }

    /// Gives all graphs back.
    pub fn clear(&mut self, stream: sys::CUstream) -> Result<()> {
        while let Some(kept) = self.kept.pop() {
            self.release(stream, kept)?;
        }
        Ok(())
    }

    pub fn statistics(&self) -> GraphStatistics {
        GraphStatistics { kept: self.kept.len(), ..self.statistics }
    }
}

/// Has the driver record the work instead of doing it.
fn capture(stream: sys::CUstream, work: &Work) -> Result<Graph> {
    let mut staging = Staging::new(work.host().len())?;
    staging.fill(work.host());
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let capturing = |e| {
        failed("capturing a step as a graph", e)
            .hint("set ULMFIT_CUDA_GRAPHS=off: a step is then launched piece by piece")
    };
    // SAFETY: the stream is not captured: nothing else captures it, and a capture ends below whatever happens.
    unsafe { result::stream::begin_capture(stream, mode) }.map_err(capturing)?;
    let issued = work.issue(stream, staging.slice());
    // SAFETY: the stream is captured.
    let graph = unsafe { result::stream::end_capture(stream) };
    issued?;
    let graph = graph.map_err(capturing)?;
    // SAFETY: the graph was just made.
    let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
    // SAFETY: as above; what was made of it stays.
    unsafe { result::graph::destroy(graph) }.map_err(capturing)?;
    Ok(Graph { executable: executable.map_err(capturing)?, staging, launched_at: 0 })
}
