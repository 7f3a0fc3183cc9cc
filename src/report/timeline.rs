//! A page about one step of training: its time line, and its time by direction, layer, operation
//! and phase as a flame chart. Bars are elements of the page, so that they stand there without
//! scripts.

use std::fmt::Write as _;

use super::page;
use super::plots::{COLOUR_COUNT, colour_variable, escape};
use crate::trace::{Event, Kind, Recording};

/// Narrower bars than this share of the step are not drawn.
const NARROW: f64 = 2e-4;
/// Height of a bar, in units of the page.
const HEIGHT: f64 = 1.35;

/// A part of the step that overlaps no other.
pub struct Part {
    /// Direction, layer, operation and phase.
    pub path: [String; 4],
    pub ms: f64,
}

/// A bar; places and widths are shares of the whole.
struct Bar {
    depth: usize,
    start: f64,
    width: f64,
    label: String,
    title: String,
    colour: usize,
}

/// The page. `parts` add up to the step.
pub fn page(title: &str, recording: &Recording, parts: &[Part]) -> String {
    let mut body = String::from(
        "<p>Choose a bar to fill the width with it; a double click shows all. A bar tells its time under the pointer.</p>\n\
         <section id=\"flame\">\n<h2>Where the time goes</h2>\n<p>The step by direction, layer, operation and phase. Widths \
         are shares of the time.</p>\n",
    );
    bars(&mut body, &flame(parts));
    body.push_str("</section>\n<section id=\"line\">\n<h2>Time line</h2>\n");
    for (name, lane, left_out) in lanes(recording) {
        let _ = writeln!(body, "<h3>{}</h3>", escape(&name));
        bars(&mut body, &lane);
        if left_out > 0 {
            let ms = NARROW * recording.total as f64 / 1e6;
            let _ = writeln!(body, "<p class=\"hint\">{left_out} spans shorter than {ms:.3} ms are not drawn.</p>");
        }
    }
    body.push_str("</section>\n");
    let script = include_str!("bars.js");
    let _ = writeln!(body, "<script>\n{script}</script>");
    page::page(title, &body)
}

fn bars(body: &mut String, bars: &[Bar]) {
    let rows = bars.iter().map(|bar| bar.depth + 1).max().unwrap_or(0);
    let _ = writeln!(body, "<div class=\"bars\" style=\"height:{:.2}rem\">", HEIGHT * rows as f64);
    for bar in bars {
        let Bar { depth, start, width, label, title, colour } = bar;
        let _ = writeln!(
            body,
            "<button class=\"bar\" style=\"left:{:.4}%;width:{:.4}%;top:{:.2}rem;--c:var({})\" data-start=\"{start:.7}\" \
             data-width=\"{width:.7}\" title=\"{}\">{}</button>",
            100.0 * start,
            100.0 * width,
            HEIGHT * *depth as f64,
            colour_variable(*colour),
            escape(title),
            escape(label),
        );
    }
    body.push_str("</div>\n");
}

/// A colour that a name always has.
fn colour(name: &str) -> usize {
    name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % COLOUR_COUNT
}

/// The parts from the whole step down, each level sorted by time.
fn flame(parts: &[Part]) -> Vec<Bar> {
    let total: f64 = parts.iter().map(|part| part.ms).sum();
    let title = |name: &str, ms: f64| format!("{name}: {ms:.3} ms, {:.1} %", 100.0 * ms / total);
    let whole = Bar { depth: 0, start: 0.0, width: 1.0, label: "step".into(), title: title("step", total), colour: 0 };
    let mut all = vec![whole];
    let every: Vec<&Part> = parts.iter().collect();
    level(&mut all, &every, 0, 0.0, total, &title);
    all.retain(|bar| bar.width >= NARROW);
    all
}

fn level(
    all: &mut Vec<Bar>,
    parts: &[&Part],
    depth: usize,
    start: f64,
    total: f64,
    title: &dyn Fn(&str, f64) -> String,
) {
    if depth == 4 {
        return;
    }
    let mut groups: Vec<(&str, Vec<&Part>)> = Vec::new();
    for part in parts {
        let name = part.path[depth].as_str();
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of)) => of.push(part),
            None => groups.push((name, vec![part])),
        }
    }
    let sum = |of: &[&Part]| of.iter().map(|part| part.ms).sum::<f64>();
    groups.sort_by(|a, b| sum(&b.1).total_cmp(&sum(&a.1)));
    let mut at = start;
    for (name, of) in groups {
        let width = sum(&of) / total;
        let shown = if name.is_empty() { "(none)" } else { name };
        let (label, title_of) = (shown.to_string(), title(shown, sum(&of)));
        all.push(Bar { depth: depth + 1, start: at, width, label, title: title_of, colour: colour(name) });
        level(all, &of, depth + 1, at, total, title);
        at += width;
    }
}

