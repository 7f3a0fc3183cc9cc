//! `ulmfit get`: the paper's data sets and published weights, from their addresses into a cache
//! folder.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Global, output};
use crate::error::{Error, Result};
use crate::fetch::{self, Client, ENTRIES, Entry, Fetched, Progress};
use crate::report::thousands;

/// Download a data set of the paper or published weights into a cache folder
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Files go to CACHE/NAME. A transfer that broke goes on where it was. HTTPS_PROXY names a proxy; with\nULMFIT_MIRROR=ADDRESS files come from ADDRESS/NAME/FILE. No other command uses a network.\n\nExamples:\n  ulmfit get --list\n  ulmfit get imdb\n  ulmfit get wt103-fwd --sha256 HASH"
)]
pub struct Args {
    /// What to get
    #[arg(value_name = "NAME", required_unless_present = "list", conflicts_with = "list")]
    pub name: Option<String>,
    /// Show what there is
    #[arg(long)]
    pub list: bool,
    /// The folder to keep files in [default: $ULMFIT_CACHE, else ulmfit in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The SHA-256 that the file must have; of several files FILE=HASH, once for each
    #[arg(long, value_name = "[FILE=]HASH", action = clap::ArgAction::Append)]
    pub sha256: Vec<String>,
}

/// A server with the same files, as `ADDRESS/NAME/FILE`.
const MIRROR: &str = "ULMFIT_MIRROR";
const CACHE: &str = "ULMFIT_CACHE";

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let Some(name) = &args.name else { return list(global) };
    let entry = fetch::find(name)?;
    let pins = pins(entry, &args.sha256)?;
    let mirror = mirror()?;
    let folder = cache(args.cache.as_deref())?.join(entry.name);
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", &e))?;
    let begin = Instant::now();
    let (mut files, mut lines) = (Vec::new(), String::new());
    for (file, pin) in entry.files.iter().zip(&pins) {
        let address = match &mirror {
            Some(mirror) => format!("{mirror}/{}/{}", entry.name, file.name()),
            None => file.address.to_string(),
        };
        let place = folder.join(file.name());
        let client = Client::new(address.starts_with("https://"))?;
        let mut bar = Bar::new(file.name(), global.quiet);
        let expected = file.sha256.or(pin.as_deref());
        let found = fetch::fetch(&client, &address, &place, file.size, expected, &mut |at| bar.show(at))?;
        bar.end();
        let checked = match (file.sha256, pin) {
            (Some(_), _) => Some("published"),
            (None, Some(_)) => Some("given"),
            (None, None) => None,
        };
        lines += &line(entry, file.name(), &place, &found, checked);
        files.push(json!({
            "file": file.name(), "path": place, "address": address, "bytes": found.bytes, "sha256": found.sha256,
            "checked": checked, "transferred": found.transferred,
        }));
    }
    lines += &format!("terms: {}\nas in: {}\n", entry.terms, entry.usage.replace("{}", &folder.display().to_string()));
    let seconds = begin.elapsed().as_secs_f64();
    let value = json!({
        "name": entry.name, "folder": folder, "files": files, "terms": entry.terms, "seconds": seconds,
    });
    output::result(global.json, &lines, &value)
}

fn line(entry: &Entry, name: &str, place: &Path, found: &Fetched, checked: Option<&str>) -> String {
    let Fetched { bytes, sha256, transferred } = found;
    let how = if *transferred == 0 { ", it was there" } else { "" };
    let hash = match checked {
        Some("published") => format!("SHA-256 {sha256}, as published"),
        Some(_) => format!("SHA-256 {sha256}, as given"),
        None => {
            let pin = if entry.files.len() == 1 { sha256.clone() } else { format!("{name}={sha256}") };
            format!("SHA-256 {sha256}: no published checksum; to require this one: --sha256 {pin}")
        }
    };
    format!("{}\n  {} bytes{how}; {hash}\n", place.display(), thousands(*bytes))
}

