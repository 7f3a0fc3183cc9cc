//! Charts as SVG text.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::error::{Error, Result};

/// Width and height of a chart in its own units; a page scales it.
const SIZE: (u32, u32) = (600, 270);
/// More points than this are averaged by neighbourhoods: a curve cannot show more.
const MOST_POINTS: usize = 600;
/// Number of colours.
pub(super) const COLOUR_COUNT: usize = COLOURS.len();

/// Colours of a chart. In the SVG each becomes a CSS variable with this value as its fallback, so
/// that a page can recolour (dark mode) what also stands alone.
const INK: RGBColor = RGBColor(0x44, 0x4B, 0x57);
const GRID: RGBColor = RGBColor(0xE2, 0xE5, 0xEA);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1F, 0x6F, 0xD6),
    RGBColor(0xC4, 0x4E, 0x12),
    RGBColor(0x1B, 0x85, 0x4C),
    RGBColor(0x8A, 0x43, 0xB8),
    RGBColor(0xA0, 0x70, 0x06),
    RGBColor(0xBE, 0x2F, 0x5B),
];

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Line,
    /// A thin, pale line behind the others.
    Faint,
    /// A line of dashes.
    Dashed,
    /// A line with a dot at every point.
    Dots,
    /// Dots without a line.
    Points,
    /// A pale area; the points go around it.
    Band,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// In order of x. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    pub mark: Mark,
    /// Index of the colour, modulo their number.
    pub colour: usize,
}

/// One chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    pub title: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    /// Logarithmic y axis, where all values are positive.
    pub logarithmic: bool,
    /// Logarithmic x axis, where all places are positive.
    pub x_logarithmic: bool,
    /// The y axis begins at 0.
    pub from_zero: bool,
    pub series: Vec<Series>,
}

/// CSS name of a series' colour.
pub(super) fn colour_variable(colour: usize) -> String {
    format!("--series-{}", colour % COLOURS.len())
}

/// All recolourable colours: (CSS variable, value on a light page).
fn palette() -> Vec<(String, String)> {
    let hex = |c: RGBColor| format!("#{:02X}{:02X}{:02X}", c.0, c.1, c.2);
    let mut all = vec![("--chart-ink".to_string(), hex(INK)), ("--chart-grid".to_string(), hex(GRID))];
    all.extend(COLOURS.iter().enumerate().map(|(i, &c)| (colour_variable(i), hex(c))));
    all
}

/// The chart as one `<svg>` element, or `None` where it has no finite point.
pub fn svg(chart: &Chart) -> Result<Option<String>> {
    let mut chart = chart.clone();
    for series in &mut chart.series {
        series.points.retain(|point| drawable(point, chart.logarithmic, chart.x_logarithmic));
        series.points = thinned(&series.points, MOST_POINTS);
    }
    chart.series.retain(|series| !series.points.is_empty());
    let points = || chart.series.iter().flat_map(|s| s.points.iter());
    if points().next().is_none() {
        return Ok(None);
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x0, x1) = range(&mut points().map(|p| p.0));
    let (mut y0, mut y1) = range(&mut points().map(|p| p.1));
    let x = x0.min(0.0)..if x1 > x0.min(0.0) { x1 } else { x0.min(0.0) + 1.0 };
    let log_x = (x0 / 1.1..x1 * 1.1).log_scale();
    let log_y = (y0 / 1.1..y1 * 1.1).log_scale();
    let margin = if y1 > y0 { (y1 - y0) * 0.05 } else { y1.abs().max(1e-3) * 0.05 };
    (y0, y1) = (if chart.from_zero { y0.min(0.0) } else { y0 - margin }, y1 + margin);
    let (y, text) = (y0..y1, &mut String::new());
    let drawn = match (chart.x_logarithmic, chart.logarithmic) {
        (false, false) => draw(&chart, text, x, y),
        (false, true) => draw(&chart, text, x, log_y),
        (true, false) => draw(&chart, text, log_x, y),
        (true, true) => draw(&chart, text, log_x, log_y),
    };
    drawn.map_err(|message| Error::data(format!("cannot draw the chart '{}': {message}", chart.title)))?;
    let mut text = std::mem::take(text);
    for (variable, value) in palette() {
        text = text.replace(&format!("\"{value}\""), &format!("\"var({variable},{value})\""));
    }
    // the page decides on the size and names the picture
    let sized = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    Ok(Some(text.replacen(&sized, &format!("<svg role=\"img\" aria-label=\"{}\"", escape(&chart.title)), 1)))
}

/// The chart as an SVG file that stands alone, with a legend below; `None` where it has no point.
pub fn standalone(chart: &Chart) -> Result<Option<String>> {
    let Some(svg) = svg(chart)? else { return Ok(None) };
    let names: Vec<&Series> = chart.series.iter().filter(|series| series.mark != Mark::Band).collect();
    let (width, plot) = SIZE;
    let height = plot + 20 * names.len() as u32 + 40;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"16\" y=\"22\" font-weight=\"600\">{}</text>\n\
         <g transform=\"translate(0 30)\">\n{}\n</g>\n",
        escape(&chart.title),
        svg.replacen("<svg ", &format!("<svg width=\"{width}\" height=\"{plot}\" "), 1)
    );
    for (k, series) in names.iter().enumerate() {
        let (colour, y) = (COLOURS[series.colour % COLOURS.len()], plot + 44 + 20 * k as u32);
        let (x, name) = (72, escape(&series.name));
        text += &format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"22\" height=\"4\" fill=\"#{:02X}{:02X}{:02X}\"/><text x=\"{}\" y=\"{y}\">{name}</text>\n",
            y - 7,
            colour.0,
            colour.1,
            colour.2,
            x + 30
        );
    }
    Ok(Some(text + "</svg>\n"))
}

