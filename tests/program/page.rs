//! The page of `ulmfit serve` in a browser without a window, where there is one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::serve::{PATIENCE, Server};
use crate::support::{classifier, text};

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut all = std::env::split_paths(&folders).flat_map(|folder| names.map(|name| folder.join(name)));
    all.find(|path| path.is_file())
}

/// The page at an address, after its script has run and its requests were answered.
fn page(browser: &Path, address: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = assert_cmd::Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    // of the page's own time, which stands still while a request is under way
    command.args(["--virtual-time-budget=20000", "--dump-dom", address]).timeout(PATIENCE);
    text(&command.assert().success().get_output().stdout)
}

/// What stands between two marks.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = page.split_once(from).unwrap_or_else(|| panic!("no '{from}' in {page}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no '{to}' after '{from}' in {page}")).0
}

/// The text of a piece of HTML.
fn plain(html: &str) -> String {
    let pieces = html.split('<').enumerate().map(|(k, piece)| match k {
        0 => piece,
        _ => piece.split_once('>').map_or("", |(_, rest)| rest),
    });
    let text: String = pieces.collect();
    [("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\u{a0}"), ("&amp;", "&")].iter().fold(text, |t, (a, b)| t.replace(a, b))
}

#[test]
fn the_page_shows_label_probabilities_and_the_words_that_decided() {
    let Some(browser) = browser() else {
        return println!("skipped: the page needs Chromium (Debian: chromium), which is not installed");
    };
    let server = Server::start(classifier(), &[]);
    let text = "It was good & <i>fine</i>,\na good ξ film";
    let in_address = text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let page = page(&browser, &format!("http://{}/#text={in_address}", server.address));
    let reply = server.json("/predict", &json!({ "inputs": text, "explain": true }));
    let found = &reply["predictions"][0];
    let percent = |p: &Value| format!("{:.1} %", 100.0 * p.as_f64().unwrap());

    let label = found["label"].as_str().unwrap();
    let shown = plain(between(&page, "<p id=\"label\"", "</p>"));
    assert!(shown.ends_with(&format!("{label} ({})", percent(&found["score"]))), "{shown}");
    let mut rows: Vec<(&String, &Value)> = found["probabilities"].as_object().unwrap().iter().collect();
    rows.sort_by(|a, b| b.1.as_f64().unwrap().total_cmp(&a.1.as_f64().unwrap()));
    let rows: String = rows.iter().map(|(name, p)| format!("{name}{}", percent(p))).collect();
    assert_eq!(plain(between(&page, "<table id=\"all\">", "</table>")), rows);

    // the text as it was given, its words in colours: green where they speak for the label
    let words = between(&page, "<div id=\"words\">", "</div>");
    assert_eq!(plain(words), text);
    let of_network = found["explain"]["networks"][0]["words"].as_array().unwrap();
    let placed = of_network.iter().filter(|word| !word["start"].is_null());
    let expected: Vec<(String, bool)> =
        placed.map(|w| (format!("{:.3}", w["share"].as_f64().unwrap()), w["share"].as_f64().unwrap() > 0.0)).collect();
    let marks = words.split("<mark ").skip(1).map(|mark| (between(mark, "title=\"", "\"").to_string(), mark));
    let marks: Vec<(String, bool)> = marks.map(|(title, mark)| (title, mark.contains("rgba(0, 160, 60"))).collect();
    assert!(marks.len() > 4 && marks == expected, "{marks:?} {expected:?}");
}
