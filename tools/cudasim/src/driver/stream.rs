//! Streams, events, and graphs captured from streams.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

use super::launch::Kernel;
use super::{
    Answer, CAPTURE_IMPLICIT, CAPTURE_INVALIDATED, CAPTURE_ISOLATION, CAPTURE_UNSUPPORTED, Handle, ILLEGAL_STATE,
    INVALID_HANDLE, INVALID_VALUE, Needs, Object, State, call, handle, index, put, refuse,
};
use crate::config::Refused;

/// Work of a stream, and a node of a graph.
#[derive(Clone)]
pub(crate) enum Node {
    Kernel(Kernel),
    ToDevice { to: u64, from: usize, len: usize },
    ToHost { to: usize, from: u64, len: usize },
    Within { to: u64, from: u64, len: usize },
    Fill { to: u64, value: u8, len: usize },
    Host { function: extern "C" fn(*mut c_void), data: usize },
}

#[derive(Default)]
pub(crate) struct Capture {
    nodes: Vec<Node>,
    invalid: bool,
    /// `CU_STREAM_CAPTURE_MODE_RELAXED`
    relaxed: bool,
}

#[derive(Default)]
pub(crate) struct Stream {
    pub capture: Option<Capture>,
    destroyed: bool,
}

#[derive(Default)]
pub(crate) struct Event {
    /// Time of the last record.
    recorded: Option<u64>,
    in_capture: bool,
    timed: bool,
    destroyed: bool,
}

impl State {
    pub fn stream(&mut self, stream: Handle) -> Answer<&mut Stream> {
        // null, and the legacy and per-thread default streams
        let number = if (stream as usize) <= 2 { 0 } else { index(Object::Stream, stream)? };
        let found = self.streams.get_mut(number).filter(|s| !s.destroyed);
        found.ok_or_else(|| refuse(INVALID_HANDLE, "the stream was destroyed"))
    }

    fn event(&mut self, event: Handle) -> Answer<&mut Event> {
        let number = index(Object::Event, event)?;
        let found = self.events.get_mut(number).filter(|e| !e.destroyed);
        found.ok_or_else(|| refuse(INVALID_HANDLE, "the event was destroyed"))
    }

    pub fn invalidate(&mut self, stream: Handle) {
        if let Ok(Stream { capture: Some(capture), .. }) = self.stream(stream) {
            capture.invalid = true;
        }
    }

    /// Calls that would wait for, or change, what is only captured.
    pub fn refuse_while_capturing(&mut self) -> Answer {
        let mut refused = false;
        for capture in self.streams.iter_mut().filter_map(|s| s.capture.as_mut()).filter(|c| !c.relaxed) {
            capture.invalid = true;
            refused = true;
        }
        if refused {
            return Err(refuse(
                CAPTURE_UNSUPPORTED,
                "not allowed while a stream is captured; the capture is invalid now",
            ));
        }
        Ok(())
    }

    /// Runs the work, or notes it where the stream is captured.
    pub fn submit(&mut self, stream: Handle, node: Node) -> Answer {
        self.check_node(&node)?;
        let legacy = (stream as usize) <= 2;
        if legacy && self.streams.iter().any(|s| s.capture.is_some()) {
            return Err(refuse(CAPTURE_IMPLICIT, "work for the default stream while another stream is captured"));
        }
        match &mut self.stream(stream)?.capture {
            Some(capture) if capture.invalid => Err(refuse(CAPTURE_INVALIDATED, "")),
            Some(capture) => {
                capture.nodes.push(node);
                Ok(())
            }
            None => self.perform(&node),
        }
    }

    fn perform(&mut self, node: &Node) -> Answer {
        match node {
            Node::Kernel(kernel) => self.run(kernel),
            Node::Host { function, data } => {
                function(*data as *mut c_void);
                Ok(())
            }
            copy => {
                self.count_copy(copy);
                self.copy(copy)
            }
        }
    }

    fn count_copy(&mut self, node: &Node) {
        let (name, len, reads, writes) = match *node {
            Node::ToDevice { len, .. } => ("(copy to the GPU)", len, 0, 1),
            Node::ToHost { len, .. } => ("(copy from the GPU)", len, 1, 0),
            Node::Within { len, .. } => ("(copy within the GPU)", len, 1, 1),
            Node::Fill { len, .. } => ("(fill)", len, 0, 1),
            Node::Kernel(_) | Node::Host { .. } => return,
        };
        let sums = self.labelled.entry((String::new(), name.to_string())).or_default();
        sums.launches += 1;
        sums.memory.copied(len as u64, reads, writes);
    }
}

