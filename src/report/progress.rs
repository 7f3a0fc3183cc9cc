//! Progress for people, on standard error: a bar on a terminal, elsewhere plain lines that become
//! rarer.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Result;
use crate::report::{duration, stage_name, thousands, wrapped};
use crate::train::observer::{CheckpointReason, Evaluated, Event, Observer, RecipeRow, Split, StageStarted, Step};

/// Seconds between the plain lines of a run; the last one stays.
const INTERVALS: [u64; 8] = [5, 10, 30, 60, 120, 300, 600, 1200];

/// Columns of a terminal below which a bar has no room beside its numbers.
const NARROW: usize = 60;

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Warnings alone.
    Quiet,
    /// Events, and the settings that somebody changed.
    #[default]
    Normal,
    /// All settings, all notes, every evaluation.
    Verbose,
}

/// What the stages of a run share: what has been told, and when.
#[derive(Clone)]
pub struct Journal(Rc<RefCell<Told>>);

struct Told {
    last_line: Instant,
    /// Lines about a training in progress.
    lines: usize,
    /// Warnings, and the names of data files.
    once: HashSet<String>,
    /// The stage that was introduced last.
    stage: Option<&'static str>,
    /// Whether data files are told of.
    data: bool,
}

impl Default for Journal {
    fn default() -> Self {
        let told = Told { last_line: Instant::now(), lines: 0, once: HashSet::new(), stage: None, data: true };
        Journal(Rc::new(RefCell::new(told)))
    }
}

impl Journal {
    /// One for a run whose data files nobody has to be told of.
    pub fn without_data() -> Self {
        let journal = Journal::default();
        journal.0.borrow_mut().data = false;
        journal
    }

    /// Whether it is time for a line.
    fn is_due(&self, intervals: &[Duration]) -> bool {
        let told = self.0.borrow();
        told.last_line.elapsed() >= intervals[told.lines.min(intervals.len() - 1)]
    }

    fn count_line(&self) {
        let mut told = self.0.borrow_mut();
        told.last_line = Instant::now();
        told.lines += 1;
    }

    /// Whether a text is told for the first time.
    fn is_new(&self, text: &str) -> bool {
        self.0.borrow_mut().once.insert(text.to_string())
    }
}

/// Shows what happens. Failures to write are ignored: a closed terminal must not end a training
/// run.
pub struct Progress {
    out: Box<dyn Write>,
    /// Columns of the terminal, where it is one.
    terminal: Option<usize>,
    detail: Detail,
    intervals: Vec<Duration>,
    journal: Journal,
    bar: Option<ProgressBar>,
    stage: Option<Shown>,
}

/// The stage in progress, as far as this process has seen it.
struct Shown {
    /// Which of several models it is, with a space behind it.
    part: String,
    epochs: u64,
    started: Instant,
    first_step: u64,
    tokens: u64,
    documents: u64,
    /// The highest rate of the last update.
    rate: f64,
    /// The last evaluation, while no line has told of it.
    untold: Option<String>,
}

impl Progress {
    /// On standard error.
    pub fn new(detail: Detail, journal: &Journal) -> Self {
        let error = std::io::stderr();
        let terminal = error.is_terminal().then(|| crate::report::columns(&error));
        let intervals = INTERVALS.map(Duration::from_secs).to_vec();
        let journal = journal.clone();
        Progress { out: Box::new(error), terminal, detail, intervals, journal, bar: None, stage: None }
    }

    /// Plain lines to `out`, as often as on standard error that is no terminal.
    pub fn lines(out: Box<dyn Write>, detail: Detail, journal: &Journal) -> Self {
        let intervals = INTERVALS.map(Duration::from_secs).to_vec();
        Progress { out, terminal: None, detail, intervals, journal: journal.clone(), bar: None, stage: None }
    }

    /// Plain lines to `out`, one after every `interval`.
    pub fn plain(out: Box<dyn Write>, interval: Duration) -> Self {
        let (detail, journal) = (Detail::Verbose, Journal::default());
        Progress { out, terminal: None, detail, intervals: vec![interval], journal, bar: None, stage: None }
    }

    fn line(&mut self, text: &str) {
        let text = match self.terminal {
            Some(columns) => wrapped(text, columns),
            None => text.to_string(),
        };
        match &self.bar {
            Some(bar) => bar.println(text),
            None => drop(writeln!(self.out, "{text}")),
        }
    }

