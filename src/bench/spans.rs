//! From recorded spans to sums that do not overlap, for profile and budget.

use std::collections::BTreeMap;

use crate::trace::{self, Event, Kind, Layer, Pass, Recording, STEP};

/// Operation, layer, direction and phase, in the order to show.
pub(super) type Key = (Pass, Layer, &'static str, &'static str);

#[derive(Default)]
pub(super) struct Sum {
    /// Nanoseconds.
    pub time: f64,
    pub flop: u64,
    pub bytes: u64,
    pub calls: u64,
}

/// Shares out the time of a recording: every nanosecond of the driving thread goes to the innermost
/// span that is open, and within a region to the spans of all threads by thread time. So the sums
/// add up to the step.
pub(super) fn sums(recording: &Recording) -> impl Iterator<Item = (Key, Sum)> {
    let mut sums = Sums::default();
    share_out(recording, &mut sums);
    sums.0.into_iter()
}

#[derive(Default)]
struct Sums(BTreeMap<Key, Sum>);

impl Sums {
    /// Adds time that no span of this row's own stands for.
    fn time(&mut self, key: Key, nanoseconds: f64) -> &mut Sum {
        let sum = self.0.entry(key).or_default();
        sum.time += nanoseconds;
        sum
    }

    /// Adds time of a span, without what it counts.
    fn call(&mut self, key: Key, nanoseconds: f64) -> &mut Sum {
        let sum = self.time(key, nanoseconds);
        sum.calls += 1;
        sum
    }

    /// Adds time of a span, and its counts.
    fn work(&mut self, key: Key, nanoseconds: f64, event: &Event) {
        let sum = self.call(key, nanoseconds);
        sum.flop += event.flop;
        sum.bytes += event.bytes;
    }
}

fn share_out(recording: &Recording, sums: &mut Sums) {
    let Recording { events, driver, threads, total } = recording;
    let trees = nest(events);
    let share = 1.0 / *threads as f64;
    let mut top = *total as f64;
    for (i, event) in events.iter().enumerate().filter(|(_, e)| e.thread == *driver) {
        let chain = || std::iter::successors(Some(i), |&i| trees[i].parent).map(|i| &events[i]);
        let op = chain().find(|e| e.kind == Kind::Operation).map_or(STEP, |e| e.name);
        let own = trees[i].own as f64;
        if trees[i].parent.is_none() {
            top -= (event.end - event.start) as f64;
        }
        let key = |phase| (event.pass, event.layer, op, phase);
        match event.kind {
            Kind::Operation if !trees[i].divided => sums.work(key(trace::ELEMENTWISE), own, event),
            Kind::Pass | Kind::Operation => {
                sums.call(key(trace::OTHER), own);
            }
            Kind::Phase if chain().any(|e| e.kind == Kind::Region) => {}
            Kind::Phase => sums.work(key(event.name), own, event),
            Kind::Region => {
                let mut rest = (event.end - event.start) as f64;
                let inside = |e: &Event| e.kind == Kind::Phase && e.start >= event.start && e.end <= event.end;
                for (j, part) in events.iter().enumerate().filter(|(_, e)| inside(e)) {
                    let time = share * trees[j].own as f64;
                    rest -= time;
                    sums.work((part.pass, event.layer, op, part.name), time, part);
                }
                sums.call(key(trace::WAITING), rest.max(0.0));
            }
        }
    }
    sums.time((Pass::None, Layer::NONE, STEP, trace::OTHER), top.max(0.0));
}

/// A span's place among those of its thread.
struct Nested {
    parent: Option<usize>,
    /// Nanoseconds in no span within.
    own: u64,
    /// Whether it holds phases or regions.
    divided: bool,
}

/// Nests spans, which come by thread, then by beginning, the longer one first.
fn nest(events: &[Event]) -> Vec<Nested> {
    let mut all: Vec<Nested> = Vec::with_capacity(events.len());
    let mut open: Vec<usize> = Vec::new();
    for (i, event) in events.iter().enumerate() {
        let holds =
            |&j: &usize| events[j].thread == event.thread && events[j].end >= event.end && events[j].end > event.start;
        while open.last().is_some_and(|j| !holds(j)) {
            open.pop();
        }
        let parent = open.last().copied();
        if let Some(parent) = parent {
            all[parent].own -= event.end - event.start;
            all[parent].divided |= matches!(event.kind, Kind::Phase | Kind::Region);
        }
        all.push(Nested { parent, own: event.end - event.start, divided: false });
        open.push(i);
    }
    all
}
