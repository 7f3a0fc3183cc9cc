//! Doubts whether the labels of a set are classes: a sentence each, with the next step in
//! it.

use std::collections::BTreeMap;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// So many labels or more, with hardly a document more than labels: no classes.
const MANY: usize = 8;
/// Pairs that are shown of labels that hardly differ.
const SHOWN: usize = 5;

/// Characters that are not seen: zero-width ones, the soft hyphen, the byte-order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What chooses between two forms of the character before it, as of a heart and a red heart.
fn is_variation(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}')
}

/// A label for a message, cut at 60 characters. Characters that are not seen are spelled out; so
/// are accents that could be one character with their letter (é as e and an accent).
pub fn shown_label(label: &str) -> String {
    let decomposed = !is_nfc(label);
    let spelled = |c: char| match c {
        c if c.is_control() || is_invisible(c) || (decomposed && is_combining_mark(c)) => {
            c.escape_default().to_string()
        }
        c => c.to_string(),
    };
    let mut short: String = label.chars().take(60).map(spelled).collect();
    if label.chars().count() > 60 {
        short.push('…');
    }
    short
}

/// Names for a hint, at most ten of them.
pub fn shown_labels(labels: &[String]) -> String {
    let mut all: Vec<String> = labels.iter().take(10).map(|label| shown_label(label)).collect();
    if labels.len() > 10 {
        all.push(format!("… ({} in all)", labels.len()));
    }
    all.join(", ")
}

/// `classes`: every label with its number of documents.
pub(super) fn of_classes(classes: &[(&str, u64)]) -> Vec<String> {
    let documents: u64 = classes.iter().map(|(_, n)| n).sum();
    let mut doubts = Vec::new();
    let few_documents = classes.len() as u64 * 2 > documents && classes.len() >= 5 * MANY;
    if classes.len() >= MANY && (classes.len() as u64 == documents || few_documents) {
        let count = if classes.len() as u64 == documents { "as many" } else { "almost as many" };
        doubts.push(format!(
            "there are {count} classes as documents ({} and {documents}): is another column the label? --label-column names it",
            classes.len()
        ));
    }
    // with a decimal comma, too
    let number = |name: &str| name.trim().replacen(',', ".", 1).parse::<f64>().ok().filter(|x| x.is_finite());
    let numbers: Option<Vec<f64>> = classes.iter().map(|(name, _)| number(name)).collect();
    if let Some(at) = numbers.and_then(|all| all.iter().position(|x| x.fract() != 0.0)) {
        let example = shown_label(classes[at].0);
        doubts.push(format!("the labels are numbers with fractions ('{example}'): each is a class of its own here"));
    }
    let is_list = |name: &str| name.starts_with('[') && name.ends_with(']');
    if let Some((name, _)) = classes.iter().find(|(name, _)| is_list(name)) {
        let name = shown_label(name);
        doubts.push(format!(
            "the label '{name}' looks like a list: write several labels of a text with ';' between them"
        ));
    }
    doubts.extend(missing(classes));
    doubts.extend(alike(classes));
    doubts.extend(several(classes, documents));
    doubts
}

/// A fifth of the texts or more with HTML tags: the tags want to go.
///
/// `marked`: texts with a tag that the tokenizer does not read; `texts`: all that are not empty.
pub(super) fn of_markup(marked: u64, texts: u64) -> Option<String> {
    (marked > 0 && marked * 5 >= texts).then(|| {
        format!(
            "{marked} of {texts} texts have HTML tags, which are read as words: take the tags out if they mean nothing"
        )
    })
}

/// Whether a text has a closing HTML tag, such as `</p>`. `<br>` alone does not count: the
/// tokenizer's rules read it as a line end.
pub(super) fn has_markup(text: &str) -> bool {
    text.split("</").skip(1).any(|rest| {
        let name = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        (1..=10).contains(&name) && rest.as_bytes().get(name) == Some(&b'>')
    })
}

/// Words that tables, databases and languages write where there is no value.
const MISSING: &[&str] = &["na", "n/a", "nan", "null", "none", "nil", "\\n", "#n/a", "<na>", "nat", "?", "-"];

/// A class among others that rather says that there is no label.
fn missing(classes: &[(&str, u64)]) -> Option<String> {
    let is_missing = |name: &str| MISSING.contains(&name.trim().to_lowercase().as_str());
    let (name, n) = classes.iter().find(|(name, _)| is_missing(name))?;
    let name = shown_label(name);
    (classes.len() > 1).then(|| {
        format!("the class '{name}' ({n} documents) may mean that there is no label: leave the field empty if it does")
    })
}