    fn start(&mut self, started: &StageStarted) {
        self.end_bar();
        let title = stage_name(started.stage, started.direction);
        let verbose = self.detail == Detail::Verbose;
        let introduced = self.journal.0.borrow_mut().stage.replace(title) == Some(title);
        // of several models of a stage the first is introduced
        if verbose || started.part.is_none() || !introduced {
            self.introduce(title, started, verbose);
        }
        if started.first_step > 0 {
            self.line(&format!("  going on after update {}", thousands(started.first_step)));
        }
        self.stage = Some(Shown {
            part: started.part.as_ref().map_or_else(String::new, |part| format!("{part}  ")),
            epochs: started.epochs,
            started: Instant::now(),
            first_step: started.first_step,
            tokens: 0,
            documents: 0,
            rate: f64::NAN,
            untold: None,
        });
        if let Some(columns) = self.terminal {
            let bar = ProgressBar::with_draw_target(Some(started.total_steps), ProgressDrawTarget::stderr_with_hz(5));
            let template =
                if columns < NARROW { "{pos}/{len} {wide_msg}" } else { "{prefix} {bar:12} {pos}/{len} {wide_msg}" };
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.expect("the template is constant").progress_chars("━╸─"));
            bar.set_prefix(started.stage.name());
            bar.set_position(started.first_step);
            self.bar = Some(bar);
        }
    }

    /// One line about a stage and one about what somebody changed, or all that there is to know.
    fn introduce(&mut self, title: &str, started: &StageStarted, verbose: bool) {
        let size = format!("{} parameters", thousands(started.parameters));
        let length = format!("{} updates in {} epochs", thousands(started.total_steps), started.epochs);
        if !verbose {
            self.line(&format!("{title}: {}, {size}, {length}", started.description.join(", ")));
            let changed = started.recipe.iter().filter(|row| row.changed);
            let changed: Vec<String> = changed.map(|row| format!("{}={}", row.key, row.value)).collect();
            if !changed.is_empty() {
                self.line(&format!("  changed: {}", changed.join(", ")));
            }
            return;
        }
        self.line(title);
        started.description.iter().for_each(|line| self.line(&format!("  {line}")));
        let (groups, names) = (started.groups.len(), started.groups.join(", "));
        self.line(&format!("  {size} in {groups} groups ({names}); {length}"));
        let rows = &started.recipe;
        let wide = |pick: fn(&RecipeRow) -> &str| rows.iter().map(|row| pick(row).chars().count()).max().unwrap_or(0);
        let (key, value) = (wide(|row| &row.key), wide(|row| &row.value));
        rows.iter().for_each(|r| self.line(&format!("  {:key$}  {:value$}  {}", r.key, r.value, r.source)));
    }

    fn step(&mut self, step: &Step) {
        let Some(stage) = &mut self.stage else { return };
        stage.tokens += step.tokens;
        stage.documents += step.documents;
        stage.rate = step.learning_rates.iter().copied().fold(0.0, f64::max);
        if self.bar.is_none() && !self.journal.is_due(&self.intervals) {
            return;
        }
        let seconds = stage.started.elapsed().as_secs_f64().max(1e-9);
        let done = (step.step - stage.first_step.min(step.step)).max(1) as f64;
        let left = duration(seconds / done * step.total_steps.saturating_sub(step.step) as f64);
        let (count, unit) =
            if stage.documents > 0 { (stage.documents, "documents/s") } else { (stage.tokens, "tokens/s") };
        let speed = format!("{} {unit}", thousands((count as f64 / seconds) as u64));
        let loss = step.smoothed_loss;
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            bar.set_message(format!("{left} left, loss {loss:.3}, {speed}"));
            return;
        }
        self.journal.count_line();
        let perplexity = match stage.documents {
            0 => format!("  perplexity {}", perplexity(loss.exp())),
            _ => String::new(),
        };
        let text = format!(
            "  {}epoch {}/{}, update {}/{}  loss {loss:.4}{perplexity}  rate {}  {speed}, {left} left",
            stage.part,
            step.epoch,
            stage.epochs,
            thousands(step.step),
            thousands(step.total_steps),
            rate(stage.rate),
        );
        self.line(&text);
    }

    fn evaluated(&mut self, e: &Evaluated) {
        let verbose = self.detail == Detail::Verbose;
        let Some(stage) = &mut self.stage else { return };
        // the result of a stage has what was measured on the test data
        if e.split == Split::Test && !verbose {
            return;
        }
        let what = match e.split {
            Split::Valid => format!("epoch {}/{}  validation loss", e.epoch, stage.epochs),
            Split::Test => "test loss".into(),
        };
        let mut text = format!("  {}{what} {:.4}", stage.part, e.loss);
        if let Some(value) = e.scores.get("perplexity") {
            text += &format!("  perplexity {}", perplexity(value));
        }
        match (e.scores.get("error_percent"), e.scores.get("accuracy"), e.scores.iter().next()) {
            (Some(error), _, _) => text += &format!("  error {error:.2} %"),
            (None, Some(_), _) => {}
            (None, None, Some((name, value))) => text += &format!("  {} {value:.4}", name.replace('_', " ")),
            _ => {}
        }
        if stage.rate.is_finite() {
            text += &format!("  rate {}", rate(stage.rate));
        }
        text += &format!("  ({})", duration(stage.started.elapsed().as_secs_f64()));
        // short epochs follow each other fast: one is told of when it is time, and the last
        if !verbose && !self.journal.is_due(&self.intervals) {
            stage.untold = Some(text);
            return;
        }
        stage.untold = None;
        self.journal.count_line();
        self.line(&text);
    }

    /// Tells of an evaluation that no line has told of.
    fn catch_up(&mut self) {
        if let Some(text) = self.stage.as_mut().and_then(|stage| stage.untold.take()) {
            self.line(&text);
        }
    }

    fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end_bar();
    }
}

