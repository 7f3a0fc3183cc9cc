//! Explanations for people: a text with its words in colours, and tables, on a terminal or as a
//! page.

use std::fmt::Write as _;

use super::plots::escape;
use crate::answer::explain::{Explanation, NetworkWords, WordShare};
use crate::linear::LinearShares;
use crate::nn::Answers;

/// How the explanation of a text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colours: bool,
    /// Rows of a table at most.
    pub rows: usize,
}

/// `'pos', 93.1 %`, or a number.
fn heading(explanation: &Explanation, labels: &[String]) -> String {
    let p = &explanation.answer.probabilities;
    let of = labels.iter().position(|label| *label == explanation.label).and_then(|k| p.get(k));
    match (explanation.kind, of) {
        (Answers::Number, Some(number)) => format!("{number:.4}"),
        (_, Some(p)) => format!("'{}', {:.1} %", shown(&explanation.label), 100.0 * p),
        (_, None) => String::new(),
    }
}

/// `the logit of 'pos'`, perhaps less that of another class.
fn what(explanation: &Explanation) -> String {
    let name = match explanation.kind {
        Answers::Number => "the number".to_string(),
        Answers::Class | Answers::Labels | Answers::Tags { .. } => {
            format!("the logit of '{}'", shown(&explanation.label))
        }
    };
    match &explanation.against {
        Some(other) => format!("{name} less that of '{}'", shown(other)),
        None => name,
    }
}

/// Text for one line of a terminal: nothing in it moves the cursor.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

/// The words with the largest shares, whatever their sign.
pub(super) fn largest(words: &[WordShare], rows: usize) -> Vec<&WordShare> {
    let mut all: Vec<&WordShare> = words.iter().collect();
    all.sort_by(|a, b| b.parts.sum().abs().total_cmp(&a.parts.sum().abs()));
    all.truncate(rows);
    all
}

/// The share of each word as the mean over several networks, the largest first. `None` for one
/// network, and for networks that cut the text into other words.
fn mean_shares(networks: &[NetworkWords]) -> Option<Vec<(f64, &str)>> {
    let (first, rest) = networks.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let same = |other: &NetworkWords| {
        other.words.len() == first.words.len() && other.words.iter().zip(&first.words).all(|(a, b)| a.text == b.text)
    };
    if !rest.iter().all(same) {
        return None;
    }
    let share = |k: usize| networks.iter().map(|n| n.words[k].parts.sum()).sum::<f64>() / networks.len() as f64;
    let words = first.words.iter().enumerate();
    let mut all: Vec<(f64, &str)> = words.map(|(k, word)| (share(k), word.text.as_str())).collect();
    all.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    Some(all)
}

fn number(x: Option<f64>) -> String {
    x.map_or_else(|| "-".to_string(), |x| format!("{x:+.3}"))
}

/// Which of the folder's networks it is.
fn name(network: &NetworkWords, k: usize, of: usize) -> String {
    let number = if of > 1 { format!(" {} of {of}", k + 1) } else { String::new() };
    format!("network{number}, {}", network.direction.name())
}

/// The numbers of the network, and how the parts add up.
fn sums(network: &NetworkWords, what: &str) -> String {
    let shares = network.sum() - network.base;
    let mut text = format!(
        "{what}: {:.4} = base {:.4} {:+.4} of the words (rounding: {:.0e})",
        network.logit,
        network.base,
        shares,
        (network.sum() - network.logit).abs()
    );
    if let Some(path) = &network.gradients {
        let _ = write!(
            text,
            "; integrated gradients: {:.4} of {:.4}, gap {:+.4} with {} steps",
            path.sum,
            path.to - path.from,
            path.gap(),
            path.steps
        );
    }
    text
}

const COLUMNS: [&str; 8] = ["share", "max", "mean", "last", "units", "gradient", "without", "word"];

fn cells(word: &WordShare) -> [String; 7] {
    let parts = &word.parts;
    [
        number(Some(parts.sum())),
        number(Some(parts.max)),
        number(Some(parts.mean)),
        number(Some(parts.last)),
        parts.units.to_string(),
        number(word.gradient),
        number(word.without),
    ]
}

