//! Several runs on one page: their results, the settings that differ, their curves over each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::curves::{Course, over_updates};
use super::html::Section;
use super::plots::{COLOUR_COUNT, Chart, Mark, Series, escape};
use super::subject::Subject;
use super::{answer, duration, figure, mistakes, page, thousands};
use crate::answer::wilson;
use crate::error::Result;
use crate::train::observer::{Event, Split, Step};

/// Runs on a page at most: more cannot be told apart.
pub const MOST: usize = 2 * COLOUR_COUNT;

/// The page about several subjects; `data`: what their answers were examined on.
///
/// # Errors
/// A chart cannot be drawn.
pub fn comparison(title: &str, subjects: &[Subject], data: Option<&str>) -> Result<String> {
    let mut body = String::from("<ol class=\"runs\">\n");
    for (colour, subject) in subjects.iter().enumerate() {
        let variable = super::plots::colour_variable(colour);
        let class = if colour < COLOUR_COUNT { "" } else { " class=\"dashed\"" };
        let _ = writeln!(body, "<li{class} style=\"--c:var({variable})\">{}</li>", escape(&subject.name));
    }
    body.push_str("</ol>\n");
    let stages = stages(subjects);
    results(&mut body, subjects, &stages);
    settings(&mut body, subjects);
    for (id, (title, of)) in stages.iter().enumerate() {
        let _ = writeln!(body, "<section id=\"curves-{id}\">\n<h2>{}</h2>", escape(title));
        figure::charts(&mut body, &overlaid(subjects, of))?;
        body.push_str("</section>\n");
    }
    calibration(&mut body, subjects)?;
    if let Some(data) = data {
        let all: Vec<_> = subjects.iter().filter_map(|s| Some((s.name.clone(), s.examined.as_ref()?))).collect();
        mistakes::section(&mut body, data, &all)?;
    }
    Ok(page::page(title, &body))
}

/// A stage by the runs that have it.
type Stage<'a> = (String, Vec<Option<Section<'a>>>);

/// The stages of all runs, in the order of their first appearance.
fn stages(subjects: &[Subject]) -> Vec<Stage<'_>> {
    let mut all: Vec<Stage> = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        for (title, section) in subject.stages() {
            let known = all.iter().position(|(other, _)| *other == title);
            let known = known.unwrap_or_else(|| {
                all.push((title, subjects.iter().map(|_| None).collect()));
                all.len() - 1
            });
            all[known].1[at] = Some(section);
        }
    }
    all
}

/// Whether less or more is better, by the name of a result.
fn better(key: &str) -> Option<std::cmp::Ordering> {
    let has = |parts: &[&str]| parts.iter().any(|part| key.contains(part));
    if has(&["loss", "error", "perplexity", "bits_per_byte"]) {
        Some(std::cmp::Ordering::Less)
    } else if has(&["accuracy", "f1", "precision", "recall", "exact_match", "pearson", "spearman"]) {
        Some(std::cmp::Ordering::Greater)
    } else {
        None
    }
}

fn shown(key: &str, value: &Value, of: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (_, Some(x)) if key == "seconds" => duration(x),
        (Some(n), _) => thousands(n),
        (_, Some(x)) if super::is_percentage(key) => {
            let size = of[key.replace("_error", "_size")].as_u64();
            let interval = size.map_or_else(String::new, |n| {
                let (low, high) = wilson(x / 100.0, n);
                format!(" <small>({:.1} to {:.1})</small>", 100.0 * low, 100.0 * high)
            });
            format!("{x:.2} %{interval}")
        }
        (_, Some(x)) if x.abs() >= 1000.0 => thousands(x.round() as u64),
        (_, Some(x)) => format!("{x:.4}"),
        _ => "–".into(),
    }
}

