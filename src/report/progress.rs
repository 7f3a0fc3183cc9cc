//! Progress for people, on standard error: a bar on a terminal, a plain line every few seconds
//! elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Result;
use crate::report::{duration, stage_title, thousands};
use crate::train::observer::{CheckpointReason, Evaluated, Event, Observer, RecipeRow, Split, StageStarted, Step};

/// Seconds between the first plain lines of a stage; the last one stays.
const INTERVALS: [u64; 4] = [5, 10, 30, 60];

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Warnings alone.
    Quiet,
    /// What happens, and the settings that differ from the recipe.
    #[default]
    Normal,
    /// All settings.
    Verbose,
}

/// Shows what happens. Failures to write are ignored: a closed terminal must not end a training
/// run.
pub struct Progress {
    out: Box<dyn Write>,
    terminal: bool,
    detail: Detail,
    intervals: Vec<Duration>,
    bar: Option<ProgressBar>,
    stage: Option<Shown>,
}

/// The stage in progress, as far as this process has seen it.
struct Shown {
    name: &'static str,
    epochs: u64,
    started: Instant,
    last_line: Instant,
    lines: usize,
    first_step: u64,
    tokens: u64,
    documents: u64,
    /// The last evaluation, while no line has told of it.
    untold: Option<String>,
}

impl Shown {
    /// Whether it is time for a line.
    fn is_due(&self, intervals: &[Duration]) -> bool {
        self.last_line.elapsed() >= intervals[self.lines.min(intervals.len() - 1)]
    }

    fn count_line(&mut self) {
        self.last_line = Instant::now();
        self.lines += 1;
    }
}

impl Progress {
    /// On standard error.
    pub fn new(detail: Detail) -> Self {
        let (out, terminal) = (Box::new(std::io::stderr()), std::io::stderr().is_terminal());
        Progress {
            out,
            terminal,
            detail,
            intervals: INTERVALS.map(Duration::from_secs).to_vec(),
            bar: None,
            stage: None,
        }
    }