/// Whether a point has a place on axes of this kind.
pub(super) fn drawable(&(x, y): &(f64, f64), logarithmic: bool, x_logarithmic: bool) -> bool {
    x.is_finite() && y.is_finite() && (!logarithmic || y > 0.0) && (!x_logarithmic || x > 0.0)
}

fn draw<X, Y>(chart: &Chart, text: &mut String, x: X, y: Y) -> std::result::Result<(), String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let problem = |e: &dyn std::fmt::Display| e.to_string();
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let mut area = ChartBuilder::on(&root)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)
        .map_err(|e| problem(&e))?;
    area.configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .label_style(("sans-serif", 15, &INK))
        .axis_desc_style(("sans-serif", 15, &INK))
        .x_desc(chart.x_label)
        .y_desc(chart.y_label)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|v| short(*v))
        .y_label_formatter(&|v| short(*v))
        .draw()
        .map_err(|e| problem(&e))?;
    for series in &chart.series {
        let colour = COLOURS[series.colour % COLOURS.len()];
        if series.mark == Mark::Band {
            let area_of = Polygon::new(series.points.clone(), colour.mix(0.15).filled());
            area.draw_series(std::iter::once(area_of)).map_err(|e| problem(&e))?;
            continue;
        }
        let (width, opacity) = if series.mark == Mark::Faint { (1, 0.3) } else { (2, 1.0) };
        let style = colour.mix(opacity).stroke_width(width);
        let points = series.points.iter().copied();
        if series.mark == Mark::Dashed {
            area.draw_series(DashedLineSeries::new(points, 8, 5, style)).map_err(|e| problem(&e))?;
            continue;
        }
        if series.mark != Mark::Points {
            area.draw_series(LineSeries::new(points, style)).map_err(|e| problem(&e))?;
        }
        if matches!(series.mark, Mark::Dots | Mark::Points) {
            let dot = |&(x, y): &(f64, f64)| Circle::new((x, y), 4, colour.filled());
            area.draw_series(series.points.iter().map(dot)).map_err(|e| problem(&e))?;
        }
    }
    root.present().map_err(|e| problem(&e))
}

/// A number as a short label: at most four significant digits, thousands as `12k`.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".into();
    }
    let (scaled, unit) = match size {
        s if s >= 1e6 => (value / 1e6, "M"),
        s if s >= 1e4 => (value / 1e3, "k"),
        s if s < 1e-3 => return format!("{value:.1e}"),
        _ => (value, ""),
    };
    let digits = (3 - scaled.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Means of neighbouring points where there are more than `most`.
pub(super) fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(points.len().div_ceil(most)).map(mean).collect()
}

/// Text as XML or HTML content or attribute value.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> Chart {
        Chart {
            title: "A <b> & \"c\"".into(),
            x_label: "update",
            y_label: "loss",
            logarithmic,
            x_logarithmic: logarithmic,
            from_zero: false,
            series: vec![Series { name: "s".into(), points, mark: Mark::Dots, colour: 1 }],
        }
    }

    #[test]
    fn text_is_text_and_colours_are_variables() {
        for logarithmic in [false, true] {
            let text = svg(&chart(vec![(1.0, 5.0), (2.0, 50.0), (3.0, f64::NAN)], logarithmic)).unwrap().unwrap();
            assert!(text.starts_with("<svg role=\"img\" aria-label=\"A &lt;b&gt; &amp; &quot;c&quot;\""), "{text}");
            assert!(
                text.contains("<text") && text.contains("update") && text.contains("var(--series-1,#C44E12)"),
                "{text}"
            );
            assert_eq!(text.matches("<circle").count(), 2);
        }
    }

    #[test]
    fn single_and_missing_points() {
        assert!(svg(&chart(vec![(7.0, 0.0)], false)).unwrap().is_some());
        assert!(svg(&chart(vec![(7.0, 3.0)], true)).unwrap().is_some());
        assert!(svg(&chart(vec![(7.0, f64::NAN)], false)).unwrap().is_none());
        assert!(svg(&chart(vec![(7.0, -1.0)], true)).unwrap().is_none());
    }

    #[test]
    fn many_points_become_means() {
        let points: Vec<_> = (0..100_000).map(|i| (i as f64, 2.0)).collect();
        let few = thinned(&points, MOST_POINTS);
        assert!(few.len() <= MOST_POINTS && few.iter().all(|p| p.1 == 2.0));
        assert_eq!(few.len(), 599);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.00025, 0.004, 2.5, 1234.0, 12_000.0, 3.2e6].map(short);
        assert_eq!(labels, ["0", "2.5e-4", "0.004", "2.5", "1234", "12k", "3.2M"]);
    }
}