/// For a terminal or a file of plain text.
pub fn text(explanation: &Explanation, text: &str, labels: &[String], style: Style) -> String {
    let mut out = String::new();
    if let Some(why) = explanation.answer.row.skipped {
        return format!("no answer: {}\n", why.reason());
    }
    let what = what(explanation);
    let _ = writeln!(out, "{}\n", heading(explanation, labels));
    if let Some(mean) = mean_shares(&explanation.networks) {
        let _ = writeln!(out, "all {} networks: {what}, mean shares", explanation.networks.len());
        for (share, word) in mean.iter().take(style.rows) {
            let _ = writeln!(out, "{:>9}  {}", number(Some(*share)), shown(word));
        }
        let _ = writeln!(out);
    }
    for (k, network) in explanation.networks.iter().enumerate() {
        let name = name(network, k, explanation.networks.len());
        let _ = writeln!(out, "{name}: {}", sums(network, &what));
        if style.colours {
            let _ = writeln!(out, "\n{}", coloured(text, &network.words));
        }
        let _ = writeln!(out);
        for (column, title) in COLUMNS.iter().enumerate() {
            let _ = if column == 7 { writeln!(out, "  {title}") } else { write!(out, "{title:>9}") };
        }
        for word in largest(&network.words, style.rows) {
            for cell in cells(word) {
                let _ = write!(out, "{cell:>9}");
            }
            let _ = writeln!(out, "  {}", shown(&word.text));
        }
        let unknown: Vec<String> =
            network.tokens.iter().filter(|token| !token.known).map(|token| shown(&token.token)).collect();
        if !unknown.is_empty() {
            let _ = writeln!(out, "\nnot in the vocabulary: {}", unknown.join(" "));
        }
        if network.unpooled > 0 {
            let _ = writeln!(out, "\n{} tokens are not pooled: the text is too long", network.unpooled);
        }
        let _ = writeln!(out);
    }
    if let Some(linear) = &explanation.linear {
        let _ = writeln!(out, "linear model: {}", linear_sums(linear, &what));
        for feature in linear.features.iter().take(style.rows) {
            let _ = writeln!(out, "{:>9}  {}", number(Some(feature.share)), shown(&feature.name));
        }
        let _ = writeln!(out);
    }
    out
}

fn linear_sums(linear: &LinearShares, what: &str) -> String {
    let (features, count) = (linear.logit - linear.bias, linear.features.len());
    format!("{what}: {:.4} = bias {:.4} {features:+.4} of {count} features", linear.logit, linear.bias)
}

/// The text with its words on green where they speak for the class and on red where against it.
fn coloured(text: &str, words: &[WordShare]) -> String {
    /// Of the 256 colours, pale to strong.
    const FOR: [u8; 4] = [194, 157, 120, 46];
    const AGAINST: [u8; 4] = [224, 217, 210, 203];
    let mut out = String::new();
    for (piece, strength) in strengths(text, words) {
        let level = (strength.abs() * 5.0) as usize;
        match level {
            0 => out.push_str(&plain(piece)),
            _ => {
                let colours = if strength > 0.0 { FOR } else { AGAINST };
                let _ = write!(out, "\x1b[30;48;5;{}m{}\x1b[0m", colours[level.min(4) - 1], plain(piece));
            }
        }
    }
    out
}

/// As [`shown`], but lines stay.
fn plain(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// The text in pieces, each with its share in the largest one, from -1 to 1; 0 between words.
fn strengths<'a>(text: &'a str, words: &[WordShare]) -> Vec<(&'a str, f64)> {
    let most = words.iter().map(|word| word.parts.sum().abs()).fold(f64::MIN_POSITIVE, f64::max);
    let (mut all, mut at) = (Vec::new(), 0);
    for word in words {
        // words come in the order of the text; one within another is shown with it
        let Some(place) = word.place.clone().filter(|place| place.start >= at) else { continue };
        all.push((&text[at..place.start], 0.0));
        at = place.end;
        all.push((&text[place], word.parts.sum() / most));
    }
    all.push((&text[at..], 0.0));
    all.retain(|(piece, _)| !piece.is_empty());
    all
}