/// A table for each stage, and one for the answers of whole runs.
fn results(body: &mut String, subjects: &[Subject], stages: &[Stage]) {
    body.push_str("<section id=\"results\">\n<h2>Results</h2>\n");
    let summary = |section: &Section| {
        section.events.iter().rev().find_map(|event| match event {
            Event::Finished { summary, .. } => Some(summary.clone()),
            _ => None,
        })
    };
    let mut tables: Vec<(String, Vec<Option<Value>>)> = Vec::new();
    for (title, of) in stages {
        tables.push((title.clone(), of.iter().map(|section| section.as_ref().and_then(summary)).collect()));
    }
    for (part, title) in [("answer", "Answers of the folder"), ("linear", "Linear model")] {
        let of =
            |subject: &Subject| subject.result.as_ref().map(|result| result[part].clone()).filter(Value::is_object);
        tables.push((title.into(), subjects.iter().map(of).collect()));
    }
    let mut with_interval = false;
    for (title, all) in tables {
        let mut keys: Vec<&String> = Vec::new();
        for (key, value) in all.iter().flatten().flat_map(|summary| summary.as_object().into_iter().flatten()) {
            if value.is_number() && !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            continue;
        }
        with_interval |= keys.iter().any(|key| key.ends_with("_size"));
        let _ = writeln!(body, "<h3>{}</h3>", escape(&title));
        table_head(body, subjects.iter().map(|subject| subject.name.as_str()));
        for key in keys {
            let numbers: Vec<Option<f64>> = all.iter().map(|s| s.as_ref().and_then(|s| s[key].as_f64())).collect();
            let best = better(key).and_then(|order| best_of(&numbers, order));
            let _ = write!(body, "<tr><th scope=\"row\">{}</th>", escape(&key.replace('_', " ")));
            for (summary, number) in all.iter().zip(&numbers) {
                let text = summary.as_ref().map_or_else(|| "–".into(), |s| shown(key, &s[key], s));
                let class = if best.is_some() && *number == best { " class=\"best\"" } else { "" };
                let _ = write!(body, "<td{class}>{text}</td>");
            }
            body.push_str("</tr>\n");
        }
        body.push_str("</tbody></table></div>\n");
    }
    body.push_str("<p>The best value of a row is bold.");
    if with_interval {
        body.push_str(
            " In brackets: the 95 % interval of an error, from the number of texts. Where the intervals of two runs \
             overlap, their order may be chance.",
        );
    }
    body.push_str("</p>\n</section>\n");
}

/// The best of several numbers, if they are not all the same.
fn best_of(numbers: &[Option<f64>], order: std::cmp::Ordering) -> Option<f64> {
    let all: Vec<f64> = numbers.iter().flatten().copied().collect();
    let wanted = |a: &f64, b: &f64| a.total_cmp(b);
    let (least, most) = (all.iter().copied().min_by(wanted)?, all.iter().copied().max_by(wanted)?);
    (least < most).then_some(if order.is_lt() { least } else { most })
}

fn table_head<'a>(body: &mut String, names: impl Iterator<Item = &'a str>) {
    body.push_str("<div class=\"scroll\"><table class=\"rows\"><thead><tr><td></td>");
    for name in names {
        let _ = write!(body, "<th scope=\"col\">{}</th>", escape(name));
    }
    body.push_str("</tr></thead><tbody>\n");
}

/// Everything that decided a run, by name, in the order in which it was told.
fn facts(subject: &Subject) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |key: String, value: String| {
        if !all.iter().any(|(known, _)| *known == key) {
            all.push((key, value));
        }
    };
    for run in &subject.runs {
        let config = run.config.as_ref().unwrap_or(&Value::Null);
        if let Some(seed) = config["seed"].as_u64() {
            add("seed".into(), seed.to_string());
        }
        for event in &run.events {
            match event {
                Event::StageStarted(started) => {
                    started.recipe.iter().for_each(|row| add(row.key.clone(), row.value.clone()));
                }
                Event::Environment { rows } => rows.iter().for_each(|(key, value)| add(key.clone(), value.clone())),
                _ => {}
            }
        }
    }
    for (title, section) in subject.stages() {
        let started = section.started;
        add(format!("{title}: parameters"), thousands(started.parameters));
        add(format!("{title}: updates"), thousands(started.total_steps));
    }
    for (record, run) in subject.runs.iter().flat_map(|run| {
        let data = run.config.as_ref().and_then(|config| config["data"].as_array());
        data.into_iter().flatten().map(move |record| (record, run))
    }) {
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_string();
        let hash: String = text("sha256").chars().take(8).collect();
        let documents = thousands(record["documents"].as_u64().unwrap_or(0));
        add(format!("{}: {} data", run.name, text("role")), format!("{documents} documents, {hash}"));
    }
    all
}

