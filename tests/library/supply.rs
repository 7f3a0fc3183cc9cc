//! Packages from elsewhere: their licences, versions, sources and build scripts are those that
//! `deny.toml` allows. cargo-deny checks the same and advisories besides, where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The metadata of all packages from cargo, offline.
fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rules() -> toml::Table {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    text.parse().unwrap()
}

fn names(list: &toml::Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
}

/// Whether a licence expression (SPDX; `/` is an old way to write `OR`) can be met with what is
/// allowed.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut met = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let met = either(words, allowed);
        return words.next() == Some(")") && met;
    }
    let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
    allowed.contains(&exception.map_or(word.to_string(), |exception| format!("{word} WITH {exception}")))
}

#[test]
fn licences_are_read_as_they_are_written() {
    let allowed: BTreeSet<String> = ["MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(GPL-3.0 OR MIT) AND BSD-3-Clause",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR GPL-3.0) AND Zlib", ""] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn packages_are_what_is_allowed() {
    let (all, rules) = (metadata(), rules());
    let packages: Vec<&Value> = all["packages"].as_array().unwrap().iter().filter(|p| !p["source"].is_null()).collect();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_string();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let licences = names(&rules["licenses"]["allow"]);
    let registries = names(&rules["sources"]["allow-registry"]);
    let scripts = names(&rules["bans"]["build"]["allow-build-scripts"]);
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &packages {
        let (name, licence, source) = (text(package, "name"), text(package, "license"), text(package, "source"));
        assert!(is_met(&licence, &licences), "{name}: the licence is '{licence}'");
        let registry = source.strip_prefix("registry+").unwrap_or(&source);
        assert!(registries.contains(registry), "{name} comes from {source}");
        versions.entry(name.clone()).or_default().insert(text(package, "version"));
        for target in package["targets"].as_array().unwrap() {
            if target["kind"].as_array().unwrap().iter().any(|kind| kind == "custom-build") {
                assert!(scripts.contains(&name), "{name} has a build script that nobody has read");
                let script = std::fs::read_to_string(target["src_path"].as_str().unwrap()).unwrap();
                let reaches = ["std::net", "TcpStream", "UdpSocket", "reqwest", "ureq", "curl", "wget"];
                let found: Vec<&str> = reaches.into_iter().filter(|word| script.contains(word)).collect();
                assert!(found.is_empty(), "the build script of {name} has {found:?}");
            }
        }
    }
    let skipped: Vec<(String, String)> = rules["bans"]["skip"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skip| {
            let of = |key: &str| skip[key].as_str().unwrap().to_string();
            (of("name"), of("version"))
        })
        .collect();
    for (name, versions) in &versions {
        let is_skipped =
            |version: &String| skipped.iter().any(|(of, skip)| of == name && version.starts_with(&format!("{skip}.")));
        let counted = versions.iter().filter(|version| !is_skipped(version)).count();
        assert!(counted <= 1, "{name} is there in the versions {versions:?}");
    }
}

/// Every package is locked to a version and a checksum.
#[test]
fn versions_are_locked() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let lock: toml::Table = text.parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let locked = package.get("source").is_none() || package["checksum"].as_str().is_some_and(|sum| sum.len() == 64);
        assert!(locked, "{} has no checksum", package["name"]);
    }
}
