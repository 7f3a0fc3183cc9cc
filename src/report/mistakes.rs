//! A section about answers for labelled texts: the error, how far confidence is from accuracy, and
//! the errors that the model is surest of, with the words that decided.

use std::fmt::Write as _;

use super::explanation::{largest, marked};
use super::plots::escape;
use super::{answer, thousands};
use crate::answer::mistakes::{Examined, Mistake};
use crate::answer::wilson;
use crate::error::Result;
use crate::linear::calibration_error;
use crate::text::shown_label;

/// Words that are named.
const WORDS: usize = 6;

/// Answers for the data `source`; of several runs, each with its name.
///
/// # Errors
/// The diagram cannot be drawn.
pub fn section(body: &mut String, source: &str, all: &[(String, &Examined)]) -> Result<()> {
    let _ = writeln!(body, "<section id=\"data\">\n<h2>Answers for {}</h2>", escape(source));
    body.push_str(
        "<div class=\"scroll\"><table class=\"rows\"><thead><tr><th scope=\"col\">model</th>\
         <th scope=\"col\">documents</th><th scope=\"col\">error</th><th scope=\"col\">95 % interval</th>\
         <th scope=\"col\">calibration error</th></tr></thead><tbody>\n",
    );
    for (name, examined) in all {
        let measured = &examined.outcome.measured;
        let error = measured.score("error_percent").unwrap_or(f64::NAN);
        let (low, high) = wilson(error / 100.0, measured.count);
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{error:.2} %</td><td>{:.1} to {:.1} %</td><td>{:.3}</td></tr>",
            escape(name),
            thousands(measured.count),
            100.0 * low,
            100.0 * high,
            calibration_error(&examined.reliability)
        );
    }
    body.push_str("</tbody></table></div>\n");
    let bins: Vec<_> = all.iter().map(|(name, examined)| (name.as_str(), examined.reliability.as_slice())).collect();
    answer::reliability(body, &bins)?;
    for (name, examined) in all {
        let of = if all.len() > 1 { format!(" of {}", escape(name)) } else { String::new() };
        let _ = writeln!(body, "<h3>Most confident errors{of}</h3>");
        if examined.mistakes.is_empty() {
            body.push_str("<p>No answer is wrong.</p>\n");
        } else {
            body.push_str(
                "<p>Green words spoke for the class that was said, red ones for the one that is true. The numbers are \
                 their shares in the difference of the two logits.</p>\n",
            );
        }
        examined.mistakes.iter().for_each(|mistake| one(body, mistake));
    }
    body.push_str("</section>\n");
    Ok(())
}

fn one(body: &mut String, mistake: &Mistake) {
    let explanation = &mistake.explanation;
    let [said, truth] = mistake.probabilities.map(|p| 100.0 * p);
    let _ = writeln!(
        body,
        "<div class=\"mistake\">\n<h4>Document {}: ‘{}’ with {said:.1} %, but it is ‘{}’ ({truth:.1} %)</h4>",
        thousands(mistake.row),
        escape(&shown_label(&explanation.label)),
        escape(&shown_label(&mistake.truth)),
    );
    let words = explanation.networks.first().map_or(&[][..], |network| &network.words);
    marked(body, &mistake.text, words);
    for network in &explanation.networks {
        let shares = largest(&network.words, WORDS).into_iter().map(|word| (word.text.as_str(), word.parts.sum()));
        told(body, &format!("network, {}", network.direction.name()), shares);
    }
    if let Some(linear) = &explanation.linear {
        let shares = linear.features.iter().take(WORDS).map(|feature| (feature.name.as_str(), feature.share));
        told(body, "linear model", shares);
    }
    body.push_str("</div>\n");
}

/// The deciding words of one model in a line.
fn told<'a>(body: &mut String, model: &str, shares: impl Iterator<Item = (&'a str, f64)>) {
    let shares: Vec<String> = shares.map(|(word, share)| format!("{} {share:+.2}", escape(word))).collect();
    let _ = writeln!(body, "<p class=\"words\">{model}: {}</p>", shares.join(", "));
}
