//! The content of a path, and how it is going to be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::Container;
use super::bytes::{self, Blob, Bytes};
use super::detect::{self, Look};
use super::formats::Format;
use super::input::Encoding;
use super::layout::Layout;
use super::tree::{self, Found, Shape};
use super::{Document, OpenOptions, Role, Source, doubts};
use crate::error::{Error, Result};

#[derive(Clone, Debug)]
pub(super) enum Place {
    Blob(Blob),
    Member(Container, String),
}

impl Place {
    pub(super) fn open(&self) -> Result<Bytes> {
        match self {
            Place::Blob(blob) => blob.open(),
            Place::Member(container, member) => container.open(member),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Place::Blob(blob) => blob.name(),
            Place::Member(container, member) => container.name_of(member),
        }
    }
}

/// A plan, the recognised format, and the doubts.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) recognised: String,
    pub(super) warnings: Vec<String>,
}

impl Planned {
    pub(super) fn new(plan: Plan, recognised: String) -> Self {
        Planned { plan, recognised, warnings: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Plan {
    File {
        place: Place,
        format: Format,
        encoding: Encoding,
        layout: Layout,
    },
    /// `name.neg` and `name.pos`.
    Pair {
        neg: Place,
        pos: Place,
        encoding: Encoding,
    },
    /// Every file is a document.
    Tree {
        container: Container,
        prefix: String,
        classes: bool,
        /// As the user says; else each file shows its own.
        encoding: Option<Encoding>,
    },
    /// Files of other formats side by side.
    Chain(Vec<Source>),
    /// Documents in memory.
    Texts(Arc<[Document]>),
}

/// The files `name.neg` and `name.pos`, perhaps compressed, of which `path` is one or the common
/// stem.
pub(super) fn pair(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = path.to_str()?;
    let packed = [".gz", ".zst"].into_iter().find(|end| text.ends_with(end)).unwrap_or_default();
    let bare = text.strip_suffix(packed)?;
    let half = bare.strip_suffix(".pos").or_else(|| bare.strip_suffix(".neg"));
    if half.is_none() && path.exists() {
        return None;
    }
    let file = |ending: &str| {
        Some(PathBuf::from(format!("{}.{ending}{packed}", half.unwrap_or(bare)))).filter(|p| p.is_file())
    };
    Some((file("neg")?, file("pos")?))
}

/// The same among the files of a folder or archive, where these two are all.
fn pair_among(files: &[String]) -> Option<(&String, &String)> {
    let half = |ending: &str| {
        files.iter().find_map(|f| Some((f, f.trim_end_matches(".gz").trim_end_matches(".zst").strip_suffix(ending)?)))
    };
    let ((neg, a), (pos, b)) = (half(".neg")?, half(".pos")?);
    (files.len() == 2 && a == b).then_some((neg, pos))
}

pub(super) fn plan_pair(neg: Place, pos: Place, options: &OpenOptions) -> Result<Planned> {
    let look = |place: &Place| -> Result<Encoding> {
        let name = place.name();
        let sample = detect::sample(&name, place.open()?, options.encoding)?;
        sample.refuse_returns(&name)?;
        Ok(sample.encoding(Format::by_name("plain")?))
    };
    let (of_neg, _) = (look(&neg)?, look(&pos)?);
    let encoding = options.encoding.unwrap_or(of_neg);
    let recognised = with_encoding("two files of lines, .neg and .pos".into(), encoding);
    let of = |place| doubts::of_file(place, options.encoding);
    let warnings = [of(&neg)?, of(&pos)?].concat();
    Ok(Planned { plan: Plan::Pair { neg, pos, encoding }, recognised, warnings })
}

fn with_encoding(text: String, encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => text,
        other => format!("{text}, {}", other.name()),
    }
}

pub(super) fn plan_file(place: Place, options: &OpenOptions) -> Result<Planned> {
    let name = place.name();
    let sample = detect::sample(&name, place.open()?, options.encoding)?;
    let look = Look::new(&name, &sample, &place, options);
    let found = look.format().map_err(|e| if sample.is_html() { web_page(&name) } else { e });
    // in tables a carriage return ends a row
    if !found.as_ref().is_ok_and(|(format, _)| format.0.preset.is_some()) && !sample.is_html() {
        sample.refuse_returns(&name)?;
    }
    let (format, layout) = found?;
    if sample.is_html() && format.name() == "json-lines" {
        return Err(web_page(&name));
    }
    let encoding = options.encoding.unwrap_or_else(|| sample.encoding(format));
    let recognised = with_encoding(look.describe(format, layout), encoding);
    let mut warnings = Vec::new();
    if sample.is_html() && format.name() != "wikitext" {
        warnings.push(format!("{name} is a web page (HTML): its marks are read as text"));
    }
    if format.name() == "plain" && options.format.is_none() {
        warnings.extend(look.labels_in_text().map(|what| format!("{name} is read as plain text, but {what}")));
    }
    // Latin-1 without a word from the user: the published files of TREC
    let unasked = Some(encoding).filter(|encoding| *encoding == Encoding::Latin1);
    warnings.extend(doubts::of_file(&place, options.encoding.or(unasked))?);
    Ok(Planned { plan: Plan::File { place, format, encoding, layout }, recognised, warnings })
}

fn web_page(name: &str) -> Error {
    Error::file(name, "is a web page (HTML), not data").hint("was an error page saved in place of the data?")
}

/// Files side by side up to this number are looked at one by one.
const FEW: usize = 64;

pub(super) fn plan_tree(container: Container, member: &str, options: &OpenOptions) -> Result<Planned> {
    let Found { shape, left_out } = tree::find(&container, member)?;
    let mut planned = plan_shape(container, shape, member, options)?;
    planned.warnings.splice(0..0, left_out);
    Ok(planned)
}

fn plan_shape(container: Container, shape: Shape, member: &str, options: &OpenOptions) -> Result<Planned> {
    let encoding = options.encoding;
    match shape {
        Shape::Member(path) => {
            let text = if member.is_empty() {
                format!("{} in it: ", shorten(std::slice::from_ref(&path)))
            } else {
                String::new()
            };
            let planned = plan_file(Place::Member(container, path), options)?;
            Ok(Planned { recognised: text + &planned.recognised, ..planned })
        }
        Shape::Classes { prefix, classes, unlabelled } => {
            let mut text = match classes.len() {
                0 => "folder of texts".to_string(),
                n => format!("one folder per class ({n}: {})", shorten(&classes)),
            };
            if unlabelled {
                text.push_str(", unsup/ unlabelled");
            }
            let warnings = doubts::of_tree(&container, &prefix, options)?;
            let plan = Plan::Tree { container, prefix, classes: true, encoding };
            Ok(Planned { plan, recognised: with_encoding(text, encoding.unwrap_or(Encoding::Utf8)), warnings })
        }
        Shape::Files { prefix, files } => plan_files(container, prefix, &files, options),
    }
}

/// Files side by side: `.neg` and `.pos`; texts, one a file; or files of another format, one after
/// the other.
fn plan_files(container: Container, prefix: String, files: &[String], options: &OpenOptions) -> Result<Planned> {
    let place = |f: &String| match &container {
        Container::Folder(root) => Place::Blob(Blob::File(root.join(format!("{prefix}{f}")))),
        _ => Place::Member(container.clone(), format!("{prefix}{f}")),
    };
    if let Some((neg, pos)) = pair_among(files).filter(|_| options.format.is_none()) {
        return plan_pair(place(neg), place(pos), options);
    }
    let open = |f: &String| Ok(Source::new(&place(f).name(), options, plan_file(place(f), options)?));
    let is_plain = |source: &Source| matches!(source.plan, Plan::File { format, .. } if format.name() == "plain");
    // of many files the first stands for all; one that is unreadable is named when it is read as a
    // text
    let looked_at = if options.format.is_none() && files.len() > FEW { 1 } else { files.len() };
    let opened: Vec<Result<Source>> = files[..looked_at].iter().map(open).collect();
    if options.format.is_none() && opened.iter().all(|s| s.as_ref().map_or(true, is_plain)) {
        if let Err(tables) = tree::refuse_tables(&container, files.iter().map(|f| format!("{prefix}{f}"))) {
            // a table that is no text may say itself what is wrong with it
            return Err(opened.into_iter().find_map(Result::err).unwrap_or(tables));
        }
        let encoding = options.encoding;
        let text = format!("folder of {} texts, one document a file", files.len());
        let warnings = doubts::of_tree(&container, &prefix, options)?;
        let plan = Plan::Tree { container, prefix, classes: false, encoding };
        return Ok(Planned { plan, recognised: with_encoding(text, encoding.unwrap_or(Encoding::Utf8)), warnings });
    }
    let sources = opened.into_iter().chain(files[looked_at..].iter().map(open)).collect::<Result<Vec<_>>>()?;
    tree::refuse_copies(&container, &prefix, files)?;
    let has_labels = |wanted| sources.iter().find(|source| source.has_label_column() == Some(wanted));
    if options.role == Role::Dataset
        && let (Some(with), Some(without)) = (has_labels(true), has_labels(false))
    {
        let message = format!("has no label column, and {} has one", with.name);
        return Err(
            Error::file(&without.name, message).hint("name the column alike in all, or give the files one by one")
        );
    }
    if options.format.is_none()
        && let Some(text) = sources.iter().find(|s| is_plain(s))
        && let Some(other) = sources.iter().find(|s| !is_plain(s))
    {
        let message = format!("holds files of several kinds: '{}' and '{}'", text.recognised, other.recognised);
        return Err(Error::file(container.name(), message).hint(format!("give one of them: {}", other.name)));
    }
    let text = format!("folder of {} files, the first: {}", sources.len(), sources[0].recognised);
    let warnings = sources.iter().flat_map(|source| source.warnings.clone()).collect();
    Ok(Planned { plan: Plan::Chain(sources), recognised: text, warnings })
}

fn shorten(names: &[String]) -> String {
    bytes::printable(&match names {
        [first, second, .., last] if names.len() > 6 => format!("{first}, {second}, …, {last}"),
        _ => names.join(", "),
    })
}