/// Labels that differ only by case, white space, characters that are not seen, Unicode form (é as
/// one character or as two, full-width letters), or the way a number is written.
fn alike(classes: &[(&str, u64)]) -> Option<String> {
    let key = |name: &str| {
        let seen: String = name.nfkc().filter(|c| !is_invisible(*c) && !is_variation(*c)).collect();
        let words: Vec<String> = seen.split_whitespace().map(str::to_lowercase).collect();
        let plain = words.join(" ");
        // -0 is 0
        plain.parse::<f64>().ok().filter(|x| x.is_finite()).map_or(plain, |x| (x + 0.0).to_string())
    };
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    classes.iter().for_each(|(name, _)| groups.entry(key(name)).or_default().push(name));
    let together = |group: &Vec<&str>| {
        group.iter().map(|name| format!("'{}'", shown_label(name))).collect::<Vec<_>>().join(" and ")
    };
    let mut shown: Vec<String> = groups.values().filter(|group| group.len() > 1).map(together).collect();
    if shown.is_empty() {
        return None;
    }
    if shown.len() > SHOWN {
        let more = shown.len() - SHOWN;
        shown.truncate(SHOWN);
        shown.push(format!("{more} more"));
    }
    let what =
        "classes differ only by case, white space, unseen characters, Unicode form or the way a number is written";
    Some(format!("{what}: {}; write them alike if they are one", shown.join(", ")))
}

/// Labels that look like several: most have a separator, and its parts come in different labels.
fn several(classes: &[(&str, u64)], documents: u64) -> Option<String> {
    [';', '|', ','].into_iter().find_map(|separator| {
        let with: Vec<&(&str, u64)> = classes.iter().filter(|(name, _)| name.contains(separator)).collect();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in &with {
            name.split(separator).for_each(|part| *places.entry(part.trim()).or_default() += 1);
        }
        let most = with.iter().map(|(_, n)| n).sum::<u64>() * 2 > documents;
        (most && places.values().any(|n| *n > 1)).then(|| {
            let example = shown_label(with[0].0);
            format!("labels look like several in one ('{example}'): --label-separator \"{separator}\" counts them one by one")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts(classes: &[(&str, u64)]) -> Vec<String> {
        of_classes(classes)
    }

    #[test]
    fn labels_that_are_no_classes() {
        assert!(doubts(&[("neg", 5), ("pos", 4)]).is_empty() && doubts(&[("a", 1), ("b", 1)]).is_empty());
        assert!(doubts(&[("1", 5), ("2", 4), ("3.0", 1)]).is_empty());
        let numbers: Vec<String> = (0..80).map(|i| i.to_string()).collect();
        let all: Vec<(&str, u64)> = numbers.iter().map(|n| (n.as_str(), 1)).collect();
        assert!(doubts(&all)[0].starts_with("there are as many classes as documents (80 and 80)"));
        assert!(doubts(&[("0.5", 3), ("1", 3)])[0].contains("fractions ('0.5')"));
        for pair in [
            ["Pos", "pos"],
            ["a b", "a  b"],
            ["x", "x\u{200b}"],
            ["1", "1.0"],
            ["caf\u{e9}", "CAF\u{c9}"],
            ["\u{ff41}b", "ab"],
        ] {
            let found = doubts(&[(pair[0], 3), (pair[1], 3)]);
            assert!(found.len() == 1 && found[0].starts_with("classes differ only by case"), "{pair:?}: {found:?}");
        }
        let forms = doubts(&[("caf\u{e9}", 3), ("cafe\u{301}", 3)]);
        assert!(forms.len() == 1 && forms[0].contains("'caf\u{e9}' and 'cafe\\u{301}'"), "{forms:?}");
        assert!(doubts(&[("x", 3), ("x\u{200b}", 3)])[0].contains("'x' and 'x\\u{200b}'"));
        assert!(doubts(&[("3,5", 3), ("4,0", 3)])[0].contains("fractions ('3,5')"));
        for name in ["NA", "nan", "NULL", "\\N", "None"] {
            let found = doubts(&[(name, 3), ("pos", 3)]);
            assert!(found.len() == 1 && found[0].contains("may mean that there is no label"), "{name}: {found:?}");
        }
        assert!(doubts(&[("none of these", 3), ("pos", 3)]).is_empty());
        let tags = doubts(&[("neg;film;music", 40), ("pos;film", 40)]);
        assert!(tags.len() == 1 && tags[0].contains("--label-separator \";\""), "{tags:?}");
        assert!(doubts(&[("Smith, John", 4), ("Doe, Jane", 4)]).is_empty(), "no part is in two labels");
    }

    #[test]
    fn markup_in_texts() {
        for text in ["<p>good</p>", "a </b> c", "x</h1>"] {
            assert!(has_markup(text), "{text}");
        }
        for text in ["a<br /><br />b", "1 </ 2", "</3", "x </ p>", "</heart-broken>", "a < b > c"] {
            assert!(!has_markup(text), "{text}");
        }
        assert!(of_markup(20, 100).is_some() && of_markup(19, 100).is_none() && of_markup(0, 0).is_none());
    }

    #[test]
    fn labels_in_messages() {
        let many: Vec<String> = (0..2000).map(|i| format!("c{i}")).collect();
        assert!(shown_labels(&many).ends_with("c9, … (2000 in all)"));
        assert_eq!(shown_label("a\tb\nc\u{ad}"), "a\\tb\\nc\\u{ad}");
        assert_eq!(shown_label("e\u{301}"), "e\\u{301}");
        // marks that have no other form stay
        assert_eq!(shown_label("सकारात्मक"), "सकारात्मक");
    }
}
