//! How network and linear model answer together, and how far their confidence is from accuracy.

use std::fmt::Write as _;

use super::plots::{Chart, Mark, Series, escape};
use super::{figure, thousands};
use crate::error::Result;
use crate::linear::Bin;
use crate::models::rule::Rule;

/// The section of a page.
///
/// # Errors
/// The diagram cannot be drawn.
pub fn section(body: &mut String, rule: &Rule) -> Result<()> {
    let measured = &rule.measured;
    body.push_str("<section id=\"answers\">\n<h2>Answers</h2>\n<dl class=\"summary\">\n");
    let percent = |share: Option<f64>| share.map(|x| format!("{x:.2} %"));
    let rows = [
        ("held-out documents", (measured.documents > 0).then(|| thousands(measured.documents))),
        ("error of the network", percent(measured.network_error)),
        ("error of the linear model", percent(measured.linear_error)),
        ("error of the answers", percent(measured.error)),
        ("cross-entropy of the answers", measured.loss.map(|x| format!("{x:.3}"))),
        ("calibration error", measured.calibration_error.map(|x| format!("{x:.3}"))),
        ("share of the network", rule.blend.map(|blend| format!("{:.2}", blend.weight))),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(body, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value));
        }
    }
    body.push_str("</dl>\n");
    let note = match &rule.blend {
        Some(_) => "The probabilities of network and linear model are mixed",
        None => "The network answers alone",
    };
    let _ = writeln!(
        body,
        "<p>{note}. Temperatures and share are chosen on held-out documents, and measured there by nested folds: a \
         document has no part in what it is measured with.</p>"
    );
    reliability(body, &[("answers", measured.reliability.as_slice())])?;
    body.push_str("</section>\n");
    Ok(())
}

/// How often an answer of a given confidence is right: a diagram with a line for each series, and a
/// table where there is only one.
///
/// # Errors
/// The diagram cannot be drawn.
pub(super) fn reliability(body: &mut String, all: &[(&str, &[Bin])]) -> Result<()> {
    let used = |bins: &[Bin]| bins.iter().filter(|bin| bin.documents > 0).copied().collect::<Vec<_>>();
    let line = |(colour, (name, bins)): (usize, &(&str, &[Bin]))| Series {
        name: (*name).into(),
        points: used(bins).iter().map(|b| (b.confidence, b.accuracy)).collect(),
        mark: Mark::Dots,
        colour,
    };
    let mut series: Vec<Series> = all.iter().enumerate().map(line).filter(|s| !s.points.is_empty()).collect();
    if series.is_empty() {
        return Ok(());
    }
    let points = vec![(0.0, 0.0), (1.0, 1.0)];
    series.push(Series { name: "as it should be".into(), points, mark: Mark::Faint, colour: series.len() });
    let chart = Chart {
        title: "Reliability: share of right answers by confidence".into(),
        x_label: "confidence",
        y_label: "accuracy",
        logarithmic: false,
        x_logarithmic: false,
        from_zero: true,
        series,
    };
    figure::charts(body, &[chart])?;
    let [(_, bins)] = all else { return Ok(()) };
    body.push_str(
        "<div class=\"scroll\"><table class=\"rows\"><thead><tr><th scope=\"col\">confidence</th>\
         <th scope=\"col\">documents</th><th scope=\"col\">right</th></tr></thead><tbody>\n",
    );
    for bin in used(bins) {
        let (confidence, right) = (100.0 * bin.confidence, 100.0 * bin.accuracy);
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{confidence:.1} %</th><td>{}</td><td>{right:.1} %</td></tr>",
            bin.documents
        );
    }
    body.push_str("</tbody></table></div>\n");
    Ok(())
}
