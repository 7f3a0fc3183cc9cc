//! Files that are no text, or none that is read: refused in words, wherever they stand.

use crate::support::{self, Data, text, ulmfit, words};
use crate::text_in::{class, classes, file};

/// A folder with files in it.
struct Folder {
    _directory: tempfile::TempDir,
    path: String,
}

fn folder(files: &[(&str, &[u8])]) -> Folder {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    for (name, content) in files {
        let path = data.path(&format!("d/{name}"));
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    let path = data.path("d");
    Folder { _directory: directory, path }
}

impl Folder {
    fn refused(&self, flags: &[&str], parts: &[&str]) {
        support::refused(ulmfit(&words(&[&["data", "check", &self.path], flags])).arg("--quiet"), 1, parts);
    }

    /// What is said of it.
    fn said(&self) -> String {
        text(&ulmfit(&["data", "check", &self.path]).assert().success().get_output().stderr.clone())
    }
}

#[test]
fn carriage_returns_alone() {
    let parts = ["has lines that end in a carriage return alone", "hint: convert the line ends to line feeds"];
    for (name, content) in [
        ("a.txt", "good film\rbad film\rfine\n"),
        ("a.txt", "good film\rbad film\n"),
        ("a.txt", "good film\nbad film\nfine\nso\n\nfine film\rso so\rwell\r"),
        ("ft.txt", "__label__pos good\r__label__neg bad\r__label__pos fine\r"),
        ("trec.txt", "DESC:def What is it ?\rENTY:animal Who is it ?\r"),
        ("a.label", "DESC:def What is it ?\rENTY:animal Who is it ?\r\n"),
        ("sst.txt", "1 good\r0 bad\r1 fine\r"),
        ("a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\r{\"text\":\"b\",\"label\":\"y\"}\r"),
        ("a.txt", "{\"text\":\"a\",\"label\":\"x\"}\r{\"text\":\"b\",\"label\":\"y\"}\r\n"),
        ("a.conll", "EU B-ORG\rrejects O\r\rPeter B-PER\r"),
        ("wiki.txt", " = A = \r text\r = B = \r text\r"),
    ] {
        file(name, content).refused(&[], &parts);
    }
    let fine = "good film\nbad film\n";
    folder(&[("x.neg", fine.as_bytes()), ("x.pos", b"good\rfilm\rx\r")]).refused(&[], &["x.pos:1: has lines", parts[1]]);
    folder(&[("x.neg", b"good\rfilm\n"), ("x.pos", fine.as_bytes())]).refused(&["--encoding", "latin-1"], &parts);
    let classes_of = |text: &'static [u8]| folder(&[("neg/1.txt", b"bad film\n"), ("pos/1.txt", text)]);
    classes_of(b"good film\rand so on\r").refused(&[], &["1.txt:1: has lines", parts[1]]);
    assert!(!classes_of(b"good film\rand\rso\non\n").said().contains("warning"), "a few among line feeds");
    folder(&[("1.txt", b"good\rfilm\rx\r"), ("2.txt", b"bad")]).refused(&[], &parts);
    // further on than is looked at first
    let late = format!("{}good\rbad\rfine\n", "a film\n".repeat(20_000));
    file("a.txt", late).refused(&[], &["a.txt:20001: has lines", parts[1]]);
    // these are as they were
    assert_eq!(file("a.txt", "good film\r\nbad\r\n\r\nso\rso\r\n").texts(&[]).len(), 4);
    let table = file("a.csv", "text,label\rgood,pos\rbad,neg\r");
    assert_eq!(classes(&table.check(&[])), [class("neg", 1), class("pos", 1)]);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16_be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn bytes_of_zero() {
    let russian = "\u{445}\u{43e}\u{440}\u{43e}\u{448}\u{438}\u{439} \u{444}\u{438}\u{43b}\u{44c}\u{43c}\n\
                   \u{43f}\u{43b}\u{43e}\u{445}\u{43e}\u{439} \u{444}\u{438}\u{43b}\u{44c}\u{43c}\n";
    let chinese = "text,label\n\u{597d}\u{7535}\u{5f71}\u{5f88}\u{597d}\u{770b},pos\n\u{4e00}\u{574f}\u{7535}\u{5f71},neg\n";
    for (name, content) in [("a.txt", russian), ("a.csv", chinese)] {
        let (little, big) = (file(name, utf16(content)), file(name, utf16_be(content)));
        little.refused(&[], &["looks like UTF-16LE, without a byte-order mark", "hint: --encoding utf-16le"]);
        big.refused(&[], &["looks like UTF-16BE, without a byte-order mark", "hint: --encoding utf-16be"]);
        for encoding in ["latin-1", "windows-1252", "utf-8"] {
            little.refused(&["--encoding", encoding], &["looks like UTF-16LE"]);
        }
        assert_eq!(little.check(&["--encoding", "utf-16le"])["documents"], 2);
        let wide: Vec<u8> = content.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        file(name, &wide).refused(&[], &["is in UTF-32LE, which is not read", "hint: iconv -f UTF-32LE -t UTF-8"]);
        let wide: Vec<u8> = content.chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
        file(name, wide).refused(&[], &["is in UTF-32BE, which is not read"]);
    }
    let marked: Vec<u8> = "\u{feff}good\n".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    file("a.txt", &marked).refused(&[], &["is in UTF-32, which is not read"]);
    // Latin letters are told by their zeros, in folders, too
    let latin = utf16("good film\nbad film\n");
    assert_eq!(file("a.txt", &latin).texts(&[]), ["good film", "bad film"]);
    let tree = |text: &[u8]| folder(&[("neg/1.txt", b"bad film"), ("pos/1.txt", text)]);
    let line = ["tokenize", "--print", "--quiet", "--tokenizer", "pretokenized", "--input"];
    let shown = ulmfit(&words(&[&line, &[&tree(&utf16("good film")).path]])).assert().success().get_output().clone();
    assert!(text(&shown.stdout).contains("\"good\",\"film\""), "{}", text(&shown.stdout));
    tree(&utf16(russian)).refused(&[], &["1.txt: looks like UTF-16LE", "hint: --encoding utf-16le"]);
    tree(&marked).refused(&[], &["1.txt: is in UTF-32"]);
    // others
    let part = "has a NUL byte: is it a binary file, or text in UTF-16 or UTF-32?";
    for content in [&b"good film\ngood\0film\n"[..], b"good film\ngood\0film\n\n", b"a\nb\0c\0", b"b\n\x00\x01\x02\x03"] {
        for name in ["a.txt", "a.csv"] {
            file(name, content).refused(&[], &[&format!("{name}:2: {part}")]);
        }
    }
    for flags in [&[][..], &["--encoding", "latin-1"]] {
        file("a.csv", "text,label\ngood,pos\nbad,neg\0\n").refused(flags, &[&format!("a.csv:3: {part}")]);
        tree(b"good\0film").refused(flags, &["1.txt:1: has a NUL byte"]);
    }
    let late = format!("{}bad\0film\n", "a film\n".repeat(20_000));
    file("a.txt", late).refused(&[], &[&format!("a.txt:20001: {part}")]);
    let numbers: Vec<u8> = (0..400u16).flat_map(|n| (n % 9).to_le_bytes()).collect();
    file("a.bin", numbers).refused(&[], &["has a NUL byte"]);
    let line = ["data", "check", "-", "--quiet"];
    support::refused(ulmfit(&line).write_stdin(utf16(russian)), 1, &["standard input: looks like UTF-16LE"]);
}