/// The checksums that the user asks for, file by file.
fn pins(entry: &Entry, given: &[String]) -> Result<Vec<Option<String>>> {
    let mut pins = vec![None; entry.files.len()];
    for pin in given {
        let (name, hash) = match pin.split_once('=') {
            Some((name, hash)) => (Some(name), hash),
            None => (None, pin.as_str()),
        };
        let hash = hash.to_ascii_lowercase();
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::usage(format!("--sha256 {pin}: a SHA-256 has 64 hexadecimal digits")));
        }
        let at = match name {
            None if entry.files.len() == 1 => Some(0),
            None => None,
            Some(name) => entry.files.iter().position(|file| file.name() == name),
        };
        let Some(at) = at else {
            let names: Vec<&str> = entry.files.iter().map(|file| file.name()).collect();
            return Err(Error::usage(format!("--sha256 {pin}: '{}' has the files {}", entry.name, names.join(", ")))
                .hint("as in --sha256 FILE=HASH"));
        };
        if let Some(published) = entry.files[at].sha256.filter(|published| *published != hash) {
            return Err(Error::usage(format!("--sha256 {pin}: {published} is published")));
        }
        pins[at] = Some(hash);
    }
    Ok(pins)
}

/// Where files come from instead of their publishers, if the environment says so.
fn mirror() -> Result<Option<String>> {
    let Some(value) = std::env::var_os(MIRROR).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.to_string_lossy().trim_end_matches('/').to_string();
    if !value.starts_with("https://") && !value.starts_with("http://") {
        return Err(Error::usage(format!("{MIRROR}={value} is no address of a server"))
            .hint("it begins with https:// or http://"));
    }
    Ok(Some(value))
}

/// The folder of the files.
fn cache(given: Option<&Path>) -> Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = |folder: &str| of("HOME").map(|home| home.join(folder).join("ulmfit"));
    given
        .map(Path::to_path_buf)
        .or_else(|| of(CACHE))
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("ulmfit")))
        .or_else(|| home(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }))
        .ok_or_else(|| Error::usage("there is no folder to keep files in").hint("name one with --cache"))
}

fn list(global: &Global) -> Result<()> {
    let mut lines = String::new();
    let mut entries: Vec<Value> = Vec::new();
    for entry in ENTRIES {
        let size: Option<u64> = entry.files.iter().map(|file| file.size).sum();
        let checked = entry.files.iter().all(|file| file.sha256.is_some());
        let mib = size.map_or("?".into(), |size| format!("{:.1} MiB", size as f64 / f64::from(1 << 20)));
        let hash = if checked { "SHA-256" } else { "no published checksum" };
        lines += &format!("{:<14} {mib:>10}  {}; {hash}; terms: {}\n", entry.name, entry.what, entry.terms);
        let files: Vec<Value> = entry
            .files
            .iter()
            .map(|file| json!({ "address": file.address, "bytes": file.size, "sha256": file.sha256 }))
            .collect();
        entries.push(json!({ "name": entry.name, "what": entry.what, "terms": entry.terms, "files": files }));
    }
    output::result(global.json, &lines, &json!({ "entries": entries }))
}

/// Progress on standard error: a bar on a terminal, else a line every few seconds.
struct Bar {
    name: String,
    quiet: bool,
    bar: Option<indicatif::ProgressBar>,
    said: Instant,
}

/// Between two lines.
const LINES: Duration = Duration::from_secs(5);

impl Bar {
    fn new(name: &str, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let style =
                indicatif::ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bar:30} {bytes_per_sec} {eta}");
            let bar = indicatif::ProgressBar::new(0).with_message(name.to_string());
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        Bar { name: name.to_string(), quiet, bar, said: Instant::now() }
    }

    fn show(&mut self, at: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(at.of.unwrap_or(at.bytes));
            bar.set_position(at.bytes);
        } else if !self.quiet && self.said.elapsed() >= LINES {
            self.said = Instant::now();
            let of = at.of.map_or_else(String::new, |of| format!(" of {}", of >> 20));
            output::to_stderr(&format!("{}: {}{of} MiB", self.name, at.bytes >> 20));
        }
    }

    fn end(&self) {
        self.bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    }
}
