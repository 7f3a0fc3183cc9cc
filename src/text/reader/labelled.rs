//! Lines that begin with their label: TREC questions, `label text`, fastText.
//!
//! Where no labels are wanted, a line that begins with a number or a word and a colon is text like
//! any other, and stays whole.

use std::sync::Arc;

use super::bytes::printable;
use super::detect::Look;
use super::formats::{Opened, if_so};
use super::layout::Layout;
use super::plain::{document, is_blank};
use super::{Documents, LABEL_MARK, Role, stream};
use crate::error::{Error, Result};
use crate::text::is_space;

/// `COARSE:fine question`: upper-case class, colon, lower-case class.
fn split_trec(line: &str) -> Option<(&str, &str)> {
    let (labels, text) = line.split_once(' ')?;
    let (coarse, fine) = labels.split_once(':')?;
    let ok = !coarse.is_empty()
        && !fine.is_empty()
        && coarse.bytes().all(|b| b.is_ascii_uppercase())
        && fine.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    ok.then_some((coarse, text))
}

/// `label text`, the label a small whole number.
fn split_label(line: &str) -> Option<(&str, &str)> {
    let (label, text) = line.split_once([' ', '\t'])?;
    (!label.is_empty() && label.len() <= 3 && label.bytes().all(|b| b.is_ascii_digit())).then_some((label, text))
}

/// Whether lines look like `label text`: every one begins with a small number, and the numbers are
/// not those of a list.
pub(super) fn are_labelled(lines: &[&str]) -> bool {
    let Some(labels) = lines.iter().map(|l| split_label(l)?.0.parse::<u32>().ok()).collect::<Option<Vec<u32>>>() else {
        return false;
    };
    let mut distinct = labels.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let counted = labels.len() > 2 && labels.windows(2).all(|w| w[0] + 1 == w[1]);
    match distinct.len() {
        0 => false,
        // one class alone: believed when many lines agree (a file sorted by class)
        1 => labels.len() >= 20,
        n => !counted && (n <= 10 || n * 2 <= labels.len()),
    }
}

/// By the published files' name wherever they are given; by their lines where labels are wanted.
pub(super) fn is_trec(look: &Look) -> Result<Option<Layout>> {
    let named = look.base.ends_with(".label") && look.full.first().is_some_and(|line| split_trec(line).is_some());
    let wanted = look.options.role == Role::Dataset;
    if_so(named || (wanted && !look.full.is_empty() && look.full.iter().all(|l| split_trec(l).is_some())))
}

pub(super) fn is_label_text(look: &Look) -> Result<Option<Layout>> {
    if_so(look.options.role == Role::Dataset && look.full.len() > 1 && are_labelled(&look.full))
}

/// Lines of a form; blank ones are none.
fn read(opened: Opened, form: &'static str, split: fn(&str) -> Option<(&str, &str)>) -> Result<Documents> {
    let (mut lines, file) = opened.lines();
    Ok(stream(move || {
        while let Some(line) = lines.next()? {
            if is_blank(line) {
                continue;
            }
            let Some((label, text)) = split(line) else {
                let message = format!("is not of the form {form}");
                return Err(Error::line(&*file, lines.number, message).hint("if it is text alone: --format plain"));
            };
            let (label, text) = (label.to_string(), text.to_string());
            return Ok(Some(document(&file, lines.number, text, Some(label))));
        }
        Ok(None)
    }))
}

pub(super) fn read_trec(opened: Opened) -> Result<Documents> {
    read(opened, "'COARSE:fine question'", split_trec)
}

pub(super) fn read_label_text(opened: Opened) -> Result<Documents> {
    read(opened, "'label text' with a whole number as label", split_label)
}

const MARK: &str = "__label__";

/// Whether the first line, or half of them, begin with fastText's mark.
pub(super) fn is_fasttext(look: &Look) -> Result<Option<Layout>> {
    let marked = |line: &&str| line.trim_start().strip_prefix(MARK).is_some_and(|rest| !rest.starts_with(is_space));
    let count = look.full.iter().copied().filter(|line| marked(line)).count();
    if_so(look.full.first().is_some_and(marked) || (count > 0 && count * 2 >= look.full.len()))
}

/// `__label__CLASS text`. A line without a label is a document without a class. Several labels are
/// refused where one is wanted.
pub(super) fn read_fasttext(opened: Opened) -> Result<Documents> {
    let (wanted, several) = (opened.role == Role::Dataset, opened.columns.several);
    let (mut lines, file): (_, Arc<str>) = opened.lines();
    Ok(stream(move || {
        while let Some(line) = lines.next()? {
            if is_blank(line) {
                continue;
            }
            let (mut labels, mut text) = (Vec::new(), line.trim_start_matches(is_space));
            while let Some(rest) = text.strip_prefix(MARK) {
                let end = rest.find(is_space).unwrap_or(rest.len());
                labels.push(rest[..end].to_string());
                text = rest[end..].trim_start_matches(is_space);
            }
            if wanted && text.contains(" __label__") {
                return Err(Error::line(&*file, lines.number, "has a label after words of its text")
                    .hint("put every label before the text"));
            }
            if wanted && labels.len() > 1 && !several {
                let message = format!("has several labels, '{}' and others", printable(&labels[0]));
                return Err(
                    Error::line(&*file, lines.number, message).hint("--task labels learns several labels a text")
                );
            }
            let text = text.to_string();
            let label = match several {
                true => Some(labels.join(&LABEL_MARK.to_string())),
                false => labels.into_iter().next().filter(|l| !l.is_empty()),
            };
            return Ok(Some(document(&file, lines.number, text, label)));
        }
        Ok(None)
    }))
}
