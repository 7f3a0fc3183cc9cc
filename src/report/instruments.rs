//! Pages of the instruments: a benchmark under its roofline, and the sweep of a gradient check.

use std::fmt::Write as _;

use serde_json::Value;

use super::figure;
use super::page::page;
use super::plots::{Chart, Mark, Series, escape};
use crate::check::{RELATIVE, Sweep};
use crate::error::Result;

/// Precisions, each with its peak.
const PRECISIONS: [&str; 2] = ["f32", "bf16"];
/// Points of a curve at least, for a sweep.
const LEAST: usize = 3;

/// The page about a benchmark: the object that `ulmfit bench --json` prints.
///
/// # Errors
/// A chart cannot be drawn.
pub fn bench(value: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut body = String::from("<dl class=\"summary\">\n");
    let peaks = &value["peaks"]["cpu"];
    let rate = |key: &str, unit: &str| peaks[key]["all_threads"].as_f64().map(|x| format!("{x:.0} {unit}"));
    let facts = [
        ("processor", Some(text(&value["processor"]))),
        ("instruction set", Some(text(&peaks["isa"]))),
        ("threads", peaks["threads"].as_u64().map(|n| n.to_string())),
        ("multiply-adds f32", rate("f32", "GFLOP/s")),
        ("multiply-adds bf16", rate("bf16", "GFLOP/s")),
        ("triad", rate("triad", "GB/s")),
        ("GPU", value["peaks"]["cuda"]["name"].as_str().map(ToString::to_string)),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            let _ = writeln!(body, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&fact));
        }
    }
    body.push_str("</dl>\n");
    let rows: Vec<&Value> = value["rows"].as_array().into_iter().flatten().collect();
    let roofs = rooflines(value, &rows);
    if !roofs.is_empty() {
        body.push_str(
            "<section id=\"roofline\">\n<h2>Roofline</h2>\n<p>A row by its operations for each byte that it must read or \
             write. It cannot be above the roof, but where its numbers lie in a cache, whose bandwidth is higher than \
             that of memory.</p>\n",
        );
        figure::charts(&mut body, &roofs)?;
        body.push_str("</section>\n");
    }
    let sweeps = sweeps(&rows);
    if !sweeps.is_empty() {
        body.push_str("<section id=\"sweeps\">\n<h2>By the size of the work</h2>\n");
        figure::charts(&mut body, &sweeps)?;
        body.push_str("</section>\n");
    }
    table(&mut body, &rows);
    Ok(page("Benchmark", &body))
}

fn name_of(row: &Value) -> String {
    let parts = ["name", "direction"].map(|key| row[key].as_str().unwrap_or_default());
    parts.join(" ").trim_end().to_string()
}

/// Rows of one device and precision that count operations and bytes, under the peaks.
fn rooflines(value: &Value, rows: &[&Value]) -> Vec<Chart> {
    let mut devices: Vec<&str> = rows.iter().filter_map(|row| row["device"].as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let mut charts = Vec::new();
    for device in devices {
        for precision in PRECISIONS {
            let peak = |key: &str| match device {
                "cpu" => value["peaks"]["cpu"][key]["all_threads"].as_f64(),
                _ => value["peaks"]["cuda"][key].as_f64(),
            };
            let (Some(flops), Some(bandwidth)) = (peak(precision), peak("triad")) else { continue };
            let of = rows.iter().filter(|row| row["device"] == device && row["precision"] == precision);
            let mut points: Vec<(String, (f64, f64))> = of
                .filter_map(|row| {
                    let (rate, bytes) = (row["gflops"].as_f64()?, row["gbs"].as_f64()?);
                    Some((name_of(row), (rate / bytes, rate)))
                })
                .collect();
            if points.is_empty() {
                continue;
            }
            points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.0.total_cmp(&b.1.0)));
            let x = points.iter().map(|(_, point)| point.0);
            let (low, high) = (x.clone().fold(f64::INFINITY, f64::min), x.fold(0.0, f64::max));
            let ridge = flops / bandwidth;
            let ends = [0.5 * low.min(ridge), ridge, 2.0 * high.max(ridge)];
            let roof = ends.map(|x| (x, flops.min(bandwidth * x))).to_vec();
            let mut series = vec![Series { name: "roof".into(), points: roof, mark: Mark::Line, colour: 1 }];
            let mut names: Vec<&String> = points.iter().map(|(name, _)| name).collect();
            names.dedup();
            for (k, name) in names.iter().enumerate() {
                let of = points.iter().filter(|(other, _)| other == *name).map(|(_, point)| *point).collect();
                series.push(Series { name: (*name).clone(), points: of, mark: Mark::Points, colour: k + 2 });
            }
            charts.push(Chart {
                title: format!("{device}, {precision}"),
                x_label: "operations for each byte",
                y_label: "GFLOP/s",
                logarithmic: true,
                x_logarithmic: true,
                series,
                ..Chart::default()
            });
        }
    }
    charts
}

