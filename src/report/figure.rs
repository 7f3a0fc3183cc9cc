//! A chart on a page: a static picture, its legend, and its numbers for the script that lays curves
//! to point at over it (`charts.js`).

use std::fmt::Write as _;

use serde_json::{Number, Value, json};

use super::plots::{self, Chart, Mark, Series, escape};
use crate::error::Result;

/// More points than this of a series are averaged by neighbourhoods: more than the picture has,
/// for those who zoom in.
const MOST_POINTS: usize = 1500;

/// Adds charts to a page, side by side where there is room; those without a point are left out.
pub fn charts(body: &mut String, charts: &[Chart]) -> Result<()> {
    body.push_str("<div class=\"charts\">\n");
    charts.iter().try_for_each(|chart| figure(body, chart))?;
    body.push_str("</div>\n");
    Ok(())
}

fn figure(body: &mut String, chart: &Chart) -> Result<()> {
    let Some(svg) = plots::svg(chart)? else { return Ok(()) };
    let _ = write!(body, "<figure>\n<figcaption>{}<ul class=\"legend\">", escape(&chart.title));
    for series in chart.series.iter().filter(|s| s.mark != Mark::Band && s.points.iter().any(|p| p.1.is_finite())) {
        let class = match series.mark {
            Mark::Faint => " class=\"faint\"",
            Mark::Dashed => " class=\"dashed\"",
            Mark::Line | Mark::Dots | Mark::Points | Mark::Band => "",
        };
        let variable = plots::colour_variable(series.colour);
        let _ = write!(body, "<li{class} style=\"--c:var({variable})\">{}</li>", escape(&series.name));
    }
    // a name in the numbers must not end the element
    let numbers = numbers(chart).to_string().replace('<', "\\u003c");
    let _ =
        writeln!(body, "</ul></figcaption>\n{svg}\n<script type=\"application/json\">{numbers}</script>\n</figure>");
    Ok(())
}

/// The numbers of a chart, as `charts.js` reads them.
fn numbers(chart: &Chart) -> Value {
    let series: Vec<Value> =
        chart.series.iter().filter(|s| s.mark != Mark::Band).filter_map(|s| of(s, chart)).collect();
    json!({
        "title": chart.title, "x": chart.x_label, "y": chart.y_label, "log": chart.logarithmic,
        "xlog": chart.x_logarithmic, "zero": chart.from_zero,
        "series": series,
    })
}

fn of(series: &Series, chart: &Chart) -> Option<Value> {
    let drawn = |point: &(f64, f64)| plots::drawable(point, chart.logarithmic, chart.x_logarithmic);
    let points: Vec<(f64, f64)> = series.points.iter().copied().filter(drawn).collect();
    let points = plots::thinned(&points, MOST_POINTS);
    let mark = match series.mark {
        Mark::Line | Mark::Band => "line",
        Mark::Faint => "faint",
        Mark::Dashed => "dashed",
        Mark::Dots => "dots",
        Mark::Points => "points",
    };
    let all = |of: fn(&(f64, f64)) -> f64| points.iter().map(|p| number(of(p))).collect::<Vec<_>>();
    (!points.is_empty()).then(|| {
        let colour = plots::colour_variable(series.colour);
        json!({ "name": series.name, "colour": colour, "mark": mark, "x": all(|p| p.0), "y": all(|p| p.1) })
    })
}

/// A number in six digits; a whole one without a fraction.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Value::from(value as i64);
    }
    let short = format!("{value:.5e}").parse().unwrap_or(value);
    Number::from_f64(short).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_names_end_no_element() {
        assert_eq!([3.0, 0.1 + 0.2, 1234567.8].map(|x| number(x).to_string()), ["3", "0.3", "1234570.0"]);
        let series = |mark, y: f64| Series { name: "</script><b>".into(), points: vec![(1.0, y)], mark, colour: 1 };
        let chart = Chart {
            title: "t".into(),
            x_label: "x",
            y_label: "y",
            logarithmic: true,
            series: vec![series(Mark::Dots, 2.0), series(Mark::Dashed, 5.0), series(Mark::Line, -1.0)],
            ..Chart::default()
        };
        let mut body = String::new();
        charts(&mut body, std::slice::from_ref(&chart)).unwrap();
        assert_eq!(body.matches("</script>").count(), 1, "{body}");
        assert!(body.contains("<li class=\"dashed\""), "{body}");
        let numbers = numbers(&chart);
        // what cannot be drawn has no line
        assert_eq!(numbers["series"].as_array().unwrap().len(), 2);
        assert_eq!(numbers["series"][1]["y"], json!([5]));
    }
}