/// The settings in which the runs that have them differ.
fn settings(body: &mut String, subjects: &[Subject]) {
    let facts: Vec<Vec<(String, String)>> = subjects.iter().map(facts).collect();
    let maps: Vec<BTreeMap<&str, &str>> =
        facts.iter().map(|all| all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in facts.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let differs = |key: &&str| {
        let mut values = maps.iter().filter_map(|map| map.get(*key));
        values.next().is_some_and(|first| values.any(|other| other != first))
    };
    keys.retain(differs);
    body.push_str("<section id=\"settings\">\n<h2>Settings that differ</h2>\n");
    if keys.is_empty() {
        body.push_str("<p>None: the runs have the same recipe, seed, data and machine.</p>\n</section>\n");
        return;
    }
    table_head(body, subjects.iter().map(|subject| subject.name.as_str()));
    for key in keys {
        let _ = write!(body, "<tr><th scope=\"row\">{}</th>", escape(key));
        for map in &maps {
            let _ = write!(body, "<td>{}</td>", map.get(key).map_or_else(|| "–".into(), |value| escape(value)));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody></table></div>\n</section>\n");
}

/// The curves of one stage, a line for each run.
fn overlaid(subjects: &[Subject], of: &[Option<Section>]) -> Vec<Chart> {
    let courses: Vec<(usize, Course)> =
        of.iter().enumerate().filter_map(|(at, section)| Some((at, Course::of(section.as_ref()?.events)))).collect();
    let mark = |at: usize| if at < COLOUR_COUNT { Mark::Line } else { Mark::Dashed };
    let steps = |value: fn(&Step) -> f64| -> Vec<Series> {
        courses.iter().map(|(at, course)| course.over_steps(&subjects[*at].name, mark(*at), *at, value)).collect()
    };
    let measured = |score: &str| -> Vec<Series> {
        let of = |(at, course): &(usize, Course)| {
            course.over_evaluations(&subjects[*at].name, Split::Valid, *at, |e| match score {
                "loss" => Some(e.loss),
                name => e.scores.get(name),
            })
        };
        courses.iter().map(of).filter(|series| !series.points.is_empty()).collect()
    };
    let label = courses.first().map_or("loss", |(_, course)| course.loss_label());
    let mut charts = vec![
        over_updates("Training loss, smoothed", label, steps(|s| s.smoothed_loss)),
        over_updates("Validation loss", label, measured("loss")),
    ];
    let perplexity = over_updates("Validation perplexity", "perplexity", measured("perplexity"));
    charts.push(Chart { logarithmic: true, ..perplexity });
    let error = over_updates("Validation error", "wrong documents (%)", measured("error_percent"));
    charts.push(Chart { from_zero: true, ..error });
    let first = courses.iter().find_map(|(_, course)| course.first_score());
    if let Some(name) = first {
        charts.push(over_updates(&format!("Validation: {}", name.replace('_', " ")), "score", measured(name)));
    }
    let rate = steps(|s| s.learning_rates.iter().copied().fold(0.0, f64::max));
    charts.push(Chart { from_zero: true, ..over_updates("Largest learning rate", "learning rate", rate) });
    let norm = over_updates("Gradient norm, before clipping", "L2 norm", steps(|s| s.gradient_norm));
    charts.push(Chart { from_zero: true, ..norm });
    let clipped = courses.iter().map(|(at, course)| course.clipped(&subjects[*at].name, *at)).collect();
    charts.push(Chart { from_zero: true, ..over_updates("Clipped updates", "share of the updates (%)", clipped) });
    charts
}

/// The reliability of the answers of whole runs.
fn calibration(body: &mut String, subjects: &[Subject]) -> Result<()> {
    let of = |subject: &'_ Subject| subject.runs.iter().find_map(|run| run.rule.clone());
    let rules: Vec<_> = subjects.iter().filter_map(|subject| Some((subject.name.as_str(), of(subject)?))).collect();
    if rules.iter().all(|(_, rule)| rule.measured.documents == 0) {
        return Ok(());
    }
    body.push_str("<section id=\"answers\">\n<h2>Answers</h2>\n<p>On held-out documents.</p>\n");
    let bins: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule.measured.reliability.as_slice())).collect();
    answer::reliability(body, &bins)?;
    body.push_str("</section>\n");
    Ok(())
}

#[cfg(test)]
mod tests;