fn create(to: *mut Handle) -> u32 {
    call("cuStreamCreate", Needs::Context, |s| {
        s.streams.push(Stream::default());
        put(to, handle(Object::Stream, s.streams.len() - 1))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(to: *mut Handle, _flags: c_uint) -> u32 {
    create(to)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(to: *mut Handle, _flags: c_uint, _priority: c_int) -> u32 {
    create(to)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: Handle) -> u32 {
    call("cuStreamDestroy", Needs::Context, |s| {
        if stream.is_null() {
            return Err(refuse(INVALID_HANDLE, "the default stream cannot be destroyed"));
        }
        s.stream(stream)?.destroyed = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: Handle) -> u32 {
    call("cuStreamSynchronize", Needs::Sync, |s| {
        if s.stream(stream)?.capture.is_some() {
            s.invalidate(stream);
            return Err(refuse(CAPTURE_UNSUPPORTED, "the stream is captured; the capture is invalid now"));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: Handle) -> u32 {
    call("cuStreamQuery", Needs::Sync, |s| s.stream(stream).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) -> u32 {
    call("cuStreamWaitEvent", Needs::Context, |s| {
        let outside = !s.event(event)?.in_capture;
        if outside && s.stream(stream)?.capture.is_some() {
            s.invalidate(stream);
            return Err(refuse(
                CAPTURE_ISOLATION,
                "a captured stream waits for an event recorded outside of the capture",
            ));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(stream: Handle, function: extern "C" fn(*mut c_void), data: *mut c_void) -> u32 {
    // the function may not call the driver, so that it may run under the lock
    call("cuLaunchHostFunc", Needs::Context, |s| s.submit(stream, Node::Host { function, data: data as usize }))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(to: *mut Handle, flags: c_uint) -> u32 {
    call("cuEventCreate", Needs::Context, |s| {
        s.events.push(Event { timed: flags & 2 == 0, ..Event::default() });
        put(to, handle(Object::Event, s.events.len() - 1))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: Handle) -> u32 {
    call("cuEventDestroy", Needs::Context, |s| {
        s.event(event)?.destroyed = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> u32 {
    call("cuEventRecord", Needs::Context, |s| {
        let captured = s.stream(stream)?.capture.is_some();
        s.time += 1000;
        let time = s.time;
        let e = s.event(event)?;
        e.in_capture = captured;
        e.recorded = Some(time);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: Handle) -> u32 {
    call("cuEventQuery", Needs::Sync, |s| s.event(event).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: Handle) -> u32 {
    call("cuEventSynchronize", Needs::Sync, |s| {
        if s.event(event)?.in_capture && s.streams.iter().any(|s| s.capture.is_some()) {
            return Err(refuse(CAPTURE_UNSUPPORTED, "the event was recorded in a capture"));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> u32 {
    call("cuEventElapsedTime", Needs::Sync, |s| {
        let mut at = [0u64; 2];
        for (at, event) in at.iter_mut().zip([start, end]) {
            let e = s.event(event)?;
            if !e.timed {
                return Err(refuse(INVALID_HANDLE, "the event was created without timing"));
            }
            *at = e.recorded.ok_or_else(|| refuse(INVALID_HANDLE, "the event was never recorded"))?;
        }
        put(milliseconds, (at[1] as f64 - at[0] as f64) as f32 * 1e-6)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) -> u32 {
    cuEventElapsedTime(milliseconds, start, end)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> u32 {
    call("cuStreamBeginCapture", Needs::Context, |s| {
        if (stream as usize) <= 1 {
            return Err(refuse(CAPTURE_UNSUPPORTED, "the default stream cannot be captured"));
        }
        if s.config.refuse == Some(Refused::Capture) {
            return Err(refuse(CAPTURE_UNSUPPORTED, ""));
        }
        let st = s.stream(stream)?;
        if st.capture.is_some() {
            return Err(refuse(ILLEGAL_STATE, "the stream is captured already"));
        }
        st.capture = Some(Capture { relaxed: mode == 2, ..Capture::default() });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: Handle, to: *mut Handle) -> u32 {
    call("cuStreamEndCapture", Needs::Context, |s| {
        let Some(capture) = s.stream(stream)?.capture.take() else {
            return Err(refuse(ILLEGAL_STATE, "the stream is not captured"));
        };
        if capture.invalid {
            put(to, std::ptr::null_mut())?;
            return Err(refuse(CAPTURE_INVALIDATED, ""));
        }
        s.graphs.push(Some(capture.nodes));
        put(to, handle(Object::Graph, s.graphs.len() - 1))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: Handle, status: *mut c_int) -> u32 {
    call("cuStreamIsCapturing", Needs::Context, |s| {
        let status_now = match &s.stream(stream)?.capture {
            None => 0,
            Some(c) if c.invalid => 2,
            Some(_) => 1,
        };
        put(status, status_now)
    })
}

/// A graph made ready, with the allocations that its copies and fills were captured for.
pub(crate) struct Executable {
    nodes: Vec<Node>,
    allocations: Vec<usize>,
}

impl State {
    /// The allocations that copies and fills of these nodes touch.
    fn allocations_of(&self, nodes: &[Node]) -> Vec<usize> {
        let places = nodes.iter().flat_map(|node| match *node {
            Node::ToDevice { to, .. } | Node::Fill { to, .. } => [Some(to), None],
            Node::ToHost { from, .. } => [Some(from), None],
            Node::Within { to, from, .. } => [Some(to), Some(from)],
            Node::Kernel(_) | Node::Host { .. } => [None, None],
        });
        places.flatten().filter_map(|at| self.memory.index(at)).collect()
    }
}

fn slot<T>(list: &mut [Option<T>], object: Object, of: Handle) -> Answer<&mut Option<T>> {
    let number = index(object, of)?;
    let found = list.get_mut(number).filter(|g| g.is_some());
    found.ok_or_else(|| refuse(INVALID_HANDLE, "the graph was destroyed"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(to: *mut Handle, graph: Handle, flags: c_ulonglong) -> u32 {
    call("cuGraphInstantiate", Needs::Context, |s| {
        // 4 is a launch from the device, which nothing here can do
        if flags & !0b1011 != 0 {
            return Err(refuse(INVALID_VALUE, format!("flags {flags:#x} are not simulated")));
        }
        let nodes = slot(&mut s.graphs, Object::Graph, graph)?.clone().unwrap_or_default();
        let allocations = s.allocations_of(&nodes);
        s.execs.push(Some(Executable { nodes, allocations }));
        put(to, handle(Object::Exec, s.execs.len() - 1))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: Handle, stream: Handle) -> u32 {
    call("cuGraphUpload", Needs::Context, |s| {
        slot(&mut s.execs, Object::Exec, exec)?;
        s.stream(stream).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: Handle, stream: Handle) -> u32 {
    call("cuGraphLaunch", Needs::Context, |s| {
        let Some(Executable { nodes, allocations }) = slot(&mut s.execs, Object::Exec, exec)? else { return Ok(()) };
        let (nodes, allocations) = (nodes.clone(), allocations.clone());
        // a real driver reads what it no longer has, and crashes
        if let Some(&gone) = allocations.iter().find(|&&a| s.memory.allocations[a].freed) {
            let why = format!("the graph copies to or from allocation #{gone}, which was freed since its capture");
            return Err(refuse(INVALID_VALUE, why));
        }
        for node in nodes {
            s.submit(stream, node)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: Handle) -> u32 {
    call("cuGraphExecDestroy", Needs::Context, |s| {
        *slot(&mut s.execs, Object::Exec, exec)? = None;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> u32 {
    call("cuGraphDestroy", Needs::Context, |s| {
        *slot(&mut s.graphs, Object::Graph, graph)? = None;
        Ok(())
    })
}

impl State {
    /// What was made and not destroyed, in words.
    pub fn leaks(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .memory
            .live()
            .filter(|a| !a.label.starts_with("variable"))
            .map(|a| format!("allocation #{} of {} bytes at 0x{:x} ({})", a.id, a.len, a.base, a.label))
            .collect();
        let mut count = |n: usize, what: &str| {
            if n > 0 {
                all.push(format!("{n} {what}"));
            }
        };
        count(self.host.len(), "page-locked allocation(s)");
        count(self.modules.iter().filter(|m| !m.unloaded).count(), "module(s)");
        count(self.streams.iter().skip(1).filter(|s| !s.destroyed).count(), "stream(s)");
        count(self.events.iter().filter(|e| !e.destroyed).count(), "event(s)");
        let graphs = self.graphs.iter().flatten().count() + self.execs.iter().flatten().count();
        count(graphs, "graph(s)");
        all
    }
}
