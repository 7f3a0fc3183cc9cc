//! `report.html`: one page about one run or several, with no resource outside itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;
use crate::models::rule::Rule;
use crate::report::plots::escape;
use crate::report::{answer, curves, figure, page as frame};
use crate::report::{duration, metrics, stage_title, thousands};
use crate::train::observer::{Event, Split, StageStarted};

/// Name of the page within a model's directory.
pub const FILE: &str = "report.html";

/// The content of one model's directory.
pub struct Run {
    /// Shown where a page has several runs.
    pub name: String,
    pub folder: PathBuf,
    pub events: Vec<Event>,
    /// `config.json`, where there is one.
    pub config: Option<Value>,
    /// How its models answer, where that was chosen.
    pub rule: Option<Rule>,
}

impl Run {
    /// Reads `metrics.jsonl` and, where it exists, `config.json` of a model's directory.
    pub fn load(dir: &Path) -> Result<Self> {
        let config = dir.join("config.json");
        let invalid = |e: serde_json::Error| Error::file(&config, format!("is not valid JSON: {e}"));
        let there = files::exists(&config)?;
        let text = there.then(|| files::read_text(&config)).transpose()?;
        let config = text.map(|text| serde_json::from_str(&text).map_err(invalid)).transpose()?;
        let name = dir.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        let events = metrics::read(&dir.join(metrics::FILE))?;
        Ok(Run { name, folder: dir.to_path_buf(), events, config, rule: Rule::load(dir)? })
    }
}

/// Writes `out` from the runs in `dirs` (see [`files::put`]).
pub fn write(out: &Path, title: &str, dirs: &[&Path]) -> Result<()> {
    let runs = dirs.iter().map(|dir| Run::load(dir)).collect::<Result<Vec<_>>>()?;
    let page = page(title, &runs, "")?;
    files::put(out, page)
}

/// The page about `runs`, in their order; `more`: sections that follow the stages.
pub fn page(title: &str, runs: &[Run], more: &str) -> Result<String> {
    let mut body = String::new();
    let several = runs.iter().map(|run| sections(&run.events).len()).sum::<usize>() > 1;
    if several {
        body += "<nav aria-label=\"Stages\"><ul>\n";
        for (id, (run, section)) in all_sections(runs).enumerate() {
            let _ = writeln!(body, "<li><a href=\"#stage-{id}\">{}</a></li>", escape(&heading(run, &section, runs)));
        }
        body += "</ul></nav>\n";
    }
    for (id, (run, section)) in all_sections(runs).enumerate() {
        stage(&mut body, id, &heading(run, &section, runs), &section)?;
    }
    for rule in runs.iter().filter_map(|run| run.rule.as_ref()) {
        answer::section(&mut body, rule)?;
    }
    body += more;
    if all_sections(runs).next().is_none() {
        body += "<p>Nothing was recorded: no stage has begun.</p>\n";
    }
    for run in runs {
        if let Some(config) = &run.config {
            let name =
                if runs.len() > 1 { format!("config.json of {}", escape(&run.name)) } else { "config.json".into() };
            let text = serde_json::to_string_pretty(&without_lists(config)).unwrap_or_default();
            let _ = writeln!(body, "<details><summary>{name}</summary><pre>{}</pre></details>", escape(&text));
        }
    }
    if let Some(rows) = runs.iter().flat_map(|r| &r.events).rev().find_map(|e| match e {
        Event::Environment { rows } => Some(rows),
        _ => None,
    }) {
        body += "<section><h2>Environment</h2>\n<table class=\"rows\"><tbody>\n";
        for (key, value) in rows {
            let _ = writeln!(body, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(key), escape(value));
        }
        body += "</tbody></table></section>\n";
    }
    Ok(frame::page(title, &body))
}

/// The events of one stage.
pub(super) struct Section<'a> {
    pub(super) started: &'a StageStarted,
    pub(super) events: &'a [Event],
}

impl Section<'_> {
    pub(super) fn title(&self) -> &'static str {
        stage_title(self.started.stage, self.started.direction)
    }
}

/// A stage begins with its first update; a resumed part belongs to the stage before it.
pub(super) fn sections(events: &[Event]) -> Vec<Section<'_>> {
    let begins = |(i, event): (usize, &Event)| match event {
        Event::StageStarted(started) if started.first_step == 0 => Some(i),
        _ => None,
    };
    let mut starts: Vec<usize> = events.iter().enumerate().filter_map(begins).collect();
    if starts.is_empty() {
        starts.extend(events.iter().position(|e| matches!(e, Event::StageStarted(_))));
    }
    let ends = starts.iter().skip(1).copied().chain([events.len()]);
    let section = |(start, end): (usize, usize)| match &events[start] {
        Event::StageStarted(started) => Some(Section { started, events: &events[start..end] }),
        _ => None,
    };
    starts.iter().copied().zip(ends).filter_map(section).collect()
}

fn all_sections(runs: &[Run]) -> impl Iterator<Item = (&Run, Section<'_>)> {
    runs.iter().flat_map(|run| sections(&run.events).into_iter().map(move |section| (run, section)))
}

/// A stage's title; with its run's name where the page has the title more than once.
fn heading(run: &Run, section: &Section, runs: &[Run]) -> String {
    let same = all_sections(runs).filter(|(_, other)| other.title() == section.title()).count();
    if same > 1 { format!("{} ({})", section.title(), run.name) } else { section.title().to_string() }
}

