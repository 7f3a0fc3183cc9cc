//! Which columns of a table, or keys of a JSON object, hold the text and the label.

use super::OpenOptions;
use super::bytes::printable;

/// Names under which text and label columns are recognised, the best first.
const TEXT_NAMES: &[&str] =
    &["text", "sentence", "review", "content", "question", "document", "comment", "body", "description", "tweet"];
const LABEL_NAMES: &[&str] = &["label", "labels", "class", "category", "sentiment", "stars", "rating", "target", "y"];

/// Which columns hold the text and the label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// Names, or numbers counted from 1; empty: recognised by name.
    pub(super) text: Vec<String>,
    /// Name, or number counted from 1; of several the first.
    pub(super) label: Option<String>,
    /// The others: each of them and the first says with 0 or 1 whether its label is there.
    pub(super) more_labels: Vec<String>,
    /// Whether a document may have several labels.
    pub(super) several: bool,
}

impl Columns {
    pub(super) fn of(options: &OpenOptions) -> Self {
        let mut labels = options.label_columns.clone().into_iter();
        Columns {
            text: options.text_columns.clone(),
            label: labels.next(),
            more_labels: labels.collect(),
            several: options.label_separator.is_some(),
        }
    }

    /// All that the user gives.
    fn all(&self) -> impl Iterator<Item = &String> {
        self.text.iter().chain(&self.label).chain(&self.more_labels)
    }

    /// Where several columns say with 0 or 1 whether their label is there: their indices among
    /// `names`, else nothing.
    pub(super) fn marks(&self, names: &[&str]) -> Result<Vec<usize>, String> {
        if self.more_labels.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = self.label.iter().chain(&self.more_labels);
        let found = wanted.map(|wanted| explicit(names, "--label-column", wanted)).collect::<Result<Vec<_>, _>>()?;
        match (1..found.len()).find(|&k| found[..k].contains(&found[k])) {
            Some(k) => Err(format!("'{}' is asked for as a label twice", list(&names[found[k]..=found[k]]))),
            None => Ok(found),
        }
    }

    /// Whether the user says anything of them.
    pub(super) fn are_given(&self) -> bool {
        !self.text.is_empty() || self.label.is_some()
    }

    /// Whether the user names a column, rather than give its number.
    pub(super) fn are_named(&self) -> bool {
        self.all().any(|n| n.parse::<usize>().is_err())
    }

    /// The largest number that the user gives.
    pub(super) fn largest(&self) -> usize {
        self.all().filter_map(|n| n.parse().ok()).max().unwrap_or(0)
    }

    /// Indices of the text columns and of the label column among `names`.
    pub(super) fn resolve(&self, names: &[&str]) -> Result<(Vec<usize>, Option<usize>), String> {
        let texts = self.explicit_texts(names)?;
        let label = match &self.label {
            Some(wanted) => Some(explicit(names, "--label-column", wanted)?),
            None => self.label_among(names)?.filter(|i| !texts.contains(i)),
        };
        if let Some(i) = label.filter(|i| texts.contains(i)) {
            return Err(format!("'{}' is asked for as text and as label", list(&names[i..=i])));
        }
        Ok((if texts.is_empty() { vec![text_among(names, label)?] } else { texts }, label))
    }

    /// The text columns among `names`, by the user's word or by their names.
    pub(super) fn texts(&self, names: &[&str], label: Option<usize>) -> Result<Vec<usize>, String> {
        let texts = self.explicit_texts(names)?;
        Ok(if texts.is_empty() { vec![text_among(names, label)?] } else { texts })
    }

    fn explicit_texts(&self, names: &[&str]) -> Result<Vec<usize>, String> {
        let found: Vec<usize> =
            self.text.iter().map(|wanted| explicit(names, "--text-column", wanted)).collect::<Result<_, _>>()?;
        match (1..found.len()).find(|&k| found[..k].contains(&found[k])) {
            Some(k) => Err(format!("'{}' is asked for as a text twice", list(&names[found[k]..=found[k]]))),
            None => Ok(found),
        }
    }

    /// The label column among `names`, where there is one.
    pub(super) fn label_among(&self, names: &[&str]) -> Result<Option<usize>, String> {
        match &self.label {
            Some(wanted) => Ok(position(names, wanted)?.or_else(|| by_number(names, wanted))),
            None => first_of(names, LABEL_NAMES, None),
        }
    }

