//! A recording in the Chrome trace format (chrome://tracing, ui.perfetto.dev): one bar for every
//! span, nested, a lane for every thread.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::trace::{Event, Kind, Recording};

/// The file's object.
pub fn chrome(recording: &Recording, title: &str) -> Value {
    // the driving thread is lane 0, the others follow by number
    let mut lanes = BTreeMap::from([(recording.driver, 0)]);
    for event in &recording.events {
        let next = lanes.len();
        lanes.entry(event.thread).or_insert(next);
    }
    let mut all = vec![json!({"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": title}})];
    for lane in lanes.values() {
        let name = if *lane == 0 { "driver".to_string() } else { format!("thread {lane}") };
        all.push(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": name}}));
    }
    all.push(json!({
        "ph": "X", "cat": "step", "name": "step", "pid": 1, "tid": 0, "ts": 0.0, "dur": recording.total as f64 / 1e3, "args": {},
    }));
    all.extend(recording.events.iter().map(|event| bar(event, lanes[&event.thread])));
    json!({"displayTimeUnit": "ms", "otherData": {"program": concat!("ulmfit ", env!("CARGO_PKG_VERSION"))}, "traceEvents": all})
}

/// Times are in microseconds.
fn bar(event: &Event, lane: usize) -> Value {
    let category = match event.kind {
        Kind::Pass => "pass",
        Kind::Operation => "operation",
        Kind::Region => "region",
        Kind::Phase => "phase",
    };
    let mut args = json!({"direction": event.pass.name(), "layer": event.layer.to_string()});
    if event.flop > 0 {
        args["flop"] = event.flop.into();
    }
    if event.bytes > 0 {
        args["bytes"] = event.bytes.into();
    }
    json!({
        "ph": "X", "cat": category, "name": event.name, "pid": 1, "tid": lane,
        "ts": event.start as f64 / 1e3, "dur": (event.end - event.start) as f64 / 1e3, "args": args,
    })
}