/// Rates of the rows of one name by the operations of one run.
fn sweeps(rows: &[&Value]) -> Vec<Chart> {
    let mut names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let chart = |name: &str| -> Option<Chart> {
        let mut series: Vec<Series> = Vec::new();
        for row in rows.iter().filter(|row| row["name"] == name) {
            let words = ["direction", "precision", "device"].map(|key| row[key].as_str().unwrap_or_default());
            let name = words.into_iter().filter(|word| *word != "cpu").collect::<Vec<_>>().join(" ").trim().to_string();
            let (Some(rate), Some(ms)) = (row["gflops"].as_f64(), row["ms"].as_f64()) else { continue };
            let point = (rate * ms * 1e6, rate);
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => {
                    let colour = series.len();
                    series.push(Series { name, points: vec![point], mark: Mark::Dots, colour });
                }
            }
        }
        series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        series.retain(|series| series.points.len() >= LEAST);
        (!series.is_empty()).then(|| Chart {
            title: name.to_string(),
            x_label: "operations of one run",
            y_label: "GFLOP/s",
            x_logarithmic: true,
            from_zero: true,
            series,
            ..Chart::default()
        })
    };
    names.into_iter().filter_map(chart).collect()
}

fn table(body: &mut String, rows: &[&Value]) {
    body.push_str("<section id=\"rows\">\n<h2>All rows</h2>\n<div class=\"scroll\"><table class=\"rows\"><thead><tr>");
    let columns = ["name", "shape", "device", "precision", "direction", "ms", "GFLOP/s", "GB/s", "share of the peak"];
    for column in columns {
        let _ = write!(body, "<th scope=\"col\">{column}</th>");
    }
    body.push_str("</tr></thead><tbody>\n");
    for row in rows {
        body.push_str("<tr>");
        for key in ["name", "shape", "device", "precision", "direction"] {
            let _ = write!(body, "<td>{}</td>", escape(row[key].as_str().unwrap_or_default()));
        }
        let number = |key: &str| row[key].as_f64().map_or_else(|| "–".to_string(), |x| format!("{x:.4}"));
        let ms = if row["ms"].is_null() { number("projected_ms") } else { number("ms") };
        let _ = write!(body, "<td>{ms}</td>");
        for key in ["gflops", "gbs"] {
            let text = row[key].as_f64().map_or_else(|| "–".to_string(), |x| format!("{x:.1}"));
            let _ = write!(body, "<td>{text}</td>");
        }
        let share = row["peak_fraction"].as_f64().map_or_else(|| "–".to_string(), |x| format!("{:.0} %", 100.0 * x));
        let _ = writeln!(body, "<td>{share}</td></tr>");
    }
    body.push_str("</tbody></table></div>\n</section>\n");
}

/// The chart of a sweep: the error of each operation by the step of its finite differences.
pub fn sweep_chart(sweeps: &[Sweep]) -> Chart {
    // an exact zero has no place on such an axis: below what is drawn
    const LEAST_ERROR: f64 = 1e-17;
    let line = |(colour, sweep): (usize, &Sweep)| Series {
        name: sweep.op.clone(),
        points: sweep.points.iter().rev().map(|&(step, error)| (step, error.clamp(LEAST_ERROR, 1e3))).collect(),
        mark: if sweeps.len() > 1 { Mark::Line } else { Mark::Dots },
        colour,
    };
    let mut series: Vec<Series> = sweeps.iter().enumerate().map(line).collect();
    let ends = sweeps.first().map(|sweep| [sweep.points[sweep.points.len() - 1].0, sweep.points[0].0]);
    if let Some(ends) = ends {
        let points = ends.map(|x| (x, RELATIVE)).to_vec();
        series.push(Series { name: "tolerance".into(), points, mark: Mark::Faint, colour: series.len() });
    }
    Chart {
        title: "Error of finite differences by their step".into(),
        x_label: "step",
        y_label: "largest error",
        logarithmic: true,
        x_logarithmic: true,
        series,
        ..Chart::default()
    }
}

/// The page of a sweep.
///
/// # Errors
/// The chart cannot be drawn.
pub fn sweep(sweeps: &[Sweep]) -> Result<String> {
    let mut body = String::from(
        "<p>A right gradient has a valley: at large steps the formula is wrong by the fourth power of the step, at small \
         ones rounding is divided by it. The valley of a wrong gradient is filled up to its error.</p>\n",
    );
    figure::charts(&mut body, &[sweep_chart(sweeps)])?;
    Ok(page("Gradient check: steps", &body))
}