    /// Indices in a table without a header: the class first, the text columns after it (AG News,
    /// DBpedia, Yelp); a single column is text.
    pub(super) fn by_number(&self, width: usize) -> Result<(Vec<usize>, Option<usize>), String> {
        let number = |flag: &str, name: &String| match name.parse::<usize>() {
            Ok(n) if (1..=width).contains(&n) => Ok(n - 1),
            _ => Err(format!("has no column '{name}' for {flag}")),
        };
        let text: Vec<usize> = self.text.iter().map(|n| number("--text-column", n)).collect::<Result<_, _>>()?;
        let label = match &self.label {
            Some(n) => Some(number("--label-column", n)?),
            None => (width > 1 && !text.contains(&0)).then_some(0),
        };
        if let Some(label) = label.filter(|label| text.contains(label)) {
            return Err(format!("column {} is asked for as text and as label", label + 1));
        }
        let marks: Vec<usize> =
            self.more_labels.iter().map(|n| number("--label-column", n)).collect::<Result<_, _>>()?;
        let is_text = |i: &usize| Some(*i) != label && !marks.contains(i);
        Ok((if text.is_empty() { (0..width).filter(is_text).collect() } else { text }, label))
    }

    /// Whether a cell is a name under which a text or label is recognised.
    pub(super) fn is_known(cell: &str) -> bool {
        TEXT_NAMES.iter().chain(LABEL_NAMES).any(|name| name.len() > 1 && cell.trim().eq_ignore_ascii_case(name))
    }

    /// Whether a header row names columns that can be told apart without flags (or that the flags
    /// name).
    pub(super) fn fits_header(&self, fields: &[&str]) -> bool {
        let named = |n: &String| n.parse::<usize>().is_err();
        if self.all().any(named) {
            let found = |wanted: &String| fields.iter().any(|f| f.trim().eq_ignore_ascii_case(wanted));
            return self.all().filter(|n| named(n)).all(found);
        }
        let has = |known: &[&str]| {
            fields.iter().any(|f| known.iter().any(|n| n.len() > 1 && f.trim().eq_ignore_ascii_case(n)))
        };
        let (text, label) = (has(TEXT_NAMES), has(LABEL_NAMES));
        // a number names nothing, but beside the names of text and label it may
        let no_numbers = || fields.iter().all(|f| f.parse::<f64>().is_err());
        fields.iter().all(|f| f.len() < 64) && ((text && label) || ((text || label) && no_numbers()))
    }
}

/// The column of that name, whatever its case unless two differ by it; two of one name are refused.
fn position(names: &[&str], wanted: &str) -> Result<Option<usize>, String> {
    let all =
        |same: &dyn Fn(&str) -> bool| -> Vec<usize> { (0..names.len()).filter(|&i| same(names[i].trim())).collect() };
    let mut found = all(&|name| name == wanted);
    if found.is_empty() {
        found = all(&|name| name.eq_ignore_ascii_case(wanted));
    }
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [a, b, ..] => Err(format!(
            "has two columns named '{}', {} and {}: give the number of the one that is meant",
            list(&names[a..=a]),
            a + 1,
            b + 1
        )),
    }
}

/// Whether a cell says that its label is there.
pub(super) fn mark(name: &str, cell: &str) -> Result<bool, String> {
    match cell.trim() {
        "1" | "1.0" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "0.0" | "false" | "False" | "FALSE" | "" => Ok(false),
        other => {
            Err(format!("has '{}' for the label '{}', which is neither 0 nor 1", printable(other), printable(name)))
        }
    }
}

fn by_number(names: &[&str], wanted: &str) -> Option<usize> {
    wanted.parse::<usize>().ok().filter(|n| (1..=names.len()).contains(n)).map(|n| n - 1)
}

fn explicit(names: &[&str], flag: &str, wanted: &str) -> Result<usize, String> {
    position(names, wanted)?
        .or_else(|| by_number(names, wanted))
        .ok_or_else(|| format!("has no column '{wanted}' for {flag}; it has: {}", list(names)))
}

fn first_of(names: &[&str], known: &[&str], but: Option<usize>) -> Result<Option<usize>, String> {
    for wanted in known {
        if let Some(i) = position(names, wanted)?.filter(|i| Some(*i) != but) {
            return Ok(Some(i));
        }
    }
    Ok(None)
}

fn text_among(names: &[&str], label: Option<usize>) -> Result<usize, String> {
    first_of(names, TEXT_NAMES, label)?
        .ok_or_else(|| format!("has no column named 'text' (its columns: {})", list(names)))
}

/// Names of columns for a message, the first twelve.
pub(super) fn list(names: &[&str]) -> String {
    let short = |n: &&str| printable(&n.trim().chars().take(40).collect::<String>());
    let mut shown: Vec<String> = names.iter().take(12).map(short).collect();
    if names.len() > 12 {
        shown.push("…".into());
    }
    shown.join(", ")
}