/// A lane for every thread, the driver's first: its name, its bars, and how many are too narrow.
fn lanes(recording: &Recording) -> Vec<(String, Vec<Bar>, usize)> {
    let mut threads: Vec<usize> = recording.events.iter().map(|event| event.thread).collect();
    threads.sort_unstable();
    threads.dedup();
    threads.sort_by_key(|&thread| thread != recording.driver);
    let lane = |(number, thread): (usize, usize)| {
        let events: Vec<&Event> = recording.events.iter().filter(|event| event.thread == thread).collect();
        let (bars, left_out) = lane(&events, recording.total);
        let name = if thread == recording.driver { "driver".to_string() } else { format!("thread {number}") };
        (name, bars, left_out)
    };
    threads.into_iter().enumerate().map(lane).collect()
}

/// The spans of one thread, which come by beginning, the longer one first.
fn lane(events: &[&Event], total: u64) -> (Vec<Bar>, usize) {
    let (mut open, mut bars, mut left_out): (Vec<u64>, Vec<Bar>, usize) = (Vec::new(), Vec::new(), 0);
    for event in events {
        while open.last().is_some_and(|&end| end <= event.start) {
            open.pop();
        }
        let depth = open.len();
        open.push(event.end);
        let (start, width) = (event.start as f64 / total as f64, (event.end - event.start) as f64 / total as f64);
        if width < NARROW {
            left_out += 1;
            continue;
        }
        let layer = event.layer.name();
        let label = match (event.kind, layer) {
            (Kind::Operation, layer) if !layer.is_empty() => format!("{} {layer}", event.name),
            _ => event.name.to_string(),
        };
        let ms = (event.end - event.start) as f64 / 1e6;
        let work =
            if event.flop > 0 { format!(", {:.1} GFLOP/s", event.flop as f64 / ms / 1e6) } else { String::new() };
        let title = format!("{label} ({}): {ms:.3} ms, {:.1} %{work}", event.pass.name(), 100.0 * width);
        bars.push(Bar { depth, start, width, label, title, colour: colour(event.name) });
    }
    (bars, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Layer, Pass};

    fn part(path: [&str; 4], ms: f64) -> Part {
        Part { path: path.map(String::from), ms }
    }

    #[test]
    fn the_flame_has_every_part_below_its_own() {
        let parts = [
            part(["forward", "lstm1", "lstm", "products"], 3.0),
            part(["backward", "lstm1", "lstm", "products"], 6.0),
            part(["forward", "", "embedding", "rows"], 1.0),
        ];
        let bars = flame(&parts);
        let of = |depth: usize, label: &str| {
            bars.iter().find(|bar| (bar.depth, bar.label.as_str()) == (depth, label)).unwrap()
        };
        // the longest first
        assert_eq!((of(1, "backward").start, of(1, "backward").width), (0.0, 0.6));
        let (forward, lstm) = (of(1, "forward"), bars.iter().find(|bar| bar.depth == 3 && bar.start > 0.5).unwrap());
        assert!((forward.start - 0.6).abs() < 1e-12 && (forward.width - 0.4).abs() < 1e-12);
        assert!((lstm.start - 0.6).abs() < 1e-12 && (lstm.width - 0.3).abs() < 1e-12 && lstm.label == "lstm");
        assert_eq!(of(2, "(none)").title, "(none): 1.000 ms, 10.0 %");
        let leaves: f64 = bars.iter().filter(|bar| bar.depth == 4).map(|bar| bar.width).sum();
        assert!((leaves - 1.0).abs() < 1e-12, "{leaves}");
    }

    #[test]
    fn the_line_nests_and_leaves_out_what_is_too_narrow() {
        let event = |kind, name, thread, start, end| Event {
            kind,
            name,
            layer: Layer::NONE,
            pass: Pass::Forward,
            thread,
            start,
            end,
            flop: 0,
            bytes: 0,
        };
        let events = vec![
            event(Kind::Phase, "products", 0, 500_000, 600_000),
            event(Kind::Pass, "forward", 3, 0, 900_000),
            event(Kind::Operation, "lstm", 3, 0, 500_000),
            event(Kind::Phase, "packing", 3, 10, 20),
            event(Kind::Operation, "relu", 3, 500_000, 800_000),
        ];
        let recording = Recording { events, driver: 3, threads: 2, total: 1_000_000 };
        let lanes = lanes(&recording);
        assert_eq!((lanes[0].0.as_str(), lanes[0].2, lanes[1].0.as_str()), ("driver", 1, "thread 1"));
        let depths: Vec<_> = lanes[0].1.iter().map(|bar| (bar.label.as_str(), bar.depth)).collect();
        assert_eq!(depths, [("forward", 0), ("lstm", 1), ("relu", 1)]);
        let page = page("step <1>", &recording, &[part(["forward", "lstm1", "lstm", "products"], 1.0)]);
        assert!(page.contains("1 spans shorter than 0.000 ms") && page.contains("step &lt;1&gt;"));
    }
}