    /// Plain lines to `out`, one after every `interval`.
    pub fn plain(out: Box<dyn Write>, interval: Duration) -> Self {
        let detail = Detail::Verbose;
        Progress { out, terminal: false, detail, intervals: vec![interval], bar: None, stage: None }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => drop(writeln!(self.out, "{text}")),
        }
    }

    fn start(&mut self, started: &StageStarted) {
        self.end_bar();
        let mut text = vec![stage_title(started.stage, started.direction).to_string()];
        text.extend(started.description.iter().map(|line| format!("  {line}")));
        text.push(format!(
            "  {} parameters in {} groups ({}); {} steps in {} epochs",
            thousands(started.parameters),
            started.groups.len(),
            started.groups.join(", "),
            thousands(started.total_steps),
            started.epochs,
        ));
        if started.first_step > 0 {
            text.push(format!("  going on after step {}", thousands(started.first_step)));
        }
        let verbose = self.detail == Detail::Verbose;
        let rows: Vec<&RecipeRow> = started.recipe.iter().filter(|row| verbose || row.changed).collect();
        let wide = |pick: fn(&RecipeRow) -> &str| rows.iter().map(|row| pick(row).chars().count()).max().unwrap_or(0);
        let (key, value) = (wide(|row| &row.key), wide(|row| &row.value));
        text.extend(rows.iter().map(|r| format!("  {:key$}  {:value$}  {}", r.key, r.value, r.source)));
        text.iter().for_each(|line| self.line(line));

        let now = Instant::now();
        self.stage = Some(Shown {
            name: started.stage.name(),
            epochs: started.epochs,
            started: now,
            last_line: now,
            lines: 0,
            first_step: started.first_step,
            tokens: 0,
            documents: 0,
            untold: None,
        });
        if self.terminal {
            let bar = ProgressBar::with_draw_target(Some(started.total_steps), ProgressDrawTarget::stderr_with_hz(5));
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
            bar.set_style(style.expect("the template is constant").progress_chars("━╸─"));
            bar.set_prefix(started.stage.name());
            bar.set_position(started.first_step);
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, step: &Step) {
        let Some(stage) = &mut self.stage else { return };
        stage.tokens += step.tokens;
        stage.documents += step.documents;
        let due = stage.is_due(&self.intervals);
        if self.bar.is_none() && !due {
            return;
        }
        let seconds = stage.started.elapsed().as_secs_f64().max(1e-9);
        let done = (step.step - stage.first_step.min(step.step)).max(1) as f64;
        let left = seconds / done * step.total_steps.saturating_sub(step.step) as f64;
        let (count, unit) =
            if stage.documents > 0 { (stage.documents, "documents/s") } else { (stage.tokens, "tokens/s") };
        let mut numbers = format!("loss {:.4}", step.smoothed_loss);
        if stage.documents == 0 {
            numbers += &format!(" ppl {}", perplexity(step.smoothed_loss.exp()));
        }
        numbers += &format!(" {} {unit}", thousands((count as f64 / seconds) as u64));
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            bar.set_message(format!("{numbers} {} left", duration(left)));
            return;
        }
        stage.count_line();
        let text = format!(
            "{} epoch {}/{} step {}/{} {numbers} {} left",
            stage.name,
            step.epoch,
            stage.epochs,
            step.step,
            step.total_steps,
            duration(left)
        );
        self.line(&text);
    }

    fn evaluated(&mut self, e: &Evaluated) {
        let mut text = format!("{} epoch {} {} loss {:.4}", e.stage.name(), e.epoch, e.split.name(), e.loss);
        if let Some(value) = e.scores.get("perplexity") {
            text += &format!(" perplexity {}", perplexity(value));
        }
        if let Some(value) = e.scores.get("bits_per_byte") {
            text += &format!(" bits/byte {value:.3}");
        }
        match (e.scores.get("error_percent"), e.scores.get("accuracy"), e.scores.iter().next()) {
            (Some(error), _, _) => text += &format!(" error {error:.2} %"),
            (None, Some(accuracy), _) => text += &format!(" accuracy {accuracy:.2} %"),
            (None, None, Some((name, value))) => text += &format!(" {} {value:.4}", name.replace('_', " ")),
            _ => {}
        }
        text += &format!(" ({})", duration(e.seconds));
        // short epochs follow each other fast: the first is told of, then one when it is time, and
        // the last
        if let Some(stage) = &mut self.stage {
            let first = stage.untold.is_none() && stage.lines == 0;
            if e.split == Split::Valid && !first && !stage.is_due(&self.intervals) {
                stage.untold = Some(text);
                return;
            }
            stage.count_line();
            stage.untold = None;
        }
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

impl Observer for Progress {
    fn observe(&mut self, event: &Event) -> Result<()> {
        if let Event::Warning { text } = event {
            self.line(&format!("warning: {text}"));
            return Ok(());
        }
        if self.detail == Detail::Quiet {
            return Ok(());
        }
        match event {
            Event::StageStarted(started) => self.start(started),
            Event::Note { text } => self.line(text),
            Event::Step(step) => self.step(step),
            Event::Evaluated(evaluated) => self.evaluated(evaluated),
            Event::Unfrozen { groups, .. } => self.line(&format!("learning: {}", groups.join(", "))),
            Event::Checkpoint { step, path, reason: CheckpointReason::Interrupt } => {
                self.line(&format!("state after step {step} saved in {}", path.display()));
            }
            Event::Finished { .. } => {
                self.catch_up();
                self.end_bar();
            }
            Event::Environment { .. }
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

    /// Of epochs that follow each other fast, the first and the last are told of.
    #[test]
    fn short_epochs() {
        let mut all = events()[..1].to_vec();
        all.extend((1..=5).map(evaluated));
        all.push(Event::Finished { stage: Stage::Pretrain, summary: serde_json::Value::Null });
        let text = shown(|page| Progress::plain(Box::new(page), Duration::from_secs(3600)), &all);
        let told: Vec<&str> = text.lines().filter(|line| line.contains("valid loss")).collect();
        assert_eq!(told.len(), 2, "{text}");
        assert!(told[0].contains("epoch 1 ") && told[1].contains("epoch 5 "), "{text}");
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

    #[test]
    fn plain_lines() {
        let text = shown(|page| Progress::plain(Box::new(page), Duration::ZERO), &events());
        for part in
            ["1,234,567 parameters", "batch-size  64  docs/SPEC.md §4.4", "after step 2", "step 4/10 loss 2.0000"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("ppl 7.39") && text.contains("tokens/s") && text.contains("warning: odd"), "{text}");
    }

    #[test]
    fn lines_wait_for_the_interval_and_quiet_leaves_warnings() {
        let text = shown(|page| Progress::plain(Box::new(page), Duration::from_secs(3600)), &events());
        assert!(!text.contains("step 4/10") && text.contains("done"), "{text}");
        let normal = |page| {
            let mut progress = Progress::plain(Box::new(page), Duration::ZERO);
            progress.detail = Detail::Normal;
            progress
        };
        let text = shown(normal, &events());
        assert!(!text.contains("batch-size") && text.contains("step 4/10"), "{text}");
        let quiet = |page| {
            let mut progress = Progress::plain(Box::new(page), Duration::ZERO);
            progress.detail = Detail::Quiet;
            progress
        };
        assert_eq!(shown(quiet, &events()), "warning: odd\n");
    }
}