/// A page of its own, for texts with their explanations.
pub fn page(all: &[(String, Explanation)], labels: &[String], rows: usize) -> String {
    let mut body = String::new();
    for (text, explanation) in all {
        body.push_str("<section>\n");
        section(&mut body, text, explanation, labels, rows);
        body.push_str("</section>\n");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>What decided</title>\n<style>{STYLE}</style>\n<h1>What \
         decided</h1>\n<p>Green words speak for the class, red ones against it.</p>\n{body}</html>\n"
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8888; padding: .5rem 0 1rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
mark { color: inherit; border-radius: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .1rem .6rem; text-align: right; }
th:last-child, td:last-child { text-align: left; }
";

/// A text with its words on green where they speak for the class and on red where against it.
pub(super) fn marked(body: &mut String, text: &str, words: &[WordShare]) {
    body.push_str("<p class=\"text\">");
    for (piece, strength) in strengths(text, words) {
        let piece = escape(piece);
        if strength == 0.0 {
            body.push_str(&piece);
            continue;
        }
        let colour = if strength > 0.0 { "0,160,60" } else { "220,40,40" };
        let _ = write!(body, "<mark style=\"background:rgba({colour},{:.2})\">{piece}</mark>", 0.6 * strength.abs());
    }
    body.push_str("</p>\n");
}

fn section(body: &mut String, text: &str, explanation: &Explanation, labels: &[String], rows: usize) {
    if let Some(why) = explanation.answer.row.skipped {
        let _ = writeln!(body, "<p>No answer: {}</p>", why.reason());
        return;
    }
    let what = what(explanation);
    let _ = writeln!(body, "<h2>{}</h2>", escape(&heading(explanation, labels)));
    for (k, network) in explanation.networks.iter().enumerate() {
        marked(body, text, &network.words);
        let name = name(network, k, explanation.networks.len());
        let _ = writeln!(body, "<p>{name}: {}</p>", escape(&sums(network, &what)));
        let titles: String = COLUMNS.iter().map(|title| format!("<th scope=\"col\">{title}</th>")).collect();
        let _ = writeln!(body, "<table><tr>{titles}</tr>");
        for word in largest(&network.words, rows) {
            let cells: String = cells(word).iter().map(|cell| format!("<td>{cell}</td>")).collect();
            let _ = writeln!(body, "<tr>{cells}<td>{}</td></tr>", escape(&word.text));
        }
        body.push_str("</table>\n");
    }
    if let Some(linear) = &explanation.linear {
        let _ = writeln!(body, "<p>Linear model: {}</p>\n<table>", escape(&linear_sums(linear, &what)));
        body.push_str("<tr><th scope=\"col\">share</th><th scope=\"col\">feature</th></tr>\n");
        for feature in linear.features.iter().take(rows) {
            let (share, name) = (number(Some(feature.share)), escape(&feature.name));
            let _ = writeln!(body, "<tr><td>{share}</td><td>{name}</td></tr>");
        }
        body.push_str("</table>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::explain::Parts;

    fn word(text: &str, place: std::ops::Range<usize>, share: f64) -> WordShare {
        let parts = Parts { max: share, ..Parts::default() };
        WordShare { text: text.into(), place: Some(place), tokens: 0..1, parts, gradient: None, without: None }
    }

    #[test]
    fn words_have_colours_and_nothing_moves_the_cursor() {
        let text = "a good\n\x1b[2Jbad one";
        let words = [word("good", 2..6, 1.0), word("bad", 11..14, -0.5), word("one", 15..18, 0.01)];
        let shown = coloured(text, &words);
        assert_eq!(shown, "a \x1b[30;48;5;46mgood\x1b[0m\n\\u{1b}[2J\x1b[30;48;5;217mbad\x1b[0m one");
    }

    #[test]
    fn the_pieces_are_the_text() {
        let text = "so ein schöner Tag";
        let at = |word: &str| text.find(word).map(|start| start..start + word.len()).unwrap();
        let words = [word("ein", at("ein"), 0.5), word("schöner", at("schöner"), 1.0), word("schön", at("schön"), 1.0)];
        let pieces = strengths(text, &words);
        assert_eq!(pieces.iter().map(|(piece, _)| *piece).collect::<String>(), text);
        assert_eq!(pieces.iter().find(|(piece, _)| *piece == "ein").unwrap().1, 0.5);
    }
}