fn stage(body: &mut String, id: usize, heading: &str, section: &Section) -> Result<()> {
    let started = section.started;
    let _ = writeln!(body, "<section id=\"stage-{id}\">\n<h2>{}</h2>", escape(heading));
    summary(body, section);

    body.push_str("<ul class=\"facts\">\n");
    let steps = format!("{} updates in {} epochs", thousands(started.total_steps), started.epochs);
    let size = format!("{} parameters in the groups {}", thousands(started.parameters), started.groups.join(", "));
    for line in started.description.iter().chain([&size, &steps]) {
        let _ = writeln!(body, "<li>{}</li>", escape(line));
    }
    for event in section.events {
        match event {
            Event::Note { text, .. } => {
                let _ = writeln!(body, "<li>{}</li>", escape(text));
            }
            Event::Warning { text } => {
                let _ = writeln!(body, "<li class=\"warning\"><strong>Warning:</strong> {}</li>", escape(text));
            }
            _ => {}
        }
    }
    body.push_str("</ul>\n");
    figure::charts(body, &curves::charts(section.events, &started.groups))?;

    for event in section.events {
        match event {
            Event::Confusion { split, labels, matrix } => confusion(body, *split, labels, matrix),
            Event::Table { split, title, columns, rows } => table(body, *split, title, columns, rows),
            _ => {}
        }
    }
    if !started.recipe.is_empty() {
        body.push_str(
            "<details><summary>Recipe</summary>\n<div class=\"scroll\"><table class=\"recipe\"><thead><tr><th scope=\"col\">Setting</th>",
        );
        body.push_str("<th scope=\"col\">Value</th><th scope=\"col\">Source</th></tr></thead><tbody>\n");
        for row in &started.recipe {
            let (key, value, source) = (escape(&row.key), escape(&row.value), escape(&row.source));
            let _ = writeln!(body, "<tr><th scope=\"row\">{key}</th><td>{value}</td><td>{source}</td></tr>");
        }
        body.push_str("</tbody></table></div></details>\n");
    }
    body.push_str("</section>\n");
    Ok(())
}

/// The numbers a reader looks for first.
fn summary(body: &mut String, section: &Section) {
    let finished = section.events.iter().rev().find_map(|e| match e {
        Event::Finished { summary, .. } => Some(summary),
        _ => None,
    });
    let Some(Value::Object(summary)) = finished else {
        body.push_str("<p class=\"warning\">This stage is not finished.</p>\n");
        return;
    };
    body.push_str("<dl class=\"summary\">\n");
    for (key, value) in summary {
        let text = match value {
            Value::Number(n) if key == "seconds" => duration(n.as_f64().unwrap_or(f64::NAN)),
            Value::Number(n) => match (n.as_u64(), n.as_f64()) {
                (Some(n), _) => thousands(n),
                (_, Some(x)) if x.abs() >= 1000.0 => thousands(x.round() as u64),
                (_, Some(x)) => format!("{x:.3}"),
                _ => n.to_string(),
            },
            Value::String(s) => s.clone(),
            Value::Bool(b) => b.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        let unit = if super::is_percentage(key) { " %" } else { "" };
        let key = if key == "seconds" { "time".into() } else { escape(&key.replace('_', " ")) };
        let _ = writeln!(body, "<div><dt>{key}</dt><dd>{}{unit}</dd></div>", escape(&text));
    }
    body.push_str("</dl>\n");
}

/// A confusion matrix as a table: rows are true classes; a cell is tinted by its share of the row.
fn confusion(body: &mut String, split: Split, labels: &[String], matrix: &[Vec<u64>]) {
    let _ = write!(
        body,
        "<h3>Confusion matrix ({})</h3>\n<div class=\"scroll\"><table class=\"confusion\"><caption>Rows: true class. Columns: \
         predicted class. Tint: share of the row.</caption>\n<thead><tr><td></td>",
        split.name()
    );
    for label in labels {
        let _ = write!(body, "<th scope=\"col\">{}</th>", escape(label));
    }
    body.push_str("<th scope=\"col\">right</th></tr></thead>\n<tbody>\n");
    for (i, row) in matrix.iter().enumerate() {
        let total: u64 = row.iter().sum();
        let share = |n: u64| if total > 0 { n as f64 / total as f64 } else { 0.0 };
        let _ = write!(body, "<tr><th scope=\"row\">{}</th>", escape(labels.get(i).map_or("?", |l| l)));
        for (j, &n) in row.iter().enumerate() {
            let class = if i == j { "right" } else { "wrong" };
            let _ = write!(body, "<td class=\"{class}\" style=\"--share:{:.3}\">{}</td>", share(n), thousands(n));
        }
        let right = row.get(i).copied().unwrap_or(0);
        let _ = writeln!(body, "<td class=\"total\">{:.1} %</td></tr>", 100.0 * share(right));
    }
    body.push_str("</tbody></table></div>\n");
}

/// Numbers by class, label or kind of entity; the first column is their name.
fn table(body: &mut String, split: Split, title: &str, columns: &[String], rows: &[Vec<Value>]) {
    let _ = write!(
        body,
        "<h3>{} ({})</h3>\n<div class=\"scroll\"><table class=\"rows\"><thead><tr>",
        escape(title),
        split.name()
    );
    for column in columns {
        let _ = write!(body, "<th scope=\"col\">{}</th>", escape(column));
    }
    body.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        body.push_str("<tr>");
        for (k, value) in row.iter().enumerate() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(n) => match n.as_u64() {
                    Some(n) => thousands(n),
                    None => format!("{:.4}", n.as_f64().unwrap_or(f64::NAN)),
                },
                _ => String::new(),
            };
            let (open, close) = if k == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            let _ = write!(body, "{open}{}{close}", escape(&text));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table></div>\n");
}

/// A copy in which long lists (a vocabulary) are replaced by their length.
fn without_lists(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.len() > 64 => Value::String(format!("({} items)", items.len())),
        Value::Array(items) => items.iter().map(without_lists).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), without_lists(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests;