fn perplexity(value: f64) -> String {
    if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// A learning rate in three digits.
fn rate(value: f64) -> String {
    if value < 1e-3 {
        return if value == 0.0 { "0".into() } else { format!("{value:.2e}") };
    }
    let decimals = (2.0 - value.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_string()
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event) -> Result<()> {
        if let Event::Warning { text } = event {
            if self.journal.is_new(text) {
                self.line(&format!("warning: {text}"));
            }
            return Ok(());
        }
        if self.detail == Detail::Quiet {
            return Ok(());
        }
        let verbose = self.detail == Detail::Verbose;
        match event {
            Event::StageStarted(started) => self.start(started),
            Event::Note { text, detail } if !detail || verbose => self.line(text),
            Event::Data { source, text } => {
                let told = self.journal.0.borrow().data && self.journal.is_new(source);
                if told || verbose {
                    self.line(text);
                }
            }
            Event::Step(step) => self.step(step),
            Event::Evaluated(evaluated) => self.evaluated(evaluated),
            Event::Unfrozen { groups, .. } if verbose => self.line(&format!("learning: {}", groups.join(", "))),
            Event::Checkpoint { step, path, reason: CheckpointReason::Interrupt } => {
                self.line(&format!("state after step {step} saved in {}", path.display()));
            }
            Event::Finished { .. } => {
                self.catch_up();
                self.end_bar();
            }
            Event::Environment { .. }
            | Event::Note { .. }
            | Event::Unfrozen { .. }
            | Event::Layers(_)
            | Event::Confusion { .. }
            | Event::Table { .. }
            | Event::Checkpoint { .. }
            | Event::Warning { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Direction;
    use crate::train::Stage;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn step(step: u64) -> Event {
        Event::Step(Step {
            stage: Stage::Pretrain,
            epoch: 1,
            step,
            total_steps: 10,
            loss: 5.0,
            smoothed_loss: 2.0,
            tokens: 100,
            documents: 0,
            seconds: 1.0,
            learning_rates: vec![0.1],
            momentum: 0.8,
            gradient_norm: 1.0,
            gradient_scale: 1.0,
            pool_allocations: 0,
            pool_bytes: 0,
            peak_rss_mb: 1.0,
        })
    }

    fn evaluated(epoch: u64) -> Event {
        Event::Evaluated(Evaluated {
            stage: Stage::Pretrain,
            epoch,
            step: epoch,
            split: Split::Valid,
            loss: 1.0,
            scores: Default::default(),
            seconds: 0.0,
        })
    }

    /// Of epochs that follow each other fast the last is told of; of all with `--verbose`.
    #[test]
    fn short_epochs() {
        let mut all = events()[..1].to_vec();
        all.extend((1..=5).map(evaluated));
        all.push(Event::Finished { stage: Stage::Pretrain, summary: serde_json::Value::Null });
        let text = shown(|page| normal(page, Duration::from_secs(3600)), &all);
        let told: Vec<&str> = text.lines().filter(|line| line.contains("validation loss")).collect();
        assert!(told.len() == 1 && told[0].contains("epoch 5/1 "), "{text}");
        let text = shown(|page| Progress::plain(Box::new(page), Duration::from_secs(3600)), &all);
        assert_eq!(text.lines().filter(|line| line.contains("validation loss")).count(), 5, "{text}");
    }

    fn normal(page: Page, interval: Duration) -> Progress {
        let mut progress = Progress::plain(Box::new(page), interval);
        progress.detail = Detail::Normal;
        progress
    }

    fn shown(progress: impl FnOnce(Page) -> Progress, events: &[Event]) -> String {
        let page = Page::default();
        let mut progress = progress(page.clone());
        events.iter().for_each(|event| progress.observe(event).unwrap());
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    fn events() -> Vec<Event> {
        let row = crate::train::observer::RecipeRow {
            key: "batch-size".into(),
            value: "64".into(),
            source: "docs/SPEC.md §4.4".into(),
            changed: false,
        };
        let started = StageStarted {
            told: None,
            part: None,
            stage: Stage::Pretrain,
            direction: Direction::Forward,
            first_step: 2,
            total_steps: 10,
            epochs: 1,
            parameters: 1_234_567,
            recipe: vec![row],
            groups: vec!["lstm1".into()],
            description: vec!["train: 1,000 tokens".into()],
        };
        vec![Event::StageStarted(started), step(3), step(4), Event::warning("odd"), Event::note("done")]
    }

    /// A run of several models of one stage introduces the stage once, and tells once of a file
    /// and of a doubt.
    #[test]
    fn nothing_is_told_twice_in_a_run() {
        let (page, journal) = (Page::default(), Journal::default());
        for fold in ["fold 1 of 2", "fold 2 of 2"] {
            let mut progress = normal(page.clone(), Duration::from_secs(3600));
            progress.journal = journal.clone();
            let mut all = events();
            let Event::StageStarted(started) = &mut all[0] else { unreachable!() };
            started.part = Some(fold.into());
            all.extend([Event::data("a.csv", "train: a.csv"), evaluated(1)]);
            all.push(Event::Finished { stage: Stage::Pretrain, summary: serde_json::Value::Null });
            all.iter().for_each(|event| progress.observe(event).unwrap());
        }
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        for (part, times) in [("1,234,567 parameters", 1), ("train: a.csv", 1), ("warning: odd", 1), ("  fold ", 2)] {
            assert_eq!(text.matches(part).count(), times, "{part}: {text}");
        }
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!([0.0, 0.00012345, 0.004, 0.034567, 30.0].map(rate), ["0", "1.23e-4", "0.004", "0.0346", "30"]);
    }

    #[test]
    fn plain_lines() {
        let text = shown(|page| Progress::plain(Box::new(page), Duration::ZERO), &events());
        for part in
            ["1,234,567 parameters", "batch-size  64  docs/SPEC.md §4.4", "after update 2", "update 4/10  loss 2.0000"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.contains("perplexity 7.39") && text.contains("tokens/s") && text.contains("warning: odd"),
            "{text}"
        );
    }

    #[test]
    fn lines_wait_for_the_interval_and_quiet_leaves_warnings() {
        let text = shown(|page| Progress::plain(Box::new(page), Duration::from_secs(3600)), &events());
        assert!(!text.contains("update 4/10") && text.contains("done"), "{text}");
        let text = shown(|page| normal(page, Duration::ZERO), &events());
        assert!(!text.contains("batch-size") && text.contains("update 4/10"), "{text}");
        let quiet = |page| {
            let mut progress = Progress::plain(Box::new(page), Duration::ZERO);
            progress.detail = Detail::Quiet;
            progress
        };
        assert_eq!(shown(quiet, &events()), "warning: odd\n");
    }
}
