//! `ulmfit data check`: describes data before anything is trained on them.

use std::fmt::Write as _;

use clap::ArgAction;
use serde_json::{Map, Value, json};

use super::shared::DataArgs;
use super::{Global, job, output};
use crate::error::Result;
use crate::report::thousands;
use crate::text::{Profile, QUANTILES, Role, Source, shown_label, shown_labels};

/// Look at data: repeated texts, overlap between sets, balance, lengths
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  ulmfit data check train.csv --test test.csv")]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    Check(CheckArgs),
}

/// Describe data sets and say what they share
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit data check train.csv --test test.csv\n  ulmfit data check aclImdb.tar.zst::aclImdb"
)]
pub struct CheckArgs {
    /// Training data, or text for a language model; a tree with train/ and test/ is taken apart; -
    /// for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
    /// Test data
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub test: Vec<String>,
    /// Validation data
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub valid: Vec<String>,
    #[command(flatten)]
    pub data: DataArgs,
}

/// Classes that are listed.
const SHOWN_CLASSES: usize = 100;
/// Columns of the longest bar of a histogram.
const BAR: u64 = 40;

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let Command::Check(args) = &args.command;
    let options = args.data.options(Role::Dataset)?;
    // every file is opened before any is read
    let mut sets: Vec<(&'static str, Vec<Source>)> = vec![("train", vec![]), ("valid", vec![]), ("test", vec![])];
    let mut tree = false;
    for path in &args.files {
        let splits = Source::open_splits(path, &options)?;
        tree |= !splits.is_empty();
        let splits = if splits.is_empty() {
            vec![("train", job::source_or_stdin(path, &args.data, Role::Dataset)?)]
        } else {
            splits
        };
        for (name, source) in splits {
            sets.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, all)| all.push(source.clone()));
        }
    }
    sets[1].1.extend(job::sources(&args.valid, &args.data, Role::Dataset)?);
    sets[2].1.extend(job::sources(&args.test, &args.data, Role::Dataset)?);
    sets.retain(|(_, sources)| !sources.is_empty());
    sets.iter().try_for_each(|(_, sources)| Source::refuse_halves(sources))?;
    args.data.check_flags(sets.iter().flat_map(|(_, sources)| sources), global)?;
    if !global.quiet {
        sets.iter().flat_map(|(_, sources)| sources).for_each(|source| output::to_stderr(&source.describe()));
    }
    let profiles: Vec<(&str, Profile)> = sets
        .iter()
        .map(|(name, sources)| Ok((*name, Profile::of(sources, &mut |_| Ok(()))?)))
        .collect::<Result<_>>()?;
    let doubts = doubts(&profiles);
    doubts.iter().for_each(|doubt| output::to_stderr(&format!("warning: {doubt}")));
    let mut value = describe(&profiles, tree);
    value["warnings"] = json!(doubts);
    output::result(global.json, &text(&profiles, &value), &value)
}

/// What speaks against labels being classes, and classes that a set has no document of.
fn doubts(profiles: &[(&str, Profile)]) -> Vec<String> {
    let mut all = Vec::new();
    for (name, profile) in profiles {
        all.extend(profile.doubts().into_iter().map(|doubt| format!("{name}: {doubt}")));
    }
    if let Some((first, train)) = profiles.first().filter(|(_, train)| !train.classes().is_empty()) {
        for (name, profile) in &profiles[1..] {
            let (lacking, strange) = (profile.lacks(train), train.lacks(profile));
            for (labels, what) in [(lacking, "no document has the class"), (strange, "classes that are not in")] {
                if !labels.is_empty() {
                    let whose = if what.ends_with("in") { format!(" the {first} data:") } else { String::new() };
                    all.push(format!("{name}: {what}{whose} {}", shown_labels(&labels)));
                }
            }
        }
    }
    all
}

/// The JSON of docs/CLI.md. The keys at the top describe the files given first: all splits together
/// where those are a tree.
fn describe(profiles: &[(&str, Profile)], tree: bool) -> Value {
    let mut all = Profile::default();
    profiles.iter().filter(|(name, _)| tree || *name == "train").for_each(|(_, p)| all.merge(p));
    let mut value = one(&all);
    if tree {
        // texts that two splits share are overlap, not duplicates
        value["duplicates"] = json!(profiles.iter().map(|(_, p)| p.duplicates()).sum::<u64>());
    }
    let get = |name: &str| profiles.iter().find(|(n, _)| *n == name).map(|(_, p)| p);
    let shared = |a: &str, b: &str| get(a).zip(get(b)).map(|(a, b)| a.overlap(b));
    value["overlap"] = json!(shared("train", "test"));
    let pairs = [("train", "valid"), ("train", "test"), ("valid", "test")];
    let overlaps: Map<String, Value> =
        pairs.iter().filter_map(|(a, b)| Some((format!("{a}_{b}"), json!(shared(a, b)?)))).collect();
    value["overlaps"] = overlaps.into();
    if profiles.len() > 1 {
        let splits: Map<String, Value> = profiles.iter().map(|(name, p)| ((*name).to_string(), one(p))).collect();
        value["splits"] = splits.into();
    }
    value
}

fn one(profile: &Profile) -> Value {
    let classes = profile.classes();
    let per_class: Map<String, Value> = classes.iter().map(|(name, n)| ((*name).to_string(), json!(n))).collect();
    let quantiles: Map<String, Value> =
        QUANTILES.iter().zip(profile.quantiles()).map(|(q, n)| (q.to_string(), json!(n))).collect();
    json!({
        "documents": profile.documents,
        "classes": classes.len(),
        "per_class": per_class,
        "unlabelled": profile.unlabelled,
        "distinct": profile.distinct(),
        "duplicates": profile.duplicates(),
        "empty": profile.empty,
        "words": profile.words,
        "bytes": profile.bytes,
        "words_per_document": quantiles,
    })
}

fn text(profiles: &[(&str, Profile)], value: &Value) -> String {
    let mut text = String::new();
    for (name, profile) in profiles {
        let _ = writeln!(text, "{name}: {}", profile.line());
        let classes = profile.classes();
        for (class, n) in classes.iter().take(SHOWN_CLASSES) {
            let (class, n) = (shown_label(class), *n);
            let _ = writeln!(text, "  {class:<24} {:>12}", thousands(n));
        }
        if classes.len() > SHOWN_CLASSES {
            let _ = writeln!(text, "  … ({} more classes)", classes.len() - SHOWN_CLASSES);
        }
        if profile.unlabelled > 0 && !profile.classes().is_empty() {
            let _ = writeln!(text, "  {:<24} {:>12}", "(without a class)", thousands(profile.unlabelled));
        }
        let histogram = profile.histogram();
        let most = histogram.iter().map(|(_, _, n)| *n).max().unwrap_or(1);
        text += "  words             documents\n";
        for (least, last, n) in histogram {
            let bar = "#".repeat((n * BAR).div_ceil(most) as usize);
            let _ = writeln!(text, "  {:<17} {:>9} {bar}", format!("{least} to {last}"), thousands(n));
        }
    }
    for (pair, n) in value["overlaps"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "texts in both {}: {n}", pair.replace('_', " and "));
    }
    text
}
